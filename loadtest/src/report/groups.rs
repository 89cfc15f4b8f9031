//! What each group of a scenario got, where there are several.

use hdrhistogram::Histogram;

use super::Results;
use super::document::GroupReport;
use crate::ledger::latencies;
use crate::measure::{GroupRound, quantiles};
use crate::peers::PeerKind;

/// The quantiles that a table has room for.
const SHOWN: [(&str, f64); 4] = [("p50", 0.5), ("p99", 0.99), ("p99.99", 0.9999), ("max", 1.0)];

/// Rows of a table: a heading, and for each peer its milliseconds. Nothing for one group, whose latencies
/// are the scenario's.
pub(super) fn rows(results: &Results) -> Vec<(String, Vec<Option<f64>>)> {
    let groups = &results.scenario.groups;
    if groups.len() < 2 {
        return Vec::new();
    }
    let mut rows = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        let merged: Vec<_> = results.peers.iter().map(|peer| latency(results, *peer, index)).collect();
        for (name, quantile) in SHOWN {
            let at = |latency: &Histogram<u64>| latency.value_at_quantile(quantile) as f64 / 1000.0;
            let cells = merged.iter().map(|latency| latency.as_ref().map(at)).collect();
            rows.push((format!("{} {name} ms", group.name), cells));
        }
    }
    rows
}

/// One round's group.
pub(super) fn report(group: &GroupRound) -> GroupReport {
    let figures = group.latency.iter().flat_map(quantiles);
    GroupReport {
        name: group.name.clone(),
        deliveries: group.deliveries,
        figures: figures.map(|(figure, value)| (figure.key().to_owned(), value)).collect(),
        lost: group.tally.lost,
        duplicated: group.tally.duplicated,
        reordered: group.tally.reordered,
        strayed: group.tally.strayed,
    }
}

fn latency(results: &Results, peer: PeerKind, group: usize) -> Option<Histogram<u64>> {
    let mut merged = latencies();
    for round in results.valid(peer) {
        if let Some(latency) = round.groups.get(group).and_then(|group| group.latency.as_ref()) {
            merged.add(latency).expect("all have the same bounds");
        }
    }
    (!merged.is_empty()).then_some(merged)
}
