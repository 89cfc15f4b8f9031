//! The owner's side: links and tunnels of other nodes, on the private listener. What comes over them is served like
//! requests of clients, but never sent on.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderName, HeaderValue, UPGRADE};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{HeaderMap, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use prometheus::IntGauge;
use tower::ServiceExt as _;

use super::proof::{PROOF, Unproved};
use super::{Directory, ENGINE_PATH, LINK_PATH, Meters};
use crate::http::gate::{Gate, Permit};
use crate::http::serve::{CutConnection, Place};
use crate::metrics::Rare;

/// What a link is called in `Upgrade`.
pub(super) const LINK_PROTOCOL: &str = "fanfare-link";
/// How long the owner had a request, in microseconds.
pub(super) const HELD: HeaderName = HeaderName::from_static("x-fanfare-held");
/// The owner wants the client's connection closed; HTTP/2 has no word for it.
pub(super) const CLOSE: HeaderName = HeaderName::from_static("x-fanfare-close");
/// Bytes of one body that may be under way.
const STREAM_WINDOW: u32 = 1 << 20;
/// Bytes of bodies that may be under way to this node on one link.
const LINK_WINDOW: u32 = 16 << 20;
/// Heads of requests: those of HTTP/1.1, and 32 bytes more for each header (RFC 9113 §6.5.2).
const MAX_HEAD: u32 = 64 << 10;
/// Nodes that may forward to this one.
const LINKS: usize = 1024;
/// A link of a node that died without a word is found out by this.
const LINK_PING: Duration = Duration::from_secs(10);

/// Marks a request that another node has forwarded: it is not sent on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forwarded;

/// What other nodes' requests need.
#[derive(Debug, Clone)]
pub(crate) struct Owning {
    /// Of this node.
    pub(crate) label: Arc<str>,
    pub(crate) directory: Arc<dyn Directory>,
    /// The clients' routes.
    pub(crate) public: Router,
    /// The bound on open connections, of which a tunnel's end is one.
    pub(crate) connections: Arc<Gate>,
    /// Most requests at a time on one link.
    pub(crate) forwards: usize,
    pub(crate) meters: Meters,
    pub(crate) rare: Rare,
}

#[derive(Clone)]
struct Served {
    owning: Owning,
    links: Arc<Gate>,
}

/// The routes for other nodes.
pub(crate) fn router(owning: Owning) -> Router {
    let tunnel = format!("{ENGINE_PATH}/{{*target}}");
    Router::new()
        .route(LINK_PATH, get(link))
        .route(&tunnel, get(tunnelled))
        .with_state(Served { owning, links: Gate::new(LINKS) })
}

impl Served {
    /// The answer for whoever asks for `target` and does not belong to the cluster.
    fn refuse(&self, headers: &HeaderMap, target: &str) -> Option<Response> {
        let Some(secret) = self.owning.directory.secret() else {
            let text = "the secret of the cluster is not known here yet\n";
            return Some((StatusCode::SERVICE_UNAVAILABLE, text).into_response());
        };
        let proof = headers.get(PROOF).map(HeaderValue::as_bytes);
        match secret.check(proof, &self.owning.label, target, SystemTime::now()) {
            Ok(_) => None,
            Err(reason) => {
                // Whoever asks without a proof is no node that needs help.
                if reason != Unproved::Missing {
                    tracing::warn!(%reason, "another node was refused");
                }
                Some((StatusCode::FORBIDDEN, format!("{reason}\n")).into_response())
            }
        }
    }
}

/// The connection of another node, for all that it forwards.
async fn link(State(served): State<Served>, mut request: Request) -> Response {
    if let Some(refused) = served.refuse(request.headers(), LINK_PATH) {
        return refused;
    }
    let extensions = request.extensions_mut();
    let Some(upgrade) = extensions.remove::<OnUpgrade>() else {
        return (StatusCode::BAD_REQUEST, "this is where nodes link up\n").into_response();
    };
    let Some(permit) = served.links.enter() else {
        served.owning.rare.limit_reached.with_label_values(&["links"]).inc();
        return (StatusCode::SERVICE_UNAVAILABLE, "more nodes than can be\n").into_response();
    };
    // Links do not take the places of scrapers and app servers.
    drop(extensions.remove::<Place>().and_then(|place| place.take()));
    tokio::spawn(serve(served.owning, upgrade, permit));
    let head = [(CONNECTION, "upgrade"), (UPGRADE, LINK_PROTOCOL)];
    (StatusCode::SWITCHING_PROTOCOLS, head).into_response()
}

/// Serves what a node forwards until it goes away.
async fn serve(owning: Owning, upgrade: OnUpgrade, permit: Permit) {
    let _permit = permit;
    let Ok(upgraded) = upgrade.await else { return };
    let _counted = Counted::new(&owning.meters.links);
    let public = owning.public;
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Forwarded);
        let public = public.clone();
        async move {
            let begun = Instant::now();
            let routed: Result<Response, Infallible> = public.oneshot(request.map(Body::new)).await;
            let mut response = routed.unwrap_or_else(|never| match never {});
            if response.extensions().get::<CutConnection>().is_some() {
                // The stream is reset, and the node that asked cuts the connection.
                return Err(io::Error::other("cut"));
            }
            let held = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            let headers = response.headers_mut();
            headers.insert(HELD, HeaderValue::from(held));
            if headers.get(CONNECTION).is_some_and(|value| value == "close") {
                headers.insert(CLOSE, HeaderValue::from_static("1"));
            }
            Ok(response)
        }
    });
    let most = u32::try_from(owning.forwards).unwrap_or(u32::MAX);
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(LINK_WINDOW)
        .max_header_list_size(MAX_HEAD)
        .max_concurrent_streams(most)
        // A node's clients may all go away at once, and with them their requests: no attack, among nodes.
        .max_pending_accept_reset_streams(owning.forwards)
        .max_local_error_reset_streams(None)
        .keep_alive_interval(LINK_PING)
        .keep_alive_timeout(LINK_PING)
        .serve_connection(upgraded, service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a link broke");
    }
}

/// An upgrade that came to another node. Behind the 101 this socket is the client's, as far as this node can see.
async fn tunnelled(State(served): State<Served>, mut request: Request) -> Response {
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    if let Some(refused) = served.refuse(request.headers(), target) {
        return refused;
    }
    let own = target.strip_prefix(ENGINE_PATH).and_then(|target| target.parse::<Uri>().ok());
    let Some(own) = own else { return StatusCode::BAD_REQUEST.into_response() };
    let Some(permit) = served.owning.connections.enter() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "the session's node has no room for a connection\n")
            .into_response();
    };
    *request.uri_mut() = own;
    request.headers_mut().remove(PROOF);
    let extensions = request.extensions_mut();
    drop(extensions.remove::<Place>().and_then(|place| place.take()));
    extensions.insert(Place::new(permit));
    extensions.insert(Forwarded);
    // Its error is none.
    match served.owning.public.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// One more, until it is dropped.
struct Counted(IntGauge);

impl Counted {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
