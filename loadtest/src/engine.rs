//! One thread, one epoll loop, one read buffer: connects a crowd and reads what it gets.

use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};

use crate::connection::{Connection, Fault, Place, Surroundings};
use crate::dialect::{Dialect, Stage};
use crate::faults::Faults;
use crate::ledger::Ledger;
use crate::oracle::Tally;
use crate::scenario::Group;
use crate::seats::{Seats, source_address};
use crate::watch::Watch;

const BUFFER: usize = 256 << 10;
/// Few enough that a due publication waits for less than a millisecond of reading.
const EVENTS: usize = 128;
/// A crowd that does not move for this long has lost somebody.
const STALLED: Duration = Duration::from_secs(10);

pub(crate) const PUBLISHER: Token = Token(usize::MAX - 1);
pub(crate) const TIMER: Token = Token(usize::MAX - 2);
const FIRST: Token = Token(usize::MAX - 3);

/// Who connects.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Crowd<'a> {
    pub(crate) dialect: Dialect,
    /// Where the servers are; members of each room are dealt to them in turn.
    pub(crate) hosts: &'a [SocketAddr],
    pub(crate) groups: &'a [Group],
    /// Connections that may be on their way to being settled at one time.
    pub(crate) at_once: usize,
    /// Makes rooms and source addresses of one crowd differ from the last one's, whose ports linger in
    /// TIME_WAIT.
    pub(crate) number: usize,
    /// Size of the receive buffers; `None`: the kernel's default, which grows.
    pub(crate) receive_buffer: Option<usize>,
}

/// What one turn of the loop found besides the crowd.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ready {
    pub(crate) publisher: bool,
    pub(crate) timer: bool,
}

#[derive(Debug)]
pub(crate) struct Engine<'a> {
    poll: Poll,
    /// Where some group disturbs: the sockets of all others, looked at before each round of its. Otherwise
    /// they would stand behind thousands of its sockets here, and that wait be taken for the server's.
    first: Option<Poll>,
    events: Events,
    buffer: Vec<u8>,
    crowd: Crowd<'a>,
    rooms: Vec<String>,
    seats: Vec<Seats>,
    connections: Vec<Connection>,
    settled: usize,
    faults: Faults,
    stuck_closed: u64,
    start: Instant,
    /// One for each group.
    pub(crate) ledgers: Vec<Ledger>,
}

impl<'a> Engine<'a> {
    pub(crate) fn new(crowd: Crowd<'a>) -> io::Result<Self> {
        let seats = Seats::of(crowd.groups);
        let rooms = seats.last().map_or(0, |seats| seats.rooms.end);
        let poll = Poll::new()?;
        let first = match crowd.groups.iter().any(|group| group.disturbs) {
            true => Some(nested(&poll)?),
            false => None,
        };
        Ok(Self {
            poll,
            first,
            events: Events::with_capacity(EVENTS),
            buffer: vec![0; BUFFER],
            rooms: (0..rooms).map(|room| format!("r{}-{room}", crowd.number)).collect(),
            ledgers: seats.iter().map(|_| Ledger::new()).collect(),
            seats,
            crowd,
            connections: Vec::new(),
            settled: 0,
            faults: Faults::default(),
            stuck_closed: 0,
            start: Instant::now(),
        })
    }

    pub(crate) fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// Wakes the loop when `descriptor` is readable.
    pub(crate) fn watch(&self, descriptor: RawFd, token: Token) -> io::Result<()> {
        self.poll.registry().register(&mut SourceFd(&descriptor), token, Interest::READABLE)
    }

    /// Nanoseconds since this crowd began.
    pub(crate) fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    pub(crate) fn crowd(&self) -> Crowd<'a> {
        self.crowd
    }

    pub(crate) fn rooms(&self) -> &[String] {
        &self.rooms
    }

    pub(crate) fn seats(&self) -> &[Seats] {
        &self.seats
    }

    /// How many members a room is to have.
    pub(crate) fn size(&self, room: usize) -> usize {
        let group = self.seats.iter().position(|seats| seats.rooms.contains(&room));
        group.map_or(0, |group| self.crowd.groups[group].members)
    }

    pub(crate) fn settled(&self) -> usize {
        self.settled
    }

    pub(crate) fn faults(&self) -> Faults {
        self.faults
    }

    /// Connections that the server closed while they did not read.
    pub(crate) fn stuck_closed(&self) -> u64 {
        self.stuck_closed
    }

    /// Deliveries to everybody, duplicates included.
    pub(crate) fn deliveries(&self) -> u64 {
        self.ledgers.iter().map(Ledger::deliveries).sum()
    }

    /// Publications intended in this time count for every group's latency.
    pub(crate) fn open_window(&mut self, window: &Range<u64>) {
        for ledger in &mut self.ledgers {
            ledger.open_window(window.clone());
        }
    }

    /// Connects everybody and waits until each is settled or lost.
    pub(crate) fn connect(&mut self, watch: &mut Watch<'_>) -> io::Result<()> {
        let all = self.seats.last().map_or(0, |seats| seats.connections.end);
        self.connections.reserve(all);
        let mut progress = (self.arrived(), Instant::now());
        let mut group = 0;
        while self.arrived() < all {
            while self.connections.len() < all && self.connections.len() - self.arrived() < self.crowd.at_once
            {
                group += usize::from(self.connections.len() == self.seats[group].connections.end);
                self.open(group)?;
            }
            self.turn(Some(Duration::from_millis(50)))?;
            watch.look(self);
            if self.arrived() > progress.0 {
                progress = (self.arrived(), Instant::now());
            } else if progress.1.elapsed() > STALLED {
                self.faults.unanswered += (all - self.arrived()) as u64;
                break;
            }
        }
        Ok(())
    }

    /// Answers pings and counts what comes, for `length`.
    pub(crate) fn listen(&mut self, length: Duration, watch: &mut Watch<'_>) -> io::Result<()> {
        let end = Instant::now() + length;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.turn(Some(left.min(Duration::from_millis(100))))?;
            watch.look(self);
        }
    }

    /// Waits once, handles what came for the crowd and says what else is ready.
    pub(crate) fn turn(&mut self, timeout: Option<Duration>) -> io::Result<Ready> {
        let mut ready = Ready::default();
        if let Some(first) = &mut self.first {
            let polled = first.poll(&mut self.events, Some(Duration::ZERO));
            self.take_events(polled, &mut ready)?;
        }
        let polled = self.poll.poll(&mut self.events, timeout);
        self.take_events(polled, &mut ready)?;
        Ok(ready)
    }

    fn take_events(&mut self, polled: io::Result<()>, ready: &mut Ready) -> io::Result<()> {
        match polled {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        let events = mem::replace(&mut self.events, Events::with_capacity(0));
        for event in &events {
            match event.token() {
                PUBLISHER => ready.publisher = true,
                TIMER => ready.timer = true,
                // It was only to be woken: the next turn looks.
                FIRST => {}
                Token(index) => self.on_event(index, event),
            }
        }
        self.events = events;
        Ok(())
    }

    /// A member of `room` says that it publishes this.
    pub(crate) fn publish_as_member(&mut self, group: usize, room: usize, payload: &str) {
        let index = self.seats[group].speaker(room);
        let text = self.crowd.dialect.publish(&self.rooms[room], payload);
        // Whoever is gone publishes nothing: the oracle finds it missing.
        let Some(connection) = self.connections.get_mut(index) else { return };
        if connection.stage() == Stage::Settled
            && let Err(fault) = connection.say(&text)
        {
            self.lose(index, fault);
        }
    }

    /// Members that match stop reading.
    pub(crate) fn stop_reading(&mut self, matches: impl Fn(&Seats, usize) -> bool) -> io::Result<usize> {
        let mut count = 0;
        for (index, connection) in self.connections.iter_mut().enumerate() {
            if connection.stage() == Stage::Settled && matches(&self.seats[connection.group()], index) {
                let group = &self.crowd.groups[connection.group()];
                connection.stop_reading(registry_of(&self.poll, &self.first, group))?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Everybody reads again.
    pub(crate) fn read_again(&mut self) -> io::Result<()> {
        for connection in self.connections.iter_mut().filter(|connection| connection.is_stuck()) {
            let group = &self.crowd.groups[connection.group()];
            connection.read_again(registry_of(&self.poll, &self.first, group))?;
        }
        Ok(())
    }

    /// Those who have read all there was are like all others again; says how many have not.
    pub(crate) fn recover(&mut self, published: &[u64]) -> usize {
        let mut behind = 0;
        for connection in &mut self.connections {
            if connection.is_stuck() && connection.stage() == Stage::Settled {
                match connection.verdict(&self.seats[connection.group()], published).lost {
                    0 => connection.recover(),
                    _ => behind += 1,
                }
            }
        }
        behind
    }

    /// Own ends of the connections that do not read.
    pub(crate) fn stuck(&self) -> Vec<SocketAddr> {
        let stuck = self.connections.iter().filter(|connection| connection.is_stuck());
        stuck.filter_map(|connection| connection.address().ok()).collect()
    }

    /// The oracle's word on each group, given how much each room was sent. Whoever was closed for not
    /// reading has been told so, and has lost nothing.
    pub(crate) fn verdict(&self, published: &[u64]) -> Vec<Tally> {
        self.tallies(published, |connection| !(connection.is_stuck() && connection.stage() == Stage::Gone))
    }

    /// Deliveries that are still to come to those who are there and read.
    pub(crate) fn missing(&self, published: &[u64]) -> u64 {
        let reads = |it: &Connection| it.stage() == Stage::Settled && !it.is_stuck();
        self.tallies(published, reads).iter().map(|tally| tally.lost).sum()
    }

    /// How many members each group has by now.
    pub(crate) fn members(&self, group: usize) -> u32 {
        let there = |it: &&Connection| it.group() == group && it.stage() == Stage::Settled;
        self.connections.iter().filter(there).count() as u32
    }

    fn tallies(&self, published: &[u64], matches: impl Fn(&Connection) -> bool) -> Vec<Tally> {
        let mut all = vec![Tally::default(); self.seats.len()];
        for connection in self.connections.iter().filter(|connection| matches(connection)) {
            let group = connection.group();
            all[group] += connection.verdict(&self.seats[group], published);
        }
        all
    }

    fn arrived(&self) -> usize {
        self.settled + self.faults.total() as usize
    }

    fn open(&mut self, group: usize) -> io::Result<()> {
        let index = self.connections.len();
        let seats = &self.seats[group];
        let host = self.crowd.hosts[seats.edge(index, self.crowd.hosts.len())];
        let source = match host.ip().is_loopback() {
            true => source_address(index, self.crowd.number),
            false => Ipv4Addr::UNSPECIFIED,
        };
        let place = Place {
            index,
            offset: seats.offset(index),
            group,
            host,
            source,
            receive_buffer: self.crowd.receive_buffer,
        };
        let connection = Connection::open(
            place,
            seats.joins,
            registry_of(&self.poll, &self.first, &self.crowd.groups[group]),
        )?;
        self.connections.push(connection);
        Ok(())
    }

    fn on_event(&mut self, index: usize, event: &Event) {
        let now = self.now();
        let Some(connection) = self.connections.get_mut(index) else { return };
        let before = connection.stage();
        if before == Stage::Gone {
            return;
        }
        let group = connection.group();
        let mut around = Surroundings {
            dialect: self.crowd.dialect,
            rooms: &self.rooms,
            seats: &self.seats[group],
            ledger: &mut self.ledgers[group],
            now,
        };
        let mut result = Ok(());
        if event.is_writable() {
            result = connection.on_writable(&around);
        }
        if result.is_ok() && event.is_readable() {
            result = connection.on_readable(&mut self.buffer, &mut around);
        }
        match result {
            Err(fault) => self.lose(index, fault),
            Ok(()) if before != Stage::Settled => {
                self.settled += usize::from(connection.stage() == Stage::Settled);
            }
            Ok(()) => {}
        }
    }

    fn lose(&mut self, index: usize, fault: Fault) {
        let connection = &mut self.connections[index];
        self.settled -= usize::from(connection.stage() == Stage::Settled);
        connection.give_up();
        if connection.is_stuck() {
            self.stuck_closed += 1;
        } else {
            self.faults.count(fault);
        }
    }
}

/// Where a group's sockets are watched.
fn registry_of<'a>(poll: &'a Poll, first: &'a Option<Poll>, group: &Group) -> &'a Registry {
    match first {
        Some(first) if !group.disturbs => first.registry(),
        _ => poll.registry(),
    }
}

/// A poll that wakes `outer` when it has something.
fn nested(outer: &Poll) -> io::Result<Poll> {
    let inner = Poll::new()?;
    outer.registry().register(&mut SourceFd(&inner.as_raw_fd()), FIRST, Interest::READABLE)?;
    Ok(inner)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::stamp::Stamp;
    use crate::websocket::{Opcode, write_unmasked};

    /// A server for one connection that grants the upgrade, sends these sequence numbers of a room, and
    /// stays until the other end is gone.
    fn scripted_server(stream: Vec<u64>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut socket = listener.accept().unwrap().0;
            let mut head = [0; 1024];
            let count = socket.read(&mut head).unwrap();
            assert!(head[..count].starts_with(b"GET /sub/r0-0 HTTP/1.1\r\n"));
            let mut bytes = b"HTTP/1.1 101 Switching Protocols\r\n\r\n".to_vec();
            for sequence in stream {
                let mut payload = Vec::new();
                Stamp { room: 0, sequence, intended: 0 }.write(128, &mut payload);
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

    fn crowd<'a>(dialect: Dialect, hosts: &'a [SocketAddr], groups: &'a [Group]) -> Crowd<'a> {
        Crowd { dialect, hosts, groups, at_once: 2, number: 0, receive_buffer: None }
    }

    fn verdict_of(stream: &[u64]) -> Tally {
        let hosts = [scripted_server(stream.to_vec())];
        let groups = [Group::plain(1, 1)];
        let mut engine = Engine::new(crowd(Dialect::PathOnly, &hosts, &groups)).unwrap();
        engine.connect(&mut Watch::silent()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while engine.deliveries() < stream.len() as u64 && Instant::now() < deadline {
            engine.turn(Some(Duration::from_millis(10))).unwrap();
        }
        engine.verdict(&[5])[0]
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
        let hosts = [listener.local_addr().unwrap()];
        drop(listener);
        let groups = [Group::plain(0, 3)];
        let mut engine = Engine::new(crowd(Dialect::Plain, &hosts, &groups)).unwrap();
        engine.connect(&mut Watch::silent()).unwrap();
        assert_eq!(engine.faults(), Faults { unreachable: 3, ..Faults::default() });
        assert_eq!(engine.settled(), 0);
    }
}
