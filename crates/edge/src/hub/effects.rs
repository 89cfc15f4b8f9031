//! Carrying the app's answers out: joins, leaves, emits, the acknowledgement, the end, in this order.

use std::sync::Arc;
use std::time::Duration;

use fanfare_broker::{Answer as Reply, Asker};
use fanfare_protocol::msgpack::{self, EventView, Token};
use fanfare_protocol::publication::Rooms;
use fanfare_protocol::{Disconnect, Publication, ReplyTo, plain};
use smallvec::smallvec;

use super::acks::Purpose;
use super::members::RoomId;
use super::shard::Shard;
use crate::app::{Answer, Emit, End, To, Unanswered, What};
use crate::connection::{Asked, Greeting, Machine, Question, Session, Settling, Step, Via};
use crate::metrics::Count;
use crate::publish::Job;

/// Between the answer to a CONNECT and what the app sends with it. Node's `ws` gives out all frames of one read at
/// once, so that who waits for one after the other would miss the second; the reference writes them apart.
const GREETING_GAP: Duration = Duration::from_millis(5);
/// A JavaScript `undefined` or null: what an asker gets where nobody has an answer.
const NOTHING: u8 = 0xc0;

impl Shard {
    /// Carries an answer out whose rooms are settled. The CONNECT is answered before anything else; what is sent
    /// with it may have to wait for a moment, as a step.
    pub(super) fn take_effect(&mut self, slot: u32, settling: Settling) -> Option<Step> {
        let Settling { asked, mut answer, rooms, .. } = settling;
        let Asked { session, about } = asked;
        if about == Question::Connect {
            self.told.insert(session.random, answer.user.take().flatten());
            self.finish_connect(slot, &session);
        } else if let (Some(user), Some(told)) = (answer.user.take(), self.told.get_mut(&session.random)) {
            *told = user;
        }
        for (room, refused) in rooms {
            self.enter_room(slot, room, refused);
        }
        for name in std::mem::take(&mut answer.leave) {
            self.leave_room(slot, session.namespace, &name);
        }
        let greets = about == Question::Connect && answer.emit.iter().any(|emit| emit.to == To::Sender);
        if greets && self.connections.get(slot as usize).is_some_and(|c| c.transport.via() == Via::WebSocket)
        {
            let generation = self.connections.get(slot as usize)?.generation;
            let until = self.now + GREETING_GAP;
            self.greeted.push_back((until, slot, generation));
            return Some(Step::Greeting(Box::new(Greeting { session, answer, until })));
        }
        self.send_effects(slot, session, about, answer);
        None
    }

    /// The second half of an answer: what is sent, and the end.
    pub(super) fn send_effects(&mut self, slot: u32, session: Session, about: Question, answer: Answer) {
        for emit in answer.emit {
            self.emit(slot, &session, emit);
        }
        if let Question::Event { reply: Some(reply) } = about {
            self.acknowledge_with(slot, &reply, answer.ack.as_deref());
        }
        match answer.disconnect {
            None => {}
            Some(End::Session) => self.disconnect_session(slot, session, false),
            Some(End::Connection) => self.disconnect_session(slot, session, true),
        }
    }

    /// An answer whose session was ended while its rooms were waited for.
    pub(super) fn take_effect_gone(&mut self, slot: u32, settling: Settling) {
        for (room, _) in settling.rooms {
            self.give_up_join(slot, room);
        }
        self.take_effect_on_others(slot, &settling.asked.session, settling.answer);
    }

    /// What concerns others, where the one that the call was about is gone. Gives the tokens of acknowledgements
    /// that it can no longer be asked for.
    pub(super) fn take_effect_on_others(
        &mut self,
        slot: u32,
        session: &Session,
        answer: Answer,
    ) -> Vec<Arc<str>> {
        let mut tokens = Vec::new();
        for emit in answer.emit {
            match emit.to {
                To::Sender => {
                    self.effect_dropped("gone");
                    tokens.extend(emit.ack.map(|ack| ack.token));
                }
                _ => self.emit(slot, session, emit),
            }
        }
        tokens
    }

    /// What the app said to a `serverSideEmit`.
    pub(super) fn node_answered(&mut self, namespace: &str, asker: Option<Asker>, answer: Answer) {
        for emit in answer.emit {
            let rooms = match emit.to {
                To::Rooms(rooms) => rooms,
                To::Everyone | To::Others => Rooms::new(),
                To::Sender => {
                    self.effect_dropped("gone");
                    continue;
                }
            };
            self.publish_effect(namespace.to_owned(), rooms, emit.except, emit.volatile, emit.data);
        }
        if let Some(asker) = asker {
            let first = answer.ack.as_deref().and_then(first_of).map_or(vec![NOTHING], <[u8]>::to_vec);
            self.context.answer(asker, Reply::Emitted(first));
        }
    }

    fn emit(&mut self, slot: u32, session: &Session, emit: Emit) {
        let namespace = self.context.config.namespaces.name(session.namespace).to_string();
        let Emit { to, mut except, data, volatile, ack } = emit;
        match to {
            To::Sender => self.emit_to_sender(slot, session, Emit { to, except, data, volatile, ack }),
            To::Rooms(rooms) => self.publish_effect(namespace, rooms, except, volatile, data),
            To::Everyone => self.publish_effect(namespace, smallvec![], except, volatile, data),
            To::Others => {
                except.push(self.sid(slot, session).to_string().into());
                self.publish_effect(namespace, smallvec![], except, volatile, data);
            }
        }
    }

    fn publish_effect(
        &mut self,
        namespace: String,
        rooms: Rooms<'static>,
        except: Rooms<'static>,
        volatile: bool,
        data: Vec<u8>,
    ) {
        let namespace = namespace.into();
        let publication =
            Publication { namespace, rooms, except, volatile, data: data.into(), sent_at: None, ack: None };
        if self.context.publish.send(self.index, Job { publication, ticket: None }).is_err() {
            self.context.metrics.rare.limit_reached.with_label_values(&["publish_queue"]).inc();
            self.effect_dropped("publish");
        }
    }

    fn emit_to_sender(&mut self, slot: u32, session: &Session, emit: Emit) {
        let namespaces = &self.context.config.namespaces;
        let Some(connection) = self.connections.get(slot as usize) else { return };
        if emit.volatile && connection.flow.blocked.is_some() {
            return self.counters.add(Count::DroppedVolatile, 1);
        }
        let encoding = connection.machine.encoding();
        let mut id = None;
        if let Some(ack) = emit.ack {
            let next = namespaces.next_ack(session.namespace);
            let until = self.now + ack.timeout.unwrap_or(self.context.config.timing.ack_timeout);
            let purpose = Purpose::App { token: ack.token.clone() };
            if self.expect_ack(slot, session, next, purpose, until) {
                id = Some(next);
            } else {
                let outcome = Err(Unanswered::Limit);
                self.enqueue(
                    slot,
                    Step::Tell(*session, Box::new(What::Ack { token: ack.token, outcome })),
                    0,
                );
            }
        }
        let publication = Publication {
            namespace: self.context.config.namespaces.name(session.namespace).to_string().into(),
            rooms: smallvec![],
            except: smallvec![],
            volatile: emit.volatile,
            data: emit.data.into(),
            sent_at: None,
            ack: id,
        };
        match encoding.encode(&publication, None) {
            Ok(frame) => self.send(slot, frame),
            Err(error) => {
                tracing::debug!(%error, "an event of the app's cannot be shown to its client");
                self.effect_dropped("encoding");
            }
        }
    }

    fn acknowledge_with(&mut self, slot: u32, reply: &ReplyTo, args: Option<&[u8]>) {
        let Some(connection) = self.connections.get(slot as usize) else { return };
        let namespaces = &self.context.config.namespaces;
        let frame = match (&connection.machine, reply, args) {
            // As where an event's listener never calls back.
            (Machine::SocketIo(_), _, None) => return,
            (Machine::SocketIo(machine), ReplyTo::Ack { namespace, id }, Some(args)) => {
                if connection.session(*namespace).is_none() {
                    return;
                }
                machine.ack(namespaces, *namespace, *id, args)
            }
            (Machine::Plain { .. }, ReplyTo::Plain { id }, args) => plain::answer(id, args),
            _ => return,
        };
        match frame {
            Ok(frame) => self.send(slot, frame),
            Err(error) => {
                tracing::debug!(%error, "an acknowledgement of the app's cannot be shown to its client");
                self.effect_dropped("encoding");
            }
        }
    }

    /// Makes a member, as the app or another server wants it, without an answer to the client.
    pub(super) fn enter_room(&mut self, slot: u32, room: RoomId, refused: bool) {
        self.members.room_mut(room).stop_waiting(slot);
        let joined = self.is_member(slot, room);
        if refused {
            self.counters.add(Count::JoinsFailed, 1);
        } else if joined {
            self.counters.add(Count::JoinsOk, 1);
        } else if self.check_rooms(slot).is_err() {
            self.counters.add(Count::JoinsFailed, 1);
            self.effect_dropped("rooms_per_connection");
        } else if let Some(connection) = self.connections.get_mut(slot as usize) {
            // Where the broker is away, what is published arrives when it is back.
            self.members.join(slot, &mut connection.rooms, room);
            self.counters.add(Count::JoinsOk, 1);
        }
        self.drop_room(room);
    }

    /// Ends a session by the server's decision; with `close` the whole connection.
    pub(super) fn disconnect_session(&mut self, slot: u32, session: Session, close: bool) {
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        let plain = matches!(connection.machine, Machine::Plain { .. });
        if !connection.sessions.iter().any(|own| own.random == session.random && own.connected) {
            return;
        }
        let ending: Vec<Session> = if close { connection.sessions.to_vec() } else { vec![session] };
        for session in &ending {
            let Some(connection) = self.connections.get_mut(slot as usize) else { return };
            if let Machine::SocketIo(machine) = &mut connection.machine
                && session.connected
            {
                let frame = machine.disconnected(&self.context.config.namespaces, session.namespace);
                self.send(slot, frame);
            }
        }
        if close || plain {
            return self.close(slot, Disconnect::Server);
        }
        self.leave_rooms_of(slot, session.namespace);
        let words = self.last_words(slot, &session, Disconnect::Server.reason());
        self.end_session(slot, &session);
        for what in words {
            self.enqueue(slot, Step::Tell(session, Box::new(what)), 0);
        }
    }

    /// What the app is told at the end of a session that it knows: acknowledgements that will not come, and the
    /// end itself.
    pub(super) fn last_words(&mut self, slot: u32, session: &Session, reason: &'static str) -> Vec<What> {
        let mut words: Vec<What> = self
            .acks_of(slot, session)
            .into_iter()
            .map(|token| What::Ack { token, outcome: Err(Unanswered::Disconnected) })
            .collect();
        if self.told.contains_key(&session.random) {
            words.push(What::Disconnect { reason });
        } else {
            words.clear();
        }
        words
    }

    /// Whether an event is the app's to decide: it has no rule, and the app knows the session.
    pub(super) fn is_for_app(&self, session: &Session, room: Option<&str>, data: &[u8]) -> bool {
        self.told.contains_key(&session.random) && self.is_without_rule(room, data)
    }

    pub(super) fn is_without_rule(&self, room: Option<&str>, data: &[u8]) -> bool {
        let rules = &self.context.config.rules;
        EventView::parse(data).is_ok_and(|event| rules.has_none(room.is_some(), &event.name()))
    }
}

/// The first element of a MessagePack array.
fn first_of(args: &[u8]) -> Option<&[u8]> {
    let mut rest = args;
    match msgpack::read(&mut rest) {
        Ok(Token::Array(1..)) => rest.get(..msgpack::skip(rest).ok()?),
        _ => None,
    }
}
