//! What a peer's processes and this one cost over a stretch of time.

use std::time::Instant;

use crate::peers::Peer;
use crate::process::{cpu_ns, family, machine_busy_ns, rss_kib, thread_cpu_ns};
use crate::scenario::Figure;

/// The processes whose cost is measured; what they start later does not count.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meter {
    servers: Vec<u32>,
    bus: Vec<u32>,
}

impl Meter {
    pub(crate) fn of(peer: &Peer) -> Self {
        let servers = peer.servers.iter().flat_map(|server| family(server.pid())).collect();
        Self { servers, bus: peer.bus.as_ref().map_or(Vec::new(), |bus| family(bus.pid())) }
    }

    pub(crate) fn sample(&self) -> Sample {
        Sample {
            at: Instant::now(),
            server: cpu_ns(&self.servers),
            bus: cpu_ns(&self.bus),
            generator: thread_cpu_ns(),
            machine: machine_busy_ns(),
        }
    }

    pub(crate) fn servers(&self) -> &[u32] {
        &self.servers
    }

    pub(crate) fn server_rss_kib(&self) -> u64 {
        rss_kib(&self.servers)
    }
}

/// Costs so far, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) at: Instant,
    server: u64,
    bus: u64,
    generator: u64,
    machine: u64,
}

impl Sample {
    pub(crate) fn since(self, before: Self) -> Cost {
        let [server, bus, generator, machine] = [
            (self.server, before.server),
            (self.bus, before.bus),
            (self.generator, before.generator),
            (self.machine, before.machine),
        ]
        .map(|(now, then)| now.saturating_sub(then) as f64 / 1000.0);
        Cost { seconds: (self.at - before.at).as_secs_f64(), server, bus, generator, machine }
    }
}

/// Costs of a stretch of time: CPU microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) seconds: f64,
    pub(crate) server: f64,
    pub(crate) bus: f64,
    generator: f64,
    machine: f64,
}

impl Cost {
    /// Cores used by the servers, by the bus, and by the generator's thread.
    pub(crate) fn cores(self) -> [f64; 3] {
        [self.server, self.bus, self.generator].map(|used| used / 1e6 / self.seconds)
    }

    /// Share of one core that the generator's thread used.
    pub(crate) fn generator_busy(self) -> f64 {
        self.cores()[2]
    }

    /// Cores that were busy with something else.
    fn foreign_cores(self) -> f64 {
        ((self.machine - self.server - self.bus - self.generator) / 1e6 / self.seconds).max(0.0)
    }

    pub(crate) fn surroundings(self) -> [(Figure, f64); 2] {
        [(Figure::GeneratorBusy, self.generator_busy()), (Figure::ForeignCpu, self.foreign_cores())]
    }
}
