//! Every setting, once. Flags, variables, keys of the file, `--help` and docs/settings.md come from here.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use fanfare_broker::foreign::PythonDialect;
use fanfare_edge::cluster::Secret;
use fanfare_edge::engine_sid::is_label;
use fanfare_edge::{Limits, Origins, Timing};
use fanfare_protocol::{NameError, Namespaces};
use fanfare_redis::{Address, Prefix};

use crate::app::{self, AppSettings};

/// What the settings say, parsed and each within its range. [`SETTINGS`] fills it from the defaults first.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) listen: SocketAddr,
    pub(crate) private: SocketAddr,
    pub(crate) redis: Option<Address>,
    pub(crate) prefix: Prefix,
    pub(crate) python_channel: Option<String>,
    pub(crate) python_dialect: PythonDialect,
    pub(crate) envelope: usize,
    /// As `host:port`.
    pub(crate) advertise: Option<String>,
    pub(crate) cluster_secret: Option<Secret>,
    pub(crate) node: Option<String>,
    pub(crate) label: Option<String>,
    pub(crate) dev: bool,
    pub(crate) origins: Origins,
    pub(crate) cors_credentials: bool,
    pub(crate) namespaces: Namespaces,
    pub(crate) app: AppSettings,
    pub(crate) socketio_path: String,
    pub(crate) plain_path: String,
    pub(crate) client_dist: Option<PathBuf>,
    pub(crate) timing: Timing,
    /// `connections` and `tunnels` are in the fields of their names until the limit of open files is known.
    pub(crate) limits: Limits,
    pub(crate) connections: Option<usize>,
    pub(crate) tunnels: Option<usize>,
    pub(crate) shards: Option<usize>,
    pub(crate) log_format: Option<LogFormat>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// One row of the registry.
pub(crate) struct Setting {
    /// Key in the file. The flag is this with dashes, the variable this in capitals behind `FANFARE_`.
    pub(crate) key: &'static str,
    pub(crate) group: &'static str,
    pub(crate) kind: Kind,
    pub(crate) fallback: Fallback,
    pub(crate) help: &'static str,
}

/// What applies where nobody says anything.
pub(crate) enum Fallback {
    /// This text, read like any other.
    Value(&'static str),
    /// Something found out at start, in these words.
    Derived(&'static str),
}

/// The form of a value, its range, and the field it goes to.
pub(crate) enum Kind {
    Address(fn(&mut Settings, SocketAddr)),
    Duration {
        range: (Duration, Duration),
        set: fn(&mut Settings, Duration),
    },
    Size {
        range: (usize, usize),
        set: fn(&mut Settings, usize),
    },
    Count {
        range: (usize, usize),
        set: fn(&mut Settings, usize),
    },
    Switch(fn(&mut Settings, bool)),
    /// `form` names the value in `--help`.
    Text {
        form: &'static str,
        set: fn(&mut Settings, &str) -> Result<(), String>,
    },
    List {
        form: &'static str,
        set: fn(&mut Settings, &[String]) -> Result<(), String>,
    },
}

const WHERE: &str = "Where";
const WHO: &str = "Who may do what";
const APP: &str = "The app callback";
const TIMING: &str = "Timing";
const BOUNDS: &str = "Bounds";
const RUNNING: &str = "Running";

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;
const GIB: usize = 1 << 30;

/// The registry, in the order in which it is shown.
pub(crate) static SETTINGS: &[Setting] = &[
    Setting {
        key: "listen",
        group: WHERE,
        kind: Kind::Address(|to, value| to.listen = value),
        fallback: Fallback::Value("127.0.0.1:3000"),
        help: "Where clients connect. Use 0.0.0.0:3000 behind a load balancer.",
    },
    Setting {
        key: "private",
        group: WHERE,
        kind: Kind::Address(|to, value| to.private = value),
        fallback: Fallback::Value("127.0.0.1:3001"),
        help: "Where /metrics, /livez, /readyz and POST /v1/publish are. Whoever reaches it may publish: never \
               expose it to the internet.",
    },
    Setting {
        key: "redis",
        group: WHERE,
        kind: Kind::Text { form: "URL", set: set_redis },
        fallback: Fallback::Derived("none: one node, in memory"),
        help: "Redis that joins the nodes, as redis://user:password@host:6379. With a password prefer \
               FANFARE_REDIS or the file: flags can be read by everyone on the machine.",
    },
    Setting {
        key: "prefix",
        group: WHERE,
        kind: Kind::Text { form: "NAME", set: set_prefix },
        fallback: Fallback::Value("socket.io"),
        help: "First part of every Redis channel, the `key` of Socket.IO's Redis adapter and emitters. Two \
               installations on one Redis need two prefixes.",
    },
    Setting {
        key: "advertise",
        group: WHERE,
        kind: Kind::Text { form: "HOST:PORT", set: set_advertise },
        fallback: Fallback::Derived(
            "`private`; if that is every address, the one from which this machine reaches Redis",
        ),
        help: "Where the other nodes reach this node's private listener: they forward what is for sessions of this \
               node.",
    },
    Setting {
        key: "python_channel",
        group: WHERE,
        kind: Kind::Text { form: "NAME", set: set_python_channel },
        fallback: Fallback::Value("socketio"),
        help: "Redis channel of python-socketio's managers, their `channel` argument; the prefix does not apply. \
               Empty: not read.",
    },
    Setting {
        key: "python_dialect",
        group: WHERE,
        kind: Kind::Text { form: "VERSION", set: set_python_dialect },
        fallback: Fallback::Value("5.15.1"),
        help: "Version of the python-socketio that publishes there, from 5.14.0. Up to 5.15.0 a list is one \
               argument, since 5.15.1 several; nothing in it says which. Older ones write pickle, which is not \
               read.",
    },
    Setting {
        key: "socketio_path",
        group: WHERE,
        kind: Kind::Text { form: "PATH", set: set_socketio_path },
        fallback: Fallback::Value("/socket.io/"),
        help: "Path of Socket.IO, as in the `path` option of socket.io-client.",
    },
    Setting {
        key: "plain_path",
        group: WHERE,
        kind: Kind::Text { form: "PATH", set: set_plain_path },
        fallback: Fallback::Value("/ws"),
        help: "Path of plain WebSocket.",
    },
    Setting {
        key: "client_dist",
        group: WHERE,
        kind: Kind::Text { form: "FOLDER", set: set_client_dist },
        fallback: Fallback::Derived("none: these files are not served"),
        help: "Folder `dist` of the npm package socket.io-client: its files are served below the path of Socket.IO, \
               as /socket.io/socket.io.js.",
    },
    Setting {
        key: "dev",
        group: WHO,
        kind: Kind::Switch(|to, value| to.dev = value),
        fallback: Fallback::Value("false"),
        help: "For development: every room is open, every origin may connect, a demo page is at /. Only on \
               loopback addresses.",
    },
    Setting {
        key: "origins",
        group: WHO,
        kind: Kind::List { form: "ORIGIN,…", set: set_origins },
        fallback: Fallback::Derived("the host's own pages"),
        help: "Pages that may connect besides those of the same host, as https://app.example; * for all.",
    },
    Setting {
        key: "cors_credentials",
        group: WHO,
        kind: Kind::Switch(|to, value| to.cors_credentials = value),
        fallback: Fallback::Value("false"),
        help: "Pages of the listed origins may use long-polling with cookies (`withCredentials`).",
    },
    Setting {
        key: "namespaces",
        group: WHO,
        kind: Kind::List { form: "NAME,…", set: set_namespaces },
        fallback: Fallback::Derived("/ alone"),
        help: "Socket.IO namespaces besides /, as /admin. Others are refused with \"Invalid namespace\".",
    },
    Setting {
        key: "cluster_secret",
        group: WHO,
        kind: Kind::Text { form: "SECRET", set: set_cluster_secret },
        fallback: Fallback::Derived("one that the first node leaves in Redis"),
        help: "What nodes show each other before they forward, the same for all of them; 16 characters or more. \
               Prefer FANFARE_CLUSTER_SECRET: flags can be read by everyone on the machine.",
    },
    Setting {
        key: "app_url",
        group: APP,
        kind: Kind::Text { form: "URL", set: app::set_url },
        fallback: Fallback::Derived("none: events without a rule are refused"),
        help: "The app callback: where connects, events without a rule and disconnects are told, as \
               http://127.0.0.1:8080/realtime. See docs/app-callback.md.",
    },
    Setting {
        key: "app_secret",
        group: APP,
        kind: Kind::Text { form: "TEXT", set: app::set_secret },
        fallback: Fallback::Derived("none; needed with app_url"),
        help: "Signs what the app is told. Prefer FANFARE_APP_SECRET or the file: flags can be read by everyone on \
               the machine.",
    },
    Setting {
        key: "app_format",
        group: APP,
        kind: Kind::Text { form: "json|msgpack", set: app::set_format },
        fallback: Fallback::Value("json"),
        help: "How calls to the app and its answers are written.",
    },
    Setting {
        key: "app_namespaces",
        group: APP,
        kind: Kind::List { form: "NAME,…", set: app::set_namespaces },
        fallback: Fallback::Derived("all"),
        help: "Namespaces that the app is told of, as /,/admin or /tenant-{id}.",
    },
    Setting {
        key: "app_timeout",
        group: APP,
        kind: Kind::Duration {
            range: (Duration::from_millis(10), MINUTE),
            set: |to, value| to.app.timeout = value,
        },
        fallback: Fallback::Value("5s"),
        help: "How long a call to the app may take, its waiting for a free place included.",
    },
    Setting {
        key: "app_calls",
        group: APP,
        kind: Kind::Count { range: (1, 65_536), set: |to, value| to.limits.app_calls = value },
        fallback: Fallback::Value("256"),
        help: "Calls to the app at a time, each on a connection that is kept. Others wait.",
    },
    Setting {
        key: "app_queue",
        group: APP,
        kind: Kind::Size { range: (64 * KIB, 64 * GIB), set: |to, value| to.limits.app_queue = value },
        fallback: Fallback::Value("64MiB"),
        help: "What may wait for the app, for the whole node; above it, calls fail as if the app were down.",
    },
    Setting {
        key: "app_answer",
        group: APP,
        kind: Kind::Size { range: (KIB, 256 * MIB), set: |to, value| to.limits.app_answer = value },
        fallback: Fallback::Value("1MiB"),
        help: "The longest answer of the app.",
    },
    Setting {
        key: "app_farewell",
        group: APP,
        kind: Kind::Duration {
            range: (Duration::ZERO, Duration::from_secs(600)),
            set: |to, value| to.timing.app_farewell = value,
        },
        fallback: Fallback::Value("30s"),
        help: "How long the app is still told what a connection said before it was gone. Its disconnect is told \
               after that, too, unless app_queue is full.",
    },
    Setting {
        key: "app_farewells",
        group: APP,
        kind: Kind::Count { range: (0, 1 << 24), set: |to, value| to.limits.app_farewells = value },
        fallback: Fallback::Value("10000"),
        help: "Gone connections with more than their disconnect to tell; above it, only disconnects are told.",
    },
    Setting {
        key: "ping_interval",
        group: TIMING,
        kind: Kind::Duration {
            range: (Duration::from_millis(100), HOUR),
            set: |to, value| to.timing.ping_interval = value,
        },
        fallback: Fallback::Value("25s"),
        help: "How long after an answer the next heartbeat goes out. Keep it below the load balancer's idle limit.",
    },
    Setting {
        key: "ping_timeout",
        group: TIMING,
        kind: Kind::Duration {
            range: (Duration::from_millis(100), HOUR),
            set: |to, value| to.timing.ping_timeout = value,
        },
        fallback: Fallback::Value("20s"),
        help: "How long a heartbeat's answer may take before the connection is closed.",
    },
    Setting {
        key: "connect_timeout",
        group: TIMING,
        kind: Kind::Duration {
            range: (Duration::from_millis(100), HOUR),
            set: |to, value| to.timing.connect_timeout = value,
        },
        fallback: Fallback::Value("45s"),
        help: "How long a Socket.IO connection may stay without entering a namespace.",
    },
    Setting {
        key: "join_timeout",
        group: TIMING,
        kind: Kind::Duration {
            range: (Duration::from_millis(10), MINUTE),
            set: |to, value| to.timing.join_timeout = value,
        },
        fallback: Fallback::Value("2s"),
        help: "How long a join waits for Redis before it fails with `unavailable`.",
    },
    Setting {
        key: "linger",
        group: TIMING,
        kind: Kind::Duration { range: (Duration::ZERO, HOUR), set: |to, value| to.timing.linger = value },
        fallback: Fallback::Value("2s"),
        help: "How long a room stays subscribed in Redis after its last member left.",
    },
    Setting {
        key: "header_timeout",
        group: TIMING,
        kind: Kind::Duration {
            range: (Duration::from_millis(100), Duration::from_secs(300)),
            set: |to, value| to.timing.header_timeout = value,
        },
        fallback: Fallback::Value("10s"),
        help: "How long the head of a request may take.",
    },
    Setting {
        key: "body_timeout",
        group: TIMING,
        kind: Kind::Duration {
            range: (Duration::from_millis(100), Duration::from_secs(300)),
            set: |to, value| to.timing.body_timeout = value,
        },
        fallback: Fallback::Value("20s"),
        help: "How long the body of a long-polling request may take, and how long an answer may find no reader.",
    },
    Setting {
        key: "upgrade_timeout",
        group: TIMING,
        kind: Kind::Duration {
            range: (Duration::from_millis(100), MINUTE),
            set: |to, value| to.timing.upgrade_timeout = value,
        },
        fallback: Fallback::Value("10s"),
        help: "How long the change from long-polling to a WebSocket may take; after it, polling goes on.",
    },
    Setting {
        key: "ack_timeout",
        group: TIMING,
        kind: Kind::Duration {
            range: (Duration::from_millis(10), Duration::from_secs(600)),
            set: |to, value| to.timing.ack_timeout = value,
        },
        fallback: Fallback::Value("5s"),
        help: "How long a client may take to acknowledge an event where nobody says how long.",
    },
    Setting {
        key: "connections",
        group: BOUNDS,
        kind: Kind::Count { range: (1, 1 << 24), set: |to, value| to.connections = Some(value) },
        fallback: Fallback::Derived(
            "what the limit of open files allows, less a quarter (32 to 256); at most 1000000",
        ),
        help: "Open client connections. At the bound new ones are refused and counted.",
    },
    Setting {
        key: "forwards",
        group: BOUNDS,
        kind: Kind::Count { range: (1, 1 << 20), set: |to, value| to.limits.forwards = value },
        fallback: Fallback::Value("16384"),
        help: "Requests of long-polling for sessions of other nodes that may be under way, waiting ones too. At the \
               bound they are answered with 503 and counted.",
    },
    Setting {
        key: "tunnels",
        group: BOUNDS,
        kind: Kind::Count { range: (0, 1 << 20), set: |to, value| to.tunnels = Some(value) },
        fallback: Fallback::Derived("an eighth of the open files, at most 4096; none without Redis"),
        help: "WebSockets of other nodes' sessions that may pass through this node; each takes an open file of its \
               own. At the bound upgrades are answered with 503 and counted.",
    },
    Setting {
        key: "max_payload",
        group: BOUNDS,
        kind: Kind::Size { range: (KIB, 256 * MIB), set: |to, value| to.limits.max_payload = value },
        fallback: Fallback::Value("1MB"),
        help: "The largest single thing a connection may send, Socket.IO's maxPayload.",
    },
    Setting {
        key: "rooms_per_connection",
        group: BOUNDS,
        kind: Kind::Count { range: (1, 1 << 20), set: |to, value| to.limits.rooms_per_connection = value },
        fallback: Fallback::Value("16384"),
        help: "Rooms that one connection may be in.",
    },
    Setting {
        key: "outbox_soft",
        group: BOUNDS,
        kind: Kind::Size { range: (KIB, GIB), set: |to, value| to.limits.outbox_soft = value },
        fallback: Fallback::Value("1MiB"),
        help: "What may wait for one connection; above it, 5s without progress close the connection.",
    },
    Setting {
        key: "outbox_hard",
        group: BOUNDS,
        kind: Kind::Size { range: (KIB, 4 * GIB), set: |to, value| to.limits.outbox_hard = value },
        fallback: Fallback::Value("64MiB"),
        help: "What may wait for one connection at all; above it, the connection is closed at once.",
    },
    Setting {
        key: "outbox_budget",
        group: BOUNDS,
        kind: Kind::Size { range: (64 * KIB, 1024 * GIB), set: |to, value| to.limits.outbox_budget = value },
        fallback: Fallback::Value("512MiB"),
        help: "What may wait for all connections together; above it, the one that holds the most is closed.",
    },
    Setting {
        key: "publish_body",
        group: BOUNDS,
        kind: Kind::Size { range: (KIB, 256 * MIB), set: |to, value| to.limits.publish_body = value },
        fallback: Fallback::Value("1MiB"),
        help: "Body of a POST /v1/publish.",
    },
    Setting {
        key: "acks",
        group: BOUNDS,
        kind: Kind::Count { range: (1, 1 << 24), set: |to, value| to.limits.acks = value },
        fallback: Fallback::Value("100000"),
        help: "Acknowledgements that clients were asked for and have not given, shared out among the shards.",
    },
    Setting {
        key: "post_budget",
        group: BOUNDS,
        kind: Kind::Size { range: (64 * KIB, 64 * GIB), set: |to, value| to.limits.post_budget = value },
        fallback: Fallback::Value("64MiB"),
        help: "What all long-polling bodies that are being read may hold; above it, they are refused with 503.",
    },
    Setting {
        key: "envelope",
        group: BOUNDS,
        kind: Kind::Size { range: (KIB, 512 * MIB), set: |to, value| to.envelope = value },
        fallback: Fallback::Value("8MiB"),
        help: "The largest publication taken from Redis or published there; larger ones are dropped and counted.",
    },
    Setting {
        key: "node",
        group: RUNNING,
        kind: Kind::Text { form: "NAME", set: set_node },
        fallback: Fallback::Derived("host name and process id"),
        help: "Name of this node in logs and metrics.",
    },
    Setting {
        key: "label",
        group: RUNNING,
        kind: Kind::Text { form: "TEXT", set: set_label },
        fallback: Fallback::Derived("four random characters, others at every start"),
        help: "Front of every Engine.IO session id, by which load balancers route. 1 to 16 letters, digits, _ and -; \
               no two nodes may have the same.",
    },
    Setting {
        key: "shards",
        group: RUNNING,
        kind: Kind::Count { range: (1, 64), set: |to, value| to.shards = Some(value) },
        fallback: Fallback::Derived("cores less one, at least 1"),
        help: "Threads that own connections.",
    },
    Setting {
        key: "log_format",
        group: RUNNING,
        kind: Kind::Text { form: "text|json", set: set_log_format },
        fallback: Fallback::Derived("text on a terminal, json elsewhere"),
        help: "How log lines look. Which are shown: FANFARE_LOG, as in FANFARE_LOG=debug.",
    },
];

impl Setting {
    /// The flag, without its two dashes.
    pub(crate) fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// The environment variable.
    pub(crate) fn variable(&self) -> String {
        format!("FANFARE_{}", self.key.to_ascii_uppercase())
    }
}

fn set_redis(to: &mut Settings, text: &str) -> Result<(), String> {
    to.redis = Some(Address::parse(text).map_err(|error| error.to_string())?);
    Ok(())
}

fn set_prefix(to: &mut Settings, text: &str) -> Result<(), String> {
    to.prefix = Prefix::new(text).map_err(|error| error.to_string())?;
    Ok(())
}

fn set_python_channel(to: &mut Settings, text: &str) -> Result<(), String> {
    if text.len() > 200 || text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return Err("python_channel has at most 200 bytes and no control characters".to_owned());
    }
    to.python_channel = Some(text.to_owned()).filter(|name| !name.is_empty());
    Ok(())
}

fn set_python_dialect(to: &mut Settings, text: &str) -> Result<(), String> {
    let parts: Option<Vec<u32>> = text.split('.').map(|part| part.parse().ok()).collect();
    let Some([major, minor, patch]) = parts.as_deref().and_then(|parts| <[u32; 3]>::try_from(parts).ok())
    else {
        return Err(format!("`{text}` is no version; write for example 5.15.1"));
    };
    to.python_dialect = match (major, minor, patch) {
        version if version < (5, 14, 0) => {
            return Err(format!("python-socketio {text} writes pickle; upgrade it to 5.14 or newer"));
        }
        version if version < (5, 15, 1) => PythonDialect::Value,
        _ => PythonDialect::Arguments,
    };
    Ok(())
}

fn set_node(to: &mut Settings, text: &str) -> Result<(), String> {
    let fits = (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !fits {
        return Err(format!(
            "`{text}` is no name of a node; write 1 to 64 letters, digits and punctuation marks"
        ));
    }
    to.node = Some(text.to_owned());
    Ok(())
}

fn set_advertise(to: &mut Settings, text: &str) -> Result<(), String> {
    let parts = text.rsplit_once(':');
    let fits = parts.is_some_and(|(host, port)| {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        !bare.is_empty()
            && (bare == host) != bare.contains(':')
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if !fits {
        return Err(format!(
            "`{text}` is not where a node can be reached; write host and port, as 10.0.0.5:3001"
        ));
    }
    to.advertise = Some(text.to_owned());
    Ok(())
}

/// The value is in no error: it is a secret.
fn set_cluster_secret(to: &mut Settings, text: &str) -> Result<(), String> {
    if text.len() < 16 {
        return Err("a secret has 16 characters or more, as openssl rand -hex 32 makes them".to_owned());
    }
    to.cluster_secret = Some(Secret::new(text));
    Ok(())
}

fn set_label(to: &mut Settings, text: &str) -> Result<(), String> {
    if !is_label(text) {
        return Err(format!("`{text}` is no label; write 1 to 16 letters, digits, _ and -"));
    }
    to.label = Some(text.to_owned());
    Ok(())
}

fn set_client_dist(to: &mut Settings, text: &str) -> Result<(), String> {
    let folder = PathBuf::from(text);
    if !folder.join("socket.io.js").is_file() {
        return Err(format!("`{text}` has no file socket.io.js; name the folder dist of socket.io-client"));
    }
    to.client_dist = Some(folder);
    Ok(())
}

fn set_socketio_path(to: &mut Settings, text: &str) -> Result<(), String> {
    let inner = text.trim_matches('/');
    if inner.is_empty() || !is_path(text) || !text.ends_with('/') {
        let instead = if inner.is_empty() { "socket.io" } else { inner };
        return Err(format!("`{text}` needs a name between two slashes; write /{instead}/"));
    }
    to.socketio_path = text.to_owned();
    Ok(())
}

fn set_plain_path(to: &mut Settings, text: &str) -> Result<(), String> {
    let inner = text.trim_matches('/');
    if inner.is_empty() || !is_path(text) || text.ends_with('/') {
        let instead = if inner.is_empty() { "ws" } else { inner };
        return Err(format!("`{text}` needs a slash before a name and none after it; write /{instead}"));
    }
    to.plain_path = text.to_owned();
    Ok(())
}

/// A path as it stands in a request line, without parameters: a router's special characters are out too.
fn is_path(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    text.starts_with('/') && text.bytes().all(plain) && !text.contains("//")
}

fn set_origins(to: &mut Settings, list: &[String]) -> Result<(), String> {
    if list.iter().any(|origin| origin == "*") {
        to.origins = Origins::Any;
        return Ok(());
    }
    if let Some(wrong) = list.iter().find(|origin| !is_origin(origin)) {
        return Err(format!(
            "`{wrong}` is no origin; write scheme and host without a path, as https://app.example"
        ));
    }
    to.origins = Origins::SameHostAnd(list.iter().map(|origin| origin.to_ascii_lowercase()).collect());
    Ok(())
}

fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return false };
    let scheme_fits = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let host_fits = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.:[]_".contains(&byte));
    scheme_fits && !host.is_empty() && host_fits
}

fn set_namespaces(to: &mut Settings, list: &[String]) -> Result<(), String> {
    let names = list.iter().map(String::as_str);
    to.namespaces = Namespaces::new(names).map_err(|error: NameError| error.to_string())?;
    Ok(())
}

fn set_log_format(to: &mut Settings, text: &str) -> Result<(), String> {
    to.log_format = Some(match text {
        "text" => LogFormat::Text,
        "json" => LogFormat::Json,
        _ => return Err(format!("`{text}` is no log format; write text or json")),
    });
    Ok(())
}
