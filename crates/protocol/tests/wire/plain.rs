use fanfare_protocol::command::{Command, Payload, Refusal, RefusalCode, ReplyTo};
use fanfare_protocol::encoding::EncodeError;
use fanfare_protocol::plain::{
    Machine, Rejected, connection_success, encode_event, error, ping_frame, reply,
};
use fanfare_protocol::{Encoding, NamespaceId};

use crate::{hex, packed, publication, text};

fn take(text: &str) -> Result<Command, Rejected> {
    let mut out = Vec::new();
    Machine::default().receive(Payload::Text(text), &mut out)?;
    assert_eq!(out.len(), 1);
    Ok(out.remove(0))
}

fn id(json: &str) -> Option<ReplyTo> {
    Some(ReplyTo::Plain { id: json.into() })
}

fn event(data: Vec<u8>) -> Command {
    Command::Event { namespace: NamespaceId::MAIN, room: Some("r1".into()), data, reply: None }
}

#[test]
fn frames_become_commands() {
    for (frame, command) in [
        (r#"{"type":"join","id":1,"room":"r1"}"#, Command::JoinRoom { room: "r1".into(), reply: id("1") }),
        (r#"{"room":"r1","type":"join"}"#, Command::JoinRoom { room: "r1".into(), reply: None }),
        (r#"{"type":"join","room":42,"more":1}"#, Command::JoinRoom { room: "42".into(), reply: None }),
        (
            r#" {"type":"leave","id":"a\n","room":"r1"}"#,
            Command::LeaveRoom { room: "r1".into(), reply: id(r#""a\n""#) },
        ),
        (r#"{"type":"ping"}"#, Command::Ping { reply: None }),
        (r#"{"type":"ping","id":-1.5e3}"#, Command::Ping { reply: id("-1.5e3") }),
        (r#"{"type":"pong"}"#, Command::Pong),
    ] {
        assert_eq!(take(frame), Ok(command), "{frame}");
    }
}

#[test]
fn events_carry_one_argument_or_several() {
    for (rest, json) in [
        (r#""data":{"a":[1,null]}"#, r#"["e",{"a":[1,null]}]"#),
        (r#""data":null"#, r#"["e",null]"#),
        (r#""data":[1,2]"#, r#"["e",[1,2]]"#),
        (r#""args":[1,"b"]"#, r#"["e",1,"b"]"#),
        (r#""args":[]"#, r#"["e"]"#),
        (r#""binary":false"#, r#"["e"]"#),
        (r#""data":"AQI=","binary":false"#, r#"["e","AQI="]"#),
    ] {
        let frame = format!(r#"{{"type":"event","room":"r1","event":"e",{rest}}}"#);
        assert_eq!(take(&frame), Ok(event(packed(json))), "{frame}");
    }
    let frame = r#"{"type":"event","id":2,"room":"r1","event":"e","data":7}"#;
    let Ok(Command::Event { reply, .. }) = take(frame) else { panic!() };
    assert_eq!(reply, id("2"));
}

#[test]
fn binary_arguments_come_as_base64() {
    for (rest, data) in [
        (r#""data":"AQIDBA==""#, "92 a1 65 c4 04 01020304"),
        (r#""data":"AQIDBA""#, "92 a1 65 c4 04 01020304"),
        (r#""data":"""#, "92 a1 65 c4 00"),
        (r#""args":["AQ==",1,{"k":"AQ=="}]"#, "94 a1 65 c4 01 01 01 81 a1 6b a4 41513d3d"),
    ] {
        let frame = format!(r#"{{"type":"event","room":"r1","event":"e",{rest},"binary":true}}"#);
        assert_eq!(take(&frame), Ok(event(hex(data))), "{frame}");
    }
}

#[test]
fn refusals_name_the_fault_and_carry_the_id_where_it_was_read() {
    let long = "x".repeat(201);
    let deep = "[".repeat(64) + &"]".repeat(64);
    for (rest, part) in [
        (r#""type":"nope""#, "unknown type"),
        (r#""type":7"#, "type is not a string"),
        (r#""room":"r1""#, "no \"type\""),
        (r#""type":"history","room":"r1""#, "not available"),
        (r#""type":"presence""#, "not available"),
        (r#""type":"auth""#, "not available"),
        (r#""type":"join""#, "room is missing"),
        (r#""type":"join","room":null"#, "room is not a string"),
        (r#""type":"join","room":1.5"#, "room is not a string"),
        (r#""type":"join","room":"""#, "empty"),
        (r#""type":"leave","room":"\u0007""#, "control"),
        (&format!(r#""type":"join","room":"{long}""#), "longer than 200"),
        (r#""type":"event","room":"r1""#, "event is missing"),
        (r#""type":"event","event":"e""#, "room is missing"),
        (r#""type":"event","room":"r1","event":"""#, "empty"),
        (r#""type":"event","room":"r1","event":1"#, "event is not a string"),
        (r#""type":"event","room":"r1","event":"disconnect""#, "reserved"),
        (&format!(r#""type":"event","room":"r1","event":"{long}""#), "longer than 200"),
        (r#""type":"event","room":"r1","event":"e","data":1,"args":[]"#, "data and args"),
        (r#""type":"event","room":"r1","event":"e","args":{}"#, "not an array"),
        (r#""type":"event","room":"r1","event":"e","data":"*","binary":true"#, "base64"),
        (r#""type":"event","room":"r1","event":"e","data":"","binary":1"#, "binary is not"),
        (&format!(r#""type":"event","room":"r1","event":"e","data":{deep}"#), "deeper than 64"),
        (r#""type":"event","room":"r1","event":"e","data":1e999"#, "not valid JSON"),
    ] {
        let frame = format!(r#"{{"id":5,{rest}}}"#);
        let rejected = take(&frame).unwrap_err();
        assert_eq!(rejected.reply, id("5"), "{frame}");
        assert_eq!(rejected.refusal.code, RefusalCode::BadRequest);
        assert!(rejected.refusal.message.contains(part), "{frame}: {}", rejected.refusal.message);
    }
}

#[test]
fn what_is_no_frame_is_told_without_an_id() {
    let deep = "[".repeat(100_000);
    let long = format!(r#"{{"type":"ping","id":"{}"}}"#, "x".repeat(63));
    for frame in [
        "",
        "x",
        "[]",
        r#"["join",1,"r1"]"#,
        "null",
        r#"{"type":"ping""#,
        r#"{"type":"ping"} {}"#,
        r#"{"type":"ping","type":"ping"}"#,
        r#"{"type":"ping","id":null}"#,
        r#"{"type":"ping","id":[1]}"#,
        r#"{"type":"ping","id":true}"#,
        &long,
        &deep,
        &format!(r#"{{"type":"ping","id":{deep}"#),
    ] {
        let rejected = take(frame).unwrap_err();
        assert_eq!(rejected.reply, None, "{frame:.80}");
        assert_eq!(rejected.refusal.code, RefusalCode::BadRequest);
    }
    let rejected = Machine::default().receive(Payload::Binary(b"{}"), &mut Vec::new()).unwrap_err();
    assert_eq!(rejected.refusal.code, RefusalCode::BadRequest);
}

#[test]
fn answers_have_their_documented_shape() {
    assert_eq!(text(&connection_success("hi")), r#"{"type":"connection_success","message":"hi"}"#);
    assert_eq!(text(&ping_frame()), r#"{"type":"ping"}"#);
    assert_eq!(text(&reply("1", Ok(()))), r#"{"type":"reply","id":1,"ok":true}"#);
    let refusal = Refusal::new(RefusalCode::NotJoined, "join \"r1\" first");
    assert_eq!(
        text(&reply("\"a\"", Err(&refusal))),
        r#"{"type":"reply","id":"a","ok":false,"error":{"code":"not_joined","message":"join \"r1\" first","retry":false}}"#
    );
    assert_eq!(
        text(&error(&refusal)),
        r#"{"type":"error","code":"not_joined","message":"join \"r1\" first","retry":false}"#
    );
}

#[test]
fn publications_as_event_frames() {
    for (data, room, frame) in [
        (
            packed(r#"["e",{"a":1}]"#),
            Some("r1"),
            r#"{"type":"event","room":"r1","event":"e","data":{"a":1}}"#,
        ),
        (packed(r#"["e",[1]]"#), None, r#"{"type":"event","event":"e","data":[1]}"#),
        (packed(r#"["e"]"#), Some("\""), r#"{"type":"event","room":"\"","event":"e","args":[]}"#),
        (packed(r#"["e",1,null]"#), None, r#"{"type":"event","event":"e","args":[1,null]}"#),
        (packed("[7,1]"), None, r#"{"type":"event","event":"7","data":1}"#),
        (hex("92 a1 65 c4 02 0102"), None, r#"{"type":"event","event":"e","data":"AQI=","binary":true}"#),
        (
            hex("93 a1 65 81 a1 6b c4 00 d6 ff 6553f100"),
            None,
            r#"{"type":"event","event":"e","args":[{"k":""},"2023-11-14T22:13:20.000Z"],"binary":true}"#,
        ),
    ] {
        let publication = publication("/", data);
        assert_eq!(text(&encode_event(&publication, room).unwrap()), frame);
        assert_eq!(text(&Encoding::PlainJson.encode(&publication, room).unwrap()), frame);
    }
    let refused = encode_event(&publication("/", hex("91 c0")), None).unwrap_err();
    assert_eq!(refused, EncodeError::NotAnEvent);
}

#[test]
fn half_a_surrogate_pair_is_shown_as_browsers_show_it() {
    let whole = take(r#"{"type":"event","room":"r","event":"e","data":"\ufffd!"}"#).unwrap();
    assert_eq!(take(r#"{"type":"event","room":"r","event":"e","data":"\ud83d!"}"#).unwrap(), whole);
}
