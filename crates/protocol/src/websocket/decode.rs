//! What clients send, frame by frame, into whole messages. A frame that is whole in the bytes of one
//! read is unmasked where it lies and lent out; only what is incomplete is kept.

use super::{MAX_CONTROL, Opcode};
use crate::Disconnect;

/// A whole message or control frame, lent for the time of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
    Ping(&'a [u8]),
    Pong(&'a [u8]),
    /// The last thing a decoder hands out. The answer is a close frame with the same code.
    Close {
        code: Option<u16>,
        reason: &'a str,
    },
}

/// Frames of one message at most. Autobahn's worst sends 65,536; more serves only to cost a header's
/// work per byte.
pub const MAX_FRAGMENTS: u32 = 65_536;

/// Reads one connection's bytes. Idle, it holds no heap memory.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Idle,
    Partial(Box<Partial>),
    Closed,
    Dead(Disconnect),
}

impl Decoder {
    /// Takes bytes as they came (unmasking them in place), and hands whole messages and control
    /// frames to `sink` in order. `max_message` bounds the bytes of one message, all its frames
    /// together. After a close frame all further bytes are ignored.
    ///
    /// Errors: [`Disconnect::Protocol`], [`Disconnect::InvalidText`], [`Disconnect::TooLarge`], or
    /// what `sink` returned. What came before the offending frame has been handed out by then. The
    /// decoder is dead afterwards: it takes no more bytes, and returns the same error again.
    pub fn feed(
        &mut self,
        bytes: &mut [u8],
        max_message: usize,
        sink: &mut dyn FnMut(Incoming<'_>) -> Result<(), Disconnect>,
    ) -> Result<(), Disconnect> {
        let mut partial = match std::mem::take(&mut self.state) {
            State::Idle => None,
            State::Partial(partial) => Some(partial),
            State::Closed => {
                self.state = State::Closed;
                return Ok(());
            }
            State::Dead(reason) => {
                self.state = State::Dead(reason);
                return Err(reason);
            }
        };
        match read(&mut partial, bytes, max_message, sink) {
            Ok(Flow::Open) => {
                self.state = partial.map_or(State::Idle, State::Partial);
                Ok(())
            }
            Ok(Flow::Closed) => {
                self.state = State::Closed;
                Ok(())
            }
            Err(reason) => {
                self.state = State::Dead(reason);
                Err(reason)
            }
        }
    }

    /// Bytes of memory kept for an incomplete frame or message; 0 when there is none.
    pub fn held(&self) -> usize {
        match &self.state {
            State::Partial(partial) => partial.memory(),
            State::Idle | State::Closed | State::Dead(_) => 0,
        }
    }
}

enum Flow {
    Open,
    Closed,
}

/// What is known of a frame or message that is not complete.
#[derive(Debug, Default)]
struct Partial {
    /// The beginning of a header, `head_length` bytes of it.
    head: [u8; MAX_HEADER],
    head_length: usize,
    /// The frame whose payload is coming in, and how many of its bytes came.
    frame: Option<(Header, usize)>,
    /// The payload of an incomplete control frame.
    control: Vec<u8>,
    /// The payload of an incomplete message. Between frames: of one whose last frame is to come.
    gathered: Option<Gathered>,
}

impl Partial {
    fn memory(&self) -> usize {
        let gathered = self.gathered.as_ref().map_or(0, |gathered| gathered.bytes.capacity());
        size_of::<Self>() + self.control.capacity() + gathered
    }

    fn is_over(&self) -> bool {
        self.head_length == 0 && self.frame.is_none() && self.gathered.is_none()
    }
}

fn read(
    partial: &mut Option<Box<Partial>>,
    mut bytes: &mut [u8],
    max_message: usize,
    sink: &mut dyn FnMut(Incoming<'_>) -> Result<(), Disconnect>,
) -> Result<Flow, Disconnect> {
    while !bytes.is_empty() {
        let resumed = partial.as_mut().and_then(|partial| partial.frame.take());
        let (header, had) = match resumed {
            Some(resumed) => resumed,
            None => match next_header(partial, &mut bytes)? {
                Some(header) => {
                    admit(&header, partial, max_message)?;
                    (header, 0)
                }
                None => return Ok(Flow::Open),
            },
        };
        if bytes.is_empty() && had < header.length {
            // A message begins with its first byte: until then its frame may still come whole.
            partial.get_or_insert_default().frame = Some((header, had));
            return Ok(Flow::Open);
        }
        let present = bytes.len().min(header.length - had);
        let (payload, rest) = bytes.split_at_mut(present);
        bytes = rest;
        unmask(payload, header.mask, had);
        match header.opcode {
            Some(opcode) if opcode.is_control() => {
                if let Flow::Closed = control(partial, (header, had), opcode, payload, sink)? {
                    return Ok(Flow::Closed);
                }
            }
            _ => data(partial, (header, had), payload, max_message, sink)?,
        }
        if partial.as_ref().is_some_and(|partial| partial.is_over()) {
            *partial = None;
        }
    }
    Ok(Flow::Open)
}

/// Takes a header off `bytes`, or keeps them all if it is not complete.
fn next_header(
    partial: &mut Option<Box<Partial>>,
    bytes: &mut &mut [u8],
) -> Result<Option<Header>, Disconnect> {
    let whole = std::mem::take(bytes);
    let held = partial.as_ref().map_or(0, |partial| partial.head_length);
    if held == 0
        && let Some((header, used)) = Header::parse(whole)?
    {
        *bytes = &mut whole[used..];
        return Ok(Some(header));
    }
    let partial = partial.get_or_insert_default();
    let present = whole.len().min(MAX_HEADER - held);
    partial.head[held..held + present].copy_from_slice(&whole[..present]);
    let Some((header, used)) = Header::parse(&partial.head[..held + present])? else {
        partial.head_length = held + present;
        return Ok(None);
    };
    partial.head_length = 0;
    *bytes = &mut whole[used - held..];
    Ok(Some(header))
}

/// Checks a header against the message it is part of, before anything is kept of its payload.
fn admit(header: &Header, partial: &mut Option<Box<Partial>>, max_message: usize) -> Result<(), Disconnect> {
    let gathered = partial.as_mut().and_then(|partial| partial.gathered.as_mut());
    let before = match (header.opcode, gathered) {
        (Some(opcode), _) if opcode.is_control() => return Ok(()),
        (Some(_), None) => 0,
        (None, Some(gathered)) => {
            gathered.frames += 1;
            if gathered.frames > MAX_FRAGMENTS {
                return Err(Disconnect::TooLarge);
            }
            gathered.bytes.len()
        }
        (Some(_), Some(_)) | (None, None) => return Err(Disconnect::Protocol),
    };
    if header.length > max_message.saturating_sub(before) {
        return Err(Disconnect::TooLarge);
    }
    Ok(())
}

fn control(
    partial: &mut Option<Box<Partial>>,
    (header, had): (Header, usize),
    opcode: Opcode,
    payload: &[u8],
    sink: &mut dyn FnMut(Incoming<'_>) -> Result<(), Disconnect>,
) -> Result<Flow, Disconnect> {
    let have = had + payload.len();
    if have < header.length {
        let partial = partial.get_or_insert_default();
        partial.control.extend_from_slice(payload);
        partial.frame = Some((header, have));
        return Ok(Flow::Open);
    }
    let mut kept = partial.as_mut().map(|partial| std::mem::take(&mut partial.control)).unwrap_or_default();
    let payload = if kept.is_empty() {
        payload
    } else {
        kept.extend_from_slice(payload);
        &kept
    };
    match opcode {
        Opcode::Ping => sink(Incoming::Ping(payload))?,
        Opcode::Pong => sink(Incoming::Pong(payload))?,
        _ => {
            sink(close(payload)?)?;
            return Ok(Flow::Closed);
        }
    }
    Ok(Flow::Open)
}

/// RFC 6455 §5.5.1 and §7.4, with the codes registered since (1012 to 1014).
fn close(payload: &[u8]) -> Result<Incoming<'_>, Disconnect> {
    let Some((code, reason)) = payload.split_first_chunk::<2>() else {
        return match payload {
            [] => Ok(Incoming::Close { code: None, reason: "" }),
            _ => Err(Disconnect::Protocol),
        };
    };
    match u16::from_be_bytes(*code) {
        code @ (1000..=1003 | 1007..=1014 | 3000..=4999) => {
            let reason = std::str::from_utf8(reason).map_err(|_| Disconnect::InvalidText)?;
            Ok(Incoming::Close { code: Some(code), reason })
        }
        _ => Err(Disconnect::Protocol),
    }
}

fn data(
    partial: &mut Option<Box<Partial>>,
    (header, had): (Header, usize),
    payload: &[u8],
    max_message: usize,
    sink: &mut dyn FnMut(Incoming<'_>) -> Result<(), Disconnect>,
) -> Result<(), Disconnect> {
    let have = had + payload.len();
    let text = header.opcode == Some(Opcode::Text);
    if header.fin && header.opcode.is_some() && payload.len() == header.length {
        return sink(whole(text, payload)?);
    }
    let partial = partial.get_or_insert_default();
    let gathered = partial.gathered.get_or_insert_with(|| Gathered::new(text));
    let most = if header.fin { gathered.bytes.len() + header.length - had } else { max_message };
    gathered.push(payload, most)?;
    if have < header.length {
        partial.frame = Some((header, have));
    } else if header.fin
        && let Some(gathered) = partial.gathered.take()
    {
        sink(whole(gathered.text, &gathered.bytes)?)?;
    }
    Ok(())
}

fn whole(text: bool, payload: &[u8]) -> Result<Incoming<'_>, Disconnect> {
    if text {
        let text = std::str::from_utf8(payload).map_err(|_| Disconnect::InvalidText)?;
        Ok(Incoming::Text(text))
    } else {
        Ok(Incoming::Binary(payload))
    }
}

/// The unmasked payload of a message so far.
#[derive(Debug)]
struct Gathered {
    text: bool,
    bytes: Vec<u8>,
    /// How many of the bytes are known to be UTF-8.
    valid: usize,
    frames: u32,
}

impl Gathered {
    fn new(text: bool) -> Self {
        Self { text, bytes: Vec::new(), valid: 0, frames: 1 }
    }

    /// Appends, growing by doubling but not beyond `most` bytes, so that memory follows what came
    /// and not what was announced. Text that cannot become UTF-8 is refused at once.
    fn push(&mut self, payload: &[u8], most: usize) -> Result<(), Disconnect> {
        let needed = self.bytes.len() + payload.len();
        if needed > self.bytes.capacity() {
            let room = (self.bytes.capacity() * 2).min(most).max(needed);
            self.bytes.reserve_exact(room - self.bytes.len());
        }
        self.bytes.extend_from_slice(payload);
        if !self.text {
            return Ok(());
        }
        match std::str::from_utf8(&self.bytes[self.valid..]) {
            Ok(_) => self.valid = self.bytes.len(),
            Err(cut) if cut.error_len().is_none() => self.valid += cut.valid_up_to(),
            Err(_) => return Err(Disconnect::InvalidText),
        }
        Ok(())
    }
}

/// Two bytes, eight of extended length, four of mask (RFC 6455 §5.2).
const MAX_HEADER: usize = 14;

#[derive(Debug, Clone, Copy)]
struct Header {
    fin: bool,
    /// `None` for a continuation.
    opcode: Option<Opcode>,
    mask: [u8; 4],
    length: usize,
}

impl Header {
    /// The header at the front and its size, or `None` if it is not complete. What is wrong is
    /// refused with the first byte that shows it.
    fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Disconnect> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        let opcode = match first & 0x7F {
            0x0 => None,
            0x1 => Some(Opcode::Text),
            0x2 => Some(Opcode::Binary),
            0x8 => Some(Opcode::Close),
            0x9 => Some(Opcode::Ping),
            0xA => Some(Opcode::Pong),
            // An unknown opcode, or an RSV bit.
            _ => return Err(Disconnect::Protocol),
        };
        let fin = first & 0x80 != 0;
        let is_control = opcode.is_some_and(Opcode::is_control);
        if is_control && !fin {
            return Err(Disconnect::Protocol);
        }
        let Some(&second) = bytes.get(1) else { return Ok(None) };
        let short = usize::from(second & 0x7F);
        if second & 0x80 == 0 || is_control && short > MAX_CONTROL {
            return Err(Disconnect::Protocol);
        }
        let (length, least, at) = match short {
            126 => {
                let Some(length) = array(bytes, 2) else { return Ok(None) };
                (u64::from(u16::from_be_bytes(length)), 126, 4)
            }
            127 => {
                let Some(length) = array(bytes, 2) else { return Ok(None) };
                (u64::from_be_bytes(length), 0x1_0000, 10)
            }
            _ => (short as u64, 0, 2),
        };
        if length < least || length >> 63 != 0 {
            return Err(Disconnect::Protocol);
        }
        let Some(mask) = array(bytes, at) else { return Ok(None) };
        let length = usize::try_from(length).map_err(|_| Disconnect::TooLarge)?;
        Ok(Some((Self { fin, opcode, mask, length }, at + 4)))
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// Takes the mask off bytes that begin `offset` bytes into their payload.
fn unmask(bytes: &mut [u8], mut mask: [u8; 4], offset: usize) {
    mask.rotate_left(offset % 4);
    let wide = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let mut words = bytes.chunks_exact_mut(8);
    for word in &mut words {
        let mut value = [0; 8];
        value.copy_from_slice(word);
        word.copy_from_slice(&(u64::from_ne_bytes(value) ^ wide).to_ne_bytes());
    }
    for (byte, mask) in words.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}
