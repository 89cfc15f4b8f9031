//! Names, parsed once at the border and trusted afterwards.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
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
    /// Write at most one placeholder, as in `/tenant-{id}`.
    #[error("a namespace has at most one placeholder, as in /tenant-{{id}}")]
    Placeholder,
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

/// The namespaces a node serves: `/`, those the config names, and those that came to be because a client
/// entered one that fits a pattern of the config. Clones share the table; it only grows, up to a bound.
/// Looking up takes no lock.
#[derive(Debug, Clone)]
pub struct Namespaces(Arc<Table>);

#[derive(Debug)]
struct Table {
    patterns: Vec<NamespacePattern>,
    /// Most namespaces at a time.
    limit: usize,
    served: ArcSwap<Served>,
    /// Held while one is added.
    adding: Mutex<()>,
}

#[derive(Debug, Default, Clone)]
struct Served {
    rows: Vec<Arc<Row>>,
    ids: HashMap<Arc<str>, NamespaceId>,
}

#[derive(Debug)]
struct Row {
    name: Arc<str>,
    /// The next id of an acknowledgement that the server asks for, shared by all sessions.
    next_ack: AtomicU64,
}

/// A name with one placeholder that stands for one byte or more, as `/tenant-{id}`.
#[derive(Debug, Clone)]
struct NamespacePattern {
    prefix: String,
    suffix: String,
}

/// Why a client cannot enter a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// It is not served here, nor does it fit a pattern.
    Unknown,
    /// It fits a pattern, but the node has as many namespaces as it may.
    Full,
}

impl Namespaces {
    /// Most namespaces where nobody says otherwise.
    pub const LIMIT: usize = 1_000;

    /// `/` and `configured`, which are names, or patterns where they have a `{placeholder}`; a leading slash is
    /// added where it is missing, repeats are dropped.
    pub fn new<'a>(configured: impl IntoIterator<Item = &'a str>) -> Result<Self, NameError> {
        Self::with_limit(configured, Self::LIMIT)
    }

    /// [`Namespaces::new`] with a bound on how many there are, those of the config included.
    pub fn with_limit<'a>(
        configured: impl IntoIterator<Item = &'a str>,
        limit: usize,
    ) -> Result<Self, NameError> {
        let mut served = Served::default();
        let mut patterns = Vec::new();
        served.add("/");
        for name in configured {
            let name = if name.starts_with('/') { name.to_owned() } else { format!("/{name}") };
            check_room(&name)?;
            if name.contains('#') {
                return Err(NameError::NumberSign);
            }
            match NamespacePattern::parse(&name)? {
                Some(pattern) => patterns.push(pattern),
                None if served.ids.contains_key(&*name) => {}
                None => served.add(&name),
            }
        }
        let limit = limit.clamp(served.rows.len(), usize::from(u16::MAX));
        Ok(Self(Arc::new(Table {
            patterns,
            limit,
            served: ArcSwap::from_pointee(served),
            adding: Mutex::new(()),
        })))
    }

    /// The id of `name`, where this node serves it.
    pub fn id(&self, name: &str) -> Option<NamespaceId> {
        if name == "/" {
            return Some(NamespaceId::MAIN);
        }
        self.0.served.load().ids.get(name).copied()
    }

    /// The id of `name` for a client that wants to enter it: one that fits a pattern is added.
    pub fn enter(&self, name: &str) -> Result<NamespaceId, Closed> {
        if let Some(id) = self.id(name) {
            return Ok(id);
        }
        let fits = !name.contains('#') && check_room(name).is_ok();
        if !fits || !self.0.patterns.iter().any(|pattern| pattern.matches(name)) {
            return Err(Closed::Unknown);
        }
        // No code panics while it holds the lock.
        let _adding = self.0.adding.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = self.id(name) {
            return Ok(id);
        }
        let mut served = Served::clone(&self.0.served.load());
        if served.rows.len() >= self.0.limit {
            return Err(Closed::Full);
        }
        let id = served.next_id();
        served.add(name);
        self.0.served.store(Arc::new(served));
        Ok(id)
    }

    /// The name behind an id that this table gave.
    pub fn name(&self, id: NamespaceId) -> Arc<str> {
        self.0.served.load().rows[id.index()].name.clone()
    }

    /// The next id with which a client of the namespace is asked for an acknowledgement, from 0.
    pub fn next_ack(&self, id: NamespaceId) -> u64 {
        self.0.served.load().rows[id.index()].next_ack.fetch_add(1, Ordering::Relaxed)
    }

    /// How many there are now.
    pub fn count(&self) -> usize {
        self.0.served.load().rows.len()
    }

    /// Every id there is now, `/` first.
    pub fn ids(&self) -> impl Iterator<Item = NamespaceId> + use<> {
        (0u16..).map(NamespaceId).take(self.count())
    }
}

impl Served {
    fn next_id(&self) -> NamespaceId {
        // The bound keeps it within 16 bits.
        NamespaceId(u16::try_from(self.rows.len()).unwrap_or(u16::MAX))
    }

    fn add(&mut self, name: &str) {
        let name: Arc<str> = name.into();
        self.ids.insert(name.clone(), self.next_id());
        self.rows.push(Arc::new(Row { name, next_ack: AtomicU64::new(0) }));
    }
}

impl NamespacePattern {
    /// The pattern of a name with a placeholder, `None` for one without.
    fn parse(name: &str) -> Result<Option<Self>, NameError> {
        let Some((prefix, rest)) = name.split_once('{') else {
            return if name.contains('}') { Err(NameError::Placeholder) } else { Ok(None) };
        };
        let (placeholder, suffix) = rest.split_once('}').ok_or(NameError::Placeholder)?;
        if placeholder.is_empty() {
            // `/{}` is a name: clients that forget a comma ask for it.
            return Ok(None);
        }
        if [placeholder, suffix].iter().any(|part| part.contains(['{', '}'])) {
            return Err(NameError::Placeholder);
        }
        Ok(Some(Self { prefix: prefix.to_owned(), suffix: suffix.to_owned() }))
    }

    fn matches(&self, name: &str) -> bool {
        name.len() > self.prefix.len() + self.suffix.len()
            && name.starts_with(&self.prefix)
            && name.ends_with(&self.suffix)
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
        assert_eq!(namespaces.count(), 3);
        assert_eq!(Namespaces::new(["/a#b"]).unwrap_err(), NameError::NumberSign);
        assert_eq!(Namespaces::new(["\n"]).unwrap_err(), NameError::Control);
    }

    #[test]
    fn a_namespace_that_fits_a_pattern_comes_to_be_when_it_is_entered() {
        let namespaces = Namespaces::with_limit(["/tenant-{id}", "/fixed"], 4).unwrap();
        let other = namespaces.clone();
        assert_eq!(namespaces.id("/tenant-1"), None);
        let id = namespaces.enter("/tenant-1").unwrap();
        assert_eq!((namespaces.enter("/tenant-1"), other.id("/tenant-1")), (Ok(id), Some(id)));
        assert_eq!(&*other.name(id), "/tenant-1");
        for name in ["/tenant-", "/other", "/tenant-#", "tenant-1"] {
            assert_eq!(namespaces.enter(name), Err(Closed::Unknown), "{name}");
        }
        assert!(namespaces.enter("/tenant-2").is_ok());
        assert_eq!(namespaces.enter("/tenant-3"), Err(Closed::Full));
        assert_eq!(
            (namespaces.next_ack(id), other.next_ack(id), other.next_ack(NamespaceId::MAIN)),
            (0, 1, 0)
        );
        assert_eq!(Namespaces::new(["/{a}{b}"]).unwrap_err(), NameError::Placeholder);
    }
}
