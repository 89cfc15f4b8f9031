//! Counts deliveries of one crowd: how many, how late, and which publications have reached everybody.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::stamp::Stamp;

/// Latencies are recorded in microseconds up to this.
const LONGEST_US: u64 = 120_000_000;

/// Publications of a closed loop that have not reached every member.
#[derive(Debug)]
pub(crate) struct Flight {
    members: u32,
    /// Sequence number of the front of `reached`.
    base: u64,
    reached: VecDeque<u32>,
    /// Of `reached`, how many are whole.
    landed: usize,
}

impl Flight {
    pub(crate) fn new(members: u32) -> Self {
        Self { members, base: 0, reached: VecDeque::new(), landed: 0 }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.reached.len() - self.landed
    }

    /// The next publication in sequence leaves.
    pub(crate) fn start(&mut self) {
        self.reached.push_back(0);
    }

    fn arrived(&mut self, sequence: u64) {
        let Some(index) = sequence.checked_sub(self.base) else { return };
        let Some(count) = self.reached.get_mut(index as usize) else { return };
        *count += 1;
        self.landed += usize::from(*count == self.members);
        while self.reached.front() == Some(&self.members) {
            self.reached.pop_front();
            self.base += 1;
            self.landed -= 1;
        }
    }
}

#[derive(Debug)]
pub(crate) struct Ledger {
    start: Instant,
    now: u64,
    deliveries: u64,
    firsts: u64,
    latency: Histogram<u64>,
    /// Publications intended in here count for `latency`.
    window: Range<u64>,
    pub(crate) flight: Option<Flight>,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        let latency = Histogram::new_with_bounds(1, LONGEST_US, 3).expect("1 < the longest, 3 digits");
        Self { start: Instant::now(), now: 0, deliveries: 0, firsts: 0, latency, window: 0..0, flight: None }
    }

    /// Reads the clock: nanoseconds since this ledger began.
    pub(crate) fn tick(&mut self) -> u64 {
        self.now = self.start.elapsed().as_nanos() as u64;
        self.now
    }

    /// Publications of the coming `length` count for the latency.
    pub(crate) fn open_window(&mut self, length: Duration) {
        let now = self.tick();
        self.window = now..now + length.as_nanos() as u64;
    }

    /// A publication reached a member, at the last tick; `first` unless the member had it.
    pub(crate) fn deliver(&mut self, stamp: Stamp, first: bool) {
        self.deliveries += 1;
        if !first {
            return;
        }
        self.firsts += 1;
        if self.window.contains(&stamp.intended) {
            self.latency.saturating_record(self.now.saturating_sub(stamp.intended) / 1000);
        }
        if let Some(flight) = &mut self.flight {
            flight.arrived(stamp.sequence);
        }
    }

    /// Deliveries, duplicates included: each cost the server as much.
    pub(crate) fn deliveries(&self) -> u64 {
        self.deliveries
    }

    /// Deliveries without duplicates.
    pub(crate) fn firsts(&self) -> u64 {
        self.firsts
    }

    /// Delivery latencies in microseconds.
    pub(crate) fn into_latency(self) -> Histogram<u64> {
        self.latency
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publication_lands_when_all_members_have_it() {
        let mut flight = Flight::new(2);
        flight.start();
        flight.start();
        for (sequence, in_flight) in [(0, 2), (1, 2), (1, 1), (0, 0)] {
            flight.arrived(sequence);
            assert_eq!(flight.in_flight(), in_flight, "after {sequence}");
        }
        flight.start();
        flight.arrived(0);
        flight.arrived(9);
        assert_eq!(flight.in_flight(), 1, "strangers change nothing");
        flight.arrived(2);
        flight.arrived(2);
        assert_eq!(flight.in_flight(), 0);
    }

    #[test]
    fn only_firsts_of_the_window_have_a_latency() {
        let mut ledger = Ledger::new();
        ledger.window = 1_000..2_000;
        ledger.now = 51_000;
        ledger.deliver(Stamp { sequence: 0, intended: 999 }, true);
        ledger.deliver(Stamp { sequence: 1, intended: 1_000 }, true);
        ledger.deliver(Stamp { sequence: 1, intended: 1_000 }, false);
        ledger.deliver(Stamp { sequence: 2, intended: 2_000 }, true);
        assert_eq!((ledger.deliveries(), ledger.firsts()), (4, 3));
        assert_eq!(ledger.latency.len(), 1);
        assert_eq!(ledger.latency.max(), 50);
    }
}
