//! What Socket.IO clients are sent that is not of one connection.

use super::{Kind, Outgoing, is_reserved, packed, text};
use crate::encoding::EncodeError;
use crate::engineio;
use crate::frame::Frame;
use crate::msgpack::{EventView, MsgpackError};
use crate::publication::Publication;

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
    text::write(&event(publication)?)
}

/// The EVENT packet of a publication for clients with the msgpack parser: any number of binaries.
pub fn encode_packed_event(publication: &Publication<'_>) -> Result<Frame, EncodeError> {
    packed::write(&event(publication)?)
}

fn event<'a>(publication: &'a Publication<'_>) -> Result<Outgoing<'a>, EncodeError> {
    let data: &[u8] = &publication.data;
    let event = EventView::parse(data).map_err(|error| match error {
        MsgpackError::NotAnEvent => EncodeError::NotAnEvent,
        other => EncodeError::Data(other),
    })?;
    if is_reserved(&event.name()) {
        return Err(EncodeError::Reserved);
    }
    Ok(Outgoing {
        kind: Kind::Event,
        namespace: &publication.namespace,
        id: publication.ack,
        data: Some(data),
        namespace_first: false,
    })
}
