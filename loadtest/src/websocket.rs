//! The generator's half of RFC 6455: the least that reads servers' frames and writes short ones.

/// Frames longer than this are a fault of the server under test: nothing here sends as much.
const MAX_PAYLOAD: u64 = 16 << 20;
/// The example key of RFC 6455 §1.3; a constant, since nothing here caches.
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The answer to [`KEY`].
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// RFC 6455 §5.2 opcodes that occur here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opcode {
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

/// One whole frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) opcode: Opcode,
    pub(crate) payload: &'a [u8],
    /// Bytes of the whole frame, header included.
    pub(crate) length: usize,
}

/// Why the bytes are no frame of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameError {
    Masked,
    Fragmented,
    Reserved,
    TooLong,
}

/// The frame at the start of `bytes`; `None` while it is incomplete.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Frame<'_>>, FrameError> {
    let [first, second, ..] = *bytes else { return Ok(None) };
    if second & 0x80 != 0 {
        return Err(FrameError::Masked);
    }
    let opcode = match first {
        0x81 => Opcode::Text,
        0x82 => Opcode::Binary,
        0x88 => Opcode::Close,
        0x89 => Opcode::Ping,
        0x8a => Opcode::Pong,
        0x00..=0x0f | 0x80 => return Err(FrameError::Fragmented),
        _ => return Err(FrameError::Reserved),
    };
    let (header, length) = match second {
        126 => match bytes.get(2..4) {
            Some(&[high, low]) => (4, u64::from(u16::from_be_bytes([high, low]))),
            _ => return Ok(None),
        },
        127 => match bytes.get(2..10).and_then(|field| field.try_into().ok()) {
            Some(field) => (10, u64::from_be_bytes(field)),
            None => return Ok(None),
        },
        length => (2, u64::from(length)),
    };
    if length > MAX_PAYLOAD {
        return Err(FrameError::TooLong);
    }
    let end = header + length as usize;
    Ok(bytes.get(header..end).map(|payload| Frame { opcode, payload, length: end }))
}

/// Appends a masked frame (§5.3) with the key zero, which leaves the payload as it is.
pub(crate) fn write_masked(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    write_header(opcode, payload.len(), 0x80, out);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(payload);
}

/// Appends a server's frame.
pub(crate) fn write_unmasked(opcode: Opcode, payload: &[u8], out: &mut Vec<u8>) {
    write_header(opcode, payload.len(), 0, out);
    out.extend_from_slice(payload);
}

fn write_header(opcode: Opcode, length: usize, mask: u8, out: &mut Vec<u8>) {
    out.push(match opcode {
        Opcode::Text => 0x81,
        Opcode::Binary => 0x82,
        Opcode::Close => 0x88,
        Opcode::Ping => 0x89,
        Opcode::Pong => 0x8a,
    });
    match length {
        0..=125 => out.push(mask | length as u8),
        126..=0xffff => {
            out.push(mask | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(mask | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_every_length_form_come_back_and_every_cut_is_incomplete() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536] {
            let payload = vec![b'x'; length];
            let mut bytes = Vec::new();
            write_unmasked(Opcode::Text, &payload, &mut bytes);
            let whole = bytes.len();
            for cut in (0..whole.min(16)).chain([whole - 1]) {
                assert_eq!(parse(&bytes[..cut]), Ok(None), "{length} cut at {cut}");
            }
            bytes.extend(b"next");
            let frame = parse(&bytes).unwrap().unwrap();
            assert_eq!((frame.opcode, frame.payload, frame.length), (Opcode::Text, &payload[..], whole));
        }
    }

    #[test]
    fn what_no_server_may_send_is_refused() {
        assert_eq!(parse(&[0x81, 0x80, 0, 0, 0, 0]), Err(FrameError::Masked));
        assert_eq!(parse(&[0x01, 0x01, b'a']), Err(FrameError::Fragmented));
        assert_eq!(parse(&[0x80, 0x01, b'a']), Err(FrameError::Fragmented));
        assert_eq!(parse(&[0xc1, 0x01, b'a']), Err(FrameError::Reserved));
        assert_eq!(parse(&[0x82, 127, 0xff, 0, 0, 0, 0, 0, 0, 0]), Err(FrameError::TooLong));
    }

    #[test]
    fn a_masked_frame_is_a_client_frame_of_rfc_6455() {
        let mut bytes = Vec::new();
        write_masked(Opcode::Text, b"3", &mut bytes);
        assert_eq!(bytes, [0x81, 0x81, 0, 0, 0, 0, b'3']);
    }
}
