//! What Socket.IO clients are sent.

use super::{MAX_ATTACHMENTS, is_reserved};
use crate::encoding::EncodeError;
use crate::engineio;
use crate::frame::Frame;
use crate::json::{self, Bins};
use crate::msgpack::{EventView, MsgpackError};
use crate::publication::Publication;
use crate::websocket::{self, Opcode};

/// The Engine.IO open packet, the first thing on a WebSocket. Times are milliseconds, `max_payload`
/// is bytes.
pub fn open_frame(sid: &str, ping_interval_ms: u64, ping_timeout_ms: u64, max_payload: usize) -> Frame {
    let text = engineio::open_packet(sid, &[], ping_interval_ms, ping_timeout_ms, max_payload);
    Frame::text(|out| out.extend_from_slice(text.as_bytes()))
}

/// The Engine.IO ping.
pub fn ping_frame() -> Frame {
    Frame::text(|out| out.extend_from_slice(engineio::PING.as_bytes()))
}

/// The EVENT packet of a publication, with its attachments behind it.
pub fn encode_event(publication: &Publication<'_>) -> Result<Frame, EncodeError> {
    let data: &[u8] = &publication.data;
    let event = EventView::parse(data).map_err(not_an_event)?;
    if is_reserved(&event.name()) {
        return Err(EncodeError::Reserved);
    }
    let mut wire = Vec::with_capacity(data.len() + data.len() / 4 + publication.namespace.len() + 32);
    let frame = websocket::begin_frame(&mut wire);
    let start = wire.len();
    packet_start(b"42", &publication.namespace, &mut wire);
    let mut bins = Vec::new();
    json::from_msgpack(data, &mut wire, Bins::Placeholders(&mut bins))?;
    if bins.len() > MAX_ATTACHMENTS {
        return Err(EncodeError::TooManyAttachments);
    }
    if !bins.is_empty() {
        // Known only now: EVENT becomes BINARY_EVENT, and the count goes before the namespace.
        let count = format!("5{}-", bins.len());
        wire.splice(start + 1..start + 2, count.bytes());
    }
    websocket::finish_frame(&mut wire, frame, Opcode::Text);
    for bin in bins {
        websocket::write_frame(Opcode::Binary, bin, &mut wire);
    }
    Ok(Frame::from_wire(wire))
}

fn not_an_event(error: MsgpackError) -> EncodeError {
    match error {
        MsgpackError::NotAnEvent => EncodeError::NotAnEvent,
        other => EncodeError::Data(other),
    }
}

/// A packet's type and namespace; the main one is not named.
pub(super) fn packet_start(kind: &[u8], namespace: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(kind);
    if namespace != "/" {
        out.extend_from_slice(namespace.as_bytes());
        out.push(b',');
    }
}
