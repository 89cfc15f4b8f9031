//! fanfare's Redis: where it is, what its channels are called, and the link that commands go over.
//!
//! The crate knows nothing about rooms' members, connections, encodings or what a publication holds.

pub mod address;
pub mod commands;
pub mod keys;

pub use address::{Address, AddressError};
pub use commands::{CommandLink, Commands};
pub use keys::{ChannelName, Prefix, PrefixError};
