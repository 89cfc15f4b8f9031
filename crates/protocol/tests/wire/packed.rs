//! Connections of the msgpack parser. The bytes are those that socket.io 4.8.4 with socket.io-msgpack-parser
//! 3.0.2 sent, and what it did with those it was sent.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fanfare_protocol::command::{Command, Refusal, RefusalCode, ReplyTo};
use fanfare_protocol::encoding::EncodeError;
use fanfare_protocol::msgpack::{MAX_DEPTH, MsgpackError};
use fanfare_protocol::socketio::RESERVED;
use fanfare_protocol::{Closed, Disconnect, Encoding, Namespaces};

use crate::link::{ADMIN, Link, MAIN};
use crate::{binary, hex, packed, publication};

/// The client's CONNECT to `/` without auth.
const CONNECT: &str = "83 a4 74797065 00 a4 64617461 d4 00 00 a3 6e7370 a1 2f";

/// A connection of the msgpack parser that entered `/`.
fn joined() -> Link {
    let mut link = Link::new();
    link.binary(&hex(CONNECT)).unwrap();
    assert_eq!(link.machine.encoding(), Encoding::SocketIoMsgpack);
    link
}

/// A packet of JSON, as another MessagePack library would write it.
fn packet(json: &str) -> Vec<u8> {
    packed(json)
}

fn event(data: Vec<u8>, id: Option<u64>) -> Command {
    let reply = id.map(|id| ReplyTo::Ack { namespace: MAIN, id });
    Command::Event { namespace: MAIN, room: None, data, reply }
}

/// What the server makes of the packet `{type: 2, nsp: "/", data: …}`.
fn taken(data: &str) -> Result<Vec<Command>, Disconnect> {
    joined().binary(&[hex("83 a4 74797065 02 a3 6e7370 a1 2f a4 64617461"), hex(data)].concat())
}

#[test]
fn the_first_message_tells_the_parser() {
    let mut link = Link::new();
    assert_eq!(link.text("3"), Ok(vec![Command::Pong]));
    assert_eq!(link.machine.encoding(), Encoding::SocketIoText, "nothing is known yet");
    let connect = Command::Connect { namespace: MAIN, auth: None };
    assert_eq!(link.binary(&hex(CONNECT)), Ok(vec![connect.clone()]));
    assert_eq!(link.machine.encoding(), Encoding::SocketIoMsgpack);
    assert_eq!(link.text("3"), Ok(vec![Command::Pong]));
    assert_eq!(link.text("6"), Ok(vec![]));
    for text in ["40/admin,", r#"42["a"]"#, "42", "41", "4"] {
        assert_eq!(joined().text(text), Err(Disconnect::Protocol), "{text}");
    }
    let mut text = Link::joined();
    assert_eq!(text.machine.encoding(), Encoding::SocketIoText);
    assert_eq!(text.binary(&packet(r#"{"type":0,"nsp":"/admin"}"#)), Err(Disconnect::Protocol));
    // Polling clients send it as base64.
    let mut polling = Link::new();
    assert_eq!(polling.text(&format!("b{}", STANDARD.encode(hex(CONNECT)))), Ok(vec![connect]));
    assert_eq!(polling.machine.encoding(), Encoding::SocketIoMsgpack);
}

#[test]
fn packets_of_the_official_client() {
    let mut link = joined();
    let whole = hex(
        "85 a4 74797065 02 a4 64617461 92 a1 78 01 a7 6f7074696f6e73 81 a8 636f6d7072657373 c3 a2 6964 00 a3 6e7370 a1 2f",
    );
    assert_eq!(link.binary(&whole), Ok(vec![event(packed(r#"["x",1]"#), Some(0))]));
    assert_eq!(
        link.binary(&hex("84 a2 6964 00 a4 74797065 03 a4 64617461 91 a1 72 a3 6e7370 a1 2f")),
        Ok(vec![Command::Ack { namespace: MAIN, id: 0, data: packed(r#"["r"]"#) }])
    );
    let auth = Some(packed(r#"{"t":1}"#).into());
    assert_eq!(
        link.binary(&packet(r#"{"type":0,"nsp":"/admin","data":{"t":1}}"#)),
        Ok(vec![Command::Connect { namespace: ADMIN, auth }])
    );
    assert_eq!(
        link.binary(&packet(r#"{"type":2,"nsp":"/admin","data":["a"],"id":18446744073709551615}"#)),
        Ok(vec![Command::Event {
            namespace: ADMIN,
            room: None,
            data: packed(r#"["a"]"#),
            reply: Some(ReplyTo::Ack { namespace: ADMIN, id: u64::MAX }),
        }])
    );
    assert_eq!(
        link.binary(&hex("82 a4 74797065 01 a3 6e7370 a1 2f")),
        Ok(vec![Command::Leave { namespace: MAIN }])
    );
    assert!(link.binary(&hex(CONNECT)).is_ok(), "it may be entered again");
}

#[test]
fn before_joining() {
    for (bytes, commands) in [
        (packet(r#"{"type":0,"nsp":"/","id":5}"#), 1),
        // An integer, to JavaScript.
        (hex("82 a4 74797065 cb 0000000000000000 a3 6e7370 a1 2f"), 1),
        // The last one counts.
        (hex("83 a4 74797065 02 a4 74797065 00 a3 6e7370 a1 2f"), 1),
        (hex("83 a4 74797065 00 c0 c0 a3 6e7370 a1 2f"), 1),
    ] {
        assert_eq!(Link::new().binary(&bytes).map(|done| done.len()), Ok(commands), "{bytes:x?}");
    }
    for name in ["", "custom", "/nosuch", "/?x=1"] {
        let unknown = Command::ConnectClosed { namespace: name.into(), reason: Closed::Unknown };
        let bytes = packet(&format!(r#"{{"type":0,"nsp":{name:?}}}"#));
        assert_eq!(Link::new().binary(&bytes), Ok(vec![unknown]), "{name}");
    }
    let closing = [
        r#"{"type":0,"nsp":"/","data":null}"#,
        r#"{"type":0,"nsp":"/","data":[]}"#,
        r#"{"type":0,"nsp":"/","data":"s"}"#,
        r#"{"type":0}"#,
        r#"{"type":0,"nsp":1}"#,
        r#"{"type":0,"nsp":null}"#,
        r#"{"type":0,"nsp":"/","id":null}"#,
        r#"{"type":0,"nsp":"/","id":1.5}"#,
        r#"{"type":0,"nsp":"/","id":"1"}"#,
        r#"{"type":5,"nsp":"/","data":["a"]}"#,
        r#"{"type":6,"nsp":"/","data":[]}"#,
        r#"{"type":-1,"nsp":"/"}"#,
        r#"{"type":"0","nsp":"/"}"#,
        r#"{"nsp":"/"}"#,
        r#"{"type":2,"nsp":"/","data":["a"]}"#,
        r#"{"type":1,"nsp":"/"}"#,
        r#"{"type":3,"nsp":"/","data":[],"id":0}"#,
        "{}",
        "[1]",
        "1",
    ];
    let closing = closing.into_iter().map(packet).chain(
        [
            "",
            "83 a4 74797065 00 a4 64617461 d4 00 00 a3 6e7370 a1 2f 00",
            "83 a4 74797065 00 a4 64617461 d4 00 00 a3 6e7370 a1",
            "82 a4 74797065 00 a3 6e7370 c4 01 2f",
            "df ffffffff a4 74797065 00 a3 6e7370 a1 2f",
            "c1",
        ]
        .map(hex),
    );
    for bytes in closing {
        assert_eq!(Link::new().binary(&bytes), Err(Disconnect::Protocol), "{bytes:x?}");
    }
}

#[test]
fn after_joining() {
    for (json, data) in [
        (r#"{"type":2,"nsp":"/","data":[1]}"#, "[1]"),
        (r#"{"type":2,"nsp":"/","data":[1.5]}"#, "[1.5]"),
        (
            r#"{"type":2,"nsp":"/","data":["a",{"_placeholder":true,"num":0}]}"#,
            r#"["a",{"_placeholder":true,"num":0}]"#,
        ),
        // No number that anything was ever asked with.
        (r#"{"type":2,"nsp":"/","data":["a"],"id":-1}"#, r#"["a"]"#),
        (r#"{"type":2,"nsp":"/","data":["a"],"id":1e300}"#, r#"["a"]"#),
    ] {
        assert_eq!(joined().binary(&packet(json)), Ok(vec![event(packed(data), None)]), "{json}");
    }
    // The parser does not know reserved names: they are events like others.
    for name in RESERVED {
        let data = format!("[{name:?}]");
        let bytes = packet(&format!(r#"{{"type":2,"nsp":"/","data":{data}}}"#));
        assert_eq!(joined().binary(&bytes), Ok(vec![event(packed(&data), None)]));
    }
    for json in [
        r#"{"type":2,"nsp":"/","data":[]}"#,
        r#"{"type":2,"nsp":"/","data":[null]}"#,
        r#"{"type":2,"nsp":"/","data":[{}],"id":1}"#,
        r#"{"type":2,"nsp":"/","data":[true]}"#,
        r#"{"type":3,"nsp":"/","data":[]}"#,
        r#"{"type":3,"nsp":"/","data":[],"id":-1}"#,
    ] {
        assert_eq!(joined().binary(&packet(json)), Ok(vec![]), "{json}");
    }
    for json in [
        r#"{"type":0,"nsp":"/"}"#,
        r#"{"type":2,"nsp":"/","data":"a"}"#,
        r#"{"type":2,"nsp":"/","data":{}}"#,
        r#"{"type":2,"nsp":"/"}"#,
        r#"{"type":2,"nsp":"/","data":null}"#,
        r#"{"type":2,"nsp":"/","data":["a"],"id":"1"}"#,
        r#"{"type":2,"nsp":"/","data":["a"],"id":null}"#,
        r#"{"type":2,"nsp":"/admin","data":["a"]}"#,
        r#"{"type":3,"nsp":"/admin","data":["a"],"id":1}"#,
        r#"{"type":3,"nsp":"/"}"#,
        r#"{"type":3,"nsp":"/","data":{},"id":1}"#,
        r#"{"type":4,"nsp":"/","data":"x"}"#,
        r#"{"type":4,"nsp":"/","data":{"message":"m"}}"#,
        r#"{"type":4,"nsp":"/"}"#,
        r#"{"type":1,"nsp":"/","data":{}}"#,
        r#"{"type":1,"nsp":"/","data":null}"#,
        r#"{"type":1,"nsp":"/admin"}"#,
    ] {
        assert_eq!(joined().binary(&packet(json)), Err(Disconnect::Protocol), "{json}");
    }
    for data in ["91 a1 61 a1 78 c1", "92 a1 61", "92 a1 61 81 c0 01", "92 a1 61 81 c4 00 01"] {
        assert_eq!(taken(data), Err(Disconnect::Protocol), "{data}");
    }
}

#[test]
fn what_clients_write_becomes_what_adapters_write() {
    for (theirs, inside) in [
        ("92 a1 61 d4 00 00", "92 a1 61 c0"),
        ("93 a1 61 d4 00 00 01", "93 a1 61 c0 01"),
        ("92 a1 61 82 a1 75 d4 00 00 a1 76 01", "92 a1 61 81 a1 76 01"),
        ("92 a1 61 81 a1 75 d4 00 00", "92 a1 61 80"),
        ("92 a1 61 de 0002 a1 75 d4 00 00 a1 76 01", "92 a1 61 de 0001 a1 76 01"),
        ("92 a1 61 df 00000002 a1 75 d4 00 00 a1 76 01", "92 a1 61 df 00000001 a1 76 01"),
        ("92 a1 61 d7 00 0000018bcfe56800", "92 a1 61 d6 ff 6553f100"),
        ("92 a1 61 d7 00 0000018bcfe5687b", "92 a1 61 d7 ff 1d5353006553f100"),
        ("92 a1 61 d7 00 fffffffffffffffe", "92 a1 61 c7 0c ff 3b7c4580 ffffffffffffffff"),
        ("92 a1 61 d7 00 000003e7fffffc18", "92 a1 61 d6 ff ffffffff"),
        ("92 a1 61 d7 00 000003e800000000", "92 a1 61 d7 ff 0000000100000000"),
        ("92 a1 61 d7 00 00000f9fffffffff", "92 a1 61 d7 ff ee2e1f03ffffffff"),
        ("92 a1 61 d7 00 00000fa000000000", "92 a1 61 c7 0c ff 00000000 0000000400000000"),
        ("92 a1 61 d6 ff 6553f100", "92 a1 61 d6 ff 6553f100"),
        ("94 a1 61 d4 05 01 d5 00 0000 c7 00 00", "94 a1 61 d4 05 01 d5 00 0000 c7 00 00"),
        ("93 a1 61 c4 02 0102 ca 3f800000", "93 a1 61 c4 02 0102 ca 3f800000"),
        ("92 a1 61 a1 ff", "92 a1 61 a3 efbfbd"),
    ] {
        assert_eq!(taken(theirs), Ok(vec![event(hex(inside), None)]), "{theirs}");
    }
}

#[test]
fn publications_are_shown_as_the_reference_shows_them() {
    let shown = |namespace, data: &str, ack| {
        let mut publication = publication(namespace, hex(data));
        publication.ack = ack;
        Encoding::SocketIoMsgpack.encode(&publication, Some("r")).map(|frame| binary(&frame))
    };
    for (namespace, data, ack, bytes) in [
        (
            "/",
            "93 a2 6576 01 a1 78",
            None,
            "83 a4 74797065 02 a4 64617461 93 a2 6576 01 a1 78 a3 6e7370 a1 2f",
        ),
        (
            "/",
            "92 a2 6576 01",
            Some(1),
            "84 a4 74797065 02 a4 64617461 92 a2 6576 01 a3 6e7370 a1 2f a2 6964 01",
        ),
        (
            "/custom",
            "93 a2 6576 d7 ff 1d5353006553f100 c4 01 01",
            None,
            "83 a4 74797065 02 a4 64617461 93 a2 6576 d7 00 0000018bcfe5687b c4 01 01 a3 6e7370 a7 2f637573746f6d",
        ),
        (
            "/",
            "95 a2 6576 d6 ff 6553f100 c7 0c ff 3b7c4580 ffffffffffffffff d4 ff 00 d4 00 00",
            None,
            "83 a4 74797065 02 a4 64617461 95 a2 6576 d7 00 0000018bcfe56800 d7 00 fffffffffffffffe c0 d4 00 00 \
             a3 6e7370 a1 2f",
        ),
    ] {
        assert_eq!(shown(namespace, data, ack).unwrap(), hex(bytes), "{data}");
    }
    let eleven = format!("9c a1 65 {}", "c4 01 07".repeat(11));
    assert!(shown("/", &eleven, None).is_ok(), "the bound on attachments is that of the text parser");
    let beside = "93 a1 65 c4 00 81 ac 5f706c616365686f6c646572 c3";
    assert!(shown("/", beside, None).is_ok(), "nothing looks like an attachment where there are none");
    let mut nested = String::from("92 a1 61");
    for _ in 0..MAX_DEPTH {
        write!(nested, "91").unwrap();
    }
    for (data, error) in [
        ("90", EncodeError::NotAnEvent),
        ("91 c0", EncodeError::NotAnEvent),
        ("80", EncodeError::NotAnEvent),
        ("92 a1 61", EncodeError::Data(MsgpackError::Truncated)),
        ("91 a1 61 00", EncodeError::Data(MsgpackError::Trailing)),
        ("92 a1 61 a1 ff", EncodeError::Data(MsgpackError::NotUtf8)),
        ("92 a1 61 81 a1 ff 01", EncodeError::Data(MsgpackError::NotUtf8)),
        ("92 a1 61 81 c0 01", EncodeError::Data(MsgpackError::BadKey)),
        (&nested, EncodeError::Data(MsgpackError::TooDeep)),
    ] {
        assert_eq!(shown("/", data, None).unwrap_err(), error, "{data}");
    }
    for name in RESERVED {
        let reserved = publication("/", packed(&format!("[{name:?}]")));
        assert_eq!(Encoding::SocketIoMsgpack.encode(&reserved, None).unwrap_err(), EncodeError::Reserved);
    }
}

#[test]
fn the_frames_of_a_session() {
    let mut link = joined();
    let namespaces = Namespaces::new(["/custom", "/mid"]).unwrap();
    let id = |name| namespaces.id(name).unwrap();
    let machine = &mut link.machine;
    for (frame, bytes) in [
        (
            machine.connected(&namespaces, id("/custom"), "gJ1rBSBw66SZeoh-AAAB"),
            "83a47479706500a46461746182a3736964b4674a3172425342773636535a656f682d41414142a3706964d40000a36e7370a72f637573746f6d",
        ),
        (
            machine.refused("/nosuch", None, "Invalid namespace", None),
            "83a47479706504a36e7370a72f6e6f73756368a46461746181a76d657373616765b1496e76616c6964206e616d657370616365",
        ),
        (
            machine.refused("/mid", Some(id("/mid")), "nope", None),
            "83a47479706504a46461746182a76d657373616765a46e6f7065a464617461d40000a36e7370a42f6d6964",
        ),
        (
            machine.refused("/mid", Some(id("/mid")), "nope", Some(&packed(r#"{"code":7}"#))),
            "83a47479706504a46461746182a76d657373616765a46e6f7065a46461746181a4636f646507a36e7370a42f6d6964",
        ),
        (
            machine.ack(&namespaces, MAIN, 0, &packed(r#"["r"]"#)).unwrap(),
            "84a2696400a47479706503a46461746191a172a36e7370a12f",
        ),
        (
            machine.ack(&namespaces, MAIN, 300, &hex("93 d7 ff 1d5353006553f100 c0 c4 01 07")).unwrap(),
            "84a26964cd012ca47479706503a46461746193d7000000018bcfe5687bc0c40107a36e7370a12f",
        ),
        (machine.disconnected(&namespaces, MAIN), "82a47479706501a36e7370a12f"),
        (
            machine.reply(&namespaces, MAIN, 7, Ok(())),
            "84 a2 6964 07 a4 74797065 03 a4 64617461 91 81 a2 6f6b c3 a3 6e7370 a1 2f",
        ),
    ] {
        assert_eq!(binary(&frame), hex(bytes));
    }
    let refusal = Refusal::new(RefusalCode::Limit, "too many");
    let args = packed(r#"[{"ok":false,"error":{"code":"limit","message":"too many","retry":false}}]"#);
    let start = hex("84 a2 6964 07 a4 74797065 03 a4 64617461");
    let bytes = binary(&machine.reply(&namespaces, MAIN, 7, Err(&refusal)));
    assert_eq!(bytes, [start, args, hex("a3 6e7370 a1 2f")].concat());
    assert_eq!(machine.ack(&namespaces, MAIN, 0, &packed("{}")).unwrap_err(), EncodeError::NotArguments);
}
