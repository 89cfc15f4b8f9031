//! Questions to Redis, in its inline form.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection to ask on.
#[derive(Debug)]
pub(crate) struct Inquiry(BufReader<TcpStream>);

impl Inquiry {
    /// Connects; fails unless Redis answers a PING.
    pub(crate) fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut inquiry = Self(BufReader::new(stream));
        match inquiry.ask("PING")?.as_str() {
            "+PONG" => Ok(inquiry),
            other => bail!("Redis answers PING with {other}"),
        }
    }

    /// Channels that somebody subscribes to.
    pub(crate) fn channels(&mut self) -> anyhow::Result<u64> {
        let head = self.ask("INFO stats")?;
        let length: usize = head.strip_prefix('$').and_then(|it| it.parse().ok()).context(head.clone())?;
        let mut text = vec![0; length + 2];
        self.0.read_exact(&mut text)?;
        let text = String::from_utf8_lossy(&text);
        let count = text.lines().find_map(|line| line.strip_prefix("pubsub_channels:")?.parse().ok());
        count.context("Redis does not tell pubsub_channels")
    }

    fn ask(&mut self, question: &str) -> anyhow::Result<String> {
        self.0.get_mut().write_all(format!("{question}\r\n").as_bytes())?;
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}
