//! What can be measured: a crowd and what it gets.

use std::time::Duration;

/// How publications leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// On schedule, whatever comes back, the rooms in turn.
    Paced { per_second: u32 },
    /// So many at a time, the next when one has reached every member; one room.
    Closed { in_flight: usize },
    /// None: memory and CPU of doing nothing.
    Idle,
    /// None until everybody has joined, then one to each room.
    Storm,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// None: nobody joins anything.
    pub(crate) rooms: usize,
    pub(crate) connections: usize,
    pub(crate) load: Load,
    /// Length of the measured part of a round, unless told otherwise.
    pub(crate) seconds: u64,
    /// Rounds, unless told otherwise.
    pub(crate) rounds: usize,
}

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "f1",
        about: "1 room × 1,000 members, 20 publications/s",
        rooms: 1,
        connections: 1_000,
        load: Load::Paced { per_second: 20 },
        seconds: 4,
        rounds: 3,
    },
    Scenario {
        name: "f8",
        about: "1 room × 1,000 members, flat out, 8 publications in flight",
        rooms: 1,
        connections: 1_000,
        load: Load::Closed { in_flight: 8 },
        seconds: 4,
        rounds: 3,
    },
    Scenario {
        name: "r10",
        about: "100 rooms × 10 members, 1,000 publications/s",
        rooms: 100,
        connections: 1_000,
        load: Load::Paced { per_second: 1_000 },
        seconds: 4,
        rounds: 3,
    },
    Scenario {
        name: "p1",
        about: "5,000 rooms × 1 member, 5,000 publications/s",
        rooms: 5_000,
        connections: 5_000,
        load: Load::Paced { per_second: 5_000 },
        seconds: 4,
        rounds: 3,
    },
    Scenario {
        name: "idle",
        about: "15,000 connections that joined nothing: resident memory, and CPU over one ping interval",
        rooms: 0,
        connections: 15_000,
        load: Load::Idle,
        seconds: 25,
        rounds: 1,
    },
    Scenario {
        name: "connect",
        about: "a storm of 10,000 connections that join rooms of 10 at once, none lost",
        rooms: 1_000,
        connections: 10_000,
        load: Load::Storm,
        seconds: 0,
        rounds: 3,
    },
];

impl Scenario {
    pub(crate) fn named(name: &str) -> Option<Self> {
        SCENARIOS.iter().find(|scenario| scenario.name == name).copied()
    }

    /// The same with another number of connections; rooms keep their size.
    pub(crate) fn with_connections(mut self, connections: usize) -> Self {
        if self.rooms > 1 {
            self.rooms = (self.rooms * connections / self.connections).max(1);
        }
        self.connections = connections;
        self
    }

    pub(crate) fn measured(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// What peers are compared by.
    pub(crate) fn headline(&self) -> Figure {
        match self.load {
            Load::Paced { .. } | Load::Closed { .. } => Figure::CpuPerDelivery,
            Load::Idle => Figure::RssPerConnection,
            Load::Storm => Figure::CpuPerConnection,
        }
    }
}

/// What a round finds out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Figure {
    CpuPerDelivery,
    BusCpuPerPublication,
    DeliveriesPerSecond,
    P50,
    P90,
    P99,
    P999,
    P9999,
    Longest,
    RssPerConnection,
    IdleCpu,
    CpuPerConnection,
    ConnectSeconds,
    GeneratorBusy,
    ForeignCpu,
}

impl Figure {
    pub(crate) const ALL: [Self; 15] = [
        Self::CpuPerDelivery,
        Self::BusCpuPerPublication,
        Self::DeliveriesPerSecond,
        Self::P50,
        Self::P90,
        Self::P99,
        Self::P999,
        Self::P9999,
        Self::Longest,
        Self::RssPerConnection,
        Self::IdleCpu,
        Self::CpuPerConnection,
        Self::ConnectSeconds,
        Self::GeneratorBusy,
        Self::ForeignCpu,
    ];

    /// Name in JSON and thresholds, with its unit.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::CpuPerDelivery => "cpu_us_per_delivery",
            Self::BusCpuPerPublication => "bus_cpu_us_per_publication",
            Self::DeliveriesPerSecond => "deliveries_per_s",
            Self::P50 => "p50_ms",
            Self::P90 => "p90_ms",
            Self::P99 => "p99_ms",
            Self::P999 => "p999_ms",
            Self::P9999 => "p9999_ms",
            Self::Longest => "max_ms",
            Self::RssPerConnection => "rss_kib_per_connection",
            Self::IdleCpu => "cpu_us_per_connection_and_s",
            Self::CpuPerConnection => "cpu_us_per_connection",
            Self::ConnectSeconds => "connect_s",
            Self::GeneratorBusy => "generator_busy",
            Self::ForeignCpu => "foreign_cores",
        }
    }

    /// Whether it takes knowing the server's processes.
    pub(crate) fn is_of_processes(self) -> bool {
        use Figure::{CpuPerConnection, CpuPerDelivery, ForeignCpu, IdleCpu, RssPerConnection};
        matches!(self, CpuPerDelivery | CpuPerConnection | IdleCpu | RssPerConnection | ForeignCpu)
    }

    /// Heading of its column, with its unit.
    pub(crate) fn heading(self) -> &'static str {
        match self {
            Self::CpuPerDelivery => "CPU µs/delivery",
            Self::BusCpuPerPublication => "Redis µs/pub",
            Self::DeliveriesPerSecond => "deliveries/s",
            Self::P50 => "p50 ms",
            Self::P90 => "p90 ms",
            Self::P99 => "p99 ms",
            Self::P999 => "p99.9 ms",
            Self::P9999 => "p99.99 ms",
            Self::Longest => "max ms",
            Self::RssPerConnection => "RSS KiB/conn",
            Self::IdleCpu => "CPU µs/conn/s",
            Self::CpuPerConnection => "CPU µs/conn",
            Self::ConnectSeconds => "all joined s",
            Self::GeneratorBusy => "generator busy",
            Self::ForeignCpu => "foreign cores",
        }
    }

    /// Quantile of the latency histogram that this figure is.
    pub(crate) fn quantile(self) -> Option<f64> {
        match self {
            Self::P50 => Some(0.5),
            Self::P90 => Some(0.9),
            Self::P99 => Some(0.99),
            Self::P999 => Some(0.999),
            Self::P9999 => Some(0.9999),
            Self::Longest => Some(1.0),
            _ => None,
        }
    }

    pub(crate) fn parse(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|figure| figure.key() == key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_loop_has_one_room() {
        for scenario in SCENARIOS {
            if let Load::Closed { .. } = scenario.load {
                assert_eq!(scenario.rooms, 1, "{}", scenario.name);
            }
        }
    }

    #[test]
    fn rooms_keep_their_size() {
        let scenario = Scenario::named("connect").unwrap().with_connections(500);
        assert_eq!((scenario.rooms, scenario.connections), (50, 500));
        let scenario = Scenario::named("f1").unwrap().with_connections(10);
        assert_eq!((scenario.rooms, scenario.connections), (1, 10));
        assert_eq!(Scenario::named("idle").unwrap().with_connections(10).rooms, 0);
    }
}
