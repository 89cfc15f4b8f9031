//! fanfare's own protocol: JSON objects in WebSocket text frames, told apart by `type`. Its members
//! are in the main namespace.

mod encode;
mod machine;

pub use encode::{answer, connection_success, encode_event, error, ping_frame, reply};
pub use machine::{Machine, Rejected};
