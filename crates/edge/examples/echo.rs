//! An edge that sends everything back, for conformance suites: Engine.IO at `/engine.io/`, bare WebSocket at
//! `/echo`, through the same codec, transports, outboxes and shards as the real one.
//!
//! ```text
//! cargo run -p fanfare-edge --example echo -- listen=127.0.0.1:3000 ping_interval_ms=300 ping_timeout_ms=200
//! ```
//!
//! Arguments, each with its default: `listen=127.0.0.1:3000`, `ping_interval_ms=25000`, `ping_timeout_ms=20000`,
//! `max_payload=1000000` (bytes), `shards=1`.

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use fanfare_broker::memory;
use fanfare_edge::{Config, Edge, Origins};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut given: HashMap<String, String> = HashMap::new();
    for argument in std::env::args().skip(1) {
        let (key, value) = argument.split_once('=').ok_or("arguments are key=value")?;
        given.insert(key.to_owned(), value.to_owned());
    }
    let mut take = |key: &str, fallback: &str| given.remove(key).unwrap_or_else(|| fallback.to_owned());
    let mut config = Config {
        listen: take("listen", "127.0.0.1:3000").parse()?,
        origins: Origins::Any,
        socketio_path: "/engine.io/".to_owned(),
        plain_path: "/echo".to_owned(),
        echo: true,
        shards: Some(take("shards", "1").parse()?),
        ..Config::default()
    };
    config.timing.ping_interval = Duration::from_millis(take("ping_interval_ms", "25000").parse()?);
    config.timing.ping_timeout = Duration::from_millis(take("ping_timeout_ms", "20000").parse()?);
    config.limits.max_payload = take("max_payload", "1000000").parse()?;
    if let Some(key) = given.keys().next() {
        return Err(format!("no such argument: {key}").into());
    }
    let (broker, feed) = memory::new();
    let edge = Edge::start(config, broker, Box::new(feed), None).await?;
    println!("echoing at {}, metrics at {}", edge.listen(), edge.private());
    edge.failed().await;
    Err("a shard failed".into())
}
