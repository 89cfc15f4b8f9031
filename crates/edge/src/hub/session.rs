//! What a connection asks, done in the order in which it was asked. Steps that need the broker wait at
//! the front of the connection's queue, and what was asked after them waits behind.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use fanfare_protocol::msgpack::EventView;
use fanfare_protocol::{
    Closed, Command, Disconnect, Frame, NamespaceId, Refusal, RefusalCode, ReplyTo, Sid, plain,
};

use super::members::RoomId;
use super::shard::Shard;
use crate::app::What;
use crate::connection::{Asked, Greeting, Heartbeat, Machine, Pending, Question, Session, Settling, Step};
use crate::metrics::Count;
use crate::rules::Action;

/// Why a session ended that its client left, in the words of Socket.IO's server.
pub(super) const LEFT: &str = "client namespace disconnect";

/// Random bits from the system. Without them every session id could be guessed: better no node than such a one.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes).unwrap_or_else(|error| panic!("the system gives no random bytes: {error}"));
    bytes
}

impl Shard {
    /// Takes one command: does it, or puts it behind those that wait.
    pub(super) fn command(&mut self, slot: u32, command: Command) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        if connection.flow.closing.is_some() {
            return;
        }
        // Heartbeats pass: a connection that waits for the broker is not a dead one.
        if let Command::Pong = command {
            return self.pong(slot);
        }
        match command {
            // Taken at once, so that what comes in time counts as that; told in its turn.
            Command::Ack { namespace, id, data } => return self.acknowledged(slot, namespace, id, data),
            Command::Event { .. } => self.counters.add(Count::Events, 1),
            _ => {}
        }
        if connection.pending.is_none() {
            if let Some(step) = self.execute(slot, command) {
                self.enqueue(slot, step, 0);
            } else if self.pending(slot).is_some() {
                self.advance(slot);
            }
            return;
        }
        let bytes = command_bytes(&command);
        let step = self.prepare(slot, command);
        self.enqueue(slot, step, bytes);
    }

    /// Puts a step behind those that wait; where none do, its turn has come.
    pub(super) fn enqueue(&mut self, slot: u32, step: Step, bytes: usize) {
        let limit = self.context.config.limits.pending_commands;
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        let first = connection.pending.is_none();
        let pending = connection.pending.get_or_insert_default();
        pending.tells += usize::from(matches!(step, Step::Tell(..)));
        pending.steps.push_back((step, bytes));
        pending.bytes += bytes;
        if pending.bytes > limit {
            self.set_paused(slot, true);
        }
        if first {
            self.advance(slot);
        }
    }

    pub(super) fn pending(&mut self, slot: u32) -> Option<&mut Pending> {
        self.connections.get_mut(slot as usize)?.pending.as_deref_mut()
    }

    /// Makes a waiting step of a command. What will need the broker asks it now, so that a hundred joins
    /// in a row wait once. What is to be refused is refused when its turn comes.
    fn prepare(&mut self, slot: u32, command: Command) -> Step {
        let command = match command {
            // A namespace that is entered anew is left first: a client has one session at a time in it.
            Command::Connect { namespace, auth }
                if self.connections.get(slot as usize).is_some_and(|c| c.session(namespace).is_none()) =>
            {
                return self.prepare_connect(slot, namespace, auth);
            }
            other => other,
        };
        let join = match &command {
            Command::JoinRoom { room, .. } => {
                self.context.config.rules.join(room).ok().map(|()| (NamespaceId::MAIN, room.to_string()))
            }
            Command::Event { namespace, room, data, .. } => match self.action(room.as_deref(), data) {
                Ok(Action::Join(room)) => Some((*namespace, room)),
                _ => None,
            },
            _ => None,
        };
        if let Some((namespace, name)) = join
            && let Ok((room, until)) = self.begin_join(slot, namespace, &name)
            && let Command::JoinRoom { reply, .. } | Command::Event { reply, .. } = command
        {
            self.await_by(slot, until);
            return Step::Join { room, reply, until, refused: false };
        }
        Step::Command(command)
    }

    fn prepare_connect(&mut self, slot: u32, namespace: NamespaceId, auth: Option<Box<[u8]>>) -> Step {
        let until = self.now + self.context.config.timing.join_timeout;
        let mut session = self.new_session(namespace);
        let sid: Arc<str> = self.sid(slot, &session).to_string().into();
        session.active = self.want(namespace, &sid);
        if let Some(connection) = self.connections.get_mut(slot as usize) {
            connection.sessions.push(session);
            connection.connect_by = None;
        }
        self.await_by(slot, until);
        Step::Connect { namespace, random: session.random, until, auth }
    }

    fn new_session(&self, namespace: NamespaceId) -> Session {
        let since = self.now.saturating_duration_since(self.context.began.0).as_secs();
        let since = u32::try_from(since).unwrap_or(u32::MAX);
        Session { namespace, random: u64::from_ne_bytes(random()), connected: false, active: false, since }
    }

    /// Plain connections are in the main namespace from the start, unless an app has to let them in.
    pub(super) fn enter(&mut self, slot: u32, namespace: NamespaceId) {
        if self.context.app_of(namespace).is_some() {
            let step = self.prepare_connect(slot, namespace, None);
            return self.enqueue(slot, step, 0);
        }
        let session = Session { active: true, ..self.new_session(namespace) };
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        connection.sessions.push(session);
        self.finish_connect(slot, &session);
    }

    /// Whether sessions have a channel of their own, by which their id reaches them. Plain clients do not know their
    /// id, but an app does.
    pub(super) fn has_channel(&self, slot: u32, namespace: NamespaceId) -> bool {
        self.connections.get(slot as usize).is_some_and(|connection| match connection.machine {
            Machine::SocketIo(_) => true,
            Machine::Plain { .. } => self.context.app_of(namespace).is_some(),
            Machine::Echo(_) => false,
        })
    }

    /// Does the steps at the front of the queue that no longer wait.
    pub(super) fn advance(&mut self, slot: u32) {
        loop {
            let Some(pending) = self.pending(slot) else { return };
            let Some((step, bytes)) = pending.steps.pop_front() else { break };
            pending.bytes -= bytes;
            pending.tells -= usize::from(matches!(step, Step::Tell(..)));
            if let Some(waiting) = self.step(slot, step) {
                if let Some(pending) = self.pending(slot) {
                    pending.bytes += bytes;
                    pending.steps.push_front((waiting, bytes));
                }
                return;
            }
        }
        if let Some(connection) = self.connections.get_mut(slot as usize) {
            connection.pending = None;
            if connection.flow.paused {
                self.set_paused(slot, false);
            }
        }
    }

    /// Does one step, or gives it back where it still waits.
    fn step(&mut self, slot: u32, step: Step) -> Option<Step> {
        match step {
            Step::Connect { namespace, random, until, auth } => {
                let connection = self.connections.get_mut(slot as usize)?;
                let handshake = connection.handshake.clone();
                let session = *connection.session_mut(namespace, random)?;
                if self.context.app_of(namespace).is_some() {
                    return self.ask_app(slot, session, What::Connect { handshake, auth }, Question::Connect);
                }
                // While the broker is away the client is not kept waiting: its channel follows later.
                if !session.active && self.link_up && until > self.now {
                    return Some(Step::Connect { namespace, random, until, auth });
                }
                self.finish_connect(slot, &session);
                None
            }
            Step::Join { room, reply, until, refused } => {
                if !self.members.room(room).active && until > self.now && !refused {
                    return Some(Step::Join { room, reply, until, refused });
                }
                // Who was refused, or thrown out meanwhile, hears nothing of what it asked for.
                let namespace = self.members.room(room).namespace;
                if !self.is_connected(slot, namespace) {
                    self.give_up_join(slot, room);
                    return None;
                }
                self.finish_join(slot, room, reply, refused);
                None
            }
            Step::Command(command) => self.execute(slot, command),
            Step::Tell(session, what) => self.ask_app(slot, session, *what, Question::Nothing),
            Step::Asked(_) => Some(step),
            Step::Greeting(greeting) if greeting.until > self.now => Some(Step::Greeting(greeting)),
            Step::Greeting(greeting) => {
                let Greeting { session, answer, .. } = *greeting;
                let lives = self.connections.get(slot as usize)?.sessions.iter();
                if lives.clone().any(|own| own.random == session.random) {
                    self.send_effects(slot, session, Question::Connect, answer);
                } else {
                    self.take_effect_on_others(slot, &session, answer);
                }
                None
            }
            Step::Settling(settling) => {
                let Session { namespace, random, .. } = settling.asked.session;
                // Who was thrown out meanwhile has left its rooms.
                let session =
                    self.connections.get_mut(slot as usize)?.session_mut(namespace, random).copied();
                match session {
                    Some(session) if !self.is_settled(&settling, &session) => Some(Step::Settling(settling)),
                    Some(session) => {
                        let asked = Asked { session, ..settling.asked };
                        self.take_effect(slot, Settling { asked, ..*settling })
                    }
                    None => {
                        self.take_effect_gone(slot, *settling);
                        None
                    }
                }
            }
        }
    }

    /// Does a command whose turn it is. A join that has to wait for the broker comes back as a step.
    fn execute(&mut self, slot: u32, command: Command) -> Option<Step> {
        match command {
            Command::Connect { namespace, auth } => return Some(self.prepare_connect(slot, namespace, auth)),
            Command::ConnectClosed { namespace, reason } => self.refuse_namespace(slot, &namespace, reason),
            // Taken before it could wait.
            Command::Ack { .. } => {}
            Command::Leave { namespace } => self.leave_namespace(slot, namespace),
            Command::Event { namespace, room, data, reply } => {
                return self.event(slot, namespace, room, data, reply);
            }
            Command::JoinRoom { room, reply } => {
                return match self.context.config.rules.join(&room) {
                    Ok(()) => self.join(slot, NamespaceId::MAIN, &room, reply),
                    Err(refusal) => self.answer(slot, reply, Err(&refusal)),
                };
            }
            Command::LeaveRoom { room, reply } => {
                self.leave_room(slot, NamespaceId::MAIN, &room);
                self.answer(slot, reply, Ok(()));
            }
            Command::Pong => self.pong(slot),
            Command::Ping { reply } => {
                self.answer(slot, reply, Ok(()));
            }
        }
        None
    }

    fn event(
        &mut self,
        slot: u32,
        namespace: NamespaceId,
        room: Option<Box<str>>,
        data: Vec<u8>,
        reply: Option<ReplyTo>,
    ) -> Option<Step> {
        // A namespace that was left, or never let it in, takes the events with it that were sent into it.
        let session = *self.connections.get(slot as usize)?.session(namespace).filter(|s| s.connected)?;
        if self.is_for_app(&session, room.as_deref(), &data) {
            let what = What::Event { room, data, ack: reply.is_some() };
            return self.ask_app(slot, session, what, Question::Event { reply });
        }
        match self.action(room.as_deref(), &data) {
            Ok(Action::Join(room)) => self.join(slot, namespace, &room, reply),
            Ok(Action::Leave(room)) => {
                self.leave_room(slot, namespace, &room);
                self.answer(slot, reply, Ok(()))
            }
            Ok(Action::Relay(relay)) => {
                if let Err(refusal) = self.relay(slot, namespace, relay, reply.clone()) {
                    return self.answer(slot, reply, Err(&refusal));
                }
                None
            }
            Err(refusal) => self.answer(slot, reply, Err(&refusal)),
        }
    }

    fn is_connected(&self, slot: u32, namespace: NamespaceId) -> bool {
        let connection = self.connections.get(slot as usize);
        connection.and_then(|c| c.session(namespace)).is_some_and(|session| session.connected)
    }

    fn action(&self, room: Option<&str>, data: &[u8]) -> Result<Action, Refusal> {
        let event = EventView::parse(data)
            .map_err(|error| Refusal::new(RefusalCode::BadRequest, error.to_string()))?;
        let rules = &self.context.config.rules;
        match room {
            Some(room) => rules.event_in(room, &event).map(Action::Relay),
            None => rules.event(&event),
        }
    }

    pub(super) fn finish_connect(&mut self, slot: u32, session: &Session) {
        let sid = self.sid(slot, session);
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        if let Some(session) = connection.session_mut(session.namespace, session.random) {
            session.connected = true;
        }
        let everyone = self.members.everyone(session.namespace);
        self.members.join(slot, &mut connection.rooms, everyone);
        let frame = match &connection.machine {
            Machine::SocketIo(machine) => {
                machine.connected(&self.context.config.namespaces, session.namespace, &sid.to_string())
            }
            Machine::Plain { .. } => plain::connection_success("connected"),
            Machine::Echo(_) => return,
        };
        self.send(slot, frame);
    }

    fn refuse_namespace(&mut self, slot: u32, namespace: &str, reason: Closed) {
        let message = match reason {
            Closed::Unknown => "Invalid namespace",
            Closed::Full => {
                self.context.metrics.rare.limit_reached.with_label_values(&["namespaces_limit"]).inc();
                "This node serves as many namespaces as it may"
            }
        };
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        if let Machine::SocketIo(machine) = &mut connection.machine {
            let frame = machine.refused(namespace, None, message, None);
            self.send(slot, frame);
        }
    }

    /// The client leaves a namespace; the connection stays.
    fn leave_namespace(&mut self, slot: u32, namespace: NamespaceId) {
        let Some(connection) = self.connections.get(slot as usize) else { return };
        // One that waits to be let in is a later one: that which is left was ended before.
        let Some(session) = connection.session(namespace).copied().filter(|own| own.connected) else {
            return;
        };
        self.leave_rooms_of(slot, namespace);
        let words = self.last_words(slot, &session, LEFT);
        self.end_session(slot, &session);
        let Some(connection) = self.connections.get_mut(slot as usize).filter(|_| !words.is_empty()) else {
            return;
        };
        // Before what was asked after leaving, but behind what else is to be told of the session: the end is last.
        let pending = connection.pending.get_or_insert_default();
        let mut first = VecDeque::new();
        if pending.tells > 0 {
            (first, pending.steps) = std::mem::take(&mut pending.steps)
                .into_iter()
                .partition(|(step, _)| matches!(step, Step::Tell(of, _) if of.random == session.random));
        }
        pending.tells += words.len();
        first.extend(words.into_iter().map(|what| (Step::Tell(session, Box::new(what)), 0)));
        for step in first.into_iter().rev() {
            pending.steps.push_front(step);
        }
    }

    pub(super) fn leave_rooms_of(&mut self, slot: u32, namespace: NamespaceId) {
        let Some(connection) = self.connections.get(slot as usize) else { return };
        let gone: Vec<usize> = (0..connection.rooms.len())
            .rev()
            .filter(|at| self.members.room(connection.rooms[*at].room).namespace == namespace)
            .collect();
        for position in gone {
            self.leave_at(slot, position);
        }
    }

    pub(super) fn end_session(&mut self, slot: u32, session: &Session) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        let found = connection.sessions.iter().position(|own| own.random == session.random);
        let Some(at) = found else { return };
        connection.sessions.remove(at);
        // Those that the app would be told of are taken already.
        drop(self.acks_of(slot, session));
        if self.has_channel(slot, session.namespace) {
            let sid = self.sid(slot, session).to_string();
            // Others may be in a room of that name.
            if self.members.find(session.namespace, &sid).is_none() {
                self.unwant(session.namespace, &sid.into(), false);
            }
        }
    }

    /// Takes a connection out of everything that others could reach it by. What it said before is still told to the
    /// app, and `reason` last.
    pub(super) fn leave_everything(&mut self, slot: u32, reason: Disconnect) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        let pending = connection.pending.take();
        let waited = pending.is_some();
        let steps = pending.map_or_else(VecDeque::new, |pending| pending.steps);
        for (step, _) in &steps {
            self.stop_waiting(slot, step);
        }
        self.bid_farewell(slot, steps, reason);
        if waited {
            // What the client says from now on is discarded, but heard: its own close ends the waiting.
            self.set_paused(slot, false);
        }
        while let Some(last) = self.connections.get(slot as usize).and_then(|c| c.rooms.len().checked_sub(1))
        {
            self.leave_at(slot, last);
        }
        while let Some(session) =
            self.connections.get(slot as usize).and_then(|c| c.sessions.first().copied())
        {
            self.end_session(slot, &session);
        }
    }

    /// Lets go of the rooms that a step waits for.
    pub(super) fn stop_waiting(&mut self, slot: u32, step: &Step) {
        let rooms: &[(RoomId, bool)] = match step {
            Step::Join { room, refused, .. } => &[(*room, *refused)],
            Step::Settling(settling) => &settling.rooms,
            _ => &[],
        };
        for (room, _) in rooms {
            self.give_up_join(slot, *room);
        }
    }

    /// Answers where an answer is asked for; a plain client hears of refusals in any case.
    pub(super) fn answer(
        &mut self,
        slot: u32,
        reply: Option<ReplyTo>,
        outcome: Result<(), &Refusal>,
    ) -> Option<Step> {
        if let Err(refusal) = outcome {
            self.counters.refused(refusal.code);
        }
        let connection = self.connections.get(slot as usize)?;
        let frame: Option<Frame> = match (&connection.machine, reply, outcome) {
            (Machine::SocketIo(machine), Some(ReplyTo::Ack { namespace, id }), outcome) => {
                connection.session(namespace)?;
                Some(machine.reply(&self.context.config.namespaces, namespace, id, outcome))
            }
            (Machine::Plain { .. }, Some(ReplyTo::Plain { id }), outcome) => Some(plain::reply(&id, outcome)),
            (Machine::Plain { .. }, None, Err(refusal)) => Some(plain::error(refusal)),
            _ => None,
        };
        if let Some(frame) = frame {
            self.send(slot, frame);
        }
        None
    }

    fn pong(&mut self, slot: u32) {
        let next = self.now + self.context.config.timing.ping_interval;
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        if let Heartbeat::PongBy(_) = connection.heartbeat {
            connection.heartbeat = Heartbeat::PingAt(next);
            self.schedule(slot);
        }
    }

    pub(super) fn sid(&self, slot: u32, session: &Session) -> Sid {
        Sid { node: self.context.tag, shard: self.index as u8, slot, random: session.random }
    }

    /// The sid behind a room's name, if it is one of this shard's and still the same session.
    pub(super) fn resolve(&self, namespace: NamespaceId, text: &str) -> Option<Sid> {
        let sid = Sid::decode(text)?;
        if sid.node != self.context.tag || usize::from(sid.shard) != self.index {
            return None;
        }
        let sessions = &self.connections.get(sid.slot as usize)?.sessions;
        sessions.iter().any(|own| own.namespace == namespace && own.random == sid.random).then_some(sid)
    }

    /// [`Shard::resolve`] for what may be delivered: nothing comes before the answer to the CONNECT.
    pub(super) fn resolve_connected(&self, namespace: NamespaceId, text: &str) -> Option<Sid> {
        let sid = self.resolve(namespace, text)?;
        let sessions = &self.connections.get(sid.slot as usize)?.sessions;
        sessions.iter().any(|own| own.random == sid.random && own.connected).then_some(sid)
    }

    /// The broker answered for a session's own channel: its CONNECT goes on.
    pub(super) fn session_settled(&mut self, namespace: NamespaceId, sid: Sid) {
        let connection = self.connections.get_mut(sid.slot as usize);
        if let Some(session) = connection.and_then(|c| c.session_mut(namespace, sid.random)) {
            session.active = true;
        }
        self.advance(sid.slot);
    }

    /// Fails or lets through what has waited for the broker until now.
    pub(super) fn expire_steps(&mut self, now: Instant) {
        while let Some((slot, generation)) =
            take_due(&mut self.due, now).or_else(|| take_due(&mut self.greeted, now))
        {
            if self.connections.get(slot as usize).is_some_and(|c| c.generation == generation) {
                self.advance(slot);
            }
        }
        // What a storm of joins needed is given back.
        if self.due.capacity() > 4096 && self.due.is_empty() {
            self.due = VecDeque::new();
        }
    }
}

/// The slot and generation at the front, where its time has come.
fn take_due(due: &mut VecDeque<(Instant, u32, u32)>, now: Instant) -> Option<(u32, u32)> {
    let (until, slot, generation) = *due.front()?;
    (until <= now).then(|| {
        due.pop_front();
        (slot, generation)
    })
}

fn command_bytes(command: &Command) -> usize {
    let held = match command {
        Command::Event { room, data, .. } => data.len() + room.as_ref().map_or(0, |room| room.len()),
        Command::JoinRoom { room, .. } | Command::LeaveRoom { room, .. } => room.len(),
        Command::Connect { auth, .. } => auth.as_ref().map_or(0, |auth| auth.len()),
        Command::ConnectClosed { namespace, .. } => namespace.len(),
        Command::Ack { data, .. } => data.len(),
        Command::Leave { .. } | Command::Pong | Command::Ping { .. } => 0,
    };
    held + std::mem::size_of::<Command>()
}
