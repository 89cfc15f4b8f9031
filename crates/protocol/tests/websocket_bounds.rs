//! What a connection's decoder costs: nothing while idle, never more than what came, and linear time.

mod websocket;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use fanfare_protocol::Disconnect;
use fanfare_protocol::websocket::{Decoder, Incoming, MAX_FRAGMENTS};
use websocket::{Seen, decode, frame};

/// Counts what a thread asks of the allocator.
struct Counting;

thread_local! {
    static ASKED: Cell<usize> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call is passed on as it came; the counter is a thread-local without a destructor and
// allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.set(ASKED.get() + layout.size());
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, bytes: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(bytes, layout) }
    }
}

/// Bytes that this thread allocates while `work` runs.
fn allocated(work: impl FnOnce()) -> usize {
    let before = ASKED.get();
    work();
    ASKED.get() - before
}

/// Feeds what must be accepted, and counts what is handed out.
fn feed(decoder: &mut Decoder, bytes: &mut [u8]) -> usize {
    let mut handed_out = 0;
    decoder
        .feed(bytes, 1 << 20, &mut |_| {
            handed_out += 1;
            Ok(())
        })
        .unwrap();
    handed_out
}

#[test]
fn whole_frames_allocate_nothing() {
    let mut read = [
        frame(0x81, "Hello"),
        frame(0x82, [1; 300]),
        frame(0x89, "ping"),
        frame(0x81, ""),
        frame(0x88, [0x03, 0xE8]),
    ]
    .concat();
    let mut decoder = Decoder::default();
    assert_eq!(allocated(|| assert_eq!(feed(&mut decoder, &mut read), 5)), 0);
}

#[test]
fn an_idle_decoder_is_small_and_holds_nothing() {
    assert!(size_of::<Decoder>() <= 48);
    let mut decoder = Decoder::default();
    assert_eq!(decoder.held(), 0);
    let message = [frame(0x01, "Hel"), frame(0x89, "ping"), frame(0x80, "lo")].concat();
    for whole in [message, frame(0x82, [1; 300]), frame(0x8A, "pong")] {
        for (at, byte) in whole.iter().enumerate() {
            feed(&mut decoder, &mut [*byte]);
            assert_eq!(decoder.held() > 0, at + 1 < whole.len(), "after byte {at}");
        }
    }
    for mut ending in [frame(0x88, ""), vec![0xFF; 14]] {
        let mut decoder = Decoder::default();
        feed(&mut decoder, &mut frame(0x01, "begun"));
        assert!(decoder.held() >= 5);
        let ended = decoder.feed(&mut ending, 1 << 20, &mut |_| Ok(()));
        assert_eq!((ended.is_ok(), decoder.held()), (ending[0] == 0x88, 0));
    }
}

#[test]
fn announced_lengths_allocate_nothing() {
    let header = |length: u64| [&[0x82, 0xFF][..], &length.to_be_bytes(), &[0; 4]].concat();
    for length in [(1 << 20) + 1, 16 << 20, 1 << 40, u64::MAX >> 1, u64::MAX] {
        let (mut read, mut result) = (header(length), Ok(()));
        let asked = allocated(|| result = Decoder::default().feed(&mut read, 1 << 20, &mut |_| Ok(())));
        assert!(result.is_err() && asked == 0, "{length}: {result:?}, {asked} bytes");
    }
    let mut decoder = Decoder::default();
    feed(&mut decoder, &mut header(1 << 20));
    assert!(decoder.held() < 300, "{} bytes for an allowed length of which nothing came", decoder.held());
    feed(&mut decoder, &mut [0; 1000]);
    assert!(decoder.held() < 1300, "{} bytes for 1000", decoder.held());
}

#[test]
fn memory_never_passes_the_message_limit() {
    const LENGTH: usize = 1_000_000;
    let mut decoder = Decoder::default();
    for read in frame(0x82, vec![7; LENGTH]).chunks_mut(65_536) {
        feed(&mut decoder, read);
        assert!(decoder.held() <= LENGTH + 300, "{}", decoder.held());
    }
    assert_eq!(decoder.held(), 0);
}

/// Copying what is held with each read would allocate, or move, half a terabyte here.
#[test]
fn a_message_in_single_bytes_costs_linear_work() {
    for first in [0x81, 0x82] {
        let mut stream = frame(first, vec![b'x'; 1 << 20]);
        let mut decoder = Decoder::default();
        let mut messages = 0;
        let asked = allocated(|| {
            for byte in stream.chunks_mut(1) {
                messages += feed(&mut decoder, byte);
            }
        });
        assert_eq!((messages, decoder.held()), (1, 0));
        assert!(asked < 4 << 20, "{asked} bytes");
    }
}

#[test]
fn a_million_fragments_are_refused_in_bounded_memory() {
    let mut stream = frame(0x01, "x");
    for _ in 0..1_000_000 {
        stream.extend(frame(0x00, "x"));
    }
    let mut decoder = Decoder::default();
    let mut result = Ok(());
    let asked = allocated(|| result = decoder.feed(&mut stream, 1 << 20, &mut |_| Ok(())));
    assert_eq!(result, Err(Disconnect::TooLarge));
    assert!(asked < 4 * MAX_FRAGMENTS as usize, "{asked} bytes");
}

#[test]
fn as_many_fragments_as_allowed_are_one_message() {
    let fragments = MAX_FRAGMENTS as usize;
    let mut stream = frame(0x01, "x");
    for _ in 2..fragments {
        stream.extend(frame(0x00, "x"));
    }
    stream.extend(frame(0x80, "x"));
    let seen = decode([stream.as_slice()], 1 << 20);
    assert!(seen == [Seen::Text("x".repeat(fragments))]);
}

#[test]
fn a_dead_decoder_says_why_again_and_hands_out_nothing() {
    let mut decoder = Decoder::default();
    let mut read = [frame(0x81, "Hello"), frame(0x83, "?")].concat();
    assert_eq!(decoder.feed(&mut read, 100, &mut |_| Ok(())), Err(Disconnect::Protocol));
    let mut never = |incoming: Incoming<'_>| panic!("{incoming:?}");
    assert_eq!(decoder.feed(&mut frame(0x81, "Hello"), 100, &mut never), Err(Disconnect::Protocol));
    assert_eq!(decoder.feed(&mut [], 100, &mut never), Err(Disconnect::Protocol));
}

#[test]
fn what_the_sink_refuses_ends_the_decoder() {
    let mut decoder = Decoder::default();
    let mut read = [frame(0x81, "one"), frame(0x81, "two"), frame(0x81, "three")].concat();
    let mut heard = 0;
    let result = decoder.feed(&mut read, 100, &mut |_| {
        heard += 1;
        if heard == 2 { Err(Disconnect::Drain) } else { Ok(()) }
    });
    assert_eq!((result, heard), (Err(Disconnect::Drain), 2));
    assert_eq!(decoder.feed(&mut frame(0x81, "four"), 100, &mut |_| Ok(())), Err(Disconnect::Drain));
}
