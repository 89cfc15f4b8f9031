//! fanfare nodes with a Redis of their own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use super::child::{Child, Scratch};
use super::{Peer, PeerKind, Setup, free_addresses, redis};
use crate::dialect::Dialect;
use crate::publish::Format;

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
    let url = format!("redis://{publish}");
    let (mut servers, mut listen) = (Vec::new(), Vec::new());
    for _ in 0..edges {
        let (server, address) = start_edge(setup, &url)?;
        servers.push(server);
        listen.push(address);
    }
    let dialect = match kind {
        PeerKind::FanfareSocketIo => Dialect::SocketIo,
        _ => Dialect::Plain,
    };
    Ok(Peer { kind, dialect, format: Format::Emitter, listen, publish, servers, bus: Some(bus) })
}

fn start_edge(setup: &Setup, redis: &str) -> anyhow::Result<(Child, SocketAddr)> {
    let [listen, private] = free_addresses()?;
    let scratch = Scratch::new()?;
    let mut command = Command::new(std::path::absolute(&setup.fanfare)?);
    command.current_dir(scratch.path()).args(["serve", "--dev", "--redis", redis]);
    command.args(["--listen", &listen.to_string(), "--private", &private.to_string()]);
    command.args(&setup.fanfare_arguments);
    let mut server = Child::start(command, scratch)?;
    server.wait_ready(|| is_ready(private))?;
    Ok((server, listen))
}

/// Whether `GET /readyz` on the private listener is answered with 200.
fn is_ready(private: SocketAddr) -> bool {
    let ask = || -> std::io::Result<[u8; 12]> {
        let mut stream = TcpStream::connect(private)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        write!(stream, "GET /readyz HTTP/1.1\r\nHost: {private}\r\nConnection: close\r\n\r\n")?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok(status)
    };
    ask().is_ok_and(|status| status.ends_with(b" 200"))
}
