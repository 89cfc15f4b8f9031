//! Log lines on stderr: text for people at a terminal, JSON for everything else.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::settings::LogFormat;
use crate::sources::ConfigError;

/// What is shown where `FANFARE_LOG` says nothing. The Redis crate repeats what the broker reports.
const FILTER: &str = "info,fred=error";

/// Starts logging and says in which format. `filter` is what `FANFARE_LOG` says.
pub(crate) fn start(format: Option<LogFormat>, filter: Option<&str>) -> Result<LogFormat, ConfigError> {
    let terminal = std::io::stderr().is_terminal();
    let format = format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    let filter = EnvFilter::try_new(filter.unwrap_or(FILTER)).map_err(|error| {
        ConfigError::new(
            "FANFARE_LOG",
            format!("{error}; write a severity, as debug, or warn,fanfare_edge=debug"),
        )
    })?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(terminal && std::env::var_os("NO_COLOR").is_none()).init(),
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(false).with_span_list(false).init()
        }
    }
    Ok(format)
}
