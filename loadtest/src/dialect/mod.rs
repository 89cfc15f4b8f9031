//! What is said on a connection's WebSocket, and what an answer means. No sockets here.

mod plain;
mod socketio;

/// A protocol that a server under test speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Socket.IO v5 over Engine.IO v4, WebSocket only.
    SocketIo,
    /// fanfare's plain JSON at `/ws`.
    Plain,
    /// The room is the path, every frame is a delivery: Nchan, and the floor.
    PathOnly,
}

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// TCP is being opened.
    Connecting,
    /// The upgrade was asked for.
    Upgrading,
    /// The WebSocket is open, the protocol's own handshake is not done.
    Entering,
    /// The join was asked for.
    Joining,
    /// All that was asked for is there.
    Settled,
    /// Closed or refused.
    Gone,
}

/// What to do after something was heard.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reaction {
    Ignore,
    /// Send this as a text frame and be in that stage.
    Say(String, Stage),
    /// Be in that stage.
    Become(Stage),
    /// The payload may carry a publication.
    Deliver,
    /// The server said no.
    Refuse,
}

impl Dialect {
    /// As the command line names them.
    pub(crate) const NAMED: &[(&str, Self)] =
        &[("socketio", Self::SocketIo), ("plain", Self::Plain), ("path", Self::PathOnly)];

    /// Path of the upgrade request. Without a room, a path-only server gets the one named `idle`.
    pub(crate) fn path(self, room: Option<&str>) -> String {
        match self {
            Self::SocketIo => "/socket.io/?EIO=4&transport=websocket".into(),
            Self::Plain => "/ws".into(),
            Self::PathOnly => format!("/sub/{}", room.unwrap_or("idle")),
        }
    }

    /// The upgrade was granted.
    pub(crate) fn upgraded(self, room: Option<&str>) -> Reaction {
        match self {
            Self::SocketIo => Reaction::Become(Stage::Entering),
            Self::Plain => plain::upgraded(room),
            Self::PathOnly => Reaction::Become(Stage::Settled),
        }
    }

    /// What asks for one more room; answered like the first.
    pub(crate) fn join(self, room: &str) -> String {
        match self {
            Self::SocketIo => socketio::join(room),
            Self::Plain | Self::PathOnly => plain::join(room),
        }
    }

    /// What a member says to publish ASCII without quotes to a room.
    pub(crate) fn publish(self, room: &str, payload: &str) -> String {
        match self {
            Self::SocketIo => format!(r#"42["publish","{room}","e","{payload}"]"#),
            Self::Plain | Self::PathOnly => {
                format!(r#"{{"type":"event","room":"{room}","event":"e","data":"{payload}"}}"#)
            }
        }
    }

    /// A text or binary frame came.
    pub(crate) fn heard(self, stage: Stage, payload: &[u8], room: Option<&str>) -> Reaction {
        match self {
            Self::SocketIo => socketio::heard(stage, payload, room),
            Self::Plain => plain::heard(stage, payload),
            Self::PathOnly => Reaction::Deliver,
        }
    }
}
