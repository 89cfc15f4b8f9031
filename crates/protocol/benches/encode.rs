//! What it costs to make a publication's frame: once per publication and kind of client on a node,
//! however many members it goes to.

use divan::{Bencher, black_box};
use fanfare_protocol::publication::from_json;
use fanfare_protocol::{Encoding, Publication, msgpack};

fn main() {
    divan::main();
}

/// Events by how large their data is.
const EVENTS: [&str; 3] = ["128 bytes", "4 KiB", "1 KiB attached"];

fn publication(event: &str) -> Publication<'static> {
    match event {
        "128 bytes" => with_text(64),
        "4 KiB" => with_text(4 << 10),
        _ => {
            let mut attachment = Vec::new();
            msgpack::write_bin(&[7; 1024], &mut attachment);
            let data = msgpack::event("news", &[&attachment]).into();
            Publication { data, ..with_text(0) }
        }
    }
}

/// An object of some fields, as applications send them.
fn with_text(len: usize) -> Publication<'static> {
    let text = "word ".repeat(len / 5);
    let data = format!(r#"{{"id":123456,"user":"ada","at":1760000000.5,"text":"{text}"}}"#);
    from_json(format!(r#"{{"room":"room-17","event":"news","data":{data}}}"#).as_bytes()).unwrap()
}

#[divan::bench(args = EVENTS, sample_size = 100, sample_count = 1_000)]
fn socketio_text(bencher: Bencher<'_, '_>, event: &str) {
    encode(bencher, Encoding::SocketIoText, event);
}

#[divan::bench(args = EVENTS, sample_size = 100, sample_count = 1_000)]
fn socketio_msgpack(bencher: Bencher<'_, '_>, event: &str) {
    encode(bencher, Encoding::SocketIoMsgpack, event);
}

#[divan::bench(args = EVENTS, sample_size = 100, sample_count = 1_000)]
fn plain_json(bencher: Bencher<'_, '_>, event: &str) {
    encode(bencher, Encoding::PlainJson, event);
}

fn encode(bencher: Bencher<'_, '_>, encoding: Encoding, event: &str) {
    let publication = publication(event);
    bencher.bench(|| encoding.encode(black_box(&publication), Some("room-17")).unwrap());
}
