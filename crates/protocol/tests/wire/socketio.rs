use fanfare_protocol::command::{Command, Refusal, RefusalCode, ReplyTo};
use fanfare_protocol::encoding::EncodeError;
use fanfare_protocol::msgpack::MsgpackError;
use fanfare_protocol::socketio::{Machine, RESERVED, encode_event, open_frame, ping_frame};
use fanfare_protocol::{Closed, Disconnect, NamespaceId, json};

use crate::link::{ADMIN, LIMIT, Link, MAIN};
use crate::{Sent, hex, packed, publication, sent, text};

fn event(namespace: NamespaceId, json: &str, id: Option<u64>) -> Command {
    let reply = id.map(|id| ReplyTo::Ack { namespace, id });
    Command::Event { namespace, room: None, data: packed(json), reply }
}

fn closes(text: &str) {
    assert_eq!(Link::new().text(text), Err(Disconnect::Protocol), "before joining: {text}");
    closes_joined(text);
}

fn closes_joined(text: &str) {
    assert_eq!(Link::joined().text(text), Err(Disconnect::Protocol), "after joining: {text}");
}

#[test]
fn an_idle_machine_is_small() {
    assert!(size_of::<Machine>() <= 64, "{}", size_of::<Machine>());
}

#[test]
fn connect_in_all_its_forms() {
    let connect = |namespace, auth: Option<&str>| {
        let auth = auth.map(|json| {
            let mut map = Vec::new();
            json::to_msgpack(json, &mut map).unwrap();
            map.into()
        });
        Command::Connect { namespace, auth }
    };
    for (packet, command) in [
        ("40", connect(MAIN, None)),
        ("40{}", connect(MAIN, Some("{}"))),
        (r#"40{"a":1}"#, connect(MAIN, Some(r#"{"a":1}"#))),
        ("40123", connect(MAIN, None)),
        (r#"40123{"a":1}"#, connect(MAIN, Some(r#"{"a":1}"#))),
        ("40/", connect(MAIN, None)),
        ("40/,", connect(MAIN, None)),
        ("40/admin", connect(ADMIN, None)),
        ("40/admin,", connect(ADMIN, None)),
        (r#"40/admin,{"token":"t"}"#, connect(ADMIN, Some(r#"{"token":"t"}"#))),
        ("40/{}", connect(NamespaceId(2), None)),
    ] {
        assert_eq!(Link::new().text(packet), Ok(vec![command]), "{packet}");
    }
}

#[test]
fn an_unknown_namespace_is_told_and_the_connection_stays() {
    let mut link = Link::new();
    let unknown = Command::ConnectClosed { namespace: "/unknown?x=1".into(), reason: Closed::Unknown };
    assert_eq!(link.text("40/unknown?x=1"), Ok(vec![unknown]));
    let frame = link.machine.refused("/unknown", None, "Invalid namespace", None);
    assert_eq!(text(&frame), r#"44/unknown,{"message":"Invalid namespace"}"#);
    assert!(link.text("40").is_ok());
}

#[test]
fn before_joining_everything_but_connect_closes() {
    for packet in [
        r#"40"s""#,
        "40[1]",
        "40null",
        "40true",
        r#"40{"a":1"#,
        "40{}x",
        "40-1",
        "40,",
        "401-",
        "41",
        r#"42["x"]"#,
        "43[]",
        r#"44{"message":"m"}"#,
        r#"45-["a"]"#,
        r#"450-["a"]"#,
        r#"4511-["a"]"#,
        "47",
        "4",
        "",
        "abc",
        "8",
        "é",
    ] {
        assert_eq!(Link::new().text(packet), Err(Disconnect::Protocol), "{packet}");
    }
}

#[test]
fn a_second_connect_to_an_entered_namespace_closes() {
    closes_joined("40");
    let mut link = Link::joined();
    assert!(link.text("40/admin,").is_ok());
    assert_eq!(link.text("40/admin"), Err(Disconnect::Protocol));
}

#[test]
fn packets_that_mean_nothing_are_ignored() {
    for packet in ["42", "427", "43", "43[]", "437"] {
        assert_eq!(Link::joined().text(packet), Ok(vec![]), "{packet}");
    }
    for packet in ["0", "5", "6"] {
        assert_eq!(Link::new().text(packet), Ok(vec![]), "{packet}");
    }
}

#[test]
fn events_that_are_no_events_close() {
    for packet in ["42[]", "42{}", r#"42"a""#, "42[null]", "42[{}]", "42[true]", "42[[]]", "42null"] {
        closes(packet);
    }
    for name in RESERVED {
        closes(&format!("42[{name:?}]"));
        closes(&format!(r#"451-[{name:?},{{"_placeholder":true,"num":0}}]"#));
    }
}

#[test]
fn events_are_taken_with_their_acknowledgement_id() {
    for (packet, json, id) in [
        (r#"42["connection"]"#, r#"["connection"]"#, None),
        (r#"42[1,"a"]"#, r#"[1,"a"]"#, None),
        ("42[-1]", "[-1]", None),
        ("42[1.5]", "[1.5]", None),
        (r#"42007["a"]"#, r#"["a"]"#, Some(7)),
        // Beyond what the reference counts to exactly, and what anybody does.
        (r#"4218446744073709551616["a"]"#, r#"["a"]"#, None),
        (r#"4299999999999999999999999["a"]"#, r#"["a"]"#, None),
        (r#"42["a"] "#, r#"["a"]"#, None),
        (r#"420["a",{"b":[1.5,null]}]"#, r#"["a",{"b":[1.5,null]}]"#, Some(0)),
        (r#"4218446744073709551615["a"]"#, r#"["a"]"#, Some(u64::MAX)),
        (r#"42/,["a"]"#, r#"["a"]"#, None),
        (r#"42["a",{"_placeholder":true,"num":0}]"#, r#"["a",{"_placeholder":true,"num":0}]"#, None),
    ] {
        assert_eq!(Link::joined().text(packet), Ok(vec![event(MAIN, json, id)]), "{packet}");
    }
    let mut link = Link::joined();
    link.text("40/admin,").unwrap();
    assert_eq!(link.text(r#"42/admin,12["x",1]"#), Ok(vec![event(ADMIN, r#"["x",1]"#, Some(12))]));
}

#[test]
fn an_event_right_behind_connect_is_not_lost() {
    let mut link = Link::new();
    link.text("40/admin,").unwrap();
    assert_eq!(link.text(r#"42/admin,["x"]"#), Ok(vec![event(ADMIN, r#"["x"]"#, None)]));
}

#[test]
fn malformed_packets_close() {
    for packet in [
        r#"42-1["a"]"#,
        r#"421.5["a"]"#,
        r#"42abc["a"]"#,
        r#"42["a""#,
        r#"42["a"]]"#,
        r#"42["a"]x"#,
        r#"42,["a"]"#,
        r#"42/admin["a"]"#,
        "44",
        r#"44"m""#,
        r#"44{"message":"m"}"#,
        "41[]",
        "41null",
        r#"41{"a":1}"#,
        "43{}",
        r#"431"a""#,
        r#"42/admin,["a"]"#,
        "41/admin,",
        r#"43/admin,1["a"]"#,
        r#"42/unknown,["a"]"#,
        "47",
        "4",
    ] {
        closes(packet);
    }
}

#[test]
fn attachment_counts_out_of_form_or_range_close() {
    for packet in [
        r#"451["a"]"#,
        r#"45-["a"]"#,
        r#"450-["a"]"#,
        r#"4511-["a"]"#,
        r#"45-1-["a"]"#,
        r#"451.0-["a"]"#,
        r#"4599999999999999999999-["a"]"#,
        "451-",
        "451-7",
        "461-",
        r#"451-{"a":1}"#,
    ] {
        closes(packet);
    }
}

#[test]
fn placeholders_without_an_attachment_close() {
    for packet in [
        r#"451-["a",{"_placeholder":true,"num":1}]"#,
        r#"451-["a",{"_placeholder":true,"num":"0"}]"#,
        r#"451-["a",{"_placeholder":true,"num":-1}]"#,
        r#"451-["a",{"_placeholder":true,"num":0.5}]"#,
        r#"451-["a",{"_placeholder":true,"num":null}]"#,
        r#"451-["a",{"_placeholder":true,"num":"length"}]"#,
        r#"451-["a",{"_placeholder":true,"num":[0]}]"#,
        r#"451-["a",{"_placeholder":true,"num":{"valueOf":1}}]"#,
        r#"451-["a",{"_placeholder":true,"num":18446744073709551616}]"#,
        r#"451-["a",{"_placeholder":true}]"#,
        r#"451-["a",{"_placeholder":true,"num":{"_placeholder":true,"num":0}}]"#,
        r#"451-["a",{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]"#,
        r#"452-["a",{"_placeholder":true,"num":0},{"a":[{"_placeholder":true,"num":0}]}]"#,
        r#"451-{"_placeholder":true,"num":0}"#,
        r#"451-[{"_placeholder":true,"num":0},"a"]"#,
    ] {
        closes(packet);
    }
}

#[test]
fn a_binary_event_waits_for_its_attachments() {
    let mut link = Link::joined();
    let header = r#"452-/,9["ev",{"_placeholder":true,"num":1},{"b":{"_placeholder":true,"num":0}}]"#;
    assert_eq!(link.text(header), Ok(vec![]));
    assert_eq!(link.binary(&[1, 2]), Ok(vec![]));
    // Heartbeats may come between; so may a binary message as base64.
    assert_eq!(link.text("3"), Ok(vec![Command::Pong]));
    let data = hex("93 a2 6576 c4 04 01020304 81 a1 62 c4 02 0102");
    let reply = Some(ReplyTo::Ack { namespace: MAIN, id: 9 });
    let whole = Command::Event { namespace: MAIN, room: None, data, reply };
    assert_eq!(link.text("bAQIDBA=="), Ok(vec![whole]));
    assert_eq!(link.text(r#"42["next"]"#), Ok(vec![event(MAIN, r#"["next"]"#, None)]));
}

#[test]
fn binaries_stand_anywhere_in_an_event() {
    const PLACE: &str = r#"{"_placeholder":true,"num":0}"#;
    for (json, data) in [
        (format!(r#"["a",{PLACE}]"#), "92 a1 61 c4 01 07"),
        (format!(r#"["a",[[{PLACE}]],1]"#), "93 a1 61 91 91 c4 01 07 01"),
        (
            format!(r#"["a",{{"b":{{"c":{PLACE}}},"d":null}}]"#),
            "92 a1 61 82 a1 62 81 a1 63 c4 01 07 a1 64 c0",
        ),
        // Whatever else such an object holds goes with it, even what holds others.
        (r#"["a",{"num":0,"x":[1],"_placeholder":true}]"#.to_owned(), "92 a1 61 c4 01 07"),
        // The last one counts of keys that are repeated.
        (r#"["a",{"_placeholder":true,"num":9,"num":0}]"#.to_owned(), "92 a1 61 c4 01 07"),
        // These are no placeholders, and nothing takes the attachment's place.
        (
            r#"["a",{"_placeholder":1,"num":0}]"#.to_owned(),
            "92 a1 61 82 ac 5f706c616365686f6c646572 01 a3 6e756d 00",
        ),
        (r#"["a"]"#.to_owned(), "91 a1 61"),
    ] {
        let mut link = Link::joined();
        assert_eq!(link.text(&format!("451-{json}")), Ok(vec![]), "{json}");
        let whole = Command::Event { namespace: MAIN, room: None, data: hex(data), reply: None };
        assert_eq!(link.binary(&[7]), Ok(vec![whole]), "{json}");
    }
}

#[test]
fn fewer_placeholders_than_attachments_still_wait_for_all() {
    let mut link = Link::joined();
    assert_eq!(link.text(r#"452-["a",{"_placeholder":true,"num":0}]"#), Ok(vec![]));
    assert_eq!(link.binary(&[]), Ok(vec![]));
    let data = hex("92 a1 61 c4 00");
    let whole = Command::Event { namespace: MAIN, room: None, data, reply: None };
    assert_eq!(link.binary(&[9]), Ok(vec![whole]));
}

#[test]
fn ten_attachments_are_taken() {
    let mut link = Link::joined();
    let places: String = (0..10).map(|num| format!(r#",{{"_placeholder":true,"num":{num}}}"#)).collect();
    link.text(&format!(r#"4510-["a"{places}]"#)).unwrap();
    for _ in 0..9 {
        assert_eq!(link.binary(&[7]), Ok(vec![]));
    }
    let data = [hex("9b a1 61"), hex("c4 01 07").repeat(10)].concat();
    let whole = Command::Event { namespace: MAIN, room: None, data, reply: None };
    assert_eq!(link.binary(&[7]), Ok(vec![whole]));
}

#[test]
fn an_event_is_at_most_ten_messages_large() {
    let mut link = Link::joined();
    let header = r#"4510-["a",{"_placeholder":true,"num":0}]"#;
    link.text(header).unwrap();
    let whole = vec![0; LIMIT];
    for _ in 0..9 {
        assert_eq!(link.binary(&whole), Ok(vec![]));
    }
    assert_eq!(link.binary(&whole), Err(Disconnect::TooLarge));
    let mut link = Link::joined();
    link.text(header).unwrap();
    for _ in 0..9 {
        link.binary(&whole).unwrap();
    }
    assert_eq!(link.binary(&whole[header.len()..]).unwrap().len(), 1);
}

#[test]
fn what_comes_between_or_without_attachments_closes() {
    for between in [r#"42["x"]"#, "40/admin,", "43[]", "41"] {
        let mut link = Link::joined();
        link.text(r#"451-["a",{"_placeholder":true,"num":0}]"#).unwrap();
        assert_eq!(link.text(between), Err(Disconnect::Protocol), "{between}");
    }
    assert_eq!(Link::joined().binary(&[1]), Err(Disconnect::Protocol));
    assert_eq!(Link::new().text("bAQ=="), Err(Disconnect::Protocol));
    assert_eq!(Link::joined().text("b***"), Err(Disconnect::Protocol));
}

#[test]
fn leaving_a_namespace_keeps_the_connection() {
    let mut link = Link::joined();
    link.text("40/admin,").unwrap();
    assert_eq!(link.text("41/admin,"), Ok(vec![Command::Leave { namespace: ADMIN }]));
    assert_eq!(link.text("41"), Ok(vec![Command::Leave { namespace: MAIN }]));
    assert!(link.text("40").is_ok(), "it may be entered again");
    assert_eq!(Link::joined().text("41/admin,"), Err(Disconnect::Protocol));
}

#[test]
fn a_refused_namespace_was_never_entered() {
    let mut link = Link::new();
    link.text("40/admin,").unwrap();
    let frame = link.machine.refused("/admin", Some(ADMIN), "no \"token\"", None);
    assert_eq!(text(&frame), r#"44/admin,{"message":"no \"token\""}"#);
    assert!(link.text("40/admin,").is_ok());
    link.machine.left(ADMIN);
    assert_eq!(link.text(r#"42/admin,["x"]"#), Err(Disconnect::Protocol));
}

#[test]
fn an_event_whose_namespace_ended_meanwhile_is_dropped() {
    let mut link = Link::joined();
    link.text(r#"451-["a",{"_placeholder":true,"num":0}]"#).unwrap();
    link.machine.left(MAIN);
    assert_eq!(link.binary(&[1]), Ok(vec![]));
}

#[test]
fn engine_packets_outside_of_messages() {
    assert_eq!(Link::new().text("3"), Ok(vec![Command::Pong]));
    assert_eq!(Link::new().text("1"), Err(Disconnect::Client));
    for packet in ["2", "2probe"] {
        assert_eq!(Link::joined().text(packet), Err(Disconnect::Protocol), "{packet}");
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(Link::joined().text(&format!(r#"42["a",{}]"#, nested(63))).is_ok());
    for levels in [64, 600, 100_000] {
        closes(&format!(r#"42["a",{}]"#, nested(levels)));
        closes(&format!(r#"40/admin,{{"a":{}}}"#, nested(levels)));
    }
}

#[test]
fn the_frames_of_a_session() {
    let open =
        r#"0{"sid":"abc","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;
    assert_eq!(text(&open_frame("abc", 25_000, 20_000, 1_000_000)), open);
    assert_eq!(text(&ping_frame()), "2");
    let Link { machine, namespaces } = Link::new();
    assert_eq!(text(&machine.connected(&namespaces, MAIN, "s")), r#"40{"sid":"s"}"#);
    assert_eq!(text(&machine.connected(&namespaces, ADMIN, "s")), r#"40/admin,{"sid":"s"}"#);
    assert_eq!(text(&machine.reply(&namespaces, MAIN, 0, Ok(()))), r#"430[{"ok":true}]"#);
    let refusal = Refusal::new(RefusalCode::Unavailable, "the broker is away");
    assert_eq!(
        text(&machine.reply(&namespaces, ADMIN, 12, Err(&refusal))),
        r#"43/admin,12[{"ok":false,"error":{"code":"unavailable","message":"the broker is away","retry":true}}]"#
    );
}

#[test]
fn publications_of_the_official_emitter_as_event_packets() {
    for (namespace, data, packet) in [
        ("/", "91 a2 6869", r#"42["hi"]"#),
        ("/", "93 a2 6869 a1 78 01", r#"42["hi","x",1]"#),
        (
            "/admin",
            "96 a2 6869 c3 c0 cb3ff8000000000000 fb cd012c",
            r#"42/admin,["hi",true,null,1.5,-5,300]"#,
        ),
        ("/", "92 a1 64 d6 ff 6553f100", r#"42["d","2023-11-14T22:13:20.000Z"]"#),
        ("/", "92 a1 6e cf 0000010000000000", r#"42["n",1099511627776]"#),
        ("/", "92 07 01", r#"42[7,1]"#),
    ] {
        assert_eq!(text(&encode_event(&publication(namespace, hex(data))).unwrap()), packet);
    }
    let long = packed(&format!(r#"["e",{:?}]"#, "x".repeat(70_000)));
    assert_eq!(text(&encode_event(&publication("/", long)).unwrap()).len(), 70_000 + 10);
}

#[test]
fn binary_publications_have_their_attachments_behind_them() {
    let data = hex("93 a3 62696e c4 04 01020304 81 a1 75 c4 02 0506");
    let json = r#"["bin",{"_placeholder":true,"num":0},{"u":{"_placeholder":true,"num":1}}]"#;
    for (namespace, start) in [("/", "452-"), ("/admin", "452-/admin,")] {
        let frame = encode_event(&publication(namespace, data.clone())).unwrap();
        let expected =
            [Sent::Text(format!("{start}{json}")), Sent::Binary(vec![1, 2, 3, 4]), Sent::Binary(vec![5, 6])];
        assert_eq!(sent(&frame), expected);
    }
    let bins = |count: u8| [vec![0x91 + count, 0xa1, b'e'], hex("c4 00").repeat(count.into())].concat();
    let ten = sent(&encode_event(&publication("/", bins(10))).unwrap());
    assert_eq!(ten.len(), 11);
    assert!(matches!(&ten[0], Sent::Text(text) if text.starts_with(r#"4510-["e","#)));
    let refused = |data: Vec<u8>| encode_event(&publication("/", data)).unwrap_err();
    assert_eq!(refused(bins(11)), EncodeError::TooManyAttachments);
}

#[test]
fn what_official_clients_would_choke_on_is_not_encoded() {
    let refused = |data: Vec<u8>| encode_event(&publication("/", data)).unwrap_err();
    for name in RESERVED {
        assert_eq!(refused(packed(&format!("[{name:?},1]"))), EncodeError::Reserved);
    }
    for data in ["90", "91 c0", "c0", "80"] {
        assert_eq!(refused(hex(data)), EncodeError::NotAnEvent, "{data}");
    }
    assert_eq!(refused(hex("92 a1 61")), EncodeError::Data(MsgpackError::Truncated));
    assert_eq!(refused(hex("92 a1 61 a1 ff")), EncodeError::Data(MsgpackError::NotUtf8));
    let imitation = [&[0x93, 0xa1, b'e', 0xc4, 0][..], &packed(r#"{"_placeholder":true,"num":9}"#)].concat();
    assert_eq!(refused(imitation), EncodeError::Data(MsgpackError::Placeholder));
}
