use fanfare_protocol::msgpack::{
    EventView, MAX_DEPTH, MsgpackError, Token, check_event, event, field, read, scalar_text, skip, write_bin,
};
use proptest::prelude::*;

use crate::{hex, packed};

/// `levels` arrays in each other.
fn nested(levels: usize) -> Vec<u8> {
    let mut data = vec![0x91; levels - 1];
    data.push(0x90);
    data
}

#[test]
fn an_event_shows_its_name_and_arguments() {
    let data = packed(r#"["hi","x",{"a":[1,2]},null]"#);
    check_event(&data).unwrap();
    let view = EventView::parse(&data).unwrap();
    assert_eq!(view.name(), "hi");
    assert_eq!(view.arg_count(), 3);
    let args: Vec<&[u8]> = view.args().collect();
    assert_eq!(args, [&packed("\"x\"")[..], &packed(r#"{"a":[1,2]}"#), &packed("null")]);
    assert_eq!(event("hi", &args), data);
    for (json, name) in [("[-7]", "-7"), ("[1.5]", "1.5"), ("[1.0]", "1"), ("[1e21]", "1e21")] {
        assert_eq!(EventView::parse(&packed(json)).unwrap().name(), name);
    }
}

#[test]
fn only_whole_events_pass_the_check() {
    for (data, error) in [
        ("", MsgpackError::Truncated),
        ("90", MsgpackError::NotAnEvent),
        ("80", MsgpackError::NotAnEvent),
        ("c0", MsgpackError::NotAnEvent),
        ("91 c0", MsgpackError::NotAnEvent),
        ("91 c4 01 61", MsgpackError::NotAnEvent),
        ("91 cb 7ff8000000000000", MsgpackError::NotAnEvent),
        ("91 cb fff0000000000000", MsgpackError::NotAnEvent),
        ("91 c3", MsgpackError::NotAnEvent),
        ("91 a1", MsgpackError::Truncated),
        ("92 a1 61", MsgpackError::Truncated),
        ("91 a1 61 00", MsgpackError::Trailing),
        ("91 a1 ff", MsgpackError::NotUtf8),
        ("92 a1 61 81 a1 ff 01", MsgpackError::NotUtf8),
        ("91 c1", MsgpackError::BadMarker),
        ("dd ffffffff a1 61", MsgpackError::Truncated),
        ("92 a1 61 df ffffffff", MsgpackError::Truncated),
        ("92 a1 61 c6 ffffffff 00", MsgpackError::Truncated),
        ("92 a1 61 db ffffffff 00", MsgpackError::Truncated),
    ] {
        assert_eq!(check_event(&hex(data)), Err(error), "{data}");
    }
    for data in
        ["91 01", "91 cb 3ff8000000000000", "91 a0", "92 a1 61 c4 01 ff", "91 d9 01 61", "dc 0001 a1 61"]
    {
        assert_eq!(check_event(&hex(data)), Ok(()), "{data}");
    }
}

#[test]
fn depth_is_bounded_however_deep_the_bytes_are() {
    let at = |levels: usize| [&[0x92, 0xa1, b'e'], &nested(levels - 1)[..]].concat();
    assert_eq!(check_event(&at(MAX_DEPTH)), Ok(()));
    for levels in [MAX_DEPTH + 1, 600, 100_000] {
        assert_eq!(check_event(&at(levels)), Err(MsgpackError::TooDeep), "{levels}");
        assert_eq!(skip(&nested(levels)), Err(MsgpackError::TooDeep), "{levels}");
    }
    assert_eq!(skip(&nested(MAX_DEPTH)), Ok(MAX_DEPTH));
}

#[test]
fn scalars_and_fields_are_found_in_place() {
    assert_eq!(scalar_text(&packed("\"r1\"")).as_deref(), Some("r1"));
    assert_eq!(scalar_text(&packed("42")).as_deref(), Some("42"));
    assert_eq!(scalar_text(&packed("-3")).as_deref(), Some("-3"));
    for other in ["1.5", "null", "true", "[]", "{}"] {
        assert_eq!(scalar_text(&packed(other)), None, "{other}");
    }
    assert_eq!(scalar_text(&hex("01 02")), None);
    let map = packed(r#"{"a":{"id":1},"id":[2]}"#);
    assert_eq!(field(&map, "id"), Some(&packed("[2]")[..]));
    assert_eq!(field(&map, "b"), None);
    assert_eq!(field(&packed("[1]"), "b"), None);
    assert_eq!(field(&hex("82 a1 61"), "b"), None);
}

/// A value, as a tree.
fn tree() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(|value| packed(&value.to_string())),
        any::<f64>().prop_map(|value| [&[0xcb], &value.to_be_bytes()[..]].concat()),
        ".{0,40}".prop_map(|text| packed(&serde_json::to_string(&text).unwrap())),
        proptest::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| {
            let mut out = Vec::new();
            write_bin(&bytes, &mut out);
            out
        }),
        proptest::collection::vec(any::<u8>(), 0..40)
            .prop_map(|bytes| { [&[0xc7, bytes.len() as u8, 5], &bytes[..]].concat() }),
        Just(vec![0xd4, 0, 0]),
    ];
    leaf.prop_recursive(6, 64, 20, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..20).prop_map(|items| [
                vec![0xdc, 0, items.len() as u8],
                items.concat()
            ]
            .concat()),
            proptest::collection::vec((inner.clone(), inner), 0..8).prop_map(|pairs| {
                let body: Vec<u8> =
                    pairs.iter().flat_map(|(key, value)| [&key[..], value].concat()).collect();
                [vec![0x80 | pairs.len() as u8], body].concat()
            }),
        ]
    })
}

/// What [`skip`] computes, by plain recursion.
fn walk(rest: &mut &[u8]) {
    match read(rest).unwrap() {
        Token::Array(len) => (0..len).for_each(|_| walk(rest)),
        Token::Map(len) => (0..len * 2).for_each(|_| walk(rest)),
        _ => {}
    }
}

proptest! {
    #[test]
    fn skip_finds_the_end_of_any_value(value in tree(), tail in proptest::collection::vec(any::<u8>(), 0..8)) {
        let bytes = [&value[..], &tail].concat();
        prop_assert_eq!(skip(&bytes), Ok(value.len()));
        let mut rest = &bytes[..];
        walk(&mut rest);
        prop_assert_eq!(rest, &tail[..]);
        for cut in 0..value.len() {
            prop_assert_eq!(skip(&value[..cut]), Err(MsgpackError::Truncated));
        }
    }
}
