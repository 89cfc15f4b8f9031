use std::borrow::Cow;

use fanfare_protocol::msgpack::{event, write_int};
use fanfare_protocol::publication::Rooms;
use proptest::prelude::*;

use super::*;
use crate::Malformed;

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn rooms(names: &[&str]) -> Rooms<'static> {
    names.iter().map(|name| Cow::Owned((*name).to_owned())).collect()
}

fn publication(namespace: &str, to: &[&str], except: &[&str], volatile: bool) -> Publication<'static> {
    Publication {
        namespace: Cow::Owned(namespace.to_owned()),
        rooms: rooms(to),
        except: rooms(except),
        volatile,
        data: Cow::Owned(event("hi", &[])),
        sent_at: None,
        ack: None,
    }
}

fn read(payload: &[u8]) -> Result<Publication<'static>, Malformed> {
    decode(payload, "/", MAX_ENVELOPE).map(Publication::into_owned)
}

const PACKET: &str = "83 a474797065 02 a464617461 91a26869 a36e7370 a12f";

/// What the emitter wrote, byte by byte (captured).
#[test]
fn the_emitters_envelopes_are_read() {
    let head = "93 a7656d6974746572";
    let all = hex(&format!("{head} {PACKET} 83 a5726f6f6d73 90 a5666c616773 80 a6657863657074 90"));
    assert_eq!(read(&all), Ok(publication("/", &[], &[], false)));
    let two = hex(&format!(
        "{head} {PACKET} 83 a5726f6f6d73 92a27231a27232 a5666c616773 80 a6657863657074 91a27233"
    ));
    assert_eq!(read(&two), Ok(publication("/", &["r1", "r2"], &["r3"], false)));
    let flags = "82 a8766f6c6174696c65 c3 a8636f6d7072657373 c2";
    let admin = hex(&format!(
        "{head} 83 a474797065 02 a464617461 96a26869c3c0cb3ff8000000000000fbcd012c a36e7370 a62f61646d696e
         83 a5726f6f6d73 91a27231 a5666c616773 {flags} a6657863657074 90"
    ));
    let to_admin = decode(&admin, "/admin", MAX_ENVELOPE).unwrap();
    assert!(to_admin.volatile);
    assert_eq!(&to_admin.data[..], hex("96a26869c3c0cb3ff8000000000000fbcd012c"));
    assert_eq!(decode(&admin, "/", MAX_ENVELOPE), Err(Malformed::WrongNamespace));
    let number = hex(&format!("{head} {PACKET} 82 a5726f6f6d73 922aff a5666c616773 80"));
    assert_eq!(read(&number), Ok(publication("/", &["42", "-1"], &[], false)));
}

/// Absent, nil, empty string and `undefined` (ext 0) all mean nothing; type 5 is an event.
#[test]
fn what_old_emitters_leave_out_is_nothing() {
    let plain = publication("/", &[], &[], false);
    for opts in [
        "80",
        "c0",
        "d40000",
        "82 a5726f6f6d73 a0 a5666c616773 a0",
        "83 a5726f6f6d73 c0 a5666c616773 c0 a6657863657074 d40000",
        "83 a5726f6f6d73 90 a5666c616773 90 a3666f6f 81a16192c0c0",
    ] {
        let payload = hex(&format!("93 c0 {PACKET} {opts}"));
        assert_eq!(read(&payload), Ok(plain.clone()), "{opts}");
    }
    for packet in [
        "82 a474797065 05 a464617461 91a26869",
        "83 a474797065 02 a464617461 91a26869 a36e7370 c0",
        "84 a26964 c0 a474797065 02 a464617461 91a26869 a36e7370 a0",
    ] {
        let payload = hex(&format!("93 01 {packet} 80"));
        assert_eq!(read(&payload), Ok(plain.clone()), "{packet}");
    }
    let raw16_room = hex(&format!("93 c0 {PACKET} 81 a5726f6f6d73 91 da0002 7231"));
    assert_eq!(read(&raw16_room).unwrap().rooms, rooms(&["r1"]));
    let bare_room = hex(&format!("93 c0 {PACKET} 81 a5726f6f6d73 a27231"));
    assert_eq!(read(&bare_room).unwrap().rooms, rooms(&["r1"]));
}

/// Emitters in other languages, and the options of the official one, by what they put on the wire.
#[test]
fn odd_emitters_are_read() {
    let one = |data: &str, to: &[&str]| Publication {
        data: Cow::Owned(hex(data)),
        ..publication("/", to, &[], false)
    };
    let head = "93 a7656d6974746572 83 a474797065 02 a464617461";
    let cases = [
        // Binary at two depths; the type stays 2.
        (
            format!(
                "{head} 93a362696ec40401020304 81a175c4020506 a36e7370a12f 82a5726f6f6d7390a5666c61677380"
            ),
            one("93a362696ec40401020304 81a175c4020506", &[]),
        ),
        // socket.io-emitter 3.2: no except; type 5 with binary.
        (
            "93 a7656d6974746572 83 a474797065 05 a464617461 92a26869c40101 a36e7370a12f
             82 a5726f6f6d73 91a27231 a5666c616773 80"
                .to_owned(),
            one("92a26869c40101", &["r1"]),
        ),
        // A numeric room of the official emitter.
        (
            format!("{head} 91a26869 a36e7370a12f 83a5726f6f6d73912aa5666c61677380a665786365707490"),
            one("91a26869", &["42"]),
        ),
        // ziyasal's: a copy on each room's channel, each naming all rooms; flags are a text.
        (
            format!("{head} 91a26869 a36e7370a12f 82a5726f6f6d7392a27231a27232a5666c616773a0"),
            one("91a26869", &["r1", "r2"]),
        ),
        (format!("{head} 91a26869 a36e7370a12f 82a5726f6f6d73a0a5666c616773a0"), one("91a26869", &[])),
        // The Java emitter's raw strings know no str8: a text of 40 bytes is raw16.
        (
            format!(
                "{head} 92a26869 da0028{} a36e7370a12f 82a5726f6f6d7391da00027231a5666c61677380",
                "61".repeat(40)
            ),
            one(&format!("92a26869 da0028{}", "61".repeat(40)), &["r1"]),
        ),
        // Flags of servers: a time-out, compress, what is undefined.
        (
            format!(
                "{head} 91a26869 a36e7370a12f 82a5726f6f6d7390a5666c61677383a774696d656f7574cd1388a8636f6d7072657373c2a178d40000"
            ),
            one("91a26869", &[]),
        ),
    ];
    for (payload, expected) in cases {
        assert_eq!(read(&hex(&payload)), Ok(expected), "{payload}");
    }
    // An id is passed on, as Node does.
    let with_id = hex("93 c0 83 a474797065 02 a464617461 91a26869 a26964 07 80");
    assert_eq!(read(&with_id).unwrap().ack, Some(7));
}

/// The official emitter's `parser` option may write JSON.
#[test]
fn json_of_a_custom_parser_is_read() {
    let json = br#"["emitter",{"type":2,"data":["hi"],"nsp":"/"},{"rooms":["r1",42],"flags":{"volatile":true},"except":["x"]}]"#;
    assert_eq!(read(json), Ok(publication("/", &["r1", "42"], &["x"], true)));
    assert_eq!(decode(json, "/n", MAX_ENVELOPE), Err(Malformed::WrongNamespace));
    for wrong in ["[", "[]", "[\"emitter\",{}]", "[1,{\"type\":2,\"data\":[]},{}]", "[\u{ff}"] {
        assert_eq!(read(wrong.as_bytes()), Err(Malformed::Shape), "{wrong}");
    }
    let deep = format!("[1,{{\"type\":2,\"data\":[\"e\",{}{}]}},{{}}]", "[".repeat(600), "]".repeat(600));
    assert_eq!(read(deep.as_bytes()), Err(Malformed::TooDeep));
}

#[test]
fn wrong_shapes_are_refused() {
    for wrong in [
        "",
        "c0",
        "93",
        "5b",
        &format!("92 {PACKET} 80"),
        &format!("93 c0 {PACKET} 80 00"),
        &format!("93 c0 {PACKET} 91"),
        &format!("93 c0 {PACKET} 81 a5726f6f6d73 91c0"),
        &format!("93 c0 {PACKET} 81 a5726f6f6d73 91a2ff00"),
        &format!("93 c0 {PACKET} 81 a5726f6f6d73 dd ffffffff"),
        "93 c0 83 a474797065 03 a464617461 91a26869 a36e7370 a12f 80",
        "93 c0 82 a474797065 02 a36e7370 a12f 80",
        "93 c0 82 a474797065 02 a464617461 90 80",
        "93 c0 82 a474797065 02 a464617461 c0 80",
        "93 c0 82 a464617461 91a26869 a36e7370 a12f 80",
        "93 c0 df ffffffff",
        // "connect" and "disconnect" as names of events break clients.
        "93 c0 82 a474797065 02 a464617461 91a7636f6e6e656374 80",
    ] {
        assert_eq!(read(&hex(wrong)), Err(Malformed::Shape), "{wrong}");
    }
    let good = hex(&format!("93 c0 {PACKET} 80"));
    assert_eq!(decode(&good, "/", good.len() - 1), Err(Malformed::TooLarge));
    assert!(decode(&good, "/", good.len()).is_ok());
}

#[test]
fn depth_is_bounded_wherever_it_hides() {
    for levels in [600, 100_000] {
        let deep = vec![0x91; levels];
        let deep_data = [hex("93 c0 82 a474797065 02 a464617461 91"), deep.clone(), hex("c0 80")].concat();
        let deep_unknown = [hex(&format!("93 c0 {PACKET} 81 a178")), deep.clone(), vec![0xc0]].concat();
        let deep_fourth = [hex(&format!("94 c0 {PACKET} 80")), deep.clone(), vec![0xc0]].concat();
        for payload in [deep, deep_data, deep_unknown, deep_fourth] {
            let reason = read(&payload).unwrap_err();
            assert!(matches!(reason, Malformed::TooDeep | Malformed::Shape));
        }
        let data =
            [hex("93 c0 82 a474797065 02 a464617461 92a26869"), vec![0x91; levels], hex("c0 80")].concat();
        assert_eq!(read(&data), Err(Malformed::TooDeep));
    }
}

#[test]
fn what_is_written_is_the_emitters_with_a_fourth_element() {
    let mut publication = publication("/", &["r1"], &[], false);
    publication.data = Cow::Owned(hex("93a26869a17801"));
    let uid = Uid::random();
    let envelope = encode(&publication, uid, 5);
    let emitter = "83 a474797065 02 a464617461 93a26869a17801 a36e7370 a12f
                   83 a5726f6f6d73 91a27231 a5666c616773 80 a6657863657074 90";
    let expected = [hex("94 a6"), uid.as_str().as_bytes().to_vec(), hex(emitter), hex("81 a174 05")].concat();
    assert_eq!(envelope, expected);
    assert_ne!(Uid::random(), Uid::random());
}

#[test]
fn one_room_has_its_channel() {
    let to = |rooms: &[&str]| publication("/n", rooms, &["x"], false);
    assert_eq!(channel_of(&to(&["a"])), Channel::Room { namespace: "/n", room: "a" });
    assert_eq!(channel_of(&to(&["a", "b"])), Channel::Namespace("/n"));
    assert_eq!(channel_of(&to(&[])), Channel::Namespace("/n"));
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        namespace in "/[a-z]{0,8}", to in prop::collection::vec("\\PC{1,12}", 0..40),
        except in prop::collection::vec("\\PC{1,12}", 0..20), volatile: bool, number: i64, now: u64,
    ) {
        let mut argument = Vec::new();
        write_int(number, &mut argument);
        let sent = Publication {
            namespace: namespace.into(),
            rooms: to.into_iter().map(Cow::Owned).collect(),
            except: except.into_iter().map(Cow::Owned).collect(),
            volatile,
            data: event("n", &[&argument]).into(),
            sent_at: None,
        ack: None,
        };
        let envelope = encode(&sent, Uid::random(), now);
        let read = decode(&envelope, &sent.namespace, MAX_ENVELOPE).map(Publication::into_owned);
        prop_assert_eq!(read, Ok(Publication { sent_at: Some(now), ..sent.clone() }));
        for cut in 0..envelope.len() {
            prop_assert!(decode(&envelope[..cut], &sent.namespace, MAX_ENVELOPE).is_err());
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..60, byte: u8) {
        read(&bytes).ok();
        let mut nearly = hex(&format!("93 c0 {PACKET} 83 a5726f6f6d73 91a27231 a5666c616773 80 a6657863657074 90"));
        let at = at % nearly.len();
        nearly[at] = byte;
        read(&nearly).ok();
        nearly.truncate(at);
        nearly.extend(bytes);
        read(&nearly).ok();
    }
}
