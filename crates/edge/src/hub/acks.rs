//! Acknowledgements that clients were asked for: who waits for each, and until when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use fanfare_broker::{Answer, Asker};
use fanfare_protocol::{Encoding, NamespaceId};

use super::shard::Shard;
use crate::app::{Unanswered, What};
use crate::connection::{Session, Step};

/// Slot, namespace and id.
type Key = (u32, NamespaceId, u64);

/// The acknowledgements that one shard's clients were asked for.
#[derive(Debug, Default)]
pub(super) struct Acks {
    waiting: BTreeMap<Key, Waiting>,
    due: BTreeMap<(Instant, u64), Key>,
    serial: u64,
}

#[derive(Debug)]
struct Waiting {
    session: Session,
    due: (Instant, u64),
    purpose: Purpose,
}

/// Who wants to know.
#[derive(Debug)]
pub(super) enum Purpose {
    /// The app, by the token that it gave.
    App { token: Arc<str> },
    /// Another server.
    Asker(Arc<Asker>),
}

/// The acknowledgements of a publication that several shards deliver.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(super) id: u64,
    pub(super) asker: Arc<Asker>,
    pub(super) until: Instant,
    /// Receivers so far, and shards that have not said theirs.
    pub(super) reached: AtomicUsize,
    pub(super) missing: AtomicUsize,
}

impl Acks {
    /// When the next one has had its time.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    fn take(&mut self, key: &Key) -> Option<Waiting> {
        let waiting = self.waiting.remove(key)?;
        self.due.remove(&waiting.due);
        Some(waiting)
    }
}

impl Shard {
    /// Waits for an acknowledgement; `false` where the node waits for as many as it may.
    pub(super) fn expect_ack(
        &mut self,
        slot: u32,
        session: &Session,
        id: u64,
        purpose: Purpose,
        until: Instant,
    ) -> bool {
        // Each shard has its share.
        let limit = self.context.config.limits.acks.div_ceil(self.context.inboxes.len());
        if self.acks.waiting.len() >= limit {
            self.context.metrics.rare.limit_reached.with_label_values(&["acks"]).inc();
            return false;
        }
        self.acks.serial += 1;
        let (key, due) = ((slot, session.namespace, id), (until, self.acks.serial));
        self.acks.due.insert(due, key);
        self.acks.waiting.insert(key, Waiting { session: *session, due, purpose });
        true
    }

    /// A client acknowledges. Ids that nobody waits for, or no longer, mean nothing.
    pub(super) fn acknowledged(&mut self, slot: u32, namespace: NamespaceId, id: u64, args: Vec<u8>) {
        let asked = self.acks.take(&(slot, namespace, id));
        let own = self.connections.get(slot as usize).and_then(|c| c.session(namespace));
        let (Some(waiting), Some(own)) = (asked, own) else { return };
        if own.random != waiting.session.random {
            return;
        }
        match waiting.purpose {
            Purpose::Asker(asker) => self.context.answer(Asker::clone(&asker), Answer::Acknowledged(args)),
            Purpose::App { token } => {
                let bytes = args.len();
                let what = Box::new(What::Ack { token, outcome: Ok(args) });
                self.enqueue(slot, Step::Tell(waiting.session, what), bytes);
            }
        }
    }

    /// The tokens of what a session will no longer acknowledge.
    pub(super) fn acks_of(&mut self, slot: u32, session: &Session) -> Vec<Arc<str>> {
        let namespace = session.namespace;
        let range = (slot, namespace, 0)..=(slot, namespace, u64::MAX);
        let keys: Vec<Key> = self.acks.waiting.range(range).map(|(key, _)| *key).collect();
        let own = keys.into_iter().filter_map(|key| {
            let of = self.acks.waiting.get(&key)?.session.random;
            if of == session.random { self.acks.take(&key) } else { None }
        });
        let token = |waiting: Waiting| match waiting.purpose {
            Purpose::App { token } => Some(token),
            Purpose::Asker(_) => None,
        };
        own.filter_map(token).collect()
    }

    /// Lets go of what was not acknowledged in time.
    pub(super) fn expire_acks(&mut self) {
        while let Some(entry) = self.acks.due.first_entry() {
            if entry.key().0 > self.now {
                return;
            }
            let key = entry.remove();
            let Some(Waiting { session, purpose, .. }) = self.acks.waiting.remove(&key) else { continue };
            // Other servers have a clock of their own.
            if let Purpose::App { token } = purpose {
                let what = What::Ack { token, outcome: Err(Unanswered::Timeout) };
                self.enqueue(key.0, Step::Tell(session, Box::new(what)), 0);
            }
        }
    }

    /// This shard has delivered its part of a publication that is to be acknowledged, to these connections.
    pub(super) fn expect_acks_of(&mut self, expected: &Expected, namespace: NamespaceId, slots: &[u32]) {
        let mut reached = 0;
        for slot in slots {
            let Some(connection) = self.connections.get(*slot as usize) else { continue };
            // Plain clients acknowledge nothing.
            let session = connection.session(namespace).copied();
            let Some(session) = session.filter(|_| connection.machine.encoding() != Encoding::PlainJson)
            else {
                continue;
            };
            let purpose = Purpose::Asker(expected.asker.clone());
            reached += usize::from(self.expect_ack(*slot, &session, expected.id, purpose, expected.until));
        }
        let before = expected.reached.fetch_add(reached, Ordering::AcqRel);
        if expected.missing.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Every other shard has added its part before it took itself off.
            let all = expected.reached.load(Ordering::Acquire).max(before + reached);
            self.context.answer(Asker::clone(&expected.asker), Answer::Reached(all));
        }
    }
}
