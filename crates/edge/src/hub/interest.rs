//! Which rooms this node wants from the broker: a level-triggered state machine without I/O.
//!
//! Shards say that they want a room or no longer do; the machine keeps it wanted for a while after the
//! last one left (linger), and knows which rooms the broker has confirmed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanfare_protocol::NamespaceId;

/// A set of shards; a node has at most [`Shards::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Shards(u64);

/// What the broker is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) namespace: NamespaceId,
    pub(crate) room: Arc<str>,
    pub(crate) wanted: bool,
}

/// The rooms that a node wants.
#[derive(Debug)]
pub(crate) struct Interest {
    linger: Duration,
    rooms: Vec<HashMap<Arc<str>, Wanted>>,
    lingering: BTreeMap<(Instant, u64), (NamespaceId, Arc<str>)>,
    serial: u64,
}

#[derive(Debug)]
struct Wanted {
    shards: Shards,
    state: State,
    /// Where it stands in `lingering`, while nobody wants it.
    lingers: Option<(Instant, u64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Asked,
    Active,
    Refused,
}

impl Shards {
    pub(crate) const MAX: usize = 64;

    /// The first `count` shards.
    pub(crate) fn all(count: usize) -> Self {
        Self(u64::MAX >> (Self::MAX - count.clamp(1, Self::MAX)))
    }

    fn insert(&mut self, shard: usize) {
        self.0 |= 1 << shard;
    }

    fn remove(&mut self, shard: usize) {
        self.0 &= !(1 << shard);
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The shards but for `shard`.
    pub(crate) fn without(mut self, shard: usize) -> Self {
        self.remove(shard);
        self
    }

    pub(crate) fn contains(self, shard: usize) -> bool {
        self.0 & (1 << shard) != 0
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = usize> {
        (0..Self::MAX).filter(move |shard| self.contains(*shard))
    }
}

impl Interest {
    pub(crate) fn new(linger: Duration) -> Self {
        Self { linger, rooms: Vec::new(), lingering: BTreeMap::new(), serial: 0 }
    }

    /// Rooms and sessions that the broker is asked for, lingering ones included.
    pub(crate) fn len(&self) -> usize {
        self.rooms.iter().map(HashMap::len).sum()
    }

    /// A shard wants the room. `Ok`: the room is active already. `Err`: what to tell the broker, if anything.
    pub(crate) fn want(
        &mut self,
        namespace: NamespaceId,
        room: &Arc<str>,
        shard: usize,
    ) -> Result<(), Option<Wish>> {
        let wish = Wish { namespace, room: room.clone(), wanted: true };
        let rooms = rooms_of(&mut self.rooms, namespace);
        let Some(wanted) = rooms.get_mut(room) else {
            let mut shards = Shards::default();
            shards.insert(shard);
            rooms.insert(room.clone(), Wanted { shards, state: State::Asked, lingers: None });
            return Err(Some(wish));
        };
        wanted.shards.insert(shard);
        if let Some(place) = wanted.lingers.take() {
            self.lingering.remove(&place);
        }
        match wanted.state {
            State::Active => Ok(()),
            State::Asked => Err(None),
            State::Refused => {
                wanted.state = State::Asked;
                Err(Some(wish))
            }
        }
    }

    /// A shard no longer wants the room. With `linger` it stays wanted for a while after the last one.
    pub(crate) fn unwant(
        &mut self,
        namespace: NamespaceId,
        room: &str,
        shard: usize,
        linger: bool,
        now: Instant,
    ) -> Option<Wish> {
        let rooms = rooms_of(&mut self.rooms, namespace);
        let (name, wanted) = rooms.get_key_value(room)?;
        let name = name.clone();
        let state = wanted.state;
        let wanted = rooms.get_mut(room)?;
        wanted.shards.remove(shard);
        if !wanted.shards.is_empty() {
            return None;
        }
        if linger && state != State::Refused {
            self.serial += 1;
            let place = (now + self.linger, self.serial);
            if let Some(earlier) = wanted.lingers.replace(place) {
                self.lingering.remove(&earlier);
            }
            self.lingering.insert(place, (namespace, name));
            return None;
        }
        self.forget(namespace, &name);
        Some(Wish { namespace, room: name, wanted: false })
    }

    /// The broker confirmed the room: the shards to tell.
    pub(crate) fn active(&mut self, namespace: NamespaceId, room: &str) -> Shards {
        self.settle(namespace, room, State::Active)
    }

    /// The broker refused the room: the shards to tell. It is asked for anew when someone wants it anew.
    pub(crate) fn refused(&mut self, namespace: NamespaceId, room: &str) -> Shards {
        self.settle(namespace, room, State::Refused)
    }

    fn settle(&mut self, namespace: NamespaceId, room: &str, state: State) -> Shards {
        match rooms_of(&mut self.rooms, namespace).get_mut(room) {
            Some(wanted) => {
                wanted.state = state;
                wanted.shards
            }
            None => Shards::default(),
        }
    }

    /// The link is gone: nothing is active until it is confirmed anew.
    pub(crate) fn lost(&mut self) {
        for wanted in self.rooms.iter_mut().flat_map(HashMap::values_mut) {
            if wanted.state == State::Active {
                wanted.state = State::Asked;
            }
        }
    }

    /// The shards that have, or wait for, members of the room.
    pub(crate) fn shards(&self, namespace: NamespaceId, room: &str) -> Shards {
        let wanted = self.rooms.get(namespace.index()).and_then(|rooms| rooms.get(room));
        wanted.map_or(Shards::default(), |wanted| wanted.shards)
    }

    /// Rooms whose linger is over at `now`.
    pub(crate) fn expire(&mut self, now: Instant, mut tell: impl FnMut(Wish)) {
        while let Some(entry) = self.lingering.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let (namespace, room) = entry.remove();
            self.forget(namespace, &room);
            tell(Wish { namespace, room, wanted: false });
        }
    }

    /// When the next linger ends.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.lingering.first_key_value().map(|((at, _), _)| *at)
    }

    fn forget(&mut self, namespace: NamespaceId, room: &str) {
        let rooms = rooms_of(&mut self.rooms, namespace);
        let gone = rooms.remove(room);
        if rooms.len() * 4 < rooms.capacity() {
            rooms.shrink_to(rooms.len() * 2);
        }
        if let Some(place) = gone.and_then(|wanted| wanted.lingers) {
            self.lingering.remove(&place);
        }
    }
}

/// A namespace's rooms; the table grows where it is new.
fn rooms_of(
    rooms: &mut Vec<HashMap<Arc<str>, Wanted>>,
    namespace: NamespaceId,
) -> &mut HashMap<Arc<str>, Wanted> {
    if rooms.len() <= namespace.index() {
        rooms.resize_with(namespace.index() + 1, HashMap::new);
    }
    &mut rooms[namespace.index()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    const LINGER: Duration = Duration::from_secs(2);

    #[derive(Debug, Clone)]
    enum Step {
        Want(u8, usize),
        Unwant(u8, usize, bool),
        /// The broker answers for a room that it was asked for.
        Answer(u8, bool),
        Lost,
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0u8..4, 0usize..3).prop_map(|(room, shard)| Step::Want(room, shard)),
            (0u8..4, 0usize..3, any::<bool>())
                .prop_map(|(room, shard, linger)| Step::Unwant(room, shard, linger)),
            (0u8..4, any::<bool>()).prop_map(|(room, grant)| Step::Answer(room, grant)),
            Just(Step::Lost),
            (0u64..1500).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// Whatever happens: the broker is told to want what a shard wants, is not told twice, and is told
        /// to let go exactly when nobody has wanted the room for the linger; a room counts as active only
        /// if the broker said so since the link was last lost.
        #[test]
        fn the_wish_follows_the_level(steps in prop::collection::vec(step(), 1..120)) {
            let mut now = Instant::now();
            let mut interest = Interest::new(LINGER);
            let mut by_shard: BTreeSet<(u8, usize)> = BTreeSet::new();
            let mut wished: BTreeSet<u8> = BTreeSet::new();
            let mut state: BTreeMap<u8, bool> = BTreeMap::new();
            let mut left: BTreeMap<u8, Instant> = BTreeMap::new();
            let number = |wish: &Wish| wish.room.parse::<u8>().unwrap();
            for step in steps {
                match step {
                    Step::Want(room, shard) => {
                        by_shard.insert((room, shard));
                        left.remove(&room);
                        let known = state.get(&room).copied();
                        match interest.want(NamespaceId::MAIN, &room.to_string().into(), shard) {
                            Ok(()) => prop_assert_eq!(known, Some(true)),
                            Err(Some(wish)) => {
                                prop_assert!(wish.wanted);
                                prop_assert!(wished.insert(number(&wish)) || known == Some(false));
                                state.remove(&room);
                            }
                            Err(None) => prop_assert!(known.is_none() && wished.contains(&room)),
                        }
                    }
                    Step::Unwant(room, shard, linger) => {
                        if !by_shard.remove(&(room, shard)) { continue; }
                        let last = !by_shard.iter().any(|(other, _)| *other == room);
                        let refused = state.get(&room) == Some(&false);
                        let wish = interest.unwant(NamespaceId::MAIN, &room.to_string(), shard, linger, now);
                        prop_assert_eq!(wish.is_some(), last && (!linger || refused));
                        if wish.is_some() {
                            wished.remove(&room);
                            state.remove(&room);
                        } else if last {
                            left.insert(room, now);
                        }
                    }
                    Step::Answer(room, grant) => {
                        if wished.contains(&room) && !state.contains_key(&room) {
                            let shards = if grant {
                                interest.active(NamespaceId::MAIN, &room.to_string())
                            } else {
                                interest.refused(NamespaceId::MAIN, &room.to_string())
                            };
                            state.insert(room, grant);
                            let expected: BTreeSet<usize> =
                                by_shard.iter().filter(|(other, _)| *other == room).map(|(_, shard)| *shard).collect();
                            prop_assert_eq!(shards.iter().collect::<BTreeSet<_>>(), expected);
                        }
                    }
                    Step::Lost => {
                        interest.lost();
                        state.retain(|_, active| !*active);
                    }
                    Step::Wait(ms) => {
                        now += Duration::from_millis(ms);
                        let mut gone = Vec::new();
                        interest.expire(now, |wish| gone.push(number(&wish)));
                        for room in gone {
                            let since = left.remove(&room);
                            prop_assert!(since.is_some_and(|since| since + LINGER <= now));
                            prop_assert!(wished.remove(&room));
                            state.remove(&room);
                        }
                    }
                }
                for (room, _) in &by_shard {
                    prop_assert!(wished.contains(room));
                }
                prop_assert_eq!(interest.len(), wished.len());
                prop_assert!(left.values().all(|since| *since + LINGER > now || matches!(interest.next(), Some(at) if at <= now)));
            }
        }
    }
}
