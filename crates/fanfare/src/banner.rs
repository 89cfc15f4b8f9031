//! What a node says when it stands: where it is, what joins it, what bounds it, who may do what.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;

use fanfare_edge::Origins;

use crate::config::Resolved;
use crate::settings::LogFormat;
use crate::values::show_size;

/// Says it, on stderr: lines for people, one record for machines; and on stdout where to click, in development.
/// The addresses are those really bound.
pub(crate) fn show(resolved: &Resolved, listen: SocketAddr, private: SocketAddr, format: LogFormat) {
    // Whoever runs --dev wants to click, wherever the log goes.
    if resolved.dev
        && let Err(error) = writeln!(std::io::stdout(), "open http://{listen}/ in two tabs")
    {
        tracing::debug!(%error, "nobody reads the standard output");
    }
    match format {
        LogFormat::Text => eprint!("{}", text(resolved, listen, private)),
        LogFormat::Json => tracing::info!(
            node = %resolved.edge.node,
            version = env!("CARGO_PKG_VERSION"),
            %listen,
            %private,
            broker = %broker(resolved),
            connections = resolved.edge.limits.connections,
            rules = %rules(resolved),
            dev = resolved.dev,
            "serving"
        ),
    }
}

fn text(resolved: &Resolved, listen: SocketAddr, private: SocketAddr) -> String {
    let edge = &resolved.edge;
    let limits = &edge.limits;
    let mut rows = vec![
        ("fanfare", format!("{}, node {}", env!("CARGO_PKG_VERSION"), edge.node)),
        (
            "clients",
            format!("http://{listen}  Socket.IO {}, plain WebSocket {}", edge.socketio_path, edge.plain_path),
        ),
        ("private", format!("http://{private}  /metrics /livez /readyz, POST /v1/publish")),
        ("broker", broker(resolved)),
        (
            "limits",
            format!(
                "{} connections, {} waiting for them",
                limits.connections,
                show_size(limits.outbox_budget)
            ),
        ),
        ("rules", rules(resolved)),
    ];
    if !private.ip().is_loopback() {
        rows.push((
            "caution",
            "whoever reaches the private address may publish: keep it off the internet".to_owned(),
        ));
    }
    let mut lines = String::new();
    for (name, value) in rows {
        writeln!(lines, "{name:<8} {value}").expect("writing to a String does not fail");
    }
    lines
}

fn broker(resolved: &Resolved) -> String {
    match &resolved.redis {
        None => "in memory, this node alone (join nodes with --redis or FANFARE_REDIS)".to_owned(),
        Some(redis) => format!("Redis at {}, channels {}#…", redis.address, redis.prefix.as_str()),
    }
}

fn rules(resolved: &Resolved) -> String {
    if resolved.dev {
        return "--dev: everyone on this machine may join, publish and leave anywhere, from any page"
            .to_owned();
    }
    let rooms = match &resolved.classes[..] {
        [] => "no room may be joined (write [rooms.NAME] in the file, or use --dev)".to_owned(),
        names => format!("rooms {}", names.join(", ")),
    };
    match &resolved.edge.origins {
        Origins::Any => format!("{rooms}; pages of every origin"),
        Origins::SameHostAnd(list) if list.is_empty() => format!("{rooms}; pages of the same host"),
        Origins::SameHostAnd(list) => format!("{rooms}; pages of the same host and {}", list.join(", ")),
    }
}
