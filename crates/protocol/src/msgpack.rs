//! MessagePack, the form in which events travel inside fanfare: an array `[event, ...args]`, as
//! Socket.IO emitters write it. Reading borrows; nothing is allocated by a length that the bytes
//! only claim.

use std::borrow::Cow;

use rmp::Marker;

use crate::json;

/// How many arrays and maps may be nested in each other, in MessagePack and in JSON. An event's own
/// array is the first.
pub const MAX_DEPTH: usize = 64;

/// Why bytes are not the MessagePack that was expected. None of it gets better by trying again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MsgpackError {
    /// Send the whole value.
    #[error("the MessagePack value ends too early")]
    Truncated,
    /// Nest at most [`MAX_DEPTH`] arrays and maps.
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// The byte c1 starts no value.
    #[error("a byte that starts no MessagePack value")]
    BadMarker,
    /// Send bytes that are no text as bin.
    #[error("a string that is not UTF-8")]
    NotUtf8,
    /// Send one value and nothing behind it.
    #[error("bytes behind the MessagePack value")]
    Trailing,
    /// Send an array that starts with the event's name, a string or a number.
    #[error("not an array that starts with an event name")]
    NotAnEvent,
    /// Use strings or integers as keys.
    #[error("a map key that is neither a string nor an integer")]
    BadKey,
    /// Do not mix binary values with maps that have `"_placeholder": true`: Socket.IO clients would
    /// take those for attachments.
    #[error("a map that looks like a Socket.IO attachment, beside binary values")]
    Placeholder,
}

/// The start of a value: a whole scalar, or how many values follow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Token<'a> {
    Nil,
    Bool(bool),
    Unsigned(u64),
    /// An integer in a signed form; it may be positive.
    Signed(i64),
    Float(f64),
    /// Bytes of a string, not checked to be UTF-8.
    Str(&'a [u8]),
    Bin(&'a [u8]),
    Ext(i8, &'a [u8]),
    /// So many values follow.
    Array(u32),
    /// So many pairs of values follow.
    Map(u32),
}

/// Takes one token off the front of `rest`.
pub fn read<'a>(rest: &mut &'a [u8]) -> Result<Token<'a>, MsgpackError> {
    let token = match Marker::from_u8(u8::from_be_bytes(fixed(rest)?)) {
        Marker::FixPos(value) => Token::Unsigned(value.into()),
        Marker::FixNeg(value) => Token::Signed(value.into()),
        Marker::FixStr(len) => Token::Str(take(rest, len.into())?),
        Marker::FixArray(len) => Token::Array(len.into()),
        Marker::FixMap(len) => Token::Map(len.into()),
        Marker::Null => Token::Nil,
        Marker::True => Token::Bool(true),
        Marker::False => Token::Bool(false),
        Marker::U8 => Token::Unsigned(u8::from_be_bytes(fixed(rest)?).into()),
        Marker::U16 => Token::Unsigned(u16::from_be_bytes(fixed(rest)?).into()),
        Marker::U32 => Token::Unsigned(u32::from_be_bytes(fixed(rest)?).into()),
        Marker::U64 => Token::Unsigned(u64::from_be_bytes(fixed(rest)?)),
        Marker::I8 => Token::Signed(i8::from_be_bytes(fixed(rest)?).into()),
        Marker::I16 => Token::Signed(i16::from_be_bytes(fixed(rest)?).into()),
        Marker::I32 => Token::Signed(i32::from_be_bytes(fixed(rest)?).into()),
        Marker::I64 => Token::Signed(i64::from_be_bytes(fixed(rest)?)),
        Marker::F32 => Token::Float(f32::from_be_bytes(fixed(rest)?).into()),
        Marker::F64 => Token::Float(f64::from_be_bytes(fixed(rest)?)),
        Marker::Str8 => Token::Str(sized::<1>(rest)?),
        Marker::Str16 => Token::Str(sized::<2>(rest)?),
        Marker::Str32 => Token::Str(sized::<4>(rest)?),
        Marker::Bin8 => Token::Bin(sized::<1>(rest)?),
        Marker::Bin16 => Token::Bin(sized::<2>(rest)?),
        Marker::Bin32 => Token::Bin(sized::<4>(rest)?),
        Marker::FixExt1 => ext(rest, 1)?,
        Marker::FixExt2 => ext(rest, 2)?,
        Marker::FixExt4 => ext(rest, 4)?,
        Marker::FixExt8 => ext(rest, 8)?,
        Marker::FixExt16 => ext(rest, 16)?,
        Marker::Ext8 => sized_ext::<1>(rest)?,
        Marker::Ext16 => sized_ext::<2>(rest)?,
        Marker::Ext32 => sized_ext::<4>(rest)?,
        Marker::Array16 => Token::Array(u16::from_be_bytes(fixed(rest)?).into()),
        Marker::Array32 => Token::Array(u32::from_be_bytes(fixed(rest)?)),
        Marker::Map16 => Token::Map(u16::from_be_bytes(fixed(rest)?).into()),
        Marker::Map32 => Token::Map(u32::from_be_bytes(fixed(rest)?)),
        Marker::Reserved => return Err(MsgpackError::BadMarker),
    };
    Ok(token)
}

fn fixed<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], MsgpackError> {
    let (head, tail) = rest.split_first_chunk().ok_or(MsgpackError::Truncated)?;
    *rest = tail;
    Ok(*head)
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], MsgpackError> {
    let (head, tail) = rest.split_at_checked(len).ok_or(MsgpackError::Truncated)?;
    *rest = tail;
    Ok(head)
}

/// A length of `N` bytes, big-endian.
fn length<const N: usize>(rest: &mut &[u8]) -> Result<usize, MsgpackError> {
    let bytes: [u8; N] = fixed(rest)?;
    Ok(bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)))
}

fn sized<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8], MsgpackError> {
    let len = length::<N>(rest)?;
    take(rest, len)
}

fn sized_ext<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<Token<'a>, MsgpackError> {
    let len = length::<N>(rest)?;
    ext(rest, len)
}

fn ext<'a>(rest: &mut &'a [u8], len: usize) -> Result<Token<'a>, MsgpackError> {
    let kind = i8::from_be_bytes(fixed(rest)?);
    Ok(Token::Ext(kind, take(rest, len)?))
}

/// Length in bytes of the first value. Strings are not checked to be UTF-8.
pub fn skip(bytes: &[u8]) -> Result<usize, MsgpackError> {
    let mut rest = bytes;
    walk(&mut rest, |_| Ok(()))?;
    Ok(bytes.len() - rest.len())
}

/// Checks that `data` is one whole event: an array of at least one element, the first a string or a
/// number that JSON can write, nothing behind it, every string UTF-8, at most [`MAX_DEPTH`] deep.
pub fn check_event(data: &[u8]) -> Result<(), MsgpackError> {
    let mut rest = data;
    take_event(&mut rest)?;
    if rest.is_empty() { Ok(()) } else { Err(MsgpackError::Trailing) }
}

/// Takes one event off the front of `rest`: its bytes, of which [`check_event`] holds.
pub fn take_event<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], MsgpackError> {
    let all = *rest;
    walk(rest, |token| match token {
        Token::Str(bytes) => text(bytes).map(|_| ()),
        _ => Ok(()),
    })?;
    let (event, _) = all.split_at(all.len() - rest.len());
    EventView::parse(event)?;
    Ok(event)
}

/// Takes one value off the front of `rest`, showing each of its tokens.
fn walk<'a>(
    rest: &mut &'a [u8],
    mut see: impl FnMut(Token<'a>) -> Result<(), MsgpackError>,
) -> Result<(), MsgpackError> {
    let inside = |token| match token {
        Token::Array(len) => Some(u64::from(len)),
        Token::Map(len) => Some(u64::from(len) * 2),
        _ => None,
    };
    let mut token = read(rest)?;
    see(token)?;
    // Most values hold no others, and need no room for them.
    if inside(token).is_none_or(|inside| inside == 0) {
        return Ok(());
    }
    // Values still to come in each open container, outermost first.
    let mut open = [0u64; MAX_DEPTH];
    let mut depth = 0;
    loop {
        let inside = inside(token);
        if let Some(inside) = inside {
            *open.get_mut(depth).ok_or(MsgpackError::TooDeep)? = inside;
            depth += 1;
        }
        while depth > 0 && open[depth - 1] == 0 {
            depth -= 1;
        }
        if depth == 0 {
            return Ok(());
        }
        open[depth - 1] -= 1;
        token = read(rest)?;
        see(token)?;
    }
}

/// An event, looked at in place.
#[derive(Debug, Clone, Copy)]
pub struct EventView<'a> {
    name: Token<'a>,
    args: &'a [u8],
    arg_count: usize,
}

impl<'a> EventView<'a> {
    /// The view of `data`, which passed [`check_event`]. Only the name is read here.
    pub fn parse(data: &'a [u8]) -> Result<Self, MsgpackError> {
        let mut rest = data;
        let Token::Array(len) = read(&mut rest)? else { return Err(MsgpackError::NotAnEvent) };
        let arg_count = (len as usize).checked_sub(1).ok_or(MsgpackError::NotAnEvent)?;
        let name = read(&mut rest)?;
        match name {
            Token::Str(bytes) => text(bytes).map(|_| ())?,
            Token::Unsigned(_) | Token::Signed(_) => {}
            Token::Float(value) if value.is_finite() => {}
            _ => return Err(MsgpackError::NotAnEvent),
        }
        Ok(Self { name, args: rest, arg_count })
    }

    /// The event's name; a number as JavaScript writes it.
    pub fn name(&self) -> Cow<'a, str> {
        if let Token::Float(value) = self.name {
            return Cow::Owned(json::number(value));
        }
        // `parse` took no other tokens.
        token_text(self.name).unwrap_or_default()
    }

    /// The arguments as raw values. Ends early where the data is damaged.
    pub fn args(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = self.args;
        (0..self.arg_count).map_while(move |_| {
            let (value, tail) = rest.split_at(skip(rest).ok()?);
            rest = tail;
            Some(value)
        })
    }

    /// How many arguments there are.
    pub fn arg_count(&self) -> usize {
        self.arg_count
    }
}

/// A string as it is, an integer as decimal text, `None` for everything else.
pub fn scalar_text(raw: &[u8]) -> Option<Cow<'_, str>> {
    let mut rest = raw;
    let token = read(&mut rest).ok()?;
    if rest.is_empty() { token_text(token) } else { None }
}

fn token_text(token: Token<'_>) -> Option<Cow<'_, str>> {
    match token {
        Token::Str(bytes) => text(bytes).ok().map(Cow::Borrowed),
        Token::Unsigned(value) => Some(Cow::Owned(value.to_string())),
        Token::Signed(value) => Some(Cow::Owned(value.to_string())),
        _ => None,
    }
}

/// The value of a map's string key, raw; `None` where `raw` is no map or has no such key. The first
/// counts where there are several.
pub fn field<'a>(raw: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut rest = raw;
    let Ok(Token::Map(pairs)) = read(&mut rest) else { return None };
    for _ in 0..pairs {
        let (key, tail) = rest.split_at(skip(rest).ok()?);
        let (value, tail) = tail.split_at(skip(tail).ok()?);
        let mut key = key;
        if read(&mut key).ok()? == Token::Str(name.as_bytes()) {
            return Some(value);
        }
        rest = tail;
    }
    None
}

pub(crate) fn text(bytes: &[u8]) -> Result<&str, MsgpackError> {
    std::str::from_utf8(bytes).map_err(|_| MsgpackError::NotUtf8)
}

/// Milliseconds of Unix time behind a MessagePack timestamp of 4, 8 or 12 bytes.
pub(crate) fn timestamp(bytes: &[u8]) -> Option<i64> {
    let (seconds, nanoseconds) = match bytes.len() {
        4 => (i64::from(u32::from_be_bytes(bytes.try_into().ok()?)), 0),
        8 => {
            let both = u64::from_be_bytes(bytes.try_into().ok()?);
            // 34 bits of seconds, so that neither half can overflow.
            ((both & 0x3_ffff_ffff) as i64, (both >> 34) as i64)
        }
        12 => {
            let (nanoseconds, seconds) = bytes.split_at(4);
            let nanoseconds = u32::from_be_bytes(nanoseconds.try_into().ok()?);
            (i64::from_be_bytes(seconds.try_into().ok()?), i64::from(nanoseconds))
        }
        _ => return None,
    };
    seconds.checked_mul(1000)?.checked_add(nanoseconds / 1_000_000)
}

/// Appends milliseconds of Unix time as the smallest of MessagePack's timestamps that holds them.
pub(crate) fn write_timestamp(milliseconds: i64, out: &mut Vec<u8>) {
    let seconds = milliseconds.div_euclid(1000);
    // Below 10^9, and so within 30 bits.
    let nanoseconds = milliseconds.rem_euclid(1000) as u32 * 1_000_000;
    match (u32::try_from(seconds), nanoseconds) {
        (Ok(seconds), 0) => {
            out.extend_from_slice(&[0xd6, 0xff]);
            out.extend_from_slice(&seconds.to_be_bytes());
        }
        _ if (0..1 << 34).contains(&seconds) => {
            out.extend_from_slice(&[0xd7, 0xff]);
            out.extend_from_slice(&(u64::from(nanoseconds) << 34 | seconds as u64).to_be_bytes());
        }
        _ => {
            out.extend_from_slice(&[0xc7, 12, 0xff]);
            out.extend_from_slice(&nanoseconds.to_be_bytes());
            out.extend_from_slice(&seconds.to_be_bytes());
        }
    }
}

/// The event `[name, ...args]`, each argument one raw value.
pub fn event(name: &str, args: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + args.iter().map(|arg| arg.len()).sum::<usize>() + 10);
    write_array_len(args.len() + 1, &mut out);
    write_str(name, &mut out);
    for arg in args {
        out.extend_from_slice(arg);
    }
    out
}

/// Appends a string.
pub fn write_str(text: &str, out: &mut Vec<u8>) {
    written(&rmp::encode::write_str(out, text));
}

/// Appends binary.
pub fn write_bin(bytes: &[u8], out: &mut Vec<u8>) {
    written(&rmp::encode::write_bin(out, bytes));
}

/// Appends an integer in its smallest form.
pub fn write_uint(value: u64, out: &mut Vec<u8>) {
    written(&rmp::encode::write_uint(out, value));
}

/// Appends an integer in its smallest form.
pub fn write_int(value: i64, out: &mut Vec<u8>) {
    written(&rmp::encode::write_sint(out, value));
}

/// Appends a 64-bit float.
pub fn write_f64(value: f64, out: &mut Vec<u8>) {
    written(&rmp::encode::write_f64(out, value));
}

/// Appends a boolean.
pub fn write_bool(value: bool, out: &mut Vec<u8>) {
    written(&rmp::encode::write_bool(out, value));
}

/// Appends nil.
pub fn write_nil(out: &mut Vec<u8>) {
    written(&rmp::encode::write_nil(out));
}

/// Appends the header of an array; that many values must follow.
pub fn write_array_len(len: usize, out: &mut Vec<u8>) {
    written(&rmp::encode::write_array_len(out, count(len)));
}

/// Appends the header of a map; that many pairs of values must follow.
pub fn write_map_len(len: usize, out: &mut Vec<u8>) {
    written(&rmp::encode::write_map_len(out, count(len)));
}

/// Elements take at least a byte each, so that a count over 32 bits would need 4 GiB of input, which
/// every transport's bound on a message rules out.
pub(crate) fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn written<T, E: std::fmt::Debug>(outcome: &Result<T, E>) {
    debug_assert!(outcome.is_ok(), "writing to a Vec cannot fail");
}
