//! The two dialects of MessagePack in Socket.IO's world. Its msgpack parser writes as notepack 2 does:
//! `undefined` is the extension 0 of one byte, a Date the extension 0 of eight, milliseconds. Adapters and
//! emitters, and so everything inside fanfare, write as notepack 3 does: nil, and MessagePack's timestamps.

use crate::msgpack::{
    MAX_DEPTH, MsgpackError, Token, read, text, timestamp, write_nil, write_str, write_timestamp,
};

/// Appends one value that a client wrote, as it travels inside. Keys whose value is `undefined` are left out;
/// strings that are not UTF-8 are mended, as the reference does.
pub(super) fn from_parser(raw: &[u8], out: &mut Vec<u8>) -> Result<(), MsgpackError> {
    translate(raw, out, Dialect::Inside)
}

/// Appends one value from inside, as clients of the msgpack parser read it.
pub(super) fn to_parser(raw: &[u8], out: &mut Vec<u8>) -> Result<(), MsgpackError> {
    translate(raw, out, Dialect::Parser)
}

/// What notepack 2 writes for JavaScript's `undefined`.
pub(super) const UNDEFINED: [u8; 3] = [0xd4, 0, 0];

/// Whether this is [`UNDEFINED`].
pub(super) fn is_undefined(token: &Token<'_>) -> bool {
    matches!(token, Token::Ext(0, [_]))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Inside,
    Parser,
}

fn translate(raw: &[u8], out: &mut Vec<u8>, into: Dialect) -> Result<(), MsgpackError> {
    let mut translation = Translation { rest: raw, out, into };
    translation.value(0)?;
    if translation.rest.is_empty() { Ok(()) } else { Err(MsgpackError::Trailing) }
}

struct Translation<'o, 'a> {
    rest: &'a [u8],
    out: &'o mut Vec<u8>,
    into: Dialect,
}

impl<'a> Translation<'_, 'a> {
    /// One token, and the bytes that it was.
    fn token(&mut self) -> Result<(Token<'a>, &'a [u8]), MsgpackError> {
        let before = self.rest;
        let token = read(&mut self.rest)?;
        Ok((token, &before[..before.len() - self.rest.len()]))
    }

    /// One value inside `depth` containers.
    fn value(&mut self, depth: usize) -> Result<(), MsgpackError> {
        let (token, raw) = self.token()?;
        match (token, self.into) {
            (Token::Array(_) | Token::Map(_), _) if depth >= MAX_DEPTH => return Err(MsgpackError::TooDeep),
            (Token::Array(len), _) => {
                self.out.extend_from_slice(raw);
                for _ in 0..len {
                    self.value(depth + 1)?;
                }
            }
            (Token::Map(pairs), _) => self.map(pairs, raw, depth)?,
            (Token::Str(bytes), _) => self.string(bytes, raw)?,
            (token, Dialect::Inside) if is_undefined(&token) => write_nil(self.out),
            (Token::Ext(0, bytes), Dialect::Inside) => match <[u8; 8]>::try_from(bytes) {
                Ok(bytes) => write_timestamp(i64::from_be_bytes(bytes), self.out),
                Err(_) => self.out.extend_from_slice(raw),
            },
            (Token::Ext(-1, bytes), Dialect::Parser) => match timestamp(bytes) {
                Some(milliseconds) => {
                    self.out.extend_from_slice(&[0xd7, 0]);
                    self.out.extend_from_slice(&milliseconds.to_be_bytes());
                }
                None => write_nil(self.out),
            },
            _ => self.out.extend_from_slice(raw),
        }
        Ok(())
    }

    fn string(&mut self, bytes: &[u8], raw: &[u8]) -> Result<(), MsgpackError> {
        match (text(bytes), self.into) {
            (Ok(_), _) => self.out.extend_from_slice(raw),
            (Err(_), Dialect::Inside) => write_str(&String::from_utf8_lossy(bytes), self.out),
            (Err(error), Dialect::Parser) => return Err(error),
        }
        Ok(())
    }

    /// The pairs behind the header `raw`.
    fn map(&mut self, pairs: u32, raw: &[u8], depth: usize) -> Result<(), MsgpackError> {
        let header = self.out.len();
        self.out.extend_from_slice(raw);
        let mut kept = 0;
        for _ in 0..pairs {
            let pair = self.out.len();
            match self.token()? {
                (Token::Str(bytes), raw) => self.string(bytes, raw)?,
                (Token::Unsigned(_) | Token::Signed(_), raw) => self.out.extend_from_slice(raw),
                _ => return Err(MsgpackError::BadKey),
            }
            let undefined = self.into == Dialect::Inside && is_undefined(&read(&mut { self.rest })?);
            if undefined {
                self.token()?;
                self.out.truncate(pair);
            } else {
                self.value(depth + 1)?;
                kept += 1;
            }
        }
        if kept < pairs {
            // Never more than before, and so in the same form.
            let count = kept.to_be_bytes();
            match raw.len() {
                1 => self.out[header] = 0x80 | count[3],
                wide => self.out[header + 1..header + wide].copy_from_slice(&count[5 - wide..]),
            }
        }
        Ok(())
    }
}
