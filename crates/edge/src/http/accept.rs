//! The accept loops: hyper's HTTP/1 with a deadline for every request head, and bounds that refuse
//! without spinning.

use std::convert::Infallible;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tower::ServiceExt as _;

use super::gate::Gate;
use crate::metrics::Rare;

/// Largest request head, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// Refused sockets that are told so at a time; others are just closed.
const TOLD: usize = 64;
/// How long a refused socket may take to hear it.
const TELL_TIME: Duration = Duration::from_secs(1);
/// How long no socket is accepted when the system gives no descriptor even for refusing.
const NO_FILES_PAUSE: Duration = Duration::from_millis(50);
/// `TCP_NOTSENT_LOWAT`: unsent bytes that the kernel holds per socket. Without it a stuck reader costs
/// 4 MB of kernel memory.
static NOT_SENT: libc::c_int = 16 << 10;

const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 5\r\n\
content-type: text/plain\r\ncontent-length: 39\r\n\r\nthis node has no room for a connection\n";

/// What an accept loop needs besides its listener.
#[derive(Debug, Clone)]
pub(crate) struct Front {
    pub(crate) router: Router,
    pub(crate) gate: Arc<Gate>,
    pub(crate) rare: Rare,
    pub(crate) header_timeout: Duration,
    /// What a refusal at the gate is counted as.
    pub(crate) full: &'static str,
}

/// Serves a listener until the process ends.
pub(crate) async fn serve(listener: TcpListener, front: Front) {
    let told = Arc::new(Semaphore::new(TOLD));
    // Given up for a moment when the system is out of descriptors, so that the caller can be refused.
    let mut spare = File::open("/dev/null").ok();
    loop {
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) if out_of_files(&error) => {
                front.rare.rejected.with_label_values(&["files"]).inc();
                drop(spare.take());
                if let Ok(Ok((socket, _))) = tokio::time::timeout(NO_FILES_PAUSE, listener.accept()).await {
                    drop(socket);
                }
                spare = File::open("/dev/null").ok();
                if spare.is_none() {
                    tokio::time::sleep(NO_FILES_PAUSE).await;
                }
                continue;
            }
            // The caller went away between its SYN and now: nothing to do for it.
            Err(_) => continue,
        };
        match front.gate.enter() {
            Some(permit) => {
                tune(&socket);
                tokio::spawn(serve_one(socket, front.clone(), Arc::new(permit)));
            }
            None => {
                front.rare.rejected.with_label_values(&[front.full]).inc();
                front.rare.limit_reached.with_label_values(&[front.full]).inc();
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

async fn refuse(mut socket: TcpStream) -> std::io::Result<()> {
    socket.write_all(REFUSAL).await?;
    socket.shutdown().await?;
    // Closing with unread bytes would reset the connection before the answer is read.
    let mut rest = [0u8; 1024];
    while socket.read(&mut rest).await? > 0 {}
    Ok(())
}

async fn serve_one(socket: TcpStream, front: Front, permit: Arc<super::gate::Permit>) {
    let router = front.router;
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(permit.clone());
        let router = router.clone();
        async move {
            let response: Result<_, Infallible> = router.oneshot(request).await;
            response
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

fn out_of_files(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// Small frames must leave at once, and a stuck reader must not hold megabytes in the kernel. Both only
/// make things better: a system that refuses them works all the same.
fn tune(socket: &TcpStream) {
    let socket = socket2::SockRef::from(socket);
    let tuned = socket.set_tcp_nodelay(true).and_then(|()| set_notsent_lowat(&socket));
    if let Err(error) = tuned {
        tracing::debug!(%error, "a socket could not be tuned");
    }
}

fn set_notsent_lowat(socket: &socket2::Socket) -> std::io::Result<()> {
    use std::os::fd::AsRawFd as _;
    // SAFETY: the descriptor is open for the duration of the call, and the value is a c_int of that size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            (&raw const NOT_SENT).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
