//! What the app is told, and how it is written.

use std::sync::Arc;

use fanfare_protocol::json::{self, Bins};
use fanfare_protocol::msgpack::{self, EventView, MsgpackError};

use super::binary;
use super::handshake::Handshake;
use crate::config::AppFormat;

/// One call's content.
#[derive(Debug)]
pub(crate) struct Tell {
    pub(crate) namespace: Arc<str>,
    /// Who it is about; none where it is the node itself.
    pub(crate) sid: Option<Box<str>>,
    /// What the app called the one it is about.
    pub(crate) user: Option<Arc<str>>,
    pub(crate) what: What,
}

/// What happened.
#[derive(Debug)]
pub(crate) enum What {
    /// A client wants to enter the namespace. `auth` is a MessagePack map.
    Connect { handshake: Option<Arc<Handshake>>, auth: Option<Box<[u8]>> },
    /// An event without a rule: the MessagePack array `[event, ...args]`. `room` where its protocol names one.
    Event { room: Option<Box<str>>, data: Vec<u8>, ack: bool },
    /// The client answered what an answer asked it, or did not: a MessagePack array of arguments.
    Ack { token: Arc<str>, outcome: Result<Vec<u8>, Unanswered> },
    /// The session is over, in the words of Socket.IO's server.
    Disconnect { reason: &'static str },
    /// Another server's `serverSideEmit`: the MessagePack array `[event, ...args]`.
    ServerSideEmit { data: Vec<u8> },
}

/// Why an acknowledgement did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unanswered {
    Timeout,
    Disconnected,
    /// The node waits for as many as it may.
    Limit,
}

impl Unanswered {
    fn label(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Disconnected => "disconnected",
            Self::Limit => "limit",
        }
    }
}

impl What {
    /// Values of `type`, in the order of [`What::index`].
    pub(super) const TYPES: [&str; 5] = ["connect", "event", "ack", "disconnect", "server_side_emit"];

    pub(crate) fn index(&self) -> usize {
        match self {
            Self::Connect { .. } => 0,
            Self::Event { .. } => 1,
            Self::Ack { .. } => 2,
            Self::Disconnect { .. } => 3,
            Self::ServerSideEmit { .. } => 4,
        }
    }

    /// Bytes of what came from outside.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Connect { handshake, auth } => {
                handshake.as_ref().map_or(0, |handshake| handshake.bytes())
                    + auth.as_ref().map_or(0, |auth| auth.len())
            }
            Self::Event { data, .. } | Self::ServerSideEmit { data } => data.len(),
            Self::Ack { outcome, .. } => outcome.as_ref().map_or(0, Vec::len),
            Self::Disconnect { .. } => 0,
        }
    }
}

impl Tell {
    /// The body of the call. An error where the client sent what the format has no form for.
    pub(super) fn body(&self, node: &str, format: AppFormat) -> Result<Vec<u8>, MsgpackError> {
        let mut body = Object::new(format);
        body.text("type", What::TYPES[self.what.index()]);
        body.text("node", node);
        body.text("namespace", &self.namespace);
        if let Some(sid) = &self.sid {
            body.text("sid", sid);
        }
        if let Some(user) = &self.user {
            body.text("user", user);
        }
        match &self.what {
            What::Connect { handshake, auth } => {
                let mut object = Object::new(format);
                if let Some(handshake) = handshake {
                    handshake.write(&mut object);
                }
                // As the reference has it: an empty object where the client gave none.
                object.value("auth", auth.as_deref().unwrap_or(&[0x80]))?;
                body.object("handshake", object);
            }
            What::Event { room, data, ack } => {
                if let Some(room) = room {
                    body.text("room", room);
                }
                body.event(data)?;
                body.flag("ack", *ack);
            }
            What::Ack { token, outcome } => {
                body.text("token", token);
                match outcome {
                    Ok(args) => body.value("args", args)?,
                    Err(error) => body.text("error", error.label()),
                }
            }
            What::Disconnect { reason } => body.text("reason", reason),
            What::ServerSideEmit { data } => body.event(data)?,
        }
        Ok(body.finish())
    }
}

/// An object in the making.
pub(super) struct Object {
    format: AppFormat,
    bytes: Vec<u8>,
    fields: u16,
}

/// MessagePack's map with a count of 16 bits, filled in at the end.
const MAP_16: [u8; 3] = [0xde, 0, 0];

impl Object {
    pub(super) fn new(format: AppFormat) -> Self {
        let bytes = match format {
            AppFormat::Json => b"{".to_vec(),
            AppFormat::Msgpack => MAP_16.to_vec(),
        };
        Self { format, bytes, fields: 0 }
    }

    /// An object within this one, in the same format.
    pub(super) fn inner(&self) -> Self {
        Self::new(self.format)
    }

    fn key(&mut self, key: &str) {
        match self.format {
            AppFormat::Json => {
                if self.fields > 0 {
                    self.bytes.push(b',');
                }
                json::write_str(key, &mut self.bytes);
                self.bytes.push(b':');
            }
            AppFormat::Msgpack => msgpack::write_str(key, &mut self.bytes),
        }
        self.fields += 1;
    }

    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        match self.format {
            AppFormat::Json => json::write_str(value, &mut self.bytes),
            AppFormat::Msgpack => msgpack::write_str(value, &mut self.bytes),
        }
    }

    pub(super) fn flag(&mut self, key: &str, value: bool) {
        self.key(key);
        match self.format {
            AppFormat::Json => self.bytes.extend_from_slice(if value { b"true" } else { b"false" }),
            AppFormat::Msgpack => msgpack::write_bool(value, &mut self.bytes),
        }
    }

    pub(super) fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        match self.format {
            AppFormat::Json => self.bytes.extend_from_slice(value.to_string().as_bytes()),
            AppFormat::Msgpack => msgpack::write_uint(value, &mut self.bytes),
        }
    }

    pub(super) fn object(&mut self, key: &str, object: Object) {
        self.key(key);
        self.bytes.extend_from_slice(&object.finish());
    }

    /// A MessagePack value.
    fn value(&mut self, key: &str, raw: &[u8]) -> Result<(), MsgpackError> {
        self.key(key);
        match self.format {
            AppFormat::Json => write_json(raw, &mut self.bytes),
            AppFormat::Msgpack => {
                self.bytes.extend_from_slice(raw);
                Ok(())
            }
        }
    }

    /// The fields `event` and `args` of `[event, ...args]`.
    fn event(&mut self, data: &[u8]) -> Result<(), MsgpackError> {
        let event = EventView::parse(data)?;
        self.text("event", &event.name());
        self.key("args");
        if let AppFormat::Msgpack = self.format {
            msgpack::write_array_len(event.arg_count(), &mut self.bytes);
            for arg in event.args() {
                self.bytes.extend_from_slice(arg);
            }
            return Ok(());
        }
        self.bytes.push(b'[');
        for (at, arg) in event.args().enumerate() {
            if at > 0 {
                self.bytes.push(b',');
            }
            write_json(arg, &mut self.bytes)?;
        }
        self.bytes.push(b']');
        Ok(())
    }

    fn finish(mut self) -> Vec<u8> {
        match self.format {
            AppFormat::Json => self.bytes.push(b'}'),
            AppFormat::Msgpack => self.bytes[1..3].copy_from_slice(&self.fields.to_be_bytes()),
        }
        self.bytes
    }
}

fn write_json(raw: &[u8], out: &mut Vec<u8>) -> Result<(), MsgpackError> {
    json::from_msgpack(&binary::shown(raw)?, out, Bins::Base64(&mut false))
}
