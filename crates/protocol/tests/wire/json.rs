use fanfare_protocol::json::{Bins, Hole, JsonError, from_msgpack, to_msgpack, to_msgpack_with_holes};
use fanfare_protocol::msgpack::{self, MAX_DEPTH, MsgpackError};
use proptest::prelude::*;

use crate::{hex, packed};

fn unpacked(raw: &[u8]) -> Result<String, MsgpackError> {
    let (mut out, mut binary) = (Vec::new(), false);
    from_msgpack(raw, &mut out, Bins::Base64(&mut binary))?;
    assert!(!binary);
    Ok(String::from_utf8(out).unwrap())
}

fn refused(json: &str) -> JsonError {
    to_msgpack(json, &mut Vec::new()).unwrap_err()
}

#[test]
fn values_take_their_smallest_form() {
    for (json, bytes) in [
        (r#"["hi","x",1]"#, "93 a2 6869 a1 78 01"),
        (r#"["hi",true,null,1.5,-5,300]"#, "96 a2 6869 c3 c0 cb3ff8000000000000 fb cd012c"),
        ("1099511627776", "cf 0000010000000000"),
        ("[]", "90"),
        ("{}", "80"),
        (r#"{"a":{"b":[]}}"#, "81 a1 61 81 a1 62 90"),
        ("18446744073709551615", "cf ffffffffffffffff"),
        ("-9223372036854775808", "d3 8000000000000000"),
        ("1e3", "cb 408f400000000000"),
    ] {
        assert_eq!(packed(json), hex(bytes), "{json}");
    }
    for len in [15, 16, 65_535, 65_536] {
        let json = format!("[{}]", vec!["7"; len].join(","));
        let header = packed(&json).len() - len;
        assert_eq!(
            header,
            if len < 16 {
                1
            } else if len < 65_536 {
                3
            } else {
                5
            }
        );
        assert_eq!(unpacked(&packed(&json)).unwrap(), json);
    }
}

#[test]
fn what_is_not_json_is_refused() {
    for json in ["", "nul", "[1", "[1]]", "{\"a\"}", "{\"a\":1,}", "\"\\ud800\"", "1e999", "\"\n\"", "[1] 2"]
    {
        assert!(matches!(refused(json), JsonError::Syntax(_)), "{json}");
    }
    assert_eq!(packed(" [1] \n"), packed("[1]"));
}

#[test]
fn depth_is_bounded_however_deep_the_text_is() {
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let deepest = packed(&nested(MAX_DEPTH));
    assert_eq!(unpacked(&deepest).unwrap(), nested(MAX_DEPTH));
    for levels in [MAX_DEPTH + 1, 600, 100_000] {
        assert_eq!(refused(&nested(levels)), JsonError::TooDeep);
        assert_eq!(refused(&r#"{"a":"#.repeat(levels)), JsonError::TooDeep);
        let raw = vec![0x91; levels];
        assert_eq!(unpacked(&raw), Err(MsgpackError::TooDeep), "{levels}");
    }
}

#[test]
fn what_json_cannot_say_becomes_what_node_says() {
    for (bytes, json) in [
        ("c0", "null"),
        ("cb 7ff8000000000000", "null"),
        ("cb 7ff0000000000000", "null"),
        ("cb fff0000000000000", "null"),
        ("ca 7fc00000", "null"),
        (
            "94 cb 7ff0000000000000 cb 8000000000000000 ca 80000000 d6 ff 00000000",
            r#"[null,0,0,"1970-01-01T00:00:00.000Z"]"#,
        ),
        ("cb 8000000000000000", "0"),
        ("cb 4059000000000000", "100"),
        ("cb 444b1ae4d6e2ef50", "1e21"),
        ("cb 4415af1d78b58c40", "100000000000000000000"),
        ("cb 43f0000000000000", "18446744073709552000"),
        ("cb c3e0000000000000", "-9223372036854776000"),
        ("cb 3fb999999999999a", "0.1"),
        ("ca 3dcccccd", "0.10000000149011612"),
        ("d6 ff 6553f100", "\"2023-11-14T22:13:20.000Z\""),
        ("d7 ff 1d53 5f00 6553 f100", "\"2023-11-14T22:13:20.123Z\""),
        ("c7 0c ff 00000000 ffffffffffffffff", "\"1969-12-31T23:59:59.000Z\""),
        ("c7 0c ff 00000000 000007dba8218001", "null"),
        ("c7 0c ff 00000000 7fffffffffffffff", "null"),
        ("d7 00 0000018bcfe5687b", "\"2023-11-14T22:13:20.123Z\""),
        ("d7 00 fffffffffffffffe", "\"1969-12-31T23:59:59.998Z\""),
        ("d7 00 001eb208c2dc0000", "\"+275760-09-13T00:00:00.000Z\""),
        ("d7 00 001eb208c2dc0001", "null"),
        ("d7 00 ffffc76e394a7400", "\"-000001-01-01T00:00:00.000Z\""),
        ("92 d4 00 00 01", "[null,1]"),
        ("83 a1 61 d4 00 00 a1 62 01 a1 63 c7 01 00 00", "{\"b\":1}"),
        ("93 d4 05 01 d8 01 00000000000000000000000000000000 c7 00 07", "[null,null,null]"),
        ("83 a1 61 01 05 02 d0 fb 03", r#"{"a":1,"5":2,"-5":3}"#),
    ] {
        assert_eq!(unpacked(&hex(bytes)).unwrap(), json, "{bytes}");
    }
    for (bytes, error) in [
        ("a1 ff", MsgpackError::NotUtf8),
        ("81 a1 ff 01", MsgpackError::NotUtf8),
        ("81 c0 01", MsgpackError::BadKey),
        ("81 c4 01 61 01", MsgpackError::BadKey),
        ("01 02", MsgpackError::Trailing),
        ("92 01", MsgpackError::Truncated),
        ("dd ffffffff", MsgpackError::Truncated),
    ] {
        assert_eq!(unpacked(&hex(bytes)), Err(error), "{bytes}");
    }
}

#[test]
fn strings_are_escaped_as_json_stringify_does() {
    let all: String = (0..0x80u8).map(char::from).chain("é\u{2028}🎉".chars()).collect();
    let mut raw = Vec::new();
    msgpack::write_str(&all, &mut raw);
    let json = unpacked(&raw).unwrap();
    assert_eq!(json, serde_json::to_string(&all).unwrap());
    assert!(json.contains(r#"\b\t\n\u000b\f\r"#) && json.contains(r#"\""#) && json.contains(r"\u001f"));
}

#[test]
fn binaries_become_placeholders_in_depth_first_order_or_base64() {
    let raw = hex("93 a3 62696e c4 04 01020304 82 a1 75 c4 02 0506 a1 76 91 c4 00");
    let (mut out, mut found) = (Vec::new(), Vec::new());
    from_msgpack(&raw, &mut out, Bins::Placeholders(&mut found)).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        r#"["bin",{"_placeholder":true,"num":0},{"u":{"_placeholder":true,"num":1},"v":[{"_placeholder":true,"num":2}]}]"#
    );
    assert_eq!(found, [&[1, 2, 3, 4][..], &[5, 6], &[]]);
    let (mut out, mut binary) = (Vec::new(), false);
    from_msgpack(&raw, &mut out, Bins::Base64(&mut binary)).unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), r#"["bin","AQIDBA==",{"u":"BQY=","v":[""]}]"#);
    assert!(binary);
}

#[test]
fn maps_that_imitate_attachments_are_refused_beside_binaries() {
    let imitation = packed(r#"{"_placeholder":true,"num":9}"#);
    let with = |other: &[u8]| [&[0x92], &imitation[..], other].concat();
    let outcome = |raw: &[u8]| from_msgpack(raw, &mut Vec::new(), Bins::Placeholders(&mut Vec::new()));
    assert_eq!(outcome(&with(&hex("c4 01 00"))), Err(MsgpackError::Placeholder));
    assert_eq!(outcome(&with(&hex("01"))), Ok(()));
}

#[test]
fn placeholders_become_holes_at_their_place() {
    let mut out = Vec::new();
    let long = vec!["1"; 20].join(",");
    let json =
        format!(r#"["e",{{"num":1,"_placeholder":true}},{{"k":[{long},{{"_placeholder":true,"num":0}}]}}]"#);
    let holes = to_msgpack_with_holes(&json, 2, &mut out).unwrap();
    assert_eq!(holes.iter().map(|hole| hole.num).collect::<Vec<_>>(), [1, 0]);
    for Hole { at, .. } in &holes {
        assert_eq!(out[*at], 0xc0);
    }
    assert_eq!(unpacked(&out).unwrap(), format!(r#"["e",null,{{"k":[{long},null]}}]"#));
    assert_eq!(holes[1].at, out.len() - 1);

    let outcome = |json: &str| to_msgpack_with_holes(json, 1, &mut Vec::new());
    for bad in [
        r#"{"_placeholder":true,"num":1}"#,
        r#"{"_placeholder":true,"num":-1}"#,
        r#"{"_placeholder":true,"num":"0"}"#,
        r#"{"_placeholder":true,"num":0.5}"#,
        r#"{"_placeholder":true,"num":null}"#,
        r#"{"_placeholder":true}"#,
        r#"[{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]"#,
    ] {
        assert_eq!(outcome(bad), Err(JsonError::Placeholder), "{bad}");
    }
    for plain in [r#"{"_placeholder":false,"num":7}"#, r#"{"_placeholder":"true","num":7}"#, r#"{"num":7}"#] {
        assert_eq!(outcome(plain), Ok(vec![]), "{plain}");
    }
}

fn value() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no other", |value| value.is_finite()).prop_map(Value::from),
        ".{0,60}".prop_map(Value::from),
    ];
    leaf.prop_recursive(8, 100, 40, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..40).prop_map(Value::from),
            proptest::collection::btree_map(".{0,10}", inner, 0..20)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Integral floats are integers to JavaScript and after a round trip; so that trees can be compared,
/// they are here, too.
fn normal(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(float) if float.trunc() == float && float.abs() < 1e21 => Value::from(float as i128 as f64),
            _ => Value::from(number.as_f64()),
        },
        Value::Array(items) => items.into_iter().map(normal).collect(),
        Value::Object(map) => map.into_iter().map(|(key, value)| (key, normal(value))).collect(),
        other => other,
    }
}

proptest! {
    #[test]
    fn json_survives_the_way_through_messagepack(value in value(), pretty in any::<bool>()) {
        let json = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let raw = packed(&json.unwrap());
        prop_assert_eq!(msgpack::skip(&raw), Ok(raw.len()));
        let text = unpacked(&raw).unwrap();
        let back: serde_json::Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(normal(back), normal(value));
        // What came back is in normal form: another round changes nothing.
        prop_assert_eq!(unpacked(&packed(&text)).unwrap(), text);
    }

    #[test]
    fn integers_and_floats_keep_their_exact_value(integer in any::<i64>(), float in any::<f64>()) {
        prop_assert_eq!(unpacked(&packed(&integer.to_string())).unwrap(), integer.to_string());
        if float.is_finite() {
            let text = unpacked(&packed(&format!("{float:?}"))).unwrap();
            prop_assert_eq!(text.parse::<f64>().unwrap(), float);
        }
    }
}
