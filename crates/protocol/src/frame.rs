//! Bytes ready to be written to a WebSocket, shared by everyone they go to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::command::Payload;
use crate::websocket::{Opcode, begin_frame, finish_frame};

/// Bytes of all frames alive in this process: what outboxes really hold, however many share a frame.
static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);

/// One or more whole WebSocket frames that belong together (an event and its attachments), headers
/// included. Cloning shares the bytes. One frame in an outbox costs a pointer.
#[derive(Debug, Clone)]
pub struct Frame(Arc<Body>);

#[derive(Debug)]
struct Body(Box<[u8]>);

impl Frame {
    /// Takes bytes that are whole WebSocket frames, as [`crate::websocket::encode`] writes them.
    pub fn from_wire(bytes: Vec<u8>) -> Self {
        LIVE_BYTES.fetch_add(bytes.len(), Ordering::Relaxed);
        Self(Arc::new(Body(bytes.into_boxed_slice())))
    }

    /// One text frame whose payload `write` appends. It must be UTF-8.
    pub(crate) fn text(write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut wire = Vec::new();
        let start = begin_frame(&mut wire);
        write(&mut wire);
        finish_frame(&mut wire, start, Opcode::Text);
        Self::from_wire(wire)
    }

    /// The bytes as they go to the socket.
    pub fn bytes(&self) -> &[u8] {
        &self.0.0
    }

    /// The messages in it: what polling clients get without the WebSocket headers. Control frames are none.
    pub fn parts(&self) -> impl Iterator<Item = Payload<'_>> {
        let mut rest = self.bytes();
        std::iter::from_fn(move || {
            while let Some((opcode, payload, tail)) = take_frame(rest) {
                rest = tail;
                match opcode {
                    TEXT => return std::str::from_utf8(payload).ok().map(Payload::Text),
                    BINARY => return Some(Payload::Binary(payload)),
                    _ => {}
                }
            }
            None
        })
    }

    /// Bytes that all frames of this process hold now.
    pub fn live_bytes() -> usize {
        LIVE_BYTES.load(Ordering::Relaxed)
    }
}

/// Opcodes of messages in frames that end them (RFC 6455 §5.2).
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;

/// The first byte and the payload of an unmasked frame, and what is behind it.
fn take_frame(wire: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[first, length], rest) = wire.split_first_chunk()?;
    let (length, rest) = match length {
        126 => rest.split_first_chunk().map(|(bytes, rest)| (u64::from(u16::from_be_bytes(*bytes)), rest))?,
        127 => rest.split_first_chunk().map(|(bytes, rest)| (u64::from_be_bytes(*bytes), rest))?,
        short => (u64::from(short), rest),
    };
    let (payload, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some((first, payload, rest))
}

impl Drop for Body {
    fn drop(&mut self) {
        LIVE_BYTES.fetch_sub(self.0.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engineio::{append_payload, split_payload, without_binary};
    use crate::websocket::write_frame;

    #[test]
    fn a_polling_body_has_the_packets_without_headers() {
        let long = "x".repeat(70_000);
        let mut wire = Vec::new();
        for (opcode, payload) in [
            (Opcode::Text, &b"451-[\"e\",{\"_placeholder\":true,\"num\":0}]"[..]),
            (Opcode::Binary, &[1, 2, 3, 4]),
            (Opcode::Ping, b"not a message"),
            (Opcode::Text, long.as_bytes()),
            (Opcode::Text, &long.as_bytes()[..300]),
        ] {
            write_frame(opcode, payload, &mut wire);
        }
        let frame = Frame::from_wire(wire);
        let mut body = String::new();
        append_payload(&frame, &mut body);
        append_payload(&Frame::text(|out| out.push(b'2')), &mut body);
        let packets: Vec<&str> = split_payload(&body).collect();
        assert_eq!(
            packets,
            ["451-[\"e\",{\"_placeholder\":true,\"num\":0}]", "bAQIDBA==", &long, &long[..300], "2"]
        );
        let texts: Vec<String> = without_binary(&frame)
            .parts()
            .map(|part| match part {
                Payload::Text(text) => text.to_owned(),
                Payload::Binary(_) => panic!("binary"),
            })
            .collect();
        assert_eq!(texts, packets[..4]);
    }
}
