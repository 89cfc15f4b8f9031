//! What the app answered, checked.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use fanfare_protocol::json;
use fanfare_protocol::msgpack::{self, Token};
use fanfare_protocol::name::check_room;
use fanfare_protocol::publication::{Rooms, check_event_name};

use super::binary;
use crate::config::AppFormat;

/// What is to be done. The empty answer is [`Answer::default`].
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Answer {
    pub(crate) refused: bool,
    /// Why, for the client; `data` is one MessagePack value.
    pub(crate) message: Option<String>,
    pub(crate) data: Option<Box<[u8]>>,
    /// `Some(None)`: nobody any more.
    pub(crate) user: Option<Option<Arc<str>>>,
    pub(crate) join: Vec<Box<str>>,
    pub(crate) leave: Vec<Box<str>>,
    pub(crate) emit: Vec<Emit>,
    /// A MessagePack array of arguments.
    pub(crate) ack: Option<Box<[u8]>>,
    pub(crate) disconnect: Option<End>,
}

/// One event to be sent.
#[derive(Debug, PartialEq)]
pub(crate) struct Emit {
    pub(crate) to: To,
    pub(crate) except: Rooms<'static>,
    /// A MessagePack array `[event, ...args]`.
    pub(crate) data: Vec<u8>,
    pub(crate) volatile: bool,
    pub(crate) ack: Option<AckWish>,
}

/// Who gets an event.
#[derive(Debug, PartialEq)]
pub(crate) enum To {
    /// The one that the call is about.
    Sender,
    /// Everyone else in the namespace.
    Others,
    Everyone,
    Rooms(Rooms<'static>),
}

/// The client is to acknowledge the event, and the app is told with the token.
#[derive(Debug, PartialEq)]
pub(crate) struct AckWish {
    pub(crate) token: Arc<str>,
    pub(crate) timeout: Option<Duration>,
}

/// How a session ends.
#[derive(Debug, PartialEq)]
pub(crate) enum End {
    Session,
    Connection,
}

/// Longest token of an acknowledgement, in bytes.
const MAX_TOKEN: usize = 1_024;

type Result<T> = std::result::Result<T, Cow<'static, str>>;

impl Answer {
    /// Reads a body. What cannot be done of it (a reserved event, a room without a name) is left out and told in
    /// `dropped`; a body that has another shape is an error.
    pub(super) fn read(body: &[u8], format: AppFormat, dropped: &mut Vec<String>) -> Result<Self> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        let converted;
        let raw = match format {
            AppFormat::Msgpack => body,
            AppFormat::Json => {
                let text = std::str::from_utf8(body).map_err(|_| "not UTF-8")?;
                let mut plain = Vec::with_capacity(text.len());
                json::to_msgpack(text, &mut plain).map_err(|error| error.to_string())?;
                converted = binary::read(&plain)?;
                &converted
            }
        };
        if msgpack::skip(raw).map_err(|error| error.to_string())? != raw.len() {
            return Err("bytes behind the answer".into());
        }
        let mut answer = Self::default();
        for_each_field(raw, "the answer", |key, value| {
            match key {
                "ok" => answer.refused = !flag(value, key)?,
                "message" => answer.message = given(value).map(|raw| text(raw, key)).transpose()?,
                "data" => answer.data = given(value).map(Into::into),
                "user" => answer.user = Some(given(value).map(user).transpose()?),
                "join" => answer.join = rooms(value, key, dropped)?.into_iter().map(boxed).collect(),
                "leave" => answer.leave = rooms(value, key, dropped)?.into_iter().map(boxed).collect(),
                "emit" => {
                    for raw in elements(value).ok_or("emit is not an array")? {
                        answer.emit.extend(emit(raw, dropped)?);
                    }
                }
                "ack" => {
                    answer.ack = given(value).map(|raw| array(raw, key)).transpose()?.map(Into::into);
                }
                "disconnect" => answer.disconnect = end(value)?,
                _ => return Err(unknown(key, "ok, message, data, user, join, leave, emit, ack, disconnect")),
            }
            Ok(())
        })?;
        Ok(answer)
    }
}

fn boxed(room: Cow<'static, str>) -> Box<str> {
    room.into_owned().into()
}

fn emit(raw: &[u8], dropped: &mut Vec<String>) -> Result<Option<Emit>> {
    let (mut to, mut event, mut args, mut ack) = (None, None, None, None);
    let (mut except, mut volatile) = (Rooms::new(), false);
    for_each_field(raw, "an entry of emit", |key, value| {
        match key {
            "to" => to = Some(target(value, dropped)?),
            "except" => except = rooms(value, key, dropped)?,
            "event" => event = Some(msgpack::scalar_text(value).ok_or("event is not text")?),
            "args" => args = given(value).map(|raw| array(raw, key)).transpose()?,
            "volatile" => volatile = flag(value, key)?,
            "ack" => ack = given(value).map(wish).transpose()?,
            _ => return Err(unknown(key, "to, except, event, args, volatile, ack")),
        }
        Ok(())
    })?;
    let (Some(to), Some(event)) = (to, event) else {
        return Err("an entry of emit needs \"to\" and \"event\"".into());
    };
    if ack.is_some() && to != To::Sender {
        return Err("only what goes to \"sender\" can have an \"ack\"".into());
    }
    if let Err(error) = check_event_name(&event) {
        dropped.push(format!("emit of `{event}`: {error}"));
        return Ok(None);
    }
    if matches!(&to, To::Rooms(rooms) if rooms.is_empty()) {
        return Ok(None);
    }
    let args: Vec<&[u8]> = args.and_then(elements).unwrap_or_default();
    let data = msgpack::event(&event, &args);
    if let Err(error) = msgpack::check_event(&data) {
        dropped.push(format!("emit of `{event}`: {error}"));
        return Ok(None);
    }
    Ok(Some(Emit { to, except, data, volatile, ack }))
}

fn target(raw: &[u8], dropped: &mut Vec<String>) -> Result<To> {
    Ok(match msgpack::scalar_text(raw).as_deref() {
        Some("sender") => To::Sender,
        Some("others") => To::Others,
        Some("everyone") => To::Everyone,
        _ => To::Rooms(rooms(raw, "to", dropped)?),
    })
}

fn wish(raw: &[u8]) -> Result<AckWish> {
    let (mut token, mut timeout) = (None, None);
    for_each_field(raw, "ack of an emit", |key, value| {
        match key {
            "token" => token = Some(text(value, key)?),
            "timeout_ms" => timeout = Some(Duration::from_millis(number(value, key)?)),
            _ => return Err(unknown(key, "token, timeout_ms")),
        }
        Ok(())
    })?;
    let token = token.ok_or("ack of an emit needs a \"token\"")?;
    if token.len() > MAX_TOKEN {
        return Err(format!("a token has at most {MAX_TOKEN} bytes").into());
    }
    Ok(AckWish { token: token.into(), timeout })
}

fn end(raw: &[u8]) -> Result<Option<End>> {
    match msgpack::read(&mut &raw[..]) {
        Ok(Token::Nil | Token::Bool(false)) => Ok(None),
        Ok(Token::Bool(true)) => Ok(Some(End::Session)),
        Ok(Token::Map(_)) => {
            let mut close = false;
            for_each_field(raw, "disconnect", |key, value| {
                if key != "close" {
                    return Err(unknown(key, "close"));
                }
                close = flag(value, key)?;
                Ok(())
            })?;
            Ok(Some(if close { End::Connection } else { End::Session }))
        }
        _ => Err("disconnect is neither true, false nor an object".into()),
    }
}

/// A room or an array of them. Those without a usable name are left out and told.
fn rooms(raw: &[u8], key: &str, dropped: &mut Vec<String>) -> Result<Rooms<'static>> {
    if given(raw).is_none() {
        return Ok(Rooms::new());
    }
    let one = [raw];
    let all = elements(raw);
    let mut rooms = Rooms::new();
    for raw in all.as_deref().unwrap_or(&one) {
        let room = msgpack::scalar_text(raw).ok_or_else(|| format!("{key} has a room that is not text"))?;
        match check_room(&room) {
            Ok(()) => rooms.push(Cow::Owned(room.into_owned())),
            Err(error) => dropped.push(format!("{key}: {error}")),
        }
    }
    Ok(rooms)
}

fn for_each_field<'a>(
    raw: &'a [u8],
    what: &str,
    mut take: impl FnMut(&str, &'a [u8]) -> Result<()>,
) -> Result<()> {
    let mut rest = raw;
    let Ok(Token::Map(pairs)) = msgpack::read(&mut rest) else {
        return Err(format!("{what} is not an object").into());
    };
    for _ in 0..pairs {
        let (key, tail) = value(rest).ok_or("cut off")?;
        let (value, tail) = value(tail).ok_or("cut off")?;
        let key = msgpack::scalar_text(key).ok_or("a key that is not text")?;
        take(&key, value)?;
        rest = tail;
    }
    Ok(())
}

/// The first value, and what is behind it.
fn value(raw: &[u8]) -> Option<(&[u8], &[u8])> {
    raw.split_at_checked(msgpack::skip(raw).ok()?)
}

fn elements(raw: &[u8]) -> Option<Vec<&[u8]>> {
    let mut rest = raw;
    let Ok(Token::Array(count)) = msgpack::read(&mut rest) else { return None };
    let mut all = Vec::new();
    for _ in 0..count {
        let (element, tail) = value(rest)?;
        all.push(element);
        rest = tail;
    }
    Some(all)
}

/// `None` for null: the same as leaving the field out.
fn given(raw: &[u8]) -> Option<&[u8]> {
    (raw != [0xc0]).then_some(raw)
}

fn array<'a>(raw: &'a [u8], key: &str) -> Result<&'a [u8]> {
    match msgpack::read(&mut &raw[..]) {
        Ok(Token::Array(_)) => Ok(raw),
        _ => Err(format!("{key} is not an array").into()),
    }
}

fn flag(raw: &[u8], key: &str) -> Result<bool> {
    match msgpack::read(&mut &raw[..]) {
        Ok(Token::Bool(value)) => Ok(value),
        _ => Err(format!("{key} is neither true nor false").into()),
    }
}

fn number(raw: &[u8], key: &str) -> Result<u64> {
    match msgpack::read(&mut &raw[..]) {
        Ok(Token::Unsigned(value)) => Ok(value),
        _ => Err(format!("{key} is not a whole number from 0").into()),
    }
}

fn text(raw: &[u8], key: &str) -> Result<String> {
    match msgpack::read(&mut &raw[..]) {
        Ok(Token::Str(bytes)) => {
            std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| "not UTF-8".into())
        }
        _ => Err(format!("{key} is not text").into()),
    }
}

fn user(raw: &[u8]) -> Result<Arc<str>> {
    let user = msgpack::scalar_text(raw).ok_or("user is neither text nor a whole number")?;
    check_room(&user).map_err(|error| format!("user: {error}"))?;
    Ok(user.into())
}

fn unknown(key: &str, known: &str) -> Cow<'static, str> {
    format!("`{key}` is no field here; there are {known}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> (Result<Answer>, Vec<String>) {
        let mut dropped = Vec::new();
        let answer = Answer::read(json.as_bytes(), AppFormat::Json, &mut dropped);
        (answer, dropped)
    }

    #[test]
    fn every_field_is_read() {
        let (answer, dropped) = read(
            r#"{"ok":true,"user":7,"join":["a",2],"leave":"b","ack":[1,{"$binary":"AQ=="}],"disconnect":{"close":true},
                "emit":[{"to":"sender","event":"x","args":[1],"volatile":true,"ack":{"token":"t","timeout_ms":9}},
                        {"to":["sender","r"],"except":"e","event":"y"},{"to":"others","event":"z"}]}"#,
        );
        let answer = answer.unwrap();
        assert!(dropped.is_empty(), "{dropped:?}");
        assert_eq!(answer.user, Some(Some("7".into())));
        assert_eq!((answer.join, answer.leave), (vec!["a".into(), "2".into()], vec!["b".into()]));
        assert_eq!(answer.ack.as_deref(), Some(&[0x92, 1, 0xc4, 1, 1][..]));
        assert_eq!(answer.disconnect, Some(End::Connection));
        let [sender, rooms, others] = &answer.emit[..] else { panic!("{:?}", answer.emit) };
        let timeout = Some(Duration::from_millis(9));
        assert_eq!(sender.ack, Some(AckWish { token: "t".into(), timeout }));
        assert!(sender.volatile && sender.to == To::Sender && others.to == To::Others);
        assert_eq!(rooms.to, To::Rooms(Rooms::from_iter(["sender".into(), "r".into()])));
        assert_eq!(rooms.data, msgpack::event("y", &[]));
        for empty in ["", " \n", "{}", r#"{"ok":true,"join":null,"ack":null,"message":null}"#] {
            assert_eq!(read(empty).0.unwrap(), Answer::default(), "{empty}");
        }
    }

    #[test]
    fn another_shape_is_refused_in_words() {
        for (wrong, words) in [
            ("[]", "not an object"),
            ("{\"joins\":[]}", "`joins` is no field"),
            (r#"{"ok":1}"#, "ok is neither"),
            (r#"{"emit":[{"to":"r"}]}"#, "needs \"to\" and \"event\""),
            (r#"{"emit":[{"to":"r","event":"e","room":"x"}]}"#, "`room` is no field"),
            (r#"{"emit":[{"to":"r","event":"e","ack":{"token":"t"}}]}"#, "only what goes to \"sender\""),
            (r#"{"emit":[{"to":"sender","event":"e","ack":{}}]}"#, "token"),
            (r#"{"ack":{}}"#, "ack is not an array"),
            (r#"{"join":[{}]}"#, "not text"),
            (r#"{"disconnect":"now"}"#, "disconnect"),
            (r#"{"user":[1]}"#, "user"),
            ("{", "JSON"),
        ] {
            let error = read(wrong).0.unwrap_err();
            assert!(error.contains(words), "{wrong}: {error}");
        }
        let mut dropped = Vec::new();
        for wrong in [&[0x81][..], &[0x80, 0], &[0xc1], &[0x81, 0xa2, b'o', b'k']] {
            assert!(Answer::read(wrong, AppFormat::Msgpack, &mut dropped).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_cannot_be_sent_is_left_out_and_told() {
        let (answer, dropped) = read(
            r#"{"join":["","ok"],"emit":[{"to":"r","event":"connect"},{"to":[""],"event":"e"},{"to":"r","event":"f"}]}"#,
        );
        let answer = answer.unwrap();
        assert_eq!((answer.join.len(), answer.emit.len()), (1, 1));
        assert_eq!(dropped.len(), 3, "{dropped:?}");
    }
}
