//! What an edge is told when it starts: limits, timings and rules, each with its unit. Reading files,
//! flags and the environment is the binary's work.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use fanfare_protocol::Namespaces;

use crate::rules::{Pattern, Rules};

/// Everything an edge needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Name of the node, for logs and metrics.
    pub node: String,
    /// Front of every Engine.IO session id, by which load balancers route: see [`is_label`](crate::engine_sid::is_label). It differs for
    /// every node. `None`: made of the random tag of this run.
    pub label: Option<String>,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Metrics, health and publishing.
    pub private: SocketAddr,
    pub namespaces: Namespaces,
    pub rules: Rules,
    /// Who is told of connects, of events without a rule, and of disconnects.
    pub app: Option<AppEndpoint>,
    pub origins: Origins,
    /// Pages of the listed origins may send cookies with long-polling.
    pub cors_credentials: bool,
    /// Path of Socket.IO, with slashes at both ends.
    pub socketio_path: String,
    /// Path of plain WebSocket.
    pub plain_path: String,
    /// Folder `dist` of the npm package socket.io-client, whose files pages load from below the path of Socket.IO.
    pub client_dist: Option<PathBuf>,
    /// Every connection is sent back what it sends and nothing else, for conformance suites: Engine.IO at the path
    /// of Socket.IO, bare WebSocket at the path of plain WebSocket. Never set by the binary.
    pub echo: bool,
    /// HTML served at `/`, where there is a page to show.
    pub page: Option<&'static str>,
    pub timing: Timing,
    pub limits: Limits,
    /// Threads that own connections; `None`: cores − 1, at least 1.
    pub shards: Option<usize>,
}

/// Where the app is told what clients do.
#[derive(Clone)]
pub struct AppEndpoint {
    /// `http://host:port/path`.
    pub url: hyper::Uri,
    /// Key of the signature that every call carries.
    pub secret: String,
    pub format: AppFormat,
    /// How long a call may take, its waiting for a free place included.
    pub timeout: Duration,
    /// Namespaces that the app is told of, by name or pattern; `None`: all.
    pub namespaces: Option<Vec<Pattern>>,
}

/// How calls to the app and its answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppFormat {
    Json,
    Msgpack,
}

impl std::fmt::Debug for AppEndpoint {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppEndpoint")
            .field("url", &self.url)
            .field("format", &self.format)
            .field("timeout", &self.timeout)
            .field("namespaces", &self.namespaces)
            .finish_non_exhaustive()
    }
}

/// Which browsers' pages may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    /// Every page.
    Any,
    /// Pages of the same host, and of these origins (`https://app.example`, no path).
    SameHostAnd(Vec<String>),
}

/// Timings of an edge.
#[derive(Debug, Clone)]
pub struct Timing {
    /// Heartbeat: from the answer to the next ping.
    pub ping_interval: Duration,
    /// Heartbeat: how long an answer may take.
    pub ping_timeout: Duration,
    /// Socket.IO: how long a connection may stay without a namespace.
    pub connect_timeout: Duration,
    /// How long a request head may take.
    pub header_timeout: Duration,
    /// Long-polling: how long the body of a request may take. How long any answer may find nobody who reads it.
    pub body_timeout: Duration,
    /// Long-polling: how long the change to a WebSocket may take.
    pub upgrade_timeout: Duration,
    /// How long a join waits for the broker.
    pub join_timeout: Duration,
    /// How long a room without members stays subscribed.
    pub linger: Duration,
    /// An outbox over its soft bound that does not move for this long closes the connection.
    pub stall_timeout: Duration,
    /// How long the broker may be away until the node says that it is not ready.
    pub ready_grace: Duration,
    /// Over how long a leaving node closes its connections.
    pub drain_window: Duration,
    /// How long a client may take to acknowledge where nobody says how long.
    pub ack_timeout: Duration,
    /// How long the app is told what a connection said before it was gone; its disconnect is told in any case.
    pub app_farewell: Duration,
}

/// Bounds of an edge. Sizes are bytes.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open client connections.
    pub connections: usize,
    /// Requests for sessions of other nodes that are under way.
    pub forwards: usize,
    /// WebSockets of other nodes' sessions that pass through this node; each is one open file besides the client's.
    pub tunnels: usize,
    /// One message from a client, all its fragments together. Socket.IO's `maxPayload`.
    pub max_payload: usize,
    /// Rooms per connection.
    pub rooms_per_connection: usize,
    /// What may wait in one outbox without a limit in time.
    pub outbox_soft: usize,
    /// What may wait in one outbox at all.
    pub outbox_hard: usize,
    /// What all outboxes of the node may hold in memory.
    pub outbox_budget: usize,
    /// What may wait behind a pending join of one connection, before it is no longer read.
    pub pending_commands: usize,
    /// What may wait between shards, per shard.
    pub shard_queue: usize,
    /// What may wait to be published, for the whole node.
    pub publish_queue: usize,
    /// Body of a publish request.
    pub publish_body: usize,
    /// What all bodies of long-polling that are being read may hold in memory.
    pub post_budget: usize,
    /// Calls to the app at a time.
    pub app_calls: usize,
    /// What may wait for the app, for the whole node.
    pub app_queue: usize,
    /// One answer of the app.
    pub app_answer: usize,
    /// Connections that are gone and have more than their disconnect to tell the app.
    pub app_farewells: usize,
    /// Acknowledgements that clients were asked for and have not given.
    pub acks: usize,
}

impl Default for Config {
    /// A node for one machine on any free ports, with nothing allowed.
    fn default() -> Self {
        Self {
            node: "node".to_owned(),
            label: None,
            listen: ([127, 0, 0, 1], 0).into(),
            private: ([127, 0, 0, 1], 0).into(),
            namespaces: Namespaces::new([]).expect("no name is no wrong name"),
            rules: Rules::default(),
            app: None,
            origins: Origins::SameHostAnd(Vec::new()),
            cors_credentials: false,
            socketio_path: "/socket.io/".to_owned(),
            plain_path: "/ws".to_owned(),
            client_dist: None,
            echo: false,
            page: None,
            timing: Timing::default(),
            limits: Limits::default(),
            shards: None,
        }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(45),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(20),
            upgrade_timeout: Duration::from_secs(10),
            join_timeout: Duration::from_secs(2),
            linger: Duration::from_secs(2),
            stall_timeout: Duration::from_secs(5),
            ready_grace: Duration::from_secs(2),
            drain_window: Duration::from_secs(5),
            ack_timeout: Duration::from_secs(5),
            app_farewell: Duration::from_secs(30),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            forwards: 16_384,
            tunnels: 1_024,
            max_payload: 1_000_000,
            rooms_per_connection: 16_384,
            outbox_soft: 1 << 20,
            outbox_hard: 64 << 20,
            outbox_budget: 512 << 20,
            pending_commands: 64 << 10,
            shard_queue: 32 << 20,
            publish_queue: 64 << 20,
            publish_body: 1 << 20,
            post_budget: 64 << 20,
            app_calls: 256,
            app_queue: 64 << 20,
            app_answer: 1 << 20,
            app_farewells: 10_000,
            acks: 100_000,
        }
    }
}
