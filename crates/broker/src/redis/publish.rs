//! What this node publishes, pipelined on the command link.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fanfare_protocol::Publication;
use fanfare_redis::{ChannelName, CommandLink, Commands, Prefix};
use fred::clients::Pipeline;
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike, PubsubInterface};
use fred::types::Value;

use super::RedisOptions;
use crate::envelope::{Uid, channel_of, encode};
use crate::foreign::answer_of;
use crate::memory::now_micros;
use crate::request::AskedBy;
use crate::{Answer, Asker, Broker, BrokerFuture, Channel, Link, PublishError};

/// What may be under way to Redis, in bytes; beyond it publishing answers [`PublishError::QueueFull`].
const MAX_WAITING: usize = 64 << 20;

/// The publishing half.
pub struct RedisBroker {
    commands: Arc<Commands>,
    prefix: Prefix,
    python_channel: Option<String>,
    uid: Uid,
    max_envelope: usize,
    waiting: AtomicUsize,
}

impl RedisBroker {
    pub(super) fn new(commands: Arc<Commands>, options: &RedisOptions) -> Self {
        Self {
            commands,
            prefix: options.prefix.clone(),
            python_channel: options.python_channel.clone(),
            uid: Uid::random(),
            max_envelope: options.max_envelope,
            waiting: AtomicUsize::new(0),
        }
    }

    /// The link that publications leave by, for other commands.
    pub fn commands(&self) -> &Arc<Commands> {
        &self.commands
    }

    async fn publish_all(&self, batch: Vec<Publication<'static>>) -> Vec<Result<(), PublishError>> {
        if let CommandLink::Down(since) = self.commands.link() {
            let reason = format!("no link to Redis for {:.1} s", since.elapsed().as_secs_f32());
            return batch.iter().map(|_| Err(PublishError::Unavailable(reason.clone()))).collect();
        }
        let pipeline = Pipeline::from(self.commands.redis().with_options(&Commands::at_once()));
        let mut share = Share { of: &self.waiting, bytes: 0 };
        let now = now_micros();
        let mut results = Vec::with_capacity(batch.len());
        for publication in &batch {
            results.push(self.add(publication, now, &pipeline, &mut share).await);
        }
        let expected = results.iter().filter(|result| result.is_ok()).count();
        let mut answers = pipeline.try_all::<Value>().await;
        // Where all of it failed there is one answer for everything.
        if let [Err(error)] = &answers[..]
            && expected > 1
        {
            let error = error.clone();
            answers = (0..expected).map(|_| Err(error.clone())).collect();
        }
        let mut answers = answers.into_iter();
        for result in results.iter_mut().filter(|result| result.is_ok()) {
            *result = match answers.next() {
                Some(Ok(_)) => Ok(()),
                Some(Err(error)) => Err(refusal(&error)),
                None => Err(PublishError::Unavailable("Redis did not answer".to_owned())),
            };
        }
        results
    }

    /// Whoever counts answers counts an empty one, too; one that is too large is better missed than cut.
    async fn send_answer(&self, asker: Asker, answer: Answer) -> Result<(), PublishError> {
        let Some(payload) = answer_of(&asker, &answer) else { return Ok(()) };
        let channel = match &asker.0 {
            AskedBy::Adapter { namespace, uid, .. } => self.prefix.responses(namespace, uid.as_deref()),
            AskedBy::Python { .. } => match &self.python_channel {
                Some(channel) => channel.clone(),
                None => return Ok(()),
            },
        };
        self.check_size(payload.len())?;
        let mut share = Share { of: &self.waiting, bytes: 0 };
        if !share.take(payload.len()) {
            return Err(PublishError::QueueFull);
        }
        let redis = self.commands.redis().with_options(&Commands::at_once());
        let heard: Result<Value, Error> = redis.publish(channel, &payload[..]).await;
        heard.map(drop).map_err(|error| refusal(&error))
    }

    fn check_size(&self, len: usize) -> Result<(), PublishError> {
        let max = self.max_envelope;
        if len > max {
            return Err(PublishError::Refused(format!("{len} bytes are more than the bound of {max}")));
        }
        Ok(())
    }

    /// Puts one publication into the pipeline.
    async fn add(
        &self,
        publication: &Publication<'_>,
        now: u64,
        pipeline: &Pipeline<impl PubsubInterface>,
        share: &mut Share<'_>,
    ) -> Result<(), PublishError> {
        if publication.namespace.contains('#') {
            return Err(PublishError::Refused("a namespace has no #".to_owned()));
        }
        let envelope = encode(publication, self.uid, now);
        self.check_size(envelope.len())?;
        if !share.take(envelope.len()) {
            return Err(PublishError::QueueFull);
        }
        let name = self.prefix.name(match channel_of(publication) {
            Channel::Room { namespace, room } => ChannelName::Room { namespace, room },
            Channel::Namespace(namespace) => ChannelName::Namespace(namespace),
            Channel::Publish | Channel::Requests(_) | Channel::Python => ChannelName::Publish,
        });
        let queued: Result<Value, Error> = pipeline.publish(name, &envelope[..]).await;
        queued.map(drop).map_err(|error| refusal(&error))
    }
}

impl Broker for RedisBroker {
    fn publish(&self, batch: Vec<Publication<'static>>) -> BrokerFuture<'_, Vec<Result<(), PublishError>>> {
        Box::pin(self.publish_all(batch))
    }

    fn answer(&self, asker: Asker, answer: Answer) -> BrokerFuture<'_, Result<(), PublishError>> {
        Box::pin(self.send_answer(asker, answer))
    }

    fn link(&self) -> Link {
        match self.commands.link() {
            CommandLink::Up => Link::Up,
            CommandLink::Down(since) => Link::Down(since),
        }
    }
}

/// What one batch has of the bytes that may be under way; given back with it, also where it is abandoned.
struct Share<'a> {
    of: &'a AtomicUsize,
    bytes: usize,
}

impl Share<'_> {
    fn take(&mut self, bytes: usize) -> bool {
        let before = self.of.fetch_add(bytes, Ordering::Relaxed);
        if before > 0 && before + bytes > MAX_WAITING {
            self.of.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Refused is what Redis said about this very command; all else may go better another time.
fn refusal(error: &Error) -> PublishError {
    match error.kind() {
        ErrorKind::Backpressure => PublishError::QueueFull,
        ErrorKind::Unknown | ErrorKind::InvalidArgument | ErrorKind::InvalidCommand
            if error.details().starts_with("NOPERM") || error.details().starts_with("ERR ") =>
        {
            PublishError::Refused(error.details().to_owned())
        }
        _ => PublishError::Unavailable(error.details().to_owned()),
    }
}
