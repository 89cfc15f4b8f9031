//! What arrives from Redis, as the hub's first shard reads it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fanfare_protocol::publication::{self, PublicationError};
use fanfare_redis::ChannelName;
use fanfare_redis::commands::link_name;

use super::RedisOptions;
use super::inbox::Inbox;
use super::link::{Advance, Link, Wake};
use super::resp::{Parsed, Said, parse};
use super::subscriptions::{Refusal, Subscriptions};
use crate::envelope::decode;
use crate::foreign::{FromPython, decode_python, decode_request};
use crate::{Channel, Delivery, Feed, Malformed, Turn};

/// What one turn hands out at most, in bytes of payload.
const TURN_BYTES: usize = 256 << 10;
/// Commands that one turn writes at most, each of up to a thousand names.
const TURN_COMMANDS: usize = 16;
/// How long a refused channel is left alone. Access rules change by hand.
const RETRY_REFUSED: Duration = Duration::from_secs(2);
const NOT_UTF8: &str = "an answer from Redis is not UTF-8";

/// The receiving half. Whoever calls [`Feed::want`] calls [`Feed::turn`] before waiting again.
pub struct RedisFeed {
    options: RedisOptions,
    link_name: String,
    wake: Wake,
    link: Link,
    subscriptions: Subscriptions,
    inbox: Inbox,
    /// For names that are looked up.
    name: String,
    state: Standing,
    /// When what was refused is asked for once more.
    retry_at: Option<Instant>,
}

/// What the owner knows of the link.
enum Standing {
    /// Nothing was said yet.
    Starting,
    /// Down since then, where it was up before.
    Down(Option<Instant>),
    Up {
        lost: Option<Instant>,
    },
}

/// What one turn may still hand out.
struct Budget {
    publications: usize,
    bytes: usize,
}

type Sink<'a> = dyn FnMut(Delivery<'_>) + 'a;

impl RedisFeed {
    pub(super) fn new(options: RedisOptions) -> Self {
        Self {
            link_name: link_name(&format!("{}-feed", options.node)),
            wake: Arc::new(|| {}),
            link: Link::new(options.address.clone()),
            subscriptions: Subscriptions::default(),
            inbox: Inbox::new(),
            name: String::new(),
            state: Standing::Starting,
            retry_at: None,
            options,
        }
    }

    /// Everything that can be done on an open link; true where more can be done at once.
    fn drive(&mut self, now: Instant, budget: usize, sink: &mut Sink<'_>) -> Result<bool, String> {
        if self.link.open().is_none() {
            return Ok(false);
        }
        while let Some(name) = self.subscriptions.next_already_active() {
            if let Some(channel) = channel_of(&self.options, &name) {
                sink(Delivery::Active(channel));
            }
        }
        let more_to_read = self.listen(now, budget, sink)?;
        if let Some(open) = self.link.open() {
            // Unread bytes may hold the answer.
            if open.is_overdue(now) && !more_to_read {
                return Err("no answer to PING for 2 s".to_owned());
            }
            if open.ping(now) {
                self.subscriptions.asked_ping();
            }
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            self.subscriptions.retry_refused();
        }
        let more_to_write = self.speak()?;
        if let Standing::Up { lost: Some(lost) } = self.state
            && let Some(channels) = self.subscriptions.restored()
        {
            sink(Delivery::Resubscribed { channels, after: now.saturating_duration_since(lost) });
        }
        Ok(more_to_read || more_to_write)
    }

    /// Writes commands for what is wanted; true where there are more of them.
    fn speak(&mut self) -> Result<bool, String> {
        let Some(open) = self.link.open() else { return Ok(false) };
        let may_ask = matches!(self.state, Standing::Up { .. });
        for _ in 0..TURN_COMMANDS {
            if !open.write().map_err(|error| error.to_string())? {
                // The socket says when it takes more.
                return Ok(false);
            }
            if !may_ask || !self.subscriptions.write_next(open.out()) {
                return Ok(false);
            }
        }
        let written = open.write().map_err(|error| error.to_string())?;
        Ok(written)
    }

    /// Reads until nothing is there or the budget is spent; true in the second case.
    fn listen(&mut self, now: Instant, budget: usize, sink: &mut Sink<'_>) -> Result<bool, String> {
        // Taken out, since what is read from it is borrowed while the rest of the feed changes.
        let mut inbox = std::mem::take(&mut self.inbox);
        let result = self.listen_to(&mut inbox, now, budget, sink);
        self.inbox = inbox;
        result
    }

    fn listen_to(
        &mut self,
        inbox: &mut Inbox,
        now: Instant,
        budget: usize,
        sink: &mut Sink<'_>,
    ) -> Result<bool, String> {
        let mut budget = Budget { publications: budget, bytes: TURN_BYTES };
        loop {
            let need = loop {
                if budget.publications == 0 || budget.bytes == 0 {
                    return Ok(true);
                }
                match parse(inbox.unread(), self.options.max_envelope).map_err(|error| error.to_string())? {
                    Parsed::Whole { said, len } => {
                        budget.publications -= 1;
                        budget.bytes = budget.bytes.saturating_sub(len);
                        self.hear(said, now, sink)?;
                        inbox.consume(len);
                    }
                    Parsed::TooLarge { channel, drop } => {
                        let channel = std::str::from_utf8(channel).map_err(|_| NOT_UTF8)?;
                        if let Some(channel) = channel_of(&self.options, channel) {
                            sink(Delivery::Malformed { channel, reason: Malformed::TooLarge });
                        }
                        inbox.drop_next(drop);
                    }
                    Parsed::Part { need } => break need,
                }
            };
            let Some(open) = self.link.open() else { return Ok(false) };
            match open.read(inbox.space(need), now).map_err(|error| error.to_string())? {
                Some(len) => inbox.filled(len),
                None => return Ok(false),
            }
        }
    }

    fn hear(&mut self, said: Said<'_>, now: Instant, sink: &mut Sink<'_>) -> Result<(), String> {
        match said {
            Said::Message { channel, payload } => {
                let channel = std::str::from_utf8(channel).map_err(|_| NOT_UTF8)?;
                if let Some(channel) = channel_of(&self.options, channel) {
                    deliver(channel, payload, &self.options, sink);
                }
            }
            Said::Subscribed(name) => {
                let name = std::str::from_utf8(name).map_err(|_| NOT_UTF8)?;
                let wanted = self.subscriptions.subscribed(name).map_err(|error| error.to_string())?;
                if let Some(channel) = channel_of(&self.options, name).filter(|_| wanted) {
                    sink(Delivery::Active(channel));
                }
            }
            Said::Unsubscribed(name) => {
                let name = std::str::from_utf8(name).map_err(|_| NOT_UTF8)?;
                self.subscriptions.unsubscribed(name).map_err(|error| error.to_string())?;
            }
            Said::Hello => self.subscriptions.hello().map_err(|error| error.to_string())?,
            Said::Pong => self.pong(now, sink)?,
            Said::Error(reason) => {
                let reason = String::from_utf8_lossy(reason);
                if let Refusal::Of(name) =
                    self.subscriptions.error(&reason).map_err(|error| error.to_string())?
                    && let Some(channel) = channel_of(&self.options, &name)
                {
                    self.retry_at.get_or_insert(now + RETRY_REFUSED);
                    sink(Delivery::Refused { channel, reason: &reason });
                }
            }
            Said::Other => {}
        }
        Ok(())
    }

    /// The first answer to PING says that Redis serves.
    fn pong(&mut self, now: Instant, sink: &mut Sink<'_>) -> Result<(), String> {
        self.subscriptions.pong().map_err(|error| error.to_string())?;
        if let Some(open) = self.link.open() {
            open.ponged(now + self.options.ping_every);
        }
        let lost = match self.state {
            Standing::Up { .. } => return Ok(()),
            Standing::Down(lost) => lost,
            Standing::Starting => None,
        };
        self.link.is_up();
        self.subscriptions.link_up(lost.is_some());
        self.state = Standing::Up { lost };
        sink(Delivery::Up);
        Ok(())
    }

    fn lose(&mut self, now: Instant, reason: String, sink: &mut Sink<'_>) {
        let since = match self.link.open() {
            Some(open) if open.is_overdue(now) => open.heard(),
            _ => now,
        };
        self.link.close(now);
        self.inbox.clear();
        self.subscriptions.link_lost();
        let lost = match self.state {
            Standing::Down(_) => return,
            Standing::Starting => None,
            Standing::Up { .. } => Some(now),
        };
        self.state = Standing::Down(lost);
        sink(Delivery::Lost { reason, since });
    }
}

impl Feed for RedisFeed {
    fn start(&mut self, wake: Wake) {
        self.wake = wake;
    }

    fn want(&mut self, channel: Channel<'_>, wanted: bool) {
        let channel = match channel {
            Channel::Room { namespace, room } => ChannelName::Room { namespace, room },
            Channel::Namespace(namespace) => ChannelName::Namespace(namespace),
            Channel::Publish => ChannelName::Publish,
            Channel::Requests(namespace) => ChannelName::Requests(namespace),
            Channel::Python => {
                if let Some(name) = &self.options.python_channel {
                    self.subscriptions.want(name, wanted);
                }
                return;
            }
        };
        self.options.prefix.write(channel, &mut self.name);
        self.subscriptions.want(&self.name, wanted);
    }

    fn turn(&mut self, now: Instant, budget: usize, sink: &mut dyn FnMut(Delivery<'_>)) -> Turn {
        match self.link.advance(now, &self.wake) {
            Advance::Same => {}
            Advance::Failed(reason) => self.lose(now, reason, sink),
            Advance::Opened => {
                if let Some(mut out) = self.link.open().map(|open| std::mem::take(open.out())) {
                    self.link.greet(&self.link_name, &mut out);
                    self.subscriptions.asked_hello();
                    self.subscriptions.asked_ping();
                    if let Some(open) = self.link.open() {
                        *open.out() = out;
                    }
                }
            }
        }
        let more = self.drive(now, budget, sink).unwrap_or_else(|reason| {
            self.lose(now, reason, sink);
            false
        });
        let retry = self.retry_at.filter(|_| self.link.socket().is_some());
        let deadline = [self.link.deadline(), retry].into_iter().flatten().min();
        Turn { socket: self.link.socket(), more, deadline }
    }
}

fn deliver(channel: Channel<'_>, payload: &[u8], options: &RedisOptions, sink: &mut Sink<'_>) {
    let max = options.max_envelope;
    match channel {
        Channel::Room { namespace, .. } | Channel::Namespace(namespace) => {
            sink(match decode(payload, namespace, max) {
                Ok(publication) => Delivery::Publication { channel, publication },
                Err(reason) => Delivery::Malformed { channel, reason },
            });
        }
        Channel::Publish => match publication::from_json(payload) {
            Ok(publication) => sink(Delivery::Publication { channel: Channel::Publish, publication }),
            Err(PublicationError::TooDeep) => {
                sink(Delivery::Malformed { channel, reason: Malformed::TooDeep })
            }
            Err(_) => sink(Delivery::Malformed { channel, reason: Malformed::Shape }),
        },
        Channel::Requests(namespace) => sink(match decode_request(payload, namespace, max) {
            Ok(request) => Delivery::Request { channel, namespace, request },
            Err(reason) => Delivery::Malformed { channel, reason },
        }),
        Channel::Python => match decode_python(payload, options.python_dialect, max) {
            Ok(FromPython::Publication(publication)) => {
                sink(Delivery::Publication { channel: Channel::Python, publication })
            }
            Ok(FromPython::Request { namespace, request }) => {
                sink(Delivery::Request { channel: Channel::Python, namespace: &namespace, request })
            }
            Ok(FromPython::Nothing) => {}
            Err(reason) => sink(Delivery::Malformed { channel, reason }),
        },
    }
}

fn channel_of<'a>(options: &RedisOptions, name: &'a str) -> Option<Channel<'a>> {
    let Some(channel) = options.prefix.read(name) else {
        return (options.python_channel.as_deref() == Some(name)).then_some(Channel::Python);
    };
    Some(match channel {
        ChannelName::Room { namespace, room } => Channel::Room { namespace, room },
        ChannelName::Namespace(namespace) => Channel::Namespace(namespace),
        ChannelName::Publish => Channel::Publish,
        ChannelName::Requests(namespace) => Channel::Requests(namespace),
    })
}
