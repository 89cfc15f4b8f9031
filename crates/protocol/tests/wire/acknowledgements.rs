//! Acknowledgements both ways, and what else the server says to one connection.

use fanfare_protocol::command::Command;
use fanfare_protocol::encoding::EncodeError;
use fanfare_protocol::msgpack::MsgpackError;
use fanfare_protocol::{Disconnect, Encoding, NamespaceId};

use crate::link::{ADMIN, LIMIT, Link, MAIN};
use crate::{Sent, hex, packed, publication, sent, text};

fn ack(namespace: NamespaceId, id: u64, json: &str) -> Command {
    Command::Ack { namespace, id, data: packed(json) }
}

#[test]
fn acknowledgements_are_taken_with_their_arguments() {
    for (packet, id, json) in [
        ("439[]", 9, "[]"),
        (r#"430["a",{"b":1}]"#, 0, r#"["a",{"b":1}]"#),
        ("43/,007[null]", 7, "[null]"),
        ("4318446744073709551615[1]", u64::MAX, "[1]"),
        // Reserved are the names of events only.
        (r#"431["connect"]"#, 1, r#"["connect"]"#),
    ] {
        assert_eq!(Link::joined().text(packet), Ok(vec![ack(MAIN, id, json)]), "{packet}");
    }
    let mut link = Link::joined();
    link.text("40/admin,").unwrap();
    assert_eq!(link.text("43/admin,12[1]"), Ok(vec![ack(ADMIN, 12, "[1]")]));
}

#[test]
fn acknowledgements_that_are_none_close_or_mean_nothing() {
    for packet in ["431{}", r#"431"a""#, "431null", "431[", "43-1[]", "431.5[]"] {
        assert_eq!(Link::joined().text(packet), Err(Disconnect::Protocol), "{packet}");
    }
    for packet in ["43", "43[]", "437", "4318446744073709551616[1]"] {
        assert_eq!(Link::joined().text(packet), Ok(vec![]), "{packet}");
    }
}

#[test]
fn a_binary_acknowledgement_waits_for_its_attachments() {
    let mut link = Link::joined();
    let header = r#"462-0[{"_placeholder":true,"num":1},{"a":{"_placeholder":true,"num":0}}]"#;
    assert_eq!(link.text(header), Ok(vec![]));
    assert_eq!(link.binary(&[1, 2]), Ok(vec![]));
    let data = hex("92 c4 00 81 a1 61 c4 02 0102");
    assert_eq!(link.binary(&[]), Ok(vec![Command::Ack { namespace: MAIN, id: 0, data }]));
    assert_eq!(link.binary(&[1]), Err(Disconnect::Protocol));

    let mut link = Link::joined();
    assert_eq!(link.text(r#"461-[{"_placeholder":true,"num":0}]"#), Ok(vec![]), "nobody asked");
    assert_eq!(link.binary(&[1]), Ok(vec![]));
    for packet in [
        r#"461-0{"_placeholder":true,"num":0}"#,
        r#"461-0[{"_placeholder":true,"num":1}]"#,
        r#"462-0[{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]"#,
        "460-0[]",
        "4611-0[]",
        "46-0[]",
        "461-0",
    ] {
        assert_eq!(Link::joined().text(packet), Err(Disconnect::Protocol), "{packet}");
    }
    let mut link = Link::joined();
    link.text(r#"4610-1[{"_placeholder":true,"num":0}]"#).unwrap();
    for _ in 0..9 {
        link.binary(&vec![0; LIMIT]).unwrap();
    }
    assert_eq!(link.binary(&vec![0; LIMIT]), Err(Disconnect::TooLarge));
}

#[test]
fn an_acknowledgement_for_a_namespace_that_ended_meanwhile_is_dropped() {
    let mut link = Link::joined();
    link.text(r#"461-0[{"_placeholder":true,"num":0}]"#).unwrap();
    link.machine.left(MAIN);
    assert_eq!(link.binary(&[1]), Ok(vec![]));
}

#[test]
fn a_publication_asks_for_acknowledgements_with_its_id() {
    let with = |namespace, data: &str, id| {
        let mut asking = publication(namespace, hex(data));
        asking.ack = Some(id);
        sent(&Encoding::SocketIoText.encode(&asking, None).unwrap())
    };
    assert_eq!(with("/", "92 a1 61 01", 0), [Sent::Text(r#"420["a",1]"#.to_owned())]);
    assert_eq!(with("/ns", "91 a1 61", 12), [Sent::Text(r#"42/ns,12["a"]"#.to_owned())]);
    assert_eq!(
        with("/ns", "92 a2 6576 c4 01 09", 7),
        [Sent::Text(r#"451-/ns,7["ev",{"_placeholder":true,"num":0}]"#.to_owned()), Sent::Binary(vec![9])]
    );
}

#[test]
fn the_apps_arguments_acknowledge_an_event() {
    let Link { machine, namespaces } = Link::joined();
    let said = |namespace, id, args: &[u8]| machine.ack(&namespaces, namespace, id, args);
    assert_eq!(text(&said(MAIN, 0, &packed(r#"["r",1]"#)).unwrap()), r#"430["r",1]"#);
    assert_eq!(text(&said(ADMIN, 12, &packed("[]")).unwrap()), "43/admin,12[]");
    assert_eq!(
        sent(&said(MAIN, 0, &hex("92 c4 01 07 81 a1 61 c4 00")).unwrap()),
        [
            Sent::Text(
                r#"462-0[{"_placeholder":true,"num":0},{"a":{"_placeholder":true,"num":1}}]"#.to_owned()
            ),
            Sent::Binary(vec![7]),
            Sent::Binary(vec![]),
        ]
    );
    let eleven = [hex("9b"), hex("c4 00").repeat(11)].concat();
    for (args, error) in [
        (eleven, EncodeError::TooManyAttachments),
        (packed("{}"), EncodeError::NotArguments),
        (packed("1"), EncodeError::NotArguments),
        (hex("92 01"), EncodeError::Data(MsgpackError::Truncated)),
        (hex("91 01 02"), EncodeError::Data(MsgpackError::Trailing)),
        (vec![], EncodeError::Data(MsgpackError::Truncated)),
        (vec![0x91; 100], EncodeError::Data(MsgpackError::TooDeep)),
    ] {
        assert_eq!(said(MAIN, 0, &args).unwrap_err(), error);
    }
}

#[test]
fn a_refusal_carries_what_the_app_says() {
    let mut link = Link::joined();
    let mut refused = |data: Option<&[u8]>| text(&link.machine.refused("/no", None, "nope", data));
    assert_eq!(refused(Some(&packed(r#"{"code":7}"#))), r#"44/no,{"message":"nope","data":{"code":7}}"#);
    assert_eq!(refused(Some(&packed("null"))), r#"44/no,{"message":"nope","data":null}"#);
    assert_eq!(refused(Some(&hex("c4 01 07"))), r#"44/no,{"message":"nope","data":"Bw=="}"#);
    for none in [&[][..], &hex("92 01"), &hex("01 02"), &hex("a1 ff"), &[0x91; 100]] {
        assert_eq!(refused(Some(none)), r#"44/no,{"message":"nope"}"#, "{none:x?}");
    }
}

#[test]
fn a_client_that_is_disconnected_is_told_and_out() {
    let mut link = Link::joined();
    link.text("40/admin,").unwrap();
    assert_eq!(text(&link.machine.disconnected(&link.namespaces, ADMIN)), "41/admin,");
    assert_eq!(link.text(r#"42/admin,["x"]"#), Err(Disconnect::Protocol));
    let mut link = Link::joined();
    assert_eq!(text(&link.machine.disconnected(&link.namespaces, MAIN)), "41");
    assert!(link.text("40").is_ok(), "it may be entered again");
}
