//! Engine.IO v4 packets, in WebSocket frames and in the bodies of long-polling
//! (`docs/engine.io-protocol/v4-current.md` in socketio/socket.io).

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::command::Payload;
use crate::frame::Frame;
use crate::json;
use crate::websocket::{self, Opcode};

/// Standard base64 (RFC 4648 §4) with padding, which readers need not find.
pub(crate) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A packet's text that the other side answers with [`PONG`].
pub const PING: &str = "2";
/// The answer to [`PING`].
pub const PONG: &str = "3";
/// The first character of a packet that carries text.
pub const MESSAGE: &str = "4";

/// One packet that came in a text frame. A binary frame is always a binary message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet<'a> {
    Open,
    Close,
    /// With its payload: `probe` on a transport that is to take over.
    Ping(&'a str),
    Pong(&'a str),
    Text(&'a str),
    /// A binary message that came as base64.
    Binary(Vec<u8>),
    Upgrade,
    Noop,
}

/// Text that is no packet. The connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an Engine.IO packet")]
pub struct NotAPacket;

/// The packet in the text of one frame.
pub fn decode(text: &str) -> Result<Packet<'_>, NotAPacket> {
    let mut rest = text.chars();
    let kind = rest.next().ok_or(NotAPacket)?;
    let payload = rest.as_str();
    match kind {
        '0' => Ok(Packet::Open),
        '1' => Ok(Packet::Close),
        '2' => Ok(Packet::Ping(payload)),
        '3' => Ok(Packet::Pong(payload)),
        '4' => Ok(Packet::Text(payload)),
        '5' => Ok(Packet::Upgrade),
        '6' => Ok(Packet::Noop),
        'b' => BASE64.decode(payload).map(Packet::Binary).map_err(|_| NotAPacket),
        _ => Err(NotAPacket),
    }
}

/// Between the packets of a polling body.
const SEPARATOR: char = '\x1e';

/// The packets of a polling body, each for [`decode`]. An empty body is one empty packet, which is none.
pub fn split_payload(body: &str) -> impl Iterator<Item = &str> {
    body.split(SEPARATOR)
}

/// Appends the packets of a frame to a polling body: text as it is, binary as `b` and base64.
pub fn append_payload(frame: &Frame, body: &mut String) {
    for part in frame.parts() {
        if !body.is_empty() {
            body.push(SEPARATOR);
        }
        match part {
            Payload::Text(text) => body.push_str(text),
            Payload::Binary(bytes) => {
                body.push('b');
                BASE64.encode_string(bytes, body);
            }
        }
    }
}

/// The same packets as text frames only, for clients that asked for base64 (`b64=1`).
pub fn without_binary(frame: &Frame) -> Frame {
    let mut wire = Vec::with_capacity(frame.bytes().len() * 4 / 3 + 16);
    for part in frame.parts() {
        let start = websocket::begin_frame(&mut wire);
        match part {
            Payload::Text(text) => wire.extend_from_slice(text.as_bytes()),
            Payload::Binary(bytes) => {
                wire.push(b'b');
                wire.extend_from_slice(BASE64.encode(bytes).as_bytes());
            }
        }
        websocket::finish_frame(&mut wire, start, Opcode::Text);
    }
    Frame::from_wire(wire)
}

/// The text of the open packet. Times are milliseconds, `max_payload` is bytes. Clients check that
/// there are exactly these keys.
pub fn open_packet(
    sid: &str,
    upgrades: &[&str],
    ping_interval_ms: u64,
    ping_timeout_ms: u64,
    max_payload: usize,
) -> String {
    let mut text = b"0{\"sid\":".to_vec();
    json::write_str(sid, &mut text);
    text.extend_from_slice(b",\"upgrades\":[");
    for (at, upgrade) in upgrades.iter().enumerate() {
        if at > 0 {
            text.push(b',');
        }
        json::write_str(upgrade, &mut text);
    }
    // Only whole strings were written.
    let mut text = String::from_utf8(text).unwrap_or_default();
    text.push_str(&format!(
        "],\"pingInterval\":{ping_interval_ms},\"pingTimeout\":{ping_timeout_ms},\"maxPayload\":{max_payload}}}"
    ));
    text
}
