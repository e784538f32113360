//! The log: on standard error, for people or as JSON.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// What a person at a console wants to see: trouble, and what scripts say.
pub(super) const CONSOLE: &str = "warn,masterchief::lua::api::log=info";

/// Starts logging. `RUST_LOG` wins over the configuration, which wins over `otherwise`.
pub(super) fn start(log: &Log, otherwise: &str) {
    let wanted = std::env::var("RUST_LOG")
        .ok()
        .filter(|text| !text.is_empty())
        .or_else(|| log.level.clone())
        .unwrap_or_else(|| otherwise.to_owned());
    let filter = EnvFilter::try_new(&wanted).unwrap_or_else(|fault| {
        super::output::fault(&format!("log level {wanted:?}: {fault}; logging at {otherwise}"));
        EnvFilter::new(otherwise)
    });
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour);
    // A second start, as in a test, keeps the first.
    let _ = match log.format {
        LogFormat::Text => subscriber.with_target(false).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
}
