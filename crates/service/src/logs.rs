//! Logging: events to stderr, as text or as JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::{Common, LogFormat};

/// Installs the log of this process and sends panics through it.
pub(crate) fn start(common: &Common) -> Result<(), ParseError> {
    let filter = EnvFilter::builder().parse(&common.log)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = match common.log_format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    if installed.is_err() {
        return Ok(()); // whoever installed one first keeps it
    }
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let reason = panic.payload_as_str().unwrap_or("unknown");
        tracing::error!(%place, reason, "panic");
    }));
    Ok(())
}
