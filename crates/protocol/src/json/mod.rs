//! JSON text to and from the MessagePack of events, without a tree in between.

mod mend;
mod read;
mod scalar;
mod write;

pub use mend::mend;
pub(crate) use read::present;
pub use read::{Arguments, Hole, JsonError, event, to_msgpack, to_msgpack_with_holes};
pub(crate) use scalar::number;
pub use scalar::write_str;
pub use write::{Bins, from_msgpack};
