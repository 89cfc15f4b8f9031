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
                let server = first_line(&setup.fanfare, &["--version"])?;
                let bus = first_line("redis-server", &["--version"]);
                let bus =
                    bus.as_deref().and_then(|line| line.split(' ').find_map(|word| word.strip_prefix("v=")));
                Some(bus.map_or_else(|| server.clone(), |bus| format!("{server}, Redis {bus}")))
            }
        }
    }
}

fn first_line(program: impl AsRef<OsStr>, arguments: &[&str]) -> Option<String> {
    let output =
        Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
}
