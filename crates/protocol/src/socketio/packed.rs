//! The form that Socket.IO packets have with the msgpack parser (`socket.io-msgpack-parser` 3): each is one
//! binary message, a map of `type`, `data`, `nsp` and `id`, without attachments.

use std::borrow::Cow;

use super::notepack::{is_undefined, to_parser};
use super::{Kind, Outgoing};
use crate::encoding::EncodeError;
use crate::frame::Frame;
use crate::msgpack::{Token, read, skip, write_map_len, write_str, write_uint};
use crate::websocket::{self, Opcode};

/// A packet's parts. Of the data nothing is checked but that it is one value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    pub(super) kind: Kind,
    pub(super) namespace: Cow<'a, str>,
    pub(super) id: Option<u64>,
    pub(super) data: Option<&'a [u8]>,
}

/// The packet in a binary Engine.IO message, or `None` where it has not the form of one. Where a key is
/// repeated, the last one counts; keys of no meaning (clients send `options`) are passed by.
pub(super) fn parse(bytes: &[u8]) -> Option<Packet<'_>> {
    let mut rest = bytes;
    let Token::Map(pairs) = read(&mut rest).ok()? else { return None };
    let (mut kind, mut namespace, mut id, mut data) = (None, None, None, None);
    for _ in 0..pairs {
        let (mut key, tail) = rest.split_at(skip(rest).ok()?);
        let (value, tail) = tail.split_at(skip(tail).ok()?);
        rest = tail;
        let token = read(&mut { value }).ok()?;
        let given = !is_undefined(&token);
        match read(&mut key).ok()? {
            Token::Str(b"type") => kind = Some(token),
            Token::Str(b"nsp") => namespace = Some(token),
            Token::Str(b"id") => id = given.then_some(token),
            Token::Str(b"data") => data = given.then_some(value),
            _ => {}
        }
    }
    let Some(Token::Str(namespace)) = namespace else { return None };
    if !rest.is_empty() {
        return None;
    }
    let kind = match integer(&kind?)?? {
        0 => Kind::Connect,
        1 => Kind::Disconnect,
        2 => Kind::Event,
        3 => Kind::Ack,
        4 => Kind::ConnectError,
        _ => return None,
    };
    let id = id.map_or(Some(None), |id| integer(&id))?;
    Some(Packet { kind, namespace: String::from_utf8_lossy(namespace), id, data })
}

/// Largest float below which every integer has one (2^53), as a float.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// `None` for what is no integer to JavaScript, `Some(None)` for one that is no id of anything: negative, or a
/// float beyond exactness.
fn integer(token: &Token<'_>) -> Option<Option<u64>> {
    match *token {
        Token::Unsigned(value) => Some(Some(value)),
        Token::Signed(value) => Some(value.try_into().ok()),
        // Within the range of exact integers, the cast is exact.
        Token::Float(value) if value.fract() == 0.0 => {
            Some((0.0..=EXACT).contains(&value).then_some(value as u64))
        }
        _ => None,
    }
}

/// The packet as one binary message, its keys in the order in which the reference writes them.
pub(super) fn write(packet: &Outgoing<'_>) -> Result<Frame, EncodeError> {
    let data = packet.data.unwrap_or_default();
    let mut wire = Vec::with_capacity(data.len() + packet.namespace.len() + 48);
    let frame = websocket::begin_frame(&mut wire);
    let out = &mut wire;
    let pairs = 2 + usize::from(packet.id.is_some()) + usize::from(packet.data.is_some());
    write_map_len(pairs, out);
    if packet.kind == Kind::Ack {
        write_id(packet.id, out);
    }
    write_str("type", out);
    write_uint(packet.kind as u64, out);
    if packet.namespace_first {
        write_namespace(packet.namespace, out);
    }
    if let Some(data) = packet.data {
        write_str("data", out);
        to_parser(data, out)?;
    }
    if !packet.namespace_first {
        write_namespace(packet.namespace, out);
    }
    if packet.kind != Kind::Ack {
        write_id(packet.id, out);
    }
    websocket::finish_frame(&mut wire, frame, Opcode::Binary);
    Ok(Frame::from_wire(wire))
}

fn write_namespace(namespace: &str, out: &mut Vec<u8>) {
    write_str("nsp", out);
    write_str(namespace, out);
}

fn write_id(id: Option<u64>, out: &mut Vec<u8>) {
    if let Some(id) = id {
        write_str("id", out);
        write_uint(id, out);
    }
}
