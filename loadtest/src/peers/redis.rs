//! Redis as a bus: without persistence, on a port of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use super::child::{Child, Scratch};
use super::{free_addresses, on_path};

const PROGRAM: &str = "redis-server";

pub(super) fn missing() -> Option<String> {
    (!on_path(PROGRAM)).then(|| format!("{PROGRAM} is not installed: loadtest/peers/install redis"))
}

pub(super) fn start() -> anyhow::Result<(Child, SocketAddr)> {
    let [address] = free_addresses()?;
    let scratch = Scratch::new()?;
    let directory: &Path = scratch.path();
    let mut command = Command::new(PROGRAM);
    command.arg("--bind").arg(address.ip().to_string()).arg("--port").arg(address.port().to_string());
    command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(directory);
    let mut redis = Child::start(command, scratch)?;
    redis.wait_listening(address)?;
    Ok((redis, address))
}
