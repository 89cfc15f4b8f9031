//! `cargo xtask bench`: the README's table, measured in one run on this machine.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches};

use crate::{Summary, install, process};

/// What has to hold, in the words of `loadtest run --max-ratio` and `--max`: processor time per delivery
/// beside a bare loop of `send()` and beside Nchan, and resident memory per idle connection.
const RATIOS: [&str; 4] = ["f1:floor=1.43", "f1:nchan=0.98", "f8:nchan=0.39", "r10:nchan=0.78"];
const FIGURES: [&str; 1] = ["idle:rss_kib_per_connection=3.25"];

pub(crate) fn command() -> clap::Command {
    clap::Command::new("bench")
        .about("Measure fan-out, connecting and idling beside a bare send() loop and other servers")
        .long_about(
            "Installs Redis, Nchan, Socket.IO and socketioxide where they are missing, builds the release \
             binaries, and runs the load generator's scenarios in alternating rounds. Absolute times belong to \
             this machine; the ratios carry over. Fails where a ratio is missed or the generator saw loss, \
             duplicates or disorder. The last line is the generator's summary.",
        )
        .arg(Arg::new("rounds").long("rounds").value_name("N").help("Rounds per peer and scenario"))
        .arg(
            Arg::new("scenarios")
                .value_name("SCENARIO")
                .action(ArgAction::Append)
                .help("f1, f8, r10, p1, idle, connect; all of them where none is named"),
        )
}

pub(crate) fn run(root: &Path, given: &ArgMatches) -> Result<Summary> {
    install::peers(root)?;
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    process::run(build.current_dir(root).args(["build", "--release", "-p", "fanfare", "-p", "loadtest"]))?;
    let target = process::target(root)?;
    let named: Vec<&str> =
        given.get_many::<String>("scenarios").into_iter().flatten().map(String::as_str).collect();
    let measured = |limit: &str| {
        named.is_empty() || limit.split_once(':').is_some_and(|(scenario, _)| named.contains(&scenario))
    };
    let mut loadtest = Command::new(target.join("release/loadtest"));
    match named.as_slice() {
        [] => loadtest.arg("all"),
        scenarios => loadtest.arg("run").args(scenarios),
    };
    loadtest.arg("--bin").arg(target.join("release/fanfare"));
    if let Some(rounds) = given.get_one::<String>("rounds") {
        loadtest.args(["--rounds", rounds]);
    }
    for ratio in RATIOS.into_iter().filter(|limit| measured(limit)) {
        loadtest.args(["--max-ratio", ratio]);
    }
    for figure in FIGURES.into_iter().filter(|limit| measured(limit)) {
        loadtest.args(["--max", figure]);
    }
    let mut last = String::new();
    let good = process::watch(&mut loadtest, |line| {
        if !line.is_empty() {
            line.clone_into(&mut last);
        }
    })?;
    Ok(Summary { line: format!("bench: {last}"), good })
}
