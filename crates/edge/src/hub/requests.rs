//! What emitters and other servers ask of every node: joins, leaves and ends of sessions, who is there, events for
//! the app, and publications that are to be acknowledged.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fanfare_broker::{Answer, Asker, Request, SessionView, Target};
use fanfare_protocol::{NamespaceId, Publication};

use super::acks::Expected;
use super::inbox::{Post, Shared};
use super::interest::Shards;
use super::shard::Shard;
use crate::app::{About, Failure, Tell, What};
use crate::connection::Session;

/// Longest time that acknowledgements are waited for, whatever an asker says.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// A request that every shard does its part of.
#[derive(Debug)]
pub(crate) struct Requested {
    namespace: NamespaceId,
    request: Request,
    /// Shards that have not said their part.
    missing: AtomicUsize,
    found: Mutex<Found>,
}

/// What shards found for an asker.
#[derive(Debug, Default)]
struct Found {
    sessions: Vec<SessionView>,
    rooms: Vec<String>,
}

impl Shard {
    /// On shard 0: something was asked of this node.
    pub(super) fn request(&mut self, namespace: &str, request: Request) {
        let Some(namespace) = self.context.config.namespaces.id(namespace) else { return };
        match request {
            Request::ServerSideEmit { data, asker } => self.server_side_emit(namespace, data, asker),
            Request::Broadcast { publication, asker, timeout_ms } => {
                self.broadcast(namespace, publication, asker, timeout_ms);
            }
            request => {
                let requested = Arc::new(Requested {
                    namespace,
                    request,
                    missing: AtomicUsize::new(self.context.inboxes.len()),
                    found: Mutex::default(),
                });
                for parcel in self.parcels.iter_mut().skip(1) {
                    parcel.push(Post::Request(requested.clone()));
                }
                self.requested(&requested);
            }
        }
    }

    /// This shard's part of a request.
    pub(super) fn requested(&mut self, requested: &Requested) {
        let namespace = requested.namespace;
        match &requested.request {
            Request::Join { target, rooms, asker } => {
                let sessions = self.sessions_of(namespace, target);
                self.done(asker.as_ref(), &sessions);
                for (slot, _) in sessions {
                    for room in rooms {
                        // Refused ones are counted there; nobody waits to hear of it.
                        if let Ok((id, _)) = self.begin_join(slot, namespace, room) {
                            self.enter_room(slot, id, false);
                        }
                    }
                }
            }
            Request::Leave { target, rooms, asker } => {
                let sessions = self.sessions_of(namespace, target);
                self.done(asker.as_ref(), &sessions);
                for (slot, _) in sessions {
                    for room in rooms {
                        self.leave_room(slot, namespace, room);
                    }
                }
            }
            Request::Disconnect { target, close, asker } => {
                let sessions = self.sessions_of(namespace, target);
                self.done(asker.as_ref(), &sessions);
                for (slot, session) in sessions {
                    self.disconnect_session(slot, session, *close);
                }
            }
            Request::Sessions { target, asker } => {
                let views: Vec<SessionView> = self
                    .sessions_of(namespace, target)
                    .into_iter()
                    .map(|(slot, session)| self.view(slot, &session))
                    .collect();
                let found = |found: &mut Found| found.sessions.extend(views);
                if let Some(found) = requested.add(found) {
                    self.context.answer(asker.clone(), Answer::Sessions(found.sessions));
                }
            }
            Request::Rooms { asker } => {
                let rooms = self.rooms_in(namespace);
                if let Some(mut found) = requested.add(|found| found.rooms.extend(rooms)) {
                    found.rooms.sort_unstable();
                    found.rooms.dedup();
                    self.context.answer(asker.clone(), Answer::Rooms(found.rooms));
                }
            }
            // Shard 0 does these.
            Request::ServerSideEmit { .. } | Request::Broadcast { .. } => {}
        }
    }

    /// Answers who asked about one session, where this shard has it.
    fn done(&self, asker: Option<&Asker>, sessions: &[(u32, Session)]) {
        if let Some(asker) = asker.filter(|_| !sessions.is_empty()) {
            self.context.answer(asker.clone(), Answer::Done);
        }
    }

    /// The connected sessions on this shard that a request is about.
    fn sessions_of(&mut self, namespace: NamespaceId, target: &Target) -> Vec<(u32, Session)> {
        self.stamp += 1;
        for except in &target.except {
            self.stamp_room(namespace, except);
        }
        let mut slots: Vec<u32> = Vec::new();
        if target.rooms.is_empty() {
            let everyone = self.members.everyone(namespace);
            slots.extend(self.members.room(everyone).members.iter().map(|member| member.slot));
        }
        for room in &target.rooms {
            if let Some(id) = self.members.find(namespace, room) {
                slots.extend(self.members.room(id).members.iter().map(|member| member.slot));
            }
            if let Some(sid) = self.resolve(namespace, room) {
                slots.push(sid.slot);
            }
        }
        let mut sessions = Vec::with_capacity(slots.len());
        for slot in slots {
            let Some(connection) = self.connections.get_mut(slot as usize) else { continue };
            if connection.stamp == self.stamp {
                continue;
            }
            connection.stamp = self.stamp;
            let session = connection.sessions.iter().find(|s| s.namespace == namespace && s.connected);
            sessions.extend(session.map(|session| (slot, *session)));
        }
        sessions
    }

    fn view(&self, slot: u32, session: &Session) -> SessionView {
        let sid = self.sid(slot, session).to_string();
        let mut rooms = vec![sid.clone()];
        let mut address = String::new();
        if let Some(connection) = self.connections.get(slot as usize) {
            let named = connection.rooms.iter().map(|membership| self.members.room(membership.room));
            let named = named.filter(|room| room.namespace == session.namespace);
            rooms.extend(named.filter_map(|room| room.name.as_ref().map(ToString::to_string)));
            address = connection.address().map(|address| address.to_string()).unwrap_or_default();
        }
        let since_ms = self.context.began.1 + u64::from(session.since) * 1000;
        SessionView { sid, rooms, since_ms, address }
    }

    fn rooms_in(&mut self, namespace: NamespaceId) -> Vec<String> {
        let own = self.connections.iter().flat_map(|(slot, connection)| {
            let sessions = connection.sessions.iter().filter(|s| s.namespace == namespace && s.connected);
            sessions.map(move |session| (slot as u32, *session))
        });
        let mut rooms: Vec<String> =
            own.map(|(slot, session)| self.sid(slot, &session).to_string()).collect();
        let named =
            self.members.named().filter(|room| room.namespace == namespace && !room.members.is_empty());
        rooms.extend(named.filter_map(|room| room.name.as_ref().map(ToString::to_string)));
        rooms
    }

    /// Tells the app, once for the node. Where there is none an asker hears at once that nothing is said.
    fn server_side_emit(&mut self, namespace: NamespaceId, data: Vec<u8>, asker: Option<Asker>) {
        let name = self.context.config.namespaces.name(namespace);
        let Some(app) = self.context.app_of(namespace) else {
            return self.node_answered(&name, asker, Default::default());
        };
        let what = What::ServerSideEmit { data };
        let kind = what.index();
        let tell = Tell { namespace: name.clone(), sid: None, user: None, what };
        let about = About::Node { asker: asker.clone() };
        let Err(failure) = app.ask(tell, about, self.now + app.timeout) else { return };
        self.context.metrics.app.called(kind, failure.label());
        if failure == Failure::QueueFull {
            self.context.metrics.rare.limit_reached.with_label_values(&["app_queue"]).inc();
        }
        self.node_answered(&name, asker, Default::default());
    }

    fn broadcast(
        &mut self,
        namespace: NamespaceId,
        publication: Publication<'static>,
        asker: Asker,
        timeout_ms: Option<u64>,
    ) {
        let timeout = timeout_ms.map_or(self.context.config.timing.ack_timeout, Duration::from_millis);
        let shards = Shards::all(self.context.inboxes.len());
        let id = self.context.config.namespaces.next_ack(namespace);
        let expected = Expected {
            id,
            asker: Arc::new(asker),
            until: self.now + timeout.min(LONGEST_WAIT),
            reached: AtomicUsize::new(0),
            missing: AtomicUsize::new(shards.iter().count()),
        };
        self.hand_out(namespace, Publication { ack: Some(id), ..publication }, shards, Some(expected));
    }

    /// Gives a publication to the shards that it concerns.
    pub(super) fn hand_out(
        &mut self,
        namespace: NamespaceId,
        publication: Publication<'_>,
        shards: Shards,
        expected: Option<Expected>,
    ) {
        let shared = Arc::new(Shared {
            namespace,
            publication: publication.into_owned(),
            since: self.now,
            missing: AtomicUsize::new(shards.iter().count()),
            expected,
            frames: Default::default(),
        });
        for shard in shards.without(0).iter() {
            if !self.parcels[shard].deliver(&self.context.inboxes[shard], shared.clone()) {
                self.counters.add(crate::metrics::Count::ShardQueueFull, 1);
                if let Some(expected) = &shared.expected {
                    self.expect_acks_of(expected, namespace, &[]);
                }
            }
        }
        if shards.contains(0) {
            self.deliver_shared(&shared);
        }
    }
}

impl Requested {
    /// Adds a shard's part; gives the whole to the last one.
    fn add(&self, add: impl FnOnce(&mut Found)) -> Option<Found> {
        // No code panics while it holds the lock.
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        add(&mut found);
        (self.missing.fetch_sub(1, Ordering::Relaxed) == 1).then(|| std::mem::take(&mut *found))
    }
}
