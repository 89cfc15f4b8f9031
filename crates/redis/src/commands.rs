//! The link that commands go over: fred with every limit set, and a watchdog that finds dead links.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientInterface, ClientLike, EventInterface};
use fred::types::RespVersion;
use fred::types::config::{
    Config, ConnectionConfig, Options, PerformanceConfig, ReconnectPolicy, Server, ServerConfig, TcpConfig,
    UnresponsiveConfig,
};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::Address;

/// How long a command waits for its answer.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(1);
/// Commands that wait for the link at most; without a bound a frozen Redis costs 6 KB for each.
const MAX_WAITING: usize = 10_000;
/// Least and longest delay between attempts to connect, and what is added at random, in milliseconds.
const RECONNECT_MS: (u32, u32) = (50, 500);
const JITTER_MS: u32 = 50;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// fred's own check starts anew with each write, so that a busy link never fails it: the watchdog does.
const UNRESPONSIVE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_millis(500));
const PING_EVERY: Duration = Duration::from_secs(1);
/// Unanswered PINGs in a row after which the link is dead.
const MISSES: u32 = 2;
/// Longest name that Redis gets to show in CLIENT LIST, in bytes.
const MAX_NAME: usize = 64;

/// How the link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandLink {
    Up,
    /// Down since then.
    Down(Instant),
}

/// One link for commands, connected in the background for as long as this lives. Commands of many tasks
/// are pipelined on it; each fails after [`COMMAND_TIMEOUT`] and is sent at most once.
pub struct Commands {
    redis: Client,
    state: Arc<State>,
    watchdog: JoinHandle<()>,
    connection: JoinHandle<Result<(), Error>>,
}

impl Commands {
    /// Starts to connect and returns at once; Redis may come later. `name` is shown by CLIENT LIST.
    /// Called inside a tokio runtime.
    pub fn connect(address: &Address, name: &str) -> Self {
        let (slowest, fastest) = (RECONNECT_MS.1, RECONNECT_MS.0);
        let mut policy = ReconnectPolicy::new_exponential(0, fastest, slowest, 2);
        policy.set_jitter(JITTER_MS);
        let performance =
            PerformanceConfig { default_command_timeout: COMMAND_TIMEOUT, ..Default::default() };
        let redis = Client::new(login(address), Some(performance), Some(limits()), Some(policy));
        let state = Arc::new(State::new());
        // Before the first attempt, so that its outcome is not missed.
        let watchdog = Watchdog::new(&redis, address, name, Arc::clone(&state));
        let connection = redis.connect();
        Self { redis, state, watchdog: tokio::spawn(watchdog.run()), connection }
    }

    /// For sending commands. Nothing subscribes here: fred's subscriptions break its answers' order.
    pub fn redis(&self) -> &Client {
        &self.redis
    }

    /// How the link is; one atomic load.
    pub fn link(&self) -> CommandLink {
        self.state.read()
    }

    /// Options for commands that had better fail than wait for a reconnect.
    pub fn at_once() -> Options {
        Options {
            max_attempts: Some(1),
            timeout: Some(COMMAND_TIMEOUT),
            fail_fast: true,
            ..Default::default()
        }
    }
}

impl Drop for Commands {
    fn drop(&mut self) {
        self.watchdog.abort();
        self.connection.abort();
    }
}

fn login(address: &Address) -> Config {
    Config {
        fail_fast: false,
        username: address.user().map(str::to_owned),
        password: address.password().map(str::to_owned),
        server: ServerConfig::new_centralized(address.host(), address.port()),
        version: RespVersion::RESP3,
        database: Some(address.database()).filter(|&database| database != 0),
        ..Default::default()
    }
}

fn limits() -> ConnectionConfig {
    ConnectionConfig {
        connection_timeout: CONNECT_TIMEOUT,
        internal_command_timeout: CONNECT_TIMEOUT,
        max_command_attempts: 1,
        max_command_buffer_len: MAX_WAITING,
        unresponsive: UnresponsiveConfig { max_timeout: Some(UNRESPONSIVE.0), interval: UNRESPONSIVE.1 },
        // No TCP keepalive: a PING every second finds more, and sooner.
        tcp: TcpConfig { nodelay: Some(true), ..Default::default() },
        ..Default::default()
    }
}

/// The characters of `name` that CLIENT SETNAME takes, others as `-`.
pub fn link_name(name: &str) -> String {
    name.chars().take(MAX_NAME).map(|c| if c.is_ascii_graphic() { c } else { '-' }).collect()
}

/// Up, or since when not, in one word that anyone can read.
struct State {
    born: Instant,
    /// 0 is up; otherwise one more than the microseconds from `born` to when the link went down.
    down: AtomicU64,
}

impl State {
    fn new() -> Self {
        Self { born: Instant::now(), down: AtomicU64::new(1) }
    }

    fn read(&self) -> CommandLink {
        match self.down.load(Ordering::Acquire) {
            0 => CommandLink::Up,
            since => CommandLink::Down(self.born + Duration::from_micros(since - 1)),
        }
    }

    /// True where that is a change.
    fn up(&self) -> bool {
        self.down.swap(0, Ordering::AcqRel) != 0
    }

    /// True where that is a change; the moment of the first word stands.
    fn down(&self) -> bool {
        let now = u64::try_from(self.born.elapsed().as_micros()).unwrap_or(u64::MAX - 1) + 1;
        self.down.compare_exchange(0, now, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// Asks Redis once a second whether it is there, and has the link rebuilt when it is not.
struct Watchdog {
    redis: Client,
    address: String,
    name: String,
    state: Arc<State>,
    misses: u32,
    /// The rebuilding under way; a second one would be queued behind it and tear down its result.
    rebuilding: Option<JoinHandle<()>>,
    reconnects: Receiver<Server>,
    errors: Receiver<(Error, Option<Server>)>,
}

impl Watchdog {
    fn new(redis: &Client, address: &Address, name: &str, state: Arc<State>) -> Self {
        Self {
            redis: redis.clone(),
            address: address.to_string(),
            name: link_name(name),
            state,
            misses: 0,
            rebuilding: None,
            reconnects: redis.reconnect_rx(),
            errors: redis.error_rx(),
        }
    }

    async fn run(mut self) {
        let mut tick = interval(PING_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                error = self.errors.recv() => match error {
                    Ok((error, _)) => self.down(&error.to_string()),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                },
                reconnect = self.reconnects.recv() => {
                    if matches!(reconnect, Err(RecvError::Closed)) {
                        return;
                    }
                    self.misses = 0;
                    self.introduce().await;
                    self.ping().await;
                }
                _ = tick.tick() => self.ping().await,
            }
        }
    }

    async fn introduce(&self) {
        let redis = self.redis.with_options(&Commands::at_once());
        if let Err(error) = redis.client_setname(self.name.as_str()).await {
            // Only its name in CLIENT LIST is missing.
            tracing::debug!(redis = self.address, %error, "CLIENT SETNAME was refused");
        }
    }

    async fn ping(&mut self) {
        let answer: Result<(), Error> = self.redis.with_options(&Commands::at_once()).ping(None).await;
        match answer {
            Ok(()) => {
                self.misses = 0;
                if self.state.up() {
                    tracing::info!(redis = self.address, "the command link to Redis is up");
                }
            }
            Err(error) if *error.kind() == ErrorKind::Timeout => {
                self.misses += 1;
                if self.misses >= MISSES {
                    self.misses = 0;
                    self.down("no answer to PING");
                    self.rebuild();
                }
            }
            Err(error) => self.down(&error.to_string()),
        }
    }

    fn down(&self, reason: &str) {
        if self.state.down() {
            tracing::warn!(redis = self.address, reason, "the command link to Redis is down");
        }
    }

    fn rebuild(&mut self) {
        if self.rebuilding.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let redis = self.redis.clone();
        self.rebuilding = Some(tokio::spawn(async move {
            if let Err(error) = redis.force_reconnection().await {
                tracing::debug!(%error, "rebuilding the command link was given up");
            }
        }));
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        if let Some(task) = &self.rebuilding {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_moment_of_being_down_stands() {
        let state = State::new();
        assert!(matches!(state.read(), CommandLink::Down(since) if since == state.born));
        assert!(state.up() && !state.up());
        assert_eq!(state.read(), CommandLink::Up);
        assert!(state.down());
        let since = state.read();
        assert!(!state.down());
        assert_eq!(state.read(), since);
    }

    #[test]
    fn a_name_fits_client_setname() {
        assert_eq!(link_name("edge 1\nä"), "edge-1--");
        assert_eq!(link_name(&"x".repeat(100)).len(), MAX_NAME);
    }

    #[tokio::test]
    async fn it_starts_without_redis() {
        // A port that was free a moment ago: nobody listens.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = Address::parse(&format!("redis://127.0.0.1:{port}")).unwrap();
        let commands = Commands::connect(&address, "test");
        assert!(matches!(commands.link(), CommandLink::Down(_)));
        let answer: Result<(), Error> = commands.redis().with_options(&Commands::at_once()).ping(None).await;
        assert!(answer.is_err());
    }
}
