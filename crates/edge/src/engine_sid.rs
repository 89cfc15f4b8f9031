//! Engine.IO session ids: whose they are stands readable in front, where the session is and what proves it
//! behind: `{label}.{base64url of shard, slot and 128 random bits}`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// One byte of shard, three of slot, sixteen of secret.
const BYTES: usize = 20;
/// Characters of a label at most.
const LABEL: usize = 16;

/// What proves a session id: 128 random bits. Never logged.
#[derive(Clone, Copy)]
pub(crate) struct Secret(pub(crate) [u8; 16]);

impl Secret {
    /// Takes the same time whatever the difference is.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).fold(0, |differs, (own, other)| differs | (own ^ other)) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Where a session of this node is, and what proves it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spot {
    pub(crate) shard: u8,
    /// Below 2^24: a node has at most that many connections.
    pub(crate) slot: u32,
    pub(crate) secret: Secret,
}

impl Spot {
    /// The session id, for the client alone.
    pub(crate) fn sid(&self, label: &str) -> String {
        let mut bytes = [0; BYTES];
        bytes[0] = self.shard;
        bytes[1..4].copy_from_slice(&self.slot.to_be_bytes()[1..]);
        bytes[4..].copy_from_slice(&self.secret.0);
        let mut sid = String::with_capacity(label.len() + 1 + BYTES * 4 / 3 + 1);
        sid.push_str(label);
        sid.push('.');
        URL_SAFE_NO_PAD.encode_string(bytes, &mut sid);
        sid
    }
}

/// Whose session a session id names.
#[derive(Debug)]
pub(crate) enum Owner<'a> {
    /// This node's, if it is still there.
    Here(Spot),
    /// That of the node with this label.
    Elsewhere(&'a str),
    /// Nobody's.
    Malformed,
}

/// Who owns the session of an id, as the node labelled `own` with so many shards sees it.
pub(crate) fn owner<'a>(own: &str, shards: usize, sid: &'a str) -> Owner<'a> {
    let Some((label, rest)) = sid.split_once('.') else { return Owner::Malformed };
    let mut bytes = [0; BYTES];
    if !is_label(label) || URL_SAFE_NO_PAD.decode_slice(rest, &mut bytes) != Ok(BYTES) {
        return Owner::Malformed;
    }
    if label != own {
        return Owner::Elsewhere(label);
    }
    let [shard, high, middle, low, secret @ ..] = bytes;
    if usize::from(shard) >= shards {
        return Owner::Malformed;
    }
    Owner::Here(Spot { shard, slot: u32::from_be_bytes([0, high, middle, low]), secret: Secret(secret) })
}

/// Whether a node may be labelled so: 1 to 16 letters, digits, `_` and `-`.
pub fn is_label(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=LABEL).contains(&text.len()) && text.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_leads_back_to_where_the_session_is() {
        let spot = Spot { shard: 2, slot: 0xAB_CDEF, secret: Secret([7; 16]) };
        let sid = spot.sid("node-1");
        assert_eq!(sid.len(), "node-1.".len() + 27);
        let Owner::Here(found) = owner("node-1", 3, &sid) else { panic!("{sid}") };
        assert_eq!((found.shard, found.slot), (2, 0xAB_CDEF));
        assert!(found.secret.is(&Secret([7; 16])) && !found.secret.is(&Secret([8; 16])));
        assert!(matches!(owner("other", 3, &sid), Owner::Elsewhere("node-1")));
        // A node that runs with fewer shards than the one that had this label before.
        assert!(matches!(owner("node-1", 2, &sid), Owner::Malformed));
        assert_eq!(format!("{:?}", spot.secret), "Secret(..)");
    }

    #[test]
    fn what_no_node_has_issued_is_nobodys() {
        let sid = Spot { shard: 0, slot: 0, secret: Secret([0; 16]) }.sid("a");
        let long = format!("{}{}", "a".repeat(16), sid);
        let short = &sid[..sid.len() - 1];
        for sid in ["", ".", "a", "a.", "a.!", ".AAAA", "é.AAAA", &long, short, &format!("{sid}A")] {
            assert!(matches!(owner("a", 1, sid), Owner::Malformed), "{sid}");
        }
    }
}
