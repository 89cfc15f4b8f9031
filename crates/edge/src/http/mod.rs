//! The HTTP side: clients' handshakes on the public listener; metrics, health and publishing on the
//! private one.

pub(crate) mod gate;
pub(crate) mod handshake;
mod origin;
pub(crate) mod private;
pub(crate) mod serve;
