//! Connections that are gone, of which the app has not heard everything: their last events, in order, then their
//! disconnects. A farewell has no transport and gets no deliveries.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use fanfare_protocol::{Command, Disconnect};

use super::session::LEFT;
use super::shard::Shard;
use crate::app::{Answer, Failure, Unanswered, What};
use crate::connection::{Question, Session, Step};

/// What the slot was, and which connection of it.
type Key = (u32, u32);

/// When one that cannot be ended yet is looked at again, where farewells are shorter than that.
const AGAIN: Duration = Duration::from_millis(100);

/// The farewells of one shard.
#[derive(Debug, Default)]
pub(super) struct Farewells {
    waiting: HashMap<Key, Farewell>,
    /// In the order in which they end.
    due: VecDeque<(Instant, Key)>,
}

/// What is left to tell of one connection, behind the call that is under way.
#[derive(Debug)]
struct Farewell {
    /// The session whose CONNECT the app is being asked about.
    connecting: Option<u64>,
    left: VecDeque<(Session, What)>,
}

impl Farewells {
    /// When the next one has had its time.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.front().map(|due| due.0)
    }
}

impl Shard {
    /// Takes what a connection asked and was not yet told to the app.
    pub(super) fn bid_farewell(&mut self, slot: u32, steps: VecDeque<(Step, usize)>, reason: Disconnect) {
        let Some(connection) = self.connections.get(slot as usize).filter(|_| self.context.app.is_some())
        else {
            return;
        };
        let generation = connection.generation;
        let mut open: VecDeque<Session> = connection.sessions.iter().copied().collect();
        let (mut asked, mut connecting) = (false, None);
        let (mut ended, mut left) = (Vec::new(), VecDeque::new());
        for (step, _) in steps {
            match step {
                Step::Asked(question) => {
                    asked = true;
                    connecting = (question.about == Question::Connect).then_some(question.session.random);
                }
                Step::Settling(settling) => {
                    let session = settling.asked.session;
                    if settling.asked.about == Question::Connect {
                        self.told.insert(session.random, settling.answer.user.clone().flatten());
                    }
                    let tokens = self.take_effect_on_others(slot, &session, settling.answer);
                    left.extend(tokens.into_iter().map(|token| (session, gone(token))));
                }
                Step::Greeting(greeting) => {
                    let tokens = self.take_effect_on_others(slot, &greeting.session, greeting.answer);
                    left.extend(tokens.into_iter().map(|token| (greeting.session, gone(token))));
                }
                Step::Tell(session, what) => left.push_back((session, *what)),
                Step::Command(Command::Leave { namespace }) => {
                    let at = open.iter().position(|session| session.namespace == namespace);
                    ended.extend(at.and_then(|at| open.remove(at)).map(|session| (session, LEFT)));
                }
                Step::Command(command) => self.keep_for_app(command, connecting, &open, &mut left),
                // Who left before being let in was never there.
                Step::Connect { random, .. } => open.retain(|session| session.random != random),
                Step::Join { .. } => {}
            }
        }
        // The ends are last, whatever of them was to be told behind them.
        for (session, reason) in ended.into_iter().chain(open.into_iter().map(|own| (own, reason.reason()))) {
            left.extend(self.acks_of(slot, &session).into_iter().map(|token| (session, gone(token))));
            left.push_back((session, What::Disconnect { reason }));
        }
        left.retain(|(session, _)| self.app_knows(session, connecting));
        self.part((slot, generation), asked, Farewell { connecting, left });
    }

    fn app_knows(&self, session: &Session, connecting: Option<u64>) -> bool {
        self.told.contains_key(&session.random) || connecting == Some(session.random)
    }

    /// What the app is to hear of a command that waited.
    fn keep_for_app(
        &self,
        command: Command,
        connecting: Option<u64>,
        open: &VecDeque<Session>,
        left: &mut VecDeque<(Session, What)>,
    ) {
        let Command::Event { namespace, room, data, .. } = command else { return };
        let session = open.iter().find(|session| session.namespace == namespace).copied();
        if let Some(session) = session.filter(|session| self.app_knows(session, connecting))
            && self.is_without_rule(room.as_deref(), &data)
        {
            // Nobody is there to be answered.
            left.push_back((session, What::Event { room, data, ack: false }));
        }
    }

    /// Begins a farewell. Disconnects alone have no order to keep.
    fn part(&mut self, key: Key, asked: bool, mut farewell: Farewell) {
        let only_ends = farewell.left.iter().all(|(_, what)| matches!(what, What::Disconnect { .. }));
        if !asked && only_ends {
            return self.end_farewell(key, farewell);
        }
        let limit = self.context.config.limits.app_farewells;
        if self.context.state.farewells.load(Ordering::Relaxed) >= limit {
            self.context.metrics.rare.limit_reached.with_label_values(&["app_farewells"]).inc();
            match self.cut_short(key, farewell) {
                Some(rest) => farewell = rest,
                None => return,
            }
        }
        self.context.state.farewells.fetch_add(1, Ordering::Relaxed);
        self.context.metrics.app.farewells.inc();
        self.farewells.due.push_back((self.now + self.context.config.timing.app_farewell, key));
        self.farewells.waiting.insert(key, farewell);
        if !asked {
            self.farewell_on(key);
        }
    }

    /// Tells the next thing; the last one ends the farewell.
    fn farewell_on(&mut self, key: Key) {
        loop {
            let Some(farewell) = self.farewells.waiting.get_mut(&key) else { return };
            let Some((session, what)) = farewell.left.pop_front() else {
                self.farewells.waiting.remove(&key);
                return self.farewell_over();
            };
            if self.tell_app(key.0, key.1, session, what).is_ok() {
                return;
            }
        }
    }

    /// The app answered a call about a connection that is gone.
    pub(super) fn farewell_answered(&mut self, key: Key, session: &Session, result: Result<Answer, Failure>) {
        let connecting = self.farewells.waiting.get(&key).and_then(|farewell| farewell.connecting);
        let connects = connecting == Some(session.random);
        let let_in = result.as_ref().is_ok_and(|answer| !answer.refused);
        if connects && let_in {
            let user = result.as_ref().ok().and_then(|answer| answer.user.clone().flatten());
            self.told.insert(session.random, user);
        }
        let tokens = match result {
            Ok(answer) if !answer.refused => self.take_effect_on_others(key.0, session, answer),
            _ => Vec::new(),
        };
        let Some(farewell) = self.farewells.waiting.get_mut(&key) else { return };
        farewell.connecting = None;
        if connects && !let_in {
            farewell.left.retain(|(left, _)| left.random != session.random);
        }
        for token in tokens.into_iter().rev() {
            farewell.left.push_front((*session, gone(token)));
        }
        self.farewell_on(key);
    }

    /// Ends the farewells that have had their time.
    pub(super) fn expire_farewells(&mut self) {
        while let Some((until, key)) = self.farewells.due.front().copied() {
            if until > self.now {
                return;
            }
            self.farewells.due.pop_front();
            let Some(farewell) = self.farewells.waiting.remove(&key) else { continue };
            if let Some(rest) = self.cut_short(key, farewell) {
                let again = self.now + self.context.config.timing.app_farewell.max(AGAIN);
                self.farewells.due.push_back((again, key));
                self.farewells.waiting.insert(key, rest);
            } else {
                self.farewell_over();
            }
        }
        if self.farewells.waiting.is_empty() {
            self.farewells = Farewells::default();
        }
    }

    /// Ends a farewell, but for the end of a session whose CONNECT is under way: whether the app is to hear of it,
    /// its answer says. These are no more than calls are.
    fn cut_short(&mut self, key: Key, mut farewell: Farewell) -> Option<Farewell> {
        let connecting = farewell.connecting;
        let is_kept = |session: &Session, what: &What| {
            connecting == Some(session.random) && matches!(what, What::Disconnect { .. })
        };
        let (kept, others) = farewell.left.into_iter().partition(|(session, what)| is_kept(session, what));
        farewell.left = others;
        self.end_farewell(key, farewell);
        connecting.map(|_| Farewell { connecting, left: kept })
    }

    /// Tells the ends, and counts what else was not told.
    fn end_farewell(&mut self, key: Key, farewell: Farewell) {
        for (session, what) in farewell.left {
            if !matches!(what, What::Disconnect { .. }) {
                self.context.metrics.app.untold.inc();
            } else if self.told.contains_key(&session.random)
                && let Err(failure) = self.tell_app(key.0, key.1, session, what)
            {
                tracing::debug!(?failure, "the app was not told of a disconnect");
            }
        }
    }

    fn farewell_over(&self) {
        self.context.state.farewells.fetch_sub(1, Ordering::Relaxed);
        self.context.metrics.app.farewells.dec();
    }
}

fn gone(token: std::sync::Arc<str>) -> What {
    What::Ack { token, outcome: Err(Unanswered::Disconnected) }
}
