use std::hash::BuildHasher;

use fanfare_protocol::Publication;
use fanfare_protocol::msgpack::{write_array_len, write_bool, write_map_len, write_str, write_uint};

use super::SENT_AT;

/// Packet type of an event, binary or not.
const EVENT: u64 = 2;
/// What the fixed parts of an envelope take at most, in bytes.
const OVERHEAD: usize = 96;

/// Who wrote an envelope: 6 characters, as Socket.IO servers have, new with each start of the node.
/// It never is `emitter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uid([u8; 6]);

impl Uid {
    /// A random one.
    pub fn random() -> Self {
        const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
        // Each state is keyed from the operating system's randomness.
        let mut random = std::hash::RandomState::new().hash_one(0);
        Self(std::array::from_fn(|_| {
            let digit = DIGITS[(random % 36) as usize];
            random /= 36;
            digit
        }))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // Made of ASCII digits and letters only.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The envelope of `publication` as `@socket.io/redis-emitter` 5 would write it but for `uid`, with a fourth
/// element `{"t": now_micros}`. `publication.sent_at` is not looked at.
pub fn encode(publication: &Publication<'_>, uid: Uid, now_micros: u64) -> Vec<u8> {
    let names: usize = publication.rooms.iter().chain(&publication.except).map(|name| name.len() + 5).sum();
    let size = OVERHEAD + publication.namespace.len() + publication.data.len() + names;
    let mut out = Vec::with_capacity(size);
    write_array_len(4, &mut out);
    write_str(uid.as_str(), &mut out);

    write_map_len(3, &mut out);
    write_str("type", &mut out);
    write_uint(EVENT, &mut out);
    write_str("data", &mut out);
    out.extend_from_slice(&publication.data);
    write_str("nsp", &mut out);
    write_str(&publication.namespace, &mut out);

    write_map_len(3, &mut out);
    write_names("rooms", &publication.rooms, &mut out);
    write_str("flags", &mut out);
    if publication.volatile {
        write_map_len(1, &mut out);
        write_str("volatile", &mut out);
        write_bool(true, &mut out);
    } else {
        write_map_len(0, &mut out);
    }
    write_names("except", &publication.except, &mut out);

    write_map_len(1, &mut out);
    write_str(SENT_AT, &mut out);
    write_uint(now_micros, &mut out);
    out
}

fn write_names(key: &str, names: &[std::borrow::Cow<'_, str>], out: &mut Vec<u8>) {
    write_str(key, out);
    write_array_len(names.len(), out);
    for name in names {
        write_str(name, out);
    }
}
