//! An app of the tests: HTTP by hand, the signature checked, every call kept, answers by script.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use fanfare_edge::{AppEndpoint, AppFormat, Config};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::Value;
use sha2::Sha256;

use crate::harness::{DEADLINE, config};

pub(crate) const SECRET: &str = "the secret of the tests";

/// Answers a call, parsed where it is JSON, and its body.
type Script = Box<dyn Fn(&Value, &[u8]) -> Said + Send + Sync>;

/// What a call is answered: a status and a body.
pub(crate) type Said = (u16, Vec<u8>);

/// `200` and this body.
pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Said {
    (200, body.into())
}

/// An app that runs in this process.
pub(crate) struct App {
    pub(crate) address: std::net::SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    script: Script,
    format: AppFormat,
    state: Mutex<State>,
    changed: Condvar,
    open: AtomicUsize,
    most_open: AtomicUsize,
}

#[derive(Default)]
struct State {
    /// Calls as they came; null where they are not JSON.
    calls: Vec<Value>,
    /// No call is answered now.
    shut: bool,
}

impl App {
    pub(crate) fn start(script: impl Fn(&Value, &[u8]) -> Said + Send + Sync + 'static) -> Self {
        Self::start_in(AppFormat::Json, script)
    }

    pub(crate) fn start_in(
        format: AppFormat,
        script: impl Fn(&Value, &[u8]) -> Said + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            format,
            state: Mutex::default(),
            changed: Condvar::new(),
            open: AtomicUsize::new(0),
            most_open: AtomicUsize::new(0),
        });
        let serving = shared.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (Ok(socket), shared) = (socket, serving.clone()) else { return };
                std::thread::spawn(move || shared.serve(socket));
            }
        });
        Self { address, shared }
    }

    /// A node's config with this app.
    pub(crate) fn config(&self) -> Config {
        Config { app: Some(self.endpoint()), rules: Default::default(), ..config() }
    }

    pub(crate) fn endpoint(&self) -> AppEndpoint {
        AppEndpoint {
            url: format!("http://{}/realtime", self.address).parse().unwrap(),
            secret: SECRET.to_owned(),
            format: self.shared.format,
            timeout: Duration::from_secs(5),
            namespaces: None,
        }
    }

    /// From now on calls wait.
    pub(crate) fn shut(&self) {
        self.shared.state.lock().unwrap().shut = true;
    }

    /// Answers the calls that wait, and those to come.
    pub(crate) fn let_all(&self) {
        self.shared.state.lock().unwrap().shut = false;
        self.shared.changed.notify_all();
    }

    /// The most calls that were open at a time.
    pub(crate) fn most_open(&self) -> usize {
        self.shared.most_open.load(Ordering::SeqCst)
    }

    /// Waits for so many calls, and gives them all.
    pub(crate) fn calls(&self, count: usize) -> Vec<Value> {
        let end = Instant::now() + DEADLINE;
        let mut state = self.shared.state.lock().unwrap();
        while state.calls.len() < count {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} of {count} calls: {:?}", state.calls.len(), state.calls);
            state = self.shared.changed.wait_timeout(state, left).unwrap().0;
        }
        state.calls.clone()
    }

    /// Waits for a call of a type that has this text in it.
    pub(crate) fn told(&self, kind: &str, text: &str) -> Value {
        let end = Instant::now() + DEADLINE;
        let mut state = self.shared.state.lock().unwrap();
        loop {
            let found =
                state.calls.iter().find(|call| call["type"] == kind && call.to_string().contains(text));
            if let Some(call) = found {
                return call.clone();
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {kind} with {text}: {:?}", state.calls);
            state = self.shared.changed.wait_timeout(state, left).unwrap().0;
        }
    }
}

impl Shared {
    /// One connection, request after request. It ends with the node's.
    fn serve(&self, socket: TcpStream) {
        let mut writer = socket.try_clone().unwrap();
        let mut reader = BufReader::new(socket);
        while let Some((signature, body)) = read(&mut reader) {
            assert!(is_signed(&signature, &body), "{signature} of {body:?}");
            let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_open.fetch_max(open, Ordering::SeqCst);
            let call = match self.format {
                AppFormat::Json => serde_json::from_slice(&body).unwrap(),
                AppFormat::Msgpack => Value::Null,
            };
            let mut state = self.state.lock().unwrap();
            state.calls.push(call.clone());
            self.changed.notify_all();
            while state.shut {
                state = self.changed.wait(state).unwrap();
            }
            drop(state);
            let (status, said) = (self.script)(&call, &body);
            self.open.fetch_sub(1, Ordering::SeqCst);
            let head = format!("HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n\r\n", said.len());
            if writer.write_all(&[head.as_bytes(), &said].concat()).is_err() {
                return;
            }
        }
    }
}

/// The signature and the body of a request.
fn read(reader: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let (mut signature, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(": ") {
            match name.to_ascii_lowercase().as_str() {
                "fanfare-signature" => signature = value.to_owned(),
                "content-length" => length = value.parse().unwrap(),
                _ => {}
            }
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((signature, body))
}

fn is_signed(signature: &str, body: &[u8]) -> bool {
    let Some((seconds, given)) = signature.strip_prefix("t=").and_then(|rest| rest.split_once(",v1=")) else {
        return false;
    };
    let mut mac = <Hmac<Sha256>>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body);
    let right: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    given == right && seconds.parse::<u64>().unwrap().abs_diff(now) < 60
}
