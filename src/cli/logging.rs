//! The log: on standard error, for people or as JSON.

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::{Log, LogFormat};
use crate::partyline::{LiveLog, live_log};

/// What a person at a console wants to see: trouble, and what scripts say.
pub(super) const CONSOLE: &str = "warn,masterchief::lua::api::log=info";

/// Starts logging. `RUST_LOG` wins over the configuration, which wins over `otherwise`.
/// Gives the lines for people on the partyline.
pub(super) fn start(log: &Log, otherwise: &str) -> LiveLog {
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
    let fmt = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colour);
    let fmt = match log.format {
        LogFormat::Text => fmt.with_target(false).boxed(),
        LogFormat::Json => fmt.json().flatten_event(true).boxed(),
    };
    let (live, lines) = live_log();
    // A second start, as in a test, keeps the first.
    let _ = tracing_subscriber::registry().with(fmt.with_filter(filter)).with(live).try_init();
    lines
}
