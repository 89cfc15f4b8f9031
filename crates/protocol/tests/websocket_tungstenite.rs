//! The codec against tungstenite: the same messages out of the same bytes, the same bytes refused,
//! and what a server writes is read back by a client.
//!
//! Known differences, each of them ours on purpose:
//! - tungstenite accepts lengths that are not in their shortest form (RFC 6455 §5.2: a MUST);
//! - it hands out a close frame with a forbidden code as 1002 "Protocol violation", we refuse it;
//! - it refuses code 1014, which IANA has registered;
//! - it looks at a frame when all of it is there, we at each byte: of two faults in one frame it may
//!   name the other, and what we refuse at once it refuses when the frame is complete.

mod websocket;

use std::io::{self, Cursor, Read, Write};

use fanfare_protocol::Disconnect;
use fanfare_protocol::websocket::{Opcode, begin_frame, finish_frame, write_close, write_frame};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use tungstenite::error::ProtocolError;
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};
use websocket::{Seen, decode, frame};

const MAX_MESSAGE: usize = 2000;

/// Bytes to be read, then the end; what is written goes nowhere.
struct Wire(Cursor<Vec<u8>>);

impl Read for Wire {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.0.read(out)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn tungstenite(stream: Vec<u8>, role: Role, max_message: usize) -> Vec<Seen> {
    let config = WebSocketConfig::default()
        .read_buffer_size(4096)
        .max_message_size(Some(max_message))
        .max_frame_size(Some(max_message));
    let mut socket = WebSocket::from_raw_socket(Wire(Cursor::new(stream)), role, Some(config));
    let mut seen = Vec::new();
    loop {
        seen.push(match socket.read() {
            Ok(Message::Text(text)) => Seen::Text(text.to_string()),
            Ok(Message::Binary(bytes)) => Seen::Binary(bytes.to_vec()),
            Ok(Message::Ping(bytes)) => Seen::Ping(bytes.to_vec()),
            Ok(Message::Pong(bytes)) => Seen::Pong(bytes.to_vec()),
            Ok(Message::Close(close)) => {
                seen.push(match close {
                    Some(close) if close.reason.as_str() == "Protocol violation" => {
                        Seen::Fails(Disconnect::Protocol)
                    }
                    Some(close) => Seen::Close(Some(close.code.into()), close.reason.to_string()),
                    None => Seen::Close(None, String::new()),
                });
                return seen;
            }
            Ok(Message::Frame(_)) => panic!("never read"),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => return seen,
            Err(error) => {
                seen.push(Seen::Fails(match error {
                    Error::Protocol(_) => Disconnect::Protocol,
                    Error::Utf8(_) => Disconnect::InvalidText,
                    Error::Capacity(_) => Disconnect::TooLarge,
                    error => panic!("{error}"),
                }));
                return seen;
            }
        });
    }
}

/// What was handed out, and how it ended.
fn split(mut seen: Vec<Seen>) -> (Vec<Seen>, Option<Disconnect>) {
    match seen.last() {
        Some(&Seen::Fails(reason)) => {
            seen.pop();
            (seen, Some(reason))
        }
        _ => (seen, None),
    }
}

/// Whether some frame's length is not in its shortest form.
fn has_long_form(mut stream: &[u8]) -> bool {
    while let [_, second, rest @ ..] = stream {
        let (length, after) = match second & 0x7F {
            126 if rest.len() >= 2 => (u64::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
            127 if rest.len() >= 8 => (u64::from_be_bytes(*rest.first_chunk().unwrap()), &rest[8..]),
            126 | 127 => return false,
            short => (u64::from(short), rest),
        };
        if after.len() < rest.len() && length < if rest.len() - after.len() == 2 { 126 } else { 65_536 } {
            return true;
        }
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        let Some(next) = usize::try_from(length).ok().and_then(|length| after.get(length + mask..)) else {
            return false;
        };
        stream = next;
    }
    false
}

fn agree(stream: &[u8], cuts: &[Index]) -> Result<(), TestCaseError> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    cuts.extend([0, stream.len()]);
    cuts.sort_unstable();
    let (ours, our_end) = split(decode(cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]), MAX_MESSAGE));
    let (theirs, mut their_end) = split(tungstenite(stream.to_vec(), Role::Server, MAX_MESSAGE));

    if let Some((Seen::Close(Some(1014), _), before)) = ours.split_last() {
        prop_assert_eq!((before, their_end), (&theirs[..], Some(Disconnect::Protocol)));
        return Ok(());
    }
    if our_end == Some(Disconnect::Protocol) && has_long_form(stream) {
        prop_assert!(theirs.starts_with(&ours), "{:?} but {:?}", ours, theirs);
        return Ok(());
    }
    prop_assert_eq!(&ours, &theirs);
    if our_end.is_some() && their_end.is_none() {
        let completed = [stream, &[0; MAX_MESSAGE + 14]].concat();
        their_end = split(tungstenite(completed, Role::Server, MAX_MESSAGE)).1;
    }
    match our_end {
        None => prop_assert_eq!(their_end, None),
        Some(Disconnect::Protocol) => prop_assert!(their_end.is_some()),
        same => prop_assert_eq!(same, their_end),
    }
    Ok(())
}

/// A masked frame; `first` is its first byte.
fn masked(first: u8, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut out = frame(first, payload);
    let start = out.len() - payload.len();
    out[start - 4..start].copy_from_slice(&mask);
    for (at, byte) in payload.iter().enumerate() {
        out[start + at] = byte ^ mask[at % 4];
    }
    out
}

type Mask = [u8; 4];

fn control() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![4 => vec(any::<u8>(), 0..20), 1 => vec(any::<u8>(), 120..=125)];
    (prop_oneof![Just(0x89), Just(0x8A)], any::<Mask>(), payload)
        .prop_map(|(first, mask, payload)| masked(first, mask, &payload))
}

fn payload() -> impl Strategy<Value = (bool, Vec<u8>)> {
    let text = vec(any::<char>(), 0..40).prop_map(|chars| chars.into_iter().collect::<String>());
    prop_oneof![
        text.prop_map(|text| (true, text.into_bytes())),
        vec(any::<u8>(), 0..40).prop_map(|bytes| (false, bytes)),
        vec(any::<u8>(), 120..400).prop_map(|bytes| (false, bytes)),
    ]
}

/// A message in one or more frames, with control frames between them.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let between = proptest::option::of(control());
    (payload(), vec((any::<Index>(), any::<Mask>(), between), 0..4), any::<Mask>()).prop_map(
        |((text, payload), mut cuts, last)| {
            cuts.sort_by_key(|(cut, ..)| cut.index(payload.len() + 1));
            let mut opcode = if text { 1 } else { 2 };
            let mut stream = Vec::new();
            let mut from = 0;
            for (cut, mask, between) in cuts {
                let to = cut.index(payload.len() + 1);
                stream.extend(masked(opcode, mask, &payload[from..to]));
                stream.extend(between.unwrap_or_default());
                (from, opcode) = (to, 0);
            }
            stream.extend(masked(0x80 | opcode, last, &payload[from..]));
            stream
        },
    )
}

fn close() -> impl Strategy<Value = Vec<u8>> {
    let code = prop_oneof![1000u16..=1003, 1007u16..=1013, 3000u16..=4999];
    let reason = vec(any::<char>(), 0..30).prop_map(|chars| chars.into_iter().collect::<String>());
    (code, reason, any::<Mask>()).prop_map(|(code, reason, mask)| {
        masked(0x88, mask, &[&code.to_be_bytes(), reason.as_bytes()].concat())
    })
}

/// What a well-behaved client sends.
fn valid() -> impl Strategy<Value = Vec<u8>> {
    (vec(prop_oneof![3 => message(), 1 => control()], 0..6), proptest::option::of(close()))
        .prop_map(|(parts, close)| [parts.concat(), close.unwrap_or_default()].concat())
}

/// A fault in a stream, at a place of the stream.
#[derive(Debug, Clone)]
enum Fault {
    Flip(u8),
    Set(u8),
    Drop,
    Insert(u8),
    Frame(Vec<u8>),
    End,
}

fn fault() -> impl Strategy<Value = Fault> {
    let any_frame = (any::<u8>(), any::<Mask>(), vec(any::<u8>(), 0..130))
        .prop_map(|(first, mask, payload)| masked(first, mask, &payload));
    prop_oneof![
        (0u32..8).prop_map(|bit| Fault::Flip(1 << bit)),
        any::<u8>().prop_map(Fault::Set),
        Just(Fault::Drop),
        any::<u8>().prop_map(Fault::Insert),
        any_frame.prop_map(Fault::Frame),
        close().prop_map(Fault::Frame),
        Just(Fault::End),
    ]
}

fn damage(stream: &mut Vec<u8>, at: usize, fault: Fault) {
    match fault {
        Fault::Flip(bits) => stream[at] ^= bits,
        Fault::Set(byte) => stream[at] = byte,
        Fault::Drop => drop(stream.remove(at)),
        Fault::Insert(byte) => stream.insert(at, byte),
        Fault::Frame(frame) => drop(stream.splice(at..at, frame)),
        Fault::End => stream.truncate(at),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn valid_streams_give_the_same(stream in valid(), cuts in vec(any::<Index>(), 0..12)) {
        let seen = decode([stream.as_slice()], MAX_MESSAGE);
        prop_assert!(!matches!(seen.last(), Some(Seen::Fails(_))), "{:?}", seen);
        agree(&stream, &cuts)?;
    }

    #[test]
    fn damaged_streams_give_the_same(
        mut stream in valid(),
        faults in vec((any::<Index>(), fault()), 1..3),
        // Most faults are wanted near the front, where headers are not yet out of step.
        near in any::<bool>(),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        for (at, fault) in faults {
            if !stream.is_empty() {
                let at = at.index(if near { stream.len().min(16) } else { stream.len() });
                damage(&mut stream, at, fault);
            }
        }
        agree(&stream, &cuts)?;
    }

    #[test]
    fn frames_in_any_order_give_the_same(
        frames in vec((0u8..16, any::<bool>(), any::<Mask>(), vec(0x60u8..0x84, 0..20)), 0..8),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let frames = frames.iter().filter(|(opcode, ..)| matches!(opcode, 0..=3 | 8..=10));
        let stream: Vec<u8> = frames
            .flat_map(|(opcode, fin, mask, payload)| masked(u8::from(*fin) << 7 | opcode, *mask, payload))
            .collect();
        agree(&stream, &cuts)?;
    }

    #[test]
    fn noise_never_panics_and_gives_the_same(
        stream in vec(any::<u8>(), 0..300),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        agree(&stream, &cuts)?;
    }
}

/// Every power of two and its neighbours, up to a mebibyte.
fn lengths() -> impl Iterator<Item = usize> {
    (0..=20).flat_map(|bits| [(1 << bits) - 1, 1 << bits, (1 << bits) + 1])
}

const LARGE: usize = 2 << 20;

#[test]
fn every_length_is_read() {
    for length in lengths() {
        let payload: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let stream = frame(0x82, &payload);
        let expected = [Seen::Binary(payload)];
        for piece in [stream.len(), 65_536, 4093] {
            assert!(decode(stream.chunks(piece), LARGE) == expected, "{length} bytes in pieces of {piece}");
        }
        assert!(tungstenite(stream, Role::Server, LARGE) == expected, "{length} bytes, tungstenite");
    }
}

#[test]
fn every_length_written_is_read_by_a_client() {
    for length in lengths() {
        let letters: String = ('a'..='z').cycle().take(length).collect();
        let mut stream = Vec::new();
        write_frame(Opcode::Text, letters.as_bytes(), &mut stream);
        write_frame(Opcode::Binary, letters.as_bytes(), &mut stream);
        let mut in_place = Vec::new();
        for opcode in [Opcode::Text, Opcode::Binary] {
            let start = begin_frame(&mut in_place);
            in_place.extend_from_slice(letters.as_bytes());
            finish_frame(&mut in_place, start, opcode);
        }
        assert!(in_place == stream, "{length} bytes in place");
        // tungstenite accepts longer forms of a length; others do not.
        let header = match length {
            0..=125 => 2,
            126..=0xFFFF => 4,
            _ => 10,
        };
        assert_eq!(stream.len(), 2 * (header + length));
        let expected = [Seen::Text(letters.clone()), Seen::Binary(letters.into_bytes())];
        assert!(tungstenite(stream, Role::Client, LARGE) == expected, "{length} bytes");
    }
}

#[test]
fn control_frames_written_are_read_by_a_client() {
    let mut stream = Vec::new();
    for length in [0, 1, 124, 125] {
        write_frame(Opcode::Ping, &vec![7; length], &mut stream);
        write_frame(Opcode::Pong, &vec![9; length], &mut stream);
    }
    write_close(Some(4002), "slow consumer", &mut stream);
    let mut expected = Vec::new();
    for length in [0, 1, 124, 125] {
        expected.extend([Seen::Ping(vec![7; length]), Seen::Pong(vec![9; length])]);
    }
    expected.push(Seen::Close(Some(4002), "slow consumer".to_owned()));
    assert_eq!(tungstenite(stream, Role::Client, LARGE), expected);
}

#[test]
fn close_reasons_are_cut_between_characters() {
    let rows = [
        (Some(1000), "", ""),
        (None, "needs a code", ""),
        (Some(1000), &"a".repeat(123), &"a".repeat(123)),
        (Some(1000), &"a".repeat(124), &"a".repeat(123)),
        (Some(1000), &"ä".repeat(100), &"ä".repeat(61)),
        (Some(1000), &"🦀".repeat(100), &"🦀".repeat(30)),
    ];
    for (code, reason, cut) in rows {
        let mut stream = Vec::new();
        write_close(code, reason, &mut stream);
        let seen = tungstenite(stream, Role::Client, LARGE);
        assert_eq!(seen, [Seen::Close(code, cut.to_owned())]);
    }
}
