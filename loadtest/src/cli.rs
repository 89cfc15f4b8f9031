//! The command line.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::builder::{PossibleValuesParser, ValueParser};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::dialect::Dialect;
use crate::measure::Manner;
use crate::peers::{Intake, Listen, PeerKind, Setup};
use crate::publish::Format;
use crate::report::document::Side;
use crate::report::limits::Limit;
use crate::run::Order;
use crate::scenario::{Load, Scenario, shipped};
use crate::stamp::MIN_SIZE;

/// What to do.
#[derive(Debug)]
pub(crate) enum Task {
    Run(Box<Order>),
    /// Name the scenarios.
    List,
    /// Make the page from a JSON report.
    Report {
        json: PathBuf,
        html: PathBuf,
    },
    /// Be the floor.
    Floor {
        members: SocketAddr,
        orders: SocketAddr,
    },
}

/// Reads the arguments; prints help or what is wrong with them and exits where there is nothing to do.
/// Errors are those of scenario files.
pub(crate) fn parse() -> anyhow::Result<Task> {
    match command().get_matches().subcommand() {
        Some(("floor", matches)) => {
            Ok(Task::Floor { members: *required(matches, "listen"), orders: *required(matches, "orders") })
        }
        Some(("report", matches)) => Ok(Task::Report {
            json: required::<PathBuf>(matches, "report").clone(),
            html: required::<PathBuf>(matches, "html").clone(),
        }),
        Some(("list", _)) => Ok(Task::List),
        Some(("all", matches)) => Ok(Task::Run(Box::new(order(matches, shipped().to_vec())))),
        Some((_, matches)) => {
            let named = matches.get_many::<String>("scenario").into_iter().flatten();
            let named = named.map(|name| scenario(name)).collect::<Result<_, _>>()?;
            Ok(Task::Run(Box::new(order(matches, named))))
        }
        None => unreachable!("clap requires a subcommand"),
    }
}

/// Prints what comes with the program.
pub(crate) fn list() -> ExitCode {
    print!("{}", listing());
    ExitCode::SUCCESS
}

/// One of those that come with the program, or a file.
fn scenario(name: &str) -> anyhow::Result<Scenario> {
    if name.ends_with(".toml") {
        return Scenario::read(Path::new(name));
    }
    Scenario::named(name).with_context(|| {
        let names: Vec<&str> = shipped().iter().map(|scenario| scenario.name.as_str()).collect();
        format!("no scenario is named {name}; there are {}, and files that end in .toml", names.join(", "))
    })
}

fn order(matches: &ArgMatches, scenarios: Vec<Scenario>) -> Order {
    let scenarios = scenarios.into_iter().map(|scenario| adjusted(scenario, matches)).collect();
    let many = |name: &str| -> Vec<Limit> { matches.get_many(name).into_iter().flatten().cloned().collect() };
    let peers = matches.get_many::<String>("peers");
    let mut peers: Option<Vec<PeerKind>> =
        peers.map(|names| names.filter_map(|name| PeerKind::parse(name)).collect());
    let running =
        matches.get_one::<Listen>("at").cloned().zip(matches.get_one::<Intake>("publish-to").cloned());
    if running.is_some() {
        peers.get_or_insert_default().push(PeerKind::Running);
    }
    let arguments = matches.get_many::<String>("fanfare-arg").into_iter().flatten();
    Order {
        scenarios,
        peers,
        rounds: matches.get_one("rounds").map(|rounds: &u64| *rounds as usize),
        manner: Manner {
            warmup: Duration::from_millis(*required(matches, "warmup-ms")),
            payload: *required::<u64>(matches, "payload") as usize,
            at_once: matches.get_one("at-once").map(|count: &u64| *count as usize),
        },
        setup: Setup {
            fanfare: required::<PathBuf>(matches, "bin").clone(),
            fanfare_arguments: arguments.cloned().collect(),
            running,
        },
        json: matches.get_one("json").cloned(),
        html: matches.get_one("html").cloned(),
        limits: ["max-ratio", "min-ratio", "max", "min"].map(many).concat(),
    }
}

fn adjusted(mut scenario: Scenario, matches: &ArgMatches) -> Scenario {
    if let Some(connections) = matches.get_one::<u64>("connections") {
        scenario = scenario.with_connections(*connections as usize);
    }
    if let Some(seconds) = matches.get_one::<u64>("seconds") {
        scenario.seconds = *seconds;
    }
    for group in &mut scenario.groups {
        if let (Some(rate), Load::Paced { per_second, .. }) =
            (matches.get_one::<u32>("rate"), &mut group.load)
        {
            *per_second = *rate;
        }
    }
    if matches.get_flag("no-limits") {
        scenario.limits.clear();
    }
    scenario
}

fn required<'a, T: Clone + Send + Sync + 'static>(matches: &'a ArgMatches, name: &str) -> &'a T {
    matches.get_one(name).expect("clap requires it or has a default")
}

fn listing() -> String {
    shipped().iter().map(|scenario| format!("  {:<12} {}\n", scenario.name, scenario.about)).collect()
}

fn command() -> Command {
    let named = "One that comes with the program, or a file that ends in .toml";
    Command::new("loadtest")
        .about("Measures fan-out servers side by side, talking to them only over the wire")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .after_help(format!("Scenarios:\n{}", listing()))
        .subcommand(
            Command::new("run")
                .about("Runs the scenarios named")
                .arg(Arg::new("scenario").required(true).num_args(1..).help(named))
                .args(run_arguments()),
        )
        .subcommand(Command::new("list").about("Names the scenarios that come with the program"))
        .subcommand(Command::new("all").about("Runs every scenario").args(run_arguments()))
        .subcommand(
            Command::new("report")
                .about("Makes the page from a JSON report again")
                .arg(
                    Arg::new("report").value_name("FILE").required(true).value_parser(value_parser!(PathBuf)),
                )
                .arg(html().required(true)),
        )
        .subcommand(
            Command::new("floor")
                .about("Is the floor: a bare loop of send() (started by the other commands)")
                .arg(address("listen", "Where members connect"))
                .arg(address("orders", "Where publications come from")),
        )
}

fn address(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name("ADDR:PORT")
        .required(true)
        .value_parser(value_parser!(SocketAddr))
        .help(help)
}

fn run_arguments() -> Vec<Arg> {
    vec![
        option("peers", "NAMES", "Peers to measure, with commas; default: all that are installed")
            .long_help(format!("Peers to measure, with commas; default: all that are installed{}", peers()))
            .hide_possible_values(true)
            .value_delimiter(',')
            .value_parser(PossibleValuesParser::new(PeerKind::ALL.map(PeerKind::name))),
        option("rounds", "N", "Rounds per peer, alternating [default: the scenario's]")
            .value_parser(value_parser!(u64).range(1..=1000)),
        option("seconds", "N", "Measured part of a round [default: the scenario's]")
            .value_parser(value_parser!(u64).range(1..=3600)),
        option("warmup-ms", "MS", "Load before the measured part")
            .default_value("500")
            .value_parser(value_parser!(u64)),
        option("connections", "N", "Another number of connections; rooms keep their size")
            .value_parser(value_parser!(u64).range(1..=1_000_000)),
        option("rate", "N", "Another number of publications per second for each group that has one")
            .value_parser(value_parser!(u32).range(1..=1_000_000)),
        option("payload", "BYTES", "Payload of a publication where the scenario does not say")
            .default_value("128")
            .value_parser(value_parser!(u64).range(MIN_SIZE as u64..=32_768)),
        option("at-once", "N", "Connections in the making at one time [default: 512, in a storm all]")
            .value_parser(value_parser!(u64).range(1..=1_000_000)),
        option("bin", "PATH", "The fanfare binary")
            .default_value("target/release/fanfare")
            .value_parser(value_parser!(PathBuf)),
        repeated("fanfare-arg", "ARG", "One more argument for fanfare serve").allow_hyphen_values(true),
        Arg::new("no-limits")
            .long("no-limits")
            .action(ArgAction::SetTrue)
            .help("Do not judge by the limits in the scenarios' files"),
        option("at", "DIALECT://HOST:PORT", "A server that runs already; measured alone, or beside --peers")
            .long_help(format!(
                "A server that runs already, measured alone or beside --peers. DIALECT is {}; further edges \
                 follow behind commas. Its processes are not known, so its cost is not told",
                names(Dialect::NAMED)
            ))
            .requires("publish-to")
            .value_parser(ValueParser::new(Listen::parse)),
        option("publish-to", "FORMAT://HOST:PORT", "Where publications for --at go")
            .long_help(format!("Where publications for --at go. FORMAT is {}", names(Format::NAMED)))
            .requires("at")
            .value_parser(ValueParser::new(Intake::parse)),
        option("json", "FILE", "Write the report there").value_parser(value_parser!(PathBuf)),
        html(),
        limit(
            "max-ratio",
            RATIO,
            "Most that a figure's ratio to a peer may be",
            Limit::parse_ratio,
            Side::AtMost,
        ),
        limit("min-ratio", RATIO, "Least that it may be", Limit::parse_ratio, Side::AtLeast),
        limit("max", FIGURE, "Most that a figure may be", Limit::parse_figure, Side::AtMost),
        limit("min", FIGURE, "Least that a figure may be", Limit::parse_figure, Side::AtLeast),
    ]
}

/// How limits are written.
const RATIO: &str = "[SCENARIO:][PEER/]BASE[.FIGURE]=NUMBER";
const FIGURE: &str = "[SCENARIO:][PEER/]FIGURE=NUMBER";

fn html() -> Arg {
    option("html", "FILE", "Write a page with charts there").value_parser(value_parser!(PathBuf))
}

fn limit(
    name: &'static str,
    form: &'static str,
    help: &'static str,
    parse: fn(&str, Side) -> Result<Limit, String>,
    side: Side,
) -> Arg {
    let long = "It is the median that counts, and the exit code is 1 beyond the limit. Without PEER it is for \
                every fanfare peer; FIGURE is a name from the JSON report, in a ratio the scenario's headline \
                unless named. A rate below its least is excused where the generator was the slower side.";
    repeated(name, form, help)
        .value_parser(ValueParser::new(move |text: &str| parse(text, side)))
        .long_help(format!("{help}. {long}"))
}

fn peers() -> String {
    PeerKind::ALL.iter().map(|peer| format!("\n  {:<15} {}", peer.name(), peer.about())).collect()
}

fn names<T>(named: &[(&'static str, T)]) -> String {
    named.iter().map(|pair| pair.0).collect::<Vec<_>>().join(", ")
}

fn option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

fn repeated(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    option(name, value, help).action(ArgAction::Append)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_consistent() {
        command().debug_assert();
    }

    #[test]
    fn options_reach_the_order() {
        let matches = command()
            .try_get_matches_from(
                "loadtest run f1 --no-limits --peers floor,nchan --connections 50 --rate 7 --max-ratio f1:nchan/floor=2 --min-ratio f8:nchan.deliveries_per_s=4"
                    .split(' '),
            )
            .unwrap();
        let (_, matches) = matches.subcommand().unwrap();
        let order = order(matches, vec![scenario("f1").unwrap()]);
        assert_eq!(order.peers, Some(vec![PeerKind::Floor, PeerKind::Nchan]));
        assert_eq!(order.scenarios[0].connections(), 50);
        assert_eq!(order.scenarios[0].groups[0].load, Load::Paced { per_second: 7, burst: 1 });
        assert_eq!(order.scenarios[0].limits, []);
        let limits = [
            Limit::parse_ratio("f1:nchan/floor=2", Side::AtMost),
            Limit::parse_ratio("f8:nchan.deliveries_per_s=4", Side::AtLeast),
        ];
        assert_eq!(order.limits, limits.map(Result::unwrap));
        assert_eq!(order.setup.running, None);
        assert!(scenario("f9").unwrap_err().to_string().contains("there are f1, f8"));
        assert!(format!("{:#}", scenario("none/such.toml").unwrap_err()).contains("none/such.toml"));
    }

    #[test]
    fn a_server_that_runs_already_is_measured_alone_or_beside_others() {
        let peers = |more: &str| {
            let line =
                format!("loadtest run f1 --at plain://127.0.0.1:1 --publish-to redis://127.0.0.1:2{more}");
            let matches = command().try_get_matches_from(line.split(' ')).unwrap();
            order(matches.subcommand().unwrap().1, vec![scenario("f1").unwrap()]).peers
        };
        assert_eq!(peers(""), Some(vec![PeerKind::Running]));
        assert_eq!(peers(" --peers floor"), Some(vec![PeerKind::Floor, PeerKind::Running]));
        let alone = ["loadtest", "run", "f1", "--at", "plain://127.0.0.1:1"];
        assert!(command().try_get_matches_from(alone).is_err());
    }
}
