//! Socket.IO v5 (`docs/socket.io-protocol/v5-current.md` in socketio/socket.io) over Engine.IO v4, with the
//! text parser and binary attachments, or with the msgpack parser.

mod answer;
mod encode;
mod machine;
mod notepack;
mod packed;
mod text;

pub use crate::engineio::PING as PING_TEXT;
pub use encode::{encode_event, encode_packed_event, open_frame, ping_frame};
pub use machine::Machine;

/// Most binary values in one event or acknowledgement in text; official clients end their connection at more.
pub const MAX_ATTACHMENTS: usize = 10;

/// Event names that official clients and servers refuse from the other side.
pub const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// Whether Socket.IO keeps this event name for itself.
pub fn is_reserved(event: &str) -> bool {
    RESERVED.contains(&event)
}

/// The packet types. Events and acknowledgements have a second number for those with attachments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Connect = 0,
    Disconnect = 1,
    Event = 2,
    Ack = 3,
    ConnectError = 4,
}

/// A packet to a client. Whatever the parser, its data is made as MessagePack.
#[derive(Debug, Clone, Copy)]
struct Outgoing<'a> {
    kind: Kind,
    namespace: &'a str,
    id: Option<u64>,
    data: Option<&'a [u8]>,
    /// The namespace stands before the data, where the order can be seen.
    namespace_first: bool,
}
