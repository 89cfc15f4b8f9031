//! What emitters and other servers ask of a node, put into its feed as the Redis broker would.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fanfare_broker::memory::MemoryFeed;
use fanfare_broker::{Channel, Delivery, Feed, Request, Target, Turn};
use fanfare_edge::{Config, Timing};
use fanfare_protocol::msgpack;
use fanfare_protocol::publication::Rooms;
use serde_json::json;
use tungstenite::Message;

use super::scripted::{App, ok};
use super::{by_name, enter};
use crate::harness::{Caller, Node, config};

type Wake = Arc<dyn Fn() + Send + Sync>;

/// The memory broker's feed, with requests between what it hands out. It can keep the room `late` waiting.
struct AskedFeed {
    inner: MemoryFeed,
    requests: Receiver<Request>,
    wake: Arc<Mutex<Option<Wake>>>,
    holds: Arc<AtomicBool>,
    held: bool,
}

const LATE: Channel<'static> = Channel::Room { namespace: "/", room: "late" };

impl Feed for AskedFeed {
    fn start(&mut self, wake: Wake) {
        *self.wake.lock().unwrap() = Some(wake.clone());
        self.inner.start(wake);
    }

    fn want(&mut self, channel: Channel<'_>, wanted: bool) {
        if channel == LATE && wanted && self.holds.load(Ordering::SeqCst) {
            self.held = true;
        } else {
            self.inner.want(channel, wanted);
        }
    }

    fn turn(&mut self, now: Instant, budget: usize, sink: &mut dyn FnMut(Delivery<'_>)) -> Turn {
        if self.held && !self.holds.load(Ordering::SeqCst) {
            self.held = false;
            self.inner.want(LATE, true);
        }
        for request in self.requests.try_iter() {
            sink(Delivery::Request { channel: Channel::Requests("/"), namespace: "/", request });
        }
        self.inner.turn(now, budget, sink)
    }
}

/// A node of which something can be asked.
struct AskedNode {
    node: Node,
    requests: Sender<Request>,
    wake: Arc<Mutex<Option<Wake>>>,
    holds: Arc<AtomicBool>,
}

impl AskedNode {
    fn start(config: Config) -> Self {
        let (sender, requests) = channel();
        let (wake, holds) = (Arc::new(Mutex::new(None)), Arc::new(AtomicBool::new(false)));
        let node = Node::start_fed(config, None, |inner| {
            let (wake, holds) = (wake.clone(), holds.clone());
            Box::new(AskedFeed { inner, requests, wake, holds, held: false })
        });
        Self { node, requests: sender, wake, holds }
    }

    fn wake(&self) {
        self.wake.lock().unwrap().as_ref().unwrap()();
    }

    fn ask(&self, request: Request) {
        self.requests.send(request).unwrap();
        self.wake();
    }
}

fn rooms(names: &[&str]) -> Rooms<'static> {
    names.iter().map(|name| (*name).to_owned().into()).collect()
}

fn target(of: &[&str], except: &[&str]) -> Target {
    Target { rooms: rooms(of), except: rooms(except) }
}

/// A client of `/` in a room, and its session id.
fn member(node: &Node, room: &str) -> (Caller, String) {
    let mut client = node.socketio();
    client.send("40");
    let answer = client.text();
    client.send(&format!(r#"421["join","{room}"]"#));
    assert_eq!(client.text(), r#"431[{"ok":true}]"#);
    (client, answer[r#"40{"sid":""#.len()..].trim_end_matches("\"}").to_owned())
}

#[test]
fn sessions_join_leave_and_end_by_room_by_sid_and_all_together() {
    let asked = AskedNode::start(config());
    let node = &asked.node;
    let (mut clients, sids): (Vec<Caller>, Vec<String>) =
        (0..6).map(|at| member(node, ["even", "odd"][at % 2])).unzip();
    let heard = |clients: &mut [Caller], room: &str| -> Vec<usize> {
        node.publish([format!(r#"{{"room":"{room}","event":"n"}}"#), r#"{"event":"end"}"#.to_owned()]);
        let counts = clients.iter_mut().map(|client| client.until("\"end\"").len());
        counts.collect()
    };
    asked.ask(Request::Join {
        target: target(&["even", &sids[1]], &[&sids[2]]),
        rooms: rooms(&["new"]),
        asker: None,
    });
    node.settles("fanfare_memberships", 6.0 + 3.0);
    assert_eq!(heard(&mut clients, "new"), [1, 1, 0, 0, 1, 0]);
    asked.ask(Request::Leave { target: target(&[], &["odd"]), rooms: rooms(&["new", "even"]), asker: None });
    node.settles("fanfare_memberships", 9.0 - 5.0);
    assert_eq!(heard(&mut clients, "new"), [0, 1, 0, 0, 0, 0]);
    assert_eq!(heard(&mut clients, "even"), [0; 6]);
    asked.ask(Request::Disconnect { target: target(&[&sids[0]], &[]), close: false, asker: None });
    assert_eq!(clients[0].text(), "41");
    clients[0].send("40");
    assert!(clients[0].text().starts_with("40{"));
    asked.ask(Request::Disconnect { target: target(&[], &["odd"]), close: true, asker: None });
    for (at, client) in clients.iter_mut().enumerate() {
        if at % 2 == 0 {
            assert_eq!(client.text(), "41");
            assert_eq!(client.close_code(), 4005);
        }
    }
    node.settles(r#"fanfare_connections{protocol="sio",transport="websocket"}"#, 3.0);
    node.settles("fanfare_memberships", 4.0);
}

#[test]
fn who_is_thrown_out_is_told_to_the_app_as_such() {
    let app = App::start(by_name);
    let asked = AskedNode::start(app.config());
    let mut client = enter(&asked.node);
    asked.ask(Request::Disconnect { target: Target::default(), close: false, asker: None });
    assert_eq!(client.text(), "41");
    app.told("disconnect", "server namespace disconnect");
}

#[test]
fn an_event_of_another_server_is_told_once_and_may_be_answered_by_emits() {
    let app = App::start(|call, body| match call["type"].as_str() {
        Some("server_side_emit") => {
            ok(r#"{"emit":[{"to":"everyone","event":"heard"},{"to":"sender","event":"lost"}],"ack":[1]}"#)
        }
        _ => by_name(call, body),
    });
    let asked = AskedNode::start(app.config());
    let mut clients: Vec<Caller> = (0..3).map(|_| enter(&asked.node)).collect();
    asked.ask(Request::ServerSideEmit { data: msgpack::event("hello", &[&[7]]), asker: None });
    for client in &mut clients {
        assert_eq!(client.text(), r#"42["heard"]"#);
    }
    let calls = app.calls(4);
    let call = &calls[3];
    assert_eq!(
        (&call["type"], &call["event"], &call["args"]),
        (&json!("server_side_emit"), &json!("hello"), &json!([7]))
    );
    assert!(call["sid"].is_null() && call["node"] == "node");
    asked.node.settles(r#"fanfare_app_effects_dropped_total{reason="gone"}"#, 1.0);
}

#[test]
fn a_connect_waits_for_the_rooms_of_its_answer() {
    let app = App::start(|call, _| match call["type"].as_str() {
        Some("connect") => ok(r#"{"join":["late","other"],"emit":[{"to":"late","event":"hello"}]}"#),
        _ => (204, Vec::new()),
    });
    let mut config = app.config();
    let soon = Duration::from_millis(100);
    let never = Duration::from_secs(600);
    config.timing = Timing { ping_interval: soon, join_timeout: never, ..config.timing };
    let asked = AskedNode::start(config);
    asked.holds.store(true, Ordering::SeqCst);
    let mut client = asked.node.socketio();
    client.send("40");
    app.calls(1);
    // While the broker has not confirmed the room, a heartbeat is all that comes.
    assert_eq!(client.text(), "2");
    client.send("3");
    asked.holds.store(false, Ordering::SeqCst);
    asked.wake();
    assert!(client.text().starts_with("40{"));
    assert_eq!(client.text(), r#"42["hello"]"#);
}

#[test]
fn a_join_that_waited_lets_nobody_hear_who_was_thrown_out() {
    let asked = AskedNode::start(config());
    let (mut client, _) = member(&asked.node, "r");
    asked.holds.store(true, Ordering::SeqCst);
    client.send(r#"421["join","late"]"#);
    asked.node.settles("fanfare_rooms", 2.0);
    asked.ask(Request::Disconnect { target: Target::default(), close: false, asker: None });
    assert_eq!(client.text(), "41");
    client.send("40");
    client.send(r#"422["join","other"]"#);
    asked.holds.store(false, Ordering::SeqCst);
    asked.wake();
    assert!(client.text().starts_with("40{"));
    assert_eq!(client.text(), r#"432[{"ok":true}]"#);
    asked.node.settles("fanfare_memberships", 1.0);
    asked.node.settles("fanfare_rooms", 1.0);
}

#[test]
fn who_left_and_was_thrown_out_at_once_can_come_back() {
    let app = App::start(by_name);
    let asked = AskedNode::start(app.config());
    let mut client = enter(&asked.node);
    app.shut();
    // Read together.
    client.socket.write(Message::text(r#"42["slow"]"#)).unwrap();
    client.send("41");
    app.calls(2);
    asked.ask(Request::Disconnect { target: Target::default(), close: false, asker: None });
    assert_eq!(client.text(), "41");
    client.send("40");
    app.let_all();
    assert!(client.text().starts_with("40{"));
}
