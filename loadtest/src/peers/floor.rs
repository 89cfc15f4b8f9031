//! The floor: this program again, as `loadtest floor`.

use std::process::Command;

use anyhow::Context;

use super::child::{Child, Scratch};
use super::{Peer, PeerKind, free_addresses};
use crate::dialect::Dialect;
use crate::publish::Format;

pub(super) fn start() -> anyhow::Result<Peer> {
    let [listen, publish] = free_addresses()?;
    let mut command = Command::new(std::env::current_exe().context("finding this program")?);
    command.args(["floor", "--listen", &listen.to_string(), "--orders", &publish.to_string()]);
    let mut server = Child::start(command, Scratch::new()?)?;
    server.wait_listening(publish)?;
    let (kind, dialect, format) = (PeerKind::Floor, Dialect::PathOnly, Format::Order);
    let (listen, servers) = (vec![listen], vec![server]);
    Ok(Peer { kind, dialect, format, listen, publish, servers, bus: None, metrics: Vec::new() })
}
