//! Bytes ready to be written to a WebSocket, shared by everyone they go to.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::websocket::{Opcode, begin_frame, finish_frame};

/// Bytes of all frames alive in this process: what outboxes really hold, however many share a frame.
static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);

/// One or more whole WebSocket frames that belong together (an event and its attachments), headers
/// included. Cloning shares the bytes. One frame in an outbox costs a pointer.
#[derive(Debug, Clone)]
pub struct Frame(Arc<Body>);

#[derive(Debug)]
struct Body(Box<[u8]>);

impl Frame {
    /// Takes bytes that are whole WebSocket frames, as [`crate::websocket::encode`] writes them.
    pub fn from_wire(bytes: Vec<u8>) -> Self {
        LIVE_BYTES.fetch_add(bytes.len(), Ordering::Relaxed);
        Self(Arc::new(Body(bytes.into_boxed_slice())))
    }

    /// One text frame whose payload `write` appends. It must be UTF-8.
    pub(crate) fn text(write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut wire = Vec::new();
        let start = begin_frame(&mut wire);
        write(&mut wire);
        finish_frame(&mut wire, start, Opcode::Text);
        Self::from_wire(wire)
    }

    /// The bytes as they go to the socket.
    pub fn bytes(&self) -> &[u8] {
        &self.0.0
    }

    /// Bytes that all frames of this process hold now.
    pub fn live_bytes() -> usize {
        LIVE_BYTES.load(Ordering::Relaxed)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        LIVE_BYTES.fetch_sub(self.0.len(), Ordering::Relaxed);
    }
}
