//! Clients' handshakes: the checks, the 101, and the hand-over of the socket to a shard.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::any;
use fanfare_protocol::{plain, socketio, websocket};
use hyper::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::OnUpgrade;
use hyper::{HeaderMap, Method, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::gate::Permit;
use super::origin;
use crate::connection::Machine;
use crate::hub::{Context, Hub, Opening};

/// The subprotocol of plain JSON frames.
const PLAIN_JSON: &str = "fanfare.v1.json";

/// What the public routes see.
#[derive(Debug, Clone)]
pub(crate) struct Public {
    pub(crate) context: Arc<Context>,
    pub(crate) hub: Arc<Hub>,
}

/// Engine.IO's refusals: status, code and text as the reference server gives them.
#[derive(Debug, Clone, Copy)]
enum EngineError {
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
    let config = &public.context.config;
    let socketio = config.socketio_path.clone();
    let below = format!("{socketio}{{*rest}}");
    let mut router = Router::new()
        .route(&socketio, any(socketio_handshake))
        .route(&below, any(socketio_handshake))
        .route(&config.plain_path, any(plain_handshake));
    if let Some(page) = config.page {
        router = router.route("/", axum::routing::get(move || async move { Html(page) }));
    }
    router.fallback(not_found).with_state(public)
}

async fn not_found(State(public): State<Public>) -> Response {
    let config = &public.context.config;
    let text =
        format!("nothing here; clients connect at {} or {}\n", config.socketio_path, config.plain_path);
    (StatusCode::NOT_FOUND, text).into_response()
}

async fn socketio_handshake(State(public): State<Public>, request: Request) -> Response {
    if request.uri().path().ends_with(".js") {
        let text =
            "the browser bundle is not served here; load socket.io-client from your own bundle or a CDN\n";
        return (StatusCode::NOT_FOUND, text).into_response();
    }
    if let Some(refused) = public.refuse_early(request.headers()) {
        return refused;
    }
    let query = query(request.uri().query().unwrap_or_default());
    let get = |key: &str| query.get(key).map(String::as_str);
    if get("EIO") != Some("4") {
        return public.engine_error(EngineError::UnsupportedVersion);
    }
    // Long-polling is not offered: the client is told the same as for any transport it cannot have.
    if get("transport") != Some("websocket") {
        return public.engine_error(EngineError::UnknownTransport);
    }
    if get("sid").is_some() {
        return public.engine_error(EngineError::UnknownSession);
    }
    if request.method() != Method::GET {
        return public.engine_error(EngineError::BadMethod);
    }
    let machine = Machine::SocketIo(socketio::Machine::default());
    match public.upgrade(request, machine, None) {
        Ok(response) => response,
        Err(_) => public.engine_error(EngineError::BadRequest),
    }
}

async fn plain_handshake(State(public): State<Public>, request: Request) -> Response {
    if let Some(refused) = public.refuse_early(request.headers()) {
        return refused;
    }
    let offered = offered_protocols(request.headers());
    let json_ping = offered.iter().any(|offer| offer.starts_with("fanfare.v1"));
    let chosen = offered.iter().any(|offer| offer == PLAIN_JSON).then_some(PLAIN_JSON);
    let machine = Machine::Plain { machine: plain::Machine::default(), json_ping };
    match public.upgrade(request, machine, chosen) {
        Ok(response) => response,
        Err(reason) => {
            public.reject("bad_request");
            (StatusCode::BAD_REQUEST, format!("{reason}\n")).into_response()
        }
    }
}

impl Public {
    fn reject(&self, reason: &'static str) {
        self.context.metrics.rare.rejected.with_label_values(&[reason]).inc();
    }

    fn engine_error(&self, error: EngineError) -> Response {
        self.reject("bad_request");
        let (code, text) = error.code_and_text();
        let body = format!("{{\"code\":{code},\"message\":\"{text}\"}}");
        (StatusCode::BAD_REQUEST, [(CONTENT_TYPE, "application/json")], body).into_response()
    }

    /// The refusals that hold for every protocol. They close the transport: clients come back.
    fn refuse_early(&self, headers: &HeaderMap) -> Option<Response> {
        if self.context.state.draining.load(Ordering::Relaxed) {
            self.reject("draining");
            let headers = [(RETRY_AFTER, "1"), (CONNECTION, "close"), (CACHE_CONTROL, "no-store")];
            return Some(
                (StatusCode::SERVICE_UNAVAILABLE, headers, "this node is leaving\n").into_response(),
            );
        }
        if !origin::allowed(&self.context.config.origins, headers) {
            self.reject("origin");
            let text = "pages of this origin may not connect; name it in the setting origins\n";
            return Some((StatusCode::FORBIDDEN, text).into_response());
        }
        None
    }

    /// Answers 101 and hands the socket over once that is written (RFC 6455 §4.2).
    fn upgrade(
        &self,
        mut request: Request,
        machine: Machine,
        protocol: Option<&'static str>,
    ) -> Result<Response, &'static str> {
        let headers = request.headers();
        if request.method() != Method::GET || !has_token(headers, UPGRADE, "websocket") {
            return Err("connect with a WebSocket: GET with the header Upgrade: websocket");
        }
        if !has_token(headers, CONNECTION, "upgrade") {
            return Err("the header Connection: Upgrade is missing");
        }
        if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            return Err("the header Sec-WebSocket-Version has to be 13");
        }
        let key = headers.get(SEC_WEBSOCKET_KEY).and_then(|key| key.to_str().ok());
        let accept =
            key.and_then(websocket::accept_key).ok_or("Sec-WebSocket-Key is not 16 bytes of base64")?;
        let on_upgrade =
            request.extensions_mut().remove::<OnUpgrade>().ok_or("this request cannot be upgraded")?;
        let permit =
            request.extensions_mut().remove::<Arc<Permit>>().ok_or("this request came without a place")?;
        tokio::spawn(hand_over(self.hub.clone(), on_upgrade, machine, permit));
        let mut response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(UPGRADE, "websocket")
            .header(CONNECTION, "Upgrade")
            .header(SEC_WEBSOCKET_ACCEPT, accept);
        if let Some(protocol) = protocol {
            response = response.header(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        response.body(Body::empty()).map_err(|_| "the answer could not be made")
    }
}

async fn hand_over(hub: Arc<Hub>, on_upgrade: OnUpgrade, machine: Machine, permit: Arc<Permit>) {
    let Ok(upgraded) = on_upgrade.await else { return };
    let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else {
        tracing::error!("an upgraded connection is not a plain socket");
        return;
    };
    match parts.io.into_inner().into_std() {
        Ok(socket) => hub.open(Opening { socket, early: parts.read_buf, machine, permit }),
        Err(error) => tracing::warn!(%error, "an upgraded socket could not be taken over"),
    }
}

/// Whether a comma-separated header has a token, in any case.
fn has_token(headers: &HeaderMap, name: hyper::header::HeaderName, token: &str) -> bool {
    let values = headers.get_all(name);
    let mut tokens = values.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    tokens.any(|given| given.trim().eq_ignore_ascii_case(token))
}

fn offered_protocols(headers: &HeaderMap) -> Vec<String> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL);
    let offers = values.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    offers.map(|offer| offer.trim().to_owned()).collect()
}

/// The query's keys; the first of a repeated key counts. Values that matter here have no escapes.
fn query(text: &str) -> HashMap<String, String> {
    let mut pairs = HashMap::new();
    for pair in text.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        pairs.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    }
    pairs
}
