//! JSON text to MessagePack.

use std::fmt;

use base64::Engine as _;
use serde::Deserialize as _;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::engineio::BASE64;
use crate::msgpack::{self, MAX_DEPTH, Token};

/// Why JSON text was refused. None of it gets better by trying again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Send valid JSON and nothing behind it.
    #[error("not valid JSON: {0}")]
    Syntax(String),
    /// Nest at most [`MAX_DEPTH`] arrays and objects.
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// Number attachments from 0, refer to each at most once.
    #[error("a placeholder whose num is not that of an attachment, or is used twice")]
    Placeholder,
    /// Encode binary arguments as base64 (RFC 4648 §4).
    #[error("an argument of a binary event is a string but not base64")]
    NotBase64,
    /// Write the arguments as an array.
    #[error("args is not an array")]
    NotAnArray,
}

/// Appends the MessagePack form of one JSON value. Integers that fit 64 bits stay integers, other
/// numbers become 64-bit floats. After an error, `out` holds a part of the value.
pub fn to_msgpack(json: &str, out: &mut Vec<u8>) -> Result<(), JsonError> {
    convert(json, 0, Target { out, holes: None, base64: false, failure: None })
}

/// Where an attachment goes: instead of the nil at `at`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hole {
    /// Position of the nil in the output.
    pub at: usize,
    /// Which attachment.
    pub num: usize,
}

/// [`to_msgpack`] for JSON whose objects `{"_placeholder":true,"num":k}` stand for one of
/// `attachments` binaries. Each becomes nil and a hole, in the order of the output; no attachment is
/// used twice, so that small text cannot become large data.
pub fn to_msgpack_with_holes(
    json: &str,
    attachments: usize,
    out: &mut Vec<u8>,
) -> Result<Vec<Hole>, JsonError> {
    let mut holes = Vec::new();
    let known = Some(Holes { attachments, found: &mut holes });
    convert(json, 0, Target { out, holes: known, base64: false, failure: None })?;
    Ok(holes)
}

/// The arguments of an event, as JSON text.
#[derive(Debug, Clone, Copy)]
pub enum Arguments<'a> {
    None,
    /// One argument.
    One(&'a str),
    /// An array of them.
    Many(&'a str),
}

/// The event `[name, ...arguments]` in MessagePack. With `binary`, arguments that are strings are the
/// base64 of a binary; strings inside of arguments stay text.
pub fn event(name: &str, arguments: Arguments<'_>, binary: bool) -> Result<Vec<u8>, JsonError> {
    let mut out = Vec::new();
    match arguments {
        Arguments::None => return Ok(msgpack::event(name, &[])),
        Arguments::One(json) => {
            msgpack::write_array_len(2, &mut out);
            msgpack::write_str(name, &mut out);
            convert(json, 1, Target { out: &mut out, holes: None, base64: binary, failure: None })?;
        }
        Arguments::Many(json) => {
            let mut array = Vec::new();
            convert(json, 0, Target { out: &mut array, holes: None, base64: binary, failure: None })?;
            let mut rest = &array[..];
            let Ok(Token::Array(len)) = msgpack::read(&mut rest) else { return Err(JsonError::NotAnArray) };
            out.reserve(rest.len() + name.len() + 10);
            msgpack::write_array_len(len as usize + 1, &mut out);
            msgpack::write_str(name, &mut out);
            out.extend_from_slice(rest);
        }
    }
    Ok(out)
}

/// For optional fields of serde structs in which null is a value and not an absence.
pub(crate) fn present<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(input).map(Some)
}

fn convert(json: &str, depth: usize, mut target: Target<'_>) -> Result<(), JsonError> {
    let mut input = serde_json::Deserializer::from_str(json);
    let outcome = Value { target: &mut target, depth }.deserialize(&mut input).and_then(|()| input.end());
    match (target.failure, outcome) {
        (Some(failure), _) => Err(failure),
        (None, Err(error)) => Err(JsonError::Syntax(error.to_string())),
        (None, Ok(())) => Ok(()),
    }
}

/// What a conversion writes to.
struct Target<'o> {
    out: &'o mut Vec<u8>,
    holes: Option<Holes<'o>>,
    base64: bool,
    /// Says more than the parser's own error.
    failure: Option<JsonError>,
}

struct Holes<'o> {
    attachments: usize,
    found: &'o mut Vec<Hole>,
}

impl Target<'_> {
    fn fail<E: serde::de::Error>(&mut self, failure: JsonError) -> E {
        let error = E::custom(&failure);
        self.failure = Some(failure);
        error
    }

    /// Writes the header of the container whose one reserved byte is at `start`. Wider headers make
    /// room by moving the content, once per container.
    fn close(&mut self, start: usize, len: usize, narrow: u8, wide: u8) {
        let len = msgpack::count(len);
        let bytes = len.to_be_bytes();
        match len {
            0..=15 => self.out[start] = narrow | bytes[3],
            16..=0xffff => self.widen(start, &[wide, bytes[2], bytes[3]]),
            _ => self.widen(start, &[wide + 1, bytes[0], bytes[1], bytes[2], bytes[3]]),
        }
    }

    fn widen(&mut self, start: usize, header: &[u8]) {
        let shift = header.len() - 1;
        let end = self.out.len();
        self.out.resize(end + shift, 0);
        self.out.copy_within(start + 1..end, start + header.len());
        self.out[start..start + header.len()].copy_from_slice(header);
        if let Some(holes) = &mut self.holes {
            for hole in holes.found.iter_mut().filter(|hole| hole.at > start) {
                hole.at += shift;
            }
        }
    }

    /// Puts a hole where an object began that turned out to be a placeholder.
    fn replace(&mut self, start: usize, num: Option<u64>) -> Result<(), JsonError> {
        let Some(holes) = &mut self.holes else { return Ok(()) };
        let num = num.and_then(|num| usize::try_from(num).ok()).filter(|num| *num < holes.attachments);
        let num = num.ok_or(JsonError::Placeholder)?;
        self.out.truncate(start);
        holes.found.retain(|hole| hole.at < start);
        if holes.found.iter().any(|hole| hole.num == num) {
            return Err(JsonError::Placeholder);
        }
        holes.found.push(Hole { at: start, num });
        msgpack::write_nil(self.out);
        Ok(())
    }
}

/// One value, inside `depth` containers.
struct Value<'t, 'o> {
    target: &'t mut Target<'o>,
    depth: usize,
}

impl<'o> Value<'_, 'o> {
    fn inner(&mut self) -> Value<'_, 'o> {
        Value { target: self.target, depth: self.depth + 1 }
    }

    /// Reserves a container's header and says where it is.
    fn open<E: serde::de::Error>(&mut self) -> Result<usize, E> {
        if self.depth >= MAX_DEPTH {
            return Err(self.target.fail(JsonError::TooDeep));
        }
        let start = self.target.out.len();
        self.target.out.push(0);
        Ok(start)
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        msgpack::write_nil(self.target.out);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        msgpack::write_bool(value, self.target.out);
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        msgpack::write_uint(value, self.target.out);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        msgpack::write_int(value, self.target.out);
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        msgpack::write_f64(value, self.target.out);
        Ok(())
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        // Arguments are inside exactly one array, the event's.
        if !self.target.base64 || self.depth != 1 {
            msgpack::write_str(value, self.target.out);
            return Ok(());
        }
        match BASE64.decode(value) {
            Ok(bytes) => msgpack::write_bin(&bytes, self.target.out),
            Err(_) => return Err(self.target.fail(JsonError::NotBase64)),
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        let start = self.open()?;
        let mut len = 0;
        while seq.next_element_seed(self.inner())?.is_some() {
            len += 1;
        }
        self.target.close(start, len, 0x90, 0xdc);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let start = self.open()?;
        let (mut len, mut placeholder, mut num) = (0, false, None);
        loop {
            let key_at = self.target.out.len();
            if map.next_key_seed(Key(self.target.out))?.is_none() {
                break;
            }
            let value_at = self.target.out.len();
            map.next_value_seed(self.inner())?;
            len += 1;
            if self.target.holes.is_some() {
                // The last one counts where a key is repeated, as in JavaScript.
                match &self.target.out[key_at..value_at] {
                    b"\xac_placeholder" => placeholder = self.target.out[value_at..] == [0xc3],
                    b"\xa3num" => num = integer(&self.target.out[value_at..]),
                    _ => {}
                }
            }
        }
        if placeholder {
            return self.target.replace(start, num).map_err(|failure| self.target.fail(failure));
        }
        self.target.close(start, len, 0x80, 0xde);
        Ok(())
    }
}

fn integer(mut raw: &[u8]) -> Option<u64> {
    match msgpack::read(&mut raw) {
        Ok(Token::Unsigned(value)) => Some(value),
        _ => None,
    }
}

/// A key of an object; written as it comes.
struct Key<'o>(&'o mut Vec<u8>);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        msgpack::write_str(value, self.0);
        Ok(())
    }
}
