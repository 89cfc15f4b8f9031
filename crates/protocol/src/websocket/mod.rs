//! The server's side of WebSocket (RFC 6455) without I/O: bytes in, whole messages out, and frames
//! ready to be written. No extensions: a set RSV bit ends the connection.

pub mod decode;
pub mod encode;

pub use decode::{Decoder, Incoming, MAX_FRAGMENTS};
pub use encode::{FrameStart, begin_frame, finish_frame, write_close, write_frame};

use base64::Engine as _;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::general_purpose::{GeneralPurpose, PAD, STANDARD};
use sha1::{Digest, Sha1};

/// What a whole frame is. Continuations never leave this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Opcode {
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    /// The four bits of RFC 6455 §5.2.
    fn bits(self) -> u8 {
        match self {
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }

    /// Control frames (§5.5) are never fragmented and carry at most [`MAX_CONTROL`] bytes.
    fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// Payload bytes of a control frame at most (§5.5).
const MAX_CONTROL: usize = 125;

/// `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key` (§4.2.2); `None` unless the key is base64 of
/// exactly 16 bytes.
pub fn accept_key(key: &str) -> Option<String> {
    // Unused bits of the last digit may be set: §4.1's own example key has them.
    const KEY: GeneralPurpose = GeneralPurpose::new(&ALPHABET, PAD.with_decode_allow_trailing_bits(true));
    if KEY.decode(key).ok()?.len() != 16 {
        return None;
    }
    let digest = Sha1::new()
        .chain_update(key.as_bytes())
        .chain_update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11")
        .finalize();
    Some(STANDARD.encode(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_key_is_that_of_the_rfc() {
        let accepted = accept_key("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accepted.as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert!(accept_key("AQIDBAUGBwgJCgsMDQ4PEC==").is_some());
    }

    #[test]
    fn a_key_that_is_not_sixteen_bytes_is_refused() {
        let long = "A".repeat(10_000);
        for key in [
            "",
            "AAAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAAAAA=",
            "AAAAAAAAAAAAAAAAAAAAAA",
            " dGhlIHNhbXBsZSBub25jZQ==",
            "dGhlIHNhbXBsZSBub25j_Q==",
            "dGhlIHNhbXBsZSBub25jéQ==",
            &long,
        ] {
            assert_eq!(accept_key(key), None, "{key:.40}");
        }
    }
}
