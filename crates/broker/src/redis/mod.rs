//! The broker of many nodes: Redis pub/sub on the channels of Socket.IO's adapter. Publications leave by
//! the command link, and arrive on a link of their own that an event loop drives.

mod feed;
mod inbox;
mod link;
mod publish;
mod resp;
mod subscriptions;

pub use feed::RedisFeed;
pub use publish::RedisBroker;

use std::sync::Arc;
use std::time::Duration;

use fanfare_redis::{Address, Commands, Prefix};

use crate::foreign::PythonDialect;

/// Where Redis is and how it is used.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    pub address: Address,
    pub prefix: Prefix,
    /// The channel of python-socketio's managers, where they share this Redis. It has no prefix.
    pub python_channel: Option<String>,
    /// How they write it.
    pub python_dialect: PythonDialect,
    /// This node's name, which CLIENT LIST shows for both links.
    pub node: String,
    /// Largest payload that is taken or published, in bytes.
    pub max_envelope: usize,
    /// How often the feed asks an idle link whether it lives; the answer has 2 s.
    pub ping_every: Duration,
}

impl RedisOptions {
    /// The defaults for everything but `address` and `node`.
    pub fn new(address: Address, node: &str) -> Self {
        Self {
            address,
            prefix: Prefix::default(),
            python_channel: None,
            python_dialect: PythonDialect::default(),
            node: node.to_owned(),
            max_envelope: crate::envelope::MAX_ENVELOPE,
            ping_every: Duration::from_secs(1),
        }
    }
}

/// Both halves of a broker over `options`. Connects in the background; Redis may come later.
/// Called inside a tokio runtime, which carries the command link.
pub fn connect(options: RedisOptions) -> (Arc<RedisBroker>, RedisFeed) {
    let commands = Arc::new(Commands::connect(&options.address, &options.node));
    let broker = RedisBroker::new(commands, &options);
    (Arc::new(broker), RedisFeed::new(options))
}
