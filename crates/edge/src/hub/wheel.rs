//! A timing wheel: deadlines of many connections at one push each, fired in ticks.

use std::time::{Duration, Instant};

const BUCKETS: usize = 1024;

/// Deadlines of slots. An entry cannot be taken back: its owner remembers the tick that counts and
/// ignores others (see [`Wheel::insert`]).
#[derive(Debug)]
pub(crate) struct Wheel {
    tick: Duration,
    origin: Instant,
    /// The next tick to fire.
    cursor: u64,
    buckets: Vec<Vec<Entry>>,
    entries: usize,
}

/// A deadline that fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
    pub(crate) tick: u64,
}

impl Wheel {
    /// A tick is at most a hundredth of `shortest`, the shortest timer that will be used, within 1 to 100 ms.
    pub(crate) fn new(shortest: Duration, now: Instant) -> Self {
        let tick = (shortest / 100).clamp(Duration::from_millis(1), Duration::from_millis(100));
        Self { tick, origin: now, cursor: 0, buckets: vec![Vec::new(); BUCKETS], entries: 0 }
    }

    /// The tick in which `deadline` has passed for sure.
    pub(crate) fn tick_of(&self, deadline: Instant) -> u64 {
        let nanos = deadline.saturating_duration_since(self.origin).as_nanos();
        let tick = nanos.div_ceil(self.tick.as_nanos());
        u64::try_from(tick).unwrap_or(u64::MAX)
    }

    /// Fires `slot` in `tick`, or in the next one where that has passed.
    pub(crate) fn insert(&mut self, slot: u32, generation: u32, tick: u64) -> u64 {
        let tick = tick.max(self.cursor);
        // Beyond the horizon it waits in the farthest bucket and is put forward from there.
        let bucket = tick.min(self.cursor + BUCKETS as u64 - 1) % BUCKETS as u64;
        self.buckets[bucket as usize].push(Entry { slot, generation, tick });
        self.entries += 1;
        tick
    }

    /// Moves every entry that is due at `now` to `fired`.
    pub(crate) fn expire(&mut self, now: Instant, fired: &mut Vec<Entry>) {
        let elapsed = now.saturating_duration_since(self.origin).as_nanos() / self.tick.as_nanos();
        let upto = u64::try_from(elapsed).unwrap_or(u64::MAX);
        while self.cursor <= upto {
            if self.entries == 0 {
                self.cursor = upto + 1;
                return;
            }
            let due = std::mem::take(&mut self.buckets[(self.cursor % BUCKETS as u64) as usize]);
            self.entries -= due.len();
            let at = self.cursor;
            self.cursor += 1;
            for entry in due {
                if entry.tick <= at {
                    fired.push(entry);
                } else {
                    self.insert(entry.slot, entry.generation, entry.tick);
                }
            }
        }
    }

    /// When to call [`Wheel::expire`] next, `None` where nothing waits.
    pub(crate) fn next(&self) -> Option<Instant> {
        if self.entries == 0 {
            return None;
        }
        let ahead = (0..BUCKETS as u64)
            .find(|ahead| !self.buckets[((self.cursor + ahead) % BUCKETS as u64) as usize].is_empty())?;
        let tick = u32::try_from(self.cursor + ahead).unwrap_or(u32::MAX);
        Some(self.origin + self.tick * tick)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_deadline_fires_once_after_it_passed_and_within_two_ticks(
            deadlines in prop::collection::vec(0u64..400_000, 1..50),
            steps in prop::collection::vec(1u64..9_000, 1..200),
        ) {
            let start = Instant::now();
            let mut wheel = Wheel::new(Duration::from_secs(20), start);
            for (slot, ms) in (0u32..).zip(&deadlines) {
                let tick = wheel.tick_of(start + Duration::from_millis(*ms));
                wheel.insert(slot, 0, tick);
            }
            let mut now = start;
            let mut seen = vec![0; deadlines.len()];
            for step in steps.iter().chain(std::iter::once(&500_000)) {
                let before = now;
                now += Duration::from_millis(*step);
                let mut fired = Vec::new();
                wheel.expire(now, &mut fired);
                for entry in fired {
                    let due = start + Duration::from_millis(deadlines[entry.slot as usize]);
                    prop_assert!(due <= now);
                    prop_assert!(due + Duration::from_millis(200) >= before);
                    seen[entry.slot as usize] += 1;
                }
            }
            prop_assert!(seen.iter().all(|count| *count == 1));
            prop_assert_eq!(wheel.next(), None);
        }
    }
}
