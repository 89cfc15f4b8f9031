//! What the cluster side tells Prometheus.

use prometheus::{Histogram, IntCounterVec, IntGauge};

use crate::metrics::Maker;

/// Values of the label `kind`.
pub(super) const KINDS: [&str; 4] = ["poll", "post", "upgrade", "other"];
/// Values of the label `result`.
pub(super) const RESULTS: [&str; 4] = ["ok", "gone", "full", "cancelled"];
/// Seconds, a twentieth of a millisecond to two and a half seconds.
const HOP_BUCKETS: [f64; 15] =
    [5e-5, 1e-4, 1.5e-4, 2e-4, 3e-4, 5e-4, 0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5];

/// Forwarding in figures.
#[derive(Debug, Clone)]
pub(crate) struct Meters {
    pub(super) forwarded: IntCounterVec,
    /// What a hop adds: the time of a forwarded request less what its owner needed.
    pub(super) hop: Histogram,
    pub(super) under_way: IntGauge,
    pub(super) tunnels: IntGauge,
    pub(super) links: IntGauge,
}

impl Meters {
    pub(crate) fn new(make: &Maker) -> Result<Self, prometheus::Error> {
        let meters = Self {
            forwarded: make.counters(
                "forwarded_requests_total",
                "Requests for sessions of other nodes, by what became of them.",
                &["kind", "result"],
            )?,
            hop: make.histogram(
                "forward_hop_seconds",
                "What forwarding added to a request: its time here less its time at the owner.",
                &HOP_BUCKETS,
            )?,
            under_way: make.gauge("forwarded_requests", "Requests that wait for their owner's answer.")?,
            tunnels: make.gauge(
                "tunnelled_connections",
                "WebSockets of other nodes' sessions that pass through this node.",
            )?,
            links: make.gauge("links", "Nodes that forward to this one now.")?,
        };
        for kind in KINDS {
            for result in RESULTS {
                meters.forwarded.with_label_values(&[kind, result]);
            }
        }
        Ok(meters)
    }
}
