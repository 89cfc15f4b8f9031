//! The text form of Socket.IO packets:
//! `<type>[<attachments>-][<namespace>,][<ack id>][<JSON>]`.

use super::MAX_ATTACHMENTS;

/// A packet's parts. The JSON is not looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    pub(super) kind: Kind,
    /// Binary messages that follow: none, or 1 to [`MAX_ATTACHMENTS`].
    pub(super) attachments: usize,
    pub(super) namespace: &'a str,
    pub(super) id: Option<u64>,
    pub(super) json: Option<&'a str>,
}

/// The seven packet types; the binary ones are those with attachments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Connect,
    Disconnect,
    Event,
    Ack,
    ConnectError,
}

/// The packet in the text of an Engine.IO message, or `None` where it has not the form of one.
pub(super) fn parse(text: &str) -> Option<Packet<'_>> {
    let mut rest = text.chars();
    let (kind, binary) = match rest.next()? {
        '0' => (Kind::Connect, false),
        '1' => (Kind::Disconnect, false),
        '2' => (Kind::Event, false),
        '3' => (Kind::Ack, false),
        '4' => (Kind::ConnectError, false),
        '5' => (Kind::Event, true),
        '6' => (Kind::Ack, true),
        _ => return None,
    };
    let mut rest = rest.as_str();
    let mut attachments = 0;
    if binary {
        let (digits, tail) = split_digits(rest);
        rest = tail.strip_prefix('-')?;
        attachments = digits.parse().ok().filter(|count| (1..=MAX_ATTACHMENTS).contains(count))?;
    }
    let mut namespace = "/";
    if rest.starts_with('/') {
        (namespace, rest) = rest.split_once(',').unwrap_or((rest, ""));
    }
    let (digits, json) = split_digits(rest);
    let id = if digits.is_empty() { None } else { Some(digits.parse().ok()?) };
    let json = if json.is_empty() { None } else { Some(json) };
    Some(Packet { kind, attachments, namespace, id, json })
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}
