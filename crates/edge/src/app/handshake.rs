//! What a client's first request said, kept for as long as the connection where an app wants to be told.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::tell::Object;
use crate::config::AppEndpoint;
use crate::http::handshake::Asked;

/// The request that a connection began with. Some 700 bytes for a browser's.
#[derive(Debug)]
pub(crate) struct Handshake {
    /// Path and query, as they were asked for.
    url: Box<str>,
    /// Names in lower case, in the order in which they came; values read as Latin-1, as HTTP has them.
    headers: Box<[(Box<str>, Box<str>)]>,
    /// The other end of the socket: the load balancer's, where there is one.
    pub(crate) address: Option<IpAddr>,
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
    ) -> Option<Arc<Self>> {
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
        Some(Arc::new(Self { url, headers, address: peer.map(|peer| peer.ip()), at }))
    }

    pub(super) fn bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        self.url.len() + headers
    }

    /// The fields of Socket.IO's `socket.handshake`, but for `auth`.
    pub(super) fn write(&self, out: &mut Object) {
        let mut headers = out.inner();
        for (at, (name, value)) in self.headers.iter().enumerate() {
            if self.headers[..at].iter().any(|(earlier, _)| earlier == name) {
                continue;
            }
            let more = self.headers[at + 1..].iter().filter(|(later, _)| later == name);
            let between = if &**name == "cookie" { "; " } else { ", " };
            let values: Vec<&str> =
                std::iter::once(&**value).chain(more.map(|(_, value)| &**value)).collect();
            headers.text(name, &values.join(between));
        }
        out.object("headers", headers);
        let mut query = out.inner();
        let text = self.url.split_once('?').map_or("", |(_, query)| query);
        // The last of a repeated key counts.
        let pairs: std::collections::BTreeMap<_, _> = form_urlencoded::parse(text.as_bytes()).collect();
        for (key, value) in &pairs {
            query.text(key, value);
        }
        out.object("query", query);
        if let Some(address) = self.address {
            out.text("address", &address.to_string());
        }
        out.text("url", &self.url);
        out.text("time", &date(self.at));
        out.number("issued", self.at);
        // TLS ends at the load balancer, which says so in a header.
        out.flag("secure", false);
        out.flag("xdomain", self.headers.iter().any(|(name, _)| &**name == "origin"));
    }
}

/// A moment as JavaScript's `Date` says it in UTC, which is what Socket.IO's server gives.
fn date(millis: u64) -> String {
    let moment = i64::try_from(millis).ok().and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    let moment = moment.unwrap_or_default();
    format!("{} (Coordinated Universal Time)", moment.strftime("%a %b %d %Y %H:%M:%S GMT+0000"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_reads_as_in_javascript() {
        // `new Date(1700000000123) + ""` with TZ=UTC.
        assert_eq!(date(1_700_000_000_123), "Tue Nov 14 2023 22:13:20 GMT+0000 (Coordinated Universal Time)");
    }
}
