//! What the app hears of a connection that is gone.

use serde_json::Value;

use super::scripted::App;
use super::{by_name, enter};
use crate::harness::{DEADLINE, Node};

/// The type and the event of each call, or its reason.
fn story(calls: &[Value]) -> Vec<String> {
    let of = |call: &Value| {
        let what = [&call["event"], &call["reason"], &call["error"]].into_iter().find_map(Value::as_str);
        format!("{} {}", call["type"].as_str().unwrap(), what.unwrap_or_default())
    };
    calls.iter().map(of).collect()
}

#[test]
fn events_received_before_the_end_are_told_in_order_and_the_disconnect_last() {
    let app = App::start(by_name);
    let node = Node::start(app.config());
    let mut other = enter(&node);
    let mut client = enter(&node);
    app.shut();
    for event in ["one", "shout", "three"] {
        client.send(&format!(r#"42["{event}"]"#));
    }
    // The close frame is read behind them.
    client.socket.close(None).unwrap();
    node.settles("fanfare_app_farewells", 1.0);
    node.settles(r#"fanfare_connections{protocol="sio",transport="websocket"}"#, 1.0);
    app.let_all();
    assert_eq!(
        story(&app.calls(6)[2..]),
        ["event one", "event shout", "event three", "disconnect transport close"]
    );
    // What concerns others is done all the same.
    assert_eq!(other.text(), r#"42["shouted"]"#);
    node.settles("fanfare_app_farewells", 0.0);
    assert_eq!(app.most_open(), 1);
}

#[test]
fn who_goes_before_being_let_in_is_told_gone_only_if_it_was() {
    for (said, told) in [(r#"{}"#, true), (r#"{"ok":false}"#, false)] {
        let app = App::start(
            move |call, _| {
                if call["type"] == "connect" { super::ok(said) } else { (204, Vec::new()) }
            },
        );
        let node = Node::start(app.config());
        app.shut();
        let mut client = node.socketio();
        client.send("40");
        client.send(r#"42["early"]"#);
        app.calls(1);
        client.socket.close(None).unwrap();
        node.settles("fanfare_app_farewells", 1.0);
        app.let_all();
        node.settles("fanfare_app_farewells", 0.0);
        node.settles("fanfare_app_calls_in_flight", 0.0);
        let expected: &[&str] =
            if told { &["connect ", "event early", "disconnect transport close"] } else { &["connect "] };
        assert_eq!(story(&app.calls(expected.len())), expected);
    }
}

#[test]
fn leaving_a_namespace_is_told_and_what_follows_waits() {
    let app = App::start(by_name);
    let node = Node::start(app.config());
    let mut client = enter(&node);
    client.send(r#"42["ask","t",20000]"#);
    client.text();
    for packet in [r#"42["a"]"#, "41", "40", r#"42["b"]"#] {
        client.send(packet);
    }
    assert!(client.text().starts_with("40{"));
    let calls = app.calls(7);
    assert_eq!(
        story(&calls),
        [
            "connect ",
            "event ask",
            "event a",
            "ack disconnected",
            "disconnect client namespace disconnect",
            "connect ",
            "event b"
        ]
    );
    assert_eq!(calls[4]["sid"], calls[0]["sid"]);
    assert_ne!(calls[5]["sid"], calls[0]["sid"]);
}

#[test]
fn a_session_that_the_app_ends_takes_what_waits_with_it() {
    let app = App::start(by_name);
    let node = Node::start(app.config());
    let mut client = enter(&node);
    app.shut();
    client.send(r#"42["leave-me"]"#);
    client.send(r#"42["late"]"#);
    node.settles("fanfare_events_received_total", 2.0);
    app.let_all();
    assert_eq!(client.text(), "41");
    app.told("disconnect", "server namespace disconnect");
    assert_eq!(
        story(&app.calls(3)),
        ["connect ", "event leave-me", "disconnect server namespace disconnect"]
    );
    // The connection stays.
    client.send("40");
    assert!(client.text().starts_with("40{"));
    assert_eq!(client.text(), r#"42["auth",{}]"#);
    client.send(r#"42["close-me"]"#);
    assert_eq!(client.text(), "41");
    assert_eq!(client.close_code(), 4005);
    assert_eq!(story(&app.calls(6)[5..]), ["disconnect server namespace disconnect"]);
}

#[test]
fn a_farewell_ends_in_time_and_above_its_bound_only_ends_are_told() {
    for bound in [10, 0] {
        let app = App::start(by_name);
        let mut config = app.config();
        config.limits.app_farewells = bound;
        config.timing.app_farewell = std::time::Duration::from_millis(100);
        config.app.as_mut().unwrap().timeout = DEADLINE;
        let node = Node::start(config);
        let mut client = enter(&node);
        app.shut();
        for event in ["one", "two", "three"] {
            client.send(&format!(r#"42["{event}"]"#));
        }
        app.calls(2);
        client.socket.close(None).unwrap();
        // The first event is under way and never answered.
        app.told("disconnect", "transport close");
        node.settles("fanfare_app_events_untold_total", 2.0);
        node.settles("fanfare_app_farewells", 0.0);
        let full = if bound == 0 { 1.0 } else { 0.0 };
        node.settles(r#"fanfare_limit_reached_total{limit="app_farewells"}"#, full);
        app.let_all();
        assert_eq!(story(&app.calls(3)[1..]), ["event one", "disconnect transport close"]);
    }
}

#[test]
fn a_leaving_node_tells_every_end_before_it_is_gone() {
    let app = App::start(by_name);
    let mut config = app.config();
    config.timing.drain_window = std::time::Duration::from_millis(500);
    let node = Node::start(config);
    let mut clients: Vec<_> = (0..30).map(|_| enter(&node)).collect();
    std::thread::scope(|scope| {
        let readers: Vec<_> = clients.iter_mut().map(|client| scope.spawn(|| client.close_code())).collect();
        node.runtime.block_on(node.edge.drain());
        for reader in readers {
            assert_eq!(reader.join().unwrap(), 1001);
        }
    });
    let ends = story(&app.calls(60)).iter().filter(|told| *told == "disconnect server shutting down").count();
    assert_eq!(ends, 30);
}

#[test]
fn who_was_let_in_when_it_was_gone_is_told_gone_above_every_bound() {
    for bound in [10, 0] {
        let app = App::start(by_name);
        let mut config = app.config();
        config.limits.app_farewells = bound;
        config.timing.app_farewell = std::time::Duration::ZERO;
        config.app.as_mut().unwrap().timeout = DEADLINE;
        let node = Node::start(config);
        app.shut();
        let mut client = node.socketio();
        client.send("40");
        client.send(r#"42["early"]"#);
        app.calls(1);
        client.socket.close(None).unwrap();
        node.settles("fanfare_app_events_untold_total", 1.0);
        app.let_all();
        assert_eq!(story(&app.calls(2)), ["connect ", "disconnect transport close"]);
        node.settles("fanfare_app_farewells", 0.0);
    }
}

#[test]
fn the_end_is_last_also_where_the_client_left_and_was_gone() {
    let app = App::start(by_name);
    let node = Node::start(app.config());
    let mut client = enter(&node);
    client.send(r#"42["ask","t",60000]"#);
    assert!(client.text().contains("\"asked\""));
    app.shut();
    client.send(r#"42["slow"]"#);
    client.send("41");
    app.calls(3);
    client.socket.close(None).unwrap();
    node.settles("fanfare_app_farewells", 1.0);
    app.let_all();
    let expected = ["event slow", "ack disconnected", "disconnect client namespace disconnect"];
    assert_eq!(story(&app.calls(5)[2..]), expected);
}
