//! A node that leaves ends what it does for other nodes' clients one by one, so that they do not all come back at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::watch;

/// Of a window of this many parts each waits for its own.
const PARTS: u64 = 64;

/// Says that the node leaves.
#[derive(Debug)]
pub(super) struct Leave(watch::Sender<Option<Window>>);

/// Hears it.
#[derive(Debug, Clone)]
pub(super) struct Leaving {
    window: watch::Receiver<Option<Window>>,
    next: Arc<AtomicU64>,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    from: Instant,
    until: Instant,
}

/// Both ends.
pub(super) fn leaving() -> (Leave, Leaving) {
    let (sender, window) = watch::channel(None);
    (Leave(sender), Leaving { window, next: Arc::default() })
}

impl Leave {
    /// The last is to end by `until`.
    pub(super) fn by(&self, until: Instant) {
        self.0.send_replace(Some(Window { from: Instant::now(), until }));
    }
}

impl Leaving {
    /// Whether the node leaves.
    pub(super) fn is_leaving(&self) -> bool {
        self.window.borrow().is_some()
    }

    /// Resolves when it is the caller's turn to end; never while the node stays. Who comes when the node leaves
    /// already has time until the end.
    pub(super) async fn turn(&mut self) {
        if self.is_leaving() {
            return self.end().await;
        }
        let window = self.window().await;
        let part = self.next.fetch_add(1, Ordering::Relaxed) % PARTS;
        let length = window.until.saturating_duration_since(window.from);
        tokio::time::sleep_until((window.from + length.mul_f64(part as f64 / PARTS as f64)).into()).await;
    }

    /// Resolves when the node is about to be gone.
    pub(super) async fn end(&mut self) {
        let until = self.window().await.until;
        tokio::time::sleep_until(until.into()).await;
    }

    async fn window(&mut self) -> Window {
        match self.window.wait_for(Option::is_some).await.map(|window| *window) {
            Ok(Some(window)) => window,
            // Whoever would say it is gone, and with it the node.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }
}
