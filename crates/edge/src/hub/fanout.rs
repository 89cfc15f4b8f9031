//! From a publication to outboxes: encode once, mark every member, write later.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use fanfare_protocol::{Disconnect, EncodeError, Encoding, Frame, NamespaceId, Publication};

use super::inbox::Shared;
use super::shard::Shard;
use crate::metrics::{Count, Level};

/// Rooms of more members than this are large: their members are written after those of small rooms.
const LARGE_ROOM: usize = 256;

/// The frames of one publication, made when the first member of a kind needs them.
struct Frames<'p, 'd> {
    publication: &'p Publication<'d>,
    shared: Option<&'p Shared>,
    made: [Option<Option<Frame>>; Encoding::ALL.len()],
    failed: Option<EncodeError>,
}

impl Frames<'_, '_> {
    /// The frame for an encoding, `None` where the publication cannot be shown in it.
    fn get(&mut self, encoding: Encoding, room: Option<&str>) -> Option<&Frame> {
        let made = &mut self.made[encoding.index()];
        if made.is_none() {
            let mut encode = || match encoding.encode(self.publication, room) {
                Ok(frame) => Some(frame),
                Err(error) => {
                    self.failed = Some(error);
                    None
                }
            };
            *made = Some(match self.shared {
                Some(shared) if !encoding.names_room() => {
                    shared.frames[encoding.index()].get_or_init(encode).clone()
                }
                _ => encode(),
            });
        }
        made.as_ref().and_then(Option::as_ref)
    }

    /// Forgets the frames that name a room, before the next room.
    fn next_room(&mut self) {
        for encoding in Encoding::ALL {
            if encoding.names_room() {
                self.made[encoding.index()] = None;
            }
        }
    }
}

/// What a fan-out does to every member alike.
#[derive(Clone, Copy)]
struct Mark<'r> {
    room: Option<&'r str>,
    large: bool,
    volatile: bool,
    /// Members may be met twice, or be excluded: look at their stamp.
    stamped: bool,
}

impl Shard {
    /// The part of this shard in a publication that several shards deliver.
    pub(super) fn deliver_shared(&mut self, shared: &Arc<Shared>) {
        if shared.expected.is_some() {
            self.receivers = Some(Vec::new());
        }
        let reached = self.deliver(shared.namespace, &shared.publication, Some(shared));
        if let (Some(expected), Some(receivers)) = (&shared.expected, self.receivers.take()) {
            self.expect_acks_of(expected, shared.namespace, &receivers);
        }
        if !reached && shared.missing.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.counters.add(Count::PublicationsUnwanted, 1);
        }
    }

    /// The whole of a publication that concerns only this shard.
    pub(super) fn deliver_here(&mut self, namespace: NamespaceId, publication: &Publication<'_>) {
        if !self.deliver(namespace, publication, None) {
            self.counters.add(Count::PublicationsUnwanted, 1);
        }
    }

    /// Puts a publication into the outboxes of this shard's members that are to get it; `false` where
    /// there are none.
    fn deliver(
        &mut self,
        namespace: NamespaceId,
        publication: &Publication<'_>,
        shared: Option<&Shared>,
    ) -> bool {
        let before = self.counters.get(Count::Deliveries);
        let mut frames = Frames { publication, shared, made: Default::default(), failed: None };
        let stamped = publication.rooms.len() > 1 || !publication.except.is_empty();
        if stamped {
            self.stamp += 1;
            for except in &publication.except {
                self.stamp_room(namespace, except);
            }
        }
        let volatile = publication.volatile;
        if publication.rooms.is_empty() {
            let id = self.members.everyone(namespace);
            let large = self.members.room(id).members.len() > LARGE_ROOM;
            self.mark_room(id, &mut frames, Mark { room: None, large, volatile, stamped });
        }
        for (at, room) in publication.rooms.iter().enumerate() {
            if at > 0 {
                frames.next_room();
            }
            let mark = Mark { room: Some(room), large: false, volatile, stamped };
            let found = self.members.find(namespace, room);
            if let Some(id) = found {
                let large = self.members.room(id).members.len() > LARGE_ROOM;
                self.mark_room(id, &mut frames, Mark { large, ..mark });
            }
            // Whoever is in a room of that name, too: the session is reached, and once.
            if let Some(sid) = self.resolve_connected(namespace, room)
                && !found.is_some_and(|id| self.is_member(sid.slot, id))
            {
                self.mark(sid.slot, &mut frames, mark);
            }
        }
        if let Some(error) = frames.failed {
            self.counters.add(Count::DroppedNotEncodable, 1);
            tracing::debug!(%error, "a publication cannot be shown to clients");
            return true;
        }
        self.counters.get(Count::Deliveries) > before
    }

    fn mark_room(&mut self, id: u32, frames: &mut Frames<'_, '_>, mark: Mark<'_>) {
        // The list is taken out while connections change; nothing on this path joins or leaves.
        let members = std::mem::take(&mut self.members.room_mut(id).members);
        for member in &members {
            self.mark(member.slot, frames, mark);
        }
        self.members.room_mut(id).members = members;
    }

    /// Appends the publication to one outbox and remembers to write it.
    fn mark(&mut self, slot: u32, frames: &mut Frames<'_, '_>, mark: Mark<'_>) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        if mark.stamped {
            if connection.stamp == self.stamp {
                return;
            }
            connection.stamp = self.stamp;
        }
        let flow = &mut connection.flow;
        if flow.closing.is_some() {
            self.counters.add(Count::DroppedClosed, 1);
            return;
        }
        if mark.volatile && flow.blocked.is_some() {
            self.counters.add(Count::DroppedVolatile, 1);
            return;
        }
        let Some(frame) = frames.get(connection.machine.encoding(), mark.room) else { return };
        let frame = connection.fit(frame.clone());
        let size = frame.bytes().len();
        // An empty outbox always takes one frame, whatever its size.
        let over = !connection.outbox.is_empty()
            && connection.outbox.bytes() + size > self.context.config.limits.outbox_hard;
        if over {
            self.counters.add(Count::DroppedClosed, 1);
            self.overfull.push((slot, connection.generation));
            return;
        }
        connection.outbox.push(frame);
        self.counters.add(Count::Deliveries, 1);
        if let Some(receivers) = &mut self.receivers {
            receivers.push(slot);
        }
        self.counters.level(Level::OutboxBytes, size as i64);
        self.counters.level(Level::OutboxFrames, 1);
        if connection.flow.blocked.is_some() {
            return;
        }
        if mark.large {
            self.rings.push_large(slot, &mut connection.flow);
        } else {
            self.rings.push_small(slot, &mut connection.flow);
        }
    }

    /// Stamps everyone in a room (and the one session of that id), so that [`Shard::mark`] passes them by.
    pub(super) fn stamp_room(&mut self, namespace: NamespaceId, room: &str) {
        if let Some(id) = self.members.find(namespace, room) {
            for member in &self.members.room(id).members {
                if let Some(connection) = self.connections.get_mut(member.slot as usize) {
                    connection.stamp = self.stamp;
                }
            }
        }
        if let Some(sid) = self.resolve(namespace, room)
            && let Some(connection) = self.connections.get_mut(sid.slot as usize)
        {
            connection.stamp = self.stamp;
        }
    }

    /// Closes the connections whose outbox passed its hard bound.
    pub(super) fn close_overfull(&mut self) {
        for (slot, generation) in std::mem::take(&mut self.overfull) {
            let connection = self.connections.get(slot as usize);
            // It stands here once for each frame that was too much.
            if connection.is_some_and(|c| c.generation == generation && c.flow.closing.is_none()) {
                self.context.metrics.rare.limit_reached.with_label_values(&["outbox_hard"]).inc();
                self.close_slow(slot, Disconnect::SlowConsumer);
            }
        }
    }

    pub(super) fn note_lag(&mut self, publication: &Publication<'_>) {
        if let Some(sent) = publication.sent_at {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let micros = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
            // Clocks of nodes differ; a negative lag is none.
            self.lag.observe(micros.saturating_sub(sent) as f64 / 1e6);
        }
    }
}
