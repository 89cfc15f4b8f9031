//! The edge: holds clients' connections and brings rooms' publications to them.
//!
//! ```text
//! broker ─▶ Delivery ─▶ hub shard ─▶ encode once per Encoding ─▶ outbox ─▶ one write per socket
//! socket ─▶ codec ─▶ protocol machine ─▶ Command ─▶ session ─▶ members / interest / publish queue
//! ```
//!
//! It knows nothing about Redis, files, the environment, or which broker it was given.

mod app;
pub mod cluster;
pub mod config;
mod connection;
mod echo;
pub mod engine_sid;
mod http;
mod hub;
#[cfg(feature = "internals")]
pub mod internals;
mod metrics;
mod outbox;
mod publish;
pub mod rules;

use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fanfare_broker::{Answer, Asker, Broker, Feed};
use mio::net::TcpListener;
use tokio::sync::mpsc;

pub use cluster::Directory;
pub use config::{AppEndpoint, AppFormat, Config, Limits, Origins, Timing};

use crate::app::{App, Call};
use crate::cluster::{Forwarding, Owning};
use crate::http::gate::Gate;
use crate::http::handshake::{self, Public};
use crate::http::private::{self, Private};
use crate::http::serve::{Front, serve};
use crate::hub::interest::Shards;
use crate::hub::{Context, Door, Hub, Inbox, NodeState, Side};
use crate::metrics::{Bounds, Metrics};
use crate::publish::PublishQueue;

/// Sockets of the private listener; it serves scrapers and app servers, not the public.
const PRIVATE_CONNECTIONS: usize = 128;
/// Between saying that the node leaves and closing the first connection.
const DRAIN_NOTICE: Duration = Duration::from_millis(1500);
/// How long answers that were just given may take to be written.
const LAST_ANSWERS: Duration = Duration::from_millis(50);
/// `TCP_NOTSENT_LOWAT`: unsent bytes that the kernel holds per socket. Without it a stuck reader costs
/// 4 MB of kernel memory.
static NOT_SENT: libc::c_int = 16 << 10;
/// Waiting connections that the kernel keeps for a listener.
const BACKLOG: i32 = 4096;

/// A running edge.
#[derive(Debug)]
pub struct Edge {
    context: Arc<Context>,
    hub: Arc<Hub>,
    forwarding: Option<Arc<Forwarding>>,
    listen: SocketAddr,
    private: SocketAddr,
}

/// Why an edge did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Choose another address, or stop what holds it.
    #[error("{what} {address} cannot be listened on: {error}")]
    Listen { what: &'static str, address: SocketAddr, error: std::io::Error },
    /// The system refused something that a node cannot do without.
    #[error("the system refused {what}: {error}")]
    System { what: &'static str, error: std::io::Error },
    /// A defect: metrics contradict each other.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl Edge {
    /// Opens both listeners and starts serving. With a directory, the node is one of several. Called on a tokio
    /// runtime; shards get threads of their own.
    pub async fn start(
        config: Config,
        broker: Arc<dyn Broker>,
        feed: Box<dyn Feed>,
        directory: Option<Arc<dyn Directory>>,
    ) -> Result<Self, StartError> {
        let public_listener = listen("listen", config.listen)?;
        let private_listener = listen("private", config.private)?;
        let address = |what, listener: &TcpListener| {
            listener.local_addr().map_err(|error| StartError::System { what, error })
        };
        let (public_address, private_address) = (
            address("the address of listen", &public_listener)?,
            address("the address of private", &private_listener)?,
        );
        let shards = config.shards.unwrap_or_else(default_shards).clamp(1, Shards::MAX);
        let (polls, inboxes) = inboxes(shards, config.limits.shard_queue)
            .map_err(|error| StartError::System { what: "an event queue", error })?;
        let bounds =
            Bounds { connections: config.limits.connections, outbox_budget: config.limits.outbox_budget };
        let metrics = Metrics::new(shards, bounds)?;
        let (publish, drivers) = PublishQueue::new(shards, config.limits.publish_queue);
        let tag = incarnation_tag().map_err(|error| StartError::System { what: "random bytes", error })?;
        let (gate, header_timeout) = (Gate::new(config.limits.connections), config.timing.header_timeout);
        let label = config.label.clone().unwrap_or_else(|| URL_SAFE_NO_PAD.encode(&tag.to_be_bytes()[1..]));
        let (state, (http, handed)) = (NodeState::default(), mpsc::unbounded_channel());
        let (app, calls) = app_of(&config);
        let (answers, given) = mpsc::unbounded_channel();
        let began = (Instant::now(), now_millis());
        let context = Arc::new(Context {
            config,
            tag,
            label,
            metrics,
            publish,
            app,
            answers,
            began,
            inboxes,
            http,
            state,
        });
        drivers.run(&broker, &context.inboxes, &context.metrics.rare);
        tokio::spawn(give_answers(broker.clone(), given));
        if let (Some(calls), Some(endpoint)) = (calls, context.config.app.clone()) {
            tokio::spawn(app::run(context.clone(), endpoint, calls));
        }
        let doors = vec![
            Door { side: Side::Public, listener: public_listener, gate: gate.clone() },
            Door { side: Side::Private, listener: private_listener, gate: Gate::new(PRIVATE_CONNECTIONS) },
        ];
        let hub = Hub::start(context.clone(), polls, feed, doors)
            .map_err(|error| StartError::System { what: "a thread", error })?;
        let hub = Arc::new(hub);
        let rare = context.metrics.rare.clone();
        let own = Private { context: context.clone(), broker, directory: directory.clone() };
        let routes = Routes {
            public: handshake::router(Public {
                context: context.clone(),
                hub: hub.clone(),
                gate: gate.clone(),
            }),
            private: private::router(own),
        };
        let (routes, forwarding) = match directory {
            Some(directory) => routes.joined(&context, &directory, gate),
            None => (routes, None),
        };
        let unread_timeout = context.config.timing.body_timeout;
        let front = |router| Front { router, rare: rare.clone(), header_timeout, unread_timeout };
        tokio::spawn(serve(handed, front(routes.public), front(routes.private)));
        Ok(Self { context, hub, forwarding, listen: public_address, private: private_address })
    }

    /// What this node's session ids begin with.
    pub fn label(&self) -> &str {
        &self.context.label
    }

    /// Where clients connect.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Where metrics, health and publishing are.
    pub fn private(&self) -> SocketAddr {
        self.private
    }

    /// Leaves service: not ready, handshakes refused, outboxes flushed, transports closed over the drain
    /// window. Returns when every connection is closed, a little after the window at the latest.
    pub async fn drain(&self) {
        self.context.state.draining.store(true, Ordering::Relaxed);
        let window = self.context.config.timing.drain_window;
        let until = Instant::now() + window;
        // Load balancers have to see it first: clients closed earlier would come back to this very node.
        tokio::time::sleep(DRAIN_NOTICE.min(window / 2)).await;
        self.hub.drain(until);
        if let Some(forwarding) = &self.forwarding {
            forwarding.drain(until);
        }
        let last = until + Duration::from_secs(1);
        while self.is_busy() && Instant::now() < last {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // The last answers of long-polling are written by the HTTP runtime.
        tokio::time::sleep(LAST_ANSWERS).await;
    }

    /// Connections are open, the app has not heard of every end, or others' clients pass through.
    fn is_busy(&self) -> bool {
        let Context { state, app, .. } = &*self.context;
        state.open.load(Ordering::Acquire) > 0
            || state.farewells.load(Ordering::Acquire) > 0
            || app.as_ref().is_some_and(|app| app.open() > 0)
            || self.forwarding.as_ref().is_some_and(|forwarding| forwarding.is_busy())
    }

    /// Resolves when a shard has panicked: the process has to end with a non-zero status.
    pub async fn failed(&self) {
        self.context.state.failed.notified().await;
    }
}

/// The way to the app, and the calls that take it.
fn app_of(config: &Config) -> (Option<App>, Option<mpsc::UnboundedReceiver<Call>>) {
    let Some(endpoint) = &config.app else { return (None, None) };
    let (app, calls) = App::new(endpoint, config.limits.app_queue);
    (Some(app), Some(calls))
}

/// Milliseconds of Unix time; 0 for a clock before 1970.
fn now_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Hands answers to the broker, in order, as long as there are shards.
async fn give_answers(broker: Arc<dyn Broker>, mut given: mpsc::UnboundedReceiver<(Asker, Answer)>) {
    while let Some((asker, answer)) = given.recv().await {
        if let Err(error) = broker.answer(asker, answer).await {
            tracing::debug!(%error, "an answer to another server was not sent");
        }
    }
}

/// What the two listeners serve.
struct Routes {
    public: Router,
    private: Router,
}

impl Routes {
    /// The same for one of several nodes: clients of others' sessions are passed on, those of own ones come from
    /// other nodes, too.
    fn joined(
        self,
        context: &Context,
        directory: &Arc<dyn Directory>,
        connections: Arc<Gate>,
    ) -> (Self, Option<Arc<Forwarding>>) {
        let (label, config, metrics) = (&context.label, &context.config, &context.metrics);
        let owning = Owning {
            label: label.as_str().into(),
            directory: directory.clone(),
            public: self.public.clone(),
            connections,
            forwards: config.limits.forwards,
            meters: metrics.cluster.clone(),
            rare: metrics.rare.clone(),
        };
        let node = cluster::Node {
            label,
            path: &config.socketio_path,
            limits: &config.limits,
            unread_timeout: config.timing.body_timeout,
        };
        let (meters, rare) = (metrics.cluster.clone(), metrics.rare.clone());
        let forwarding = Arc::new(Forwarding::new(&node, directory.clone(), meters, rare));
        let routes = Self {
            public: cluster::layer(self.public, forwarding.clone()),
            private: self.private.merge(cluster::owner::router(owning)),
        };
        (routes, Some(forwarding))
    }
}

fn default_shards() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1))
}

fn inboxes(shards: usize, limit: usize) -> std::io::Result<(Vec<mio::Poll>, Vec<Arc<Inbox>>)> {
    let mut polls = Vec::with_capacity(shards);
    let mut inboxes = Vec::with_capacity(shards);
    for _ in 0..shards {
        let poll = mio::Poll::new()?;
        let waker = mio::Waker::new(poll.registry(), hub::WAKE)?;
        inboxes.push(Arc::new(Inbox::new(waker, limit)));
        polls.push(poll);
    }
    Ok((polls, inboxes))
}

fn incarnation_tag() -> std::io::Result<u32> {
    let mut bytes = [0u8; 4];
    getrandom::fill(&mut bytes[1..]).map_err(|error| std::io::Error::other(error.to_string()))?;
    Ok(u32::from_be_bytes(bytes))
}

/// A listener whose sockets send small frames at once, and hold little that is not sent: they take over both
/// settings from it (Linux clones the listening socket).
fn listen(what: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    let open = || {
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(address),
            socket2::Type::STREAM,
            Some(socket2::Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        set_notsent_lowat(&socket)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(TcpListener::from_std(socket.into()))
    };
    open().map_err(|error| StartError::Listen { what, address, error })
}

fn set_notsent_lowat(socket: &socket2::Socket) -> std::io::Result<()> {
    // SAFETY: the descriptor is open for the duration of the call, and the value is a c_int of that size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            (&raw const NOT_SENT).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    fn notsent_lowat(socket: impl AsFd) -> libc::c_int {
        let (mut value, mut length) = (0, size_of::<libc::c_int>() as libc::socklen_t);
        // SAFETY: the descriptor is open, and at most four bytes are written to a c_int.
        let result = unsafe {
            libc::getsockopt(
                socket.as_fd().as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_NOTSENT_LOWAT,
                (&raw mut value).cast(),
                &raw mut length,
            )
        };
        assert_eq!(result, 0);
        value
    }

    #[test]
    fn accepted_sockets_take_the_listeners_settings_over() {
        let listener = listen("listen", ([127, 0, 0, 1], 0).into()).unwrap();
        let _caller = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        // connect() returns when the kernel has completed the handshake, so the socket is there.
        let (socket, _) = listener.accept().unwrap();
        assert!(socket.nodelay().unwrap());
        assert_eq!(notsent_lowat(&socket), NOT_SENT);
    }
}
