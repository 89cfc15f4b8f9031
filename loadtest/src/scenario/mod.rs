//! What can be measured: groups of rooms, what they get, and what has to come out. Each scenario is a file.

mod figure;
mod file;
mod shipped;

use std::time::Duration;

use serde::Deserialize;

pub(crate) use figure::Figure;
pub(crate) use shipped::shipped;

use crate::peers::PeerKind;
use crate::report::limits::Limit;

/// The order of events in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Course {
    /// Everybody joins, publications flow. With a disturbance (stalled members, a group that `disturbs`) the
    /// measured part comes twice: without it, then with it.
    #[default]
    Flow,
    /// Everybody connects and nothing happens: memory and CPU of that.
    Idle,
    /// As `idle`, after every outbox was made to hold [`FILLED_BYTES`] and everybody has read it all.
    Filled,
    /// Everybody connects and joins at once; then one publication to each room.
    Storm,
    /// The bus dies and comes back empty; then one publication to each room.
    Resubscribe,
}

/// What each outbox holds in [`Course::Filled`] before its reader goes on.
pub(crate) const FILLED_BYTES: u64 = 64 << 10;

/// How publications of a group leave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Load {
    /// On schedule, whatever comes back, the rooms in turn; `burst` at each time.
    Paced { per_second: u32, burst: u32 },
    /// So many at a time, the next when one has reached every member; one room.
    Closed { in_flight: usize },
    /// That part of what the peer does flat out, for every peer: measured in the same run.
    Share { of: PeerKind, share: f64 },
    /// None by itself.
    None,
}

/// Who publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Source {
    /// The app server's side, by the peer's own way.
    #[default]
    Publisher,
    /// One member of each room, on its own connection.
    Members,
}

/// Rooms of a kind and those who are in them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Group {
    pub(crate) name: String,
    /// None: its members join nothing.
    pub(crate) rooms: usize,
    /// Members of each room.
    pub(crate) members: usize,
    /// Rooms that each connection joins.
    pub(crate) joins: usize,
    pub(crate) load: Load,
    pub(crate) from: Source,
    /// Part of its connections that stops reading for the second half.
    pub(crate) stalled: f64,
    /// It publishes in the second half only, and what is reported of latency is the others'.
    pub(crate) disturbs: bool,
    /// Bytes of a publication's payload, where the scenario depends on it.
    pub(crate) payload: Option<usize>,
}

impl Group {
    /// Rooms of so many members, without anything else.
    #[cfg(test)]
    pub(crate) fn plain(rooms: usize, members: usize) -> Self {
        Self {
            name: "all".into(),
            rooms,
            members,
            joins: 1,
            load: Load::None,
            from: Source::Publisher,
            stalled: 0.0,
            disturbs: false,
            payload: None,
        }
    }

    pub(crate) fn connections(&self) -> usize {
        if self.rooms == 0 { self.members } else { self.rooms * self.members / self.joins }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) about: String,
    pub(crate) course: Course,
    /// Length of the measured part of a round, unless told otherwise.
    pub(crate) seconds: u64,
    /// Rounds, unless told otherwise.
    pub(crate) rounds: usize,
    /// Server processes of a peer.
    pub(crate) edges: usize,
    /// Peers that it says nothing about.
    pub(crate) without: Vec<PeerKind>,
    /// More arguments for `fanfare serve`.
    pub(crate) fanfare: Vec<String>,
    pub(crate) limits: Vec<Limit>,
    pub(crate) groups: Vec<Group>,
    headline: Figure,
}

impl Scenario {
    /// One of those that come with the program.
    pub(crate) fn named(name: &str) -> Option<Self> {
        shipped().iter().find(|scenario| scenario.name == name).cloned()
    }

    /// The same with another number of connections; rooms keep their size where there are several.
    pub(crate) fn with_connections(mut self, connections: usize) -> Self {
        let usual = self.connections();
        for group in &mut self.groups {
            if group.rooms > 1 {
                group.rooms = (group.rooms * connections / usual).max(group.joins);
            } else {
                group.members = (group.members * connections / usual).max(1);
            }
        }
        self
    }

    pub(crate) fn connections(&self) -> usize {
        self.groups.iter().map(Group::connections).sum()
    }

    pub(crate) fn rooms(&self) -> usize {
        self.groups.iter().map(|group| group.rooms).sum()
    }

    pub(crate) fn measured(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// What peers are compared by.
    pub(crate) fn headline(&self) -> Figure {
        self.headline
    }

    /// Whether a calm half comes before the measured one.
    pub(crate) fn is_disturbed(&self) -> bool {
        self.groups.iter().any(|group| group.disturbs || group.stalled > 0.0)
    }

    /// Whether every server must be new to each round: memory tells of all that a server has seen.
    pub(crate) fn wants_fresh_servers(&self) -> bool {
        matches!(self.course, Course::Idle | Course::Filled) || self.groups.iter().any(|g| g.stalled > 0.0)
    }

    /// Why the scenario says nothing about this peer, or cannot be played with it.
    pub(crate) fn leaves_out(&self, peer: PeerKind) -> Option<&'static str> {
        let group = |holds: fn(&Group) -> bool| self.groups.iter().any(holds);
        let reasons = [
            (self.without.contains(&peer), "the scenario says nothing about it"),
            (self.edges > 1 && !peer.can_have_edges(), "it has one process only"),
            (group(|group| group.joins > 1) && !peer.joins_by_asking(), "its connections have one room"),
            (
                group(|group| group.from == Source::Members) && !peer.is_fanfare(),
                "its members do not publish",
            ),
            (self.course == Course::Resubscribe && !peer.is_fanfare(), "it has no bus that can be restarted"),
            (self.course == Course::Filled && !peer.is_fanfare(), "it does not tell what its outboxes hold"),
        ];
        reasons.into_iter().find(|reason| reason.0).map(|reason| reason.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_keep_their_size() {
        let sizes = |name: &str, connections| {
            let scenario = Scenario::named(name).unwrap().with_connections(connections);
            (scenario.rooms(), scenario.connections())
        };
        assert_eq!(sizes("connect", 500), (50, 500));
        assert_eq!(sizes("f1", 10), (1, 10));
        assert_eq!(sizes("idle", 10), (0, 10));
        assert_eq!(sizes("resubscribe", 50), (500, 50));
    }

    #[test]
    fn peers_that_cannot_play_are_left_out() {
        let says = |name: &str, peer| Scenario::named(name).unwrap().leaves_out(peer).is_some();
        assert!(says("two-edges", PeerKind::Nchan) && !says("two-edges", PeerKind::FanfarePlain));
        assert!(says("idle", PeerKind::Floor) && !says("idle", PeerKind::Nchan));
        assert!(says("chat", PeerKind::Nchan) && !says("f1", PeerKind::Floor));
    }
}
