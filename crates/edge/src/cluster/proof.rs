//! How a node shows another that it belongs to the cluster: a keyed hash over who asks whom for what, and when.
//! Whoever can read the network between nodes can use a proof again for as long as it holds, for the same request
//! to the same node; the network between private listeners is trusted that far.

use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// The header that carries a proof: `{unix milliseconds} {label of who asks} {hash in hexadecimal}`.
pub(super) const PROOF: &str = "x-fanfare-proof";
/// How far the clocks of two nodes may be apart, and how long a proof holds.
const WINDOW: Duration = Duration::from_secs(30);

/// What the nodes of a cluster share.
#[derive(Clone)]
pub struct Secret(Arc<[u8]>);

/// Why a proof does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unproved {
    #[error("the request has no proof of a node")]
    Missing,
    #[error("the clocks of the two nodes differ by more than 30 s")]
    Clock,
    #[error("the nodes have different cluster secrets, or the request is for another node")]
    Hash,
}

impl Secret {
    /// The secret that all nodes are given.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into().into())
    }

    /// Proves to the node `to` that the node `from` asks for `target` now.
    pub(super) fn prove(&self, from: &str, to: &str, target: &str, now: SystemTime) -> String {
        let time = millis(now).to_string();
        let hash = self.hash([&time, from, to, target]).finalize().into_bytes();
        let mut proof = format!("{time} {from} ");
        for byte in hash {
            // A String takes everything.
            write!(proof, "{byte:02x}").unwrap_or_default();
        }
        proof
    }

    /// The label of the node that made `proof` for the node `to` and `target`.
    pub(super) fn check<'a>(
        &self,
        proof: Option<&'a [u8]>,
        to: &str,
        target: &str,
        now: SystemTime,
    ) -> Result<&'a str, Unproved> {
        let proof = proof.and_then(|proof| std::str::from_utf8(proof).ok()).ok_or(Unproved::Missing)?;
        let mut words = proof.split(' ');
        let (Some(time), Some(from), Some(hash)) = (words.next(), words.next(), words.next()) else {
            return Err(Unproved::Missing);
        };
        let hash = from_hex(hash).ok_or(Unproved::Missing)?;
        // In constant time.
        self.hash([time, from, to, target]).verify_slice(&hash).map_err(|_| Unproved::Hash)?;
        let then: u64 = time.parse().map_err(|_| Unproved::Missing)?;
        let apart = Duration::from_millis(millis(now).abs_diff(then));
        if apart > WINDOW { Err(Unproved::Clock) } else { Ok(from) }
    }

    fn hash(&self, words: [&str; 4]) -> Hmac<Sha256> {
        let mut hash =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("a key of HMAC may have any length (RFC 2104)");
        hash.update(b"fanfare cluster 1");
        for word in words {
            // None of the words has a line feed in it: labels, numbers, request targets.
            hash.update(b"\n");
            hash.update(word.as_bytes());
        }
        hash
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Secret")
    }
}

fn millis(now: SystemTime) -> u64 {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    let mut bytes = [0; 32];
    if digits.len() != 2 * bytes.len() {
        return None;
    }
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_for_its_request_its_node_its_secret_and_its_time() {
        let (secret, now) = (Secret::new("s"), SystemTime::now());
        let proof = secret.prove("a", "b", "/cluster/link", now);
        let check = |secret: &Secret, to: &str, target: &str, now| {
            secret.check(Some(proof.as_bytes()), to, target, now).map(str::to_owned)
        };
        assert_eq!(check(&secret, "b", "/cluster/link", now), Ok("a".to_owned()));
        assert_eq!(check(&secret, "b", "/cluster/link", now + WINDOW), Ok("a".to_owned()));
        assert_eq!(check(&secret, "b", "/cluster/link", now - WINDOW), Ok("a".to_owned()));
        let late = now + WINDOW + Duration::from_millis(2);
        assert_eq!(check(&secret, "b", "/cluster/link", late), Err(Unproved::Clock));
        assert_eq!(check(&Secret::new("t"), "b", "/cluster/link", now), Err(Unproved::Hash));
        assert_eq!(check(&secret, "c", "/cluster/link", now), Err(Unproved::Hash));
        assert_eq!(check(&secret, "b", "/cluster/engine/", now), Err(Unproved::Hash));
    }

    #[test]
    fn what_is_no_proof_is_refused() {
        let secret = Secret::new("s");
        let now = SystemTime::now();
        let proof = secret.prove("a", "b", "/", now);
        assert_eq!(secret.check(None, "b", "/", now), Err(Unproved::Missing));
        for cut in 0..proof.len() {
            assert!(secret.check(Some(&proof.as_bytes()[..cut]), "b", "/", now).is_err(), "{cut}");
        }
        // A time that was not hashed.
        let other = format!("1{proof}");
        assert_eq!(secret.check(Some(other.as_bytes()), "b", "/", now), Err(Unproved::Hash));
        assert_eq!(secret.check(Some(b"\xff\xff"), "b", "/", now), Err(Unproved::Missing));
    }
}
