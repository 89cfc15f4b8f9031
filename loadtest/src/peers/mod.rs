//! Servers under test: started here on free ports, stopped when dropped.

mod child;
mod fanfare;
mod floor;
mod nchan;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;

use anyhow::Context;

pub(crate) use child::Child;

use crate::dialect::Dialect;
use crate::publish::Format;
use crate::scrape::{self, Writes};

/// A server that the generator knows how to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerKind {
    Floor,
    Nchan,
    FanfareSocketIo,
    FanfarePlain,
}

/// What starting needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// The fanfare binary.
    pub(crate) fanfare: PathBuf,
    /// More arguments for `fanfare serve`.
    pub(crate) fanfare_arguments: Vec<String>,
}

/// A running server and how to talk to it.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) kind: PeerKind,
    pub(crate) dialect: Dialect,
    pub(crate) format: Format,
    /// Where members connect, for each server.
    pub(crate) listen: Vec<SocketAddr>,
    /// Where publications go.
    pub(crate) publish: SocketAddr,
    /// The processes whose cost is measured.
    pub(crate) servers: Vec<Child>,
    /// What stands between publisher and server.
    pub(crate) bus: Option<Child>,
    /// Where fanfare servers tell their metrics; empty for others.
    pub(crate) metrics: Vec<SocketAddr>,
}

impl Peer {
    /// Socket writes and deliveries so far, where the servers tell them.
    pub(crate) fn writes(&self) -> Option<Writes> {
        let pages = self.pages()?;
        Some(Writes {
            writes: scrape::sum(&pages, "fanfare_socket_writes_total")?,
            deliveries: scrape::sum(&pages, "fanfare_deliveries_total")?,
        })
    }

    /// Bytes that wait in the servers' outboxes, shared ones once per connection.
    pub(crate) fn outbox_bytes(&self) -> Option<u64> {
        Some(scrape::sum(&self.pages()?, "fanfare_outbox_bytes")? as u64)
    }

    fn pages(&self) -> Option<Vec<String>> {
        let pages: Vec<String> =
            self.metrics.iter().map(|address| scrape::get(*address, "/metrics")).collect::<Option<_>>()?;
        (!pages.is_empty()).then_some(pages)
    }
}

impl PeerKind {
    pub(crate) const ALL: [Self; 4] = [Self::Floor, Self::Nchan, Self::FanfareSocketIo, Self::FanfarePlain];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Nchan => "nchan",
            Self::FanfareSocketIo => "fanfare-sio",
            Self::FanfarePlain => "fanfare-plain",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub(crate) fn is_fanfare(self) -> bool {
        matches!(self, Self::FanfareSocketIo | Self::FanfarePlain)
    }

    /// Whether several server processes can serve the same rooms.
    pub(crate) fn can_have_edges(self) -> bool {
        self.is_fanfare()
    }

    /// Whether members ask for rooms, as many as they like; otherwise each has one, in its path.
    pub(crate) fn joins_by_asking(self) -> bool {
        !matches!(self, Self::Floor | Self::Nchan)
    }

    /// Why it cannot be started on this machine, and what to do about it.
    pub(crate) fn missing(self, setup: &Setup) -> Option<String> {
        match self {
            Self::Floor => None,
            Self::Nchan => nchan::missing(),
            Self::FanfareSocketIo | Self::FanfarePlain => fanfare::missing(setup),
        }
    }

    /// Starts it and waits until it answers; those that can, as so many edges.
    pub(crate) fn start(self, setup: &Setup, edges: usize) -> anyhow::Result<Peer> {
        match self {
            Self::Floor => floor::start(),
            Self::Nchan => nchan::start(),
            Self::FanfareSocketIo | Self::FanfarePlain => fanfare::start(self, setup, edges),
        }
        .with_context(|| format!("starting {}", self.name()))
    }
}

/// Loopback addresses with ports that nobody listens on now, all different.
pub(crate) fn free_addresses<const COUNT: usize>() -> anyhow::Result<[SocketAddr; COUNT]> {
    let mut listeners = Vec::with_capacity(COUNT);
    let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); COUNT];
    for address in &mut addresses {
        let listener = TcpListener::bind(*address).context("looking for a free port")?;
        *address = listener.local_addr()?;
        listeners.push(listener);
    }
    Ok(addresses)
}
