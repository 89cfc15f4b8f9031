//! Clients that give up in the middle of something, thousands of them: after their deadlines nothing is left of
//! them. A process of its own, since its descriptors, tasks and memory are counted.

#[path = "../edge/harness.rs"]
#[expect(dead_code, reason = "shared with the tests of the edge")]
mod harness;
#[path = "../edge/http.rs"]
#[expect(dead_code, reason = "shared with the tests of the edge")]
mod http;

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use fanfare_edge::Timing;
use harness::{DEADLINE, Node, config};
use http::Http;

const ENDS: usize = 20_000;
const WARM_UP: usize = 1_000;
const THREADS: usize = 4;
/// Sockets that a thread leaves open for a while, and in the end for the server to close.
const LEFT_OPEN: usize = 100;

#[test]
fn twenty_thousand_abandoned_ends_leave_nothing() {
    // In one half upgrades end before their sessions, in the other they end with them.
    for upgrade_timeout in [Duration::from_millis(400), Duration::from_secs(10)] {
        leaves_nothing(upgrade_timeout, ENDS / 2);
    }
}

fn leaves_nothing(upgrade_timeout: Duration, ends: usize) {
    let short = Duration::from_millis(300);
    let timing = Timing {
        ping_interval: short,
        ping_timeout: short,
        upgrade_timeout,
        body_timeout: short,
        header_timeout: Duration::from_secs(2),
        linger: Duration::from_millis(20),
        ..Timing::default()
    };
    let node = Node::start(fanfare_edge::Config { timing, ..config() });
    abandon(&node, WARM_UP);
    let before = Left::over(&node);
    let started = Instant::now();
    abandon(&node, ends);
    println!("{ends} ends in {:?}", started.elapsed());
    let after = Left::over(&node);
    println!("before: {before:?}\nafter: {after:?}");
    assert_eq!((after.descriptors, after.tasks), (before.descriptors, before.tasks));
    // The allocator keeps some of what the busiest moment needed.
    let grown = after.memory.saturating_sub(before.memory);
    assert!(grown < 16 << 20, "{grown} bytes more");
    let opened = r#"fanfare_connections_opened_total{protocol="sio",transport="polling"}"#;
    assert_eq!(node.metric(opened), (WARM_UP + ends) as f64);
}

/// What is there once everything that was abandoned is gone.
#[derive(Debug)]
struct Left {
    descriptors: usize,
    tasks: usize,
    /// Resident bytes of this process.
    memory: usize,
}

impl Left {
    fn over(node: &Node) -> Self {
        for transport in ["polling", "websocket"] {
            node.settles(&format!(r#"fanfare_connections{{protocol="sio",transport="{transport}"}}"#), 0.0);
        }
        for series in ["fanfare_post_bytes", "fanfare_outbox_bytes", "fanfare_outbox_blocked_connections"] {
            node.settles(series, 0.0);
        }
        let tasks = || node.runtime.handle().metrics().num_alive_tasks();
        let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let least = settled(|| (descriptors(), tasks()));
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kilobytes: usize = resident.trim().trim_end_matches(" kB").parse().unwrap();
        Self { descriptors: least.0, tasks: least.1, memory: kilobytes << 10 }
    }
}

/// A value that has stayed the same for longer than any deadline of the node: sockets between two requests have
/// one, and those that are being closed.
fn settled<T: PartialEq>(look: impl Fn() -> T) -> T {
    let started = Instant::now();
    let (mut seen, mut since) = (look(), Instant::now());
    while since.elapsed() < Duration::from_secs(3) {
        thread::park_timeout(Duration::from_millis(20));
        let now = look();
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
        assert!(started.elapsed() < DEADLINE, "it does not settle");
    }
    seen
}

fn abandon(node: &Node, ends: usize) {
    let mut open: Vec<TcpStream> = thread::scope(|scope| {
        let threads = (0..THREADS).map(|thread| scope.spawn(move || abandon_some(node, thread, ends)));
        let threads: Vec<_> = threads.collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    // Nobody closes these but the server.
    for socket in &mut open {
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let end =
            std::iter::from_fn(|| Some(socket.read(&mut [0; 512]))).find(|read| !matches!(read, Ok(1..)));
        let still = matches!(&end, Some(Err(error)) if error.kind() == ErrorKind::WouldBlock);
        assert!(!still, "the server left a socket open");
    }
}

/// Every so many ends; the last sockets that were left open.
fn abandon_some(node: &Node, first: usize, ends: usize) -> VecDeque<TcpStream> {
    let mut http = Http::to(node);
    let mut open = VecDeque::new();
    for end in (first..ends).step_by(THREADS) {
        let sid = handshake(&mut http);
        if let Some(socket) = give_up(node, &sid, end / THREADS) {
            open.push_back(socket);
        }
        if open.len() > LEFT_OPEN {
            open.pop_front();
        }
    }
    open
}

fn handshake(http: &mut Http) -> String {
    let response = http.ask("GET /socket.io/?EIO=4&transport=polling", b"");
    assert_eq!(response.status, 200, "{response:?}");
    let rest = response.body().strip_prefix(r#"0{"sid":""#).unwrap().to_owned();
    rest.split('"').next().unwrap().to_owned()
}

/// Begins something with a session and does not end it. A socket that is returned is still open.
fn give_up(node: &Node, sid: &str, way: usize) -> Option<TcpStream> {
    let target = format!("/socket.io/?EIO=4&sid={sid}&transport=");
    let request = match way % 4 {
        // The handshake was all.
        0 => return None,
        1 => {
            let mut upgrade = format!(
                "GET {target}websocket HTTP/1.1\r\nhost: test\r\nupgrade: websocket\r\nconnection: upgrade\r\n\
                 sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            .into_bytes();
            // Some get as far as the probe (masked with zeros), some into it, some not even so far.
            let probe = [0x81, 0x86, 0, 0, 0, 0, b'2', b'p', b'r', b'o', b'b', b'e'];
            upgrade.extend_from_slice(&probe[..[probe.len(), 7, 0][way % 3]]);
            upgrade
        }
        2 => format!("POST {target}polling HTTP/1.1\r\nhost: test\r\ncontent-length: 5000\r\n\r\n4")
            .into_bytes(),
        _ => format!("GET {target}polling HTTP/1.1\r\nhost: test\r\n\r\n").into_bytes(),
    };
    let mut socket = TcpStream::connect(node.edge.listen()).unwrap();
    socket.write_all(&request).unwrap();
    match way / 4 % 3 {
        0 => Some(socket),
        1 => {
            // A reset instead of an end; it leaves no port in TIME_WAIT behind either.
            socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
            None
        }
        _ => None,
    }
}
