//! Memory that a burst needed goes back to the system. glibc keeps freed pages in its arenas for as long as
//! anything lies above them, which for a server's threads is for ever.

use std::time::Duration;

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(2);
/// A change of freed memory that is worth walking the arenas for, in bytes; more where more is in use.
const WORTH: usize = 64 << 10;

/// Keeps the allocator to about as many arenas as there are shards: what is freed in few places lies together
/// and can be given back. Called before the first thread starts.
#[cfg(target_env = "gnu")]
pub(crate) fn few_arenas() {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let arenas = libc::c_int::try_from(cores.saturating_sub(1).max(1)).unwrap_or(libc::c_int::MAX);
    // SAFETY: the call has no preconditions but that no other thread allocates yet; refused, it changes nothing.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, arenas) };
}

#[cfg(not(target_env = "gnu"))]
pub(crate) fn few_arenas() {}

/// Gives freed memory back from time to time, until the process ends.
pub(crate) async fn give_back() {
    let mut kept = 0;
    loop {
        tokio::time::sleep(EVERY).await;
        let (free, used) = held();
        if free.abs_diff(kept) <= WORTH.max(used / 16) {
            continue;
        }
        // Walking the arenas takes their locks for some milliseconds: not on a thread that serves requests.
        if tokio::task::spawn_blocking(trim).await.is_err() {
            return;
        }
        // What was given back still counts as free: only a change from here on is worth another walk.
        (kept, _) = held();
    }
}

/// Bytes of the allocator that nobody uses, and bytes in use.
#[cfg(target_env = "gnu")]
fn held() -> (usize, usize) {
    // SAFETY: the call has no preconditions; it only reads the allocator's state under its own locks.
    let held = unsafe { libc::mallinfo2() };
    (held.fordblks, held.uordblks)
}

#[cfg(target_env = "gnu")]
fn trim() {
    // SAFETY: the call has no preconditions. It says whether anything was given back, which changes nothing here.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(target_env = "gnu"))]
fn held() -> (usize, usize) {
    (0, 0)
}

#[cfg(not(target_env = "gnu"))]
fn trim() {}
