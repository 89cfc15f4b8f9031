//! Wakes an epoll loop at a time; epoll's own timeouts are whole milliseconds.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

#[derive(Debug)]
pub(crate) struct Timer {
    descriptor: OwnedFd,
    /// The time that it is set to.
    at: u64,
}

impl Timer {
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no pointers; a result ≥ 0 is a new descriptor that nobody else owns.
        let descriptor = unsafe {
            match libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC) {
                ..0 => return Err(io::Error::last_os_error()),
                descriptor => OwnedFd::from_raw_fd(descriptor),
            }
        };
        Ok(Self { descriptor, at: 0 })
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }

    /// Becomes readable at the time `at` of a clock that shows `now`, in nanoseconds; once.
    pub(crate) fn set(&mut self, at: u64, now: u64) -> io::Result<()> {
        if at == self.at {
            return Ok(());
        }
        self.at = at;
        // Zero would mean never.
        let left = at.saturating_sub(now).max(1);
        let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let value = libc::timespec {
            tv_sec: (left / 1_000_000_000) as libc::time_t,
            tv_nsec: (left % 1_000_000_000) as libc::c_long,
        };
        let setting = libc::itimerspec { it_interval: never, it_value: value };
        let descriptor = self.descriptor.as_raw_fd();
        // SAFETY: the descriptor is open, the setting is read during the call, the old one is not asked for.
        let result =
            unsafe { libc::timerfd_settime(descriptor, 0, &raw const setting, std::ptr::null_mut()) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}
