//! The binary refuses wrong settings before it does anything, and its documentation is what it prints.

use std::process::{Command, Output};

fn fanfare(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FANFARE_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).envs(variables.iter().copied()).output().unwrap()
}

/// Exit code and what was said.
fn refused(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = fanfare(arguments, variables);
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

/// Arguments of `serve`, variables, and what is said about them.
type Case = (&'static [&'static str], &'static [(&'static str, &'static str)], &'static str);

#[test]
fn wrong_settings_end_with_3_and_one_sentence() {
    let cases: [Case; 8] = [
        (&["--dev", "--listen", "0.0.0.0:3000"], &[], "--listen: 0.0.0.0:3000 is not a loopback address"),
        (&["--dev", "--private", "0.0.0.0:3001"], &[], "--private: 0.0.0.0:3001 is not a loopback address"),
        (&["--listen", ":3000"], &[], "write 127.0.0.1:3000"),
        (&["--connections", "16000000"], &[], "--connections: "),
        (&[], &[("FANFARE_LISEN", "127.0.0.1:1")], "Did you mean `FANFARE_LISTEN`?"),
        (&[], &[("FANFARE_PING_INTERVAL", "25")], "FANFARE_PING_INTERVAL: `25` has no unit; write 25s"),
        (&["--config", "/nowhere/fanfare.toml"], &[], "/nowhere/fanfare.toml: the file cannot be read"),
        (&["--dev"], &[("FANFARE_LOG", "=loud=")], "FANFARE_LOG: "),
    ];
    for (arguments, variables, expected) in cases {
        let (code, said) = refused(&[&["serve"], arguments].concat(), variables);
        assert_eq!(code, Some(3), "{arguments:?} {variables:?}: {said}");
        assert!(said.starts_with("fanfare: ") && said.contains(expected), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    let (code, said) = refused(&["serve", "--lisen", "127.0.0.1:1"], &[]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("--listen"), "{said}");
    assert_eq!(refused(&["sevre"], &[]).0, Some(2));
}

#[test]
fn the_password_of_redis_is_in_no_refusal() {
    for url in
        ["redis://edge:sesame@host:99999", "rediss://edge:sesame@host", "redis://edge:sesame@host/x?y=z"]
    {
        let (code, said) = refused(&["serve"], &[("FANFARE_REDIS", url)]);
        assert_eq!(code, Some(3), "{said}");
        assert!(said.contains("FANFARE_REDIS: ") && !said.contains("sesame"), "{said}");
    }
}

#[test]
fn the_settings_page_is_what_the_binary_prints() {
    let printed = String::from_utf8(fanfare(&["settings"], &[]).stdout).unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/settings.md");
    let page = std::fs::read_to_string(path).unwrap_or_default();
    assert!(page == printed, "run: cargo run -p fanfare -- settings > docs/settings.md");
}

#[test]
fn the_example_file_is_accepted() {
    // What is wrong on purpose is the only thing that is refused: everything before it was read.
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/fanfare.example.toml");
    let (code, said) = refused(&["serve", "--config", path, "--shards", "none"], &[]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.starts_with("fanfare: --shards: "), "{said}");
}
