use std::borrow::Cow;

use fanfare_protocol::Publication;
use fanfare_protocol::msgpack::{self, MsgpackError, Token, read, skip};
use fanfare_protocol::publication::{EventNameError, Rooms, check_event_name};

use super::SENT_AT;
use crate::Malformed;
use crate::foreign::json_to_msgpack;

/// Packet types of events: 2, and 5 where an old emitter sent binary.
const EVENTS: [u64; 2] = [2, 5];
/// Most rooms that one publication names; each takes 24 bytes here and may take one on the wire.
const MAX_ROOMS: usize = 65_536;

/// Reads an envelope that came on a channel of `namespace`. The result borrows from `payload`.
///
/// As tolerant as emitters need: rooms, flags and except may be absent, nil or "", a room may be an integer,
/// the namespace may be absent, elements and keys that nobody knows are skipped. An event whose name
/// Socket.IO keeps for itself is refused, since clients break on it. Emitters whose `parser` option writes JSON
/// are read, too. A publisher that sends one copy to each room's channel, all of which name all rooms, is taken at its
/// word: members of several rooms get several, as from Node. So is an empty list of rooms on a room's channel:
/// everyone in the namespace, on the nodes that have the room.
pub fn decode<'a>(payload: &'a [u8], namespace: &str, max: usize) -> Result<Publication<'a>, Malformed> {
    if payload.len() > max {
        return Err(Malformed::TooLarge);
    }
    // As MessagePack it would be a number.
    if payload.first() == Some(&b'[') {
        let payload = json_to_msgpack(payload)?;
        return read_envelope(&payload, namespace).map(unbound);
    }
    read_envelope(payload, namespace)
}

/// [`Publication::into_owned`] for any lifetime: rooms in a `SmallVec` do not let it shrink by itself.
fn unbound<'a>(publication: Publication<'_>) -> Publication<'a> {
    let Publication { namespace, rooms, except, volatile, data, sent_at, ack } = publication.into_owned();
    let names = |rooms: Rooms<'static>| rooms.into_iter().map(|room| Cow::Owned(room.into_owned())).collect();
    let (rooms, except) = (names(rooms), names(except));
    Publication { namespace, rooms, except, volatile, data, sent_at, ack }
}

fn read_envelope<'a>(payload: &'a [u8], namespace: &str) -> Result<Publication<'a>, Malformed> {
    let mut rest = payload;
    let Token::Array(elements @ 3..=16) = next(&mut rest)? else { return Err(Malformed::Shape) };
    skip_value(&mut rest)?;
    let packet = Packet::read(&mut rest)?;
    let opts = Opts::read(&mut rest)?;
    let mut sent_at = None;
    for element in 3..elements {
        if element == 3 {
            sent_at = read_sent_at(&mut rest)?;
        } else {
            skip_value(&mut rest)?;
        }
    }
    if !rest.is_empty() {
        return Err(Malformed::Shape);
    }
    if packet.namespace != namespace {
        return Err(Malformed::WrongNamespace);
    }
    Ok(Publication {
        namespace: Cow::Borrowed(packet.namespace),
        rooms: opts.rooms,
        except: opts.except,
        volatile: opts.volatile,
        data: Cow::Borrowed(packet.data),
        sent_at,
        ack: packet.id,
    })
}

/// `{type, data, nsp, id}`.
pub(crate) struct Packet<'a> {
    pub(crate) namespace: &'a str,
    /// The event's array, of which [`msgpack::check_event`] holds.
    pub(crate) data: &'a [u8],
    /// What receivers are to acknowledge it with: seldom, but Node passes it on.
    pub(crate) id: Option<u64>,
}

impl<'a> Packet<'a> {
    pub(crate) fn read(rest: &mut &'a [u8]) -> Result<Self, Malformed> {
        let Token::Map(pairs) = next(rest)? else { return Err(Malformed::Shape) };
        let (mut is_event, mut data, mut namespace, mut id) = (false, None, "/", None);
        for _ in 0..pairs {
            match key(rest)? {
                b"type" => is_event = matches!(next(rest)?, Token::Unsigned(kind) if EVENTS.contains(&kind)),
                b"data" => data = Some(msgpack::take_event(rest).map_err(malformed)?),
                b"nsp" => namespace = read_namespace(rest)?,
                b"id" => id = unsigned(take_value(rest)?),
                _ => skip_value(rest)?,
            }
        }
        let Some(data) = data.filter(|_| is_event) else { return Err(Malformed::Shape) };
        check_name(data)?;
        Ok(Self { namespace, data, id })
    }
}

/// Absent, nil, notepack's `undefined` and "" are the main namespace.
fn read_namespace<'a>(rest: &mut &'a [u8]) -> Result<&'a str, Malformed> {
    match next(rest)? {
        Token::Nil | Token::Ext(..) | Token::Str([]) => Ok("/"),
        Token::Str(name) => utf8(name),
        _ => Err(Malformed::Shape),
    }
}

/// `{rooms, flags, except}`.
#[derive(Default)]
pub(crate) struct Opts<'a> {
    pub(crate) rooms: Rooms<'a>,
    pub(crate) except: Rooms<'a>,
    pub(crate) volatile: bool,
    /// How long a server waits for acknowledgements.
    pub(crate) timeout_ms: Option<u64>,
}

impl<'a> Opts<'a> {
    pub(crate) fn read(rest: &mut &'a [u8]) -> Result<Self, Malformed> {
        let mut opts = Self::default();
        let pairs = match next(rest)? {
            Token::Map(pairs) => pairs,
            Token::Nil | Token::Ext(..) => return Ok(opts),
            _ => return Err(Malformed::Shape),
        };
        for _ in 0..pairs {
            match key(rest)? {
                b"rooms" => opts.rooms = read_rooms(rest)?,
                b"except" => opts.except = read_rooms(rest)?,
                b"flags" => (opts.volatile, opts.timeout_ms) = read_flags(rest)?,
                _ => skip_value(rest)?,
            }
        }
        Ok(opts)
    }
}

/// An array of names; absent ones are an empty list, one bare name is a list of one.
pub(crate) fn read_rooms<'a>(rest: &mut &'a [u8]) -> Result<Rooms<'a>, Malformed> {
    let mut rooms = Rooms::new();
    match next(rest)? {
        Token::Nil | Token::Ext(..) | Token::Str([]) => {}
        Token::Array(len) => {
            for _ in 0..len {
                let token = next(rest)?;
                if rooms.len() == MAX_ROOMS {
                    return Err(Malformed::TooLarge);
                }
                rooms.push(room(token)?);
            }
        }
        single => rooms.push(room(single)?),
    }
    Ok(rooms)
}

fn room(token: Token<'_>) -> Result<Cow<'_, str>, Malformed> {
    match token {
        Token::Str(name) => utf8(name).map(Cow::Borrowed),
        Token::Unsigned(number) => Ok(Cow::Owned(number.to_string())),
        Token::Signed(number) => Ok(Cow::Owned(number.to_string())),
        _ => Err(Malformed::Shape),
    }
}

/// Whether it is volatile, and its time-out.
fn read_flags(rest: &mut &[u8]) -> Result<(bool, Option<u64>), Malformed> {
    let pairs = match next(rest)? {
        Token::Map(pairs) => pairs,
        Token::Nil | Token::Ext(..) | Token::Str([]) | Token::Array(0) => return Ok((false, None)),
        _ => return Err(Malformed::Shape),
    };
    let (mut volatile, mut timeout_ms) = (false, None);
    for _ in 0..pairs {
        match key(rest)? {
            b"volatile" => volatile = take_value(rest)? == [0xc3],
            b"timeout" => timeout_ms = unsigned(take_value(rest)?),
            _ => skip_value(rest)?,
        }
    }
    Ok((volatile, timeout_ms))
}

/// A whole number that is not negative; `None` for everything else.
pub(crate) fn unsigned(mut raw: &[u8]) -> Option<u64> {
    match read(&mut raw) {
        Ok(Token::Unsigned(number)) => Some(number),
        _ => None,
    }
}

/// fanfare's own map; anything else there is somebody else's and skipped.
fn read_sent_at(rest: &mut &[u8]) -> Result<Option<u64>, Malformed> {
    let value = take_value(rest)?;
    let mut inner = value;
    let Token::Map(pairs) = next(&mut inner)? else { return Ok(None) };
    let mut sent_at = None;
    for _ in 0..pairs {
        let key = take_value(&mut inner)?;
        let value = take_value(&mut inner)?;
        if let Ok(Token::Str(name)) = read(&mut { key })
            && name == SENT_AT.as_bytes()
            && let Ok(Token::Unsigned(micros)) = read(&mut { value })
        {
            sent_at = Some(micros);
        }
    }
    Ok(sent_at)
}

pub(crate) fn check_name(event: &[u8]) -> Result<(), Malformed> {
    let mut rest = event;
    next(&mut rest)?;
    if let Token::Str(name) = next(&mut rest)?
        && check_event_name(utf8(name)?) == Err(EventNameError::Reserved)
    {
        return Err(Malformed::Shape);
    }
    Ok(())
}

pub(crate) fn key<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    match next(rest)? {
        Token::Str(name) => Ok(name),
        _ => Err(Malformed::Shape),
    }
}

pub(crate) fn next<'a>(rest: &mut &'a [u8]) -> Result<Token<'a>, Malformed> {
    read(rest).map_err(malformed)
}

pub(crate) fn take_value<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let len = skip(rest).map_err(malformed)?;
    let (value, tail) = rest.split_at(len);
    *rest = tail;
    Ok(value)
}

pub(crate) fn skip_value(rest: &mut &[u8]) -> Result<(), Malformed> {
    take_value(rest).map(drop)
}

pub(crate) fn utf8(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed::Shape)
}

pub(crate) fn malformed(error: MsgpackError) -> Malformed {
    match error {
        MsgpackError::TooDeep => Malformed::TooDeep,
        _ => Malformed::Shape,
    }
}
