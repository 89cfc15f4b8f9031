//! HTTP/1.1 as a script: one socket, requests as they are written, responses as they came.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::harness::{DEADLINE, Node};

/// One connection to the public listener.
pub(crate) struct Http {
    pub(crate) stream: TcpStream,
    /// Read, but of no response yet.
    rest: Vec<u8>,
}

/// A response, its header names in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) bytes: Vec<u8>,
}

impl Response {
    pub(crate) fn body(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap()
    }

    /// The value of a header; those of a repeated one, joined.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let values: Vec<&str> =
            self.headers.iter().filter(|header| header.0 == name).map(|header| header.1.as_str()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    /// Status and body, to compare with.
    pub(crate) fn said(&self) -> (u16, &str) {
        (self.status, self.body())
    }
}

impl Http {
    pub(crate) fn to(node: &Node) -> Self {
        let stream = TcpStream::connect(node.edge.listen()).unwrap();
        Self::over(stream)
    }

    pub(crate) fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, rest: Vec::new() }
    }

    /// Sends a request without waiting for its response. `head`: method, target, and more header lines.
    pub(crate) fn send(&mut self, head: &str, body: &[u8]) {
        let (line, headers) = head.split_once("\r\n").unwrap_or((head, ""));
        let mut request = format!("{line} HTTP/1.1\r\nhost: test\r\n");
        if !headers.is_empty() {
            request += &format!("{headers}\r\n");
        }
        if line.starts_with("POST") {
            request += &format!("content-length: {}\r\n", body.len());
        }
        let mut bytes = (request + "\r\n").into_bytes();
        bytes.extend_from_slice(body);
        self.stream.write_all(&bytes).unwrap();
    }

    /// Whether nothing has come for so long.
    pub(crate) fn is_silent(&mut self, time: Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).unwrap();
        let silent = match self.stream.peek(&mut [0]) {
            Ok(_) => false,
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        };
        self.stream.set_read_timeout(Some(DEADLINE)).unwrap();
        silent
    }

    /// The next response; `None` where the connection ends instead.
    pub(crate) fn response(&mut self) -> Option<Response> {
        let head_end = loop {
            if let Some(at) = self.rest.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            if !self.more() {
                return None;
            }
        };
        let head = String::from_utf8(self.rest[..head_end].to_vec()).unwrap();
        self.rest.drain(..head_end + 4);
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let length = headers.iter().find(|header| header.0 == "content-length");
        let length: usize = length.map_or(0, |header| header.1.parse().unwrap());
        while self.rest.len() < length {
            assert!(self.more(), "the connection ended in a body");
        }
        let bytes = self.rest.drain(..length).collect();
        Some(Response { status, headers, bytes })
    }

    fn more(&mut self) -> bool {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.rest.extend_from_slice(&buffer[..count]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// A request and its response.
    pub(crate) fn ask(&mut self, head: &str, body: &[u8]) -> Response {
        self.send(head, body);
        self.response().unwrap_or_else(|| panic!("no response to {head}"))
    }
}

/// A session by long-polling, with a connection for GETs and one for POSTs.
pub(crate) struct Polls {
    pub(crate) sid: String,
    pub(crate) open: String,
    pub(crate) gets: Http,
    pub(crate) posts: Http,
}

impl Polls {
    /// Opened below `path`.
    pub(crate) fn open(node: &Node, path: &str) -> Self {
        let mut gets = Http::to(node);
        let response = gets.ask(&format!("GET {path}?EIO=4&transport=polling"), b"");
        assert_eq!(response.status, 200, "{response:?}");
        let open = response.body().to_owned();
        let sid = open.strip_prefix(r#"0{"sid":""#).and_then(|rest| rest.split('"').next()).unwrap();
        Self { sid: sid.to_owned(), gets, posts: Http::to(node), open }
    }

    pub(crate) fn target(&self) -> String {
        format!("/socket.io/?EIO=4&transport=polling&sid={}", self.sid)
    }

    /// Waits for packets.
    pub(crate) fn get(&mut self) -> Response {
        self.send_get();
        self.gets.response().expect("no response to a GET")
    }

    pub(crate) fn send_get(&mut self) {
        self.gets.send(&format!("GET {}", self.target()), b"");
    }

    pub(crate) fn post(&mut self, body: &str) -> Response {
        self.posts.ask(&format!("POST {}", self.target()), body.as_bytes())
    }

    /// Sends packets that are taken.
    pub(crate) fn says(&mut self, body: &str) {
        assert_eq!(self.post(body).said(), (200, "ok"), "{body:.80}");
    }

    /// The packets of the next answers, until there are so many.
    pub(crate) fn packets(&mut self, count: usize) -> Vec<String> {
        let mut packets = Vec::new();
        while packets.len() < count {
            let response = self.get();
            assert_eq!(response.status, 200, "{response:?}");
            packets.extend(response.body().split('\x1e').map(str::to_owned));
        }
        packets
    }

    /// What a GET on a new connection is told.
    pub(crate) fn get_anew(&self, node: &Node) -> Response {
        Http::to(node).ask(&format!("GET {}", self.target()), b"")
    }
}
