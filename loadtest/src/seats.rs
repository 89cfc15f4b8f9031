//! Who of a group sits in which rooms, at which server, and from which address.

use std::net::Ipv4Addr;
use std::ops::Range;

use crate::scenario::Group;

/// Connections per source address: below the 28,000 ports of the default range.
pub(crate) const PER_SOURCE: usize = 20_000;
/// Third parts of the source address that one crowd may use up.
const SOURCES: usize = 100;

/// A group's part of a crowd. Rooms and connections are numbered through the whole crowd.
#[derive(Debug, Clone)]
pub(crate) struct Seats {
    pub(crate) rooms: Range<usize>,
    pub(crate) connections: Range<usize>,
    /// Rooms of each connection; 0 where there are none.
    pub(crate) joins: usize,
    stalled: f64,
}

impl Seats {
    /// Seats everybody, group after group.
    pub(crate) fn of(groups: &[Group]) -> Vec<Self> {
        let (mut room, mut connection) = (0, 0);
        let seat = |group: &Group| {
            let seats = Self {
                rooms: room..room + group.rooms,
                connections: connection..connection + group.connections(),
                joins: if group.rooms == 0 { 0 } else { group.joins },
                stalled: group.stalled,
            };
            (room, connection) = (seats.rooms.end, seats.connections.end);
            seats
        };
        groups.iter().map(seat).collect()
    }

    /// The `slot`th room of a connection: so dealt that each room gets as many members as any other.
    pub(crate) fn room(&self, connection: usize, slot: usize) -> usize {
        self.rooms.start + (self.offset(connection) + slot) % self.rooms.len()
    }

    /// Which of its rooms this is to the connection with that [`Seats::offset`]; `None` if it is none.
    pub(crate) fn slot(&self, offset: usize, room: usize) -> Option<usize> {
        let room = room.checked_sub(self.rooms.start).filter(|room| *room < self.rooms.len())?;
        let slot = if room >= offset { room - offset } else { room + self.rooms.len() - offset };
        (slot < self.joins).then_some(slot)
    }

    /// A member of the room, always the same.
    pub(crate) fn speaker(&self, room: usize) -> usize {
        self.connections.start + (room - self.rooms.start) / self.joins.max(1)
    }

    /// Members of one room are dealt to the servers in turn.
    pub(crate) fn edge(&self, connection: usize, edges: usize) -> usize {
        let index = connection - self.connections.start;
        let turn = (index * self.joins).checked_div(self.rooms.len()).unwrap_or(index);
        turn % edges
    }

    /// Whether this connection is one of those that stop reading: as many in each room.
    pub(crate) fn stalls(&self, connection: usize) -> bool {
        let index = connection - self.connections.start;
        let turn = (index * self.joins).checked_div(self.rooms.len()).unwrap_or(index) as f64;
        // Rounded, since a share that a file gives as a count of members need not be exact in binary.
        let up_to = |turn: f64| (turn * self.stalled + 1e-9).floor();
        up_to(turn + 1.0) > up_to(turn)
    }

    /// Where in the group a connection's rooms start.
    pub(crate) fn offset(&self, connection: usize) -> usize {
        ((connection - self.connections.start) * self.joins).checked_rem(self.rooms.len()).unwrap_or(0)
    }
}

/// 127.0.0.2 upwards: 127.0.0.1 belongs to the servers. At most 250 crowds before addresses repeat.
pub(crate) fn source_address(connection: usize, crowd: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, (connection / PER_SOURCE % SOURCES) as u8, 2 + (crowd % 250) as u8)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use super::*;
    use crate::scenario::Scenario;

    #[test]
    fn every_room_gets_its_members_and_knows_them() {
        for name in ["f1", "chat", "resubscribe", "huge", "two-edges"] {
            let scenario = Scenario::named(name).unwrap();
            for (seats, group) in Seats::of(&scenario.groups).iter().zip(&scenario.groups) {
                let mut members = vec![0; group.rooms];
                for connection in seats.connections.clone() {
                    for slot in 0..group.joins {
                        let room = seats.room(connection, slot);
                        members[room - seats.rooms.start] += 1;
                        assert_eq!(seats.slot(seats.offset(connection), room), Some(slot));
                    }
                }
                assert!(members.iter().all(|count| *count == group.members), "{name} {}", group.name);
                for room in seats.rooms.clone() {
                    let speaker = seats.offset(seats.speaker(room));
                    assert!(seats.slot(speaker, room).is_some(), "{name}: {room} has a speaker");
                }
                assert_eq!(seats.slot(0, seats.rooms.end), None);
            }
        }
    }

    #[test]
    fn stalled_members_and_edges_are_spread_over_the_rooms() {
        let seats = &Seats::of(&Scenario::named("slow").unwrap().groups)[0];
        let mut stalled = HashMap::new();
        for connection in seats.connections.clone().filter(|connection| seats.stalls(*connection)) {
            *stalled.entry(seats.room(connection, 0)).or_insert(0) += 1;
        }
        assert_eq!(stalled, (0..5).map(|room| (room, 200)).collect());
        let seats = &Seats::of(&Scenario::named("two-edges").unwrap().groups)[0];
        let in_first =
            seats.connections.clone().filter(|it| seats.room(*it, 0) == 0 && seats.edge(*it, 2) == 0);
        assert_eq!(in_first.count(), 5);
    }

    #[test]
    fn no_source_address_runs_out_of_ports() {
        let mut per_source = HashMap::new();
        for connection in 0..100_000 {
            *per_source.entry(source_address(connection, 3)).or_insert(0) += 1;
        }
        assert_eq!(per_source.len(), 5);
        // The default range: 32768 to 60999.
        assert!(per_source.values().all(|count| *count <= 28_232));
        assert!(per_source.keys().all(|address| address.is_loopback() && *address != Ipv4Addr::LOCALHOST));
        let crowds: BTreeSet<_> = (0..250).map(|crowd| source_address(0, crowd)).collect();
        assert_eq!(crowds.len(), 250, "ports of one crowd linger while the next connects");
    }
}
