//! Requests as they come over a socket: whole, in pieces, several on one connection, none at all.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use fanfare_edge::Timing;

use crate::harness::{DEADLINE, Node, config};

const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
                         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/// RFC 6455 §1.3 has this very key and answer.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const OPEN: &str = "fanfare_connections{protocol=\"ws_json\",transport=\"websocket\"}";

fn connect(node: &Node) -> TcpStream {
    let stream = TcpStream::connect(node.edge.listen()).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Reads until `end` has come.
fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut got = Vec::new();
    let mut byte = [0];
    while !got.ends_with(end.as_bytes()) {
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "closed after {}", String::from_utf8_lossy(&got));
        got.push(byte[0]);
    }
    String::from_utf8_lossy(&got).into_owned()
}

fn is_greeted(stream: &mut TcpStream) {
    let head = read_until(stream, "\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains(ACCEPT), "{head}");
    read_until(stream, "\"connection_success\"");
}

#[test]
fn a_handshake_is_answered_whole_or_in_pieces() {
    let node = Node::start(config());
    let mut stream = connect(&node);
    stream.write_all(HANDSHAKE.as_bytes()).unwrap();
    is_greeted(&mut stream);
    // Each piece in a segment of its own: the first alone is no request yet.
    for cut in [1, 20, HANDSHAKE.len() - 1] {
        let mut stream = connect(&node);
        stream.write_all(&HANDSHAKE.as_bytes()[..cut]).unwrap();
        // A scrape is a round trip through the same loop: the first piece has been seen.
        node.metric(OPEN);
        stream.write_all(&HANDSHAKE.as_bytes()[cut..]).unwrap();
        is_greeted(&mut stream);
    }
}

#[test]
fn an_upgrade_may_follow_other_requests_on_its_connection() {
    let node = Node::start(config());
    let mut stream = connect(&node);
    for _ in 0..2 {
        stream.write_all(b"GET /nowhere HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        let head = read_until(&mut stream, "\r\n\r\n");
        assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
        read_until(&mut stream, "clients connect at /socket.io/ or /ws\n");
    }
    stream.write_all(HANDSHAKE.as_bytes()).unwrap();
    is_greeted(&mut stream);
    drop(stream);
    node.settles(OPEN, 0.0);
}

#[test]
fn who_says_nothing_is_let_go_after_the_deadline_for_a_head() {
    let timing = Timing { header_timeout: Duration::from_millis(100), ..config().timing };
    let node = Node::start(fanfare_edge::Config { timing, ..config() });
    let mut silent: Vec<TcpStream> = (0..20).map(|_| connect(&node)).collect();
    let mut begun = connect(&node);
    begun.write_all(&HANDSHAKE.as_bytes()[..30]).unwrap();
    let mut member = node.plain();
    member.join("r");
    for stream in &mut silent {
        assert_eq!(stream.read(&mut [0; 64]).unwrap(), 0, "closed without a word");
    }
    let mut rest = Vec::new();
    begun.read_to_end(&mut rest).unwrap();
    // Others are not disturbed, and every place is free again.
    node.publish([r#"{"room":"r","event":"e","data":1}"#.to_owned()]);
    assert!(member.text().contains("\"e\""));
}
