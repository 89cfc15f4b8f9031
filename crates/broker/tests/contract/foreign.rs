//! What others write to the bus: anything.

use std::time::Instant;

use fanfare_broker::{Channel, Malformed};

use crate::driver::Seen;
use crate::pair::{numbers, over_redis};

const ROOM: &str = "socket.io#/#a#";

/// `emitter` to room `a`, one number up to 2^16.
fn envelope(n: u64) -> Vec<u8> {
    let mut bytes = b"\x93\xa7emitter\x83\xa4type\x02\xa4data\x92\xa1n\xcd".to_vec();
    bytes.extend_from_slice(&u16::try_from(n).unwrap().to_be_bytes());
    bytes.extend_from_slice(b"\xa3nsp\xa1/\x83\xa5rooms\x91\xa1a\xa5flags\x80\xa6except\x90");
    bytes
}

#[test]
fn a_pipelining_publisher_loses_nothing() {
    const COUNT: u64 = 50_000;
    let mut pair = over_redis();
    pair.driver.want_room("a", true);
    pair.driver.until_active(1);
    let mut raw = pair.redis().raw();
    let publisher = std::thread::spawn(move || {
        let envelopes: Vec<_> = (0..COUNT).map(envelope).collect();
        for chunk in envelopes.chunks(5_000) {
            raw.send(&chunk.iter().map(|e| vec![&b"PUBLISH"[..], ROOM.as_bytes(), e]).collect::<Vec<_>>());
        }
        assert!(raw.answers(COUNT as usize).iter().all(|answer| answer == ":1"));
    });
    let begun = Instant::now();
    let received = pair.driver.receive(COUNT as usize);
    println!("{COUNT} pushes in {:?}", begun.elapsed());
    publisher.join().unwrap();
    assert_eq!(numbers(&received), (0..COUNT).collect::<Vec<_>>());
}

#[test]
fn garbage_is_named_and_the_next_publication_arrives() {
    let mut pair = over_redis();
    pair.driver.want_room("a", true);
    pair.driver.want(Channel::Publish, true);
    pair.driver.until_active(2);
    let deep =
        |levels: usize| [b"\x93\xc0\x82\xa4type\x02\xa4data\x92\xa1n".to_vec(), vec![0x91; levels]].concat();
    let deep_json = format!("{{\"event\":\"e\",\"data\":{}0{}}}", "[".repeat(600), "]".repeat(600));
    let wrong_namespace = b"\x93\xc0\x83\xa4type\x02\xa4data\x91\xa1n\xa3nsp\xa2/x\x80".to_vec();
    let large = vec![0x91; (1 << 20) + 1];
    let cases: Vec<(&str, Vec<u8>, Malformed)> = vec![
        (ROOM, Vec::new(), Malformed::Shape),
        (ROOM, (0..=255).collect(), Malformed::Shape),
        (ROOM, b"[\"emitter\",{}]".to_vec(), Malformed::Shape),
        (ROOM, b"\r\n$3\r\n>3\r\n".to_vec(), Malformed::Shape),
        (ROOM, envelope(1)[1..].to_vec(), Malformed::Shape),
        (ROOM, [envelope(1), vec![0]].concat(), Malformed::Shape),
        (ROOM, deep(600), Malformed::TooDeep),
        (ROOM, deep(100_000), Malformed::TooDeep),
        (ROOM, wrong_namespace, Malformed::WrongNamespace),
        (ROOM, large.clone(), Malformed::TooLarge),
        (ROOM, vec![0xc1; 5 << 20], Malformed::TooLarge),
        ("socket.io-publish", b"{\"room\":\"a\"}".to_vec(), Malformed::Shape),
        ("socket.io-publish", b"\xff".to_vec(), Malformed::Shape),
        ("socket.io-publish", deep_json.into_bytes(), Malformed::TooDeep),
        ("socket.io-publish", large, Malformed::TooLarge),
    ];
    let mut raw = pair.redis().raw();
    for (at, (channel, payload, reason)) in cases.iter().enumerate() {
        pair.driver.forget();
        let good = envelope(at as u64 + 1);
        raw.send(&[vec![b"PUBLISH", channel.as_bytes(), payload], vec![b"PUBLISH", ROOM.as_bytes(), &good]]);
        let received = pair.driver.receive(1);
        assert_eq!(numbers(&received), [at as u64 + 1]);
        let name = if *channel == ROOM { "/ a" } else { "publish" };
        assert_eq!(pair.driver.seen[0], Seen::Malformed(name.into(), *reason), "case {at}");
        assert_eq!(pair.driver.seen.len(), 2, "case {at}");
    }
}

#[test]
fn plain_json_reaches_every_node() {
    let mut pair = over_redis();
    pair.driver.want(Channel::Publish, true);
    pair.driver.until_active(1);
    let json = r#"{"namespace":"/n","room":"r1","event":"n","data":5}"#;
    assert_eq!(pair.redis().command(&["PUBLISH", "socket.io-publish", json]), ":1");
    let received = pair.driver.receive(1);
    assert_eq!(numbers(&received), [5]);
    assert_eq!((&*received[0].channel, &received[0].rooms[..]), ("publish", &["r1".to_owned()][..]));
}

#[test]
fn a_large_publication_passes_through_the_small_buffer() {
    let mut pair = over_redis();
    pair.driver.want_room("a", true);
    pair.driver.until_active(1);
    let blob = vec![0x61; 900 << 10];
    let mut envelope = b"\x93\xc0\x82\xa4type\x02\xa4data\x92\xa1n\xc6".to_vec();
    envelope.extend_from_slice(&u32::try_from(blob.len()).unwrap().to_be_bytes());
    envelope.extend_from_slice(&blob);
    envelope.extend_from_slice(b"\x81\xa5rooms\x91\xa1a");
    let mut raw = pair.redis().raw();
    raw.send(&vec![vec![&b"PUBLISH"[..], ROOM.as_bytes(), &envelope]; 5]);
    let received = pair.driver.receive(5);
    assert!(received.iter().all(|one| one.data.ends_with(&blob)));
}
