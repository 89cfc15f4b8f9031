//! What happens to links: cut, restarted, frozen, forbidden.

use std::time::{Duration, Instant};

use fanfare_broker::{Link, PublishError};

use crate::driver::Seen;
use crate::pair::{connect, numbers, options, over_redis, to};
use crate::server::{Redis, free_port};

/// What of `seen` concerns the link.
fn link_events(seen: &[Seen]) -> Vec<String> {
    let name = |seen: &Seen| match seen {
        Seen::Up => Some("up".to_owned()),
        Seen::Lost(_) => Some("lost".to_owned()),
        Seen::Resubscribed(channels, _) => Some(format!("resubscribed {channels}")),
        _ => None,
    };
    seen.iter().filter_map(name).collect()
}

fn is_resubscribed(seen: &[Seen]) -> bool {
    matches!(seen.last(), Some(Seen::Resubscribed(..)))
}

#[test]
fn a_cut_link_comes_back_with_everything() {
    let mut pair = over_redis();
    for n in 0..100 {
        pair.driver.want_room(&format!("r{n}"), true);
    }
    pair.driver.until_active(100);
    pair.driver.forget();
    assert_eq!(pair.redis().command(&["CLIENT", "KILL", "TYPE", "pubsub"]), ":1");
    pair.driver.until("resubscribed", is_resubscribed);
    assert_eq!(link_events(&pair.driver.seen), ["lost", "up", "resubscribed 100"]);
    assert_eq!(pair.driver.seen.iter().filter(|seen| matches!(seen, Seen::Active(_))).count(), 100);
    pair.check_flow("r50");
}

#[test]
fn a_restarted_redis_is_found_again() {
    let mut pair = over_redis();
    pair.driver.want_room("a", true);
    pair.driver.until_active(1);
    pair.driver.forget();
    let port = pair.redis.take().unwrap().kill();
    pair.wait_link(|link| link != Link::Up);
    let begun = Instant::now();
    let results = pair.publish(vec![to("/", &["a"], 1), to("/", &["a"], 2)]);
    assert!(results.iter().all(|result| matches!(result, Err(PublishError::Unavailable(_)))), "{results:?}");
    assert!(begun.elapsed() < Duration::from_millis(500), "said at once");
    // Said while it is away, and only once, however often connecting fails.
    pair.driver.until("lost", |seen| link_events(seen) == ["lost"]);
    let down = Instant::now();
    pair.driver.until("attempts", |_| down.elapsed() > Duration::from_secs(1));
    assert_eq!(link_events(&pair.driver.seen), ["lost"]);

    pair.redis = Some(Redis::start_at(port));
    let begun = Instant::now();
    pair.driver.until("resubscribed", is_resubscribed);
    assert_eq!(link_events(&pair.driver.seen), ["lost", "up", "resubscribed 1"]);
    assert!(matches!(pair.driver.seen.last(), Some(Seen::Resubscribed(_, after)) if after.as_millis() > 900));
    pair.wait_link(|link| link == Link::Up);
    let after = begun.elapsed();
    println!("both links are back {after:?} after Redis answered");
    assert!(after < Duration::from_secs(2), "{after:?}");
    pair.check_flow("a");
}

#[test]
fn nodes_may_start_before_redis() {
    let port = free_port();
    let mut pair = connect(options(&format!("redis://127.0.0.1:{port}")), None);
    pair.driver.want_room("a", true);
    pair.driver.until("lost", |seen| link_events(seen) == ["lost"]);
    assert!(matches!(pair.broker.link(), Link::Down(_)));
    assert!(matches!(pair.publish(vec![to("/", &["a"], 1)])[..], [Err(PublishError::Unavailable(_))]));
    pair.redis = Some(Redis::start_at(port));
    pair.driver.until_active(1);
    pair.wait_link(|link| link == Link::Up);
    // There was nothing before, so that nothing was restored.
    assert_eq!(link_events(&pair.driver.seen), ["lost", "up"]);
    pair.check_flow("a");
}

#[test]
fn a_frozen_redis_is_noticed_and_survived() {
    let mut pair = over_redis();
    pair.driver.want_room("a", true);
    pair.driver.until_active(1);
    pair.driver.forget();
    pair.redis().signal("-STOP");
    let begun = Instant::now();
    let commands = pair.wait_link(|link| link != Link::Up);
    pair.driver.until("lost", |seen| seen.iter().any(|seen| matches!(seen, Seen::Lost(_))));
    let feed = begun.elapsed();
    println!("frozen: the command link noticed after {commands:?}, the feed at the latest after {feed:?}");
    assert!(commands.max(feed) < Duration::from_secs(5));
    // Long enough for several attempts to connect, all of which TCP accepts.
    pair.driver.until("attempts", |_| begun.elapsed() > Duration::from_secs(8));
    pair.redis().signal("-CONT");
    let begun = Instant::now();
    pair.driver.until("resubscribed", is_resubscribed);
    pair.wait_link(|link| link == Link::Up);
    println!("thawed: both links are back after {:?}", begun.elapsed());
    pair.check_flow("a");
    // It stays up: nothing queued during the freeze tears it down again.
    pair.driver.forget();
    let begun = Instant::now();
    pair.driver.until("quiet", |_| begun.elapsed() > Duration::from_secs(3));
    assert_eq!(link_events(&pair.driver.seen), Vec::<String>::new());
    assert_eq!(pair.broker.link(), Link::Up);
}

#[test]
fn one_forbidden_channel_fails_alone() {
    let redis = Redis::start();
    let allowed = "&socket.io#/#ok*";
    redis.command(&["ACL", "SETUSER", "edge", "on", ">pw", "+@all", "~*", "resetchannels", allowed]);
    let url = format!("redis://edge:pw@127.0.0.1:{}", redis.port);
    let mut pair = connect(options(&url), Some(redis));
    pair.wait_up();
    for n in 0..1_500 {
        pair.driver.want_room(&format!("ok{n}"), true);
    }
    pair.driver.want_room("bad", true);
    pair.driver.until_active(1_500);
    pair.driver.until_seen(&Seen::Refused("/ bad".into()));
    assert_eq!(link_events(&pair.driver.seen), ["up"]);

    let batch =
        vec![to("/", &["ok1"], 1), to("/", &["bad"], 2), to("/", &["ok2"], 3), to("/", &["a", "b"], 4)];
    let results = pair.publish(batch);
    assert!(matches!(
        results[..],
        [Ok(()), Err(PublishError::Refused(_)), Ok(()), Err(PublishError::Refused(_))]
    ));
    assert_eq!(numbers(&pair.driver.receive(2)), [1, 3]);

    // Asked for again by itself, while it is wanted: rules can change.
    pair.redis().command(&["ACL", "SETUSER", "edge", "allchannels"]);
    pair.driver.until_seen(&Seen::Active("/ bad".into()));
    pair.check_flow("bad");
}

#[test]
fn a_wrong_password_is_said() {
    let redis = Redis::start();
    let url = format!("redis://:wrong@127.0.0.1:{}", redis.port);
    redis.command(&["CONFIG", "SET", "requirepass", "right"]);
    let mut pair = connect(options(&url), Some(redis));
    pair.driver.until("lost", |seen| !seen.is_empty());
    assert!(matches!(&pair.driver.seen[..], [Seen::Lost(reason)] if reason.contains("WRONGPASS")));
    assert!(matches!(pair.broker.link(), Link::Down(_)));
}

#[test]
fn too_large_a_publication_is_refused_alone() {
    let mut pair = over_redis();
    let mut large = to("/", &["a"], 1);
    large.data = fanfare_protocol::msgpack::event(
        "n",
        &[&[b"\xc6\x00\x20\x00\x00".to_vec(), vec![0; 2 << 20]].concat()],
    )
    .into();
    let results = pair.publish(vec![to("/", &["a"], 1), large, to("/a#b", &["a"], 1), to("/", &["a"], 2)]);
    let refused = |result: &Result<(), PublishError>| matches!(result, Err(PublishError::Refused(_)));
    assert_eq!(results.iter().map(refused).collect::<Vec<_>>(), [false, true, true, false]);
    pair.check_flow("a");
}

#[test]
fn fifty_thousand_channels_come_back() {
    const COUNT: usize = 50_000;
    let mut pair = over_redis();
    let begun = Instant::now();
    for n in 0..COUNT {
        pair.driver.want_room(&format!("room-{n}"), true);
    }
    let mut active = 0;
    let mut at = 0;
    pair.driver.until("all active", |seen| {
        active += seen[at..].iter().filter(|seen| matches!(seen, Seen::Active(_))).count();
        at = seen.len();
        active == COUNT
    });
    println!("{COUNT} channels subscribed in {:?}", begun.elapsed());
    pair.driver.forget();
    pair.redis().command(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    pair.driver.until("resubscribed", is_resubscribed);
    let Some(Seen::Resubscribed(COUNT, after)) = pair.driver.seen.last() else { panic!() };
    println!("{COUNT} channels resubscribed {after:?} after the link was lost");
    for n in 0..COUNT {
        pair.driver.want_room(&format!("room-{n}"), false);
    }
    pair.check_flow("last");
    let deadline = Instant::now() + crate::driver::PATIENCE;
    // One line for each channel; an array's head counts them.
    while pair.redis().command(&["PUBSUB", "CHANNELS"]) != "*1" {
        assert!(Instant::now() < deadline, "channels stay subscribed");
        pair.driver.step(Duration::from_millis(10));
    }
}
