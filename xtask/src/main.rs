//! The one door for tasks: `cargo xtask --help`. Each command is a file; its last line of output is
//! a summary of what came out.

mod bench;
mod costs;
mod install;
mod process;
mod test;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let matches = clap::Command::new("cargo xtask")
        .bin_name("cargo xtask")
        .about("fanfare's tasks")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(test::command())
        .subcommand(bench::command())
        .subcommand(costs::command())
        .subcommand(tidy::command())
        .get_matches();
    let outcome = match matches.subcommand() {
        Some(("test", given)) => test::run(&root(), given),
        Some(("bench", given)) => bench::run(&root(), given),
        Some(("costs", given)) => costs::run(&root(), given),
        Some(("tidy", _)) => tidy::run(&root()),
        // `subcommand_required` lets nothing else through.
        _ => Err(anyhow::anyhow!("no such command")),
    };
    match outcome {
        Ok(summary) => {
            println!("{}", summary.line);
            if summary.good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(reason) => {
            println!("failed: {reason:#}");
            ExitCode::FAILURE
        }
    }
}

/// How a command came out.
struct Summary {
    /// Printed last, alone on its line.
    line: String,
    /// Decides the exit code.
    good: bool,
}

/// The repository's root, wherever the command is started.
fn root() -> PathBuf {
    // xtask's manifest lies one level below the root.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_path_buf()
}
