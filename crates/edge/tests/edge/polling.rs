//! Long-polling as raw HTTP: every row of the reference server's results.

use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::event;
use crate::harness::{DEADLINE, Node, config};
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
        (
            "POST /socket.io/?EIO=4&transport=polling&sid=",
            (400, r#"{"code":2,"message":"Bad handshake method"}"#),
        ),
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

#[test]
fn other_methods_of_a_session_are_an_error_of_the_servers() {
    let node = Node::start(config());
    let mut polls = Polls::open(&node, "/socket.io/");
    for method in ["PUT", "DELETE", "PATCH"] {
        let response = Http::to(&node).ask(&format!("{method} {}", polls.target()), b"");
        assert_eq!(response.said(), (500, ""), "{method}");
    }
    polls.says("3");
    for (query, sid) in [("EIO=3&transport=polling", &*polls.sid), ("EIO=4&transport=websocket", &*polls.sid)]
    {
        let response = Http::to(&node).ask(&format!("GET /socket.io/?{query}&sid={sid}"), b"");
        assert_eq!(response.said(), BAD_REQUEST, "{query}");
    }
    let mut direct = node.connect("/socket.io/?EIO=4&transport=websocket");
    let open = direct.text();
    let sid = open.strip_prefix(r#"0{"sid":""#).and_then(|rest| rest.split('"').next()).unwrap();
    let target = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    assert_eq!(Http::to(&node).ask(&format!("GET {target}"), b"").said(), BAD_REQUEST);
    assert_eq!(Http::to(&node).ask(&format!("POST {target}"), b"3").said(), BAD_REQUEST);
}

#[test]
fn what_is_taken_and_what_ends_a_session() {
    let node = Node::start(config());
    // What the POST is answered, and what a GET is told then.
    type Said = (u16, &'static str);
    let rows: [(&str, Said, Said); 12] = [
        ("abc", (200, "ok"), UNKNOWN),
        ("", (200, "ok"), UNKNOWN),
        ("2", (200, "ok"), UNKNOWN),
        ("2probe", (200, "ok"), UNKNOWN),
        ("bA", (200, "ok"), UNKNOWN),
        ("40\x1e\x1e40/admin,", (200, "ok"), UNKNOWN),
        ("4abc", (200, "ok"), (200, "6\x1e1")),
        ("42[\"before any namespace\"]", (200, "ok"), (200, "6\x1e1")),
        ("40/random,", (200, "ok"), (200, "44/random,{\"message\":\"Invalid namespace\"}")),
        (
            "0\x1e3\x1e5\x1e6\x1e40/random,",
            (200, "ok"),
            (200, "44/random,{\"message\":\"Invalid namespace\"}"),
        ),
        // What comes before the packet that is none is done.
        ("40/random,\x1e4abc", (200, "ok"), (200, "44/random,{\"message\":\"Invalid namespace\"}")),
        ("1", (200, "ok"), (200, "6")),
    ];
    for (body, answer, then) in rows {
        let mut polls = Polls::open(&node, "/socket.io/");
        let taken = polls.post(body);
        assert_eq!(taken.said(), answer, "{body}");
        assert_eq!(taken.header("content-type").as_deref(), Some("text/html"), "{body}");
        assert_eq!(taken.header("content-length").as_deref(), Some("2"), "{body}");
        assert_eq!(taken.header("cache-control").as_deref(), Some("no-store"), "{body}");
        assert_eq!(polls.get().said(), then, "{body}");
        if then.1.contains('6') {
            assert_eq!(polls.get().said(), UNKNOWN, "{body}");
        }
    }
    let mut polls = Polls::open(&node, "/socket.io/");
    let target = format!("POST {}", polls.target());
    assert_eq!(polls.posts.ask(&target, b"4\xFF\xFE").said(), (200, "ok"), "no UTF-8");
    assert_eq!(polls.get().said(), UNKNOWN);
}

#[test]
fn content_types_do_not_matter_but_for_the_one_of_the_old_protocol() {
    let node = Node::start(config());
    let mut polls = Polls::open(&node, "/socket.io/");
    for kind in ["text/plain;charset=UTF-8", "application/json", "nonsense"] {
        let head = format!("POST {}\r\ncontent-type: {kind}", polls.target());
        assert_eq!(polls.posts.ask(&head, b"3").said(), (200, "ok"), "{kind}");
    }
    let head = format!("POST {}\r\ncontent-type: application/octet-stream", polls.target());
    assert_eq!(polls.posts.ask(&head, b"3").said(), (400, ""));
    assert_eq!(polls.get().said(), UNKNOWN);
}

#[test]
fn a_get_that_waits_hears_of_the_sessions_end() {
    let mut config = config();
    config.timing.connect_timeout = Duration::from_millis(300);
    let node = Node::start(config);
    // The client closes, breaks the protocol of the transport, and that of what is spoken over it.
    for (body, expected) in [("1", "6"), ("abc", "1"), ("4abc", "1")] {
        let mut polls = Polls::open(&node, "/socket.io/");
        polls.send_get();
        assert!(polls.gets.is_silent(Duration::from_millis(20)));
        polls.says(body);
        assert_eq!(polls.gets.response().unwrap().said(), (200, expected), "{body}");
        assert_eq!(polls.get().said(), UNKNOWN, "{body}");
    }
    // No namespace in time: the GET that waits, or the next one.
    let (mut waiting, mut late) = (Polls::open(&node, "/socket.io/"), Polls::open(&node, "/socket.io/"));
    assert_eq!(waiting.get().said(), (200, "1"));
    node.settles(r#"fanfare_connections{protocol="sio",transport="polling"}"#, 1.0);
    assert!(late.gets.is_silent(Duration::from_millis(100)));
    assert_eq!(late.get().said(), (200, "6\x1e1"));
    assert_eq!(late.get().said(), UNKNOWN);
}

#[test]
fn bodies_are_bounded_and_a_larger_one_leaves_the_session() {
    let mut config = config();
    config.limits.max_payload = 10_000;
    let node = Node::start(config);
    let mut polls = Polls::open(&node, "/socket.io/");
    for size in [10_001, 39_999, 100_000] {
        let mut http = Http::to(&node);
        let response = http.ask(&format!("POST {}", polls.target()), "x".repeat(size).as_bytes());
        assert_eq!(response.said(), (413, ""), "{size}");
    }
    polls.says("40/random,");
    assert_eq!(polls.get().status, 200);
    assert_eq!(node.metric(r#"fanfare_limit_reached_total{limit="max_payload"}"#), 3.0);
    node.settles("fanfare_post_bytes", 0.0);
}

#[test]
fn all_bodies_together_are_bounded() {
    let mut config = config();
    config.limits.post_budget = 100_000;
    let node = Node::start(config);
    let begin = |count: usize| {
        let mut polls = Polls::open(&node, "/socket.io/");
        let head = format!("POST {} HTTP/1.1\r\nhost: test\r\ncontent-length: 60001\r\n\r\n", polls.target());
        polls.posts.stream.write_all(head.as_bytes()).unwrap();
        polls.posts.stream.write_all(&vec![b'3'; count]).unwrap();
        polls
    };
    let mut first = begin(60_000);
    node.settles("fanfare_post_bytes", 60_000.0);
    let mut second = begin(60_000);
    assert_eq!(second.posts.response().unwrap().said(), (503, ""));
    assert_eq!(second.get().said(), UNKNOWN);
    assert_eq!(node.metric(r#"fanfare_limit_reached_total{limit="post_budget"}"#), 1.0);
    first.posts.stream.write_all(b"3").unwrap();
    assert_eq!(first.posts.response().unwrap().said(), (200, "ok"));
    node.settles("fanfare_post_bytes", 0.0);
}

#[test]
fn a_second_post_ends_both_and_the_session() {
    let node = Node::start(config());
    let mut polls = Polls::open(&node, "/socket.io/");
    let head = format!("POST {} HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\n3", polls.target());
    polls.posts.stream.write_all(head.as_bytes()).unwrap();
    node.settles("fanfare_post_bytes", 1.0);
    assert_eq!(Http::to(&node).ask(&format!("POST {}", polls.target()), b"3").said(), (400, ""));
    assert_eq!(polls.posts.response(), None);
    assert_eq!(polls.get().said(), UNKNOWN);
    node.settles("fanfare_post_bytes", 0.0);
}

#[test]
fn a_body_without_end_is_given_up_and_one_cut_off_ends_the_session() {
    let mut config = config();
    config.timing.body_timeout = Duration::from_millis(200);
    let node = Node::start(config);
    for cut in [false, true] {
        let mut polls = Polls::open(&node, "/socket.io/");
        let head = format!("POST {} HTTP/1.1\r\nhost: test\r\ncontent-length: 10\r\n\r\n3", polls.target());
        polls.posts.stream.write_all(head.as_bytes()).unwrap();
        // The session is counted by then: a scrape before would find none, too.
        node.settles("fanfare_post_bytes", 1.0);
        if cut {
            polls.posts = Http::to(&node);
        } else {
            assert_eq!(polls.posts.response().unwrap().said(), (408, ""));
        }
        node.settles(r#"fanfare_connections{protocol="sio",transport="polling"}"#, 0.0);
        assert_eq!(polls.get().said(), UNKNOWN);
    }
    node.settles("fanfare_post_bytes", 0.0);
}

#[test]
fn a_post_is_answered_when_what_it_asks_no_longer_waits() {
    let mut config = config();
    config.limits.pending_commands = 1_000;
    config.limits.rooms_per_connection = 10_000;
    let node = Node::start(config);
    let mut polls = Polls::open(&node, "/socket.io/");
    polls.says("40");
    assert!(polls.get().body().starts_with("40{"));
    // Each join waits for the broker, and the next for it.
    let joins: Vec<String> = (0..2_000).map(|n| format!(r#"42{n}["join","r{n}"]"#)).collect();
    polls.says(&joins.join("\x1e"));
    node.comes_to("fanfare_reading_paused_total", |paused| paused >= 1.0);
    let answers = polls.packets(2_000);
    let expected: Vec<String> = (0..2_000).map(|n| format!(r#"43{n}[{{"ok":true}}]"#)).collect();
    assert!(answers == expected, "{:?}", answers.first());
}

/// Milliseconds late where the machine is idle; a busy one may take longer to run anything at all.
const SOON: Duration = Duration::from_secs(3);

#[test]
fn heartbeats_keep_a_session_and_silence_ends_it_never_early() {
    let mut config = config();
    config.timing.ping_interval = Duration::from_millis(300);
    config.timing.ping_timeout = Duration::from_millis(200);
    let node = Node::start(config);
    let mut polls = Polls::open(&node, "/socket.io/");
    polls.says("40");
    assert!(polls.get().body().starts_with("40{"));
    for _ in 0..3 {
        let since = Instant::now();
        assert_eq!(polls.get().said(), (200, "2"));
        let waited = since.elapsed();
        assert!(waited > Duration::from_millis(250) && waited < SOON, "{waited:?}");
        polls.says("3");
    }
    // A GET does not keep it: after the ping, only its answer does.
    let since = Instant::now();
    assert_eq!(polls.get().said(), (200, "2"));
    assert_eq!(polls.get().said(), (200, "1"));
    let waited = since.elapsed();
    assert!(waited > Duration::from_millis(480) && waited < SOON, "{waited:?}");
    assert_eq!(polls.get().said(), UNKNOWN);
    // With nobody there to be told, it is over all the same, on the dot.
    let ended =
        r#"fanfare_connections_closed_total{protocol="sio",reason="ping_timeout",transport="polling"}"#;
    for before_it in 1..4 {
        let before = Instant::now();
        let polls = Polls::open(&node, "/socket.io/");
        let opened = Instant::now();
        node.settles(ended, f64::from(before_it) + 1.0);
        assert!(before.elapsed() > Duration::from_millis(500));
        assert!(opened.elapsed() < SOON, "{:?}", opened.elapsed());
        assert_eq!(polls.get_anew(&node).said(), UNKNOWN);
    }
}

#[test]
fn volatile_is_dropped_where_no_get_waits() {
    let node = Node::start(config());
    let mut polls = Polls::open(&node, "/socket.io/");
    polls.says("40\x1e421[\"join\",\"r\"]");
    polls.packets(2);
    let volatile = |n: usize| format!(r#"{{"room":"r","event":"v","data":{n},"volatile":true}}"#);
    node.publish([volatile(1)]);
    node.settles(r#"fanfare_deliveries_dropped_total{reason="volatile"}"#, 1.0);
    polls.send_get();
    assert!(polls.gets.is_silent(Duration::from_millis(50)));
    node.publish([volatile(2)]);
    assert_eq!(polls.gets.response().unwrap().body(), r#"42["v",2]"#);
}

#[test]
fn an_answer_has_a_bound_and_the_next_one_goes_on() {
    let node = Node::start(config());
    let mut polls = Polls::open(&node, "/socket.io/");
    polls.says("40\x1e421[\"join\",\"r\"]");
    polls.packets(2);
    let filler = "x".repeat(20_000);
    node.publish((0..7).map(|n| format!(r#"{{"room":"r","event":"n","args":[{n},"{filler}"]}}"#)));
    node.settles("fanfare_outbox_frames", 7.0);
    let sizes: Vec<usize> = (0..3).map(|_| polls.get().body().split('\x1e').count()).collect();
    assert_eq!(sizes, [3, 3, 1]);
    let large = "x".repeat(3_000_000);
    node.publish([format!(r#"{{"room":"r","event":"n","data":"{large}"}}"#)]);
    assert_eq!(polls.get().body().len(), large.len() + 10);
}

#[test]
fn a_leaving_node_tells_those_who_poll_and_serves_them_until_then() {
    let mut config = config();
    config.timing.drain_window = Duration::from_secs(2);
    let node = Node::start(config);
    let mut waiting = Polls::open(&node, "/socket.io/");
    let mut late = Polls::open(&node, "/socket.io/");
    waiting.send_get();
    thread::scope(|scope| {
        scope.spawn(|| node.runtime.block_on(node.edge.drain()));
        node.settles("fanfare_draining", 1.0);
        let refused = Http::to(&node).ask("GET /socket.io/?EIO=4&transport=polling", b"");
        assert_eq!(refused.said(), (503, "this node is leaving\n"));
        late.says("40/random,");
        assert_eq!(late.get().body(), r#"44/random,{"message":"Invalid namespace"}"#);
        assert_eq!(waiting.gets.response().unwrap().said(), (200, "1"));
        assert_eq!(late.get().said().0, 200);
    });
    node.settles(r#"fanfare_connections{protocol="sio",transport="polling"}"#, 0.0);
}

#[test]
fn sessions_by_polling_are_counted_at_the_gate() {
    let mut config = config();
    config.limits.connections = 5;
    let node = Node::start(config);
    let first = Polls::open(&node, "/socket.io/");
    let second = Polls::open(&node, "/socket.io/");
    drop((first.gets, first.posts, second.posts));
    let mut http = second.gets;
    // Two sessions, one socket: two more sessions fit.
    node.comes_to("fanfare_connections_opened_total{protocol=\"sio\",transport=\"polling\"}", |now| {
        now == 2.0
    });
    let open = |http: &mut Http| http.ask("GET /socket.io/?EIO=4&transport=polling", b"").status;
    let mut taken = 0;
    while taken < 2 {
        // The sockets that were let go are free when their ends have been seen.
        taken += usize::from(open(&mut http) == 200);
    }
    let refused = http.ask("GET /socket.io/?EIO=4&transport=polling", b"");
    assert_eq!(refused.said(), (503, "this node has no room for a connection\n"));
}

#[test]
fn an_answer_that_nobody_reads_holds_its_place_no_longer_than_its_deadline() {
    const PLACES: usize = 4;
    let mut config = config();
    config.echo = true;
    config.limits.connections = PLACES;
    config.timing.ping_interval = Duration::from_millis(300);
    config.timing.ping_timeout = Duration::from_millis(200);
    config.timing.body_timeout = Duration::from_millis(300);
    let node = Node::start(config);
    // A socket of its own, with little room, that asks and does not read.
    let narrow = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    narrow.set_recv_buffer_size(4 << 10).unwrap();
    narrow.connect(&node.edge.listen().into()).unwrap();
    let mut stuck = Http::over(narrow.into());
    {
        let mut polls = Polls::open(&node, "/socket.io/");
        polls.says(&format!("4{}", "x".repeat(900_000)));
        stuck.send(&format!("GET {}", polls.target()), b"");
        node.settles("fanfare_outbox_frames", 0.0);
    }
    node.settles(r#"fanfare_connections{protocol="sio",transport="polling"}"#, 0.0);
    let deadline = Instant::now() + DEADLINE;
    let all_free = || {
        let mut callers: Vec<Http> = (0..PLACES).map(|_| Http::to(&node)).collect();
        callers.iter_mut().all(|http| http.ask("GET /nowhere", b"").status == 404)
    };
    while !all_free() {
        assert!(Instant::now() < deadline, "the place is still taken");
    }
    drop(stuck);
}
