//! Long-polling as raw HTTP: every row of the reference server's results.

use std::time::Duration;

use crate::event;
use crate::harness::{Node, config};
use crate::http::{Http, Polls};

const UNKNOWN: (u16, &str) = (400, r#"{"code":1,"message":"Session ID unknown"}"#);
const BAD_REQUEST: (u16, &str) = (400, r#"{"code":3,"message":"Bad request"}"#);

#[test]
fn a_session_is_opened_and_carries_events_both_ways() {
    let node = Node::start(config());
    let mut polls = Polls::open(&node, "/socket.io/");
    assert!(
        polls.open.ends_with(
            r#"","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#
        ),
        "{}",
        polls.open
    );
    polls.says("40");
    let connected = polls.get();
    assert!(connected.body().starts_with(r#"40{"sid":""#), "{connected:?}");
    assert_eq!(connected.header("content-type").as_deref(), Some("text/plain; charset=UTF-8"));
    assert_eq!(connected.header("cache-control").as_deref(), Some("no-store"));
    polls.says("421[\"join\",\"r\"]\x1e422[\"join\",\"s\"]");
    assert_eq!(polls.packets(2), [r#"431[{"ok":true}]"#, r#"432[{"ok":true}]"#]);
    polls.send_get();
    node.publish([event("r", "n", 1)]);
    assert_eq!(polls.gets.response().unwrap().body(), r#"42["n",1]"#);
    node.publish([event("r", "n", 2), event("s", "n", 3)]);
    assert_eq!(polls.packets(2), [r#"42["n",2]"#, r#"42["n",3]"#]);
}

#[test]
fn what_is_no_request_of_a_session_is_told_why() {
    let node = Node::start(config());
    let rows = [
        (
            "GET /socket.io/?transport=polling",
            (400, r#"{"code":5,"message":"Unsupported protocol version"}"#),
        ),
        (
            "GET /socket.io/?EIO=3&transport=polling",
            (400, r#"{"code":5,"message":"Unsupported protocol version"}"#),
        ),
        (
            "GET /socket.io/?EIO=abc&transport=polling",
            (400, r#"{"code":5,"message":"Unsupported protocol version"}"#),
        ),
        ("GET /socket.io/?EIO=4", (400, r#"{"code":0,"message":"Transport unknown"}"#)),
        ("GET /socket.io/?EIO=4&transport=abc", (400, r#"{"code":0,"message":"Transport unknown"}"#)),
        ("GET /socket.io/?EIO=4&transport=polling&sid=nobody", UNKNOWN),
        ("POST /socket.io/?EIO=4&transport=polling&sid=nobody", UNKNOWN),
        ("POST /socket.io/?EIO=4&transport=polling", (400, r#"{"code":2,"message":"Bad handshake method"}"#)),
        ("PUT /socket.io/?EIO=4&transport=polling", (400, r#"{"code":2,"message":"Bad handshake method"}"#)),
        ("GET /socket.io/?EIO=4&transport=websocket", BAD_REQUEST),
    ];
    let mut http = Http::to(&node);
    for (head, expected) in rows {
        let response = http.ask(head, b"");
        assert_eq!(response.said(), expected, "{head}");
        assert_eq!(response.header("content-type").as_deref(), Some("application/json"), "{head}");
    }
}

#[test]
fn a_second_get_ends_both_and_the_session() {
    let node = Node::start(config());
    let mut polls = Polls::open(&node, "/socket.io/");
    polls.send_get();
    assert!(polls.gets.is_silent(Duration::from_millis(50)));
    assert_eq!(polls.get_anew(&node).said(), (400, ""));
    assert_eq!(polls.gets.response().unwrap().said(), (200, "1"));
    assert_eq!(polls.get().said(), UNKNOWN);
}

#[test]
fn a_get_that_is_cut_off_ends_the_session() {
    let node = Node::start(config());
    let mut polls = Polls::open(&node, "/socket.io/");
    polls.send_get();
    assert!(polls.gets.is_silent(Duration::from_millis(50)));
    polls.gets = Http::to(&node);
    node.settles(r#"fanfare_connections{protocol="sio",transport="polling"}"#, 0.0);
    assert_eq!(polls.get().said(), UNKNOWN);
}
