//! What exactly is measured.

use std::ffi::OsStr;
use std::process::Command;

use super::{PeerKind, Setup};

impl PeerKind {
    /// The server's version and that of what stands before it; `None` where nothing tells.
    pub(crate) fn version(self, setup: &Setup) -> Option<String> {
        match self {
            Self::Floor => Some(format!("loadtest {}", env!("CARGO_PKG_VERSION"))),
            Self::Nchan => {
                let package = ["-W", "-f", "${Package} ${Version}", "libnginx-mod-nchan"];
                first_line("dpkg-query", &package)
            }
            Self::FanfareSocketIo | Self::FanfarePlain => {
                Some(with_redis(first_line(&setup.fanfare, &["--version"])?))
            }
            Self::SocketIoRedis => Some(with_redis(locked(
                include_str!("../../peers/socketio-redis/package-lock.json"),
                "node_modules/socket.io",
                "socket.io",
            )?)),
            Self::Socketioxide => Some(with_redis(crate_version(
                include_str!("../../peers/socketioxide/Cargo.lock"),
                "socketioxide",
            )?)),
            // It is somebody else's, and says nothing of itself.
            Self::Running => None,
        }
    }
}

fn with_redis(server: String) -> String {
    let bus = first_line("redis-server", &["--version"]);
    let bus = bus.as_deref().and_then(|line| line.split(' ').find_map(|word| word.strip_prefix("v=")));
    match bus {
        Some(bus) => format!("{server}, Redis {bus}"),
        None => server,
    }
}

/// The version that npm's lock file names for a package.
fn locked(lock: &str, path: &str, name: &str) -> Option<String> {
    let lock: serde_json::Value = serde_json::from_str(lock).ok()?;
    Some(format!("{name} {}", lock["packages"][path]["version"].as_str()?))
}

/// The version that Cargo's lock file names for a crate.
fn crate_version(lock: &str, name: &str) -> Option<String> {
    let package =
        lock.split("[[package]]").find(|package| package.contains(&format!("name = \"{name}\"\n")))?;
    let version = package.lines().find_map(|line| line.strip_prefix("version = "))?;
    Some(format!("{name} {}", version.trim_matches('"')))
}

fn first_line(program: impl AsRef<OsStr>, arguments: &[&str]) -> Option<String> {
    let output =
        Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locked_versions_are_found() {
        let npm = r#"{"packages":{"node_modules/a":{"version":"1.2.3"}}}"#;
        assert_eq!(locked(npm, "node_modules/a", "a").as_deref(), Some("a 1.2.3"));
        assert_eq!(locked(npm, "node_modules/b", "b"), None);
        let cargo =
            "[[package]]\nname = \"ab\"\nversion = \"9\"\n\n[[package]]\nname = \"a\"\nversion = \"2.0\"\n";
        assert_eq!(crate_version(cargo, "a").as_deref(), Some("a 2.0"));
        assert_eq!(crate_version(cargo, "c"), None);
    }
}
