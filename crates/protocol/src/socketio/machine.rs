//! One connection's Socket.IO: what its packets ask.

use smallvec::SmallVec;

use super::text::{self, Packet};
use super::{Kind, MAX_ATTACHMENTS, is_reserved};
use crate::command::{Command, Payload, ReplyTo};
use crate::disconnect::Disconnect;
use crate::engineio;
use crate::json::{self, Hole};
use crate::msgpack::{self, EventView, Token};
use crate::name::{NamespaceId, Namespaces};

/// The state of one connection. It holds what namespaces were entered, and at most one packet whose
/// attachments are on their way.
#[derive(Debug, Default)]
pub struct Machine {
    entered: SmallVec<[NamespaceId; 4]>,
    pending: Option<Box<Pending>>,
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
            Payload::Binary(bytes) => return self.attachment(bytes.to_vec(), limit, out),
            Payload::Text(text) => text,
        };
        match engineio::decode(text).map_err(|_| Disconnect::Protocol)? {
            engineio::Packet::Text(text) => self.packet(text, namespaces, out),
            engineio::Packet::Binary(bytes) => self.attachment(bytes, limit, out),
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

    fn packet(
        &mut self,
        text: &str,
        namespaces: &Namespaces,
        out: &mut Vec<Command>,
    ) -> Result<(), Disconnect> {
        if self.pending.is_some() {
            return Err(Disconnect::Protocol);
        }
        let mended = json::mend(text);
        let text = mended.as_deref().unwrap_or(text);
        let packet = text::parse(text).ok_or(Disconnect::Protocol)?;
        if packet.kind == Kind::Connect {
            return self.connect(&packet, namespaces, out);
        }
        let id = namespaces.id(packet.namespace);
        let namespace = id.filter(|id| self.entered.contains(id)).ok_or(Disconnect::Protocol)?;
        match packet.kind {
            Kind::Event | Kind::Ack => self.carrier(&packet, namespace, out),
            Kind::Disconnect if packet.json.is_none() => {
                self.left(namespace);
                out.push(Command::Leave { namespace });
                Ok(())
            }
            Kind::Disconnect | Kind::ConnectError | Kind::Connect => Err(Disconnect::Protocol),
        }
    }

    fn connect(
        &mut self,
        packet: &Packet<'_>,
        namespaces: &Namespaces,
        out: &mut Vec<Command>,
    ) -> Result<(), Disconnect> {
        let mut auth = None;
        if let Some(json) = packet.json {
            let mut object = Vec::new();
            json::to_msgpack(json, &mut object).map_err(|_| Disconnect::Protocol)?;
            if !matches!(msgpack::read(&mut &object[..]), Ok(Token::Map(_))) {
                return Err(Disconnect::Protocol);
            }
            auth = Some(object.into_boxed_slice());
        }
        let namespace = match namespaces.enter(packet.namespace) {
            Ok(namespace) => namespace,
            Err(reason) => {
                out.push(Command::ConnectClosed { namespace: packet.namespace.into(), reason });
                return Ok(());
            }
        };
        if self.entered.contains(&namespace) {
            return Err(Disconnect::Protocol);
        }
        // Entered before the answer, so that an event right behind it is not lost.
        self.entered.push(namespace);
        out.push(Command::Connect { namespace, auth });
        Ok(())
    }

    /// An event or an acknowledgement.
    fn carrier(
        &mut self,
        packet: &Packet<'_>,
        namespace: NamespaceId,
        out: &mut Vec<Command>,
    ) -> Result<(), Disconnect> {
        let Some(json) = packet.json else { return without_payload(packet) };
        let mut data = Vec::with_capacity(json.len());
        let holes = convert(packet, json, &mut data)?;
        let ack = packet.kind == Kind::Ack;
        if ack {
            check_arguments(&data)?;
        } else {
            let event = EventView::parse(&data).map_err(|_| Disconnect::Protocol)?;
            if is_reserved(&event.name()) {
                return Err(Disconnect::Protocol);
            }
        }
        let whole = Incoming { ack, namespace, id: packet.id, data, holes, attachments: Vec::new() };
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

/// EVENT and ACK without a payload mean nothing and are ignored, unless attachments would follow.
fn without_payload(packet: &Packet<'_>) -> Result<(), Disconnect> {
    if packet.attachments == 0 { Ok(()) } else { Err(Disconnect::Protocol) }
}

fn convert(packet: &Packet<'_>, json: &str, data: &mut Vec<u8>) -> Result<Vec<Hole>, Disconnect> {
    let holes = if packet.attachments == 0 {
        json::to_msgpack(json, data).map(|()| Vec::new())
    } else {
        json::to_msgpack_with_holes(json, packet.attachments, data)
    };
    holes.map_err(|_| Disconnect::Protocol)
}
