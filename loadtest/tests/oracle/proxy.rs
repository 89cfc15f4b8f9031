//! A proxy that forwards bytes in both directions and, on one connection, does something to one delivery.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// What happens to the chosen delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    Drop,
    Repeat,
    /// It changes places with the next one.
    Swap,
}

/// The connection that the fault is for, in the order of their coming, from 0.
const CONNECTION: usize = 2;
/// Of that connection's deliveries, which one, from 0.
const DELIVERY: usize = 5;

/// Runs as long as the process.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    done: Arc<AtomicBool>,
}

impl Proxy {
    /// Stands before `server`, on a port of its own.
    pub(crate) fn start(server: SocketAddr, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let done = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&done);
        thread::spawn(move || {
            for (number, member) in listener.incoming().enumerate() {
                let member = member.unwrap();
                let server = TcpStream::connect(server).unwrap();
                let fault = if number == CONNECTION { fault } else { Fault::None };
                forward(member, server, fault, Arc::clone(&told));
            }
        });
        Self { address, done }
    }

    /// Whether the fault has happened, all of it.
    pub(crate) fn has_acted(&self) -> bool {
        self.done.load(Ordering::SeqCst)
    }
}

fn forward(member: TcpStream, server: TcpStream, fault: Fault, done: Arc<AtomicBool>) {
    let (mut from_member, mut to_server) = (member.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || {
        // However it ends, the other direction ends with it.
        io::copy(&mut from_member, &mut to_server).ok();
        to_server.shutdown(Shutdown::Both).ok();
    });
    thread::spawn(move || {
        let mut stream = Deliveries { member: &member, fault, done: &done, count: 0, kept: Vec::new() };
        stream.run(&server).ok();
        member.shutdown(Shutdown::Both).ok();
    });
}

/// What goes from the server to one member.
struct Deliveries<'a> {
    member: &'a TcpStream,
    fault: Fault,
    done: &'a AtomicBool,
    count: usize,
    /// The delivery that waits for the next one.
    kept: Vec<u8>,
}

impl Deliveries<'_> {
    fn run(&mut self, mut server: &TcpStream) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut buffer = [0; 16 << 10];
        let mut upgraded = false;
        loop {
            match server.read(&mut buffer)? {
                0 => return Ok(()),
                count => bytes.extend_from_slice(&buffer[..count]),
            }
            if !upgraded {
                let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
                self.member.write_all(&bytes[..head + 4])?;
                bytes.drain(..head + 4);
                upgraded = true;
            }
            while let Some(length) = frame_length(&bytes) {
                let frame: Vec<u8> = bytes.drain(..length).collect();
                self.pass(frame)?;
            }
        }
    }

    fn pass(&mut self, frame: Vec<u8>) -> io::Result<()> {
        // The generator's mark; pings and answers have none.
        if !frame.contains(&b'~') {
            return self.member.write_all(&frame);
        }
        let number = self.count;
        self.count += 1;
        match (self.fault, number) {
            (Fault::Drop, DELIVERY) => self.acted(),
            (Fault::Repeat, DELIVERY) => {
                self.member.write_all(&frame)?;
                self.acted();
                self.member.write_all(&frame)?;
            }
            (Fault::Swap, DELIVERY) => self.kept = frame,
            _ => {
                self.member.write_all(&frame)?;
                if !self.kept.is_empty() {
                    self.acted();
                    self.member.write_all(&std::mem::take(&mut self.kept))?;
                }
            }
        }
        Ok(())
    }

    fn acted(&self) {
        assert!(!self.done.swap(true, Ordering::SeqCst), "the fault happens once");
    }
}

/// Length of the unmasked frame (RFC 6455 §5.2) at the front, once all of it is there.
fn frame_length(bytes: &[u8]) -> Option<usize> {
    let length = match *bytes.get(1)? {
        126 => 4 + usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?)),
        127 => 10 + u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?) as usize,
        short => 2 + usize::from(short),
    };
    (bytes.len() >= length).then_some(length)
}
