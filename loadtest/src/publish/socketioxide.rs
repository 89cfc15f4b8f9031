//! Redis: `PUBLISH socket.io-request#/# request`, the request being what socketioxide-emitter sends for
//! `to(room).emit("e", payload)`. Its one channel carries every room's publications to every node.

use rmp::encode::{ValueWriteError, write_array_len, write_nil, write_pfix, write_str, write_uint};

use super::resp;

const CHANNEL: &str = "socket.io-request#/#";
/// Identities of a node and of a request are 16 characters; nodes tell only their own from others'.
const NODE: &str = "loadtestloadtest";
const REQUEST: &str = "publication00000";
/// `BroadcastFlags::Broadcast`.
const BROADCAST: u8 = 0x02;

pub(super) fn write_publish(room: &str, payload: &[u8], out: &mut Vec<u8>) {
    let mut request = Vec::with_capacity(payload.len() + room.len() + 80);
    write_request(room, payload, &mut request).expect(resp::WRITING_TO_MEMORY);
    resp::write_command(CHANNEL, &request, out);
}

/// `[node, id, 0, ["/", 2, [0, bytes, nil], nil, nil], nil, [flags, [room], [], nil, nil]]`, the bytes being
/// the event as JSON, as an array of numbers.
fn write_request(
    room: &str,
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), ValueWriteError<std::io::Error>> {
    let number =
        |value: u8, out: &mut Vec<u8>| write_pfix(out, value).map_err(ValueWriteError::InvalidMarkerWrite);
    let nil = |out: &mut Vec<u8>| write_nil(out).map_err(ValueWriteError::InvalidMarkerWrite);
    write_array_len(out, 6)?;
    write_str(out, NODE)?;
    write_str(out, REQUEST)?;
    number(0, out)?;
    write_array_len(out, 5)?;
    write_str(out, "/")?;
    number(2, out)?;
    write_array_len(out, 3)?;
    number(0, out)?;
    let event: [&[u8]; 3] = [br#"["e",""#, payload, br#""]"#];
    write_array_len(out, event.iter().map(|part| part.len() as u32).sum())?;
    for byte in event.into_iter().flatten() {
        write_uint(out, u64::from(*byte))?;
    }
    nil(out)?;
    nil(out)?;
    nil(out)?;
    nil(out)?;
    write_array_len(out, 5)?;
    number(BROADCAST, out)?;
    write_array_len(out, 1)?;
    write_str(out, room)?;
    write_array_len(out, 0)?;
    nil(out)?;
    nil(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `IoEmitter::new().to("r1").emit("e", "x", …)` of socketioxide-emitter 0.1.0, its identities replaced.
    #[test]
    fn the_request_is_the_emitters() {
        let mut out = Vec::new();
        write_publish("r1", b"x", &mut out);
        let mut expected = b"*3\r\n$7\r\nPUBLISH\r\n$20\r\nsocket.io-request#/#\r\n$65\r\n".to_vec();
        expected.extend(b"\x96\xb0loadtestloadtest\xb0publication00000\x00\x95\xa1/\x02\x93\x00");
        expected.extend(b"\x99[\"e\",\"x\"]\xc0\xc0\xc0\xc0\x95\x02\x91\xa2r1\x90\xc0\xc0\r\n");
        assert_eq!(out, expected);
    }

    #[test]
    fn long_payloads_take_the_longer_array_form() {
        let mut out = Vec::new();
        write_publish("r1", &[b'y'; 300], &mut out);
        assert!(memchr::memmem::find(&out, b"\x93\x00\xdc\x01\x34[\"e\",\"yyy").is_some());
    }
}
