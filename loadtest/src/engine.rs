//! One thread, one epoll loop, one read buffer: connects a crowd and reads what it gets.

use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::AddAssign;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};

use crate::connection::{Connection, Fault, Surroundings};
use crate::dialect::{Dialect, Stage};
use crate::ledger::Ledger;
use crate::oracle::Tally;

const BUFFER: usize = 256 << 10;
/// Few enough that a due publication waits for less than a millisecond of reading.
const EVENTS: usize = 128;
/// Connections per source address: below the 28,000 ports of the default range.
const PER_SOURCE: usize = 20_000;
/// A crowd that does not move for this long has lost somebody.
const STALLED: Duration = Duration::from_secs(10);

pub(crate) const PUBLISHER: Token = Token(usize::MAX - 1);
pub(crate) const TIMER: Token = Token(usize::MAX - 2);

/// Who connects.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crowd {
    pub(crate) connections: usize,
    /// Connections that may be on their way to being settled at one time.
    pub(crate) at_once: usize,
    /// Makes source addresses of one crowd differ from the last one's, whose ports linger in TIME_WAIT.
    pub(crate) round: usize,
}

/// Connections that are not there, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    pub(crate) unreachable: u64,
    pub(crate) refused: u64,
    pub(crate) closed: u64,
    pub(crate) garbled: u64,
    /// Neither settled nor refused when the crowd stalled.
    pub(crate) unanswered: u64,
}

impl Faults {
    pub(crate) fn total(self) -> u64 {
        self.unreachable + self.refused + self.closed + self.garbled + self.unanswered
    }

    /// One more, for that reason.
    fn count(&mut self, fault: Fault) {
        match fault {
            Fault::Unreachable => self.unreachable += 1,
            Fault::Refused => self.refused += 1,
            Fault::Closed => self.closed += 1,
            Fault::Garbled => self.garbled += 1,
        }
    }
}

impl AddAssign for Faults {
    fn add_assign(&mut self, other: Self) {
        self.unreachable += other.unreachable;
        self.refused += other.refused;
        self.closed += other.closed;
        self.garbled += other.garbled;
        self.unanswered += other.unanswered;
    }
}

/// What one turn of the loop found besides the crowd.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ready {
    pub(crate) publisher: bool,
    pub(crate) timer: bool,
}

#[derive(Debug)]
pub(crate) struct Engine {
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    dialect: Dialect,
    host: SocketAddr,
    rooms: Vec<String>,
    connections: Vec<Connection>,
    settled: usize,
    faults: Faults,
    pub(crate) ledger: Ledger,
}

impl Engine {
    /// `rooms` may be empty: then nobody joins anything.
    pub(crate) fn new(dialect: Dialect, host: SocketAddr, rooms: Vec<String>) -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS),
            buffer: vec![0; BUFFER],
            dialect,
            host,
            rooms,
            connections: Vec::new(),
            settled: 0,
            faults: Faults::default(),
            ledger: Ledger::new(),
        })
    }

    pub(crate) fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// Wakes the loop when `descriptor` is readable.
    pub(crate) fn watch(&self, descriptor: RawFd, token: Token) -> io::Result<()> {
        self.poll.registry().register(&mut SourceFd(&descriptor), token, Interest::READABLE)
    }

    pub(crate) fn rooms(&self) -> &[String] {
        &self.rooms
    }

    pub(crate) fn settled(&self) -> usize {
        self.settled
    }

    pub(crate) fn faults(&self) -> Faults {
        self.faults
    }

    /// Connects everybody and waits until each is settled or lost.
    pub(crate) fn connect(&mut self, crowd: Crowd) -> io::Result<()> {
        self.connections.reserve(crowd.connections);
        let mut progress = (self.arrived(), Instant::now());
        while self.arrived() < crowd.connections {
            while self.connections.len() < crowd.connections
                && self.connections.len() - self.arrived() < crowd.at_once
            {
                self.open(crowd)?;
            }
            self.turn(Some(Duration::from_millis(50)))?;
            if self.arrived() > progress.0 {
                progress = (self.arrived(), Instant::now());
            } else if progress.1.elapsed() > STALLED {
                self.faults.unanswered += (crowd.connections - self.arrived()) as u64;
                break;
            }
        }
        Ok(())
    }

    /// Answers pings and counts what comes, for `length`.
    pub(crate) fn listen(&mut self, length: Duration) -> io::Result<()> {
        let end = Instant::now() + length;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.turn(Some(left.min(Duration::from_millis(100))))?;
        }
    }

    /// Waits once, handles what came for the crowd and says what else is ready.
    pub(crate) fn turn(&mut self, timeout: Option<Duration>) -> io::Result<Ready> {
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Ready::default()),
            other => other?,
        }
        let events = mem::replace(&mut self.events, Events::with_capacity(0));
        let mut ready = Ready::default();
        for event in &events {
            match event.token() {
                PUBLISHER => ready.publisher = true,
                TIMER => ready.timer = true,
                Token(index) => self.on_event(index, event),
            }
        }
        self.events = events;
        Ok(ready)
    }

    /// The oracle's word on everybody, given how much each room was sent.
    pub(crate) fn verdict(&self, published: &[u64]) -> Tally {
        let mut all = Tally::default();
        for connection in &self.connections {
            if let Some(room) = connection.room() {
                all += connection.oracle().verdict(published[room]);
            }
        }
        all
    }

    /// How many members each room has by now.
    pub(crate) fn members(&self) -> Vec<u64> {
        let mut members = vec![0; self.rooms.len()];
        for connection in &self.connections {
            if let (Some(room), Stage::Settled) = (connection.room(), connection.stage()) {
                members[room] += 1;
            }
        }
        members
    }

    fn arrived(&self) -> usize {
        self.settled + self.faults.total() as usize
    }

    fn open(&mut self, crowd: Crowd) -> io::Result<()> {
        let index = self.connections.len();
        let room = (!self.rooms.is_empty()).then(|| index % self.rooms.len());
        let source = match self.host {
            host if host.ip().is_loopback() => source_address(index, crowd.round),
            _ => Ipv4Addr::UNSPECIFIED,
        };
        let registry = self.poll.registry();
        let connection = Connection::open(self.host, source, room, registry, Token(index))?;
        self.connections.push(connection);
        Ok(())
    }

    fn on_event(&mut self, index: usize, event: &Event) {
        let Some(connection) = self.connections.get_mut(index) else { return };
        let before = connection.stage();
        if before == Stage::Gone {
            return;
        }
        self.ledger.tick();
        let mut around = Surroundings {
            dialect: self.dialect,
            host: self.host,
            rooms: &self.rooms,
            ledger: &mut self.ledger,
        };
        let mut result = Ok(());
        if event.is_writable() {
            result = connection.on_writable(&around);
        }
        if result.is_ok() && event.is_readable() {
            result = connection.on_readable(&mut self.buffer, &mut around);
        }
        let was_settled = before == Stage::Settled;
        let is_settled = result.is_ok() && connection.stage() == Stage::Settled;
        if let Err(fault) = result {
            connection.give_up();
            self.faults.count(fault);
        }
        self.settled = self.settled + usize::from(is_settled) - usize::from(was_settled);
    }
}

/// 127.0.0.2 upwards: 127.0.0.1 belongs to the servers. At most 250 crowds before addresses repeat.
fn source_address(index: usize, round: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, (index / PER_SOURCE) as u8, 2 + (round % 250) as u8)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::stamp::Stamp;
    use crate::websocket::{Opcode, write_unmasked};

    #[test]
    fn sources_differ_by_round_and_by_every_so_many_connections() {
        assert_eq!(source_address(0, 0), Ipv4Addr::new(127, 0, 0, 2));
        assert_eq!(source_address(PER_SOURCE - 1, 0), source_address(0, 0));
        assert_ne!(source_address(PER_SOURCE, 0), source_address(0, 0));
        assert_ne!(source_address(0, 1), source_address(0, 0));
    }

    /// A server for one connection that grants the upgrade, sends these sequence numbers of a room, and
    /// stays until the other end is gone.
    fn scripted_server(stream: Vec<u64>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut socket = listener.accept().unwrap().0;
            let mut head = [0; 1024];
            let count = socket.read(&mut head).unwrap();
            assert!(head[..count].starts_with(b"GET /sub/room HTTP/1.1\r\n"));
            let mut bytes = b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec();
            for sequence in stream {
                let mut payload = Vec::new();
                Stamp { sequence, intended: 0 }.write(128, &mut payload);
                write_unmasked(Opcode::Text, &payload, &mut bytes);
            }
            // Cut at a place that is inside a frame.
            let middle = bytes.len() / 2 + 1;
            socket.write_all(&bytes[..middle]).unwrap();
            socket.flush().unwrap();
            socket.write_all(&bytes[middle..]).unwrap();
            socket.read_to_end(&mut Vec::new())
        });
        address
    }

    fn verdict_of(stream: &[u64]) -> Tally {
        let host = scripted_server(stream.to_vec());
        let mut engine = Engine::new(Dialect::PathOnly, host, vec!["room".into()]).unwrap();
        engine.connect(Crowd { connections: 1, at_once: 1, round: 0 }).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while engine.ledger.deliveries() < stream.len() as u64 && Instant::now() < deadline {
            engine.turn(Some(Duration::from_millis(10))).unwrap();
        }
        engine.verdict(&[5])
    }

    #[test]
    fn what_a_server_does_wrong_is_found_over_the_wire() {
        assert_eq!(verdict_of(&[0, 1, 2, 3, 4]), Tally::default());
        assert_eq!(verdict_of(&[0, 1, 3, 4]), Tally { lost: 1, ..Tally::default() });
        assert_eq!(verdict_of(&[0, 1, 1, 2, 3, 4]), Tally { duplicated: 1, ..Tally::default() });
        assert_eq!(verdict_of(&[0, 2, 1, 3, 4]), Tally { reordered: 1, ..Tally::default() });
    }

    #[test]
    fn nobody_listening_is_a_fault_and_no_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap();
        drop(listener);
        let mut engine = Engine::new(Dialect::Plain, host, Vec::new()).unwrap();
        engine.connect(Crowd { connections: 3, at_once: 2, round: 0 }).unwrap();
        assert_eq!(engine.faults(), Faults { unreachable: 3, ..Faults::default() });
        assert_eq!(engine.settled(), 0);
    }
}
