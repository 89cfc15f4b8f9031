//! Bytes in, commands or bytes out: the formats and machines through their public face. The packets
//! are those that official packages were seen to send and accept.

mod acknowledgements;
mod foreign;
mod json;
mod link;
mod msgpack;
mod packed;
mod plain;
mod publication;
mod socketio;

use fanfare_protocol::{Frame, Publication};

/// What a frame carries, message by message: text, or binary.
#[derive(Debug, PartialEq, Eq)]
enum Sent {
    Text(String),
    Binary(Vec<u8>),
}

/// Takes a frame apart as a client would (RFC 6455 §5.2, unmasked).
fn sent(frame: &Frame) -> Vec<Sent> {
    let mut rest = frame.bytes();
    let mut all = Vec::new();
    while let [first, second, tail @ ..] = rest {
        let (len, tail) = match second {
            126 => (u16::from_be_bytes([tail[0], tail[1]]).into(), &tail[2..]),
            127 => (u64::from_be_bytes(tail[..8].try_into().unwrap()) as usize, &tail[8..]),
            short => (usize::from(*short), tail),
        };
        let (payload, tail) = tail.split_at(len);
        all.push(match first {
            0x81 => Sent::Text(String::from_utf8(payload.to_vec()).unwrap()),
            0x82 => Sent::Binary(payload.to_vec()),
            other => panic!("unexpected first byte {other:x}"),
        });
        rest = tail;
    }
    assert!(rest.is_empty());
    all
}

/// The text of a frame that carries nothing else.
fn text(frame: &Frame) -> String {
    match sent(frame).as_slice() {
        [Sent::Text(text)] => text.clone(),
        other => panic!("not one text message: {other:?}"),
    }
}

/// The bytes of a frame that carries one binary message.
fn binary(frame: &Frame) -> Vec<u8> {
    match sent(frame).as_slice() {
        [Sent::Binary(bytes)] => bytes.clone(),
        other => panic!("not one binary message: {other:?}"),
    }
}

/// Bytes written as hex, with spaces anywhere.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

/// MessagePack of JSON text.
fn packed(json: &str) -> Vec<u8> {
    let mut out = Vec::new();
    fanfare_protocol::json::to_msgpack(json, &mut out).unwrap();
    out
}

fn publication(namespace: &'static str, data: Vec<u8>) -> Publication<'static> {
    Publication {
        namespace: namespace.into(),
        rooms: Default::default(),
        except: Default::default(),
        volatile: false,
        data: data.into(),
        sent_at: None,
        ack: None,
    }
}
