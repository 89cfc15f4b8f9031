//! One client's live link: its transport, protocol machine, sessions and outbox. Owned by one shard.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use fanfare_protocol::websocket::Decoder;
use fanfare_protocol::{
    Command, Disconnect, Encoding, Frame, NamespaceId, ReplyTo, engineio, plain, socketio,
};
use smallvec::SmallVec;

use crate::app::handshake::Handshake;
use crate::app::{Answer, What};
use crate::echo::Echo;
use crate::engine_sid::Secret;
use crate::http::gate::Permit;
use crate::hub::Polling;
use crate::hub::members::{Memberships, RoomId};
use crate::outbox::Outbox;

/// A kind of connection, as metrics tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    SocketIo,
    PlainJson,
}

impl Kind {
    pub(crate) const ALL: [Kind; 2] = [Self::SocketIo, Self::PlainJson];

    /// The value of the metric label `protocol`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::SocketIo => "sio",
            Self::PlainJson => "ws_json",
        }
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// How a connection's bytes travel, as metrics tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    WebSocket,
    Polling,
}

impl Via {
    pub(crate) const ALL: [Via; 2] = [Self::WebSocket, Self::Polling];

    /// The value of the metric label `transport`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::WebSocket => "websocket",
            Self::Polling => "polling",
        }
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

/// How a connection's bytes travel.
#[derive(Debug)]
pub(crate) enum Transport {
    WebSocket {
        socket: mio::net::TcpStream,
        decoder: Decoder,
    },
    /// Engine.IO's long-polling, until it is upgraded.
    Polling(Box<Polling>),
}

impl Transport {
    pub(crate) fn via(&self) -> Via {
        match self {
            Self::WebSocket { .. } => Via::WebSocket,
            Self::Polling(_) => Via::Polling,
        }
    }
}

/// The protocol that a connection speaks.
#[derive(Debug)]
pub(crate) enum Machine {
    SocketIo(socketio::Machine),
    /// `json_ping`: the client offered a `fanfare.v1` subprotocol, and so answers JSON pings.
    Plain {
        machine: plain::Machine,
        json_ping: bool,
    },
    /// Sends everything back.
    Echo(Echo),
}

impl Machine {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::SocketIo(_) => Kind::SocketIo,
            Self::Plain { .. } => Kind::PlainJson,
            Self::Echo(echo) => echo.kind(),
        }
    }

    pub(crate) fn encoding(&self) -> Encoding {
        match self {
            Self::SocketIo(machine) => machine.encoding(),
            // An echo is in no room.
            Self::Echo(_) => Encoding::SocketIoText,
            Self::Plain { .. } => Encoding::PlainJson,
        }
    }
}

/// Who a handshake lets in.
#[derive(Debug)]
pub(crate) struct Newcomer {
    pub(crate) machine: Machine,
    pub(crate) handshake: Option<Arc<Handshake>>,
    /// The client takes no binary frames: they go out as base64 in text (`b64`).
    pub(crate) text_only: bool,
    pub(crate) permit: Permit,
}

/// A connection's presence in one namespace. `random` proves its sid.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Session {
    pub(crate) namespace: NamespaceId,
    pub(crate) random: u64,
    /// The CONNECT was answered; publications reach it.
    pub(crate) connected: bool,
    /// The broker confirmed the session's own channel.
    pub(crate) active: bool,
    /// When it began, in seconds of the node's life.
    pub(crate) since: u32,
}

/// One client's live link.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) transport: Transport,
    /// Differs for each connection that used the same slot.
    pub(crate) generation: u32,
    pub(crate) machine: Machine,
    /// Proves the Engine.IO session id.
    pub(crate) secret: Secret,
    /// See [`Newcomer`].
    pub(crate) text_only: bool,
    pub(crate) outbox: Outbox,
    pub(crate) sessions: SmallVec<[Session; 1]>,
    pub(crate) rooms: Memberships,
    /// Commands that wait, the first of them for the broker.
    pub(crate) pending: Option<Box<Pending>>,
    pub(crate) flow: Flow,
    pub(crate) heartbeat: Heartbeat,
    /// By when a namespace has to be entered, until one was.
    pub(crate) connect_by: Option<Instant>,
    /// Tick of the wheel that counts; others that fire are old.
    pub(crate) timer: Option<u64>,
    /// How it began, where an app wants to know.
    pub(crate) handshake: Option<Arc<Handshake>>,
    /// The publication that last looked at this connection, where one may look twice.
    pub(crate) stamp: u64,
    /// Dropped last: frees the connection's place at the node's bound.
    pub(crate) _permit: Permit,
}

/// What the socket can do now.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// Stands in the ring of small rooms, or of large ones.
    pub(crate) in_small: bool,
    pub(crate) in_large: bool,
    /// Since when the kernel has taken nothing, while it refuses.
    pub(crate) blocked: Option<Instant>,
    /// Stands in the shard's list of blocked connections.
    pub(crate) swept: bool,
    /// More may be readable than was read.
    pub(crate) unread: bool,
    /// The peer has sent its last byte: a short read is not the end.
    pub(crate) ended: bool,
    /// Not read, because too much waits in `pending`.
    pub(crate) paused: bool,
    /// Leaving: what waits is flushed, nothing is taken any more.
    pub(crate) closing: Option<Closing>,
}

/// A connection that is being closed from this side.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Closing {
    pub(crate) reason: Disconnect,
    /// Cut by then, flushed or not.
    pub(crate) until: Instant,
    /// The client has closed, too: nothing is waited for but the flush.
    pub(crate) answered: bool,
    /// The write half is shut.
    pub(crate) shut: bool,
}

/// Where the heartbeat stands.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Heartbeat {
    /// A ping goes out then.
    PingAt(Instant),
    /// The answer is due by then.
    PongBy(Instant),
}

/// Commands that wait behind one that needs the broker or the app.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// Each with the bytes that it holds.
    pub(crate) steps: VecDeque<(Step, usize)>,
    /// Bytes of the steps that wait.
    pub(crate) bytes: usize,
    /// How many of the steps are a [`Step::Tell`].
    pub(crate) tells: usize,
}

/// One waiting step. `Connect` and `Join` have asked the broker already.
#[derive(Debug)]
pub(crate) enum Step {
    Connect {
        namespace: NamespaceId,
        random: u64,
        until: Instant,
        auth: Option<Box<[u8]>>,
    },
    Join {
        room: RoomId,
        reply: Option<ReplyTo>,
        until: Instant,
        refused: bool,
    },
    Command(Command),
    /// The app is told of it when its turn comes.
    Tell(Session, Box<What>),
    /// The app was asked. Stands at the front only.
    Asked(Asked),
    /// The app answered, and the broker was asked for the rooms. Stands at the front only.
    Settling(Box<Settling>),
    /// What is sent with the answer to a CONNECT. Stands at the front only.
    Greeting(Box<Greeting>),
}

/// What the app was asked.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) session: Session,
    pub(crate) about: Question,
}

/// What waits for the app's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Question {
    /// Whether the client may enter.
    Connect,
    Event {
        reply: Option<ReplyTo>,
    },
    /// Nothing: it was told only.
    Nothing,
}

/// An answer of the app's that is about to be carried out.
#[derive(Debug)]
pub(crate) struct Settling {
    pub(crate) asked: Asked,
    pub(crate) answer: Answer,
    /// The rooms to join, and whether the broker refused.
    pub(crate) rooms: Vec<(RoomId, bool)>,
    pub(crate) until: Instant,
}

/// What an answer sends to a client that was just let in.
#[derive(Debug)]
pub(crate) struct Greeting {
    pub(crate) session: Session,
    pub(crate) answer: Answer,
    pub(crate) until: Instant,
}

impl Connection {
    /// The frame as this connection can take it. Polling makes text of everything anyway.
    pub(crate) fn fit(&self, frame: Frame) -> Frame {
        if self.text_only { engineio::without_binary(&frame) } else { frame }
    }

    /// The other end of its socket.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        let told = self.handshake.as_ref().and_then(|handshake| handshake.address);
        told.or_else(|| match &self.transport {
            Transport::WebSocket { socket, .. } => socket.peer_addr().ok().map(|peer| peer.ip()),
            Transport::Polling(_) => None,
        })
    }

    /// The session in a namespace. There is one at most: one that is entered anew is left first.
    pub(crate) fn session(&self, namespace: NamespaceId) -> Option<&Session> {
        self.sessions.iter().find(|session| session.namespace == namespace)
    }

    /// A session by what proves it: another may have taken its place.
    pub(crate) fn session_mut(&mut self, namespace: NamespaceId, random: u64) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|session| session.namespace == namespace && session.random == random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every connection has one, idle or not: see docs/heap-of-an-idle-connection.md before making it larger.
    #[test]
    fn a_connection_stays_small() {
        // Debug builds of mio keep more beside the descriptor.
        let own = size_of::<Connection>() - size_of::<mio::net::TcpStream>();
        assert!(own <= 328, "{own} bytes");
    }
}
