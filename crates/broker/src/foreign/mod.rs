//! What servers and publishers that are not fanfare's own say on the bus beside envelopes, and how they are
//! answered: the requests of Socket.IO's Redis adapter and emitters, and python-socketio's one channel.
//!
//! Like envelopes, what arrives is written by anyone and checked whole before anything of it is used.

mod answer;
mod python;
mod requests;

pub(crate) use answer::answer_of;
pub use python::{FromPython, PythonDialect, decode_python};
pub use requests::decode_request;

use fanfare_protocol::json::{self, JsonError};

use crate::Malformed;

/// The MessagePack form of a JSON text.
pub(crate) fn json_to_msgpack(text: &[u8]) -> Result<Vec<u8>, Malformed> {
    let text = std::str::from_utf8(text).map_err(|_| Malformed::Shape)?;
    let mended = json::mend(text);
    let mut out = Vec::with_capacity(text.len());
    json::to_msgpack(mended.as_deref().unwrap_or(text), &mut out).map_err(|error| of_json(&error))?;
    Ok(out)
}

fn of_json(error: &JsonError) -> Malformed {
    match error {
        JsonError::TooDeep => Malformed::TooDeep,
        _ => Malformed::Shape,
    }
}

#[cfg(test)]
mod tests;
