//! What servers with Socket.IO's Redis adapter ask of all nodes, and what they are told.

use fanfare_broker::{Answer, Asker, Channel, Malformed, Request, SessionView};

use crate::driver::Seen;
use crate::pair::{Pair, over_redis};

const REQUESTS: &str = "socket.io-request#/#";
const RESPONSES: &str = "socket.io-response#/#";

fn listening() -> Pair {
    let mut pair = over_redis();
    pair.driver.want(Channel::Requests("/"), true);
    pair.driver.until_active(1);
    pair
}

fn ask(pair: &mut Pair, json: &str) -> Request {
    pair.driver.forget();
    assert_eq!(pair.redis().command(&["PUBLISH", REQUESTS, json]), ":1");
    pair.driver.until("a request", |seen| !seen.is_empty());
    match pair.driver.seen.remove(0) {
        Seen::Request(channel, request) => {
            assert_eq!(channel, "requests of /");
            request
        }
        other => panic!("{other:?} instead of a request"),
    }
}

fn asker(request: Request) -> Asker {
    match request {
        Request::Join { asker: Some(asker), .. }
        | Request::ServerSideEmit { asker: Some(asker), .. }
        | Request::Sessions { asker, .. }
        | Request::Rooms { asker } => asker,
        other => panic!("{other:?} has no asker"),
    }
}

/// Servers wait for as many answers as there are subscribers; patterns are not counted.
#[test]
fn a_node_is_counted_by_servers_that_ask() {
    let mut pair = listening();
    let mut raw = pair.redis().raw();
    raw.send(&[vec![b"PUBSUB", b"NUMSUB", REQUESTS.as_bytes()]]);
    assert_eq!(raw.answers(4)[3], ":1");
    pair.driver.want(Channel::Requests("/"), false);
    pair.driver.step(std::time::Duration::ZERO);
    pair.check_flow("after");
    raw.send(&[vec![b"PUBSUB", b"NUMSUB", REQUESTS.as_bytes()]]);
    assert_eq!(raw.answers(4)[3], ":0");
}

#[test]
fn requests_arrive_and_answers_find_the_asker() {
    let mut pair = listening();
    let mut server = pair.redis().raw();
    server.subscribe(&[RESPONSES, "socket.io-response#/#abc123#"]);
    let own = "socket.io-response#/#abc123#";
    let view = SessionView {
        sid: "S1".to_owned(),
        rooms: vec!["S1".to_owned()],
        since_ms: 0,
        address: "::1".to_owned(),
    };
    let cases = [
        (
            r#"{"uid":"abc123","requestId":"q1","type":5,"opts":{"rooms":[],"except":[]}}"#,
            Answer::Sessions(vec![view]),
            own,
            r#"{"requestId":"q1","sockets":[{"id":"S1","handshake":{"headers":{},"time":"1970-01-01T00:00:00.000Z","address":"::1","xdomain":false,"secure":false,"issued":0,"url":"","query":{},"auth":{}},"rooms":["S1"],"data":{}}]}"#,
        ),
        (
            r#"{"requestId":"q2","type":1}"#,
            Answer::Rooms(vec!["a".to_owned()]),
            RESPONSES,
            r#"{"requestId":"q2","rooms":["a"]}"#,
        ),
        (
            r#"{"uid":"abc123","requestId":"q3","type":6,"data":["e"]}"#,
            Answer::Emitted(vec![7]),
            RESPONSES,
            r#"{"type":6,"requestId":"q3","data":7}"#,
        ),
        (
            r#"{"requestId":"q4","type":2,"sid":"S1","room":"x"}"#,
            Answer::Done,
            RESPONSES,
            r#"{"requestId":"q4"}"#,
        ),
    ];
    for (json, answer, channel, expected) in cases {
        let asker = asker(ask(&mut pair, json));
        assert_eq!(pair.answer(asker, answer), Ok(()));
        assert_eq!(server.heard(), (channel.to_owned(), expected.to_owned()));
    }
    // One that is too large is not sent in part.
    let asker = asker(ask(&mut pair, r#"{"requestId":"q5","type":1}"#));
    let refused = pair.answer(asker, Answer::Rooms(vec!["x".repeat(1 << 20)]));
    assert!(refused.is_err(), "{refused:?}");
}

#[test]
fn what_is_no_request_is_named() {
    let mut pair = listening();
    for (payload, reason) in [
        ("", Malformed::Shape),
        ("{\"type\":42}", Malformed::Shape),
        ("{{{{", Malformed::Shape),
        (&"[".repeat(100), Malformed::Shape),
        (&format!("{{\"type\":6,\"data\":{}", "[".repeat(100)), Malformed::TooDeep),
    ] {
        pair.driver.forget();
        pair.redis().command(&["PUBLISH", REQUESTS, payload]);
        pair.driver.until_seen(&Seen::Malformed("requests of /".to_owned(), reason));
    }
    ask(&mut pair, r#"{"requestId":"q","type":1}"#);
}
