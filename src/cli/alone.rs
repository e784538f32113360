//! What a bot that was begun for one deployment sees to before it goes: what it undoes by itself.

use super::deploy::converse;
use super::{Common, output};
use crate::bot::Started;
use crate::bot::control::Request;
use crate::config::Config;
use crate::pipelines::words;
use crate::store::runs::Which;

/// So many of the newest runs are looked at.
const NEWEST: u32 = 20;

/// Follows what is being undone to its end; says of what would be undone later that nobody is there then.
pub(super) async fn undone(common: &Common, config: &Config, started: &Started) -> anyhow::Result<()> {
    for (_, run) in started.pipelines().list(Which { limit: NEWEST, ..Which::default() }).await? {
        if run.parent.is_some() && run.state.active() {
            let number = run.number;
            let request = Request { word: "run".to_owned(), text: number.to_string(), follow: true, run: Some(number) };
            converse(common, &config.data, request, false).await?;
        } else if let Some(at) = run.undo_at {
            output::fault(&words::nobody_undoes(run.number, at, started.pipelines().now()));
        }
    }
    Ok(())
}
