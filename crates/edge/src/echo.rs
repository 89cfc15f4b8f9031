//! A machine for conformance suites: what comes in goes out again, through the same codec, transports and
//! outboxes as everything else.

use fanfare_protocol::engineio::{self, Packet};
use fanfare_protocol::websocket::{self, Opcode};
use fanfare_protocol::{Command, Disconnect, Frame, Payload};

use crate::connection::Kind;

/// What lies around the messages that are sent back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Echo {
    /// Engine.IO packets.
    Engine,
    /// Nothing: bare WebSocket.
    Bare,
}

impl Echo {
    /// The kind of connection that it stands in for.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Engine => Kind::SocketIo,
            Self::Bare => Kind::PlainJson,
        }
    }

    /// Takes one message as it came over a WebSocket, and says what goes back.
    pub(crate) fn receive(
        self,
        payload: Payload<'_>,
        commands: &mut Vec<Command>,
        answers: &mut Vec<Frame>,
    ) -> Result<(), Disconnect> {
        let (opcode, bytes) = match payload {
            Payload::Binary(bytes) => (Opcode::Binary, bytes),
            Payload::Text(text) if self == Self::Bare => (Opcode::Text, text.as_bytes()),
            Payload::Text(text) => match engineio::decode(text).map_err(|_| Disconnect::Packet)? {
                Packet::Text(_) => (Opcode::Text, text.as_bytes()),
                Packet::Binary(bytes) => {
                    answers.push(framed(Opcode::Binary, &bytes));
                    return Ok(());
                }
                Packet::Pong(_) => {
                    commands.push(Command::Pong);
                    return Ok(());
                }
                Packet::Close => return Err(Disconnect::Client),
                Packet::Ping(_) => return Err(Disconnect::Packet),
                Packet::Open | Packet::Upgrade | Packet::Noop => return Ok(()),
            },
        };
        answers.push(framed(opcode, bytes));
        Ok(())
    }
}

fn framed(opcode: Opcode, bytes: &[u8]) -> Frame {
    let mut wire = Vec::with_capacity(bytes.len() + 10);
    websocket::write_frame(opcode, bytes, &mut wire);
    Frame::from_wire(wire)
}
