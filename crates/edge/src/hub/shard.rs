//! A shard: one thread, one loop, and everything that its connections are.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fanfare_broker::Feed;
use fanfare_protocol::{Command, Disconnect, Frame, NamespaceId, socketio};
use mio::{Events, Interest as Readiness, Poll, Token};
use prometheus::local::LocalHistogram;
use slab::Slab;

use super::acks::Acks;
use super::asking::Told;
use super::callers::{Arrival, Callers, caller_of};
use super::doors::Doors;
use super::farewells::Farewells;
use super::feed::FeedDriver;
use super::flush::Rings;
use super::inbox::{Opening, Parcel, Post};
use super::interest::{Interest, Wish};
use super::members::Members;
use super::timers::{Leaving, Pings};
use super::upgrade::candidate_of;
use super::wheel::{Entry, Wheel};
use super::{Context, Inbox};
use crate::connection::{Connection, Flow, Heartbeat, Machine, Newcomer, Transport};
use crate::echo::Echo;
use crate::engine_sid::{Secret, Spot};
use crate::metrics::{Counters, Level};

/// Token of the inbox's waker.
pub(crate) const WAKE: Token = Token(usize::MAX);
/// Token of the feed's socket.
pub(super) const FEED: Token = Token(usize::MAX - 1);
/// One read from a socket.
const READ_BUFFER: usize = 64 << 10;
const EVENTS: usize = 1024;
/// Room for posts that is kept between turns.
const KEPT_POSTS: usize = 128;
/// How often a leaving shard closes some more connections.
const LEAVING_STEP: Duration = Duration::from_millis(20);

/// One thread's part of the hub.
pub(super) struct Shard {
    pub(super) context: Arc<Context>,
    pub(super) index: usize,
    pub(super) inbox: Arc<Inbox>,
    pub(super) poll: Poll,
    pub(super) connections: Slab<Connection>,
    pub(super) callers: Callers,
    pub(super) doors: Doors,
    pub(super) members: Members,
    pub(super) link_up: bool,
    /// On shard 0: what the node wants, and the feed that is told.
    pub(super) interest: Option<Interest>,
    pub(super) feed: Option<FeedDriver>,
    /// On shard 0: namespaces whose channels the feed was told to want.
    pub(super) namespaces_wanted: usize,
    /// Wishes made while the feed was handing something out; told to it right after.
    pub(super) wishes: Vec<Wish>,
    /// On shard 0: what the feed's turn makes for each shard; its own stays empty.
    pub(super) parcels: Vec<Parcel>,
    /// Channels that every node needs and the broker refuses.
    pub(super) deaf: Vec<String>,
    /// Channels of others that the broker refuses.
    pub(super) unheard: Vec<String>,
    pub(super) refusal_logged: Option<Instant>,
    pub(super) pickle_logged: Option<Instant>,
    pub(super) rings: Rings,
    pub(super) wheel: Wheel,
    pub(super) fired: Vec<Entry>,
    /// Deadlines of steps that wait for the broker, in the order in which they end.
    pub(super) due: VecDeque<(Instant, u32, u32)>,
    /// Clients that were just let in and are about to be greeted, in order.
    pub(super) greeted: VecDeque<(Instant, u32, u32)>,
    /// Slots that may have more to read than was read.
    pub(super) unread: Vec<u32>,
    /// Connections whose socket refused the last write.
    pub(super) blocked: Vec<(u32, u32)>,
    pub(super) next_sweep: Instant,
    /// Connections that passed the hard bound of their outbox.
    pub(super) overfull: Vec<(u32, u32)>,
    /// Sessions that their clients have closed a moment ago.
    pub(super) left: VecDeque<(Instant, Secret)>,
    pub(super) leaving: Option<Leaving>,
    /// The node leaves service, and is gone by then.
    pub(super) gone_by: Option<Instant>,
    pub(super) pings: Pings,
    /// When histograms are next handed to scrapes, while there is something to hand.
    pub(super) next_report: Option<Instant>,
    pub(super) counters: Counters,
    pub(super) fanout: LocalHistogram,
    pub(super) lag: LocalHistogram,
    pub(super) read_buffer: Box<[u8]>,
    pub(super) scratch: Vec<u8>,
    pub(super) commands: Vec<Command>,
    pub(super) now: Instant,
    pub(super) stamp: u64,
    /// Who gets the publication that is being delivered, where it is to be acknowledged.
    pub(super) receivers: Option<Vec<u32>>,
    pub(super) acks: Acks,
    pub(super) told: Told,
    pub(super) farewells: Farewells,
    posts: VecDeque<Post>,
    generation: u32,
}

impl Shard {
    pub(super) fn new(
        context: Arc<Context>,
        index: usize,
        poll: Poll,
        feed: Option<Box<dyn Feed>>,
        doors: Doors,
    ) -> Self {
        let now = Instant::now();
        let timing = &context.config.timing;
        let shortest = timing.ping_interval.min(timing.ping_timeout);
        let interest = feed.is_some().then(|| Interest::new(timing.linger));
        let inbox = context.inboxes[index].clone();
        Self {
            index,
            poll,
            connections: Slab::new(),
            callers: Callers::default(),
            doors,
            members: Members::new(),
            link_up: false,
            interest,
            feed: feed.map(|feed| FeedDriver::start(feed, inbox.clone())),
            namespaces_wanted: 0,
            wishes: Vec::new(),
            parcels: context.inboxes.iter().map(|_| Parcel::default()).collect(),
            deaf: Vec::new(),
            unheard: Vec::new(),
            refusal_logged: None,
            pickle_logged: None,
            rings: Rings::default(),
            wheel: Wheel::new(shortest, now),
            fired: Vec::new(),
            due: VecDeque::new(),
            greeted: VecDeque::new(),
            unread: Vec::new(),
            blocked: Vec::new(),
            next_sweep: now,
            overfull: Vec::new(),
            left: VecDeque::new(),
            leaving: None,
            gone_by: None,
            pings: Pings::new(),
            next_report: None,
            counters: context.metrics.counters(index),
            fanout: context.metrics.fanout.local(),
            lag: context.metrics.lag.local(),
            read_buffer: vec![0; READ_BUFFER].into_boxed_slice(),
            scratch: Vec::new(),
            commands: Vec::new(),
            now,
            stamp: 0,
            receivers: None,
            acks: Acks::default(),
            told: Told::new(),
            farewells: Farewells::default(),
            posts: VecDeque::new(),
            generation: 0,
            inbox,
            context,
        }
    }

    /// The loop. It ends with the process.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        loop {
            if let Err(error) = self.poll.poll(&mut events, self.wait())
                && error.kind() != std::io::ErrorKind::Interrupted
            {
                panic!("polling failed: {error}");
            }
            self.now = Instant::now();
            for event in &events {
                match event.token() {
                    WAKE => {
                        // The wake may be the feed's own.
                        if let Some(feed) = &mut self.feed {
                            feed.ready = true;
                        }
                    }
                    FEED => {
                        if let Some(feed) = &mut self.feed {
                            feed.ready = true;
                        }
                    }
                    Token(token) if self.doors.note(token) => {}
                    Token(token) => match (caller_of(token), candidate_of(token)) {
                        (Some(key), _) => self.caller_event(key),
                        (None, Some(slot)) => self.candidate_event(slot),
                        (None, None) => self.socket_event(token as u32, event),
                    },
                }
            }
            self.accept();
            self.take_posts();
            self.read_on();
            self.feed_turn();
            self.flush_slice();
            self.tick();
            self.counters.publish();
        }
    }

    /// How long nothing can happen.
    fn wait(&self) -> Option<Duration> {
        let feed = self.feed.as_ref();
        let feed_busy = feed
            .is_some_and(|feed| feed.ready || (feed.more && feed.held.is_none() && self.rings.has_room()));
        let idle = self.rings.is_empty() && self.unread.is_empty();
        if feed_busy || !idle || !self.wishes.is_empty() || !self.posts.is_empty() {
            return Some(Duration::ZERO);
        }
        let sweep = (!self.blocked.is_empty()).then_some(self.next_sweep);
        let leaving = self.leaving.as_ref().map(|_| self.now + LEAVING_STEP);
        let deadlines = [
            self.wheel.next(),
            self.callers.next(),
            self.doors.next(self.now),
            self.due.front().map(|due| due.0),
            self.greeted.front().map(|due| due.0),
            self.interest.as_ref().and_then(Interest::next),
            feed.and_then(|feed| feed.deadline),
            feed.and_then(|feed| feed.held),
            sweep,
            leaving,
            self.next_report,
            self.acks.next(),
            self.farewells.next(),
        ];
        let next = deadlines.into_iter().flatten().min()?;
        let wait = next.saturating_duration_since(Instant::now());
        // epoll counts whole milliseconds; rounding up saves a turn that finds nothing due.
        Some(Duration::from_millis(u64::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)))
    }

    fn socket_event(&mut self, slot: u32, event: &mio::event::Event) {
        if event.is_writable() {
            self.unblock(slot);
        }
        let ended = event.is_read_closed() || event.is_error();
        if ended && let Some(connection) = self.connections.get_mut(slot as usize) {
            connection.flow.ended = true;
        }
        if event.is_readable() || ended {
            self.read(slot);
        }
    }

    fn take_posts(&mut self) {
        loop {
            // Whoever posts wakes a shard only when its queue was empty: it never sleeps on one that is not.
            if self.posts.is_empty() {
                self.inbox.drain(&mut self.posts);
            }
            let Some(post) = self.posts.pop_front() else { break };
            match post {
                // What stands behind it waits, too: confirmations of rooms keep their place.
                Post::Deliver(_) if !self.rings.has_room() => {
                    self.posts.push_front(post);
                    return;
                }
                Post::Call(socket, permit) => self.call(socket, permit),
                Post::Open(opening) => {
                    let Opening { socket, early, newcomer } = *opening;
                    let answer = Vec::new();
                    self.open(Arrival { socket, watched: false, newcomer, answer }, &early);
                }
                Post::Ask(ask) => self.ask(*ask),
                Post::Deliver(shared) => {
                    self.deliver_shared(&shared);
                    self.rings.took(shared.since, 1, shared.publication.data.len());
                }
                Post::Want { shard, namespace, room } => self.want_for(shard, namespace, &room),
                Post::Unwant { shard, namespace, room, linger } => {
                    self.unwant_for(shard, namespace, &room, linger)
                }
                Post::Active { namespace, room } => self.room_active(namespace, &room),
                Post::Refused { namespace, room } => self.room_refused(namespace, &room),
                Post::Link { up } => self.link(up),
                Post::Published(answers) => self.published(answers),
                Post::Answered(outcome) => self.answered(*outcome),
                Post::Request(requested) => self.requested(&requested),
                Post::Drain { until } => self.drain(until),
            }
        }
        if self.posts.capacity() > KEPT_POSTS {
            self.posts = VecDeque::new();
        }
    }

    /// Takes a connection whose handshake is through but for `answer`, which goes out with the first frame.
    pub(super) fn open(&mut self, arrival: Arrival, early: &[u8]) {
        let Arrival { mut socket, watched, mut newcomer, mut answer } = arrival;
        let token = Token(self.connections.vacant_key());
        let readiness = Readiness::READABLE | Readiness::WRITABLE;
        let registry = self.poll.registry();
        let registered = if watched {
            registry.reregister(&mut socket, token, readiness)
        } else {
            registry.register(&mut socket, token, readiness)
        };
        if let Err(error) = registered {
            tracing::warn!(%error, "a socket could not be watched");
            self.count_closed();
            return;
        }
        let plain = matches!(newcomer.machine, Machine::Plain { .. });
        let transport = Transport::WebSocket { socket, decoder: Default::default() };
        // What is sent first is text anyhow, and the answer's head is no frame.
        let text_only = std::mem::take(&mut newcomer.text_only);
        let slot = self.admit(transport, newcomer);
        if let Some(first) = self.first_frame(slot) {
            answer.extend_from_slice(first.bytes());
        }
        if !answer.is_empty() {
            self.send(slot, Frame::from_wire(answer));
        }
        if let Some(connection) = self.connections.get_mut(slot as usize) {
            connection.text_only = text_only;
        }
        if plain {
            self.enter(slot, NamespaceId::MAIN);
        }
        self.schedule(slot);
        if !early.is_empty() {
            let mut early = early.to_vec();
            self.take_bytes(slot, &mut early);
        }
        // It was on its way here when the others were told.
        if let Some(until) = self.gone_by {
            self.close_until(slot, Disconnect::Drain, until);
        }
    }

    /// Makes a connection, in the slot that is vacant next.
    pub(super) fn admit(&mut self, transport: Transport, newcomer: Newcomer) -> u32 {
        let Newcomer { machine, handshake, text_only, permit } = newcomer;
        self.counters.opened(machine.kind(), transport.via());
        self.generation = self.generation.wrapping_add(1);
        let timing = &self.context.config.timing;
        let connect_by = matches!(machine, Machine::SocketIo(_)).then(|| self.now + timing.connect_timeout);
        let slot = self.connections.insert(Connection {
            transport,
            generation: self.generation,
            machine,
            secret: Secret(super::session::random()),
            text_only,
            outbox: Default::default(),
            sessions: Default::default(),
            rooms: Default::default(),
            pending: None,
            flow: Flow::default(),
            heartbeat: Heartbeat::PingAt(self.now + timing.ping_interval),
            connect_by,
            timer: None,
            handshake,
            stamp: 0,
            _permit: permit,
        });
        slot as u32
    }

    /// The Engine.IO session id of a connection.
    pub(super) fn engine_sid(&self, slot: u32) -> String {
        let secret = self.connections[slot as usize].secret;
        Spot { shard: self.index as u8, slot, secret }.sid(&self.context.label)
    }

    /// What a client hears first on a WebSocket, before it is in a namespace: Engine.IO's open packet.
    fn first_frame(&self, slot: u32) -> Option<Frame> {
        match &self.connections.get(slot as usize)?.machine {
            Machine::SocketIo(_) | Machine::Echo(Echo::Engine) => {
                let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
                let config = &self.context.config;
                Some(socketio::open_frame(
                    &self.engine_sid(slot),
                    millis(config.timing.ping_interval),
                    millis(config.timing.ping_timeout),
                    config.limits.max_payload,
                ))
            }
            Machine::Plain { .. } | Machine::Echo(Echo::Bare) => None,
        }
    }

    /// Appends a frame to a connection's outbox; it is written at the end of the turn.
    pub(super) fn send(&mut self, slot: u32, frame: Frame) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        let frame = connection.fit(frame);
        self.counters.level(Level::OutboxBytes, frame.bytes().len() as i64);
        self.counters.level(Level::OutboxFrames, 1);
        connection.outbox.push(frame);
        // A client that asks and does not read the answers.
        if connection.outbox.bytes() > self.context.config.limits.outbox_hard {
            self.overfull.push((slot, connection.generation));
        }
        if connection.flow.blocked.is_none() {
            self.rings.push_small(slot, &mut connection.flow);
        }
    }

    pub(super) fn count_closed(&self) {
        self.inbox.connections.fetch_sub(1, Ordering::Relaxed);
        self.context.state.open.fetch_sub(1, Ordering::Release);
    }
}
