//! Sizes and names of source files. The sources are formatted, so that lines tell enough: a function
//! ends at the first brace on its own indentation.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::Findings;

const FOLDERS: [&str; 5] = ["crates", "loadtest", "xtask", "e2e", "fuzz"];
const FILE_CAP: usize = 700;
const FILE_WORTH_A_LOOK: usize = 450;
const FUNCTION_WORTH_A_LOOK: usize = 70;

/// Names that say nothing. Plurals count.
const EMPTY_NAMES: [&str; 14] = [
    "client",
    "message",
    "topic",
    "subscriber",
    "manager",
    "handler",
    "service",
    "helper",
    "util",
    "common",
    "misc",
    "data",
    "info",
    "utils",
];

pub(super) fn check(root: &Path, found: &mut Findings) -> Result<()> {
    for folder in FOLDERS {
        walk(root, &root.join(folder), found)?;
    }
    Ok(())
}

fn walk(root: &Path, folder: &Path, found: &mut Findings) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    paths.sort();
    for path in paths {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let shown = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        let source = [".rs", ".mjs", ".js", ".html"].iter().any(|ending| name.ends_with(ending));
        if name == "node_modules" || name == "target" || name.starts_with('.') || !(path.is_dir() || source) {
            continue;
        }
        let stem = name.split('.').next().unwrap_or_default();
        if says_nothing(stem) {
            found.failures.push(format!("{shown}: {stem} is not a name for a file or module"));
        }
        if path.is_dir() {
            walk(root, &path, found)?;
        } else {
            let text = fs::read_to_string(&path).with_context(|| shown.clone())?;
            look(&shown, &text, found);
        }
    }
    Ok(())
}

fn look(shown: &str, text: &str, found: &mut Findings) {
    let lines: Vec<&str> = text.lines().collect();
    match lines.len() {
        length if length > FILE_CAP => {
            found.failures.push(format!("{shown}: {length} lines, more than {FILE_CAP}"));
        }
        length if length > FILE_WORTH_A_LOOK => found.remarks.push(format!("{shown}: {length} lines")),
        _ => {}
    }
    let mut in_tests = shown.contains("/tests/") || shown.contains(".test.");
    for (at, line) in lines.iter().enumerate() {
        let place = format!("{shown}:{}", at + 1);
        in_tests |= line.trim() == "#[cfg(test)]";
        if let Some(name) = declared_type(line)
            && (says_nothing(name)
                || ["Manager", "Handler", "Helper", "Util"].iter().any(|end| name.ends_with(end)))
        {
            found.failures.push(format!("{place}: {name} is not a name for a type"));
        }
        if in_tests && lets_time_pass(line) {
            found.remarks.push(format!("{place}: a test that lets time pass: {}", line.trim()));
        }
        if starts_function(line) {
            let length = function_length(&lines[at..]);
            if length > FUNCTION_WORTH_A_LOOK {
                found.remarks.push(format!("{place}: a function of {length} lines"));
            }
        }
    }
}

/// `socket.setTimeout(…)` sets a deadline and waits for nothing.
fn lets_time_pass(line: &str) -> bool {
    line.contains("sleep(") || (line.contains("setTimeout(") && !line.contains(".setTimeout("))
}

fn says_nothing(name: &str) -> bool {
    let name = name.to_lowercase();
    EMPTY_NAMES.iter().any(|empty| name == *empty || name.strip_suffix('s') == Some(*empty))
}

/// The name of the type that a line of Rust declares.
fn declared_type(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace().skip_while(|word| *word == "unsafe" || word.starts_with("pub"));
    let kind = words.next()?;
    let name = words.next()?;
    // An associated type has its name from the trait.
    if kind == "type" && line.starts_with(' ') {
        return None;
    }
    ["struct", "enum", "trait", "type", "union"]
        .contains(&kind)
        .then(|| name.split(|letter: char| !letter.is_alphanumeric()).next().unwrap_or(name))
}

fn starts_function(line: &str) -> bool {
    let line = line.trim_start();
    if let Some(rest) = line.strip_prefix("export ").or(Some(line)) {
        let rest = rest.strip_prefix("async ").unwrap_or(rest);
        if rest.starts_with("function ") {
            return true;
        }
    }
    let before = line.split("fn ").next().unwrap_or(line);
    before.len() < line.len()
        && before.split_whitespace().all(|word| {
            word.starts_with("pub")
                || ["const", "async", "unsafe", "extern", "\"C\"", "super)"].contains(&word)
        })
}

fn function_length(lines: &[&str]) -> usize {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let own = indent(lines[0]);
    let end = lines.iter().position(|line| indent(line) == own && line.trim_start().starts_with('}'));
    // A one-line function, or a declaration without a body.
    if lines[0].ends_with('}') || lines[0].ends_with(';') {
        return 1;
    }
    end.map_or(1, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(shown: &str, text: &str) -> Findings {
        let mut found = Findings::default();
        look(shown, text, &mut found);
        found
    }

    #[test]
    fn empty_names_are_refused_and_telling_ones_are_not() {
        assert!(says_nothing("utils") && says_nothing("Client") && says_nothing("message"));
        assert!(!says_nothing("outbox") && !says_nothing("metadata"));
        let text = "pub struct Message<'a> {\n}\npub(crate) enum PacketHandler {\n}\nstruct Frame(u8);\n";
        assert_eq!(found("a.rs", text).failures.len(), 2);
    }

    #[test]
    fn long_functions_and_files_are_told() {
        let long = format!(
            "    pub(crate) async fn walk(\n        a: u8,\n    ) {{\n{}    }}\n",
            "        a();\n".repeat(70)
        );
        assert_eq!(found("a.rs", &long).remarks, ["a.rs:1: a function of 74 lines"]);
        let short = "fn a() {\n    b();\n}\n";
        assert!(found("a.rs", &short.repeat(100)).remarks.is_empty());
        assert_eq!(found("a.rs", &short.repeat(151)).remarks, ["a.rs: 453 lines"]);
        assert_eq!(found("a.rs", &short.repeat(234)).failures, ["a.rs: 702 lines, more than 700"]);
    }

    #[test]
    fn sleeping_counts_in_tests_only() {
        let call = ["sleep", "(1);"].concat();
        let text = format!("fn a() {{\n    {call}\n}}\n#[cfg(test)]\nmod tests {{\n    {call}\n}}\n");
        assert_eq!(found("a.rs", &text).remarks, [format!("a.rs:6: a test that lets time pass: {call}")]);
    }
}
