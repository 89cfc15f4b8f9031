//! Where the protocols meet the core: what clients ask, and what they are answered. Nothing behind
//! this module sees a packet.

use crate::json;
use crate::msgpack;
use crate::name::{Closed, NamespaceId};

/// One WebSocket message of a connection, as its protocol's machine takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}

/// What a connection asks of its session, in the order it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Enter a namespace that this node serves. Plain connections are in [`NamespaceId::MAIN`] from
    /// the start and never ask. `auth` is the object the client gave, a MessagePack map.
    Connect { namespace: NamespaceId, auth: Option<Box<[u8]>> },
    /// Enter a namespace that nobody can enter here.
    ConnectClosed { namespace: Box<str>, reason: Closed },
    /// Leave a namespace; the connection stays.
    Leave { namespace: NamespaceId },
    /// An event. `data` is a MessagePack array `[event, ...args]`; `room` is set by protocols whose
    /// events name their room.
    Event { namespace: NamespaceId, room: Option<Box<str>>, data: Vec<u8>, reply: Option<ReplyTo> },
    /// The client acknowledges what it was sent with this id. `data` is a MessagePack array of the arguments.
    Ack { namespace: NamespaceId, id: u64, data: Vec<u8> },
    /// Join a room by name (protocols that have a frame for it).
    JoinRoom { room: Box<str>, reply: Option<ReplyTo> },
    /// Leave a room by name.
    LeaveRoom { room: Box<str>, reply: Option<ReplyTo> },
    /// The client answered a heartbeat.
    Pong,
    /// The client asks whether the link lives; answered at once.
    Ping { reply: Option<ReplyTo> },
}

/// Where an answer goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyTo {
    /// A Socket.IO acknowledgement id.
    Ack { namespace: NamespaceId, id: u64 },
    /// The `id` of a plain frame: a JSON number or string, as it was written.
    Plain { id: Box<str> },
}

/// Why something was refused, in words for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub code: RefusalCode,
    pub message: String,
}

/// The closed set of reasons for refusing what a client asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RefusalCode {
    /// No rule allows it. Asking again does not help.
    Forbidden,
    /// The frame or its arguments are wrong. Correct them.
    BadRequest,
    /// The room is not one the connection has joined. Join first.
    NotJoined,
    /// A bound of this node was reached, named in the message.
    Limit,
    /// The broker is away. Ask again.
    Unavailable,
}

impl RefusalCode {
    /// Every code, for tables and metrics.
    pub const ALL: [RefusalCode; 5] =
        [Self::Forbidden, Self::BadRequest, Self::NotJoined, Self::Limit, Self::Unavailable];

    /// The code as clients and metrics see it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Forbidden => "forbidden",
            Self::BadRequest => "bad_request",
            Self::NotJoined => "not_joined",
            Self::Limit => "limit",
            Self::Unavailable => "unavailable",
        }
    }

    /// Whether the same request may succeed later.
    pub fn retry(self) -> bool {
        matches!(self, Self::Unavailable)
    }
}

impl Refusal {
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// Appends a MessagePack map of the fields that a refusal has in every protocol.
    pub(crate) fn write_map(&self, out: &mut Vec<u8>) {
        msgpack::write_map_len(3, out);
        msgpack::write_str("code", out);
        msgpack::write_str(self.code.label(), out);
        msgpack::write_str("message", out);
        msgpack::write_str(&self.message, out);
        msgpack::write_str("retry", out);
        msgpack::write_bool(self.code.retry(), out);
    }

    /// Appends `"code":…,"message":…,"retry":…`, the same fields as JSON.
    pub(crate) fn write_fields(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(br#""code":"#);
        json::write_str(self.code.label(), out);
        out.extend_from_slice(br#","message":"#);
        json::write_str(&self.message, out);
        out.extend_from_slice(if self.code.retry() { br#","retry":true"# } else { br#","retry":false"# });
    }
}
