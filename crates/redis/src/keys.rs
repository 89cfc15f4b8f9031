//! Every name that fanfare uses in Redis. Channels are those of Socket.IO's Redis adapter, so that
//! its emitters and servers can share rooms; fanfare's own are outside `{prefix}#`.

/// What all names begin with; two installations with different prefixes never meet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Prefix(Box<str>);

/// Why a prefix was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    /// Write 1 to [`Prefix::MAX`] bytes.
    #[error("the prefix has 1 to {} bytes; the default is {}", Prefix::MAX, Prefix::DEFAULT)]
    Length,
    /// Use visible ASCII characters except `#` and those of Redis's patterns, `* ? [ ] \`.
    #[error(
        "the prefix has a character other than visible ASCII, or one of # * ? [ ] \\: write for example {}",
        Prefix::DEFAULT
    )]
    Character,
}

/// What a channel's name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelName<'a> {
    /// One room of a namespace.
    Room { namespace: &'a str, room: &'a str },
    /// A whole namespace, or several of its rooms.
    Namespace(&'a str),
    /// Plain JSON publications for any room.
    Publish,
    /// What servers and emitters ask of all nodes that serve a namespace.
    Requests(&'a str),
}

impl Prefix {
    /// The prefix of an unconfigured Socket.IO adapter or emitter.
    pub const DEFAULT: &'static str = "socket.io";
    /// Longest prefix, in bytes.
    pub const MAX: usize = 64;

    /// Checks a prefix that came from outside.
    pub fn new(text: &str) -> Result<Self, PrefixError> {
        if text.is_empty() || text.len() > Self::MAX {
            return Err(PrefixError::Length);
        }
        let refused = |byte: u8| !byte.is_ascii_graphic() || b"#*?[]\\".contains(&byte);
        if text.bytes().any(refused) {
            return Err(PrefixError::Character);
        }
        Ok(Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Replaces the contents of `out` with the name of `channel`: `{prefix}#{namespace}#{room}#`,
    /// `{prefix}#{namespace}#`, `{prefix}-request#{namespace}#` or `{prefix}-publish`. A namespace has no `#`; a room may.
    pub fn write(&self, channel: ChannelName<'_>, out: &mut String) {
        out.clear();
        out.push_str(&self.0);
        match channel {
            ChannelName::Publish => out.push_str("-publish"),
            ChannelName::Requests(namespace) => {
                out.extend(["-request#", namespace, "#"]);
            }
            ChannelName::Namespace(namespace) => {
                out.extend(["#", namespace, "#"]);
            }
            ChannelName::Room { namespace, room } => {
                out.extend(["#", namespace, "#", room, "#"]);
            }
        }
    }

    /// The channel on which servers wait for answers to their requests in `namespace`; with `uid`, the one of that
    /// server alone.
    pub fn responses(&self, namespace: &str, uid: Option<&str>) -> String {
        match uid {
            None => format!("{}-response#{namespace}#", self.0),
            Some(uid) => format!("{}-response#{namespace}#{uid}#", self.0),
        }
    }

    /// The key under which the node that is called `label` says that it is there.
    pub fn node_key(&self, label: &str) -> String {
        format!("{}-node:{label}", self.0)
    }

    /// The key of the secret that the nodes share.
    pub fn secret_key(&self) -> String {
        format!("{}-secret", self.0)
    }

    /// The name of `channel`, as [`Prefix::write`] makes it.
    pub fn name(&self, channel: ChannelName<'_>) -> String {
        let mut name = String::new();
        self.write(channel, &mut name);
        name
    }

    /// What `name` stands for, where it is a channel of this prefix: the namespace ends at the first `#`,
    /// the room at the last.
    pub fn read<'a>(&self, name: &'a str) -> Option<ChannelName<'a>> {
        let rest = name.strip_prefix(&*self.0)?;
        if rest == "-publish" {
            return Some(ChannelName::Publish);
        }
        if let Some(rest) = rest.strip_prefix("-request#") {
            let namespace = rest.strip_suffix('#').filter(|namespace| !namespace.contains('#'))?;
            return Some(ChannelName::Requests(namespace));
        }
        let (namespace, rest) = rest.strip_prefix('#')?.split_once('#')?;
        if rest.is_empty() {
            return Some(ChannelName::Namespace(namespace));
        }
        let room = rest.strip_suffix('#').filter(|room| !room.is_empty())?;
        Some(ChannelName::Room { namespace, room })
    }
}

impl Default for Prefix {
    fn default() -> Self {
        Self(Self::DEFAULT.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names as the official emitter publishes to them.
    #[test]
    fn names_are_those_of_the_adapter() {
        let prefix = Prefix::default();
        let cases = [
            ("socket.io#/#", ChannelName::Namespace("/")),
            ("socket.io#/admin#", ChannelName::Namespace("/admin")),
            ("socket.io#/#r1#", ChannelName::Room { namespace: "/", room: "r1" }),
            ("socket.io#/admin#42#", ChannelName::Room { namespace: "/admin", room: "42" }),
            ("socket.io#/##a#b##", ChannelName::Room { namespace: "/", room: "#a#b#" }),
            ("socket.io-publish", ChannelName::Publish),
            ("socket.io-request#/admin#", ChannelName::Requests("/admin")),
        ];
        for (name, channel) in cases {
            assert_eq!(prefix.name(channel), name);
            assert_eq!(prefix.read(name), Some(channel));
        }
        assert_eq!(prefix.responses("/admin", None), "socket.io-response#/admin#");
        assert_eq!(prefix.responses("/", Some("lalt2i")), "socket.io-response#/#lalt2i#");
    }

    #[test]
    fn names_of_others_are_not_ours() {
        let prefix = Prefix::default();
        for name in ["", "socket.io", "socket.io#", "socket.io#/", "socket.io#/#r", "socket.io#/##", "x#/#r#"]
        {
            assert_eq!(prefix.read(name), None, "{name}");
        }
        assert_eq!(prefix.read("socket.io-request#/#/#"), None);
        assert_eq!(Prefix::new("a").unwrap().read("ab#/#r#"), None);
    }

    #[test]
    fn prefixes_are_checked() {
        assert_eq!(Prefix::new("chat:v1").unwrap().as_str(), "chat:v1");
        assert_eq!(Prefix::new(""), Err(PrefixError::Length));
        assert_eq!(Prefix::new(&"x".repeat(65)), Err(PrefixError::Length));
        for wrong in ["a#b", "a b", "a*", "ä", "a\n"] {
            assert_eq!(Prefix::new(wrong), Err(PrefixError::Character), "{wrong}");
        }
    }
}
