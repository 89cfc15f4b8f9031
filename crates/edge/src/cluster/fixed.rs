//! A directory that is written down, for clusters that do not change.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::{Directory, DirectoryFuture, Peer, Secret};

/// Nodes by their labels, each added by hand.
#[derive(Debug)]
pub struct FixedDirectory {
    secret: Secret,
    peers: Mutex<HashMap<String, Peer>>,
}

impl FixedDirectory {
    /// A directory without nodes.
    pub fn new(secret: Secret) -> Self {
        Self { secret, peers: Mutex::default() }
    }

    /// Says where a node is, from now on.
    pub fn add(&self, label: &str, address: impl Into<String>) {
        let peer = Peer { address: address.into() };
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).insert(label.to_owned(), peer);
    }
}

impl Directory for FixedDirectory {
    fn find<'a>(&'a self, label: &'a str) -> DirectoryFuture<'a, Option<Peer>> {
        let peer = self.peers.lock().unwrap_or_else(PoisonError::into_inner).get(label).cloned();
        Box::pin(async { peer })
    }

    fn secret(&self) -> Option<Secret> {
        Some(self.secret.clone())
    }

    fn announced(&self) -> bool {
        true
    }
}
