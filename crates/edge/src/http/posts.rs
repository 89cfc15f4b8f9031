//! Bodies of long-polling on their way in: bounded one by one, in time, and in sum.

use axum::body::{Body, Bytes};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use prometheus::IntGauge;

use crate::hub::Context;

/// What is read on behalf of a sender whose body is too large, in sizes of the largest allowed, so that it
/// reads the answer instead of a reset. From more than that the connection is taken.
const READ_ON: usize = 4;

/// A body that came whole.
#[derive(Debug)]
pub(crate) struct Posted {
    bytes: Vec<u8>,
    _held: Held,
}

/// Why there is no body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unread {
    TooLarge,
    /// The node holds as many bytes of bodies as it may.
    Budget,
    /// It took too long.
    Late,
    /// The connection broke, or spoke no HTTP.
    Broken,
}

/// Bytes counted towards the node's budget, until dropped.
#[derive(Debug)]
struct Held {
    all: IntGauge,
    bytes: i64,
}

impl Held {
    fn add(&mut self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.all.add(bytes);
        self.bytes += bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.sub(self.bytes);
    }
}

impl Posted {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// `None`: not UTF-8.
    pub(crate) fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok()
    }
}

/// Reads a body, within every bound there is.
pub(super) async fn read(body: Body, context: &Context) -> Result<Posted, Unread> {
    let time = context.config.timing.body_timeout;
    tokio::time::timeout(time, collect(body, context)).await.unwrap_or(Err(Unread::Late))
}

async fn collect(mut body: Body, context: &Context) -> Result<Posted, Unread> {
    let (limit, budget) = (context.config.limits.max_payload, context.config.limits.post_budget);
    let budget = i64::try_from(budget).unwrap_or(i64::MAX);
    let most = limit.saturating_mul(READ_ON);
    if body.size_hint().lower() > most as u64 {
        return Err(Unread::TooLarge);
    }
    let mut held = Held { all: context.metrics.rare.post_bytes.clone(), bytes: 0 };
    let (mut bytes, mut came) = (Vec::new(), 0usize);
    while let Some(part) = next(&mut body).await? {
        came = came.saturating_add(part.len());
        if came > most {
            return Err(Unread::TooLarge);
        }
        if came > limit {
            bytes = Vec::new();
            continue;
        }
        held.add(part.len());
        if held.all.get() > budget {
            return Err(Unread::Budget);
        }
        bytes.extend_from_slice(&part);
    }
    if came > limit { Err(Unread::TooLarge) } else { Ok(Posted { bytes, _held: held }) }
}

async fn next(body: &mut Body) -> Result<Option<Bytes>, Unread> {
    while let Some(frame) = body.frame().await {
        // Trailers are no part of it.
        if let Ok(part) = frame.map_err(|_| Unread::Broken)?.into_data() {
            return Ok(Some(part));
        }
    }
    Ok(None)
}
