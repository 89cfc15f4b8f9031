//! Joining and leaving rooms: a join waits until the broker has confirmed the room, and membership starts
//! in the turn that queues its answer.

use std::time::Instant;

use fanfare_protocol::name::check_room;
use fanfare_protocol::{NamespaceId, Refusal, RefusalCode, ReplyTo};

use super::members::{Members, RoomId};
use super::shard::Shard;
use crate::connection::Step;
use crate::metrics::Count;

impl Shard {
    /// Joins at once where nothing has to be waited for.
    pub(super) fn join(
        &mut self,
        slot: u32,
        namespace: NamespaceId,
        name: &str,
        reply: Option<ReplyTo>,
    ) -> Option<Step> {
        match self.begin_join(slot, namespace, name) {
            // The usual case needs no deadline.
            Ok((room, _)) if self.members.room(room).active => {
                self.finish_join(slot, room, reply, false);
                None
            }
            Ok((room, until)) => {
                self.await_by(slot, until);
                Some(Step::Join { room, reply, until, refused: false })
            }
            Err(refusal) => self.answer(slot, reply, Err(&refusal)),
        }
    }

    /// Asks the broker for a room on behalf of a join, which from now on counts as waiting for it.
    pub(super) fn begin_join(
        &mut self,
        slot: u32,
        namespace: NamespaceId,
        name: &str,
    ) -> Result<(RoomId, Instant), Refusal> {
        check_room(name).map_err(|error| Refusal::new(RefusalCode::BadRequest, format!("room: {error}")))?;
        self.check_rooms(slot)?;
        let (room, new) = self.members.ensure(namespace, name);
        let entry = self.members.room(room);
        // Where someone is in it whose subscription was lost or refused, it is asked for anew.
        if (new || (!entry.active && entry.waiting.is_empty()))
            && let Some(name) = entry.name.clone()
        {
            let active = self.want(namespace, &name);
            self.members.room_mut(room).active = active;
        }
        self.members.room_mut(room).waiting.push(slot);
        Ok((room, self.now + self.context.config.timing.join_timeout))
    }

    /// Looks at a connection's waiting steps again then.
    pub(super) fn await_by(&mut self, slot: u32, until: Instant) {
        if let Some(connection) = self.connections.get(slot as usize) {
            self.due.push_back((until, slot, connection.generation));
        }
    }

    pub(super) fn check_rooms(&self, slot: u32) -> Result<(), Refusal> {
        let limit = self.context.config.limits.rooms_per_connection;
        let rooms = self.connections.get(slot as usize).map_or(0, |connection| {
            connection.rooms.len() - connection.sessions.iter().filter(|session| session.connected).count()
        });
        if rooms < limit {
            return Ok(());
        }
        self.context.metrics.rare.limit_reached.with_label_values(&["rooms_per_connection"]).inc();
        Err(Refusal::new(RefusalCode::Limit, format!("a connection can be in {limit} rooms")))
    }

    /// Ends a join that waited: the room is active, or was refused or not confirmed in time.
    pub(super) fn finish_join(&mut self, slot: u32, room: RoomId, reply: Option<ReplyTo>, refused: bool) {
        let entry = self.members.room_mut(room);
        entry.stop_waiting(slot);
        let active = entry.active;
        let joined = self.is_member(slot, room);
        let outcome = if joined {
            Ok(())
        } else if !active && refused {
            Err(Refusal::new(RefusalCode::Forbidden, "the broker's access rules refuse this room"))
        } else if !active {
            let text = "the broker did not confirm the room; try again";
            Err(Refusal::new(RefusalCode::Unavailable, text))
        } else {
            self.check_rooms(slot)
        };
        if outcome.is_ok()
            && !joined
            && let Some(connection) = self.connections.get_mut(slot as usize)
        {
            self.members.join(slot, &mut connection.rooms, room);
        }
        self.drop_room(room);
        self.counters.add(if outcome.is_ok() { Count::JoinsOk } else { Count::JoinsFailed }, 1);
        self.answer(slot, reply, outcome.as_ref().copied());
    }

    /// Fails a join whose room the broker refused, when its turn comes.
    pub(super) fn fail_join(&mut self, slot: u32, which: RoomId) {
        if let Some(pending) = self.pending(slot) {
            for (step, _) in &mut pending.steps {
                match step {
                    Step::Join { room, refused, .. } if *room == which => *refused = true,
                    Step::Settling(settling) => {
                        let rooms = settling.rooms.iter_mut().filter(|(room, _)| *room == which);
                        rooms.for_each(|(_, refused)| *refused = true);
                    }
                    _ => {}
                }
            }
        }
        self.advance(slot);
    }

    pub(super) fn leave_room(&mut self, slot: u32, namespace: NamespaceId, name: &str) {
        let Some(room) = self.members.find(namespace, name) else { return };
        let Some(connection) = self.connections.get(slot as usize) else { return };
        if let Some(position) = Members::position(&connection.rooms, room) {
            self.leave_at(slot, position);
        }
    }

    /// Takes a connection out of the room at `position` of its list.
    pub(super) fn leave_at(&mut self, slot: u32, position: usize) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        let mut rooms = std::mem::take(&mut connection.rooms);
        let connections = &mut self.connections;
        let room = self.members.leave(slot, &mut rooms, position, |other| {
            connections.get_mut(other as usize).map(|connection| &mut connection.rooms)
        });
        if let Some(connection) = self.connections.get_mut(slot as usize) {
            connection.rooms = rooms;
        }
        self.drop_room(room);
    }

    /// Lets go of a room that nobody is in or waits for.
    pub(super) fn drop_room(&mut self, room: RoomId) {
        if let Some(gone) = self.members.forget_if_empty(room)
            && let Some(name) = gone.name
            // A session of that id goes on without the room.
            && self.resolve(gone.namespace, &name).is_none_or(|sid| !self.has_channel(sid.slot, gone.namespace))
        {
            self.unwant(gone.namespace, &name, true);
        }
    }

    /// A join that comes to nothing.
    pub(super) fn give_up_join(&mut self, slot: u32, room: RoomId) {
        self.members.room_mut(room).stop_waiting(slot);
        self.drop_room(room);
    }

    pub(super) fn is_member(&self, slot: u32, room: RoomId) -> bool {
        self.connections.get(slot as usize).is_some_and(|c| Members::position(&c.rooms, room).is_some())
    }
}
