//! `masterchief check`: proves the configuration and the scripts without connecting.

use std::path::PathBuf;
use std::process::ExitCode;

use masterchief_contract::closest;
use serde::Serialize;

use super::run::bring_scripts;
use super::{Common, Done, WRONG_INPUT, output, runtime};
use crate::bot;
use crate::bot::stage_executors;
use crate::config::{self, Secrets};
use crate::pipelines::Catalog;

/// Checks everything.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The project to check
    project: Option<PathBuf>,
}

/// What was found.
#[derive(Default, Serialize)]
struct Report {
    ok: bool,
    networks: Vec<String>,
    scripts: Vec<String>,
    binds: usize,
    faults: Vec<String>,
    /// Not wrong, but perhaps not meant.
    warnings: Vec<String>,
}

pub(super) fn run(common: &Common, args: &Args) -> Done {
    let path = args.project.as_deref().or(common.config.as_deref());
    let mut report = Report::default();
    match config::load(path, common.env.as_deref(), Secrets::Needed) {
        Err(faults) => report.faults.extend(faults.iter().map(ToString::to_string)),
        Ok(mut config) => {
            if !config.source.found {
                let place = config.source.project.display();
                report.warnings.push(format!("there is no configuration in {place}: these are the defaults"));
            }
            report.warnings.extend(config.mesh.doubts());
            bring_scripts(&mut config)?;
            report.networks.extend(config.networks.keys().cloned());
            for (name, settings) in &config.networks {
                if let Err(fault) = settings.tls.check() {
                    report.faults.push(format!("networks.{name}.tls: {fault}"));
                }
            }
            let dry = runtime()?.block_on(bot::dry_run(&config))?;
            report.binds = dry.binds.len();
            let shadowed = dry.binds.iter().filter(|bind| bind.shadowed);
            report.warnings.extend(shadowed.map(|bind| {
                let (kind, mask, origin) = (bind.kind, &bind.mask, &bind.origin);
                format!("{origin}: {kind} {mask} is bound again later, and the later one serves; it serves only if that passes")
            }));
            for name in config.scripts.settings.keys() {
                let known = dry.loaded.iter().map(|script| script.trim_end_matches(".lua"));
                if !known.clone().any(|script| script == name) {
                    let hint = closest(name, known).map(|close| format!("; did you mean {close}?")).unwrap_or_default();
                    report.warnings.push(format!("there are settings for a script {name}, but no {name}.lua{hint}"));
                }
            }
            report.faults.extend(dry.unread.iter().cloned());
            report.warnings.extend(dry.doubts.iter().cloned());
            report.scripts = dry.loaded;
            report.faults.extend(dry.failed.iter().map(ToString::to_string));
            let executors = stage_executors(&config.executors, None);
            let (catalog, unread) = Catalog::read(&config.pipelines.folder, &executors);
            report.warnings.extend(super::runners::unheard(&config, &catalog));
            report.faults.extend(unread.iter().map(ToString::to_string));
            if report.faults.is_empty() {
                report.faults.extend(super::policy::faults(&config)?);
            }
        }
    }
    report.ok = report.faults.is_empty();
    if common.json {
        output::json(&report)?;
    } else {
        report.faults.iter().for_each(|fault| output::fault(fault));
        report.warnings.iter().for_each(|warning| output::warning(warning));
        if report.ok {
            let Report { networks, scripts, binds, .. } = &report;
            output::line(&format!(
                "{}: {}, {}, {}",
                output::good("all good"),
                output::count(networks.len(), "network"),
                output::count(scripts.len(), "script"),
                output::count(*binds, "bind")
            ))?;
        }
    }
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::from(WRONG_INPUT) })
}
