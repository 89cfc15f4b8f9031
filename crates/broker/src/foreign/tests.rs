use std::borrow::Cow;

use fanfare_protocol::Publication;
use fanfare_protocol::msgpack::event;
use fanfare_protocol::publication::Rooms;
use proptest::prelude::*;

use super::*;
use crate::envelope::MAX_ENVELOPE;
use crate::request::AskedBy;
use crate::{Answer, Asker, Request, SessionView, Target};

fn rooms(names: &[&str]) -> Rooms<'static> {
    names.iter().map(|name| Cow::Owned((*name).to_owned())).collect()
}

fn target(to: &[&str], except: &[&str]) -> Target {
    Target { rooms: rooms(to), except: rooms(except) }
}

fn asker(uid: Option<&str>, request: &str, kind: u64) -> Asker {
    Asker(AskedBy::Adapter { namespace: "/".into(), uid: uid.map(Into::into), request: request.into(), kind })
}

fn request(payload: impl AsRef<[u8]>) -> Result<Request, Malformed> {
    decode_request(payload.as_ref(), "/", MAX_ENVELOPE)
}

fn msgpack(json: &str) -> Vec<u8> {
    json_to_msgpack(json.as_bytes()).unwrap()
}

/// What the emitter and the adapter wrote (captured), in the order of their types.
#[test]
fn captured_requests_are_read() {
    let cases = [
        (
            r#"{"uid":"lalt2i","requestId":"s0","type":0,"rooms":["r1"]}"#,
            Request::Sessions { target: target(&["r1"], &[]), asker: asker(Some("lalt2i"), "s0", 0) },
        ),
        (
            r#"{"uid":"lalt2i","requestId":"by0qzA","type":1}"#,
            Request::Rooms { asker: asker(Some("lalt2i"), "by0qzA", 1) },
        ),
        (
            r#"{"type":2,"opts":{"rooms":["r1"],"except":["r9"]},"rooms":["a",7]}"#,
            Request::Join { target: target(&["r1"], &["r9"]), rooms: rooms(&["a", "7"]), asker: None },
        ),
        (
            r#"{"type":3,"opts":{"rooms":["r1",42],"except":[]},"rooms":["a"]}"#,
            Request::Leave { target: target(&["r1", "42"], &[]), rooms: rooms(&["a"]), asker: None },
        ),
        (
            r#"{"type":4,"opts":{"rooms":["r1"],"except":[]},"close":true}"#,
            Request::Disconnect { target: target(&["r1"], &[]), close: true, asker: None },
        ),
        (
            r#"{"uid":"lalt2i","requestId":"nIRzE-","type":5,"opts":{"rooms":["r1"],"except":[]}}"#,
            Request::Sessions { target: target(&["r1"], &[]), asker: asker(Some("lalt2i"), "nIRzE-", 5) },
        ),
        (
            r#"{"uid":"emitter","type":6,"data":["hello"]}"#,
            Request::ServerSideEmit { data: event("hello", &[]), asker: None },
        ),
        (
            r#"{"uid":"lalt2i","requestId":"GmPZGi","type":6,"data":["hey2",1]}"#,
            Request::ServerSideEmit { data: event("hey2", &[&[1]]), asker: Some(asker(None, "GmPZGi", 6)) },
        ),
    ];
    for (json, expected) in cases {
        assert_eq!(request(json), Ok(expected.clone()), "{json}");
        // A custom parser may write all of them as MessagePack.
        assert_eq!(request(msgpack(json)), Ok(expected), "{json}");
    }
}

#[test]
fn a_request_about_one_session_is_answered_by_its_node() {
    let cases = [
        (
            r#"{"requestId":"q1","type":2,"sid":"S1","room":"x"}"#,
            Request::Join {
                target: target(&["S1"], &[]),
                rooms: rooms(&["x"]),
                asker: Some(asker(None, "q1", 2)),
            },
        ),
        (
            r#"{"requestId":"q1","type":3,"sid":"S1","room":5}"#,
            Request::Leave {
                target: target(&["S1"], &[]),
                rooms: rooms(&["5"]),
                asker: Some(asker(None, "q1", 3)),
            },
        ),
        (
            r#"{"requestId":"q1","type":4,"sid":"S1"}"#,
            Request::Disconnect {
                target: target(&["S1"], &[]),
                close: false,
                asker: Some(asker(None, "q1", 4)),
            },
        ),
        (
            r#"{"type":2,"sid":"S1","room":"x"}"#,
            Request::Join { target: target(&["S1"], &[]), rooms: rooms(&["x"]), asker: None },
        ),
    ];
    for (json, expected) in cases {
        assert_eq!(request(json), Ok(expected), "{json}");
    }
}

/// As notepack writes the map of a broadcast with acknowledgements.
#[test]
fn a_broadcast_with_acknowledgements_is_read() {
    let json = r#"{"uid":"lalt2i","requestId":"b1","type":7,"packet":{"type":2,"data":["hi",1],"nsp":"/"},
        "opts":{"rooms":["r1"],"except":["r2"],"flags":{"timeout":5000,"expectSingleResponse":false}}}"#;
    let publication = Publication {
        namespace: "/".into(),
        rooms: rooms(&["r1"]),
        except: rooms(&["r2"]),
        volatile: false,
        data: event("hi", &[&[1]]).into(),
        sent_at: None,
        ack: None,
    };
    let asker = asker(Some("lalt2i"), "b1", 7);
    let expected = Request::Broadcast { publication, asker, timeout_ms: Some(5000) };
    assert_eq!(request(msgpack(json)), Ok(expected));
    assert_eq!(decode_request(&msgpack(json), "/x", MAX_ENVELOPE), Err(Malformed::WrongNamespace));
}

#[test]
fn requests_of_no_shape_are_refused() {
    let long = format!(r#"{{"type":1,"requestId":"{}"}}"#, "x".repeat(201));
    let deep = format!(r#"{{"type":6,"data":["e",{}0{}]}}"#, "[".repeat(600), "]".repeat(600));
    let shapeless = [
        "",
        "{",
        "{}",
        "[]",
        "null",
        r#"{"type":"1"}"#,
        r#"{"type":1}"#,
        r#"{"type":5,"opts":{}}"#,
        r#"{"type":5,"requestId":"q"}"#,
        r#"{"type":2,"rooms":["a"]}"#,
        r#"{"type":2,"opts":[],"rooms":["a"]}"#,
        r#"{"type":2,"opts":{},"rooms":[""]}"#,
        r#"{"type":2,"opts":{},"rooms":[{}]}"#,
        r#"{"type":6,"data":[]}"#,
        r#"{"type":6,"data":"e"}"#,
        r#"{"type":6}"#,
        r#"{"type":7,"requestId":"q"}"#,
        r#"{"type":7,"requestId":"q","packet":{"type":2,"data":["connect"]}}"#,
        r#"{"type":8,"requestId":"q","clientCount":1}"#,
        r#"{"type":99,"requestId":"q"}"#,
        r#"{"type":-1}"#,
    ];
    for json in shapeless {
        assert_eq!(request(json), Err(Malformed::Shape), "{json}");
    }
    assert_eq!(request(b"{\xff}"), Err(Malformed::Shape));
    assert_eq!(request([msgpack(r#"{"type":1,"requestId":"q"}"#), vec![0]].concat()), Err(Malformed::Shape));
    assert_eq!(request(&long), Err(Malformed::TooLarge));
    assert_eq!(request(&deep), Err(Malformed::TooDeep));
    assert_eq!(decode_request(b"{\"type\":1}", "/", 9), Err(Malformed::TooLarge));
}

fn text(asker: &Asker, answer: &Answer) -> String {
    String::from_utf8(answer_of(asker, answer).unwrap()).unwrap()
}

#[test]
fn answers_are_those_of_the_adapter() {
    let view = SessionView {
        sid: "S1".to_owned(),
        rooms: vec!["S1".to_owned(), "a\"b".to_owned()],
        since_ms: 1_700_000_000_123,
        address: "10.0.0.1".to_owned(),
    };
    let sessions = Answer::Sessions(vec![view.clone()]);
    assert_eq!(
        text(&asker(None, "q", 5), &sessions),
        r#"{"requestId":"q","sockets":[{"id":"S1","handshake":{"headers":{},"time":"2023-11-14T22:13:20.123Z","#
            .to_owned()
            + r#""address":"10.0.0.1","xdomain":false,"secure":false,"issued":1700000000123,"url":"","query":{},"#
            + r#""auth":{}},"rooms":["S1","a\"b"],"data":{}}]}"#
    );
    assert_eq!(text(&asker(None, "q", 0), &sessions), r#"{"requestId":"q","sockets":["S1"]}"#);
    let two = Answer::Sessions(vec![view.clone(), view]);
    assert_eq!(text(&asker(None, "q", 0), &two), r#"{"requestId":"q","sockets":["S1","S1"]}"#);
    assert_eq!(
        text(&asker(None, "q", 5), &Answer::Sessions(Vec::new())),
        r#"{"requestId":"q","sockets":[]}"#
    );
    let rooms = Answer::Rooms(vec!["a".to_owned(), "b".to_owned()]);
    assert_eq!(text(&asker(None, "q", 1), &rooms), r#"{"requestId":"q","rooms":["a","b"]}"#);
    assert_eq!(text(&asker(None, "q", 2), &Answer::Done), r#"{"requestId":"q"}"#);
    let emitted = Answer::Emitted(msgpack(r#"{"a":"resp"}"#));
    assert_eq!(text(&asker(None, "q", 6), &emitted), r#"{"type":6,"requestId":"q","data":{"a":"resp"}}"#);
    assert_eq!(
        text(&asker(None, "q", 6), &Answer::Emitted(vec![0xc1])),
        r#"{"type":6,"requestId":"q","data":null}"#
    );
    assert_eq!(
        text(&asker(None, "q", 7), &Answer::Reached(3)),
        r#"{"type":8,"requestId":"q","clientCount":3}"#
    );
    for (args, expected) in [
        (r#"["ok",2]"#, r#"{"type":9,"requestId":"q","packet":"ok"}"#),
        ("[]", r#"{"type":9,"requestId":"q"}"#),
    ] {
        let answer = answer_of(&asker(None, "q", 7), &Answer::Acknowledged(msgpack(args))).unwrap();
        assert_eq!(answer, msgpack(expected));
    }
}

const WORDS: [&str; 14] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"type\"",
    "\"opts\"",
    "\"rooms\"",
    "\"requestId\"",
    "\"data\"",
    "5",
    "7",
    "\"a\"",
];

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..200, byte: u8) {
        request(&bytes).ok();
        let json = br#"{"uid":"u","requestId":"b1","type":7,"packet":{"type":2,"data":["hi",1],"nsp":"/"},"opts":{"rooms":["r1"]}}"#;
        let packed = json_to_msgpack(json).unwrap();
        for mut nearly in [json.to_vec(), packed] {
            let at = at % nearly.len();
            nearly[at] = byte;
            request(&nearly).ok();
            nearly.truncate(at);
            nearly.extend(&bytes);
            request(&nearly).ok();
        }
    }

    #[test]
    fn no_words_panic(words in prop::collection::vec(prop::sample::select(&WORDS[..]), 0..40)) {
        request(words.concat()).ok();
    }

    #[test]
    fn no_answer_panics(value in prop::collection::vec(any::<u8>(), 0..60), kind in 0u64..10, since_ms: u64) {
        let view = SessionView { sid: String::new(), rooms: Vec::new(), since_ms, address: String::new() };
        for answer in [
            Answer::Emitted(value.clone()),
            Answer::Acknowledged(value),
            Answer::Sessions(vec![view]),
        ] {
            answer_of(&asker(None, "q", kind), &answer);
        }
    }
}
