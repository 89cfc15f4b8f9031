//! The report for people: one page that needs nothing but itself, made of the document alone.

mod axis;
mod chart;
mod palette;
mod plots;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Context;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::document::{Document, FigureName, Machine, Outcome, PeerReport, Range, ScenarioReport, Verdict};
use super::json;
use super::text::number_text;
use palette::Shade;
use plots::Plot;

/// Figures beside the headline whose ratios the table tells.
const COMPARED: [&str; 2] = ["deliveries_per_s", "p99_ms"];

/// Writes the page.
pub(crate) fn write(document: &Document, path: &Path) -> anyhow::Result<()> {
    fs::write(path, page(document)).with_context(|| format!("writing {}", path.display()))
}

/// Makes the page from a report that was written as JSON.
pub(crate) fn again(from: &Path, to: &Path) -> anyhow::Result<()> {
    write(&json::read(from)?, to)
}

fn page(document: &Document) -> String {
    let title = format!("Fan-out measured, {}", document.run.started_at);
    let style = [palette::style_sheet().as_str(), include_str!("page.css")].concat();
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width";
                title { (title) }
                style { (PreEscaped(style)) }
            }
            body {
                h1 { "Fan-out, measured side by side" }
                (verdict(document))
                (circumstances(document))
                @if !document.limits.is_empty() { (limits(&document.limits.iter().collect::<Vec<_>>())) }
                @for scenario in &document.scenarios { (section(document, scenario)) }
                (reading())
            }
        }
    };
    markup.into_string()
}

fn verdict(document: &Document) -> Markup {
    let missed = document.limits.iter().filter(|limit| !limit.outcome.holds()).count();
    let torn =
        document.scenarios.iter().flat_map(|scenario| &scenario.peers).filter(|peer| !peer.whole).count();
    let rounds =
        || document.scenarios.iter().flat_map(|scenario| &scenario.peers).flat_map(|peer| &peer.rounds);
    let void = rounds().filter(|round| round.invalid.is_some()).count();
    html! {
        p {
            @if document.ok { span.held { "ok" } } @else { span.missed { "failed" } }
            ": " (document.scenarios.len()) " scenarios, " (rounds().count()) " rounds"
            @if void > 0 { " (" (void) " not valid)" }
            "; " (document.limits.len()) " limits, " (missed) " missed; "
            @if torn == 0 { "nothing lost, duplicated or out of order" }
            @else { "not whole: " (torn) @if torn == 1 { " peer" } @else { " peers" } }
        }
    }
}

fn circumstances(document: &Document) -> Markup {
    let run = &document.run;
    let Machine { cores, cpu, kernel, memory_kib } = &document.machine;
    let facts = [
        ("began", format!("{}, took {:.0} s", run.started_at, run.took_s)),
        ("machine", format!("{cores} cores, {}", cpu.as_deref().unwrap_or("unknown CPU"))),
        ("kernel", kernel.clone().unwrap_or("unknown".into())),
        ("memory", memory_kib.map_or("unknown".into(), |kib| format!("{:.1} GiB", kib as f64 / 1_048_576.0))),
        (
            "load",
            format!(
                "payload {} bytes, warm-up {} ms{}",
                run.payload_bytes,
                run.warmup_ms,
                run.at_once
                    .map_or(String::new(), |most| format!(", {most} connections in the making at one time"))
            ),
        ),
    ];
    html! {
        pre { code { "loadtest" @for argument in &run.arguments { " " (quoted(argument)) } } }
        dl {
            @for (name, text) in facts { dt { (name) } dd { (text) } }
            dt { "generator" } dd { "loadtest " (run.loadtest) }
            @for (peer, version) in &run.versions { dt { (peer) } dd { (version) } }
        }
    }
}

/// As a shell takes it.
fn quoted(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+%@".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

fn section(document: &Document, scenario: &ScenarioReport) -> Markup {
    let of_here: Vec<&Verdict> =
        document.limits.iter().filter(|limit| limit.scenario == scenario.name).collect();
    html! {
        section id=(scenario.name) {
            h2 { (scenario.name) }
            p { (scenario.about) }
            p.soft {
                "connections: " (scenario.connections) ", rooms: "
                (scenario.rooms) ", measured per round: " (scenario.seconds) " s"
            }
            ul.legend {
                @for (index, peer) in scenario.peers.iter().enumerate() {
                    li {
                        i style={ "background:var(" (Shade::of_peer(&peer.name, index).variable()) ")" } {}
                        (peer.name)
                    }
                }
            }
            (remarks(scenario))
            div.bars { @for plot in plots::sums(document, scenario) { (chart(&plot)) } }
            div.lines { @for plot in plots::courses(scenario) { (chart(&plot)) } }
            (figures(document, scenario))
            @if !of_here.is_empty() { (limits(&of_here)) }
        }
    }
}

fn chart(plot: &Plot) -> Markup {
    html! {
        figure {
            h3 { (plot.title) @if let Some(note) = plot.note { " " small { (note) } } }
            (PreEscaped(&plot.svg))
        }
    }
}

fn remarks(scenario: &ScenarioReport) -> Markup {
    let remarked = || scenario.peers.iter().filter(|peer| !peer.remarks.is_empty());
    html! {
        @if remarked().next().is_some() {
            ul.remarks {
                @for peer in remarked() { li { (peer.name) ": " (peer.remarks.join("; ")) } }
            }
        }
    }
}

fn figures(document: &Document, scenario: &ScenarioReport) -> Markup {
    let measured =
        |figure: &&FigureName| scenario.peers.iter().any(|peer| peer.figures.contains_key(&figure.key));
    let bases: BTreeSet<&String> = scenario.peers.iter().flat_map(|peer| peer.ratios.keys()).collect();
    let compared: Vec<&FigureName> = document
        .figures
        .iter()
        .filter(|figure| figure.key == scenario.headline || COMPARED.contains(&figure.key.as_str()))
        .filter(measured)
        .collect();
    html! {
        div.wide {
            table {
                thead { tr { th { "figure" } @for peer in &scenario.peers { th { (peer.name) } } } }
                tbody {
                    @for figure in document.figures.iter().filter(measured) {
                        (row(&figure.heading, scenario, false, |peer| peer.figures.get(&figure.key)))
                    }
                    @for figure in compared {
                        @for base in &bases {
                            (row(&format!("{} ÷ {base}", figure.heading), scenario, true, |peer| {
                                peer.ratios.get(*base)?.get(&figure.key)
                            }))
                        }
                    }
                }
            }
        }
    }
}

fn row<'a>(
    name: &str,
    scenario: &'a ScenarioReport,
    ratio: bool,
    range: impl Fn(&'a PeerReport) -> Option<&'a Range>,
) -> Markup {
    html! {
        tr.ratio[ratio] {
            td { (name) }
            @for peer in &scenario.peers {
                td {
                    @match range(peer) {
                        Some(Range { median, min, max }) => {
                            (number_text(*median))
                            @if min < max { small { (number_text(*min)) "–" (number_text(*max)) } }
                        }
                        None => "–",
                    }
                }
            }
        }
    }
}

fn limits(verdicts: &[&Verdict]) -> Markup {
    let class = |outcome| match outcome {
        Outcome::Held => "held",
        Outcome::GeneratorBound => "generator-bound",
        Outcome::Missed => "missed",
    };
    html! {
        div.wide {
            table.words {
                thead { tr { th { "limit" } th { "scenario" } th { "peer" } th { "measured" } th { "" } } }
                tbody {
                    @for verdict in verdicts {
                        tr {
                            td { (verdict.limit) }
                            td { (verdict.scenario) }
                            td { (verdict.peer) }
                            td { (verdict.measured.map_or("not measured".into(), number_text)) }
                            td class=(class(verdict.outcome)) { (verdict.outcome.word()) }
                        }
                    }
                }
            }
        }
    }
}

fn reading() -> Markup {
    html! {
        h2 { "How to read this" }
        p {
            "Peers take turns, round by round, on the same work from the same generator. A figure is the median \
             of a peer's valid rounds, with the least and the most of them; a ratio is the median of the ratios \
             of rounds that ran side by side. Latency counts from the moment a publication was due, and its \
             percentiles are those of all rounds' deliveries together. Charts over time show the rounds' \
             measured parts one after another, parted by upright lines; between them the other peers had their turn."
        }
    }
}

#[cfg(test)]
mod tests;
