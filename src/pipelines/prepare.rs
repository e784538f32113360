//! What a request needs to know of its repository.

use super::engine::{May, Msg, Prepared, Preview};
use super::may::{may_deploy, settle};
use super::model::{Pipeline, Takes};
use super::refusal::{Kind, Refusal};
use super::request::{self, DeployWords};
use super::run::{Asker, Commit, RunKind};
use super::words;
use crate::executors::{self, Class, Failure, changes, mirror, resolve, tag};
use serde_json::{Map, Value};
use std::time::Duration;
use tokio::sync::oneshot;

use super::handle::Pipelines;

/// How long a repository may take to tell a commit.
const RESOLVE: Duration = Duration::from_secs(20);

impl Pipelines {
    /// Finds out what a request needs to know of the repository: the commit, and what changed since what is live. Nobody is asked
    /// anything for who may not.
    pub async fn prepare(
        &self,
        words: DeployWords,
        given: Map<String, Value>,
        (who, may): (&Asker, &May),
    ) -> Result<Prepared, Refusal> {
        let pipeline = self.catalog().get(&words.app)?;
        let mut params = given;
        for (name, text) in &words.params {
            let param = pipeline.params.iter().find(|param| param.name == *name);
            params.insert(
                name.clone(),
                param.map_or_else(|| Value::from(text.clone()), |param| request::typed(param, text)),
            );
        }
        let default = |name: &str| {
            let param = pipeline.params.iter().find(|param| param.name == name)?;
            param.default.as_ref()?.as_str().map(str::to_owned)
        };
        let given = |name: &str| params.get(name).and_then(Value::as_str).map(str::to_owned);
        let reference = words.reference.clone().or_else(|| given("ref")).or_else(|| default("ref"));
        let mut prepared = Prepared {
            app: words.app.clone(),
            environment: words.environment.clone().or_else(|| given("environment")),
            reference: reference.clone(),
            params,
            skip: words.skip,
            only: words.only,
            ..Prepared::default()
        };
        if let Some(reference) = &reference {
            let param = super::model::Param {
                name: "ref".to_owned(),
                takes: Takes::Ref,
                default: None,
                optional: true,
                needs_flag: None,
            };
            request::fits(&param, &Value::from(reference.clone()))?;
        }
        let may_there = |env: String| may_deploy(&*self.inner.around, &pipeline, &env, who, may).map(|()| env);
        let Ok(env) = settle(&pipeline, &prepared, may).and_then(|(_, env)| may_there(env)) else {
            // The engine refuses it in its own words and writes it down. Nobody else is asked anything for it.
            return Ok(prepared);
        };
        if let Some(repo) = &pipeline.repo {
            let place = Place { repo, reference: reference.as_deref().unwrap_or("HEAD"), env: env.clone() };
            self.look_into(&pipeline, place, &mut prepared).await?;
        }
        self.check(&pipeline, env, &mut prepared).await;
        Ok(prepared)
    }

    /// What a run would be that is asked for now; nothing is begun, and nothing written.
    pub async fn preview(&self, prepared: Prepared, who: Asker, may: May) -> Result<Preview, Refusal> {
        let (to, told) = oneshot::channel();
        // At shutdown nobody needs it any more.
        let _ = self.inner.to.send(Msg::Preview(Box::new(prepared), Box::new((who, may)), to)).await;
        told.await.map_err(|_| Refusal::busy(words::GOING_DOWN))?
    }

    /// What a run that is over asked for, asked for anew: the same parameters, and what its branch or tag names now. What may be left out,
    /// and which rule does not count, is said anew too.
    pub(super) async fn anew(&self, number: i64, (who, may): (&Asker, &May)) -> Result<Prepared, Refusal> {
        let found = self.run(number).await?;
        let (run, _) = found.ok_or_else(|| Refusal::unknown(words::no_such_run(number)))?;
        self.catalog().permits_looking_at(&run, who, may)?;
        if !run.state.ended() {
            return Err(Refusal::conflict(words::not_over(&run)));
        }
        if run.kind == RunKind::Rollback {
            return Err(Refusal::conflict(words::again_rollback(&run)));
        }
        let reference = Some(run.reference).filter(|reference| !reference.is_empty());
        let words = DeployWords { app: run.app, reference, environment: Some(run.env), ..DeployWords::default() };
        let prepared = self.prepare(words, run.params, (who, may)).await?;
        Ok(Prepared { event: run.event, again: true, unattended: who.is_program(), ..prepared })
    }

    /// Asks others what the rules of the environment want to know of them.
    async fn check(&self, pipeline: &Pipeline, env: String, prepared: &mut Prepared) {
        if pipeline.rules(&env).is_none_or(|rules| rules.asks_outside().next().is_none()) {
            return;
        }
        let mut params = prepared.params.clone();
        for param in &pipeline.params {
            if let Some(default) = &param.default {
                params.entry(param.name.clone()).or_insert_with(|| default.clone());
            }
        }
        let reference = prepared.reference.clone().unwrap_or_default();
        let facts = [
            ("app", Value::from(pipeline.app.clone())),
            ("environment", Value::from(env.clone())),
            ("ref", Value::from(reference.clone())),
            ("sha", Value::from(prepared.sha.clone())),
            ("version", Value::from(if prepared.version.is_empty() { reference } else { prepared.version.clone() })),
            ("params", Value::Object(params)),
        ];
        let facts = facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        prepared.checks = self.inner.steps.look(pipeline, &env, &facts).await;
        prepared.checked = Some(self.now());
    }

    pub(super) async fn look_into(
        &self,
        pipeline: &Pipeline,
        place: Place<'_>,
        prepared: &mut Prepared,
    ) -> Result<(), Refusal> {
        let Place { repo, reference, env } = place;
        let own = self.inner.steps.credentials(pipeline, &env);
        prepared.sha = resolve(repo, reference, &own, RESOLVE).await.map_err(unresolved)?.sha;
        let live = self.inner.runs.deployments(&pipeline.app, &env, 1).await?;
        let Some(live) = live.into_iter().next().filter(|live| !live.sha.is_empty()) else { return Ok(()) };
        let copy = self.inner.folder.join("mirrors").join(&pipeline.app);
        let known = match mirror(repo, &copy, &own).await {
            Ok(()) => changes(&copy, &live.sha, &prepared.sha).await,
            Err(failure) => Err(failure),
        };
        match known {
            Ok(changes) => {
                prepared.first_commit = changes.commits.iter().filter_map(|commit| commit.at).min();
                prepared.commit_count = changes.commits.len() as u64;
                let commit = |commit: executors::Commit| Commit {
                    sha: commit.sha,
                    author: commit.author,
                    subject: commit.subject,
                    at: commit.at,
                };
                prepared.commits = changes.commits.into_iter().take(100).map(commit).collect();
                prepared.files = Some(changes.files);
            }
            // The commits are for people to look at; a deployment goes without.
            Err(failure) => tracing::warn!(app = %pipeline.app, fault = %failure.line, "Commits cannot be told"),
        }
        // A release has a name of its own, whatever it was asked for by.
        prepared.version = tag(&copy, &prepared.sha).await.unwrap_or_default();
        Ok(())
    }
}

/// Where a version comes from and where it goes.
pub(super) struct Place<'a> {
    /// The repository.
    repo: &'a str,
    /// A branch, a tag, a commit or `HEAD`.
    reference: &'a str,
    /// The environment; empty where it is not known.
    env: String,
}

/// A repository that is away for a while can be asked again; what it does not have is not there later either.
fn unresolved(failure: Failure) -> Refusal {
    let kind = match failure.class {
        Class::Network | Class::Timeout | Class::Quota | Class::InfraLost => Kind::Busy,
        Class::Config => Kind::Wrong,
        _ => Kind::Broken,
    };
    Refusal { kind, text: failure.line }
}
