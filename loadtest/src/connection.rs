//! One connection of the crowd: a socket, how far it is, and what it has received.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsRawFd;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Socket, Type};

use crate::dialect::{Dialect, Reaction, Stage};
use crate::ledger::Ledger;
use crate::oracle::Oracle;
use crate::stamp::Stamp;
use crate::websocket::{self, Opcode};

/// Why a connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// TCP could not be opened.
    Unreachable,
    /// The server said no: another status than 101, a refused join, a disconnect packet.
    Refused,
    /// The server closed.
    Closed,
    /// What came is no WebSocket frame of a server.
    Garbled,
}

/// What a connection is part of: the same for the whole crowd.
#[derive(Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) dialect: Dialect,
    pub(crate) host: SocketAddr,
    pub(crate) rooms: &'a [String],
    pub(crate) ledger: &'a mut Ledger,
}

#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    stage: Stage,
    room: Option<usize>,
    oracle: Oracle,
    /// The start of a frame whose end has not come.
    tail: Vec<u8>,
    unsent: Vec<u8>,
}

impl Connection {
    /// Starts connecting from `source`; `room` is an index into the crowd's rooms.
    pub(crate) fn open(
        host: SocketAddr,
        source: Ipv4Addr,
        room: Option<usize>,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
        choose_port_late(&socket)?;
        socket.bind(&SocketAddrV4::new(source, 0).into())?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&host.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        let mut stream = TcpStream::from_std(socket.into());
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let stage = Stage::Connecting;
        Ok(Self { stream, stage, room, oracle: Oracle::default(), tail: Vec::new(), unsent: Vec::new() })
    }

    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    pub(crate) fn room(&self) -> Option<usize> {
        self.room
    }

    pub(crate) fn oracle(&self) -> &Oracle {
        &self.oracle
    }

    /// Marks it gone and releases the socket's buffers in the kernel; the descriptor goes with the crowd.
    pub(crate) fn give_up(&mut self) {
        self.stage = Stage::Gone;
        // It may be closed already, which is what is wanted.
        self.stream.shutdown(std::net::Shutdown::Both).ok();
    }

    /// The socket takes bytes: the first time, this is the end of connecting.
    pub(crate) fn on_writable(&mut self, around: &Surroundings<'_>) -> Result<(), Fault> {
        if self.stage == Stage::Connecting {
            if !matches!(self.stream.take_error(), Ok(None)) || self.stream.peer_addr().is_err() {
                return Err(Fault::Unreachable);
            }
            let request = format!(
                "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {}\r\n\r\n",
                around.dialect.path(room_name(self.room, around.rooms)),
                around.host,
                websocket::KEY,
            );
            self.unsent.extend_from_slice(request.as_bytes());
            self.stage = Stage::Upgrading;
        }
        self.flush()
    }

    /// Reads until the socket is empty, through the crowd's one buffer.
    pub(crate) fn on_readable(
        &mut self,
        buffer: &mut [u8],
        around: &mut Surroundings<'_>,
    ) -> Result<(), Fault> {
        loop {
            let kept = self.tail.len();
            if kept == buffer.len() {
                return Err(Fault::Garbled);
            }
            buffer[..kept].copy_from_slice(&self.tail);
            let filled = match self.stream.read(&mut buffer[kept..]) {
                Ok(0) => return Err(Fault::Closed),
                Ok(count) => kept + count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Err(Fault::Closed),
            };
            let used = self.take(&buffer[..filled], around)?;
            self.tail.clear();
            self.tail.extend_from_slice(&buffer[used..filled]);
            self.flush()?;
            // A short read has emptied the socket (epoll(7), on edge-triggered streams).
            if filled < buffer.len() {
                return Ok(());
            }
        }
    }

    /// Understands what is whole in `bytes`; returns how much that was.
    fn take(&mut self, bytes: &[u8], around: &mut Surroundings<'_>) -> Result<usize, Fault> {
        let mut used = 0;
        if self.stage == Stage::Upgrading {
            let Some(head) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Ok(0) };
            if !bytes.starts_with(b"HTTP/1.1 101 ") {
                return Err(Fault::Refused);
            }
            used = head + 4;
            let reaction = around.dialect.upgraded(room_name(self.room, around.rooms));
            self.react(reaction, b"", around)?;
        }
        while let Some(frame) = websocket::parse(&bytes[used..]).map_err(|_| Fault::Garbled)? {
            used += frame.length;
            match frame.opcode {
                Opcode::Text | Opcode::Binary => {
                    let room = room_name(self.room, around.rooms);
                    let reaction = around.dialect.heard(self.stage, frame.payload, room);
                    self.react(reaction, frame.payload, around)?;
                }
                Opcode::Ping => websocket::write_masked(Opcode::Pong, frame.payload, &mut self.unsent),
                Opcode::Pong => {}
                Opcode::Close => return Err(Fault::Closed),
            }
        }
        Ok(used)
    }

    fn react(
        &mut self,
        reaction: Reaction,
        payload: &[u8],
        around: &mut Surroundings<'_>,
    ) -> Result<(), Fault> {
        match reaction {
            Reaction::Ignore => {}
            Reaction::Say(text, stage) => {
                websocket::write_masked(Opcode::Text, text.as_bytes(), &mut self.unsent);
                self.stage = stage;
            }
            Reaction::Become(stage) => self.stage = stage,
            Reaction::Refuse => return Err(Fault::Refused),
            Reaction::Deliver => {
                if let Some(stamp) = Stamp::find(payload) {
                    let first = self.oracle.observe(stamp.sequence);
                    around.ledger.deliver(stamp, first);
                }
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Fault> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Fault::Closed),
            }
        }
        Ok(())
    }
}

fn room_name(room: Option<usize>, rooms: &[String]) -> Option<&str> {
    room.and_then(|index| rooms.get(index)).map(String::as_str)
}

/// Lets the kernel pick the port at `connect`, when it knows the destination: otherwise a bound source
/// address has 28,000 ports for all destinations together.
fn choose_port_late(socket: &Socket) -> io::Result<()> {
    let yes: libc::c_int = 1;
    // SAFETY: the descriptor is open, and the option reads one int, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const yes).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
