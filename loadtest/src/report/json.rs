//! The report for machines. A change that breaks readers raises [`SCHEMA_VERSION`].

use std::fs;

use serde_json::{Map, Value, json};

use super::limits::Judgement;
use super::{Results, Spread, groups};
use crate::measure::Round;
use crate::peers::PeerKind;
use crate::scenario::Figure;

/// Version of the document's shape.
pub(crate) const SCHEMA_VERSION: u32 = 1;

/// The whole run. Figures are named with their units; a summary's latencies are those of the deliveries of
/// all its rounds together.
pub(crate) fn document(all: &[Results], judgements: &[Judgement], ok: bool) -> Value {
    json!({
        "schema_version": SCHEMA_VERSION,
        "ok": ok,
        "machine": machine(),
        "scenarios": all.iter().map(scenario).collect::<Vec<_>>(),
        "limits": judgements.iter().map(judgement).collect::<Vec<_>>(),
    })
}

fn machine() -> Value {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    json!({ "cores": cores, "kernel": kernel.trim() })
}

fn scenario(results: &Results) -> Value {
    let scenario = &results.scenario;
    json!({
        "name": scenario.name,
        "about": scenario.about,
        "rooms": scenario.rooms(),
        "connections": scenario.connections(),
        "seconds": scenario.seconds,
        "headline": scenario.headline().key(),
        "peers": results.peers.iter().map(|kind| peer(results, *kind)).collect::<Vec<_>>(),
    })
}

fn peer(results: &Results, kind: PeerKind) -> Value {
    let mut figures = Map::new();
    for figure in Figure::ALL {
        if let Some(found) = results.figure(kind, figure) {
            figures.insert(figure.key().into(), spread(found));
        }
    }
    let mut ratios = Map::new();
    for base in results.peers.iter().filter(|base| **base != kind) {
        if let Some(found) = results.ratio(kind, *base) {
            ratios.insert(base.name().into(), spread(found));
        }
    }
    json!({
        "name": kind.name(),
        "figures": figures,
        "ratios": ratios,
        "whole": results.is_whole(kind),
        "invalid": results.invalid(kind),
        "generator_bound": results.generator_bound(kind),
        "rounds": results.rounds_of(kind).map(round).collect::<Vec<_>>(),
    })
}

fn round(round: &Round) -> Value {
    let figures: Map<String, Value> =
        round.figures.iter().map(|(figure, value)| (figure.key().into(), json!(value))).collect();
    let (tally, faults) = (round.tally, round.faults);
    json!({
        "figures": figures,
        "lost": tally.lost,
        "duplicated": tally.duplicated,
        "reordered": tally.reordered,
        "strayed": tally.strayed,
        "groups": round.groups.iter().map(groups::value).collect::<Vec<_>>(),
        "publications_refused": round.answers.refused,
        "connections": {
            "unreachable": faults.unreachable,
            "refused": faults.refused,
            "closed": faults.closed,
            "garbled": faults.garbled,
            "unanswered": faults.unanswered,
        },
        "invalid": round.invalid,
        "generator_bound": round.generator_bound,
    })
}

fn judgement(judgement: &Judgement) -> Value {
    json!({
        "limit": judgement.limit,
        "peer": judgement.peer.name(),
        "measured": judgement.measured,
        "max": judgement.max,
        "holds": judgement.holds(),
    })
}

fn spread(spread: Spread) -> Value {
    json!({ "median": spread.median, "min": spread.min, "max": spread.max })
}
