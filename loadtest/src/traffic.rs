//! Publishing into a crowd: on schedule (open loop) or as fast as publications land (closed loop).

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::engine::{Engine, PUBLISHER, TIMER};
use crate::ledger::Flight;
use crate::publish::{Answers, Format, Publisher};
use crate::scenario::Load;
use crate::stamp::Stamp;

/// A crowd that gets nothing for this long has lost something.
const QUIET: Duration = Duration::from_secs(3);

/// Publications of one round.
#[derive(Debug)]
pub(crate) struct Traffic {
    publisher: Publisher,
    pace: Pace,
    /// Per room: how many were published, which is the next sequence number.
    published: Vec<u64>,
    payload_size: usize,
    scratch: Vec<u8>,
}

#[derive(Debug)]
enum Pace {
    /// Publication `sent` is due at `start + sent × every`, in nanoseconds.
    Open {
        every: u64,
        start: u64,
        sent: u64,
        timer: Timer,
    },
    Closed {
        in_flight: usize,
    },
    /// Nothing by itself.
    ByHand,
}

impl Traffic {
    /// Connects a publisher. Open loops start at once.
    pub(crate) fn start(
        engine: &mut Engine,
        format: Format,
        host: std::net::SocketAddr,
        load: Load,
        payload_size: usize,
    ) -> anyhow::Result<Self> {
        let publisher = Publisher::connect(format, host, engine.registry(), PUBLISHER)?;
        let pace = match load {
            Load::Paced { per_second } => {
                let every = 1_000_000_000 / u64::from(per_second);
                let timer = Timer::every(Duration::from_nanos(every)).context("a timer for the pace")?;
                engine.watch(timer.0.as_raw_fd(), TIMER)?;
                Pace::Open { every, start: engine.ledger.tick(), sent: 0, timer }
            }
            Load::Closed { in_flight } => {
                engine.ledger.flight = Some(Flight::new(engine.settled() as u32));
                Pace::Closed { in_flight }
            }
            Load::Idle | Load::Storm => Pace::ByHand,
        };
        let published = vec![0; engine.rooms().len()];
        Ok(Self { publisher, pace, published, payload_size, scratch: Vec::new() })
    }

    /// Publishes and receives for `length`. A closed loop that stands still for [`QUIET`] ends early: the
    /// oracle then says what is missing.
    pub(crate) fn drive(&mut self, engine: &mut Engine, length: Duration) -> anyhow::Result<()> {
        let end = engine.ledger.tick() + length.as_nanos() as u64;
        let mut moved = (engine.ledger.deliveries(), Instant::now());
        loop {
            let now = engine.ledger.tick();
            if now >= end {
                return Ok(());
            }
            self.publish_due(engine, now)?;
            let left = Duration::from_nanos(end - now).min(Duration::from_millis(50));
            self.turn(engine, left)?;
            if engine.ledger.deliveries() != moved.0 {
                moved = (engine.ledger.deliveries(), Instant::now());
            } else if moved.1.elapsed() > QUIET {
                return Ok(());
            }
        }
    }

    /// One publication to each room, now.
    pub(crate) fn publish_everywhere(&mut self, engine: &mut Engine) -> anyhow::Result<()> {
        let now = engine.ledger.tick();
        for room in 0..self.published.len() {
            self.publish(engine, room, now)?;
        }
        self.publisher.flush()
    }

    /// Receives until every member of every room has everything, or nothing has come for [`QUIET`].
    pub(crate) fn drain(&mut self, engine: &mut Engine) -> anyhow::Result<()> {
        let members = engine.members();
        let expected: u64 = members.iter().zip(&self.published).map(|(members, sent)| members * sent).sum();
        let total: u64 = self.published.iter().sum();
        let mut moved = (engine.ledger.deliveries(), Instant::now());
        loop {
            let answers = self.publisher.answers();
            let answered = !self.publisher.is_answered() || answers.accepted + answers.refused >= total;
            if engine.ledger.firsts() >= expected && answered {
                return Ok(());
            }
            self.turn(engine, Duration::from_millis(20))?;
            if engine.ledger.deliveries() != moved.0 {
                moved = (engine.ledger.deliveries(), Instant::now());
            } else if moved.1.elapsed() > QUIET {
                return Ok(());
            }
        }
    }

    /// Publications so far, per room.
    pub(crate) fn published(&self) -> &[u64] {
        &self.published
    }

    pub(crate) fn answers(&self) -> Answers {
        self.publisher.answers()
    }

    fn publish_due(&mut self, engine: &mut Engine, now: u64) -> anyhow::Result<()> {
        match self.pace {
            Pace::Open { every, start, ref mut sent, .. } => {
                let first = *sent;
                let due = (now.saturating_sub(start) / every + 1).max(first);
                *sent = due;
                for number in first..due {
                    let room = (number % self.published.len() as u64) as usize;
                    self.publish(engine, room, start + number * every)?;
                }
            }
            Pace::Closed { in_flight } => {
                while engine.ledger.flight.as_ref().is_some_and(|flight| flight.in_flight() < in_flight) {
                    self.publish(engine, 0, now)?;
                }
            }
            Pace::ByHand => {}
        }
        self.publisher.flush()
    }

    fn publish(&mut self, engine: &mut Engine, room: usize, intended: u64) -> anyhow::Result<()> {
        let mut payload = mem::take(&mut self.scratch);
        payload.clear();
        Stamp { sequence: self.published[room], intended }.write(self.payload_size, &mut payload);
        self.published[room] += 1;
        if let Some(flight) = &mut engine.ledger.flight {
            flight.start();
        }
        self.publisher.queue(&engine.rooms()[room], &payload)?;
        self.scratch = payload;
        Ok(())
    }

    fn turn(&mut self, engine: &mut Engine, timeout: Duration) -> anyhow::Result<()> {
        let ready = engine.turn(Some(timeout))?;
        if let (true, Pace::Open { timer, .. }) = (ready.timer, &self.pace) {
            timer.rearm();
        }
        if ready.publisher {
            self.publisher.read_answers()?;
            self.publisher.flush()?;
        }
        Ok(())
    }
}

/// Wakes an epoll loop at fixed times; epoll's own timeouts are whole milliseconds.
#[derive(Debug)]
struct Timer(OwnedFd);

impl Timer {
    fn every(interval: Duration) -> io::Result<Self> {
        // SAFETY: no pointers; a result ≥ 0 is a new descriptor that nobody else owns.
        let timer = unsafe {
            match libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) {
                ..0 => return Err(io::Error::last_os_error()),
                descriptor => OwnedFd::from_raw_fd(descriptor),
            }
        };
        let interval = libc::timespec {
            tv_sec: interval.as_secs() as libc::time_t,
            tv_nsec: libc::c_long::from(interval.subsec_nanos()),
        };
        let setting = libc::itimerspec { it_interval: interval, it_value: interval };
        // SAFETY: the descriptor is open, the setting is read during the call, the old one is not asked for.
        let result =
            unsafe { libc::timerfd_settime(timer.as_raw_fd(), 0, &raw const setting, std::ptr::null_mut()) };
        if result == 0 { Ok(Self(timer)) } else { Err(io::Error::last_os_error()) }
    }

    /// A periodic timer counts on only after its expirations were read (timerfd_create(2)).
    fn rearm(&self) {
        let mut expirations = 0_u64;
        // SAFETY: the descriptor is open and eight bytes are written at most. Nothing to read is no fault.
        unsafe { libc::read(self.0.as_raw_fd(), (&raw mut expirations).cast(), size_of::<u64>()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Dialect;
    use crate::engine::Crowd;
    use crate::peers::free_addresses;
    use crate::process::wait_until;

    /// A crowd of 20 at a floor of this process, given that load for a fifth of a second.
    fn at_the_floor(load: Load, rooms: &[&str]) -> (Engine, Traffic) {
        let [members, orders] = free_addresses().unwrap();
        std::thread::spawn(move || crate::floor::serve(members, orders));
        wait_until(Duration::from_secs(10), || std::net::TcpStream::connect(orders).is_ok()).unwrap();
        let rooms = rooms.iter().map(|room| (*room).to_owned()).collect();
        let mut engine = Engine::new(Dialect::PathOnly, members, rooms).unwrap();
        engine.connect(Crowd { connections: 20, at_once: 7, round: 0 }).unwrap();
        assert_eq!((engine.settled(), engine.faults().total()), (20, 0));
        let mut traffic = Traffic::start(&mut engine, Format::Order, orders, load, 128).unwrap();
        engine.ledger.open_window(Duration::from_secs(1));
        traffic.drive(&mut engine, Duration::from_millis(200)).unwrap();
        traffic.drain(&mut engine).unwrap();
        (engine, traffic)
    }

    #[test]
    fn paced_publications_reach_everybody_in_every_room_once() {
        let (engine, traffic) = at_the_floor(Load::Paced { per_second: 1_000 }, &["a", "b", "c", "d"]);
        let total: u64 = traffic.published().iter().sum();
        assert!((150..=210).contains(&total), "{total} publications in 200 ms at 1,000/s");
        assert_eq!(engine.ledger.firsts(), total * 5, "5 members in each room");
        assert!(engine.verdict(traffic.published()).is_clean());
        let timed = engine.ledger.into_latency().len();
        assert!(timed > 0 && timed <= total * 5, "{timed} of {total} × 5 were in the window");
    }

    #[test]
    fn a_closed_loop_goes_on_as_publications_land() {
        let (engine, traffic) = at_the_floor(Load::Closed { in_flight: 8 }, &["a"]);
        let published = traffic.published()[0];
        assert!(published > 8, "{published}");
        assert_eq!(engine.ledger.firsts(), published * 20);
        assert!(engine.verdict(traffic.published()).is_clean());
    }
}
