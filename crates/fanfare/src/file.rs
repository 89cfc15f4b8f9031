//! The TOML file: settings by their keys, and the room classes under `[rooms.NAME]`.

use std::path::Path;

use fanfare_edge::rules::{Pattern, Relay, RoomClass};
use fanfare_protocol::publication::check_event_name;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::nearest::suggestion;
use crate::settings::{Kind, SETTINGS, Setting};
use crate::sources::{ConfigError, Given, Written};

const CLASS_KEYS: [&str; 4] = ["pattern", "join", "leave", "relay"];
const RELAY_KEYS: [&str; 3] = ["emit", "volatile", "echo"];

/// What the file says.
#[derive(Debug, Default)]
pub(crate) struct FromFile {
    pub(crate) given: Vec<Given>,
    pub(crate) classes: Vec<RoomClass>,
}

/// Reads the file at `path`.
pub(crate) fn read(path: &Path) -> Result<FromFile, ConfigError> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&name, &text),
        Err(error) => Err(ConfigError::new(name, format!("the file cannot be read: {error}"))),
    }
}

/// Reads `text`, which errors call `name`.
pub(crate) fn parse(name: &str, text: &str) -> Result<FromFile, ConfigError> {
    let source = Source { name, text };
    let table = DeTable::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        source.error(at, format!("this is not TOML: {}", error.message().trim_end()))
    })?;
    let mut from_file = FromFile::default();
    for (key, value) in table.get_ref() {
        if key.get_ref() == "rooms" {
            from_file.classes = source.classes(value)?;
        } else {
            from_file.given.push(source.given(key, value)?);
        }
    }
    Ok(from_file)
}

type Key<'a> = Spanned<std::borrow::Cow<'a, str>>;
type Value<'a> = Spanned<DeValue<'a>>;

struct Source<'a> {
    name: &'a str,
    text: &'a str,
}

impl Source<'_> {
    fn place(&self, at: usize) -> String {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        format!("{}:{}", self.name, before.iter().filter(|byte| **byte == b'\n').count() + 1)
    }

    fn error(&self, at: usize, sentence: impl Into<String>) -> ConfigError {
        ConfigError::new(self.place(at), sentence)
    }

    fn unknown<'k>(
        &self,
        key: &Key<'_>,
        what: &str,
        known: impl IntoIterator<Item = &'k str>,
    ) -> ConfigError {
        let hint = suggestion(key.get_ref(), known);
        self.error(key.span().start, format!("`{}` is no {what}.{hint}", key.get_ref()))
    }

    fn given(&self, key: &Key<'_>, value: &Value<'_>) -> Result<Given, ConfigError> {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key.get_ref()) else {
            let known = SETTINGS.iter().map(|setting| setting.key).chain(["rooms"]);
            return Err(self.unknown(key, "setting", known));
        };
        let place = format!("{}: {}", self.place(key.span().start), setting.key);
        let written =
            written(setting, value.get_ref()).map_err(|sentence| ConfigError::new(&*place, sentence))?;
        Ok(Given { key: setting.key, value: written, place })
    }

    fn classes(&self, value: &Value<'_>) -> Result<Vec<RoomClass>, ConfigError> {
        let table = self.table(value, "`rooms` holds room classes; write [rooms.NAME]")?;
        table.iter().map(|(name, class)| self.class(name, class)).collect()
    }

    fn class(&self, name: &Key<'_>, value: &Value<'_>) -> Result<RoomClass, ConfigError> {
        let called = format!("[rooms.{}]", name.get_ref());
        let table = self.table(value, &format!("a room class is a table; write {called}"))?;
        if let Some((key, _)) = table.iter().find(|(key, _)| !CLASS_KEYS.contains(&&**key.get_ref())) {
            return Err(self.unknown(key, &format!("part of {called}"), CLASS_KEYS));
        }
        let Some(pattern) = table.get("pattern") else {
            let sentence =
                format!("{called} has no pattern; add one, as pattern = \"{}:{{id}}\"", name.get_ref());
            return Err(self.error(name.span().start, sentence));
        };
        let at = pattern.span().start;
        let text = self.text(pattern, "a pattern is text, as \"channel:{id}\"")?;
        let pattern = Pattern::parse(text).map_err(|error| self.error(at, error.to_string()))?;
        let relay = match table.get("relay") {
            Some(relays) => self.relays(relays, &called)?,
            None => Vec::new(),
        };
        let join = self.events(table.get("join"))?;
        let leave = self.events(table.get("leave"))?;
        Ok(RoomClass { name: name.get_ref().to_string(), pattern, join, leave, relay })
    }

    fn relays(&self, value: &Value<'_>, class: &str) -> Result<Vec<Relay>, ConfigError> {
        let advice = format!("relays are tables; write [{}.relay.\"EVENT\"]", class.trim_matches(['[', ']']));
        let table = self.table(value, &advice)?;
        let mut relays = Vec::with_capacity(table.len());
        for (event, options) in table {
            let options = self.table(options, &advice)?;
            if let Some((key, _)) = options.iter().find(|(key, _)| !RELAY_KEYS.contains(&&**key.get_ref())) {
                return Err(self.unknown(key, "part of a relay", RELAY_KEYS));
            }
            self.check_event(event.get_ref(), event.span().start)?;
            let emit = match options.get("emit") {
                Some(emit) => self.event(emit)?,
                None => event.get_ref().to_string(),
            };
            relays.push(Relay {
                event: event.get_ref().to_string(),
                emit,
                volatile: self.switch(options.get("volatile"))?,
                echo: self.switch(options.get("echo"))?,
            });
        }
        Ok(relays)
    }

    fn events(&self, value: Option<&Value<'_>>) -> Result<Vec<String>, ConfigError> {
        let Some(value) = value else { return Ok(Vec::new()) };
        let Some(array) = value.get_ref().as_array() else {
            let sentence = "names of events are an array; write [\"join:channel\"]";
            return Err(self.error(value.span().start, sentence));
        };
        array.iter().map(|event| self.event(event)).collect()
    }

    fn event(&self, value: &Value<'_>) -> Result<String, ConfigError> {
        let event = self.text(value, "a name of an event is text, as \"join:channel\"")?;
        self.check_event(event, value.span().start)?;
        Ok(event.to_owned())
    }

    fn check_event(&self, event: &str, at: usize) -> Result<(), ConfigError> {
        check_event_name(event).map_err(|error| self.error(at, format!("`{event}`: {error}")))
    }

    fn switch(&self, value: Option<&Value<'_>>) -> Result<bool, ConfigError> {
        let Some(value) = value else { return Ok(false) };
        let refused =
            || self.error(value.span().start, "this is on or off; write true or false, without quotes");
        value.get_ref().as_bool().ok_or_else(refused)
    }

    fn text<'v>(&self, value: &'v Value<'_>, advice: &str) -> Result<&'v str, ConfigError> {
        value.get_ref().as_str().ok_or_else(|| self.error(value.span().start, advice))
    }

    fn table<'v, 'i>(&self, value: &'v Value<'i>, advice: &str) -> Result<&'v DeTable<'i>, ConfigError> {
        value.get_ref().as_table().ok_or_else(|| self.error(value.span().start, advice))
    }
}

/// The value in the form that flags and variables have, so that one parser reads all three.
fn written(setting: &Setting, value: &DeValue<'_>) -> Result<Written, String> {
    if let Kind::List { .. } = setting.kind {
        let items = value.as_array().map(|array| array.iter().map(|item| item.get_ref().as_str()));
        let texts: Option<Vec<&str>> = items.and_then(Iterator::collect);
        return match texts {
            Some(texts) => Ok(Written::Many(texts.into_iter().map(str::to_owned).collect())),
            None => Err("this is a list; write an array of texts, as [\"one\", \"two\"]".to_owned()),
        };
    }
    match value {
        DeValue::String(text) => Ok(Written::One(text.to_string())),
        DeValue::Boolean(value) => Ok(Written::One(value.to_string())),
        DeValue::Integer(number) if number.radix() == 10 => Ok(Written::One(number.as_str().to_owned())),
        other => Err(format!("a value of type {} does not fit here; write text in quotes", other.type_str())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse("f.toml", text).unwrap_err().to_string()
    }

    #[test]
    fn settings_and_room_classes_are_read() {
        let text = r#"
            listen = "0.0.0.0:80"
            connections = 5_000
            origins = ["https://a.example"]
            [rooms.channel]
            pattern = "channel:{channelId}"
            join = ["join:channel"]
            leave = ["leave:channel"]
            [rooms.channel.relay."typing:start"]
            emit = "user:typing"
            volatile = true
            [rooms.channel.relay."read"]
            echo = true
        "#;
        let file = parse("f.toml", text).unwrap();
        let given = |key| file.given.iter().find(|given| given.key == key).unwrap();
        assert_eq!(given("listen").place, "f.toml:2: listen");
        assert_eq!(given("connections").value, Written::One("5000".to_owned()));
        assert_eq!(given("origins").value, Written::Many(vec!["https://a.example".to_owned()]));
        let class = &file.classes[0];
        assert_eq!((class.name.as_str(), &class.join[..]), ("channel", &["join:channel".to_owned()][..]));
        let relay = |event| class.relay.iter().find(|relay| relay.event == event).unwrap();
        let typing = relay("typing:start");
        assert_eq!((typing.emit.as_str(), typing.volatile, typing.echo), ("user:typing", true, false));
        assert_eq!((relay("read").emit.as_str(), relay("read").echo), ("read", true));
    }

    #[test]
    fn unknown_keys_are_told_with_line_and_nearest() {
        assert_eq!(error("\n\nprivat = 1"), "f.toml:3: `privat` is no setting. Did you mean `private`?");
        let class = "[rooms.channel]\npattern = \"c:{id}\"\njoins = [\"x\"]";
        assert_eq!(error(class), "f.toml:3: `joins` is no part of [rooms.channel]. Did you mean `join`?");
        let relay = "[rooms.c]\npattern = \"c:{id}\"\n[rooms.c.relay.x]\nvolatil = true";
        assert_eq!(error(relay), "f.toml:4: `volatil` is no part of a relay. Did you mean `volatile`?");
    }

    #[test]
    fn wrong_shapes_are_told_with_what_to_write() {
        assert!(error("listen = ").starts_with("f.toml:1: this is not TOML"));
        assert!(error("dev = true\ndev = true").starts_with("f.toml:2: this is not TOML"));
        assert!(error("origins = \"x\"").contains("[\"one\", \"two\"]"));
        assert!(error("linger = 1.5").contains("in quotes"));
        assert!(error("rooms = 3").contains("[rooms.NAME]"));
        assert!(error("[rooms.a]\njoin = [\"x\"]").contains("pattern = \"a:{id}\""));
        assert!(error("[rooms.a]\npattern = \"a:{id}\"\njoin = \"x\"").contains("[\"join:channel\"]"));
        assert!(
            error("[rooms.a]\npattern = \"a:{id}\"\nrelay.x = true").contains("[rooms.a.relay.\"EVENT\"]")
        );
        assert!(error("[rooms.a]\npattern = \"a:{id}\"\nrelay.x.echo = \"true\"").contains("without quotes"));
        assert!(error("[rooms.a]\npattern = \"a:{id}\"\njoin = [\"\"]").contains("is empty"));
        assert!(error("[rooms.a]\npattern = \"a:{id}\"\nrelay.x.emit = \"connect\"").contains("reserved"));
    }
}
