//! A publication on a channel: MessagePack `[uid, packet, opts]` as Socket.IO's Redis emitter writes it,
//! with fanfare's own map behind it, which others skip.
//!
//! What arrives is written by anyone: it is checked whole before anything of it is used.

pub(crate) mod decode;
mod encode;

pub use decode::decode;
pub use encode::{Uid, encode};

use fanfare_protocol::Publication;

use crate::Channel;

/// Largest envelope that is taken and published where the config says nothing, in bytes.
pub const MAX_ENVELOPE: usize = 8 << 20;

/// Key in fanfare's map: when the publishing node handed it over, in microseconds of Unix time.
const SENT_AT: &str = "t";

/// The channel that carries `publication`: its room's where it has exactly one, else its namespace's.
pub fn channel_of<'a>(publication: &'a Publication<'_>) -> Channel<'a> {
    match &publication.rooms[..] {
        [room] => Channel::Room { namespace: &publication.namespace, room },
        _ => Channel::Namespace(&publication.namespace),
    }
}

#[cfg(test)]
mod tests;
