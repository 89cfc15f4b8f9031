//! What is counted about the app callback.

use prometheus::{Histogram, IntCounterVec, IntGauge};

use super::tell::What;
use crate::metrics::{LATENCY_BUCKETS, Maker};

/// Values of the label `result` of `fanfare_app_calls_total`.
const RESULTS: [&str; 8] =
    ["ok", "refused", "forbidden", "unavailable", "timeout", "unusable", "queue_full", "unshowable"];
/// Values of the label `reason` of `fanfare_app_effects_dropped_total`.
const DROPPED: [&str; 5] = ["name", "encoding", "rooms_per_connection", "publish", "gone"];

/// Counters of calls and of what came of them.
#[derive(Debug, Clone)]
pub(crate) struct AppCounts {
    pub(crate) calls: IntCounterVec,
    pub(crate) seconds: Histogram,
    pub(crate) in_flight: IntGauge,
    pub(crate) dropped: IntCounterVec,
    /// Connections that are gone and have something left to tell.
    pub(crate) farewells: IntGauge,
    /// Events of theirs that were not told in time.
    pub(crate) untold: prometheus::IntCounter,
}

impl AppCounts {
    pub(crate) fn new(make: &Maker) -> Result<Self, prometheus::Error> {
        let counts = Self {
            calls: make.counters(
                "app_calls_total",
                "Calls to the app, by what came of them.",
                &["type", "result"],
            )?,
            seconds: make.histogram(
                "app_call_seconds",
                "From sending a call to the app to its whole answer.",
                &LATENCY_BUCKETS,
            )?,
            in_flight: make.gauge("app_calls_in_flight", "Calls that the app has not answered yet.")?,
            dropped: make.counters(
                "app_effects_dropped_total",
                "Parts of the app's answers that could not be carried out.",
                &["reason"],
            )?,
            farewells: make.gauge(
                "app_farewells",
                "Connections that are gone, of which the app has not heard everything yet.",
            )?,
            untold: make.counter(
                "app_events_untold_total",
                "Events and acknowledgements of gone connections that the app was not told in time.",
            )?,
        };
        for kind in What::TYPES {
            for result in RESULTS {
                counts.calls.with_label_values(&[kind, result]);
            }
        }
        for reason in DROPPED {
            counts.dropped.with_label_values(&[reason]);
        }
        Ok(counts)
    }

    /// Counts a call that came to its end. `kind`: see [`What::index`].
    pub(crate) fn called(&self, kind: usize, result: &'static str) {
        self.calls.with_label_values(&[What::TYPES[kind], result]).inc();
    }
}
