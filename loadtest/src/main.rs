//! A load generator for fan-out servers. The order of modules is that of the data: a scenario becomes
//! traffic, traffic becomes deliveries, deliveries become a report.

mod cli;
mod connection;
mod dialect;
mod engine;
mod faults;
mod floor;
mod kernel;
mod ledger;
mod measure;
mod meter;
mod oracle;
mod peers;
mod process;
mod publish;
mod redis;
mod report;
mod run;
mod scenario;
mod scrape;
mod seats;
mod stamp;
mod timeline;
mod timer;
mod traffic;
mod watch;
mod websocket;

use std::process::ExitCode;

/// Exit codes: 0 all well, 1 something lost or a limit missed, 2 could not be run.
fn main() -> ExitCode {
    let result = match cli::parse() {
        Err(error) => Err(error),
        Ok(cli::Task::List) => Ok(cli::list()),
        Ok(cli::Task::Run(order)) => run::run(&order),
        Ok(cli::Task::Report { json, html }) => report::html::again(&json, &html).map(|()| ExitCode::SUCCESS),
        Ok(cli::Task::Floor { members, orders }) => floor::serve(members, orders).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("loadtest: {error:#}");
        ExitCode::from(2)
    })
}
