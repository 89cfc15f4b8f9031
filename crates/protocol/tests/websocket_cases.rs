//! The cases of the Autobahn test suite's sections 1 to 7, 9 and 10 (fuzzingclient), asked of the
//! decoder: what goes in, and what must come out of it. Each is fed whole, frame by frame, in odd
//! pieces and octet by octet, which covers the suite's own choices of chopping.

mod websocket;

use fanfare_protocol::Disconnect::{InvalidText, Protocol, TooLarge};
use websocket::Seen::{self, Binary, Close, Fails, Ping, Pong, Text};
use websocket::{decode, frame};

const MAX_MESSAGE: usize = 1 << 20;
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const LAST: u8 = 0x80;
const MORE: u8 = 0x00;
const TEXT_MORE: u8 = 0x01;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8A;
const RSV1: u8 = 0x40;
const RSV2: u8 = 0x20;
const RSV3: u8 = 0x10;

fn case(id: &str, frames: &[Vec<u8>], expected: &[Seen]) {
    let stream = frames.concat();
    let check = |how: &str, seen: Vec<Seen>| {
        // Messages are large: enough of them is printed to tell which it is.
        assert!(
            seen == expected,
            "{id}, {how}: {:.500} but {:.500}",
            format!("{seen:?}"),
            format!("{expected:?}")
        );
    };
    check("whole", decode([stream.as_slice()], MAX_MESSAGE));
    check("by frame", decode(frames.iter().map(Vec::as_slice), MAX_MESSAGE));
    check("in pieces of 997", decode(stream.chunks(997), MAX_MESSAGE));
    if stream.len() > 300_000 {
        return; // a second each, for nothing that a smaller one does not show
    }
    check("in pieces of 3", decode(stream.chunks(3), MAX_MESSAGE));
    check("by octet", decode(stream.chunks(1), MAX_MESSAGE));
}

fn text(text: &str) -> Seen {
    Text(text.to_owned())
}

fn closed(code: u16, reason: &str) -> Seen {
    Close(Some(code), reason.to_owned())
}

fn close_payload(code: u16, reason: impl AsRef<[u8]>) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_ref()].concat()
}

fn hex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(|digit| !digit.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn section_1_framing() {
    for (number, length) in [0, 125, 126, 127, 128, 65_535, 65_536].into_iter().enumerate() {
        let payload = "*".repeat(length);
        case(&format!("1.1.{}", number + 1), &[frame(TEXT, &payload)], &[text(&payload)]);
        let payload = vec![0xFE; length];
        case(&format!("1.2.{}", number + 1), &[frame(BINARY, &payload)], &[Binary(payload)]);
    }
}

#[test]
fn section_2_pings_and_pongs() {
    case("2.1", &[frame(PING, "")], &[Ping(vec![])]);
    case("2.2", &[frame(PING, "Hello, world!")], &[Ping(b"Hello, world!".to_vec())]);
    let bytes = hex("00 ff fe fd fc fb 00 ff");
    case("2.3", &[frame(PING, &bytes)], &[Ping(bytes)]);
    case("2.4, 2.6", &[frame(PING, [0xFE; 125])], &[Ping(vec![0xFE; 125])]);
    case("2.5", &[frame(PING, [0xFE; 126])], &[Fails(Protocol)]);
    case("2.7", &[frame(PONG, "")], &[Pong(vec![])]);
    case("2.8", &[frame(PONG, "unsolicited")], &[Pong(b"unsolicited".to_vec())]);
    let frames = [frame(PONG, "unsolicited"), frame(PING, "ping")];
    case("2.9", &frames, &[Pong(b"unsolicited".to_vec()), Ping(b"ping".to_vec())]);
    let payloads: Vec<Vec<u8>> = (0..10).map(|n| format!("payload-{n}").into_bytes()).collect();
    let frames: Vec<_> = payloads.iter().map(|payload| frame(PING, payload)).collect();
    let expected: Vec<_> = payloads.into_iter().map(Ping).collect();
    case("2.10, 2.11", &frames, &expected);
}

#[test]
fn section_3_reserved_bits() {
    let hello = || frame(TEXT, "Hello, world!");
    let bad = |first| frame(first, "Hello, world!");
    let fails_second = [text("Hello, world!"), Fails(Protocol)];
    case("3.1", &[bad(TEXT | RSV3)], &[Fails(Protocol)]);
    case("3.2", &[hello(), bad(TEXT | RSV2), frame(PING, "")], &fails_second);
    case("3.3", &[hello(), bad(TEXT | RSV2 | RSV3), frame(PING, "")], &fails_second);
    case("3.4", &[hello(), bad(TEXT | RSV1), frame(PING, "")], &fails_second);
    case("3.5", &[bad(BINARY | RSV1 | RSV3)], &[Fails(Protocol)]);
    case("3.6", &[bad(PING | RSV1 | RSV2)], &[Fails(Protocol)]);
    case("3.7", &[frame(CLOSE | RSV1 | RSV2 | RSV3, "")], &[Fails(Protocol)]);
}

#[test]
fn section_4_opcodes() {
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        let id = format!("4, opcode {opcode}");
        case(&id, &[frame(0x80 | opcode, "")], &[Fails(Protocol)]);
        case(&id, &[frame(0x80 | opcode, "reserved opcode")], &[Fails(Protocol)]);
        let frames = [frame(TEXT, "Hello"), frame(0x80 | opcode, "reserved"), frame(PING, "")];
        case(&id, &frames, &[text("Hello"), Fails(Protocol)]);
    }
}

#[test]
fn section_5_fragmentation() {
    case("5.1", &[frame(0x09, "frag"), frame(LAST, "ment")], &[Fails(Protocol)]);
    case("5.2", &[frame(0x0A, "frag"), frame(LAST, "ment")], &[Fails(Protocol)]);
    let fragments = || [frame(TEXT_MORE, "frag"), frame(LAST, "ment")];
    case("5.3 to 5.5", &fragments(), &[text("fragment")]);
    let [first, last] = fragments();
    let frames = [first, frame(PING, "ping"), last];
    case("5.6 to 5.8", &frames, &[Ping(b"ping".to_vec()), text("fragment")]);
    let hello = || frame(TEXT, "Hello");
    case("5.9 to 5.11", &[frame(LAST, "nothing to continue"), hello()], &[Fails(Protocol)]);
    case("5.12 to 5.14", &[frame(MORE, "nothing to continue"), hello()], &[Fails(Protocol)]);
    let [first, last] = fragments();
    let frames = [first, last, frame(MORE, "nothing to continue"), hello()];
    case("5.15", &frames, &[text("fragment"), Fails(Protocol)]);
    let [first, last] = fragments();
    case("5.16", &[frame(MORE, "frag"), first, last], &[Fails(Protocol)]);
    let [first, last] = fragments();
    case("5.17", &[frame(LAST, "frag"), first, last], &[Fails(Protocol)]);
    case("5.18", &[frame(TEXT_MORE, "frag"), frame(TEXT, "ment")], &[Fails(Protocol)]);
    let frames = [
        frame(TEXT_MORE, "fragment1"),
        frame(MORE, "fragment2"),
        frame(PING, "pongme 1!"),
        frame(MORE, "fragment3"),
        frame(MORE, "fragment4"),
        frame(PING, "pongme 2!"),
        frame(LAST, "fragment5"),
    ];
    let expected = [
        Ping(b"pongme 1!".to_vec()),
        Ping(b"pongme 2!".to_vec()),
        text("fragment1fragment2fragment3fragment4fragment5"),
    ];
    case("5.19, 5.20", &frames, &expected);
}

/// A text in one frame, in fragments of one octet, and in two fragments cut everywhere.
fn text_case(id: &str, payload: &[u8]) {
    let expected = match std::str::from_utf8(payload) {
        Ok(valid) => text(valid),
        Err(_) => Fails(InvalidText),
    };
    let expected = [expected];
    case(id, &[frame(TEXT, payload)], &expected);
    let mut octets = vec![frame(TEXT_MORE, "")];
    octets.extend(payload.chunks(1).map(|octet| frame(MORE, octet)));
    octets.push(frame(LAST, ""));
    case(id, &octets, &expected);
    for cut in 0..payload.len() {
        let frames = [frame(TEXT_MORE, &payload[..cut]), frame(LAST, &payload[cut..])];
        case(id, &frames, &expected);
    }
}

#[test]
fn section_6_valid_text() {
    let rows = [
        ("6.1.1", ""),
        ("6.2", "48656c6c6f2dc2b540c39fc3b6c3a4c3bcc3a0c3a12d5554462d382121"),
        ("6.5", "cebae1bdb9cf83cebcceb5"),
        ("6.6.2", "ceba"),
        ("6.6.5", "cebae1bdb9"),
        ("6.6.7", "cebae1bdb9cf83"),
        ("6.6.9", "cebae1bdb9cf83cebc"),
        ("6.7.1", "00"),
        ("6.7.2", "c280"),
        ("6.7.3", "e0a080"),
        ("6.7.4", "f0908080"),
        ("6.9.1", "7f"),
        ("6.9.2", "dfbf"),
        ("6.9.3", "efbfbf"),
        ("6.9.4", "f48fbfbf"),
        ("6.11.1", "ed9fbf"),
        ("6.11.2", "ee8080"),
        ("6.11.3", "efbfbd"),
        ("6.22.1", "efbfbe"),
        ("6.22.3", "f09fbfbe"),
        ("6.22.34", "f48fbfbf"),
        ("6.23.1", "efbfb9 efbfba efbfbb efbfbc efbfbd"),
    ];
    for (id, digits) in rows {
        assert!(std::str::from_utf8(&hex(digits)).is_ok(), "{id} is a row of valid text");
        text_case(id, &hex(digits));
    }
    let empty = [frame(TEXT_MORE, ""), frame(MORE, ""), frame(LAST, "")];
    case("6.1.2", &empty, &[text("")]);
    let middle = [frame(TEXT_MORE, ""), frame(MORE, "middle"), frame(LAST, "")];
    case("6.1.3", &middle, &[text("middle")]);
}

#[test]
fn section_6_invalid_text() {
    let rows = [
        ("6.3", "cebae1bdb9cf83cebcceb5 eda080 656469746564"),
        ("6.4.1", "cebae1bdb9cf83cebcceb5 f4908080 656469746564"),
        ("6.6.1", "ce"),
        ("6.6.3", "cebae1"),
        ("6.6.4", "cebae1bd"),
        ("6.6.6", "cebae1bdb9cf"),
        ("6.6.8", "cebae1bdb9cf83ce"),
        ("6.6.10", "cebae1bdb9cf83cebcce"),
        ("6.8.1", "f888808080"),
        ("6.8.2", "fc8480808080"),
        ("6.10.1", "f7bfbfbf"),
        ("6.10.2", "fbbfbfbfbf"),
        ("6.10.3", "fdbfbfbfbfbf"),
        ("6.11.5", "f4908080"),
        ("6.12.1", "80"),
        ("6.12.2", "bf"),
        ("6.12.8", "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"),
        ("6.13.1", "c020c120c220c320df20"),
        ("6.13.2", "e020e120ef20"),
        ("6.13.3", "f020f120f720"),
        ("6.13.4", "f820f920fb20"),
        ("6.13.5", "fc20fd20"),
        ("6.14.1", "c0"),
        ("6.14.2", "e080"),
        ("6.14.3", "f08080"),
        ("6.14.4", "f8808080"),
        ("6.14.5", "fc80808080"),
        ("6.14.6", "df"),
        ("6.14.7", "efbf"),
        ("6.14.8", "f7bfbf"),
        ("6.15", "c0e080f08080f8808080fc80808080dfefbff7bfbffbbfbfbffdbfbfbfbf"),
        ("6.16.1", "fe"),
        ("6.16.2", "ff"),
        ("6.16.3", "fefeffff"),
        ("6.17.1", "c0af"),
        ("6.17.2", "e080af"),
        ("6.17.3", "f08080af"),
        ("6.18.1", "c1bf"),
        ("6.18.2", "e09fbf"),
        ("6.18.3", "f08fbfbf"),
        ("6.19.1", "c080"),
        ("6.19.2", "e08080"),
        ("6.19.3", "f0808080"),
        ("6.20.1", "eda080"),
        ("6.20.7", "edbfbf"),
        ("6.21.1", "eda080edb080"),
        ("6.21.8", "edafbfedbfbf"),
    ];
    for (id, digits) in rows {
        assert!(std::str::from_utf8(&hex(digits)).is_err(), "{id} is a row of invalid text");
        text_case(id, &hex(digits));
    }
}

/// 6.4: what cannot become text is refused before the message ends.
#[test]
fn section_6_4_fails_fast() {
    let valid = hex("cebae1bdb9cf83cebcceb5");
    case("6.4.1", &[frame(TEXT_MORE, &valid), frame(MORE, hex("f4908080"))], &[Fails(InvalidText)]);
    case(
        "6.4.2",
        &[frame(TEXT_MORE, [valid, hex("f4")].concat()), frame(MORE, hex("90"))],
        &[Fails(InvalidText)],
    );
    let whole = frame(TEXT, hex("cebae1bdb9cf83cebcceb5 f4908080 656469746564"));
    let (begun, rest) = whole.split_at(6 + 13);
    assert_eq!(decode([begun], MAX_MESSAGE), [Fails(InvalidText)], "6.4.3");
    assert_eq!(decode([begun, rest], MAX_MESSAGE), [Fails(InvalidText)], "6.4.4");
}

#[test]
fn section_7_closing() {
    let close = || frame(CLOSE, close_payload(1000, ""));
    let normal = || closed(1000, "");
    case("7.1.1", &[frame(TEXT, "Hello"), close()], &[text("Hello"), normal()]);
    case("7.1.2", &[close(), close()], &[normal()]);
    case("7.1.3", &[close(), frame(PING, "ping")], &[normal()]);
    case("7.1.4", &[close(), frame(TEXT, "Hello")], &[normal()]);
    case("7.1.5", &[frame(TEXT_MORE, "frag"), close(), frame(LAST, "ment")], &[normal()]);
    let large = "BAsd7&jh23".repeat(26_214);
    let frames = [frame(TEXT, &large), close(), frame(PING, "ping")];
    case("7.1.6", &frames, &[text(&large), normal()]);
    case("after a close anything is ignored", &[close(), vec![0xFF; 100]], &[normal()]);
    case("7.3.1", &[frame(CLOSE, "")], &[Close(None, String::new())]);
    case("7.3.2", &[frame(CLOSE, "a")], &[Fails(Protocol)]);
    case("7.3.3", &[close()], &[normal()]);
    case("7.3.4", &[frame(CLOSE, close_payload(1000, "Hello"))], &[closed(1000, "Hello")]);
    let longest = "*".repeat(123);
    case("7.3.5", &[frame(CLOSE, close_payload(1000, &longest))], &[closed(1000, &longest)]);
    case("7.3.6", &[frame(CLOSE, close_payload(1000, "*".repeat(124)))], &[Fails(Protocol)]);
    let bad = hex("cebae1bdb9cf83cebcceb5eda080656469746564");
    case("7.5.1", &[frame(CLOSE, close_payload(1000, bad))], &[Fails(InvalidText)]);
}

#[test]
fn section_7_close_codes() {
    let valid =
        [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999];
    for code in valid {
        case("7.7", &[frame(CLOSE, close_payload(code, "why"))], &[closed(code, "why")]);
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        case("7.9, 7.13", &[frame(CLOSE, close_payload(code, ""))], &[Fails(Protocol)]);
        case("7.9, 7.13", &[frame(CLOSE, close_payload(code, "why"))], &[Fails(Protocol)]);
    }
}

/// 9.1 to 9.6, at sizes that one read, several reads and the largest message have.
#[test]
fn section_9_large_and_chopped() {
    for size in [4 << 10, 64 << 10, 256 << 10, MAX_MESSAGE] {
        let letters = "*".repeat(size);
        let bytes = vec![0xFE; size];
        case("9.1", &[frame(TEXT, &letters)], &[text(&letters)]);
        case("9.2", &[frame(BINARY, &bytes)], &[Binary(bytes)]);
        for fragment in [64, 256, 1 << 10, 16 << 10, 64 << 10] {
            let frames = fragments(&letters, fragment);
            let stream = frames.concat();
            let seen = decode(stream.chunks(64 << 10), MAX_MESSAGE);
            assert!(seen == [text(&letters)], "9.3, {size} in {fragment}");
        }
    }
    let over = vec![0xFE; MAX_MESSAGE + 1];
    case("one byte over the limit", &[frame(BINARY, over)], &[Fails(TooLarge)]);
    let frames = fragments(&"*".repeat(MAX_MESSAGE + 1), 64 << 10);
    case("one byte over the limit, in fragments", &frames, &[Fails(TooLarge)]);
}

/// 9.7 and 9.8, a hundredth of them: many small ones back to back.
#[test]
fn section_9_many_small() {
    let frames: Vec<_> = (0..1000).map(|n| frame(TEXT, format!("{n:016}"))).collect();
    let expected: Vec<_> = (0..1000).map(|n| text(&format!("{n:016}"))).collect();
    case("9.7", &frames, &expected);
}

#[test]
fn section_10_automatic_fragmentation() {
    let letters = "*".repeat(65_536);
    case("10.1.1", &fragments(&letters, 1300), &[text(&letters)]);
}

fn fragments(text: &str, size: usize) -> Vec<Vec<u8>> {
    let count = text.len().div_ceil(size);
    let first = |at| if at == 0 { TEXT } else { LAST };
    let bits = |at| if at + 1 == count { first(at) } else { first(at) & !LAST };
    text.as_bytes().chunks(size).enumerate().map(|(at, piece)| frame(bits(at), piece)).collect()
}

/// RFC 6455 §5.1 and §5.2, which the suite has no cases for.
#[test]
fn masks_and_lengths() {
    case("unmasked", &[hex("81 05 48656c6c6f")], &[Fails(Protocol)]);
    case("unmasked ping", &[frame(TEXT, "a"), hex("89 00")], &[text("a"), Fails(Protocol)]);
    case("125 in two bytes", &[hex("82 fe 007d 00000000")], &[Fails(Protocol)]);
    case("65,535 in eight", &[hex("82 ff 000000000000ffff 00000000")], &[Fails(Protocol)]);
    case("top bit", &[hex("82 ff 8000000000000000 00000000")], &[Fails(Protocol)]);
    case("all but the top bit", &[hex("82 ff 7fffffffffffffff 00000000")], &[Fails(TooLarge)]);
    case("16 MB announced", &[hex("82 ff 0000000001000000 00000000")], &[Fails(TooLarge)]);
    case("a zero mask", &[hex("81 82 00000000 6869")], &[text("hi")]);
    let frames = [frame(TEXT_MORE, "a"), hex("80 ff 7fffffffffffffff 00000000")];
    case("lengths do not wrap", &frames, &[Fails(TooLarge)]);
}
