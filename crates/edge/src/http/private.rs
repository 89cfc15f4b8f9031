//! The private listener: metrics, health, and publishing for app servers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use fanfare_broker::{Broker, Link, PublishError};
use fanfare_protocol::publication::from_json;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body as _;
use hyper::header::{CONTENT_TYPE, ORIGIN};
use hyper::{HeaderMap, StatusCode};

use crate::cluster::Directory;
use crate::hub::{Context, FeedLink};
use crate::publish::result_label;

/// How long a request body may take.
const BODY_TIME: Duration = Duration::from_secs(10);

/// What the private routes see.
#[derive(Clone)]
pub(crate) struct Private {
    pub(crate) context: Arc<Context>,
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) directory: Option<Arc<dyn Directory>>,
}

/// The routes of the private listener.
pub(crate) fn router(private: Private) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/v1/publish", post(publish))
        .with_state(private)
}

impl Private {
    /// `None`: ready. Otherwise why not.
    fn not_ready(&self) -> Option<&'static str> {
        if self.context.state.draining.load(Ordering::Relaxed) {
            return Some("draining");
        }
        let grace = self.context.config.timing.ready_grace;
        let over = |since: Instant| since.elapsed() >= grace;
        match self.context.state.feed() {
            FeedLink::Starting => return Some("the feed from redis has not come up yet"),
            FeedLink::Down(since) if over(since) => return Some("the feed from redis is down"),
            FeedLink::Down(_) | FeedLink::Up => {}
        }
        if self.context.state.deaf.load(Ordering::Relaxed) {
            return Some("redis refuses a channel that every node needs; check its access rules");
        }
        if self.directory.as_ref().is_some_and(|directory| !directory.announced()) {
            return Some("other nodes do not find this one yet");
        }
        let was_up = &self.context.state.publish_was_up;
        match self.broker.link() {
            Link::Up => {
                was_up.store(true, Ordering::Relaxed);
                None
            }
            Link::Down(_) if !was_up.load(Ordering::Relaxed) => {
                Some("the link for publishing to redis has not come up yet")
            }
            Link::Down(since) if over(since) => Some("the link for publishing to redis is down"),
            Link::Down(_) => None,
        }
    }
}

async fn ready(State(private): State<Private>) -> Response {
    match private.not_ready() {
        None => (StatusCode::OK, "ready\n").into_response(),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n")).into_response(),
    }
}

async fn metrics(State(private): State<Private>) -> Response {
    let ready = private.not_ready().is_none();
    let draining = private.context.state.draining.load(Ordering::Relaxed);
    let up = i64::from(private.broker.link() == Link::Up);
    private.context.metrics.rare.redis_up.with_label_values(&["publish"]).set(up);
    let metrics = private.context.metrics.clone();
    // Gathering reads /proc, and takes a while with many series.
    let text = tokio::task::spawn_blocking(move || metrics.render(ready, draining)).await;
    match text {
        Ok(Ok(text)) => ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn publish(State(private): State<Private>, headers: HeaderMap, body: Body) -> Response {
    // Browsers name the page; app servers have none. A page must not publish from the machine it is shown on.
    if headers.contains_key(ORIGIN) {
        return problem(StatusCode::FORBIDDEN, "publishing is for app servers: send no Origin header");
    }
    let limit = private.context.config.limits.publish_body;
    let body = match read(body, limit).await {
        Ok(body) => body,
        Err((status, detail)) => {
            if status == StatusCode::PAYLOAD_TOO_LARGE {
                private.context.metrics.rare.limit_reached.with_label_values(&["publish_body"]).inc();
            }
            return problem(status, &detail);
        }
    };
    let publication = match from_json(&body) {
        Ok(publication) => publication,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let result = private.broker.publish(vec![publication]).await.pop();
    let result = result.unwrap_or_else(|| Err(PublishError::Unavailable("no answer".to_owned())));
    private.context.metrics.rare.published.with_label_values(&["http", result_label(&result)]).inc();
    match result {
        Ok(()) => ([(CONTENT_TYPE, "application/json")], "{\"ok\":true}\n").into_response(),
        Err(error @ PublishError::Refused(_)) => problem(StatusCode::FORBIDDEN, &error.to_string()),
        Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

async fn read(body: Body, limit: usize) -> Result<Bytes, (StatusCode, String)> {
    let too_large = || (StatusCode::PAYLOAD_TOO_LARGE, format!("a publication has at most {limit} bytes"));
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let collected = tokio::time::timeout(BODY_TIME, Limited::new(body, limit).collect()).await;
    match collected {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err((StatusCode::BAD_REQUEST, format!("the body could not be read: {error}"))),
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "the body took too long".to_owned())),
    }
}

/// An error as RFC 9457 has it.
fn problem(status: StatusCode, detail: &str) -> Response {
    let body = serde_json::json!({
        "type": "about:blank",
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": detail,
    });
    (status, [(CONTENT_TYPE, "application/problem+json")], format!("{body}\n")).into_response()
}
