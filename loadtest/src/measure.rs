//! One round: a fresh crowd at one running server, and what it cost.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::engine::{Crowd, Engine, Faults};
use crate::oracle::Tally;
use crate::peers::{Child, Peer, PeerKind};
use crate::process::{cpu_ns, machine_busy_ns, settled_rss_kib, thread_cpu_ns};
use crate::publish::Answers;
use crate::scenario::{Figure, Load, Scenario};
use crate::timeline::Moment;
use crate::traffic::Traffic;

/// A generator this busy measures itself.
const BUSY_LIMIT: f64 = 0.9;
/// Between everybody's being joined and the first publication, for servers that join behind the upgrade.
const SETTLE: Duration = Duration::from_millis(200);

/// How rounds are run, whatever the scenario.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// Load before the measured part.
    pub(crate) warmup: Duration,
    /// Bytes of a publication's payload.
    pub(crate) payload: usize,
    /// Connections in the making at one time.
    pub(crate) at_once: usize,
}

/// What one round found.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) peer: PeerKind,
    pub(crate) figures: Vec<(Figure, f64)>,
    /// Microseconds; absent where nothing is timed.
    pub(crate) latency: Option<Histogram<u64>>,
    pub(crate) tally: Tally,
    pub(crate) faults: Faults,
    pub(crate) answers: Answers,
    /// Why the figures must not be used.
    pub(crate) invalid: Option<&'static str>,
    /// The generator was the slower side of a closed loop: the rate is its own, CPU per delivery holds.
    pub(crate) generator_bound: bool,
    pub(crate) timeline: Vec<Moment>,
}

impl Round {
    pub(crate) fn figure(&self, figure: Figure) -> Option<f64> {
        self.figures.iter().find(|pair| pair.0 == figure).map(|pair| pair.1)
    }
}

/// Costs so far, in nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    server: u64,
    bus: u64,
    generator: u64,
    machine: u64,
}

impl Sample {
    fn take(peer: &Peer) -> Self {
        Self {
            at: Instant::now(),
            server: peer.servers.iter().map(|server| cpu_ns(server.pid())).sum(),
            bus: peer.bus.as_ref().map_or(0, |bus| cpu_ns(bus.pid())),
            generator: thread_cpu_ns(),
            machine: machine_busy_ns(),
        }
    }

    fn since(self, before: Self) -> Cost {
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
struct Cost {
    seconds: f64,
    server: f64,
    bus: f64,
    generator: f64,
    machine: f64,
}

impl Cost {
    /// Share of one core that the generator's thread used.
    fn generator_busy(self) -> f64 {
        self.generator / 1e6 / self.seconds
    }

    /// Cores that were busy with something else.
    fn foreign_cores(self) -> f64 {
        ((self.machine - self.server - self.bus - self.generator) / 1e6 / self.seconds).max(0.0)
    }

    fn surroundings(self) -> [(Figure, f64); 2] {
        [(Figure::GeneratorBusy, self.generator_busy()), (Figure::ForeignCpu, self.foreign_cores())]
    }
}

/// Runs one round. `number` counts up within the process.
pub(crate) fn round(
    peer: &Peer,
    scenario: &Scenario,
    manner: Manner,
    number: usize,
) -> anyhow::Result<Round> {
    let rooms = (0..scenario.rooms).map(|room| format!("r{number}-{room}")).collect();
    let mut engine = Engine::new(peer.dialect, peer.listen[0], rooms)?;
    let crowd = Crowd { connections: scenario.connections, at_once: manner.at_once, round: number };
    match scenario.load {
        Load::Paced { .. } | Load::Closed { .. } => fan_out(peer, scenario, manner, engine, crowd),
        Load::Idle => {
            let figures = idle(peer, scenario, &mut engine, crowd)?;
            Ok(finish(peer, engine, figures, &[], Answers::default()))
        }
        Load::Storm => storm(peer, scenario, manner, engine, crowd),
    }
}

fn fan_out(
    peer: &Peer,
    scenario: &Scenario,
    manner: Manner,
    mut engine: Engine,
    crowd: Crowd,
) -> anyhow::Result<Round> {
    engine.connect(crowd)?;
    engine.listen(SETTLE)?;
    let mut traffic = Traffic::start(&mut engine, peer.format, peer.publish, scenario.load, manner.payload)?;
    traffic.drive(&mut engine, manner.warmup)?;
    engine.ledger.open_window(scenario.measured());
    let before = (Sample::take(peer), engine.ledger.deliveries(), traffic.published().iter().sum::<u64>());
    traffic.drive(&mut engine, scenario.measured())?;
    let cost = Sample::take(peer).since(before.0);
    let deliveries = (engine.ledger.deliveries() - before.1) as f64;
    let publications = (traffic.published().iter().sum::<u64>() - before.2) as f64;
    traffic.drain(&mut engine)?;

    let mut figures = vec![
        (Figure::CpuPerDelivery, cost.server / deliveries),
        (Figure::DeliveriesPerSecond, deliveries / cost.seconds),
    ];
    if peer.bus.is_some() {
        figures.push((Figure::BusCpuPerPublication, cost.bus / publications));
    }
    figures.extend(cost.surroundings());
    let mut round = finish(peer, engine, figures, traffic.published(), traffic.answers());
    let too_busy = cost.generator_busy() > BUSY_LIMIT;
    if deliveries == 0.0 {
        round.invalid = Some("nothing was delivered");
    } else if too_busy && matches!(scenario.load, Load::Paced { .. }) {
        round.invalid = Some("the generator was more than 90 % busy");
    }
    round.generator_bound = too_busy;
    Ok(round)
}

fn idle(
    peer: &Peer,
    scenario: &Scenario,
    engine: &mut Engine,
    crowd: Crowd,
) -> anyhow::Result<Vec<(Figure, f64)>> {
    let servers: Vec<u32> = peer.servers.iter().map(Child::pid).collect();
    let empty = settled_rss_kib(&servers, |pause| engine.listen(pause))?;
    engine.connect(crowd)?;
    let full = settled_rss_kib(&servers, |pause| engine.listen(pause))?;
    let before = Sample::take(peer);
    engine.listen(scenario.measured())?;
    let cost = Sample::take(peer).since(before);
    let connections = engine.settled() as f64;
    let mut figures = vec![
        (Figure::RssPerConnection, full.saturating_sub(empty) as f64 / connections),
        (Figure::IdleCpu, cost.server / connections / cost.seconds),
    ];
    figures.extend(cost.surroundings());
    Ok(figures)
}

/// CPU until everybody has joined; then a publication to each room shows that everybody is really there.
fn storm(
    peer: &Peer,
    scenario: &Scenario,
    manner: Manner,
    mut engine: Engine,
    crowd: Crowd,
) -> anyhow::Result<Round> {
    let before = Sample::take(peer);
    engine.connect(crowd)?;
    let joined = before.at.elapsed();
    engine.listen(SETTLE)?;
    let cost = Sample::take(peer).since(before);
    let connections = engine.settled() as f64;
    let mut traffic = Traffic::start(&mut engine, peer.format, peer.publish, scenario.load, manner.payload)?;
    traffic.publish_everywhere(&mut engine)?;
    traffic.drain(&mut engine)?;
    let mut figures = vec![
        (Figure::CpuPerConnection, cost.server / connections),
        (Figure::ConnectSeconds, joined.as_secs_f64()),
    ];
    figures.extend(cost.surroundings());
    Ok(finish(peer, engine, figures, traffic.published(), traffic.answers()))
}

fn finish(
    peer: &Peer,
    engine: Engine,
    mut figures: Vec<(Figure, f64)>,
    published: &[u64],
    answers: Answers,
) -> Round {
    let tally = engine.verdict(published);
    let faults = engine.faults();
    let latency = Some(engine.ledger.into_latency()).filter(|latency| !latency.is_empty());
    if let Some(latency) = &latency {
        figures.extend(quantiles(latency));
    }
    if peer.servers.is_empty() {
        figures.retain(|(figure, _)| !figure.is_of_processes());
    }
    let peer = peer.kind;
    Round {
        peer,
        figures,
        latency,
        tally,
        faults,
        answers,
        invalid: None,
        generator_bound: false,
        timeline: Vec::new(),
    }
}

/// The latency figures of a histogram, in milliseconds.
pub(crate) fn quantiles(latency: &Histogram<u64>) -> impl Iterator<Item = (Figure, f64)> {
    Figure::ALL.into_iter().filter_map(|figure| {
        let microseconds = latency.value_at_quantile(figure.quantile()?);
        Some((figure, microseconds as f64 / 1000.0))
    })
}
