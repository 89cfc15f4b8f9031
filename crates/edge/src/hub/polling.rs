//! Long-polling on its shard (Engine.IO v4). A session is a connection like others; GETs and POSTs come from
//! the HTTP runtime and are answered through it. A GET waits here until there is something to send: while none
//! waits, the connection counts as blocked, as if a kernel refused its bytes.

use std::time::{Duration, Instant};

use fanfare_protocol::engineio::{self, Packet};
use fanfare_protocol::{Disconnect, Payload};
use tokio::sync::oneshot;

use super::reading::receive;
use super::shard::Shard;
use super::upgrade::{Candidate, Claim};
use crate::connection::{Closing, Connection, Heartbeat, Kind, Newcomer, Transport};
use crate::engine_sid::{Secret, Spot};
use crate::http::handshake::EngineError;
use crate::http::posts::Posted;
use crate::metrics::{Count, Level};

/// Bytes of one answer, unless its first frame alone is larger. Once it is given, nothing counts it any more, and a client
/// may take its time to read it: what waits longer waits in the outbox, which is bounded.
const ANSWER: usize = 64 << 10;
/// How long a closed session waits for a GET that it can tell, at most.
const CLOSE_TIME: Duration = Duration::from_secs(30);
/// How long a session that its client has closed is remembered, and how many are: its last GET may be on
/// its way on another connection.
const LEFT_TIME: Duration = Duration::from_millis(50);
const LEFT: usize = 256;

/// The body that ends a session: the packet `close`.
pub(super) const CLOSE: &str = "1";
pub(super) const NOOP: &str = "6";
const NOOP_AND_CLOSE: &str = "6\x1e1";

/// What the HTTP runtime asks of a session's shard.
#[derive(Debug)]
pub(crate) enum Ask {
    /// A handshake.
    Open { newcomer: Newcomer, answer: Answering },
    /// A GET.
    Get { spot: Spot, answer: Answering },
    /// A GET's connection is gone, and its answer with it.
    GetGone { spot: Spot },
    /// The head of a POST.
    Post { spot: Spot, answer: Answering },
    /// Its body. The answer goes to whom the head named.
    PostBody { spot: Spot, body: Posted },
    /// The body will not come. `cut`: some of it was lost, and the session with it.
    PostGone { spot: Spot, cut: bool },
    /// Something that ends the session if it is there: no such POST is allowed.
    Forbidden { spot: Spot, answer: Answering },
    /// A WebSocket that is to take over the session.
    Claim(Claim),
    /// Whether the session is there.
    Known { spot: Spot, answer: Answering },
    /// The same, for a WebSocket that is about to be opened for it: the socket itself comes later.
    Expect { spot: Spot, answer: Answering },
}

/// Where an answer goes. Whoever waits there may be gone: its guard says so.
pub(crate) type Answering = oneshot::Sender<Answer>;

/// What a request is answered.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Packets.
    Payload(String),
    /// The body of a POST was taken. To [`Ask::Known`] and [`Ask::Expect`]: it is there.
    Taken,
    Refused(EngineError),
    /// It contradicts another request.
    Conflict,
    /// Its connection is cut: another request contradicts it.
    Cut,
}

/// The polling side of a connection.
#[derive(Debug, Default)]
pub(crate) struct Polling {
    /// The GET that waits for packets.
    pub(super) get: Option<Answering>,
    pub(super) post: Option<Upload>,
    /// The WebSocket that may take over.
    pub(super) candidate: Option<Box<Candidate>>,
    /// A candidate's handshake is answered, but its socket has not come yet.
    pub(super) expects: bool,
    /// The GET that waits came in between: the client may have finished the upgrade before it asked.
    pub(super) overtook: bool,
}

/// A POST that is being read, or whose commands wait.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) answer: Answering,
    /// Its body came.
    pub(super) received: bool,
    /// Where too much waits: the body, and where its packets that were not taken begin.
    pub(super) rest: Option<(Posted, usize)>,
}

/// Why a payload was not taken to its end.
enum End {
    /// The client closed.
    Left,
    /// Against Engine.IO: the session is gone.
    Broken,
    /// Against what is spoken over it: the session is closed in order.
    Refused(Disconnect),
}

pub(super) fn answer(to: Answering, answer: Answer) {
    drop(to.send(answer));
}

impl Shard {
    pub(super) fn ask(&mut self, ask: Ask) {
        match ask {
            Ask::Open { newcomer, answer } => self.open_polling(newcomer, answer),
            Ask::Get { spot, answer } => self.get(&spot, answer),
            Ask::Post { spot, answer } => self.post(&spot, answer),
            Ask::PostBody { spot, body } => self.post_body(&spot, body),
            Ask::GetGone { spot } | Ask::PostGone { spot, cut: true } => {
                if self.polling_at(&spot).is_ok() {
                    self.remove(spot.slot, Disconnect::Client);
                }
            }
            Ask::PostGone { spot, cut: false } => {
                if let Ok(polling) = self.polling_at(&spot) {
                    polling.post = None;
                }
            }
            Ask::Forbidden { spot, answer: to } => match self.polling_at(&spot) {
                Ok(_) => {
                    self.remove(spot.slot, Disconnect::Packet);
                    answer(to, Answer::Conflict);
                }
                Err(error) => answer(to, Answer::Refused(error)),
            },
            Ask::Claim(claim) => self.claim(claim),
            Ask::Expect { spot, answer: to } => {
                if let Ok(polling) = self.polling_at(&spot) {
                    polling.expects = true;
                }
                self.ask(Ask::Known { spot, answer: to });
            }
            Ask::Known { spot, answer: to } => {
                let unknown = Answer::Refused(EngineError::UnknownSession);
                answer(to, if self.session_at(&spot).is_some() { Answer::Taken } else { unknown });
            }
        }
    }

    fn open_polling(&mut self, newcomer: Newcomer, to: Answering) {
        let timing = &self.context.config.timing;
        let (interval, timeout) = (timing.ping_interval, timing.ping_timeout);
        let slot = self.admit(Transport::Polling(Box::default()), newcomer);
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let sid = self.engine_sid(slot);
        let max_payload = self.context.config.limits.max_payload;
        let open =
            engineio::open_packet(&sid, &["websocket"], millis(interval), millis(timeout), max_payload);
        self.block(slot);
        self.schedule(slot);
        if to.send(Answer::Payload(open)).is_err() {
            return self.remove(slot, Disconnect::Client);
        }
        // It was on its way here when the others were told.
        if let Some(until) = self.gone_by {
            self.close_until(slot, Disconnect::Drain, until);
        }
    }

    /// The connection of an Engine.IO session, unless it is dead by now.
    fn session_at(&mut self, spot: &Spot) -> Option<&mut Connection> {
        let connection = self.connections.get(spot.slot as usize)?;
        if connection.machine.kind() != Kind::SocketIo || !connection.secret.is(&spot.secret) {
            return None;
        }
        // The wheel is a tick late at times, and a client must not find a session that it knows to be over.
        if let Heartbeat::PongBy(by) = connection.heartbeat
            && by <= self.now
            && connection.flow.closing.is_none()
            // Its POST is held back: it cannot answer a ping.
            && !connection.flow.paused
        {
            self.close(spot.slot, Disconnect::PingTimeout);
        }
        let connection = self.connections.get_mut(spot.slot as usize)?;
        connection.secret.is(&spot.secret).then_some(connection)
    }

    /// The polling side of a session, or what a request for it is told.
    pub(super) fn polling_at(&mut self, spot: &Spot) -> Result<&mut Polling, EngineError> {
        match self.session_at(spot).map(|connection| &mut connection.transport) {
            Some(Transport::Polling(polling)) => Ok(polling),
            Some(Transport::WebSocket { .. }) => Err(EngineError::BadRequest),
            None => Err(EngineError::UnknownSession),
        }
    }

    pub(super) fn polling(&mut self, slot: u32) -> Option<&mut Polling> {
        match &mut self.connections.get_mut(slot as usize)?.transport {
            Transport::Polling(polling) => Some(polling),
            Transport::WebSocket { .. } => None,
        }
    }

    fn get(&mut self, spot: &Spot, to: Answering) {
        if self.has_left(&spot.secret) {
            return answer(to, Answer::Payload(NOOP.to_owned()));
        }
        if self.polling_at(spot).is_ok_and(|polling| polling.candidate.is_some()) {
            // What the client said on its WebSocket before it sent this request comes first.
            self.candidate_event(spot.slot);
        }
        let polling = match self.polling_at(spot) {
            Ok(polling) => polling,
            Err(error) => return answer(to, Answer::Refused(error)),
        };
        if polling.get.is_some() {
            answer(to, Answer::Conflict);
            return self.remove(spot.slot, Disconnect::Packet);
        }
        polling.get = Some(to);
        polling.overtook = polling.expects;
        let Some(connection) = self.connections.get(spot.slot as usize) else { return };
        if connection.outbox.is_empty()
            && let Some(closing) = connection.flow.closing
        {
            self.answer_get(spot.slot, NOOP_AND_CLOSE);
            return self.remove(spot.slot, closing.reason);
        }
        let empty = connection.outbox.is_empty();
        self.unblock(spot.slot);
        let now = self.now;
        let candidate = self.polling(spot.slot).and_then(|polling| polling.candidate.as_mut());
        if empty && candidate.is_some_and(|candidate| candidate.hurry(now)) {
            self.schedule(spot.slot);
        }
    }

    /// Answers the GET that waits, if one does.
    pub(super) fn answer_get(&mut self, slot: u32, body: &str) {
        if let Some(get) = self.polling(slot).and_then(|polling| polling.get.take()) {
            answer(get, Answer::Payload(body.to_owned()));
            self.block(slot);
        }
    }

    /// Answers the GET that waits with what is in the outbox.
    pub(super) fn flush_polling(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        let Transport::Polling(polling) = &mut connection.transport else { return };
        let Some(get) = polling.get.take() else { return };
        let before = (connection.outbox.bytes(), connection.outbox.frames());
        let mut body = String::new();
        while let Some(frame) = connection.outbox.take(ANSWER.saturating_sub(body.len()), body.is_empty()) {
            engineio::append_payload(&frame, &mut body);
        }
        let after = (connection.outbox.bytes(), connection.outbox.frames());
        self.counters.add(Count::SentBytes, body.len() as u64);
        self.counters.level(Level::OutboxBytes, after.0 as i64 - before.0 as i64);
        self.counters.level(Level::OutboxFrames, after.1 as i64 - before.1 as i64);
        answer(get, Answer::Payload(body));
        self.block(slot);
    }

    fn post(&mut self, spot: &Spot, to: Answering) {
        let polling = match self.polling_at(spot) {
            Ok(polling) => polling,
            Err(error) => return answer(to, Answer::Refused(error)),
        };
        let Some(first) = polling.post.take() else {
            polling.post = Some(Upload { answer: to, received: false, rest: None });
            return;
        };
        answer(first.answer, Answer::Cut);
        answer(to, Answer::Conflict);
        self.remove(spot.slot, Disconnect::Packet);
    }

    fn post_body(&mut self, spot: &Spot, body: Posted) {
        let Ok(polling) = self.polling_at(spot) else { return };
        let Some(post) = &mut polling.post else { return };
        post.received = true;
        self.counters.add(Count::ReceivedBytes, body.bytes().len() as u64);
        if body.text().is_none() {
            return self.remove(spot.slot, Disconnect::Packet);
        }
        self.take_from(spot.slot, body, 0);
    }

    /// Goes on with a body whose packets were too many at a time.
    pub(super) fn post_on(&mut self, slot: u32) {
        let post = self.polling(slot).and_then(|polling| polling.post.as_mut());
        if let Some((body, from)) = post.and_then(|post| post.rest.take()) {
            self.take_from(slot, body, from);
        }
    }

    /// Takes the packets of a body, until too much waits. A few bytes make a step that is a hundred.
    fn take_from(&mut self, slot: u32, body: Posted, mut from: usize) {
        let end = self.take_payload(slot, &body, &mut from);
        if from < body.bytes().len()
            && end.is_ok()
            && let Some(post) = self.polling(slot).and_then(|polling| polling.post.as_mut())
        {
            post.rest = Some((body, from));
        }
        match end {
            Ok(()) => {}
            Err(End::Refused(reason)) => self.close(slot, reason),
            Err(End::Broken) => self.remove(slot, Disconnect::Packet),
            Err(End::Left) => {
                let waits = self.polling(slot).is_some_and(|polling| polling.get.is_some());
                if waits {
                    self.answer_get(slot, NOOP);
                } else if let Some(connection) = self.connections.get(slot as usize) {
                    self.remember_left(connection.secret);
                }
                self.remove(slot, Disconnect::Client);
            }
        }
        // Held back while too much waits: the client sends nothing more until it is answered.
        if self.connections.get(slot as usize).is_some_and(|connection| !connection.flow.paused) {
            self.answer_post(slot);
        }
    }

    /// Answers a POST whose body was taken.
    pub(super) fn answer_post(&mut self, slot: u32) {
        let leaves = self.connections.get(slot as usize).is_some_and(|c| c.flow.closing.is_some());
        let is_done = |post: &mut Upload| post.received && (leaves || post.rest.is_none());
        let post = self.polling(slot).and_then(|polling| polling.post.take_if(is_done));
        if let Some(post) = post {
            answer(post.answer, Answer::Taken);
        }
    }

    /// Does what the packets ask, one after the other: a payload of the smallest ones makes no long list.
    fn take_payload(&mut self, slot: u32, body: &Posted, from: &mut usize) -> Result<(), End> {
        for packet in body.text().map(|text| engineio::split_payload(&text[*from..])).into_iter().flatten() {
            if self.connections.get(slot as usize).is_some_and(|connection| connection.flow.paused) {
                return Ok(());
            }
            *from += packet.len() + 1;
            let mut commands = std::mem::take(&mut self.commands);
            let mut answers = Vec::new();
            let Some(connection) = self.connections.get_mut(slot as usize) else { return Ok(()) };
            if connection.flow.closing.is_some() {
                return Ok(());
            }
            let (machine, config) = (&mut connection.machine, &self.context.config);
            let mut take = |payload| {
                receive(machine, config, payload, &mut commands, &mut answers).map_err(End::Refused)
            };
            let end = match engineio::decode(packet) {
                Ok(Packet::Binary(bytes)) => take(Payload::Binary(&bytes)),
                Ok(Packet::Text(_) | Packet::Pong(_)) => take(Payload::Text(packet)),
                Ok(Packet::Open | Packet::Upgrade | Packet::Noop) => Ok(()),
                Ok(Packet::Close) => Err(End::Left),
                // Heartbeats go from the server to the client only.
                Ok(Packet::Ping(_)) | Err(_) => Err(End::Broken),
            };
            self.carry_out(slot, commands, answers);
            end?;
        }
        Ok(())
    }

    /// Closes a session: a GET that waits is told, or the next one is.
    pub(super) fn close_polling(&mut self, slot: u32, reason: Disconnect, until: Instant) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        connection.flow.closing = Some(Closing { reason, until, answered: false, shut: false });
        self.leave_everything(slot, reason);
        self.dismiss_candidate(slot, Count::UpgradeFailed);
        let Some(connection) = self.connections.get(slot as usize) else { return };
        let Transport::Polling(polling) = &connection.transport else { return };
        let over = matches!(reason, Disconnect::PingTimeout | Disconnect::Protocol | Disconnect::InvalidText);
        if over || (polling.get.is_some() && connection.outbox.is_empty()) {
            return self.remove(slot, reason);
        }
        self.schedule(slot);
    }

    /// By when a session that is closed now is forgotten, whether a GET came or not.
    pub(super) fn polling_close_time(&self) -> Duration {
        let timing = &self.context.config.timing;
        CLOSE_TIME.min(timing.ping_interval + timing.ping_timeout)
    }

    /// Ends what belongs to a session that ends.
    pub(super) fn dissolve(&mut self, polling: Polling) {
        if let Some(get) = polling.get {
            answer(get, Answer::Payload(CLOSE.to_owned()));
        }
        if let Some(post) = polling.post {
            let unknown = Answer::Refused(EngineError::UnknownSession);
            answer(post.answer, if post.received { Answer::Taken } else { unknown });
        }
        if let Some(candidate) = polling.candidate {
            self.counters.add(Count::UpgradeFailed, 1);
            self.dismiss(*candidate);
        }
    }

    fn remember_left(&mut self, secret: Secret) {
        if self.left.len() == LEFT {
            self.left.pop_front();
        }
        self.left.push_back((self.now + LEFT_TIME, secret));
    }

    /// Whether its client has closed the session a moment ago. Said once.
    fn has_left(&mut self, secret: &Secret) -> bool {
        let now = self.now;
        self.left.retain(|(until, _)| *until > now);
        let found = self.left.iter().position(|(_, left)| left.is(secret));
        found.and_then(|at| self.left.remove(at)).is_some()
    }
}
