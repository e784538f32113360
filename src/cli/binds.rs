//! `masterchief binds`: what is bound, and what can be.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use super::run::bring_scripts;
use super::{Common, Done, output, runtime};
use crate::bot;
use crate::config::Secrets;

/// Lists binds.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The project
    project: Option<PathBuf>,
    /// The kinds there are instead, with their fields
    #[arg(long)]
    kinds: bool,
    /// The kinds as a page for people: what `docs/binds.md` holds
    #[arg(long, requires = "kinds")]
    markdown: bool,
}

#[derive(Serialize)]
struct Row {
    kind: String,
    flags: String,
    mask: String,
    usage: Option<String>,
    origin: String,
}

#[derive(Serialize)]
struct KindRow {
    kind: String,
    example: String,
    about: String,
    fields: Vec<String>,
}

pub(super) fn run(common: &Common, args: &Args) -> Done {
    if args.markdown {
        output::line(bot::bindpage::page(&bot::kinds()).trim_end())?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.kinds {
        return kinds(common);
    }
    let mut config = match common.config_at(args.project.as_deref(), Secrets::Spare) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    bring_scripts(&mut config)?;
    let dry = runtime()?.block_on(bot::dry_run(&config))?;
    let mut rows: Vec<Row> = Vec::new();
    for bind in &dry.binds {
        let shadowed = if bind.shadowed { " (behind a newer one)" } else { "" };
        rows.push(Row {
            kind: bind.kind.name().to_owned(),
            flags: bind.flags.to_string(),
            mask: bind.mask.to_string(),
            usage: bind.usage.clone(),
            origin: format!("{}{shadowed}", bind.origin),
        });
    }
    if common.json {
        output::json(&rows)?;
    } else {
        let shown: Vec<Vec<String>> = rows
            .into_iter()
            .map(|row| vec![row.kind, row.flags, row.mask, row.usage.unwrap_or_default(), row.origin])
            .collect();
        output::table(&["KIND", "FLAGS", "MASK", "USAGE", "HANDLER"], &shown)?;
    }
    dry.failed.iter().for_each(|fault| output::fault(&fault.to_string()));
    Ok(if dry.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn kinds(common: &Common) -> Done {
    let kinds = bot::kinds();
    let rows: Vec<KindRow> = kinds
        .all()
        .map(|spec| KindRow {
            kind: spec.kind.name().to_owned(),
            example: spec.example.to_owned(),
            about: spec.about.to_owned(),
            fields: spec.fields.iter().map(|field| (*field).to_owned()).collect(),
        })
        .collect();
    if common.json {
        output::json(&rows)?;
    } else {
        let shown: Vec<Vec<String>> =
            rows.into_iter().map(|row| vec![row.kind, row.example, row.fields.join(" "), row.about]).collect();
        output::table(&["KIND", "EXAMPLE", "FIELDS", "WHEN"], &shown)?;
    }
    Ok(ExitCode::SUCCESS)
}
