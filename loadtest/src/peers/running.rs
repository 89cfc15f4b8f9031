//! A server that somebody else has started: its address, what it speaks and how it is published to. Its
//! processes are not known here, so nothing is said of their cost.

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::Context;

use super::{Peer, PeerKind, Setup};
use crate::dialect::Dialect;
use crate::publish::Format;

/// `DIALECT://HOST:PORT[,HOST:PORT…]`: where members connect.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Listen {
    dialect: Dialect,
    addresses: Vec<SocketAddr>,
}

/// `FORMAT://HOST:PORT`: where publications go.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Intake {
    format: Format,
    address: SocketAddr,
}

impl Listen {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (dialect, rest) = choose(text, Dialect::NAMED)?;
        let addresses = rest.split(',').map(resolve).collect::<Result<_, _>>()?;
        Ok(Self { dialect, addresses })
    }
}

impl Intake {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (format, rest) = choose(text, Format::NAMED)?;
        Ok(Self { format, address: resolve(rest)? })
    }
}

pub(super) fn missing(setup: &Setup) -> Option<String> {
    setup.running.is_none().then(|| "where is it? --at and --publish-to say".into())
}

pub(super) fn start(setup: &Setup) -> anyhow::Result<Peer> {
    let (listen, intake) = setup.running.as_ref().context("neither --at nor --publish-to")?;
    Ok(Peer {
        kind: PeerKind::Running,
        dialect: listen.dialect,
        format: intake.format,
        listen: listen.addresses.clone(),
        publish: intake.address,
        servers: Vec::new(),
        bus: None,
        metrics: Vec::new(),
    })
}

fn choose<'a, T: Copy>(text: &'a str, named: &[(&str, T)]) -> Result<(T, &'a str), String> {
    let (name, rest) = text.split_once("://").ok_or("expected NAME://HOST:PORT")?;
    let found = named.iter().find(|pair| pair.0 == name).map(|pair| (pair.1, rest));
    let names = || named.iter().map(|pair| pair.0).collect::<Vec<_>>().join(", ");
    found.ok_or_else(|| format!("{name} is none of {}", names()))
}

/// The generator's sockets are IPv4.
fn resolve(host: &str) -> Result<SocketAddr, String> {
    let mut found = host.to_socket_addrs().map_err(|error| format!("{host}: {error}"))?;
    found.find(SocketAddr::is_ipv4).ok_or_else(|| format!("{host} has no IPv4 address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_with_what_is_spoken_there() {
        let [one, two]: [SocketAddr; 2] = ["127.0.0.1:1", "127.0.0.1:2"].map(|each| each.parse().unwrap());
        let listen = Listen::parse("socketio://127.0.0.1:1,127.0.0.1:2").unwrap();
        assert_eq!(listen, Listen { dialect: Dialect::SocketIo, addresses: vec![one, two] });
        let intake = Intake::parse("redis://127.0.0.1:1").unwrap();
        assert_eq!(intake, Intake { format: Format::Emitter, address: one });
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert_eq!(Listen::parse("127.0.0.1:1"), Err("expected NAME://HOST:PORT".into()));
        assert_eq!(Listen::parse("http://127.0.0.1:1"), Err("http is none of socketio, plain, path".into()));
        assert!(Listen::parse("plain://127.0.0.1").unwrap_err().starts_with("127.0.0.1: "));
        assert!(Intake::parse("http://[::1]:80").unwrap_err().contains("no IPv4"));
    }
}
