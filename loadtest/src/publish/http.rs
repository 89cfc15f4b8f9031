//! HTTP/1.1 POST, kept alive and pipelined.

use std::io::Write;
use std::net::SocketAddr;

use super::Answers;

pub(super) fn write_post(host: SocketAddr, room: &str, payload: &[u8], out: &mut Vec<u8>) {
    write!(out, "POST /pub/{room} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n", payload.len())
        .expect("a Vec takes every write");
    out.extend_from_slice(payload);
}

/// Counts whole answers; returns the bytes they took. An answer without a length counts as refused.
pub(super) fn count_answers(bytes: &[u8], answers: &mut Answers) -> usize {
    let mut used = 0;
    while let Some(head) = memchr::memmem::find(&bytes[used..], b"\r\n\r\n") {
        let answer = &bytes[used..];
        let length = content_length(&answer[..head]);
        let end = head + 4 + length.unwrap_or(0);
        if answer.len() < end {
            break;
        }
        match (length, answer.get(9)) {
            (Some(_), Some(b'2')) => answers.accepted += 1,
            _ => answers.refused += 1,
        }
        used += end;
    }
    used
}

fn content_length(head: &[u8]) -> Option<usize> {
    let head = std::str::from_utf8(head).ok()?;
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_answers_are_counted_and_halves_wait() {
        let accepted = b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok";
        let refused = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
        let mut bytes = [&accepted[..], refused, accepted].concat();
        let whole = bytes.len();
        bytes.extend(&accepted[..accepted.len() - 1]);
        let mut answers = Answers::default();
        assert_eq!(count_answers(&bytes, &mut answers), whole);
        assert_eq!(answers, Answers { accepted: 2, refused: 1 });
    }
}
