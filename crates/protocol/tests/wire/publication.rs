use fanfare_protocol::publication::{PublicationError, from_json};

use crate::packed;

fn refused(json: &str) -> PublicationError {
    from_json(json.as_bytes()).unwrap_err()
}

#[test]
fn every_field_arrives() {
    let json = r#" {"namespace":"admin","rooms":["r1",42],"except":["a",-1],"event":"e","args":[1,{"b":null}],"volatile":true}"#;
    let publication = from_json(json.as_bytes()).unwrap();
    assert_eq!(publication.namespace, "/admin");
    assert_eq!(publication.rooms.to_vec(), ["r1", "42"]);
    assert_eq!(publication.except.to_vec(), ["a", "-1"]);
    assert!(publication.volatile);
    assert_eq!(*publication.data, packed(r#"["e",1,{"b":null}]"#));
    assert_eq!(publication.sent_at, None);
}

#[test]
fn what_may_be_left_out() {
    let publication = from_json(br#"{"event":"e"}"#).unwrap();
    assert_eq!(publication.namespace, "/");
    assert!(publication.rooms.is_empty() && publication.except.is_empty() && !publication.volatile);
    assert_eq!(*publication.data, packed(r#"["e"]"#));
    let publication = from_json(br#"{"room":7,"except":"me","event":"e","data":null}"#).unwrap();
    assert_eq!(publication.rooms.to_vec(), ["7"]);
    assert_eq!(publication.except.to_vec(), ["me"]);
    assert_eq!(*publication.data, packed(r#"["e",null]"#));
}

#[test]
fn faults_are_told_apart() {
    assert_eq!(refused(r#"{"room":"a","rooms":["b"],"event":"e"}"#), PublicationError::RoomAndRooms);
    assert_eq!(refused(r#"{"rooms":[],"event":"e"}"#), PublicationError::NoRooms);
    assert_eq!(refused(r#"{"event":"e","data":1,"args":[1]}"#), PublicationError::DataAndArgs);
    for json in [r#"{"event":"","data":1}"#, r#"{"event":"newListener"}"#] {
        assert!(matches!(refused(json), PublicationError::Event(_)), "{json}");
    }
    for json in [
        r#"{"room":"","event":"e"}"#,
        r#"{"rooms":["a","\n"],"event":"e"}"#,
        r#"{"except":"","event":"e"}"#,
        r#"{"namespace":"\n","event":"e"}"#,
    ] {
        assert!(matches!(refused(json), PublicationError::Name { .. }), "{json}");
    }
    for json in [
        "",
        "7",
        "[]",
        r#"["/","r"]"#,
        "{}",
        r#"{"event":1}"#,
        r#"{"event":"e","extra":1}"#,
        r#"{"event":"e"}x"#,
        r#"{"event":"e","volatile":1}"#,
        r#"{"room":null,"event":"e"}"#,
        r#"{"room":1.5,"event":"e"}"#,
        r#"{"rooms":"a","event":"e"}"#,
        r#"{"rooms":[[]],"event":"e"}"#,
        r#"{"except":{},"event":"e"}"#,
    ] {
        assert!(matches!(refused(json), PublicationError::Shape(_)), "{json}");
    }
    assert!(matches!(refused(r#"{"event":"e","args":1}"#), PublicationError::Arguments(_)));
    assert!(matches!(from_json(b"{\"event\":\"\xff\"}"), Err(PublicationError::Shape(_))));
}

#[test]
fn depth_is_bounded_however_deep_the_text_is() {
    let with =
        |levels: usize| format!(r#"{{"event":"e","data":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
    assert!(from_json(with(63).as_bytes()).is_ok());
    for levels in [64, 600, 100_000] {
        assert_eq!(refused(&with(levels)), PublicationError::TooDeep, "{levels}");
    }
}

#[test]
fn errors_say_what_to_write() {
    let error = refused(r#"{"channel":"r1","event":"e"}"#).to_string();
    assert!(error.contains("unknown field `channel`") && error.contains(r#""room" | "rooms""#), "{error}");
}
