//! The packets that one connection is answered with.

use super::machine::{Machine, Parser};
use super::notepack::UNDEFINED;
use super::{Kind, Outgoing, packed, text};
use crate::command::Refusal;
use crate::encoding::{EncodeError, Encoding};
use crate::frame::Frame;
use crate::msgpack::{self, Token, write_bool, write_map_len, write_str};
use crate::name::{NamespaceId, Namespaces};

impl Machine {
    /// How publications look to this client. The same from its first message on.
    pub fn encoding(&self) -> Encoding {
        match self.parser {
            None | Some(Parser::Text) => Encoding::SocketIoText,
            Some(Parser::Msgpack) => Encoding::SocketIoMsgpack,
        }
    }

    /// The answer to a CONNECT that was granted; `sid` is the public Socket.IO id.
    pub fn connected(&self, namespaces: &Namespaces, id: NamespaceId, sid: &str) -> Frame {
        let mut data = Vec::with_capacity(sid.len() + 16);
        write_map_len(2, &mut data);
        write_str("sid", &mut data);
        write_str(sid, &mut data);
        // Without recovery there is none; the msgpack parser of the reference shows the key all the same.
        write_str("pid", &mut data);
        data.extend_from_slice(&UNDEFINED);
        own(self.frame(&outgoing(Kind::Connect, &namespaces.name(id), None, Some(&data))))
    }

    /// The answer to a CONNECT that was not granted, with what the app says beside the words: `data` is one
    /// MessagePack value, left out where it is none. `id` is that of a namespace this node serves; it counts as
    /// never entered. Official clients do not try again by themselves.
    pub fn refused(
        &mut self,
        namespace: &str,
        id: Option<NamespaceId>,
        message: &str,
        data: Option<&[u8]>,
    ) -> Frame {
        if let Some(id) = id {
            self.left(id);
        }
        let error = |data: Option<&[u8]>| {
            let mut error = Vec::with_capacity(message.len() + 24 + data.map_or(0, <[u8]>::len));
            write_map_len(if data.is_some() { 2 } else { 1 }, &mut error);
            write_str("message", &mut error);
            write_str(message, &mut error);
            if let Some(data) = data {
                write_str("data", &mut error);
                error.extend_from_slice(data);
            }
            error
        };
        // Of a namespace that it does not have, the reference shows the name first and no data.
        let namespace_first = id.is_none();
        let frame = |error: &[u8]| {
            let packet = outgoing(Kind::ConnectError, namespace, None, Some(error));
            self.frame(&Outgoing { namespace_first, ..packet })
        };
        let said = data.and_then(|data| frame(&error(Some(data))).ok());
        said.unwrap_or_else(|| own(frame(&error(id.map(|_| &UNDEFINED[..])))))
    }

    /// The session left the namespace by the server's decision, which the client is told so: it does not come
    /// back by itself.
    pub fn disconnected(&mut self, namespaces: &Namespaces, id: NamespaceId) -> Frame {
        self.left(id);
        own(self.frame(&outgoing(Kind::Disconnect, &namespaces.name(id), None, None)))
    }

    /// The acknowledgement of an event by the node itself: `[{"ok":true}]` or
    /// `[{"ok":false,"error":{"code","message","retry"}}]`.
    pub fn reply(
        &self,
        namespaces: &Namespaces,
        namespace: NamespaceId,
        ack: u64,
        outcome: Result<(), &Refusal>,
    ) -> Frame {
        let mut args = Vec::new();
        msgpack::write_array_len(1, &mut args);
        write_map_len(if outcome.is_ok() { 1 } else { 2 }, &mut args);
        write_str("ok", &mut args);
        write_bool(outcome.is_ok(), &mut args);
        if let Err(refusal) = outcome {
            write_str("error", &mut args);
            refusal.write_map(&mut args);
        }
        own(self.frame(&outgoing(Kind::Ack, &namespaces.name(namespace), Some(ack), Some(&args))))
    }

    /// The acknowledgement of an event with arguments of the app's: `args` is a MessagePack array.
    pub fn ack(
        &self,
        namespaces: &Namespaces,
        namespace: NamespaceId,
        ack: u64,
        args: &[u8],
    ) -> Result<Frame, EncodeError> {
        match msgpack::read(&mut &args[..])? {
            Token::Array(_) => {
                self.frame(&outgoing(Kind::Ack, &namespaces.name(namespace), Some(ack), Some(args)))
            }
            _ => Err(EncodeError::NotArguments),
        }
    }

    fn frame(&self, packet: &Outgoing<'_>) -> Result<Frame, EncodeError> {
        match self.parser {
            None | Some(Parser::Text) => text::write(packet),
            Some(Parser::Msgpack) => packed::write(packet),
        }
    }
}

/// The frame of a packet in whose data nothing is foreign but whole strings.
fn own(made: Result<Frame, EncodeError>) -> Frame {
    // They are UTF-8, nothing is nested deeply, and nothing is binary: there is no other error.
    made.expect("data that was written here can be shown")
}

fn outgoing<'a>(kind: Kind, namespace: &'a str, id: Option<u64>, data: Option<&'a [u8]>) -> Outgoing<'a> {
    Outgoing { kind, namespace, id, data, namespace_first: false }
}
