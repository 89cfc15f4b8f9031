//! Two nodes' HTTP sides with routes of the test's own: what a hop does to requests and answers.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use http_body_util::BodyExt as _;
use hyper::upgrade::OnUpgrade;
use hyper::{HeaderMap, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Runtime;

use super::owner::{Owning, router};
use super::{FixedDirectory, Forwarding, Node, Secret, layer};
use crate::config::Limits;
use crate::http::gate::Gate;
use crate::http::serve::{Front, Handed, Place, serve};
use crate::metrics::{Bounds, Metrics};

const DEADLINE: Duration = Duration::from_secs(20);
/// How long a tunnel's client may take nothing.
const UNREAD: Duration = Duration::from_secs(2);

/// More than every buffer holds.
static HUGE: LazyLock<Bytes> = LazyLock::new(|| vec![b'x'; 100 << 20].into());

/// A node whose clients ask `/{something}`.
struct Side {
    public: SocketAddr,
    private: SocketAddr,
    metrics: Metrics,
    forwarding: Arc<Forwarding>,
    /// Requests that wait for ever at `/wait`, now.
    waiting: Arc<AtomicUsize>,
}

#[derive(Clone)]
struct Routes {
    waiting: Arc<AtomicUsize>,
}

struct Waits(Arc<AtomicUsize>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Keeps its request, body and all, as a poll does.
async fn wait(State(routes): State<Routes>, request: Request) {
    routes.waiting.fetch_add(1, Ordering::SeqCst);
    let _waits = Waits(routes.waiting);
    std::future::pending::<()>().await;
    drop(request);
}

async fn say(headers: HeaderMap, request: Request) -> Response {
    let host = headers["host"].to_str().unwrap().to_owned();
    let from = headers.get("x-forwarded-for").map_or("nobody", |from| from.to_str().unwrap()).to_owned();
    let size = request.into_body().collect().await.map_or(0, |body| body.to_bytes().len());
    let named = [("x-owner", "b"), ("connection", "close")];
    (StatusCode::IM_A_TEAPOT, named, format!("{host} {from} {size}")).into_response()
}

/// Says everything twice.
async fn echo(mut request: Request) -> Response {
    let extensions = request.extensions_mut();
    let upgrade = extensions.remove::<OnUpgrade>().unwrap();
    let permit = extensions.remove::<Place>().unwrap().take().unwrap();
    tokio::spawn(async move {
        let _permit = permit;
        let mut io = TokioIo::new(upgrade.await.unwrap());
        let mut buffer = vec![0; 100_000];
        while let Ok(count @ 1..) = io.read(&mut buffer).await {
            io.write_all(&buffer[..count]).await.unwrap();
            io.write_all(&buffer[..count]).await.unwrap();
        }
    });
    let head = [("connection", "upgrade"), ("upgrade", "websocket"), ("x-owner", "b")];
    (StatusCode::SWITCHING_PROTOCOLS, head).into_response()
}

/// Says more than every buffer holds, and goes away where nobody takes it.
async fn flood(mut request: Request) -> Response {
    let upgrade = request.extensions_mut().remove::<OnUpgrade>().unwrap();
    tokio::spawn(async move {
        let mut io = TokioIo::new(upgrade.await.unwrap());
        let step = Duration::from_millis(200);
        while let Ok(Ok(())) = tokio::time::timeout(step, io.write_all(&[b'x'; 100_000])).await {}
    });
    (StatusCode::SWITCHING_PROTOCOLS, [("connection", "upgrade"), ("upgrade", "websocket")]).into_response()
}

impl Side {
    fn start(runtime: &Runtime, label: &'static str, directory: &Arc<FixedDirectory>, most: &Limits) -> Self {
        let metrics = Metrics::new(1, Bounds { connections: 1, outbox_budget: 1 }).unwrap();
        let (meters, rare) = (metrics.cluster.clone(), metrics.rare.clone());
        let node = Node { label, path: "/", limits: most, unread_timeout: UNREAD };
        let forwarding = Arc::new(Forwarding::new(&node, directory.clone(), meters.clone(), rare.clone()));
        let waiting = Arc::new(AtomicUsize::new(0));
        let routes = Routes { waiting: waiting.clone() };
        let public = Router::new()
            .route("/wait", get(wait))
            .route("/say", any(say))
            .route("/early", post(|| async { StatusCode::PAYLOAD_TOO_LARGE }))
            .route("/large", get(|| async { Body::from(vec![b'x'; 10 << 20]) }))
            .route("/huge", get(|| async { Body::from(HUGE.clone()) }))
            .route("/echo", get(echo))
            .route("/flood", get(flood))
            .fallback(|| async { (StatusCode::BAD_REQUEST, "unknown here") })
            .with_state(routes);
        let owning = Owning {
            label: label.into(),
            directory: directory.clone(),
            public: public.clone(),
            connections: Gate::new(100),
            forwards: most.forwards,
            meters,
            rare: rare.clone(),
        };
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        let front =
            |router| Front { router, rare: rare.clone(), header_timeout: DEADLINE, unread_timeout: DEADLINE };
        runtime.spawn(serve(receiver, front(layer(public, forwarding.clone())), front(router(owning))));
        let listen = |private: bool| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let (sender, gate) = (sender.clone(), Gate::new(1000));
            std::thread::spawn(move || {
                while let Ok((socket, _)) = listener.accept() {
                    socket.set_nonblocking(true).unwrap();
                    let (socket, permit) = (mio::net::TcpStream::from_std(socket), gate.enter().unwrap());
                    let handed = if private {
                        Handed::Private(socket, permit)
                    } else {
                        Handed::Public(socket, permit)
                    };
                    if sender.send(handed).is_err() {
                        return;
                    }
                }
            });
            address
        };
        let (public, private) = (listen(false), listen(true));
        directory.add(label, private.to_string());
        Self { public, private, metrics, forwarding, waiting }
    }

    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.public).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_nodelay(true).unwrap();
        socket
    }

    /// A request on a connection of its own; the whole answer.
    fn ask(&self, request: &str) -> String {
        let mut socket = self.connect();
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    fn metric(&self, series: &str) -> f64 {
        let text = self.metrics.render(true, false).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no series {series}")).parse().unwrap()
    }
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn pair(most: &Limits) -> (Runtime, Side, Side, Arc<FixedDirectory>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let directory = Arc::new(FixedDirectory::new(Secret::new("s")));
    let (a, b) = (Side::start(&runtime, "a", &directory, most), Side::start(&runtime, "b", &directory, most));
    (runtime, a, b, directory)
}

fn most(forwards: usize, tunnels: usize) -> Limits {
    Limits { forwards, tunnels, ..Limits::default() }
}

#[test]
fn a_request_and_its_answer_pass_as_they_are() {
    let (_runtime, a, _b, _) = pair(&most(1000, 10));
    let answer = a.ask("GET /say?sid=b.AAAAAAAAAAAAAAAAAAAAAAAAAAA HTTP/1.1\r\nhost: the.host\r\nx-forwarded-for: 10.1.1.1\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 418 "), "{answer}");
    assert!(
        answer.contains("\r\nx-owner: b\r\n") && answer.contains("\r\nconnection: close\r\n"),
        "{answer}"
    );
    assert!(!answer.contains("x-fanfare"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nthe.host 10.1.1.1, 127.0.0.1 0"), "{answer}");
    // A body of known length, and one in chunks.
    let body = "y".repeat(300_000);
    let answer =
        a.ask(&format!("POST /say?sid=b.AAAAAAAAAAAAAAAAAAAAAAAAAAA HTTP/1.1\r\nhost: h\r\ncontent-length: 300000\r\n\r\n{body}"));
    assert!(answer.ends_with("h 127.0.0.1 300000"), "{answer}");
    let chunked = "POST /say?sid=b.AAAAAAAAAAAAAAAAAAAAAAAAAAA HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    assert!(a.ask(chunked).ends_with("h 127.0.0.1 5"));
    // An answer that is larger than every window.
    let answer = a
        .ask("GET /large?sid=b.AAAAAAAAAAAAAAAAAAAAAAAAAAA HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
    assert_eq!(answer.split_once("\r\n\r\n").unwrap().1.len(), 10 << 20);
    // One that comes before the body has.
    let mut socket = a.connect();
    socket
        .write_all(b"POST /early?sid=b.AAAAAAAAAAAAAAAAAAAAAAAAAAA HTTP/1.1\r\nhost: h\r\ncontent-length: 3000000\r\n\r\nabc")
        .unwrap();
    let mut head = [0; 12];
    socket.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 413");
    until("all are done", || a.metric("fanfare_forwarded_requests") == 0.0);
    assert_eq!(a.metric(r#"fanfare_forwarded_requests_total{kind="post",result="ok"}"#), 3.0);
    assert_eq!(a.metric(r#"fanfare_forwarded_requests_total{kind="poll",result="ok"}"#), 2.0);
    assert_eq!(a.metric("fanfare_forward_hop_seconds_count"), 5.0);
}

#[test]
fn a_request_that_is_cut_off_is_cut_off_at_the_owner() {
    let (_runtime, a, b, _) = pair(&most(1000, 10));
    let wait = b"GET /wait?sid=b.AAAAAAAAAAAAAAAAAAAAAAAAAAA HTTP/1.1\r\nhost: h\r\n\r\n";
    let sockets: Vec<_> = (0..200).map(|_| a.connect()).collect();
    for mut socket in &sockets {
        socket.write_all(wait).unwrap();
    }
    until("all wait", || b.waiting.load(Ordering::SeqCst) == 200);
    assert_eq!(a.metric("fanfare_forwarded_requests"), 200.0);
    assert_eq!(b.metric("fanfare_links"), 1.0);
    // All at once, as when a balancer dies: the link lives through it.
    drop(sockets);
    until("none waits", || b.waiting.load(Ordering::SeqCst) == 0);
    until("none is under way", || a.metric("fanfare_forwarded_requests") == 0.0);
    assert_eq!(a.metric(r#"fanfare_forwarded_requests_total{kind="poll",result="cancelled"}"#), 200.0);
    assert!(
        a.ask("GET /say?sid=b.AAAAAAAAAAAAAAAAAAAAAAAAAAA HTTP/1.1\r\nhost: h\r\n\r\n").contains(" 418 ")
    );
    assert_eq!(b.metric("fanfare_links"), 1.0);
    // A body that breaks off.
    let mut socket = a.connect();
    socket.write_all(b"POST /say?sid=b.AAAAAAAAAAAAAAAAAAAAAAAAAAA HTTP/1.1\r\nhost: h\r\ncontent-length: 10\r\n\r\nabc").unwrap();
    until("it is under way", || a.metric("fanfare_forwarded_requests") == 1.0);
    drop(socket);
    until("it is not", || a.metric("fanfare_forwarded_requests") == 0.0);
}

#[test]
fn an_owner_that_is_gone_is_known_to_be_at_once() {
    let (_runtime, a, _b, directory) = pair(&most(1000, 10));
    let refused = |owner: &str| {
        let begun = Instant::now();
        let answer =
            a.ask(&format!("GET /nowhere?sid={owner}.AAAAAAAAAAAAAAAAAAAAAAAAAAA HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"));
        assert!(answer.ends_with("unknown here"), "{answer}");
        begun.elapsed()
    };
    assert!(refused("nobody") < Duration::from_millis(500));
    // A port that nobody listens on.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    directory.add("refusing", free.to_string());
    assert!(refused("refusing") < Duration::from_millis(500));
    // One that accepts and never says a word: a process that is stopped.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    directory.add("silent", silent.local_addr().unwrap().to_string());
    assert!(refused("silent") < Duration::from_millis(2_500));
    assert_eq!(a.metric(r#"fanfare_forwarded_requests_total{kind="poll",result="gone"}"#), 3.0);
    // Another node where this one was.
    directory.add("other", a.private.to_string());
    assert!(refused("other") < Duration::from_millis(500));
}

#[test]
fn who_has_not_the_secret_is_refused() {
    let (runtime, a, b, _) = pair(&most(1000, 10));
    let stranger = Arc::new(FixedDirectory::new(Secret::new("t")));
    let c = Side::start(&runtime, "c", &stranger, &most(10, 10));
    stranger.add("b", b.private.to_string());
    let answer = c.ask(
        "GET /nowhere?sid=b.AAAAAAAAAAAAAAAAAAAAAAAAAAA HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n",
    );
    assert!(answer.ends_with("unknown here"), "{answer}");
    assert_eq!(b.metric("fanfare_links"), 0.0);
    for path in ["/cluster/link", "/cluster/engine/echo?sid=b.AAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        let mut socket = TcpStream::connect(b.private).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: h\r\nconnection: upgrade, close\r\nupgrade: fanfare-link\r\n\r\n"
        );
        socket.write_all(request.as_bytes()).unwrap();
        let mut head = [0; 12];
        socket.read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.1 403", "{path}");
    }
    drop(a);
}

const UPGRADE: &[u8] =
    b"GET /echo?sid=b.AAAAAAAAAAAAAAAAAAAAAAAAAAA HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nearly";

/// Reads the head, and so many bytes behind it.
fn read_head(socket: &mut TcpStream) -> String {
    let mut got = Vec::new();
    while !got.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        got.push(byte[0]);
    }
    String::from_utf8(got).unwrap()
}

#[test]
fn an_upgrade_leads_to_a_tunnel_that_ends_with_either_side() {
    let (_runtime, a, b, _) = pair(&most(1000, 10));
    let mut socket = a.connect();
    socket.write_all(UPGRADE).unwrap();
    let head = read_head(&mut socket);
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("x-owner: b"), "{head}");
    let mut got = [0; 10];
    socket.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"earlyearly");
    assert_eq!(a.metric("fanfare_tunnelled_connections"), 1.0);
    // More than all buffers hold, both ways at once.
    let mut reader = socket.try_clone().unwrap();
    let sent = 8 << 20;
    std::thread::scope(|scope| {
        scope.spawn(|| socket.write_all(&vec![7; sent]).unwrap());
        let mut got = vec![0; 2 * sent];
        reader.read_exact(&mut got).unwrap();
        assert!(got.iter().all(|byte| *byte == 7));
    });
    drop((socket, reader));
    until("the tunnel ends", || a.metric("fanfare_tunnelled_connections") == 0.0);

    // The bound.
    let sockets: Vec<_> = (0..10)
        .map(|_| {
            let mut socket = a.connect();
            socket.write_all(UPGRADE).unwrap();
            read_head(&mut socket);
            socket
        })
        .collect();
    let answer =
        a.ask("GET /echo?sid=b.AAAAAAAAAAAAAAAAAAAAAAAAAAA HTTP/1.1\r\nhost: h\r\nconnection: upgrade, close\r\nupgrade: websocket\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("the setting tunnels\n"), "{answer}");
    assert_eq!(a.metric(r#"fanfare_limit_reached_total{limit="tunnels"}"#), 1.0);
    drop(sockets);
    until("the tunnels end", || a.metric("fanfare_tunnelled_connections") == 0.0);
    // An answer that is no 101 is the client's, too.
    let answer =
        a.ask("GET /say?sid=b.AAAAAAAAAAAAAAAAAAAAAAAAAAA HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    assert!(answer.contains(" 418 ") && answer.ends_with("h 127.0.0.1 0"), "{answer}");
    drop(b);
}

#[test]
fn requests_over_the_bound_are_refused_and_others_go_on() {
    let (_runtime, a, b, _) = pair(&most(2, 1));
    let sockets = [a.connect(), a.connect()];
    for mut socket in &sockets {
        socket.write_all(b"GET /wait?sid=b.AAAAAAAAAAAAAAAAAAAAAAAAAAA HTTP/1.1\r\nhost: h\r\n\r\n").unwrap();
    }
    until("both wait", || b.waiting.load(Ordering::SeqCst) == 2);
    let ask = || {
        a.ask("GET /say?sid=b.AAAAAAAAAAAAAAAAAAAAAAAAAAA HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
    };
    assert!(ask().ends_with("the setting forwards\n"));
    assert_eq!(a.metric(r#"fanfare_limit_reached_total{limit="forwards"}"#), 1.0);
    drop(sockets);
    until("none waits", || a.metric("fanfare_forwarded_requests") == 0.0);
    assert!(ask().contains(" 418 "));
}

#[test]
fn clients_that_do_not_read_hold_up_nobody_else() {
    let (_runtime, a, _b, _) = pair(&most(1000, 10));
    let sockets: Vec<_> = (0..32).map(|_| a.connect()).collect();
    for mut socket in &sockets {
        socket.write_all(b"GET /huge?sid=b.AAAAAAAAAAAAAAAAAAAAAAAAAAA HTTP/1.1\r\nhost: h\r\n\r\n").unwrap();
        assert!(read_head(&mut socket.try_clone().unwrap()).starts_with("HTTP/1.1 200 "));
    }
    let begun = Instant::now();
    for _ in 0..5 {
        let answer = a.ask(
            "GET /large?sid=b.AAAAAAAAAAAAAAAAAAAAAAAAAAA HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n",
        );
        assert_eq!(answer.split_once("\r\n\r\n").unwrap().1.len(), 10 << 20);
    }
    // By then the others would have been cut off.
    assert!(begun.elapsed() < DEADLINE / 2, "{:?}", begun.elapsed());
    drop(sockets);
}

#[test]
fn a_node_that_leaves_goes_on_with_what_is_asked_meanwhile() {
    let (_runtime, a, _b, _) = pair(&most(1000, 10));
    a.forwarding.drain(Instant::now() + DEADLINE);
    for method in ["GET", "POST"] {
        for _ in 0..100 {
            let answer = a.ask(&format!(
                "{method} /say?sid=b.AAAAAAAAAAAAAAAAAAAAAAAAAAA HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n"
            ));
            assert!(answer.contains(" 418 "), "{answer}");
        }
    }
    // Clients go to other nodes with what they ask next.
    let answer = a.ask("GET /large?sid=b.AAAAAAAAAAAAAAAAAAAAAAAAAAA HTTP/1.1\r\nhost: h\r\n\r\n");
    assert!(answer.contains("\r\nconnection: close\r\n"));
    // Nothing stays behind.
    let (_runtime, a, _b, _) = pair(&most(1000, 10));
    a.forwarding.drain(Instant::now() + Duration::from_millis(50));
    assert_eq!(a.ask("GET /wait?sid=b.AAAAAAAAAAAAAAAAAAAAAAAAAAA HTTP/1.1\r\nhost: h\r\n\r\n"), "");
}

#[test]
fn polls_with_bodies_hold_up_no_posts() {
    let (_runtime, a, b, _) = pair(&most(1000, 10));
    let size = 1 << 20;
    let sockets: Vec<_> = (0..20).map(|_| a.connect()).collect();
    for mut socket in &sockets {
        let head = format!(
            "GET /wait?sid=b.AAAAAAAAAAAAAAAAAAAAAAAAAAA HTTP/1.1\r\nhost: h\r\ncontent-length: {size}\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).unwrap();
        socket.set_nonblocking(true).unwrap();
        // As much as anybody takes.
        drop(socket.write(&vec![b'x'; size]));
    }
    until("all wait", || b.waiting.load(Ordering::SeqCst) == 20);
    let body = "y".repeat(300_000);
    let post = format!(
        "POST /say?sid=b.AAAAAAAAAAAAAAAAAAAAAAAAAAA HTTP/1.1\r\nhost: h\r\ncontent-length: 300000\r\n\r\n{body}"
    );
    for _ in 0..5 {
        assert!(a.ask(&post).ends_with("h 127.0.0.1 300000"));
    }
}

#[test]
fn a_tunnel_whose_client_takes_nothing_ends() {
    let (_runtime, a, _b, _) = pair(&most(1000, 10));
    let mut socket = a.connect();
    let flood = "GET /flood?sid=b.AAAAAAAAAAAAAAAAAAAAAAAAAAA HTTP/1.1\r\nhost: h\r\nconnection: upgrade\r\n\
                 upgrade: websocket\r\n\r\n";
    socket.write_all(flood.as_bytes()).unwrap();
    assert!(read_head(&mut socket).starts_with("HTTP/1.1 101 "));
    // The owner gives up; what it has said by then fills every buffer on the way.
    until("the tunnel ends", || a.metric("fanfare_tunnelled_connections") == 0.0);
}

#[test]
fn another_upgrade_than_to_a_websocket_is_a_request_like_others() {
    let (_runtime, a, b, _) = pair(&most(1000, 10));
    let offered =
        "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n";
    let mut socket = a.connect();
    let wait = format!("GET /wait?sid=b.AAAAAAAAAAAAAAAAAAAAAAAAAAA HTTP/1.1\r\nhost: h\r\n{offered}\r\n");
    socket.write_all(wait.as_bytes()).unwrap();
    until("it waits", || b.waiting.load(Ordering::SeqCst) == 1);
    assert_eq!(a.metric("fanfare_forwarded_requests"), 1.0);
    assert_eq!(a.metric(r#"fanfare_forwarded_requests_total{kind="upgrade",result="gone"}"#), 0.0);
    drop(socket);
    until("it waits no more", || a.metric("fanfare_forwarded_requests") == 0.0);
}
