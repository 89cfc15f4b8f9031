//! Redis: `PUBLISH socket.io#/#{room}# envelope`, the envelope being what `@socket.io/redis-emitter` sends
//! for `to(room).emit("e", payload)`.

use std::io::Write;

use super::Answers;

pub(super) const WRITING_TO_MEMORY: &str = "a Vec takes every write";

pub(super) fn write_publish(room: &str, payload: &[u8], out: &mut Vec<u8>) {
    let mut envelope = Vec::with_capacity(payload.len() + room.len() + 80);
    write_envelope(room, payload, &mut envelope).expect(WRITING_TO_MEMORY);
    write_command(&format!("socket.io#/#{room}#"), &envelope, out);
}

/// `PUBLISH channel bytes`.
pub(super) fn write_command(channel: &str, bytes: &[u8], out: &mut Vec<u8>) {
    let (length, size) = (channel.len(), bytes.len());
    write!(out, "*3\r\n$7\r\nPUBLISH\r\n${length}\r\n{channel}\r\n${size}\r\n").expect(WRITING_TO_MEMORY);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// `[uid, {type: 2, data: [event, payload], nsp: "/"}, {rooms: [room], flags: {}, except: []}]`.
fn write_envelope(
    room: &str,
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), rmp::encode::ValueWriteError<std::io::Error>> {
    use rmp::encode::{write_array_len, write_map_len, write_pfix, write_str, write_str_len};
    write_array_len(out, 3)?;
    write_str(out, "emitter")?;
    write_map_len(out, 3)?;
    write_str(out, "type")?;
    write_pfix(out, 2).map_err(rmp::encode::ValueWriteError::InvalidMarkerWrite)?;
    write_str(out, "data")?;
    write_array_len(out, 2)?;
    write_str(out, "e")?;
    write_str_len(out, payload.len() as u32)?;
    out.extend_from_slice(payload);
    write_str(out, "nsp")?;
    write_str(out, "/")?;
    write_map_len(out, 3)?;
    write_str(out, "rooms")?;
    write_array_len(out, 1)?;
    write_str(out, room)?;
    write_str(out, "flags")?;
    write_map_len(out, 0)?;
    write_str(out, "except")?;
    write_array_len(out, 0)?;
    Ok(())
}

/// Counts `:n` and `-error` lines; returns the bytes they took. A publication that no node listens for
/// (`:0`) is refused: its members are elsewhere, or nowhere.
pub(super) fn count_answers(bytes: &[u8], answers: &mut Answers) -> usize {
    let mut used = 0;
    while let Some(end) = memchr::memmem::find(&bytes[used..], b"\r\n") {
        match &bytes[used..used + end] {
            b":0" => answers.refused += 1,
            [b':', ..] => answers.accepted += 1,
            _ => answers.refused += 1,
        }
        used += end + 2;
    }
    used
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `io.to("r1").emit("e", "x")`, the emitter's capture of the same form with these names in it.
    #[test]
    fn the_envelope_is_the_emitters() {
        let mut out = Vec::new();
        write_publish("r1", b"x", &mut out);
        let mut expected = b"*3\r\n$7\r\nPUBLISH\r\n$15\r\nsocket.io#/#r1#\r\n$58\r\n".to_vec();
        expected.extend(b"\x93\xa7emitter\x83\xa4type\x02\xa4data\x92\xa1e\xa1x\xa3nsp\xa1/");
        expected.extend(b"\x83\xa5rooms\x91\xa2r1\xa5flags\x80\xa6except\x90\r\n");
        assert_eq!(out, expected);
    }

    #[test]
    fn long_payloads_take_the_longer_string_form() {
        let mut out = Vec::new();
        write_publish("r1", &[b'x'; 128], &mut out);
        assert!(memchr::memmem::find(&out, b"\xa1e\xd9\x80xxx").is_some());
    }

    #[test]
    fn answers_are_counted_across_cuts() {
        let mut answers = Answers::default();
        let bytes = b":1\r\n:0\r\n-ERR no\r\n:12";
        assert_eq!(count_answers(bytes, &mut answers), bytes.len() - 3);
        assert_eq!(answers, Answers { accepted: 1, refused: 2 });
    }
}
