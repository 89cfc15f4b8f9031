//! What clients may do: room classes with the events that join, leave and relay. Deny by default.

use std::borrow::Cow;
use std::collections::HashMap;

use fanfare_protocol::msgpack::{self, EventView};
use fanfare_protocol::name::check_room;
use fanfare_protocol::publication::check_event_name;
use fanfare_protocol::{Refusal, RefusalCode};

/// The rules of a node.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    open: bool,
    classes: Vec<RoomClass>,
    /// Event name to the class it is about and what it does there.
    events: HashMap<String, (usize, Verb)>,
}

/// Rooms whose names follow one pattern.
#[derive(Debug, Clone)]
pub struct RoomClass {
    /// Its name in the config.
    pub name: String,
    pub pattern: Pattern,
    /// Events that join a room of this class. A class without any cannot be joined.
    pub join: Vec<String>,
    /// Events that leave one.
    pub leave: Vec<String>,
    /// Events that are passed on to a room of this class.
    pub relay: Vec<Relay>,
}

/// An event that members may send to their room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    /// Name of the event that clients emit.
    pub event: String,
    /// Name under which the room receives it.
    pub emit: String,
    /// May be dropped for members that cannot take it now.
    pub volatile: bool,
    /// The sender gets it too.
    pub echo: bool,
}

/// A room name with one placeholder, as `channel:{id}`, or without, as `lobby`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    prefix: String,
    placeholder: Option<String>,
    suffix: String,
}

/// Why rules were refused, in words for whoever wrote them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Correct the pattern.
    #[error("room pattern \"{0}\" needs the form \"channel:{{id}}\": text with at most one {{placeholder}}")]
    Pattern(String),
    /// Give one of the events another name.
    #[error(
        "event \"{event}\" is named by class \"{first}\" and again by class \"{second}\"; an event has one rule"
    )]
    Twice { event: String, first: String, second: String },
}

#[derive(Debug, Clone)]
enum Verb {
    Join,
    Leave,
    Relay(Relay),
}

/// What an event asks for, once the rules allow it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Join(String),
    Leave(String),
    Relay(RelayTo),
}

/// An event on its way to a room.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RelayTo {
    pub(crate) room: String,
    /// MessagePack array `[event, ...args]` as the room receives it.
    pub(crate) data: Vec<u8>,
    pub(crate) volatile: bool,
    pub(crate) echo: bool,
    /// Only members of the room may send to it.
    pub(crate) members_only: bool,
}

impl Pattern {
    /// Parses `channel:{id}` or `lobby`.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        let wrong = || RuleError::Pattern(text.to_owned());
        let (prefix, placeholder, suffix) = match text.split_once('{') {
            None => (text, None, ""),
            Some((prefix, rest)) => {
                let (name, suffix) = rest.split_once('}').ok_or_else(wrong)?;
                (prefix, Some(name), suffix)
            }
        };
        let braces = |part: &str| part.contains(['{', '}']);
        let named = placeholder.is_none_or(|name| !name.is_empty() && !braces(name));
        if braces(prefix) || braces(suffix) || !named || check_room(text).is_err() {
            return Err(wrong());
        }
        Ok(Self {
            prefix: prefix.to_owned(),
            placeholder: placeholder.map(str::to_owned),
            suffix: suffix.to_owned(),
        })
    }

    pub(crate) fn matches(&self, room: &str) -> bool {
        match &self.placeholder {
            None => room == self.prefix,
            Some(_) => {
                room.len() > self.prefix.len() + self.suffix.len()
                    && room.starts_with(&self.prefix)
                    && room.ends_with(&self.suffix)
            }
        }
    }

    /// The room that an event's first argument names: a string or whole number, or an object's field
    /// with the placeholder's name.
    fn fill(&self, argument: Option<&[u8]>) -> Result<String, Refusal> {
        let Some(placeholder) = &self.placeholder else { return Ok(self.prefix.clone()) };
        let id = argument.and_then(|argument| {
            msgpack::scalar_text(argument)
                .or_else(|| msgpack::field(argument, placeholder).and_then(msgpack::scalar_text))
        });
        let Some(id) = id.filter(|id| !id.is_empty()) else {
            let text = format!("the first argument has to be the {placeholder}, or an object with it");
            return Err(Refusal::new(RefusalCode::BadRequest, text));
        };
        Ok(format!("{}{id}{}", self.prefix, self.suffix))
    }
}

impl Rules {
    /// Rules of development: any room by `join` and `leave`, any event to any room by `publish`.
    pub fn open() -> Self {
        Self { open: true, ..Self::default() }
    }

    /// Rules of a config. Every event name has one rule.
    pub fn new(classes: Vec<RoomClass>) -> Result<Self, RuleError> {
        let mut rules = Self::default();
        for (at, class) in classes.iter().enumerate() {
            let joins = class.join.iter().map(|event| (event, Verb::Join));
            let leaves = class.leave.iter().map(|event| (event, Verb::Leave));
            let relays = class.relay.iter().map(|relay| (&relay.event, Verb::Relay(relay.clone())));
            for (event, verb) in joins.chain(leaves).chain(relays) {
                if let Some((earlier, _)) = rules.events.insert(event.clone(), (at, verb)) {
                    return Err(RuleError::Twice {
                        event: event.clone(),
                        first: classes[earlier].name.clone(),
                        second: class.name.clone(),
                    });
                }
            }
        }
        rules.classes = classes;
        Ok(rules)
    }

    /// The same rules, with everything that they do not name open as in [`Rules::open`].
    pub fn opened(self) -> Self {
        Self { open: true, ..self }
    }

    /// What an event without a room of its own asks for (Socket.IO).
    pub(crate) fn event(&self, event: &EventView<'_>) -> Result<Action, Refusal> {
        let name = event.name();
        let Some((class, verb)) = self.events.get(&*name) else {
            return if self.open { open_event(&name, event) } else { Err(no_rule(&name)) };
        };
        let class = &self.classes[*class];
        let room = class.pattern.fill(event.args().next())?;
        self.check_class(class, &room)?;
        Ok(match verb {
            Verb::Join => Action::Join(room),
            Verb::Leave => Action::Leave(room),
            Verb::Relay(relay) => Action::Relay(relay_to(relay, room, event)),
        })
    }

    /// What an event that names its room asks for (plain).
    pub(crate) fn event_in(&self, room: &str, event: &EventView<'_>) -> Result<RelayTo, Refusal> {
        let name = event.name();
        if let Some((class, Verb::Relay(relay))) = self.events.get(&*name) {
            let class = &self.classes[*class];
            self.check_class(class, room)?;
            return Ok(relay_to(relay, room.to_owned(), event));
        }
        if !self.open {
            return Err(no_rule(&name));
        }
        let args: Vec<&[u8]> = event.args().collect();
        Ok(open_relay(room.to_owned(), &name, &args))
    }

    /// Whether a room may be joined by its name (plain).
    pub(crate) fn join(&self, room: &str) -> Result<(), Refusal> {
        let class = self.class_of(room);
        if self.open || class.is_some_and(|class| !class.join.is_empty()) {
            return Ok(());
        }
        Err(Refusal::new(RefusalCode::Forbidden, "no rule allows joining this room"))
    }

    /// Whether no rule is about an event, so that an app may decide. `in_room`: it names its room (plain).
    pub(crate) fn has_none(&self, in_room: bool, event: &str) -> bool {
        match (self.events.get(event), in_room) {
            (Some((_, Verb::Relay(_))), true) | (Some(_), false) => false,
            (_, true) => !self.open,
            (None, false) => !self.open || !OPEN_EVENTS.contains(&event),
        }
    }

    fn class_of(&self, room: &str) -> Option<&RoomClass> {
        self.classes.iter().find(|class| class.pattern.matches(room))
    }

    /// An id must not turn a room of one class into one of another (`user:{id}` with `1:admin`).
    fn check_class(&self, class: &RoomClass, room: &str) -> Result<(), Refusal> {
        if self.class_of(room).is_some_and(|found| found.name == class.name) {
            return Ok(());
        }
        Err(Refusal::new(
            RefusalCode::Forbidden,
            "the room does not belong to the class that the event is about",
        ))
    }
}

fn relay_to(relay: &Relay, room: String, event: &EventView<'_>) -> RelayTo {
    let args: Vec<&[u8]> = event.args().collect();
    RelayTo {
        room,
        data: msgpack::event(&relay.emit, &args),
        volatile: relay.volatile,
        echo: relay.echo,
        members_only: true,
    }
}

/// What [`open_event`] knows.
const OPEN_EVENTS: [&str; 3] = ["join", "leave", "publish"];

fn open_event(name: &str, event: &EventView<'_>) -> Result<Action, Refusal> {
    let mut args = event.args();
    let mut text = |what: &str| -> Result<Cow<'_, str>, Refusal> {
        let text = args.next().and_then(msgpack::scalar_text).filter(|text| !text.is_empty());
        text.ok_or_else(|| Refusal::new(RefusalCode::BadRequest, format!("{name} needs {what} as text")))
    };
    match name {
        "join" => Ok(Action::Join(text("a room")?.into_owned())),
        "leave" => Ok(Action::Leave(text("a room")?.into_owned())),
        "publish" => {
            let room = text("a room, first")?.into_owned();
            let emit = text("an event, second")?.into_owned();
            if let Err(error) = check_event_name(&emit) {
                return Err(Refusal::new(RefusalCode::BadRequest, format!("event: {error}")));
            }
            let args: Vec<&[u8]> = args.collect();
            Ok(Action::Relay(open_relay(room, &emit, &args)))
        }
        _ => Err(no_rule(name)),
    }
}

fn open_relay(room: String, event: &str, args: &[&[u8]]) -> RelayTo {
    let data = msgpack::event(event, args);
    RelayTo { room, data, volatile: false, echo: true, members_only: false }
}

fn no_rule(event: &str) -> Refusal {
    let shown: String = event.chars().take(64).collect();
    Refusal::new(RefusalCode::Forbidden, format!("no rule allows the event {shown}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Vec<u8> {
        let mut raw = Vec::new();
        msgpack::write_str(text, &mut raw);
        raw
    }

    fn channel() -> RoomClass {
        RoomClass {
            name: "channel".to_owned(),
            pattern: Pattern::parse("channel:{channelId}").unwrap(),
            join: vec!["join:channel".to_owned()],
            leave: vec!["leave:channel".to_owned()],
            relay: vec![Relay {
                event: "typing:start".to_owned(),
                emit: "user:typing".to_owned(),
                volatile: true,
                echo: false,
            }],
        }
    }

    fn ask(rules: &Rules, event: &str, args: &[&[u8]]) -> Result<Action, Refusal> {
        let data = msgpack::event(event, args);
        rules.event(&EventView::parse(&data).unwrap())
    }

    #[test]
    fn the_first_argument_names_the_room() {
        let rules = Rules::new(vec![channel()]).unwrap();
        assert_eq!(ask(&rules, "join:channel", &[&text("7")]), Ok(Action::Join("channel:7".to_owned())));
        assert_eq!(ask(&rules, "join:channel", &[&[7]]), Ok(Action::Join("channel:7".to_owned())));
        let mut object = vec![0x81];
        object.extend(text("channelId"));
        object.extend(text("x"));
        assert_eq!(ask(&rules, "leave:channel", &[&object]), Ok(Action::Leave("channel:x".to_owned())));
        assert_eq!(ask(&rules, "join:channel", &[]).unwrap_err().code, RefusalCode::BadRequest);
        let relayed = ask(&rules, "typing:start", &[&object]).unwrap();
        let Action::Relay(relay) = relayed else { panic!("{relayed:?}") };
        assert_eq!((relay.room.as_str(), relay.echo, relay.members_only), ("channel:x", false, true));
        assert_eq!(relay.data, msgpack::event("user:typing", &[&object]));
    }

    #[test]
    fn what_has_no_rule_is_refused_unless_open() {
        let rules = Rules::new(vec![channel()]).unwrap();
        for event in ["join", "publish", "x"] {
            assert_eq!(ask(&rules, event, &[&text("r")]).unwrap_err().code, RefusalCode::Forbidden);
        }
        assert!(rules.join("channel:1").is_ok());
        assert!(rules.join("other:1").is_err());
        let open = rules.opened();
        assert_eq!(ask(&open, "join", &[&text("r")]), Ok(Action::Join("r".to_owned())));
        assert!(ask(&open, "join:channel", &[&text("r")]).is_ok());
        assert_eq!(
            ask(&open, "publish", &[&text("r"), &text("connect")]).unwrap_err().code,
            RefusalCode::BadRequest
        );
    }

    #[test]
    fn an_id_cannot_leave_its_class() {
        let admin = RoomClass {
            name: "admin".to_owned(),
            pattern: Pattern::parse("user:{id}:admin").unwrap(),
            join: Vec::new(),
            leave: Vec::new(),
            relay: Vec::new(),
        };
        let user = RoomClass {
            name: "user".to_owned(),
            pattern: Pattern::parse("user:{id}").unwrap(),
            join: vec!["join:user".to_owned()],
            leave: Vec::new(),
            relay: Vec::new(),
        };
        let rules = Rules::new(vec![admin, user]).unwrap();
        assert!(ask(&rules, "join:user", &[&text("1")]).is_ok());
        assert_eq!(ask(&rules, "join:user", &[&text("1:admin")]).unwrap_err().code, RefusalCode::Forbidden);
        assert!(rules.join("user:1:admin").is_err());
    }

    #[test]
    fn patterns_and_doubled_events_are_refused_with_a_reason() {
        for wrong in ["", "a{", "a}", "{}", "{a}{b}", "{a{b}}"] {
            assert!(Pattern::parse(wrong).is_err(), "{wrong}");
        }
        let twice = Rules::new(vec![channel(), RoomClass { name: "other".to_owned(), ..channel() }]);
        assert!(matches!(twice, Err(RuleError::Twice { .. })));
    }
}
