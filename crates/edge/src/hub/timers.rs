//! What happens because time passed.

use std::time::{Duration, Instant};

use fanfare_protocol::websocket::{self, Opcode};
use fanfare_protocol::{Disconnect, Frame, plain, socketio};

use super::shard::Shard;
use crate::connection::{Connection, Heartbeat, Machine, Transport};
use crate::echo::Echo;
use crate::metrics::Level;

/// Connections closed at once by a leaving node; more are spread over the window.
const DRAIN_AT_ONCE: usize = 20;
/// What the wheel and the poll may be late by, for short heartbeats.
const LATE: Duration = Duration::from_millis(10);

/// Connections that a leaving shard still has to close.
#[derive(Debug)]
pub(super) struct Leaving {
    slots: Vec<(u32, u32)>,
    since: Instant,
    until: Instant,
    total: usize,
}

impl Shard {
    /// Everything that is due.
    pub(super) fn tick(&mut self) {
        let now = self.now;
        self.expire_steps(now);
        self.expire_interest(now);
        self.expire_callers(now);
        self.expire_acks();
        self.expire_farewells();
        self.sweep_blocked();
        let mut fired = std::mem::take(&mut self.fired);
        self.wheel.expire(now, &mut fired);
        for entry in fired.drain(..) {
            let connection = self.connections.get_mut(entry.slot as usize);
            if let Some(connection) = connection
                && connection.generation == entry.generation
                && connection.timer == Some(entry.tick)
            {
                connection.timer = None;
                self.timer(entry.slot);
            }
        }
        self.fired = fired;
        self.leave_on();
        if self.next_report.is_some_and(|at| at <= now) {
            self.next_report = None;
            self.fanout.flush();
            self.lag.flush();
        }
        self.counters.set(Level::Rooms, self.members.rooms());
        self.counters.set(Level::Memberships, self.members.memberships());
        if let Some(interest) = &self.interest {
            self.counters.set(Level::Subscriptions, interest.len());
        }
    }

    /// A connection's earliest deadline may have passed.
    fn timer(&mut self, slot: u32) {
        let now = self.now;
        let timeout = self.context.config.timing.ping_timeout;
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        if let Some(closing) = connection.flow.closing {
            if closing.until <= now {
                return self.remove(slot, closing.reason);
            }
            return self.schedule(slot);
        }
        if connection.connect_by.is_some_and(|by| by <= now) {
            return self.close(slot, Disconnect::ConnectTimeout);
        }
        match connection.heartbeat {
            // Who is not read cannot be heard to answer.
            Heartbeat::PongBy(by) if by <= now && connection.flow.paused => {
                connection.heartbeat = Heartbeat::PongBy(now + timeout);
            }
            Heartbeat::PongBy(by) if by <= now => return self.close(slot, Disconnect::PingTimeout),
            Heartbeat::PingAt(at) if at <= now => {
                // A ping that is a tick late does not give more time; one that is later than that does.
                let sent = at.max(now.checked_sub(LATE).unwrap_or(at));
                connection.heartbeat = Heartbeat::PongBy(sent + timeout);
                let ping = match &connection.machine {
                    Machine::SocketIo(_) | Machine::Echo(Echo::Engine) => self.pings.socketio.clone(),
                    Machine::Plain { json_ping: false, .. } | Machine::Echo(Echo::Bare) => {
                        self.pings.websocket.clone()
                    }
                    Machine::Plain { json_ping: true, .. } => self.pings.json.clone(),
                };
                self.send(slot, ping);
            }
            _ => {}
        }
        self.upgrade_timer(slot);
        self.schedule(slot);
    }

    /// Makes sure that the wheel fires by the connection's earliest deadline.
    pub(super) fn schedule(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        let tick = self.wheel.tick_of(deadline(connection));
        if connection.timer.is_none_or(|timer| timer > tick) {
            connection.timer = Some(self.wheel.insert(slot, connection.generation, tick));
        }
    }

    /// Begins to close every connection.
    pub(super) fn drain(&mut self, until: Instant) {
        let slots: Vec<(u32, u32)> =
            self.connections.iter().map(|(slot, connection)| (slot as u32, connection.generation)).collect();
        let total = slots.len();
        self.gone_by = Some(until);
        self.leaving = Some(Leaving { slots, since: self.now, until, total });
        self.leave_on();
    }

    /// Closes as many connections as should be closed by now.
    fn leave_on(&mut self) {
        let Some(leaving) = &mut self.leaving else { return };
        // The last ones need time to be flushed, too.
        let window = leaving.until.saturating_duration_since(leaving.since).mul_f64(0.6).as_secs_f64();
        let elapsed = self.now.saturating_duration_since(leaving.since).as_secs_f64();
        let share = if window > 0.0 { (elapsed / window).min(1.0) } else { 1.0 };
        let closed = ((leaving.total as f64 * share) as usize).max(DRAIN_AT_ONCE);
        let keep = leaving.total.saturating_sub(closed);
        let until = leaving.until;
        let now: Vec<(u32, u32)> = leaving.slots.drain(keep.min(leaving.slots.len())..).collect();
        if leaving.slots.is_empty() {
            self.leaving = None;
        }
        for (slot, generation) in now {
            if self.connections.get(slot as usize).is_some_and(|c| c.generation == generation) {
                self.close_until(slot, Disconnect::Drain, until);
            }
        }
    }
}

/// Heartbeats, made once.
#[derive(Debug)]
pub(super) struct Pings {
    socketio: Frame,
    websocket: Frame,
    json: Frame,
}

impl Pings {
    pub(super) fn new() -> Self {
        let mut wire = Vec::new();
        websocket::write_frame(Opcode::Ping, b"", &mut wire);
        let websocket = Frame::from_wire(wire.clone());
        wire.extend_from_slice(plain::ping_frame().bytes());
        Self { socketio: socketio::ping_frame(), websocket, json: Frame::from_wire(wire) }
    }
}

fn deadline(connection: &Connection) -> Instant {
    if let Some(closing) = connection.flow.closing {
        return closing.until;
    }
    let heartbeat = match connection.heartbeat {
        Heartbeat::PingAt(at) | Heartbeat::PongBy(at) => at,
    };
    let upgrade = match &connection.transport {
        Transport::Polling(polling) => polling.candidate.as_ref().map(|candidate| candidate.deadline()),
        Transport::WebSocket { .. } => None,
    };
    [connection.connect_by, upgrade].into_iter().flatten().fold(heartbeat, Instant::min)
}
