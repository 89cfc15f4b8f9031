//! Frames as a server writes them: final and unmasked (RFC 6455 §5.1).

use super::{MAX_CONTROL, Opcode};

/// Appends one final, unmasked frame. Control frames must carry at most 125 bytes, which whatever
/// came in as a control frame does.
pub fn write_frame(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    debug_assert!(!opcode.is_control() || payload.len() <= MAX_CONTROL);
    let (header, used) = header(opcode, payload.len());
    out.reserve(used + payload.len());
    out.extend_from_slice(&header[..used]);
    out.extend_from_slice(payload);
}

/// Appends a close frame. Without a code the frame is empty (§5.5.1: a reason needs a code). The
/// reason is cut at a char boundary to fit 123 bytes.
pub fn write_close(code: Option<u16>, reason: &str, out: &mut Vec<u8>) {
    let Some(code) = code else {
        return write_frame(Opcode::Close, &[], out);
    };
    let mut end = reason.len().min(MAX_CONTROL - 2);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let frame = begin_frame(out);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(&reason.as_bytes()[..end]);
    finish_frame(out, frame, Opcode::Close);
}

/// Where a frame begins whose payload is being appended.
#[derive(Debug)]
#[must_use = "without finish_frame the bytes are not a frame"]
pub struct FrameStart(usize);

/// Bytes kept free for a header whose length is not known yet: right for payloads of 126 to 65,535
/// bytes. Shorter and longer ones are moved by 2 down or 6 up when they are finished.
const HEADER_ROOM: usize = 4;

/// Keeps room for a header, so that a payload can be encoded in place: append it to `out`, then call
/// [`finish_frame`].
pub fn begin_frame(out: &mut Vec<u8>) -> FrameStart {
    let start = FrameStart(out.len());
    out.extend_from_slice(&[0; HEADER_ROOM]);
    start
}

/// Makes what was appended to `out` since [`begin_frame`] one final, unmasked frame.
#[expect(clippy::needless_pass_by_value, reason = "a frame is finished once")]
pub fn finish_frame(out: &mut Vec<u8>, start: FrameStart, opcode: Opcode) {
    let FrameStart(at) = start;
    let length = out.len() - at - HEADER_ROOM;
    debug_assert!(!opcode.is_control() || length <= MAX_CONTROL);
    let (header, used) = header(opcode, length);
    out.splice(at..at + HEADER_ROOM, header[..used].iter().copied());
}

/// A header and how many of its bytes count (§5.2).
fn header(opcode: Opcode, length: usize) -> ([u8; 10], usize) {
    let mut header = [0; 10];
    header[0] = 0x80 | opcode.bits();
    let used = match length {
        0..=125 => {
            header[1] = length as u8;
            2
        }
        126..=0xFFFF => {
            header[1] = 126;
            header[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            4
        }
        _ => {
            header[1] = 127;
            header[2..].copy_from_slice(&(length as u64).to_be_bytes());
            10
        }
    };
    (header, used)
}
