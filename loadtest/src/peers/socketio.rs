//! Socket.IO servers of others with their Redis adapters: Socket.IO on Node, and socketioxide. Publications
//! come through Redis, in the form in which each one's own emitter sends them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use super::child::{Child, Scratch};
use super::{Peer, PeerKind, free_addresses, installed, on_path, redis};
use crate::dialect::Dialect;
use crate::publish::Format;

/// Where the installer puts what runs on Node.
fn script() -> anyhow::Result<PathBuf> {
    Ok(installed("socketio-redis")?.join("server.mjs"))
}

/// Where the installer lets cargo put the other.
fn binary() -> anyhow::Result<PathBuf> {
    Ok(installed("socketioxide")?.join("release/peer-socketioxide"))
}

pub(super) fn missing(kind: PeerKind) -> Option<String> {
    let place = if kind == PeerKind::Socketioxide { binary() } else { script() };
    if !place.is_ok_and(|place| place.exists()) {
        return Some(format!("not installed: loadtest/peers/install {}", kind.name()));
    }
    if kind == PeerKind::SocketIoRedis && !on_path("node") {
        return Some("node is not installed; 20 or later will do".into());
    }
    redis::missing()
}

pub(super) fn start(kind: PeerKind, edges: usize) -> anyhow::Result<Peer> {
    let (bus, publish) = redis::start()?;
    let url = format!("redis://{publish}");
    let (mut servers, mut listen) = (Vec::new(), Vec::new());
    for _ in 0..edges {
        let [address] = free_addresses()?;
        let mut server = Child::start(command(kind, address, &url)?, Scratch::new()?)?;
        server.wait_listening(address)?;
        servers.push(server);
        listen.push(address);
    }
    let format = if kind == PeerKind::Socketioxide { Format::SocketioxideEmitter } else { Format::Emitter };
    let dialect = Dialect::SocketIo;
    Ok(Peer { kind, dialect, format, listen, publish, servers, bus: Some(bus), metrics: Vec::new() })
}

fn command(kind: PeerKind, listen: SocketAddr, redis: &str) -> anyhow::Result<Command> {
    if kind == PeerKind::Socketioxide {
        let mut command = Command::new(binary()?);
        command.args([&listen.to_string(), redis]);
        return Ok(command);
    }
    let mut command = Command::new("node");
    command.arg(script()?).args([&listen.ip().to_string(), &listen.port().to_string(), redis]);
    command.env("NODE_ENV", "production");
    Ok(command)
}
