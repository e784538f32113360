//! What many runs tell together.

use super::drive::medians;
use super::model::Pipeline;
use super::run::{Millis, Run, RunKind};
use super::state::RunState;
use super::words;
use crate::store::runs::RunRow;

/// What would make a pipeline faster, by how long its stages took.
pub fn advice(pipeline: &Pipeline, times: Vec<(String, i64)>) -> Vec<String> {
    let times = medians(times);
    let of = |name: &str| {
        let prefix = format!("{name}[");
        times
            .iter()
            .filter(|(known, _)| *known == name || known.starts_with(&prefix))
            .map(|(_, time)| *time)
            .fold(0.0, f64::max)
    };
    let all: Vec<f64> = pipeline.stages.iter().map(|stage| of(&stage.name)).collect();
    let (path, total) = pipeline.graph.critical(&all);
    if total == 0.0 {
        return vec![format!("{} has not run yet, so there is nothing to go by", pipeline.app)];
    }
    let names: Vec<&str> = path.iter().map(|at| pipeline.stages[*at].name.as_str()).collect();
    let mut out = vec![format!("the critical path is {} ({})", names.join(" > "), words::span(total as Millis))];
    if let Some(longest) = path.iter().max_by(|a, b| all[**a].total_cmp(&all[**b])) {
        let stage = &pipeline.stages[*longest];
        out.push(format!(
            "{} takes the most of it: {} of {}",
            stage.name,
            words::span(all[*longest] as Millis),
            words::span(total as Millis)
        ));
    }
    for pair in path.windows(2) {
        let (before, after) = (&pipeline.stages[pair[0]], &pipeline.stages[pair[1]]);
        let asks =
            after.actions.iter().any(|action| action.settings.to_string().contains(&format!("{{{}.", before.name)));
        if !asks && after.when.is_none() && before.gate.is_none() {
            out.push(format!(
                "{} uses nothing that {} gives; if it may run beside it, take it out of its `needs`",
                after.name, before.name
            ));
        }
    }
    out
}

/// Deployment frequency, lead time, change failure rate, time to restore; bands of 2021.
pub(super) fn dora(app: &str, runs: &[(RunRow, Run)], since: Millis, now: Millis) -> String {
    let days = ((now - since) as f64 / 86_400_000.0).max(1.0);
    let deploys: Vec<&Run> = runs
        .iter()
        .map(|(_, run)| run)
        .filter(|run| run.kind == RunKind::Deploy && run.started.is_some() && run.state.ended())
        .collect();
    let good = deploys.iter().filter(|run| run.state == RunState::Succeeded).count();
    let bad = deploys
        .iter()
        .filter(|run| {
            matches!(run.state, RunState::Failed | RunState::TimedOut | RunState::RolledBack | RunState::RollbackFailed)
        })
        .count();
    if deploys.is_empty() {
        return format!("{app}: no deployment in {}", words::span(now - since));
    }
    let mut leads: Vec<Millis> = deploys
        .iter()
        .filter(|run| run.state == RunState::Succeeded)
        .filter_map(|run| Some(run.finished? - run.created))
        .collect();
    leads.sort_unstable();
    let lead = leads.get(leads.len() / 2).map_or("-".to_owned(), |lead| words::span(*lead));
    let mut restores: Vec<Millis> = Vec::new();
    // Newest first: each failure is over with the next good run of the same place after it.
    for (at, (_, run)) in runs.iter().enumerate() {
        let failed = matches!(run.state, RunState::Failed | RunState::TimedOut | RunState::RolledBack);
        let place = run.place();
        let next = runs[..at]
            .iter()
            .rev()
            .map(|(_, run)| run)
            .find(|run| run.place() == place && run.state == RunState::Succeeded);
        if let (true, Some(from), Some(to)) = (failed, run.finished, next.and_then(|next| next.finished)) {
            restores.push(to - from);
        }
    }
    restores.sort_unstable();
    let restore = restores.get(restores.len() / 2).map_or("-".to_owned(), |restore| words::span(*restore));
    let rate = 100.0 * bad as f64 / (good + bad).max(1) as f64;
    format!(
        "{app}, {} days: {:.1} deployments a day ({good} ok, {bad} failed), lead time {lead}, change failure rate {rate:.0}%, time to restore {restore}",
        days.round(),
        good as f64 / days
    )
}
