//! Events that clients send to rooms: out through the broker, and its answers back.

use fanfare_broker::PublishError;
use fanfare_protocol::name::check_room;
use fanfare_protocol::{NamespaceId, Publication, Refusal, RefusalCode, ReplyTo};
use smallvec::smallvec;

use super::inbox::Ticket;
use super::members::Members;
use super::shard::Shard;
use crate::metrics::Count;
use crate::publish::Job;
use crate::rules::RelayTo;

impl Shard {
    /// Sends an event on its way to a room. The answer waits until the broker has taken it.
    pub(super) fn relay(
        &mut self,
        slot: u32,
        namespace: NamespaceId,
        relay: RelayTo,
        reply: Option<ReplyTo>,
    ) -> Result<(), Refusal> {
        check_room(&relay.room)
            .map_err(|error| Refusal::new(RefusalCode::BadRequest, format!("room: {error}")))?;
        let gone = || Refusal::new(RefusalCode::Unavailable, "the session has ended");
        let connection = self.connections.get(slot as usize).ok_or_else(gone)?;
        let session = *connection.session(namespace).ok_or_else(gone)?;
        let joined = self.members.find(namespace, &relay.room);
        let is_member = joined.is_some_and(|room| Members::position(&connection.rooms, room).is_some());
        if relay.members_only && !is_member {
            return Err(Refusal::new(RefusalCode::NotJoined, "join the room before sending to it"));
        }
        let ticket = Ticket { slot, generation: connection.generation, reply };
        let except =
            if relay.echo { smallvec![] } else { smallvec![self.sid(slot, &session).to_string().into()] };
        let publication = Publication {
            namespace: self.context.config.namespaces.name(namespace).to_string().into(),
            rooms: smallvec![relay.room.into()],
            except,
            volatile: relay.volatile,
            data: relay.data.into(),
            sent_at: None,
            ack: None,
        };
        self.context.publish.send(self.index, Job { publication, ticket: Some(ticket) }).map_err(|_| {
            self.context.metrics.rare.limit_reached.with_label_values(&["publish_queue"]).inc();
            Refusal::new(RefusalCode::Limit, "too much waits to be published; slow down")
        })
    }

    /// Answers of the broker to what was relayed.
    pub(super) fn published(&mut self, answers: Vec<(Ticket, Result<(), PublishError>)>) {
        for (ticket, result) in answers {
            self.counters.add(if result.is_ok() { Count::Relayed } else { Count::RelayFailed }, 1);
            let Some(connection) = self.connections.get(ticket.slot as usize) else { continue };
            if connection.generation != ticket.generation {
                continue;
            }
            let refusal = result.err().map(|error| {
                let code = match &error {
                    PublishError::Unavailable(_) => RefusalCode::Unavailable,
                    PublishError::Refused(_) => RefusalCode::Forbidden,
                    PublishError::QueueFull => RefusalCode::Limit,
                };
                Refusal::new(code, error.to_string())
            });
            self.answer(ticket.slot, ticket.reply, refusal.as_ref().map_or(Ok(()), Err));
        }
    }
}
