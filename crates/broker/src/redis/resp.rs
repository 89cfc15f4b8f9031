//! Redis's protocol as it is spoken on a link that only subscribes: RESP3, and RESP2's arrays. No I/O and
//! no allocation; what is read borrows from the bytes.

use memchr::memchr;

/// Longest line that is no bulk, in bytes: a number, a status, an error.
const MAX_LINE: usize = 16 << 10;
/// Most elements of an array or push.
const MAX_ELEMENTS: usize = 8;
/// Largest bulk that Redis can be configured to take, in bytes.
const MAX_BULK: usize = 512 << 20;
/// How deep the map that answers HELLO may nest, and how many bytes it may have.
const MAX_MAP: (usize, usize) = (4, 64 << 10);

/// One thing that Redis said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said<'a> {
    /// Somebody published.
    Message {
        channel: &'a [u8],
        payload: &'a [u8],
    },
    /// Answer to SUBSCRIBE, one for each name.
    Subscribed(&'a [u8]),
    /// Answer to UNSUBSCRIBE, one for each name.
    Unsubscribed(&'a [u8]),
    Pong,
    /// Answer to HELLO.
    Hello,
    /// A command was refused; the oldest one without an answer.
    Error(&'a [u8]),
    /// Nothing that concerns us: another push, another status.
    Other,
}

/// What stands at the front of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parsed<'a> {
    /// One whole thing of `len` bytes.
    Whole { said: Said<'a>, len: usize },
    /// A message with a payload beyond the bound: drop `drop` bytes from the front on, also those that
    /// are still to come.
    TooLarge { channel: &'a [u8], drop: usize },
    /// Less than one thing. It has at least `need` bytes.
    Part { need: usize },
}

/// Why the bytes are not what Redis says; the link cannot be used any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RespError {
    #[error("Redis sent a byte that starts nothing: {0:#04x}")]
    Kind(u8),
    #[error("Redis sent a length or number that is none")]
    Number,
    #[error("Redis sent a line without end")]
    Line,
    #[error("Redis sent more elements or deeper ones than expected")]
    Nested,
    #[error("Redis sent a bulk larger than expected")]
    Bulk,
}

/// Reads what stands at the front of `bytes`. Payloads above `max` bytes are not waited for.
pub(crate) fn parse(bytes: &[u8], max: usize) -> Result<Parsed<'_>, RespError> {
    let mut cursor = Cursor { bytes, at: 0 };
    match read(&mut cursor, max) {
        Ok(Read::Said(said)) => Ok(Parsed::Whole { said, len: cursor.at }),
        Ok(Read::TooLarge { channel, drop }) => Ok(Parsed::TooLarge { channel, drop }),
        Err(Stop::Part { need }) => Ok(Parsed::Part { need }),
        Err(Stop::Wrong(error)) => Err(error),
    }
}

enum Read<'a> {
    Said(Said<'a>),
    TooLarge { channel: &'a [u8], drop: usize },
}

enum Stop {
    Part { need: usize },
    Wrong(RespError),
}

impl From<RespError> for Stop {
    fn from(error: RespError) -> Self {
        Self::Wrong(error)
    }
}

fn read<'a>(cursor: &mut Cursor<'a>, max: usize) -> Result<Read<'a>, Stop> {
    match cursor.byte()? {
        b'>' | b'*' => read_push(cursor, max),
        b'%' => {
            cursor.skip_map(0)?;
            Ok(Read::Said(Said::Hello))
        }
        b'-' => Ok(Read::Said(Said::Error(cursor.line()?))),
        b'!' => Ok(Read::Said(Said::Error(cursor.bulk(MAX_LINE)?))),
        b'+' => {
            let line = cursor.line()?;
            Ok(Read::Said(if line == b"PONG" { Said::Pong } else { Said::Other }))
        }
        kind => {
            cursor.scalar(kind, MAX_LINE)?;
            Ok(Read::Said(Said::Other))
        }
    }
}

/// An array of scalars, the first of which says what it is.
fn read_push<'a>(cursor: &mut Cursor<'a>, max: usize) -> Result<Read<'a>, Stop> {
    let count = match cursor.number()? {
        // Null or empty.
        -1 | 0 => return Ok(Read::Said(Said::Other)),
        count => {
            usize::try_from(count).ok().filter(|&count| count <= MAX_ELEMENTS).ok_or(RespError::Nested)?
        }
    };
    let kind = cursor.element(MAX_LINE)?;
    if kind == b"message" && count == 3 {
        let channel = cursor.element(MAX_LINE)?;
        return read_payload(cursor, channel, max);
    }
    let name = if count > 1 { cursor.element(MAX_LINE)? } else { b"" };
    for _ in 2..count {
        cursor.element(max)?;
    }
    Ok(Read::Said(match kind {
        b"subscribe" => Said::Subscribed(name),
        b"unsubscribe" => Said::Unsubscribed(name),
        b"pong" => Said::Pong,
        _ => Said::Other,
    }))
}

fn read_payload<'a>(cursor: &mut Cursor<'a>, channel: &'a [u8], max: usize) -> Result<Read<'a>, Stop> {
    let kind = cursor.byte()?;
    if kind != b'$' {
        return Err(RespError::Kind(kind).into());
    }
    let len = usize::try_from(cursor.number()?).map_err(|_| RespError::Number)?;
    if len > MAX_BULK {
        return Err(RespError::Bulk.into());
    }
    if len > max {
        return Ok(Read::TooLarge { channel, drop: cursor.at + len + 2 });
    }
    let payload = cursor.exactly(len)?;
    Ok(Read::Said(Said::Message { channel, payload }))
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn byte(&mut self) -> Result<u8, Stop> {
        let byte = *self.bytes.get(self.at).ok_or(Stop::Part { need: self.at + 1 })?;
        self.at += 1;
        Ok(byte)
    }

    /// Up to CRLF, without it.
    fn line(&mut self) -> Result<&'a [u8], Stop> {
        let rest = &self.bytes[self.at..];
        let within = &rest[..rest.len().min(MAX_LINE)];
        let Some(len) = memchr(b'\r', within) else {
            return Err(if rest.len() >= MAX_LINE {
                RespError::Line.into()
            } else {
                Stop::Part { need: self.bytes.len() + 1 }
            });
        };
        match rest.get(len + 1) {
            Some(b'\n') => {}
            Some(_) => return Err(RespError::Line.into()),
            None => return Err(Stop::Part { need: self.bytes.len() + 1 }),
        }
        self.at += len + 2;
        Ok(&rest[..len])
    }

    /// A decimal number and CRLF. At most 18 digits, so that no sum of two overflows.
    fn number(&mut self) -> Result<i64, Stop> {
        let line = self.line()?;
        let (sign, digits) = match line {
            [b'-', digits @ ..] => (-1, digits),
            digits => (1, digits),
        };
        if digits.is_empty() || digits.len() > 18 {
            return Err(RespError::Number.into());
        }
        let mut number = 0i64;
        for digit in digits {
            if !digit.is_ascii_digit() {
                return Err(RespError::Number.into());
            }
            number = number * 10 + i64::from(digit - b'0');
        }
        Ok(sign * number)
    }

    /// `len` bytes and CRLF.
    fn exactly(&mut self, len: usize) -> Result<&'a [u8], Stop> {
        let end = self.at + len;
        match self.bytes.get(end..end + 2) {
            Some(b"\r\n") => {
                let bytes = &self.bytes[self.at..end];
                self.at = end + 2;
                Ok(bytes)
            }
            Some(_) => Err(RespError::Line.into()),
            None => Err(Stop::Part { need: end + 2 }),
        }
    }

    /// What follows `$`, `=` or `!`; null is empty.
    fn bulk(&mut self, max: usize) -> Result<&'a [u8], Stop> {
        match self.number()? {
            -1 => Ok(b""),
            len => {
                let len = usize::try_from(len).map_err(|_| RespError::Number)?;
                if len > max {
                    return Err(RespError::Bulk.into());
                }
                self.exactly(len)
            }
        }
    }

    /// What follows the byte of any type that holds no others.
    fn scalar(&mut self, kind: u8, max: usize) -> Result<&'a [u8], Stop> {
        match kind {
            b'$' | b'=' | b'!' => self.bulk(max),
            b'+' | b'-' | b':' | b'_' | b'#' | b',' | b'(' => self.line(),
            b'*' | b'>' | b'%' | b'~' | b'|' => Err(RespError::Nested.into()),
            other => Err(RespError::Kind(other).into()),
        }
    }

    fn element(&mut self, max: usize) -> Result<&'a [u8], Stop> {
        let kind = self.byte()?;
        self.scalar(kind, max)
    }

    /// A map of anything, after its byte.
    fn skip_map(&mut self, depth: usize) -> Result<(), Stop> {
        let pairs = self.number()?;
        self.skip_elements(pairs.checked_mul(2).ok_or(RespError::Number)?, depth)
    }

    fn skip_elements(&mut self, count: i64, depth: usize) -> Result<(), Stop> {
        if depth > MAX_MAP.0 {
            return Err(RespError::Nested.into());
        }
        for _ in 0..count {
            if self.at > MAX_MAP.1 {
                return Err(RespError::Nested.into());
            }
            match self.byte()? {
                b'%' => self.skip_map(depth + 1)?,
                b'*' | b'~' => {
                    let count = self.number()?;
                    self.skip_elements(count, depth + 1)?;
                }
                kind => {
                    self.scalar(kind, MAX_LINE)?;
                }
            }
        }
        Ok(())
    }
}

/// Appends a command, an array of bulks.
pub(crate) fn write_command(words: &[&str], out: &mut Vec<u8>) {
    write_head(words.len(), out);
    for word in words {
        write_bulk(word, out);
    }
}

/// Appends the head of a command of `words` words; as many [`write_bulk`] follow.
pub(crate) fn write_head(words: usize, out: &mut Vec<u8>) {
    write_number(b'*', words, out);
}

fn write_number(kind: u8, number: usize, out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    out.extend_from_slice(b"\r\n");
}

pub(crate) fn write_bulk(word: &str, out: &mut Vec<u8>) {
    write_number(b'$', word.len(), out);
    out.extend_from_slice(word.as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 100;

    fn whole(bytes: &[u8]) -> Said<'_> {
        match parse(bytes, MAX) {
            Ok(Parsed::Whole { said, len }) if len == bytes.len() => said,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_redis_says_is_told_apart() {
        let message = Said::Message { channel: b"c", payload: b"a\r\nb" };
        assert_eq!(whole(b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$4\r\na\r\nb\r\n"), message);
        assert_eq!(whole(b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$4\r\na\r\nb\r\n"), message);
        assert_eq!(whole(b">3\r\n$9\r\nsubscribe\r\n$2\r\nab\r\n:12\r\n"), Said::Subscribed(b"ab"));
        assert_eq!(whole(b">3\r\n$11\r\nunsubscribe\r\n$2\r\nab\r\n:0\r\n"), Said::Unsubscribed(b"ab"));
        assert_eq!(whole(b">3\r\n$11\r\nunsubscribe\r\n_\r\n:0\r\n"), Said::Unsubscribed(b""));
        assert_eq!(whole(b"+PONG\r\n"), Said::Pong);
        assert_eq!(whole(b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"), Said::Pong);
        assert_eq!(whole(b"-NOPERM no\r\n"), Said::Error(b"NOPERM no"));
        assert_eq!(whole(b"!5\r\nERR x\r\n"), Said::Error(b"ERR x"));
        assert_eq!(whole(b">4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$1\r\nc\r\n$1\r\np\r\n"), Said::Other);
        assert_eq!(whole(b">2\r\n$10\r\ninvalidate\r\n$-1\r\n"), Said::Other);
        assert_eq!(whole(b"+OK\r\n"), Said::Other);
        let hello = b"%3\r\n$6\r\nserver\r\n$5\r\nredis\r\n$5\r\nproto\r\n:3\r\n$7\r\nmodules\r\n*1\r\n%1\r\n+a\r\n*0\r\n";
        assert_eq!(whole(hello), Said::Hello);
    }

    #[test]
    fn what_is_over_a_bound_is_named() {
        let head = b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$101\r\n";
        assert_eq!(parse(head, MAX), Ok(Parsed::TooLarge { channel: b"c", drop: head.len() + 103 }));
        assert_eq!(parse(b">3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$536870913\r\n", MAX), Err(RespError::Bulk));
        assert_eq!(parse(b">9\r\n", MAX), Err(RespError::Nested));
        assert_eq!(parse(b">2\r\n$1\r\na\r\n*1\r\n", MAX), Err(RespError::Nested));
        assert_eq!(parse(b"*99999999999999999999\r\n", MAX), Err(RespError::Number));
        assert_eq!(parse(b"*-7\r\n", MAX), Err(RespError::Nested));
        assert_eq!(parse(b"$99999\r\n", MAX), Err(RespError::Bulk));
        assert_eq!(parse(b"$3\r\nabcd\r\n", MAX), Err(RespError::Line));
        assert_eq!(parse(&[b'+'; MAX_LINE + 2], MAX), Err(RespError::Line));
        assert_eq!(parse("%1\r\n".repeat(8).as_bytes(), MAX), Err(RespError::Nested));
        assert_eq!(parse(b"%999999999999999999\r\n", MAX), Ok(Parsed::Part { need: 22 }));
        assert_eq!(parse(b"HTTP/1.1 400\r\n", MAX), Err(RespError::Kind(b'H')));
    }

    fn items(bytes: &[u8]) -> Vec<String> {
        let (mut at, mut found) = (0, Vec::new());
        while let Ok(Parsed::Whole { said, len }) = parse(&bytes[at..], MAX) {
            found.push(format!("{said:?}"));
            at += len;
        }
        found
    }

    fn one() -> impl Strategy<Value = Vec<u8>> {
        let bulk = prop::collection::vec(any::<u8>(), 0..20)
            .prop_map(|b| [format!("${}\r\n", b.len()).as_bytes(), &b, b"\r\n"].concat());
        prop_oneof![
            (bulk.clone(), bulk.clone())
                .prop_map(|(c, p)| [b">3\r\n$7\r\nmessage\r\n".to_vec(), c, p].concat()),
            bulk.prop_map(|c| [b">3\r\n$9\r\nsubscribe\r\n".to_vec(), c, b":1\r\n".to_vec()].concat()),
            Just(b"+PONG\r\n".to_vec()),
            Just(b"-NOPERM x\r\n".to_vec()),
            Just(b"%1\r\n$1\r\na\r\n*1\r\n:1\r\n".to_vec()),
        ]
    }

    proptest! {
        /// Bytes that come in pieces say the same, and `need` never asks for more than there is.
        #[test]
        fn cuts_change_nothing(parts in prop::collection::vec(one(), 1..6), cuts in prop::collection::vec(1usize..9, 1..40)) {
            let stream = parts.concat();
            let (mut start, mut end, mut found) = (0, 0, Vec::new());
            let mut cuts = cuts.iter().cycle();
            while start < stream.len() {
                match parse(&stream[start..end], MAX).unwrap() {
                    Parsed::Whole { said, len } => {
                        found.push(format!("{said:?}"));
                        start += len;
                    }
                    Parsed::Part { need } => {
                        prop_assert!(need > end - start && start + need <= stream.len());
                        end = stream.len().min(end + cuts.next().unwrap());
                    }
                    other => panic!("{other:?}"),
                }
            }
            prop_assert_eq!(found.len(), parts.len());
            prop_assert_eq!(found, items(&stream));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            parse(&bytes, MAX).ok();
        }

        #[test]
        fn nearly_right_bytes_do_not_panic(bytes in "[>*%$+:0-9\r\na_-]{0,60}", part in one(), at in 0usize..40) {
            parse(bytes.as_bytes(), MAX).ok();
            let mut mixed = part;
            mixed.truncate(at);
            mixed.extend(bytes.as_bytes());
            parse(&mixed, MAX).ok();
        }
    }
}
