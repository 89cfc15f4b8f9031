//! What browsers are told about pages of other origins (the Fetch standard's CORS protocol), from the same setting
//! that says whose pages may connect.

use axum::response::{IntoResponse, Response};
use hyper::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_REQUEST_HEADERS, HeaderMap, HeaderValue, ORIGIN, VARY,
};
use hyper::{Method, StatusCode};

use crate::config::{Config, Origins};

const METHODS: HeaderValue = HeaderValue::from_static("GET,HEAD,PUT,PATCH,POST,DELETE");

/// What one request's answer says.
#[derive(Debug)]
pub(super) struct Cors {
    /// Whom the answer is for; `None`: the page's origin is not allowed.
    origin: Option<HeaderValue>,
    /// Another origin would get another answer.
    varies: bool,
    credentials: bool,
    /// Headers that the page wants to send: the answer depends on them.
    asked: Option<HeaderValue>,
}

impl Cors {
    /// `None`: pages of other origins are not served here, and nothing is said.
    pub(super) fn of(config: &Config, headers: &HeaderMap) -> Option<Self> {
        let asked = headers.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned();
        match &config.origins {
            Origins::Any => {
                let origin = Some(HeaderValue::from_static("*"));
                Some(Self { origin, varies: false, credentials: false, asked })
            }
            Origins::SameHostAnd(list) if list.is_empty() => None,
            Origins::SameHostAnd(list) => {
                let listed = |origin: &&HeaderValue| {
                    list.iter().any(|listed| listed.as_bytes().eq_ignore_ascii_case(origin.as_bytes()))
                };
                let origin = headers.get(ORIGIN).filter(listed).cloned();
                Some(Self { origin, varies: true, credentials: config.cors_credentials, asked })
            }
        }
    }

    /// The answer to a browser that asks before it sends.
    pub(super) fn preflight(&self, method: &Method) -> Option<Response> {
        if method != Method::OPTIONS {
            return None;
        }
        let mut response = StatusCode::NO_CONTENT.into_response();
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.append(VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
        if let Some(asked) = &self.asked {
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
        }
        Some(response)
    }

    pub(super) fn write(self, headers: &mut HeaderMap) {
        if self.varies {
            headers.append(VARY, HeaderValue::from_static("Origin"));
        }
        let Some(origin) = self.origin else { return };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
}
