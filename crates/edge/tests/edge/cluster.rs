//! Two edges that know each other: sessions of one through the other are as if they were its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fanfare_edge::cluster::{FixedDirectory, Secret};
use fanfare_edge::{Config, Directory, Limits, Timing};

use crate::event;
use crate::harness::{Node, config};
use crate::http::{Http, Polls};

const UNKNOWN: (u16, &str) = (400, r#"{"code":1,"message":"Session ID unknown"}"#);

/// A request without an answer for so long has reached the owner.
const PARKED: Duration = Duration::from_millis(100);

/// Two nodes; each finds the other.
struct Pair {
    entry: Node,
    owner: Node,
}

impl Pair {
    fn start(config: &Config) -> Self {
        let directory = Arc::new(FixedDirectory::new(Secret::new("a secret of the tests")));
        let start = |label: &str| {
            let config = Config { label: Some(label.to_owned()), ..config.clone() };
            let node = Node::start_in(config, Some(directory.clone() as Arc<dyn Directory>));
            directory.add(label, node.edge.private().to_string());
            node
        };
        Self { entry: start("entry"), owner: start("owner") }
    }

    /// A session of the owner whose requests go to the other node.
    fn polls(&self) -> Polls {
        let mut polls = Polls::open(&self.owner, "/socket.io/");
        assert!(polls.sid.starts_with("owner."));
        (polls.gets, polls.posts) = (Http::to(&self.entry), Http::to(&self.entry));
        polls
    }

    fn forwarded(&self, kind: &str, result: &str) -> f64 {
        let labels = format!(r#"{{kind="{kind}",result="{result}"}}"#);
        self.entry.metric(&format!("fanfare_forwarded_requests_total{labels}"))
    }
}

#[test]
fn a_session_goes_on_through_another_node() {
    let pair = Pair::start(&config());
    let mut polls = pair.polls();
    polls.says("40");
    let connected = polls.get();
    assert!(connected.body().starts_with(r#"40{"sid":""#), "{connected:?}");
    assert_eq!(connected.header("content-type").as_deref(), Some("text/plain; charset=UTF-8"));
    assert_eq!(connected.header("cache-control").as_deref(), Some("no-store"));
    polls.says(r#"421["join","r"]"#);
    assert_eq!(polls.packets(1), [r#"431[{"ok":true}]"#]);
    // One that waits, and one of each node in turn.
    polls.send_get();
    pair.entry.settles("fanfare_forwarded_requests", 1.0);
    pair.owner.publish([event("r", "n", 1)]);
    assert_eq!(polls.gets.response().unwrap().body(), r#"42["n",1]"#);
    for number in 2..10 {
        polls.gets = Http::to(if number % 2 == 0 { &pair.owner } else { &pair.entry });
        pair.owner.publish([event("r", "n", number)]);
        assert_eq!(polls.packets(1), [format!(r#"42["n",{number}]"#)]);
    }
    assert_eq!(pair.forwarded("poll", "ok"), 7.0);
    assert_eq!(pair.forwarded("post", "ok"), 2.0);
    assert_eq!(pair.owner.metric("fanfare_links"), 1.0);
}

#[test]
fn what_a_browser_is_told_it_is_told_once() {
    let pair = Pair::start(&config());
    let mut polls = pair.polls();
    polls.says("40");
    assert_eq!(polls.packets(1).len(), 1);
    polls.says(r#"421["join","r"]"#);
    let filler = "x".repeat(5_000);
    polls.send_get();
    polls.gets.response().unwrap();
    pair.owner.publish([format!(r#"{{"room":"r","event":"e","data":"{filler}"}}"#)]);
    let page = format!("GET {}\r\norigin: https://page.example\r\naccept-encoding: gzip", polls.target());
    let response = polls.gets.ask(&page, b"");
    assert_eq!(response.status, 200);
    for (name, value) in [("access-control-allow-origin", "*"), ("content-encoding", "gzip")] {
        assert_eq!(response.header(name).as_deref(), Some(value), "{response:?}");
    }
    assert!(response.bytes.len() < 1_000 && response.bytes.starts_with(&[0x1f, 0x8b]));
    // A browser that asks first is answered here, and one whose owner is gone, too.
    let ask = format!("OPTIONS {}\r\norigin: https://page.example", polls.target());
    let response = polls.posts.ask(&ask, b"");
    assert_eq!((response.status, pair.forwarded("other", "ok")), (204, 0.0));
    polls.sid = polls.sid.replace("owner", "nobody");
    let response = polls.get();
    assert_eq!(response.said(), UNKNOWN);
    assert_eq!(response.header("access-control-allow-origin").as_deref(), Some("*"));
}

#[test]
fn what_a_session_must_not_do_it_must_not_do_through_another_node() {
    let pair = Pair::start(&Config { limits: Limits { max_payload: 1000, ..config().limits }, ..config() });
    // A second GET.
    let mut polls = pair.polls();
    polls.send_get();
    assert!(polls.gets.is_silent(PARKED));
    assert_eq!(polls.get_anew(&pair.owner).said(), (400, ""));
    assert_eq!(polls.gets.response().unwrap().said(), (200, "1"));
    assert_eq!(polls.get().said(), UNKNOWN);
    // A GET that is cut off.
    let mut polls = pair.polls();
    polls.send_get();
    assert!(polls.gets.is_silent(PARKED));
    polls.gets = Http::to(&pair.entry);
    pair.owner.settles(r#"fanfare_connections{protocol="sio",transport="polling"}"#, 0.0);
    assert_eq!(polls.get().said(), UNKNOWN);
    // A second POST: the first one's connection is taken away.
    let mut polls = pair.polls();
    let mut first = Http::to(&pair.entry);
    let head = format!("POST {} HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\n40", polls.target());
    std::io::Write::write_all(&mut first.stream, head.as_bytes()).unwrap();
    assert!(first.is_silent(PARKED));
    assert_eq!(polls.post("40").said(), (400, ""));
    assert_eq!(first.response(), None);
    assert_eq!(polls.get().said(), UNKNOWN);
    // Too much: the session stays.
    let mut polls = pair.polls();
    assert_eq!(polls.post(&format!("4{}", "x".repeat(1000))).said(), (413, ""));
    polls.posts = Http::to(&pair.entry);
    polls.says("40");
    assert_eq!(polls.packets(1).len(), 1);
    // Another method.
    let mut http = Http::to(&pair.entry);
    assert_eq!(http.ask(&format!("DELETE {}", polls.target()), b"").said(), (500, ""));
    // A session that the owner never had.
    polls.sid = format!("owner.{}", "A".repeat(27));
    assert_eq!(polls.get().said(), UNKNOWN);
    assert_eq!(polls.post("40").said(), UNKNOWN);
}

#[test]
fn the_session_of_a_dead_owner_is_unknown_at_once() {
    let pair = Pair::start(&config());
    let mut polls = pair.polls();
    // Nobody is called so.
    let mut stranger = pair.polls();
    stranger.sid = stranger.sid.replace("owner", "stranger");
    assert_eq!(stranger.get().said(), UNKNOWN);
    polls.send_get();
    assert!(polls.gets.is_silent(PARKED));
    let Pair { entry, owner } = pair;
    // Its links and its listeners end; its shards do not, but nobody reaches them.
    let begun = Instant::now();
    owner.runtime.shutdown_background();
    assert_eq!(polls.gets.response().unwrap().said(), UNKNOWN);
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(polls.post("40").said(), UNKNOWN);
    let gone = r#"fanfare_forwarded_requests_total{kind="poll",result="gone"}"#;
    assert_eq!(entry.metric(gone), 2.0);
}

#[test]
fn a_session_is_upgraded_through_another_node() {
    let pair = Pair::start(&config());
    let mut polls = pair.polls();
    polls.says("40");
    assert_eq!(polls.packets(1).len(), 1);
    let path = format!("/socket.io/?EIO=4&transport=websocket&sid={}", polls.sid);
    let mut socket = pair.entry.connect(&path);
    socket.send("2probe");
    assert_eq!(socket.text(), "3probe");
    assert_eq!(polls.get().said(), (200, "6"));
    socket.send("5");
    socket.send(r#"421["join","r"]"#);
    assert_eq!(socket.text(), r#"431[{"ok":true}]"#);
    // More than a socket takes at once.
    let filler = "x".repeat(900_000);
    let batch = (0..5).map(|_| format!(r#"{{"room":"r","event":"e","data":"{filler}"}}"#));
    pair.owner.publish(batch);
    for _ in 0..5 {
        assert_eq!(socket.text(), format!(r#"42["e","{filler}"]"#));
    }
    assert_eq!(pair.entry.metric("fanfare_tunnelled_connections"), 1.0);
    assert_eq!(pair.forwarded("upgrade", "ok"), 1.0);
    // The client's end, and the owner's.
    drop(socket);
    pair.owner.settles(r#"fanfare_connections{protocol="sio",transport="websocket"}"#, 0.0);
    pair.entry.settles("fanfare_tunnelled_connections", 0.0);
    let mut nobody = pair.polls();
    nobody.sid = format!("owner.{}", "A".repeat(27));
    let head = format!("GET {}\r\nconnection: upgrade\r\nupgrade: websocket", nobody.target());
    let refused = nobody.gets.ask(&head.replace("polling", "websocket"), b"");
    assert_eq!(refused.said(), (400, "Session ID unknown"));
}

#[test]
fn a_node_that_leaves_ends_what_passes_through_it() {
    let timing = Timing { drain_window: Duration::from_millis(300), ..config().timing };
    let pair = Pair::start(&Config { timing, ..config() });
    let mut polls = pair.polls();
    polls.send_get();
    pair.entry.settles("fanfare_forwarded_requests", 1.0);
    pair.entry.runtime.block_on(pair.entry.edge.drain());
    assert_eq!(pair.entry.metric("fanfare_forwarded_requests"), 0.0);
    assert_eq!(polls.gets.response(), None);
}
