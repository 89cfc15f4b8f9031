//! How a publication looks to a kind of client, made once for all of that kind.

use crate::frame::Frame;
use crate::publication::Publication;
use crate::{plain, socketio};

/// A kind of client, as far as bytes are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Socket.IO v5 text packets with binary attachments, one WebSocket frame per packet.
    SocketIoText,
    /// Socket.IO v5 with the msgpack parser, one binary WebSocket frame per packet.
    SocketIoMsgpack,
    /// fanfare's own JSON frames. They name the room, so publications to several rooms have one
    /// frame per room.
    PlainJson,
}

impl Encoding {
    /// Every encoding, in the order of [`Encoding::index`].
    pub const ALL: [Encoding; 3] = [Self::SocketIoText, Self::SocketIoMsgpack, Self::PlainJson];

    /// Position in tables with one entry per encoding.
    pub fn index(self) -> usize {
        self as usize
    }

    /// Whether the frame depends on the room through which a member gets the publication.
    pub fn names_room(self) -> bool {
        matches!(self, Self::PlainJson)
    }

    /// The publication's frame for clients of this kind. `room` is the one through which the member
    /// gets it, `None` for everyone in the namespace.
    pub fn encode(self, publication: &Publication<'_>, room: Option<&str>) -> Result<Frame, EncodeError> {
        match self {
            Self::SocketIoText => socketio::encode_event(publication),
            Self::SocketIoMsgpack => socketio::encode_packed_event(publication),
            Self::PlainJson => plain::encode_event(publication, room),
        }
    }
}

/// Why a publication cannot be shown to a kind of client. It is dropped and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The data is not an array that starts with an event name.
    #[error("data is not an array that starts with an event name")]
    NotAnEvent,
    /// The arguments of an acknowledgement are not an array.
    #[error("the arguments are not an array")]
    NotArguments,
    /// Socket.IO clients end their connection at an event of a reserved name.
    #[error("the event name is reserved by Socket.IO")]
    Reserved,
    /// Socket.IO clients with the text parser end their connection at more than ten attachments.
    #[error("more than ten binary values")]
    TooManyAttachments,
    /// Not valid MessagePack, or nested too deeply.
    #[error(transparent)]
    Data(#[from] crate::msgpack::MsgpackError),
}
