//! Thresholds that decide the exit code.

use std::fmt;

use super::Results;
use super::document::{Outcome, Side};
use crate::peers::PeerKind;
use crate::scenario::{Figure, Scenario};

/// `[SCENARIO:][PEER/]WHAT=BOUND`; without a peer, every fanfare peer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Limit {
    scenario: Option<String>,
    peer: Option<PeerKind>,
    measure: Measure,
    side: Side,
    bound: f64,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Measure {
    /// Without a figure, the scenario's headline.
    RatioTo(PeerKind, Option<Figure>),
    Figure(Figure),
}

/// How a limit came out for one peer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Judgement {
    pub(crate) limit: String,
    pub(crate) scenario: String,
    pub(crate) peer: PeerKind,
    /// `None`: could not be judged, which is a miss.
    pub(crate) measured: Option<f64>,
    pub(crate) bound: f64,
    pub(crate) side: Side,
    pub(crate) outcome: Outcome,
}

impl Judgement {
    pub(crate) fn holds(&self) -> bool {
        self.outcome.holds()
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl Limit {
    /// Parses the value of `--max-ratio` or `--min-ratio`, whose WHAT is a peer or a peer's figure.
    pub(crate) fn parse_ratio(text: &str, side: Side) -> Result<Self, String> {
        Self::parse(text, side, |what| {
            let (base, figure) = match what.split_once('.') {
                Some((base, key)) => (base, Some(figure(key)?)),
                None => (what, None),
            };
            Ok(Measure::RatioTo(peer(base)?, figure))
        })
    }

    /// Parses the value of `--max` or `--min`, whose WHAT is a figure's key.
    pub(crate) fn parse_figure(text: &str, side: Side) -> Result<Self, String> {
        Self::parse(text, side, |what| figure(what).map(Measure::Figure))
    }

    /// Whether all peers that it is about took part.
    pub(crate) fn is_measurable(&self, results: &Results) -> bool {
        let base = match self.measure {
            Measure::RatioTo(base, _) => Some(base),
            Measure::Figure(_) => None,
        };
        [base, self.peer].into_iter().flatten().all(|peer| results.peers.contains(&peer))
    }

    /// What this limit says of these results; nothing if it is about another scenario.
    pub(crate) fn judge(&self, results: &Results) -> Vec<Judgement> {
        if self.scenario.as_ref().is_some_and(|name| *name != results.scenario.name) {
            return Vec::new();
        }
        let peers: Vec<PeerKind> = match self.peer {
            Some(peer) => vec![peer],
            None => results.peers.iter().copied().filter(|peer| peer.is_fanfare()).collect(),
        };
        peers.into_iter().map(|peer| self.judge_peer(results, peer)).collect()
    }

    fn judge_peer(&self, results: &Results, peer: PeerKind) -> Judgement {
        let (spread, figure) = match self.measure {
            Measure::RatioTo(base, figure) => {
                let figure = figure.unwrap_or(results.scenario.headline());
                (results.ratio(peer, base, figure), figure)
            }
            Measure::Figure(figure) => (results.figure(peer, figure), figure),
        };
        let measured = spread.map(|spread| spread.median);
        let within = measured.is_some_and(|measured| match self.side {
            Side::AtMost => measured <= self.bound,
            Side::AtLeast => measured >= self.bound,
        });
        let generators = measured.is_some()
            && self.side == Side::AtLeast
            && figure == Figure::DeliveriesPerSecond
            && results.generator_bound(peer);
        let outcome = match (within, generators) {
            (true, _) => Outcome::Held,
            (false, true) => Outcome::GeneratorBound,
            (false, false) => Outcome::Missed,
        };
        let (limit, scenario) = (self.text.clone(), results.scenario.name.clone());
        Judgement { limit, scenario, peer, measured, bound: self.bound, side: self.side, outcome }
    }

    fn parse(
        text: &str,
        side: Side,
        measure: impl Fn(&str) -> Result<Measure, String>,
    ) -> Result<Self, String> {
        let (words, bound) = text.split_once('=').ok_or("expected [SCENARIO:][PEER/]WHAT=NUMBER")?;
        let bound: f64 = bound
            .parse()
            .ok()
            .filter(|bound: &f64| bound.is_finite())
            .ok_or(format!("{bound} is no number"))?;
        let (scenario, what) = match words.split_once(':') {
            Some((scenario, what)) => (Some(scenario), what),
            None => (None, words),
        };
        if let Some(name) = scenario.filter(|name| Scenario::named(name).is_none()) {
            return Err(format!("no scenario is named {name}"));
        }
        let (of, what) = match what.split_once('/') {
            Some((name, what)) => (Some(peer(name)?), what),
            None => (None, what),
        };
        let comparison = match side {
            Side::AtMost => "≤",
            Side::AtLeast => "≥",
        };
        Ok(Self {
            scenario: scenario.map(str::to_owned),
            peer: of,
            measure: measure(what)?,
            side,
            bound,
            text: format!("{words} {comparison} {bound}"),
        })
    }
}

fn peer(name: &str) -> Result<PeerKind, String> {
    PeerKind::parse(name).ok_or_else(|| format!("no peer is named {name}"))
}

fn figure(key: &str) -> Result<Figure, String> {
    let keys = || Figure::ALL.map(Figure::key).join(", ");
    Figure::parse(key).ok_or_else(|| format!("no figure is named {key}; there are {}", keys()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{results, round};
    use Side::{AtLeast, AtMost};

    fn judged(limit: Result<Limit, String>, results: &Results) -> Outcome {
        let limit = limit.unwrap();
        let judged = limit.judge(results);
        assert_eq!(judged.len(), 1, "{}", limit.text);
        judged[0].outcome
    }

    fn four_rounds() -> Results {
        results(vec![
            round(PeerKind::Floor, 5.0),
            round(PeerKind::Nchan, 6.0),
            round(PeerKind::Floor, 5.0),
            round(PeerKind::Nchan, 8.0),
        ])
    }

    #[test]
    fn a_limit_is_held_or_missed_by_the_median() {
        let results = four_rounds();
        let outcome = |text: &str, side| judged(Limit::parse_ratio(text, side), &results);
        assert_eq!(outcome("nchan/floor=1.41", AtMost), Outcome::Held);
        assert_eq!(outcome("f1:nchan/floor=1.39", AtMost), Outcome::Missed);
        assert_eq!(outcome("nchan/floor=1.39", AtLeast), Outcome::Held);
        assert_eq!(outcome("nchan/floor=1.41", AtLeast), Outcome::Missed);
        assert_eq!(outcome("fanfare-plain/floor=100", AtMost), Outcome::Missed, "not measured is a miss");
        assert!(Limit::parse_ratio("f8:nchan/floor=1", AtMost).unwrap().judge(&results).is_empty());
        let figure = |bound, side| {
            judged(Limit::parse_figure(&format!("nchan/cpu_us_per_delivery={bound}"), side), &results)
        };
        assert_eq!((figure(7, AtMost), figure(6, AtMost)), (Outcome::Held, Outcome::Missed));
        assert_eq!((figure(7, AtLeast), figure(8, AtLeast)), (Outcome::Held, Outcome::Missed));
    }

    #[test]
    fn a_ratio_may_be_of_another_figure_than_the_headline() {
        let mut results = four_rounds();
        for round in &mut results.rounds {
            let rate = if round.peer == PeerKind::Nchan { 900.0 } else { 300.0 };
            round.figures.push((Figure::DeliveriesPerSecond, rate));
        }
        let outcome = |text: &str, side| judged(Limit::parse_ratio(text, side), &results);
        assert_eq!(outcome("nchan/floor.deliveries_per_s=3", AtLeast), Outcome::Held);
        assert_eq!(outcome("f1:nchan/floor.deliveries_per_s=3.1", AtLeast), Outcome::Missed);
        assert_eq!(outcome("nchan/floor.p99_ms=1", AtMost), Outcome::Missed, "nothing was timed");
    }

    #[test]
    fn a_rate_that_was_the_generators_is_told_from_a_servers() {
        let mut results = four_rounds();
        for round in &mut results.rounds {
            round.figures.push((Figure::DeliveriesPerSecond, 100.0));
            round.generator_bound = round.peer == PeerKind::Nchan;
        }
        let limit = |text: &str| Limit::parse_figure(text, AtLeast);
        assert_eq!(judged(limit("nchan/deliveries_per_s=200"), &results), Outcome::GeneratorBound);
        assert_eq!(judged(limit("nchan/deliveries_per_s=100"), &results), Outcome::Held);
        assert_eq!(judged(limit("floor/deliveries_per_s=200"), &results), Outcome::Missed);
        let most = Limit::parse_figure("nchan/deliveries_per_s=50", AtMost);
        assert_eq!(judged(most, &results), Outcome::Missed, "too much is nobody's excuse");
        assert_eq!(judged(limit("nchan/cpu_us_per_delivery=900"), &results), Outcome::Missed);
    }

    #[test]
    fn a_limit_can_be_judged_where_its_peers_took_part() {
        let results = results(vec![round(PeerKind::Floor, 5.0), round(PeerKind::Nchan, 6.0)]);
        let measurable = |text: &str| Limit::parse_ratio(text, Side::AtMost).unwrap().is_measurable(&results);
        assert!(measurable("nchan=1") && measurable("nchan/floor=1"));
        assert!(!measurable("fanfare-sio=1") && !measurable("fanfare-sio/nchan=1"));
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for text in [
            "floor",
            "floor=x",
            "floor=NaN",
            "flor=1",
            "f9:floor=1",
            "me/floor=1",
            "floor.speed=1",
            "floor.=1",
        ] {
            assert!(Limit::parse_ratio(text, AtMost).is_err(), "{text}");
        }
        assert!(Limit::parse_figure("speed=1", AtLeast).is_err());
    }
}
