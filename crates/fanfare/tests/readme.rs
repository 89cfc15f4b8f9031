//! What the README says is true: its commands run against a node, its rules are accepted.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

const README: &str = include_str!("../../../README.md");

/// A running node; killed when dropped.
struct Node {
    process: Child,
    listen: String,
    private: String,
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself; either way nothing is left to do.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn start(arguments: &[&str]) -> Node {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FANFARE_") {
            command.env_remove(name);
        }
    }
    command.arg("serve").args([
        "--listen",
        "127.0.0.1:0",
        "--private",
        "127.0.0.1:0",
        "--log-format",
        "json",
    ]);
    let mut process = command.args(arguments).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    // Ends when the process does, at the latest: then there are no more lines.
    let serving = lines.by_ref().map(Result::unwrap).find(|line| line.contains("\"serving\"")).unwrap();
    // The rest is read too, so that the node never waits for its log.
    std::thread::spawn(move || lines.for_each(drop));
    Node { process, listen: field(&serving, "listen"), private: field(&serving, "private") }
}

fn field(line: &str, name: &str) -> String {
    let (_, rest) = line.split_once(&format!("\"{name}\":\"")).unwrap();
    rest.split('"').next().unwrap().to_owned()
}

/// The README's fenced blocks of `language`.
fn blocks(language: &str) -> impl Iterator<Item = &'static str> {
    let opening = format!("{language}\n");
    README.split("\n```").filter_map(move |part| part.strip_prefix(opening.as_str()))
}

#[test]
fn the_curl_command_publishes() {
    let node = start(&["--dev"]);
    let command = blocks("sh").find(|block| block.starts_with("curl ")).unwrap();
    assert!(command.contains("127.0.0.1:3001"));
    let command = command.replace("127.0.0.1:3001", &node.private);
    let output = Command::new("sh").args(["-c", &command]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "{\"ok\":true}\n");
}

#[test]
fn the_page_is_served_in_development() {
    let node = start(&["--dev"]);
    let url = format!("http://{}/", node.listen);
    let output = Command::new("curl").args(["--silent", "--fail", &url]).output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, include_bytes!("../src/demo.html"));
}

#[test]
fn the_rules_are_accepted() {
    let rules = blocks("toml").next().unwrap();
    let path = std::env::temp_dir().join(format!("fanfare-readme-{}.toml", std::process::id()));
    std::fs::write(&path, rules).unwrap();
    let node = start(&["--config", path.to_str().unwrap()]);
    std::fs::remove_file(&path).unwrap();
    assert!(node.listen.starts_with("127.0.0.1:"));
}

#[test]
fn the_first_command_is_the_binarys() {
    assert_eq!(blocks("sh").next(), Some("cargo run --release -- serve --dev"));
    assert!(blocks("sh").any(|block| block == "cargo xtask test"));
}
