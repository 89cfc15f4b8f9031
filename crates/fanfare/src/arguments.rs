//! The command line, and docs/settings.md: both made from the registry.

use std::fmt::Write as _;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::settings::{Fallback, Kind, SETTINGS, Setting};
use crate::sources::{Given, Written};
use crate::values;

const EXIT_CODES: &str = "Exit codes: 0 stopped as asked, 1 failed while running, 2 wrong usage, 3 wrong settings, \
                          130 interrupted twice.";

/// The whole command line.
pub(crate) fn command() -> Command {
    Command::new("fanfare")
        .version(env!("CARGO_PKG_VERSION"))
        .about(
            "Publishes events to rooms of Socket.IO and plain WebSocket clients, over any number of nodes.",
        )
        .after_help("To try it: fanfare serve --dev, then open http://127.0.0.1:3000/ in two tabs.")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(serve())
        .subcommand(Command::new("settings").about("Print every setting as Markdown (docs/settings.md)"))
}

fn serve() -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .help("TOML file with settings and room rules [env: FANFARE_CONFIG]");
    Command::new("serve")
        .about("Run a node")
        .long_about(
            "Run a node. A flag goes before its environment variable, that before the file, that before the \
             default.\nDurations need a unit (25s, 300ms, 2m); sizes are bytes or have one (64KiB, 1MiB, 1MB); \
             lists are separated by commas.",
        )
        .after_help(EXIT_CODES)
        .arg(config)
        .args(SETTINGS.iter().map(argument))
}

fn argument(setting: &Setting) -> Arg {
    let fallback = fallback(setting);
    let help = format!("{} [env: {}] [default: {fallback}]", setting.help, setting.variable());
    let arg = Arg::new(setting.key)
        .long(setting.flag())
        .help_heading(setting.group)
        .help(help)
        .value_name(form(&setting.kind))
        .allow_negative_numbers(true);
    match setting.kind {
        // `--dev` alone switches on; a value needs its `=`, so that the next word is never taken for it.
        Kind::Switch(_) => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
        Kind::List { .. } => arg.action(ArgAction::Append).num_args(1),
        _ => arg.num_args(1),
    }
}

/// What the flags of `serve` say.
pub(crate) fn given(matches: &ArgMatches) -> Vec<Given> {
    let mut found = Vec::new();
    for setting in SETTINGS {
        let Some(values) = matches.get_many::<String>(setting.key) else { continue };
        let text = values.map(String::as_str).collect::<Vec<_>>().join(",");
        let place = format!("--{}", setting.flag());
        found.push(Given { key: setting.key, value: Written::One(text), place });
    }
    found
}

fn form(kind: &Kind) -> &'static str {
    match kind {
        Kind::Address(_) => "ADDR:PORT",
        Kind::Duration { .. } => "DURATION",
        Kind::Size { .. } => "SIZE",
        Kind::Count { .. } => "COUNT",
        Kind::Switch(_) => "true|false",
        Kind::Text { form, .. } | Kind::List { form, .. } => form,
    }
}

fn fallback(setting: &Setting) -> &'static str {
    match setting.fallback {
        Fallback::Value(text) | Fallback::Derived(text) => text,
    }
}

fn range(kind: &Kind) -> String {
    match kind {
        Kind::Duration { range: (min, max), .. } => {
            format!("{} to {}", values::show_duration(*min), values::show_duration(*max))
        }
        Kind::Size { range: (min, max), .. } => {
            format!("{} to {}", values::show_size(*min), values::show_size(*max))
        }
        Kind::Count { range: (min, max), .. } => format!("{min} to {max}"),
        _ => String::new(),
    }
}

/// docs/settings.md.
pub(crate) fn settings_page() -> String {
    let mut page = String::from(
        "# Settings\n\n\
         Printed by `fanfare settings`; a test compares. A flag goes before its variable, that before the key in \
         the file\n(`--config FILE`, `FANFARE_CONFIG`), that before the default. Durations need a unit (`25s`, \
         `300ms`); sizes are bytes\nor have one (`64KiB`, `1MB`); lists are arrays in the file and separated by \
         commas elsewhere. An empty variable\ncounts as not set; unknown keys and `FANFARE_` variables are \
         refused. A change needs a restart.\n\n\
         `FANFARE_LOG` filters log lines by severity and module, as `debug` or `warn,fanfare_edge=debug`; the \
         default is `info`.\nThe room rules of the file are described in the README, under \"Rooms\".\n",
    );
    let mut group = "";
    for setting in SETTINGS {
        if setting.group != group {
            group = setting.group;
            let head = "| key | flag, variable | value | default | |\n|---|---|---|---|---|";
            writeln!(page, "\n## {group}\n\n{head}").expect("writing to a String does not fail");
        }
        let row = [
            format!("`{}`", setting.key),
            format!("`--{}` `{}`", setting.flag(), setting.variable()),
            format!("{} {}", form(&setting.kind), range(&setting.kind)).trim_end().replace('|', " or "),
            fallback(setting).to_owned(),
            setting.help.to_owned(),
        ];
        writeln!(page, "| {} |", row.join(" | ")).expect("writing to a String does not fail");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Vec<(&'static str, String)> {
        let matches = command().try_get_matches_from(line.split_whitespace()).unwrap();
        let (_, matches) = matches.subcommand().unwrap();
        given(matches)
            .into_iter()
            .map(|given| match given.value {
                Written::One(text) => (given.key, text),
                Written::Many(_) => unreachable!("flags give text"),
            })
            .collect()
    }

    #[test]
    fn the_command_line_is_well_formed() {
        command().debug_assert();
    }

    #[test]
    fn flags_become_settings() {
        let line =
            "fanfare serve --dev --listen 127.0.0.1:0 --origins https://a --origins https://b,https://c";
        let given = parse(line);
        assert!(given.contains(&("dev", "true".to_owned())));
        assert!(given.contains(&("listen", "127.0.0.1:0".to_owned())));
        assert!(given.contains(&("origins", "https://a,https://b,https://c".to_owned())));
        assert_eq!(parse("fanfare serve --dev=false"), [("dev", "false".to_owned())]);
        assert!(command().try_get_matches_from(["fanfare", "serve", "--lisen", "x"]).is_err());
    }
}
