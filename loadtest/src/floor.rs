//! The least that could fan out: for each order, one `send()` to each member's socket. Orders that came
//! together for one room leave together. No limits, no queues: what a socket does not take closes it.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::publish::Orders;
use crate::websocket::{self, Opcode};

const MEMBERS: Token = Token(usize::MAX - 1);
const ORDERS: Token = Token(usize::MAX - 2);
/// A request head longer than this is none of the generator's.
const MAX_HEAD: usize = 4 << 10;

struct Member {
    stream: TcpStream,
    head: Vec<u8>,
    /// Set once the upgrade is answered.
    room: Option<Vec<u8>>,
}

enum Peer {
    Member(Member),
    Order { stream: TcpStream, unread: Vec<u8> },
}

struct Floor {
    poll: Poll,
    peers: HashMap<usize, Peer>,
    next_token: usize,
    rooms: HashMap<Vec<u8>, Vec<RawFd>>,
    frames: Vec<u8>,
}

/// Serves members and orders until the process is ended.
pub(crate) fn serve(members: SocketAddr, orders: SocketAddr) -> anyhow::Result<()> {
    let poll = Poll::new()?;
    let mut member_listener = listen(members)?;
    let mut order_listener = listen(orders)?;
    poll.registry().register(&mut member_listener, MEMBERS, Interest::READABLE)?;
    poll.registry().register(&mut order_listener, ORDERS, Interest::READABLE)?;
    let mut floor =
        Floor { poll, peers: HashMap::new(), next_token: 0, rooms: HashMap::new(), frames: Vec::new() };
    let mut events = Events::with_capacity(1024);
    let mut buffer = vec![0; 64 << 10];
    loop {
        match floor.poll.poll(&mut events, None) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            match event.token() {
                MEMBERS => floor.accept(&member_listener, |stream| {
                    Peer::Member(Member { stream, head: Vec::new(), room: None })
                })?,
                ORDERS => {
                    floor.accept(&order_listener, |stream| Peer::Order { stream, unread: Vec::new() })?;
                }
                Token(token) => {
                    if !floor.read(token, &mut buffer) {
                        floor.close(token);
                    }
                }
            }
        }
    }
}

/// A listener with a queue for a storm, which the standard library's 128 is not.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM.nonblocking(), None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(TcpListener::from_std(socket.into()))
}

impl Floor {
    fn accept(&mut self, listener: &TcpListener, peer: impl Fn(TcpStream) -> Peer) -> io::Result<()> {
        loop {
            let mut stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            let token = self.next_token;
            self.next_token += 1;
            self.poll.registry().register(&mut stream, Token(token), Interest::READABLE)?;
            self.peers.insert(token, peer(stream));
        }
    }

    /// Reads what is there. False: this peer is over.
    fn read(&mut self, token: usize, buffer: &mut [u8]) -> bool {
        let Some(peer) = self.peers.get_mut(&token) else { return true };
        loop {
            let (Peer::Member(Member { stream, .. }) | Peer::Order { stream, .. }) = &mut *peer;
            let count = match stream.read(buffer) {
                Ok(0) => return false,
                Ok(count) => count,
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            };
            match peer {
                Peer::Member(member) => {
                    if !member.greet(&buffer[..count], &mut self.rooms) {
                        return false;
                    }
                }
                Peer::Order { unread, .. } => {
                    unread.extend_from_slice(&buffer[..count]);
                    let used = carry_out(unread, &self.rooms, &mut self.frames);
                    unread.drain(..used);
                }
            }
        }
    }

    fn close(&mut self, token: usize) {
        if let Some(Peer::Member(Member { stream, room: Some(room), .. })) = self.peers.remove(&token)
            && let Some(members) = self.rooms.get_mut(&room)
        {
            members.retain(|member| *member != stream.as_raw_fd());
            if members.is_empty() {
                self.rooms.remove(&room);
            }
        }
    }
}

impl Member {
    /// Answers the upgrade and joins the room that the path ends in; frames of members are not read.
    fn greet(&mut self, bytes: &[u8], rooms: &mut HashMap<Vec<u8>, Vec<RawFd>>) -> bool {
        if self.room.is_some() {
            return true;
        }
        self.head.extend_from_slice(bytes);
        if !self.head.ends_with(b"\r\n\r\n") {
            return self.head.len() < MAX_HEAD;
        }
        let Some(path) = self.head.split(|byte| *byte == b' ').nth(1) else { return false };
        let room = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path).to_vec();
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            websocket::ACCEPT
        );
        rooms.entry(room.clone()).or_default().push(self.stream.as_raw_fd());
        self.room = Some(room);
        self.head = Vec::new();
        self.stream.write_all(answer.as_bytes()).is_ok()
    }
}

/// Carries out whole orders; returns the bytes they took.
fn carry_out(bytes: &[u8], rooms: &HashMap<Vec<u8>, Vec<RawFd>>, frames: &mut Vec<u8>) -> usize {
    let mut orders = Orders::new(bytes).peekable();
    let mut used = 0;
    while let Some((room, payload)) = orders.next() {
        used += Orders::length(room, payload);
        let text = [br#"42["e",""#, payload, br#""]"#].concat();
        websocket::write_unmasked(Opcode::Text, &text, frames);
        if orders.peek().is_some_and(|next| next.0 == room) {
            continue;
        }
        for member in rooms.get(room).into_iter().flatten() {
            send(*member, frames);
        }
        frames.clear();
    }
    used
}

/// One `send()`. A socket that takes less than all is shut down: its peer then counts what it lost.
fn send(member: RawFd, bytes: &[u8]) {
    // SAFETY: the descriptor is in a room only while its stream is open; the bytes are read during the call.
    let sent = unsafe {
        libc::send(member, bytes.as_ptr().cast(), bytes.len(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
    };
    if sent != bytes.len() as isize {
        // SAFETY: as above; no pointers.
        unsafe { libc::shutdown(member, libc::SHUT_RDWR) };
    }
}
