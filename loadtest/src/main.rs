//! A load generator for fan-out servers. The order of modules is that of the data: a scenario becomes
//! traffic, traffic becomes deliveries, deliveries become a report.

mod cli;
mod connection;
mod dialect;
mod engine;
mod floor;
mod ledger;
mod measure;
mod oracle;
mod peers;
mod process;
mod publish;
mod report;
mod run;
mod scenario;
mod stamp;
mod timeline;
mod traffic;
mod websocket;

use std::process::ExitCode;

/// Exit codes: 0 all well, 1 something lost or a limit missed, 2 could not be run.
fn main() -> ExitCode {
    let result = match cli::parse() {
        cli::Task::Run(order) => run::run(&order),
        cli::Task::Report { json, html } => report::html::again(&json, &html).map(|()| ExitCode::SUCCESS),
        cli::Task::Floor { members, orders } => floor::serve(members, orders).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("loadtest: {error:#}");
        ExitCode::from(2)
    })
}
