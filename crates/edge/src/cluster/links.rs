//! Links: one HTTP/2 connection to each node that something was forwarded to. It is asked for signs of life all
//! the time, so that an owner that froze is as gone as one that died.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use axum::body::{Body, Bytes};
use h2::client::SendRequest;
use h2::{Ping, PingPong};
use http_body_util::{BodyExt as _, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::owner::LINK_PROTOCOL;
use super::proof::PROOF;
use super::{CONNECT_TIME, Directory, LINK_PATH, Peer};

/// From one sign of life to asking for the next.
const PING_EVERY: Duration = Duration::from_millis(500);
/// How long an owner may take to give one.
const PING_ANSWER: Duration = Duration::from_millis(1_200);
/// How long a node that could not be connected to is not tried again.
const REST: Duration = Duration::from_secs(1);
/// Tunnels to one node that are being opened at a time: until a node has seen the proof, each of them takes a place on
/// its private listener, which has 128.
const OPENING: usize = 16;
/// Bytes of what a node says when it refuses a link.
const MAX_REFUSAL: usize = 1 << 10;
/// Bytes of one answer that may be under way to this node.
const ANSWER_WINDOW: u32 = 128 << 10;
/// Largest window there is (RFC 9113 §6.9.1).
const MAX_WINDOW: u32 = (1 << 31) - 1;

/// The links of this node.
#[derive(Debug)]
pub(super) struct Links {
    own: Box<str>,
    directory: Arc<dyn Directory>,
    /// Most requests at a time on one link.
    most: usize,
    slots: Mutex<HashMap<Box<str>, Arc<Slot>>>,
}

/// What is known about the way to one node.
#[derive(Debug)]
struct Slot {
    state: Mutex<State>,
    /// Held while somebody dials; others wait for what becomes of it.
    dialing: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
enum State {
    Unknown,
    Up(Link),
    /// It could not be reached; not tried before then.
    Down(Instant),
}

/// A link that was up a moment ago.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) sender: SendRequest<Bytes>,
    pub(super) peer: Peer,
    /// Closed when the link ends.
    pub(super) ended: watch::Receiver<()>,
    /// Taken while a tunnel is opened, see [`OPENING`].
    pub(super) opening: Arc<Semaphore>,
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("the secret of the cluster is not known yet")]
    NoSecret,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("{0}")]
    Http2(#[from] h2::Error),
    #[error("{0}: {1}")]
    Refused(StatusCode, String),
    #[error("no answer within 1 s")]
    Silent,
}

impl Slot {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nobody panics while holding it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is settled now: a link, or that there is none.
    fn settled(&self) -> Option<Option<Link>> {
        match &*self.state() {
            State::Up(link) if link.ended.has_changed().is_ok() => Some(Some(link.clone())),
            State::Down(until) if Instant::now() < *until => Some(None),
            State::Unknown | State::Up(_) | State::Down(_) => None,
        }
    }
}

impl Links {
    pub(super) fn new(own: &str, directory: Arc<dyn Directory>, most: usize) -> Arc<Self> {
        Arc::new(Self { own: own.into(), directory, most, slots: Mutex::default() })
    }

    pub(super) fn own(&self) -> &str {
        &self.own
    }

    pub(super) fn directory(&self) -> &dyn Directory {
        &*self.directory
    }

    /// A link to the node with this label; `None` where it is gone, after [`CONNECT_TIME`] at the latest.
    pub(super) async fn to(self: &Arc<Self>, label: &str) -> Option<Link> {
        let slot = self.slot(label);
        if let Some(settled) = slot.settled() {
            return settled;
        }
        let (links, label) = (self.clone(), Box::from(label));
        // In a task of its own: whoever asked may go away, and others wait for it.
        tokio::spawn(async move { links.dial(label, slot).await }).await.ok().flatten()
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Box<str>, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, label: &str) -> Arc<Slot> {
        let mut slots = self.slots();
        if let Some(slot) = slots.get(label) {
            return slot.clone();
        }
        // Labels are chosen by clients: what says nothing about a node is not kept.
        slots.retain(|_, slot| Arc::strong_count(slot) > 1 || slot.settled().is_some());
        let slot =
            Arc::new(Slot { state: Mutex::new(State::Unknown), dialing: tokio::sync::Mutex::default() });
        slots.insert(label.into(), slot.clone());
        slot
    }

    async fn dial(self: Arc<Self>, label: Box<str>, slot: Arc<Slot>) -> Option<Link> {
        let _turn = slot.dialing.lock().await;
        if let Some(settled) = slot.settled() {
            return settled;
        }
        let Some(peer) = timeout(CONNECT_TIME, self.directory.find(&label)).await.ok().flatten() else {
            self.slots().remove(&label);
            return None;
        };
        let dialed = timeout(CONNECT_TIME, self.connect(&label, peer.clone(), &slot)).await;
        let (state, link) = match dialed.unwrap_or(Err(DialError::Silent)) {
            Ok(link) => (State::Up(link.clone()), Some(link)),
            Err(error) => {
                tracing::warn!(node = &*label, address = peer.address, %error, "a node cannot be linked to");
                (State::Down(Instant::now() + REST), None)
            }
        };
        *slot.state() = state;
        link
    }

    /// An HTTP/1.1 request with a proof becomes an HTTP/2 connection: one secret, one place that checks it.
    async fn connect(&self, label: &str, peer: Peer, slot: &Arc<Slot>) -> Result<Link, DialError> {
        let secret = self.directory.secret().ok_or(DialError::NoSecret)?;
        let proof = secret.prove(&self.own, label, LINK_PATH, SystemTime::now());
        let request = Request::get(LINK_PATH)
            .header(HOST, &*peer.address)
            .header(CONNECTION, "upgrade")
            .header(UPGRADE, LINK_PROTOCOL)
            .header(PROOF, proof);
        let request = request.body(Body::empty()).map_err(io::Error::other)?;
        let mut sender = open(&peer).await?;
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let (status, body) = (response.status(), response.into_body());
            let said = Limited::new(body, MAX_REFUSAL).collect().await;
            let said = said.map_or_else(|_| Bytes::new(), http_body_util::Collected::to_bytes);
            return Err(DialError::Refused(status, String::from_utf8_lossy(&said).trim().to_owned()));
        }
        let upgraded = TokioIo::new(hyper::upgrade::on(response).await?);
        let most = u32::try_from(self.most).unwrap_or(u32::MAX);
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(ANSWER_WINDOW)
            // Room for every answer's window: clients that do not read theirs hold up nobody else's.
            .initial_connection_window_size(most.saturating_mul(ANSWER_WINDOW).min(MAX_WINDOW))
            .initial_max_send_streams(self.most)
            .max_concurrent_streams(most)
            // Clients cut their requests off whenever they like: that is no fault of the owner's.
            .max_local_error_reset_streams(None)
            .enable_push(false)
            .handshake::<_, Bytes>(upgraded)
            .await?;
        let (held, ended) = watch::channel(());
        tokio::spawn(keep(label.into(), connection, held, Arc::downgrade(slot)));
        Ok(Link { sender, peer, ended, opening: Arc::new(Semaphore::new(OPENING)) })
    }
}

/// An HTTP/1.1 connection to a node, for one request.
pub(super) async fn open(peer: &Peer) -> Result<http1::SendRequest<Body>, OpenError> {
    let socket = TcpStream::connect(&*peer.address).await?;
    socket.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    tokio::spawn(async move {
        // Whoever waits for the answer is told.
        drop(connection.with_upgrades().await);
    });
    Ok(sender)
}

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
}

impl From<OpenError> for DialError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Io(error) => Self::Io(error),
            OpenError::Http(error) => Self::Http(error),
        }
    }
}

type Connection = h2::client::Connection<TokioIo<Upgraded>, Bytes>;

/// Drives a link until it ends or the other side gives no sign of life. Dropping the connection fails what is under
/// way; dropping `held` tells tunnels.
async fn keep(label: Box<str>, mut connection: Connection, held: watch::Sender<()>, slot: Weak<Slot>) {
    let _held = held;
    let pings = connection.ping_pong();
    let ended = async {
        // There is one: it is taken once.
        match pings {
            Some(pings) => beat(pings).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        ended = &mut connection => match ended {
            Ok(()) => tracing::debug!(node = &*label, "a link was closed"),
            Err(error) => tracing::debug!(node = &*label, %error, "a link broke"),
        },
        () = ended => {
            tracing::warn!(node = &*label, "a node gives no sign of life: its sessions are given up");
            // Those who come now need not find it out once more.
            if let Some(slot) = slot.upgrade() {
                *slot.state() = State::Down(Instant::now() + REST);
            }
        }
    }
}

/// Returns when an answer is missing.
async fn beat(mut pings: PingPong) {
    loop {
        tokio::time::sleep(PING_EVERY).await;
        let answered = async {
            pings.send_ping(Ping::opaque())?;
            poll_fn(|context| pings.poll_pong(context)).await
        };
        match timeout(PING_ANSWER, answered).await {
            Ok(Ok(_)) => {}
            // The connection has ended, and says why.
            Ok(Err(_)) => std::future::pending().await,
            Err(_) => return,
        }
    }
}
