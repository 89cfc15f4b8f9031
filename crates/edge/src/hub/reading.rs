//! From a readable socket to commands.

use std::io::Read;

use fanfare_protocol::websocket::{self, Incoming, Opcode};
use fanfare_protocol::{Command, Disconnect, Frame, Payload, ReplyTo, plain};

use super::shard::Shard;
use crate::connection::{Connection, Heartbeat, Machine, Transport, Via};
use crate::echo::Echo;
use crate::metrics::{Count, Level};

/// Reads of one socket before others have their turn.
const READS: usize = 4;
/// Room for commands that is kept between reads.
const KEPT_COMMANDS: usize = 64;

impl Shard {
    /// Reads what a socket has, as far as its turn goes.
    pub(super) fn read(&mut self, slot: u32) {
        let mut buffer = std::mem::take(&mut self.read_buffer);
        let mut more = true;
        for _ in 0..READS {
            let Some(connection) = self.connections.get_mut(slot as usize) else { break };
            if connection.flow.paused {
                connection.flow.unread = true;
                more = false;
                break;
            }
            let Transport::WebSocket { socket, .. } = &mut connection.transport else {
                // Long-polling was paused: it has no socket here that could have more.
                more = false;
                break;
            };
            match socket.read(&mut buffer) {
                Ok(0) => {
                    self.remove(slot, Disconnect::Client);
                    more = false;
                    break;
                }
                Ok(count) => {
                    self.take_bytes(slot, &mut buffer[..count]);
                    // A short read has emptied the socket; new bytes raise a new edge.
                    let ended = self.connections.get(slot as usize).is_some_and(|c| c.flow.ended);
                    if count < buffer.len() && !ended {
                        more = false;
                        break;
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    more = false;
                    break;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.remove(slot, Disconnect::Client);
                    more = false;
                    break;
                }
            }
        }
        self.read_buffer = buffer;
        if let Some(connection) = self.connections.get_mut(slot as usize)
            && more
            && !connection.flow.unread
        {
            connection.flow.unread = true;
            self.unread.push(slot);
        }
    }

    /// Goes on with sockets that had more than one turn's worth.
    pub(super) fn read_on(&mut self) {
        for slot in std::mem::take(&mut self.unread) {
            if let Some(connection) = self.connections.get_mut(slot as usize) {
                connection.flow.unread = false;
                match connection.transport.via() {
                    Via::WebSocket => self.read(slot),
                    Via::Polling => self.post_on(slot),
                }
            }
        }
    }

    /// Decodes bytes and does what they ask.
    pub(super) fn take_bytes(&mut self, slot: u32, bytes: &mut [u8]) {
        self.counters.add(Count::ReceivedBytes, bytes.len() as u64);
        let mut commands = std::mem::take(&mut self.commands);
        let mut answers = Vec::new();
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        if connection.flow.closing.is_some() {
            self.discard(slot, bytes);
            return;
        }
        let config = &self.context.config;
        let Connection { transport, machine, .. } = connection;
        let Transport::WebSocket { decoder, .. } = transport else { return };
        let mut closed = None;
        let result = decoder.feed(bytes, config.limits.max_payload, &mut |incoming| match incoming {
            Incoming::Text(text) => {
                receive(machine, config, Payload::Text(text), &mut commands, &mut answers)
            }
            Incoming::Binary(bytes) => {
                receive(machine, config, Payload::Binary(bytes), &mut commands, &mut answers)
            }
            Incoming::Ping(payload) => {
                let mut wire = Vec::with_capacity(payload.len() + 2);
                websocket::write_frame(Opcode::Pong, payload, &mut wire);
                answers.push(Frame::from_wire(wire));
                Ok(())
            }
            Incoming::Pong(_) => {
                if matches!(machine, Machine::Plain { .. } | Machine::Echo(Echo::Bare)) {
                    commands.push(Command::Pong);
                }
                Ok(())
            }
            Incoming::Close { code, .. } => {
                closed = Some(code);
                Ok(())
            }
        });
        self.carry_out(slot, commands, answers);
        self.conclude(slot, result, closed);
    }

    /// Closes a connection where what was read says so; `closed`: the client did, with this code.
    pub(super) fn conclude(
        &mut self,
        slot: u32,
        result: Result<(), Disconnect>,
        closed: Option<Option<u16>>,
    ) {
        match (result, closed) {
            (Err(reason), _) => self.close(slot, reason),
            (Ok(()), Some(code)) => self.close_answered(slot, code),
            (Ok(()), None) => {}
        }
    }

    /// Does what was read, and keeps the room that `commands` had.
    pub(super) fn carry_out(&mut self, slot: u32, mut commands: Vec<Command>, answers: Vec<Frame>) {
        for frame in answers {
            self.send(slot, frame);
        }
        for command in commands.drain(..) {
            self.command(slot, command);
        }
        if commands.capacity() <= KEPT_COMMANDS {
            self.commands = commands;
        }
    }

    /// A connection that leaves takes nothing any more; only the client's own close counts.
    fn discard(&mut self, slot: u32, bytes: &mut [u8]) {
        let limit = self.context.config.limits.max_payload;
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        let mut closed = false;
        // What it says against the protocol is no close: cut then, it might never read why.
        let Transport::WebSocket { decoder, .. } = &mut connection.transport else { return };
        let result = decoder.feed(bytes, limit, &mut |incoming| {
            closed |= matches!(incoming, Incoming::Close { .. });
            Ok(())
        });
        if result.is_ok()
            && closed
            && let Some(closing) = &mut connection.flow.closing
        {
            let reason = closing.reason;
            closing.answered = true;
            if connection.outbox.is_empty() {
                self.remove(slot, reason);
            }
        }
    }

    /// Stops or resumes reading, as what waits behind a join allows.
    pub(super) fn set_paused(&mut self, slot: u32, paused: bool) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        if paused && !connection.flow.paused {
            self.counters.add(Count::PausedReading, 1);
            self.context.metrics.rare.limit_reached.with_label_values(&["pending_commands"]).inc();
        }
        if connection.flow.paused
            && !paused
            && let Heartbeat::PongBy(by) = &mut connection.heartbeat
        {
            // Only now can the client be heard, on long-polling with a POST that it has yet to send.
            *by = (*by).max(self.now + self.context.config.timing.ping_timeout);
        }
        connection.flow.paused = paused;
        if !paused && connection.flow.unread {
            self.unread.push(slot);
        } else if paused {
            // An edge that comes while it is paused is not lost: it reads on afterwards.
            connection.flow.unread = true;
        }
        if !paused {
            self.answer_post(slot);
        }
    }

    pub(super) fn level_outbox(&mut self, bytes: i64, frames: i64) {
        self.counters.level(Level::OutboxBytes, bytes);
        self.counters.level(Level::OutboxFrames, frames);
    }
}

pub(super) fn receive(
    machine: &mut Machine,
    config: &crate::Config,
    payload: Payload<'_>,
    commands: &mut Vec<Command>,
    answers: &mut Vec<Frame>,
) -> Result<(), Disconnect> {
    match machine {
        Machine::SocketIo(machine) => {
            let received = machine.receive(payload, &config.namespaces, config.limits.max_payload, commands);
            received
                .map_err(|reason| if reason == Disconnect::Protocol { Disconnect::Packet } else { reason })
        }
        Machine::Plain { machine, .. } => {
            if let Err(refused) = machine.receive(payload, commands) {
                answers.push(match &refused.reply {
                    Some(ReplyTo::Plain { id }) => plain::reply(id, Err(&refused.refusal)),
                    _ => plain::error(&refused.refusal),
                });
            }
            Ok(())
        }
        Machine::Echo(echo) => echo.receive(payload, commands, answers),
    }
}
