//! The HTTP side: clients' handshakes on the public listener; metrics, health and publishing on the
//! private one.

mod bundle;
mod coding;
mod cors;
mod engine;
pub(crate) mod gate;
pub(crate) mod handshake;
mod origin;
mod polling;
pub(crate) mod posts;
pub(crate) mod private;
pub(crate) mod serve;
