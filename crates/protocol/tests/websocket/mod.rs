//! A client's frames, and what a decoder made of them.

use fanfare_protocol::Disconnect;
use fanfare_protocol::websocket::{Decoder, Incoming};

/// What came out of a decoder, in order. `Fails` is always the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    Fails(Disconnect),
}

impl From<Incoming<'_>> for Seen {
    fn from(incoming: Incoming<'_>) -> Self {
        match incoming {
            Incoming::Text(text) => Self::Text(text.to_owned()),
            Incoming::Binary(bytes) => Self::Binary(bytes.to_vec()),
            Incoming::Ping(bytes) => Self::Ping(bytes.to_vec()),
            Incoming::Pong(bytes) => Self::Pong(bytes.to_vec()),
            Incoming::Close { code, reason } => Self::Close(code, reason.to_owned()),
        }
    }
}

/// A frame as a client sends it: its first byte as given, the length in the shortest form, masked.
pub(crate) fn frame(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    // Differs from frame to frame, so that a mask kept from the frame before shows.
    let mask = [0x37, 0xFA, first ^ 0x5A, payload.len() as u8 ^ 0xC3];
    let mut out = vec![first];
    match payload.len() {
        length @ 0..=125 => out.push(0x80 | length as u8),
        length @ 126..=0xFFFF => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

/// Feeds the pieces one after the other, each as one read.
pub(crate) fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, max_message: usize) -> Vec<Seen> {
    let mut decoder = Decoder::default();
    let mut seen = Vec::new();
    for piece in pieces {
        let mut read = piece.to_vec();
        let result = decoder.feed(&mut read, max_message, &mut |incoming| {
            seen.push(Seen::from(incoming));
            Ok(())
        });
        if let Err(reason) = result {
            seen.push(Seen::Fails(reason));
            break;
        }
    }
    seen
}
