//! A shard without its loop and without a feed, for benchmarks.

use std::io::{self, Read as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use fanfare_protocol::{NamespaceId, Publication, plain, socketio};
use tokio::sync::mpsc;

use super::callers::Arrival;
use super::doors::Doors;
use super::shard::Shard;
use super::{Context, NodeState};
use crate::config::Config;
use crate::connection::{Machine, Newcomer};
use crate::http::gate::Gate;
use crate::metrics::{Bounds, Metrics};
use crate::publish::PublishQueue;

/// One shard with one room, whose members are real sockets of this process.
pub struct LoneShard {
    shard: Shard,
    peers: Vec<TcpStream>,
    namespace: NamespaceId,
}

impl LoneShard {
    /// `members` connections in the room `room`, every other one Socket.IO. Needs two descriptors for each.
    pub fn with_room(config: Config, room: &str, members: usize) -> io::Result<Self> {
        let (mut polls, inboxes) = crate::inboxes(1, config.limits.shard_queue)?;
        let bounds =
            Bounds { connections: config.limits.connections, outbox_budget: config.limits.outbox_budget };
        let metrics = Metrics::new(1, bounds).map_err(io::Error::other)?;
        let (publish, _) = PublishQueue::new(1, config.limits.publish_queue);
        // Nobody is handed to the HTTP runtime here.
        let (state, (http, _)) = (NodeState::default(), mpsc::unbounded_channel());
        let (answers, _) = mpsc::unbounded_channel();
        let context = Arc::new(Context {
            config,
            tag: 1,
            label: "lone".to_owned(),
            metrics,
            publish,
            app: None,
            answers,
            began: (Instant::now(), 0),
            inboxes,
            http,
            state,
        });
        let poll = polls.pop().ok_or_else(|| io::Error::other("no event queue"))?;
        let shard = Shard::new(context, 0, poll, None, Doors::default());
        let mut lone = Self { shard, peers: Vec::new(), namespace: NamespaceId::MAIN };
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let gate = Gate::new(members);
        for at in 0..members {
            let peer = TcpStream::connect(listener.local_addr()?)?;
            let (socket, _) = listener.accept()?;
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            peer.set_nonblocking(true)?;
            let permit = gate.enter().ok_or_else(|| io::Error::other("no place"))?;
            let machine = if at % 2 == 0 {
                Machine::SocketIo(socketio::Machine::default())
            } else {
                Machine::Plain { machine: plain::Machine::default(), json_ping: false }
            };
            let socket = mio::net::TcpStream::from_std(socket);
            let newcomer = Newcomer { machine, handshake: None, text_only: false, permit };
            let arrival = Arrival { socket, watched: false, newcomer, answer: Vec::new() };
            lone.shard.open(arrival, &[]);
            lone.peers.push(peer);
        }
        lone.join_all(room);
        lone.write();
        lone.read()?;
        Ok(lone)
    }

    fn join_all(&mut self, room: &str) {
        let (id, _) = self.shard.members.ensure(self.namespace, room);
        self.shard.members.room_mut(id).active = true;
        for (slot, connection) in &mut self.shard.connections {
            self.shard.members.join(slot as u32, &mut connection.rooms, id);
        }
    }

    /// Puts a publication into every member's outbox, to be written later.
    pub fn mark(&mut self, publication: &Publication<'_>) {
        self.shard.deliver_here(self.namespace, publication);
    }

    /// Writes until every outbox is empty.
    pub fn write(&mut self) {
        self.shard.now = Instant::now();
        while !self.shard.rings.is_empty() {
            self.shard.flush_slice();
        }
    }

    /// Empties every outbox without a write.
    pub fn forget(&mut self) {
        self.shard.rings = Default::default();
        for (_, connection) in &mut self.shard.connections {
            connection.outbox = Default::default();
            (connection.flow.in_small, connection.flow.in_large) = (false, false);
        }
    }

    /// Has the members' other ends read what was written; says how many bytes there were.
    pub fn read(&mut self) -> io::Result<usize> {
        let mut buffer = vec![0; 64 << 10];
        let mut bytes = 0;
        for peer in &mut self.peers {
            match peer.read(&mut buffer) {
                Ok(len) => bytes += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    }
}
