//! Publishing into a crowd: on schedule (open loop) or as fast as publications land (closed loop).

use std::mem;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::engine::{Engine, PUBLISHER, TIMER};
use crate::ledger::Flight;
use crate::publish::{Answers, Format, Publisher};
use crate::scenario::{Load, Source};
use crate::stamp::Stamp;
use crate::timer::Timer;
use crate::watch::Watch;

/// A crowd that gets nothing for this long has lost something.
const QUIET: Duration = Duration::from_secs(3);
/// Between two looks at what is missing.
const LOOK: Duration = Duration::from_millis(20);

/// Publications of one round.
#[derive(Debug)]
pub(crate) struct Traffic {
    publisher: Publisher,
    timer: Timer,
    streams: Vec<Stream>,
    /// Per room: how many were published, which is the next sequence number.
    published: Vec<u64>,
    /// How many went by `publisher`.
    by_publisher: u64,
    scratch: Vec<u8>,
}

/// Publications of one group.
#[derive(Debug)]
struct Stream {
    group: usize,
    pace: Pace,
    source: Source,
    payload: usize,
    /// Nothing leaves while it is held.
    held: bool,
}

#[derive(Debug, Clone, Copy)]
enum Pace {
    /// Burst `sent` is due at `start + sent × every`, in nanoseconds.
    Open {
        every: u64,
        burst: u32,
        start: u64,
        sent: u64,
    },
    Closed {
        in_flight: usize,
    },
    /// Nothing by itself.
    ByHand,
}

impl Traffic {
    /// Connects a publisher. Open loops start at once; groups that disturb are held. `payload` is the size
    /// where a group does not say.
    pub(crate) fn start(
        engine: &mut Engine<'_>,
        format: Format,
        host: std::net::SocketAddr,
        payload: usize,
    ) -> anyhow::Result<Self> {
        let publisher = Publisher::connect(format, host, engine.registry(), PUBLISHER)?;
        let timer = Timer::new().context("a timer for the pace")?;
        engine.watch(timer.descriptor(), TIMER)?;
        let mut streams = Vec::new();
        for (group, asked) in engine.crowd().groups.iter().enumerate() {
            let pace = match asked.load {
                Load::Paced { per_second, burst } => Pace::Open {
                    every: 1_000_000_000 / u64::from(per_second),
                    burst,
                    start: engine.now(),
                    sent: 0,
                },
                Load::Closed { in_flight } => {
                    engine.ledgers[group].flight = Some(Flight::new(engine.members(group)));
                    Pace::Closed { in_flight }
                }
                Load::Share { .. } | Load::None => Pace::ByHand,
            };
            let payload = asked.payload.unwrap_or(payload);
            streams.push(Stream { group, pace, source: asked.from, payload, held: asked.disturbs });
        }
        let published = vec![0; engine.rooms().len()];
        Ok(Self { publisher, timer, streams, published, by_publisher: 0, scratch: Vec::new() })
    }

    /// What was held may leave.
    pub(crate) fn release(&mut self, engine: &Engine<'_>) {
        let now = engine.now();
        for stream in self.streams.iter_mut().filter(|stream| stream.held) {
            stream.held = false;
            if let Pace::Open { start, .. } = &mut stream.pace {
                *start = now;
            }
        }
    }

    /// Publishes and receives for `length`. Where nothing comes for [`QUIET`] it ends early: the oracle then
    /// says what is missing.
    pub(crate) fn drive(
        &mut self,
        engine: &mut Engine<'_>,
        watch: &mut Watch<'_>,
        length: Duration,
    ) -> anyhow::Result<()> {
        let end = engine.now() + length.as_nanos() as u64;
        let mut moved = (engine.deliveries(), Instant::now());
        loop {
            let now = engine.now();
            if now >= end {
                return Ok(());
            }
            let next = self.publish_due(engine, now)?;
            self.timer.set(next.unwrap_or(end).min(end), now)?;
            self.turn(engine, watch, Duration::from_nanos(end - now).min(Duration::from_millis(50)))?;
            if engine.deliveries() != moved.0 {
                moved = (engine.deliveries(), Instant::now());
            } else if moved.1.elapsed() > QUIET {
                return Ok(());
            }
        }
    }

    /// One publication to each room, now.
    pub(crate) fn publish_everywhere(&mut self, engine: &mut Engine<'_>) -> anyhow::Result<()> {
        let rooms: Vec<usize> = (0..self.published.len()).collect();
        self.publish_to(engine, &rooms)
    }

    /// One publication to each of these rooms, now.
    pub(crate) fn publish_to(&mut self, engine: &mut Engine<'_>, rooms: &[usize]) -> anyhow::Result<()> {
        let now = engine.now();
        for room in rooms {
            let holds = |stream: &Stream| engine.seats()[stream.group].rooms.contains(room);
            let stream = self.streams.iter().position(holds).context("each room is a group's")?;
            self.publish(engine, stream, *room, now)?;
        }
        self.publisher.flush()
    }

    /// Receives until everybody who reads has everything, or nothing has come for [`QUIET`].
    pub(crate) fn drain(&mut self, engine: &mut Engine<'_>, watch: &mut Watch<'_>) -> anyhow::Result<()> {
        let mut moved = (engine.deliveries(), Instant::now());
        loop {
            let answers = self.publisher.answers();
            let answered = answers.accepted + answers.refused >= self.by_publisher;
            let before = engine.deliveries();
            self.receive(engine, watch)?;
            let still = engine.deliveries() == before;
            if still && (answered || !self.publisher.is_answered()) && engine.missing(&self.published) == 0 {
                return Ok(());
            }
            if engine.deliveries() != moved.0 {
                moved = (engine.deliveries(), Instant::now());
            } else if moved.1.elapsed() > QUIET {
                return Ok(());
            }
        }
    }

    /// Everybody reads again, until each has everything or was closed, or nothing has come for [`QUIET`].
    pub(crate) fn catch_up(&mut self, engine: &mut Engine<'_>, watch: &mut Watch<'_>) -> anyhow::Result<()> {
        engine.read_again()?;
        let mut moved = (engine.deliveries(), Instant::now());
        while engine.recover(&self.published) > 0 && moved.1.elapsed() < QUIET {
            self.receive(engine, watch)?;
            if engine.deliveries() != moved.0 {
                moved = (engine.deliveries(), Instant::now());
            }
        }
        self.drain(engine, watch)
    }

    /// Publications so far, per room.
    pub(crate) fn published(&self) -> &[u64] {
        &self.published
    }

    pub(crate) fn answers(&self) -> Answers {
        self.publisher.answers()
    }

    /// Publishes what is due and says when the next is.
    fn publish_due(&mut self, engine: &mut Engine<'_>, now: u64) -> anyhow::Result<Option<u64>> {
        let mut next = None;
        for index in 0..self.streams.len() {
            let stream = &mut self.streams[index];
            let rooms = engine.seats()[stream.group].rooms.clone();
            if stream.held {
                continue;
            }
            match &mut stream.pace {
                Pace::Open { every, burst, start, sent } => {
                    let (every, burst, start, first) = (*every, u64::from(*burst), *start, *sent);
                    let due = (now.saturating_sub(start) / every + 1).max(first);
                    *sent = due;
                    for number in first * burst..due * burst {
                        let room = rooms.start + (number / burst % rooms.len() as u64) as usize;
                        self.publish(engine, index, room, start + number / burst * every)?;
                    }
                    let then = start + due * every;
                    next = Some(next.map_or(then, |next: u64| next.min(then)));
                }
                Pace::Closed { in_flight } => {
                    let (in_flight, group) = (*in_flight, stream.group);
                    while engine.ledgers[group].flight.as_ref().is_some_and(|it| it.in_flight() < in_flight) {
                        self.publish(engine, index, rooms.start, now)?;
                    }
                }
                Pace::ByHand => {}
            }
        }
        self.publisher.flush()?;
        Ok(next)
    }

    fn publish(
        &mut self,
        engine: &mut Engine<'_>,
        stream: usize,
        room: usize,
        intended: u64,
    ) -> anyhow::Result<()> {
        let Stream { group, source, payload: size, .. } = self.streams[stream];
        let mut payload = mem::take(&mut self.scratch);
        payload.clear();
        Stamp { room: room as u32, sequence: self.published[room], intended }.write(size, &mut payload);
        self.published[room] += 1;
        if let Some(flight) = &mut engine.ledgers[group].flight {
            flight.start();
        }
        match source {
            Source::Publisher => {
                self.by_publisher += 1;
                self.publisher.queue(&engine.rooms()[room], &payload)?;
            }
            Source::Members => {
                let text = std::str::from_utf8(&payload).expect("a stamp is ASCII");
                engine.publish_as_member(group, room, text);
            }
        }
        self.scratch = payload;
        Ok(())
    }

    /// Receives for a little while, so that looking at everybody in between costs little beside it.
    fn receive(&mut self, engine: &mut Engine<'_>, watch: &mut Watch<'_>) -> anyhow::Result<()> {
        let end = Instant::now() + LOOK;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.turn(engine, watch, left)?;
        }
    }

    fn turn(
        &mut self,
        engine: &mut Engine<'_>,
        watch: &mut Watch<'_>,
        timeout: Duration,
    ) -> anyhow::Result<()> {
        let ready = engine.turn(Some(timeout))?;
        if ready.publisher {
            self.publisher.read_answers()?;
            self.publisher.flush()?;
        }
        watch.look(engine);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::dialect::Dialect;
    use crate::engine::Crowd;
    use crate::peers::free_addresses;
    use crate::process::wait_until;
    use crate::scenario::Group;

    /// A floor of this process: where members connect, and where orders go.
    fn floor() -> [SocketAddr; 2] {
        let [members, orders] = free_addresses().unwrap();
        std::thread::spawn(move || crate::floor::serve(members, orders));
        wait_until(Duration::from_secs(10), || std::net::TcpStream::connect(orders).is_ok()).unwrap();
        [members, orders]
    }

    /// These groups, all there.
    fn gathered<'a>(hosts: &'a [SocketAddr], groups: &'a [Group]) -> Engine<'a> {
        let dialect = Dialect::PathOnly;
        let crowd = Crowd { dialect, hosts, groups, at_once: 7, number: 0, receive_buffer: None };
        let mut engine = Engine::new(crowd).unwrap();
        engine.connect(&mut Watch::silent()).unwrap();
        assert_eq!(engine.faults().total(), 0);
        engine
    }

    /// What groups at a floor got within a fifth of a second: of each, how many were published, how many were
    /// delivered, and how many of these have a latency.
    fn at_the_floor(groups: &[Group]) -> Vec<(u64, u64, u64)> {
        let [members, orders] = floor();
        let hosts = [members];
        let mut engine = gathered(&hosts, groups);
        let mut watch = Watch::silent();
        let mut traffic = Traffic::start(&mut engine, Format::Order, orders, 128).unwrap();
        engine.open_window(&(0..u64::MAX));
        traffic.drive(&mut engine, &mut watch, Duration::from_millis(200)).unwrap();
        traffic.drain(&mut engine, &mut watch).unwrap();
        assert!(engine.verdict(traffic.published()).iter().all(|tally| tally.is_clean()));
        let seats = engine.seats().to_vec();
        seats
            .into_iter()
            .zip(&mut engine.ledgers)
            .map(|(seats, ledger)| {
                let published = traffic.published()[seats.rooms].iter().sum();
                (published, ledger.deliveries(), ledger.close_window().len())
            })
            .collect()
    }

    /// Two of four stop reading, this many publications of 32 KiB come, and they read again.
    fn with_stuck_members(publications: usize) -> (u64, u64) {
        let [members, orders] = floor();
        let hosts = [members];
        let groups = [Group { stalled: 0.5, payload: Some(32_000), ..Group::plain(1, 4) }];
        let mut engine = gathered(&hosts, &groups);
        let mut watch = Watch::silent();
        let mut traffic = Traffic::start(&mut engine, Format::Order, orders, 128).unwrap();
        assert_eq!(engine.stop_reading(|seats, connection| seats.stalls(connection)).unwrap(), 2);
        for round in 1..=publications as u64 {
            traffic.publish_everywhere(&mut engine).unwrap();
            // One by one: the floor shuts whoever does not take what is sent to it.
            while engine.missing(traffic.published()) > 0 && engine.faults().total() == 0 {
                engine.listen(Duration::from_millis(1), &mut watch).unwrap();
            }
            assert_eq!(engine.deliveries(), round * 2, "those who read have it, the others do not");
        }
        traffic.catch_up(&mut engine, &mut watch).unwrap();
        assert!(engine.verdict(traffic.published())[0].is_clean());
        assert_eq!(engine.faults().total(), 0);
        (engine.stuck_closed(), engine.deliveries())
    }

    #[test]
    fn stuck_members_that_were_kept_get_everything_once_they_read() {
        assert_eq!(with_stuck_members(1), (0, 4));
    }

    #[test]
    fn stuck_members_that_were_closed_are_counted_and_are_no_loss() {
        let (closed, delivered) = with_stuck_members(400);
        assert_eq!(closed, 2);
        assert!(delivered < 4 * 400, "12 MiB do not fit into a socket");
    }

    fn paced(rooms: usize, members: usize, per_second: u32, burst: u32) -> Group {
        Group { load: Load::Paced { per_second, burst }, ..Group::plain(rooms, members) }
    }

    #[test]
    fn paced_publications_reach_everybody_in_every_room_once() {
        let [(published, delivered, timed)] = at_the_floor(&[paced(4, 5, 1_000, 1)])[..] else { panic!() };
        assert!((150..=210).contains(&published), "{published} publications in 200 ms at 1,000/s");
        assert_eq!((delivered, timed), (published * 5, published * 5), "5 members in each room");
    }

    #[test]
    fn bursts_go_to_one_room_each() {
        let [(published, delivered, _)] = at_the_floor(&[paced(2, 3, 100, 8)])[..] else { panic!() };
        assert!((120..=168).contains(&published), "{published} publications in 200 ms at 8 × 100/s");
        assert_eq!((published % 8, delivered), (0, published * 3));
    }

    #[test]
    fn groups_have_loops_and_books_of_their_own() {
        let closed = Group { load: Load::Closed { in_flight: 8 }, ..Group::plain(1, 20) };
        let held = Group { disturbs: true, ..paced(1, 2, 1_000, 1) };
        let [flat_out, slow, held] = at_the_floor(&[closed, paced(3, 2, 50, 1), held])[..] else { panic!() };
        assert!(flat_out.0 > 8 && flat_out.1 == flat_out.0 * 20, "{flat_out:?}");
        assert!((8..=11).contains(&slow.0) && slow.1 == slow.0 * 2 && slow.2 == slow.1, "{slow:?}");
        assert_eq!(held, (0, 0, 0));
    }
}
