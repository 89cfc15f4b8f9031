//! Which channels are wanted and which are subscribed: two sets that are brought together by commands.
//! Level-triggered and without I/O: commands go into a buffer, what Redis says comes in as calls.
//!
//! Redis answers commands in order, so that what is outstanding is a queue, and an error belongs to its front.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::resp;

/// Most names in one command, so that Redis serves others in between.
pub(crate) const MAX_NAMES: usize = 1_000;
/// Bytes of names after which a command is full.
pub(crate) const MAX_BYTES: usize = 1 << 20;

/// Redis said something that answers nothing we asked. The link cannot be used any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OutOfStep {
    #[error("Redis answered what nobody asked")]
    Unasked,
    #[error("Redis refused to work: {0}")]
    Refused(String),
}

/// See the module.
#[derive(Default)]
pub(crate) struct Subscriptions {
    channels: HashMap<Arc<str>, Channel>,
    /// Names whose two sides may differ; each at most once.
    unsettled: VecDeque<Arc<str>>,
    /// Halves of batches that were refused, before everything else.
    halves: VecDeque<Vec<Arc<str>>>,
    outstanding: VecDeque<Asked>,
    /// Wanted anew while they were still active.
    already: Vec<Arc<str>>,
    restore: Option<Restore>,
}

/// One channel's two sides.
#[derive(Clone, Copy)]
struct Channel {
    wanted: bool,
    /// It is in `unsettled`, and stays in the table until it is taken out there.
    unsettled: bool,
    /// It was wanted when the link came up and is not settled yet.
    restoring: bool,
    link: Side,
}

/// What Redis knows of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Nothing,
    Subscribing,
    Active,
    Unsubscribing,
    /// Refused since it was last wanted.
    Refused,
}

/// A command without its answer.
enum Asked {
    Hello,
    Ping,
    /// Answered by one acknowledgement for each name, in order, or by one error.
    Subscribe {
        names: Vec<Arc<str>>,
        acked: usize,
    },
    Unsubscribe {
        names: Vec<Arc<str>>,
        acked: usize,
    },
}

/// How far the channels of before have come back.
struct Restore {
    left: usize,
    active: usize,
}

/// What [`Subscriptions::error`] came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The channel is refused and somebody waits for it.
    Of(Arc<str>),
    /// Nobody has to be told.
    Nobody,
}

impl Subscriptions {
    /// States what is wanted from now on.
    pub(crate) fn want(&mut self, name: &str, wanted: bool) {
        let Some(channel) = self.channels.get_mut(name) else {
            if wanted {
                let name: Arc<str> = name.into();
                self.unsettled.push_back(Arc::clone(&name));
                let channel = Channel { wanted, unsettled: true, restoring: false, link: Side::Nothing };
                self.channels.insert(name, channel);
            }
            return;
        };
        channel.wanted = wanted;
        match (channel.link, wanted) {
            (Side::Active, true) => {
                if let Some((name, _)) = self.channels.get_key_value(name) {
                    self.already.push(Arc::clone(name));
                }
                return;
            }
            (Side::Refused, _) => channel.link = Side::Nothing,
            // Their answers unsettle them.
            (Side::Subscribing | Side::Unsubscribing, _) => return,
            _ => {}
        }
        self.unsettle(name);
    }

    /// The next channel that was active when it was wanted anew, where it still is both.
    pub(crate) fn next_already_active(&mut self) -> Option<Arc<str>> {
        while let Some(name) = self.already.pop() {
            if self.channels.get(&name).is_some_and(|channel| channel.wanted && channel.link == Side::Active)
            {
                return Some(name);
            }
        }
        None
    }

    /// The link exists anew: nothing is subscribed, everything wanted has to be. `again` where there was
    /// one before, so that [`Subscriptions::restored`] tells when it is as it was.
    pub(crate) fn link_up(&mut self, again: bool) {
        self.reset();
        let mut left = 0;
        for (name, channel) in &mut self.channels {
            if channel.wanted && channel.link == Side::Nothing {
                channel.unsettled = true;
                channel.restoring = again;
                left += 1;
                self.unsettled.push_back(Arc::clone(name));
            }
        }
        self.restore = again.then_some(Restore { left, active: 0 });
    }

    /// The link is gone and with it every subscription and what was outstanding.
    pub(crate) fn link_lost(&mut self) {
        self.reset();
        self.restore = None;
    }

    fn reset(&mut self) {
        self.unsettled.clear();
        self.halves.clear();
        self.outstanding.clear();
        self.already.clear();
        self.channels.retain(|_, channel| {
            channel.unsettled = false;
            channel.restoring = false;
            if channel.link != Side::Refused {
                channel.link = Side::Nothing;
            }
            channel.wanted
        });
    }

    /// Asks once more for what was refused and is wanted all the same: access rules can change.
    pub(crate) fn retry_refused(&mut self) {
        for (name, channel) in &mut self.channels {
            if channel.wanted && channel.link == Side::Refused && !channel.unsettled {
                channel.link = Side::Nothing;
                channel.unsettled = true;
                self.unsettled.push_back(Arc::clone(name));
            }
        }
    }

    /// What many channels needed is given back when they are gone.
    fn give_back(&mut self) {
        if self.unsettled.is_empty() {
            self.unsettled = VecDeque::new();
        }
        if self.outstanding.is_empty() {
            self.outstanding = VecDeque::new();
        }
        if self.already.is_empty() {
            self.already = Vec::new();
        }
        if self.channels.len() * 4 < self.channels.capacity() {
            self.channels.shrink_to(self.channels.len() * 2);
        }
    }

    /// Once, when every channel of before is settled again: how many are active.
    pub(crate) fn restored(&mut self) -> Option<usize> {
        let restore = self.restore.take_if(|restore| restore.left == 0)?;
        Some(restore.active)
    }

    /// HELLO was written.
    pub(crate) fn asked_hello(&mut self) {
        self.outstanding.push_back(Asked::Hello);
    }

    /// PING was written.
    pub(crate) fn asked_ping(&mut self) {
        self.outstanding.push_back(Asked::Ping);
    }

    /// HELLO was answered.
    pub(crate) fn hello(&mut self) -> Result<(), OutOfStep> {
        match self.outstanding.pop_front() {
            Some(Asked::Hello) => Ok(()),
            _ => Err(OutOfStep::Unasked),
        }
    }

    /// PING was answered.
    pub(crate) fn pong(&mut self) -> Result<(), OutOfStep> {
        match self.outstanding.pop_front() {
            Some(Asked::Ping) => Ok(()),
            _ => Err(OutOfStep::Unasked),
        }
    }

    /// Appends the next command; false where there is nothing to say.
    pub(crate) fn write_next(&mut self, out: &mut Vec<u8>) -> bool {
        if let Some(names) = self.next_half() {
            self.write("SUBSCRIBE", names, out);
            return true;
        }
        let (mut on, mut off) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        while on.len() < MAX_NAMES && off.len() < MAX_NAMES && bytes < MAX_BYTES {
            let Some(name) = self.unsettled.pop_front() else { break };
            let Entry::Occupied(mut entry) = self.channels.entry(name) else { continue };
            let channel = entry.get_mut();
            channel.unsettled = false;
            match (channel.wanted, channel.link) {
                (true, Side::Nothing) => {
                    channel.link = Side::Subscribing;
                    bytes += entry.key().len();
                    on.push(Arc::clone(entry.key()));
                }
                (false, Side::Active) => {
                    channel.link = Side::Unsubscribing;
                    bytes += entry.key().len();
                    off.push(Arc::clone(entry.key()));
                }
                (false, Side::Nothing) => {
                    let restoring = entry.remove().restoring;
                    self.settled(restoring, false);
                }
                _ => {}
            }
        }
        let said = !on.is_empty() || !off.is_empty();
        if !said {
            self.give_back();
        }
        if !off.is_empty() {
            self.write("UNSUBSCRIBE", off, out);
        }
        if !on.is_empty() {
            self.write("SUBSCRIBE", on, out);
        }
        said
    }

    /// Half of a refused batch, without what nobody wants any more.
    fn next_half(&mut self) -> Option<Vec<Arc<str>>> {
        while let Some(mut names) = self.halves.pop_front() {
            names.retain(|name| {
                let Some(channel) = self.channels.get_mut(name) else { return false };
                if channel.wanted {
                    return true;
                }
                channel.link = Side::Nothing;
                self.unsettled.push_back(Arc::clone(name));
                channel.unsettled = true;
                false
            });
            if !names.is_empty() {
                return Some(names);
            }
        }
        None
    }

    fn write(&mut self, verb: &str, names: Vec<Arc<str>>, out: &mut Vec<u8>) {
        resp::write_head(1 + names.len(), out);
        resp::write_bulk(verb, out);
        for name in &names {
            resp::write_bulk(name, out);
        }
        self.outstanding.push_back(match verb {
            "SUBSCRIBE" => Asked::Subscribe { names, acked: 0 },
            _ => Asked::Unsubscribe { names, acked: 0 },
        });
    }

    /// Redis subscribed `name`. True where somebody waits for it.
    pub(crate) fn subscribed(&mut self, name: &str) -> Result<bool, OutOfStep> {
        let Some(Asked::Subscribe { names, acked }) = self.outstanding.front_mut() else {
            return Err(OutOfStep::Unasked);
        };
        if names.get(*acked).is_none_or(|asked| **asked != *name) {
            return Err(OutOfStep::Unasked);
        }
        *acked += 1;
        if *acked == names.len() {
            self.outstanding.pop_front();
        }
        let Some(channel) = self.channels.get_mut(name) else { return Err(OutOfStep::Unasked) };
        channel.link = Side::Active;
        let wanted = channel.wanted;
        let restoring = std::mem::take(&mut channel.restoring);
        self.settled(restoring, wanted);
        if !wanted {
            self.unsettle(name);
        }
        Ok(wanted)
    }

    /// Redis unsubscribed `name`, or says so unasked, after which it is subscribed again.
    pub(crate) fn unsubscribed(&mut self, name: &str) -> Result<(), OutOfStep> {
        if let Some(Asked::Unsubscribe { names, acked }) = self.outstanding.front_mut()
            && names.get(*acked).is_some_and(|asked| **asked == *name)
        {
            *acked += 1;
            if *acked == names.len() {
                self.outstanding.pop_front();
            }
        } else if self.channels.get(name).is_none_or(|channel| channel.link != Side::Active) {
            return Err(OutOfStep::Unasked);
        }
        let Some(channel) = self.channels.get_mut(name) else { return Err(OutOfStep::Unasked) };
        channel.link = Side::Nothing;
        self.unsettle(name);
        Ok(())
    }

    /// Redis refused the oldest command. One name is refused for good, several are asked for again in halves,
    /// so that what may be had is had.
    pub(crate) fn error(&mut self, reason: &str) -> Result<Refusal, OutOfStep> {
        // These say that Redis serves nobody now, whatever was asked.
        let out_of_service = ["LOADING", "NOAUTH", "MASTERDOWN", "UNKILLABLE", "BUSY"];
        let names = match self.outstanding.pop_front() {
            Some(Asked::Subscribe { names, acked: 0 })
                if !out_of_service.iter().any(|s| reason.starts_with(s)) =>
            {
                names
            }
            _ => return Err(OutOfStep::Refused(reason.to_owned())),
        };
        if let [name] = &names[..] {
            return Ok(self.refuse(Arc::clone(name)));
        }
        let (first, second) = names.split_at(names.len() / 2);
        self.halves.push_back(first.to_vec());
        self.halves.push_back(second.to_vec());
        Ok(Refusal::Nobody)
    }

    fn refuse(&mut self, name: Arc<str>) -> Refusal {
        let Some(channel) = self.channels.get_mut(&name) else { return Refusal::Nobody };
        let restoring = std::mem::take(&mut channel.restoring);
        let wanted = channel.wanted;
        channel.link = if wanted { Side::Refused } else { Side::Nothing };
        self.settled(restoring, false);
        if wanted {
            return Refusal::Of(name);
        }
        self.unsettle(&name);
        Refusal::Nobody
    }

    fn settled(&mut self, restoring: bool, active: bool) {
        if let Some(restore) = self.restore.as_mut().filter(|_| restoring) {
            restore.left -= 1;
            restore.active += usize::from(active);
        }
    }

    fn unsettle(&mut self, name: &str) {
        let Some((key, _)) = self.channels.get_key_value(name) else { return };
        let key = Arc::clone(key);
        if let Some(channel) = self.channels.get_mut(name).filter(|channel| !channel.unsettled) {
            channel.unsettled = true;
            self.unsettled.push_back(key);
        }
    }
}

#[cfg(test)]
#[path = "subscriptions_tests.rs"]
mod tests;
