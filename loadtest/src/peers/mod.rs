//! Servers under test: started here on free ports, stopped when dropped.

mod child;
mod fanfare;
mod floor;
mod nchan;
mod version;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;

use anyhow::Context;

pub(crate) use child::Child;

use crate::dialect::Dialect;
use crate::publish::Format;

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
    /// Where members connect.
    pub(crate) listen: SocketAddr,
    /// Where publications go.
    pub(crate) publish: SocketAddr,
    /// The process whose cost is measured.
    pub(crate) server: Child,
    /// What stands between publisher and server.
    pub(crate) bus: Option<Child>,
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

    /// Why it cannot be started on this machine, and what to do about it.
    pub(crate) fn missing(self, setup: &Setup) -> Option<String> {
        match self {
            Self::Floor => None,
            Self::Nchan => nchan::missing(),
            Self::FanfareSocketIo | Self::FanfarePlain => fanfare::missing(setup),
        }
    }

    /// Starts it and waits until it answers.
    pub(crate) fn start(self, setup: &Setup) -> anyhow::Result<Peer> {
        match self {
            Self::Floor => floor::start(),
            Self::Nchan => nchan::start(),
            Self::FanfareSocketIo | Self::FanfarePlain => fanfare::start(self, setup),
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
