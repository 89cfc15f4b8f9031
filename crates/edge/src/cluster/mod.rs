//! From node to node: what is for a session of another node goes to its owner, whose label stands at the front of
//! the session's id. Polls and posts share one HTTP/2 link per pair of nodes; an upgraded socket gets a tunnel of
//! its own. Both are proved with the cluster's secret and served by the private listener.
//!
//! Nobody asks a third node: the owner answers what it does not know like any session that is gone.

mod fixed;
mod forward;
mod leaving;
mod links;
mod meters;
pub(crate) mod owner;
mod proof;
mod relay;
#[cfg(test)]
mod tests;
mod tunnel;

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

pub use fixed::FixedDirectory;
pub use proof::Secret;

pub(crate) use forward::{Forwarding, Node, layer};
pub(crate) use meters::Meters;
pub(crate) use owner::Owning;

/// An owner that cannot be connected to within this is gone.
const CONNECT_TIME: Duration = Duration::from_secs(1);
/// Where the private listener takes links.
const LINK_PATH: &str = "/cluster/link";
/// What stands before the path of a tunnelled request on the private listener.
const ENGINE_PATH: &str = "/cluster/engine";

/// A future that a [`Directory`] returns.
pub type DirectoryFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where the other nodes are. An edge without one is alone: what is not its own is nobody's.
pub trait Directory: Debug + Send + Sync + 'static {
    /// The node whose sessions have `label`; `None` where there is none.
    fn find<'a>(&'a self, label: &'a str) -> DirectoryFuture<'a, Option<Peer>>;

    /// What the nodes of the cluster share; `None` while it is not known yet.
    fn secret(&self) -> Option<Secret>;

    /// Whether others have been able to find this node. Until then it is not ready: sessions opened before would be
    /// unknown everywhere else.
    fn announced(&self) -> bool;
}

/// Another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its private listener, as `host:port`.
    pub address: String,
}
