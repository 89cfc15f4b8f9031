//! nginx with Nchan, as Debian packages them: one worker, like one shard of fanfare.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::child::{Child, Scratch};
use super::{Peer, PeerKind, free_addresses};
use crate::dialect::Dialect;
use crate::publish::Format;
use crate::scrape::answers;

const PROGRAM: &str = "/usr/sbin/nginx";
/// Where Debian has put modules.
const MODULES: [&str; 2] =
    ["/usr/lib/nginx/modules/ngx_nchan_module.so", "/usr/share/nginx/modules/ngx_nchan_module.so"];

pub(super) fn missing() -> Option<String> {
    (!Path::new(PROGRAM).exists() || module().is_none())
        .then(|| "not installed: loadtest/peers/install nchan".into())
}

pub(super) fn start() -> anyhow::Result<Peer> {
    let module = module().context("the Nchan module is not installed")?;
    let [listen] = free_addresses()?;
    let scratch = Scratch::new()?;
    let config = scratch.path().join("nginx.conf");
    fs::write(&config, configuration(&module, listen, scratch.path()))?;
    let mut command = Command::new(PROGRAM);
    command.arg("-p").arg(scratch.path()).arg("-c").arg(&config);
    let mut server = Child::start(command, scratch)?;
    // The master listens before it has a worker, whose cost is the one that counts.
    server.wait_ready(|| answers(listen))?;
    let (kind, dialect, format) = (PeerKind::Nchan, Dialect::PathOnly, Format::Http);
    let (listen, publish, servers) = (vec![listen], listen, vec![server]);
    Ok(Peer { kind, dialect, format, listen, publish, servers, bus: None, metrics: Vec::new() })
}

fn module() -> Option<PathBuf> {
    MODULES.iter().map(PathBuf::from).find(|path| path.exists())
}

/// Everything that costs and that fanfare does not do either is off: access log, history, Redis.
fn configuration(module: &Path, listen: SocketAddr, directory: &Path) -> String {
    let (module, directory) = (module.display(), directory.display());
    format!(
        r#"load_module {module};
daemon off;
user root;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {directory}/pid;
error_log stderr error;
events {{ worker_connections 19500; multi_accept on; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  client_body_in_single_buffer on;
  nchan_shared_memory_size 512M;
  server {{
    listen {listen} backlog=4096;
    location ~ ^/sub/(.+)$ {{
      nchan_subscriber websocket;
      nchan_channel_id $1;
      nchan_subscriber_first_message newest;
      nchan_websocket_ping_interval 25;
    }}
    location ~ ^/pub/(.+)$ {{
      nchan_publisher http;
      nchan_channel_id $1;
      nchan_store_messages off;
    }}
  }}
}}
"#
    )
}
