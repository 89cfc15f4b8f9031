//! python-socketio's channel, over a real Redis.

use fanfare_broker::{Answer, Channel, Malformed, Request};

use crate::driver::Seen;
use crate::pair::{connect, numbers, options, over_redis};
use crate::server::Redis;

#[test]
fn its_emits_and_requests_arrive_and_acknowledgements_go_back() {
    let mut pair = over_redis();
    pair.driver.want(Channel::Python, true);
    pair.driver.until_active(1);
    let mut server = pair.redis().raw();
    server.subscribe(&["socketio"]);
    let redis = pair.redis();
    let emit = r#"{"method": "emit", "event": "n", "data": [5], "binary": false, "namespace": "/n", "room": "r1", "skip_sid": "S1", "callback": null, "host_id": "h"}"#;
    redis.command(&["PUBLISH", "socketio", emit]);
    redis.command(&[
        "PUBLISH",
        "socketio",
        r#"{"method":"leave_room","sid":"S1","room":"x","namespace":"/n"}"#,
    ]);
    redis.command(&["PUBLISH", "socketio", r#"{"method":"other"}"#]);
    let ask = r#"{"method":"emit","event":"n","data":[1],"room":"S1","callback":["S1","/",4],"host_id":"h"}"#;
    redis.command(&["PUBLISH", "socketio", ask]);
    for sent in 0..4 {
        let (channel, payload) = server.heard();
        assert_eq!((channel.as_str(), payload.starts_with('{')), ("socketio", true), "{sent}");
    }
    let received = pair.driver.receive(1);
    assert_eq!(numbers(&received), [5]);
    assert_eq!((&*received[0].channel, &received[0].rooms[..]), ("python", &["r1".to_owned()][..]));
    assert_eq!(received[0].except, ["S1"]);
    let mut requests = Vec::new();
    pair.driver.until("two requests and one that is none", |seen| {
        requests = seen.iter().filter(|seen| matches!(seen, Seen::Request(..))).cloned().collect();
        requests.len() == 2 && seen.contains(&Seen::Malformed("python".to_owned(), Malformed::Shape))
    });
    assert!(matches!(&requests[0], Seen::Request(on, Request::Leave { .. }) if on == "python"));
    let Seen::Request(_, Request::Broadcast { asker, .. }) = requests.remove(1) else {
        panic!("not a broadcast with acknowledgements");
    };
    pair.driver.forget();
    assert_eq!(pair.answer(asker.clone(), Answer::Reached(1)), Ok(()));
    assert_eq!(pair.answer(asker, Answer::Acknowledged(vec![0x91, 9])), Ok(()));
    let answer = r#"{"method":"callback","host_id":"h","sid":"S1","namespace":"/","id":4,"args":[9]}"#;
    assert_eq!(server.heard(), ("socketio".to_owned(), answer.to_owned()));
    // The answer is heard here, too, and nobody's business.
    pair.check_flow("after");
    assert!(!pair.driver.seen.iter().any(|seen| matches!(seen, Seen::Request(..) | Seen::Malformed(..))));
}

#[test]
fn pickle_is_refused_by_name() {
    let mut pair = over_redis();
    pair.driver.want(Channel::Python, true);
    pair.driver.until_active(1);
    let mut raw = pair.redis().raw();
    raw.send(&[vec![b"PUBLISH", b"socketio", b"\x80\x04\x95\x1c\x00\x00\x00\x00\x00\x00\x00}\x94."]]);
    pair.driver.until_seen(&Seen::Malformed("python".to_owned(), Malformed::Pickle));
}

#[test]
fn a_node_without_it_does_not_listen() {
    let redis = Redis::start();
    let mut options = options(&redis.url());
    options.python_channel = None;
    let mut pair = connect(options, Some(redis));
    pair.wait_up();
    pair.driver.want(Channel::Python, true);
    pair.check_flow("a");
    assert_eq!(pair.redis().command(&["PUBLISH", "socketio", "{}"]), ":0");
}
