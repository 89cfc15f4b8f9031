//! The files of socket.io-client that pages load with a script tag, from a folder that a setting names.

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use tower::ServiceExt as _;
use tower_http::services::ServeFile;

use crate::config::Config;

/// The file that a path below that of Socket.IO names: `socket.io.js`, its siblings and their maps.
pub(super) fn file_of<'a>(config: &Config, path: &'a str) -> Option<&'a str> {
    let name = path.strip_prefix(&*config.socketio_path)?;
    let stem = name.strip_suffix(".map").unwrap_or(name).strip_suffix(".js")?;
    let plain = stem.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'.');
    (stem.starts_with("socket.io") && plain && !stem.contains("..")).then_some(name)
}

/// The file, or how it can be had.
pub(super) async fn serve(config: &Config, name: &str, request: Request) -> Response {
    let Some(folder) = &config.client_dist else {
        let text = "the files of socket.io-client are not served here: name the folder dist of that npm package \
                    in the setting client_dist, or load it from your own bundle or a CDN\n";
        return (StatusCode::NOT_FOUND, text).into_response();
    };
    let kind = if name.ends_with(".map") {
        HeaderValue::from_static("application/json; charset=utf-8")
    } else {
        HeaderValue::from_static("application/javascript; charset=utf-8")
    };
    let served = ServeFile::new(folder.join(name)).oneshot(request).await;
    let mut response = served.unwrap_or_else(|never| match never {}).map(Body::new);
    if response.status().is_success() {
        response.headers_mut().insert(CONTENT_TYPE, kind);
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=0"));
    }
    response
}
