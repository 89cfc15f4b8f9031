//! The text form of Socket.IO packets:
//! `<type>[<attachments>-][<namespace>,][<ack id>][<JSON>]`, then the attachments.

use super::{Kind, MAX_ATTACHMENTS, Outgoing};
use crate::encoding::EncodeError;
use crate::engineio;
use crate::frame::Frame;
use crate::json::{self, Bins};
use crate::websocket::{self, Opcode};

/// A packet's parts. The JSON is not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    pub(super) kind: Kind,
    /// Binary messages that follow: none, or 1 to [`MAX_ATTACHMENTS`].
    pub(super) attachments: usize,
    pub(super) namespace: &'a str,
    pub(super) id: Option<u64>,
    pub(super) json: Option<&'a str>,
}

/// The packet in the text of an Engine.IO message, or `None` where it has not the form of one.
pub(super) fn parse(text: &str) -> Option<Packet<'_>> {
    let mut rest = text.chars();
    let (kind, binary) = match rest.next()? {
        '0' => (Kind::Connect, false),
        '1' => (Kind::Disconnect, false),
        '2' => (Kind::Event, false),
        '3' => (Kind::Ack, false),
        '4' => (Kind::ConnectError, false),
        '5' => (Kind::Event, true),
        '6' => (Kind::Ack, true),
        _ => return None,
    };
    let mut rest = rest.as_str();
    let mut attachments = 0;
    if binary {
        let (digits, tail) = split_digits(rest);
        rest = tail.strip_prefix('-')?;
        attachments = digits.parse().ok().filter(|count| (1..=MAX_ATTACHMENTS).contains(count))?;
    }
    let mut namespace = "/";
    if rest.starts_with('/') {
        (namespace, rest) = rest.split_once(',').unwrap_or((rest, ""));
    }
    let (digits, json) = split_digits(rest);
    // Digits only. A number beyond 64 bits is none that a client counts to: nothing can be answered to it.
    let id = digits.parse().ok();
    let json = if json.is_empty() { None } else { Some(json) };
    Some(Packet { kind, attachments, namespace, id, json })
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

/// The packet as text. Binary values of events and acknowledgements become attachments behind it; in the
/// other packets, which have none, they become base64.
pub(super) fn write(packet: &Outgoing<'_>) -> Result<Frame, EncodeError> {
    let data = packet.data.unwrap_or_default();
    let mut wire = Vec::with_capacity(data.len() + data.len() / 4 + packet.namespace.len() + 32);
    let frame = websocket::begin_frame(&mut wire);
    wire.extend_from_slice(engineio::MESSAGE.as_bytes());
    let kind = wire.len();
    wire.push(b'0' + packet.kind as u8);
    if packet.namespace != "/" {
        wire.extend_from_slice(packet.namespace.as_bytes());
        wire.push(b',');
    }
    if let Some(id) = packet.id {
        wire.extend_from_slice(itoa::Buffer::new().format(id).as_bytes());
    }
    let mut bins = Vec::new();
    match (packet.data, packet.kind) {
        (None, _) => {}
        (Some(data), Kind::Event | Kind::Ack) => {
            json::from_msgpack(data, &mut wire, Bins::Placeholders(&mut bins))?;
        }
        (Some(data), _) => json::from_msgpack(data, &mut wire, Bins::Base64(&mut false))?,
    }
    if bins.len() > MAX_ATTACHMENTS {
        return Err(EncodeError::TooManyAttachments);
    }
    if !bins.is_empty() {
        // Known only now: the type becomes its binary form, and the count goes before the namespace.
        let count = format!("{}{}-", packet.kind as u8 + 3, bins.len());
        wire.splice(kind..=kind, count.bytes());
    }
    websocket::finish_frame(&mut wire, frame, Opcode::Text);
    for bin in bins {
        websocket::write_frame(Opcode::Binary, bin, &mut wire);
    }
    Ok(Frame::from_wire(wire))
}
