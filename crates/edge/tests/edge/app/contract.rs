//! What docs/app-callback.md shows is what is told, and what is answered to can be used.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use super::calls_total;
use super::scripted::{App, ok};
use crate::harness::Node;

const PAGE: &str = include_str!("../../../../../docs/app-callback.md");

/// The code blocks of the page with this word after their language.
fn blocks(kind: &str) -> Vec<&'static str> {
    let open = format!("```{kind}\n");
    PAGE.split(&*open).skip(1).map(|rest| rest.split("\n```").next().unwrap()).collect()
}

fn keys(call: &Value) -> BTreeSet<&str> {
    call.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn calls_have_the_fields_of_the_page() {
    let app = App::start(|call, _| match call["type"].as_str() {
        Some("connect") => ok(r#"{"user":"Ada"}"#),
        Some("event") => ok(r#"{"emit":[{"to":"sender","event":"e","ack":{"token":"t"}}]}"#),
        _ => (204, Vec::new()),
    });
    let node = Node::start(app.config());
    let mut client = node.socketio();
    client.send(r#"40{"name":"Ada"}"#);
    client.text();
    client.send(r#"421["say"]"#);
    assert_eq!(client.text(), r#"420["e"]"#);
    client.send("430[]");
    app.told("ack", "\"t\"");
    drop(client);
    app.told("disconnect", "close");
    let told = app.calls(4);
    let shown: Vec<Value> =
        blocks("json call").into_iter().map(|block| serde_json::from_str(block).unwrap()).collect();
    assert_eq!(shown.len(), 5);
    for call in told {
        let same = shown.iter().find(|shown| shown["type"] == call["type"]).unwrap();
        assert_eq!(keys(&call), keys(same));
        if call["type"] == "connect" {
            assert_eq!(keys(&call["handshake"]), keys(&same["handshake"]));
        }
    }
}

#[test]
fn answers_of_the_page_can_be_used_whole() {
    let answers = blocks("json answer");
    assert_eq!(answers.len(), 3);
    let next = AtomicUsize::new(0);
    let scripted = answers.clone();
    let app = App::start(move |call, _| match call["type"].as_str() {
        Some("event") => ok(scripted[next.fetch_add(1, Ordering::SeqCst)]),
        _ => (204, Vec::new()),
    });
    let node = Node::start(app.config());
    let mut client = node.socketio();
    client.send("40");
    client.text();
    for id in 1..=answers.len() {
        client.send(&format!(r#"42{id}["e"]"#));
    }
    // What goes to the room comes round through the broker.
    let got: Vec<String> = client.until("41").into_iter().filter(|text| text != r#"42["typing"]"#).collect();
    assert_eq!(
        got,
        [
            r#"420["order",17]"#,
            r#"431["ok",{"id":17}]"#,
            r#"432[{"ok":false,"error":{"code":"forbidden","message":"not allowed","retry":false}}]"#,
            r#"433["bye"]"#
        ]
    );
    assert_eq!(client.close_code(), 4005);
    node.settles(&calls_total("event", "ok"), 2.0);
    node.settles(&calls_total("event", "refused"), 1.0);
    for reason in ["name", "encoding", "rooms_per_connection", "publish", "gone"] {
        node.settles(&format!("fanfare_app_effects_dropped_total{{reason=\"{reason}\"}}"), 0.0);
    }
}
