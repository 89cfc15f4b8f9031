//! What a plain client's frames ask.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::command::{Command, Payload, Refusal, RefusalCode, ReplyTo};
use crate::json::{self, Arguments};
use crate::name::{NamespaceId, check_room};
use crate::publication::{check_event_name, room_name};

/// Longest `id` of a frame, in bytes of JSON.
const MAX_ID: usize = 64;

/// The state of one connection: none yet.
#[derive(Debug, Default)]
pub struct Machine {}

/// A frame that is not carried out. The connection stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Where to say so, where the frame had a readable id; otherwise in an error frame.
    pub reply: Option<ReplyTo>,
    pub refusal: Refusal,
}

/// A client's frame. Every field is looked at by itself, so that an answer can carry the id of a frame
/// whose other fields are wrong.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, rename = "type", default, deserialize_with = "json::present")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    room: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    event: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    args: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "json::present")]
    binary: Option<&'a RawValue>,
}

impl Machine {
    /// Takes one WebSocket message and appends what it asks.
    pub fn receive(&mut self, payload: Payload<'_>, out: &mut Vec<Command>) -> Result<(), Rejected> {
        let unread = |message: String| Rejected { reply: None, refusal: bad_request(message) };
        let Payload::Text(text) = payload else {
            return Err(unread("binary frames mean nothing here; send JSON text".to_owned()));
        };
        let mended = json::mend(text);
        let text = mended.as_deref().unwrap_or(text);
        // serde takes arrays for structs, too.
        if !text.trim_start().starts_with('{') {
            return Err(unread("a frame is a JSON object with a \"type\"".to_owned()));
        }
        let fields: Fields<'_> =
            serde_json::from_str(text).map_err(|error| unread(format!("not a frame: {error}")))?;
        let reply = reply_to(fields.id).map_err(unread)?;
        match command(&fields, reply.clone()) {
            Ok(command) => {
                out.push(command);
                Ok(())
            }
            Err(message) => Err(Rejected { reply, refusal: bad_request(message) }),
        }
    }
}

fn bad_request(message: String) -> Refusal {
    Refusal::new(RefusalCode::BadRequest, message)
}

fn reply_to(id: Option<&RawValue>) -> Result<Option<ReplyTo>, String> {
    let Some(id) = id.map(RawValue::get) else { return Ok(None) };
    let scalar = id.starts_with(|first: char| matches!(first, '"' | '-' | '0'..='9'));
    if !scalar || id.len() > MAX_ID {
        return Err(format!("id is not a number or a string of at most {MAX_ID} bytes"));
    }
    Ok(Some(ReplyTo::Plain { id: id.into() }))
}

fn command(fields: &Fields<'_>, reply: Option<ReplyTo>) -> Result<Command, String> {
    let kind = fields.kind.ok_or("the frame has no \"type\"")?;
    match string(kind).ok_or("type is not a string")?.as_str() {
        "join" => Ok(Command::JoinRoom { room: room(fields)?, reply }),
        "leave" => Ok(Command::LeaveRoom { room: room(fields)?, reply }),
        "event" => event(fields, reply),
        "ping" => Ok(Command::Ping { reply }),
        "pong" => Ok(Command::Pong),
        known @ ("presence" | "history" | "auth") => Err(format!("\"{known}\" is not available")),
        _ => Err("unknown type; send join, leave, event, ping or pong".to_owned()),
    }
}

fn room(fields: &Fields<'_>) -> Result<Box<str>, String> {
    let raw = fields.room.ok_or("room is missing")?;
    let room = room_name(raw.get()).ok_or("room is not a string or an integer")?;
    check_room(&room).map_err(|error| format!("room: {error}"))?;
    Ok(room.into())
}

fn event(fields: &Fields<'_>, reply: Option<ReplyTo>) -> Result<Command, String> {
    let room = Some(room(fields)?);
    let name = string(fields.event.ok_or("event is missing")?).ok_or("event is not a string")?;
    check_event_name(&name).map_err(|error| error.to_string())?;
    let binary = match fields.binary.map(RawValue::get) {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err("binary is not true or false".to_owned()),
    };
    let arguments = match (fields.data, fields.args) {
        (None, None) => Arguments::None,
        (Some(data), None) => Arguments::One(data.get()),
        (None, Some(args)) => Arguments::Many(args.get()),
        (Some(_), Some(_)) => return Err("data and args together; send one of them".to_owned()),
    };
    let data = json::event(&name, arguments, binary).map_err(|error| error.to_string())?;
    Ok(Command::Event { namespace: NamespaceId::MAIN, room, data, reply })
}

fn string(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}
