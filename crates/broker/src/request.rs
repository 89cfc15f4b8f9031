//! What can be asked of every node beside delivering, and what a node answers: the requests of Socket.IO's
//! Redis adapter, of its emitters, and of python-socketio's managers, in one form.

use fanfare_protocol::Publication;
use fanfare_protocol::publication::Rooms;

/// The sessions of a namespace that a request is about: those in any of `rooms` (all where there is none),
/// but for those in any of `except`. A session's own id is a room, too.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Target {
    pub rooms: Rooms<'static>,
    pub except: Rooms<'static>,
}

/// Something asked of every node that serves the namespace.
///
/// Where joins, leaves and disconnects have an asker, they are about one session by its id, and the node that has it
/// answers [`Answer::Done`]; the others say nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The sessions join these rooms, whose names passed [`fanfare_protocol::name::check_room`].
    Join { target: Target, rooms: Rooms<'static>, asker: Option<Asker> },
    /// The sessions leave these rooms.
    Leave { target: Target, rooms: Rooms<'static>, asker: Option<Asker> },
    /// The sessions leave the namespace; with `close` their connection ends, too.
    Disconnect { target: Target, close: bool, asker: Option<Asker> },
    /// An event for the app itself. `data` is a MessagePack array `[event, ...args]`, checked by
    /// [`fanfare_protocol::msgpack::check_event`]. An asker waits for one [`Answer::Emitted`] of each node.
    ServerSideEmit { data: Vec<u8>, asker: Option<Asker> },
    /// Who is there? Every node answers [`Answer::Sessions`].
    Sessions { target: Target, asker: Asker },
    /// Which rooms are there? Every node answers [`Answer::Rooms`].
    Rooms { asker: Asker },
    /// A publication whose receivers are to acknowledge it: every node answers [`Answer::Reached`] at once, then
    /// [`Answer::Acknowledged`] for each. `timeout_ms`: how long the asker waits, where it said so. The
    /// publication's `ack` is to be chosen by the node.
    Broadcast { publication: Publication<'static>, asker: Asker, timeout_ms: Option<u64> },
}

/// Who asked, and under which number: what an answer needs to find its way. Made by brokers only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker(pub(crate) AskedBy);

/// See [`Asker`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AskedBy {
    /// A server with the classic adapter: the namespace, its uid where it listens to answers for itself alone, its
    /// request's id and type.
    Adapter { namespace: Box<str>, uid: Option<Box<str>>, request: Box<str>, kind: u64 },
    /// A python-socketio server that waits for acknowledgements: its `host_id`, and its `callback` triple.
    Python { host: Box<str>, room: Box<str>, namespace: Box<str>, id: u64 },
}

/// What a node answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// This node's part of the target. May be empty: askers count answers.
    Sessions(Vec<SessionView>),
    /// This node's rooms in the namespace, sids included.
    Rooms(Vec<String>),
    /// What the app answered, one MessagePack value; nil where there is no app to ask.
    Emitted(Vec<u8>),
    /// So many sessions of this node were sent the broadcast.
    Reached(usize),
    /// One of them acknowledged it: the MessagePack array of its arguments.
    Acknowledged(Vec<u8>),
    /// It is done (joins, leaves and disconnects of servers that wait for that).
    Done,
}

/// A session as another server is shown it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionView {
    pub sid: String,
    /// Its own id among them, as Socket.IO has it.
    pub rooms: Vec<String>,
    /// When it connected, milliseconds of Unix time.
    pub since_ms: u64,
    /// The client's address, as text.
    pub address: String,
}
