//! An event loop that owns a feed as the hub's first shard does: edge-triggered, nothing but what
//! [`Turn`] asks for.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanfare_broker::{Channel, Delivery, Feed, FeedSocket, Malformed, Request};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A delivery, owned. Channels are `{namespace} {room}`, `{namespace}` or `publish`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Seen {
    Publication(Received),
    Request(String, Request),
    Active(String),
    Refused(String),
    Malformed(String, Malformed),
    Up,
    Lost(String),
    Resubscribed(usize, Duration),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Received {
    pub(crate) channel: String,
    pub(crate) rooms: Vec<String>,
    pub(crate) except: Vec<String>,
    pub(crate) volatile: bool,
    pub(crate) data: Vec<u8>,
    pub(crate) sent_at: Option<u64>,
}

pub(crate) struct Driver {
    feed: Box<dyn Feed>,
    poll: Poll,
    events: Events,
    registered: Option<FeedSocket>,
    more: bool,
    deadline: Option<Instant>,
    pub(crate) seen: Vec<Seen>,
}

impl Driver {
    pub(crate) fn new(mut feed: Box<dyn Feed>) -> Self {
        let poll = Poll::new().unwrap();
        let waker = Waker::new(poll.registry(), Token(0)).unwrap();
        feed.start(Arc::new(move || waker.wake().unwrap()));
        Self {
            feed,
            poll,
            events: Events::with_capacity(8),
            registered: None,
            more: true,
            deadline: None,
            seen: Vec::new(),
        }
    }

    pub(crate) fn want(&mut self, channel: Channel<'_>, wanted: bool) {
        self.feed.want(channel, wanted);
        self.more = true;
    }

    pub(crate) fn want_room(&mut self, room: &str, wanted: bool) {
        self.want(Channel::Room { namespace: "/", room }, wanted);
    }

    /// Waits for what the feed waits for, at most `wait`, and gives it a turn.
    pub(crate) fn step(&mut self, wait: Duration) {
        let now = Instant::now();
        let due = self.deadline.map_or(wait, |deadline| deadline.saturating_duration_since(now).min(wait));
        let timeout = if self.more { Duration::ZERO } else { due };
        self.poll.poll(&mut self.events, Some(timeout)).unwrap();
        let seen = &mut self.seen;
        let turn = self.feed.turn(Instant::now(), 512, &mut |delivery| seen.push(own(delivery)));
        (self.more, self.deadline) = (turn.more, turn.deadline);
        if turn.socket != self.registered {
            self.registered = turn.socket;
            if let Some(FeedSocket { fd, .. }) = turn.socket {
                self.register(fd);
            }
        }
    }

    fn register(&mut self, fd: RawFd) {
        // The one before was closed and left the poll by that.
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut SourceFd(&fd), Token(1), interest).unwrap();
    }

    /// Steps until `done` says so of everything seen since the last [`Driver::forget`].
    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&[Seen]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(&self.seen) {
            if Instant::now() > deadline {
                let last = &self.seen[self.seen.len().saturating_sub(5)..];
                panic!("{what} did not happen; {} seen, last {last:?}", self.seen.len());
            }
            self.step(Duration::from_millis(50));
        }
    }

    pub(crate) fn until_seen(&mut self, what: &Seen) {
        self.until(&format!("{what:?}"), |seen| seen.contains(what));
    }

    pub(crate) fn until_active(&mut self, count: usize) {
        self.until("all active", |seen| {
            seen.iter().filter(|s| matches!(s, Seen::Active(_))).count() == count
        });
    }

    /// Steps until `count` publications came, and gives them.
    pub(crate) fn receive(&mut self, count: usize) -> Vec<Received> {
        let (mut at, mut found) = (0, 0);
        self.until(&format!("{count} publications"), |seen| {
            found += seen[at..].iter().filter(|seen| matches!(seen, Seen::Publication(_))).count();
            at = seen.len();
            found >= count
        });
        self.publications()
    }

    pub(crate) fn publications(&self) -> Vec<Received> {
        let publication = |seen: &Seen| match seen {
            Seen::Publication(received) => Some(received.clone()),
            _ => None,
        };
        self.seen.iter().filter_map(publication).collect()
    }

    pub(crate) fn forget(&mut self) {
        self.seen.clear();
    }
}

fn own(delivery: Delivery<'_>) -> Seen {
    match delivery {
        Delivery::Publication { channel, publication } => Seen::Publication(Received {
            channel: name(channel),
            rooms: publication.rooms.iter().map(ToString::to_string).collect(),
            except: publication.except.iter().map(ToString::to_string).collect(),
            volatile: publication.volatile,
            data: publication.data.to_vec(),
            sent_at: publication.sent_at,
        }),
        Delivery::Request { channel, request, .. } => Seen::Request(name(channel), request),
        Delivery::Active(channel) => Seen::Active(name(channel)),
        Delivery::Refused { channel, reason } => {
            assert!(!reason.is_empty());
            Seen::Refused(name(channel))
        }
        Delivery::Malformed { channel, reason } => Seen::Malformed(name(channel), reason),
        Delivery::Up => Seen::Up,
        Delivery::Lost { reason, .. } => Seen::Lost(reason),
        Delivery::Resubscribed { channels, after } => Seen::Resubscribed(channels, after),
    }
}

fn name(channel: Channel<'_>) -> String {
    match channel {
        Channel::Room { namespace, room } => format!("{namespace} {room}"),
        Channel::Namespace(namespace) => namespace.to_owned(),
        Channel::Publish => "publish".to_owned(),
        Channel::Requests(namespace) => format!("requests of {namespace}"),
        Channel::Python => "python".to_owned(),
    }
}
