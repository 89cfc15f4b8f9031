//! Strings, numbers and dates as `JSON.stringify` writes them.

/// Appends a JSON string, quotes included.
pub fn write_str(text: &str, out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut copied = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let escape = ESCAPE[usize::from(*byte)];
        if escape == 0 {
            continue;
        }
        out.extend_from_slice(&bytes[copied..at]);
        copied = at + 1;
        match escape {
            b'u' => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let digits = [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&digits);
            }
            short => out.extend_from_slice(&[b'\\', short]),
        }
    }
    out.extend_from_slice(&bytes[copied..]);
    out.push(b'"');
}

/// What follows the backslash for each byte; 0 where none is needed.
const ESCAPE: [u8; 256] = {
    let mut table = [0; 256];
    let mut control = 0;
    while control < 0x20 {
        table[control] = b'u';
        control += 1;
    }
    table[0x08] = b'b';
    table[0x09] = b't';
    table[0x0a] = b'n';
    table[0x0c] = b'f';
    table[0x0d] = b'r';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

/// Below this, every integral float is exactly one integer (2^53).
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Appends a number; what JSON has no form for becomes null.
pub(super) fn write_float(value: f64, out: &mut Vec<u8>) {
    if !value.is_finite() {
        return out.extend_from_slice(b"null");
    }
    if value.trunc() == value && value.abs() < EXACT {
        // Exact by the condition; minus zero becomes 0.
        return write_int(value as i64, out);
    }
    let mut buffer = ryu::Buffer::new();
    let text = buffer.format_finite(value);
    match text.split_once('e').map(|(digits, exponent)| (digits, exponent.parse())) {
        // JavaScript switches to exponents at 1e21, ryu at 1e16.
        Some((digits, Ok(exponent @ 0..=20))) => write_expanded(digits, exponent, out),
        _ => out.extend_from_slice(text.strip_suffix(".0").unwrap_or(text).as_bytes()),
    }
}

/// The text of a number, as [`write_float`] appends it.
pub(crate) fn number(value: f64) -> String {
    let mut text = Vec::new();
    write_float(value, &mut text);
    // Digits, signs and letters only.
    String::from_utf8(text).unwrap_or_default()
}

/// Writes `digits` × 10^`exponent` in full, where it is integral.
fn write_expanded(digits: &str, exponent: usize, out: &mut Vec<u8>) {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    out.extend_from_slice(whole.as_bytes());
    out.extend_from_slice(fraction.as_bytes());
    out.resize(out.len() + exponent.saturating_sub(fraction.len()), b'0');
}

/// Appends an integer.
pub(super) fn write_int(value: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// The range of a JavaScript Date, ± milliseconds.
const DATE_RANGE: i64 = 8_640_000_000_000_000;

/// Appends an instant, milliseconds of Unix time, as an ISO 8601 string in UTC; null where it is no
/// JavaScript Date.
pub(super) fn write_date(milliseconds: Option<i64>, out: &mut Vec<u8>) {
    let Some(instant) = milliseconds.filter(|ms| (-DATE_RANGE..=DATE_RANGE).contains(ms)) else {
        return out.extend_from_slice(b"null");
    };
    let (year, month, day) = civil(instant.div_euclid(86_400_000));
    let time = instant.rem_euclid(86_400_000);
    out.push(b'"');
    match year {
        0..=9999 => write_padded(year, 4, out),
        _ => {
            out.push(if year < 0 { b'-' } else { b'+' });
            write_padded(year.abs(), 6, out);
        }
    }
    let parts =
        [(b'-', month, 2), (b'-', day, 2), (b'T', time / 3_600_000, 2), (b':', time / 60_000 % 60, 2)];
    for (mark, value, width) in parts.into_iter().chain([(b':', time / 1000 % 60, 2), (b'.', time % 1000, 3)])
    {
        out.push(mark);
        write_padded(value, width, out);
    }
    out.extend_from_slice(b"Z\"");
}

fn write_padded(value: i64, width: usize, out: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(value);
    out.resize(out.len() + width.saturating_sub(digits.len()), b'0');
    out.extend_from_slice(digits.as_bytes());
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar
/// (H. Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`).
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}
