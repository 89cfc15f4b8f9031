//! What benchmarks measure from outside, behind the feature `internals`. It is no interface.

use std::io::{self, Write};

use fanfare_protocol::{Frame, NamespaceId};

use crate::hub::members::{Members, Memberships};
use crate::outbox::{self, Flushed, Written};

pub use crate::hub::lone::LoneShard;

/// One connection's outbox.
#[derive(Debug, Default)]
pub struct Outbox {
    frames: outbox::Outbox,
    scratch: Vec<u8>,
}

impl Outbox {
    pub fn push(&mut self, frame: Frame) {
        self.frames.push(frame);
    }

    /// One write, as the hub does it; whether nothing is left.
    pub fn flush(&mut self, socket: &mut impl Write) -> io::Result<bool> {
        let flushed = self.frames.flush(socket, &mut self.scratch, &mut Written::default())?;
        Ok(flushed == Flushed::Empty)
    }
}

/// Who is in which room of the main namespace, without connections.
#[derive(Debug)]
pub struct Rooms {
    members: Members,
    slots: Vec<Memberships>,
}

impl Rooms {
    /// So many slots that are in no room.
    pub fn new(slots: usize) -> Self {
        let slots = (0..slots).map(|_| Memberships::default()).collect();
        Self { members: Members::new(), slots }
    }

    /// `slot` must not be in the room.
    pub fn join(&mut self, slot: u32, room: &str) {
        let (id, _) = self.members.ensure(NamespaceId::MAIN, room);
        self.members.join(slot, &mut self.slots[slot as usize], id);
    }

    /// Nothing where `slot` is not in the room.
    pub fn leave(&mut self, slot: u32, room: &str) {
        let Some(id) = self.members.find(NamespaceId::MAIN, room) else { return };
        let mut own = std::mem::take(&mut self.slots[slot as usize]);
        if let Some(position) = Members::position(&own, id) {
            let slots = &mut self.slots;
            self.members.leave(slot, &mut own, position, |other| slots.get_mut(other as usize));
            self.members.forget_if_empty(id);
        }
        self.slots[slot as usize] = own;
    }
}
