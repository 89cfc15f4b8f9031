//! What the hub does per member: who is in which room, outboxes, marking a room and writing to it.

use std::cell::RefCell;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use fanfare_edge::internals::{LoneShard, Outbox, Rooms};
use fanfare_edge::rules::Rules;
use fanfare_edge::{Config, Timing};
use fanfare_protocol::publication::from_json;
use fanfare_protocol::{Frame, Publication};

fn main() {
    divan::main();
}

/// One member joins a room and leaves it again, by name; so many are in it then.
#[divan::bench(args = [1, 10, 1_000, 10_000], sample_size = 100, sample_count = 1_000)]
fn join_and_leave_a_room_of(bencher: Bencher<'_, '_>, members: u32) {
    let mut rooms = Rooms::new(members as usize);
    for slot in 1..members {
        rooms.join(slot, "room");
    }
    bencher.bench_local(|| {
        rooms.join(0, "room");
        rooms.leave(0, "room");
    });
}

/// The same by a member of 49 other rooms.
#[divan::bench(sample_size = 100, sample_count = 1_000)]
fn join_and_leave_the_fiftieth_room(bencher: Bencher<'_, '_>) {
    let mut rooms = Rooms::new(10);
    for slot in 0..10 {
        for room in 0..49 {
            rooms.join(slot, &format!("room-{room}"));
        }
    }
    for slot in 1..10 {
        rooms.join(slot, "room");
    }
    bencher.bench_local(|| {
        rooms.join(0, "room");
        rooms.leave(0, "room");
    });
}

/// Frames that one write finds.
const FRAMES: [usize; 3] = [1, 8, 32];

fn frame() -> Frame {
    Frame::from_wire(vec![b'x'; 130])
}

/// What the outbox itself takes: the socket takes everything and does nothing.
#[divan::bench(args = FRAMES, sample_size = 100, sample_count = 1_000)]
fn outbox_to_a_sink(bencher: Bencher<'_, '_>, frames: usize) {
    let (frame, mut outbox) = (frame(), Outbox::default());
    bencher.counter(ItemsCount::new(frames)).bench_local(|| {
        for _ in 0..frames {
            outbox.push(frame.clone());
        }
        assert!(outbox.flush(&mut std::io::sink()).unwrap());
    });
}

/// One socket whose other end is read between two measurements. It is warm in the caches, as one of a
/// thousand is not: see `a_room` for those.
#[divan::bench(args = FRAMES, sample_size = 1, sample_count = 5_000)]
fn outbox_to_a_socket(bencher: Bencher<'_, '_>, frames: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    peer.set_nonblocking(true).unwrap();
    let (mut socket, _) = listener.accept().unwrap();
    socket.set_nodelay(true).unwrap();
    let (frame, mut outbox, mut buffer) = (frame(), Outbox::default(), vec![0; 64 << 10]);
    bencher
        .counter(ItemsCount::new(frames))
        // Nothing is there before the first write.
        .with_inputs(|| while peer.read(&mut buffer).is_ok() {})
        .bench_local_values(|()| {
            for _ in 0..frames {
                outbox.push(frame.clone());
            }
            assert!(outbox.flush(&mut socket).unwrap());
        });
}

const MEMBERS: [usize; 3] = [1, 10, 1_000];

fn publication() -> Publication<'static> {
    let text = "word ".repeat(12);
    let json = format!(r#"{{"room":"room","event":"news","data":{{"id":123456,"text":"{text}"}}}}"#);
    from_json(json.as_bytes()).unwrap()
}

/// From a publication to every member's outbox, half of them Socket.IO and half plain; nothing is written.
#[divan::bench(args = MEMBERS, sample_size = 1, sample_count = 2_000)]
fn mark_a_room_of(bencher: Bencher<'_, '_>, members: usize) {
    let shard = RefCell::new(LoneShard::with_room(config(), "room", members).unwrap());
    let publication = publication();
    bencher
        .counter(ItemsCount::new(members))
        .with_inputs(|| shard.borrow_mut().forget())
        .bench_local_values(|()| shard.borrow_mut().mark(&publication));
}

/// From so many publications at once to every member's socket. Items are deliveries.
#[divan::bench(args = [1, 8], sample_size = 1, sample_count = 200)]
fn mark_and_write_a_room_of_1000(bencher: Bencher<'_, '_>, publications: usize) {
    let shard = RefCell::new(LoneShard::with_room(config(), "room", 1_000).unwrap());
    let publication = publication();
    bencher
        .counter(ItemsCount::new(1_000 * publications))
        .with_inputs(|| shard.borrow_mut().read().unwrap())
        .bench_local_values(|_| {
            let mut shard = shard.borrow_mut();
            for _ in 0..publications {
                shard.mark(&publication);
            }
            shard.write();
        });
}

fn config() -> Config {
    let never = Duration::from_secs(3600);
    Config {
        rules: Rules::open(),
        timing: Timing {
            ping_interval: never,
            ping_timeout: never,
            connect_timeout: never,
            ..Timing::default()
        },
        shards: Some(1),
        ..Config::default()
    }
}
