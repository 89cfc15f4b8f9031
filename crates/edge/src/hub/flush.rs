//! From outboxes to sockets: one write per dirty connection, in slices, small rooms first.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use fanfare_protocol::{Disconnect, Frame, websocket};

use super::shard::Shard;
use crate::connection::{Closing, Flow, Transport, Via};
use crate::metrics::{Count, Level};
use crate::outbox::{Flushed, Written};

/// Writes of one slice, before what came in meanwhile is served.
const SLICE_WRITES: usize = 256;
/// Time of one slice.
const SLICE: Duration = Duration::from_millis(1);
/// Writes to members of small rooms for each one to a member of a large room.
const SMALL_FIRST: u8 = 3;
/// Publications, and bytes of them, taken from the feed while members are still dirty from earlier ones.
const TAKEN: usize = 512;
const TAKEN_BYTES: usize = 256 << 10;
/// How often connections that take nothing are looked at.
const SWEEP: Duration = Duration::from_millis(250);
/// How long histograms may lag behind.
const REPORT: Duration = Duration::from_millis(100);
/// How long a connection may take to be flushed and closed.
const CLOSE_TIME: Duration = Duration::from_secs(3);

/// Connections with something to write.
#[derive(Debug, Default)]
pub(super) struct Rings {
    small: VecDeque<u32>,
    large: VecDeque<u32>,
    /// Entries that ever went in and came out, to know when a batch is through.
    pushed: (u64, u64),
    popped: (u64, u64),
    turn: u8,
    batches: VecDeque<Batch>,
    taken: usize,
    taken_bytes: usize,
}

/// Publications that came together: through when the rings have passed where they stood.
#[derive(Debug, Clone, Copy)]
struct Batch {
    since: Instant,
    publications: usize,
    bytes: usize,
    upto: (u64, u64),
}

impl Rings {
    pub(super) fn is_empty(&self) -> bool {
        self.small.is_empty() && self.large.is_empty()
    }

    pub(super) fn push_small(&mut self, slot: u32, flow: &mut Flow) {
        if !flow.in_small {
            flow.in_small = true;
            self.small.push_back(slot);
            self.pushed.0 += 1;
        }
    }

    pub(super) fn push_large(&mut self, slot: u32, flow: &mut Flow) {
        if !flow.in_large && !flow.in_small {
            flow.in_large = true;
            self.large.push_back(slot);
            self.pushed.1 += 1;
        }
    }

    /// The next connection; the flag says that it stood in the ring of small rooms.
    fn pop(&mut self) -> Option<(u32, bool)> {
        let small_turn = self.turn < SMALL_FIRST || self.large.is_empty();
        self.turn = if self.turn < SMALL_FIRST { self.turn + 1 } else { 0 };
        if small_turn && let Some(slot) = self.small.pop_front() {
            self.popped.0 += 1;
            return Some((slot, true));
        }
        if let Some(slot) = self.large.pop_front() {
            self.popped.1 += 1;
            return Some((slot, false));
        }
        let slot = self.small.pop_front()?;
        self.popped.0 += 1;
        Some((slot, true))
    }

    /// Whether more publications may be taken before those taken earlier are written.
    pub(super) fn has_room(&self) -> bool {
        self.taken < TAKEN && self.taken_bytes < TAKEN_BYTES
    }

    /// How many publications may be taken now.
    pub(super) fn room(&self) -> usize {
        if self.has_room() { TAKEN - self.taken } else { 0 }
    }

    /// Notes publications whose members are marked.
    pub(super) fn took(&mut self, since: Instant, publications: usize, bytes: usize) {
        self.taken += publications;
        self.taken_bytes += bytes;
        self.batches.push_back(Batch { since, publications, bytes, upto: self.pushed });
    }

    /// The batches that are through; asked for after each slice.
    fn through(&mut self) -> Option<Batch> {
        let batch = *self.batches.front()?;
        if self.popped.0 < batch.upto.0 || self.popped.1 < batch.upto.1 {
            return None;
        }
        self.batches.pop_front();
        self.taken -= batch.publications;
        self.taken_bytes -= batch.bytes;
        Some(batch)
    }
}

impl Shard {
    /// Writes dirty connections, for one slice.
    pub(super) fn flush_slice(&mut self) {
        self.close_overfull();
        if !self.rings.is_empty() {
            self.write_dirty(Instant::now() + SLICE);
        }
        self.note_through();
        // Also where nothing could be written: what is held for sockets that take nothing counts most.
        self.keep_budget();
    }

    fn write_dirty(&mut self, end: Instant) {
        for written in 0..SLICE_WRITES {
            if written % 32 == 31 && Instant::now() >= end {
                break;
            }
            let Some((slot, small)) = self.rings.pop() else { break };
            if let Some(connection) = self.connections.get_mut(slot as usize) {
                if small {
                    connection.flow.in_small = false;
                } else {
                    connection.flow.in_large = false;
                }
                self.flush(slot, small);
            }
        }
    }

    fn note_through(&mut self) {
        let mut now = None;
        while let Some(batch) = self.rings.through() {
            let now = *now.get_or_insert_with(Instant::now);
            let seconds = now.saturating_duration_since(batch.since).as_secs_f64();
            for _ in 0..batch.publications {
                self.fanout.observe(seconds);
            }
            self.next_report.get_or_insert(now + REPORT);
        }
    }

    /// One write to one connection.
    fn flush(&mut self, slot: u32, small: bool) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        if connection.flow.blocked.is_some() || connection.outbox.is_empty() {
            return;
        }
        let Transport::WebSocket { socket, .. } = &mut connection.transport else {
            return self.flush_polling(slot);
        };
        let before = (connection.outbox.bytes(), connection.outbox.frames());
        let mut written = Written::default();
        let result = connection.outbox.flush(socket, &mut self.scratch, &mut written);
        let after = (connection.outbox.bytes(), connection.outbox.frames());
        self.counters.add(Count::Writes, written.writes);
        self.counters.add(Count::SentBytes, written.bytes);
        self.counters.level(Level::OutboxBytes, after.0 as i64 - before.0 as i64);
        self.counters.level(Level::OutboxFrames, after.1 as i64 - before.1 as i64);
        match result {
            Ok(Flushed::Empty) => self.flushed(slot),
            Ok(Flushed::More) if small => self.rings.push_small(slot, &mut connection.flow),
            Ok(Flushed::More) => self.rings.push_large(slot, &mut connection.flow),
            Ok(Flushed::Blocked) => self.block(slot),
            Err(_) => self.remove(slot, Disconnect::WriteError),
        }
    }

    /// A connection that leaves has written its last byte.
    fn flushed(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        let Some(closing) = &mut connection.flow.closing else { return };
        let reason = closing.reason;
        if closing.answered {
            self.remove(slot, reason);
        } else if !closing.shut {
            closing.shut = true;
            let Transport::WebSocket { socket, .. } = &connection.transport else { return };
            if socket.shutdown(std::net::Shutdown::Write).is_err() {
                self.remove(slot, reason);
            }
        }
    }

    /// Nothing can be written for now.
    pub(super) fn block(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        if connection.flow.blocked.replace(self.now).is_none() {
            self.counters.level(Level::Blocked, 1);
        }
        if !connection.flow.swept {
            connection.flow.swept = true;
            if self.blocked.is_empty() {
                self.next_sweep = self.now + SWEEP;
            }
            self.blocked.push((slot, connection.generation));
        }
    }

    /// The kernel takes bytes again, or a GET waits for some.
    pub(super) fn unblock(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        if connection.flow.blocked.take().is_some() {
            self.counters.level(Level::Blocked, -1);
            self.rings.push_small(slot, &mut connection.flow);
        }
    }

    /// Looks at connections that take nothing: over the soft bound they have to move in time.
    pub(super) fn sweep_blocked(&mut self) {
        if self.blocked.is_empty() || self.now < self.next_sweep {
            return;
        }
        self.next_sweep = self.now + SWEEP;
        let (soft, stall) =
            (self.context.config.limits.outbox_soft, self.context.config.timing.stall_timeout);
        let mut slow = Vec::new();
        let now = self.now;
        let connections = &mut self.connections;
        self.blocked.retain(|(slot, generation)| {
            let Some(connection) = connections.get_mut(*slot as usize) else { return false };
            if connection.generation != *generation {
                return false;
            }
            let Some(since) = connection.flow.blocked else {
                connection.flow.swept = false;
                return false;
            };
            if connection.outbox.bytes() > soft && now.saturating_duration_since(since) >= stall {
                slow.push(*slot);
            }
            true
        });
        for slot in slow {
            self.close_slow(slot, Disconnect::SlowConsumer);
        }
    }

    /// Keeps what outboxes hold within the node's budget: who holds the most goes first.
    fn keep_budget(&mut self) {
        let budget = self.context.config.limits.outbox_budget;
        while Frame::live_bytes() > budget {
            let holds = |slot: u32, generation: u32| {
                let connection = self.connections.get(slot as usize).filter(|c| c.generation == generation);
                connection.filter(|c| c.flow.closing.is_none()).map(|connection| connection.outbox.bytes())
            };
            let largest = self
                .blocked
                .iter()
                .filter_map(|(slot, generation)| holds(*slot, *generation).map(|bytes| (bytes, *slot)))
                .max();
            let Some((_, slot)) = largest else { return };
            self.context.metrics.rare.limit_reached.with_label_values(&["outbox_budget"]).inc();
            self.close_slow(slot, Disconnect::Budget);
        }
    }

    /// Closes a connection in order: what waits goes out first.
    pub(super) fn close(&mut self, slot: u32, reason: Disconnect) {
        let polling = self.connections.get(slot as usize).is_some_and(|c| c.transport.via() == Via::Polling);
        let time = if polling { self.polling_close_time() } else { CLOSE_TIME };
        self.close_until(slot, reason, self.now + time);
    }

    pub(super) fn close_until(&mut self, slot: u32, reason: Disconnect, until: Instant) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        if connection.flow.closing.is_some() {
            return;
        }
        if reason == Disconnect::TooLarge {
            self.context.metrics.rare.limit_reached.with_label_values(&["max_payload"]).inc();
        }
        let Some((code, text)) = reason.close_code() else { return self.remove(slot, reason) };
        if connection.transport.via() == Via::Polling {
            return self.close_polling(slot, reason, until);
        }
        connection.flow.closing = Some(Closing { reason, until, answered: false, shut: false });
        self.leave_everything(slot, reason);
        let mut wire = Vec::new();
        websocket::write_close(code, text, &mut wire);
        self.send(slot, Frame::from_wire(wire));
        self.schedule(slot);
    }

    /// Closes a connection that does not take what it is sent: what waits is dropped. One that is leaving
    /// keeps what waits, its close frame among it.
    pub(super) fn close_slow(&mut self, slot: u32, reason: Disconnect) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        if connection.flow.closing.is_some() {
            return;
        }
        let before = (connection.outbox.bytes(), connection.outbox.frames());
        connection.outbox.clear_whole_frames();
        let after = (connection.outbox.bytes(), connection.outbox.frames());
        self.counters.add(Count::DroppedClosed, (before.1 - after.1) as u64);
        self.counters.level(Level::OutboxBytes, after.0 as i64 - before.0 as i64);
        self.counters.level(Level::OutboxFrames, after.1 as i64 - before.1 as i64);
        self.close(slot, reason);
    }

    /// The client closed: answer in kind, flush and let go.
    pub(super) fn close_answered(&mut self, slot: u32, code: Option<u16>) {
        let until = self.now + CLOSE_TIME;
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        if let Some(closing) = &mut connection.flow.closing {
            closing.answered = true;
            return;
        }
        let reason = Disconnect::Client;
        connection.flow.closing = Some(Closing { reason, until, answered: true, shut: false });
        self.leave_everything(slot, reason);
        let mut wire = Vec::new();
        websocket::write_close(code, "", &mut wire);
        self.send(slot, Frame::from_wire(wire));
        self.schedule(slot);
    }

    /// Drops a connection now.
    pub(super) fn remove(&mut self, slot: u32, reason: Disconnect) {
        self.leave_everything(slot, reason);
        let Some(connection) = self.connections.try_remove(slot as usize) else { return };
        if connection.flow.blocked.is_some() {
            self.counters.level(Level::Blocked, -1);
        }
        self.level_outbox(-(connection.outbox.bytes() as i64), -(connection.outbox.frames() as i64));
        let reason = connection.flow.closing.map_or(reason, |closing| closing.reason);
        self.counters.closed(connection.machine.kind(), connection.transport.via(), reason);
        match connection.transport {
            // Closing the descriptor takes it out of the poll as well; an error here says that it is out.
            Transport::WebSocket { mut socket, .. } => {
                if let Err(error) = self.poll.registry().deregister(&mut socket) {
                    tracing::trace!(%error, "a socket was not watched any more");
                }
            }
            Transport::Polling(polling) => self.dissolve(*polling),
        }
        self.count_closed();
        if self.connections.is_empty() {
            self.connections.shrink_to_fit();
        }
    }
}
