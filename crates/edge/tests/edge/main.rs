//! The edge through its sockets: real connections on three shards, the memory broker behind them.

mod app;
mod browsers;
mod cluster;
mod doors;
mod fanout;
mod harness;
mod http;
mod polling;
mod upgrade;

use std::time::{Duration, Instant};

use fanfare_edge::Timing;
use harness::{Caller, Node, config};
use tungstenite::Message;

fn event(room: &str, event: &str, data: usize) -> String {
    format!(r#"{{"room":"{room}","event":"{event}","data":{data}}}"#)
}

fn end() -> String {
    r#"{"event":"end"}"#.to_owned()
}

#[test]
fn members_on_every_shard_get_everything_in_order() {
    let node = Node::start(config());
    let mut members: Vec<Caller> = (0..9).map(|_| node.plain()).collect();
    for member in &mut members {
        member.join("r");
    }
    // One client's own room between them: only one shard has to hear of it.
    members[4].join("own");
    for start in (0..2_000).step_by(100) {
        node.publish((start..start + 100).flat_map(|n| [event("r", "n", n), event("own", "o", n)]));
    }
    node.publish([end()]);
    for (at, member) in members.iter_mut().enumerate() {
        let got = member.until("\"end\"");
        let expected: Vec<String> = (0..2_000)
            .flat_map(|n| [("r", "n", n), ("own", "o", n)])
            .filter(|(room, ..)| *room == "r" || at == 4)
            .map(|(room, event, n)| {
                format!(r#"{{"type":"event","room":"{room}","event":"{event}","data":{n}}}"#)
            })
            .collect();
        assert!(got == expected, "member {at} got {} of {}", got.len(), expected.len());
    }
    node.settles("fanfare_outbox_bytes", 0.0);
    assert_eq!(node.metric("fanfare_publications_unwanted_total"), 0.0);
    // Every publication was read once by the node, however many shards delivered it.
    node.settles("fanfare_broker_lag_seconds_count", 4_001.0);
    // Other shards hand their histograms over a little later.
    node.comes_to("fanfare_fanout_duration_seconds_count", |count| count > 4_001.0);
}

#[test]
fn several_rooms_reach_a_member_once_and_except_holds_it_back() {
    let node = Node::start(config());
    let mut clients: Vec<Caller> = (0..12).map(|_| node.plain()).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        let rooms: &[&str] = [&["a"][..], &["a", "b"], &["b", "x"], &["c"]][at % 4];
        for room in rooms {
            client.join(room);
        }
    }
    node.publish([
        r#"{"rooms":["a","b","nobody"],"except":["x"],"event":"several"}"#.to_owned(),
        r#"{"room":"b","except":["a"],"event":"one"}"#.to_owned(),
        r#"{"except":["a","b"],"event":"all"}"#.to_owned(),
        end(),
    ]);
    for (at, client) in clients.iter_mut().enumerate() {
        let expected: &[&str] = [&["several"][..], &["several"], &["one"], &["all"]][at % 4];
        let got = client.until("\"end\"");
        assert_eq!(got.len(), expected.len(), "client {at}: {got:?}");
        for (got, expected) in got.iter().zip(expected) {
            assert!(got.contains(&format!(r#""event":"{expected}""#)), "client {at}: {got}");
        }
    }
}

#[test]
fn rooms_that_came_and_went_leave_nothing() {
    let node = Node::start(config());
    let mut clients: Vec<Caller> = (0..6).map(|_| node.plain()).collect();
    for round in 0..30 {
        for (at, client) in clients.iter_mut().enumerate() {
            client.join(&format!("shared{round}"));
            client.join(&format!("own{at}-{round}"));
        }
        node.publish([event(&format!("shared{round}"), "n", round)]);
        for client in &mut clients {
            client.until(&format!(r#""data":{round}"#));
            client.leave(&format!("shared{round}"));
        }
    }
    // Some leave what they are in by name, others by going away.
    let gone: Vec<Caller> = clients.drain(3..).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        for round in 0..30 {
            client.leave(&format!("own{at}-{round}"));
        }
    }
    drop(gone);
    for series in ["fanfare_rooms", "fanfare_memberships", "fanfare_redis_subscriptions"] {
        node.settles(series, 0.0);
    }
    node.settles("fanfare_outbox_bytes", 0.0);
    node.settles("fanfare_outbox_frames", 0.0);
    node.settles(r#"fanfare_connections{protocol="ws_json",transport="websocket"}"#, 3.0);
}

#[test]
fn a_reader_that_stops_is_closed_and_hears_why_while_others_go_on() {
    let mut config = config();
    config.limits.outbox_hard = 1 << 20;
    config.timing.stall_timeout = Duration::from_secs(600);
    let node = Node::start(config);
    let (mut slow, mut other) = (node.plain(), node.plain());
    slow.join("r");
    other.join("r");
    let filler = "x".repeat(30_000);
    let mut round = |number: usize| {
        node.publish((0..40).map(|_| format!(r#"{{"room":"r","event":"n","data":"{filler}"}}"#)));
        node.publish([event("r", "round", number)]);
        let got = other.until(r#""event":"round""#);
        assert_eq!(got.len(), 40, "round {number}");
    };
    let limit = r#"fanfare_limit_reached_total{limit="outbox_hard"}"#;
    // The kernel holds some megabytes for a socket at its two ends.
    let closed = (0..100).find(|number| {
        round(*number);
        node.metric(limit) == 1.0
    });
    assert!(closed.is_some(), "a hundred megabytes were taken up");
    assert_eq!(slow.close_code(), 4002);
    round(100);
    let closed = r#"fanfare_connections_closed_total{protocol="ws_json",reason="slow_consumer",transport="websocket"}"#;
    drop(slow);
    node.settles(closed, 1.0);
    node.settles("fanfare_outbox_bytes", 0.0);
    node.settles("fanfare_outbox_blocked_connections", 0.0);
    assert_eq!(node.metric(limit), 1.0);
}

#[test]
fn who_asks_and_does_not_read_the_answers_is_closed() {
    let mut config = config();
    config.limits.outbox_hard = 64 << 10;
    config.timing.stall_timeout = Duration::from_secs(600);
    let node = Node::start(config);
    let mut client = node.plain();
    let asked = (0..50_000_000).find(|_| {
        let ping = Message::text(r#"{"type":"nothing"}"#);
        client.socket.write(ping).and_then(|()| client.socket.flush()).is_err()
    });
    assert!(asked.is_some(), "fifty million answers were taken up");
    node.settles(r#"fanfare_limit_reached_total{limit="outbox_hard"}"#, 1.0);
}

#[test]
fn who_sends_too_much_at_once_hears_why() {
    let mut config = config();
    config.limits.max_payload = 10_000;
    let node = Node::start(config);
    let mut client = node.plain();
    // The rest is still on its way when the server has decided.
    client.socket.send(Message::text("x".repeat(8 << 20))).unwrap();
    assert_eq!(client.close_code(), 1009);
}

#[test]
fn a_namespace_entered_anew_behind_a_wait_is_answered_at_once() {
    let mut config = config();
    // Only the broker's word lets a CONNECT through in time.
    config.timing = Timing { join_timeout: Duration::from_secs(600), ..config.timing };
    let node = Node::start(config);
    for _ in 0..3 {
        let mut client = node.socketio();
        for packet in ["40", r#"421["join","r"]"#, "41", "40", r#"422["join","r"]"#] {
            client.socket.write(Message::text(packet)).unwrap();
        }
        client.socket.flush().unwrap();
        let answers: Vec<String> = (0..4).map(|_| client.text()).collect();
        assert!(answers[0].starts_with(r#"40{"sid":"#), "{answers:?}");
        assert_eq!(answers[1], r#"431[{"ok":true}]"#);
        assert!(answers[2].starts_with(r#"40{"sid":"#) && answers[2] != answers[0], "{answers:?}");
        assert_eq!(answers[3], r#"432[{"ok":true}]"#);
    }
}

#[test]
fn a_leaving_node_closes_everyone_within_its_window() {
    let mut config = config();
    config.timing.drain_window = Duration::from_secs(2);
    let node = Node::start(config);
    let mut clients: Vec<Caller> = (0..30).map(|_| node.plain()).collect();
    std::thread::scope(|scope| {
        let readers: Vec<_> = clients.iter_mut().map(|client| scope.spawn(|| client.close_code())).collect();
        let started = Instant::now();
        node.runtime.block_on(node.edge.drain());
        assert!(started.elapsed() < Duration::from_secs(2));
        for reader in readers {
            assert_eq!(reader.join().unwrap(), 1001);
        }
    });
    node.settles(r#"fanfare_connections{protocol="ws_json",transport="websocket"}"#, 0.0);
    node.settles("fanfare_redis_subscriptions", 0.0);
}
