//! Engine.IO packets carrying Socket.IO packets, as a client of the namespace `/` sees them.

use super::{Reaction, Stage};

pub(super) fn join(room: &str) -> String {
    format!(r#"420["join","{room}"]"#)
}

pub(super) fn heard(stage: Stage, payload: &[u8], room: Option<&str>) -> Reaction {
    match payload {
        [b'4', b'2', ..] => Reaction::Deliver,
        b"2" => Reaction::Say("3".into(), stage),
        [b'0', ..] if stage == Stage::Entering => Reaction::Say("40".into(), stage),
        [b'4', b'0', ..] if stage == Stage::Entering => match room {
            Some(room) => Reaction::Say(join(room), Stage::Joining),
            None => Reaction::Become(Stage::Settled),
        },
        [b'4', b'3', b'0', answer @ ..] if stage == Stage::Joining => {
            if memchr::memmem::find(answer, br#""ok":true"#).is_some() {
                Reaction::Become(Stage::Settled)
            } else {
                Reaction::Refuse
            }
        }
        [b'4', b'1' | b'4', ..] | [b'1', ..] => Reaction::Refuse,
        _ => Reaction::Ignore,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_open_to_joined() {
        let open = br#"0{"sid":"a","upgrades":[],"pingInterval":25000,"pingTimeout":20000}"#;
        assert_eq!(heard(Stage::Entering, open, Some("r")), Reaction::Say("40".into(), Stage::Entering));
        let entered = br#"40{"sid":"b"}"#;
        let join = Reaction::Say(r#"420["join","r"]"#.into(), Stage::Joining);
        assert_eq!(heard(Stage::Entering, entered, Some("r")), join);
        assert_eq!(heard(Stage::Entering, entered, None), Reaction::Become(Stage::Settled));
        assert_eq!(
            heard(Stage::Joining, br#"430[{"ok":true}]"#, Some("r")),
            Reaction::Become(Stage::Settled)
        );
    }

    #[test]
    fn refusals_pings_and_events() {
        let refused = br#"430[{"ok":false,"error":{"code":"forbidden"}}]"#;
        assert_eq!(heard(Stage::Joining, refused, Some("r")), Reaction::Refuse);
        assert_eq!(heard(Stage::Entering, br#"44{"message":"no"}"#, None), Reaction::Refuse);
        assert_eq!(heard(Stage::Settled, b"41", None), Reaction::Refuse);
        assert_eq!(heard(Stage::Settled, b"2", None), Reaction::Say("3".into(), Stage::Settled));
        assert_eq!(heard(Stage::Settled, br#"42["e",1]"#, None), Reaction::Deliver);
        assert_eq!(heard(Stage::Settled, b"", None), Reaction::Ignore);
    }
}
