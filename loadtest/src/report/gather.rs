//! Makes the document of what a run found.

use std::collections::BTreeMap;
use std::time::Instant;

use jiff::Timestamp;

use super::document::{
    Document, FigureName, Losses, PeerReport, Range, RoundReport, Run, SCHEMA_VERSION, ScenarioReport,
    Verdict,
};
use super::groups;
use super::limits::Judgement;
use super::{Results, Spread, machine};
use crate::faults::Faults;
use crate::measure::Round;
use crate::oracle::Tally;
use crate::peers::PeerKind;
use crate::run::Order;
use crate::scenario::Figure;
use crate::timeline::Moment;

/// When a run began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Started {
    at: Timestamp,
    clock: Instant,
}

impl Started {
    pub(crate) fn now() -> Self {
        Self { at: Timestamp::now(), clock: Instant::now() }
    }

    /// What there is to say of the run as a whole, now that it is over.
    pub(crate) fn finish(self, order: &Order, peers: &[PeerKind]) -> Run {
        let version = |peer: &PeerKind| Some((peer.name().to_owned(), peer.version(&order.setup)?));
        Run {
            started_at: format!("{:.0}", self.at),
            took_s: self.clock.elapsed().as_secs_f64(),
            loadtest: env!("CARGO_PKG_VERSION").into(),
            arguments: std::env::args().skip(1).collect(),
            warmup_ms: order.manner.warmup.as_millis() as u64,
            payload_bytes: order.manner.payload as u64,
            at_once: order.manner.at_once.map(|at_once| at_once as u64),
            fanfare_arguments: order.setup.fanfare_arguments.clone(),
            versions: peers.iter().filter_map(version).collect(),
        }
    }
}

/// The whole run.
pub(crate) fn document(run: Run, all: &[Results], judgements: &[Judgement], ok: bool) -> Document {
    let name = |figure: Figure| FigureName { key: figure.key().into(), heading: figure.heading().into() };
    Document {
        schema_version: SCHEMA_VERSION,
        ok,
        run,
        machine: machine::this_one(),
        figures: Figure::ALL.into_iter().map(name).collect(),
        scenarios: all.iter().map(scenario).collect(),
        limits: judgements.iter().map(verdict).collect(),
    }
}

fn scenario(results: &Results) -> ScenarioReport {
    let scenario = &results.scenario;
    ScenarioReport {
        name: scenario.name.clone(),
        about: scenario.about.clone(),
        rooms: scenario.rooms() as u64,
        connections: scenario.connections() as u64,
        seconds: scenario.seconds,
        headline: scenario.headline().key().into(),
        peers: results.peers.iter().map(|kind| peer(results, *kind)).collect(),
    }
}

fn peer(results: &Results, kind: PeerKind) -> PeerReport {
    let bases = results.bases().filter(|base| *base != kind);
    let ratios = |base| ranges(|figure| results.ratio(kind, base, figure));
    PeerReport {
        name: kind.name().into(),
        figures: ranges(|figure| results.figure(kind, figure)),
        ratios: bases.map(|base| (base.name().to_owned(), ratios(base))).collect(),
        whole: results.is_whole(kind),
        losses: losses(results.tally(kind), results.faults(kind), results.refused(kind)),
        remarks: results.remarks(kind),
        latency_curve: results.latency_curve(kind),
        rounds: results.rounds_of(kind).map(round).collect(),
    }
}

fn ranges(spread: impl Fn(Figure) -> Option<Spread>) -> BTreeMap<String, Range> {
    let range = |Spread { median, min, max }| Range { median, min, max };
    let pair = |figure: Figure| Some((figure.key().to_owned(), range(spread(figure)?)));
    Figure::ALL.into_iter().filter_map(pair).collect()
}

fn losses(tally: Tally, faults: Faults, publications_refused: u64) -> Losses {
    Losses {
        lost: tally.lost,
        duplicated: tally.duplicated,
        reordered: tally.reordered,
        strayed: tally.strayed,
        publications_refused,
        connections_unreachable: faults.unreachable,
        connections_refused: faults.refused,
        connections_closed: faults.closed,
        connections_garbled: faults.garbled,
        connections_unanswered: faults.unanswered,
    }
}

/// JSON has no infinity: a figure divided by nothing is left out.
fn round(round: &Round) -> RoundReport {
    let finite = round.figures.iter().filter(|(_, value)| value.is_finite());
    RoundReport {
        figures: finite.map(|(figure, value)| (figure.key().to_owned(), *value)).collect(),
        losses: losses(round.tally, round.faults, round.answers.refused),
        groups: round.groups.iter().map(groups::report).collect(),
        invalid: round.invalid.map(str::to_owned),
        generator_bound: round.generator_bound,
        timeline: round.timeline.iter().copied().filter(is_finite).collect(),
    }
}

/// JSON has no infinity either: a moment with one tells nothing.
fn is_finite(moment: &Moment) -> bool {
    let Moment { at_s, deliveries_per_s, server_cores, bus_cores, generator_cores, .. } = *moment;
    let rates = [at_s, deliveries_per_s, server_cores, bus_cores, generator_cores];
    let latencies = [moment.p50_ms, moment.p99_ms, moment.max_ms];
    rates.into_iter().chain(latencies.into_iter().flatten()).all(f64::is_finite)
}

fn verdict(judgement: &Judgement) -> Verdict {
    Verdict {
        limit: judgement.limit.clone(),
        scenario: judgement.scenario.clone(),
        peer: judgement.peer.name().into(),
        measured: judgement.measured,
        bound: judgement.bound,
        side: judgement.side,
        outcome: judgement.outcome,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::report::document::Side;
    use crate::report::limits::Limit;
    use crate::scenario::Scenario;
    use hdrhistogram::Histogram;

    const PEERS: [PeerKind; 4] =
        [PeerKind::Floor, PeerKind::Nchan, PeerKind::FanfareSocketIo, PeerKind::FanfarePlain];

    /// A round with everything in it: latencies that grow with the peer, a bump in every second round.
    fn lively(kind: PeerKind, number: usize) -> Round {
        let rank = PEERS.iter().position(|peer| *peer == kind).unwrap() as f64 + 1.0;
        let mut latency = Histogram::new(3).unwrap();
        for step in 1..=2_000_u64 {
            let share = step as f64 / 2_000.0;
            let tail = 0.4 / (1.000_02 - share).powf(0.35) + if share > 0.9995 { 6.0 } else { 0.0 };
            latency.record_n((rank.sqrt() * tail * 1000.0) as u64 + 30, 100).unwrap();
        }
        let moment = |tenth: usize| {
            let wave = 1.0 + 0.15 * (tenth as f64 * rank).sin();
            let bump = if tenth == 23 && number == 1 { 12.0 } else { 1.0 };
            Moment {
                at_s: (tenth + 1) as f64 / 10.0,
                deliveries_per_s: 20_000.0 * wave,
                p50_ms: (tenth != 7).then_some(rank * 0.8 * wave),
                p99_ms: (tenth != 7).then_some(rank * 2.5 * wave * bump),
                max_ms: (tenth != 7).then_some(rank * 4.0 * wave * bump),
                server_cores: 0.1 * rank * wave,
                bus_cores: if kind.is_fanfare() { 0.01 * wave } else { 0.0 },
                generator_cores: 0.12 * wave,
                server_rss_kib: 4_000 * rank as u64 + 10 * tenth as u64,
            }
        };
        let mut round = crate::report::tests::round(kind, 5.0 * rank + number as f64 * 0.3);
        round.figures.extend([(Figure::DeliveriesPerSecond, 20_000.0), (Figure::GeneratorBusy, 0.12)]);
        round.figures.extend(crate::measure::quantiles(&latency));
        round.latency = Some(latency);
        round.timeline = (0..40).map(moment).collect();
        round
    }

    /// A document of two scenarios with all that there can be.
    pub(crate) fn document() -> Document {
        let rounds: Vec<Round> =
            (0..3).flat_map(|number| PEERS.into_iter().map(move |peer| lively(peer, number))).collect();
        let scenario = |name| Scenario::named(name).unwrap();
        let mut hot = Results { scenario: scenario("f1"), peers: PEERS.to_vec(), rounds };
        hot.rounds[1].tally.lost = 3;
        hot.rounds[2].generator_bound = true;
        hot.rounds[3].invalid = Some("the generator was more than 90 % busy");
        hot.rounds[0].figures.push((Figure::ForeignCpu, f64::NAN));
        let mut resting = crate::report::tests::round(PeerKind::FanfarePlain, 1.0);
        resting.figures = vec![(Figure::RssPerConnection, 1.9), (Figure::IdleCpu, 0.61)];
        let peers = vec![PeerKind::FanfarePlain];
        let idle = Results { scenario: scenario("idle"), peers, rounds: vec![resting] };
        let limits = [
            Limit::parse_ratio("f1:nchan.p99_ms=2", Side::AtMost),
            Limit::parse_ratio("f1:floor=1.1", Side::AtMost),
            Limit::parse_figure("f1:deliveries_per_s=30000", Side::AtLeast),
            Limit::parse_figure("idle:rss_kib_per_connection=2.5", Side::AtMost),
        ];
        let all = [hot, idle];
        let judge = |limit: Result<Limit, String>| {
            let limit = limit.unwrap();
            all.iter().flat_map(|results| limit.judge(results)).collect::<Vec<_>>()
        };
        let judgements: Vec<Judgement> = limits.into_iter().flat_map(judge).collect();
        let run = Run {
            started_at: "2026-11-22T08:00:00Z".into(),
            took_s: 81.5,
            loadtest: "0.1.0".into(),
            arguments: ["run", "f1", "idle", "--fanfare-arg", "a b"].map(str::to_owned).to_vec(),
            warmup_ms: 500,
            payload_bytes: 128,
            at_once: Some(512),
            fanfare_arguments: vec!["a b".into()],
            versions: BTreeMap::from([("fanfare-plain".into(), "fanfare 0.1.0, Redis 7.0.15".into())]),
        };
        super::document(run, &all, &judgements, false)
    }

    #[test]
    fn the_document_tells_what_was_found() {
        let document = document();
        let [hot, idle] = document.scenarios.as_slice() else { panic!("two scenarios") };
        let peer = |name: &str| hot.peers.iter().find(|peer| peer.name == name).unwrap();
        let nchan = peer("nchan");
        assert_eq!((nchan.losses.lost, nchan.whole), (3, false));
        assert_eq!(nchan.remarks, ["3 lost, 0 duplicated, 0 out of order, 0 in the wrong place"]);
        assert!(nchan.ratios["floor"]["p99_ms"].median > 1.0);
        assert_eq!(nchan.latency_curve.last().unwrap().0, 0.99999);
        assert_eq!(nchan.rounds[1].timeline.len(), 40);
        assert!(!peer("floor").rounds[0].figures.contains_key("foreign_cores"), "JSON has no NaN");
        assert!(idle.peers[0].latency_curve.is_empty());
        assert!(document.limits.iter().any(|limit| limit.limit == "f1:deliveries_per_s ≥ 30000"));
    }
}
