//! Asking the app on behalf of a connection. One call per connection is under way; what comes after it waits
//! behind, so that effects keep the order of what caused them.

use std::collections::HashMap;
use std::sync::Arc;

use fanfare_protocol::{Disconnect, Refusal, RefusalCode, plain};

use super::shard::Shard;
use crate::app::{About, Answer, Failure, Outcome, Tell, What};
use crate::connection::{Asked, Machine, Question, Session, Settling, Step};

/// Sessions that the app has let in, by their random bits, and what it calls them.
pub(super) type Told = HashMap<u64, Option<Arc<str>>>;

impl Shard {
    /// Hands a call over. The error says why nobody was asked; it is counted.
    pub(super) fn tell_app(
        &mut self,
        slot: u32,
        generation: u32,
        session: Session,
        what: What,
    ) -> Result<(), Failure> {
        let Some(app) = &self.context.app else { return Err(Failure::Unavailable) };
        let user = match &what {
            // The last that is heard of it.
            What::Disconnect { .. } => self.told.remove(&session.random).flatten(),
            _ => self.told.get(&session.random).cloned().flatten(),
        };
        let sid = self.sid(slot, &session).to_string().into_boxed_str();
        let namespace = self.context.config.namespaces.name(session.namespace);
        let kind = what.index();
        let tell = Tell { namespace, sid: Some(sid), user, what };
        let about = About::Session { shard: self.index, slot, generation, session };
        app.ask(tell, about, self.now + app.timeout).inspect_err(|failure| {
            self.context.metrics.app.called(kind, failure.label());
            self.context.metrics.rare.limit_reached.with_label_values(&["app_queue"]).inc();
        })
    }

    /// Asks the app, and gives the step that waits for its answer.
    pub(super) fn ask_app(
        &mut self,
        slot: u32,
        session: Session,
        what: What,
        about: Question,
    ) -> Option<Step> {
        let generation = self.connections.get(slot as usize)?.generation;
        let asked = Asked { session, about };
        match self.tell_app(slot, generation, session, what) {
            Ok(()) => Some(Step::Asked(asked)),
            Err(failure) => {
                self.unanswered(slot, &asked, failure);
                None
            }
        }
    }

    /// The app answered, or did not.
    pub(super) fn answered(&mut self, outcome: Outcome) {
        let Outcome { about, namespace, result, .. } = outcome;
        let (slot, generation, session) = match about {
            About::Session { slot, generation, session, .. } => (slot, generation, session),
            About::Node { asker } => {
                return self.node_answered(&namespace, asker, result.unwrap_or_default());
            }
        };
        let lives = self.connections.get(slot as usize).is_some_and(|c| c.generation == generation);
        let asked = if lives { self.take_asked(slot, &session) } else { None };
        let Some(asked) = asked else {
            return self.farewell_answered((slot, generation), &session, result);
        };
        match result {
            Ok(answer) => self.settle(slot, asked, answer),
            Err(failure) => self.unanswered(slot, &asked, failure),
        }
        self.advance(slot);
    }

    /// What the app was asked about a session, where its answer is waited for.
    fn take_asked(&mut self, slot: u32, session: &Session) -> Option<Asked> {
        let pending = self.pending(slot)?;
        match pending.steps.pop_front()? {
            (Step::Asked(asked), bytes) if asked.session.random == session.random => {
                pending.bytes -= bytes;
                Some(asked)
            }
            other => {
                pending.steps.push_front(other);
                None
            }
        }
    }

    /// Begins to carry an answer out: the broker is asked for its rooms first.
    fn settle(&mut self, slot: u32, asked: Asked, mut answer: Answer) {
        if answer.refused {
            return self.app_refused(slot, &asked, &answer);
        }
        let until = self.now + self.context.config.timing.join_timeout;
        let mut rooms = Vec::with_capacity(answer.join.len());
        let most = self.context.config.limits.rooms_per_connection;
        if answer.join.len() > most {
            self.context.metrics.rare.limit_reached.with_label_values(&["rooms_per_connection"]).inc();
            answer.join.drain(most..).for_each(|_| self.effect_dropped("rooms_per_connection"));
        }
        for name in &answer.join {
            match self.begin_join(slot, asked.session.namespace, name) {
                Ok((room, _)) => rooms.push((room, false)),
                Err(_) => self.effect_dropped("rooms_per_connection"),
            }
        }
        self.await_by(slot, until);
        let settling = Settling { asked, answer, rooms, until };
        if let Some(pending) = self.pending(slot) {
            pending.steps.push_front((Step::Settling(Box::new(settling)), 0));
        }
    }

    /// Whether nothing has to be waited for any more. While the broker is away nobody is kept waiting.
    pub(super) fn is_settled(&self, settling: &Settling, session: &Session) -> bool {
        let rooms = &settling.rooms;
        settling.until <= self.now
            || !self.link_up
            // The last ones are confirmed last: looking at these first, a thousand confirmations are no million looks.
            || (rooms.iter().rev().all(|(room, refused)| *refused || self.members.room(*room).active)
                && (settling.asked.about != Question::Connect || session.active))
    }

    fn app_refused(&mut self, slot: u32, asked: &Asked, answer: &Answer) {
        let message = answer.message.as_deref();
        match &asked.about {
            Question::Connect => {
                self.refuse_session(
                    slot,
                    &asked.session,
                    message.unwrap_or("refused"),
                    answer.data.as_deref(),
                );
            }
            Question::Event { reply } => {
                let refusal = Refusal::new(RefusalCode::Forbidden, message.unwrap_or("the app refused"));
                self.answer(slot, reply.clone(), Err(&refusal));
            }
            Question::Nothing => {}
        }
    }

    /// There is no answer: clients come back for a CONNECT, and hear why for an event.
    fn unanswered(&mut self, slot: u32, asked: &Asked, failure: Failure) {
        match &asked.about {
            Question::Connect => match failure {
                Failure::Forbidden => self.refuse_session(slot, &asked.session, "forbidden", None),
                Failure::Unshowable => self.refuse_session(slot, &asked.session, "bad auth", None),
                // Not a CONNECT_ERROR: after that official clients do not try again.
                _ => self.close(slot, Disconnect::AppUnavailable),
            },
            Question::Event { reply } => {
                let (code, text) = match failure {
                    Failure::Forbidden => (RefusalCode::Forbidden, "the app refused"),
                    Failure::Unshowable => (RefusalCode::BadRequest, "the app cannot be shown this event"),
                    _ => (RefusalCode::Unavailable, "the app is unavailable"),
                };
                self.answer(slot, reply.clone(), Err(&Refusal::new(code, text)));
            }
            Question::Nothing => {}
        }
    }

    /// The client does not get into the namespace.
    fn refuse_session(&mut self, slot: u32, session: &Session, message: &str, details: Option<&[u8]>) {
        let namespace = self.context.config.namespaces.name(session.namespace);
        self.end_session(slot, session);
        let connect_by = self.now + self.context.config.timing.connect_timeout;
        let Some(connection) = self.connections.get_mut(slot as usize) else { return };
        match &mut connection.machine {
            Machine::SocketIo(machine) => {
                let frame = machine.refused(&namespace, Some(session.namespace), message, details);
                // A client that was let in nowhere does not stay for ever.
                if connection.sessions.is_empty() {
                    connection.connect_by = Some(connect_by);
                    self.schedule(slot);
                }
                self.send(slot, frame);
            }
            Machine::Plain { .. } => {
                let refusal = Refusal::new(RefusalCode::Forbidden, message);
                self.send(slot, plain::error(&refusal));
                self.close(slot, Disconnect::Refused);
            }
            // An echo is in no namespace.
            Machine::Echo(_) => {}
        }
    }

    /// A part of an answer that is not carried out.
    pub(super) fn effect_dropped(&self, reason: &'static str) {
        self.context.metrics.app.dropped.with_label_values(&[reason]).inc();
    }
}
