//! The HTTP runtime: hyper on sockets that shards hand over, with a deadline for every request head.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::response::Response;
use fanfare_protocol::websocket::write_close;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioIo, TokioTimer};
use mio::net::TcpStream;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Semaphore, mpsc};
use tower::ServiceExt as _;

use super::gate::Permit;
use crate::metrics::Rare;

/// Largest request head, in bytes.
pub(crate) const MAX_HEAD: usize = 16 << 10;
/// Refused sockets that are told so at a time; others are just closed.
const TOLD: usize = 64;
/// How long a refused socket may take to hear it.
const TELL_TIME: Duration = Duration::from_secs(1);

const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 5\r\n\
content-type: text/plain\r\ncontent-length: 39\r\n\r\nthis node has no room for a connection\n";

/// What serving HTTP needs besides a socket.
#[derive(Debug, Clone)]
pub(crate) struct Front {
    pub(crate) router: Router,
    pub(crate) rare: Rare,
    pub(crate) header_timeout: Duration,
    /// How long written bytes may find nobody who takes them.
    pub(crate) unread_timeout: Duration,
}

/// A socket's place at the gate, on its way through a request: an upgrade takes it along.
#[derive(Debug, Clone)]
pub(crate) struct Place(Arc<Mutex<Option<Permit>>>);

impl Place {
    pub(crate) fn new(permit: Permit) -> Self {
        Self(Arc::new(Mutex::new(Some(permit))))
    }

    /// `None`: it was taken before.
    pub(crate) fn take(&self) -> Option<Permit> {
        // No code panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The other end of the socket that a request came by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Marks a response that is not sent: its connection is cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CutConnection;

/// A socket that a shard gives to the HTTP runtime, unread.
#[derive(Debug)]
pub(crate) enum Handed {
    Public(TcpStream, Permit),
    Private(TcpStream, Permit),
    /// There is no room for it.
    Refused(TcpStream),
    /// A WebSocket that nobody wants: it is closed in order.
    Dismissed(TcpStream, Permit),
}

/// Serves what shards hand over, until the process ends.
pub(crate) async fn serve(mut handed: mpsc::UnboundedReceiver<Handed>, public: Front, private: Front) {
    let told = Arc::new(Semaphore::new(TOLD));
    while let Some(handed) = handed.recv().await {
        match handed {
            Handed::Public(socket, permit) => drop(tokio::spawn(serve_one(socket, public.clone(), permit))),
            Handed::Private(socket, permit) => drop(tokio::spawn(serve_one(socket, private.clone(), permit))),
            Handed::Dismissed(socket, permit) => {
                if let Ok(socket) = into_tokio(socket) {
                    drop(tokio::spawn(dismiss(socket, permit)));
                }
            }
            Handed::Refused(socket) => {
                if let Ok(place) = told.clone().try_acquire_owned() {
                    tokio::spawn(async move {
                        let _place = place;
                        // Whether it heard or not, it is refused: errors and the deadline change nothing.
                        drop(tokio::time::timeout(TELL_TIME, refuse(socket)).await);
                    });
                }
            }
        }
    }
}

/// A socket for the runtime.
fn into_tokio(socket: TcpStream) -> io::Result<tokio::net::TcpStream> {
    tokio::net::TcpStream::from_std(socket.into())
}

async fn refuse(socket: TcpStream) -> io::Result<()> {
    part(into_tokio(socket)?, REFUSAL).await
}

/// Closes a WebSocket without a code. It keeps its place as long as it is open.
pub(super) async fn dismiss(socket: tokio::net::TcpStream, _permit: Permit) {
    let mut close = Vec::new();
    write_close(None, "", &mut close);
    // Whether it heard or not, it is closed.
    drop(tokio::time::timeout(TELL_TIME, part(socket, &close)).await);
}

/// Says a last word to a socket.
async fn part(mut socket: tokio::net::TcpStream, word: &[u8]) -> io::Result<()> {
    socket.write_all(word).await?;
    socket.shutdown().await?;
    // Closing with unread bytes would reset the connection before the answer is read.
    let mut rest = [0u8; 1024];
    while socket.read(&mut rest).await? > 0 {}
    Ok(())
}

/// The socket behind an upgrade, and what came early. `None`: a defect, and logged.
pub(crate) fn socket_of(upgraded: Upgraded) -> Option<(tokio::net::TcpStream, Bytes)> {
    let Ok(parts) = upgraded.downcast::<TokioIo<tokio::net::TcpStream>>() else {
        tracing::error!("an upgraded connection is not a plain socket");
        return None;
    };
    let socket = parts.io.into_inner();
    if let Err(error) = SockRef::from(&socket).set_tcp_user_timeout(None) {
        tracing::warn!(%error, "a socket keeps its deadline for a reader");
    }
    Some((socket, parts.read_buf))
}

async fn serve_one(socket: TcpStream, front: Front, permit: Permit) {
    let socket = match into_tokio(socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::warn!(%error, "an accepted socket could not be watched"),
    };
    // hyper waits for ever on one that asks and does not read. A socket that is upgraded is freed of it.
    if let Err(error) = SockRef::from(&socket).set_tcp_user_timeout(Some(front.unread_timeout)) {
        tracing::warn!(%error, "a socket takes no deadline for its reader");
    }
    let peer = socket.peer_addr().ok().map(Peer);
    let place = Place::new(permit);
    let router = front.router;
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        let extensions = request.extensions_mut();
        extensions.insert(place.clone());
        if let Some(peer) = peer {
            extensions.insert(peer);
        }
        let router = router.clone();
        async move {
            let routed: Result<Response, Infallible> = router.oneshot(request).await;
            let response = routed.unwrap_or_else(|never| match never {});
            let cut = response.extensions().get::<CutConnection>().is_some();
            if cut {
                Err(io::Error::other("cut, as another request of its session contradicts it"))
            } else {
                Ok(response)
            }
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(front.header_timeout)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        if error.is_parse() {
            front.rare.rejected.with_label_values(&["bad_request"]).inc();
        }
        tracing::debug!(%error, "a request ended in an error");
    }
}
