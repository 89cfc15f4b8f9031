//! Values as people write them: durations and sizes with their unit, counts, switches, addresses.
//! Each error says what to write instead.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const DURATIONS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

const SIZES: [(&str, u64); 8] = [
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];

/// A duration: a whole number and `ms`, `s`, `m` or `h`. The unit is required, since Socket.IO counts in
/// milliseconds and most else in seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let Ok(count) = number.parse::<u64>() else {
        return Err(format!("`{text}` is no duration; write a whole number with its unit, as 25s or 300ms"));
    };
    if unit.is_empty() {
        return Err(format!(
            "`{text}` has no unit; write {count}s for seconds or {count}ms for milliseconds"
        ));
    }
    let Some((_, milliseconds)) = DURATIONS.iter().find(|(name, _)| *name == unit) else {
        return Err(format!("`{unit}` is no unit of time; write ms, s, m or h, as in {count}s"));
    };
    match count.checked_mul(*milliseconds) {
        Some(total) => Ok(Duration::from_millis(total)),
        None => Err(format!("`{text}` is too long")),
    }
}

/// A size in bytes: a whole number, alone or with `kB`, `MB`, `GB`, `KiB`, `MiB` or `GiB`.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    let (number, unit) = split(text);
    let Ok(count) = number.parse::<u64>() else {
        return Err(format!("`{text}` is no size; write a whole number of bytes, or as 64KiB or 1MiB"));
    };
    let unit = if unit.is_empty() { "B" } else { unit };
    let Some((_, bytes)) = SIZES.iter().find(|(name, _)| *name == unit) else {
        return Err(format!("`{unit}` is no unit of size; write kB, MB, GB, KiB, MiB or GiB"));
    };
    let total = count.checked_mul(*bytes).and_then(|total| usize::try_from(total).ok());
    total.ok_or_else(|| format!("`{text}` is too large"))
}

/// A whole number; `_` between digits is allowed.
pub(crate) fn count(text: &str) -> Result<usize, String> {
    text.replace('_', "")
        .parse()
        .map_err(|_| format!("`{text}` is no count; write a whole number, as 10000 or 10_000"))
}

/// `true` or `false`.
pub(crate) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("`{text}` is neither true nor false; write one of the two")),
    }
}

/// An IP address and a port.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Ok(IpAddr::V6(ip)) = text.parse() {
        return Err(format!("`{text}` has no port; write [{ip}]:3000"));
    }
    if text.parse::<IpAddr>().is_ok() {
        return Err(format!("`{text}` has no port; write {text}:3000"));
    }
    match text.rsplit_once(':').map_or(("", text), |(host, port)| (host, port)) {
        ("localhost", port) => Err(format!("`{text}` is a name, not an address; write 127.0.0.1:{port}")),
        ("", port) if port.parse::<u16>().is_ok() => Err(format!(
            "`{text}` has no address; write 127.0.0.1:{port}, or 0.0.0.0:{port} for every interface"
        )),
        _ => Err(format!("`{text}` is no address; write an IP address and a port, as 127.0.0.1:3000")),
    }
}

/// A duration in its largest whole unit, as [`duration`] reads it.
pub(crate) fn show_duration(value: Duration) -> String {
    let milliseconds = u64::try_from(value.as_millis()).unwrap_or(u64::MAX);
    let (unit, each) = largest(milliseconds, &DURATIONS);
    format!("{}{unit}", milliseconds / each)
}

/// A size in its largest whole binary unit, as [`size`] reads it.
pub(crate) fn show_size(value: usize) -> String {
    const BINARY: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
    let bytes = value as u64;
    let (unit, each) = largest(bytes, &BINARY);
    format!("{}{unit}", bytes / each)
}

fn largest(value: u64, units: &[(&'static str, u64)]) -> (&'static str, u64) {
    let fits = |(_, each): &&(&'static str, u64)| value >= *each && value.is_multiple_of(*each);
    *units.iter().rev().find(fits).unwrap_or(&units[0])
}

fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_their_unit() {
        assert_eq!(duration("25s"), Ok(Duration::from_secs(25)));
        assert_eq!(duration("300ms"), Ok(Duration::from_millis(300)));
        assert_eq!(duration("2 m"), Ok(Duration::from_secs(120)));
        assert!(duration("25").unwrap_err().contains("25s"));
        assert!(duration("25 sec").unwrap_err().contains("25s"));
        for bad in ["", "s", "-1s", "1.5s", "99999999999999999999s", "18446744073709551615h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_know_both_kinds_of_units() {
        assert_eq!(size("512"), Ok(512));
        assert_eq!(size("1MB"), Ok(1_000_000));
        assert_eq!(size("64KiB"), Ok(65_536));
        for bad in ["", "MiB", "1 mib", "-1", "99999999999999999999", "18446744073709551615GiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_need_ip_and_port() {
        assert!(address("127.0.0.1:3000").is_ok());
        assert!(address("[::1]:0").is_ok());
        assert!(address(":3000").unwrap_err().contains("127.0.0.1:3000"));
        assert!(address("localhost:80").unwrap_err().contains("127.0.0.1:80"));
        assert!(address("::1").unwrap_err().contains("[::1]:3000"));
        assert!(address("10.0.0.1").unwrap_err().contains("10.0.0.1:3000"));
        assert!(address("host").is_err());
        assert!(address("1.2.3.4:99999").is_err());
    }

    #[test]
    fn shown_values_read_back() {
        for milliseconds in [0, 1, 300, 1_000, 25_000, 60_000, 90_000, 3_600_000] {
            let value = Duration::from_millis(milliseconds);
            assert_eq!(duration(&show_duration(value)), Ok(value));
        }
        for bytes in [0, 1, 1_000, 1 << 10, 3 << 20, 1_000_000] {
            assert_eq!(size(&show_size(bytes)), Ok(bytes));
        }
    }
}
