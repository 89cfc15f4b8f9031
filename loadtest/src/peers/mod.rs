//! Servers under test: started here on free ports and stopped when dropped, or already running.

mod child;
mod fanfare;
mod floor;
mod nchan;
mod redis;
mod running;
mod socketio;
mod version;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;

use anyhow::Context;

pub(crate) use child::Child;
pub(crate) use running::{Intake, Listen};

use crate::dialect::Dialect;
use crate::publish::Format;
use crate::scrape::{self, Writes};

/// A kind of server that the generator can measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerKind {
    Floor,
    Nchan,
    /// Socket.IO on Node with its Redis adapter.
    SocketIoRedis,
    /// socketioxide with its Redis adapter.
    Socketioxide,
    FanfareSocketIo,
    FanfarePlain,
    /// One that runs already.
    Running,
}

/// What starting needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    /// The fanfare binary.
    pub(crate) fanfare: PathBuf,
    /// More arguments for `fanfare serve`.
    pub(crate) fanfare_arguments: Vec<String>,
    /// A server that runs already.
    pub(crate) running: Option<(Listen, Intake)>,
}

/// A running server and how to talk to it.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) kind: PeerKind,
    pub(crate) dialect: Dialect,
    pub(crate) format: Format,
    /// Where members connect: one address for each edge.
    pub(crate) listen: Vec<SocketAddr>,
    /// Where publications go.
    pub(crate) publish: SocketAddr,
    /// The processes whose cost is measured; none where somebody else has started them.
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
    /// Those that can be started here.
    pub(crate) const ALL: [Self; 6] = [
        Self::Floor,
        Self::Nchan,
        Self::SocketIoRedis,
        Self::Socketioxide,
        Self::FanfareSocketIo,
        Self::FanfarePlain,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Nchan => "nchan",
            Self::SocketIoRedis => "socketio-redis",
            Self::Socketioxide => "socketioxide",
            Self::FanfareSocketIo => "fanfare-sio",
            Self::FanfarePlain => "fanfare-plain",
            Self::Running => "running",
        }
    }

    /// What is measured under that name.
    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::Floor => "a bare loop of send(), given publications by the generator",
            Self::Nchan => "nginx with Nchan, one worker; publications over HTTP",
            Self::SocketIoRedis => {
                "Socket.IO on Node with its Redis adapter; publications through Redis, as its emitter sends them"
            }
            Self::Socketioxide => {
                "socketioxide with its Redis adapter, on as many threads as fanfare has shards; publications \
                 through Redis, as its emitter sends them"
            }
            Self::FanfareSocketIo => {
                "fanfare, as Socket.IO; publications through Redis, as Socket.IO's emitter sends them"
            }
            Self::FanfarePlain => "the same, in fanfare's plain protocol",
            Self::Running => "a server that runs already (--at)",
        }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().chain([Self::Running]).find(|kind| kind.name() == name)
    }

    pub(crate) fn is_fanfare(self) -> bool {
        matches!(self, Self::FanfareSocketIo | Self::FanfarePlain)
    }

    /// Whether it is there for the others to be compared with.
    pub(crate) fn is_base(self) -> bool {
        !self.is_fanfare() && self != Self::Running
    }

    /// Whether several server processes can serve the same rooms.
    pub(crate) fn can_have_edges(self) -> bool {
        self.is_fanfare() || matches!(self, Self::SocketIoRedis | Self::Socketioxide)
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
            Self::SocketIoRedis | Self::Socketioxide => socketio::missing(self),
            Self::FanfareSocketIo | Self::FanfarePlain => fanfare::missing(setup),
            Self::Running => running::missing(setup),
        }
    }

    /// Starts it and waits until it answers; those that have a bus, as so many edges on it.
    pub(crate) fn start(self, setup: &Setup, edges: usize) -> anyhow::Result<Peer> {
        match self {
            Self::Floor => floor::start(),
            Self::Nchan => nchan::start(),
            Self::SocketIoRedis | Self::Socketioxide => socketio::start(self, edges),
            Self::FanfareSocketIo | Self::FanfarePlain => fanfare::start(self, setup, edges),
            Self::Running => running::start(setup),
        }
        .with_context(|| format!("starting {}", self.name()))
    }
}

/// Where `loadtest/peers/install` puts what it brings for a peer: beside the profile's directory that this
/// program was built into.
fn installed(name: &str) -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("finding this program")?;
    let target = program.ancestors().nth(2).context("this program is in no target directory")?;
    Ok(target.join("peers").join(name))
}

fn on_path(program: &str) -> bool {
    let searched = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&searched).any(|directory| directory.join(program).exists())
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
