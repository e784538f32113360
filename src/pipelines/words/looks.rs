//! What is said to who looks: what is where, what ran, what changed, what the incident log has.

use super::asides::spare;
use super::format::{about, cut, list, moment, quiet, span, utc};
use super::{LINE, listed, stage};
use std::sync::Arc;

use crate::pipelines::looks::Places;
use crate::pipelines::model::Pipeline;
use crate::pipelines::run::{Commit, Millis, Run, RunKind, StageRun, shown};
use crate::pipelines::state::{RunState, StageState};
use crate::store::runs::{DeploymentRow, IncidentRow, RunRow};

/// What is where: one app in all its environments.
pub fn who(app: &str, rows: &Places, now: Millis) -> String {
    let mut parts = Vec::new();
    for (env, live, locked, running) in rows {
        let mut text = match live {
            Some((live, run)) => {
                let kind = if run.kind == "rollback" { ", rollback" } else { "" };
                let version = shown(&live.version, &live.sha);
                format!("{env} {version} by {} {} ago ({}{kind})", quiet(&run.requester), span(now - live.at), live.run)
            }
            None if running.is_some() => env.clone(),
            None => format!("{env} nothing"),
        };
        if live.as_ref().is_some_and(|(live, _)| !live.validated) {
            text.push_str(" FAULTY");
        }
        if *locked {
            text.push_str(" LOCKED");
        }
        if let Some((number, version)) = running {
            let and = if live.is_some() { "," } else { "" };
            text.push_str(&format!("{and} {version} running ({number})"));
        }
        parts.push(text);
    }
    format!("{app}: {}", parts.join(" | "))
}

/// What changed lately, and what went wrong since.
pub fn whatson(
    env: Option<&str>,
    rows: &[DeploymentRow],
    alerts: &[(Millis, String)],
    time: Millis,
    now: Millis,
) -> String {
    let place = |row: &DeploymentRow| if env.is_none() { format!(" to {}", row.env) } else { String::new() };
    let changes: Vec<String> = rows
        .iter()
        .map(|row| format!("{} {}{} ({})", row.app, shown(&row.version, &row.sha), place(row), row.run))
        .collect();
    let last = if time == 3_600_000 { "hour".to_owned() } else { span(time) };
    let changed = match changes.as_slice() {
        [] => format!("nothing changed in the last {last}"),
        some => format!("changed in the last {last}: {}", list(some, 6)),
    };
    let alert = |(at, text): &(Millis, String)| format!("{} {}", cut(text, 60), utc(*at).format("%H:%M"));
    let told: Vec<String> = alerts.iter().map(alert).collect();
    let alerts = if told.is_empty() { "none".to_owned() } else { list(&told, 3) };
    format!("{} at {} {changed}. Alerts since: {alerts}.", env.unwrap_or("everything"), moment(now, now))
}

/// One run in a list: `118 v2.41.0 ana 07:12 ok 10m48s`.
pub fn run_row(row: &RunRow, run: &Run, now: Millis) -> String {
    let at = moment(row.created, now);
    let at = at.trim_end_matches(" UTC");
    let took = row.started.zip(row.finished).map(|(from, to)| format!(" {}", span(to - from))).unwrap_or_default();
    let how = match run.state {
        RunState::Succeeded => format!("ok{took}"),
        RunState::Failed | RunState::TimedOut => {
            format!("FAILED {}", run.failed.as_deref().unwrap_or("")).trim_end().to_owned()
        }
        // What undid it has a row of its own.
        RunState::RolledBack if run.failed.is_some() => format!("FAILED {}", run.failed.as_deref().unwrap_or("")),
        state => state.name().replace('_', " "),
    };
    let what = if run.kind == RunKind::Rollback { format!("rollback->{}", run.shown()) } else { run.shown() };
    format!("{} {what} {} {at} {how}", row.number, quiet(&row.requester))
}

/// A run in detail.
pub fn run(run: &Run, stages: &[StageRun], eta: Option<Millis>, now: Millis) -> Vec<String> {
    let mut head = format!(
        "[{}] {} {} -> {}: {}, by {} {} ago",
        run.number,
        run.app,
        run.shown(),
        run.env,
        run.state.name().replace('_', " "),
        quiet(run.asker.called()),
        span(now - run.created)
    );
    if let Some(eta) = eta.filter(|_| run.state.active()) {
        head.push_str(&format!(", {} left", about(eta)));
    }
    let waits = run.state == RunState::AwaitingApproval;
    let own = stages.iter().filter(|one| one.state == StageState::Waiting && !one.code.is_empty());
    for code in waits.then_some(&run.code).into_iter().chain(own.map(|one| &one.code)) {
        head.push_str(&format!(", !approve {} {code}", run.number));
    }
    let parts: Vec<String> = stages
        .iter()
        .map(|one| match one.state {
            state if state.ended() => format!("{}{}", stage(one), spare(one)),
            state if state.steps() => {
                format!("{} {} {}", one.name, state.name(), span(now - one.started.unwrap_or(now)))
            }
            _ if !one.summary.is_empty() => format!("{} {}", one.name, one.summary),
            state => format!("{} {}", one.name, state.name().replace('_', " ")),
        })
        .collect();
    let mut out = vec![head];
    if !parts.is_empty() {
        out.push(super::stages(run.number, &parts));
    }
    out
}

/// The commits of a run.
pub fn diff(run: &Run) -> Vec<String> {
    if run.commits.is_empty() {
        return vec![format!(
            "[{}] no commits are known between {} and {}",
            run.number,
            run.before.as_ref().map_or("nothing", |before| before.version.as_str()),
            run.shown()
        )];
    }
    let line = |commit: &Commit| {
        format!(
            "{} {}: {}",
            commit.sha.chars().take(7).collect::<String>(),
            quiet(&commit.author),
            cut(&commit.subject, 200)
        )
    };
    let mut out: Vec<String> = run.commits.iter().take(8).map(line).collect();
    let more = run.commit_count.saturating_sub(out.len() as u64);
    if more > 0 {
        out.push(format!("and {more} more"));
    }
    out
}

/// A line of the incident log, with the bot whose it is if that is another: `L-12@spare`.
pub fn incident(bot: Option<&str>, row: &IncidentRow) -> String {
    let amends = row.amends.map(|id| format!(" amends L-{id}:")).unwrap_or_default();
    let of = bot.map(|bot| format!("@{bot}")).unwrap_or_default();
    format!("L-{}{of} {} {}{amends} {}", row.id, utc(row.at).format("%H:%M"), quiet(&row.handle), cut(&row.text, 100))
}

/// Lines of the incident log, as many as fit into one.
pub fn incidents(app: &str, rows: &[(Option<String>, IncidentRow)]) -> String {
    let lines: Vec<String> = rows.iter().map(|(bot, row)| incident(bot.as_deref(), row)).collect();
    if lines.is_empty() { format!("{app}: nothing was logged") } else { listed(&lines) }
}

/// The newest runs of an app.
pub fn deploys(app: &str, env: Option<&str>, rows: &[(RunRow, Run)], link: Option<&str>, now: Millis) -> String {
    if rows.is_empty() {
        return format!("{app}: no run yet");
    }
    let mut parts: Vec<String> = rows.iter().map(|(row, run)| run_row(row, run, now)).collect();
    let env = env.map(|env| format!("/{env}")).unwrap_or_default();
    parts.extend(link.map(|link| format!("more: {link}/a/{app}{env}")));
    parts.join(" | ")
}

/// What can be deployed, and where to.
pub fn apps<'p>(pipelines: impl Iterator<Item = &'p Arc<Pipeline>>) -> String {
    let one = |pipeline: &Arc<Pipeline>| {
        let envs: Vec<&str> = pipeline.policy.environments.iter().map(|(env, _)| env.as_str()).collect();
        format!("{} ({})", pipeline.app, envs.join(", "))
    };
    pipelines.map(one).collect::<Vec<_>>().join(" | ")
}

/// All that is booked.
pub fn booked_all(lines: &[String]) -> String {
    if lines.is_empty() { "nothing is booked".to_owned() } else { listed(lines) }
}

/// Who waits for an app.
pub fn queue(app: &str, runs: &[Run]) -> String {
    let line = |run: &Run| {
        let (by, state) = (quiet(run.asker.called()), run.state.name().replace('_', " "));
        format!("{} {by} {} -> {} {state}", run.number, run.shown(), run.env)
    };
    let lines: Vec<String> = runs.iter().map(line).collect();
    if lines.is_empty() { format!("nobody waits for {app}") } else { lines.join(" | ") }
}

/// The end of a log.
pub fn tail(run: &Run, stage: &str, lines: &[String]) -> Vec<String> {
    let mut out = vec![format!("[{}] {stage}, the last {} lines:", run.number, lines.len())];
    out.extend(lines.iter().map(|line| cut(line, LINE)));
    out
}

/// A log is not for everybody who may see how its run went.
pub fn no_log(run: &Run) -> String {
    format!("the log of run {} is for those who may deploy {}", run.number, run.place())
}

/// What is not over is not asked for again.
pub fn not_over(run: &Run) -> String {
    format!("run {} is {}", run.number, run.state.name().replace('_', " "))
}

/// Undoing something is asked for in other words.
pub fn again_rollback(run: &Run) -> String {
    let (number, app, env) = (run.number, &run.app, &run.env);
    format!("run {number} undid another; !rollback {app} {env} undoes what is live there now")
}

/// What stages take of the whole machine, where that is limited, and how commands are kept to what they may have.
pub fn limited(groups: bool, machine: Vec<(&'static str, u64, u64)>) -> Vec<String> {
    let amount = |name: &str, value: u64| match name {
        "cpu" => format!("{}", value as f64 / 1000.0),
        _ => format!("{} MiB", value >> 20),
    };
    let one = |(name, held, size)| format!("{name} {} of {} taken", amount(name, held), amount(name, size));
    let mut lines: Vec<String> = machine.into_iter().map(one).collect();
    let how = match groups {
        true => "limited by control groups, and so are processors",
        false => "added up ten times a second; processors are counted, and no command is kept to them",
    };
    lines.push(format!("memory of commands is {how}"));
    lines.push("disk of commands is added up twice a second".to_owned());
    lines
}
