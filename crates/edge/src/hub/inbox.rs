//! What others put before a shard: a queue bounded in bytes, and one wake per batch.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use fanfare_broker::PublishError;
use fanfare_protocol::{Encoding, Frame, NamespaceId, Publication, ReplyTo};
use mio::net::TcpStream;

use super::acks::Expected;
use super::polling::Ask;
use super::requests::Requested;
use crate::app::Outcome;
use crate::connection::Newcomer;
use crate::http::gate::Permit;

/// Something for a shard to do.
#[derive(Debug)]
pub(crate) enum Post {
    /// From shard 0: a socket that was just accepted.
    Call(TcpStream, Permit),
    /// A connection that the HTTP runtime has upgraded.
    Open(Box<Opening>),
    /// A request of long-polling.
    Ask(Box<Ask>),
    /// A publication whose members may be on this shard.
    Deliver(Arc<Shared>),
    /// To shard 0: `shard` wants the room.
    Want {
        shard: usize,
        namespace: NamespaceId,
        room: Arc<str>,
    },
    /// To shard 0: `shard` no longer wants the room.
    Unwant {
        shard: usize,
        namespace: NamespaceId,
        room: Arc<str>,
        linger: bool,
    },
    /// From shard 0: the broker confirmed the room.
    Active {
        namespace: NamespaceId,
        room: Arc<str>,
    },
    /// From shard 0: the broker refused the room.
    Refused {
        namespace: NamespaceId,
        room: Arc<str>,
    },
    /// From shard 0: the link to the broker is up, or gone.
    Link {
        up: bool,
    },
    /// Answers of the broker to what connections of this shard published.
    Published(Vec<(Ticket, Result<(), PublishError>)>),
    /// What the app said, or that it did not.
    Answered(Box<Outcome>),
    /// From shard 0: something asked of every session of a namespace.
    Request(Arc<Requested>),
    Drain {
        until: Instant,
    },
}

/// An upgraded socket on its way to a shard.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) socket: TcpStream,
    /// Bytes that the client sent before the upgrade was through.
    pub(crate) early: Bytes,
    pub(crate) newcomer: Newcomer,
}

/// Who waits for the answer to a publication.
#[derive(Debug)]
pub(crate) struct Ticket {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
    pub(crate) reply: Option<ReplyTo>,
}

/// A publication that several shards deliver: encoded at most once per encoding for all of them.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) namespace: NamespaceId,
    pub(crate) publication: Publication<'static>,
    /// When the broker handed it over.
    pub(crate) since: Instant,
    /// Shards that have not looked yet, or found nobody to give it to.
    pub(crate) missing: AtomicUsize,
    /// The receivers are to acknowledge it.
    pub(crate) expected: Option<Expected>,
    pub(crate) frames: [OnceLock<Option<Frame>>; Encoding::ALL.len()],
}

/// A shard's queue.
#[derive(Debug)]
pub(crate) struct Inbox {
    queue: Mutex<VecDeque<Post>>,
    /// Bytes of publications that wait.
    bytes: AtomicUsize,
    waker: mio::Waker,
    limit: usize,
    /// Sockets given to the shard that it still has.
    pub(crate) connections: AtomicUsize,
}

/// Posts that one turn of the feed makes for a shard: handed over together, so that what came together is
/// delivered together, and the shard is woken once.
#[derive(Debug, Default)]
pub(crate) struct Parcel {
    posts: VecDeque<Post>,
    bytes: usize,
}

impl Parcel {
    pub(crate) fn push(&mut self, post: Post) {
        self.posts.push_back(post);
    }

    /// Adds a publication for `inbox`; `false` where its bound does not allow it.
    pub(crate) fn deliver(&mut self, inbox: &Inbox, shared: Arc<Shared>) -> bool {
        if inbox.bytes.load(Ordering::Relaxed) + self.bytes >= inbox.limit {
            return false;
        }
        self.bytes += weight(&shared);
        self.posts.push_back(Post::Deliver(shared));
        true
    }
}

impl Inbox {
    /// `limit`: bytes of publications that may wait.
    pub(crate) fn new(waker: mio::Waker, limit: usize) -> Self {
        Self {
            queue: Mutex::default(),
            bytes: AtomicUsize::new(0),
            waker,
            limit,
            connections: AtomicUsize::new(0),
        }
    }

    /// Makes the shard look at its feed.
    pub(crate) fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "a shard could not be woken");
        }
    }

    pub(crate) fn push(&self, post: Post) {
        let wake = {
            let mut queue = self.lock();
            queue.push_back(post);
            queue.len() == 1
        };
        // A shard sleeps only with an empty queue.
        if wake {
            self.wake();
        }
    }

    /// Takes a parcel over, and leaves it empty.
    pub(crate) fn push_all(&self, parcel: &mut Parcel) {
        if parcel.posts.is_empty() {
            return;
        }
        let wake = {
            let mut queue = self.lock();
            self.bytes.fetch_add(std::mem::take(&mut parcel.bytes), Ordering::Relaxed);
            let wake = queue.is_empty();
            queue.append(&mut parcel.posts);
            wake
        };
        if wake {
            self.wake();
        }
    }

    /// Whether no more publications should be sent for now.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= self.limit
    }

    /// Everything that waits. `spare` is handed back to be filled.
    pub(crate) fn drain(&self, spare: &mut VecDeque<Post>) {
        let mut queue = self.lock();
        self.bytes.store(0, Ordering::Relaxed);
        std::mem::swap(&mut *queue, spare);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Post>> {
        // No code panics while it holds the lock, so a poisoned queue is whole.
        self.queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn weight(shared: &Shared) -> usize {
    shared.publication.data.len() + std::mem::size_of::<Shared>()
}
