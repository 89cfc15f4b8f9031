//! Carries publications between nodes. Two brokers: [`memory`] (one node) and [`redis`] (any number).
//!
//! A broker has two halves. [`Broker`] takes what is published here; it is shared and asynchronous.
//! [`Feed`] hands out what arrives; it is owned by one thread, the hub's first shard, whose event loop
//! watches its socket. A feed never blocks and owns no thread of its own while the link is up.
//!
//! The crate knows nothing about connections, encodings or who is online.

pub mod envelope;
pub mod foreign;
pub mod memory;
pub mod redis;
pub mod request;

use std::future::Future;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanfare_protocol::Publication;

pub use request::{Answer, Asker, Request, SessionView, Target};

/// A future that a [`Broker`] returns.
pub type BrokerFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The side that publishes.
pub trait Broker: Send + Sync + 'static {
    /// Publishes in the order given and answers for each, in the same order. Delivered at most once:
    /// an error means that the publication may or may not have gone out.
    fn publish(&self, batch: Vec<Publication<'static>>) -> BrokerFuture<'_, Vec<Result<(), PublishError>>>;

    /// Sends an answer to whoever asked. An asker that hears nothing waits no longer than it said, then fails.
    fn answer(&self, asker: Asker, answer: Answer) -> BrokerFuture<'_, Result<(), PublishError>>;

    /// How the link for publishing is.
    fn link(&self) -> Link;
}

/// The side that receives, driven by the thread that owns it.
pub trait Feed: Send + 'static {
    /// Called once, before everything else. `wake` makes the owner call [`Feed::turn`] soon, from any thread.
    fn start(&mut self, wake: Arc<dyn Fn() + Send + Sync>);

    /// States that this node wants `channel`, or no longer does. Level-triggered: what counts is the
    /// last word per channel, and the feed sees to it, also after the link was lost. The answer comes
    /// as [`Delivery::Active`] or [`Delivery::Refused`] from a later turn; none for what is unwanted.
    fn want(&mut self, channel: Channel<'_>, wanted: bool);

    /// Reads and writes what is possible now, handing out at most about `budget` publications
    /// (or 256 KiB of them), then says what to wait for.
    fn turn(&mut self, now: Instant, budget: usize, sink: &mut dyn FnMut(Delivery<'_>)) -> Turn;
}

/// What the owner of a feed does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// The socket to watch, edge-triggered, for reading and writing. `serial` differs for each link,
    /// since descriptors are reused. Registered anew when `serial` changes.
    pub socket: Option<FeedSocket>,
    /// More can be handed out at once: call again without waiting.
    pub more: bool,
    /// Call again by then at the latest.
    pub deadline: Option<Instant>,
}

/// See [`Turn::socket`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedSocket {
    pub fd: RawFd,
    pub serial: u64,
}

/// What a node can want.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel<'a> {
    /// Publications to one room (or to one session, by its sid).
    Room { namespace: &'a str, room: &'a str },
    /// Publications to everyone in the namespace, or to several rooms.
    Namespace(&'a str),
    /// Plain JSON publications for any room, from anyone with a Redis client.
    Publish,
    /// What Socket.IO servers and emitters ask of all nodes that serve the namespace.
    Requests(&'a str),
    /// The one channel of python-socketio's managers: publications and requests for any namespace.
    Python,
}

/// What a feed hands to the hub.
#[derive(Debug)]
pub enum Delivery<'a> {
    /// A publication. `channel` says on which channel it came; who gets it is in the publication itself.
    Publication { channel: Channel<'a>, publication: Publication<'a> },
    /// Something asked of this node, in a namespace. `channel` says on which channel it came.
    Request { channel: Channel<'a>, namespace: &'a str, request: Request },
    /// The channel is subscribed: what is published from now on arrives.
    Active(Channel<'a>),
    /// The channel cannot be subscribed. While it is wanted the feed asks again every few seconds, and says so
    /// each time.
    Refused { channel: Channel<'a>, reason: &'a str },
    /// Something arrived that is no publication; it was dropped.
    Malformed { channel: Channel<'a>, reason: Malformed },
    /// The link is up and authenticated; wanted channels become active one by one from here.
    Up,
    /// The link is gone (or never came up, said once): nothing is active until [`Delivery::Up`]. `since`:
    /// when it was last known to work, which for a silent link is some seconds ago.
    Lost { reason: String, since: Instant },
    /// Every channel that was wanted when the link came up is active again, `after` the link was lost.
    Resubscribed { channels: usize, after: Duration },
}

/// Why something on a channel was dropped. The label goes into metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// Larger than the configured bound.
    TooLarge,
    /// Not the MessagePack (or JSON) shape of a publication.
    Shape,
    /// Nested deeper than allowed.
    TooDeep,
    /// Its namespace is not the channel's.
    WrongNamespace,
    /// From a python-socketio before 5.14, whose pickles can run code in who reads them.
    Pickle,
}

impl Malformed {
    /// Every reason.
    pub const ALL: [Malformed; 5] =
        [Self::TooLarge, Self::Shape, Self::TooDeep, Self::WrongNamespace, Self::Pickle];

    /// The value of the metric label `reason`.
    pub fn label(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Shape => "shape",
            Self::TooDeep => "too_deep",
            Self::WrongNamespace => "wrong_namespace",
            Self::Pickle => "pickle",
        }
    }
}

/// State of a link to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    Up,
    /// Down since then.
    Down(Instant),
}

/// Why a publication was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The broker is away or did not answer in time. Try again; it may have gone out.
    #[error("the broker is unavailable: {0}")]
    Unavailable(String),
    /// The broker refused it, for example by its access rules. Trying again does not help.
    #[error("the broker refused: {0}")]
    Refused(String),
    /// More is waiting to be published than the node's bound allows. Slow down.
    #[error("the publish queue is full")]
    QueueFull,
}
