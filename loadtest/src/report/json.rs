//! The report for machines: `report.schema.json` says what is in it.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use serde::Deserialize;

use super::document::{Document, SCHEMA_VERSION};

/// Writes a report.
pub(crate) fn write(document: &Document, path: &Path) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(document)? + "\n";
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// Reads a report back. Fails where it is none, or one of another version.
pub(crate) fn read(path: &Path) -> anyhow::Result<Document> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    parse(&text).with_context(|| path.display().to_string())
}

fn parse(text: &str) -> anyhow::Result<Document> {
    #[derive(Deserialize)]
    struct Version {
        schema_version: u32,
    }
    let Version { schema_version } = serde_json::from_str(text).context("not a report")?;
    if schema_version != SCHEMA_VERSION {
        bail!("a report of schema version {schema_version}; this program reads version {SCHEMA_VERSION}");
    }
    serde_json::from_str(text).context("not a report of this version")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::gather::tests::document;

    const SCHEMA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/report.schema.json");

    #[test]
    fn a_document_is_read_back_as_it_was() {
        let document = document();
        assert_eq!(parse(&serde_json::to_string(&document).unwrap()).unwrap(), document);
    }

    #[test]
    fn what_is_no_report_of_this_version_is_refused() {
        assert!(parse("{}").is_err());
        let error = parse(r#"{"schema_version": 1, "ok": true}"#).unwrap_err();
        assert!(error.to_string().contains("version 1"), "{error:#}");
        let mut text = serde_json::to_value(document()).unwrap();
        text["surprise"] = true.into();
        assert!(parse(&text.to_string()).is_err());
    }

    /// The file is what the types say; `UPDATE=1 cargo test -p loadtest` writes it.
    #[test]
    fn the_schema_is_that_of_the_document() {
        let mut schema = schemars::schema_for!(Document);
        schema.insert("title".into(), "Report of loadtest".into());
        let schema = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if std::env::var_os("UPDATE").is_some() {
            fs::write(SCHEMA, &schema).unwrap();
        }
        let written = fs::read_to_string(SCHEMA).unwrap();
        assert!(
            schema == written,
            "loadtest/report.schema.json is out of date: UPDATE=1 cargo test -p loadtest"
        );
    }
}
