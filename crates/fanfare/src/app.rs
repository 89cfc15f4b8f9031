//! The settings of the app callback, which belong together.

use std::time::Duration;

use fanfare_edge::rules::Pattern;
use fanfare_edge::{AppEndpoint, AppFormat};

use crate::settings::Settings;

/// Shortest secret, in bytes: whoever guesses it can speak for fanfare.
const LEAST_SECRET: usize = 16;

/// What the settings say about the app.
#[derive(Clone)]
pub(crate) struct AppSettings {
    url: Option<hyper::Uri>,
    secret: Option<String>,
    format: AppFormat,
    pub(crate) timeout: Duration,
    namespaces: Option<Vec<Pattern>>,
}

impl std::fmt::Debug for AppSettings {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppSettings").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Default for AppSettings {
    fn default() -> Self {
        Self { url: None, secret: None, format: AppFormat::Json, timeout: Duration::ZERO, namespaces: None }
    }
}

impl AppSettings {
    /// The endpoint; an error says which setting is missing, and what to write.
    pub(crate) fn endpoint(self) -> Result<Option<AppEndpoint>, (&'static str, &'static str)> {
        match (self.url, self.secret) {
            (None, None) => Ok(None),
            (Some(url), Some(secret)) => Ok(Some(AppEndpoint {
                url,
                secret,
                format: self.format,
                timeout: self.timeout,
                namespaces: self.namespaces,
            })),
            (Some(_), None) => Err((
                "app_secret",
                "app_url is given and this is not; the app has to know who calls it, so choose a secret, as with \
                 openssl rand -hex 32",
            )),
            (None, Some(_)) => {
                Err(("app_url", "app_secret is given and this is not; write where the app is"))
            }
        }
    }
}

pub(crate) fn set_url(to: &mut Settings, text: &str) -> Result<(), String> {
    let wrong = || format!("`{text}` is no address of an app; write it as http://127.0.0.1:8080/realtime");
    let url: hyper::Uri = text.parse().map_err(|_| wrong())?;
    if url.scheme_str() == Some("https") {
        return Err("TLS to the app is not available; write http:// and keep the way private".to_owned());
    }
    if url.scheme_str() != Some("http") || url.host().is_none_or(str::is_empty) || text.contains('@') {
        return Err(wrong());
    }
    to.app.url = Some(url);
    Ok(())
}

pub(crate) fn set_secret(to: &mut Settings, text: &str) -> Result<(), String> {
    if text.len() < LEAST_SECRET {
        return Err(format!("this is too short to be a secret; write at least {LEAST_SECRET} bytes"));
    }
    to.app.secret = Some(text.to_owned());
    Ok(())
}

pub(crate) fn set_format(to: &mut Settings, text: &str) -> Result<(), String> {
    to.app.format = match text {
        "json" => AppFormat::Json,
        "msgpack" => AppFormat::Msgpack,
        _ => return Err(format!("`{text}` is no format of calls; write json or msgpack")),
    };
    Ok(())
}

pub(crate) fn set_namespaces(to: &mut Settings, list: &[String]) -> Result<(), String> {
    let parse = |name: &String| {
        if !name.starts_with('/') {
            return Err(format!("`{name}` is no namespace; write /{name}"));
        }
        Pattern::parse(name).map_err(|error| error.to_string())
    };
    to.app.namespaces = Some(list.iter().map(parse).collect::<Result<_, _>>()?);
    Ok(())
}
