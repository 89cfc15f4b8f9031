//! The binary: the only place that picks implementations, reads the environment and catches signals.

mod app;
mod arguments;
mod banner;
mod config;
mod file;
mod host;
mod logs;
mod memory;
mod nearest;
mod nodes;
mod settings;
mod sources;
mod values;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::ArgMatches;
use fanfare_broker::{Broker, Feed, redis};
use fanfare_edge::{Directory, Edge};
use fanfare_redis::Registry;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::Resolved;
use crate::file::FromFile;
use crate::nodes::RedisDirectory;
use crate::settings::LogFormat;
use crate::sources::ConfigError;

const FAILED: u8 = 1;
const WRONG_SETTINGS: u8 = 3;
/// What shells report for a process that was interrupted.
const INTERRUPTED: u8 = 130;

/// Leaving service takes at most this, whatever hangs: orchestrators kill after 10 s or more.
const LEAVE: Duration = Duration::from_secs(9);

/// What remains of tasks after leaving is given this long.
const LAST_TASKS: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    memory::few_arenas();
    // Wrong usage ends here, with its explanation and exit code 2.
    let matches = arguments::command().get_matches();
    match matches.subcommand() {
        Some(("serve", matches)) => serve(matches),
        _ => {
            print!("{}", arguments::settings_page());
            ExitCode::SUCCESS
        }
    }
}

fn serve(matches: &ArgMatches) -> ExitCode {
    let (resolved, format) = match settle(matches) {
        Ok(settled) => settled,
        Err(error) => {
            eprintln!("fanfare: {error}");
            return ExitCode::from(WRONG_SETTINGS);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the runtime cannot be started");
            return ExitCode::from(FAILED);
        }
    };
    let code = runtime.block_on(run(resolved, format)).unwrap_or_else(|error| {
        tracing::error!("{error:#}");
        ExitCode::from(FAILED)
    });
    runtime.shutdown_timeout(LAST_TASKS);
    code
}

/// Everything that is settled before a port opens.
fn settle(matches: &ArgMatches) -> Result<(Resolved, LogFormat), ConfigError> {
    let environment = sources::environment(std::env::vars_os())?;
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let path = matches.get_one::<String>("config").map(PathBuf::from);
    let file = match path.or_else(|| set("FANFARE_CONFIG").map(PathBuf::from)) {
        Some(path) => file::read(&path)?,
        None => FromFile::default(),
    };
    let open_files = host::raise().map_err(|error| {
        ConfigError::new("open files", format!("the limit cannot be read ({error}); check ulimit -n"))
    })?;
    let resolved = config::resolve(arguments::given(matches), environment, file, open_files)?;
    let filter = set("FANFARE_LOG").map(|filter| filter.to_string_lossy().into_owned());
    let format = logs::start(resolved.log_format, filter.as_deref())?;
    Ok((resolved, format))
}

async fn run(resolved: Resolved, format: LogFormat) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be caught")?;
    let (broker, feed, directory) = parts(&resolved);
    let known = directory.clone().map(|directory| directory as Arc<dyn Directory>);
    let edge = Edge::start(resolved.edge.clone(), broker, feed, known).await?;
    banner::show(&resolved, edge.listen(), edge.private(), format);
    let announcement = directory.zip(resolved.redis.as_ref()).map(|(directory, redis)| {
        let advertised = resolved.advertise.clone();
        let advertised = advertised.unwrap_or_else(|| nodes::advertised(edge.private(), &redis.address));
        directory.join(edge.label(), advertised)
    });
    tokio::spawn(memory::give_back());
    tokio::select! {
        () = edge.failed() => return Err(anyhow!("a shard has panicked; see above")),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let code = leave(&edge, &mut interrupt).await?;
    if let Some(announcement) = announcement {
        announcement.withdraw().await;
    }
    Ok(code)
}

type Parts = (Arc<dyn Broker>, Box<dyn Feed>, Option<Arc<RedisDirectory>>);

/// The implementations that the settings ask for.
fn parts(resolved: &Resolved) -> Parts {
    match resolved.redis.clone() {
        None => {
            let (broker, feed) = fanfare_broker::memory::new();
            (broker, Box::new(feed), None)
        }
        Some(options) => {
            let prefix = options.prefix.clone();
            let (broker, feed) = redis::connect(options);
            let registry = Registry::new(broker.commands().clone(), prefix);
            let directory = RedisDirectory::new(registry, resolved.cluster_secret.clone());
            (broker, Box::new(feed), Some(directory))
        }
    }
}

async fn leave(edge: &Edge, interrupt: &mut Signal) -> anyhow::Result<ExitCode> {
    tracing::info!("leaving service; interrupt to stop at once");
    tokio::select! {
        drained = tokio::time::timeout(LEAVE, edge.drain()) => {
            match drained {
                Ok(()) => tracing::info!("left service"),
                Err(_) => tracing::warn!("left service with connections still open"),
            }
            Ok(ExitCode::SUCCESS)
        }
        () = edge.failed() => Err(anyhow!("a shard has panicked; see above")),
        _ = interrupt.recv() => Ok(ExitCode::from(INTERRUPTED)),
    }
}
