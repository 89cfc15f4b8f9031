//! The side of the node that a client talks to: its request goes to the owner, and the owner's answer back, status,
//! headers and body as they are.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use h2::{RecvStream, SendStream};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, SizeHint};
use hyper::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, RETRY_AFTER, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use hyper::{HeaderMap, Method, StatusCode, Uri, Version};
use prometheus::IntGauge;

use super::leaving::{Leave, Leaving, leaving};
use super::links::{Link, Links};
use super::meters::Meters;
use super::owner::{CLOSE, Forwarded, HELD};
use super::{Directory, tunnel};
use crate::config::Limits;
use crate::engine_sid::{self, Owner};
use crate::http::gate::{Gate, Permit};
use crate::http::handshake::{Asked, key_of};
use crate::http::serve::{self, CutConnection};
use crate::metrics::Rare;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The clients' routes behind a look at whose session a request is for.
pub(crate) fn layer(public: Router, forwarding: Arc<Forwarding>) -> Router {
    public.layer(middleware::from_fn_with_state(forwarding, route))
}

/// A session that is nobody's, or that of a node which is gone, is unknown here like any other: whoever serves this
/// node's own has the words for it.
async fn route(State(forwarding): State<Arc<Forwarding>>, request: Request, next: Next) -> Response {
    let Some(label) = forwarding.elsewhere(&request).map(str::to_owned) else {
        return next.run(request).await;
    };
    let mut unanswered = Request::new(Body::empty());
    *unanswered.method_mut() = request.method().clone();
    *unanswered.uri_mut() = request.uri().clone();
    *unanswered.headers_mut() = request.headers().clone();
    match forwarding.forward(&label, request).await {
        Ok(response) => response,
        Err(NotForwarded::Gone) => next.run(unanswered).await,
        Err(NotForwarded::Full(limit)) => {
            let head = [(RETRY_AFTER, "1"), (CACHE_CONTROL, "no-store"), (CONNECTION, "close")];
            let text = format!("this node forwards as much as it may; see the setting {limit}\n");
            (StatusCode::SERVICE_UNAVAILABLE, head, text).into_response()
        }
    }
}

/// What forwarding needs; one per node that has a directory.
#[derive(Debug)]
pub(crate) struct Forwarding {
    /// Path of Engine.IO.
    path: Box<str>,
    pub(super) links: Arc<Links>,
    forwards: Arc<Gate>,
    pub(super) tunnels: Arc<Gate>,
    leave: Leave,
    pub(super) leaving: Leaving,
    /// How long a tunnel's client may take nothing.
    pub(super) unread_timeout: Duration,
    pub(super) meters: Meters,
    pub(super) rare: Rare,
}

/// This node, as forwarding sees it.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    pub(crate) label: &'a str,
    /// Path of Engine.IO.
    pub(crate) path: &'a str,
    pub(crate) limits: &'a Limits,
    /// How long a client may take nothing of what it is sent.
    pub(crate) unread_timeout: Duration,
}

/// Why a request has no answer of the owner's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotForwarded {
    /// There is no such node, or it is dead: its sessions are unknown.
    Gone,
    /// The bound of this name is reached: try again.
    Full(&'static str),
}

impl Forwarding {
    pub(crate) fn new(node: &Node<'_>, directory: Arc<dyn Directory>, meters: Meters, rare: Rare) -> Self {
        let (leave, leaving) = leaving();
        Self {
            leave,
            leaving,
            path: node.path.into(),
            links: Links::new(node.label, directory, node.limits.forwards),
            forwards: Gate::new(node.limits.forwards),
            tunnels: Gate::new(node.limits.tunnels),
            unread_timeout: node.unread_timeout,
            meters,
            rare,
        }
    }

    /// Ends what passes through this node, the last by `until`.
    pub(crate) fn drain(&self, until: Instant) {
        self.leave.by(until);
    }

    /// Whether anything passes through this node.
    pub(crate) fn is_busy(&self) -> bool {
        self.meters.under_way.get() > 0 || self.meters.tunnels.get() > 0
    }

    /// The label of another node whose session the request is for. Preflights ask for no session.
    fn elsewhere<'a>(&self, request: &'a Request) -> Option<&'a str> {
        let ours = !request.uri().path().starts_with(&*self.path)
            || *request.method() == Method::OPTIONS
            || request.extensions().get::<Forwarded>().is_some();
        if ours {
            return None;
        }
        let sid = key_of(request.uri().query()?, "sid")?;
        match engine_sid::owner(self.links.own(), usize::MAX, sid) {
            Owner::Elsewhere(label) => Some(label),
            // With the owner's own shards in mind, this node's are looked at later.
            Owner::Here(_) | Owner::Malformed => None,
        }
    }

    /// Brings the request to the node with this label and its answer back. Dropping the future, or the answer's
    /// body, cuts the request off at the owner, too.
    async fn forward(&self, label: &str, request: Request) -> Result<Response, NotForwarded> {
        let kind = kind(&request);
        let mut hop = Hop { meters: &self.meters, kind, result: "cancelled" };
        let answer = match kind {
            "upgrade" => tunnel::open(self, label, request).await,
            _ => self.relay(label, request, kind).await,
        };
        hop.result = match answer {
            Ok(_) => "ok",
            Err(NotForwarded::Gone) => "gone",
            Err(NotForwarded::Full(limit)) => {
                self.rare.limit_reached.with_label_values(&[limit]).inc();
                "full"
            }
        };
        answer
    }

    async fn relay(
        &self,
        label: &str,
        request: Request,
        kind: &'static str,
    ) -> Result<Response, NotForwarded> {
        let permit = self.forwards.enter().ok_or(NotForwarded::Full("forwards"))?;
        self.meters.under_way.inc();
        let place = UnderWay { _permit: permit, gauge: self.meters.under_way.clone() };
        let begun = Instant::now();
        let link = self.links.to(label).await.ok_or(NotForwarded::Gone)?;
        let mut leaving = self.leaving.clone();
        let turn = async {
            // Only polls wait for long, and whatever is cut off ends its session.
            if kind == "poll" { leaving.turn().await } else { leaving.end().await }
        };
        let exchanged = tokio::select! {
            exchanged = exchange(link, request) => exchanged,
            () = turn => Some(Exchanged::Cut),
        };
        let (mut response, stream) = match exchanged {
            Some(Exchanged::Answer(response, stream)) => (response, stream),
            Some(Exchanged::Cut) => {
                let mut response = Response::new(Body::empty());
                response.extensions_mut().insert(CutConnection);
                return Ok(response);
            }
            None => return Err(NotForwarded::Gone),
        };
        let total = begun.elapsed();
        let headers = response.headers_mut();
        let held = headers.remove(HELD).and_then(|held| held.to_str().ok()?.parse().ok());
        if let Some(held) = held {
            self.meters.hop.observe(total.saturating_sub(Duration::from_micros(held)).as_secs_f64());
        }
        if headers.remove(CLOSE).is_some() || self.leaving.is_leaving() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        Ok(response.map(|()| Body::new(Answer { stream, length, _place: place })))
    }
}

/// What the owner did with a request.
enum Exchanged {
    Answer(Response<()>, RecvStream),
    /// It cut the connection, as far as it could.
    Cut,
}

/// Sends the request over the link; `None` where the owner went away before it answered.
async fn exchange(link: Link, request: Request) -> Option<Exchanged> {
    let (mut head, mut body) = request.into_parts();
    strip(&mut head.headers);
    if head.method != Method::POST {
        // Nobody reads it: on the link it would stand in the way of the others until the request is answered.
        body = Body::empty();
        head.headers.remove(CONTENT_LENGTH);
    }
    if let Some(serve::Peer(address)) = head.extensions.get() {
        forwarded_for(&mut head.headers, &address.ip().to_string());
    }
    head.uri = absolute(&head.uri)?;
    head.version = Version::HTTP_2;
    head.extensions.clear();
    let ends = body.is_end_stream();
    let mut sender = link.sender.ready().await.ok()?;
    let (answer, to) = sender.send_request(Request::from_parts(head, ()), ends).ok()?;
    let mut answer = std::pin::pin!(answer);
    let answer = if ends {
        answer.await
    } else {
        // The owner may answer before it has everything.
        tokio::select! {
            answer = &mut answer => answer,
            () = pump(body, to) => answer.await,
        }
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) if error.is_reset() && error.is_remote() => return Some(Exchanged::Cut),
        Err(_) => return None,
    };
    let (mut head, stream) = answer.into_parts();
    head.version = Version::HTTP_11;
    Some(Exchanged::Answer(Response::from_parts(head, ()), stream))
}

/// Sends a body as fast as the owner takes it. A body that breaks off breaks off there, too.
async fn pump(mut body: Body, mut to: SendStream<Bytes>) {
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return to.send_reset(h2::Reason::CANCEL) };
        let Ok(mut bytes) = frame.into_data() else { continue };
        while !bytes.is_empty() {
            to.reserve_capacity(bytes.len());
            let room = std::future::poll_fn(|context| to.poll_capacity(context)).await;
            let Some(Ok(room)) = room else { return };
            let part = bytes.split_to(room.min(bytes.len()));
            if to.send_data(part, false).is_err() {
                return;
            }
        }
    }
    if let Err(error) = to.send_data(Bytes::new(), true) {
        tracing::trace!(%error, "the owner has answered already");
    }
}

fn kind(request: &Request) -> &'static str {
    match *request.method() {
        // Others are offers that no node takes up.
        Method::GET if Asked::of(request).has_item("upgrade", "websocket") => "upgrade",
        Method::GET => "poll",
        Method::POST => "post",
        _ => "other",
    }
}

/// Takes out what belongs to one connection alone (RFC 9110 §7.6.1).
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&[
        CONNECTION,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ]) {
        headers.remove(name);
    }
}

/// Notes the address that the request came from, as proxies do.
pub(super) fn forwarded_for(headers: &mut HeaderMap, address: &str) {
    let before = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
    let list = before.chain([address]).collect::<Vec<_>>().join(", ");
    if let Ok(list) = HeaderValue::from_str(&list) {
        headers.insert(FORWARDED_FOR, list);
    }
}

/// HTTP/2 wants a scheme and an authority; the client's `Host` goes along as a header.
fn absolute(uri: &Uri) -> Option<Uri> {
    let target = uri.path_and_query()?.clone();
    Uri::builder().scheme("http").authority("owner").path_and_query(target).build().ok()
}

/// Counts how a request ended, also when it is dropped half-way.
struct Hop<'a> {
    meters: &'a Meters,
    kind: &'static str,
    result: &'static str,
}

impl Drop for Hop<'_> {
    fn drop(&mut self) {
        self.meters.forwarded.with_label_values(&[self.kind, self.result]).inc();
    }
}

#[derive(Debug)]
struct UnderWay {
    _permit: Permit,
    gauge: IntGauge,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

/// An answer's body on its way from the owner.
struct Answer {
    stream: RecvStream,
    length: Option<u64>,
    _place: UnderWay,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        self.stream.poll_data(context).map(|next| {
            let bytes = match next? {
                Ok(bytes) => bytes,
                // The owner has answered without waiting for the rest of the request (RFC 9113 §8.1).
                Err(error) if error.reason() == Some(h2::Reason::NO_ERROR) => return None,
                Err(error) => return Some(Err(error)),
            };
            let taken = self.stream.flow_control().release_capacity(bytes.len());
            Some(taken.map(|()| Frame::data(bytes)))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
