//! Which browsers' pages may open a connection (RFC 6454; WebSocket has no CORS to rely on).

use hyper::HeaderMap;
use hyper::header::{HOST, ORIGIN};

use crate::config::Origins;

/// Whether the request may go on: it comes from no browser's page, from one of the same host, or from
/// an origin of the list. `null` (sandboxed pages, files) is an origin like others: it has to be listed.
pub(super) fn allowed(origins: &Origins, headers: &HeaderMap) -> bool {
    let Origins::SameHostAnd(list) = origins else { return true };
    let mut given = headers.get_all(ORIGIN).iter();
    let Some(origin) = given.next() else { return true };
    if given.next().is_some() {
        return false;
    }
    let Ok(origin) = origin.to_str() else { return false };
    if list.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)) {
        return true;
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let same = origin.split_once("://").map(|(_, host)| host);
    match (same, host) {
        (Some(origin), Some(host)) => origin.eq_ignore_ascii_case(host),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(origins: &Origins, origin: Option<&str>, host: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        allowed(origins, &headers)
    }

    #[test]
    fn only_the_same_host_and_the_list_pass() {
        let own = Origins::SameHostAnd(vec!["https://app.example".to_owned()]);
        let rows = [
            (None, true),
            (Some("http://chat.example:3000"), true),
            (Some("https://chat.example:3000"), true),
            (Some("http://CHAT.example:3000"), true),
            (Some("http://chat.example"), false),
            (Some("https://app.example"), true),
            (Some("http://app.example"), false),
            (Some("https://app.example.evil.test"), false),
            (Some("https://evil.test"), false),
            (Some("null"), false),
            (Some(""), false),
        ];
        for (origin, expected) in rows {
            assert_eq!(check(&own, origin, "chat.example:3000"), expected, "{origin:?}");
        }
        assert!(check(&Origins::Any, Some("https://evil.test"), "chat.example"));
    }
}
