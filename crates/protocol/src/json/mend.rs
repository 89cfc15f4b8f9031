//! Escapes that JavaScript writes and JSON for UTF-8 cannot have.

/// The text with every escaped half of a surrogate pair (`"\\ud83d"` alone, as `JSON.stringify` writes a
/// string that was cut inside a pair) replaced by U+FFFD; `None` where there is none. What a browser would
/// show for it is the same.
pub fn mend(json: &str) -> Option<String> {
    let mut mended: Option<String> = None;
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = json.get(at..).and_then(|rest| rest.find('\\')) {
        let escape = at + found;
        at = match unit(json, escape) {
            None => escape + 2,
            Some(0xd800..=0xdbff) if matches!(unit(json, escape + 6), Some(0xdc00..=0xdfff)) => escape + 12,
            Some(0xd800..=0xdfff) => {
                let mended = mended.get_or_insert_with(String::new);
                mended.push_str(&json[copied..escape]);
                mended.push_str("\\ufffd");
                copied = escape + 6;
                copied
            }
            Some(_) => escape + 6,
        };
    }
    let mut mended = mended?;
    mended.push_str(&json[copied..]);
    Some(mended)
}

/// The UTF-16 unit that is escaped at `at`, where one is.
fn unit(json: &str, at: usize) -> Option<u16> {
    let escape = json.as_bytes().get(at..at + 6)?;
    let digits = escape.strip_prefix(b"\\u").filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::mend;

    #[test]
    fn only_halves_of_pairs_are_replaced() {
        for whole in
            [r#"["a"]"#, r#"["\ud83d\ude00"]"#, r#"["\\ud83d"]"#, r#"["\u00e9\n\""]"#, "\\", "\\u", "\\ud83"]
        {
            assert_eq!(mend(whole), None, "{whole}");
        }
        assert_eq!(mend(r#"["\ud83d"]"#).unwrap(), r#"["\ufffd"]"#);
        assert_eq!(
            mend(r#"["\ude00\ud83d\ude00x\uD83d\u0041é"]"#).unwrap(),
            r#"["\ufffd\ud83d\ude00x\ufffd\u0041é"]"#
        );
    }
}
