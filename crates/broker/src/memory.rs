//! The broker of a node that is alone: a queue between the publishing side and the hub.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use fanfare_protocol::Publication;
use smallvec::SmallVec;

use crate::envelope::channel_of;
use crate::{Answer, Asker, Broker, BrokerFuture, Channel, Delivery, Feed, Link, PublishError, Turn};

/// What may wait to be handed out, in bytes; beyond it publishing answers [`PublishError::QueueFull`].
const MAX_WAITING: usize = 64 << 20;
/// What one publication is counted for beside its bytes.
const OVERHEAD: usize = 128;
/// What one turn hands out at most, in bytes.
const TURN_BYTES: usize = 256 << 10;

/// A broker without a bus. What is published for a channel that nobody wants is dropped at once.
pub fn new() -> (Arc<MemoryBroker>, MemoryFeed) {
    let shared = Arc::new(Shared::default());
    let feed = MemoryFeed {
        shared: Arc::clone(&shared),
        started: false,
        answers: Vec::new(),
        taken: VecDeque::new(),
    };
    (Arc::new(MemoryBroker { shared }), feed)
}

/// The publishing half.
pub struct MemoryBroker {
    shared: Arc<Shared>,
}

/// The receiving half.
pub struct MemoryFeed {
    shared: Arc<Shared>,
    started: bool,
    /// Channels to be called active at the next turn, where they are still wanted then.
    answers: Vec<OwnedChannel>,
    /// Taken from the queue in one piece and handed out from here.
    taken: VecDeque<Publication<'static>>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    wake: OnceLock<Arc<dyn Fn() + Send + Sync>>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Publication<'static>>,
    /// Cost of what waits here and of what the feed took but did not hand out yet.
    bytes: usize,
    wanted: HashMap<Box<str>, Wanted>,
}

/// What of a namespace is wanted.
#[derive(Default)]
struct Wanted {
    all: bool,
    rooms: HashSet<Box<str>>,
}

enum OwnedChannel {
    Room { namespace: Box<str>, room: Box<str> },
    Namespace(Box<str>),
    Publish,
    Requests(Box<str>),
    Python,
}

impl Shared {
    /// Nothing in here panics half-way, so that what a panicking owner leaves behind is whole.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what somebody wants; true where the feed has to be woken.
    fn push(&self, publication: Publication<'static>, now: u64) -> Result<bool, PublishError> {
        let cost = cost(&publication);
        let mut queue = self.queue();
        if !queue.wants(channel_of(&publication)) {
            return Ok(false);
        }
        if queue.bytes > 0 && queue.bytes + cost > MAX_WAITING {
            return Err(PublishError::QueueFull);
        }
        queue.bytes += cost;
        let first = queue.waiting.is_empty();
        queue.waiting.push_back(Publication { sent_at: Some(now), ..publication });
        Ok(first)
    }
}

impl Queue {
    fn wants(&self, channel: Channel<'_>) -> bool {
        match channel {
            Channel::Room { namespace, room } => {
                self.wanted.get(namespace).is_some_and(|wanted| wanted.rooms.contains(room))
            }
            Channel::Namespace(namespace) => self.wanted.get(namespace).is_some_and(|wanted| wanted.all),
            // Only Redis has publishers and askers from outside.
            Channel::Publish | Channel::Requests(_) | Channel::Python => false,
        }
    }

    fn want(&mut self, channel: Channel<'_>, wants: bool) {
        let namespace = match channel {
            Channel::Room { namespace, .. } | Channel::Namespace(namespace) => namespace,
            Channel::Publish | Channel::Requests(_) | Channel::Python => return,
        };
        if !self.wanted.contains_key(namespace) {
            if !wants {
                return;
            }
            self.wanted.insert(namespace.into(), Wanted::default());
        }
        let Some(wanted) = self.wanted.get_mut(namespace) else { return };
        match channel {
            Channel::Room { room, .. } if wants => {
                wanted.rooms.insert(room.into());
            }
            Channel::Room { room, .. } => {
                wanted.rooms.remove(room);
            }
            _ => wanted.all = wants,
        }
        if !wanted.all && wanted.rooms.is_empty() {
            self.wanted.remove(namespace);
        }
    }
}

fn cost(publication: &Publication<'_>) -> usize {
    let names: usize = publication.rooms.iter().chain(&publication.except).map(|name| name.len() + 24).sum();
    OVERHEAD + publication.namespace.len() + publication.data.len() + names
}

/// Microseconds of Unix time; 0 for a clock before 1970.
pub(crate) fn now_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

impl Broker for MemoryBroker {
    fn publish(&self, batch: Vec<Publication<'static>>) -> BrokerFuture<'_, Vec<Result<(), PublishError>>> {
        Box::pin(async move {
            let now = now_micros();
            let mut wake = false;
            let mut results = Vec::with_capacity(batch.len());
            for publication in batch {
                let pushed = self.shared.push(publication, now);
                wake |= *pushed.as_ref().unwrap_or(&false);
                results.push(pushed.map(drop));
            }
            if wake && let Some(wake) = self.shared.wake.get() {
                wake();
            }
            results
        })
    }

    fn answer(&self, _asker: Asker, _answer: Answer) -> BrokerFuture<'_, Result<(), PublishError>> {
        // Nobody asks where there is no bus.
        Box::pin(std::future::ready(Ok(())))
    }

    fn link(&self) -> Link {
        Link::Up
    }
}

impl Feed for MemoryFeed {
    fn start(&mut self, wake: Arc<dyn Fn() + Send + Sync>) {
        self.shared.wake.get_or_init(|| wake);
    }

    fn want(&mut self, channel: Channel<'_>, wanted: bool) {
        self.shared.queue().want(channel, wanted);
        if wanted {
            self.answers.push(OwnedChannel::from(channel));
        }
    }

    fn turn(&mut self, _now: Instant, budget: usize, sink: &mut dyn FnMut(Delivery<'_>)) -> Turn {
        if !self.started {
            self.started = true;
            sink(Delivery::Up);
        }
        self.answer(sink);
        if self.taken.is_empty() {
            std::mem::swap(&mut self.taken, &mut self.shared.queue().waiting);
        }
        let mut bytes = 0;
        for _ in 0..budget {
            let Some(publication) = self.taken.pop_front() else { break };
            sink(Delivery::Publication {
                channel: channel_of(&publication),
                publication: borrow(&publication),
            });
            bytes += cost(&publication);
            if bytes >= TURN_BYTES {
                break;
            }
        }
        let mut queue = self.shared.queue();
        queue.bytes -= bytes;
        let more = !self.taken.is_empty() || !queue.waiting.is_empty();
        Turn { socket: None, more, deadline: None }
    }
}

impl MemoryFeed {
    fn answer(&mut self, sink: &mut dyn FnMut(Delivery<'_>)) {
        for answer in std::mem::take(&mut self.answers) {
            let channel = answer.borrow();
            // Nothing ever comes on channels for publishers from outside: whoever wants them has them.
            let outside = matches!(channel, Channel::Publish | Channel::Requests(_) | Channel::Python);
            if outside || self.shared.queue().wants(channel) {
                sink(Delivery::Active(channel));
            }
        }
    }
}

impl OwnedChannel {
    fn borrow(&self) -> Channel<'_> {
        match self {
            Self::Room { namespace, room } => Channel::Room { namespace, room },
            Self::Namespace(namespace) => Channel::Namespace(namespace),
            Self::Publish => Channel::Publish,
            Self::Requests(namespace) => Channel::Requests(namespace),
            Self::Python => Channel::Python,
        }
    }
}

impl From<Channel<'_>> for OwnedChannel {
    fn from(channel: Channel<'_>) -> Self {
        match channel {
            Channel::Room { namespace, room } => {
                Self::Room { namespace: namespace.into(), room: room.into() }
            }
            Channel::Namespace(namespace) => Self::Namespace(namespace.into()),
            Channel::Publish => Self::Publish,
            Channel::Requests(namespace) => Self::Requests(namespace.into()),
            Channel::Python => Self::Python,
        }
    }
}

fn borrow<'a>(publication: &'a Publication<'static>) -> Publication<'a> {
    use std::borrow::Cow::Borrowed;
    let names = |rooms: &'a [std::borrow::Cow<'static, str>]| -> SmallVec<_> {
        rooms.iter().map(|room| Borrowed(&**room)).collect()
    };
    Publication {
        namespace: Borrowed(&publication.namespace),
        rooms: names(&publication.rooms),
        except: names(&publication.except),
        volatile: publication.volatile,
        data: Borrowed(&publication.data),
        sent_at: publication.sent_at,
        ack: publication.ack,
    }
}
