//! The app callback: an HTTP endpoint of the app's that is told what clients do, and whose answers say what
//! happens next. The contract is in docs/app-callback.md.

pub(crate) mod handshake;
