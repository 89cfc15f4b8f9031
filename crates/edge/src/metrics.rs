//! What the node tells Prometheus. Shards count in plain integers that nobody else writes and publish
//! them once a turn; a scrape sums them up. No label is made of a room, user or event.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use fanfare_broker::Malformed;
use fanfare_protocol::{Disconnect, RefusalCode};
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::app::AppCounts;
use crate::cluster;
use crate::connection::{Kind, Via};

/// Counters of a shard that only grow. Arrays follow after the last one: see [`Counters`].
#[derive(Debug, Clone, Copy)]
pub(crate) enum Count {
    PublicationsRoom,
    PublicationsNamespace,
    PublicationsPublish,
    PublicationsPython,
    /// Publications that nobody on this node was to get.
    PublicationsUnwanted,
    /// Publications that cannot be shown to clients, or whose namespace is not served.
    DroppedNotEncodable,
    DroppedNamespace,
    Deliveries,
    DroppedVolatile,
    DroppedClosed,
    Writes,
    SentBytes,
    ReceivedBytes,
    Events,
    Relayed,
    RelayFailed,
    JoinsOk,
    JoinsFailed,
    PausedReading,
    SubscriptionsRefused,
    ShardQueueFull,
    Upgraded,
    UpgradeFailed,
    UpgradeTimedOut,
}

const COUNTS: usize = Count::UpgradeTimedOut as usize + 1;
/// Kinds of connections, each by each transport.
const LINES: usize = Kind::ALL.len() * Via::ALL.len();
const OPENED: usize = COUNTS;
const CLOSED: usize = OPENED + LINES;
const REFUSED: usize = CLOSED + LINES * Disconnect::ALL.len();
const MALFORMED: usize = REFUSED + RefusalCode::ALL.len();
const ALL: usize = MALFORMED + Malformed::ALL.len();

/// Levels of a shard.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Level {
    Rooms,
    Memberships,
    OutboxBytes,
    OutboxFrames,
    Blocked,
    /// Rooms and sessions that the node wants from the broker (shard 0).
    Subscriptions,
}

const LEVELS: usize = Level::Subscriptions as usize + 1;

/// What one shard counts, published to scrapes by [`Counters::publish`].
#[derive(Debug)]
pub(crate) struct Counters {
    counts: [u64; ALL],
    levels: [i64; LEVELS],
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    counts: [AtomicU64; ALL],
    levels: [AtomicI64; LEVELS],
}

impl Counters {
    pub(crate) fn add(&mut self, count: Count, by: u64) {
        self.counts[count as usize] += by;
    }

    pub(crate) fn get(&self, count: Count) -> u64 {
        self.counts[count as usize]
    }

    pub(crate) fn level(&mut self, level: Level, by: i64) {
        self.levels[level as usize] += by;
    }

    pub(crate) fn set(&mut self, level: Level, to: usize) {
        self.levels[level as usize] = i64::try_from(to).unwrap_or(i64::MAX);
    }

    pub(crate) fn opened(&mut self, kind: Kind, via: Via) {
        self.counts[OPENED + line(kind, via)] += 1;
    }

    pub(crate) fn closed(&mut self, kind: Kind, via: Via, reason: Disconnect) {
        self.counts[CLOSED + line(kind, via) * Disconnect::ALL.len() + reason as usize] += 1;
    }

    pub(crate) fn refused(&mut self, code: RefusalCode) {
        self.counts[REFUSED + code as usize] += 1;
    }

    pub(crate) fn malformed(&mut self, reason: Malformed) {
        self.counts[MALFORMED + reason as usize] += 1;
    }

    /// Makes the counts visible to scrapes.
    pub(crate) fn publish(&self) {
        for (shared, own) in self.shared.counts.iter().zip(&self.counts) {
            shared.store(*own, Ordering::Relaxed);
        }
        for (shared, own) in self.shared.levels.iter().zip(&self.levels) {
            shared.store(*own, Ordering::Relaxed);
        }
    }
}

/// Position among the [`LINES`].
fn line(kind: Kind, via: Via) -> usize {
    kind.index() * Via::ALL.len() + via.index()
}

/// Every kind and transport, in the order of [`line`].
fn lines() -> impl Iterator<Item = (Kind, Via)> {
    Kind::ALL.into_iter().flat_map(|kind| Via::ALL.map(|via| (kind, via)))
}

/// Counters that any thread may move; rare events only.
#[derive(Debug, Clone)]
pub(crate) struct Rare {
    pub(crate) rejected: IntCounterVec,
    pub(crate) limit_reached: IntCounterVec,
    pub(crate) published: IntCounterVec,
    pub(crate) reconnects: IntCounterVec,
    pub(crate) redis_up: IntGaugeVec,
    /// Bytes of bodies of long-polling that are being read.
    pub(crate) post_bytes: IntGauge,
}

/// The node's metrics.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    registry: Registry,
    families: Arc<Families>,
    shards: Arc<Vec<Arc<Shared>>>,
    pub(crate) rare: Rare,
    pub(crate) fanout: Histogram,
    pub(crate) lag: Histogram,
    pub(crate) resubscribe: Histogram,
    pub(crate) cluster: cluster::Meters,
    pub(crate) app: AppCounts,
    /// Held by a scrape: two at a time would count what is new twice.
    scrape: Arc<Mutex<()>>,
}

#[derive(Debug)]
struct Families {
    /// One handle per entry of `Counters::counts`.
    counts: Vec<IntCounter>,
    levels: Vec<IntGauge>,
    connections: Vec<IntGauge>,
    frame_bytes: IntGauge,
    ready: IntGauge,
    draining: IntGauge,
}

/// Fixed figures of the node, for saturation panels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) connections: usize,
    pub(crate) outbox_budget: usize,
}

/// Seconds, from a microsecond to ten seconds.
const FANOUT_BUCKETS: [f64; 16] =
    [1e-6, 5e-6, 1e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0];
/// Seconds, half a millisecond to ten seconds.
pub(crate) const LATENCY_BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

impl Metrics {
    pub(crate) fn new(shards: usize, bounds: Bounds) -> Result<Self, prometheus::Error> {
        let make = Maker { registry: Registry::new() };
        let info = make.gauges("build_info", "Always 1; says what runs.", &["version"])?;
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let limit = make.gauge("connections_limit", "Open connections that this node allows.")?;
        limit.set(i64::try_from(bounds.connections).unwrap_or(i64::MAX));
        let budget = make.gauge("outbox_budget_bytes", "What all outboxes together may hold in memory.")?;
        budget.set(i64::try_from(bounds.outbox_budget).unwrap_or(i64::MAX));
        let open = make.gauges("connections", "Connections open now.", &["protocol", "transport"])?;
        let connections =
            lines().map(|(kind, via)| open.with_label_values(&[kind.label(), via.label()])).collect();
        let families = Families {
            counts: make.counts()?,
            levels: make.levels()?,
            connections,
            frame_bytes: make.gauge("outbox_memory_bytes", "Bytes of frames alive, shared ones once.")?,
            ready: make.gauge("ready", "1 while the node takes new connections.")?,
            draining: make.gauge("draining", "1 while the node leaves service.")?,
        };
        let rare = make.rare()?;
        let fanout = make.histogram(
            "fanout_duration_seconds",
            "Broker hand-over to the last local member's write, per publication and shard.",
            &FANOUT_BUCKETS,
        )?;
        let lag = make.histogram(
            "broker_lag_seconds",
            "Publishing node's hand-over to this node's reading, where the publication carries a time.",
            &LATENCY_BUCKETS,
        )?;
        let resubscribe = make.histogram(
            "resubscribe_duration_seconds",
            "Link to Redis lost to all rooms subscribed again.",
            &LATENCY_BUCKETS,
        )?;
        let cluster = cluster::Meters::new(&make)?;
        let app = AppCounts::new(&make)?;
        let process = prometheus::process_collector::ProcessCollector::for_self();
        let registry = make.registry;
        registry.register(Box::new(process))?;
        let shards = (0..shards)
            .map(|_| {
                Arc::new(Shared {
                    counts: std::array::from_fn(|_| AtomicU64::new(0)),
                    levels: std::array::from_fn(|_| AtomicI64::new(0)),
                })
            })
            .collect();
        Ok(Self {
            registry,
            families: Arc::new(families),
            shards: Arc::new(shards),
            rare,
            fanout,
            lag,
            resubscribe,
            cluster,
            app,
            scrape: Arc::default(),
        })
    }

    /// The counters of shard `shard`, for its thread.
    pub(crate) fn counters(&self, shard: usize) -> Counters {
        Counters { counts: [0; ALL], levels: [0; LEVELS], shared: self.shards[shard].clone() }
    }

    /// The text of a scrape. Blocks for the time of reading `/proc`.
    pub(crate) fn render(&self, ready: bool, draining: bool) -> Result<String, prometheus::Error> {
        let _scrape = self.scrape.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let count = |at: usize| -> u64 {
            self.shards.iter().map(|shard| shard.counts[at].load(Ordering::Relaxed)).sum()
        };
        for (at, counter) in self.families.counts.iter().enumerate() {
            counter.inc_by(count(at).saturating_sub(counter.get()));
        }
        for (at, gauge) in self.families.levels.iter().enumerate() {
            gauge.set(self.shards.iter().map(|shard| shard.levels[at].load(Ordering::Relaxed)).sum());
        }
        let upgraded = count(Count::Upgraded as usize);
        for (kind, via) in lines() {
            let at = line(kind, via);
            let row = CLOSED + at * Disconnect::ALL.len();
            let closed: u64 = (row..row + Disconnect::ALL.len()).map(count).sum();
            let (came, went) = match (kind, via) {
                (Kind::SocketIo, Via::WebSocket) => (upgraded, 0),
                (Kind::SocketIo, Via::Polling) => (0, upgraded),
                _ => (0, 0),
            };
            let open = (count(OPENED + at) + came).saturating_sub(closed + went);
            self.families.connections[at].set(i64::try_from(open).unwrap_or(i64::MAX));
        }
        let frames = fanfare_protocol::Frame::live_bytes();
        self.families.frame_bytes.set(i64::try_from(frames).unwrap_or(i64::MAX));
        self.families.ready.set(i64::from(ready));
        self.families.draining.set(i64::from(draining));
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
    }
}

/// Standard process metrics have no prefix, everything of our own has this one.
fn prefixed(name: &str) -> String {
    format!("fanfare_{name}")
}

/// Registers what the node measures, under names of its own.
pub(crate) struct Maker {
    registry: Registry,
}

impl Maker {
    pub(crate) fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        let gauge = IntGauge::new(prefixed(name), help)?;
        self.registry.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    pub(crate) fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        let gauges = IntGaugeVec::new(Opts::new(prefixed(name), help), labels)?;
        self.registry.register(Box::new(gauges.clone()))?;
        Ok(gauges)
    }

    pub(crate) fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        let counter = IntCounter::new(prefixed(name), help)?;
        self.registry.register(Box::new(counter.clone()))?;
        Ok(counter)
    }

    pub(crate) fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        let counters = IntCounterVec::new(Opts::new(prefixed(name), help), labels)?;
        self.registry.register(Box::new(counters.clone()))?;
        Ok(counters)
    }

    pub(crate) fn histogram(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
    ) -> Result<Histogram, prometheus::Error> {
        let histogram =
            Histogram::with_opts(HistogramOpts::new(prefixed(name), help).buckets(buckets.to_vec()))?;
        self.registry.register(Box::new(histogram.clone()))?;
        Ok(histogram)
    }

    /// Handles in the order of [`Count`] and the arrays after it.
    fn counts(&self) -> Result<Vec<IntCounter>, prometheus::Error> {
        let received = self.counters(
            "publications_received_total",
            "Publications that came in, by kind of channel.",
            &["kind"],
        )?;
        let dropped = self.counters(
            "publications_dropped_total",
            "Publications that came in and cannot go to clients.",
            &["reason"],
        )?;
        let drops = self.counters(
            "deliveries_dropped_total",
            "Deliveries that a connection did not get.",
            &["reason"],
        )?;
        let relayed =
            self.counters("events_relayed_total", "Client events passed on to a room.", &["result"])?;
        let joins = self.counters("joins_total", "Joins of rooms.", &["result"])?;
        let upgrades =
            self.counters("upgrades_total", "Changes from long-polling to a WebSocket.", &["result"])?;
        let mut all = vec![
            received.with_label_values(&["room"]),
            received.with_label_values(&["namespace"]),
            received.with_label_values(&["publish"]),
            received.with_label_values(&["python"]),
            self.counter(
                "publications_unwanted_total",
                "Publications that no connection of this node was to get.",
            )?,
            dropped.with_label_values(&["not_encodable"]),
            dropped.with_label_values(&["unknown_namespace"]),
            self.counter("deliveries_total", "Publications put into outboxes, one per connection.")?,
            drops.with_label_values(&["volatile"]),
            drops.with_label_values(&["closed"]),
            self.counter("socket_writes_total", "Writes to client sockets.")?,
            self.counter("sent_bytes_total", "Bytes written to client sockets.")?,
            self.counter("received_bytes_total", "Bytes read from client sockets.")?,
            self.counter("events_received_total", "Events that clients sent.")?,
            relayed.with_label_values(&["ok"]),
            relayed.with_label_values(&["failed"]),
            joins.with_label_values(&["ok"]),
            joins.with_label_values(&["failed"]),
            self.counter(
                "reading_paused_total",
                "Times a connection was not read, because too much waited behind its joins.",
            )?,
            self.counter("subscriptions_refused_total", "Channels that the broker refused.")?,
            self.counter("shard_queue_full_total", "Deliveries lost because a shard's queue was full.")?,
            upgrades.with_label_values(&["ok"]),
            upgrades.with_label_values(&["failed"]),
            upgrades.with_label_values(&["timeout"]),
        ];
        let opened =
            self.counters("connections_opened_total", "Connections opened.", &["protocol", "transport"])?;
        all.extend(lines().map(|(kind, via)| opened.with_label_values(&[kind.label(), via.label()])));
        let closed = self.counters(
            "connections_closed_total",
            "Connections closed.",
            &["protocol", "transport", "reason"],
        )?;
        for (kind, via) in lines() {
            all.extend(
                Disconnect::ALL
                    .map(|reason| closed.with_label_values(&[kind.label(), via.label(), reason.label()])),
            );
        }
        let refused =
            self.counters("commands_refused_total", "What clients asked and were refused.", &["code"])?;
        all.extend(RefusalCode::ALL.map(|code| refused.with_label_values(&[code.label()])));
        let malformed =
            self.counters("publications_malformed_total", "Payloads that are no publication.", &["reason"])?;
        all.extend(Malformed::ALL.map(|reason| malformed.with_label_values(&[reason.label()])));
        debug_assert_eq!(all.len(), ALL);
        Ok(all)
    }

    /// Handles in the order of [`Level`].
    fn levels(&self) -> Result<Vec<IntGauge>, prometheus::Error> {
        Ok(vec![
            self.gauge(
                "rooms",
                "Rooms with a member, or a waiting one, on this node; once per shard that has some.",
            )?,
            self.gauge("memberships", "Room and connection pairs.")?,
            self.gauge("outbox_bytes", "Bytes that wait in outboxes, shared ones once per connection.")?,
            self.gauge("outbox_frames", "Frames that wait in outboxes.")?,
            self.gauge(
                "outbox_blocked_connections",
                "Connections that take nothing now: the socket is full, or no poll waits.",
            )?,
            self.gauge("redis_subscriptions", "Rooms and sessions that this node asks the broker for.")?,
        ])
    }

    fn rare(&self) -> Result<Rare, prometheus::Error> {
        let rare = Rare {
            rejected: self.counters("connections_rejected_total", "Handshakes refused.", &["reason"])?,
            limit_reached: self.counters("limit_reached_total", "Times a bound was reached.", &["limit"])?,
            published: self.counters(
                "publications_sent_total",
                "Publications handed to the broker.",
                &["source", "result"],
            )?,
            reconnects: self.counters(
                "redis_reconnects_total",
                "Links to the broker that were lost and came back.",
                &["role"],
            )?,
            redis_up: self.gauges("redis_up", "1 while the link to the broker is up.", &["role"])?,
            post_bytes: self.gauge("post_bytes", "Bytes of bodies of long-polling that are being read.")?,
        };
        for reason in REJECTIONS {
            rare.rejected.with_label_values(&[reason]);
        }
        for limit in LIMITS {
            rare.limit_reached.with_label_values(&[limit]);
        }
        for source in ["client", "http", "app"] {
            for result in ["ok", "unavailable", "refused", "queue_full"] {
                rare.published.with_label_values(&[source, result]);
            }
        }
        rare.reconnects.with_label_values(&["feed"]);
        for role in ["feed", "publish"] {
            rare.redis_up.with_label_values(&[role]);
        }
        Ok(rare)
    }
}

/// Values of the label `reason` of `fanfare_connections_rejected_total`.
const REJECTIONS: [&str; 7] =
    ["bad_request", "unknown_session", "origin", "connections", "private_connections", "files", "draining"];
/// Values of the label `limit` of `fanfare_limit_reached_total`; each is a setting's name, but for the fixed ones of the private listener.
const LIMITS: [&str; 19] = [
    "connections",
    "private_connections",
    "forwards",
    "tunnels",
    "links",
    "max_payload",
    "rooms_per_connection",
    "outbox_hard",
    "outbox_budget",
    "pending_commands",
    "publish_queue",
    "publish_body",
    "post_budget",
    "namespaces_limit",
    "app_calls",
    "app_queue",
    "app_answer",
    "app_farewells",
    "acks",
];
