//! The registry of nodes, over a real Redis.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fanfare_redis::{Address, Commands, NodeRecord, Prefix, Registry, RegistryError};

use crate::driver::PATIENCE;
use crate::server::{Redis, free_port};

const TTL: Duration = Duration::from_millis(900);

fn registry(port: u16) -> Registry {
    let address = Address::parse(&format!("redis://127.0.0.1:{port}")).unwrap();
    Registry::new(Arc::new(Commands::connect(&address, "test")), Prefix::default())
}

fn record(label: &str, incarnation: &str) -> NodeRecord {
    NodeRecord {
        label: label.to_owned(),
        incarnation: incarnation.to_owned(),
        address: "10.0.0.1:3001".to_owned(),
        version: "0.1.0".to_owned(),
    }
}

/// Asks until the answer is as it should be.
async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is().await {
        assert!(Instant::now() < deadline, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_node_is_found_while_it_lives_and_gone_when_it_leaves() {
    // Redis comes later than the node.
    let port = free_port();
    let (here, there) = (registry(port), registry(port));
    let announced = here.announce(record("n1", "a"), TTL);
    assert_eq!(there.find("n1").await, None);
    let redis = Redis::start_at(port);
    until("finding", async || there.find("n1").await == Some(record("n1", "a"))).await;
    assert_eq!(there.find("n2").await, None);
    assert_eq!(there.find("no label: #").await, None);
    let mut left: i64 = redis.command(&["PTTL", "socket.io-node:n1"])[1..].parse().unwrap();
    assert!((1..=900).contains(&left), "{left}");
    // It is renewed before it ends.
    until("renewing", async || {
        let before =
            std::mem::replace(&mut left, redis.command(&["PTTL", "socket.io-node:n1"])[1..].parse().unwrap());
        left > before
    })
    .await;
    announced.withdraw().await;
    assert_eq!(redis.command(&["EXISTS", "socket.io-node:n1"]), ":0");
    until("forgetting", async || there.find("n1").await.is_none()).await;

    // One that is dropped without a word is forgotten when its time is over.
    let dropped = here.announce(record("n1", "b"), TTL);
    until("finding again", async || there.find("n1").await == Some(record("n1", "b"))).await;
    drop(dropped);
    until("forgetting the dead", async || there.find("n1").await.is_none()).await;
}

#[tokio::test]
async fn the_last_to_take_a_label_has_it_and_the_other_is_told() {
    let redis = Redis::start();
    let (one, two) = (registry(redis.port), registry(redis.port));
    let first = one.announce(record("n", "a"), TTL);
    until("the first", async || two.find("n").await == Some(record("n", "a"))).await;
    let second = two.announce(record("n", "b"), TTL);
    until("the conflict", async || first.conflict() == Some(record("n", "b"))).await;
    assert_eq!(second.conflict(), None);
    until("the second", async || one.find("n").await == Some(record("n", "b"))).await;
    second.withdraw().await;
    until("the end of the conflict", async || first.conflict().is_none()).await;
    until("the first again", async || one.find("n").await == Some(record("n", "a"))).await;
    // What it withdraws is its own.
    let third = two.announce(record("n", "c"), TTL);
    until("the third", async || first.conflict() == Some(record("n", "c"))).await;
    first.withdraw().await;
    assert_eq!(redis.command(&["EXISTS", "socket.io-node:n"]), ":1");
    drop(third);
}

#[tokio::test]
async fn while_redis_is_away_the_last_word_counts() {
    let redis = Redis::start();
    let registry = registry(redis.port);
    let announced = registry.announce(record("n", "a"), TTL);
    until("finding", async || registry.find("n").await.is_some()).await;
    let port = redis.kill();
    let gone = Instant::now();
    while gone.elapsed() < Duration::from_millis(1_100) {
        assert_eq!(registry.find("n").await, Some(record("n", "a")));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let redis = Redis::start_at(port);
    until("being there again", async || redis.command(&["EXISTS", "socket.io-node:n"]) == ":1").await;
    drop(announced);
}

#[tokio::test]
async fn the_secret_is_made_once_and_shared() {
    let redis = Redis::start();
    let (one, two) = (registry(redis.port), registry(redis.port));
    assert_eq!(one.cluster_secret(Some("configured")).await, Ok(b"configured".to_vec()));
    until("a link", async || one.cluster_secret(None).await.is_ok()).await;
    until("another link", async || two.cluster_secret(None).await.is_ok()).await;
    let (first, second) = (one.cluster_secret(None).await.unwrap(), two.cluster_secret(None).await.unwrap());
    assert_eq!((first.len(), &first), (32, &second));
    redis.command(&["SET", "socket.io-secret", "short"]);
    let refused = one.cluster_secret(None).await;
    assert_eq!(refused, Err(RegistryError::BadSecret("socket.io-secret".to_owned())));
}
