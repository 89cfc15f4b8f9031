//! The plain JSON protocol. Its liveness is WebSocket ping and pong, which every dialect shares.

use memchr::memmem::find;

use super::{Reaction, Stage};

pub(super) fn upgraded(room: Option<&str>) -> Reaction {
    match room {
        Some(room) => Reaction::Say(join(room), Stage::Joining),
        None => Reaction::Become(Stage::Settled),
    }
}

pub(super) fn join(room: &str) -> String {
    format!(r#"{{"type":"join","id":1,"room":"{room}"}}"#)
}

pub(super) fn heard(stage: Stage, payload: &[u8]) -> Reaction {
    if stage == Stage::Settled {
        return Reaction::Deliver;
    }
    if find(payload, br#""type":"reply""#).is_some() {
        let ok = find(payload, br#""ok":true"#).is_some();
        return if ok { Reaction::Become(Stage::Settled) } else { Reaction::Refuse };
    }
    if find(payload, br#""type":"error""#).is_some() { Reaction::Refuse } else { Reaction::Ignore }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joining() {
        let join = r#"{"type":"join","id":1,"room":"r"}"#.into();
        assert_eq!(upgraded(Some("r")), Reaction::Say(join, Stage::Joining));
        assert_eq!(upgraded(None), Reaction::Become(Stage::Settled));
        assert_eq!(heard(Stage::Joining, br#"{"type":"connection_success"}"#), Reaction::Ignore);
        let ok = br#"{"type":"reply","id":1,"ok":true}"#;
        assert_eq!(heard(Stage::Joining, ok), Reaction::Become(Stage::Settled));
        let refused = br#"{"type":"reply","id":1,"ok":false,"error":{"code":"forbidden"}}"#;
        assert_eq!(heard(Stage::Joining, refused), Reaction::Refuse);
        assert_eq!(heard(Stage::Joining, br#"{"type":"error","code":"x"}"#), Reaction::Refuse);
    }
}
