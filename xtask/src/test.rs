//! `cargo xtask test`: everything that has to hold, in one run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::{Arg, ArgMatches};

use crate::{Summary, install, process};

/// What can be run by itself, in the order of a whole run.
const STEPS: [&str; 4] = ["fmt", "clippy", "rust", "e2e"];

/// One end-to-end test may take this long, in milliseconds.
const E2E_TIMEOUT: u32 = 180_000;

pub(crate) fn command() -> clap::Command {
    clap::Command::new("test")
        .about("Run every test; installs Redis, HAProxy, Chromium and npm packages where they are missing")
        .long_about(
            "Installs what is missing (apt-get, npm), then checks the formatting and clippy, runs the Rust \
             tests, builds the release binary and runs the end-to-end tests against it. A failing step does \
             not keep the next from running. The last line says how many tests passed and failed.",
        )
        .arg(Arg::new("only").long("only").value_name("NAME").help(format!(
            "Run one step ({}), or the end-to-end tests of one file (storm for e2e/storm.test.mjs)",
            STEPS.join(", ")
        )))
}

pub(crate) fn run(root: &Path, given: &ArgMatches) -> Result<Summary> {
    let files = e2e_files(root)?;
    let only = given.get_one::<String>("only").map(String::as_str);
    let file = match only {
        Some(name) if !STEPS.contains(&name) => Some(named(&files, name)?),
        _ => None,
    };
    let wanted = |step: &str| only.is_none_or(|name| name == step) || (file.is_some() && step == "e2e");

    let mut tally = Tally::default();
    if wanted("fmt") {
        tally.step("fmt", process::watch(cargo(root).args(["fmt", "--check"]), |_| {}), Counts::default());
    }
    if wanted("clippy") {
        let mut clippy = cargo(root);
        clippy.args(["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"]);
        tally.step("clippy", process::watch(&mut clippy, |_| {}), Counts::default());
    }
    // The Rust tests start a Redis of their own.
    if wanted("rust") || wanted("e2e") {
        tally.step("install", install::all(root).map(|()| true), Counts::default());
    }
    if wanted("rust") {
        let mut counts = Counts::default();
        let mut tests = cargo(root);
        tests.args(["test", "--workspace", "--no-fail-fast"]);
        let ended = process::watch(&mut tests, |line| counts.add_cargo(line));
        tally.step("rust", ended, counts);
    }
    if wanted("e2e") {
        let mut counts = Counts::default();
        let ended = e2e(root, &file.map_or(files, |one| vec![one]), &mut counts);
        tally.step("e2e", ended, counts);
    }
    Ok(tally.summary())
}

fn e2e(root: &Path, files: &[PathBuf], counts: &mut Counts) -> Result<bool> {
    // The load generator is for the README's own test.
    process::build_release(root)?;
    let mut node = Command::new("node");
    node.current_dir(root.join("e2e"))
        .args([
            "--test",
            "--test-concurrency=1",
            "--test-reporter=spec",
            "--test-reporter-destination=stdout",
        ])
        .arg(format!("--test-timeout={E2E_TIMEOUT}"))
        // A socket that a failed test left open must not keep the run from ending.
        .arg("--test-force-exit")
        .args(files)
        .env("FANFARE_BIN", process::target(root)?.join("release/fanfare"));
    process::watch(&mut node, |line| counts.add_node(line))
}

fn e2e_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root.join("e2e")).context("e2e")? {
        let name = entry.context("e2e")?.file_name();
        if name.to_string_lossy().ends_with(".test.mjs") {
            files.push(PathBuf::from(name));
        }
    }
    files.sort();
    Ok(files)
}

fn named(files: &[PathBuf], name: &str) -> Result<PathBuf> {
    let wanted = PathBuf::from(format!("{name}.test.mjs"));
    if !files.contains(&wanted) {
        let known: Vec<String> =
            files.iter().map(|file| file.to_string_lossy().replace(".test.mjs", "")).collect();
        bail!("--only {name}: there are {}, {}", STEPS.join(", "), known.join(", "));
    }
    Ok(wanted)
}

fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// Tests that passed and failed, as the runners say.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
}

impl Counts {
    /// `test result: ok. 3 passed; 0 failed; 0 ignored; …`
    fn add_cargo(&mut self, line: &str) {
        let Some((_, rest)) = line.split_once("test result: ") else { return };
        let Some((_, rest)) = rest.split_once(". ") else { return };
        for part in rest.split("; ") {
            match part.split_once(' ').map(|(number, word)| (number.parse::<u64>(), word)) {
                Some((Ok(number), "passed")) => self.passed += number,
                Some((Ok(number), "failed")) => self.failed += number,
                _ => {}
            }
        }
    }

    /// `ℹ pass 3`, `ℹ fail 0`, `ℹ cancelled 0`
    fn add_node(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("ℹ ") else { return };
        match rest.split_once(' ').map(|(word, number)| (word, number.parse::<u64>())) {
            Some(("pass", Ok(number))) => self.passed += number,
            Some(("fail" | "cancelled", Ok(number))) => self.failed += number,
            _ => {}
        }
    }
}

#[derive(Default)]
struct Tally {
    counts: Counts,
    /// Steps that did not end well, with what they said.
    bad: Vec<String>,
}

impl Tally {
    /// A step that fails without naming a failed test counts as one.
    fn step(&mut self, name: &str, ended: Result<bool>, counts: Counts) {
        self.counts.passed += counts.passed;
        self.counts.failed += counts.failed;
        let reason = match ended {
            Ok(true) if counts.failed == 0 => return,
            Ok(_) => String::from("failed"),
            Err(reason) => format!("{reason:#}"),
        };
        if counts.failed == 0 {
            self.counts.failed += 1;
        }
        self.bad.push(format!("{name}: {reason}"));
    }

    fn summary(self) -> Summary {
        println!();
        for line in &self.bad {
            println!("{line}");
        }
        let Counts { passed, failed } = self.counts;
        Summary { line: format!("{passed} passed, {failed} failed"), good: failed == 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runners_totals_are_read() {
        let mut counts = Counts::default();
        for line in [
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.3s",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
            "test a_test ... ok",
        ] {
            counts.add_cargo(line);
        }
        for line in ["ℹ tests 9", "ℹ pass 5", "ℹ fail 3", "ℹ cancelled 1", "ok 1 - pass 100"] {
            counts.add_node(line);
        }
        assert_eq!(counts, Counts { passed: 20, failed: 6 });
    }

    #[test]
    fn a_step_that_ends_badly_is_never_a_success() {
        let mut tally = Tally::default();
        tally.step("rust", Ok(true), Counts { passed: 7, failed: 0 });
        tally.step("e2e", Ok(false), Counts { passed: 4, failed: 0 });
        let summary = tally.summary();
        assert_eq!((summary.line.as_str(), summary.good), ("11 passed, 1 failed", false));
    }
}
