//! `cargo xtask costs`: what the single steps of a publication and of a membership cost in user space.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use clap::{Arg, ArgMatches};

use crate::{Summary, process};

/// All in one build, so that nothing is compiled twice with other features.
const BENCHMARKS: [&str; 15] = [
    "bench",
    "-p",
    "fanfare-protocol",
    "--bench",
    "encode",
    "-p",
    "fanfare-broker",
    "--bench",
    "feed",
    "-p",
    "fanfare-edge",
    "--bench",
    "hub",
    "--features",
    "fanfare-edge/internals",
];

pub(crate) fn command() -> clap::Command {
    clap::Command::new("costs")
        .about("Measure encoding, the feed, memberships and outboxes one by one")
        .long_about(
            "Builds and runs the benchmarks of the crates. Nothing has to be installed or running; the figures \
             belong to this machine, and are steady to some ten percent when nothing else runs on it \
             (docs/costs.md has a set of them). The last line says how many figures were measured.",
        )
        .arg(Arg::new("filter").value_name("NAME").help("Measure only what has this in its name"))
}

pub(crate) fn run(root: &Path, given: &ArgMatches) -> Result<Summary> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root).args(BENCHMARKS);
    if let Some(filter) = given.get_one::<String>("filter") {
        cargo.args(["--", filter]);
    }
    let mut figures = 0;
    let good = process::watch(&mut cargo, |line| figures += usize::from(is_figure(line)))?;
    Ok(Summary { line: format!("costs: {figures} figures"), good: good && figures > 0 })
}

/// `├─ 1000   12.1 µs │ 15.3 µs │ 12.4 µs │ 12.6 µs │ 100 │ 100`: fastest, slowest, median, mean.
fn is_figure(line: &str) -> bool {
    let is_time = |cell: &str| [" ns", " µs", " ms", " s"].iter().any(|unit| cell.trim_end().ends_with(unit));
    line.split('│').filter(|cell| is_time(cell)).count() == 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_four_times_is_a_figure_and_headings_and_rates_are_none() {
        assert!(is_figure(
            "├─ decode     181.4 ns      │ 1.2 µs      │ 183 ns      │ 190 ns      │ 100   │ 3200"
        ));
        assert!(is_figure(
            "│  ╰─ 1000    12.1 µs       │ 15.3 µs     │ 12.4 µs     │ 12.6 µs     │ 100   │ 100"
        ));
        assert!(!is_figure(
            "encode        fastest       │ slowest       │ median        │ mean  │ samples │ iters"
        ));
        assert!(!is_figure(
            "│  │          8.2 Mitem/s   │ 6.5 Mitem/s   │ 8 Mitem/s     │ 7.9 Mitem/s │       │"
        ));
        assert!(!is_figure(
            "├─ outbox_to_a_sink          │               │               │             │       │"
        ));
    }
}
