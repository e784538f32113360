//! What a request needs to know of its repository.

use super::engine::{May, Msg, Prepared, Preview};
use super::may::{may_deploy, settle};
use super::model::{Pipeline, Takes};
use super::refusal::{Kind, Refusal};
use super::request::{self, DeployWords};
use super::run::{Asker, Commit, Run, RunKind};
use super::words;
use crate::executors::{self, Changes, Class, Failure, changes, mirror, resolve, tag};
use masterchief_contract::Secret;
use serde_json::{Map, Value};
use std::path::PathBuf;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

use super::handle::Pipelines;

/// How long a repository may take to tell a commit.
const RESOLVE: Duration = Duration::from_secs(20);
/// How long somebody waits for the commits that go out. A copy that takes longer is made all the same, for the next who asks…
const COMMITS: Duration = Duration::from_secs(10);
/// …and how long where the pipeline asks by name which files changed.
const FILES: Duration = Duration::from_secs(40);
/// Who hears nothing for so long is told that it is being looked.
const FIRST: Duration = Duration::from_millis(700);

/// Who is told that an answer takes its time.
pub(super) type Slow<'a> = &'a (dyn Fn(String) + Sync);
/// A copy of a repository that is being brought up to date, and what came of it.
pub(super) type Fetch = watch::Receiver<Option<Result<(), Failure>>>;

impl Pipelines {
    /// Finds out what a request needs to know of the repository: the commit, and what changed since what is live. Nobody is asked
    /// anything for who may not.
    pub async fn prepare(
        &self,
        words: DeployWords,
        given: Map<String, Value>,
        (who, may): (&Asker, &May),
    ) -> Result<Prepared, Refusal> {
        self.prepare_telling(words, given, (who, may), &|_| ()).await
    }

    /// The same; whoever waits for it is told that it is under way.
    pub(super) async fn prepare_telling(
        &self,
        words: DeployWords,
        given: Map<String, Value>,
        (who, may): (&Asker, &May),
        slow: Slow<'_>,
    ) -> Result<Prepared, Refusal> {
        let pipeline = self.catalog().get(&words.app)?;
        let mut params = given;
        for (name, text) in &words.params {
            let param = pipeline.params.iter().find(|param| param.name == *name);
            if param.is_some_and(|param| param.secret) && who.origin == "irc" {
                return Err(Refusal::denied(words::said_aloud(name)));
            }
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
                secret: false,
            };
            request::fits(&param, &Value::from(reference.clone()))?;
        }
        let may_there = |env: String| may_deploy(&*self.inner.around, &pipeline, &env, who, may).map(|()| env);
        let Ok(env) = settle(&pipeline, &prepared, may).and_then(|(_, env)| may_there(env)) else {
            // The engine refuses it in its own words and writes it down. Nobody else is asked anything for it.
            return Ok(prepared);
        };
        let looking = async {
            if let Some(repo) = &pipeline.repo {
                let place = Place { repo, reference: reference.as_deref().unwrap_or("HEAD"), env: env.clone() };
                self.look_into(&pipeline, place, &mut prepared).await?;
            }
            self.check(&pipeline, env, &mut prepared).await;
            Ok::<Prepared, Refusal>(prepared)
        };
        tokio::pin!(looking);
        tokio::select! {
            biased;
            looked = &mut looking => return looked,
            () = tokio::time::sleep(FIRST) => slow(words::looking(&pipeline.app)),
        }
        looking.await
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
    pub(super) async fn anew(
        &self,
        number: i64,
        (who, may): (&Asker, &May),
        slow: Slow<'_>,
    ) -> Result<Prepared, Refusal> {
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
        let prepared = self.prepare_telling(words, run.params, (who, may), slow).await?;
        Ok(Prepared { event: run.event, again: true, unattended: who.is_program(), ..prepared })
    }

    /// Asks others what the rules of the environment want to know of them.
    async fn check(&self, pipeline: &Pipeline, env: String, prepared: &mut Prepared) {
        if pipeline.rules(&env).is_none_or(|rules| rules.asks_outside().next().is_none()) {
            return;
        }
        let mut params = prepared.params.clone();
        drop(request::sealed(&pipeline.params, &mut params));
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
        let copy = self.copy_of(&pipeline.app);
        // Where nobody asks which files changed, what is not known counts as changed.
        let by_files = pipeline.source.contains("files");
        let patience = if by_files { FILES } else { COMMITS };
        match self.changed((&pipeline.app, repo), &own, (&live.sha, &prepared.sha), patience).await {
            Err(failure) if by_files && failure.class == Class::Timeout => return Err(Refusal::busy(failure.line)),
            Ok(changes) => {
                prepared.first_commit = changes.commits.iter().filter_map(|commit| commit.at).min();
                prepared.commit_count = changes.commits.len() as u64;
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

impl Pipelines {
    /// Where the copy of an app's repository is.
    pub(super) fn copy_of(&self, app: &str) -> PathBuf {
        self.inner.folder.join("mirrors").join(app)
    }

    /// What lies between two commits of a repository.
    async fn changed(
        &self,
        (app, repo): (&str, &str),
        own: &[(String, Secret)],
        (from, to): (&str, &str),
        patience: Duration,
    ) -> Result<Changes, Failure> {
        let copy = self.copy_of(app);
        let (joined, done) = self.mirrored(app, repo, own, patience).await;
        match done {
            Ok(()) => match changes(&copy, from, to).await {
                // It was begun for somebody else, maybe before the commit was there.
                Err(_) if joined => {
                    self.mirrored(app, repo, own, patience).await.1?;
                    changes(&copy, from, to).await
                }
                known => known,
            },
            Err(failure) => Err(failure),
        }
    }

    /// Brings the copy of a repository up to date. That goes on when who asked waits no longer, and who asks meanwhile waits for the same:
    /// then it was begun for another.
    async fn mirrored(
        &self,
        app: &str,
        repo: &str,
        own: &[(String, Secret)],
        patience: Duration,
    ) -> (bool, Result<(), Failure>) {
        let (joined, mut told) = {
            let mut all = self.inner.fetches.lock().unwrap_or_else(PoisonError::into_inner);
            let under_way = all.get(app).filter(|told| told.borrow().is_none() && told.has_changed().is_ok());
            match under_way {
                Some(told) => (true, told.clone()),
                None => {
                    let (to, told) = watch::channel(None);
                    let (copy, repo, own) = (self.copy_of(app), repo.to_owned(), own.to_vec());
                    tokio::spawn(async move {
                        let done = mirror(&repo, &copy, &own).await;
                        to.send_replace(Some(done));
                    });
                    all.insert(app.to_owned(), told.clone());
                    (false, told)
                }
            }
        };
        let waited = tokio::time::timeout(patience, told.wait_for(Option::is_some)).await;
        let done = match waited {
            Ok(Ok(done)) => done.clone().unwrap_or(Ok(())),
            Ok(Err(_)) => Err(Failure::new(Class::InfraLost, words::copy_fell(app))),
            Err(_) => Err(Failure::new(Class::Timeout, words::being_copied(app))),
        };
        (joined, done)
    }

    /// A run whose commits were not known when it was asked for, with those that the copy of its repository tells by now.
    pub(super) async fn with_commits(&self, run: Run) -> Run {
        let Some(before) = run.before.as_ref().filter(|_| run.commits_unknown()) else { return run };
        match changes(&self.copy_of(&run.app), &before.sha, &run.sha).await {
            Ok(changes) => Run {
                commit_count: changes.commits.len() as u64,
                commits: changes.commits.into_iter().take(100).map(commit).collect(),
                ..run
            },
            Err(_) => run,
        }
    }
}

fn commit(commit: executors::Commit) -> Commit {
    Commit { sha: commit.sha, author: commit.author, subject: commit.subject, at: commit.at }
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
