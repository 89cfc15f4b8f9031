//! Long-polling on the side of HTTP: requests become questions to the shard that owns the session, and its
//! answers become responses. Whoever goes away is reported by a guard.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use hyper::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use hyper::{HeaderMap, StatusCode};
use tokio::sync::oneshot;

use super::coding::Coding;
use super::engine::refusal;
use super::handshake::{EngineError, Public};
use super::posts::{self, Unread};
use super::serve::CutConnection;
use crate::connection::Newcomer;
use crate::engine_sid::Spot;
use crate::hub::{Answer, Ask, Inbox, Post};

const NO_STORE: (HeaderName, &str) = (CACHE_CONTROL, "no-store");
/// Headers of an answer with packets.
const PAYLOAD: [(HeaderName, &str); 2] = [(CONTENT_TYPE, "text/plain; charset=UTF-8"), NO_STORE];

/// Tells the shard when the request is dropped before its answer: its connection is gone.
struct Guard {
    inbox: Arc<Inbox>,
    gone: Option<Ask>,
}

impl Guard {
    fn new(public: &Public, spot: Spot, gone: Ask) -> Self {
        Self { inbox: public.inbox(spot), gone: Some(gone) }
    }

    /// The request has its answer.
    fn disarm(mut self) {
        self.gone = None;
    }

    /// The request ends, but not the session.
    fn instead(mut self, ask: Ask) {
        self.gone = Some(ask);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(gone) = self.gone.take() {
            self.inbox.push(Post::Ask(Box::new(gone)));
        }
    }
}

/// Opens a session: its open packet is the answer.
pub(super) async fn open(public: &Public, newcomer: Newcomer) -> Response {
    let (answer, answered) = oneshot::channel();
    public.hub.open_polling(newcomer, answer);
    public.respond(answered.await.unwrap_or(Answer::Conflict))
}

/// Waits for packets.
pub(super) async fn get(public: &Public, spot: Spot, coding: Option<Coding>) -> Response {
    let (answer, answered) = oneshot::channel();
    let guard = Guard::new(public, spot, Ask::GetGone { spot });
    public.ask(spot, Ask::Get { spot, answer });
    let response = match (answered.await, coding) {
        (Ok(Answer::Payload(body)), Some(coding)) => encoded(body, coding),
        (answer, _) => public.respond(answer.unwrap_or(Answer::Conflict)),
    };
    guard.disarm();
    response
}

fn encoded(body: String, coding: Coding) -> Response {
    match coding.encode(body) {
        Ok(bytes) => (PAYLOAD, [(CONTENT_ENCODING, coding.name())], bytes).into_response(),
        Err(body) => (PAYLOAD, body).into_response(),
    }
}

/// Takes packets.
pub(super) async fn post(public: &Public, spot: Spot, request: Request) -> Response {
    let (answer, mut answered) = oneshot::channel();
    if is_binary(request.headers()) {
        public.ask(spot, Ask::Forbidden { spot, answer });
        return public.respond(answered.await.unwrap_or(Answer::Conflict));
    }
    let guard = Guard::new(public, spot, Ask::PostGone { spot, cut: true });
    public.ask(spot, Ask::Post { spot, answer });
    let body = tokio::select! {
        biased;
        early = &mut answered => {
            guard.disarm();
            return public.respond(early.unwrap_or(Answer::Conflict));
        }
        body = posts::read(request.into_body(), &public.context) => body,
    };
    let limit = |name| public.context.metrics.rare.limit_reached.with_label_values(&[name]).inc();
    let status = match body {
        Ok(body) => {
            public.ask(spot, Ask::PostBody { spot, body });
            let answer = answered.await;
            guard.disarm();
            return public.respond(answer.unwrap_or(Answer::Conflict));
        }
        Err(Unread::TooLarge) => {
            limit("max_payload");
            guard.instead(Ask::PostGone { spot, cut: false });
            return StatusCode::PAYLOAD_TOO_LARGE.into_response();
        }
        Err(Unread::Budget) => {
            limit("post_budget");
            StatusCode::SERVICE_UNAVAILABLE
        }
        Err(Unread::Late) => StatusCode::REQUEST_TIMEOUT,
        Err(Unread::Broken) => StatusCode::BAD_REQUEST,
    };
    // What it carried is lost, and the session with it: the guard says so.
    drop(guard);
    status.into_response()
}

/// Another method: an error of the server's, as the reference has it, if the session is there.
pub(super) async fn other(public: &Public, spot: Spot) -> Response {
    match known(public, spot).await {
        Ok(()) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Err(error) => public.respond(Answer::Refused(error)),
    }
}

/// Whether the session is there.
async fn known(public: &Public, spot: Spot) -> Result<(), EngineError> {
    let (answer, answered) = oneshot::channel();
    public.ask(spot, Ask::Known { spot, answer });
    there(answered).await
}

/// The same, for a WebSocket that is about to be opened for it.
pub(super) async fn expect(public: &Public, spot: Spot) -> Result<(), EngineError> {
    let (answer, answered) = oneshot::channel();
    public.ask(spot, Ask::Expect { spot, answer });
    there(answered).await
}

async fn there(answered: oneshot::Receiver<Answer>) -> Result<(), EngineError> {
    match answered.await {
        Ok(Answer::Taken) => Ok(()),
        _ => Err(EngineError::UnknownSession),
    }
}

/// Engine.IO v3 sent packets as bytes; in v4 they are text.
fn is_binary(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/octet-stream"))
}

impl Public {
    fn inbox(&self, spot: Spot) -> Arc<Inbox> {
        self.context.inboxes[usize::from(spot.shard)].clone()
    }

    fn ask(&self, spot: Spot, ask: Ask) {
        self.inbox(spot).push(Post::Ask(Box::new(ask)));
    }

    fn respond(&self, answer: Answer) -> Response {
        match answer {
            Answer::Payload(body) => (PAYLOAD, body).into_response(),
            Answer::Taken => ([(CONTENT_TYPE, "text/html"), NO_STORE], "ok").into_response(),
            Answer::Refused(error) => {
                self.count_refused(error);
                refusal(error)
            }
            Answer::Conflict => StatusCode::BAD_REQUEST.into_response(),
            Answer::Cut => {
                let mut response = Body::empty().into_response();
                response.extensions_mut().insert(CutConnection);
                response
            }
        }
    }
}
