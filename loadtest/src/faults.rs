//! What became of connections that are not there.

use std::ops::AddAssign;

use crate::connection::Fault;

/// Connections that are not there, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    pub(crate) unreachable: u64,
    pub(crate) refused: u64,
    pub(crate) closed: u64,
    pub(crate) garbled: u64,
    /// Neither settled nor refused when the crowd stalled.
    pub(crate) unanswered: u64,
}

impl Faults {
    pub(crate) fn total(self) -> u64 {
        self.unreachable + self.refused + self.closed + self.garbled + self.unanswered
    }

    /// One more, for that reason.
    pub(crate) fn count(&mut self, fault: Fault) {
        match fault {
            Fault::Unreachable => self.unreachable += 1,
            Fault::Refused => self.refused += 1,
            Fault::Closed => self.closed += 1,
            Fault::Garbled => self.garbled += 1,
        }
    }
}

impl AddAssign for Faults {
    fn add_assign(&mut self, other: Self) {
        self.unreachable += other.unreachable;
        self.refused += other.refused;
        self.closed += other.closed;
        self.garbled += other.garbled;
        self.unanswered += other.unanswered;
    }
}
