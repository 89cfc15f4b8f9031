//! A real edge on loopback with the memory broker and three shards, and clients that block.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanfare_broker::memory::{self, MemoryBroker, MemoryFeed};
use fanfare_broker::{Broker, Feed};
use fanfare_edge::rules::Rules;
use fanfare_edge::{Config, Directory, Edge, Origins, Timing};
use fanfare_protocol::publication::from_json;
use tokio::runtime::Runtime;
use tungstenite::{Message, WebSocket};

/// By when whatever is waited for has to happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// An edge that runs in this process.
pub(crate) struct Node {
    pub(crate) edge: Edge,
    pub(crate) runtime: Runtime,
    broker: Arc<MemoryBroker>,
}

/// What a test may choose.
pub(crate) fn config() -> Config {
    Config {
        rules: Rules::open(),
        origins: Origins::Any,
        timing: Timing { linger: Duration::from_millis(20), ..Timing::default() },
        shards: Some(3),
        ..Config::default()
    }
}

impl Node {
    pub(crate) fn start(config: Config) -> Self {
        Self::start_in(config, None)
    }

    /// One of several nodes.
    pub(crate) fn start_in(config: Config, directory: Option<Arc<dyn Directory>>) -> Self {
        Self::start_fed(config, directory, |feed| Box::new(feed))
    }

    /// One whose feed is another, made of the memory broker's.
    pub(crate) fn start_fed(
        config: Config,
        directory: Option<Arc<dyn Directory>>,
        feed: impl FnOnce(MemoryFeed) -> Box<dyn Feed>,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap();
        let (broker, memory) = memory::new();
        let edge = runtime.block_on(Edge::start(config, broker.clone(), feed(memory), directory)).unwrap();
        Self { edge, runtime, broker }
    }

    /// Publishes what each line of JSON says, in order.
    pub(crate) fn publish(&self, lines: impl IntoIterator<Item = String>) {
        let batch = lines.into_iter().map(|line| from_json(line.as_bytes()).unwrap()).collect();
        let results = self.runtime.block_on(self.broker.publish(batch));
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    }

    /// A plain client, greeted.
    pub(crate) fn plain(&self) -> Caller {
        let mut client = self.connect("/ws");
        assert!(client.text().contains("connection_success"));
        client
    }

    /// A Socket.IO client behind Engine.IO's open packet.
    pub(crate) fn socketio(&self) -> Caller {
        let mut client = self.connect("/socket.io/?EIO=4&transport=websocket");
        assert!(client.text().starts_with('0'));
        client
    }

    pub(crate) fn connect(&self, path: &str) -> Caller {
        let stream = TcpStream::connect(self.edge.listen()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        let (socket, _) = tungstenite::client(format!("ws://localhost{path}"), stream).unwrap();
        Caller { socket }
    }

    /// The value of one series, as a scrape shows it.
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let mut stream = TcpStream::connect(self.edge.private()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("no series {series}")).parse().unwrap()
    }

    /// Waits until a series has the value.
    pub(crate) fn settles(&self, series: &str, value: f64) {
        self.comes_to(series, |now| now == value);
    }

    /// Waits until a series has a value that will do.
    pub(crate) fn comes_to(&self, series: &str, will_do: impl Fn(f64) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let now = self.metric(series);
            if will_do(now) {
                return;
            }
            assert!(Instant::now() < deadline, "{series} is {now}");
        }
    }
}

/// A client that waits for each thing it reads.
pub(crate) struct Caller {
    pub(crate) socket: WebSocket<TcpStream>,
}

impl Caller {
    pub(crate) fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text)).unwrap();
    }

    /// The next text; heartbeats are passed over.
    pub(crate) fn text(&mut self) -> String {
        loop {
            match self.socket.read().unwrap() {
                Message::Text(text) => return text.to_string(),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// What comes before the first text that has `end` in it.
    pub(crate) fn until(&mut self, end: &str) -> Vec<String> {
        std::iter::from_fn(|| Some(self.text()).filter(|text| !text.contains(end))).collect()
    }

    /// The close code, after whatever else comes; answered, as clients do.
    pub(crate) fn close_code(&mut self) -> u16 {
        loop {
            if let Message::Close(frame) = self.socket.read().unwrap() {
                // The answer goes out, and the server's end comes in.
                while self.socket.read().is_ok() {}
                return frame.unwrap().code.into();
            }
        }
    }

    pub(crate) fn join(&mut self, room: &str) {
        self.send(&format!(r#"{{"type":"join","id":1,"room":"{room}"}}"#));
        assert_eq!(self.text(), r#"{"type":"reply","id":1,"ok":true}"#);
    }

    pub(crate) fn leave(&mut self, room: &str) {
        self.send(&format!(r#"{{"type":"leave","id":2,"room":"{room}"}}"#));
        assert_eq!(self.text(), r#"{"type":"reply","id":2,"ok":true}"#);
    }
}
