//! From long-polling to a WebSocket (Engine.IO v4, "Upgrade"). A socket that a client opened with its session id
//! is a candidate until the client says `5` on it; the session polls on meanwhile, heartbeat and all. Then the
//! socket becomes the connection's transport, and what the outbox holds goes out there.

use std::io::{self, Read as _, Write as _};
use std::time::Instant;

use bytes::Bytes;
use fanfare_protocol::websocket::{self, Decoder, Incoming, Opcode};
use fanfare_protocol::{Command, Disconnect, Frame, Payload, engineio};
use mio::net::TcpStream;
use mio::{Interest as Readiness, Token};

use super::polling::{Answer, CLOSE, NOOP, answer};
use super::reading::receive;
use super::shard::Shard;
use crate::connection::{Connection, Machine, Transport};
use crate::engine_sid::Spot;
use crate::http::gate::Permit;
use crate::http::handshake::EngineError;
use crate::http::serve::Handed;
use crate::metrics::{Count, Level};

/// Set in the tokens of candidates, beside their session's slot.
const CANDIDATE: usize = 1 << 41;

/// The session that a candidate's token means.
pub(super) fn candidate_of(token: usize) -> Option<u32> {
    (token & CANDIDATE != 0).then_some((token & !CANDIDATE) as u32)
}

/// A WebSocket that wants to take over a session, on its way to the shard.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) spot: Spot,
    pub(crate) socket: TcpStream,
    /// Bytes that the client sent before the upgrade was through.
    pub(crate) early: Bytes,
    /// The client takes no binary frames on it.
    pub(crate) text_only: bool,
    pub(crate) permit: Permit,
}

/// A WebSocket that may take over its session.
#[derive(Debug)]
pub(super) struct Candidate {
    socket: TcpStream,
    decoder: Decoder,
    text_only: bool,
    permit: Permit,
    stage: Stage,
    /// Closed by then.
    until: Instant,
    /// When the GET that waits is answered, so that the client can stop polling.
    noop_at: Option<Instant>,
}

/// How far an upgrade is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing was said yet.
    Open,
    /// `2probe` was said and answered: from now on no GET waits for long.
    Probed,
    /// `5` was said.
    Over,
}

impl Candidate {
    /// Its earliest deadline.
    pub(super) fn deadline(&self) -> Instant {
        self.noop_at.map_or(self.until, |at| at.min(self.until))
    }

    /// A GET waits, and has nothing to be answered with. `false`: it may wait.
    pub(super) fn hurry(&mut self, now: Instant) -> bool {
        let probed = self.stage == Stage::Probed;
        if probed {
            // With the next tick of the wheel, a tenth of a second at most: at once, a client that is told to
            // stop polling late would ask again and again.
            self.noop_at = Some(now);
        }
        probed
    }
}

/// What a candidate's bytes said.
struct Heard {
    probes: usize,
    /// Control frames that answer control frames.
    wire: Vec<u8>,
    closed: Option<Option<u16>>,
    result: Result<(), Disconnect>,
    commands: Vec<Command>,
    answers: Vec<Frame>,
}

impl Shard {
    /// Takes a socket that wants to take over a session. There can be one at a time, and only while it polls.
    pub(super) fn claim(&mut self, claim: Claim) {
        let Claim { spot, mut socket, early, text_only, permit } = claim;
        let slot = spot.slot;
        let closing = self.connections.get(slot as usize).is_some_and(|c| c.flow.closing.is_some());
        let free = self.polling_at(&spot).is_ok_and(|polling| polling.candidate.is_none()) && !closing;
        let token = Token(CANDIDATE | slot as usize);
        if !free || self.poll.registry().register(&mut socket, token, Readiness::READABLE).is_err() {
            self.counters.add(Count::UpgradeFailed, 1);
            return self.hand(Handed::Dismissed(socket, permit));
        }
        let until = self.now + self.context.config.timing.upgrade_timeout;
        let decoder = Decoder::default();
        let stage = Stage::Open;
        if let Ok(polling) = self.polling_at(&spot) {
            polling.expects = false;
            let candidate = Candidate { socket, decoder, text_only, permit, stage, until, noop_at: None };
            polling.candidate = Some(Box::new(candidate));
        }
        self.schedule(slot);
        if !early.is_empty() {
            self.hear_candidate(slot, &mut early.to_vec());
        }
    }

    /// Reads what a candidate says.
    pub(super) fn candidate_event(&mut self, slot: u32) {
        let mut buffer = std::mem::take(&mut self.read_buffer);
        while let Some(candidate) = self.candidate(slot) {
            match candidate.socket.read(&mut buffer) {
                Ok(count) if count > 0 => self.hear_candidate(slot, &mut buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => {
                    // Closing the descriptor takes it out of the poll.
                    drop(self.polling(slot).and_then(|polling| polling.candidate.take()));
                    self.counters.add(Count::UpgradeFailed, 1);
                }
            }
        }
        self.read_buffer = buffer;
    }

    fn candidate(&mut self, slot: u32) -> Option<&mut Candidate> {
        self.polling(slot)?.candidate.as_deref_mut()
    }

    fn hear_candidate(&mut self, slot: u32, bytes: &mut [u8]) {
        self.counters.add(Count::ReceivedBytes, bytes.len() as u64);
        let commands = std::mem::take(&mut self.commands);
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        let Connection { transport: Transport::Polling(polling), machine, .. } = connection else { return };
        let Some(candidate) = &mut polling.candidate else { return };
        let heard = hear(candidate, machine, &self.context.config, bytes, commands);
        let Heard { probes, mut wire, closed, result, commands, answers } = heard;
        for _ in 0..probes {
            websocket::write_frame(Opcode::Text, b"3probe", &mut wire);
        }
        // So little fits into every socket that takes anything.
        let written = wire.is_empty() || candidate.socket.write(&wire).is_ok_and(|count| count == wire.len());
        let over = candidate.stage == Stage::Over;
        if probes > 0 && polling.overtook {
            // A `5` right behind it means that this GET is one too many.
            candidate.hurry(self.now);
            self.schedule(slot);
        } else if probes > 0 {
            self.answer_get(slot, NOOP);
        }
        if !written || !over && (result.is_err() || closed.is_some()) {
            return self.dismiss_candidate(slot, Count::UpgradeFailed);
        }
        if over {
            self.swap(slot);
            self.carry_out(slot, commands, answers);
            self.conclude(slot, result, closed);
        }
    }

    /// Makes the candidate the connection's transport.
    fn swap(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        let Transport::Polling(polling) = &mut connection.transport else { return };
        let Some(candidate) = polling.candidate.take() else { return };
        let (get, post, overtook) = (polling.get.take(), polling.post.take(), polling.overtook);
        let Candidate { mut socket, decoder, text_only, .. } = *candidate;
        let readiness = Readiness::READABLE | Readiness::WRITABLE;
        let watched = self.poll.registry().reregister(&mut socket, Token(slot as usize), readiness);
        connection.transport = Transport::WebSocket { socket, decoder };
        connection.text_only = text_only;
        // What came while it was not read has raised its edge.
        connection.flow.unread |= connection.flow.paused;
        if text_only {
            let before = connection.outbox.bytes();
            connection.outbox.change(|frame| engineio::without_binary(&frame));
            self.counters.level(Level::OutboxBytes, connection.outbox.bytes() as i64 - before as i64);
        }
        self.counters.add(Count::Upgraded, 1);
        if let Some(get) = get {
            let late = Answer::Refused(EngineError::BadRequest);
            answer(get, if overtook { late } else { Answer::Payload(CLOSE.to_owned()) });
        }
        if let Some(post) = post {
            // A client waits for its POST before it says `5`: this one's body would come out of turn.
            let refused = Answer::Refused(EngineError::BadRequest);
            answer(post.answer, if post.received && post.rest.is_none() { Answer::Taken } else { refused });
        }
        if let Err(error) = watched {
            tracing::warn!(%error, "a socket could not be watched");
            return self.remove(slot, Disconnect::WriteError);
        }
        self.unblock(slot);
    }

    /// What of an upgrade is due.
    pub(super) fn upgrade_timer(&mut self, slot: u32) {
        let now = self.now;
        let Some(candidate) = self.candidate(slot) else { return };
        if candidate.until <= now {
            return self.dismiss_candidate(slot, Count::UpgradeTimedOut);
        }
        if candidate.noop_at.take_if(|at| *at <= now).is_some() {
            self.answer_get(slot, NOOP);
        }
    }

    /// Closes the candidate; the session goes on.
    pub(super) fn dismiss_candidate(&mut self, slot: u32, why: Count) {
        let candidate = self.polling(slot).and_then(|polling| polling.candidate.take());
        if let Some(candidate) = candidate {
            self.counters.add(why, 1);
            self.dismiss(*candidate);
        }
    }

    /// Has the HTTP runtime close a socket that is no candidate any more.
    pub(super) fn dismiss(&mut self, candidate: Candidate) {
        let Candidate { mut socket, permit, .. } = candidate;
        if let Err(error) = self.poll.registry().deregister(&mut socket) {
            tracing::trace!(%error, "a socket was not watched any more");
        }
        self.hand(Handed::Dismissed(socket, permit));
    }
}

/// Reads an upgrade's packets, and behind its last one whatever follows.
fn hear(
    candidate: &mut Candidate,
    machine: &mut Machine,
    config: &crate::Config,
    bytes: &mut [u8],
    mut commands: Vec<Command>,
) -> Heard {
    let Candidate { decoder, stage, .. } = candidate;
    let (mut wire, mut answers) = (Vec::new(), Vec::new());
    let (mut probes, mut closed) = (0, None);
    let result = decoder.feed(bytes, config.limits.max_payload, &mut |incoming| match incoming {
        Incoming::Text(text) => match *stage {
            Stage::Over => receive(machine, config, Payload::Text(text), &mut commands, &mut answers),
            Stage::Open | Stage::Probed if text == "2probe" => {
                *stage = Stage::Probed;
                probes += 1;
                Ok(())
            }
            // Some clients put more behind it.
            Stage::Probed if text.starts_with('5') => {
                *stage = Stage::Over;
                Ok(())
            }
            Stage::Open | Stage::Probed => Err(Disconnect::Packet),
        },
        Incoming::Binary(bytes) if *stage == Stage::Over => {
            receive(machine, config, Payload::Binary(bytes), &mut commands, &mut answers)
        }
        Incoming::Binary(_) => Err(Disconnect::Packet),
        Incoming::Ping(payload) => {
            websocket::write_frame(Opcode::Pong, payload, &mut wire);
            Ok(())
        }
        Incoming::Pong(_) => Ok(()),
        Incoming::Close { code, .. } => {
            closed = Some(code);
            Ok(())
        }
    });
    Heard { probes, wire, closed, result, commands, answers }
}
