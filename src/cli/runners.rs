//! `masterchief runners`: who does stages that name a runner, as the bot that runs here knows it, or as it knew it last.

use std::process::ExitCode;

use super::{Common, Done, output, runtime};
use crate::bot::control::{Request, ask};
use crate::config::{Config, Secrets};
use crate::pipelines::{Catalog, known, unknown_labels};

pub(super) fn run(common: &Common) -> Done {
    let config = match common.config(Secrets::Spare) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let request = Request { word: "runners".to_owned(), ..Request::default() };
    let mut lines = Vec::new();
    let each =
        |value: serde_json::Value| lines.extend(value.get("line").and_then(|line| line.as_str()).map(str::to_owned));
    if runtime()?.block_on(ask(&config.data, &request, each))?.is_none() {
        let all = known(&config.data);
        let line = |one: &crate::pipelines::Known| {
            let labels: Vec<&str> = one.labels.iter().map(String::as_str).collect();
            format!("{}: {}; {} slots, as it was known last", one.name, labels.join(", "), one.slots)
        };
        lines.extend(all.iter().map(line));
        lines.push("no bot runs here, so who is there now is not known".to_owned());
    }
    if common.json {
        output::json(&lines)?;
        return Ok(ExitCode::SUCCESS);
    }
    for line in lines {
        output::line(&line)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Labels that pipelines want and nobody ever had, a sentence each.
pub(super) fn unheard(config: &Config, catalog: &Catalog) -> Vec<String> {
    let mut labels = config.runner.labels.clone();
    labels.extend(known(&config.data).into_iter().flat_map(|one| one.labels));
    catalog.all().flat_map(|pipeline| unknown_labels(pipeline, &labels)).collect()
}
