//! Thresholds that decide the exit code.

use std::fmt;

use super::Results;
use crate::peers::PeerKind;
use crate::scenario::{Figure, Scenario};

/// `[SCENARIO:][PEER/]WHAT=MAX`; without a peer, every fanfare peer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Limit {
    scenario: Option<String>,
    peer: Option<PeerKind>,
    measure: Measure,
    max: f64,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Measure {
    RatioTo(PeerKind),
    Figure(Figure),
}

/// How a limit came out for one peer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Judgement {
    pub(crate) limit: String,
    pub(crate) peer: PeerKind,
    /// `None`: could not be judged, which is a miss.
    pub(crate) measured: Option<f64>,
    pub(crate) max: f64,
}

impl Judgement {
    pub(crate) fn holds(&self) -> bool {
        self.measured.is_some_and(|measured| measured <= self.max)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl Limit {
    /// Parses the value of `--max-ratio`, whose WHAT is a peer.
    pub(crate) fn parse_ratio(text: &str) -> Result<Self, String> {
        Self::parse(text, |what| {
            PeerKind::parse(what).map(Measure::RatioTo).ok_or_else(|| format!("no peer is named {what}"))
        })
    }

    /// Parses the value of `--max`, whose WHAT is a figure's key.
    pub(crate) fn parse_figure(text: &str) -> Result<Self, String> {
        Self::parse(text, |what| {
            let keys = || Figure::ALL.map(Figure::key).join(", ");
            Figure::parse(what)
                .map(Measure::Figure)
                .ok_or_else(|| format!("no figure is named {what}; there are {}", keys()))
        })
    }

    /// Whether all peers that it is about took part.
    pub(crate) fn is_measurable(&self, results: &Results) -> bool {
        let base = match self.measure {
            Measure::RatioTo(base) => Some(base),
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
        let judge = |peer| {
            let spread = match self.measure {
                Measure::RatioTo(base) => results.ratio(peer, base),
                Measure::Figure(figure) => results.figure(peer, figure),
            };
            let measured = spread.map(|spread| spread.median);
            Judgement { limit: self.text.clone(), peer, measured, max: self.max }
        };
        peers.into_iter().map(judge).collect()
    }

    fn parse(text: &str, measure: impl Fn(&str) -> Result<Measure, String>) -> Result<Self, String> {
        let (what, max) = text.split_once('=').ok_or("expected [SCENARIO:][PEER/]WHAT=MAX")?;
        let max: f64 = max.parse().map_err(|_| format!("{max} is no number"))?;
        let (scenario, what) = match what.split_once(':') {
            Some((scenario, what)) => (Some(scenario), what),
            None => (None, what),
        };
        if let Some(name) = scenario.filter(|name| Scenario::named(name).is_none()) {
            return Err(format!("no scenario is named {name}"));
        }
        let (peer, what) = match what.split_once('/') {
            Some((peer, what)) => {
                (Some(PeerKind::parse(peer).ok_or_else(|| format!("no peer is named {peer}"))?), what)
            }
            None => (None, what),
        };
        let scenario = scenario.map(str::to_owned);
        Ok(Self { scenario, peer, measure: measure(what)?, max, text: text.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{results, round};

    #[test]
    fn a_limit_is_held_or_missed_by_the_median() {
        let results = results(vec![
            round(PeerKind::Floor, 5.0),
            round(PeerKind::Nchan, 6.0),
            round(PeerKind::Floor, 5.0),
            round(PeerKind::Nchan, 8.0),
        ]);
        let holds = |text: &str| {
            let judged = Limit::parse_ratio(text).unwrap().judge(&results);
            assert_eq!(judged.len(), 1, "{text}");
            judged[0].holds()
        };
        assert!(holds("nchan/floor=1.41"));
        assert!(!holds("f1:nchan/floor=1.39"));
        assert!(!holds("fanfare-plain/floor=100"), "not measured is a miss");
        assert!(Limit::parse_ratio("f8:nchan/floor=1").unwrap().judge(&results).is_empty());
        let figure = Limit::parse_figure("nchan/cpu_us_per_delivery=7").unwrap().judge(&results);
        assert!(figure[0].holds());
    }

    #[test]
    fn a_limit_can_be_judged_where_its_peers_took_part() {
        let results = results(vec![round(PeerKind::Floor, 5.0), round(PeerKind::Nchan, 6.0)]);
        let measurable = |text: &str| Limit::parse_ratio(text).unwrap().is_measurable(&results);
        assert!(measurable("nchan=1") && measurable("nchan/floor=1"));
        assert!(!measurable("fanfare-sio=1") && !measurable("fanfare-sio/nchan=1"));
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for text in ["floor", "floor=x", "flor=1", "f9:floor=1", "me/floor=1"] {
            assert!(Limit::parse_ratio(text).is_err(), "{text}");
        }
        assert!(Limit::parse_figure("speed=1").is_err());
    }
}
