//! Clients' handshakes: what is asked for, whether it may be, and the answers. Shards judge requests that
//! they read themselves; the HTTP runtime judges all others by the same rules.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{Html, IntoResponse, Response};
use fanfare_protocol::{plain, socketio, websocket};
use hyper::StatusCode;
use hyper::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL,
    UPGRADE,
};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use smallvec::SmallVec;
use tokio::net::TcpStream;

use super::gate::Permit;
use super::origin;
use super::serve::{Peer, Place};
use crate::app::handshake::Handshake;
use crate::connection::Machine;
use crate::hub::{Context, Hub, Opening};

/// The subprotocol of plain JSON frames.
const PLAIN_JSON: &str = "fanfare.v1.json";
/// Headers of a request, whoever parsed it; browsers send fewer.
pub(crate) const MAX_HEADERS: usize = 64;

/// What the public routes see.
#[derive(Debug, Clone)]
pub(crate) struct Public {
    pub(crate) context: Arc<Context>,
    pub(crate) hub: Arc<Hub>,
}

/// A request, whoever parsed it.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) headers: SmallVec<[(&'a str, &'a [u8]); 16]>,
}

impl<'a> Asked<'a> {
    fn of(request: &'a Request) -> Self {
        let headers = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        Self {
            method: request.method().as_str(),
            path: request.uri().path(),
            query: request.uri().query().unwrap_or_default(),
            headers: headers.collect(),
        }
    }

    /// Values of a header that are text, in order.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let named = self.headers.iter().filter(move |header| header.0.eq_ignore_ascii_case(name));
        named.filter_map(|header| std::str::from_utf8(header.1).ok())
    }

    /// How often a header stands there, text or not.
    pub(super) fn count(&self, name: &str) -> usize {
        self.headers.iter().filter(|header| header.0.eq_ignore_ascii_case(name)).count()
    }

    /// Items of a comma-separated header.
    fn items(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.values(name).flat_map(|value| value.split(',')).map(str::trim)
    }

    fn has_item(&self, name: &str, item: &str) -> bool {
        self.items(name).any(|given| given.eq_ignore_ascii_case(item))
    }

    /// A key of the query; the first of a repeated one counts. Values that matter here have no escapes.
    fn key(&self, key: &str) -> Option<&'a str> {
        let mut pairs = self.query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.find(|pair| pair.0 == key).map(|pair| pair.1)
    }
}

/// What a handshake that may go on leads to.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) machine: Machine,
    /// Value of `Sec-WebSocket-Accept`.
    accept: String,
    protocol: Option<&'static str>,
}

impl Terms {
    /// The answer's head (RFC 6455 §4.2.2).
    pub(crate) fn write_head(&self, wire: &mut Vec<u8>) {
        wire.extend_from_slice(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Accept: ",
        );
        wire.extend_from_slice(self.accept.as_bytes());
        if let Some(protocol) = self.protocol {
            wire.extend_from_slice(b"\r\nSec-WebSocket-Protocol: ");
            wire.extend_from_slice(protocol.as_bytes());
        }
        wire.extend_from_slice(b"\r\n\r\n");
    }
}

/// Why a handshake is refused.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Refused {
    /// No path of a protocol.
    NotFound,
    /// A file of the client library.
    Bundle,
    Draining,
    Origin,
    Engine(EngineError),
    Plain(&'static str),
}

/// Whether the handshake may go on, by every rule there is.
pub(crate) fn judge(context: &Context, asked: &Asked<'_>) -> Result<Terms, Refused> {
    let config = &context.config;
    let socketio = asked.path.starts_with(&config.socketio_path);
    if !socketio && asked.path != config.plain_path {
        return Err(Refused::NotFound);
    }
    if socketio && asked.path.ends_with(".js") {
        return Err(Refused::Bundle);
    }
    // The refusals that hold for every protocol. They close the transport: clients come back.
    if context.state.draining.load(Ordering::Relaxed) {
        return Err(Refused::Draining);
    }
    if !origin::allowed(&config.origins, asked) {
        return Err(Refused::Origin);
    }
    if socketio { socketio_terms(asked).map_err(Refused::Engine) } else { plain_terms(asked) }
}

fn socketio_terms(asked: &Asked<'_>) -> Result<Terms, EngineError> {
    if asked.key("EIO") != Some("4") {
        return Err(EngineError::UnsupportedVersion);
    }
    // Long-polling is not offered: the client is told the same as for any transport it cannot have.
    if asked.key("transport") != Some("websocket") {
        return Err(EngineError::UnknownTransport);
    }
    if asked.key("sid").is_some() {
        return Err(EngineError::UnknownSession);
    }
    if asked.method != "GET" {
        return Err(EngineError::BadMethod);
    }
    let machine = Machine::SocketIo(socketio::Machine::default());
    let accept = upgrade_accept(asked).map_err(|_| EngineError::BadRequest)?;
    Ok(Terms { machine, accept, protocol: None })
}

fn plain_terms(asked: &Asked<'_>) -> Result<Terms, Refused> {
    let mut offered = asked.items("sec-websocket-protocol");
    let json_ping = offered.any(|offer| offer.starts_with("fanfare.v1"));
    let mut offered = asked.items("sec-websocket-protocol");
    let protocol = offered.any(|offer| offer == PLAIN_JSON).then_some(PLAIN_JSON);
    let machine = Machine::Plain { machine: plain::Machine::default(), json_ping };
    let accept = upgrade_accept(asked).map_err(Refused::Plain)?;
    Ok(Terms { machine, accept, protocol })
}

/// The conditions of RFC 6455 §4.2.1.
fn upgrade_accept(asked: &Asked<'_>) -> Result<String, &'static str> {
    if asked.method != "GET" || !asked.has_item("upgrade", "websocket") {
        return Err("connect with a WebSocket: GET with the header Upgrade: websocket");
    }
    if !asked.has_item("connection", "upgrade") {
        return Err("the header Connection: Upgrade is missing");
    }
    if asked.values("sec-websocket-version").next() != Some("13") {
        return Err("the header Sec-WebSocket-Version has to be 13");
    }
    let key = asked.values("sec-websocket-key").next();
    key.and_then(websocket::accept_key).ok_or("Sec-WebSocket-Key is not 16 bytes of base64")
}

/// Engine.IO's refusals: status, code and text as the reference server gives them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum EngineError {
    UnknownTransport,
    UnknownSession,
    BadMethod,
    BadRequest,
    UnsupportedVersion,
}

impl EngineError {
    fn code_and_text(self) -> (u8, &'static str) {
        match self {
            Self::UnknownTransport => (0, "Transport unknown"),
            Self::UnknownSession => (1, "Session ID unknown"),
            Self::BadMethod => (2, "Bad handshake method"),
            Self::BadRequest => (3, "Bad request"),
            Self::UnsupportedVersion => (5, "Unsupported protocol version"),
        }
    }
}

/// The routes of the public listener.
pub(crate) fn router(public: Public) -> Router {
    let mut router = Router::new();
    if let Some(page) = public.context.config.page {
        router = router.route("/", axum::routing::get(move || async move { Html(page) }));
    }
    router.fallback(handshake).with_state(public)
}

/// A request that no shard answered: one that is refused, or an upgrade on a connection that was used before.
async fn handshake(State(public): State<Public>, mut request: Request) -> Response {
    let asked = Asked::of(&request);
    let terms = match judge(&public.context, &asked) {
        Ok(terms) => terms,
        Err(refused) => return public.refuse(refused),
    };
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
    let handshake = Handshake::of(public.context.config.app.as_ref(), &asked, peer, SystemTime::now());
    drop(asked);
    let extensions = request.extensions_mut();
    let (upgrade, place) = (extensions.remove::<OnUpgrade>(), extensions.remove::<Place>());
    let (Some(upgrade), Some(permit)) = (upgrade, place.and_then(|place| place.take())) else {
        return public.refuse(Refused::Plain("this request cannot be upgraded"));
    };
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(UPGRADE, "websocket")
        .header(CONNECTION, "Upgrade")
        .header(SEC_WEBSOCKET_ACCEPT, &terms.accept);
    let response = match terms.protocol {
        Some(protocol) => response.header(SEC_WEBSOCKET_PROTOCOL, protocol),
        None => response,
    };
    tokio::spawn(hand_over(public.hub, upgrade, terms.machine, handshake, permit));
    let answer = response.body(Body::empty());
    answer.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

impl Public {
    fn refuse(&self, refused: Refused) -> Response {
        let config = &self.context.config;
        let count = |reason| self.context.metrics.rare.rejected.with_label_values(&[reason]).inc();
        match refused {
            Refused::NotFound => {
                let (socketio, plain) = (&config.socketio_path, &config.plain_path);
                let text = format!("nothing here; clients connect at {socketio} or {plain}\n");
                (StatusCode::NOT_FOUND, text).into_response()
            }
            Refused::Bundle => {
                let text = "the browser bundle is not served here; load socket.io-client from your own bundle \
                            or a CDN\n";
                (StatusCode::NOT_FOUND, text).into_response()
            }
            Refused::Draining => {
                count("draining");
                let headers = [(RETRY_AFTER, "1"), (CONNECTION, "close"), (CACHE_CONTROL, "no-store")];
                (StatusCode::SERVICE_UNAVAILABLE, headers, "this node is leaving\n").into_response()
            }
            Refused::Origin => {
                count("origin");
                let text = "pages of this origin may not connect; name it in the setting origins\n";
                (StatusCode::FORBIDDEN, text).into_response()
            }
            Refused::Engine(error) => {
                count("bad_request");
                let (code, text) = error.code_and_text();
                let body = format!("{{\"code\":{code},\"message\":\"{text}\"}}");
                (StatusCode::BAD_REQUEST, [(CONTENT_TYPE, "application/json")], body).into_response()
            }
            Refused::Plain(reason) => {
                count("bad_request");
                (StatusCode::BAD_REQUEST, format!("{reason}\n")).into_response()
            }
        }
    }
}

/// Gives the socket to a shard once the 101 is written.
async fn hand_over(
    hub: Arc<Hub>,
    on_upgrade: OnUpgrade,
    machine: Machine,
    handshake: Option<Box<Handshake>>,
    permit: Permit,
) {
    let Ok(upgraded) = on_upgrade.await else { return };
    let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else {
        tracing::error!("an upgraded connection is not a plain socket");
        return;
    };
    match parts.io.into_inner().into_std() {
        Ok(socket) => hub.open(Opening {
            socket: mio::net::TcpStream::from_std(socket),
            early: parts.read_buf,
            machine,
            handshake,
            permit,
        }),
        Err(error) => tracing::warn!(%error, "an upgraded socket could not be taken over"),
    }
}
