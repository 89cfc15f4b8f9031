//! The summary on the terminal.

use std::fmt::Write;

use super::{Results, Spread, groups};
use crate::measure::Round;
use crate::peers::PeerKind;
use crate::scenario::{Figure, Scenario};

/// One line for the end of a round.
pub(crate) fn progress(results: &Results, round: &Round, number: usize, of: usize) -> String {
    let figure = results.scenario.headline();
    let value = round.figure(figure).map_or("–".into(), number_text);
    let fault = round.invalid.map_or(String::new(), |reason| format!(", not valid: {reason}"));
    format!(
        "{} round {number}/{of} {}: {value} {}{fault}",
        results.scenario.name,
        round.peer.name(),
        figure.heading()
    )
}

/// A table of a scenario's figures, peers as columns, with what is wrong below it.
pub(crate) fn table(results: &Results) -> String {
    let mut rows = vec![heading(results)];
    for figure in Figure::ALL {
        let cells: Vec<Option<Spread>> =
            results.peers.iter().map(|peer| results.figure(*peer, figure)).collect();
        if cells.iter().any(Option::is_some) {
            rows.push(row(figure.heading().into(), &cells));
        }
    }
    for (name, cells) in groups::rows(results) {
        let one = |value: Option<f64>| value.map(|median| Spread { median, min: median, max: median });
        rows.push(row(name, &cells.into_iter().map(one).collect::<Vec<_>>()));
    }
    let headline = results.scenario.headline();
    for base in results.bases() {
        let of = |peer: &PeerKind| results.ratio(*peer, base, headline).filter(|_| *peer != base);
        let cells: Vec<_> = results.peers.iter().map(of).collect();
        if cells.iter().any(Option::is_some) {
            rows.push(row(format!("÷ {}", base.name()), &cells));
        }
    }
    let scenario = &results.scenario;
    let mut out = format!("\n{}: {}\n", scenario.name, scenario.about);
    if Scenario::named(&scenario.name).is_some_and(|usual| usual.connections() != scenario.connections()) {
        writeln!(out, "  here: {} connections, {} rooms", scenario.connections(), scenario.rooms())
            .expect("a String takes every write");
    }
    align(&rows, &mut out);
    for peer in &results.peers {
        remarks(results, *peer, &mut out);
    }
    out
}

fn heading(results: &Results) -> Vec<String> {
    let rounds = results.rounds.len() / results.peers.len().max(1);
    let mut heading = vec![format!("median of {rounds} (min–max)")];
    heading.extend(results.peers.iter().map(|peer| peer.name().to_owned()));
    heading
}

fn row(name: String, cells: &[Option<Spread>]) -> Vec<String> {
    let mut row = vec![name];
    row.extend(cells.iter().map(|cell| cell.map_or("–".into(), spread_text)));
    row
}

fn remarks(results: &Results, peer: PeerKind, out: &mut String) {
    let remarks = results.remarks(peer);
    if !remarks.is_empty() {
        writeln!(out, "  {}: {}", peer.name(), remarks.join("; ")).expect("a String takes every write");
    }
}

fn align(rows: &[Vec<String>], out: &mut String) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            if column == 0 {
                write!(out, "  {cell:<width$}").expect("a String takes every write");
            } else {
                write!(out, "  {cell:>width$}").expect("a String takes every write");
            }
        }
        out.push('\n');
    }
}

fn spread_text(spread: Spread) -> String {
    let Spread { median, min, max } = spread;
    if min == max && min == median {
        return number_text(median);
    }
    format!("{} ({}–{})", number_text(median), number_text(min), number_text(max))
}

/// Three digits are what such measurements hold.
pub(crate) fn number_text(value: f64) -> String {
    match value.abs() {
        10_000.0.. => grouped(&format!("{value:.0}")),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// With a comma between thousands.
fn grouped(digits: &str) -> String {
    let mut out = String::new();
    for (index, digit) in digits.char_indices() {
        let rest = digits.len() - index;
        if rest.is_multiple_of(3) && out.ends_with(|c: char| c.is_ascii_digit()) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{results, round};

    #[test]
    fn the_table_tells_ratios_and_losses() {
        let mut lossy = round(PeerKind::Nchan, 12.0);
        lossy.tally.lost = 7;
        let text = table(&results(vec![round(PeerKind::Floor, 6.0), lossy]));
        assert!(text.contains("÷ floor"), "{text}");
        assert!(text.contains("2.00"), "{text}");
        assert!(text.contains("÷ nchan") && text.contains("0.50"), "every base has its row: {text}");
        assert!(!text.contains("p99 ms"), "figures without values have none: {text}");
        assert!(text.contains("nchan: 7 lost, 0 duplicated, 0 out of order"), "{text}");
    }

    #[test]
    fn numbers_have_the_digits_that_measurements_hold() {
        let cases = [(0.1234, "0.12"), (12.34, "12.3"), (1234.5, "1234"), (45_678.9, "45,679")];
        for (value, text) in cases {
            assert_eq!(number_text(value), text);
        }
        assert_eq!(number_text(1_234_567.0), "1,234,567");
        assert_eq!(number_text(-234_567.0), "-234,567");
    }
}
