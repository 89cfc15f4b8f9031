//! A server process: its output kept in a file, its life tied to the generator's.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};

use crate::process::wait_until;

/// How long a server may take to answer, and to leave before it is killed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A directory of this process's own, removed with what is in it.
#[derive(Debug)]
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> anyhow::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("loadtest-{}-{count}", process::id()));
        fs::create_dir_all(&path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind in the temporary directory if it cannot be removed: nothing depends on it.
        fs::remove_dir_all(&self.0).ok();
    }
}

/// A started server. Dropping it asks it to leave, then kills it.
#[derive(Debug)]
pub(crate) struct Child {
    command: Command,
    child: process::Child,
    scratch: Scratch,
}

impl Child {
    /// Runs `command` with its output in `scratch`.
    pub(crate) fn start(mut command: Command, scratch: Scratch) -> anyhow::Result<Self> {
        let output = File::create(scratch.path().join("output"))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        // SAFETY: prctl and nothing else runs between fork and exec; it takes no pointers here.
        unsafe { command.pre_exec(end_with_parent) };
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("starting {program}"))?;
        Ok(Self { command, child, scratch })
    }

    /// Ends it without a word (SIGKILL).
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Runs the same command once more, after [`Child::kill`].
    pub(crate) fn start_again(&mut self) -> io::Result<()> {
        self.child = self.command.spawn()?;
        Ok(())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `ready`; fails with the process's last words if it ends or takes too long.
    pub(crate) fn wait_ready(&mut self, mut ready: impl FnMut() -> bool) -> anyhow::Result<()> {
        let mut ended = None;
        let waited = wait_until(PATIENCE, || {
            ended = self.child.try_wait().ok().flatten();
            ended.is_some() || ready()
        });
        match (waited, ended) {
            (Ok(()), None) => Ok(()),
            (_, Some(status)) => bail!("it ended with {status}:\n{}", self.last_words()),
            (Err(_), None) => bail!("no answer in {} s:\n{}", PATIENCE.as_secs(), self.last_words()),
        }
    }

    /// Waits until it accepts connections at `address`.
    pub(crate) fn wait_listening(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        self.wait_ready(|| TcpStream::connect(address).is_ok())
    }

    fn last_words(&self) -> String {
        let output = fs::read(self.scratch.path().join("output")).unwrap_or_default();
        let output = String::from_utf8_lossy(&output);
        let lines: Vec<&str> = output.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // SAFETY: no pointers; the child was not waited for, so its id is still its own.
            unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
            let left = wait_until(PATIENCE, || !matches!(self.child.try_wait(), Ok(None)));
            if left.is_err() {
                // It may have left since: then there is nothing to kill, and waiting returns.
                self.child.kill().ok();
                self.child.wait().ok();
            }
        }
    }
}

/// Asks the kernel to end the child when the generator ends, however it does.
fn end_with_parent() -> io::Result<()> {
    // SAFETY: no pointers.
    match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
