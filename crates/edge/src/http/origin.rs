//! Which browsers' pages may open a connection (RFC 6454; WebSocket has no CORS to rely on).

use super::handshake::Asked;
use crate::config::Origins;

/// Whether the request may go on: it comes from no browser's page, from one of the same host, or from
/// an origin of the list. `null` (sandboxed pages, files) is an origin like others: it has to be listed.
pub(super) fn allowed(origins: &Origins, asked: &Asked<'_>) -> bool {
    let Origins::SameHostAnd(list) = origins else { return true };
    match asked.count("origin") {
        0 => return true,
        1 => {}
        _ => return false,
    }
    let Some(origin) = asked.values("origin").next() else { return false };
    if list.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)) {
        return true;
    }
    let same = origin.split_once("://").map(|(_, host)| host);
    match (same, asked.values("host").next()) {
        (Some(origin), Some(host)) => origin.eq_ignore_ascii_case(host),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(origins: &Origins, origin: Option<&str>, host: &str) -> bool {
        let mut headers = smallvec::smallvec![("Host", host.as_bytes())];
        headers.extend(origin.map(|origin| ("ORIGIN", origin.as_bytes())));
        allowed(origins, &Asked { method: "GET", path: "/", query: "", headers })
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
