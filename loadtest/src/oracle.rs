//! Knows what one member of one room should have got, and what it did get.

use std::ops::{AddAssign, Range};

/// Holes kept open per connection; beyond it a late arrival in the oldest hole counts as a duplicate and
/// the hole as lost.
const MAX_HOLES: usize = 1024;

/// What went wrong at one connection or many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Never arrived.
    pub(crate) lost: u64,
    /// Arrived again.
    pub(crate) duplicated: u64,
    /// Arrived behind a later one.
    pub(crate) reordered: u64,
    /// Arrived where its room was not joined.
    pub(crate) strayed: u64,
}

impl Tally {
    pub(crate) fn is_clean(self) -> bool {
        self == Self::default()
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.strayed += other.strayed;
    }
}

/// Expects the sequence 0, 1, 2, … of a room.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    next: u64,
    holes: Vec<Range<u64>>,
    tally: Tally,
}

impl Oracle {
    /// One delivery. Says whether it is the first of its sequence number.
    pub(crate) fn observe(&mut self, sequence: u64) -> bool {
        if sequence == self.next {
            self.next += 1;
            return true;
        }
        if sequence > self.next {
            self.open_hole(self.next..sequence);
            self.next = sequence + 1;
            return true;
        }
        self.fill(sequence)
    }

    /// The verdict after `published` publications of the room.
    pub(crate) fn verdict(&self, published: u64) -> Tally {
        let holes: u64 = self.holes.iter().map(|hole| hole.end - hole.start).sum();
        let missing_tail = published.saturating_sub(self.next);
        Tally { lost: self.tally.lost + holes + missing_tail, ..self.tally }
    }

    fn open_hole(&mut self, hole: Range<u64>) {
        if self.holes.len() == MAX_HOLES {
            let oldest = self.holes.remove(0);
            self.tally.lost += oldest.end - oldest.start;
        }
        self.holes.push(hole);
    }

    fn fill(&mut self, sequence: u64) -> bool {
        let Some(index) = self.holes.iter().position(|hole| hole.contains(&sequence)) else {
            self.tally.duplicated += 1;
            return false;
        };
        self.tally.reordered += 1;
        let hole = self.holes.remove(index);
        for rest in [sequence + 1..hole.end, hole.start..sequence] {
            if !rest.is_empty() {
                self.holes.insert(index, rest);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(stream: &[u64], published: u64) -> Tally {
        let mut oracle = Oracle::default();
        for sequence in stream {
            oracle.observe(*sequence);
        }
        oracle.verdict(published)
    }

    #[test]
    fn a_whole_stream_is_clean() {
        assert!(verdict(&[0, 1, 2, 3, 4], 5).is_clean());
        assert!(verdict(&[], 0).is_clean());
    }

    #[test]
    fn a_dropped_delivery_is_lost_wherever_it_was() {
        let one = Tally { lost: 1, ..Tally::default() };
        assert_eq!(verdict(&[1, 2, 3], 4), one, "first");
        assert_eq!(verdict(&[0, 1, 3], 4), one, "middle");
        assert_eq!(verdict(&[0, 1, 2], 4), one, "last");
        assert_eq!(verdict(&[], 4).lost, 4, "all");
    }

    #[test]
    fn a_repeated_delivery_is_a_duplicate_and_nothing_else() {
        let one = Tally { duplicated: 1, ..Tally::default() };
        assert_eq!(verdict(&[0, 1, 1, 2], 3), one);
        assert_eq!(verdict(&[0, 1, 2, 0], 3), one);
    }

    #[test]
    fn a_late_delivery_is_reordered_and_not_lost() {
        let one = Tally { reordered: 1, ..Tally::default() };
        assert_eq!(verdict(&[0, 2, 1, 3], 4), one);
        assert_eq!(verdict(&[3, 0, 1, 2], 4), Tally { reordered: 3, ..Tally::default() });
    }

    #[test]
    fn late_then_again_is_both() {
        let both = Tally { reordered: 1, duplicated: 1, ..Tally::default() };
        assert_eq!(verdict(&[0, 2, 1, 1, 3], 4), both);
    }

    #[test]
    fn the_first_of_a_number_is_told_from_the_second() {
        let mut oracle = Oracle::default();
        assert!(oracle.observe(0));
        assert!(!oracle.observe(0));
        assert!(oracle.observe(2));
        assert!(oracle.observe(1));
        assert!(!oracle.observe(1));
    }

    #[test]
    fn holes_are_bounded_and_still_counted() {
        let odd: Vec<u64> = (0..5_000).map(|index| index * 2 + 1).collect();
        assert_eq!(verdict(&odd, 10_000).lost, 5_000);
    }
}
