//! Figures that a server tells of itself, in the text form of Prometheus.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a scrape may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a server has written and delivered so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Writes {
    pub(crate) writes: f64,
    pub(crate) deliveries: f64,
}

impl Writes {
    pub(crate) fn per_delivery_since(self, before: Self) -> f64 {
        (self.writes - before.writes) / (self.deliveries - before.deliveries)
    }
}

/// `GET path` answered with 200: the body. Anything else is nothing.
pub(crate) fn get(address: SocketAddr, path: &str) -> Option<String> {
    ask(address, path).filter(|answer| answer.0 == "200").map(|answer| answer.1)
}

/// Whether HTTP is answered there, whatever the answer is.
pub(crate) fn answers(address: SocketAddr) -> bool {
    ask(address, "/").is_some()
}

/// Status and body of the answer to `GET path`.
fn ask(address: SocketAddr, path: &str) -> Option<(String, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split_ascii_whitespace().nth(1)?;
    Some((status.to_owned(), body.to_owned()))
}

/// A series without labels, summed over the servers; `None` unless all tell it.
pub(crate) fn sum(pages: &[String], name: &str) -> Option<f64> {
    pages.iter().map(|page| value(page, name)).sum()
}

fn value(page: &str, name: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_found_by_its_whole_name() {
        let page = "# HELP writes of all\nwrites_total 7\nwrites 3\n".to_owned();
        assert_eq!(sum(&[page.clone(), page.clone()], "writes"), Some(6.0));
        assert_eq!(sum(&[page], "write"), None);
    }
}
