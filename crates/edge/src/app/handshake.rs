//! What a client's first request said, kept for as long as the connection where an app wants to be told.

use std::net::{IpAddr, SocketAddr};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::config::AppEndpoint;
use crate::http::handshake::Asked;

/// The request that a connection began with. Some 700 bytes for a browser's.
#[derive(Debug)]
#[expect(dead_code, reason = "read by the connect call, which comes next")]
pub(crate) struct Handshake {
    /// Path and query, as they were asked for.
    url: Box<str>,
    /// Names in lower case, in the order in which they came; values read as Latin-1, as HTTP has them.
    headers: Box<[(Box<str>, Box<str>)]>,
    /// The other end of the socket: the load balancer's, where there is one.
    address: Option<IpAddr>,
    /// Milliseconds of Unix time.
    at: u64,
}

impl Handshake {
    /// `None` where no app is to be told.
    pub(crate) fn of(
        app: Option<&AppEndpoint>,
        asked: &Asked<'_>,
        peer: Option<SocketAddr>,
        now: SystemTime,
    ) -> Option<Box<Self>> {
        app?;
        let url = match asked.query {
            "" => asked.path.into(),
            query => format!("{}?{query}", asked.path).into(),
        };
        let latin = |bytes: &[u8]| bytes.iter().map(|byte| char::from(*byte)).collect::<String>().into();
        let headers = asked.headers.iter();
        let headers = headers.map(|(name, value)| (name.to_ascii_lowercase().into(), latin(value))).collect();
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let at = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        Some(Box::new(Self { url, headers, address: peer.map(|peer| peer.ip()), at }))
    }
}
