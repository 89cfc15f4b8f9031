//! The node's listeners, on shard 0: a place at the gate for every socket, and bounds that refuse without
//! spinning.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest as Readiness, Registry, Token};

use super::Post;
use super::shard::Shard;
use crate::http::gate::{Gate, Permit};
use crate::http::serve::Handed;

/// Tokens of the listeners count down from here.
const FIRST: usize = usize::MAX - 2;
/// Sockets accepted before connections have their turn.
const ACCEPTS: usize = 64;
/// How long no socket is accepted when the system gives no descriptor even for refusing.
const NO_FILES_PAUSE: Duration = Duration::from_millis(50);

/// Who comes through a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Public,
    Private,
}

/// One listener.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) side: Side,
    pub(crate) listener: TcpListener,
    pub(crate) gate: Arc<Gate>,
}

impl Door {
    /// What a refusal at the gate is counted as.
    fn full(&self) -> &'static str {
        match self.side {
            Side::Public => "connections",
            Side::Private => "private_connections",
        }
    }
}

/// The listeners and what is known about them.
#[derive(Debug, Default)]
pub(super) struct Doors {
    doors: Vec<Door>,
    /// One bit per door that may have more callers.
    ready: u8,
    /// Given up for a moment when the system is out of descriptors, so that a caller can be refused.
    spare: Option<File>,
    /// Nobody is accepted until then.
    pause: Option<Instant>,
}

impl Doors {
    /// Watches the listeners.
    pub(super) fn open(mut doors: Vec<Door>, registry: &Registry) -> io::Result<Self> {
        for (at, door) in doors.iter_mut().enumerate() {
            registry.register(&mut door.listener, Token(FIRST - at), Readiness::READABLE)?;
        }
        Ok(Self { doors, ready: 0, spare: spare(), pause: None })
    }

    /// Notes a token of the poll; `false` where it is no door's.
    pub(super) fn note(&mut self, token: usize) -> bool {
        match FIRST.checked_sub(token) {
            Some(at) if at < self.doors.len() => {
                self.ready |= 1 << at;
                true
            }
            _ => false,
        }
    }

    /// When callers can be accepted that wait now; `None` where nobody is known to wait.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        (self.ready != 0).then(|| self.pause.unwrap_or(now))
    }
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

fn out_of_files(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

impl Shard {
    /// Accepts callers, as many as one turn allows.
    pub(super) fn accept(&mut self) {
        if self.doors.ready == 0 || self.doors.pause.is_some_and(|until| until > self.now) {
            return;
        }
        self.doors.pause = None;
        for at in 0..self.doors.doors.len() {
            for _ in 0..ACCEPTS {
                if self.doors.ready & (1 << at) == 0 {
                    break;
                }
                match self.doors.doors[at].listener.accept() {
                    Ok((socket, _)) => self.let_in(at, socket),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.doors.ready &= !(1 << at),
                    Err(error) if out_of_files(&error) => {
                        self.refuse_without_files(at);
                        if self.doors.pause.is_some() {
                            return;
                        }
                    }
                    // The caller went away between its SYN and now: nothing to do for it.
                    Err(_) => {}
                }
            }
        }
    }

    fn let_in(&mut self, at: usize, socket: TcpStream) {
        let door = &self.doors.doors[at];
        let Some(permit) = door.gate.enter() else {
            let rare = &self.context.metrics.rare;
            rare.rejected.with_label_values(&[door.full()]).inc();
            rare.limit_reached.with_label_values(&[door.full()]).inc();
            return self.hand(Handed::Refused(socket));
        };
        match door.side {
            Side::Private => self.hand(Handed::Private(socket, permit)),
            Side::Public => self.place(socket, permit),
        }
    }

    fn place(&mut self, socket: TcpStream, permit: Permit) {
        let chosen = self.context.place();
        if chosen == self.index {
            return self.call(socket, permit);
        }
        self.context.inboxes[chosen].push(Post::Call(socket, permit));
    }

    /// Gives a socket to the HTTP runtime.
    pub(super) fn hand(&self, handed: Handed) {
        if self.context.http.send(handed).is_err() {
            tracing::debug!("the HTTP runtime is gone, and with it the process soon");
        }
    }

    /// Takes one caller by the spare descriptor and closes it, so that it knows.
    fn refuse_without_files(&mut self, at: usize) {
        drop(self.doors.spare.take());
        match self.doors.doors[at].listener.accept() {
            Ok((socket, _)) => {
                drop(socket);
                self.context.metrics.rare.rejected.with_label_values(&["files"]).inc();
            }
            // Without a descriptor accept(2) fails before it looks whether anybody waits.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.doors.ready &= !(1 << at),
            // Others took the descriptor, or the caller is gone: looked at again after the pause.
            Err(error) => tracing::trace!(%error, "nobody to refuse"),
        }
        self.doors.spare = spare();
        if self.doors.spare.is_none() {
            self.doors.pause = Some(self.now + NO_FILES_PAUSE);
        }
    }
}
