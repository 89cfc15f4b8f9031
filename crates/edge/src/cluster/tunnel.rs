//! Upgrades for sessions of other nodes: the client's request goes to the owner as it is, over a connection of its
//! own, and behind a 101 the two sockets are joined.

use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use hyper::header::HeaderValue;
use hyper::upgrade::OnUpgrade;
use hyper::{StatusCode, Uri, Version};
use prometheus::IntGauge;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;
use tokio::time::timeout;

use super::forward::{Forwarding, NotForwarded, forwarded_for};
use super::leaving::Leaving;
use super::links::{Link, open as connect};
use super::proof::PROOF;
use super::relay::relay;
use super::{CONNECT_TIME, ENGINE_PATH};
use crate::http::gate::Permit;
use crate::http::serve::{self, Place};

/// Two sockets' place; the client's own goes with its socket.
struct Tunnel {
    _permit: Permit,
    _client: Option<Permit>,
    gauge: IntGauge,
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

/// Asks the owner for the upgrade. Its answer is the client's; a 101 leads to a tunnel.
pub(super) async fn open(
    forwarding: &Forwarding,
    label: &str,
    mut request: Request,
) -> Result<Response, NotForwarded> {
    let permit = forwarding.tunnels.enter().ok_or(NotForwarded::Full("tunnels"))?;
    // A link is how it is known whether the owner lives, now and as long as the tunnel does.
    let link = forwarding.links.to(label).await.ok_or(NotForwarded::Gone)?;
    let extensions = request.extensions_mut();
    let on_client = extensions.remove::<OnUpgrade>();
    let place = extensions.remove::<Place>();
    let request = address(forwarding, label, request).ok_or(NotForwarded::Gone)?;
    let asked = timeout(CONNECT_TIME, ask(&link, request)).await;
    let response = asked.ok().flatten().ok_or(NotForwarded::Gone)?;
    let (mut head, body) = response.into_parts();
    head.version = Version::HTTP_11;
    let Some(on_owner) = head.extensions.remove::<OnUpgrade>() else {
        return Ok(Response::from_parts(head, Body::new(body)));
    };
    if head.status == StatusCode::SWITCHING_PROTOCOLS
        && let Some(on_client) = on_client
    {
        forwarding.meters.tunnels.inc();
        let gauge = forwarding.meters.tunnels.clone();
        let client = place.and_then(|place| place.take());
        let tunnel = Tunnel { _permit: permit, _client: client, gauge };
        let until = Until {
            ended: link.ended,
            leaving: forwarding.leaving.clone(),
            unread: forwarding.unread_timeout,
        };
        tokio::spawn(join(on_client, on_owner, until, tunnel));
    }
    Ok(Response::from_parts(head, Body::empty()))
}

/// The client's request as the owner's private listener takes it.
fn address(forwarding: &Forwarding, label: &str, request: Request) -> Option<Request> {
    let (mut head, _) = request.into_parts();
    let target = format!("{ENGINE_PATH}{}", head.uri.path_and_query()?);
    let secret = forwarding.links.directory().secret()?;
    let proof = secret.prove(forwarding.links.own(), label, &target, SystemTime::now());
    head.headers.insert(PROOF, HeaderValue::try_from(proof).ok()?);
    if let Some(serve::Peer(address)) = head.extensions.get() {
        forwarded_for(&mut head.headers, &address.ip().to_string());
    }
    head.uri = target.parse::<Uri>().ok()?;
    head.extensions.clear();
    Some(Request::from_parts(head, Body::empty()))
}

async fn ask(link: &Link, request: Request) -> Option<hyper::Response<hyper::body::Incoming>> {
    let _opening = link.opening.acquire().await.ok()?;
    let mut sender = connect(&link.peer).await.ok()?;
    sender.send_request(request).await.ok()
}

/// What ends a tunnel besides its two sides.
struct Until {
    ended: watch::Receiver<()>,
    leaving: Leaving,
    /// The client takes nothing for this long.
    unread: Duration,
}

/// Joins the sockets once both upgrades are done, until one of them ends, the link to the owner does, or this node
/// leaves.
async fn join(on_client: OnUpgrade, on_owner: OnUpgrade, mut until: Until, tunnel: Tunnel) {
    let _tunnel = tunnel;
    let (Ok(client), Ok(owner)) = (on_client.await, on_owner.await) else { return };
    let (Some((mut client, early)), Some((mut owner, first))) =
        (serve::socket_of(client), serve::socket_of(owner))
    else {
        return;
    };
    let joined = async {
        owner.write_all(&early).await?;
        client.write_all(&first).await?;
        drop((early, first));
        relay(client, owner, until.unread).await
    };
    tokio::select! {
        done = joined => if let Err(error) = done {
            tracing::trace!(%error, "a tunnel broke");
        },
        // Nothing is ever sent on it: it closes.
        _ = until.ended.changed() => {}
        () = until.leaving.turn() => {}
    }
}
