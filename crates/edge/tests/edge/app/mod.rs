//! The app callback: what a real node tells an app, in which order, and what comes of the answers.

mod contract;
mod farewell;
mod requests;
mod scripted;
mod sessions;

use std::time::{Duration, Instant};

use fanfare_edge::{AppFormat, Config, Timing};
use fanfare_protocol::{Namespaces, msgpack};
use serde_json::{Value, json};
use tungstenite::Message;

use crate::event;
use crate::harness::{Caller, Node, config};
use crate::http::Polls;
use scripted::{App, Said, ok};

/// Answers events by name, as an app might.
fn by_name(call: &Value, _: &[u8]) -> Said {
    let args = &call["args"];
    let answer = match (call["type"].as_str().unwrap(), call["event"].as_str().unwrap_or_default()) {
        ("connect", _) => {
            json!({"emit": [{"to": "sender", "event": "auth", "args": [call["handshake"]["auth"]]}]})
        }
        ("event", "echo") => json!({"emit": [{"to": "sender", "event": "echoed", "args": args}]}),
        ("event", "with-ack") => json!({"ack": args}),
        ("event", "join") => json!({"join": args, "ack": ["in"]}),
        ("event", "leave") => json!({"leave": args, "ack": ["out"]}),
        ("event", "shout") => {
            json!({"emit": [{"to": "others", "event": "shouted", "args": args}], "ack": []})
        }
        ("event", "tell") => {
            json!({"emit": [{"to": args[0], "except": args[1], "event": "told"}], "ack": []})
        }
        ("event", "refuse") => json!({"ok": false, "message": "not you"}),
        ("event", "wrong") => json!({"nonsense": 1}),
        ("event", "leave-me") => json!({"disconnect": true}),
        ("event", "close-me") => json!({"disconnect": {"close": true}}),
        ("event", "ask") => {
            let ack = json!({"token": args[0], "timeout_ms": args[1]});
            json!({"emit": [{"to": "sender", "event": "asked", "args": [7], "ack": ack}]})
        }
        _ => return (204, Vec::new()),
    };
    ok(answer.to_string())
}

/// A client that the app has let into `/` and greeted.
fn enter(node: &Node) -> Caller {
    let mut client = node.socketio();
    client.send("40");
    assert!(client.text().starts_with("40{\"sid\":\""));
    assert_eq!(client.text(), r#"42["auth",{}]"#);
    client
}

fn calls_total(kind: &str, result: &str) -> String {
    format!("fanfare_app_calls_total{{result=\"{result}\",type=\"{kind}\"}}")
}

#[test]
fn a_connect_tells_how_the_client_came_and_greets_it_after_its_answer() {
    let app = App::start(by_name);
    let namespaces = Namespaces::new(["/custom"]).unwrap();
    let node = Node::start(Config { namespaces, ..app.config() });
    let mut client = node.connect("/socket.io/?EIO=4&transport=websocket&who=a%20b&who=c");
    assert!(client.text().starts_with('0'));
    client.send(r#"40/custom,{"token":"123"}"#);
    let answer = client.text();
    assert_eq!(client.text(), r#"42/custom,["auth",{"token":"123"}]"#);
    let call = &app.calls(1)[0];
    assert_eq!(
        (&call["type"], &call["namespace"], &call["node"]),
        (&json!("connect"), &json!("/custom"), &json!("node"))
    );
    assert!(answer.contains(call["sid"].as_str().unwrap()), "{answer}");
    let handshake = &call["handshake"];
    assert_eq!(handshake["auth"], json!({"token": "123"}));
    assert_eq!(handshake["query"], json!({"EIO": "4", "transport": "websocket", "who": "c"}));
    assert_eq!(handshake["url"], "/socket.io/?EIO=4&transport=websocket&who=a%20b&who=c");
    assert_eq!(handshake["headers"]["upgrade"], "websocket");
    assert_eq!((&handshake["address"], &handshake["secure"]), (&json!("127.0.0.1"), &json!(false)));
    assert!(handshake["issued"].as_u64().unwrap() > 1_700_000_000_000);
    assert!(handshake["time"].as_str().unwrap().ends_with("GMT+0000 (Coordinated Universal Time)"));
}

#[test]
fn a_refusal_carries_message_and_data_and_leaves_the_connection() {
    let app = App::start(|call, _| match call["handshake"]["auth"]["as"].as_str() {
        Some("nobody") => ok(r#"{"ok":false,"message":"nope","data":{"code":7}}"#),
        Some("stranger") => (403, Vec::new()),
        _ => ok(r#"{"user":42}"#),
    });
    let node = Node::start(app.config());
    let mut client = node.socketio();
    client.send(r#"40{"as":"nobody"}"#);
    assert_eq!(client.text(), r#"44{"message":"nope","data":{"code":7}}"#);
    client.send(r#"40{"as":"stranger"}"#);
    assert_eq!(client.text(), r#"44{"message":"forbidden"}"#);
    client.send("40");
    assert!(client.text().starts_with("40{\"sid\""));
    client.send(r#"42["e"]"#);
    assert_eq!(app.told("event", "\"e\"")["user"], "42");
    drop(client);
    // Of the three only one was let in, and only its end is told.
    app.told("disconnect", "transport close");
    assert_eq!(app.calls(5).len(), 5);
    node.settles(&calls_total("connect", "refused"), 1.0);
    node.settles(&calls_total("connect", "forbidden"), 1.0);
}

#[test]
fn effects_keep_the_order_of_events_under_a_slow_app_and_one_call_is_open() {
    let app = App::start(by_name);
    let node = Node::start(app.config());
    let mut client = enter(&node);
    app.shut();
    client.send(r#"421["join","r"]"#);
    for n in 0..20 {
        client.send(&format!(r#"42["echo",{n}]"#));
        client.send(r#"42["tell",["r"],[]]"#);
        client.send(&format!(r#"42{n}["with-ack",{n}]"#));
    }
    app.calls(2);
    // A pong passes what waits.
    client.send("3");
    app.let_all();
    assert_eq!(client.text(), r#"431["in"]"#);
    let mut got = Vec::new();
    while got.len() < 40 {
        let text = client.text();
        if !text.contains("told") {
            got.push(text);
        }
    }
    let expected: Vec<String> =
        (0..20).flat_map(|n| [format!(r#"42["echoed",{n}]"#), format!("43{n}[{n}]")]).collect();
    assert_eq!(got, expected);
    assert_eq!(app.most_open(), 1);
}

#[test]
fn a_room_of_the_connect_answer_is_heard_from_the_first_moment() {
    let app = App::start(|call, _| match call["type"].as_str() {
        Some("connect") => ok(r#"{"join":["early","other"]}"#),
        _ => (204, Vec::new()),
    });
    let node = Node::start(app.config());
    for n in 0..20 {
        let mut client = node.socketio();
        client.send("40");
        assert!(client.text().starts_with("40{\"sid\""));
        node.publish([format!(r#"{{"room":"early","event":"n","data":{n}}}"#)]);
        assert_eq!(client.text(), format!(r#"42["n",{n}]"#));
    }
}

#[test]
fn emits_reach_rooms_others_and_everyone_but_those_excepted() {
    let app = App::start(by_name);
    let node = Node::start(app.config());
    let mut clients: Vec<Caller> = (0..4).map(|_| enter(&node)).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        client.send(&format!(r#"421["join","r{}","all"]"#, at % 2));
        assert_eq!(client.text(), r#"431["in"]"#);
    }
    let end = |clients: &mut Vec<Caller>| {
        node.publish([r#"{"event":"end"}"#.to_owned()]);
        let mut heard = Vec::new();
        for client in clients {
            let texts = client.until("\"end\"");
            heard.push(texts.iter().filter(|text| text.starts_with("42")).count());
        }
        heard
    };
    for (packet, expected) in [
        (r#"422["shout","hey"]"#, [0, 1, 1, 1]),
        (r#"422["tell","r1",[]]"#, [0, 1, 0, 1]),
        (r#"422["tell",["r0","all"],"r1"]"#, [1, 0, 1, 0]),
        (r#"422["tell","everyone","r0"]"#, [0, 1, 0, 1]),
        (r#"422["tell","others","r1"]"#, [0, 0, 1, 0]),
    ] {
        clients[0].send(packet);
        // Whoever is reached hears it in the same turn: what others would wrongly hear stands before the end.
        for (client, _) in clients.iter_mut().zip(expected).filter(|(_, hears)| *hears == 1) {
            while !client.text().starts_with("42") {}
        }
        assert_eq!(end(&mut clients), [0, 0, 0, 0], "{packet}");
    }
    clients[1].send(r#"423["leave","r1"]"#);
    assert_eq!(clients[1].text(), r#"433["out"]"#);
    clients[0].send(r#"422["tell","r1",[]]"#);
    assert_eq!(clients[3].text(), r#"42["told"]"#);
    assert_eq!(end(&mut clients), [0, 0, 0, 0]);
}

#[test]
fn what_the_app_does_not_answer_usably_is_said_to_who_wants_an_ack() {
    let app = App::start(by_name);
    let node = Node::start(app.config());
    let mut client = enter(&node);
    client.send(r#"421["refuse"]"#);
    assert_eq!(
        client.text(),
        r#"431[{"ok":false,"error":{"code":"forbidden","message":"not you","retry":false}}]"#
    );
    client.send(r#"422["wrong"]"#);
    let unavailable =
        r#"[{"ok":false,"error":{"code":"unavailable","message":"the app is unavailable","retry":true}}]"#;
    assert_eq!(client.text(), format!("432{unavailable}"));
    client.send(r#"42["wrong"]"#);
    client.send(r#"423["with-ack",1]"#);
    assert_eq!(client.text(), "433[1]");
    node.settles(&calls_total("event", "unusable"), 2.0);
    node.settles(&calls_total("event", "refused"), 1.0);
}

#[test]
fn while_the_app_is_down_clients_are_sent_back_without_a_refusal() {
    let app =
        App::start(|call, _| if call["type"] == "event" { (500, Vec::new()) } else { (204, Vec::new()) });
    let mut config = app.config();
    let node = Node::start(config.clone());
    let mut client = node.socketio();
    client.send("40");
    client.text();
    client.send(r#"421["e"]"#);
    assert!(client.text().contains(r#""code":"unavailable""#));
    // Nobody listens there.
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoint = config.app.as_mut().unwrap();
    endpoint.url = format!("http://{nowhere}/").parse().unwrap();
    let down = Node::start(config.clone());
    let mut client = down.socketio();
    client.send("40");
    assert_eq!(client.close_code(), 4503);
    down.settles(&calls_total("connect", "unavailable"), 1.0);
    // One that does not answer in time.
    app.shut();
    let mut endpoint = app.endpoint();
    endpoint.timeout = Duration::from_millis(50);
    let late = Node::start(Config { app: Some(endpoint), ..config });
    let mut client = late.socketio();
    client.send("40");
    assert_eq!(client.close_code(), 4503);
    late.settles(&calls_total("connect", "timeout"), 1.0);
    let series =
        r#"fanfare_connections_closed_total{protocol="sio",reason="app_unavailable",transport="websocket"}"#;
    late.settles(series, 1.0);
}

#[test]
fn acknowledgements_of_the_client_are_told_or_their_absence() {
    let app = App::start(by_name);
    let node = Node::start(app.config());
    let mut client = enter(&node);
    client.send(r#"42["ask","first",20000]"#);
    let id = |text: String| {
        text.strip_prefix("42").and_then(|rest| rest.strip_suffix(r#"["asked",7]"#).map(str::to_owned))
    };
    let first = id(client.text()).unwrap();
    client.send(&format!(r#"43{first}["yes",{{"b":1}}]"#));
    let told = app.told("ack", "first");
    assert_eq!((&told["args"], &told["error"]), (&json!(["yes", {"b": 1}]), &Value::Null));
    // Repeated and unknown ones mean nothing.
    client.send(&format!(r#"43{first}["again"]"#));
    client.send(r#"4399["who"]"#);
    client.send(r#"42["ask","second",1]"#);
    assert!(id(client.text()).is_some());
    assert_eq!(app.told("ack", "second")["error"], "timeout");
    client.send(r#"42["ask","third",20000]"#);
    client.text();
    drop(client);
    app.told("disconnect", "transport close");
    let calls = app.calls(8);
    let kinds: Vec<&str> = calls.iter().map(|call| call["type"].as_str().unwrap()).collect();
    assert_eq!(kinds[kinds.len() - 2..], ["ack", "disconnect"], "{kinds:?}");
    assert_eq!(calls[calls.len() - 2]["error"], "disconnected");
}

#[test]
fn a_client_that_acknowledges_too_late_is_not_heard() {
    let mut config = config();
    config.limits.acks = 3;
    let app = App::start(by_name);
    let config = Config { limits: config.limits, ..app.config() };
    let node = Node::start(Config { shards: Some(1), ..config });
    let mut client = enter(&node);
    for token in ["a", "b", "c", "d"] {
        client.send(&format!(r#"42["ask","{token}",20000]"#));
        assert!(client.text().ends_with(r#"["asked",7]"#));
    }
    // The fourth was not asked for: the node waits for three.
    assert_eq!(app.told("ack", "\"d\"")["error"], "limit");
    node.settles(r#"fanfare_limit_reached_total{limit="acks"}"#, 1.0);
}

#[test]
fn binary_arguments_survive_both_formats() {
    let app = App::start(by_name);
    let node = Node::start(app.config());
    let mut client = enter(&node);
    binary_round_trips(&mut client);
    let call = app.told("event", "echo");
    assert_eq!(call["args"], json!([{"$binary": "AQL/"}, {"$$binary": "x"}]));
    // As MessagePack: [{type: "event", args, …}] in, {"emit": […]} out.
    let app = App::start_in(AppFormat::Msgpack, |_, body| {
        let args = msgpack::field(body, "args");
        let event = msgpack::field(body, "event").and_then(msgpack::scalar_text);
        let mut said = Vec::new();
        match (event.as_deref(), args) {
            (Some("with-ack"), Some(args)) => {
                msgpack::write_map_len(1, &mut said);
                msgpack::write_str("ack", &mut said);
                said.extend_from_slice(args);
            }
            (event, args) => {
                msgpack::write_map_len(1, &mut said);
                msgpack::write_str("emit", &mut said);
                msgpack::write_array_len(1, &mut said);
                msgpack::write_map_len(3, &mut said);
                let name = if event.is_some() { "echoed" } else { "auth" };
                for (key, value) in [("to", "sender"), ("event", name)] {
                    msgpack::write_str(key, &mut said);
                    msgpack::write_str(value, &mut said);
                }
                msgpack::write_str("args", &mut said);
                // An empty map in an array where there are none.
                said.extend_from_slice(args.unwrap_or(&[0x91, 0x80]));
            }
        }
        ok(said)
    });
    let node = Node::start(app.config());
    binary_round_trips(&mut enter(&node));
}

fn binary_round_trips(client: &mut Caller) {
    client.send(r#"451-["echo",{"_placeholder":true,"num":0},{"$binary":"x"}]"#);
    client.socket.send(Message::binary(vec![1, 2, 255])).unwrap();
    assert_eq!(client.text(), r#"451-["echoed",{"_placeholder":true,"num":0},{"$binary":"x"}]"#);
    assert_eq!(client.socket.read().unwrap(), Message::binary(vec![1, 2, 255]));
    client.send(r#"451-789["with-ack",{"_placeholder":true,"num":0}]"#);
    client.socket.send(Message::binary(vec![4])).unwrap();
    assert_eq!(client.text(), r#"461-789[{"_placeholder":true,"num":0}]"#);
    assert_eq!(client.socket.read().unwrap(), Message::binary(vec![4]));
}

#[test]
fn a_client_is_not_read_while_too_much_waits_and_does_not_die_of_it() {
    let app = App::start(by_name);
    let mut config = app.config();
    config.limits.pending_commands = 4 << 10;
    let heartbeat = Duration::from_millis(100);
    config.timing = Timing { ping_interval: heartbeat, ping_timeout: heartbeat, ..config.timing };
    let node = Node::start(Config { shards: Some(1), ..config });
    let mut client = node.socketio();
    client.send("40");
    app.calls(1);
    app.shut();
    let filler = "x".repeat(1_000);
    for n in 0..2_000 {
        client.socket.write(Message::text(format!(r#"42["echo",{n},"{filler}"]"#))).unwrap();
    }
    client.socket.flush().unwrap();
    node.settles("fanfare_reading_paused_total", 1.0);
    // Who is read and does not answer is closed meanwhile.
    let mut silent = node.socketio();
    while silent.socket.read().is_ok() {}
    node.settles(
        r#"fanfare_connections_closed_total{protocol="sio",reason="ping_timeout",transport="websocket"}"#,
        1.0,
    );
    app.let_all();
    let mut next = 0;
    while next < 2_000 {
        let text = client.text();
        if text == "2" {
            client.send("3");
        } else if text.contains("echoed") {
            assert!(text.starts_with(&format!(r#"42["echoed",{next},"#)), "{next}: {text:.40}");
            next += 1;
        }
    }
}

#[test]
fn a_poll_that_comes_while_a_post_is_held_back_finds_its_session() {
    let app = App::start(by_name);
    let mut config = app.config();
    config.limits.pending_commands = 4 << 10;
    let heartbeat = Duration::from_millis(100);
    config.timing = Timing { ping_interval: heartbeat, ping_timeout: heartbeat, ..config.timing };
    let node = Node::start(config);
    let mut polls = Polls::open(&node, "/socket.io/");
    polls.says("40");
    polls.says(r#"420["join","r"]"#);
    while !polls.get().body().contains("430[") {}
    app.shut();
    let echo = format!(r#"42["echo","{}"]"#, "x".repeat(1_000));
    polls.posts.send(&format!("POST {}", polls.target()), [echo.as_str(); 20].join("\x1e").as_bytes());
    node.settles("fanfare_reading_paused_total", 1.0);
    // The client cannot answer pings meanwhile: its POST is under way.
    let mut pings = 0;
    let begun = Instant::now();
    while begun.elapsed() < 10 * heartbeat {
        node.publish([event("r", "n", 1)]);
        let response = polls.get();
        assert_eq!(response.status, 200, "after {:?}: {response:?}", begun.elapsed());
        pings += response.body().split('\x1e').filter(|packet| *packet == "2").count();
    }
    assert_eq!(pings, 1);
    app.let_all();
    assert_eq!(polls.posts.response().unwrap().said(), (200, "ok"));
}

#[test]
fn plain_clients_are_told_let_in_and_refused() {
    let app = App::start(|call, body| match call["handshake"]["query"]["as"].as_str() {
        Some("nobody") => ok(r#"{"ok":false,"message":"nope"}"#),
        _ => by_name(call, body),
    });
    let node = Node::start(app.config());
    let mut refused = node.connect("/ws?as=nobody");
    assert_eq!(refused.text(), r#"{"type":"error","code":"forbidden","message":"nope","retry":false}"#);
    assert_eq!(refused.close_code(), 4403);
    let mut client = node.connect("/ws");
    assert_eq!(client.text(), r#"{"type":"connection_success","message":"connected"}"#);
    assert_eq!(client.text(), r#"{"type":"event","event":"auth","data":{}}"#);
    client.send(r#"{"type":"event","id":5,"room":"r","event":"with-ack","args":[1,"x"]}"#);
    assert_eq!(client.text(), r#"{"type":"reply","id":5,"ok":true,"args":[1,"x"]}"#);
    assert_eq!(app.told("event", "with-ack")["room"], "r");
    client.send(r#"{"type":"event","id":6,"room":"r","event":"unknown"}"#);
    assert_eq!(client.text(), r#"{"type":"reply","id":6,"ok":true}"#);
    client.send(r#"{"type":"event","room":"r","event":"close-me"}"#);
    assert_eq!(client.close_code(), 4005);
    app.told("disconnect", "server namespace disconnect");
}

#[test]
fn rules_keep_precedence_and_development_keeps_its_events() {
    let app = App::start(by_name);
    let node = Node::start(Config { rules: fanfare_edge::rules::Rules::open(), ..app.config() });
    let mut client = enter(&node);
    client.send(r#"421["join","r"]"#);
    assert_eq!(client.text(), r#"431[{"ok":true}]"#);
    client.send(r#"422["publish","r","e",1]"#);
    let mut both = [client.text(), client.text()];
    both.sort();
    assert_eq!(both, [r#"42["e",1]"#, r#"432[{"ok":true}]"#]);
    client.send(r#"423["with-ack",2]"#);
    assert_eq!(client.text(), "433[2]");
    assert_eq!(app.calls(2).len(), 2);
}

#[test]
fn only_the_named_namespaces_are_told() {
    let app = App::start(by_name);
    let mut endpoint = app.endpoint();
    endpoint.namespaces = Some(vec![fanfare_edge::rules::Pattern::parse("/tenant-{id}").unwrap()]);
    let namespaces = Namespaces::new(["/tenant-{id}"]).unwrap();
    let node = Node::start(Config { namespaces, app: Some(endpoint), ..app.config() });
    let mut client = node.socketio();
    client.send("40");
    assert!(client.text().starts_with("40{"));
    client.send(r#"421["e"]"#);
    assert!(client.text().contains("\"code\":\"forbidden\""));
    client.send("40/tenant-7,");
    assert!(client.text().starts_with("40/tenant-7,{"));
    assert_eq!(client.text(), r#"42/tenant-7,["auth",{}]"#);
    assert_eq!(app.calls(1)[0]["namespace"], "/tenant-7");
}

#[test]
fn nothing_sent_to_a_session_comes_before_it_is_let_in() {
    let app = App::start(|_, _| (204, Vec::new()));
    let node = Node::start(app.config());
    app.shut();
    let mut client = node.socketio();
    client.send("40");
    let sid = app.calls(1)[0]["sid"].as_str().unwrap().to_owned();
    // Its own channel is there before the app has answered.
    node.settles("fanfare_redis_subscriptions", 1.0);
    let publish = |n: usize| node.publish([format!(r#"{{"room":"{sid}","event":"n","data":{n}}}"#)]);
    publish(1);
    node.settles(r#"fanfare_publications_received_total{kind="room"}"#, 1.0);
    app.let_all();
    assert!(client.text().starts_with("40{"));
    publish(2);
    assert_eq!(client.text(), r#"42["n",2]"#);
}
