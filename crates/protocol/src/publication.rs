//! One thing sent to the members of rooms.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use smallvec::SmallVec;

use crate::json::{self, Arguments, JsonError};
use crate::name::{MAX_NAME, NameError, check_room};
use crate::socketio::is_reserved;

/// Names of rooms (or of sessions, whose id is a room of its own); one is the usual number.
pub type Rooms<'a> = SmallVec<[Cow<'a, str>; 1]>;

/// One thing sent to the members of rooms, as it travels from the broker to the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication<'a> {
    pub namespace: Cow<'a, str>,
    /// Members of any of these get it, once; empty means everyone in the namespace.
    pub rooms: Rooms<'a>,
    /// Members of any of these do not.
    pub except: Rooms<'a>,
    /// May be dropped for a member whose connection cannot take it now.
    pub volatile: bool,
    /// MessagePack array `[event, ...args]`, checked by [`crate::msgpack::check_event`].
    pub data: Cow<'a, [u8]>,
    /// When the publisher's node handed it to the broker, microseconds of Unix time, where it said so.
    pub sent_at: Option<u64>,
    /// The id with which each receiver is asked for an acknowledgement. Protocols without acknowledgements
    /// do not show it.
    pub ack: Option<u64>,
}

impl Publication<'_> {
    /// A copy that owns everything, for another thread or a later moment.
    pub fn into_owned(self) -> Publication<'static> {
        fn owned(rooms: Rooms<'_>) -> Rooms<'static> {
            rooms.into_iter().map(|room| Cow::Owned(room.into_owned())).collect()
        }
        Publication {
            namespace: Cow::Owned(self.namespace.into_owned()),
            rooms: owned(self.rooms),
            except: owned(self.except),
            volatile: self.volatile,
            data: Cow::Owned(self.data.into_owned()),
            sent_at: self.sent_at,
            ack: self.ack,
        }
    }
}

/// Why JSON is not a publication. The text says what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublicationError {
    /// Correct the JSON or its fields.
    #[error(
        "not a publication: {0}; write \
         {{\"namespace\"?, \"room\" | \"rooms\", \"except\"?, \"event\", \"data\" | \"args\", \"volatile\"?}}"
    )]
    Shape(String),
    /// Say `rooms` for several.
    #[error("\"room\" and \"rooms\" together; write one of them")]
    RoomAndRooms,
    /// Leave `rooms` out to reach everyone in the namespace.
    #[error("\"rooms\" is empty; name a room, or leave it out to reach everyone in the namespace")]
    NoRooms,
    /// Say `args` for several.
    #[error("\"data\" and \"args\" together; write \"data\" for one argument, \"args\" for an array of them")]
    DataAndArgs,
    /// Shorten or complete the name.
    #[error("the {field} is no name: {error}")]
    Name { field: &'static str, error: NameError },
    /// Choose another event name.
    #[error("{0}")]
    Event(#[from] EventNameError),
    /// Nest at most [`crate::msgpack::MAX_DEPTH`] arrays and objects, the event's own array included.
    #[error("the arguments are nested deeper than {MAX_DEPTH} levels; flatten them", MAX_DEPTH = crate::msgpack::MAX_DEPTH)]
    TooDeep,
    /// Correct the arguments.
    #[error("the event's arguments: {0}")]
    Arguments(JsonError),
}

/// Why an event name was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EventNameError {
    /// Name the event.
    #[error("the event name is empty; write 1 to {MAX_NAME} bytes")]
    Empty,
    /// Shorten the name.
    #[error("the event name is longer than {MAX_NAME} bytes; write a shorter one")]
    TooLong,
    /// Choose another name.
    #[error("the event name is reserved by Socket.IO; write another name")]
    Reserved,
}

/// Checks the name of an event that is to be published: 1 to [`MAX_NAME`] bytes, and not one that
/// Socket.IO keeps for itself.
pub fn check_event_name(name: &str) -> Result<(), EventNameError> {
    if name.is_empty() {
        return Err(EventNameError::Empty);
    }
    if name.len() > MAX_NAME {
        return Err(EventNameError::TooLong);
    }
    if is_reserved(name) {
        return Err(EventNameError::Reserved);
    }
    Ok(())
}

/// The publication behind `{"namespace"?: "/x", "room"?: "r" | "rooms"?: [..], "except"?: "r" | [..],
/// "event": "e", "data"? | "args"?: [..], "volatile"?: bool}`. The namespace is `/` where none is given
/// and gains its slash where it has none; rooms that are integers become their decimal text.
pub fn from_json(text: &[u8]) -> Result<Publication<'static>, PublicationError> {
    let shape = |reason: String| PublicationError::Shape(reason);
    let text = std::str::from_utf8(text).map_err(|_| shape("not UTF-8".to_owned()))?;
    let mended = crate::json::mend(text);
    let text = mended.as_deref().unwrap_or(text);
    // serde takes arrays for structs, too.
    if !text.trim_start().starts_with('{') {
        return Err(shape("not an object".to_owned()));
    }
    let fields: Fields<'_> = serde_json::from_str(text).map_err(|error| shape(error.to_string()))?;
    let rooms = match (fields.room, fields.rooms) {
        (None, None) => Rooms::new(),
        (Some(room), None) => Rooms::from_iter([named("room", room)?]),
        (None, Some(rooms)) => rooms_of("room", rooms)?,
        (Some(_), Some(_)) => return Err(PublicationError::RoomAndRooms),
    };
    if fields.rooms.is_some() && rooms.is_empty() {
        return Err(PublicationError::NoRooms);
    }
    let except = match fields.except {
        None => Rooms::new(),
        Some(list) if list.get().starts_with('[') => rooms_of("except room", list)?,
        Some(room) => Rooms::from_iter([named("except room", room)?]),
    };
    check_event_name(&fields.event)?;
    let arguments = match (fields.data, fields.args) {
        (None, None) => Arguments::None,
        (Some(data), None) => Arguments::One(data.get()),
        (None, Some(args)) => Arguments::Many(args.get()),
        (Some(_), Some(_)) => return Err(PublicationError::DataAndArgs),
    };
    let data = json::event(&fields.event, arguments, false).map_err(|error| match error {
        JsonError::TooDeep => PublicationError::TooDeep,
        other => PublicationError::Arguments(other),
    })?;
    let namespace = namespace(fields.namespace)?;
    let volatile = fields.volatile;
    Ok(Publication { namespace, rooms, except, volatile, data: Cow::Owned(data), sent_at: None, ack: None })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    namespace: Option<String>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    room: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    rooms: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    except: Option<&'a RawValue>,
    event: String,
    #[serde(borrow, default, deserialize_with = "json::present")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    args: Option<&'a RawValue>,
    #[serde(default)]
    volatile: bool,
}

fn namespace(given: Option<String>) -> Result<Cow<'static, str>, PublicationError> {
    let name = match given {
        None => return Ok(Cow::Borrowed("/")),
        Some(name) if name.starts_with('/') => name,
        Some(name) => format!("/{name}"),
    };
    match check_room(&name) {
        Ok(()) => Ok(Cow::Owned(name)),
        Err(error) => Err(PublicationError::Name { field: "namespace", error }),
    }
}

fn rooms_of(field: &'static str, raw: &RawValue) -> Result<Rooms<'static>, PublicationError> {
    let rooms: Vec<&RawValue> = serde_json::from_str(raw.get())
        .map_err(|_| PublicationError::Shape(format!("a list of {field}s is not an array")))?;
    rooms.into_iter().map(|room| named(field, room)).collect()
}

fn named(field: &'static str, raw: &RawValue) -> Result<Cow<'static, str>, PublicationError> {
    let name = room_name(raw.get())
        .ok_or_else(|| PublicationError::Shape(format!("a {field} is not a string or an integer")))?;
    match check_room(&name) {
        Ok(()) => Ok(Cow::Owned(name)),
        Err(error) => Err(PublicationError::Name { field, error }),
    }
}

/// The room behind a JSON string or integer.
pub(crate) fn room_name(json: &str) -> Option<String> {
    if json.starts_with('"') {
        return serde_json::from_str(json).ok();
    }
    serde_json::from_str(json).ok().map(|number: i64| number.to_string())
}
