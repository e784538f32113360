//! The record of each deployment: what went where, what was there before, who did it, in which run, and what came of it.

use serde::Serialize;

use super::handle::Pipelines;
use super::run::{Millis, Run, RunKind, shown};
use super::state::RunState;
use super::words;
use crate::store::runs::{DeploymentRow, RunRow, Runs, RunsError, Which};

/// A run that began, as a deployment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Deployment {
    /// The run.
    pub run: i64,
    /// The app.
    pub app: String,
    /// The environment.
    pub environment: String,
    /// What it was for.
    pub kind: RunKind,
    /// What was asked for: a branch, a tag, a commit.
    #[serde(rename = "ref")]
    pub reference: String,
    /// What people call what went out.
    pub version: String,
    /// The commit.
    pub sha: String,
    /// What was there before.
    pub previous_version: Option<String>,
    /// Its commit.
    pub previous_sha: Option<String>,
    /// Who asked: a handle.
    pub who: String,
    /// How they asked: `irc`, `cli`, `http`, `webhook`, `time`.
    pub origin: String,
    /// What came of it, in a word that other programs know: success, failed, aborted, running.
    pub result: &'static str,
    /// The same, finely.
    pub state: RunState,
    /// When it went live; nothing if it did not.
    pub live: Option<Millis>,
    /// Whether it proved good, if it went live.
    pub validated: Option<bool>,
    /// How many of it run, where that is known.
    pub replicas: Option<i64>,
    /// When it began.
    pub began: Option<Millis>,
    /// When it ended.
    pub ended: Option<Millis>,
}

impl Deployment {
    fn of(row: &RunRow, brought: Option<&DeploymentRow>) -> Option<Deployment> {
        let run: Run = serde_json::from_str(&row.detail).ok()?;
        Some(Deployment {
            run: run.number,
            previous_version: run.before.as_ref().map(|before| before.version.clone()),
            previous_sha: run.before.as_ref().map(|before| before.sha.clone()),
            app: run.app,
            environment: run.env,
            kind: run.kind,
            reference: run.reference,
            version: run.version,
            sha: run.sha,
            who: run.asker.handle,
            origin: run.asker.origin,
            result: run.state.plain(),
            state: run.state,
            live: brought.map(|brought| brought.at),
            validated: brought.map(|brought| brought.validated),
            replicas: brought.and_then(|brought| brought.replicas),
            began: run.started,
            ended: run.finished,
        })
    }

    /// For people: `118 shop/prod v2 (9f3c1e2) after v1 by ana 07:12 UTC: succeeded, 12 run`.
    pub fn line(&self, now: Millis) -> String {
        let after = match (&self.previous_version, &self.previous_sha) {
            (Some(version), Some(sha)) => format!(" after {}", shown(version, sha)),
            _ => String::new(),
        };
        let kind = if self.kind == RunKind::Rollback { "rollback to " } else { "" };
        let commit: String = self.sha.chars().take(7).collect();
        let commit = if commit.is_empty() { commit } else { format!(" ({commit})") };
        let at = self.began.map(|at| format!(" {}", words::moment(at, now))).unwrap_or_default();
        let faulty = if self.validated == Some(false) { ", FAULTY" } else { "" };
        let replicas = self.replicas.map(|count| format!(", {count} run")).unwrap_or_default();
        format!(
            "{} {}/{} {kind}{}{commit}{after} by {}{at}: {}{faulty}{replicas}",
            self.run,
            self.app,
            self.environment,
            shown(&self.version, &self.sha),
            words::quiet(&self.who),
            self.state.name().replace('_', " "),
        )
    }
}

/// The newest deployments, the newest first.
pub async fn deployments(runs: &Runs, which: Which) -> Result<Vec<Deployment>, RunsError> {
    let rows = runs.began(which).await?;
    Ok(rows.iter().filter_map(|(row, brought)| Deployment::of(row, brought.as_ref())).collect())
}

impl Pipelines {
    /// The newest deployments, the newest first.
    pub async fn deployments(&self, which: Which) -> Result<Vec<Deployment>, RunsError> {
        deployments(self.records(), which).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipelines::run::{Asker, Before};

    #[test]
    fn a_record_says_what_came_instead_of_what_by_whom_and_how_it_went() {
        let before = Before { version: "v1".to_owned(), sha: "b77a010b".to_owned(), ..Before::default() };
        let run = Run {
            number: 118,
            app: "shop".to_owned(),
            env: "prod".to_owned(),
            reference: "main".to_owned(),
            version: "v2".to_owned(),
            sha: "9f3c1e2aa".to_owned(),
            before: Some(before),
            asker: Asker::program("ana"),
            state: RunState::Succeeded,
            ..Run::default()
        };
        let row = RunRow { detail: serde_json::to_string(&run).unwrap(), ..RunRow::default() };
        let brought = DeploymentRow { at: 7, validated: true, replicas: Some(12), ..DeploymentRow::default() };
        let told = Deployment::of(&row, Some(&brought)).unwrap();
        assert_eq!((told.previous_sha.as_deref(), told.result), (Some("b77a010b"), "success"));
        assert_eq!(
            told.line(0).replace('\u{200b}', ""),
            "118 shop/prod v2 (9f3c1e2) after v1 by ana: succeeded, 12 run"
        );
        let none = Deployment::of(&row, None).unwrap();
        assert_eq!((none.live, none.validated, none.replicas), (None, None, None));
    }
}
