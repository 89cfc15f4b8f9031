//! What plain clients are sent.

use crate::command::Refusal;
use crate::encoding::EncodeError;
use crate::frame::Frame;
use crate::json::{self, Bins};
use crate::msgpack::{self, EventView, MsgpackError, Token};
use crate::publication::Publication;
use crate::websocket::{self, Opcode};

/// `{"type":"connection_success","message":…}`, the first frame.
pub fn connection_success(message: &str) -> Frame {
    Frame::text(|out| {
        out.extend_from_slice(br#"{"type":"connection_success","message":"#);
        json::write_str(message, out);
        out.push(b'}');
    })
}

/// `{"type":"ping"}`; the client answers `{"type":"pong"}`.
pub fn ping_frame() -> Frame {
    Frame::text(|out| out.extend_from_slice(br#"{"type":"ping"}"#))
}

/// The answer to a frame with an id. `id` is JSON, as the client wrote it.
pub fn reply(id: &str, outcome: Result<(), &Refusal>) -> Frame {
    Frame::text(|out| {
        out.extend_from_slice(br#"{"type":"reply","id":"#);
        out.extend_from_slice(id.as_bytes());
        match outcome {
            Ok(()) => out.extend_from_slice(br#","ok":true}"#),
            Err(refusal) => {
                out.extend_from_slice(br#","ok":false,"error":{"#);
                refusal.write_fields(out);
                out.extend_from_slice(b"}}");
            }
        }
    })
}

/// The answer to a frame with an id, with arguments of the app's: a MessagePack array, shown as
/// [`encode_event`] shows those of an event.
pub fn answer(id: &str, args: Option<&[u8]>) -> Result<Frame, EncodeError> {
    let Some(args) = args else { return Ok(reply(id, Ok(()))) };
    let mut rest = args;
    let Token::Array(count) = msgpack::read(&mut rest)? else { return Err(EncodeError::NotArguments) };
    let mut wire = Vec::with_capacity(args.len() + args.len() / 4 + 64);
    let frame = websocket::begin_frame(&mut wire);
    wire.extend_from_slice(br#"{"type":"reply","id":"#);
    wire.extend_from_slice(id.as_bytes());
    wire.extend_from_slice(br#","ok":true"#);
    let values = std::iter::from_fn(|| {
        let (value, tail) = rest.split_at(msgpack::skip(rest).ok()?);
        rest = tail;
        Some(value)
    });
    write_arguments(values, count as usize, &mut wire)?;
    websocket::finish_frame(&mut wire, frame, Opcode::Text);
    Ok(Frame::from_wire(wire))
}

/// `{"type":"error",…}`: a refusal of a frame without an id.
pub fn error(refusal: &Refusal) -> Frame {
    Frame::text(|out| {
        out.extend_from_slice(br#"{"type":"error","#);
        refusal.write_fields(out);
        out.push(b'}');
    })
}

/// `{"type":"event","room":…,"event":…,"data":…}`. Without `room` it went to everyone; other than one
/// argument are in an array `args`; binary values are base64, and then `"binary":true` stands at the end.
pub fn encode_event(publication: &Publication<'_>, room: Option<&str>) -> Result<Frame, EncodeError> {
    let data: &[u8] = &publication.data;
    let event = EventView::parse(data).map_err(|error| match error {
        MsgpackError::NotAnEvent => EncodeError::NotAnEvent,
        other => EncodeError::Data(other),
    })?;
    let mut wire = Vec::with_capacity(data.len() + data.len() / 4 + room.map_or(0, str::len) + 64);
    let frame = websocket::begin_frame(&mut wire);
    wire.extend_from_slice(br#"{"type":"event""#);
    if let Some(room) = room {
        wire.extend_from_slice(br#","room":"#);
        json::write_str(room, &mut wire);
    }
    wire.extend_from_slice(br#","event":"#);
    json::write_str(&event.name(), &mut wire);
    write_arguments(event.args(), event.arg_count(), &mut wire)?;
    websocket::finish_frame(&mut wire, frame, Opcode::Text);
    Ok(Frame::from_wire(wire))
}

/// Arguments as the last fields of an object, and its end.
fn write_arguments<'a>(
    args: impl Iterator<Item = &'a [u8]>,
    count: usize,
    wire: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let mut binary = false;
    let single = count == 1;
    wire.extend_from_slice(if single { br#","data":"# } else { br#","args":["# });
    for (at, arg) in args.take(count).enumerate() {
        if at > 0 {
            wire.push(b',');
        }
        json::from_msgpack(arg, wire, Bins::Base64(&mut binary))?;
    }
    if !single {
        wire.push(b']');
    }
    wire.extend_from_slice(if binary { br#","binary":true}"# } else { b"}" });
    Ok(())
}
