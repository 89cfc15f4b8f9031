//! Memory that a burst needed goes back to the system. glibc keeps freed pages in its arenas for as long as
//! anything lies above them, which for a server's threads is for ever.

use std::time::Duration;

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(2);
/// Freed memory that is worth a look, in bytes.
const WORTH: usize = 512 << 10;

/// Gives freed memory back from time to time, until the process ends.
pub(crate) async fn give_back() {
    let mut kept = 0;
    loop {
        tokio::time::sleep(EVERY).await;
        let free = freed();
        kept = free.min(kept);
        if free > kept + WORTH {
            // Walking the arenas takes their locks for some milliseconds: not on a thread that serves requests.
            if tokio::task::spawn_blocking(trim).await.is_err() {
                return;
            }
            // What was given back still counts as free: only growth from here on is worth another look.
            kept = freed();
        }
    }
}

/// Bytes that the allocator holds and nobody uses.
#[cfg(target_env = "gnu")]
fn freed() -> usize {
    // SAFETY: the call has no preconditions; it only reads the allocator's state under its own locks.
    unsafe { libc::mallinfo2() }.fordblks
}

#[cfg(target_env = "gnu")]
fn trim() {
    // SAFETY: the call has no preconditions. It says whether anything was given back, which changes nothing here.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
fn freed() -> usize {
    0
}

#[cfg(not(target_env = "gnu"))]
fn trim() {}
