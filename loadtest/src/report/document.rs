//! The report's document: what the JSON file holds and what the page is made from. A change that breaks
//! readers raises [`SCHEMA_VERSION`]; `report.schema.json` is made from these types.

use std::collections::BTreeMap;

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::timeline::Moment;

/// Version of the document's shape.
pub(crate) const SCHEMA_VERSION: u32 = 2;

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    pub(crate) schema_version: u32,
    /// No limit missed; and of fanfare or the server given, nothing lost, duplicated or out of order and every
    /// connection there. What others lose is in their own part.
    pub(crate) ok: bool,
    pub(crate) run: Run,
    pub(crate) machine: Machine,
    /// Figures by the key they have below, in the order of telling.
    pub(crate) figures: Vec<FigureName>,
    pub(crate) scenarios: Vec<ScenarioReport>,
    pub(crate) limits: Vec<Verdict>,
}

/// When and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Run {
    /// RFC 3339, UTC.
    pub(crate) started_at: String,
    pub(crate) took_s: f64,
    /// Version of the load generator.
    pub(crate) loadtest: String,
    /// Arguments of the command line, the program left out.
    pub(crate) arguments: Vec<String>,
    /// Load before the measured part of a round.
    pub(crate) warmup_ms: u64,
    /// Bytes of a publication's payload.
    pub(crate) payload_bytes: u64,
    /// Connections in the making at one time; absent: the scenario's own.
    pub(crate) at_once: Option<u64>,
    /// Further arguments of fanfare.
    pub(crate) fanfare_arguments: Vec<String>,
    /// Versions of the servers measured, by peer, where they are known.
    pub(crate) versions: BTreeMap<String, String>,
}

/// On what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Machine {
    pub(crate) cores: u64,
    pub(crate) cpu: Option<String>,
    pub(crate) kernel: Option<String>,
    pub(crate) memory_kib: Option<u64>,
}

/// How a figure is called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct FigureName {
    pub(crate) key: String,
    /// With its unit.
    pub(crate) heading: String,
}

/// One scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct ScenarioReport {
    pub(crate) name: String,
    pub(crate) about: String,
    pub(crate) rooms: u64,
    pub(crate) connections: u64,
    /// Measured part of a round.
    pub(crate) seconds: u64,
    /// Key of the figure that peers are compared by.
    pub(crate) headline: String,
    pub(crate) peers: Vec<PeerReport>,
}

/// One peer in one scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct PeerReport {
    pub(crate) name: String,
    /// By key, over the valid rounds. Latencies' medians are the percentiles of all rounds' deliveries
    /// together.
    pub(crate) figures: BTreeMap<String, Range>,
    /// By base (each peer that is not fanfare), then by key: this peer's figure divided by the base's,
    /// round by round.
    pub(crate) ratios: BTreeMap<String, BTreeMap<String, Range>>,
    /// Every connection was there and got everything, once and in order.
    pub(crate) whole: bool,
    /// Of all rounds.
    pub(crate) losses: Losses,
    pub(crate) remarks: Vec<String>,
    /// Pairs of a quantile (0 to 0.99999, ever finer) and the milliseconds it took, over the valid rounds;
    /// no finer than the deliveries are many.
    pub(crate) latency_curve: Vec<(f64, f64)>,
    pub(crate) rounds: Vec<RoundReport>,
}

/// Of several rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Range {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// What went wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Losses {
    /// Deliveries that never came.
    pub(crate) lost: u64,
    /// Deliveries that came again.
    pub(crate) duplicated: u64,
    /// Deliveries that came behind a later one.
    pub(crate) reordered: u64,
    /// Deliveries to a member of another room.
    pub(crate) strayed: u64,
    pub(crate) publications_refused: u64,
    pub(crate) connections_unreachable: u64,
    pub(crate) connections_refused: u64,
    pub(crate) connections_closed: u64,
    pub(crate) connections_garbled: u64,
    pub(crate) connections_unanswered: u64,
}

/// One round of a peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct RoundReport {
    /// By key.
    pub(crate) figures: BTreeMap<String, f64>,
    pub(crate) losses: Losses,
    pub(crate) groups: Vec<GroupReport>,
    /// Why the figures must not be used.
    pub(crate) invalid: Option<String>,
    /// The generator was the slower side: the rate is its own.
    pub(crate) generator_bound: bool,
    pub(crate) timeline: Vec<Moment>,
}

/// A group of rooms in a round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupReport {
    pub(crate) name: String,
    pub(crate) deliveries: u64,
    /// Latencies by key.
    pub(crate) figures: BTreeMap<String, f64>,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) reordered: u64,
    pub(crate) strayed: u64,
}

/// How a limit came out for one peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub(crate) struct Verdict {
    /// In the words of the command line, with its comparison.
    pub(crate) limit: String,
    pub(crate) scenario: String,
    pub(crate) peer: String,
    /// Absent: could not be judged, which is a miss.
    pub(crate) measured: Option<f64>,
    pub(crate) bound: f64,
    pub(crate) side: Side,
    pub(crate) outcome: Outcome,
}

/// On which side of its bound a measured value has to be; the bound itself is within.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Side {
    AtMost,
    AtLeast,
}

/// What became of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    Held,
    /// The rate fell short, but it was the generator's and not the server's.
    GeneratorBound,
    Missed,
}

impl Outcome {
    pub(crate) fn holds(self) -> bool {
        self != Self::Missed
    }

    /// The word for people.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Held => "holds",
            Self::GeneratorBound => "generator-bound",
            Self::Missed => "MISSED",
        }
    }
}
