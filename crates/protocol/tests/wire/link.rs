//! One Socket.IO connection of a test.

use fanfare_protocol::command::{Command, Payload};
use fanfare_protocol::socketio::Machine;
use fanfare_protocol::{Disconnect, NamespaceId, Namespaces};

pub(crate) const MAIN: NamespaceId = NamespaceId::MAIN;
pub(crate) const ADMIN: NamespaceId = NamespaceId(1);

/// The transport's bound on one message.
pub(crate) const LIMIT: usize = 1_000_000;

/// One connection to a node that serves `/`, `/admin` and `/{}`.
pub(crate) struct Link {
    pub(crate) machine: Machine,
    pub(crate) namespaces: Namespaces,
}

impl Link {
    pub(crate) fn new() -> Self {
        Self { machine: Machine::default(), namespaces: Namespaces::new(["/admin", "/{}"]).unwrap() }
    }

    /// A connection that entered `/`.
    pub(crate) fn joined() -> Self {
        let mut link = Self::new();
        link.text("40").unwrap();
        link
    }

    pub(crate) fn text(&mut self, text: &str) -> Result<Vec<Command>, Disconnect> {
        self.receive(Payload::Text(text))
    }

    pub(crate) fn binary(&mut self, bytes: &[u8]) -> Result<Vec<Command>, Disconnect> {
        self.receive(Payload::Binary(bytes))
    }

    fn receive(&mut self, payload: Payload<'_>) -> Result<Vec<Command>, Disconnect> {
        let mut out = Vec::new();
        self.machine.receive(payload, &self.namespaces, LIMIT, &mut out)?;
        Ok(out)
    }
}
