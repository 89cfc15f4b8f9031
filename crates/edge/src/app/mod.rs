//! The app callback: an HTTP endpoint of the app's that is told what clients do, and whose answers say what
//! happens next. The contract is docs/app-callback.md.
//!
//! Shards hand calls over and go on; answers come back as posts. How many calls are open per connection and what
//! waits behind them is the hub's business.

mod answer;
mod binary;
mod counts;
mod endpoint;
pub(crate) mod handshake;
mod tell;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fanfare_broker::Asker;
use tokio::sync::mpsc;

use crate::config::AppEndpoint;
use crate::connection::Session;
use crate::rules::Pattern;

pub(crate) use answer::{Answer, Emit, End, To};
pub(crate) use counts::AppCounts;
pub(crate) use endpoint::run;
pub(crate) use tell::{Tell, Unanswered, What};

/// The way to the app.
#[derive(Debug)]
pub(crate) struct App {
    sender: mpsc::UnboundedSender<Call>,
    /// Bytes of calls that wait or are under way.
    waiting: Arc<AtomicUsize>,
    limit: usize,
    open: Arc<AtomicUsize>,
    namespaces: Option<Vec<Pattern>>,
    /// How long a call may take, its waiting included.
    pub(crate) timeout: Duration,
}

/// Something for the app, on its way.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) tell: Tell,
    pub(crate) about: About,
    /// An answer after that is none.
    pub(crate) by: Instant,
    place: Open,
}

/// Whom a call is about: where its answer goes.
#[derive(Debug)]
pub(crate) enum About {
    Session {
        shard: usize,
        slot: u32,
        generation: u32,
        session: Session,
    },
    /// The node itself; an asker waits for what the app says.
    Node {
        asker: Option<Asker>,
    },
}

/// What came of a call.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) about: About,
    /// Of the call.
    pub(crate) namespace: Arc<str>,
    pub(crate) result: Result<Answer, Failure>,
    _place: Open,
}

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It could not be reached, or answered with a status that is no answer.
    Unavailable,
    /// No answer in time.
    Timeout,
    /// An answer that cannot be read.
    Unusable,
    /// It answered 403.
    Forbidden,
    /// More waits for the app than may.
    QueueFull,
    /// The client sent what the format has no form for.
    Unshowable,
}

/// A call that has not come to its end; leaving service waits for it.
#[derive(Debug)]
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Release);
    }
}

impl App {
    /// The handle for shards, and what [`run`] takes. `limit`: bytes that may wait.
    pub(crate) fn new(config: &AppEndpoint, limit: usize) -> (Self, mpsc::UnboundedReceiver<Call>) {
        let (sender, calls) = mpsc::unbounded_channel();
        let app = Self {
            sender,
            waiting: Arc::default(),
            limit,
            open: Arc::default(),
            namespaces: config.namespaces.clone(),
            timeout: config.timeout,
        };
        (app, calls)
    }

    /// Whether the app is told of what happens in the namespace.
    pub(crate) fn serves(&self, namespace: &str) -> bool {
        self.namespaces.as_ref().is_none_or(|served| served.iter().any(|one| one.matches(namespace)))
    }

    /// Hands a call over. Never blocks.
    pub(crate) fn ask(&self, tell: Tell, about: About, by: Instant) -> Result<(), Failure> {
        let bytes = weight(&tell);
        if self.waiting.load(Ordering::Relaxed) + bytes > self.limit {
            return Err(Failure::QueueFull);
        }
        self.waiting.fetch_add(bytes, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        let call = Call { tell, about, by, place: Open(self.open.clone()) };
        // The other end lives as long as the runtime, and without that the process ends.
        self.sender.send(call).map_err(|_| Failure::Unavailable)
    }

    /// Calls that have not come to their end.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    fn took(&self, bytes: usize) {
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
    }
}

fn weight(tell: &Tell) -> usize {
    tell.what.bytes() + size_of::<Call>()
}
