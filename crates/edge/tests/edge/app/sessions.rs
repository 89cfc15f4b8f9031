//! Sessions and their ids, where clients and apps do odd things with them.

use std::time::{Duration, Instant};

use serde_json::json;

use super::scripted::{App, ok};
use super::{by_name, enter};
use crate::harness::{Caller, Node, config};
use crate::http::Polls;

fn sid_of(answer: &str) -> String {
    answer[r#"40{"sid":""#.len()..].trim_end_matches("\"}").to_owned()
}

/// A client of `/` and its session id.
fn session(node: &Node) -> (Caller, String) {
    let mut client = node.socketio();
    client.send("40");
    let sid = sid_of(&client.text());
    (client, sid)
}

#[test]
fn a_room_with_the_name_of_a_session_takes_nothing_from_it() {
    let node = Node::start(fanfare_edge::Config { shards: Some(1), ..config() });
    let (mut owner, sid) = session(&node);
    let (mut other, _) = session(&node);
    let publish = |n: usize| node.publish([format!(r#"{{"room":"{sid}","event":"n","data":{n}}}"#)]);
    let mark = || node.publish([r#"{"event":"end"}"#.to_owned()]);
    other.send(&format!(r#"421["join","{sid}"]"#));
    assert_eq!(other.text(), r#"431[{"ok":true}]"#);
    publish(1);
    assert_eq!(other.text(), r#"42["n",1]"#);
    assert_eq!(owner.text(), r#"42["n",1]"#);
    // Who is in the room of its own id hears things once.
    owner.send(&format!(r#"421["join","{sid}"]"#));
    assert_eq!(owner.text(), r#"431[{"ok":true}]"#);
    publish(2);
    mark();
    assert_eq!(owner.until("\"end\""), [r#"42["n",2]"#]);
    assert_eq!(other.until("\"end\""), [r#"42["n",2]"#]);
    node.publish([format!(r#"{{"event":"n","except":["{sid}"]}}"#)]);
    owner.send(&format!(r#"421["leave","{sid}"]"#));
    assert_eq!(owner.text(), r#"431[{"ok":true}]"#);
    node.publish([format!(r#"{{"event":"n","except":["{sid}"]}}"#)]);
    mark();
    assert_eq!(owner.until("\"end\""), [""; 0]);
    assert_eq!(other.until("\"end\""), [""; 0]);
    // The last one leaves the room, and the session keeps its channel.
    other.send(&format!(r#"421["leave","{sid}"]"#));
    assert_eq!(other.text(), r#"431[{"ok":true}]"#);
    node.settles("fanfare_rooms", 0.0);
    publish(3);
    assert_eq!(owner.text(), r#"42["n",3]"#);
    // The room outlives the session.
    other.send(&format!(r#"421["join","{sid}"]"#));
    assert_eq!(other.text(), r#"431[{"ok":true}]"#);
    owner.send("41");
    owner.send("40");
    owner.text();
    publish(4);
    assert_eq!(other.text(), r#"42["n",4]"#);
}

#[test]
fn a_plain_session_is_reached_by_its_id() {
    let app = App::start(|call, _| match call["type"].as_str() {
        Some("event") => ok(json!({"emit": [{"to": [call["sid"]], "event": "own"}]}).to_string()),
        _ => (204, Vec::new()),
    });
    let node = Node::start(app.config());
    let mut client = node.plain();
    client.send(r#"{"type":"event","room":"r","event":"e"}"#);
    let text = client.text();
    assert!(text.contains("\"own\""), "{text}");
    drop(client);
    node.settles("fanfare_redis_subscriptions", 0.0);
}

#[test]
fn an_answer_joins_no_more_rooms_than_a_connection_may_be_in() {
    let rooms: Vec<String> = (0..50_000).map(|n| format!("r{n}")).collect();
    let answer = json!({"join": rooms}).to_string();
    let app = App::start(move |_, _| ok(answer.clone()));
    let mut config = app.config();
    config.limits.rooms_per_connection = 100;
    config.timing.linger = Duration::from_secs(600);
    let node = Node::start(config);
    let _client = session(&node);
    node.settles("fanfare_memberships", 100.0);
    node.settles("fanfare_redis_subscriptions", 101.0);
    node.settles(r#"fanfare_app_effects_dropped_total{reason="rooms_per_connection"}"#, 49_900.0);
}

#[test]
fn who_is_refused_hears_nothing_of_a_room_that_it_asked_for_meanwhile() {
    let app = App::start(|_, _| ok(r#"{"ok":false,"message":"nope"}"#));
    let node =
        Node::start(fanfare_edge::Config { rules: fanfare_edge::rules::Rules::open(), ..app.config() });
    app.shut();
    let mut client = node.socketio();
    client.send("40");
    client.send(r#"421["join","secret"]"#);
    client.send("40/unknown");
    app.calls(1);
    node.settles("fanfare_rooms", 1.0);
    app.let_all();
    assert!(client.text().starts_with("44{"));
    assert!(client.text().starts_with("44/unknown,"));
    node.settles("fanfare_memberships", 0.0);
    node.settles("fanfare_rooms", 0.0);
}

#[test]
fn what_is_left_to_tell_when_a_client_leaves_comes_before_the_end() {
    let app = App::start(by_name);
    let node = Node::start(app.config());
    let mut client = enter(&node);
    client.send(r#"42["ask","t",50]"#);
    assert!(client.text().contains("\"asked\""));
    app.shut();
    client.send(r#"42["slow"]"#);
    client.send("41");
    app.calls(3);
    // The time of the acknowledgement is over while the leaving waits.
    let deadline = Instant::now() + Duration::from_millis(300);
    while Instant::now() < deadline {
        node.metric("fanfare_rooms");
    }
    app.let_all();
    let kinds: Vec<String> =
        app.calls(5).iter().map(|call| call["type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds, ["connect", "event", "event", "ack", "disconnect"]);
}

#[test]
fn who_enters_and_leaves_over_and_over_has_one_session_at_a_time() {
    let app = App::start(|_, _| (204, Vec::new()));
    let node = Node::start(app.config());
    app.shut();
    let mut polls = Polls::open(&node, "/socket.io/");
    let target = format!("POST {}", polls.target());
    let body = ["40\x1e41"; 2_000].join("\x1e");
    polls.posts.send(&target, body.as_bytes());
    app.calls(1);
    node.comes_to("fanfare_reading_paused_total", |paused| paused >= 1.0);
    node.settles("fanfare_redis_subscriptions", 1.0);
    // What is too much at a time waits as the bytes that it came in.
    node.settles("fanfare_post_bytes", body.len() as f64);
    app.let_all();
    let calls = app.calls(4_000);
    let odd = calls.iter().enumerate().find(|(at, call)| call["type"] != ["connect", "disconnect"][at % 2]);
    assert!(odd.is_none(), "{odd:?}");
    assert_eq!(polls.posts.response().unwrap().said(), (200, "ok"));
    node.settles("fanfare_post_bytes", 0.0);
}

#[test]
fn a_body_that_waits_is_answered_when_its_session_ends() {
    let app = App::start(|_, _| (204, Vec::new()));
    let mut config = app.config();
    config.app.as_mut().unwrap().timeout = Duration::from_millis(300);
    let node = Node::start(config);
    app.shut();
    let mut polls = Polls::open(&node, "/socket.io/");
    let target = format!("POST {}", polls.target());
    polls.posts.send(&target, ["40\x1e41"; 2_000].join("\x1e").as_bytes());
    // The app does not answer its first packet, and that ends the session.
    assert_eq!(polls.posts.response().unwrap().said(), (200, "ok"));
    node.settles("fanfare_post_bytes", 0.0);
    assert_eq!(app.calls(1).len(), 1);
}
