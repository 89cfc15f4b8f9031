//! Counts deliveries of one group: how many, how late, and which publications have reached everybody.

use std::collections::VecDeque;
use std::ops::Range;

use hdrhistogram::Histogram;

use crate::stamp::Stamp;

/// Latencies are recorded in microseconds up to this.
const LONGEST_US: u64 = 120_000_000;

/// A histogram of latencies in microseconds; all have the same bounds.
pub(crate) fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, 3).expect("1 < the longest, 3 digits")
}

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
    deliveries: u64,
    firsts: u64,
    /// Of the slice of time that goes on.
    slice: Histogram<u64>,
    /// Of the slices before it.
    latency: Histogram<u64>,
    /// Publications intended in here count for the latency.
    window: Range<u64>,
    pub(crate) flight: Option<Flight>,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        let (slice, latency) = (latencies(), latencies());
        Self { deliveries: 0, firsts: 0, slice, latency, window: 0..0, flight: None }
    }

    /// Publications intended in this time count for the latency; what counted before is forgotten.
    pub(crate) fn open_window(&mut self, window: Range<u64>) {
        self.slice.reset();
        self.latency.reset();
        self.window = window;
    }

    /// A publication reached a member at `now`; `first` unless the member had it.
    pub(crate) fn deliver(&mut self, stamp: Stamp, first: bool, now: u64) {
        self.deliveries += 1;
        if !first {
            return;
        }
        self.firsts += 1;
        if self.window.contains(&stamp.intended) {
            self.slice.saturating_record(now.saturating_sub(stamp.intended) / 1000);
        }
        if let Some(flight) = &mut self.flight {
            flight.arrived(stamp.sequence);
        }
    }

    /// Deliveries, duplicates included: each cost the server as much.
    pub(crate) fn deliveries(&self) -> u64 {
        self.deliveries
    }

    /// Latencies since the last [`Ledger::end_slice`].
    pub(crate) fn slice(&self) -> &Histogram<u64> {
        &self.slice
    }

    pub(crate) fn end_slice(&mut self) {
        self.latency.add(&self.slice).expect("both have the same bounds");
        self.slice.reset();
    }

    /// Latencies of the window, which closes.
    pub(crate) fn close_window(&mut self) -> Histogram<u64> {
        self.end_slice();
        self.window = 0..0;
        std::mem::replace(&mut self.latency, latencies())
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
        ledger.open_window(1_000..2_000);
        let mut deliver = |sequence, intended, first| {
            ledger.deliver(Stamp { room: 0, sequence, intended }, first, 51_000);
            ledger.end_slice();
        };
        deliver(0, 999, true);
        deliver(1, 1_000, true);
        deliver(1, 1_000, false);
        deliver(2, 2_000, true);
        assert_eq!((ledger.deliveries(), ledger.firsts), (4, 3));
        let latency = ledger.close_window();
        assert_eq!((latency.len(), latency.max()), (1, 50));
        ledger.deliver(Stamp { room: 0, sequence: 3, intended: 1_500 }, true, 52_000);
        assert!(ledger.close_window().is_empty(), "the window was closed");
    }
}
