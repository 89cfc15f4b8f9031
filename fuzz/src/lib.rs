//! What is done with bytes that anyone may send, one function per kind. None may panic, and what is taken has to
//! keep its promises. The fuzzer calls these, and so does `crates/broker/tests/fuzz.rs` with every file of the
//! corpora, on stable.

use fanfare_broker::envelope::{self, Uid};
use fanfare_broker::foreign::{FromPython, PythonDialect, decode_python, decode_request};
use fanfare_broker::{Malformed, Request};
use fanfare_protocol::command::{Command, Payload};
use fanfare_protocol::msgpack::{self, check_event};
use fanfare_protocol::publication::from_json;
use fanfare_protocol::websocket::{Opcode, write_frame};
use fanfare_protocol::{EncodeError, Encoding, Frame, Namespaces, Publication, engineio, plain, socketio};

/// What is done with one input.
pub type Target = fn(&[u8]);

/// Every target by its name, which is that of its corpus.
pub const TARGETS: [(&str, Target); 9] = [
    ("engineio_packet", engineio_packet),
    ("polling_payload", polling_payload),
    ("socketio_text", socketio_text),
    ("socketio_msgpack", socketio_msgpack),
    ("plain_frame", plain_frame),
    ("redis_envelope", redis_envelope),
    ("redis_request", redis_request),
    ("python_json", python_json),
    ("publication_json", publication_json),
];

/// Bound on one payload, in bytes: more than fuzzers try.
const LIMIT: usize = 1 << 20;

/// The text of one WebSocket frame.
pub fn engineio_packet(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match engineio::decode(text) {
        Ok(engineio::Packet::Text(packet)) => assert_eq!(format!("4{packet}"), text),
        Ok(engineio::Packet::Ping(payload)) => assert_eq!(format!("2{payload}"), text),
        Ok(engineio::Packet::Pong(payload)) => assert_eq!(format!("3{payload}"), text),
        Ok(engineio::Packet::Binary(binary)) => {
            let mut wire = Vec::new();
            write_frame(Opcode::Binary, &binary, &mut wire);
            let frame = Frame::from_wire(wire);
            let mut body = String::new();
            engineio::append_payload(&frame, &mut body);
            assert_eq!(engineio::decode(&body), Ok(engineio::Packet::Binary(binary)));
            let parts: Vec<String> = engineio::without_binary(&frame).parts().map(text_of).collect();
            assert_eq!(parts, [body]);
        }
        _ => {}
    }
    let mut link = Link::new();
    link.hear(Payload::Text(text));
}

/// The body of a POST, on a connection that has said nothing yet.
pub fn polling_payload(bytes: &[u8]) {
    let Ok(body) = std::str::from_utf8(bytes) else { return };
    assert_eq!(engineio::split_payload(body).collect::<Vec<_>>().join("\x1e"), body);
    let mut link = Link::new();
    for packet in engineio::split_payload(body) {
        if !link.hear(Payload::Text(packet)) {
            break;
        }
    }
}

/// A Socket.IO packet without its Engine.IO digit on a connection that entered two namespaces, with the
/// attachments that it may announce.
pub fn socketio_text(bytes: &[u8]) {
    let Ok(packet) = std::str::from_utf8(bytes) else { return };
    let mut link = Link::new();
    assert!(link.hear(Payload::Text("40")) && link.hear(Payload::Text("40/admin,{}")));
    let mut taken = link.hear(Payload::Text(&format!("4{packet}")));
    for attachment in 0..=socketio::MAX_ATTACHMENTS {
        taken = taken && link.hear(Payload::Binary(&[attachment as u8; 3]));
    }
    assert!(!taken, "no packet has more attachments than that, and stray ones close");
}

/// A packet of the msgpack parser on a connection that entered two namespaces.
pub fn socketio_msgpack(bytes: &[u8]) {
    Link::new().hear(Payload::Binary(bytes));
    let mut link = Link::packed();
    if link.hear(Payload::Binary(bytes)) {
        assert_eq!(link.machine.encoding(), Encoding::SocketIoMsgpack);
    }
}

/// A frame of fanfare's own protocol.
pub fn plain_frame(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut commands = Vec::new();
    if let Err(refused) = plain::Machine::default().receive(Payload::Text(text), &mut commands) {
        assert!(commands.is_empty());
        shown_as_json(&plain::error(&refused.refusal));
    }
    for command in &commands {
        if let Command::Event { data, .. } = command {
            assert_eq!(check_event(data), Ok(()));
            shown("/", data);
        }
    }
}

/// An envelope on a room's channel.
pub fn redis_envelope(bytes: &[u8]) {
    for namespace in ["/", "/admin"] {
        let Ok(publication) = envelope::decode(bytes, namespace, LIMIT) else { continue };
        assert_eq!(publication.namespace, namespace);
        assert_eq!(check_event(&publication.data), Ok(()));
        shown(namespace, &publication.data);
        // What fanfare passes on is what it reads, but for the moment and the id, which it sets anew.
        let again = envelope::encode(&publication, Uid::random(), 7);
        let expected = Publication { sent_at: Some(7), ack: None, ..publication };
        let again = envelope::decode(&again, namespace, usize::MAX).map(Publication::into_owned);
        assert_eq!(again, Ok(expected.into_owned()));
    }
    assert_eq!(envelope::decode(bytes, "/", bytes.len().saturating_sub(1)).err(), too_large(bytes));
}

/// A request of a Socket.IO server or emitter.
pub fn redis_request(bytes: &[u8]) {
    for namespace in ["/", "/admin"] {
        match decode_request(bytes, namespace, LIMIT) {
            Ok(Request::ServerSideEmit { data, .. }) => assert_eq!(check_event(&data), Ok(())),
            Ok(Request::Broadcast { publication, .. }) => {
                assert_eq!(publication.namespace, namespace);
                assert_eq!(check_event(&publication.data), Ok(()));
                shown(namespace, &publication.data);
            }
            _ => {}
        }
    }
    assert_eq!(decode_request(bytes, "/", bytes.len().saturating_sub(1)).err(), too_large(bytes));
}

/// What a python-socketio manager publishes, in both ways to write arguments.
pub fn python_json(bytes: &[u8]) {
    for dialect in [PythonDialect::Arguments, PythonDialect::Value] {
        if let Ok(
            FromPython::Publication(publication)
            | FromPython::Request { request: Request::Broadcast { publication, .. }, .. },
        ) = decode_python(bytes, dialect, LIMIT)
        {
            assert_eq!(check_event(&publication.data), Ok(()));
            shown("/", &publication.data);
        }
    }
    assert_eq!(
        decode_python(bytes, PythonDialect::Arguments, bytes.len().saturating_sub(1)).err(),
        too_large(bytes)
    );
}

/// A publication as JSON, over HTTP or on the channel for those.
pub fn publication_json(bytes: &[u8]) {
    if let Ok(publication) = from_json(bytes) {
        assert_eq!(check_event(&publication.data), Ok(()));
        let again = envelope::encode(&publication, Uid::random(), 7);
        let read = envelope::decode(&again, &publication.namespace, usize::MAX);
        let read = read.map(Publication::into_owned).expect("what fanfare writes");
        assert_eq!((&read.rooms, &read.data), (&publication.rooms, &publication.data));
        shown("/", &publication.data);
    }
}

fn too_large(bytes: &[u8]) -> Option<Malformed> {
    Some(if bytes.is_empty() { Malformed::Shape } else { Malformed::TooLarge })
}

/// One Socket.IO connection to a node that serves `/` and `/admin`.
struct Link {
    machine: socketio::Machine,
    namespaces: Namespaces,
    commands: Vec<Command>,
}

impl Link {
    fn new() -> Self {
        let namespaces = Namespaces::new(["/admin"]).expect("a good name");
        Self { machine: socketio::Machine::default(), namespaces, commands: Vec::new() }
    }

    /// A connection of the msgpack parser that entered both.
    fn packed() -> Self {
        let mut link = Self::new();
        for namespace in ["/", "/admin"] {
            let mut packet = Vec::new();
            msgpack::write_map_len(2, &mut packet);
            msgpack::write_str("type", &mut packet);
            msgpack::write_uint(0, &mut packet);
            msgpack::write_str("nsp", &mut packet);
            msgpack::write_str(namespace, &mut packet);
            assert!(link.hear(Payload::Binary(&packet)));
        }
        link
    }

    /// Takes a payload and looks at what it asks; false where the connection ends.
    fn hear(&mut self, payload: Payload<'_>) -> bool {
        self.commands.clear();
        let taken = self.machine.receive(payload, &self.namespaces, LIMIT, &mut self.commands).is_ok();
        for command in &self.commands {
            match command {
                Command::Event { namespace, data, .. } => {
                    assert_eq!(check_event(data), Ok(()));
                    shown(&self.namespaces.name(*namespace), data);
                }
                Command::Ack { namespace, id, data } => {
                    assert_eq!(msgpack::skip(data), Ok(data.len()));
                    match self.machine.ack(&self.namespaces, *namespace, *id, data) {
                        Ok(frame) => assert!(frame.parts().count() > 0),
                        Err(EncodeError::NotArguments) => panic!("acknowledged with something else"),
                        Err(_) => {}
                    }
                }
                Command::Connect { auth: Some(auth), .. } => {
                    assert_eq!(msgpack::skip(auth), Ok(auth.len()));
                    assert!(matches!(msgpack::read(&mut &auth[..]), Ok(msgpack::Token::Map(_))));
                }
                Command::ConnectClosed { namespace, .. } => {
                    let frame = socketio::Machine::default().refused(namespace, None, "no", None);
                    assert_eq!(frame.parts().count(), 1);
                }
                _ => {}
            }
        }
        taken
    }
}

/// An event that was taken, shown to every kind of client. A Socket.IO client that sends what it was shown is
/// understood, and shown the same.
fn shown(namespace: &str, data: &[u8]) {
    let publication = |data: Vec<u8>| Publication {
        namespace: namespace.to_owned().into(),
        rooms: Default::default(),
        except: Default::default(),
        volatile: false,
        data: data.into(),
        sent_at: None,
        ack: None,
    };
    let this = publication(data.to_vec());
    if let Ok(frame) = Encoding::PlainJson.encode(&this, Some("r")) {
        shown_as_json(&frame);
    }
    for (encoding, link) in [
        (Encoding::SocketIoText, text_link as fn() -> Link),
        (Encoding::SocketIoMsgpack, Link::packed as fn() -> Link),
    ] {
        let Ok(frame) = encoding.encode(&this, None) else { continue };
        let Link { mut machine, namespaces, .. } = link();
        let mut commands = Vec::new();
        let heard =
            frame.parts().try_for_each(|part| machine.receive(part, &namespaces, LIMIT, &mut commands));
        if heard.is_err() {
            // An attachment's place in text is one level deeper than its bytes.
            assert!(frame.parts().count() > 1, "{encoding:?} {data:x?}");
            continue;
        }
        let [Command::Event { data: again, .. }] = &commands[..] else { panic!("{commands:?}") };
        let again = encoding.encode(&publication(again.clone()), None).expect("it was shown before");
        // The first time, what has no value is shown as such to those who know it, the next time left out.
        if encoding == Encoding::SocketIoText {
            assert_eq!(again.bytes(), frame.bytes());
        }
    }
}

fn text_link() -> Link {
    let mut link = Link::new();
    for packet in ["40", "40/admin,"] {
        link.machine
            .receive(Payload::Text(packet), &link.namespaces, LIMIT, &mut link.commands)
            .expect("a good packet");
    }
    link
}

fn shown_as_json(frame: &Frame) {
    let frames: Vec<String> = frame.parts().map(text_of).collect();
    let [text] = &frames[..] else { panic!("{frames:?}") };
    fanfare_protocol::json::to_msgpack(text, &mut Vec::new()).map_or_else(
        // The frame is a level around the arguments.
        |error| assert_eq!(error, fanfare_protocol::json::JsonError::TooDeep),
        |()| {},
    );
}

fn text_of(part: Payload<'_>) -> String {
    match part {
        Payload::Text(text) => text.to_owned(),
        Payload::Binary(bytes) => panic!("binary: {bytes:x?}"),
    }
}
