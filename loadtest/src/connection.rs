//! One connection of the crowd: a socket, how far it is, and what it has received.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::AsRawFd;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use smallvec::{SmallVec, smallvec};
use socket2::{Domain, Socket, Type};

use crate::dialect::{Dialect, Reaction, Stage};
use crate::ledger::Ledger;
use crate::oracle::{Oracle, Tally};
use crate::seats::Seats;
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

/// What a connection is part of: the same for its whole group.
#[derive(Debug)]
pub(crate) struct Surroundings<'a> {
    pub(crate) dialect: Dialect,
    pub(crate) rooms: &'a [String],
    pub(crate) seats: &'a Seats,
    pub(crate) ledger: &'a mut Ledger,
    /// Time of the event, in nanoseconds of the run's clock.
    pub(crate) now: u64,
}

/// Who a connection is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// Its number in the crowd.
    pub(crate) index: usize,
    /// [`Seats::offset`] of it.
    pub(crate) offset: usize,
    pub(crate) group: usize,
    pub(crate) host: SocketAddr,
    pub(crate) source: Ipv4Addr,
    /// Size of the kernel's receive buffer; `None`: the kernel's default, which grows.
    pub(crate) receive_buffer: Option<usize>,
}

#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    place: Place,
    stage: Stage,
    joined: usize,
    /// Not read at present, or not until it was closed.
    stuck: bool,
    strayed: u64,
    /// One for each of its rooms.
    oracles: SmallVec<[Oracle; 1]>,
    /// The start of a frame whose end has not come.
    tail: Vec<u8>,
    unsent: Vec<u8>,
}

impl Connection {
    /// Starts connecting; it will join `joins` rooms.
    pub(crate) fn open(place: Place, joins: usize, registry: &Registry) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
        choose_port_late(&socket)?;
        socket.bind(&SocketAddrV4::new(place.source, 0).into())?;
        socket.set_tcp_nodelay(true)?;
        if let Some(bytes) = place.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        match socket.connect(&place.host.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            _ => {}
        }
        let mut stream = TcpStream::from_std(socket.into());
        registry.register(&mut stream, Token(place.index), Interest::READABLE | Interest::WRITABLE)?;
        let mut oracles = smallvec![];
        oracles.resize_with(joins, Oracle::default);
        Ok(Self {
            stream,
            place,
            stage: Stage::Connecting,
            joined: 0,
            stuck: false,
            strayed: 0,
            oracles,
            tail: Vec::new(),
            unsent: Vec::new(),
        })
    }

    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    pub(crate) fn group(&self) -> usize {
        self.place.group
    }

    pub(crate) fn is_stuck(&self) -> bool {
        self.stuck
    }

    /// Its own end, by which the other end knows it.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.stream.local_addr()
    }

    /// The oracles' word, given how much each room of the crowd was sent.
    pub(crate) fn verdict(&self, seats: &Seats, published: &[u64]) -> Tally {
        let mut all = Tally { strayed: self.strayed, ..Tally::default() };
        for (slot, oracle) in self.oracles.iter().enumerate() {
            all += oracle.verdict(published[seats.room(self.place.index, slot)]);
        }
        all
    }

    /// Marks it gone and releases the socket's buffers in the kernel; the descriptor goes with the crowd.
    pub(crate) fn give_up(&mut self) {
        self.stage = Stage::Gone;
        // It may be closed already, which is what is wanted.
        self.stream.shutdown(std::net::Shutdown::Both).ok();
    }

    /// Stops reading: the kernel's buffers fill, then the server's.
    pub(crate) fn stop_reading(&mut self, registry: &Registry) -> io::Result<()> {
        self.stuck = true;
        registry.deregister(&mut self.stream)
    }

    /// Reads again. It stays known as stuck until it has caught up.
    pub(crate) fn read_again(&mut self, registry: &Registry) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut self.stream, Token(self.place.index), interest)
    }

    /// Says that it reads like all others.
    pub(crate) fn recover(&mut self) {
        self.stuck = false;
    }

    /// Says a text frame.
    pub(crate) fn say(&mut self, text: &str) -> Result<(), Fault> {
        websocket::write_masked(Opcode::Text, text.as_bytes(), &mut self.unsent);
        self.flush()
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
                around.dialect.path(self.room(around)),
                self.place.host,
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
            let reaction = around.dialect.upgraded(self.room(around));
            self.react(reaction, b"", around)?;
        }
        while let Some(frame) = websocket::parse(&bytes[used..]).map_err(|_| Fault::Garbled)? {
            used += frame.length;
            match frame.opcode {
                Opcode::Text | Opcode::Binary => {
                    let reaction = around.dialect.heard(self.stage, frame.payload, self.room(around));
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
            Reaction::Become(Stage::Settled) => self.join_next(around),
            Reaction::Become(stage) => self.stage = stage,
            Reaction::Refuse => return Err(Fault::Refused),
            Reaction::Deliver => {
                if let Some(stamp) = Stamp::find(payload) {
                    self.deliver(stamp, around);
                }
            }
        }
        Ok(())
    }

    fn deliver(&mut self, stamp: Stamp, around: &mut Surroundings<'_>) {
        let slot = around.seats.slot(self.place.offset, stamp.room as usize);
        let Some(oracle) = slot.and_then(|slot| self.oracles.get_mut(slot)) else {
            self.strayed += 1;
            return;
        };
        let first = oracle.observe(stamp.sequence);
        around.ledger.deliver(stamp, first, around.now);
    }

    /// In one more room, or in none: asks for the next, or all is there.
    fn join_next(&mut self, around: &Surroundings<'_>) {
        self.joined += 1;
        if self.joined >= self.oracles.len() {
            self.stage = Stage::Settled;
        } else if let Some(room) = self.room(around) {
            let text = around.dialect.join(room);
            websocket::write_masked(Opcode::Text, text.as_bytes(), &mut self.unsent);
            self.stage = Stage::Joining;
        }
    }

    /// The room to ask for, while there is one.
    fn room<'a>(&self, around: &Surroundings<'a>) -> Option<&'a str> {
        (self.joined < self.oracles.len())
            .then(|| around.rooms[around.seats.room(self.place.index, self.joined)].as_str())
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
