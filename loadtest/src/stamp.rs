//! What a publication carries: its room, which one of the room it is, and when it was meant to leave. Fixed
//! width, behind a mark that no envelope of ours contains, so that a receiver finds it without parsing JSON.

/// Starts a stamp; appears nowhere else in a frame.
const MARK: u8 = b'~';
/// Mark, room, sequence and time.
pub(crate) const MIN_SIZE: usize = 1 + DIGITS;
const DIGITS: usize = 8 + 16 + 16;

/// Identity of a publication and the start of its latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Number of the room in its crowd.
    pub(crate) room: u32,
    /// Number of the publication in its room, from 0, without holes.
    pub(crate) sequence: u64,
    /// When it was scheduled to leave, in nanoseconds of the run's clock.
    pub(crate) intended: u64,
}

impl Stamp {
    /// Appends the stamp, padded to `size` bytes (at least [`MIN_SIZE`]) of plain ASCII.
    pub(crate) fn write(self, size: usize, out: &mut Vec<u8>) {
        let end = out.len() + size.max(MIN_SIZE);
        out.push(MARK);
        push_hex::<8>(u64::from(self.room), out);
        push_hex::<16>(self.sequence, out);
        push_hex::<16>(self.intended, out);
        out.resize(end, b'.');
    }

    /// The stamp in a frame's payload, if there is one.
    pub(crate) fn find(payload: &[u8]) -> Option<Self> {
        let digits = payload.get(memchr::memchr(MARK, payload)? + 1..)?.get(..DIGITS)?;
        let room = hex(&digits[..8])? as u32;
        Some(Self { room, sequence: hex(&digits[8..24])?, intended: hex(&digits[24..])? })
    }
}

const ALPHABET: &[u8; 16] = b"0123456789abcdef";

fn push_hex<const PLACES: usize>(value: u64, out: &mut Vec<u8>) {
    out.extend((0..PLACES).rev().map(|place| ALPHABET[(value >> (place * 4)) as usize & 15]));
}

/// What a byte stands for; above 15: no digit.
const VALUES: [u8; 256] = {
    let mut values = [0xff; 256];
    let mut value = 0;
    while value < 16 {
        values[ALPHABET[value] as usize] = value as u8;
        value += 1;
    }
    values
};

/// By table, since a branch on digit or letter is one that no processor can foresee.
fn hex(digits: &[u8]) -> Option<u64> {
    let (mut number, mut all) = (0, 0);
    for digit in digits {
        let value = VALUES[usize::from(*digit)];
        number = number << 4 | u64::from(value & 15);
        all |= value;
    }
    (all < 16).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_found_in_any_envelope_and_has_the_asked_size() {
        for stamp in [
            Stamp { room: 0, sequence: 0, intended: 0 },
            Stamp { room: 7, sequence: 0xdead_beef, intended: 1 },
            Stamp { room: u32::MAX, sequence: u64::MAX, intended: u64::MAX - 1 },
        ] {
            let mut bytes = b"42[\"e\",\"".to_vec();
            stamp.write(128, &mut bytes);
            assert_eq!(bytes.len(), 8 + 128);
            bytes.extend(b"\"]");
            assert_eq!(Stamp::find(&bytes), Some(stamp));
        }
    }

    #[test]
    fn broken_stamps_are_none() {
        assert_eq!(Stamp::find(b""), None);
        assert_eq!(Stamp::find(b"no mark"), None);
        assert_eq!(Stamp::find(b"~"), None);
        assert_eq!(Stamp::find(b"~000000000000000000000000000000000000000"), None);
        assert_eq!(Stamp::find(b"~00000000000000000000000x0000000000000000"), None);
    }
}
