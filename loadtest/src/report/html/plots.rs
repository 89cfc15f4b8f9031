//! Which charts a scenario gets.

use super::axis::Scale;
use super::chart::{Bar, Frame, Line, bars, lines};
use super::palette::Shade;
use crate::report::document::{Document, FigureName, PeerReport, ScenarioReport};
use crate::timeline::Moment;

/// Figures that get no bars of their own: the percentile curve and the table tell them.
const WITHOUT_BARS: [&str; 6] =
    ["p90_ms", "p999_ms", "p9999_ms", "max_ms", "generator_busy", "foreign_cores"];
const SECONDS: (&str, Scale) = ("seconds of load", Scale::Time);

/// A chart in its place.
#[derive(Debug)]
pub(super) struct Plot {
    pub(super) title: String,
    pub(super) note: Option<&'static str>,
    pub(super) svg: String,
}

type Value = fn(&Moment) -> Option<f64>;

/// A chart over time.
struct OverTime {
    title: &'static str,
    note: Option<&'static str>,
    up: (&'static str, Scale),
    /// Thick lines.
    value: Value,
    /// Thin ones below.
    lesser: Option<Value>,
}

const OVER_TIME: [OverTime; 6] = [
    OverTime {
        title: "Latency over time",
        note: Some("thick p99, thin p50"),
        up: ("ms", Scale::Log),
        value: |slice| slice.p99_ms,
        lesser: Some(|slice| slice.p50_ms),
    },
    OverTime {
        title: "Deliveries over time",
        note: None,
        up: ("per second", Scale::Linear),
        value: |slice| Some(slice.deliveries_per_s),
        lesser: None,
    },
    OverTime {
        title: "CPU of the server over time",
        note: None,
        up: ("cores", Scale::Linear),
        value: |slice| Some(slice.server_cores),
        lesser: None,
    },
    OverTime {
        title: "CPU of the bus over time",
        note: Some("of peers that have one"),
        up: ("cores", Scale::Linear),
        value: |slice| Some(slice.bus_cores).filter(|cores| *cores > 0.0),
        lesser: None,
    },
    OverTime {
        title: "CPU of the generator over time",
        note: Some("near 1 it measures itself"),
        up: ("cores", Scale::Linear),
        value: |slice| Some(slice.generator_cores),
        lesser: None,
    },
    OverTime {
        title: "Resident memory over time",
        note: Some("of the server"),
        up: ("MiB", Scale::Linear),
        value: |slice| Some(slice.server_rss_kib as f64 / 1024.0),
        lesser: None,
    },
];

/// Bars of the headline figure, then of the others.
pub(super) fn sums(document: &Document, scenario: &ScenarioReport) -> Vec<Plot> {
    let is_headline = |figure: &&FigureName| figure.key == scenario.headline;
    let others = document
        .figures
        .iter()
        .filter(|figure| figure.key != scenario.headline && !WITHOUT_BARS.contains(&figure.key.as_str()));
    let plot = |figure: &FigureName| {
        let svg = bars(&bars_of(scenario, &figure.key))?;
        let note = (figure.key == scenario.headline).then_some("what peers are compared by");
        Some(Plot { title: figure.heading.clone(), note, svg })
    };
    document.figures.iter().filter(is_headline).chain(others).filter_map(plot).collect()
}

/// The percentile curve and charts over time, those that have something to show.
pub(super) fn courses(scenario: &ScenarioReport) -> Vec<Plot> {
    let begins = rounds(scenario);
    let over_time = |OverTime { title, note, up, value, lesser }: OverTime| {
        let frame = Frame { across: SECONDS, up, parts: begins[1..begins.len() - 1].to_vec() };
        let thin = lesser.map(|value| timelines(scenario, &begins, value, true));
        let all = [thin.unwrap_or_default(), timelines(scenario, &begins, value, false)].concat();
        Some(Plot { title: title.into(), note, svg: lines(&frame, &all)? })
    };
    percentiles(scenario).into_iter().chain(OVER_TIME.into_iter().filter_map(over_time)).collect()
}

fn bars_of<'a>(scenario: &'a ScenarioReport, key: &str) -> Vec<Bar<'a>> {
    let bar = |(index, peer): (usize, &'a PeerReport)| {
        let shade = Shade::of_peer(&peer.name, index);
        Some(Bar { name: &peer.name, shade, range: *peer.figures.get(key)? })
    };
    scenario.peers.iter().enumerate().filter_map(bar).collect()
}

fn percentiles(scenario: &ScenarioReport) -> Option<Plot> {
    let line = |(index, peer): (usize, &PeerReport)| Line {
        shade: Shade::of_peer(&peer.name, index),
        thin: false,
        points: peer.latency_curve.iter().copied().map(Some).collect(),
    };
    let curves: Vec<Line> = scenario.peers.iter().enumerate().map(line).collect();
    let frame = Frame { across: ("percentile", Scale::Nines), up: ("ms", Scale::Log), parts: Vec::new() };
    let svg = lines(&frame, &curves)?;
    Some(Plot { title: "Latency by percentile".into(), note: Some("all rounds"), svg })
}

/// Where rounds begin when they are laid one after another, and where the last one ends, in seconds. The
/// longest of a number makes room for all of it, so that what ran side by side stands side by side.
fn rounds(scenario: &ScenarioReport) -> Vec<f64> {
    let most = scenario.peers.iter().map(|peer| peer.rounds.len()).max().unwrap_or(0);
    let mut begins = vec![0.0];
    for number in 0..most.max(1) {
        let rounds = scenario.peers.iter().filter_map(|peer| peer.rounds.get(number));
        let longest =
            rounds.filter_map(|round| round.timeline.last()).map(|slice| slice.at_s).fold(0.0, f64::max);
        begins.push(begins[number] + longest);
    }
    begins
}

fn timelines(scenario: &ScenarioReport, begins: &[f64], value: Value, thin: bool) -> Vec<Line> {
    let line = |(index, peer): (usize, &PeerReport)| {
        let mut points = Vec::new();
        for (round, begin) in peer.rounds.iter().zip(begins) {
            points.extend(round.timeline.iter().map(|slice| Some((begin + slice.at_s, value(slice)?))));
            points.push(None);
        }
        Line { shade: Shade::of_peer(&peer.name, index), thin, points }
    };
    scenario.peers.iter().enumerate().map(line).collect()
}
