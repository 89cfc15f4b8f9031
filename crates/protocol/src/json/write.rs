//! MessagePack to JSON text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::scalar::{write_date, write_float, write_int, write_str};
use crate::msgpack::{MAX_DEPTH, MsgpackError, Token, read, text, timestamp};

/// What becomes of binary values.
#[derive(Debug)]
pub enum Bins<'c, 'a> {
    /// Each becomes `{"_placeholder":true,"num":k}` and is collected here, depth first (Socket.IO).
    Placeholders(&'c mut Vec<&'a [u8]>),
    /// Each becomes a base64 string, and the flag is set.
    Base64(&'c mut bool),
}

/// Appends one MessagePack value as JSON text, the way `JSON.stringify` writes what notepack decodes:
/// timestamps are ISO strings, what JSON has no form for is null. After an error, `out` holds a part
/// of the text.
pub fn from_msgpack<'a>(raw: &'a [u8], out: &mut Vec<u8>, bins: Bins<'_, 'a>) -> Result<(), MsgpackError> {
    let mut writer = Writer { rest: raw, out, bins, imitation: false };
    writer.value(0)?;
    if !writer.rest.is_empty() {
        return Err(MsgpackError::Trailing);
    }
    match writer.bins {
        Bins::Placeholders(found) if writer.imitation && !found.is_empty() => Err(MsgpackError::Placeholder),
        _ => Ok(()),
    }
}

struct Writer<'o, 'c, 'a> {
    rest: &'a [u8],
    out: &'o mut Vec<u8>,
    bins: Bins<'c, 'a>,
    /// A map was seen that a Socket.IO client would take for an attachment.
    imitation: bool,
}

impl<'a> Writer<'_, '_, 'a> {
    /// One value inside `depth` containers.
    fn value(&mut self, depth: usize) -> Result<(), MsgpackError> {
        match read(&mut self.rest)? {
            Token::Nil => self.out.extend_from_slice(b"null"),
            Token::Bool(true) => self.out.extend_from_slice(b"true"),
            Token::Bool(false) => self.out.extend_from_slice(b"false"),
            Token::Unsigned(value) => write_int(value, self.out),
            Token::Signed(value) => write_int(value, self.out),
            Token::Float(value) => write_float(value, self.out),
            Token::Str(bytes) => write_str(text(bytes)?, self.out),
            Token::Bin(bytes) => self.bin(bytes),
            Token::Ext(kind, bytes) => self.ext(kind, bytes),
            Token::Array(len) => self.array(len, depth)?,
            Token::Map(len) => self.map(len, depth)?,
        }
        Ok(())
    }

    fn array(&mut self, len: u32, depth: usize) -> Result<(), MsgpackError> {
        if depth >= MAX_DEPTH {
            return Err(MsgpackError::TooDeep);
        }
        self.out.push(b'[');
        for at in 0..len {
            if at > 0 {
                self.out.push(b',');
            }
            self.value(depth + 1)?;
        }
        self.out.push(b']');
        Ok(())
    }

    fn map(&mut self, len: u32, depth: usize) -> Result<(), MsgpackError> {
        if depth >= MAX_DEPTH {
            return Err(MsgpackError::TooDeep);
        }
        self.out.push(b'{');
        let mut first = true;
        for _ in 0..len {
            let key = read(&mut self.rest)?;
            if self.undefined()? {
                continue;
            }
            if !first {
                self.out.push(b',');
            }
            first = false;
            self.key(key)?;
            self.out.push(b':');
            self.value(depth + 1)?;
        }
        self.out.push(b'}');
        Ok(())
    }

    fn key(&mut self, key: Token<'_>) -> Result<(), MsgpackError> {
        match key {
            Token::Str(bytes) => {
                self.imitation |= bytes == b"_placeholder" && self.rest.first() == Some(&0xc3);
                write_str(text(bytes)?, self.out);
            }
            Token::Unsigned(value) => self.quoted(value),
            Token::Signed(value) => self.quoted(value),
            _ => return Err(MsgpackError::BadKey),
        }
        Ok(())
    }

    fn quoted(&mut self, key: impl itoa::Integer) {
        self.out.push(b'"');
        write_int(key, self.out);
        self.out.push(b'"');
    }

    /// Steps over a JavaScript `undefined`: its key is not written.
    fn undefined(&mut self) -> Result<bool, MsgpackError> {
        // fixext 1 and ext 8, the forms that can hold it.
        if !matches!(self.rest.first(), Some(0xd4 | 0xc7)) {
            return Ok(false);
        }
        let mut rest = self.rest;
        let undefined = matches!(read(&mut rest)?, Token::Ext(0, [_]));
        if undefined {
            self.rest = rest;
        }
        Ok(undefined)
    }

    fn bin(&mut self, bytes: &'a [u8]) {
        match &mut self.bins {
            Bins::Placeholders(found) => {
                self.out.extend_from_slice(br#"{"_placeholder":true,"num":"#);
                write_int(found.len(), self.out);
                self.out.push(b'}');
                found.push(bytes);
            }
            Bins::Base64(flag) => {
                **flag = true;
                self.out.push(b'"');
                let start = self.out.len();
                self.out.resize(start + bytes.len().div_ceil(3) * 4, 0);
                let written = STANDARD.encode_slice(bytes, &mut self.out[start..]);
                debug_assert_eq!(written.ok(), Some(self.out.len() - start), "the space is exact");
                self.out.push(b'"');
            }
        }
    }

    /// Extension types of notepack: −1 is MessagePack's timestamp, 0 is `undefined` or, in versions
    /// before 3, a Date.
    fn ext(&mut self, kind: i8, bytes: &[u8]) {
        match (kind, bytes) {
            (-1, _) => write_date(timestamp(bytes), self.out),
            (0, [a, b, c, d, e, f, g, h]) => {
                write_date(Some(i64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h])), self.out);
            }
            _ => self.out.extend_from_slice(b"null"),
        }
    }
}
