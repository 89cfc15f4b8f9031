//! Clients' handshakes: what is asked for, whether it may be, and the answers. Shards judge requests that
//! they read themselves; the HTTP runtime judges all others by the same rules.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::{Html, IntoResponse, Response};
use fanfare_protocol::{plain, socketio, websocket};
use hyper::StatusCode;
use hyper::header::{
    CACHE_CONTROL, CONNECTION, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use hyper::upgrade::OnUpgrade;
use smallvec::SmallVec;

use super::engine::{self, Route};
use super::gate::{Gate, Permit};
use super::origin;
use super::serve::{Handed, Peer, Place, socket_of};
use crate::app::handshake::Handshake;
use crate::connection::{Machine, Newcomer};
use crate::echo::Echo;
use crate::engine_sid::Spot;
use crate::hub::{Ask, Claim, Context, Hub, Opening, Post};

/// The subprotocol of plain JSON frames.
const PLAIN_JSON: &str = "fanfare.v1.json";
/// Headers of a request, whoever parsed it; browsers send fewer.
pub(crate) const MAX_HEADERS: usize = 64;

/// What the public routes see.
#[derive(Debug, Clone)]
pub(crate) struct Public {
    pub(crate) context: Arc<Context>,
    pub(crate) hub: Arc<Hub>,
    /// Where sessions by long-polling get their places.
    pub(crate) gate: Arc<Gate>,
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
    pub(crate) fn of(request: &'a Request) -> Self {
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

    pub(crate) fn has_item(&self, name: &str, item: &str) -> bool {
        self.items(name).any(|given| given.eq_ignore_ascii_case(item))
    }

    /// A key of the query; the first of a repeated one counts. Values that matter here have no escapes.
    pub(super) fn key(&self, key: &str) -> Option<&'a str> {
        key_of(self.query, key)
    }
}

/// See [`Asked::key`].
pub(crate) fn key_of<'a>(query: &'a str, key: &str) -> Option<&'a str> {
    let mut pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.find(|pair| pair.0 == key).map(|pair| pair.1)
}

/// What a handshake that may go on leads to.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) machine: Machine,
    /// See [`Newcomer`].
    pub(crate) text_only: bool,
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
    Draining,
    Origin,
    /// Every place is taken.
    Full,
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
    // The refusals that hold for every protocol. They close the transport: clients come back.
    if context.state.draining.load(Ordering::Relaxed) {
        return Err(Refused::Draining);
    }
    if !origin::allowed(&config.origins, asked) {
        return Err(Refused::Origin);
    }
    if socketio {
        socketio_terms(context, asked).map_err(Refused::Engine)
    } else {
        plain_terms(context, asked)
    }
}

fn socketio_terms(context: &Context, asked: &Asked<'_>) -> Result<Terms, EngineError> {
    let Route::WebSocket = engine::route(context, asked)? else { return Err(EngineError::BadRequest) };
    let accept = upgrade_accept(asked).map_err(|_| EngineError::BadRequest)?;
    let machine = context.socketio_machine();
    Ok(Terms { machine, text_only: text_only(asked), accept, protocol: None })
}

/// Whether the client wants base64 instead of binary frames; as in JavaScript, whatever is not empty is true.
pub(super) fn text_only(asked: &Asked<'_>) -> bool {
    asked.key("b64").is_some_and(|value| !value.is_empty())
}

fn plain_terms(context: &Context, asked: &Asked<'_>) -> Result<Terms, Refused> {
    let mut offered = asked.items("sec-websocket-protocol");
    let json_ping = offered.any(|offer| offer.starts_with("fanfare.v1"));
    let mut offered = asked.items("sec-websocket-protocol");
    let protocol = offered.any(|offer| offer == PLAIN_JSON).then_some(PLAIN_JSON);
    let machine = if context.config.echo {
        Machine::Echo(Echo::Bare)
    } else {
        Machine::Plain { machine: plain::Machine::default(), json_ping }
    };
    let accept = upgrade_accept(asked).map_err(Refused::Plain)?;
    Ok(Terms { machine, text_only: false, accept, protocol })
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
    pub(super) fn code_and_text(self) -> (u8, &'static str) {
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

/// A request that no shard answered: long-polling, one that is refused, or an upgrade on a connection that was
/// used before.
async fn handshake(State(public): State<Public>, request: Request) -> Response {
    if request.uri().path().starts_with(&public.context.config.socketio_path) {
        return engine::serve(&public, request).await;
    }
    public.upgrade(request)
}

impl Context {
    /// The machine of a connection at the path of Socket.IO.
    pub(super) fn socketio_machine(&self) -> Machine {
        if self.config.echo {
            Machine::Echo(Echo::Engine)
        } else {
            Machine::SocketIo(socketio::Machine::default())
        }
    }
}

impl Public {
    pub(super) fn is_draining(&self) -> bool {
        self.context.state.draining.load(Ordering::Relaxed)
    }

    pub(super) fn count_rejected(&self, reason: &str) {
        self.context.metrics.rare.rejected.with_label_values(&[reason]).inc();
    }

    pub(super) fn count_refused(&self, error: EngineError) {
        let unknown = matches!(error, EngineError::UnknownSession);
        self.count_rejected(if unknown { "unknown_session" } else { "bad_request" });
    }

    /// Makes a WebSocket of a request's connection, and a session of that.
    pub(super) fn upgrade(&self, mut request: Request) -> Response {
        let asked = Asked::of(&request);
        let Terms { machine, text_only, accept, protocol } = match judge(&self.context, &asked) {
            Ok(terms) => terms,
            Err(refused) => return self.refuse(refused),
        };
        let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
        let handshake = Handshake::of(self.context.config.app.as_ref(), &asked, peer, SystemTime::now());
        drop(asked);
        let Some((upgrade, permit)) = upgradable(&mut request) else {
            return self.refuse(Refused::Plain("this request cannot be upgraded"));
        };
        let newcomer = Newcomer { machine, handshake, text_only, permit };
        let hub = self.hub.clone();
        tokio::spawn(async move {
            if let Some((socket, early)) = upgraded(upgrade).await {
                hub.open(Opening { socket, early, newcomer });
            }
        });
        switching(&accept, protocol)
    }

    /// Makes a WebSocket of a request's connection: for a session that is there, or to be closed at once.
    pub(super) fn claim(&self, mut request: Request, spot: Option<Spot>) -> Response {
        let asked = Asked::of(&request);
        let (accept, text_only) = (upgrade_accept(&asked), text_only(&asked));
        drop(asked);
        let (Ok(accept), Some((upgrade, permit))) = (accept, upgradable(&mut request)) else {
            self.count_refused(EngineError::BadRequest);
            return engine::refusal_before_upgrade(EngineError::BadRequest);
        };
        let context = self.context.clone();
        tokio::spawn(async move {
            let Some((socket, early)) = upgraded(upgrade).await else { return };
            match spot {
                Some(spot) => {
                    let claim = Ask::Claim(Claim { spot, socket, early, text_only, permit });
                    context.inboxes[usize::from(spot.shard)].push(Post::Ask(Box::new(claim)));
                }
                None => {
                    if context.http.send(Handed::Dismissed(socket, permit)).is_err() {
                        tracing::debug!("the HTTP runtime is ending");
                    }
                }
            }
        });
        switching(&accept, None)
    }

    pub(super) fn refuse(&self, refused: Refused) -> Response {
        let config = &self.context.config;
        let count = |reason| self.count_rejected(reason);
        match refused {
            Refused::NotFound => {
                let (socketio, plain) = (&config.socketio_path, &config.plain_path);
                let text = format!("nothing here; clients connect at {socketio} or {plain}\n");
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
            Refused::Full => {
                count("connections");
                self.context.metrics.rare.limit_reached.with_label_values(&["connections"]).inc();
                let headers = [(RETRY_AFTER, "5"), (CACHE_CONTROL, "no-store")];
                let text = "this node has no room for a connection\n";
                (StatusCode::SERVICE_UNAVAILABLE, headers, text).into_response()
            }
            Refused::Engine(error) => {
                self.count_refused(error);
                engine::refusal(error)
            }
            Refused::Plain(reason) => {
                count("bad_request");
                (StatusCode::BAD_REQUEST, format!("{reason}\n")).into_response()
            }
        }
    }
}

/// What an upgrade needs of its request: the connection, and its place.
fn upgradable(request: &mut Request) -> Option<(OnUpgrade, Permit)> {
    let extensions = request.extensions_mut();
    let upgrade = extensions.remove::<OnUpgrade>()?;
    Some((upgrade, extensions.remove::<Place>()?.take()?))
}

fn switching(accept: &str, protocol: Option<&'static str>) -> Response {
    let response = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(UPGRADE, "websocket")
        .header(CONNECTION, "Upgrade")
        .header(SEC_WEBSOCKET_ACCEPT, accept);
    let response = match protocol {
        Some(protocol) => response.header(SEC_WEBSOCKET_PROTOCOL, protocol),
        None => response,
    };
    response.body(Body::empty()).unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// The socket once the 101 is written, and the bytes that came early.
async fn upgraded(upgrade: OnUpgrade) -> Option<(mio::net::TcpStream, Bytes)> {
    let (socket, early) = socket_of(upgrade.await.ok()?)?;
    match socket.into_std() {
        Ok(socket) => Some((mio::net::TcpStream::from_std(socket), early)),
        Err(error) => {
            tracing::warn!(%error, "an upgraded socket could not be taken over");
            None
        }
    }
}
