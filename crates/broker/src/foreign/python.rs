//! python-socketio's managers: one Redis channel for everything, JSON since 5.14.0, pickle before.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fanfare_protocol::Publication;
use fanfare_protocol::json::{self, mend};
use fanfare_protocol::msgpack::{self, Token, read};
use fanfare_protocol::name::{MAX_NAME, check_room};
use fanfare_protocol::publication::{Rooms, check_event_name};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::of_json;
use crate::envelope::decode::malformed;
use crate::request::AskedBy;
use crate::{Asker, Malformed, Request, Target};

/// Binaries that one emit holds at most. socket.io-client takes 10, python's client any number.
const MAX_ATTACHMENTS: usize = 1_000;
/// Rooms or sessions that one emit names at most.
const MAX_NAMES: usize = 65_536;

/// How `data` of an emit is to be read. It does not say so itself: `[1,2]` is two arguments of one, and one of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PythonDialect {
    /// An array of the arguments, since 5.15.1.
    #[default]
    Arguments,
    /// The one argument itself, 5.14.0 to 5.15.0.
    Value,
}

/// What came on python-socketio's channel.
#[derive(Debug, Clone, PartialEq)]
pub enum FromPython {
    Publication(Publication<'static>),
    Request {
        namespace: String,
        request: Request,
    },
    /// Well-formed, and nothing for us: an answer that another server waits for, an emit to no one.
    Nothing,
}

/// Reads what a python-socketio manager published.
pub fn decode_python(payload: &[u8], dialect: PythonDialect, max: usize) -> Result<FromPython, Malformed> {
    if payload.len() > max {
        return Err(Malformed::TooLarge);
    }
    // Every protocol of pickle since 2 begins so; JSON never does.
    if payload.first() == Some(&0x80) {
        return Err(Malformed::Pickle);
    }
    let text = std::str::from_utf8(payload).map_err(|_| Malformed::Shape)?;
    let mended = mend(text);
    let text = mended.as_deref().unwrap_or(text);
    // serde takes arrays for structs, too.
    if !text.trim_start().starts_with('{') {
        return Err(Malformed::Shape);
    }
    let said: Said<'_> = serde_json::from_str(text).map_err(|_| Malformed::Shape)?;
    said.read(dialect)
}

#[derive(Deserialize)]
struct Said<'a> {
    method: Cow<'a, str>,
    namespace: Option<Cow<'a, str>>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(default)]
    binary: Option<bool>,
    #[serde(default)]
    room: Names,
    #[serde(default)]
    skip_sid: Names,
    sid: Option<Name>,
    callback: Option<(Name, Name, u64)>,
    host_id: Option<Name>,
}

/// A room or a session, or several; an integer is its text.
#[derive(Deserialize, Default)]
#[serde(untagged)]
enum Names {
    #[default]
    None,
    One(Name),
    Many(Vec<Option<Name>>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Name {
    Text(String),
    Number(i64),
}

impl Name {
    fn text(self) -> Result<String, Malformed> {
        let text = match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
        };
        if text.len() > MAX_NAME { Err(Malformed::TooLarge) } else { Ok(text) }
    }
}

impl Names {
    /// `None` where nobody is named, which is not the same as an empty list.
    fn rooms(self) -> Result<Option<Rooms<'static>>, Malformed> {
        let names = match self {
            Self::None => return Ok(None),
            Self::One(name) => return Ok(Some(Rooms::from_iter([name.text()?.into()]))),
            Self::Many(names) => names,
        };
        if names.len() > MAX_NAMES {
            return Err(Malformed::TooLarge);
        }
        names.into_iter().flatten().map(|name| Ok(name.text()?.into())).collect::<Result<_, _>>().map(Some)
    }
}

impl Said<'_> {
    fn read(self, dialect: PythonDialect) -> Result<FromPython, Malformed> {
        let namespace = match self.namespace.as_deref() {
            None | Some("") => "/".to_owned(),
            Some(name) if name.len() <= MAX_NAME => name.to_owned(),
            Some(_) => return Err(Malformed::TooLarge),
        };
        let request = match &*self.method {
            "emit" => return self.emit(namespace, dialect),
            "callback" => return Ok(FromPython::Nothing),
            "disconnect" => Request::Disconnect { target: target(one(self.sid)?), close: false, asker: None },
            "enter_room" => {
                let (target, room) = (target(one(self.sid)?), single(self.room)?);
                check_room(&room).map_err(|_| Malformed::Shape)?;
                Request::Join { target, rooms: Rooms::from_iter([room.into()]), asker: None }
            }
            "leave_room" => {
                let (target, room) = (target(one(self.sid)?), single(self.room)?);
                Request::Leave { target, rooms: Rooms::from_iter([room.into()]), asker: None }
            }
            // Everyone in the room leaves it.
            "close_room" => {
                let room = single(self.room)?;
                let rooms = Rooms::from_iter([room.clone().into()]);
                Request::Leave { target: target(room), rooms, asker: None }
            }
            _ => return Err(Malformed::Shape),
        };
        Ok(FromPython::Request { namespace, request })
    }

    fn emit(self, namespace: String, dialect: PythonDialect) -> Result<FromPython, Malformed> {
        let rooms = self.room.rooms()?;
        if rooms.as_ref().is_some_and(|rooms| rooms.is_empty()) {
            return Ok(FromPython::Nothing);
        }
        let data = arguments(self.data, self.binary == Some(true), dialect)?;
        let publication = Publication {
            namespace: Cow::Owned(namespace.clone()),
            rooms: rooms.unwrap_or_default(),
            except: self.skip_sid.rooms()?.unwrap_or_default(),
            volatile: false,
            data: Cow::Owned(event(self.event, &data)?),
            sent_at: None,
            ack: None,
        };
        let Some((room, asked_in, id)) = self.callback else {
            return Ok(FromPython::Publication(publication));
        };
        let asker = Asker(AskedBy::Python {
            host: one(self.host_id)?.into(),
            room: room.text()?.into(),
            namespace: asked_in.text()?.into(),
            id,
        });
        Ok(FromPython::Request {
            namespace,
            request: Request::Broadcast { publication, asker, timeout_ms: None },
        })
    }
}

/// The event `[event, ...arguments]` of a MessagePack array of arguments.
fn event(name: Option<&RawValue>, arguments: &[u8]) -> Result<Vec<u8>, Malformed> {
    let name: Name =
        serde_json::from_str(name.ok_or(Malformed::Shape)?.get()).map_err(|_| Malformed::Shape)?;
    let mut rest = arguments;
    let Ok(Token::Array(count)) = read(&mut rest) else { return Err(Malformed::Shape) };
    let mut out = Vec::with_capacity(arguments.len() + 16);
    msgpack::write_array_len(count as usize + 1, &mut out);
    match name {
        Name::Text(name) => {
            check_event_name(&name).map_err(|_| Malformed::Shape)?;
            msgpack::write_str(&name, &mut out);
        }
        Name::Number(number) => msgpack::write_int(number, &mut out),
    }
    out.extend_from_slice(rest);
    msgpack::check_event(&out).map_err(malformed)?;
    Ok(out)
}

/// The arguments as a MessagePack array. A single None is no argument, as python's servers send it.
fn arguments(data: Option<&RawValue>, binary: bool, dialect: PythonDialect) -> Result<Vec<u8>, Malformed> {
    let json = data.map_or("null", RawValue::get);
    let mut value = Vec::new();
    if binary {
        value = with_attachments(json)?;
    } else {
        json::to_msgpack(json, &mut value).map_err(|error| of_json(&error))?;
    }
    match (dialect, read(&mut &value[..])) {
        (PythonDialect::Arguments, Ok(Token::Array(1))) if value == [0x91, 0xc0] => Ok(vec![0x90]),
        (PythonDialect::Arguments, Ok(Token::Array(_))) => Ok(value),
        (_, Ok(Token::Nil)) => Ok(vec![0x90]),
        _ => {
            value.insert(0, 0x91);
            Ok(value)
        }
    }
}

/// `[value, base64, ...]`, where the value has a placeholder for each binary.
fn with_attachments(json: &str) -> Result<Vec<u8>, Malformed> {
    let mut parts: Vec<&RawValue> = serde_json::from_str(json).map_err(|_| Malformed::Shape)?;
    if parts.is_empty() {
        return Err(Malformed::Shape);
    }
    let value = parts.remove(0);
    if parts.len() > MAX_ATTACHMENTS {
        return Err(Malformed::TooLarge);
    }
    let decode = |part: &&RawValue| {
        let text: Cow<'_, str> = serde_json::from_str(part.get()).ok()?;
        STANDARD.decode(&*text).ok()
    };
    let attachments: Option<Vec<Vec<u8>>> = parts.iter().map(decode).collect();
    let attachments = attachments.ok_or(Malformed::Shape)?;
    let mut out = Vec::new();
    let holes = json::to_msgpack_with_holes(value.get(), attachments.len(), &mut out)
        .map_err(|error| of_json(&error))?;
    let mut filled = Vec::with_capacity(json.len());
    let mut done = 0;
    for hole in holes {
        filled.extend_from_slice(&out[done..hole.at]);
        msgpack::write_bin(&attachments[hole.num], &mut filled);
        done = hole.at + 1;
    }
    filled.extend_from_slice(&out[done..]);
    Ok(filled)
}

fn target(room: String) -> Target {
    Target { rooms: Rooms::from_iter([room.into()]), except: Rooms::new() }
}

fn one(name: Option<Name>) -> Result<String, Malformed> {
    name.ok_or(Malformed::Shape)?.text()
}

fn single(names: Names) -> Result<String, Malformed> {
    match names {
        Names::One(name) => name.text(),
        Names::None | Names::Many(_) => Err(Malformed::Shape),
    }
}

#[cfg(test)]
#[path = "python_tests.rs"]
mod tests;
