//! The hub: this node's members, split over shards. A shard is one thread that owns its connections.

mod acks;
mod asking;
mod callers;
mod doors;
mod effects;
mod fanout;
mod farewells;
mod feed;
mod flush;
mod inbox;
pub(crate) mod interest;
mod joining;
#[cfg(feature = "internals")]
pub(crate) mod lone;
pub(crate) mod members;
mod polling;
mod reading;
mod relay;
mod requests;
mod session;
mod shard;
mod timers;
mod upgrade;
mod wheel;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use doors::Doors;
use fanfare_broker::{Asker, Feed};
use fanfare_protocol::NamespaceId;
use tokio::sync::{Notify, mpsc};

use crate::app::App;
use crate::config::Config;
use crate::connection::Newcomer;
use crate::http::serve::Handed;
use crate::metrics::Metrics;
use crate::publish::PublishQueue;

pub(crate) use doors::{Door, Side};
pub(crate) use inbox::{Inbox, Opening, Post, Ticket};
pub(crate) use polling::{Answer, Answering, Ask, Polling};
pub(crate) use shard::WAKE;
pub(crate) use upgrade::Claim;

/// What every shard and every request sees.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) config: Config,
    /// Tag of this incarnation, 24 bits: the front of every sid.
    pub(crate) tag: u32,
    /// The front of every Engine.IO session id.
    pub(crate) label: String,
    pub(crate) metrics: Metrics,
    pub(crate) publish: PublishQueue,
    /// Who is told what clients do, where there is one.
    pub(crate) app: Option<App>,
    /// To the broker: answers to what others asked of this node.
    pub(crate) answers: mpsc::UnboundedSender<(Asker, fanfare_broker::Answer)>,
    /// When the node began, and the milliseconds of Unix time then.
    pub(crate) began: (Instant, u64),
    pub(crate) inboxes: Vec<Arc<Inbox>>,
    /// To the HTTP runtime: what shards do not serve themselves. Bounded by the gate.
    pub(crate) http: mpsc::UnboundedSender<Handed>,
    pub(crate) state: NodeState,
}

/// What the node as a whole is doing.
#[derive(Debug, Default)]
pub(crate) struct NodeState {
    pub(crate) draining: AtomicBool,
    /// Connections that shards own.
    pub(crate) open: AtomicUsize,
    /// Gone connections that have something left to tell the app.
    pub(crate) farewells: AtomicUsize,
    /// Sockets that were ever given to shards.
    placed: AtomicUsize,
    /// Called when a shard has panicked.
    pub(crate) failed: Notify,
    feed: Mutex<FeedLink>,
    /// The link for publishing has been up once.
    pub(crate) publish_was_up: AtomicBool,
    /// The broker refuses a channel that every node needs.
    pub(crate) deaf: AtomicBool,
}

/// The link by which publications come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum FeedLink {
    /// It has not been up yet: the node is not ready.
    #[default]
    Starting,
    /// Up, and everything that is wanted is subscribed.
    Up,
    /// Lost since then, or back but not yet with everything that is wanted.
    Down(Instant),
}

impl NodeState {
    pub(crate) fn feed(&self) -> FeedLink {
        *self.feed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what became of the feed. One that never was up stays [`FeedLink::Starting`] until it is.
    pub(crate) fn feed_changed(&self, now: FeedLink) {
        let mut feed = self.feed.lock().unwrap_or_else(PoisonError::into_inner);
        if now == FeedLink::Up || *feed == FeedLink::Up {
            *feed = now;
        }
    }
}

impl Context {
    /// Whether the app is told of what happens in a namespace.
    pub(crate) fn app_of(&self, namespace: NamespaceId) -> Option<&App> {
        self.app.as_ref().filter(|app| app.serves(&self.config.namespaces.name(namespace)))
    }

    /// Sends an answer to whoever asked this node.
    pub(crate) fn answer(&self, asker: Asker, answer: fanfare_broker::Answer) {
        if self.answers.send((asker, answer)).is_err() {
            tracing::debug!("the runtime is gone, and with it the process soon");
        }
    }

    /// The shard for one more socket: the one with the fewest of two.
    fn place(&self) -> usize {
        let first = self.state.placed.fetch_add(1, Ordering::Relaxed) % self.inboxes.len();
        let second = (first + 1) % self.inboxes.len();
        let load = |at: usize| self.inboxes[at].connections.load(Ordering::Relaxed);
        let chosen = if load(second) < load(first) { second } else { first };
        self.inboxes[chosen].connections.fetch_add(1, Ordering::Relaxed);
        chosen
    }
}

/// The shards' side of the node.
#[derive(Debug)]
pub(crate) struct Hub {
    context: Arc<Context>,
}

impl Hub {
    /// Starts one thread per inbox of `context`; the first one drives `feed` and accepts at `doors`.
    pub(crate) fn start(
        context: Arc<Context>,
        polls: Vec<mio::Poll>,
        feed: Box<dyn Feed>,
        doors: Vec<Door>,
    ) -> std::io::Result<Self> {
        let (mut feed, mut doors) = (Some(feed), doors);
        for (index, poll) in polls.into_iter().enumerate() {
            let (context, feed) = (context.clone(), feed.take());
            let doors = Doors::open(std::mem::take(&mut doors), poll.registry())?;
            std::thread::Builder::new().name(format!("shard-{index}")).spawn(move || {
                // Told also when the thread unwinds: a node never goes on without one of its shards.
                let _alarm = Alarm(context.clone());
                shard::Shard::new(context, index, poll, feed, doors).run();
            })?;
        }
        Ok(Self { context })
    }

    /// Gives an upgraded connection to a shard.
    pub(crate) fn open(&self, opening: Opening) {
        self.context.state.open.fetch_add(1, Ordering::Relaxed);
        self.context.inboxes[self.context.place()].push(Post::Open(Box::new(opening)));
    }

    /// Has a shard open a session by long-polling.
    pub(crate) fn open_polling(&self, newcomer: Newcomer, answer: Answering) {
        self.context.state.open.fetch_add(1, Ordering::Relaxed);
        let ask = Ask::Open { newcomer, answer };
        self.context.inboxes[self.context.place()].push(Post::Ask(Box::new(ask)));
    }

    /// Closes every connection, the last by `until`.
    pub(crate) fn drain(&self, until: Instant) {
        for inbox in &self.context.inboxes {
            inbox.push(Post::Drain { until });
        }
    }
}

struct Alarm(Arc<Context>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.state.failed.notify_one();
        }
    }
}
