//! What every broker keeps, asked of the one in memory and of the one over a real Redis, and what only
//! the latter has to survive.

mod driver;
mod faults;
mod foreign;
mod pair;
mod python;
mod registry;
mod requests;
mod server;
mod suite;
