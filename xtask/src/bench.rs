//! `cargo xtask bench`: the README's table, measured in one run on this machine.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use clap::{Arg, ArgAction, ArgMatches};

use crate::{Summary, install, process};

/// Options that the load generator gets as they are.
const PASSED_ON: [(&str, &str, &str); 4] = [
    ("rounds", "N", "Rounds per peer and scenario"),
    ("peers", "NAMES", "Peers to measure, with commas; all that are installed where not named"),
    ("json", "FILE", "Write the report there"),
    ("html", "FILE", "Write the report there as a page with charts"),
];

pub(crate) fn command() -> clap::Command {
    clap::Command::new("bench")
        .about("Measure fan-out, connecting and idling beside a bare send() loop and other servers")
        .long_about(
            "Installs Redis, Nchan, Socket.IO and socketioxide where they are missing, builds the release \
             binaries, and runs the load generator's scenarios in alternating rounds. Absolute times belong to \
             this machine; the ratios carry over. Fails where a limit in a scenario's file is missed or the \
             generator saw loss, duplicates or disorder. The last line is the generator's summary.",
        )
        .args(PASSED_ON.map(|(name, value, help)| Arg::new(name).long(name).value_name(value).help(help)))
        .arg(
            Arg::new("no-limits")
                .long("no-limits")
                .action(ArgAction::SetTrue)
                .help("Do not judge by the limits in the scenarios' files"),
        )
        .arg(
            Arg::new("scenarios")
                .value_name("SCENARIO")
                .action(ArgAction::Append)
                .help("Of loadtest/scenarios, or a file that ends in .toml; all of the former where none is named"),
        )
}

pub(crate) fn run(root: &Path, given: &ArgMatches) -> Result<Summary> {
    install::peers(root, given.get_one::<String>("peers").map(String::as_str))?;
    process::build_release(root)?;
    let target = process::target(root)?;
    let mut loadtest = Command::new(target.join("release/loadtest"));
    match given.get_many::<String>("scenarios") {
        None => loadtest.arg("all"),
        Some(scenarios) => loadtest.arg("run").args(scenarios),
    };
    loadtest.arg("--bin").arg(target.join("release/fanfare"));
    for (name, ..) in PASSED_ON {
        if let Some(value) = given.get_one::<String>(name) {
            loadtest.arg(format!("--{name}")).arg(value);
        }
    }
    if given.get_flag("no-limits") {
        loadtest.arg("--no-limits");
    }
    let mut last = String::new();
    let good = process::watch(&mut loadtest, |line| {
        if !line.is_empty() {
            line.clone_into(&mut last);
        }
    })?;
    Ok(Summary { line: format!("bench: {last}"), good })
}
