//! One fanfare node with a Redis of its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::child::{Child, Scratch};
use super::{Peer, PeerKind, Setup, free_addresses};
use crate::dialect::Dialect;
use crate::publish::Format;

const REDIS: &str = "redis-server";

pub(super) fn missing(setup: &Setup) -> Option<String> {
    if !setup.fanfare.exists() {
        return Some(format!(
            "{} does not exist: cargo build --release -p fanfare, or --bin PATH",
            setup.fanfare.display()
        ));
    }
    let searched = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&searched).any(|directory| directory.join(REDIS).exists());
    (!found).then(|| "redis-server is not installed: apt-get install redis-server".into())
}

pub(super) fn start(kind: PeerKind, setup: &Setup) -> anyhow::Result<Peer> {
    let (redis, redis_address) = start_redis()?;
    let [listen, private] = free_addresses()?;
    let scratch = Scratch::new()?;
    let mut command = Command::new(std::path::absolute(&setup.fanfare)?);
    command.current_dir(scratch.path()).args([
        "serve",
        "--dev",
        "--redis",
        &format!("redis://{redis_address}"),
        "--listen",
        &listen.to_string(),
        "--private",
        &private.to_string(),
    ]);
    command.args(&setup.fanfare_arguments);
    let mut server = Child::start(command, scratch)?;
    server.wait_ready(|| is_ready(private))?;
    let dialect = match kind {
        PeerKind::FanfareSocketIo => Dialect::SocketIo,
        _ => Dialect::Plain,
    };
    let format = Format::Emitter;
    Ok(Peer { kind, dialect, format, listen, publish: redis_address, server, bus: Some(redis) })
}

/// Redis without persistence, on a port of its own.
fn start_redis() -> anyhow::Result<(Child, SocketAddr)> {
    let [address] = free_addresses()?;
    let scratch = Scratch::new()?;
    let directory: &Path = scratch.path();
    let mut command = Command::new(REDIS);
    command.arg("--bind").arg(address.ip().to_string()).arg("--port").arg(address.port().to_string());
    command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(directory);
    let mut redis = Child::start(command, scratch)?;
    redis.wait_listening(address)?;
    Ok((redis, address))
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
