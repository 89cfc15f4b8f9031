//! A node that leaves ends what it does for other nodes' clients one by one, so that they do not all come back at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

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
    /// Resolves when it is the caller's turn to end; never while the node stays.
    pub(super) async fn turn(&mut self) {
        let window = match self.window.wait_for(Option::is_some).await.map(|window| *window) {
            Ok(Some(window)) => window,
            // Whoever would say it is gone, and with it the node.
            Ok(None) | Err(_) => std::future::pending().await,
        };
        let part = self.next.fetch_add(1, Ordering::Relaxed) % PARTS;
        let length = window.until.saturating_duration_since(window.from);
        let at = window.from + length.mul_f64(part as f64 / PARTS as f64);
        tokio::time::sleep(at.saturating_duration_since(Instant::now()).max(Duration::ZERO)).await;
    }
}
