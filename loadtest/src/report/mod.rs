//! What the rounds of a scenario add up to, and how it is told.

pub(crate) mod document;
pub(crate) mod gather;
mod groups;
pub(crate) mod html;
pub(crate) mod json;
pub(crate) mod limits;
mod machine;
pub(crate) mod text;

use hdrhistogram::Histogram;

use crate::faults::Faults;
use crate::measure::{Round, quantiles};
use crate::oracle::Tally;
use crate::peers::PeerKind;
use crate::scenario::{Figure, Scenario};

/// A machine on which something else does more than this is no quiet one.
const FOREIGN_CORES: f64 = 0.3;
/// The finest step of a latency curve is one of so many.
const CURVE_PARTS: u64 = 100_000;

/// All rounds of one scenario, in the order in which they ran: each peer once, then each again.
#[derive(Debug)]
pub(crate) struct Results {
    pub(crate) scenario: Scenario,
    pub(crate) peers: Vec<PeerKind>,
    pub(crate) rounds: Vec<Round>,
}

/// Of several rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` of nothing.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.retain(|value| value.is_finite());
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        let median = if values.len() % 2 == 1 { upper } else { (values[middle - 1] + upper) / 2.0 };
        Some(Self { median, min: values[0], max: values[values.len() - 1] })
    }
}

impl Results {
    pub(crate) fn rounds_of(&self, peer: PeerKind) -> impl Iterator<Item = &Round> {
        self.rounds.iter().filter(move |round| round.peer == peer)
    }

    /// Whom the others are compared with.
    pub(crate) fn bases(&self) -> impl Iterator<Item = PeerKind> {
        self.peers.iter().copied().filter(|peer| !peer.is_fanfare())
    }

    /// A figure over a peer's valid rounds. Latencies come from all of them in one histogram: percentiles
    /// have no median.
    pub(crate) fn figure(&self, peer: PeerKind, figure: Figure) -> Option<Spread> {
        let of_rounds = Spread::of(self.valid(peer).filter_map(|round| round.figure(figure)).collect())?;
        if figure.quantile().is_none() {
            return Some(of_rounds);
        }
        let merged = self.latency(peer)?;
        let median = quantiles(&merged).find(|pair| pair.0 == figure)?.1;
        Some(Spread { median, ..of_rounds })
    }

    /// A peer's figure by another's, round by round.
    pub(crate) fn ratio(&self, peer: PeerKind, base: PeerKind, figure: Figure) -> Option<Spread> {
        let pairs = self.rounds_of(peer).zip(self.rounds_of(base));
        let valid = pairs.filter(|(round, base)| round.invalid.is_none() && base.invalid.is_none());
        Spread::of(
            valid.filter_map(|(round, base)| Some(round.figure(figure)? / base.figure(figure)?)).collect(),
        )
    }

    pub(crate) fn tally(&self, peer: PeerKind) -> Tally {
        let mut all = Tally::default();
        for round in self.rounds_of(peer) {
            all += round.tally;
        }
        all
    }

    pub(crate) fn faults(&self, peer: PeerKind) -> Faults {
        let mut all = Faults::default();
        for round in self.rounds_of(peer) {
            all += round.faults;
        }
        all
    }

    /// Publications that the server, or the bus before it, did not take.
    pub(crate) fn refused(&self, peer: PeerKind) -> u64 {
        self.rounds_of(peer).map(|round| round.answers.refused).sum()
    }

    /// Why some of a peer's rounds do not count.
    pub(crate) fn invalid(&self, peer: PeerKind) -> Option<&'static str> {
        self.rounds_of(peer).find_map(|round| round.invalid)
    }

    pub(crate) fn generator_bound(&self, peer: PeerKind) -> bool {
        self.rounds_of(peer).any(|round| round.generator_bound)
    }

    /// Whether every connection of a peer was there and got everything, once and in order.
    pub(crate) fn is_whole(&self, peer: PeerKind) -> bool {
        self.tally(peer).is_clean() && self.faults(peer).total() == 0
    }

    /// What is to be known beside the figures.
    pub(crate) fn remarks(&self, peer: PeerKind) -> Vec<String> {
        let mut remarks = Vec::new();
        let (tally, faults) = (self.tally(peer), self.faults(peer));
        if !tally.is_clean() {
            remarks.push(format!(
                "{} lost, {} duplicated, {} out of order, {} in the wrong place",
                tally.lost, tally.duplicated, tally.reordered, tally.strayed
            ));
        }
        if faults.total() > 0 {
            remarks.push(format!(
                "{} connections unreachable, {} refused, {} closed, {} garbled, {} unanswered",
                faults.unreachable, faults.refused, faults.closed, faults.garbled, faults.unanswered
            ));
        }
        match self.refused(peer) {
            0 => {}
            refused => remarks.push(format!("{refused} publications refused")),
        }
        if let Some(reason) = self.invalid(peer) {
            remarks.push(format!("result not valid: {reason}"));
        } else if self.generator_bound(peer) {
            remarks.push("generator-bound: the rate is the generator's".into());
        }
        if let Some(foreign) = self.figure(peer, Figure::ForeignCpu).filter(|it| it.median > FOREIGN_CORES) {
            remarks.push(format!("something else used {:.1} cores", foreign.median));
        }
        remarks
    }

    /// Pairs of a quantile and its latency in milliseconds: nine to each tenth of the rest, from the
    /// shortest to 0.99999, but none that stands for less than one delivery.
    pub(crate) fn latency_curve(&self, peer: PeerKind) -> Vec<(f64, f64)> {
        let Some(latency) = self.latency(peer) else { return Vec::new() };
        let rest =
            [10_000, 1_000, 100, 10, 1].into_iter().flat_map(|unit| (2..=10).rev().map(move |n| n * unit));
        rest.chain([1])
            .take_while(|rest| rest * latency.len() >= CURVE_PARTS)
            .map(|rest| (CURVE_PARTS - rest) as f64 / CURVE_PARTS as f64)
            .map(|quantile| (quantile, latency.value_at_quantile(quantile) as f64 / 1000.0))
            .collect()
    }

    fn valid(&self, peer: PeerKind) -> impl Iterator<Item = &Round> {
        self.rounds_of(peer).filter(|round| round.invalid.is_none())
    }

    fn latency(&self, peer: PeerKind) -> Option<Histogram<u64>> {
        let mut histograms = self.valid(peer).filter_map(|round| round.latency.as_ref());
        let mut merged = histograms.next()?.clone();
        for histogram in histograms {
            merged.add(histogram).expect("all have the same bounds");
        }
        Some(merged)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::publish::Answers;

    /// A round of f1 with that CPU per delivery.
    pub(crate) fn round(peer: PeerKind, cpu: f64) -> Round {
        Round {
            peer,
            figures: vec![(Figure::CpuPerDelivery, cpu)],
            groups: Vec::new(),
            timeline: Vec::new(),
            latency: None,
            tally: Tally::default(),
            faults: Faults::default(),
            answers: Answers::default(),
            invalid: None,
            generator_bound: false,
        }
    }

    pub(crate) fn results(rounds: Vec<Round>) -> Results {
        let scenario = Scenario::named("f1").unwrap();
        Results { scenario, peers: vec![PeerKind::Floor, PeerKind::Nchan], rounds }
    }

    #[test]
    fn ratios_pair_rounds_and_leave_out_invalid_ones() {
        use PeerKind::{Floor, Nchan};
        let mut void = round(Nchan, 900.0);
        void.invalid = Some("busy");
        let results = results(vec![
            round(Floor, 1.0),
            round(Nchan, 2.0),
            round(Floor, 10.0),
            round(Nchan, 40.0),
            round(Floor, 1.0),
            void,
            round(Floor, 2.0),
            round(Nchan, 6.0),
        ]);
        assert_eq!(
            results.ratio(Nchan, Floor, Figure::CpuPerDelivery),
            Some(Spread { median: 3.0, min: 2.0, max: 4.0 })
        );
        assert_eq!(results.figure(Nchan, Figure::CpuPerDelivery).unwrap().median, 6.0);
        assert_eq!(results.ratio(Nchan, PeerKind::FanfarePlain, Figure::CpuPerDelivery), None);
        assert_eq!(results.invalid(Nchan), Some("busy"));
    }

    #[test]
    fn an_even_count_has_a_median_between() {
        assert_eq!(Spread::of(vec![4.0, 1.0, 3.0, 2.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of(vec![f64::NAN]), None);
    }

    #[test]
    fn a_latency_curve_is_as_fine_as_its_deliveries() {
        let mut one = round(PeerKind::Floor, 1.0);
        let mut histogram = Histogram::new(3).unwrap();
        (1..=1_000).for_each(|ms| histogram.record(ms * 1_000).unwrap());
        one.latency = Some(histogram);
        let results = results(vec![one]);
        let curve = results.latency_curve(PeerKind::Floor);
        assert_eq!((curve[0].0, curve[5].0, curve.last().unwrap().0), (0.0, 0.5, 0.999));
        assert!((curve[5].1 - 500.0).abs() < 1.0, "{curve:?}");
        assert!(curve.is_sorted());
        assert!(results.latency_curve(PeerKind::Nchan).is_empty());
    }
}
