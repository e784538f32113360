//! Who may ask for what where: looked at before anybody else is asked anything, and again by the engine.

use serde_json::{Map, Value};

use super::around::Around;
use super::catalog::Catalog;
use super::engine::{May, Prepared, asked_there, named_channels, permitted, same_place};
use super::model::{Pipeline, Rules};
use super::refusal::Refusal;
use super::request::{self, DeployWords};
use super::run::{Asker, Run};
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
    let flag = flags.split('|').next().unwrap_or("");
    let here = who.channel().map(|place| masterchief_contract::split_place(place).1);
    let needed = here.map_or_else(|| flag.to_owned(), |here| words::flag_on(flag, here));
    Err(Refusal::denied(words::may_not(&who.handle, &pipeline.app, env, &others, &needed, &whom)))
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
            return Err(Refusal::denied(words::may_not_set(&param.name, flags)));
        }
    }
    let mut params = request::settle(&pipeline.params, &given)?;
    let named = params.get("environment").and_then(Value::as_str).map(str::to_owned);
    let env = match named {
        Some(env) => env,
        None => pipeline.only_environment().map(str::to_owned).ok_or_else(|| {
            let names: Vec<&str> = pipeline.policy.environments.iter().map(|(name, _)| name.as_str()).collect();
            words::where_to(&pipeline.app, names.join("|"))
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
        let hint = close.map_or_else(|| words::there_are(names.join(", ")), words::did_you_mean);
        Refusal::unknown(words::which_environment(&pipeline.app, env, hint))
    })
}

/// Whether the flags of a place are somebody's, in few words.
pub(super) fn has_flags(pipeline: &Pipeline, env: &str, may: &May) -> Result<(), Refusal> {
    let rules = rules(pipeline, env)?;
    if may.has(rules.flags.as_ref()) {
        return Ok(());
    }
    let flags = rules.flags.as_ref().map(ToString::to_string).unwrap_or_default();
    Err(Refusal::denied(words::needs_flags(&pipeline.app, env, flags)))
}

/// Whether somebody shows a token or sits at this machine: they were let in to look.
fn let_in(who: &Asker) -> bool {
    matches!(who.origin.as_str(), "cli" | "http")
}

/// Whether somebody may look at what becomes of an app where they are.
fn shown_to(pipeline: &Pipeline, who: &Asker, may: &May) -> bool {
    let told = |here: &str| pipeline.announce.places.iter().any(|place| same_place(&place.target, here));
    let_in(who)
        || who.channel().is_some_and(|here| asked_there(pipeline, here) || told(here))
        || pipeline.policy.environments.iter().any(|(_, rules)| may.has(rules.flags.as_ref()))
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

    /// Whether somebody may look at what becomes of an app where they are. In a channel where it is asked for, or told, everybody
    /// reads it anyway; anywhere else it takes the flags of one of its environments. Who may look at nothing is not told what there is.
    pub fn permits_looking(&self, app: &str, who: &Asker, may: &May) -> Result<(), Refusal> {
        match self.get(app) {
            Ok(pipeline) if shown_to(&pipeline, who, may) => Ok(()),
            Ok(pipeline) => Err(Refusal::denied(words::may_not_look(&who.handle, app, &named_channels(&pipeline)))),
            Err(refusal) => Err(self.permits_any_look(who, may).err().unwrap_or(refusal)),
        }
    }

    /// Whether somebody may look at any app where they are.
    pub fn permits_any_look(&self, who: &Asker, may: &May) -> Result<(), Refusal> {
        let nothing_to_hide = self.all().next().is_none() && (let_in(who) || who.channel().is_some() || may.vouched);
        if nothing_to_hide || self.all().any(|pipeline| shown_to(pipeline, who, may)) {
            return Ok(());
        }
        Err(Refusal::denied(words::may_not_look(&who.handle, "all this", &[])))
    }

    /// Whether somebody may look at a run where they are: also who asked for it, and where it is told.
    pub fn permits_looking_at(&self, run: &Run, who: &Asker, may: &May) -> Result<(), Refusal> {
        let own = may.vouched && who.handle == run.asker.handle;
        let told = who.channel().is_some_and(|here| run.places.iter().any(|place| same_place(place, here)));
        if own || told || let_in(who) {
            return Ok(());
        }
        self.permits_looking(&run.app, who, may)
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
            return Err(Refusal::denied(words::NOBODY_VOUCHES));
        }
        match &rules(&pipeline, env)?.approvals {
            None => Err(Refusal::denied(words::nobody_is_asked(app, env))),
            Some(asked) if asked.from.is_empty() => has_flags(&pipeline, env, may),
            Some(asked) if asked.from.iter().any(|name| named(name)) => Ok(()),
            Some(asked) => Err(Refusal::denied(words::needs_one_of(app, env, words::either(&asked.from)))),
        }
    }
}
