//! Fan-out as the hub does it: how many writes, on which shards, in which order.

use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use fanfare_edge::{Config, Timing};
use fanfare_protocol::Sid;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::harness::{Caller, Node, config};
use crate::{end, event};

/// A node of so many shards that writes nothing of its own accord.
fn quiet(shards: usize) -> Config {
    let never = Duration::from_secs(3600);
    let timing = Timing { ping_interval: never, ping_timeout: never, ..config().timing };
    Config { timing, shards: Some(shards), ..config() }
}

/// A Socket.IO client in the main namespace and in `room`, with its session id.
fn socketio_in(node: &Node, room: &str) -> (Caller, Sid) {
    let mut client = node.socketio();
    client.send("40");
    let answer = client.text();
    let sid = answer.strip_prefix(r#"40{"sid":""#).and_then(|rest| Sid::decode(rest.get(..Sid::LEN)?));
    client.send(&format!(r#"421["join","{room}"]"#));
    assert_eq!(client.text(), r#"431[{"ok":true}]"#);
    (client, sid.unwrap_or_else(|| panic!("no sid in {answer}")))
}

fn plain_in(node: &Node, room: &str) -> Caller {
    let mut client = node.plain();
    client.join(room);
    client
}

/// Members of `room`, every other one a Socket.IO client.
fn mixed(node: &Node, room: &str, count: usize) -> Vec<Caller> {
    let one = |at| if at % 2 == 0 { socketio_in(node, room).0 } else { plain_in(node, room) };
    (0..count).map(one).collect()
}

const DELIVERIES: &str = "fanfare_deliveries_total";
const WRITES: &str = "fanfare_socket_writes_total";

/// Waits until the turn in which the last of so many members joined has ended: what greeted them is
/// counted by then.
fn all_counted(node: &Node, members: usize) {
    node.settles(r#"fanfare_joins_total{result="ok"}"#, members as f64);
    node.settles("fanfare_outbox_frames", 0.0);
}

/// Publishes each batch when every member has all of the one before, and says how many deliveries and
/// how many writes that took.
fn spent(node: &Node, members: &mut [Caller], batches: usize, batch: usize) -> (f64, f64) {
    let now = || (node.metric(DELIVERIES), node.metric(WRITES));
    all_counted(node, members.len());
    let before = now();
    for at in 0..batches {
        node.publish((0..batch).map(|n| event("r", "n", at * batch + n)));
        for member in &mut *members {
            for n in 0..batch {
                let text = member.text();
                assert!(text.contains(&(at * batch + n).to_string()), "{text}");
            }
        }
    }
    let all = members.len() * batches * batch;
    node.settles(DELIVERIES, before.0 + all as f64);
    node.settles("fanfare_outbox_frames", 0.0);
    let after = now();
    (after.0 - before.0, after.1 - before.1)
}

#[test]
fn a_publication_alone_is_one_write_per_member() {
    let node = Node::start(quiet(3));
    let mut members = mixed(&node, "r", 60);
    assert_eq!(spent(&node, &mut members, 20, 1), (1_200.0, 1_200.0));
}

#[test]
fn eight_publications_handed_over_at_once_are_one_write_per_member() {
    for shards in [1, 3] {
        let node = Node::start(quiet(shards));
        let mut members = mixed(&node, "r", 60);
        assert_eq!(spent(&node, &mut members, 20, 8), (9_600.0, 1_200.0), "on {shards} shards");
    }
}

#[test]
fn a_room_lies_evenly_on_the_shards_and_each_delivers_its_part_once_and_in_order() {
    let node = Node::start(quiet(3));
    let (mut members, sids): (Vec<Caller>, Vec<Sid>) = (0..60).map(|_| socketio_in(&node, "r")).unzip();
    for shard in 0..3 {
        let share = sids.iter().filter(|sid| sid.shard == shard).count();
        assert!((19..=21).contains(&share), "{share} of 60 on shard {shard}");
    }
    for start in (0..400).step_by(8) {
        node.publish((start..start + 8).map(|n| event("r", "n", n)));
    }
    node.publish([end()]);
    let expected: Vec<String> = (0..400).map(|n| format!(r#"42["n",{n}]"#)).collect();
    for (member, sid) in members.iter_mut().zip(&sids) {
        let got = member.until("\"end\"");
        assert!(got == expected, "shard {}, slot {}: {} of 400", sid.shard, sid.slot, got.len());
    }
}

#[test]
fn a_small_room_does_not_wait_until_a_large_one_is_written() {
    const LARGE: usize = 600;
    const SMALL: usize = 9;
    let node = Node::start(quiet(1));
    let mut members: Vec<Caller> = (0..LARGE).map(|_| plain_in(&node, "large")).collect();
    members.extend((0..SMALL).map(|_| plain_in(&node, "small")));
    all_counted(&node, members.len());
    let mut arrivals = Arrivals::of(&members);
    for round in 0..5 {
        let before = node.metric(WRITES);
        node.publish([event("large", "n", round), event("small", "n", round)]);
        node.settles(WRITES, before + members.len() as f64);
        let order = arrivals.next(members.len());
        let last_small = order.iter().rposition(|member| *member >= LARGE).unwrap();
        // One of the large room for three of the small one. The kernel may let a few arrive early where it
        // moves the shard to another core between two writes.
        let waited_for = last_small + 1 - SMALL;
        assert!(waited_for <= 30, "round {round}: {waited_for} of {LARGE} came before the small room");
        for member in &mut members {
            assert!(member.text().contains(&format!(r#""data":{round}"#)));
        }
    }
}

/// In which order sockets became readable. The kernel queues them in the order of arrival while nobody
/// asks, so that asking late changes nothing.
struct Arrivals {
    poll: Poll,
    events: Events,
}

impl Arrivals {
    fn of(members: &[Caller]) -> Self {
        let poll = Poll::new().unwrap();
        for (at, member) in members.iter().enumerate() {
            let fd = member.socket.get_ref().as_raw_fd();
            poll.registry().register(&mut SourceFd(&fd), Token(at), Interest::READABLE).unwrap();
        }
        Self { poll, events: Events::with_capacity(2 * members.len()) }
    }

    /// The next `count` arrivals.
    fn next(&mut self, count: usize) -> Vec<usize> {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut order = Vec::new();
        while order.len() < count {
            self.poll.poll(&mut self.events, Some(Duration::from_secs(20))).unwrap();
            order.extend(self.events.iter().map(|event| event.token().0));
            assert!(Instant::now() < deadline, "{} of {count} arrived", order.len());
        }
        order
    }
}
