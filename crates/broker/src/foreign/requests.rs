//! Requests on `{prefix}-request#{namespace}#`, as `@socket.io/redis-adapter` 6 to 8 and `@socket.io/redis-emitter`
//! write them.

use std::borrow::Cow;

use fanfare_protocol::Publication;
use fanfare_protocol::msgpack::{Token, check_event};
use fanfare_protocol::name::{MAX_NAME, check_room};
use fanfare_protocol::publication::Rooms;

use super::json_to_msgpack;
use crate::envelope::decode::{
    Opts, Packet, key, malformed, next, read_rooms, skip_value, take_value, unsigned, utf8,
};
use crate::request::AskedBy;
use crate::{Asker, Malformed, Request, Target};

pub(super) const SOCKETS: u64 = 0;
pub(super) const ALL_ROOMS: u64 = 1;
pub(super) const REMOTE_JOIN: u64 = 2;
pub(super) const REMOTE_LEAVE: u64 = 3;
pub(super) const REMOTE_DISCONNECT: u64 = 4;
pub(super) const REMOTE_FETCH: u64 = 5;
pub(super) const SERVER_SIDE_EMIT: u64 = 6;
pub(super) const BROADCAST: u64 = 7;
pub(super) const BROADCAST_CLIENT_COUNT: u64 = 8;
pub(super) const BROADCAST_ACK: u64 = 9;

/// Reads a request that came on the request channel of `namespace`: a JSON object, or a MessagePack map of the same.
/// Types that the adapter does not know are refused as it ignores them.
pub fn decode_request(payload: &[u8], namespace: &str, max: usize) -> Result<Request, Malformed> {
    if payload.len() > max {
        return Err(Malformed::TooLarge);
    }
    // As MessagePack it would be a number.
    if payload.first() == Some(&b'{') {
        return Fields::read(&json_to_msgpack(payload)?)?.request(namespace);
    }
    Fields::read(payload)?.request(namespace)
}

/// What a request may say, whatever its type.
#[derive(Default)]
struct Fields<'a> {
    kind: Option<u64>,
    uid: Option<Cow<'a, str>>,
    request: Option<Cow<'a, str>>,
    opts: Option<Opts<'a>>,
    rooms: Rooms<'a>,
    /// A session and a room, where old servers mean one session.
    sid: Option<Cow<'a, str>>,
    room: Option<Cow<'a, str>>,
    close: bool,
    data: Option<&'a [u8]>,
    packet: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn read(payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut rest = payload;
        let Token::Map(pairs) = next(&mut rest)? else { return Err(Malformed::Shape) };
        let mut fields = Self::default();
        for _ in 0..pairs {
            match key(&mut rest)? {
                b"type" => fields.kind = unsigned(take_value(&mut rest)?),
                b"uid" => fields.uid = name(&mut rest)?,
                b"requestId" => fields.request = name(&mut rest)?,
                b"opts" => fields.opts = Some(Opts::read(&mut rest)?),
                b"rooms" => fields.rooms = read_rooms(&mut rest)?,
                b"sid" => fields.sid = name(&mut rest)?,
                b"room" => fields.room = name(&mut rest)?,
                b"close" => fields.close = take_value(&mut rest)? == [0xc3],
                b"data" => fields.data = Some(take_value(&mut rest)?),
                b"packet" => fields.packet = Some(take_value(&mut rest)?),
                _ => skip_value(&mut rest)?,
            }
        }
        if rest.is_empty() { Ok(fields) } else { Err(Malformed::Shape) }
    }

    fn request(mut self, namespace: &str) -> Result<Request, Malformed> {
        let kind = self.kind.ok_or(Malformed::Shape)?;
        let asker = self.asker(namespace, kind);
        let waiting = asker.clone().ok_or(Malformed::Shape);
        Ok(match kind {
            SOCKETS => {
                let target = Target { rooms: owned(self.rooms), except: Rooms::new() };
                Request::Sessions { target, asker: waiting? }
            }
            ALL_ROOMS => Request::Rooms { asker: waiting? },
            REMOTE_JOIN | REMOTE_LEAVE => {
                let one_session = self.opts.is_none();
                let (target, asker) = self.sessions(asker)?;
                let rooms = match self.room.take() {
                    Some(room) if one_session => Rooms::from_iter([Cow::Owned(room.into_owned())]),
                    _ => owned(self.rooms),
                };
                if kind == REMOTE_LEAVE {
                    return Ok(Request::Leave { target, rooms, asker });
                }
                if rooms.iter().any(|room| check_room(room).is_err()) {
                    return Err(Malformed::Shape);
                }
                Request::Join { target, rooms, asker }
            }
            REMOTE_DISCONNECT => {
                let (target, asker) = self.sessions(asker)?;
                Request::Disconnect { target, close: self.close, asker }
            }
            REMOTE_FETCH => {
                let (target, _) = self.sessions(None)?;
                Request::Sessions { target, asker: waiting? }
            }
            SERVER_SIDE_EMIT => {
                let data = self.data.ok_or(Malformed::Shape)?;
                check_event(data).map_err(malformed)?;
                Request::ServerSideEmit { data: data.to_vec(), asker }
            }
            BROADCAST => self.broadcast(namespace, waiting?)?,
            _ => return Err(Malformed::Shape),
        })
    }

    /// The sessions that `opts` names; or the one that `sid` does, whose node then answers.
    fn sessions(&mut self, asker: Option<Asker>) -> Result<(Target, Option<Asker>), Malformed> {
        match (self.opts.take(), self.sid.take()) {
            (Some(opts), _) => Ok((Target { rooms: owned(opts.rooms), except: owned(opts.except) }, None)),
            (None, Some(sid)) => {
                let rooms = Rooms::from_iter([Cow::Owned(sid.into_owned())]);
                Ok((Target { rooms, except: Rooms::new() }, asker))
            }
            (None, None) => Err(Malformed::Shape),
        }
    }

    fn broadcast(self, namespace: &str, asker: Asker) -> Result<Request, Malformed> {
        let opts = self.opts.unwrap_or_default();
        let mut rest = self.packet.ok_or(Malformed::Shape)?;
        let packet = Packet::read(&mut rest)?;
        if packet.namespace != namespace {
            return Err(Malformed::WrongNamespace);
        }
        let publication = Publication {
            namespace: Cow::Borrowed(packet.namespace),
            rooms: opts.rooms,
            except: opts.except,
            volatile: opts.volatile,
            data: Cow::Borrowed(packet.data),
            sent_at: None,
            ack: None,
        };
        Ok(Request::Broadcast { publication: publication.into_owned(), asker, timeout_ms: opts.timeout_ms })
    }

    /// Servers that give their uid (since 7.1) listen to a channel of answers for it, whether or not they answer there
    /// themselves; answers to a `serverSideEmit` they read on the common channel only since they are sent there.
    fn asker(&self, namespace: &str, kind: u64) -> Option<Asker> {
        let uid = self.uid.as_deref().filter(|_| kind != SERVER_SIDE_EMIT);
        Some(Asker(AskedBy::Adapter {
            namespace: namespace.into(),
            uid: uid.map(Box::from),
            request: self.request.as_deref()?.into(),
            kind,
        }))
    }
}

/// A string, or an integer as its text; nothing where it is nil or notepack's `undefined`.
fn name<'a>(rest: &mut &'a [u8]) -> Result<Option<Cow<'a, str>>, Malformed> {
    let name = match next(rest)? {
        Token::Nil | Token::Ext(..) => return Ok(None),
        Token::Str(text) => Cow::Borrowed(utf8(text)?),
        Token::Unsigned(number) => Cow::Owned(number.to_string()),
        Token::Signed(number) => Cow::Owned(number.to_string()),
        _ => return Err(Malformed::Shape),
    };
    if name.len() > MAX_NAME { Err(Malformed::TooLarge) } else { Ok(Some(name)) }
}

pub(super) fn owned(rooms: Rooms<'_>) -> Rooms<'static> {
    rooms.into_iter().map(|room| Cow::Owned(room.into_owned())).collect()
}
