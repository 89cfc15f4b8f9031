use fanfare_protocol::msgpack::event as packed;
use proptest::prelude::*;

use super::*;
use crate::envelope::MAX_ENVELOPE;
use crate::foreign::{answer_of, json_to_msgpack};
use crate::{Answer, Target};

use PythonDialect::{Arguments, Value};

fn read_as(dialect: PythonDialect, payload: &str) -> Result<FromPython, Malformed> {
    decode_python(payload.as_bytes(), dialect, MAX_ENVELOPE)
}

fn rooms(names: &[&str]) -> Rooms<'static> {
    names.iter().map(|name| Cow::Owned((*name).to_owned())).collect()
}

fn publication(namespace: &str, to: &[&str], except: &[&str], data: Vec<u8>) -> Publication<'static> {
    Publication {
        namespace: namespace.to_owned().into(),
        rooms: rooms(to),
        except: rooms(except),
        volatile: false,
        data: data.into(),
        sent_at: None,
        ack: None,
    }
}

fn msgpack(json: &str) -> Vec<u8> {
    json_to_msgpack(json.as_bytes()).unwrap()
}

/// What the managers wrote for the same calls, 5.15.1 and 5.18.1 (`Arguments`), 5.14.2 and 5.14.0 (`Value`); captured.
#[test]
fn captured_emits_are_read() {
    let tail = r#""skip_sid": null, "callback": null, "host_id": "9416"}"#;
    let with = |data: &str, rest: &str| {
        format!(r#"{{"method": "emit", "event": "hi", "data": {data}, "binary": false, {rest}{tail}"#)
    };
    let all = r#""namespace": "/", "room": null, "#;
    let to = |data: &str| publication("/", &[], &[], msgpack(data));
    let cases = [
        (Arguments, with(r#"[{"a": 1}]"#, all), to(r#"["hi",{"a":1}]"#)),
        (Value, with(r#"{"a": 1}"#, all), to(r#"["hi",{"a":1}]"#)),
        (Arguments, with(r#"["x", 2]"#, all), to(r#"["hi","x",2]"#)),
        // A tuple before 5.15.1, which its own servers take for a list, too.
        (Value, with(r#"["x", 2]"#, all), to(r#"["hi",["x",2]]"#)),
        (Arguments, with("[[1, 2]]", all), to(r#"["hi",[1,2]]"#)),
        (Value, with("[1, 2]", all), to(r#"["hi",[1,2]]"#)),
        (Arguments, with("[null]", all), to(r#"["hi"]"#)),
        (Value, with("null", all), to(r#"["hi"]"#)),
        (Arguments, with("[]", all), to(r#"["hi"]"#)),
        (Arguments, with("[null, 1]", all), to(r#"["hi",null,1]"#)),
        // An older server's value, as a newer one reads it.
        (Arguments, with(r#"{"a": 1}"#, all), to(r#"["hi",{"a":1}]"#)),
        (Arguments, with("[\"\\ud83d\\ude00 \\u00e4\"]", all), to("[\"hi\",\"😀 ä\"]")),
    ];
    for (dialect, json, expected) in cases {
        assert_eq!(read_as(dialect, &json), Ok(FromPython::Publication(expected)), "{json}");
    }
    // Before 5.14.2 nothing says whether it is binary.
    let old = r#"{"method": "emit", "event": "hi", "data": {"a": 1}, "namespace": "/", "room": null, "#;
    let read = read_as(Value, &format!("{old}{tail}"));
    assert_eq!(read, Ok(FromPython::Publication(to(r#"["hi",{"a":1}]"#))));
}

#[test]
fn binaries_go_where_their_placeholders_are() {
    let emit = |data: &str| {
        format!(
            r#"{{"method": "emit", "event": "hi", "data": {data}, "binary": true, "namespace": "/", "room": null, "skip_sid": null, "callback": null, "host_id": "9416"}}"#
        )
    };
    let map = r#"{"u": {"_placeholder": true, "num": 0}, "l": [{"_placeholder": true, "num": 1}]}"#;
    let bytes = b"\x82\xa1u\xc4\x02\x05\x06\xa1l\x91\xc4\x01\x07";
    let one = r#"{"_placeholder": true, "num": 0}"#;
    let cases = [
        (Arguments, format!(r#"[[{map}], "BQY=", "Bw=="]"#), packed("hi", &[bytes])),
        (Value, format!(r#"[{map}, "BQY=", "Bw=="]"#), packed("hi", &[bytes])),
        (Arguments, format!(r#"[[{one}], "AQ=="]"#), packed("hi", &[b"\xc4\x01\x01"])),
        (Value, format!(r#"[{one}, "AQ=="]"#), packed("hi", &[b"\xc4\x01\x01"])),
        (Arguments, format!(r#"[[1, {one}], ""]"#), packed("hi", &[&[1], b"\xc4\x00"])),
    ];
    for (dialect, data, expected) in cases {
        let expected = FromPython::Publication(publication("/", &[], &[], expected));
        assert_eq!(read_as(dialect, &emit(&data)), Ok(expected), "{data}");
    }
    for wrong in [
        "[]".to_owned(),
        "{}".to_owned(),
        format!("[[{one}]]"),
        format!(r#"[[{one}], "*"]"#),
        format!(r#"[[{one}, {one}], "AQ=="]"#),
        format!(r#"[[{one}], 5]"#),
    ] {
        assert_eq!(read_as(Arguments, &emit(&wrong)), Err(Malformed::Shape), "{wrong}");
    }
    let many = format!("[[]{}]", ",\"\"".repeat(MAX_ATTACHMENTS + 1));
    assert_eq!(read_as(Arguments, &emit(&many)), Err(Malformed::TooLarge));
}

#[test]
fn rooms_and_those_left_out_are_one_or_many() {
    let emit = |namespace: &str, room: &str, skip: &str| {
        format!(
            r#"{{"method":"emit","event":"hi","data":[],"namespace":{namespace},"room":{room},"skip_sid":{skip}}}"#
        )
    };
    for (namespace, room, skip, expected) in [
        ("\"/n\"", "\"r1\"", "null", publication("/n", &["r1"], &[], packed("hi", &[]))),
        (
            "null",
            r#"["r1","r2"]"#,
            r#"["a","b"]"#,
            publication("/", &["r1", "r2"], &["a", "b"], packed("hi", &[])),
        ),
        ("\"/\"", "5", "\"S1\"", publication("/", &["5"], &["S1"], packed("hi", &[]))),
        ("\"/\"", "null", "[null]", publication("/", &[], &[], packed("hi", &[]))),
    ] {
        let json = emit(namespace, room, skip);
        assert_eq!(read_as(Arguments, &json), Ok(FromPython::Publication(expected)), "{json}");
    }
    // An empty list of rooms is nobody, not everybody.
    assert_eq!(read_as(Arguments, &emit("\"/\"", "[]", "null")), Ok(FromPython::Nothing));
    let number = r#"{"method":"emit","event":7,"data":[]}"#;
    let expected = publication("/", &[], &[], vec![0x91, 7]);
    assert_eq!(read_as(Arguments, number), Ok(FromPython::Publication(expected)));
}

fn about(room: &str) -> Target {
    Target { rooms: rooms(&[room]), except: Rooms::new() }
}

#[test]
fn captured_requests_are_read() {
    let cases = [
        (
            r#"{"method": "disconnect", "sid": "SID1", "namespace": "/", "host_id": "9416"}"#,
            Request::Disconnect { target: about("SID1"), close: false, asker: None },
        ),
        (
            r#"{"method": "enter_room", "sid": "SID1", "room": "rX", "namespace": "/", "host_id": "9416"}"#,
            Request::Join { target: about("SID1"), rooms: rooms(&["rX"]), asker: None },
        ),
        (
            r#"{"method": "leave_room", "sid": "SID1", "room": "rX", "namespace": "/", "host_id": "9416"}"#,
            Request::Leave { target: about("SID1"), rooms: rooms(&["rX"]), asker: None },
        ),
        (
            r#"{"method": "close_room", "room": "rX", "namespace": "/", "host_id": "9416"}"#,
            Request::Leave { target: about("rX"), rooms: rooms(&["rX"]), asker: None },
        ),
    ];
    for (json, request) in cases {
        let expected = FromPython::Request { namespace: "/".to_owned(), request };
        assert_eq!(read_as(Arguments, json), Ok(expected), "{json}");
    }
    let callback = r#"{"method": "callback", "host_id": "other", "sid": "SID9", "namespace": "/", "id": 1, "args": ["ok", 2]}"#;
    assert_eq!(read_as(Arguments, callback), Ok(FromPython::Nothing));
}

#[test]
fn an_emit_with_a_callback_is_answered_in_its_form() {
    let json = r#"{"method": "emit", "event": "hi", "data": ["x"], "binary": false, "namespace": "/", "room": "SID9", "skip_sid": null, "callback": ["SID9", "/", 1], "host_id": "9416"}"#;
    let Ok(FromPython::Request {
        request: Request::Broadcast { publication: read, asker, timeout_ms }, ..
    }) = read_as(Arguments, json)
    else {
        panic!("not a broadcast with acknowledgements");
    };
    assert_eq!(read, publication("/", &["SID9"], &[], msgpack(r#"["hi","x"]"#)));
    assert_eq!(timeout_ms, None);
    let answer = answer_of(&asker, &Answer::Acknowledged(msgpack(r#"["ok",2]"#))).unwrap();
    let expected =
        r#"{"method":"callback","host_id":"9416","sid":"SID9","namespace":"/","id":1,"args":["ok",2]}"#;
    assert_eq!(String::from_utf8(answer).unwrap(), expected);
    assert_eq!(read_as(Arguments, expected), Ok(FromPython::Nothing));
    // It does not wait for how many there are.
    assert_eq!(answer_of(&asker, &Answer::Reached(1)), None);
}

#[test]
fn what_is_no_json_of_a_manager_is_refused() {
    for wrong in [
        "",
        "{",
        "[]",
        r#"["emit"]"#,
        "{}",
        r#"{"method":"other"}"#,
        r#"{"method":5}"#,
        r#"{"method":"emit"}"#,
        r#"{"method":"emit","event":"connect","data":[]}"#,
        r#"{"method":"emit","event":"","data":[]}"#,
        r#"{"method":"emit","event":"e","data":[NaN]}"#,
        r#"{"method":"emit","event":"e","data":[],"room":{}}"#,
        r#"{"method":"emit","event":"e","data":[],"callback":["a","/"]}"#,
        r#"{"method":"emit","event":"e","data":[],"callback":["a","/",1]}"#,
        r#"{"method":"disconnect"}"#,
        r#"{"method":"enter_room","sid":"S","room":null}"#,
        r#"{"method":"enter_room","sid":"S","room":""}"#,
        r#"{"method":"close_room","room":["a"]}"#,
    ] {
        assert_eq!(read_as(Arguments, wrong), Err(Malformed::Shape), "{wrong}");
    }
    let pickle = b"\x80\x04\x95\x1c\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x06method";
    assert_eq!(decode_python(pickle, Arguments, MAX_ENVELOPE), Err(Malformed::Pickle));
    let deep = format!(r#"{{"method":"emit","event":"e","data":{}0{}}}"#, "[".repeat(100), "]".repeat(100));
    assert_eq!(read_as(Arguments, &deep), Err(Malformed::TooDeep));
    assert_eq!(decode_python(b"{}", Arguments, 1), Err(Malformed::TooLarge));
    for levels in [600, 100_000] {
        for field in ["room", "event", "unknown", "callback", "sid"] {
            let json =
                format!(r#"{{"method":"emit","{field}":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
            assert!(read_as(Arguments, &json).is_err(), "{field}");
        }
    }
}

const WORDS: [&str; 16] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"method\"",
    "\"emit\"",
    "\"event\"",
    "\"data\"",
    "\"room\"",
    "true",
    "\"binary\"",
    "{\"_placeholder\":true,\"num\":0}",
    "1",
    "\"AQ==\"",
];

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..300, byte: u8) {
        let mut nearly = br#"{"method": "emit", "event": "hi", "data": [[{"_placeholder": true, "num": 0}], "AQ=="], "binary": true, "namespace": "/", "room": null, "skip_sid": null, "callback": ["a", "/", 1], "host_id": "9416"}"#.to_vec();
        let at = at % nearly.len();
        nearly[at] = byte;
        for dialect in [Arguments, Value] {
            decode_python(&bytes, dialect, MAX_ENVELOPE).ok();
            decode_python(&nearly, dialect, MAX_ENVELOPE).ok();
        }
    }

    #[test]
    fn no_words_panic(words in prop::collection::vec(prop::sample::select(&WORDS[..]), 0..40), dialect in prop::sample::select(&[Arguments, Value][..])) {
        let data = words.concat();
        read_as(dialect, &format!(r#"{{"method":"emit","event":"e","binary":true,"data":{data}}}"#)).ok();
        read_as(dialect, &format!("{{{data}}}")).ok();
    }
}
