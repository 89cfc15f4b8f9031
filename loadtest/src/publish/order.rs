//! What the floor is told: a room and a payload, each behind its length.

/// Length fields: room, then payload, both `u16` little-endian.
const HEADER: usize = 4;

pub(super) fn write(room: &str, payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(room.len() as u16).to_le_bytes());
    out.extend_from_slice(&(payload.len() as u16).to_le_bytes());
    out.extend_from_slice(room.as_bytes());
    out.extend_from_slice(payload);
}

/// Reads whole orders off the front of a buffer: room and payload of each.
#[derive(Debug)]
pub(crate) struct Orders<'a>(&'a [u8]);

impl<'a> Orders<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Bytes of an order on the wire.
    pub(crate) fn length(room: &[u8], payload: &[u8]) -> usize {
        HEADER + room.len() + payload.len()
    }
}

impl<'a> Iterator for Orders<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let &[a, b, c, d, ref rest @ ..] = self.0 else { return None };
        let (room, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([a, b])))?;
        let (payload, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([c, d])))?;
        self.0 = rest;
        Some((room, payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_come_back_and_halves_wait() {
        let mut bytes = Vec::new();
        write("a", b"first", &mut bytes);
        write("room", b"", &mut bytes);
        let whole = bytes.len();
        write("b", b"cut", &mut bytes);
        let orders: Vec<_> = Orders::new(&bytes[..bytes.len() - 1]).collect();
        assert_eq!(orders, [(&b"a"[..], &b"first"[..]), (&b"room"[..], &b""[..])]);
        let used: usize = orders.iter().map(|(room, payload)| Orders::length(room, payload)).sum();
        assert_eq!(used, whole);
    }
}
