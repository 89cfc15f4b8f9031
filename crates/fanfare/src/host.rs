//! What the host allows and is called: open files, of which each connection is one, and its name.

use std::io;

/// Files kept for everything that is no client connection: listeners, Redis, HTTP requests, logs. A
/// quarter of what is allowed, within 32 and 256.
pub(crate) fn reserve(open_files: u64) -> u64 {
    (open_files / 4).clamp(LEAST_RESERVE, 256)
}

/// With fewer files than this a node does not start.
pub(crate) const LEAST_RESERVE: u64 = 32;

/// Raises the soft limit of open files to the hard one and returns what is allowed now. Where raising is
/// refused, that is the soft limit as it was.
pub(crate) fn raise() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call writes one rlimit through a pointer to a live one.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let soft = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the call reads one rlimit through a pointer to a live one.
    let raised = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } == 0;
    Ok(if raised { limit.rlim_max } else { soft })
}

/// Name of the host, for a node that was given none.
pub(crate) fn hostname() -> Option<String> {
    let mut name = [0u8; 256];
    // SAFETY: the call writes at most `len` bytes; one byte is left for the end mark that it may omit.
    if unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) } != 0 {
        return None;
    }
    let end = name.iter().position(|byte| *byte == 0)?;
    let name = std::str::from_utf8(&name[..end]).ok()?;
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raising_twice_gives_the_same_limit() {
        let first = raise().unwrap();
        assert!(first > 0);
        assert_eq!(raise().unwrap(), first);
    }
}
