//! fanfare nodes with a Redis of their own.

use std::net::SocketAddr;
use std::process::Command;

use super::child::{Child, Scratch};
use super::{Peer, PeerKind, Setup, free_addresses, redis};
use crate::dialect::Dialect;
use crate::publish::Format;
use crate::scrape::get;

pub(super) fn missing(setup: &Setup) -> Option<String> {
    if !setup.fanfare.exists() {
        return Some(format!(
            "{} does not exist: cargo build --release -p fanfare, or --bin PATH",
            setup.fanfare.display()
        ));
    }
    redis::missing()
}

pub(super) fn start(kind: PeerKind, setup: &Setup, edges: usize) -> anyhow::Result<Peer> {
    let (bus, publish) = redis::start()?;
    let (mut servers, mut listen, mut metrics) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..edges {
        let [public, private] = free_addresses()?;
        servers.push(start_edge(setup, publish, public, private)?);
        listen.push(public);
        metrics.push(private);
    }
    let dialect = match kind {
        PeerKind::FanfareSocketIo => Dialect::SocketIo,
        _ => Dialect::Plain,
    };
    let format = Format::Emitter;
    Ok(Peer { kind, dialect, format, listen, publish, servers, bus: Some(bus), metrics })
}

fn start_edge(
    setup: &Setup,
    redis: SocketAddr,
    public: SocketAddr,
    private: SocketAddr,
) -> anyhow::Result<Child> {
    let scratch = Scratch::new()?;
    let mut command = Command::new(std::path::absolute(&setup.fanfare)?);
    command.current_dir(scratch.path()).args(["serve", "--dev"]);
    command.arg("--redis").arg(format!("redis://{redis}"));
    command.arg("--listen").arg(public.to_string()).arg("--private").arg(private.to_string());
    command.args(&setup.fanfare_arguments);
    // What is measured is what the arguments say, not what this shell happens to set.
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FANFARE_")) {
        command.env_remove(name);
    }
    let mut server = Child::start(command, scratch)?;
    server.wait_ready(|| get(private, "/readyz").is_some())?;
    Ok(server)
}
