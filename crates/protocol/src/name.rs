//! Names, parsed once at the border and trusted afterwards.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Longest room, namespace or event name, in bytes of UTF-8.
pub const MAX_NAME: usize = 200;

/// Why a room or namespace name was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Send a name of at least one byte.
    #[error("the name is empty")]
    Empty,
    /// Shorten the name.
    #[error("the name is longer than {MAX_NAME} bytes")]
    TooLong,
    /// Remove the number sign, which ends the namespace in a channel's name.
    #[error("the name of a namespace has a #")]
    NumberSign,
    /// Remove control characters (U+0000 to U+001F, U+007F).
    #[error("the name has a control character")]
    Control,
}

/// Checks a room name that came from outside: 1 to [`MAX_NAME`] bytes, no control characters.
pub fn check_room(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > MAX_NAME {
        return Err(NameError::TooLong);
    }
    if name.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return Err(NameError::Control);
    }
    Ok(())
}

/// A namespace of this node, as an index into its [`Namespaces`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespaceId(pub u16);

impl NamespaceId {
    /// The main namespace, `/`. It exists on every node.
    pub const MAIN: NamespaceId = NamespaceId(0);

    /// The index as used by tables with one row per namespace.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The namespaces a node serves: `/` and those the config names.
#[derive(Debug, Clone)]
pub struct Namespaces(Vec<Box<str>>);

impl Namespaces {
    /// `/` and `configured`; a leading slash is added where it is missing, repeats are dropped.
    pub fn new<'a>(configured: impl IntoIterator<Item = &'a str>) -> Result<Self, NameError> {
        let mut names: Vec<Box<str>> = vec!["/".into()];
        for name in configured {
            let name = if name.starts_with('/') { name.to_owned() } else { format!("/{name}") };
            check_room(&name)?;
            if name.contains('#') {
                return Err(NameError::NumberSign);
            }
            if !names.iter().any(|known| **known == *name) {
                names.push(name.into());
            }
        }
        Ok(Self(names))
    }

    /// The id of `name`, where this node serves it.
    pub fn id(&self, name: &str) -> Option<NamespaceId> {
        let at = self.0.iter().position(|known| **known == *name)?;
        u16::try_from(at).ok().map(NamespaceId)
    }

    /// The name behind an id that this table gave.
    pub fn name(&self, id: NamespaceId) -> &str {
        &self.0[id.index()]
    }

    /// Every id with its name, `/` first.
    pub fn iter(&self) -> impl Iterator<Item = (NamespaceId, &str)> {
        (0u16..).map(NamespaceId).zip(self.0.iter().map(|name| &**name))
    }
}

/// A Socket.IO session id: public, 20 characters of base64url over 15 bytes. It says which node, shard
/// and slot own the session; 64 random bits prove that it still is the same session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sid {
    /// Tag of the node's incarnation, 24 bits.
    pub node: u32,
    pub shard: u8,
    /// Slot in the shard's table of connections, 24 bits.
    pub slot: u32,
    pub random: u64,
}

impl Sid {
    /// Length of the text form, in bytes.
    pub const LEN: usize = 20;

    /// The text form.
    pub fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0u8; 15];
        bytes[0..3].copy_from_slice(&self.node.to_be_bytes()[1..]);
        bytes[3] = self.shard;
        bytes[4..7].copy_from_slice(&self.slot.to_be_bytes()[1..]);
        bytes[7..15].copy_from_slice(&self.random.to_be_bytes());
        let mut text = [0u8; Self::LEN];
        // 15 bytes are exactly 20 characters.
        let written = URL_SAFE_NO_PAD.encode_slice(bytes, &mut text);
        debug_assert_eq!(written, Ok(Self::LEN));
        text
    }

    /// The id behind `text`, or `None` where it has not the form of one.
    pub fn decode(text: &str) -> Option<Self> {
        if text.len() != Self::LEN {
            return None;
        }
        let mut bytes = [0u8; 15];
        URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        Some(Self {
            node: u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]),
            shard: bytes[3],
            slot: u32::from_be_bytes([0, bytes[4], bytes[5], bytes[6]]),
            random: u64::from_be_bytes([
                bytes[7], bytes[8], bytes[9], bytes[10], bytes[11], bytes[12], bytes[13], bytes[14],
            ]),
        })
    }
}

impl std::fmt::Display for Sid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(std::str::from_utf8(&self.encode()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sid_survives_its_text_form() {
        let sid = Sid { node: 0xabcdef, shard: 3, slot: 0x01_02_03, random: u64::MAX - 5 };
        let text = sid.to_string();
        assert_eq!(text.len(), Sid::LEN);
        assert_eq!(Sid::decode(&text), Some(sid));
        assert_eq!(Sid::decode("room"), None);
        assert_eq!(Sid::decode("####################"), None);
    }

    #[test]
    fn namespaces_start_with_main_and_gain_their_slash() {
        let namespaces = Namespaces::new(["admin", "/admin", "/x"]).unwrap();
        assert_eq!(namespaces.id("/"), Some(NamespaceId::MAIN));
        assert_eq!(namespaces.id("/admin"), Some(NamespaceId(1)));
        assert_eq!(namespaces.id("admin"), None);
        assert_eq!(namespaces.iter().count(), 3);
        assert_eq!(Namespaces::new(["/a#b"]).unwrap_err(), NameError::NumberSign);
        assert_eq!(Namespaces::new(["\n"]).unwrap_err(), NameError::Control);
    }
}
