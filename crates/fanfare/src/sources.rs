//! Where values come from, each with the place to name when it is wrong.

use std::ffi::OsString;
use std::fmt;

use crate::nearest::suggestion;
use crate::settings::{SETTINGS, Setting};

/// Variables that are no settings of the registry: the file to read, and the filter of log lines.
pub(crate) const OTHER_VARIABLES: [&str; 2] = ["FANFARE_CONFIG", "FANFARE_LOG"];

/// A value somebody gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) key: &'static str,
    pub(crate) value: Written,
    /// As it stands in front of an error: `--listen`, `FANFARE_LISTEN`, `fanfare.toml:3: listen`.
    pub(crate) place: String,
}

/// A value as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Written {
    One(String),
    /// An array of the file.
    Many(Vec<String>),
}

/// Settings that cannot be used: where, and one sentence with what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigError {
    pub(crate) place: String,
    pub(crate) sentence: String,
}

impl ConfigError {
    pub(crate) fn new(place: impl Into<String>, sentence: impl Into<String>) -> Self {
        Self { place: place.into(), sentence: sentence.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stop = if self.sentence.ends_with(['.', '?']) { "" } else { "." };
        write!(f, "{}: {}{stop}", self.place, self.sentence)
    }
}

impl std::error::Error for ConfigError {}

/// The settings among `variables`. One that begins with `FANFARE_` and is unknown is an error; an empty one
/// counts as not set, since compose files and shells cannot always leave it out.
pub(crate) fn environment(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<Given>, ConfigError> {
    let mut found = Vec::new();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with("FANFARE_")) else { continue };
        if value.is_empty() || OTHER_VARIABLES.contains(&name) {
            continue;
        }
        let Some(setting) = SETTINGS.iter().find(|setting| setting.variable() == name) else {
            return Err(unknown_variable(name));
        };
        let Ok(value) = value.into_string() else {
            return Err(ConfigError::new(name, "the value is not UTF-8"));
        };
        found.push(Given { key: setting.key, value: Written::One(value), place: name.to_owned() });
    }
    Ok(found)
}

fn unknown_variable(name: &str) -> ConfigError {
    // What Kubernetes sets for every Service: FANFARE_SERVICE_HOST, FANFARE_PORT_3000_TCP_ADDR and so on.
    if name.contains("_SERVICE_") || name.contains("_PORT") {
        let sentence = "no setting has this name; Kubernetes sets it for a Service called fanfare, so write \
                        `enableServiceLinks: false` in the pod's spec";
        return ConfigError::new(name, sentence);
    }
    let known: Vec<String> = SETTINGS.iter().map(Setting::variable).collect();
    let names = known.iter().map(String::as_str).chain(OTHER_VARIABLES);
    ConfigError::new(name, format!("no setting has this name.{}", suggestion(name, names)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(list: &[(&str, &str)]) -> Result<Vec<Given>, ConfigError> {
        environment(list.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))))
    }

    #[test]
    fn variables_are_found_by_name_and_others_left_alone() {
        let given = variables(&[("PATH", "/bin"), ("FANFARE_REDIS", "redis://h"), ("FANFARE_LOG", "debug")]);
        let place = "FANFARE_REDIS".to_owned();
        let value = Written::One("redis://h".to_owned());
        assert_eq!(given, Ok(vec![Given { key: "redis", value, place }]));
        assert_eq!(variables(&[("FANFARE_REDIS", ""), ("FANFARE_NONSENSE", "")]), Ok(vec![]));
    }

    #[test]
    fn an_unknown_variable_is_told_with_the_nearest() {
        let error = variables(&[("FANFARE_LISTN", "x")]).unwrap_err().to_string();
        assert_eq!(error, "FANFARE_LISTN: no setting has this name. Did you mean `FANFARE_LISTEN`?");
        let error = variables(&[("FANFARE_PORT_3000_TCP", "x")]).unwrap_err().to_string();
        assert!(error.contains("enableServiceLinks: false"), "{error}");
    }
}
