//! Requests at the path of Socket.IO: what they are (Engine.IO v4), and what refusals look like.

use std::time::SystemTime;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use hyper::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use hyper::{Method, StatusCode};

use super::bundle;
use super::coding::Coding;
use super::cors::Cors;
use super::handshake::{Asked, EngineError, Public, Refused};
use super::{origin, polling, serve::Peer};
use crate::app::handshake::Handshake;
use crate::connection::Newcomer;
use crate::engine_sid::{Owner, Spot, owner};
use crate::hub::Context;

/// What a request asks for.
#[derive(Debug)]
pub(super) enum Route {
    /// A session over a WebSocket.
    WebSocket,
    /// A session by long-polling.
    Open,
    /// A request of a session of this node, if it is still there.
    Session(Spot, Turn),
    /// A request of a session of the node with this label.
    Elsewhere(Box<str>),
    /// A WebSocket that is opened and closed: what it asks for contradicts itself.
    Dismiss,
}

/// What a session's request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Get,
    Post,
    Upgrade,
    Other,
}

/// What a request is, as far as it alone says so; in the order in which the reference server looks.
pub(super) fn route(context: &Context, asked: &Asked<'_>) -> Result<Route, EngineError> {
    let websocket = match asked.key("transport") {
        Some("websocket") => true,
        Some("polling") => false,
        _ => return Err(EngineError::UnknownTransport),
    };
    let upgrade = asked.has_item("upgrade", "websocket");
    let current = asked.key("EIO") == Some("4");
    // Empty is none, as for the reference server.
    if let Some(sid) = asked.key("sid").filter(|sid| !sid.is_empty()) {
        let spot = match owner(&context.label, context.inboxes.len(), sid) {
            Owner::Here(spot) => spot,
            Owner::Elsewhere(label) => return Ok(Route::Elsewhere(label.into())),
            Owner::Malformed => return Err(EngineError::UnknownSession),
        };
        return match (upgrade, websocket) {
            _ if !current => Err(EngineError::BadRequest),
            (true, true) => Ok(Route::Session(spot, Turn::Upgrade)),
            (true, false) => Ok(Route::Dismiss),
            (false, true) => Err(EngineError::BadRequest),
            (false, false) => Ok(Route::Session(spot, turn(asked.method))),
        };
    }
    if asked.method != "GET" {
        return Err(EngineError::BadMethod);
    }
    match (upgrade, websocket) {
        (false, true) => Err(EngineError::BadRequest),
        _ if !current => Err(EngineError::UnsupportedVersion),
        (true, true) => Ok(Route::WebSocket),
        (true, false) => Ok(Route::Dismiss),
        (false, false) => Ok(Route::Open),
    }
}

fn turn(method: &str) -> Turn {
    match method {
        "GET" => Turn::Get,
        "POST" => Turn::Post,
        _ => Turn::Other,
    }
}

/// An Engine.IO refusal on HTTP.
pub(super) fn refusal(error: EngineError) -> Response {
    let (code, text) = error.code_and_text();
    let body = format!("{{\"code\":{code},\"message\":\"{text}\"}}");
    (StatusCode::BAD_REQUEST, [(CONTENT_TYPE, "application/json")], body).into_response()
}

/// An Engine.IO refusal of a WebSocket that is not open yet.
pub(super) fn refusal_before_upgrade(error: EngineError) -> Response {
    let (_, text) = error.code_and_text();
    (StatusCode::BAD_REQUEST, [(CONNECTION, "close"), (CONTENT_TYPE, "text/html")], text).into_response()
}

/// A request below the path of Socket.IO that no shard answered. What browsers are told of it stands on every answer.
pub(super) async fn serve(public: &Public, request: Request) -> Response {
    let config = &public.context.config;
    let cors = Cors::of(config, request.headers());
    let file = bundle::file_of(config, request.uri().path()).map(str::to_owned);
    let mut response = match file {
        Some(file) => bundle::serve(config, &file, request).await,
        None => answer(public, request, cors.as_ref()).await,
    };
    if let Some(cors) = cors {
        cors.write(response.headers_mut());
    }
    response
}

async fn answer(public: &Public, request: Request, cors: Option<&Cors>) -> Response {
    if let Some(response) = cors.and_then(|cors| cors.preflight(request.method())) {
        return response;
    }
    let route = match consider(public, &request) {
        Ok(route) => route,
        Err(response) => return *response,
    };
    match route {
        Route::WebSocket => public.upgrade(request),
        Route::Open => match newcomer(public, &request) {
            Ok(newcomer) => polling::open(public, newcomer).await,
            Err(refused) => public.refuse(refused),
        },
        Route::Session(spot, Turn::Get) => {
            polling::get(public, spot, Coding::accepted(request.headers())).await
        }
        Route::Session(spot, Turn::Post) => polling::post(public, spot, request).await,
        Route::Session(spot, Turn::Other) => polling::other(public, spot).await,
        Route::Session(spot, Turn::Upgrade) => match polling::expect(public, spot).await {
            Ok(()) => public.claim(request, Some(spot)),
            Err(error) => {
                public.count_refused(error);
                refusal_before_upgrade(error)
            }
        },
        // Where there are other nodes, its owner was asked before: it is gone.
        Route::Elsewhere(label) => {
            tracing::debug!(%label, "a request of another node's session");
            public.count_refused(EngineError::UnknownSession);
            if request.headers().contains_key(UPGRADE) {
                refusal_before_upgrade(EngineError::UnknownSession)
            } else {
                refusal(EngineError::UnknownSession)
            }
        }
        Route::Dismiss => public.claim(request, None),
    }
}

/// What a request is, or what it is refused with before anybody else is asked.
fn consider(public: &Public, request: &Request) -> Result<Route, Box<Response>> {
    let asked = Asked::of(request);
    let upgrade = asked.has_item("upgrade", "websocket");
    let refuse = |error| {
        public.count_refused(error);
        if upgrade { refusal_before_upgrade(error) } else { refusal(error) }
    };
    if request.method() == Method::OPTIONS {
        return Err(refuse(EngineError::BadMethod).into());
    }
    if asked.key("j").is_some() {
        public.count_rejected("bad_request");
        return Err(jsonp().into());
    }
    if !origin::allowed(&public.context.config.origins, &asked) {
        if upgrade {
            return Err(public.refuse(Refused::Origin).into());
        }
        public.count_rejected("origin");
        return Err(forbidden().into());
    }
    route(&public.context, &asked).map_err(|error| refuse(error).into())
}

/// Who opens a session by long-polling.
fn newcomer(public: &Public, request: &Request) -> Result<Newcomer, Refused> {
    if public.is_draining() {
        return Err(Refused::Draining);
    }
    let permit = public.gate.enter().ok_or(Refused::Full)?;
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
    let app = public.context.config.app.as_ref();
    let handshake = Handshake::of(app, &Asked::of(request), peer, SystemTime::now());
    Ok(Newcomer { machine: public.context.socketio_machine(), handshake, text_only: false, permit })
}

/// The page's origin is not allowed.
fn forbidden() -> Response {
    let body = r#"{"code":4,"message":"Forbidden"}"#;
    (StatusCode::FORBIDDEN, [(CONTENT_TYPE, "application/json")], body).into_response()
}

fn jsonp() -> Response {
    let body = r#"{"code":3,"message":"JSONP polling (j=) is not offered; use XHR polling or WebSocket"}"#;
    (StatusCode::BAD_REQUEST, [(CONTENT_TYPE, "application/json")], body).into_response()
}
