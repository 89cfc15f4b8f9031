//! `peer-socketioxide LISTEN REDIS-URL`: members join by the event `join`, publications come through Redis.
//! Settings are the library's own, as its documentation has them.

use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::Context;
use axum::serve::ListenerExt;
use redis::Client;
use serde_json::{Value, json};
use socketioxide::SocketIo;
use socketioxide::TransportType;
use socketioxide::adapter::Adapter;
use socketioxide::extract::{AckSender, Data, SocketRef};
use socketioxide::handler::ConnectHandler;
use socketioxide_redis::{RedisAdapter, RedisAdapterCtr};
use tokio::net::TcpSocket;

/// Enough for a storm; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: u32 = 4096;

/// As many threads as fanfare has shards by default: cores less one. With all of them, the threads hand work to
/// each other, and CPU per delivery is a tenth to a quarter higher.
fn main() -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads((cores - 1).max(1)).enable_all().build()?.block_on(serve())
}

async fn serve() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let listen: SocketAddr = arguments.next().context("no address to listen at")?.parse()?;
    let redis = arguments.next().context("no URL of Redis")?;

    let adapter = RedisAdapterCtr::new_with_redis(&Client::open(format!("{redis}?protocol=resp3"))?).await?;
    let builder = SocketIo::builder().with_adapter::<RedisAdapter<_>>(adapter);
    let (layer, io) = builder.transports([TransportType::Websocket]).build_layer();
    io.ns("/", (async || {}).with(enter)).await?;

    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(listen)?;
    let listener = socket.listen(BACKLOG)?.tap_io(|stream| {
        // Node does so for every server; without it single deliveries wait for acknowledgements.
        stream.set_nodelay(true).ok();
    });
    axum::serve(listener, axum::Router::new().layer(layer)).await?;
    Ok(())
}

/// Runs before the member is told that it has entered. A connect handler runs after that, on this runtime at
/// the same time as what the member then asks, and a `join` that finds nobody listening is dropped.
async fn enter<A: Adapter>(socket: SocketRef<A>) -> Result<(), Infallible> {
    socket.on("join", async |socket: SocketRef<A>, Data(room): Data<String>, ack: AckSender<A>| {
        socket.join(room);
        // The member may have left since it asked.
        ack.send(&json!({ "ok": true })).ok();
    });
    type Publish = (String, String, Value);
    socket.on(
        "publish",
        async |socket: SocketRef<A>, Data((room, event, value)): Data<Publish>, ack: AckSender<A>| {
            let ok = socket.within(room).emit(event, &value).await.is_ok();
            ack.send(&json!({ "ok": ok })).ok();
        },
    );
    Ok(())
}
