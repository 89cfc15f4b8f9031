//! What browsers need besides: CORS, the client's files, compression; and what they are refused.

use std::fs;
use std::io::Read as _;

use fanfare_edge::{Config, Origins};
use flate2::read::{GzDecoder, ZlibDecoder};

use crate::harness::{Node, config};
use crate::http::{Http, Polls, Response};

const OPEN: &str = "GET /socket.io/?EIO=4&transport=polling";
const PREFLIGHT: &str = "OPTIONS /socket.io/?EIO=4&transport=polling\r\norigin: https://app.example\r\n\
                         access-control-request-method: POST\r\naccess-control-request-headers: x-one, x-two";

fn listed(credentials: bool) -> Config {
    let origins = Origins::SameHostAnd(vec!["https://app.example".to_owned()]);
    Config { origins, cors_credentials: credentials, ..config() }
}

fn allowed(response: &Response) -> Option<String> {
    response.header("access-control-allow-origin")
}

#[test]
fn every_origin_is_told_that_it_may() {
    let node = Node::start(config());
    let mut http = Http::to(&node);
    for head in [
        OPEN,
        "GET /socket.io/?EIO=4",
        "GET /socket.io/?EIO=4&transport=polling&sid=x",
        "GET /socket.io/socket.io.js",
    ] {
        let response = http.ask(&format!("{head}\r\norigin: https://any.example"), b"");
        assert_eq!(allowed(&response).as_deref(), Some("*"), "{head}");
        assert_eq!(response.header("vary"), None, "{head}");
    }
    let preflight = http.ask(PREFLIGHT, b"");
    assert_eq!(preflight.said(), (204, ""));
    let header = |name| preflight.header(name);
    assert_eq!(header("access-control-allow-origin").as_deref(), Some("*"));
    assert_eq!(header("access-control-allow-methods").as_deref(), Some("GET,HEAD,PUT,PATCH,POST,DELETE"));
    assert_eq!(header("access-control-allow-headers").as_deref(), Some("x-one, x-two"));
    assert_eq!(header("vary").as_deref(), Some("Access-Control-Request-Headers"));
}

#[test]
fn listed_origins_are_named_and_others_refused() {
    for credentials in [false, true] {
        let node = Node::start(listed(credentials));
        let mut http = Http::to(&node);
        let told = credentials.then(|| "true".to_owned());
        for head in [OPEN, "GET /socket.io/?EIO=4"] {
            let response = http.ask(&format!("{head}\r\norigin: https://app.example"), b"");
            assert_eq!(allowed(&response).as_deref(), Some("https://app.example"));
            assert_eq!(response.header("vary").as_deref(), Some("Origin"));
            assert_eq!(response.header("access-control-allow-credentials"), told);
        }
        let preflight = http.ask(PREFLIGHT, b"");
        assert_eq!(preflight.status, 204);
        assert_eq!(allowed(&preflight).as_deref(), Some("https://app.example"));
        assert_eq!(preflight.header("access-control-allow-credentials"), told);
        assert_eq!(preflight.header("vary").as_deref(), Some("Access-Control-Request-Headers, Origin"));
        let refused = http.ask(&format!("{OPEN}\r\norigin: https://evil.example"), b"");
        assert_eq!(refused.said(), (403, r#"{"code":4,"message":"Forbidden"}"#));
        assert_eq!(refused.header("content-type").as_deref(), Some("application/json"));
        assert_eq!((allowed(&refused), refused.header("vary").as_deref()), (None, Some("Origin")));
    }
}

#[test]
fn without_a_list_nothing_is_said() {
    let node = Node::start(Config { origins: Origins::SameHostAnd(vec![]), ..config() });
    let mut http = Http::to(&node);
    let own = http.ask(&format!("{OPEN}\r\norigin: http://test"), b"");
    assert_eq!((own.status, allowed(&own), own.header("vary")), (200, None, None));
    let preflight = http.ask(PREFLIGHT, b"");
    assert_eq!(preflight.said(), (400, r#"{"code":2,"message":"Bad handshake method"}"#));
    assert_eq!(allowed(&preflight), None);
}

#[test]
fn the_clients_files_are_served_from_the_folder_of_the_setting() {
    let folder = std::env::temp_dir().join(format!("fanfare-dist-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    for name in ["socket.io.js", "socket.io.msgpack.min.js", "socket.io.min.js.map", "secret.js"] {
        fs::write(folder.join(name), format!("/* {name} */")).unwrap();
    }
    let node = Node::start(Config { client_dist: Some(folder.clone()), ..config() });
    let mut http = Http::to(&node);
    for (name, kind) in [
        ("socket.io.js", "application/javascript; charset=utf-8"),
        ("socket.io.msgpack.min.js", "application/javascript; charset=utf-8"),
        ("socket.io.min.js.map", "application/json; charset=utf-8"),
    ] {
        let response = http.ask(&format!("GET /socket.io/{name}"), b"");
        assert_eq!(response.said(), (200, &*format!("/* {name} */")));
        assert_eq!(response.header("content-type").as_deref(), Some(kind));
        let modified = response.header("last-modified").unwrap();
        let again = http.ask(&format!("GET /socket.io/{name}\r\nif-modified-since: {modified}"), b"");
        assert_eq!(again.said(), (304, ""), "{name}");
    }
    assert_eq!(http.ask("GET /socket.io/socket.io.esm.min.js", b"").status, 404);
    for path in ["secret.js", "socket.io/../secret.js", "socket.io..js", "socket.io%2e%2e/x.js"] {
        assert_ne!(http.ask(&format!("GET /socket.io/{path}"), b"").status, 200, "{path}");
    }
    fs::remove_dir_all(folder).unwrap();
    let node = Node::start(config());
    let response = Http::to(&node).ask("GET /socket.io/socket.io.min.js", b"");
    assert_eq!(response.status, 404);
    assert!(response.body().contains("client_dist"), "{}", response.body());
}

#[test]
fn large_answers_are_compressed_for_those_who_accept_it() {
    let node = Node::start(config());
    let mut polls = Polls::open(&node, "/socket.io/");
    polls.says("40\x1e421[\"join\",\"r\"]");
    polls.packets(2);
    let text = "compressible ".repeat(2_000);
    let mut ask = |accept: &str, data: &str| {
        node.publish([format!(r#"{{"room":"r","event":"n","data":"{data}"}}"#)]);
        polls.gets.ask(&format!("GET {}\r\naccept-encoding: {accept}", polls.target()), b"")
    };
    let expected = format!(r#"42["n","{text}"]"#);
    for (accept, coding) in [("gzip, deflate, br", Some("gzip")), ("deflate", Some("deflate")), ("br", None)]
    {
        let response = ask(accept, &text);
        assert_eq!(response.header("content-encoding").as_deref(), coding);
        assert_eq!(response.header("content-type").as_deref(), Some("text/plain; charset=UTF-8"));
        let mut plain = String::new();
        match coding {
            Some("gzip") => GzDecoder::new(&*response.bytes).read_to_string(&mut plain).unwrap(),
            Some(_) => ZlibDecoder::new(&*response.bytes).read_to_string(&mut plain).unwrap(),
            None => (&*response.bytes).read_to_string(&mut plain).unwrap(),
        };
        assert!(plain == expected, "{accept}");
        assert!(coding.is_none() || response.bytes.len() < expected.len() / 10);
    }
    let small = ask("gzip", "small");
    assert_eq!((small.body(), small.header("content-encoding")), (r#"42["n","small"]"#, None));
}

#[test]
fn jsonp_is_refused_in_words() {
    let node = Node::start(config());
    let response = Http::to(&node).ask("GET /socket.io/?EIO=4&transport=polling&j=0", b"");
    assert_eq!(response.status, 400);
    assert_eq!(response.header("content-type").as_deref(), Some("application/json"));
    assert!(response.body().contains("JSONP"), "{}", response.body());
}
