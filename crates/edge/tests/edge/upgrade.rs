//! From long-polling to a WebSocket: every step, every way to fail, and nothing lost or doubled on the way.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use fanfare_edge::Config;
use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

use crate::event;
use crate::harness::{Caller, DEADLINE, Node, config};
use crate::http::{Http, Polls};

const FAILED: &str = r#"fanfare_upgrades_total{result="failed"}"#;
const OK: &str = r#"fanfare_upgrades_total{result="ok"}"#;

/// A WebSocket with a session's id, or `transport=polling`, or whatever the query says.
fn socket(node: &Node, query: &str) -> Caller {
    node.connect(&format!("/socket.io/?EIO=4&{query}"))
}

fn candidate(node: &Node, polls: &Polls) -> Caller {
    socket(node, &format!("transport=websocket&sid={}", polls.sid))
}

/// A session in the main namespace and in `room`.
fn member(node: &Node, room: &str) -> Polls {
    let mut polls = Polls::open(node, "/socket.io/");
    polls.says(&format!("40\x1e421[\"join\",\"{room}\"]"));
    let packets = polls.packets(2);
    assert_eq!(packets[1], r#"431[{"ok":true}]"#, "{packets:?}");
    polls
}

/// Whether the server closes it, without a code.
fn is_closed(caller: &mut Caller) -> bool {
    loop {
        match caller.socket.read() {
            Ok(Message::Close(frame)) => return frame.is_none(),
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}

fn probe(caller: &mut Caller) {
    caller.send("2probe");
    assert_eq!(caller.text(), "3probe");
}

#[test]
fn a_session_goes_on_over_a_websocket() {
    let node = Node::start(config());
    let mut polls = member(&node, "r");
    let mut upgraded = candidate(&node, &polls);
    probe(&mut upgraded);
    // No GET waits for long from now on, but what there is to send still goes by polling.
    assert_eq!(polls.get().said(), (200, "6"));
    assert_eq!(polls.get().said(), (200, "6"));
    node.publish([event("r", "n", 1)]);
    assert_eq!(polls.packets(1), [r#"42["n",1]"#]);
    polls.says(r#"42["nothing"]"#);
    // Some clients put more behind the 5; what follows in the same segment is heard on the WebSocket.
    upgraded.socket.write(Message::text("52")).unwrap();
    upgraded.socket.write(Message::text(r#"422["join","s"]"#)).unwrap();
    upgraded.socket.flush().unwrap();
    assert_eq!(upgraded.text(), r#"432[{"ok":true}]"#);
    node.publish([event("s", "n", 2), event("r", "n", 3)]);
    assert_eq!((upgraded.text(), upgraded.text()), (r#"42["n",2]"#.into(), r#"42["n",3]"#.into()));
    let bad_request = (400, r#"{"code":3,"message":"Bad request"}"#);
    assert_eq!(polls.get().said(), bad_request);
    assert_eq!(polls.post("3").said(), bad_request);
    assert!(is_closed(&mut candidate(&node, &polls)), "a second WebSocket of the session");
    node.publish([event("r", "n", 4)]);
    assert_eq!(upgraded.text(), r#"42["n",4]"#);
    node.settles(OK, 1.0);
    node.settles(FAILED, 1.0);
    node.settles(r#"fanfare_connections{protocol="sio",transport="websocket"}"#, 1.0);
    node.settles(r#"fanfare_connections{protocol="sio",transport="polling"}"#, 0.0);
    drop(upgraded);
    node.settles(r#"fanfare_connections{protocol="sio",transport="websocket"}"#, 0.0);
}

#[test]
fn a_get_that_waits_is_answered_by_the_probe_and_one_that_still_waits_by_the_swap() {
    let node = Node::start(config());
    let mut polls = member(&node, "r");
    let mut upgraded = candidate(&node, &polls);
    polls.send_get();
    assert!(polls.gets.is_silent(Duration::from_millis(50)));
    probe(&mut upgraded);
    assert_eq!(polls.gets.response().unwrap().said(), (200, "6"));
    // With short heartbeats a GET is answered at once; with these, within a tenth of a second.
    upgraded.send("5");
    polls.send_get();
    let body = polls.gets.response().unwrap();
    assert!(["6", "1", r#"{"code":3,"message":"Bad request"}"#].contains(&body.body()), "{body:?}");
    node.publish([event("r", "n", 1)]);
    assert_eq!(upgraded.text(), r#"42["n",1]"#);
}

#[test]
fn a_get_that_follows_the_upgrade_on_another_socket_finds_it_done() {
    let late = gets_behind_upgrades(|upgraded| {
        probe(upgraded);
        // It has arrived when the GET is sent, but the shard may come to the GET first.
        upgraded.send("5");
    });
    assert_eq!(late, 0, "GETs that were taken for polls");
}

#[test]
fn a_get_finds_an_upgrade_done_whose_client_did_not_wait_for_the_probe() {
    let late = gets_behind_upgrades(|upgraded| {
        // Sent as soon as the handshake is answered: the shard may not even have the socket yet.
        upgraded.send("2probe");
        upgraded.send("5");
    });
    assert_eq!(late, 0, "GETs that were taken for polls");
}

/// How many of fifty GETs, each sent right behind an upgrade, were taken for polls.
fn gets_behind_upgrades(upgrade: impl Fn(&mut Caller)) -> usize {
    let node = Node::start(config());
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // Turns of the shard take long enough for both to come within one.
        scope.spawn(|| {
            let mut busy = socket(&node, "transport=websocket");
            busy.send("40");
            let large = format!(r#"42["nothing","{}"]"#, "x\\n".repeat(200_000));
            while !done.load(Ordering::Relaxed) {
                busy.send(&large);
            }
        });
        let late = (0..50).filter(|_| {
            let mut polls = Polls::open(&node, "/socket.io/");
            let mut upgraded = candidate(&node, &polls);
            upgrade(&mut upgraded);
            polls.get().said() != (400, r#"{"code":3,"message":"Bad request"}"#)
        });
        let late = late.count();
        done.store(true, Ordering::Relaxed);
        late
    })
}

#[test]
fn an_upgrade_that_fails_leaves_the_session_polling() {
    let mut config = config();
    config.timing.upgrade_timeout = Duration::from_millis(200);
    let node = Node::start(config);
    let mut polls = member(&node, "r");
    for wrong in ["2", "5", "3probe", "42[\"n\"]", "", "abc"] {
        let mut candidate = candidate(&node, &polls);
        candidate.send(wrong);
        assert!(is_closed(&mut candidate), "{wrong}");
    }
    let mut binary = candidate(&node, &polls);
    binary.socket.send(Message::binary(vec![1])).unwrap();
    assert!(is_closed(&mut binary));
    // Before and after the probe: a second packet that is none of an upgrade, one that goes, one that stays.
    let mut probed = candidate(&node, &polls);
    probe(&mut probed);
    assert!(is_closed(&mut candidate(&node, &polls)), "one at a time");
    probed.send("4hello");
    assert!(is_closed(&mut probed));
    let mut probed = candidate(&node, &polls);
    probe(&mut probed);
    node.settles(FAILED, 9.0);
    drop(probed);
    node.settles(FAILED, 10.0);
    let mut silent = candidate(&node, &polls);
    assert!(is_closed(&mut silent));
    let mut silent = candidate(&node, &polls);
    probe(&mut silent);
    assert!(is_closed(&mut silent));
    node.settles(r#"fanfare_upgrades_total{result="timeout"}"#, 2.0);
    // Every GET waits again.
    polls.send_get();
    assert!(polls.gets.is_silent(Duration::from_millis(250)));
    node.publish([event("r", "n", 1)]);
    assert_eq!(polls.gets.response().unwrap().body(), r#"42["n",1]"#);
    assert_eq!(node.metric(OK), 0.0);
}

#[test]
fn upgrades_of_nothing_are_refused_before_they_are_open() {
    let node = Node::start(config());
    let upgrade = "\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";
    for (query, text) in [
        ("EIO=4&transport=websocket&sid=nobody", "Session ID unknown"),
        ("EIO=4&transport=other", "Transport unknown"),
        ("EIO=4", "Transport unknown"),
        ("EIO=3&transport=websocket", "Unsupported protocol version"),
        ("transport=websocket", "Unsupported protocol version"),
    ] {
        let mut http = Http::to(&node);
        let response = http.ask(&format!("GET /socket.io/?{query}{upgrade}"), b"");
        assert_eq!(response.said(), (400, text), "{query}");
        assert_eq!(response.header("connection").as_deref(), Some("close"));
        assert_eq!(response.header("content-type").as_deref(), Some("text/html"));
        assert_eq!(http.response(), None);
    }
    assert!(is_closed(&mut socket(&node, "transport=polling")));
    let mut polls = Polls::open(&node, "/socket.io/");
    assert!(is_closed(&mut socket(&node, &format!("transport=polling&sid={}", polls.sid))));
    polls.says("3");
}

#[test]
fn the_heart_beats_on_through_an_upgrade() {
    let mut config = config();
    config.timing.ping_interval = Duration::from_millis(300);
    config.timing.ping_timeout = Duration::from_millis(200);
    let node = Node::start(config);
    let mut polls = Polls::open(&node, "/socket.io/");
    let mut upgraded = candidate(&node, &polls);
    probe(&mut upgraded);
    loop {
        match polls.get().body() {
            "6" => {}
            "2" => break,
            other => panic!("{other}"),
        }
    }
    // The answer may come over the new transport already.
    upgraded.send("5");
    upgraded.send("3");
    assert_eq!(upgraded.text(), "2");
    // Half an upgrade is no life: without answers the session ends, and its candidate with it.
    let polls = Polls::open(&node, "/socket.io/");
    let mut half = candidate(&node, &polls);
    probe(&mut half);
    assert!(is_closed(&mut half));
    assert_eq!(polls.get_anew(&node).status, 400);
}

#[test]
fn who_asked_for_base64_gets_no_binary_frame() {
    let node = Node::start(Config { echo: true, ..config() });
    let echoes = |caller: &mut Caller| {
        caller.socket.send(Message::binary(vec![1, 2, 3, 4])).unwrap();
        caller.socket.read().unwrap()
    };
    let mut direct = socket(&node, "transport=websocket&b64=1");
    direct.text();
    assert_eq!(echoes(&mut direct), Message::text("bAQIDBA=="));
    for (wants, expected) in [
        ("&b64=1", Message::text("bAQI=")),
        ("&b64=", Message::binary(vec![1, 2])),
        ("", Message::binary(vec![1, 2])),
    ] {
        let mut polls = Polls::open(&node, "/socket.io/");
        let mut upgraded = socket(&node, &format!("transport=websocket{wants}&sid={}", polls.sid));
        probe(&mut upgraded);
        // It waits in the outbox when the transport changes.
        polls.says("bAQI=");
        upgraded.send("5");
        assert_eq!(upgraded.socket.read().unwrap(), expected, "{wants}");
        assert_eq!(echoes(&mut upgraded).is_text(), wants == "&b64=1");
    }
}

/// The client's side of an upgrade as socket.io-client does it: it polls until the server has answered the
/// probe and the GET that was on its way, then says `5`.
fn upgrade_while_polling(node: &Node, mut polls: Polls, got: &mut Vec<String>) -> Caller {
    let mut candidate = candidate(node, &polls);
    candidate.send("2probe");
    let probed = AtomicBool::new(false);
    let mut last = Vec::new();
    thread::scope(|scope| {
        let polling = scope.spawn(|| {
            let mut packets = Vec::new();
            while !probed.load(Ordering::Acquire) {
                packets.extend(polls.packets(1));
            }
            packets
        });
        assert_eq!(candidate.text(), "3probe");
        probed.store(true, Ordering::Release);
        last = polling.join().unwrap();
    });
    got.extend(last);
    candidate.send("5");
    candidate
}

#[test]
fn nothing_is_lost_or_doubled_while_two_hundred_sessions_change_their_transport() {
    const ROUNDS: usize = 25;
    const AT_ONCE: usize = 8;
    let node = Node::start(config());
    let published = AtomicUsize::new(0);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            // One who reads along keeps the pace at what the node delivers.
            let mut pace = node.plain();
            pace.join("r");
            while !done.load(Ordering::Acquire) {
                let first = published.load(Ordering::Acquire);
                node.publish((first..first + 5).map(|n| event("r", "n", n)));
                pace.until(&format!(r#""data":{}"#, first + 4));
                published.store(first + 5, Ordering::Release);
            }
        });
        for _ in 0..ROUNDS {
            thread::scope(|round| {
                for _ in 0..AT_ONCE {
                    round.spawn(|| one_upgrade(&node, &published));
                }
            });
        }
        done.store(true, Ordering::Release);
        publisher.join().unwrap();
    });
    node.settles(OK, (ROUNDS * AT_ONCE) as f64);
    assert_eq!(node.metric(FAILED), 0.0);
}

fn one_upgrade(node: &Node, published: &AtomicUsize) {
    let mut polls = Polls::open(node, "/socket.io/");
    polls.says("40\x1e421[\"join\",\"r\"]");
    let mut got = Vec::new();
    while !got.iter().any(|packet: &String| packet.starts_with("42[")) {
        got.extend(polls.packets(1));
    }
    let mut upgraded = upgrade_while_polling(node, polls, &mut got);
    let enough = published.load(Ordering::Acquire) + 50;
    let number = |packet: &str| -> Option<usize> {
        packet.strip_prefix(r#"42["n","#)?.strip_suffix(']')?.parse().ok()
    };
    loop {
        let packet = upgraded.text();
        assert_ne!(packet, "6", "a noop on a WebSocket");
        let last = number(&packet);
        got.push(packet);
        if last.is_some_and(|last| last >= enough) {
            break;
        }
    }
    let numbers: Vec<usize> = got.iter().filter_map(|packet| number(packet)).collect();
    let gap = numbers.windows(2).find(|pair| pair[1] != pair[0] + 1);
    assert_eq!(gap, None, "of {} numbers", numbers.len());
}

#[test]
fn a_probe_may_come_in_pieces_and_before_the_upgrade_is_through() {
    let node = Node::start(config());
    let mut polls = member(&node, "r");
    let mut stream = TcpStream::connect(node.edge.listen()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut request = format!(
        "GET /socket.io/?EIO=4&transport=websocket&sid={} HTTP/1.1\r\nhost: test\r\nupgrade: websocket\r\n\
         connection: upgrade\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        polls.sid
    )
    .into_bytes();
    // `2probe` masked with zeros, in the same segment as the request but for its last byte.
    let probe = [0x81, 0x86, 0, 0, 0, 0, b'2', b'p', b'r', b'o', b'b', b'e'];
    request.extend_from_slice(&probe[..11]);
    stream.write_all(&request).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    stream.write_all(&probe[11..]).unwrap();
    let mut upgraded = Caller { socket: WebSocket::from_raw_socket(stream, Role::Client, None) };
    assert_eq!(upgraded.text(), "3probe");
    assert_eq!(polls.get().said(), (200, "6"));
    upgraded.send("5");
    node.publish([event("r", "n", 1)]);
    assert_eq!(upgraded.text(), r#"42["n",1]"#);
}
