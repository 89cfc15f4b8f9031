//! One round: a fresh crowd at one running server, and what it cost.

mod filled;
mod flow;
mod idle;
mod resubscribe;
mod storm;

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::engine::{Crowd, Engine};
use crate::faults::Faults;
use crate::ledger::latencies;
use crate::meter::{Cost, Meter};
use crate::oracle::Tally;
use crate::peers::{Peer, PeerKind};
use crate::publish::Answers;
use crate::scenario::{Course, Figure, Load, Scenario};
use crate::timeline::Moment;
use crate::traffic::Traffic;
use crate::watch::Watch;

/// A generator this busy measures itself.
const BUSY_LIMIT: f64 = 0.9;
const TOO_BUSY: &str = "the generator was more than 90 % busy";
/// Between everybody's being joined and the first publication, for servers that join behind the upgrade.
const SETTLE: Duration = Duration::from_millis(200);

/// Connections in the making where the making is not what is measured.
const AT_ONCE: usize = 512;

/// How rounds are run, whatever the scenario.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// Load before the measured part.
    pub(crate) warmup: Duration,
    /// Bytes of a publication's payload where the scenario does not say.
    pub(crate) payload: usize,
    /// Connections in the making at one time; `None`: [`AT_ONCE`], and in a storm all.
    pub(crate) at_once: Option<usize>,
}

/// What one round found.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) peer: PeerKind,
    pub(crate) figures: Vec<(Figure, f64)>,
    pub(crate) groups: Vec<GroupRound>,
    pub(crate) timeline: Vec<Moment>,
    /// Microseconds, of the groups that do not disturb; absent where nothing is timed.
    pub(crate) latency: Option<Histogram<u64>>,
    pub(crate) tally: Tally,
    pub(crate) faults: Faults,
    pub(crate) answers: Answers,
    /// Why the figures must not be used.
    pub(crate) invalid: Option<&'static str>,
    /// The generator was the slower side of a closed loop: the rate is its own, CPU per delivery holds.
    pub(crate) generator_bound: bool,
}

/// A group's part of a round.
#[derive(Debug, Clone)]
pub(crate) struct GroupRound {
    pub(crate) name: String,
    /// Of the whole round.
    pub(crate) deliveries: u64,
    /// Microseconds; absent where nothing was timed.
    pub(crate) latency: Option<Histogram<u64>>,
    pub(crate) tally: Tally,
}

impl Round {
    pub(crate) fn figure(&self, figure: Figure) -> Option<f64> {
        self.figures.iter().find(|pair| pair.0 == figure).map(|pair| pair.1)
    }
}

/// What a round has to work with.
#[derive(Debug)]
struct Task<'a> {
    peer: &'a mut Peer,
    scenario: &'a Scenario,
    manner: Manner,
    number: usize,
}

/// Runs one round. `number` counts up within the process.
pub(crate) fn round(
    peer: &mut Peer,
    scenario: &Scenario,
    manner: Manner,
    number: usize,
    watch: &mut Watch<'_>,
) -> anyhow::Result<Round> {
    let mut task = Task { peer, scenario, manner, number };
    match scenario.course {
        Course::Flow => flow::run(&task, watch),
        Course::Idle => idle::run(&task, watch),
        Course::Filled => filled::run(&task, watch),
        Course::Storm => storm::run(&task, watch),
        Course::Resubscribe => resubscribe::run(&mut task, watch),
    }
}

impl<'a> Task<'a> {
    fn crowd<'b>(&self, hosts: &'b [std::net::SocketAddr]) -> Crowd<'b>
    where
        'a: 'b,
    {
        Crowd {
            dialect: self.peer.dialect,
            hosts,
            groups: &self.scenario.groups,
            at_once: self.manner.at_once.unwrap_or(match self.scenario.course {
                Course::Storm => usize::MAX,
                _ => AT_ONCE,
            }),
            number: self.number,
            receive_buffer: None,
        }
    }

    fn meter(&self) -> Meter {
        Meter::of(self.peer)
    }

    fn traffic(&self, engine: &mut Engine<'_>) -> anyhow::Result<Traffic> {
        Traffic::start(engine, self.peer.format, self.peer.publish, self.manner.payload)
    }

    /// Everybody connects, joins, and a moment passes.
    fn gather(&self, engine: &mut Engine<'_>, watch: &mut Watch<'_>) -> anyhow::Result<()> {
        watch.phase("connecting", None);
        engine.connect(watch)?;
        engine.listen(SETTLE, watch)?;
        Ok(())
    }

    /// One publication to each room shows that everybody is really there.
    fn prove(&self, engine: &mut Engine<'_>, watch: &mut Watch<'_>) -> anyhow::Result<Traffic> {
        watch.phase("one publication to each room", None);
        let mut traffic = self.traffic(engine)?;
        traffic.publish_everywhere(engine)?;
        traffic.drain(engine, watch)?;
        Ok(traffic)
    }

    /// Sums up. `latencies` are the groups', in their order, as far as something was timed.
    fn finish(
        &self,
        engine: &Engine<'_>,
        mut figures: Vec<(Figure, f64)>,
        latencies: &[Histogram<u64>],
        traffic: Option<&Traffic>,
    ) -> Round {
        let tallies = engine.verdict(traffic.map_or(&[], Traffic::published));
        let mut tally = Tally::default();
        tallies.iter().for_each(|of_group| tally += *of_group);
        let latency = self.merged(latencies);
        if let Some(latency) = &latency {
            figures.extend(quantiles(latency));
        }
        if self.peer.servers.is_empty() {
            figures.retain(|(figure, _)| !figure.is_of_processes());
        }
        let of_group = |(index, tally): (usize, &Tally)| GroupRound {
            name: self.scenario.groups[index].name.clone(),
            deliveries: engine.ledgers[index].deliveries(),
            latency: latencies.get(index).filter(|latency| !latency.is_empty()).cloned(),
            tally: *tally,
        };
        Round {
            peer: self.peer.kind,
            figures,
            groups: tallies.iter().enumerate().map(of_group).collect(),
            timeline: Vec::new(),
            latency,
            tally,
            faults: engine.faults(),
            answers: traffic.map_or(Answers::default(), Traffic::answers),
            invalid: None,
            generator_bound: false,
        }
    }

    /// Latencies of the groups that do not disturb, if there are any.
    fn merged(&self, of_groups: &[Histogram<u64>]) -> Option<Histogram<u64>> {
        let mut merged = latencies();
        for (latency, group) in of_groups.iter().zip(&self.scenario.groups) {
            if !group.disturbs {
                merged.add(latency).expect("all have the same bounds");
            }
        }
        (!merged.is_empty()).then_some(merged)
    }

    /// Why a stretch of a round with this cost does not count. A closed loop alone may be the generator's:
    /// its server does what it is given, and the cost of that holds.
    fn fault_of(&self, cost: Cost) -> Option<&'static str> {
        let paced = self.scenario.groups.iter().any(|group| matches!(group.load, Load::Paced { .. }));
        (paced && cost.generator_busy() > BUSY_LIMIT).then_some(TOO_BUSY)
    }
}

/// The latency figures of a histogram, in milliseconds.
pub(crate) fn quantiles(latency: &Histogram<u64>) -> impl Iterator<Item = (Figure, f64)> {
    Figure::ALL.into_iter().filter_map(|figure| {
        let microseconds = latency.value_at_quantile(figure.quantile()?);
        Some((figure, microseconds as f64 / 1000.0))
    })
}
