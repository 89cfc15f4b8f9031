//! Which nodes there are and where they are reached, and the secret that they share. Both live in Redis: a node
//! says that it is there again and again, and is forgotten a while after the last time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fred::clients::WithOptions;
use fred::error::Error;
use fred::interfaces::{ClientLike, KeysInterface};
use fred::types::{ClusterHash, CustomCommand, Expiration, SetOptions};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::{Commands, Prefix};

/// How long a record that was found is taken for granted.
const KNOWN: Duration = Duration::from_secs(1);
/// How long it is taken for granted that there is none. Clients choose what is asked for.
const UNKNOWN: Duration = Duration::from_millis(100);
/// How soon a node that could not say that it is there says it again.
const RETRY: Duration = Duration::from_millis(250);
/// Labels that are remembered; more are forgotten together.
const MAX_REMEMBERED: usize = 4_096;
/// Longest label, in bytes.
const MAX_LABEL: usize = 64;
/// Bytes of the secret.
const SECRET: usize = 32;

/// Keeps the record for so many milliseconds unless another incarnation has the label: then gives its record.
const RENEW: &str = "local other = redis.call('GET', KEYS[1]) \
     if other and other ~= ARGV[1] then return other end \
     redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) \
     return false";
/// Removes the record where it still is this one.
const WITHDRAW: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end return false";

/// A running node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// What session ids call it: 1 to 64 letters, digits, `-`, `_` and `.`.
    pub label: String,
    /// Differs for each start of the process.
    pub incarnation: String,
    /// Where other nodes reach it, as `host:port`.
    pub address: String,
    /// What it runs.
    pub version: String,
}

/// Why the registry gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// Redis is away or refused. Ask again.
    #[error("Redis gave no answer: {0}")]
    Unavailable(String),
    /// Remove the key, or set the secret in the configuration.
    #[error("the key {0} in Redis is not a secret of {SECRET} bytes in hexadecimal")]
    BadSecret(String),
}

/// The nodes of one prefix. Cheap to clone.
#[derive(Clone)]
pub struct Registry(Arc<Shared>);

struct Shared {
    commands: Arc<Commands>,
    prefix: Prefix,
    remembered: Mutex<HashMap<Box<str>, Remembered>>,
}

struct Remembered {
    record: Option<NodeRecord>,
    until: Instant,
}

/// A node that says that it is there for as long as this lives.
pub struct Announcement {
    registry: Registry,
    record: String,
    key: String,
    standing: Arc<Mutex<Standing>>,
    heartbeat: JoinHandle<()>,
}

#[derive(Default)]
struct Standing {
    /// Another incarnation that took the label.
    conflict: Option<NodeRecord>,
}

impl Registry {
    /// The registry that `commands` reaches.
    pub fn new(commands: Arc<Commands>, prefix: Prefix) -> Self {
        Self(Arc::new(Shared { commands, prefix, remembered: Mutex::default() }))
    }

    /// Says that this node is there, now and every third of `ttl`, until the answer is dropped. Redis may come
    /// later. The latest to take a label has it, so that a node that was started again is found at once;
    /// see [`Announcement::conflict`] for the one that lost it. Called inside a tokio runtime.
    pub fn announce(&self, record: NodeRecord, ttl: Duration) -> Announcement {
        let key = self.0.prefix.node_key(&record.label);
        let standing = Arc::new(Mutex::new(Standing::default()));
        // A struct of strings always has a form in JSON.
        let text = serde_json::to_string(&record).unwrap_or_default();
        let heartbeat = Heartbeat {
            registry: self.clone(),
            label: record.label,
            key: key.clone(),
            record: text.clone(),
            ttl,
            taken: false,
            standing: Arc::clone(&standing),
        };
        let heartbeat = tokio::spawn(heartbeat.run());
        Announcement { registry: self.clone(), record: text, key, standing, heartbeat }
    }

    /// The node that `label` names, `None` where there is none: at most [`KNOWN`] old while Redis answers. While
    /// it does not, what was known last.
    pub async fn find(&self, label: &str) -> Option<NodeRecord> {
        if !is_label(label) {
            return None;
        }
        if let Some(known) = self.0.recall(label) {
            return known;
        }
        let redis = self.redis();
        match redis.get::<Option<String>, _>(self.0.prefix.node_key(label)).await {
            Ok(text) => {
                let record = text.and_then(|text| serde_json::from_str::<NodeRecord>(&text).ok());
                let record = record.filter(|record| record.label == label);
                self.0.remember(label, record.clone());
                record
            }
            Err(error) => {
                tracing::debug!(label, %error, "the registry did not answer");
                self.0.stale(label)
            }
        }
    }

    /// The secret that all nodes of the prefix share: the configured one, else the one that the first of them
    /// left in Redis.
    pub async fn cluster_secret(&self, configured: Option<&str>) -> Result<Vec<u8>, RegistryError> {
        if let Some(secret) = configured {
            return Ok(secret.as_bytes().to_vec());
        }
        let key = self.0.prefix.secret_key();
        let mut bytes = [0; SECRET];
        getrandom::fill(&mut bytes).map_err(|error| RegistryError::Unavailable(error.to_string()))?;
        let fresh: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let redis = self.redis();
        let _: Option<String> = redis
            .set(&key, fresh, None, Some(SetOptions::NX), false)
            .await
            .map_err(|error| unavailable(&error))?;
        let kept: Option<String> = redis.get(&key).await.map_err(|error| unavailable(&error))?;
        let kept = kept.ok_or_else(|| RegistryError::Unavailable(format!("{key} is gone again")))?;
        from_hex(&kept).ok_or(RegistryError::BadSecret(key))
    }

    fn redis(&self) -> WithOptions<fred::clients::Client> {
        self.0.commands.redis().with_options(&Commands::at_once())
    }

    /// Runs a script over one key; a string where it gives one.
    async fn script(&self, script: &str, key: &str, args: &[&str]) -> Result<Option<String>, Error> {
        let command = CustomCommand::new_static("EVAL", ClusterHash::FirstKey, false);
        let words: Vec<String> =
            [script, "1", key].iter().chain(args).map(|word| (*word).to_owned()).collect();
        self.redis().custom(command, words).await
    }
}

impl Shared {
    /// Nothing in here panics half-way.
    fn remembered(&self) -> MutexGuard<'_, HashMap<Box<str>, Remembered>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known and fresh. A record that is due is left to others for another while: one asks for all.
    fn recall(&self, label: &str) -> Option<Option<NodeRecord>> {
        let now = Instant::now();
        let mut remembered = self.remembered();
        let known = remembered.get_mut(label)?;
        if now < known.until {
            return Some(known.record.clone());
        }
        if known.record.is_some() {
            known.until = now + KNOWN;
        }
        None
    }

    fn remember(&self, label: &str, record: Option<NodeRecord>) {
        let now = Instant::now();
        let mut remembered = self.remembered();
        if remembered.len() >= MAX_REMEMBERED && !remembered.contains_key(label) {
            // Labels that clients made up go first.
            remembered.retain(|_, known| known.record.is_some());
            if remembered.len() >= MAX_REMEMBERED {
                remembered.clear();
            }
        }
        let until = now + if record.is_some() { KNOWN } else { UNKNOWN };
        remembered.insert(label.into(), Remembered { record, until });
    }

    fn stale(&self, label: &str) -> Option<NodeRecord> {
        self.remembered().get(label).and_then(|known| known.record.clone())
    }
}

impl Announcement {
    /// The incarnation that took this node's label away, where one did: its sessions are found no longer, since
    /// others are sent to that one.
    pub fn conflict(&self) -> Option<NodeRecord> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).conflict.clone()
    }

    /// Takes the record back, so that others stop asking this node at once. Without it the record lasts for
    /// the rest of its time.
    pub async fn withdraw(self) {
        self.heartbeat.abort();
        if let Err(error) = self.registry.script(WITHDRAW, &self.key, &[&self.record]).await {
            tracing::debug!(key = self.key, %error, "the record of this node stays until its time is over");
        }
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        self.heartbeat.abort();
    }
}

/// Says again and again that a node is there.
struct Heartbeat {
    registry: Registry,
    label: String,
    key: String,
    record: String,
    ttl: Duration,
    /// The label was this node's once.
    taken: bool,
    standing: Arc<Mutex<Standing>>,
}

impl Heartbeat {
    async fn run(mut self) {
        loop {
            let pause = match self.beat().await {
                Ok(()) => self.ttl / 3,
                Err(error) => {
                    tracing::debug!(label = self.label, %error, "this node could not be announced");
                    RETRY.min(self.ttl / 3)
                }
            };
            sleep(pause).await;
        }
    }

    async fn beat(&mut self) -> Result<(), Error> {
        let ttl = i64::try_from(self.ttl.as_millis()).unwrap_or(i64::MAX);
        if !self.taken {
            let expires = Some(Expiration::PX(ttl));
            let record = self.record.as_str();
            self.registry.redis().set::<(), _, _>(&self.key, record, expires, None, false).await?;
            self.taken = true;
            return Ok(());
        }
        let other = self.registry.script(RENEW, &self.key, &[&self.record, &ttl.to_string()]).await?;
        // What is no record cannot have been written by a node; it still has the label.
        let other = other.map(|text| {
            serde_json::from_str(&text).unwrap_or_else(|_| NodeRecord {
                label: self.label.clone(),
                incarnation: "unknown".to_owned(),
                address: "unknown".to_owned(),
                version: "unknown".to_owned(),
            })
        });
        self.stand(other);
        Ok(())
    }

    fn stand(&self, conflict: Option<NodeRecord>) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if conflict == standing.conflict {
            return;
        }
        match &conflict {
            Some(other) => tracing::error!(
                label = self.label,
                incarnation = other.incarnation,
                address = other.address,
                "another node took this node's label: requests for sessions of this node go to that one; \
                 give them different names"
            ),
            None => tracing::info!(label = self.label, "this node has its label again"),
        }
        standing.conflict = conflict;
    }
}

fn is_label(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=MAX_LABEL).contains(&text.len()) && text.bytes().all(fits)
}

fn unavailable(error: &Error) -> RegistryError {
    RegistryError::Unavailable(error.to_string())
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if digits.len() != 2 * SECRET {
        return None;
    }
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    digits.chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}
