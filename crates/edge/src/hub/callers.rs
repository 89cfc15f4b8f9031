//! Sockets before their handshake. A shard reads what they ask; handshakes that may go on it answers itself,
//! with the first frame in the same write. Everything else is for the HTTP runtime, which finds it unread.

use std::collections::VecDeque;
use std::io::{self, Read as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use mio::net::TcpStream;
use mio::{Interest as Readiness, Token};
use slab::Slab;
use smallvec::SmallVec;

use super::Context;
use super::shard::Shard;
use crate::app::handshake::Handshake;
use crate::connection::Newcomer;
use crate::http::gate::Permit;
use crate::http::handshake::{Asked, MAX_HEADERS, Terms, judge};
use crate::http::serve::{Handed, MAX_HEAD};

/// Set in the tokens of callers; slots of connections stay below.
const CALLER: usize = 1 << 40;

/// Sockets that have not asked anything yet.
#[derive(Debug, Default)]
pub(super) struct Callers {
    waiting: Slab<Caller>,
    /// Deadlines in the order in which they end; a caller that is gone leaves its entry behind.
    due: VecDeque<(Instant, usize, u64)>,
    calls: u64,
}

#[derive(Debug)]
struct Caller {
    socket: TcpStream,
    permit: Permit,
    call: u64,
}

/// A connection whose handshake may go on.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) socket: TcpStream,
    /// The poll has it already.
    pub(super) watched: bool,
    pub(super) newcomer: Newcomer,
    /// The head of the answer; empty where it was written.
    pub(super) answer: Vec<u8>,
}

/// What a caller is.
enum Heard {
    Nothing,
    Gone,
    /// A handshake to go on with, the bytes of its request, and what is kept of it.
    Handshake(Terms, usize, Option<Arc<Handshake>>),
    Other,
}

impl Callers {
    /// When the next one has been silent for too long, at the earliest.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.front().map(|due| due.0)
    }
}

/// The caller that a token of the poll means.
pub(super) fn caller_of(token: usize) -> Option<usize> {
    (token & CALLER != 0).then_some(token & !CALLER)
}

impl Shard {
    /// Hears a socket that was just accepted: most have asked by now.
    pub(super) fn call(&mut self, mut socket: TcpStream, permit: Permit) {
        let heard = hear(&self.context, &socket, &mut self.read_buffer);
        let Heard::Nothing = heard else { return self.receive_caller(heard, socket, false, permit) };
        let entry = self.callers.waiting.vacant_entry();
        let (key, registry) = (entry.key(), self.poll.registry());
        if let Err(error) = registry.register(&mut socket, Token(CALLER | key), Readiness::READABLE) {
            tracing::warn!(%error, "a socket could not be watched");
            return self.forget_caller();
        }
        self.callers.calls += 1;
        let call = self.callers.calls;
        entry.insert(Caller { socket, permit, call });
        let by = self.now + self.context.config.timing.header_timeout;
        self.callers.due.push_back((by, key, call));
    }

    pub(super) fn caller_event(&mut self, key: usize) {
        let Some(caller) = self.callers.waiting.get(key) else { return };
        let heard = hear(&self.context, &caller.socket, &mut self.read_buffer);
        if let Heard::Nothing = heard {
            return;
        }
        let Caller { socket, permit, .. } = self.callers.waiting.remove(key);
        self.receive_caller(heard, socket, true, permit);
    }

    /// Lets callers go that have said nothing for as long as a request's head may take.
    pub(super) fn expire_callers(&mut self, now: Instant) {
        while let Some((by, key, call)) = self.callers.due.front().copied() {
            let waits = self.callers.waiting.get(key).is_some_and(|caller| caller.call == call);
            if waits && by > now {
                return;
            }
            self.callers.due.pop_front();
            if waits {
                // Closing the descriptor takes it out of the poll.
                drop(self.callers.waiting.remove(key));
                self.forget_caller();
            }
        }
        if self.callers.waiting.is_empty() {
            self.callers.waiting.shrink_to_fit();
            self.callers.due = VecDeque::new();
        }
    }

    fn receive_caller(&mut self, heard: Heard, mut socket: TcpStream, watched: bool, permit: Permit) {
        match heard {
            Heard::Nothing | Heard::Gone => self.forget_caller(),
            Heard::Handshake(terms, length, handshake) => {
                // The head was there a moment ago; frames behind it stay for the first read.
                if socket.read_exact(&mut self.read_buffer[..length]).is_err() {
                    return self.forget_caller();
                }
                let mut answer = Vec::with_capacity(512);
                terms.write_head(&mut answer);
                self.context.state.open.fetch_add(1, Ordering::Relaxed);
                let Terms { machine, text_only, .. } = terms;
                let newcomer = Newcomer { machine, handshake, text_only, permit };
                self.open(Arrival { socket, watched, newcomer, answer }, &[]);
            }
            Heard::Other => {
                self.forget_caller();
                if watched && let Err(error) = self.poll.registry().deregister(&mut socket) {
                    tracing::trace!(%error, "a socket was not watched any more");
                }
                self.hand(Handed::Public(socket, permit));
            }
        }
    }

    /// One socket less on this shard that is no connection.
    fn forget_caller(&self) {
        self.inbox.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Looks at what a socket asks and leaves it there.
fn hear(context: &Context, socket: &TcpStream, buffer: &mut [u8]) -> Heard {
    let head = &mut buffer[..MAX_HEAD];
    let count = match socket.peek(head) {
        Ok(0) => return Heard::Gone,
        Ok(count) => count,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Heard::Nothing,
        Err(_) => return Heard::Gone,
    };
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let Ok(httparse::Status::Complete(length)) = request.parse(&head[..count]) else {
        return Heard::Other;
    };
    let (Some(method), Some(target), Some(1)) = (request.method, request.path, request.version) else {
        return Heard::Other;
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers: SmallVec<_> = request.headers.iter().map(|header| (header.name, header.value)).collect();
    let asked = Asked { method, path, query, headers };
    match judge(context, &asked) {
        Ok(terms) => {
            let app = context.config.app.as_ref();
            // Asking for the peer is a system call.
            let peer = app.and_then(|_| socket.peer_addr().ok());
            Heard::Handshake(terms, length, Handshake::of(app, &asked, peer, SystemTime::now()))
        }
        Err(_) => Heard::Other,
    }
}
