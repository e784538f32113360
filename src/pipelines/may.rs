//! Who may ask for what where: looked at before anybody else is asked anything, and again by the engine.

use serde_json::{Map, Value};

use super::around::Around;
use super::catalog::Catalog;
use super::engine::{May, Prepared, permitted};
use super::model::{Pipeline, Rules};
use super::refusal::Refusal;
use super::request::{self, DeployWords};
use super::run::Asker;
use super::words;

/// Whether somebody may deploy there; else what they may, and whom to ask.
pub(super) fn may_deploy(
    around: &dyn Around,
    pipeline: &Pipeline,
    env: &str,
    who: &Asker,
    may: &May,
) -> Result<(), Refusal> {
    let rules = rules(pipeline, env)?;
    if may.has(rules.flags.as_ref()) {
        return Ok(());
    }
    let others =
        pipeline.policy.environments.iter().filter(|(name, other)| name != env && may.has(other.flags.as_ref()));
    let others: Vec<String> = others.map(|(name, _)| name.clone()).collect();
    // A stranger learns no names.
    let flags = rules.flags.as_ref().filter(|_| who.handle != "*");
    let mut whom = flags.map(|flags| around.who_may(flags, &who.place)).unwrap_or_default();
    // Those who are here are asked first.
    let nicks = around.nicks(&who.place);
    whom.sort_by_key(|handle| !nicks.iter().any(|nick| nick.eq_ignore_ascii_case(handle)));
    let flags = rules.flags.as_ref().map(ToString::to_string).unwrap_or_default();
    let flags = flags.split('|').next().unwrap_or("").to_owned();
    Err(Refusal::denied(words::may_not(&who.handle, &pipeline.app, env, &others, &flags, &whom)))
}

/// All parameters and the environment; flags that parameters need are checked.
pub(super) fn settle(
    pipeline: &Pipeline,
    prepared: &Prepared,
    may: &May,
) -> Result<(Map<String, Value>, String), Refusal> {
    let mut given = prepared.params.clone();
    if let Some(env) = &prepared.environment {
        given.insert("environment".to_owned(), Value::from(env.clone()));
    }
    if let Some(reference) = &prepared.reference {
        given.insert("ref".to_owned(), Value::from(reference.clone()));
    }
    for param in &pipeline.params {
        let changed = given.get(&param.name).is_some_and(|value| Some(value) != param.default.as_ref());
        if changed && !may.has(param.needs_flag.as_ref()) {
            let flags = param.needs_flag.as_ref().map(ToString::to_string).unwrap_or_default();
            return Err(Refusal::denied(format!("you may not set {} (needs the flags {flags})", param.name)));
        }
    }
    let mut params = request::settle(&pipeline.params, &given)?;
    let named = params.get("environment").and_then(Value::as_str).map(str::to_owned);
    let env = match named {
        Some(env) => env,
        None => pipeline.only_environment().map(str::to_owned).ok_or_else(|| {
            let names: Vec<&str> = pipeline.policy.environments.iter().map(|(name, _)| name.as_str()).collect();
            format!("say where to: !deploy {} to {}", pipeline.app, names.join("|"))
        })?,
    };
    params.insert("environment".to_owned(), Value::from(env.clone()));
    Ok((params, env))
}

/// The rules of an environment; an environment without rules is nobody's.
pub(super) fn rules<'p>(pipeline: &'p Pipeline, env: &str) -> Result<&'p Rules, Refusal> {
    pipeline.rules(env).ok_or_else(|| {
        let names: Vec<&str> = pipeline.policy.environments.iter().map(|(name, _)| name.as_str()).collect();
        let close = masterchief_contract::closest(env, names.iter().copied());
        let hint =
            close.map_or_else(|| format!("There are {}", names.join(", ")), |close| format!("Did you mean {close}?"));
        Refusal::unknown(format!("{} has no environment {env:?}. {hint}", pipeline.app))
    })
}

/// Whether the flags of a place are somebody's, in few words.
pub(super) fn has_flags(pipeline: &Pipeline, env: &str, may: &May) -> Result<(), Refusal> {
    let rules = rules(pipeline, env)?;
    if may.has(rules.flags.as_ref()) {
        return Ok(());
    }
    let flags = rules.flags.as_ref().map(ToString::to_string).unwrap_or_default();
    Err(Refusal::denied(format!("{}/{env} needs the flags {flags}", pipeline.app)))
}

impl Catalog {
    /// Whether somebody may ask for this deployment where they are; nobody and nothing else is asked, nothing is done.
    pub fn permits_deploy(&self, words: DeployWords, who: &Asker, may: &May) -> Result<(), Refusal> {
        let pipeline = self.get(&words.app)?;
        let params = words.params.iter().map(|(name, text)| {
            let param = pipeline.params.iter().find(|param| param.name == *name);
            (name.clone(), param.map_or_else(|| Value::from(text.clone()), |param| request::typed(param, text)))
        });
        let prepared = Prepared {
            app: words.app.clone(),
            environment: words.environment.clone(),
            reference: words.reference.clone(),
            params: params.collect(),
            skip: words.skip,
            only: words.only,
            ..Prepared::default()
        };
        permitted(&pipeline, &prepared, who, may)
    }

    /// Whether somebody may act on runs and locks of a place.
    pub fn permits_acting(&self, app: &str, env: &str, may: &May) -> Result<(), Refusal> {
        has_flags(&*self.get(app)?, env, may)
    }

    /// Whether somebody may agree to runs of others at a place. `named` tells whether they are one of those that are named.
    pub fn permits_agreeing(
        &self,
        app: &str,
        env: &str,
        may: &May,
        named: impl Fn(&str) -> bool,
    ) -> Result<(), Refusal> {
        let pipeline = self.get(app)?;
        if !may.vouched {
            return Err(Refusal::denied("nobody vouches for them"));
        }
        match &rules(&pipeline, env)?.approvals {
            None => Err(Refusal::denied(format!("nobody is asked to agree to {app}/{env}"))),
            Some(asked) if asked.from.is_empty() => has_flags(&pipeline, env, may),
            Some(asked) if asked.from.iter().any(|name| named(name)) => Ok(()),
            Some(asked) => Err(Refusal::denied(format!("{app}/{env} needs somebody of {}", asked.from.join(" or ")))),
        }
    }
}
