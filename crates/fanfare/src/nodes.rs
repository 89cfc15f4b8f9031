//! This node among the others: it says in Redis where it is, and finds the others there.

use std::fmt;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fanfare_edge::cluster::{Directory, DirectoryFuture, Peer, Secret};
use fanfare_redis::{Address, Announcement, NodeRecord, Registry, RegistryError};
use tokio::time::sleep;

/// How long a node that died without a word stays in Redis. Nobody waits for that: others find that it does not
/// answer.
const TTL: Duration = Duration::from_secs(15);
/// How soon Redis is asked again for what it did not say.
const AGAIN: Duration = Duration::from_millis(100);

/// The directory that all nodes of a prefix keep in Redis.
pub(crate) struct RedisDirectory {
    registry: Registry,
    secret: OnceLock<Secret>,
    announced: AtomicBool,
}

impl RedisDirectory {
    /// Without a secret, the one in Redis is taken.
    pub(crate) fn new(registry: Registry, secret: Option<Secret>) -> Arc<Self> {
        let known = OnceLock::new();
        if let Some(secret) = secret {
            known.get_or_init(|| secret);
        }
        Arc::new(Self { registry, secret: known, announced: AtomicBool::new(false) })
    }

    /// Says that this node is reached at `address`, for as long as the answer lives.
    pub(crate) fn join(self: &Arc<Self>, label: &str, address: String) -> Announcement {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let record = NodeRecord {
            label: label.to_owned(),
            incarnation: format!("{}-{}", std::process::id(), since.as_nanos()),
            address,
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        tokio::spawn(self.clone().settle(record.clone()));
        self.registry.announce(record, TTL)
    }

    /// Until the secret is known and others can find this node.
    async fn settle(self: Arc<Self>, record: NodeRecord) {
        while self.secret.get().is_none() {
            match self.registry.cluster_secret(None).await {
                Ok(secret) => {
                    self.secret.get_or_init(|| Secret::new(secret));
                }
                Err(error @ RegistryError::BadSecret(_)) => {
                    tracing::error!(%error, "other nodes cannot be asked, and cannot ask this one");
                    sleep(TTL).await;
                }
                Err(error) => {
                    tracing::debug!(%error, "the secret of the cluster is not known yet");
                    sleep(AGAIN).await;
                }
            }
        }
        while self.registry.find(&record.label).await.as_ref() != Some(&record) {
            sleep(AGAIN).await;
        }
        self.announced.store(true, Ordering::Relaxed);
        tracing::info!(label = record.label, address = record.address, "other nodes find this one");
    }
}

impl Directory for RedisDirectory {
    fn find<'a>(&'a self, label: &'a str) -> DirectoryFuture<'a, Option<Peer>> {
        Box::pin(async {
            let record = self.registry.find(label).await?;
            Some(Peer { address: record.address })
        })
    }

    fn secret(&self) -> Option<Secret> {
        self.secret.get().cloned()
    }

    fn announced(&self) -> bool {
        self.announced.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for RedisDirectory {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("RedisDirectory")
    }
}

/// Where other nodes reach `private`, as far as can be told: where it listens on every address, the one from which
/// this machine reaches Redis.
pub(crate) fn advertised(private: SocketAddr, redis: &Address) -> String {
    if !private.ip().is_unspecified() {
        return private.to_string();
    }
    let toward = || {
        let any = SocketAddr::new(private.ip(), 0);
        let socket = UdpSocket::bind(any)?;
        // Sends nothing: it only chooses the way.
        socket.connect((redis.host(), redis.port()))?;
        socket.local_addr()
    };
    match toward() {
        Ok(own) => SocketAddr::new(own.ip(), private.port()).to_string(),
        Err(error) => {
            tracing::warn!(%error, "no address of this machine is known: set `advertise`");
            private.to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_told_by_the_address_toward_redis() {
        let redis = Address::parse("redis://127.0.0.1:6379").unwrap();
        let advertised = |private: &str| advertised(private.parse().unwrap(), &redis);
        assert_eq!(advertised("0.0.0.0:3001"), "127.0.0.1:3001");
        assert_eq!(advertised("10.1.2.3:3001"), "10.1.2.3:3001");
    }
}
