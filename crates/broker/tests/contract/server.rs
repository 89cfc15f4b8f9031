//! A real redis-server of one test's own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::driver::PATIENCE;

pub(crate) struct Redis {
    child: Child,
    pub(crate) port: u16,
}

/// A port that nobody listened on a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Redis {
    pub(crate) fn start() -> Self {
        Self::start_at(free_port())
    }

    pub(crate) fn start_at(port: u16) -> Self {
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let redis = Self { child, port };
        let deadline = Instant::now() + PATIENCE;
        while !redis.try_ping() {
            assert!(Instant::now() < deadline, "redis-server does not come up");
            std::thread::sleep(Duration::from_millis(10));
        }
        redis
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn try_ping(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let mut answer = [0; 7];
        stream.write_all(b"PING\r\n").is_ok()
            && stream.read_exact(&mut answer).is_ok()
            && &answer == b"+PONG\r\n"
    }

    /// Sends one command on a connection of its own; the answer, which is one line.
    pub(crate) fn command(&self, words: &[&str]) -> String {
        let mut raw = self.raw();
        raw.send(&[words.iter().map(|word| word.as_bytes()).collect::<Vec<_>>()]);
        let answers = raw.answers(1);
        answers[0].clone()
    }

    /// A connection without any library.
    pub(crate) fn raw(&self) -> Raw {
        Raw { stream: TcpStream::connect(("127.0.0.1", self.port)).unwrap(), unread: Vec::new() }
    }

    /// Stops (`-STOP`) and continues (`-CONT`) the process.
    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Ends the process at once.
    pub(crate) fn kill(mut self) -> u16 {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.port
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // Already gone after `kill`; SIGKILL also ends a stopped process.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub(crate) struct Raw {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Raw {
    /// Writes commands in one piece.
    pub(crate) fn send(&mut self, commands: &[Vec<&[u8]>]) {
        let mut out = Vec::new();
        for words in commands {
            write!(out, "*{}\r\n", words.len()).unwrap();
            for word in words {
                write!(out, "${}\r\n", word.len()).unwrap();
                out.extend_from_slice(word);
                out.extend_from_slice(b"\r\n");
            }
        }
        self.stream.write_all(&out).unwrap();
    }

    /// Subscribes to channels and waits until Redis says so.
    pub(crate) fn subscribe(&mut self, channels: &[&str]) {
        let words = [&["SUBSCRIBE"], channels].concat();
        self.send(&[words.iter().map(|word| word.as_bytes()).collect()]);
        // Array, two strings with their lengths, a number.
        self.answers(6 * channels.len());
    }

    /// The next thing on a subscribed channel: its name and a payload of one line.
    pub(crate) fn heard(&mut self) -> (String, String) {
        let lines = self.answers(7);
        (lines[4].clone(), lines[6].clone())
    }

    /// Reads so many answers of one line each.
    pub(crate) fn answers(&mut self, count: usize) -> Vec<String> {
        let mut answers = Vec::new();
        let mut chunk = vec![0; 64 << 10];
        while answers.len() < count {
            let mut start = 0;
            while answers.len() < count
                && let Some(len) = self.unread[start..].iter().position(|&byte| byte == b'\n')
            {
                answers.push(String::from_utf8_lossy(&self.unread[start..start + len]).trim_end().to_owned());
                start += len + 1;
            }
            self.unread.drain(..start);
            if answers.len() < count {
                let len = self.stream.read(&mut chunk).unwrap();
                assert!(len > 0, "Redis closed a raw connection");
                self.unread.extend_from_slice(&chunk[..len]);
            }
        }
        answers
    }
}
