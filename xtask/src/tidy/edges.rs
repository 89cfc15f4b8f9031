//! Which crate may depend on which: the table in ARCHITECTURE.md, and what must stay out of where.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::Findings;

/// Foreign crates that would tie a crate to what it must know nothing about.
const KEPT_OUT: [(&str, &[&str]); 3] = [
    ("fanfare-protocol", &["tokio", "mio", "hyper", "axum", "fred", "socket2"]),
    ("fanfare-broker", &["axum", "hyper", "mio"]),
    ("fanfare-edge", &["fred"]),
];

/// Crate to the crates of this workspace that it depends on.
type Edges = BTreeMap<String, BTreeSet<String>>;

pub(super) fn check(root: &Path, found: &mut Findings) -> Result<()> {
    let architecture = fs::read_to_string(root.join("ARCHITECTURE.md")).context("ARCHITECTURE.md")?;
    let metadata = metadata(root)?;
    compare(&documented(&architecture)?, &real(&metadata), found);
    for (name, kept_out) in KEPT_OUT {
        for package in metadata.packages.iter().filter(|package| package.name == name) {
            for dependency in package.dependencies.iter().filter(|dependency| dependency.counts()) {
                if kept_out.contains(&dependency.name.as_str()) {
                    found.failures.push(format!("{name} must not depend on {}", dependency.name));
                }
            }
        }
    }
    Ok(())
}

fn compare(documented: &Edges, real: &Edges, found: &mut Findings) {
    for name in documented.keys().chain(real.keys()).collect::<BTreeSet<_>>() {
        match (documented.get(name), real.get(name)) {
            (Some(said), Some(is)) if said == is => {}
            (Some(said), Some(is)) => {
                found.failures.push(format!(
                    "ARCHITECTURE.md says {name} -> {}, it is {}",
                    list(said),
                    list(is)
                ));
            }
            (None, Some(is)) => {
                found.failures.push(format!("ARCHITECTURE.md lacks the line {name} -> {}", list(is)));
            }
            _ => found.failures.push(format!("ARCHITECTURE.md has {name}, which is no crate here")),
        }
    }
}

fn list(names: &BTreeSet<String>) -> String {
    if names.is_empty() {
        return String::from("none");
    }
    names.iter().cloned().collect::<Vec<_>>().join(", ")
}

/// The fenced block marked `crate edges`: lines of `crate -> crate, crate`, or `crate -> none`.
fn documented(architecture: &str) -> Result<Edges> {
    let mut lines = architecture.lines();
    if !lines.any(|line| line.starts_with("```") && line.trim_end().ends_with("crate edges")) {
        bail!("ARCHITECTURE.md has no fenced block marked `crate edges`");
    }
    let mut edges = Edges::new();
    for line in lines.take_while(|line| !line.starts_with("```")).filter(|line| !line.trim().is_empty()) {
        let (from, to) = line.split_once("->").with_context(|| format!("ARCHITECTURE.md: {line}"))?;
        let to = to.split(',').map(str::trim).filter(|name| !name.is_empty() && *name != "none");
        edges.insert(from.trim().to_owned(), to.map(str::to_owned).collect());
    }
    Ok(edges)
}

fn real(metadata: &Metadata) -> Edges {
    let own: BTreeSet<&str> = metadata.packages.iter().map(|package| package.name.as_str()).collect();
    let mut edges = Edges::new();
    for package in &metadata.packages {
        let used = package.dependencies.iter().filter(|dependency| dependency.counts());
        let used = used.map(|dependency| dependency.name.clone()).filter(|name| own.contains(name.as_str()));
        edges.insert(package.name.clone(), used.collect());
    }
    edges
}

fn metadata(root: &Path) -> Result<Metadata> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(root)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .context("cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata")
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `None` for ordinary ones.
    kind: Option<String>,
}

impl Dependency {
    /// What only tests use ties nothing together.
    fn counts(&self) -> bool {
        self.kind.as_deref() != Some("dev")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# Crates\n```text crate edges\na -> b, c\nb -> none\nc ->\n```\nd -> e\n";

    #[test]
    fn the_block_and_nothing_else_is_the_table() {
        let edges = documented(PAGE).unwrap();
        assert_eq!(edges.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(edges["a"].len(), 2);
        assert!(edges["b"].is_empty() && edges["c"].is_empty());
        assert!(documented("nothing here").is_err());
    }

    #[test]
    fn each_difference_is_told() {
        let mut found = Findings::default();
        let mut real = documented(PAGE).unwrap();
        compare(&documented(PAGE).unwrap(), &real, &mut found);
        assert!(found.failures.is_empty());

        real.remove("c");
        real.insert("b".into(), BTreeSet::from(["a".into()]));
        real.insert("d".into(), BTreeSet::new());
        compare(&documented(PAGE).unwrap(), &real, &mut found);
        assert_eq!(
            found.failures,
            [
                "ARCHITECTURE.md says b -> none, it is a",
                "ARCHITECTURE.md has c, which is no crate here",
                "ARCHITECTURE.md lacks the line d -> none",
            ]
        );
    }
}
