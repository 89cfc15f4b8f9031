//! What a publication costs on its way in: reading its envelope, and a whole turn of the feed.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use fanfare_broker::envelope::{MAX_ENVELOPE, Uid, decode, encode};
use fanfare_broker::redis::{RedisFeed, RedisOptions, connect};
use fanfare_broker::{Delivery, Feed};
use fanfare_protocol::Publication;
use fanfare_protocol::msgpack::{write_array_len, write_map_len, write_str, write_uint};
use fanfare_protocol::publication::from_json;
use fanfare_redis::Address;

fn main() {
    divan::main();
}

const JSON: &str = r#"{"room":"room-17","event":"news","data":{"id":123456,"user":"ada","at":1760000000.5,"text":"some words, some more words and in the end enough of them"}}"#;

fn publication() -> Publication<'static> {
    from_json(JSON.as_bytes()).unwrap()
}

/// As `@socket.io/redis-emitter` 5 writes it: fanfare's own but for the map behind it.
fn emitted() -> Vec<u8> {
    let publication = publication();
    let mut out = Vec::new();
    write_array_len(3, &mut out);
    write_str("emitter", &mut out);
    write_map_len(3, &mut out);
    write_str("type", &mut out);
    write_uint(2, &mut out);
    write_str("data", &mut out);
    out.extend_from_slice(&publication.data);
    write_str("nsp", &mut out);
    write_str("/", &mut out);
    write_map_len(3, &mut out);
    write_str("rooms", &mut out);
    write_array_len(1, &mut out);
    write_str("room-17", &mut out);
    write_str("flags", &mut out);
    write_map_len(0, &mut out);
    write_str("except", &mut out);
    write_array_len(0, &mut out);
    out
}

fn own() -> Vec<u8> {
    encode(&publication(), Uid::random(), 1_760_000_000_000_000)
}

#[divan::bench(sample_size = 100, sample_count = 1_000)]
fn decode_emitted(bencher: Bencher<'_, '_>) {
    let envelope = emitted();
    bencher.bench(|| decode(black_box(&envelope), "/", MAX_ENVELOPE).map(drop).unwrap());
}

#[divan::bench(sample_size = 100, sample_count = 1_000)]
fn decode_own(bencher: Bencher<'_, '_>) {
    let envelope = own();
    bencher.bench(|| decode(black_box(&envelope), "/", MAX_ENVELOPE).map(drop).unwrap());
}

#[divan::bench(sample_size = 100, sample_count = 1_000)]
fn decode_json(bencher: Bencher<'_, '_>) {
    bencher.bench(|| from_json(black_box(JSON.as_bytes())).unwrap());
}

#[divan::bench(sample_size = 100, sample_count = 1_000)]
fn encode_own(bencher: Bencher<'_, '_>) {
    let publication = publication();
    bencher.bench(|| encode(black_box(&publication), Uid::random(), 1_760_000_000_000_000));
}

/// Pushes that one read finds.
const BATCHES: [usize; 3] = [1, 8, 128];

#[divan::bench(args = BATCHES, sample_size = 1, sample_count = 5_000)]
fn turn_emitted(bencher: Bencher<'_, '_>, pushes: usize) {
    turn(bencher, "socket.io#/#room-17#", &emitted(), pushes);
}

#[divan::bench(args = BATCHES, sample_size = 1, sample_count = 5_000)]
fn turn_own(bencher: Bencher<'_, '_>, pushes: usize) {
    turn(bencher, "socket.io#/#room-17#", &own(), pushes);
}

#[divan::bench(args = BATCHES, sample_size = 1, sample_count = 5_000)]
fn turn_json(bencher: Bencher<'_, '_>, pushes: usize) {
    turn(bencher, "socket.io-publish", JSON.as_bytes(), pushes);
}

/// A node's work for `pushes` that lie in the socket: `read`, RESP, channel, envelope, hand-over.
fn turn(bencher: Bencher<'_, '_>, channel: &str, payload: &[u8], pushes: usize) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _inside = runtime.enter();
    let (mut feed, mut redis) = linked();
    let head = format!(">3\r\n$7\r\nmessage\r\n${}\r\n{channel}\r\n${}\r\n", channel.len(), payload.len());
    let batch = [head.as_bytes(), payload, b"\r\n"].concat().repeat(pushes);
    bencher
        .counter(ItemsCount::new(pushes))
        .with_inputs(|| redis.write_all(&batch).unwrap())
        .bench_local_values(|()| {
            let mut seen = 0;
            while seen < pushes {
                feed.turn(Instant::now(), 512, &mut |delivery| {
                    seen += usize::from(matches!(delivery, Delivery::Publication { .. }));
                    black_box(&delivery);
                });
            }
        });
}

/// A feed that is up, and Redis's end of its link.
fn linked() -> (RedisFeed, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::parse(&format!("redis://{}", listener.local_addr().unwrap())).unwrap();
    let mut options = RedisOptions::new(address, "bench");
    options.ping_every = Duration::from_secs(3600);
    let (_, mut feed) = connect(options);
    feed.start(Arc::new(|| {}));
    let mut turn = |up: &mut bool| {
        feed.turn(Instant::now(), 512, &mut |delivery| *up |= matches!(delivery, Delivery::Up));
    };
    turn(&mut false);
    let mut redis = loop {
        // The link for publishing comes to the same address, and is left without an answer.
        let (mut stream, _) = listener.accept().unwrap();
        turn(&mut false);
        if greeting(&mut stream, &mut turn).contains("bench-feed") {
            break stream;
        }
    };
    redis.write_all(b"%1\r\n$6\r\nserver\r\n$5\r\nredis\r\n+PONG\r\n").unwrap();
    let mut up = false;
    while !up {
        turn(&mut up);
    }
    (feed, redis)
}

/// What is said first on a link.
fn greeting(stream: &mut TcpStream, turn: &mut impl FnMut(&mut bool)) -> String {
    stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    let mut bytes = [0; 4096];
    loop {
        if let Ok(len) = stream.read(&mut bytes) {
            return String::from_utf8_lossy(&bytes[..len]).into_owned();
        }
        turn(&mut false);
    }
}
