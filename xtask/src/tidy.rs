//! `cargo xtask tidy`: the rules about the tree itself, so that what is written about it stays true.

mod edges;
mod sources;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::Summary;

/// Lines of the longest README that still gets read.
const README_CAP: usize = 250;

pub(crate) fn command() -> clap::Command {
    clap::Command::new("tidy")
        .about("Check the structure: crate edges, sizes, names, sleeping tests")
        .long_about(
            "Compares the crates' dependencies with the table in ARCHITECTURE.md and looks at every source \
             file for its size and names. Failures fail the run; remarks only say where to look. The last \
             line counts both.",
        )
}

pub(crate) fn run(root: &Path) -> Result<Summary> {
    let found = look(root)?;
    for line in &found.remarks {
        println!("remark: {line}");
    }
    for line in &found.failures {
        println!("failure: {line}");
    }
    let (failures, remarks) = (found.failures.len(), found.remarks.len());
    Ok(Summary { line: format!("tidy: {failures} failures, {remarks} remarks"), good: failures == 0 })
}

/// What was found.
#[derive(Debug, Default)]
struct Findings {
    /// Must be put right.
    failures: Vec<String>,
    /// Worth a look.
    remarks: Vec<String>,
}

fn look(root: &Path) -> Result<Findings> {
    let mut found = Findings::default();
    edges::check(root, &mut found)?;
    sources::check(root, &mut found)?;
    let readme = fs::read_to_string(root.join("README.md")).context("README.md")?;
    let lines = readme.lines().count();
    if lines > README_CAP {
        found.failures.push(format!("README.md has {lines} lines, more than {README_CAP}"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tree_keeps_its_rules() {
        let found = super::look(&crate::root()).unwrap();
        assert!(found.failures.is_empty(), "\n{}\n", found.failures.join("\n"));
    }
}
