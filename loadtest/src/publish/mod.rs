//! Publishers: pipelined over one connection, answers counted. Each format is a file.

mod http;
mod order;
mod resp;
mod socketioxide;

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use anyhow::{Context, bail};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

pub(crate) use order::Orders;

/// What may wait for a server that does not read its publications, in bytes.
const MAX_UNSENT: usize = 64 << 20;
/// Answers are short; more than this without an end is no answer.
const MAX_ANSWER: usize = 1 << 20;

/// How a server under test is published to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Redis PUBLISH of the Socket.IO emitter's envelope.
    Emitter,
    /// Redis PUBLISH of what socketioxide's emitter sends.
    SocketioxideEmitter,
    /// HTTP POST to `/pub/{room}`.
    Http,
    /// The floor's own.
    Order,
}

impl Format {
    /// As the command line names them.
    pub(crate) const NAMED: &[(&str, Self)] = &[
        ("redis", Self::Emitter),
        ("redis-socketioxide", Self::SocketioxideEmitter),
        ("http", Self::Http),
        ("order", Self::Order),
    ];
}

/// What the answers said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Answers {
    /// Taken by the server.
    pub(crate) accepted: u64,
    /// Errors.
    pub(crate) refused: u64,
}

/// A connection that publications leave on.
#[derive(Debug)]
pub(crate) struct Publisher {
    format: Format,
    host: SocketAddr,
    stream: TcpStream,
    unsent: Vec<u8>,
    tail: Vec<u8>,
    answers: Answers,
}

impl Publisher {
    /// Connects and registers; waits for the connection, since nothing else goes on yet.
    pub(crate) fn connect(
        format: Format,
        host: SocketAddr,
        registry: &Registry,
        token: Token,
    ) -> anyhow::Result<Self> {
        let stream = std::net::TcpStream::connect(host).context("connecting the publisher")?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let answers = Answers::default();
        Ok(Self { format, host, stream, unsent: Vec::new(), tail: Vec::new(), answers })
    }

    /// Queues one publication; [`Publisher::flush`] sends what is queued in one write.
    pub(crate) fn queue(&mut self, room: &str, payload: &[u8]) -> anyhow::Result<()> {
        match self.format {
            Format::Emitter => resp::write_publish(room, payload, &mut self.unsent),
            Format::SocketioxideEmitter => socketioxide::write_publish(room, payload, &mut self.unsent),
            Format::Http => http::write_post(self.host, room, payload, &mut self.unsent),
            Format::Order => order::write(room, payload, &mut self.unsent),
        }
        if self.unsent.len() > MAX_UNSENT {
            bail!("{} MiB of publications wait: the server does not read them", MAX_UNSENT >> 20);
        }
        Ok(())
    }

    pub(crate) fn flush(&mut self) -> anyhow::Result<()> {
        let mut sent = 0;
        while sent < self.unsent.len() {
            match self.stream.write(&self.unsent[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("writing publications"),
            }
        }
        self.unsent.drain(..sent);
        Ok(())
    }

    /// Reads and counts what the server answered.
    pub(crate) fn read_answers(&mut self) -> anyhow::Result<()> {
        let mut buffer = [0; 64 << 10];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => bail!("the server closed the publisher's connection"),
                Ok(count) => self.tail.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("reading answers to publications"),
            }
        }
        let used = match self.format {
            Format::Emitter | Format::SocketioxideEmitter => {
                resp::count_answers(&self.tail, &mut self.answers)
            }
            Format::Http => http::count_answers(&self.tail, &mut self.answers),
            Format::Order => self.tail.len(),
        };
        self.tail.drain(..used);
        if self.tail.len() > MAX_ANSWER {
            bail!("an answer to a publication does not end");
        }
        Ok(())
    }

    /// Whether the server answers publications at all.
    pub(crate) fn is_answered(&self) -> bool {
        self.format != Format::Order
    }

    pub(crate) fn answers(&self) -> Answers {
        self.answers
    }
}
