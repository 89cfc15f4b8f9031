//! What others put before a shard: a queue bounded in bytes, and one wake per batch.

use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use fanfare_broker::PublishError;
use fanfare_protocol::{Encoding, Frame, NamespaceId, Publication, ReplyTo};
use mio::net::TcpStream;

use crate::connection::Machine;
use crate::http::gate::Permit;

/// Something for a shard to do.
#[derive(Debug)]
pub(crate) enum Post {
    /// From shard 0: a socket that was just accepted.
    Call(TcpStream, Permit),
    /// A connection that the HTTP runtime has upgraded.
    Open(Box<Opening>),
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
    pub(crate) machine: Machine,
    pub(crate) permit: Permit,
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
    pub(crate) frames: [OnceLock<Option<Frame>>; Encoding::ALL.len()],
}

/// A shard's queue.
#[derive(Debug)]
pub(crate) struct Inbox {
    queue: Mutex<Queue>,
    waker: mio::Waker,
    limit: usize,
    /// Sockets given to the shard that it still has.
    pub(crate) connections: AtomicUsize,
}

#[derive(Debug, Default)]
struct Queue {
    posts: VecDeque<Post>,
    bytes: usize,
}

impl Inbox {
    /// `limit`: bytes of publications that may wait.
    pub(crate) fn new(waker: mio::Waker, limit: usize) -> Self {
        Self { queue: Mutex::default(), waker, limit, connections: AtomicUsize::new(0) }
    }

    /// Makes the shard look at its feed.
    pub(crate) fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "a shard could not be woken");
        }
    }

    pub(crate) fn push(&self, post: Post) {
        if self.add(post, 0) {
            self.wake();
        }
    }

    /// Whether no more publications should be sent for now.
    pub(crate) fn is_full(&self) -> bool {
        self.lock().bytes >= self.limit
    }

    /// Gives a publication; `false` where the bound does not allow it.
    pub(crate) fn deliver(&self, shared: Arc<Shared>) -> bool {
        if self.is_full() {
            return false;
        }
        let bytes = weight(&shared);
        if self.add(Post::Deliver(shared), bytes) {
            self.wake();
        }
        true
    }

    /// Everything that waits. `spare` is handed back to be filled.
    pub(crate) fn drain(&self, spare: &mut VecDeque<Post>) {
        let mut queue = self.lock();
        queue.bytes = 0;
        std::mem::swap(&mut queue.posts, spare);
    }

    /// Whether the shard has to be woken: it sleeps only with an empty queue.
    fn add(&self, post: Post, bytes: usize) -> bool {
        let mut queue = self.lock();
        let wake = queue.posts.is_empty();
        queue.posts.push_back(post);
        queue.bytes += bytes;
        wake
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        // No code panics while it holds the lock, so a poisoned queue is whole.
        self.queue.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn weight(shared: &Shared) -> usize {
    shared.publication.data.len() + std::mem::size_of::<Shared>()
}
