//! Binary values in JSON: `{"$binary":"<base64>"}`, both ways. So that nothing else looks like it, an object's
//! key that is `binary` behind dollar signs gets one more of them.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fanfare_protocol::msgpack::{self, MsgpackError, Token};

const KEY: &str = "$binary";

/// The MessagePack value with its binary values in a form that JSON has.
pub(super) fn shown(raw: &[u8]) -> Result<Vec<u8>, MsgpackError> {
    let mut out = Vec::with_capacity(raw.len() + raw.len() / 4);
    rewrite(
        raw,
        |token, is_key, _, out| {
            match token {
                Token::Bin(bytes) => {
                    msgpack::write_map_len(1, out);
                    msgpack::write_str(KEY, out);
                    msgpack::write_str(&STANDARD.encode(bytes), out);
                }
                Token::Str(text) if is_key && dollars(text).is_some() => {
                    msgpack::write_str(&format!("${}", String::from_utf8_lossy(text)), out);
                }
                _ => return Ok(false),
            }
            Ok(true)
        },
        &mut out,
    )?;
    Ok(out)
}

/// The MessagePack value of JSON, with what stands for binary values made binary again.
pub(super) fn read(raw: &[u8]) -> Result<Vec<u8>, Cow<'static, str>> {
    let mut out = Vec::with_capacity(raw.len());
    let mut wrong = None;
    let rewritten = rewrite(
        raw,
        |token, is_key, rest, out| {
            match token {
                Token::Map(1) => {
                    let mut tail = *rest;
                    if msgpack::read(&mut tail)? != Token::Str(KEY.as_bytes()) {
                        return Ok(false);
                    }
                    match msgpack::read(&mut tail)? {
                        Token::Str(text) => match STANDARD.decode(text) {
                            Ok(bytes) => msgpack::write_bin(&bytes, out),
                            Err(_) => wrong = Some("the text of a \"$binary\" is not base64"),
                        },
                        _ => wrong = Some("the value of a \"$binary\" is not text"),
                    }
                    *rest = tail;
                }
                Token::Str(text) if is_key && dollars(text).is_some_and(|count| count > 1) => {
                    msgpack::write_str(&String::from_utf8_lossy(&text[1..]), out);
                }
                Token::Str(text) if is_key && dollars(text) == Some(1) => {
                    wrong = Some("a \"$binary\" is not the only key of its object");
                    return Ok(false);
                }
                _ => return Ok(false),
            }
            Ok(true)
        },
        &mut out,
    );
    match (rewritten, wrong) {
        (Ok(()), None) => Ok(out),
        (_, Some(wrong)) => Err(wrong.into()),
        (Err(error), None) => Err(error.to_string().into()),
    }
}

/// How many dollar signs stand before `binary`, where that is the whole text.
fn dollars(text: &[u8]) -> Option<usize> {
    let signs = text.strip_suffix(b"binary")?;
    (!signs.is_empty() && signs.iter().all(|byte| *byte == b'$')).then_some(signs.len())
}

/// Copies the tokens of a value, but for those that `replace` writes itself (`true`). It is told whether a token is
/// a key, and may take more off what follows.
fn rewrite<'a>(
    raw: &'a [u8],
    mut replace: impl FnMut(Token<'a>, bool, &mut &'a [u8], &mut Vec<u8>) -> Result<bool, MsgpackError>,
    out: &mut Vec<u8>,
) -> Result<(), MsgpackError> {
    // Values still to come in each open container, and whether it is a map.
    let mut open: Vec<(u64, bool)> = Vec::new();
    let mut rest = raw;
    while !rest.is_empty() {
        let is_key = open.last().is_some_and(|(left, map)| *map && left % 2 == 0);
        if let Some((left, _)) = open.last_mut() {
            *left -= 1;
        }
        let before = rest;
        let token = msgpack::read(&mut rest)?;
        let end = rest;
        if !replace(token, is_key, &mut rest, out)? {
            out.extend_from_slice(&before[..before.len() - end.len()]);
            match token {
                Token::Array(len) => open.push((len.into(), false)),
                Token::Map(len) => open.push((u64::from(len) * 2, true)),
                _ => {}
            }
        }
        while open.last().is_some_and(|(left, _)| *left == 0) {
            open.pop();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use fanfare_protocol::json::{self, Bins};

    use super::*;

    fn msgpack_of(json: &str) -> Vec<u8> {
        let mut out = Vec::new();
        json::to_msgpack(json, &mut out).unwrap();
        out
    }

    fn json_of(raw: &[u8]) -> String {
        let mut out = Vec::new();
        json::from_msgpack(raw, &mut out, Bins::Base64(&mut false)).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn whatever_an_object_says_comes_back_as_it_was() {
        // {"a": bin, "$binary": "AQ==", "$$binary": {"$binary": 1}, "b": ["$binary", bin]}
        let mut raw = Vec::new();
        msgpack::write_map_len(4, &mut raw);
        msgpack::write_str("a", &mut raw);
        msgpack::write_bin(&[1, 2, 255], &mut raw);
        msgpack::write_str("$binary", &mut raw);
        msgpack::write_str("AQ==", &mut raw);
        msgpack::write_str("$$binary", &mut raw);
        raw.extend(msgpack_of(r#"{"$binary":1}"#));
        msgpack::write_str("b", &mut raw);
        msgpack::write_array_len(2, &mut raw);
        msgpack::write_str("$binary", &mut raw);
        msgpack::write_bin(b"", &mut raw);
        let json = json_of(&shown(&raw).unwrap());
        assert_eq!(
            json,
            r#"{"a":{"$binary":"AQL/"},"$$binary":"AQ==","$$$binary":{"$$binary":1},"b":["$binary",{"$binary":""}]}"#
        );
        assert_eq!(read(&msgpack_of(&json)).unwrap(), raw);
    }

    #[test]
    fn what_only_looks_like_binary_is_refused_in_words() {
        for wrong in [r#"{"$binary":1}"#, r#"[{"$binary":"?"}]"#, r#"{"$binary":"AQ==","x":1}"#] {
            assert!(read(&msgpack_of(wrong)).is_err(), "{wrong}");
        }
        let harmless = msgpack_of(r#"{"a":"$binary","b":{"binary":1}}"#);
        assert_eq!(read(&harmless).unwrap(), harmless);
    }
}
