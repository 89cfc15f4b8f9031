//! Shard 0 and the broker's feed: what the node wants goes out, what is published comes in.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fanfare_broker::{Channel, Delivery, Feed, Malformed, Turn};
use fanfare_protocol::{NamespaceId, Publication};
use mio::Interest as Readiness;
use mio::unix::SourceFd;

use super::FeedLink;
use super::inbox::{Inbox, Post};
use super::interest::{Shards, Wish};
use super::shard::{FEED, Shard};
use crate::metrics::Count;

/// How long the feed is not read while a shard's queue is full, before publications are lost for it.
const FULL_PATIENCE: Duration = Duration::from_millis(250);
/// How long until a full queue is looked at again.
const FULL_PAUSE: Duration = Duration::from_millis(5);

/// The feed and what is known about its socket.
pub(super) struct FeedDriver {
    feed: Box<dyn Feed>,
    /// Serial of the socket that the poll watches.
    watched: Option<u64>,
    /// Something happened that the feed should look at.
    pub(super) ready: bool,
    pub(super) more: bool,
    pub(super) deadline: Option<Instant>,
    /// Since when a shard's queue has been full.
    full_since: Option<Instant>,
    /// Not read until then, because of a full queue.
    pub(super) held: Option<Instant>,
}

impl FeedDriver {
    pub(super) fn start(mut feed: Box<dyn Feed>, inbox: Arc<Inbox>) -> Self {
        feed.start(Arc::new(move || inbox.wake()));
        Self { feed, watched: None, ready: true, more: false, deadline: None, full_since: None, held: None }
    }
}

impl Shard {
    /// What every node wants: the channel for plain JSON, and the channels of each namespace. One that came to be
    /// is told before the first session that is in it.
    fn want_namespaces(&mut self, driver: &mut FeedDriver) {
        let namespaces = &self.context.config.namespaces;
        if self.namespaces_wanted == 0 {
            driver.feed.want(Channel::Publish, true);
            driver.feed.want(Channel::Python, true);
        }
        for id in namespaces.ids().skip(self.namespaces_wanted) {
            let namespace = namespaces.name(id);
            driver.feed.want(Channel::Namespace(&namespace), true);
            driver.feed.want(Channel::Requests(&namespace), true);
            self.namespaces_wanted += 1;
            driver.ready = true;
        }
    }

    /// Lets the feed read and write, and delivers what it hands out.
    pub(super) fn feed_turn(&mut self) {
        let Some(mut driver) = self.feed.take() else { return };
        self.grant_wishes(&mut driver);
        let due = driver.deadline.is_some_and(|deadline| deadline <= self.now);
        // The feed is told of time and readiness in any case, but hands out only what can be marked.
        let budget = if self.shards_have_room(&mut driver) { self.rings.room() } else { 0 };
        if driver.ready || due || (driver.more && budget > 0) {
            let started = self.now;
            let (mut publications, mut bytes) = (0, 0);
            let turn = driver.feed.turn(self.now, budget, &mut |delivery| {
                if let Delivery::Publication { publication, .. } = &delivery {
                    publications += 1;
                    bytes += publication.data.len();
                }
                self.delivery(delivery);
            });
            for (parcel, inbox) in self.parcels.iter_mut().zip(&self.context.inboxes) {
                inbox.push_all(parcel);
            }
            if publications > 0 {
                self.rings.took(started, publications, bytes);
            }
            driver.ready = false;
            self.watch(&mut driver, turn);
            self.grant_wishes(&mut driver);
        }
        self.feed = Some(driver);
    }

    fn watch(&mut self, driver: &mut FeedDriver, turn: Turn) {
        driver.more = turn.more;
        driver.deadline = turn.deadline;
        let serial = turn.socket.map(|socket| socket.serial);
        if serial == driver.watched {
            return;
        }
        // The old descriptor is closed, and with that out of the poll.
        driver.watched = serial;
        if let Some(socket) = turn.socket {
            let readiness = Readiness::READABLE | Readiness::WRITABLE;
            if let Err(error) = self.poll.registry().register(&mut SourceFd(&socket.fd), FEED, readiness) {
                // Without it the feed still has its deadlines, but this must not go unseen.
                tracing::error!(%error, "the feed's socket could not be watched");
            }
        }
    }

    /// Tells the feed what was wished while it could not be told.
    fn grant_wishes(&mut self, driver: &mut FeedDriver) {
        self.want_namespaces(driver);
        for wish in std::mem::take(&mut self.wishes) {
            let namespace = self.context.config.namespaces.name(wish.namespace);
            driver.feed.want(Channel::Room { namespace: &namespace, room: &wish.room }, wish.wanted);
            driver.ready = true;
        }
    }

    fn shards_have_room(&mut self, driver: &mut FeedDriver) -> bool {
        let full = self.context.inboxes.iter().skip(1).any(|inbox| inbox.is_full());
        driver.held = None;
        if !full {
            driver.full_since = None;
            return true;
        }
        let since = *driver.full_since.get_or_insert(self.now);
        let lost_patience = self.now.saturating_duration_since(since) >= FULL_PATIENCE;
        driver.held = (!lost_patience).then(|| self.now + FULL_PAUSE);
        lost_patience
    }

    fn delivery(&mut self, delivery: Delivery<'_>) {
        match delivery {
            Delivery::Publication { channel, publication } => self.publication(channel, publication),
            Delivery::Request { namespace, request, .. } => self.request(namespace, request),
            Delivery::Active(channel) => self.settled(channel, None),
            Delivery::Refused { channel, reason } => self.settled(channel, Some(reason)),
            Delivery::Malformed { channel, reason } => {
                self.counters.malformed(reason);
                tracing::debug!(?channel, reason = reason.label(), "a payload is no publication");
                if reason == Malformed::Pickle {
                    self.note_pickle();
                }
            }
            Delivery::Up => {
                tracing::info!("broker: feed connected");
                if self.context.state.feed() == FeedLink::Starting {
                    self.context.state.feed_changed(FeedLink::Up);
                } else {
                    self.context.metrics.rare.reconnects.with_label_values(&["feed"]).inc();
                }
                self.link_changed(true);
            }
            Delivery::Lost { reason, since } => {
                tracing::warn!(reason, "broker: feed lost; connections stay, joins wait, reconnecting");
                self.context.state.feed_changed(FeedLink::Down(since));
                self.link_changed(false);
            }
            Delivery::Resubscribed { channels, after } => {
                // Not before: what is published to a room that is not subscribed yet is lost.
                self.context.state.feed_changed(FeedLink::Up);
                self.context.metrics.resubscribe.observe(after.as_secs_f64());
                tracing::info!(
                    channels,
                    ms = after.as_millis() as u64,
                    "broker: all channels subscribed again"
                );
            }
        }
    }

    fn publication(&mut self, channel: Channel<'_>, publication: Publication<'_>) {
        self.counters.add(
            match channel {
                Channel::Room { .. } => Count::PublicationsRoom,
                Channel::Namespace(_) => Count::PublicationsNamespace,
                Channel::Python => Count::PublicationsPython,
                Channel::Publish | Channel::Requests(_) => Count::PublicationsPublish,
            },
            1,
        );
        let Some(namespace) = self.context.config.namespaces.id(&publication.namespace) else {
            self.counters.add(Count::DroppedNamespace, 1);
            return;
        };
        self.note_lag(&publication);
        let shards = self.shards_of(namespace, &publication);
        if shards.without(0).is_empty() {
            return self.deliver_here(namespace, &publication);
        }
        self.hand_out(namespace, publication, shards, None);
    }

    /// The shards that a publication concerns.
    fn shards_of(&self, namespace: NamespaceId, publication: &Publication<'_>) -> Shards {
        match (publication.rooms.as_slice(), &self.interest) {
            ([room], Some(interest)) => interest.shards(namespace, room),
            _ => Shards::all(self.context.inboxes.len()),
        }
    }

    /// The broker confirmed or refused a room.
    fn settled(&mut self, channel: Channel<'_>, refused: Option<&str>) {
        if matches!(channel, Channel::Requests(_) | Channel::Python) {
            return self.optional_settled(channel, refused);
        }
        if let Some(reason) = refused {
            self.note_refusal(channel, reason);
        }
        let Channel::Room { namespace, room } = channel else {
            return self.essential_settled(channel, refused.is_some());
        };
        let Some(namespace) = self.context.config.namespaces.id(namespace) else { return };
        let Some(interest) = &mut self.interest else { return };
        let shards = match refused {
            None => interest.active(namespace, room),
            Some(_) => interest.refused(namespace, room),
        };
        for shard in shards.without(0).iter() {
            let room: Arc<str> = room.into();
            self.parcels[shard].push(match refused {
                None => Post::Active { namespace, room },
                Some(_) => Post::Refused { namespace, room },
            });
        }
        if shards.contains(0) {
            match refused {
                None => self.room_active(namespace, room),
                Some(_) => self.room_refused(namespace, room),
            }
        }
    }

    fn note_refusal(&mut self, channel: Channel<'_>, reason: &str) {
        self.counters.add(Count::SubscriptionsRefused, 1);
        // A line a second: clients choose rooms, and must not fill the log.
        if self.refusal_logged.is_none_or(|at| at + Duration::from_secs(1) <= self.now) {
            self.refusal_logged = Some(self.now);
            let refused = self.counters.get(Count::SubscriptionsRefused);
            tracing::warn!(
                ?channel,
                reason,
                refused,
                "broker: a subscription was refused; asking again every 2 s"
            );
        }
    }

    /// A line a minute: an old server publishes many.
    fn note_pickle(&mut self) {
        if self.pickle_logged.is_none_or(|at| at + Duration::from_secs(60) <= self.now) {
            self.pickle_logged = Some(self.now);
            tracing::warn!(
                "broker: a python-socketio before 5.14 publishes pickle, which is not read: what it emits reaches \
                 nobody here; upgrade python-socketio to 5.14 or newer"
            );
        }
    }

    /// A channel on which others ask or publish in their own way: those who have none of them need not allow it. So
    /// it is said and counted once, though the feed asks again.
    fn optional_settled(&mut self, channel: Channel<'_>, refused: Option<&str>) {
        let name = format!("{channel:?}");
        let known = self.unheard.iter().position(|unheard| *unheard == name);
        match (refused, known) {
            (Some(reason), None) => {
                self.counters.add(Count::SubscriptionsRefused, 1);
                tracing::warn!(?channel, reason, "broker: not allowed; what servers send there is not heard");
                self.unheard.push(name);
            }
            (None, Some(at)) => {
                self.unheard.swap_remove(at);
                tracing::info!(?channel, "broker: allowed by now");
            }
            _ => {}
        }
    }

    /// A channel that every node needs: without it the node must not say that it is ready.
    fn essential_settled(&mut self, channel: Channel<'_>, refused: bool) {
        let name = format!("{channel:?}");
        self.deaf.retain(|known| *known != name);
        if refused {
            self.deaf.push(name);
        }
        self.context.state.deaf.store(!self.deaf.is_empty(), Ordering::Relaxed);
    }

    fn link_changed(&mut self, up: bool) {
        if let Some(interest) = &mut self.interest
            && !up
        {
            interest.lost();
        }
        self.context.metrics.rare.redis_up.with_label_values(&["feed"]).set(i64::from(up));
        for parcel in self.parcels.iter_mut().skip(1) {
            parcel.push(Post::Link { up });
        }
        self.link(up);
    }

    /// The link to the broker is up or gone, as far as this shard's rooms are concerned.
    pub(super) fn link(&mut self, up: bool) {
        self.link_up = up;
        if !up {
            for room in self.members.named() {
                room.active = false;
            }
        }
    }

    /// This shard wants a room; `true`: it is active already.
    pub(super) fn want(&mut self, namespace: NamespaceId, room: &Arc<str>) -> bool {
        if self.index == 0 {
            return self.want_here(0, namespace, room);
        }
        let (shard, room) = (self.index, room.clone());
        self.context.inboxes[0].push(Post::Want { shard, namespace, room });
        false
    }

    fn want_here(&mut self, shard: usize, namespace: NamespaceId, room: &Arc<str>) -> bool {
        let Some(interest) = &mut self.interest else { return false };
        match interest.want(namespace, room, shard) {
            Ok(()) => true,
            Err(wish) => {
                self.wishes.extend(wish);
                false
            }
        }
    }

    /// On shard 0: another shard wants a room.
    pub(super) fn want_for(&mut self, shard: usize, namespace: NamespaceId, room: &Arc<str>) {
        if self.want_here(shard, namespace, room) {
            self.context.inboxes[shard].push(Post::Active { namespace, room: room.clone() });
        }
    }

    /// This shard no longer wants a room. With `linger` the node keeps it for a while.
    pub(super) fn unwant(&mut self, namespace: NamespaceId, room: &Arc<str>, linger: bool) {
        if self.index == 0 {
            return self.unwant_for(0, namespace, room, linger);
        }
        let (shard, room) = (self.index, room.clone());
        self.context.inboxes[0].push(Post::Unwant { shard, namespace, room, linger });
    }

    /// On shard 0: a shard no longer wants a room.
    pub(super) fn unwant_for(&mut self, shard: usize, namespace: NamespaceId, room: &str, linger: bool) {
        let now = self.now;
        if let Some(interest) = &mut self.interest {
            let wish: Option<Wish> = interest.unwant(namespace, room, shard, linger, now);
            self.wishes.extend(wish);
        }
    }

    pub(super) fn expire_interest(&mut self, now: Instant) {
        if let Some(interest) = &mut self.interest {
            interest.expire(now, |wish| self.wishes.push(wish));
        }
    }

    /// A room is confirmed: joins that waited for it go on, in this very turn.
    pub(super) fn room_active(&mut self, namespace: NamespaceId, name: &str) {
        if let Some(id) = self.members.find(namespace, name) {
            let room = self.members.room_mut(id);
            room.active = true;
            for slot in room.waiting.clone() {
                self.advance(slot);
            }
        }
        if let Some(sid) = self.resolve(namespace, name) {
            self.session_settled(namespace, sid);
        }
    }

    /// A room is refused: joins that waited for it fail now.
    pub(super) fn room_refused(&mut self, namespace: NamespaceId, name: &str) {
        if let Some(id) = self.members.find(namespace, name) {
            for slot in self.members.room(id).waiting.clone() {
                self.fail_join(slot, id);
            }
        }
        if let Some(sid) = self.resolve(namespace, name) {
            // The session works but for publications to its own id; the log has the reason.
            self.session_settled(namespace, sid);
        }
    }
}
