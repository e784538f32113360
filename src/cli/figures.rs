//! `masterchief runs figures` and `images`: what came of runs, by the day or by the hour; what was pushed to registries.

use std::process::ExitCode;

use super::{Common, Done, output};
use crate::pipelines::{Rolled, rolled};
use crate::store::runs::{ImageRow, Runs, Span};

/// What is asked.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only of this app
    app: Option<String>,
    /// By the hour instead of by the day
    #[arg(long)]
    hourly: bool,
    /// Over so much time: 30d
    #[arg(long, default_value = "30d", value_parser = humantime_serde::re::humantime::parse_duration)]
    last: std::time::Duration,
}

/// Tells it, the newest first.
pub(super) async fn figures(common: &Common, runs: &Runs, args: &Args) -> Done {
    let span = if args.hourly { Span::Hour } else { Span::Day };
    let last = i64::try_from(args.last.as_millis()).unwrap_or(i64::MAX);
    let since = chrono::Utc::now().timestamp_millis().saturating_sub(last);
    let rows = rolled(runs, span, args.app.as_deref(), since.max(0)).await?;
    if common.json {
        output::json(&rows)?;
        return Ok(ExitCode::SUCCESS);
    }
    if rows.is_empty() {
        output::fault("no run ended in that time; --last 365d looks further back");
    }
    output::table(&Rolled::HEAD, &rows.iter().map(Rolled::cells).collect::<Vec<_>>())?;
    Ok(ExitCode::SUCCESS)
}

/// What was pushed to registries, the newest first.
pub(super) async fn images(common: &Common, runs: &Runs, repo: Option<&str>, last: u32) -> Done {
    let rows = runs.images(repo, last).await?;
    if common.json {
        let row = |row: &ImageRow| serde_json::json!({"repository": row.repo, "tag": row.tag, "digest": row.digest, "size": row.size, "pushed_at": row.pushed, "run": row.run});
        output::json(&rows.iter().map(row).collect::<Vec<_>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    let cells = |row: &ImageRow| {
        let number = |number: Option<i64>| number.map_or("-".to_owned(), |number| number.to_string());
        let at = chrono::DateTime::from_timestamp_millis(row.pushed).unwrap_or_default().format("%F %T").to_string();
        vec![row.repo.clone(), row.tag.clone(), row.digest.clone(), number(row.size), at, number(row.run)]
    };
    let head = ["repository", "tag", "digest", "bytes", "pushed (UTC)", "run"];
    output::table(&head, &rows.iter().map(cells).collect::<Vec<_>>())?;
    Ok(ExitCode::SUCCESS)
}
