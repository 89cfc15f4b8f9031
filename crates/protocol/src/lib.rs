//! What is spoken on fanfare's wires, without sockets, clocks or I/O.
//!
//! Reading order follows the data: names, the [`Publication`] that travels, the machines that turn
//! a connection's bytes into [`Command`]s, and the encodings that turn publications into [`Frame`]s.

pub mod command;
pub mod disconnect;
pub mod encoding;
pub mod engineio;
pub mod frame;
pub mod json;
pub mod msgpack;
pub mod name;
pub mod plain;
pub mod publication;
pub mod socketio;
pub mod websocket;

pub use command::{Command, Payload, Refusal, RefusalCode, ReplyTo};
pub use disconnect::Disconnect;
pub use encoding::{EncodeError, Encoding};
pub use frame::Frame;
pub use name::{Closed, NameError, NamespaceId, Namespaces, Sid};
pub use publication::Publication;
