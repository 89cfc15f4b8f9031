//! Who is in which room on this shard: room to members and member to rooms, O(1) both ways.

use std::collections::HashMap;
use std::sync::Arc;

use fanfare_protocol::NamespaceId;
use slab::Slab;
use smallvec::SmallVec;

/// A room of this shard, as an index.
pub(crate) type RoomId = u32;

/// A connection's rooms, each with its place in the room's list. The first entry of a session is the
/// namespace itself, whose members are everyone in it.
pub(crate) type Memberships = SmallVec<[Membership; 2]>;

/// One room of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Membership {
    pub(crate) room: RoomId,
    at: u32,
}

/// One member of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) slot: u32,
    at: u32,
}

/// A room that someone on this shard is in, or waits to be in.
#[derive(Debug)]
pub(crate) struct Room {
    pub(crate) namespace: NamespaceId,
    /// `None` for the namespace itself.
    pub(crate) name: Option<Arc<str>>,
    pub(crate) members: Vec<Member>,
    /// Slots whose join waits for the room to be active; a slot stands once per waiting join.
    pub(crate) waiting: Vec<u32>,
    /// The broker has confirmed it: what is published from now on arrives here.
    pub(crate) active: bool,
}

/// The rooms of one shard.
#[derive(Debug)]
pub(crate) struct Members {
    /// One per namespace that anyone here was ever in.
    namespaces: Vec<Partition>,
    rooms: Slab<Room>,
    memberships: usize,
}

/// One namespace's rooms.
#[derive(Debug)]
struct Partition {
    /// The room that everyone in it is in.
    everyone: RoomId,
    names: HashMap<Arc<str>, RoomId>,
}

impl Members {
    pub(crate) fn new() -> Self {
        Self { namespaces: Vec::new(), rooms: Slab::new(), memberships: 0 }
    }

    /// The room that everyone in `namespace` is in.
    pub(crate) fn everyone(&mut self, namespace: NamespaceId) -> RoomId {
        while self.namespaces.len() <= namespace.index() {
            let next = NamespaceId(self.namespaces.len() as u16);
            let everyone = self.rooms.insert(Room { active: true, ..Room::new(next, None) }) as RoomId;
            self.namespaces.push(Partition { everyone, names: HashMap::new() });
        }
        self.namespaces[namespace.index()].everyone
    }

    pub(crate) fn find(&self, namespace: NamespaceId, name: &str) -> Option<RoomId> {
        self.namespaces.get(namespace.index())?.names.get(name).copied()
    }

    /// The room of that name; the flag says that it is new and has to be wanted.
    pub(crate) fn ensure(&mut self, namespace: NamespaceId, name: &str) -> (RoomId, bool) {
        if let Some(id) = self.find(namespace, name) {
            return (id, false);
        }
        let name: Arc<str> = name.into();
        let id = self.rooms.insert(Room::new(namespace, Some(name.clone()))) as RoomId;
        self.everyone(namespace);
        self.namespaces[namespace.index()].names.insert(name, id);
        (id, true)
    }

    pub(crate) fn room(&self, id: RoomId) -> &Room {
        &self.rooms[id as usize]
    }

    pub(crate) fn room_mut(&mut self, id: RoomId) -> &mut Room {
        &mut self.rooms[id as usize]
    }

    /// Named rooms of this shard.
    pub(crate) fn rooms(&self) -> usize {
        self.rooms.len() - self.namespaces.len()
    }

    /// Members of all named rooms.
    pub(crate) fn memberships(&self) -> usize {
        self.memberships
    }

    /// Every room that is not a namespace's own.
    pub(crate) fn named(&mut self) -> impl Iterator<Item = &mut Room> {
        self.rooms.iter_mut().map(|(_, room)| room).filter(|room| room.name.is_some())
    }

    /// Adds `slot` to `room`, which it must not be in.
    pub(crate) fn join(&mut self, slot: u32, rooms: &mut Memberships, id: RoomId) {
        let room = &mut self.rooms[id as usize];
        rooms.push(Membership { room: id, at: room.members.len() as u32 });
        room.members.push(Member { slot, at: rooms.len() as u32 - 1 });
        self.memberships += usize::from(room.name.is_some());
    }

    /// Where `room` stands among a connection's rooms.
    pub(crate) fn position(rooms: &Memberships, id: RoomId) -> Option<usize> {
        rooms.iter().position(|membership| membership.room == id)
    }

    /// Takes a connection out of its room at `position`. `of` finds the rooms of another slot, whose
    /// place in the room's list changes; it is asked for another slot only.
    pub(crate) fn leave<'a>(
        &mut self,
        slot: u32,
        rooms: &mut Memberships,
        position: usize,
        of: impl FnOnce(u32) -> Option<&'a mut Memberships>,
    ) -> RoomId {
        let gone = rooms.swap_remove(position);
        if rooms.spilled() && rooms.len() * 4 < rooms.capacity() {
            rooms.shrink_to_fit();
        }
        if let Some(moved) = rooms.get(position) {
            self.rooms[moved.room as usize].members[moved.at as usize].at = position as u32;
        }
        let room = &mut self.rooms[gone.room as usize];
        debug_assert_eq!(room.members[gone.at as usize].slot, slot);
        room.members.swap_remove(gone.at as usize);
        self.memberships -= usize::from(room.name.is_some());
        if let Some(moved) = room.members.get(gone.at as usize).copied()
            && let Some(rooms) = of(moved.slot)
        {
            rooms[moved.at as usize].at = gone.at;
        }
        if room.members.len() * 4 < room.members.capacity() {
            room.members.shrink_to(room.members.len() * 2);
        }
        gone.room
    }

    /// Forgets a room that nobody is in or waits for; `true` where it did.
    pub(crate) fn forget_if_empty(&mut self, id: RoomId) -> Option<Room> {
        let room = &self.rooms[id as usize];
        if room.name.is_none() || !room.members.is_empty() || !room.waiting.is_empty() {
            return None;
        }
        let room = self.rooms.remove(id as usize);
        if let Some(name) = &room.name {
            let names = &mut self.namespaces[room.namespace.index()].names;
            names.remove(name);
            // Ten thousand rooms that came and went must not leave their table behind.
            if names.len() * 4 < names.capacity() {
                names.shrink_to(names.len() * 2);
            }
        }
        if self.rooms.len() * 4 < self.rooms.capacity() {
            self.rooms.shrink_to_fit();
        }
        Some(room)
    }
}

impl Room {
    fn new(namespace: NamespaceId, name: Option<Arc<str>>) -> Self {
        Self { namespace, name, members: Vec::new(), waiting: Vec::new(), active: false }
    }

    /// Takes one waiting join of `slot` back.
    pub(crate) fn stop_waiting(&mut self, slot: u32) {
        if let Some(at) = self.waiting.iter().position(|waiting| *waiting == slot) {
            self.waiting.swap_remove(at);
        }
        if self.waiting.is_empty() {
            self.waiting = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn joins_and_leaves_agree_with_a_plain_set(
            steps in prop::collection::vec((0u32..6, 0u32..5, any::<bool>()), 1..200),
        ) {
            let mut members = Members::new();
            let mut rooms: Vec<Memberships> = vec![Memberships::new(); 6];
            let mut model: BTreeSet<(u32, u32)> = BTreeSet::new();
            for (slot, name, join) in steps {
                let text = format!("room{name}");
                let mut own = std::mem::take(&mut rooms[slot as usize]);
                if join {
                    let (id, _) = members.ensure(NamespaceId::MAIN, &text);
                    if model.insert((slot, name)) {
                        members.join(slot, &mut own, id);
                    }
                } else if model.remove(&(slot, name)) {
                    let id = members.find(NamespaceId::MAIN, &text).unwrap();
                    let position = Members::position(&own, id).unwrap();
                    members.leave(slot, &mut own, position, |other| rooms.get_mut(other as usize));
                    members.forget_if_empty(id);
                }
                rooms[slot as usize] = own;
                let mut seen = BTreeSet::new();
                for name in 0..5 {
                    if let Some(id) = members.find(NamespaceId::MAIN, &format!("room{name}")) {
                        for (at, member) in members.room(id).members.iter().enumerate() {
                            let back = rooms[member.slot as usize][member.at as usize];
                            prop_assert_eq!(back, Membership { room: id, at: at as u32 });
                            seen.insert((member.slot, name));
                        }
                    }
                }
                prop_assert_eq!(&seen, &model);
                prop_assert_eq!(members.memberships(), model.len());
            }
        }
    }
}
