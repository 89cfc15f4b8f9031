//! Shards with nothing to do do nothing. A process of its own, since the time of its threads is measured.

#[path = "../edge/harness.rs"]
#[expect(dead_code, reason = "shared with the tests of the edge")]
mod harness;
#[path = "../edge/http.rs"]
#[expect(dead_code, reason = "shared with the tests of the edge")]
mod http;

use std::fs;
use std::time::Duration;

use harness::{Node, config};
use http::Polls;

#[test]
fn a_session_by_polling_that_was_paused_keeps_no_shard_busy() {
    let mut config = config();
    config.limits.pending_commands = 1_000;
    config.timing.ping_interval = Duration::from_secs(1);
    let node = Node::start(config);
    let mut polls = Polls::open(&node, "/socket.io/");
    polls.says("40");
    assert!(polls.get().body().starts_with("40{"));
    let joins: Vec<String> = (0..100).map(|n| format!(r#"42{n}["join","r{n}"]"#)).collect();
    polls.says(&joins.join("\x1e"));
    node.comes_to("fanfare_reading_paused_total", |paused| paused >= 1.0);
    assert_eq!(polls.packets(100).len(), 100);
    let before = shard_ticks();
    assert_eq!(polls.get().body(), "2");
    // A second at the most, of which a shard that never rests takes what the machine gives it.
    let taken = shard_ticks() - before;
    assert!(taken < 10, "{taken} hundredths of a second");
}

/// What all shards have run so far, in hundredths of a second.
fn shard_ticks() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let stats = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("stat")).ok());
    let times = stats.filter(|stat| stat.contains("(shard-")).map(|stat| {
        // Fields 14 and 15 of proc(5), counted behind the name.
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    });
    times.sum()
}
