//! Large answers of long-polling, compressed as the client accepts it (RFC 9110 §12.5.3).

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use hyper::HeaderMap;
use hyper::header::ACCEPT_ENCODING;

/// Smaller bodies go as they are, as with the reference server.
const WORTH_IT: usize = 1024;

/// A form that a client accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
}

impl Coding {
    /// The one that the client likes best, gzip where it likes both.
    pub(super) fn accepted(headers: &HeaderMap) -> Option<Self> {
        let texts = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        let given: Vec<(&str, f32)> = texts.flat_map(|text| text.split(',')).map(weighed).collect();
        let weight = |name: &str| {
            let named = given.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
            named.or_else(|| given.iter().find(|(given, _)| *given == "*")).map_or(0.0, |(_, weight)| *weight)
        };
        let (gzip, deflate) = (weight("gzip"), weight("deflate"));
        if gzip <= 0.0 && deflate <= 0.0 {
            return None;
        }
        Some(if gzip >= deflate { Self::Gzip } else { Self::Deflate })
    }

    /// The value of `Content-Encoding`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    /// The body in this form, where it is worth it; otherwise as it was. A megabyte takes some milliseconds.
    pub(super) fn encode(self, body: String) -> Result<Vec<u8>, String> {
        if body.len() < WORTH_IT { Err(body) } else { Ok(self.compress(body.as_bytes())) }
    }

    fn compress(self, body: &[u8]) -> Vec<u8> {
        let (out, level) = (Vec::with_capacity(body.len() / 4), Compression::fast());
        let written = match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(out, level);
                encoder.write_all(body).and_then(|()| encoder.finish())
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(out, level);
                encoder.write_all(body).and_then(|()| encoder.finish())
            }
        };
        // Writing into memory does not fail.
        written.unwrap_or_default()
    }
}

/// One item of the header: its name, and how much it is liked, 1 where nothing is said.
fn weighed(item: &str) -> (&str, f32) {
    let mut parts = item.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default();
    let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    (name, weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0)))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn the_client_chooses() {
        let rows = [
            (None, None),
            (Some(""), None),
            (Some("identity, br"), None),
            (Some("gzip, deflate, br"), Some(Coding::Gzip)),
            (Some("deflate, GZIP"), Some(Coding::Gzip)),
            (Some("gzip;q=0.5, deflate;q=0.8"), Some(Coding::Deflate)),
            (Some("gzip;q=0, deflate"), Some(Coding::Deflate)),
            (Some("gzip ; q=0"), None),
            (Some("*"), Some(Coding::Gzip)),
            (Some("*;q=0"), None),
            (Some("gzip;q=x"), None),
        ];
        for (header, expected) in rows {
            let mut headers = HeaderMap::new();
            headers.extend(header.map(|text| (ACCEPT_ENCODING, HeaderValue::from_static(text))));
            assert_eq!(Coding::accepted(&headers), expected, "{header:?}");
        }
    }
}
