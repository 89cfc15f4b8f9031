//! The contract, once for each broker.

use fanfare_broker::{Channel, PublishError};
use fanfare_protocol::Publication;

use crate::driver::Seen;
use crate::pair::{Pair, in_memory, numbers, over_redis, to};

macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        mod memory {
            $(#[test] fn $name() { super::$name(super::in_memory()); })*
        }
        mod redis {
            $(#[test] fn $name() { super::$name(super::over_redis()); })*
        }
    };
}

contract!(
    publications_arrive_in_order,
    what_is_not_wanted_does_not_arrive,
    the_last_word_counts,
    the_namespace_has_its_channel,
    everything_in_a_publication_survives,
    a_burst_arrives_whole,
);

fn publications_arrive_in_order(mut pair: Pair) {
    pair.driver.want_room("a", true);
    pair.driver.want_room("b", true);
    pair.driver.until_active(2);
    let batch: Vec<_> = (0..200).map(|n| to("/", &[if n % 3 == 0 { "a" } else { "b" }], n)).collect();
    assert_eq!(pair.publish(batch), vec![Ok(()); 200]);
    let received = pair.driver.receive(200);
    assert_eq!(numbers(&received), (0..200).collect::<Vec<_>>());
    assert!(received.iter().all(|one| one.channel == format!("/ {}", one.rooms[0])));
    assert_eq!(pair.publish(Vec::new()), []);
}

fn what_is_not_wanted_does_not_arrive(mut pair: Pair) {
    pair.driver.want_room("a", true);
    pair.driver.until_active(1);
    pair.publish(vec![to("/", &["b"], 1), to("/n", &["a"], 2), to("/", &[], 3), to("/", &["a"], 4)]);
    assert_eq!(numbers(&pair.driver.receive(1)), [4]);

    pair.driver.forget();
    pair.driver.want_room("a", false);
    pair.driver.want_room("b", true);
    pair.driver.until_seen(&Seen::Active("/ b".into()));
    // Active came behind the end of the other subscription, or soon will have.
    for round in 1.. {
        assert!(round < 100, "an unwanted room still arrives");
        pair.driver.forget();
        pair.publish(vec![to("/", &["a"], 5), to("/", &["b"], 6)]);
        pair.driver
            .until("b", |seen| seen.iter().any(|s| matches!(s, Seen::Publication(p) if p.channel == "/ b")));
        if numbers(&pair.driver.publications()) == [6] {
            break;
        }
    }
}

fn the_last_word_counts(mut pair: Pair) {
    for wanted in [true, false, true] {
        pair.driver.want_room("a", wanted);
    }
    pair.driver.until_seen(&Seen::Active("/ a".into()));
    // Flipped while commands are under way, in every phase.
    for turns in 0..6 {
        pair.driver.want_room("a", false);
        for _ in 0..turns {
            pair.driver.step(std::time::Duration::from_millis(2));
        }
        pair.driver.forget();
        pair.driver.want_room("a", true);
        pair.driver.until_seen(&Seen::Active("/ a".into()));
        pair.publish(vec![to("/", &["a"], turns)]);
        assert_eq!(numbers(&pair.driver.receive(1)), [turns]);
    }
    // What is active and wanted again is answered again, and delivered once.
    pair.driver.forget();
    pair.driver.want_room("a", true);
    pair.driver.until_active(1);
    pair.publish(vec![to("/", &["a"], 1), to("/", &["a"], 2)]);
    assert_eq!(numbers(&pair.driver.receive(2)), [1, 2]);
}

fn the_namespace_has_its_channel(mut pair: Pair) {
    pair.driver.want(Channel::Namespace("/n"), true);
    pair.driver.want(Channel::Publish, true);
    pair.driver.until_active(2);
    pair.publish(vec![to("/n", &["x"], 1), to("/n", &[], 2), to("/", &[], 3), to("/n", &["x", "y"], 4)]);
    let received = pair.driver.receive(2);
    assert_eq!(numbers(&received), [2, 4]);
    assert!(received.iter().all(|one| one.channel == "/n"));
    assert_eq!(received[1].rooms, ["x", "y"]);
    pair.driver.want(Channel::Namespace("/n"), false);
    pair.check_flow("other");
}

fn everything_in_a_publication_survives(mut pair: Pair) {
    let room = "a#*[?]# ü";
    pair.driver.want_room(room, true);
    pair.driver.until_active(1);
    let sent = Publication {
        except: ["x", "y"].into_iter().map(Into::into).collect(),
        volatile: true,
        ..to("/", &[room], 70_000)
    };
    assert_eq!(pair.publish(vec![sent.clone()]), [Ok(())]);
    let received = pair.driver.receive(1).remove(0);
    assert_eq!(received.channel, format!("/ {room}"));
    assert_eq!(
        (received.rooms, received.except),
        (vec![room.to_owned()], vec!["x".to_owned(), "y".to_owned()])
    );
    assert!(received.volatile);
    assert_eq!(received.data, &sent.data[..]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros();
    let age = now - u128::from(received.sent_at.unwrap());
    assert!(age < 30_000_000, "sent {age} µs ago");
}

fn a_burst_arrives_whole(mut pair: Pair) {
    const COUNT: u64 = 50_000;
    pair.driver.want_room("a", true);
    pair.driver.until_active(1);
    for first in (0..COUNT).step_by(1_000) {
        let results = pair.publish((first..first + 1_000).map(|n| to("/", &["a"], n)).collect());
        assert!(results.iter().all(Result::is_ok));
    }
    let received = pair.driver.receive(COUNT as usize);
    assert_eq!(numbers(&received), (0..COUNT).collect::<Vec<_>>());
}

/// Only the queue of the memory broker fills without a link that is slow.
#[test]
fn a_full_queue_is_said_and_empties() {
    let mut pair = in_memory();
    pair.driver.want_room("a", true);
    pair.driver.until_active(1);
    let large = |n: u64| {
        let blob = [b"\xc6\x00\x10\x00\x00".to_vec(), vec![0; 1 << 20]].concat();
        let number = fanfare_protocol::msgpack::event("n", &[&[n as u8], &blob]);
        Publication { data: number.into(), ..to("/", &["a"], n) }
    };
    let results = pair.publish((0..70).map(large).collect());
    let taken = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(taken, 63, "64 MiB hold 63 publications of slightly more than one");
    assert_eq!(results[69], Err(PublishError::QueueFull));
    // Nobody wants these, so that they take no place.
    assert_eq!(pair.publish(vec![to("/", &["b"], 1)]), [Ok(())]);
    assert_eq!(numbers(&pair.driver.receive(63)), (0..63).collect::<Vec<_>>());
    assert_eq!(pair.publish((0..63).map(large).collect()), vec![Ok(()); 63]);
}
