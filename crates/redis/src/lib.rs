//! fanfare's Redis: where it is, what its channels are called, the link that commands go over, and which nodes
//! there are.
//!
//! The crate knows nothing about rooms' members, connections, encodings or what a publication holds.

pub mod address;
pub mod commands;
pub mod keys;
pub mod registry;

pub use address::{Address, AddressError};
pub use commands::{CommandLink, Commands};
pub use keys::{ChannelName, Prefix, PrefixError};
pub use registry::{Announcement, NodeRecord, Registry, RegistryError};
