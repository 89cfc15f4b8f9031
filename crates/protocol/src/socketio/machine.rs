//! One connection's Socket.IO: what its packets ask.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::{Kind, MAX_ATTACHMENTS, is_reserved, notepack, packed, text};
use crate::command::{Command, Payload, ReplyTo};
use crate::disconnect::Disconnect;
use crate::engineio;
use crate::json::{self, Hole};
use crate::msgpack::{self, EventView, MsgpackError, Token};
use crate::name::{NamespaceId, Namespaces};

/// The state of one connection. It holds what namespaces were entered, and at most one packet whose
/// attachments are on their way.
#[derive(Debug, Default)]
pub struct Machine {
    entered: SmallVec<[NamespaceId; 4]>,
    pending: Option<Box<Pending>>,
    /// Known from the first message on.
    pub(super) parser: Option<Parser>,
}

/// How the client writes its packets. Servers of the reference are given one parser; here a client shows its
/// own, since every connection's first packet is a CONNECT, which is text or binary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parser {
    Text,
    Msgpack,
}

/// A packet that waits for its attachments, which follow it with no other message between.
#[derive(Debug)]
struct Pending {
    packet: Incoming,
    missing: usize,
    /// Bytes of all parts that came so far.
    held: usize,
}

/// An event or an acknowledgement.
#[derive(Debug)]
struct Incoming {
    ack: bool,
    namespace: NamespaceId,
    id: Option<u64>,
    /// A MessagePack array with a nil at each hole.
    data: Vec<u8>,
    holes: Vec<Hole>,
    attachments: Vec<Vec<u8>>,
}

impl Machine {
    /// Takes one WebSocket message, an Engine.IO packet, and appends what it asks. `limit` is the
    /// transport's bound on one message, in bytes; an event may be ten times as large with all its
    /// attachments. On an error, the connection is to be closed for that reason.
    pub fn receive(
        &mut self,
        payload: Payload<'_>,
        namespaces: &Namespaces,
        limit: usize,
        out: &mut Vec<Command>,
    ) -> Result<(), Disconnect> {
        let text = match payload {
            Payload::Binary(bytes) => return self.binary(bytes.into(), namespaces, limit, out),
            Payload::Text(text) => text,
        };
        match engineio::decode(text).map_err(|_| Disconnect::Protocol)? {
            engineio::Packet::Text(text) => self.text(text, namespaces, out),
            engineio::Packet::Binary(bytes) => self.binary(bytes.into(), namespaces, limit, out),
            engineio::Packet::Pong(_) => {
                out.push(Command::Pong);
                Ok(())
            }
            engineio::Packet::Close => Err(Disconnect::Client),
            // Heartbeats go from the server to the client only.
            engineio::Packet::Ping(_) => Err(Disconnect::Protocol),
            engineio::Packet::Open | engineio::Packet::Upgrade | engineio::Packet::Noop => Ok(()),
        }
    }

    /// The session left the namespace without a word to the client.
    pub fn left(&mut self, id: NamespaceId) {
        self.entered.retain(|entered| *entered != id);
    }

    fn binary(
        &mut self,
        bytes: Cow<'_, [u8]>,
        namespaces: &Namespaces,
        limit: usize,
        out: &mut Vec<Command>,
    ) -> Result<(), Disconnect> {
        match self.parser.get_or_insert(Parser::Msgpack) {
            Parser::Msgpack => self.packed(&bytes, namespaces, out),
            Parser::Text => self.attachment(bytes.into_owned(), limit, out),
        }
    }

    fn packed(
        &mut self,
        bytes: &[u8],
        namespaces: &Namespaces,
        out: &mut Vec<Command>,
    ) -> Result<(), Disconnect> {
        let packet = packed::parse(bytes).ok_or(Disconnect::Protocol)?;
        let data = packet.data.map(unpacked).transpose().map_err(|_| Disconnect::Protocol)?;
        match (packet.kind, data) {
            (Kind::Connect, auth) => self.connect(&packet.namespace, auth, namespaces, out),
            (Kind::Disconnect, None) => self.leave(&packet.namespace, namespaces, out),
            (Kind::Event | Kind::Ack, Some(data)) => {
                let ack = packet.kind == Kind::Ack;
                let namespace = self.member(&packet.namespace, namespaces)?;
                check_arguments(&data)?;
                // Events without a name are heard by nobody in the reference, and do no harm there.
                if ack || EventView::parse(&data).is_ok() {
                    out.extend(Incoming::whole(ack, namespace, packet.id, data).into_command());
                }
                Ok(())
            }
            _ => Err(Disconnect::Protocol),
        }
    }

    fn text(
        &mut self,
        text: &str,
        namespaces: &Namespaces,
        out: &mut Vec<Command>,
    ) -> Result<(), Disconnect> {
        if self.pending.is_some() || *self.parser.get_or_insert(Parser::Text) != Parser::Text {
            return Err(Disconnect::Protocol);
        }
        let mended = json::mend(text);
        let text = mended.as_deref().unwrap_or(text);
        let packet = text::parse(text).ok_or(Disconnect::Protocol)?;
        match (packet.kind, packet.json) {
            (Kind::Connect, json) => {
                let auth = json.map(|json| converted(json, 0)).transpose()?;
                self.connect(packet.namespace, auth.map(|(auth, _)| auth), namespaces, out)
            }
            (Kind::Event | Kind::Ack, json) => {
                let namespace = self.member(packet.namespace, namespaces)?;
                match json {
                    Some(json) => self.carrier(&packet, json, namespace, out),
                    // Means nothing, unless attachments would follow.
                    None if packet.attachments == 0 => Ok(()),
                    None => Err(Disconnect::Protocol),
                }
            }
            (Kind::Disconnect, None) => self.leave(packet.namespace, namespaces, out),
            (Kind::Disconnect | Kind::ConnectError, _) => Err(Disconnect::Protocol),
        }
    }

    /// The namespace of a packet that is for those inside of it.
    fn member(&self, namespace: &str, namespaces: &Namespaces) -> Result<NamespaceId, Disconnect> {
        let id = namespaces.id(namespace);
        id.filter(|id| self.entered.contains(id)).ok_or(Disconnect::Protocol)
    }

    fn connect(
        &mut self,
        namespace: &str,
        auth: Option<Vec<u8>>,
        namespaces: &Namespaces,
        out: &mut Vec<Command>,
    ) -> Result<(), Disconnect> {
        if auth.as_ref().is_some_and(|auth| !matches!(msgpack::read(&mut &auth[..]), Ok(Token::Map(_)))) {
            return Err(Disconnect::Protocol);
        }
        let id = match namespaces.enter(namespace) {
            Ok(id) => id,
            Err(reason) => {
                out.push(Command::ConnectClosed { namespace: namespace.into(), reason });
                return Ok(());
            }
        };
        if self.entered.contains(&id) {
            return Err(Disconnect::Protocol);
        }
        // Entered before the answer, so that an event right behind it is not lost.
        self.entered.push(id);
        out.push(Command::Connect { namespace: id, auth: auth.map(Vec::into_boxed_slice) });
        Ok(())
    }

    fn leave(
        &mut self,
        namespace: &str,
        namespaces: &Namespaces,
        out: &mut Vec<Command>,
    ) -> Result<(), Disconnect> {
        let namespace = self.member(namespace, namespaces)?;
        self.left(namespace);
        out.push(Command::Leave { namespace });
        Ok(())
    }

    /// An event or an acknowledgement in text.
    fn carrier(
        &mut self,
        packet: &text::Packet<'_>,
        json: &str,
        namespace: NamespaceId,
        out: &mut Vec<Command>,
    ) -> Result<(), Disconnect> {
        let (data, holes) = converted(json, packet.attachments)?;
        let ack = packet.kind == Kind::Ack;
        if ack {
            check_arguments(&data)?;
        } else {
            let event = EventView::parse(&data).map_err(|_| Disconnect::Protocol)?;
            if is_reserved(&event.name()) {
                return Err(Disconnect::Protocol);
            }
        }
        let whole = Incoming { holes, ..Incoming::whole(ack, namespace, packet.id, data) };
        if packet.attachments == 0 {
            out.extend(whole.into_command());
            return Ok(());
        }
        let pending = Pending { packet: whole, missing: packet.attachments, held: json.len() };
        self.pending = Some(Box::new(pending));
        Ok(())
    }

    fn attachment(&mut self, bytes: Vec<u8>, limit: usize, out: &mut Vec<Command>) -> Result<(), Disconnect> {
        let pending = self.pending.as_mut().ok_or(Disconnect::Protocol)?;
        pending.held += bytes.len();
        if pending.held > limit.saturating_mul(MAX_ATTACHMENTS) {
            return Err(Disconnect::TooLarge);
        }
        pending.packet.attachments.push(bytes);
        pending.missing -= 1;
        if pending.missing > 0 {
            return Ok(());
        }
        // The server may have ended the membership meanwhile.
        if let Some(pending) = self.pending.take()
            && self.entered.contains(&pending.packet.namespace)
        {
            out.extend(pending.packet.into_command());
        }
        Ok(())
    }
}

impl Incoming {
    /// One that needs no attachments.
    fn whole(ack: bool, namespace: NamespaceId, id: Option<u64>, data: Vec<u8>) -> Self {
        Self { ack, namespace, id, data, holes: Vec::new(), attachments: Vec::new() }
    }

    /// `None` for an acknowledgement without an id, which nobody can have asked for.
    fn into_command(self) -> Option<Command> {
        let Self { ack, namespace, id, .. } = self;
        let data = self.assemble();
        if ack {
            return id.map(|id| Command::Ack { namespace, id, data });
        }
        let reply = id.map(|id| ReplyTo::Ack { namespace, id });
        Some(Command::Event { namespace, room: None, data, reply })
    }

    /// The data with the attachments in their places.
    fn assemble(self) -> Vec<u8> {
        if self.holes.is_empty() {
            return self.data;
        }
        let attached: usize = self.attachments.iter().map(|bytes| bytes.len() + 5).sum();
        let mut data = Vec::with_capacity(self.data.len() + attached);
        let mut copied = 0;
        for hole in self.holes {
            data.extend_from_slice(&self.data[copied..hole.at]);
            msgpack::write_bin(&self.attachments[hole.num], &mut data);
            copied = hole.at + 1;
        }
        data.extend_from_slice(&self.data[copied..]);
        data
    }
}

fn check_arguments(data: &[u8]) -> Result<(), Disconnect> {
    match msgpack::read(&mut &data[..]) {
        Ok(Token::Array(_)) => Ok(()),
        _ => Err(Disconnect::Protocol),
    }
}

/// JSON as MessagePack, with a hole for each of the attachments that it refers to.
fn converted(json: &str, attachments: usize) -> Result<(Vec<u8>, Vec<Hole>), Disconnect> {
    let mut data = Vec::with_capacity(json.len());
    let holes = if attachments == 0 {
        json::to_msgpack(json, &mut data).map(|()| Vec::new())
    } else {
        json::to_msgpack_with_holes(json, attachments, &mut data)
    };
    Ok((data, holes.map_err(|_| Disconnect::Protocol)?))
}

fn unpacked(raw: &[u8]) -> Result<Vec<u8>, MsgpackError> {
    let mut data = Vec::with_capacity(raw.len());
    notepack::from_parser(raw, &mut data)?;
    Ok(data)
}
