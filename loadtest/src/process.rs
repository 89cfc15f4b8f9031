//! What processes cost, from the kernel.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::thread;
use std::time::{Duration, Instant};

/// CPU time of these processes, in nanoseconds, threads that have ended included (which a sum over
/// `/proc/{pid}/task` would forget).
pub(crate) fn cpu_ns(pids: &[u32]) -> u64 {
    pids.iter().filter_map(|pid| process_clock(*pid).ok()).sum()
}

/// Resident memory of these processes, in KiB (`VmRSS`).
pub(crate) fn rss_kib(pids: &[u32]) -> u64 {
    pids.iter().filter_map(|pid| rss_of(*pid)).sum()
}

/// Waits until the resident memory has not moved by 0.1 % for a second and a half, or 15 s are over, while
/// `meanwhile` is called again and again and takes its time.
pub(crate) fn settled_rss_kib(
    pids: &[u32],
    mut meanwhile: impl FnMut(Duration) -> anyhow::Result<()>,
) -> anyhow::Result<u64> {
    let deadline = Instant::now() + Duration::from_secs(15);
    let mut steady = (rss_kib(pids), Instant::now());
    while steady.1.elapsed() < Duration::from_millis(1500) && Instant::now() < deadline {
        meanwhile(Duration::from_millis(250))?;
        let rss = rss_kib(pids);
        if rss.abs_diff(steady.0) > steady.0 / 1000 {
            steady = (rss, Instant::now());
        }
    }
    Ok(rss_kib(pids))
}

/// CPU time of the calling thread, in nanoseconds.
pub(crate) fn thread_cpu_ns() -> u64 {
    read_clock(libc::CLOCK_THREAD_CPUTIME_ID).expect("Linux has the clock of the own thread")
}

/// Time that all cores together were busy or stolen since boot, in nanoseconds; ticks of 10 ms.
pub(crate) fn machine_busy_ns() -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: Vec<u64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_ascii_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // user nice system idle iowait irq softirq steal
    [0, 1, 2, 5, 6, 7].iter().filter_map(|field| ticks.get(*field)).sum::<u64>() * 10_000_000
}

/// Raises the soft limit of open files to the hard one and returns it.
pub(crate) fn raise_open_files() -> io::Result<u64> {
    let mut limit = MaybeUninit::<libc::rlimit>::uninit();
    // SAFETY: getrlimit writes the struct when it returns 0, and only then it is read.
    let mut limit = unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, limit.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        limit.assume_init()
    };
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the struct is read during the call.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } {
        0 => Ok(limit.rlim_cur),
        _ => Err(io::Error::last_os_error()),
    }
}

pub(crate) fn wait_until(
    deadline: Duration,
    mut condition: impl FnMut() -> bool,
) -> Result<(), DeadlineExceeded> {
    let deadline = Instant::now() + deadline;
    while !condition() {
        if Instant::now() > deadline {
            return Err(DeadlineExceeded);
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// The condition did not come true in time.
#[derive(Debug)]
pub(crate) struct DeadlineExceeded;

/// The process and everything it has started, as far as it runs.
pub(crate) fn family(root: u32) -> Vec<u32> {
    let mut family = vec![root];
    let Ok(listing) = fs::read_dir("/proc") else { return family };
    let parents: Vec<(u32, u32)> = listing
        .filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            Some((pid, parent_of(pid)?))
        })
        .collect();
    let mut index = 0;
    while let Some(&parent) = family.get(index) {
        family.extend(parents.iter().filter(|pair| pair.1 == parent).map(|pair| pair.0));
        index += 1;
    }
    family
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; state and parent follow its last one.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn rss_of(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn process_clock(pid: u32) -> io::Result<u64> {
    let mut clock: libc::clockid_t = 0;
    // SAFETY: the clock's id is written during the call.
    match unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &raw mut clock) } {
        0 => read_clock(clock),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

fn read_clock(clock: libc::clockid_t) -> io::Result<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time is written during the call.
    match unsafe { libc::clock_gettime(clock, &raw mut time) } {
        0 => Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_works_is_seen_working() {
        let mut busy = std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let seen = wait_until(Duration::from_secs(10), || cpu_ns(&[busy.id()]) > 20_000_000);
        let rss = rss_kib(&[busy.id()]);
        busy.kill().unwrap();
        busy.wait().unwrap();
        seen.expect("20 ms of CPU within 10 s");
        assert!(rss > 0);
        assert_eq!(rss_kib(&[busy.id()]), 0, "a process that is gone has nothing");
    }

    #[test]
    fn children_count() {
        let mut parent = std::process::Command::new("sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
        let seen = wait_until(Duration::from_secs(10), || family(parent.id()).len() == 2);
        for pid in family(parent.id()) {
            // SAFETY: no pointers; both processes were started here.
            unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) };
        }
        parent.wait().unwrap();
        seen.expect("the child within 10 s");
    }
}
