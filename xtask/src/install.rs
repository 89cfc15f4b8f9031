//! What the tests need beside Rust and Node: Debian packages, npm packages, and Python's in an environment of
//! their own. Nothing that is there is touched, and no service that a package starts is relied on or stopped.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;

/// Program that a test starts, and the Debian package that brings it.
const PROGRAMS: [(&str, &str); 6] = [
    ("redis-server", "redis-server"),
    ("haproxy", "haproxy"),
    ("nginx", "nginx"),
    ("promtool", "prometheus"),
    ("chromium", "chromium"),
    ("python3", "python3"),
];

/// Package of what `python3 -m venv` needs; Debian's Python comes without.
const VENV: &str = "python3-venv";

/// Lock file that `node_modules` was made from, kept inside it.
const STAMP: &str = "node_modules/.made-from.json";

/// The Python packages of the tests, the environment with them, and the list that it was made from.
const REQUIREMENTS: &str = "python/requirements.txt";
const ENVIRONMENT: &str = ".venv";
const ENVIRONMENT_STAMP: &str = ".venv/made-from.txt";

/// Brings what is missing.
pub(crate) fn all(root: &Path) -> Result<()> {
    debian(&PROGRAMS)?;
    npm(&root.join("e2e"))?;
    python(&root.join("e2e"))
}

/// Peers that come from a registry of their own.
const INSTALLED: [&str; 3] = ["nchan", "socketio-redis", "socketioxide"];

/// Brings what benchmarks are measured beside: what these peers of the load generator need, or all.
pub(crate) fn peers(root: &Path, peers: Option<&str>) -> Result<()> {
    let mut install = Command::new(root.join("loadtest/peers/install"));
    if let Some(peers) = peers {
        let named = peers.split(',').filter(|peer| INSTALLED.contains(peer));
        install.arg("redis").args(named);
    }
    process::run(&mut install)
}

fn debian(wanted: &[(&str, &'static str)]) -> Result<()> {
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|(program, _)| process::find(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() { Ok(()) } else { packages(&missing) }
}

fn packages(missing: &[&str]) -> Result<()> {
    if process::find("apt-get").is_none() {
        bail!("install these first, there is no apt-get here: {}", missing.join(", "));
    }
    // A package list that cannot be renewed may still be good enough.
    if let Err(reason) = process::run(apt().arg("update")) {
        println!("{reason:#}");
    }
    process::run(apt().args(["install", "-y", "--no-install-recommends"]).args(missing))
}

/// `apt-get` that asks nothing, through sudo where this user needs it and it asks nothing either.
fn apt() -> Command {
    let root = fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    let mut command = if root || process::find("sudo").is_none() {
        Command::new("apt-get")
    } else {
        let mut sudo = Command::new("sudo");
        sudo.args(["-n", "--preserve-env=DEBIAN_FRONTEND", "apt-get"]);
        sudo
    };
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn npm(e2e: &Path) -> Result<()> {
    let lock = fs::read(e2e.join("package-lock.json")).context("e2e/package-lock.json")?;
    if fs::read(e2e.join(STAMP)).is_ok_and(|made_from| made_from == lock) {
        return Ok(());
    }
    process::run(Command::new("npm").args(["ci", "--ignore-scripts"]).current_dir(e2e))?;
    fs::write(e2e.join(STAMP), lock).context("e2e/node_modules")
}

fn python(e2e: &Path) -> Result<()> {
    let wanted = fs::read(e2e.join(REQUIREMENTS)).context("e2e/python/requirements.txt")?;
    if fs::read(e2e.join(ENVIRONMENT_STAMP)).is_ok_and(|made_from| made_from == wanted) {
        return Ok(());
    }
    let make = || {
        process::run(Command::new("python3").args(["-m", "venv", "--clear", ENVIRONMENT]).current_dir(e2e))
    };
    if make().is_err() {
        packages(&[VENV])?;
        make()?;
    }
    let pip = e2e.join(ENVIRONMENT).join("bin/pip");
    process::run(Command::new(pip).args(["install", "--quiet", "-r", REQUIREMENTS]).current_dir(e2e))?;
    fs::write(e2e.join(ENVIRONMENT_STAMP), wanted).context("e2e/.venv")
}
