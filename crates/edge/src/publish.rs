//! From clients to the broker: one ordered queue per shard, bounded in bytes for the node.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fanfare_broker::{Broker, PublishError};
use fanfare_protocol::Publication;
use tokio::sync::mpsc;

use crate::hub::{Inbox, Post, Ticket};
use crate::metrics::Rare;

/// Publications that go to the broker in one batch.
const BATCH: usize = 512;

/// Something that a connection publishes, or the app by an answer, which has no ticket.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) publication: Publication<'static>,
    pub(crate) ticket: Option<Ticket>,
}

/// The queues. Those of one connection keep their order: it belongs to one shard.
#[derive(Debug)]
pub(crate) struct PublishQueue {
    senders: Vec<mpsc::UnboundedSender<Job>>,
    waiting: Arc<AtomicUsize>,
    limit: usize,
}

/// The other ends of the queues, to be driven by [`Drivers::run`].
#[derive(Debug)]
pub(crate) struct Drivers {
    receivers: Vec<mpsc::UnboundedReceiver<Job>>,
    waiting: Arc<AtomicUsize>,
}

/// More waits than the bound allows.
#[derive(Debug)]
pub(crate) struct QueueFull;

impl PublishQueue {
    /// `limit`: bytes that may wait in all queues together.
    pub(crate) fn new(shards: usize, limit: usize) -> (Self, Drivers) {
        let (senders, receivers) = (0..shards).map(|_| mpsc::unbounded_channel()).unzip();
        let waiting = Arc::new(AtomicUsize::new(0));
        (Self { senders, waiting: waiting.clone(), limit }, Drivers { receivers, waiting })
    }

    /// Queues a publication of a connection of `shard`. Never blocks.
    pub(crate) fn send(&self, shard: usize, job: Job) -> Result<(), QueueFull> {
        let bytes = weight(&job.publication);
        if self.waiting.load(Ordering::Relaxed) + bytes > self.limit {
            return Err(QueueFull);
        }
        self.waiting.fetch_add(bytes, Ordering::Relaxed);
        self.senders[shard].send(job).map_err(|_| QueueFull)
    }
}

impl Drivers {
    /// Starts one task per queue, on the current runtime.
    pub(crate) fn run(self, broker: &Arc<dyn Broker>, inboxes: &[Arc<Inbox>], rare: &Rare) {
        for (receiver, inbox) in self.receivers.into_iter().zip(inboxes) {
            let (broker, inbox, waiting) = (broker.clone(), inbox.clone(), self.waiting.clone());
            tokio::spawn(drive(receiver, broker, inbox, waiting, rare.clone()));
        }
    }
}

/// Publishes what waits, batch by batch: while one is on its way, the next one gathers.
async fn drive(
    mut receiver: mpsc::UnboundedReceiver<Job>,
    broker: Arc<dyn Broker>,
    inbox: Arc<Inbox>,
    waiting: Arc<AtomicUsize>,
    rare: Rare,
) {
    let mut jobs = Vec::new();
    while receiver.recv_many(&mut jobs, BATCH).await > 0 {
        let bytes: usize = jobs.iter().map(|job| weight(&job.publication)).sum();
        let (publications, tickets): (Vec<_>, Vec<_>) =
            jobs.drain(..).map(|job| (job.publication, job.ticket)).unzip();
        let results = broker.publish(publications).await;
        waiting.fetch_sub(bytes, Ordering::Relaxed);
        let mut answers = Vec::with_capacity(results.len());
        for (ticket, result) in tickets.into_iter().zip(results) {
            let source = if ticket.is_some() { "client" } else { "app" };
            rare.published.with_label_values(&[source, result_label(&result)]).inc();
            answers.extend(ticket.map(|ticket| (ticket, result)));
        }
        if !answers.is_empty() {
            inbox.push(Post::Published(answers));
        }
    }
}

/// The value of the label `result` of `fanfare_publications_sent_total`.
pub(crate) fn result_label(result: &Result<(), PublishError>) -> &'static str {
    match result {
        Ok(()) => "ok",
        Err(PublishError::Unavailable(_)) => "unavailable",
        Err(PublishError::Refused(_)) => "refused",
        Err(PublishError::QueueFull) => "queue_full",
    }
}

fn weight(publication: &Publication<'_>) -> usize {
    publication.data.len() + std::mem::size_of::<Job>()
}
