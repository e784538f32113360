//! The log: on standard error, for people or as JSON.

use std::io::{IsTerminal, Write};
use std::sync::LazyLock;

use arc_swap::ArcSwap;
use masterchief_contract::Secret;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::{Log, LogFormat};
use crate::executors::Known;
use crate::partyline::{LiveLog, live_log};

/// What a person at a console wants to see: trouble, and what scripts say.
pub(super) const CONSOLE: &str = "warn,masterchief::lua::api::log=info";

/// What no line of the log holds.
static KNOWN: LazyLock<ArcSwap<Known>> = LazyLock::new(ArcSwap::default);

/// Where lines go, each without what is secret in it.
struct Overt;

impl Write for Overt {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let line = String::from_utf8_lossy(bytes);
        std::io::stderr().write_all(KNOWN.load().hide(&line).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// Hides these secrets from now on.
pub(super) fn hide(secrets: &[Secret]) {
    KNOWN.store(std::sync::Arc::new(Known::new(secrets)));
}

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
    let fmt = tracing_subscriber::fmt::layer().with_writer(|| Overt).with_ansi(colour);
    let fmt = match log.format {
        LogFormat::Text => fmt.with_target(false).boxed(),
        LogFormat::Json => fmt.json().flatten_event(true).boxed(),
    };
    let (live, lines) = live_log();
    // A second start, as in a test, keeps the first.
    let _ = tracing_subscriber::registry().with(fmt.with_filter(filter)).with(live).try_init();
    lines
}
