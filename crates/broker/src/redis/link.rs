//! The feed's socket: connecting, greeting, staying alive, starting over. Nothing here waits; what would,
//! resolving and connecting, happens in a thread that ends with it.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fanfare_redis::Address;

use super::resp::write_command;
use crate::FeedSocket;

/// How long one address may take to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Addresses of one name that are tried.
const MAX_ADDRESSES: usize = 4;
/// How long PING may go without an answer, and without a byte of anything else.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Least and longest delay before connecting again, in milliseconds.
const RECONNECT_MS: (u64, u64) = (50, 500);
/// What is kept of the room for commands: what a burst of joins needed is given back.
const KEPT_OUT: usize = 4 << 10;

/// A function that has the feed's owner call it soon.
pub(crate) type Wake = Arc<dyn Fn() + Send + Sync>;

/// The link in whatever state it is.
pub(crate) struct Link {
    address: Address,
    state: State,
    serial: u64,
    /// Attempts since the link last was up.
    attempts: u32,
}

enum State {
    /// Connect then; at once where it says nothing.
    Waiting(Option<Instant>),
    Connecting(Arc<Slot>),
    Open(Open),
}

/// Where the connecting thread puts its result.
type Slot = Mutex<Option<io::Result<TcpStream>>>;

/// What [`Link::advance`] came to.
pub(crate) enum Advance {
    Same,
    /// Connected; the greeting is to be written.
    Opened,
    Failed(String),
}

impl Link {
    pub(crate) fn new(address: Address) -> Self {
        Self { address, state: State::Waiting(None), serial: 0, attempts: 0 }
    }

    /// Connects where it is time, and takes up the connection when it is there.
    pub(crate) fn advance(&mut self, now: Instant, wake: &Wake) -> Advance {
        match &self.state {
            State::Waiting(until) if until.is_none_or(|until| now >= until) => self.connect(wake),
            State::Connecting(slot) => {
                let Some(result) = slot.lock().unwrap_or_else(PoisonError::into_inner).take() else {
                    return Advance::Same;
                };
                match result {
                    Ok(stream) => {
                        self.serial += 1;
                        self.state = State::Open(Open::new(stream, now));
                        Advance::Opened
                    }
                    Err(error) => Advance::Failed(format!("connecting failed: {error}")),
                }
            }
            _ => Advance::Same,
        }
    }

    fn connect(&mut self, wake: &Wake) -> Advance {
        let slot = Arc::new(Slot::default());
        let (result, address, wake) = (Arc::clone(&slot), self.address.clone(), Arc::clone(wake));
        let thread = std::thread::Builder::new().name("redis-connect".to_owned()).spawn(move || {
            let stream = connect(&address);
            *result.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
            wake();
        });
        match thread {
            Ok(_) => {
                self.state = State::Connecting(slot);
                Advance::Same
            }
            Err(error) => Advance::Failed(format!("no thread to connect in: {error}")),
        }
    }

    /// The connection, where there is one.
    pub(crate) fn open(&mut self) -> Option<&mut Open> {
        match &mut self.state {
            State::Open(open) => Some(open),
            _ => None,
        }
    }

    /// Appends the first thing to be said on a connection: who we are, and PING, whose answer shows that
    /// Redis is ready to serve.
    pub(crate) fn greet(&self, name: &str, out: &mut Vec<u8>) {
        let mut words = vec!["HELLO", "3"];
        if let Some(password) = self.address.password() {
            words.extend(["AUTH", self.address.user().unwrap_or("default"), password]);
        }
        words.extend(["SETNAME", name]);
        write_command(&words, out);
        write_command(&["PING"], out);
    }

    /// Redis serves: the next failure is a first one.
    pub(crate) fn is_up(&mut self) {
        self.attempts = 0;
    }

    /// Closes what is open, and starts over after a while.
    pub(crate) fn close(&mut self, now: Instant) {
        let (least, longest) = RECONNECT_MS;
        let ceiling = longest.min(least << (self.attempts + 1).min(8));
        self.attempts = self.attempts.saturating_add(1);
        // Many nodes lose Redis in the same moment; they do not come back in the same one.
        let delay = least + random() % (ceiling - least + 1);
        self.state = State::Waiting(Some(now + Duration::from_millis(delay)));
    }

    pub(crate) fn socket(&self) -> Option<FeedSocket> {
        match &self.state {
            State::Open(open) => Some(FeedSocket { fd: open.stream.as_raw_fd(), serial: self.serial }),
            _ => None,
        }
    }

    /// When something is due here, whatever the socket says. The connecting thread wakes by itself.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Waiting(until) => *until,
            State::Connecting(_) => None,
            State::Open(open) => Some(open.deadline()),
        }
    }
}

fn connect(address: &Address) -> io::Result<TcpStream> {
    let mut failure = io::Error::other("the name has no address");
    for candidate in (address.host(), address.port()).to_socket_addrs()?.take(MAX_ADDRESSES) {
        match TcpStream::connect_timeout(&candidate, CONNECT_TIMEOUT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                return Ok(stream);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Keyed anew by the operating system's randomness with each call.
fn random() -> u64 {
    use std::hash::BuildHasher;
    std::hash::RandomState::new().hash_one(0)
}

/// A connection, with what is still to be written to it.
pub(crate) struct Open {
    stream: TcpStream,
    out: Vec<u8>,
    written: usize,
    /// The PING without an answer.
    pinged: Option<Instant>,
    heard: Instant,
    ping_at: Instant,
}

impl Open {
    /// As it is right after connecting: the greeting's PING is under way.
    fn new(stream: TcpStream, now: Instant) -> Self {
        Self { stream, out: Vec::new(), written: 0, pinged: Some(now), heard: now, ping_at: now }
    }

    /// What is to be written next, to be appended to.
    pub(crate) fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Writes what the socket takes; true where that was everything.
    pub(crate) fn write(&mut self) -> io::Result<bool> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => self.written += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.written = 0;
        if self.out.capacity() > KEPT_OUT {
            self.out = Vec::new();
        }
        Ok(true)
    }

    /// Reads into `space`; `None` where nothing is there.
    pub(crate) fn read(&mut self, space: &mut [u8], now: Instant) -> io::Result<Option<usize>> {
        loop {
            return match self.stream.read(space) {
                Ok(0) => Err(io::Error::other("Redis closed the connection")),
                Ok(len) => {
                    self.heard = now;
                    Ok(Some(len))
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
        }
    }

    /// PING was answered; the next one is sent at `ping_at`.
    pub(crate) fn ponged(&mut self, ping_at: Instant) {
        self.pinged = None;
        self.ping_at = ping_at;
    }

    /// Appends a PING where one is due.
    pub(crate) fn ping(&mut self, now: Instant) -> bool {
        let due = self.pinged.is_none() && now >= self.ping_at;
        if due {
            write_command(&["PING"], &mut self.out);
            self.pinged = Some(now);
        }
        due
    }

    /// Nothing came for so long that the link is dead, whatever TCP says.
    pub(crate) fn is_overdue(&self, now: Instant) -> bool {
        self.pinged.is_some() && now >= self.deadline()
    }

    /// When something last came.
    pub(crate) fn heard(&self) -> Instant {
        self.heard
    }

    fn deadline(&self) -> Instant {
        match self.pinged {
            // Behind a burst the answer is late, and the burst itself is a sign of life.
            Some(pinged) => pinged.max(self.heard) + ANSWER_TIMEOUT,
            None => self.ping_at,
        }
    }
}
