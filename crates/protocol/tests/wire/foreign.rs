//! Whatever comes in, nothing panics, and what is taken keeps its promises.

use fanfare_protocol::command::{Command, Payload};
use fanfare_protocol::json::{Bins, from_msgpack, to_msgpack, to_msgpack_with_holes};
use fanfare_protocol::msgpack::{EventView, check_event, field, scalar_text, skip};
use fanfare_protocol::publication::from_json;
use fanfare_protocol::{Encoding, Namespaces, engineio, plain, socketio};
use proptest::prelude::*;

use crate::{publication, sent};

/// Everything that reads MessagePack.
fn read_msgpack(raw: &[u8]) {
    if let Ok(len) = skip(raw) {
        assert!((1..=raw.len()).contains(&len));
    }
    let _unused = (scalar_text(raw), field(raw, "a"));
    if let Ok(view) = EventView::parse(raw) {
        let _unused = (view.name(), view.args().count());
    }
    let outcome = from_msgpack(raw, &mut Vec::new(), Bins::Placeholders(&mut Vec::new()));
    let mut binary = false;
    let plain_outcome = from_msgpack(raw, &mut Vec::new(), Bins::Base64(&mut binary));
    if outcome.is_ok() {
        assert_eq!(plain_outcome, Ok(()));
    }
    let whole = check_event(raw).is_ok();
    for encoding in Encoding::ALL {
        let frame = encoding.encode(&publication("/", raw.to_vec()), Some("r"));
        if let (true, Ok(frame)) = (whole, frame) {
            assert!(!sent(&frame).is_empty());
        }
    }
}

/// Everything that reads text.
fn read_text(text: &str) {
    let mut out = Vec::new();
    if to_msgpack(text, &mut out).is_ok() {
        assert_eq!(skip(&out), Ok(out.len()));
    }
    let mut out = Vec::new();
    if let Ok(holes) = to_msgpack_with_holes(text, 2, &mut out) {
        assert_eq!(skip(&out), Ok(out.len()));
        assert!(holes.iter().all(|hole| out[hole.at] == 0xc0 && hole.num < 2));
    }
    let _unused = engineio::decode(text);
    if let Ok(publication) = from_json(text.as_bytes()) {
        assert_eq!(check_event(&publication.data), Ok(()));
    }
    let mut commands = Vec::new();
    let _unused = plain::Machine::default().receive(Payload::Text(text), &mut commands);
    events_are_whole(&commands);
}

fn events_are_whole(commands: &[Command]) {
    for command in commands {
        if let Command::Event { data, .. } = command {
            assert_eq!(check_event(data), Ok(()));
        }
    }
}

/// Pieces of which packets, frames and JSON are made, so that random texts get past the first byte.
fn pieces() -> impl Strategy<Value = String> {
    const PIECES: [&str; 32] = [
        "4",
        "40",
        "42",
        "43",
        "451-",
        "452-",
        "461-",
        "/",
        ",",
        "/admin",
        "7",
        "-",
        "[",
        "]",
        "{",
        "}",
        "\"a\"",
        ":",
        "\"_placeholder\":true",
        "\"num\":0",
        "\"num\":1",
        "null",
        "1.5",
        "\"type\":\"event\"",
        "\"room\":\"r\"",
        "\"event\":\"e\"",
        "\"data\":",
        "\"args\":[",
        "\"id\":1",
        "b",
        "AQ==",
        "\"\\u00e9\"",
    ];
    proptest::collection::vec(
        prop_oneof![proptest::sample::select(&PIECES[..]).prop_map(str::to_owned), ".{0,3}"],
        0..24,
    )
    .prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn random_bytes(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
        read_msgpack(&raw);
        let _unused = from_json(&raw);
        read_text(&String::from_utf8_lossy(&raw));
    }

    #[test]
    fn random_bytes_of_small_containers(
        raw in proptest::collection::vec(prop_oneof![0x80u8..0xaa, 0xc0u8..0xe0, Just(0xffu8), 0u8..4], 0..100)
    ) {
        read_msgpack(&raw);
    }

    #[test]
    fn damaged_events(at in any::<proptest::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut raw = crate::hex(
            "97 a3 62696e c4 04 01020304 82 a1 75 c4 02 0506 05 93 c0 c2 cb3ff8000000000000 d6 ff 6553f100 d4 00 00 \
             d9 02 6869 dc 0002 01 ff",
        );
        prop_assert!(check_event(&raw).is_ok());
        let at = at.index(raw.len());
        if cut { raw.truncate(at) } else { raw[at] = byte }
        read_msgpack(&raw);
    }

    #[test]
    fn random_texts(text in pieces()) {
        read_text(&text);
    }

    #[test]
    fn random_socketio_connections(packets in proptest::collection::vec((pieces(), any::<bool>()), 0..12)) {
        let namespaces = Namespaces::new(["/admin"]).unwrap();
        let mut machine = socketio::Machine::default();
        let mut commands = Vec::new();
        machine.receive(Payload::Text("40"), &namespaces, 1000, &mut commands).unwrap();
        for (packet, binary) in &packets {
            let packet = format!("4{packet}");
            let payload = if *binary { Payload::Binary(packet.as_bytes()) } else { Payload::Text(&packet) };
            if machine.receive(payload, &namespaces, 1000, &mut commands).is_err() {
                break;
            }
        }
        events_are_whole(&commands);
    }
}
