//! Answers, byte for byte what the asker's own kind would send.

use fanfare_protocol::json::{Bins, from_msgpack, write_str};
use fanfare_protocol::msgpack::{self, Token, read, skip};

use super::requests::{BROADCAST_ACK, BROADCAST_CLIENT_COUNT, SERVER_SIDE_EMIT, SOCKETS};
use crate::request::AskedBy;
use crate::{Answer, Asker, SessionView};

/// The payload of an answer; `None` where this kind of asker does not wait for it.
pub(crate) fn answer_of(asker: &Asker, answer: &Answer) -> Option<Vec<u8>> {
    match &asker.0 {
        AskedBy::Adapter { request, kind, .. } => Some(for_adapter(request, *kind, answer)),
        AskedBy::Python { host, room, namespace, id } => match answer {
            Answer::Acknowledged(args) => Some(for_python([host, room, namespace], *id, args)),
            _ => None,
        },
    }
}

/// What `@socket.io/redis-adapter` waits for: JSON, but for acknowledgements.
fn for_adapter(request: &str, kind: u64, answer: &Answer) -> Vec<u8> {
    if let Answer::Acknowledged(args) = answer {
        return acknowledgement(request, args);
    }
    let mut out = Vec::new();
    match answer {
        Answer::Emitted(_) => open_typed(SERVER_SIDE_EMIT, request, &mut out),
        Answer::Reached(_) => open_typed(BROADCAST_CLIENT_COUNT, request, &mut out),
        _ => {
            out.extend_from_slice(b"{\"requestId\":");
            write_str(request, &mut out);
        }
    }
    match answer {
        Answer::Sessions(sessions) if kind == SOCKETS => {
            out.extend_from_slice(b",\"sockets\":");
            list(sessions, &mut out, |session, out| write_str(&session.sid, out));
        }
        Answer::Sessions(sessions) => {
            out.extend_from_slice(b",\"sockets\":");
            list(sessions, &mut out, socket);
        }
        Answer::Rooms(rooms) => {
            out.extend_from_slice(b",\"rooms\":");
            list(rooms, &mut out, |room, out| write_str(room, out));
        }
        Answer::Emitted(value) => {
            out.extend_from_slice(b",\"data\":");
            json(value, &mut out);
        }
        Answer::Reached(sessions) => {
            out.extend_from_slice(format!(",\"clientCount\":{sessions}").as_bytes());
        }
        Answer::Acknowledged(_) | Answer::Done => {}
    }
    out.push(b'}');
    out
}

/// What python-socketio's managers wait for, each on the channel of all; binary as base64, for which they have no form.
fn for_python([host, room, namespace]: [&str; 3], id: u64, args: &[u8]) -> Vec<u8> {
    let mut out = b"{\"method\":\"callback\"".to_vec();
    for (key, value) in [("host_id", host), ("sid", room), ("namespace", namespace)] {
        out.extend_from_slice(format!(",\"{key}\":").as_bytes());
        write_str(value, &mut out);
    }
    out.extend_from_slice(format!(",\"id\":{id},\"args\":").as_bytes());
    json(args, &mut out);
    out.push(b'}');
    out
}

fn open_typed(kind: u64, request: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{{\"type\":{kind},\"requestId\":").as_bytes());
    write_str(request, out);
}

/// `{type, requestId, packet}`, where `packet` is the first argument: Node takes no more of them, and leaves it out
/// where there is none.
fn acknowledgement(request: &str, args: &[u8]) -> Vec<u8> {
    let first = first_of(args);
    let mut out = Vec::with_capacity(args.len() + request.len() + 32);
    msgpack::write_map_len(if first.is_some() { 3 } else { 2 }, &mut out);
    msgpack::write_str("type", &mut out);
    msgpack::write_uint(BROADCAST_ACK, &mut out);
    msgpack::write_str("requestId", &mut out);
    msgpack::write_str(request, &mut out);
    if let Some(first) = first {
        msgpack::write_str("packet", &mut out);
        out.extend_from_slice(first);
    }
    out
}

fn first_of(args: &[u8]) -> Option<&[u8]> {
    let mut rest = args;
    match read(&mut rest) {
        Ok(Token::Array(1..)) => rest.get(..skip(rest).ok()?),
        _ => None,
    }
}

/// A session as Node's `RemoteSocket` reads it. What a handshake has beside it is not kept by nodes.
fn socket(session: &SessionView, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"id\":");
    write_str(&session.sid, out);
    out.extend_from_slice(b",\"handshake\":{\"headers\":{},\"time\":");
    date(session.since_ms, out);
    out.extend_from_slice(b",\"address\":");
    write_str(&session.address, out);
    let issued = session.since_ms;
    out.extend_from_slice(format!(",\"xdomain\":false,\"secure\":false,\"issued\":{issued}").as_bytes());
    out.extend_from_slice(b",\"url\":\"\",\"query\":{},\"auth\":{}},\"rooms\":");
    list(&session.rooms, out, |room, out| write_str(room, out));
    out.extend_from_slice(b",\"data\":{}}");
}

/// An ISO date. Node writes `Date`'s own text, which is as free.
fn date(since_ms: u64, out: &mut Vec<u8>) {
    let (seconds, nanos) = (since_ms / 1_000, since_ms % 1_000 * 1_000_000);
    // MessagePack's timestamp of 8 bytes: 30 bits of nanoseconds, 34 of seconds.
    let stamp = (nanos << 34 | seconds & 0x3_ffff_ffff).to_be_bytes();
    json(&[&[0xd7, 0xff], &stamp[..]].concat(), out);
}

/// A MessagePack value as JSON, with binary as base64. One that is damaged is null.
fn json(value: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let mut any_binary = false;
    if from_msgpack(value, out, Bins::Base64(&mut any_binary)).is_err() {
        out.truncate(start);
        out.extend_from_slice(b"null");
    }
}

fn list<T>(items: &[T], out: &mut Vec<u8>, mut write: impl FnMut(&T, &mut Vec<u8>)) {
    out.push(b'[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(b']');
}
