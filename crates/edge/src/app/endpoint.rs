//! Calls over HTTP: signed, pooled, so many at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use sha2::Sha256;
use tokio::sync::{Semaphore, mpsc};

use super::answer::Answer;
use super::{About, Call, Failure, Outcome, weight};
use crate::config::{AppEndpoint, AppFormat};
use crate::hub::{Context, Post};

/// Idle connections are given up before the app does: Node's server keeps them for 5 s.
const IDLE: Duration = Duration::from_secs(4);
/// Between two lines in the log about the app.
const QUIET: Duration = Duration::from_secs(1);

/// What every call needs.
struct Line {
    context: Arc<Context>,
    config: AppEndpoint,
    http: Client<HttpConnector, Full<Bytes>>,
    started: Instant,
    /// Milliseconds from `started` to the last line in the log; 0 before the first.
    logged: AtomicU64,
}

/// Makes the calls that come, as many at a time as the limit allows. Ends with the process.
pub(crate) async fn run(
    context: Arc<Context>,
    config: AppEndpoint,
    mut calls: mpsc::UnboundedReceiver<Call>,
) {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(config.timeout));
    let most = context.config.limits.app_calls;
    let http = Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE)
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(most)
        .build(connector);
    let line = Arc::new(Line { context, config, http, started: Instant::now(), logged: AtomicU64::new(0) });
    let places = Arc::new(Semaphore::new(most));
    while let Some(call) = calls.recv().await {
        if places.available_permits() == 0 {
            line.context.metrics.rare.limit_reached.with_label_values(&["app_calls"]).inc();
        }
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let line = line.clone();
        tokio::spawn(async move {
            let _place = place;
            line.call(call).await;
        });
    }
}

impl Line {
    async fn call(&self, call: Call) {
        let counts = &self.context.metrics.app;
        let result = if call.by <= Instant::now() { Err(Failure::Timeout) } else { self.asked(&call).await };
        counts.called(call.tell.what.index(), label(&result));
        let Call { tell, about, place, .. } = call;
        if let Some(app) = &self.context.app {
            app.took(weight(&tell));
        }
        let shard = match &about {
            About::Session { shard, .. } => *shard,
            About::Node { .. } => 0,
        };
        let outcome = Outcome { about, namespace: tell.namespace, result, _place: place };
        self.context.inboxes[shard].push(Post::Answered(Box::new(outcome)));
    }

    async fn asked(&self, call: &Call) -> Result<Answer, Failure> {
        let format = self.config.format;
        let body = call.tell.body(&self.context.config.node, format).map_err(|error| {
            self.log(format_args!("a call to the app cannot be written: {error}"));
            Failure::Unshowable
        })?;
        let counts = &self.context.metrics.app;
        let sent = Instant::now();
        counts.in_flight.inc();
        let answered = tokio::time::timeout_at(call.by.into(), self.send(body)).await;
        counts.in_flight.dec();
        counts.seconds.observe(sent.elapsed().as_secs_f64());
        let (status, body) = match answered {
            Ok(answered) => answered?,
            Err(_) => {
                self.log(format_args!("the app did not answer within its time"));
                return Err(Failure::Timeout);
            }
        };
        match status {
            StatusCode::OK | StatusCode::NO_CONTENT => {}
            StatusCode::FORBIDDEN => return Err(Failure::Forbidden),
            other => {
                self.log(format_args!("the app answered {other}, which is no answer"));
                return Err(Failure::Unavailable);
            }
        }
        let mut dropped = Vec::new();
        let answer = Answer::read(&body, format, &mut dropped).map_err(|error| {
            self.log(format_args!("the app's answer cannot be used: {error}"));
            Failure::Unusable
        })?;
        if let Some(first) = dropped.first() {
            counts.dropped.with_label_values(&["name"]).inc_by(dropped.len() as u64);
            self.log(format_args!("a part of the app's answer was left out: {first}"));
        }
        Ok(answer)
    }

    /// One request, and its whole answer.
    async fn send(&self, body: Vec<u8>) -> Result<(StatusCode, Bytes), Failure> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let signature = signature(&self.config.secret, since.as_secs(), &body);
        let kind = match self.config.format {
            AppFormat::Json => "application/json",
            AppFormat::Msgpack => "application/msgpack",
        };
        let request = Request::builder()
            .method(Method::POST)
            .uri(self.config.url.clone())
            .header(CONTENT_TYPE, kind)
            .header(ACCEPT, kind)
            .header("fanfare-signature", signature)
            .body(Full::new(Bytes::from(body)));
        let unavailable = |error: &dyn std::error::Error| {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            self.log(format_args!("the app cannot be reached: {error}{cause}"));
            Failure::Unavailable
        };
        let request = request.map_err(|error| unavailable(&error))?;
        let response = self.http.request(request).await.map_err(|error| unavailable(&error))?;
        let (head, body) = response.into_parts();
        let limit = self.context.config.limits.app_answer;
        match Limited::new(body, limit).collect().await {
            Ok(body) => Ok((head.status, body.to_bytes())),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                self.context.metrics.rare.limit_reached.with_label_values(&["app_answer"]).inc();
                self.log(format_args!("the app's answer is longer than {limit} bytes"));
                Err(Failure::Unusable)
            }
            Err(error) => Err(unavailable(&*error)),
        }
    }

    /// A line a second: clients decide how many calls there are.
    fn log(&self, what: std::fmt::Arguments<'_>) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        let last = self.logged.load(Ordering::Relaxed);
        let due = last == 0 || now >= last.saturating_add(QUIET.as_millis() as u64);
        if due && self.logged.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            tracing::warn!(url = %self.config.url, "{what}");
        }
    }
}

fn label(result: &Result<Answer, Failure>) -> &'static str {
    match result {
        Ok(answer) if answer.refused => "refused",
        Ok(_) => "ok",
        Err(failure) => failure.label(),
    }
}

impl Failure {
    /// The value of the metric label `result`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Unusable => "unusable",
            Self::Forbidden => "forbidden",
            Self::QueueFull => "queue_full",
            Self::Unshowable => "unshowable",
        }
    }
}

/// `t=<seconds>,v1=<hex of HMAC-SHA256 over "<seconds>.<body>">`.
fn signature(secret: &str, seconds: u64, body: &[u8]) -> String {
    // HMAC takes a key of any length.
    let mut mac = <Hmac<Sha256>>::new_from_slice(secret.as_bytes()).expect("a key of any length");
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body);
    let mut text = format!("t={seconds},v1=");
    for byte in mac.finalize().into_bytes() {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_other_languages() {
        // node -e 'crypto.createHmac("sha256","s3cret").update("1700000000.{}").digest("hex")'
        assert_eq!(
            signature("s3cret", 1_700_000_000, b"{}"),
            "t=1700000000,v1=97926816e98fbb41ccb1673225ff29a2f35369099990e1b1561651e7bd097ebf"
        );
    }
}
