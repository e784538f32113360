//! `pipeline`: runs of pipelines that the script declares with `bot.caps`. Who stands behind the event has to be allowed to; where
//! nobody does, the script may what the flags allow that it declares there too, and says neither yes nor no to anything.

use std::sync::Arc;

use mlua::{Function, Lua, Table};
use serde_json::Map;

use super::super::limits::Limits;
use super::super::value::{self, Options};
use super::progress::Progress;
use super::{effect, vm};
use crate::pipelines::{
    Ask, Asked, Asker, DeployWords, May, Millis, News, Pipelines, Prepared, Refusal, Run, RunState, StageRun, looks,
};
use crate::users::{FlagMask, FlagSet};

/// The module.
pub(super) fn module(lua: &Lua) -> mlua::Result<Table> {
    let pipeline = lua.create_table()?;
    pipeline.set("run", lua.create_async_function(run)?)?;
    pipeline.set("start", lua.create_async_function(start)?)?;
    pipeline.set("status", lua.create_async_function(status)?)?;
    let of_a_run: [(&str, OfRun); 11] = [
        ("yes", |run, _| Ask::Yes(run)),
        ("abort", |run, _| Ask::Abort(run)),
        ("approve", |run, code| Ask::Approve(run, code.unwrap_or_default())),
        ("reject", |run, why| Ask::Reject(run, why.unwrap_or_default())),
        ("retry", Ask::Retry),
        ("promote", |run, _| Ask::Promote(run)),
        ("pause", |run, why| Ask::Pause(run, why.unwrap_or_default())),
        ("resume", |run, _| Ask::Resume(run)),
        ("pass", |run, why| Ask::Pass(run, why.unwrap_or_default())),
        ("again", |run, _| Ask::Again(run)),
        ("queue", |run, _| Ask::Queue(run)),
    ];
    for (name, of) in of_a_run {
        pipeline.set(name, to_a_run(lua, name, of)?)?;
    }
    pipeline.set("word", lua.create_async_function(word)?)?;
    pipeline.set("rollback", lua.create_async_function(rollback)?)?;
    pipeline.set("lock", lua.create_async_function(lock)?)?;
    pipeline.set("unlock", lua.create_async_function(unlock)?)?;
    Ok(pipeline)
}

/// What is asked of a run, with a word more.
type OfRun = fn(i64, Option<String>) -> Ask;

fn fault(what: impl std::fmt::Display) -> mlua::Error {
    mlua::Error::runtime(format!("pipeline: {what}"))
}

fn pipelines(lua: &Lua) -> mlua::Result<Pipelines> {
    vm(lua)?.services.pipelines.clone().ok_or_else(|| fault("this bot has no pipelines"))
}

/// Who asks: the person behind the event, else the script itself.
fn asker(lua: &Lua) -> mlua::Result<(Asker, May)> {
    let vm = vm(lua)?;
    match vm.current().event.filter(|event| event.actor.is_some()) {
        Some(event) => Ok((Asker::of(&event), May::of(&vm.services.book, &event))),
        None => {
            if vm.services.book.get(&vm.name).is_some() {
                // What it asked for would count as theirs.
                return Err(fault(format!("the script {} is called like a person; rename one of them", vm.name)));
            }
            let flags = vm.declared().flags;
            let allows = Arc::new(move |mask: &FlagMask| mask.allows(flags, FlagSet::NONE));
            Ok((Asker::program(&vm.name), May::program(allows)))
        }
    }
}

async fn ask(lua: &Lua, ask: Ask) -> mlua::Result<Option<i64>> {
    let (who, may) = asker(lua)?;
    let reply = pipelines(lua)?.ask(Asked { ask, who, may }).await;
    // Why not is for the person, as `!deploy` would say it.
    reply.map(|reply| reply.run).map_err(|refusal| mlua::Error::external(value::Fail(refusal.text)))
}

/// `pipeline.start(app, {env=, ref=, params=, skip=, key=})` gives the number of the run. Whoever asks is not asked to confirm.
async fn start(lua: Lua, (app, options): (String, Option<Table>)) -> mlua::Result<i64> {
    begin(&lua, app, Options::new("pipeline.start", options)).await
}

fn declared(lua: &Lua, app: &str) -> mlua::Result<()> {
    if vm(lua)?.declared().pipelines.iter().any(|declared| declared == app) {
        return Ok(());
    }
    Err(fault(format!("{app:?} is not declared; add bot.caps{{ pipelines = {{ {app:?} }} }} to the script")))
}

async fn begin(lua: &Lua, app: String, mut options: Options) -> mlua::Result<i64> {
    effect(lua, "pipeline.run")?;
    declared(lua, &app)?;
    let params = match options.take::<Table>("params")? {
        Some(table) => value::json(lua, "params", mlua::Value::Table(table))?.as_object().cloned().unwrap_or_default(),
        None => Map::new(),
    };
    let words = DeployWords {
        app,
        environment: options.take("env")?,
        reference: options.take("ref")?,
        skip: options.list("skip")?,
        ..DeployWords::default()
    };
    let key = options.take("key")?;
    options.done()?;
    let (who, may) = asker(lua)?;
    let prepared = pipelines(lua)?
        .prepare(words, params, (&who, &may))
        .await
        .map_err(|refusal| mlua::Error::external(value::Fail(refusal.text)))?;
    let prepared = Prepared { unattended: true, key, ..prepared };
    ask(lua, Ask::Deploy(Box::new(prepared))).await?.ok_or_else(|| fault("no run was made"))
}

/// `pipeline.run(app, {…, on_step=function(news) end})`: the same, and waits for its end. Gives what `pipeline.status` gives. A fault in
/// `on_step` is the operators': the run goes on, and so does the script.
async fn run(lua: Lua, (app, options): (String, Option<Table>)) -> mlua::Result<Table> {
    let mut options = Options::new("pipeline.run", options);
    let on_step = OnStep::of(options.take("on_step")?)?;
    let pipelines = pipelines(&lua)?;
    let mut news = pipelines.news();
    let number = begin(&lua, app, options).await?;
    let mut failed = false;
    loop {
        let (run, stages) = found(&pipelines, number).await?;
        if run.state.ended() {
            return told(&lua, &run, &stages);
        }
        loop {
            match news.recv().await {
                Ok(one) if one.run == number => {
                    if let Err(fault) = on_step.call(&lua, &one).await {
                        if !std::mem::replace(&mut failed, true) {
                            let script = &vm(&lua)?.name;
                            tracing::error!(%script, run = number, %fault, "on_step failed; the run goes on, and more of it is not told");
                        }
                        // The time that it used up is its own.
                        Limits::another_slice(&lua);
                    }
                    if one.state.ended() {
                        break;
                    }
                }
                Ok(_) => {}
                // It fell behind, or the bot is going down: the records know.
                Err(_) => break,
            }
        }
    }
}

/// `pipeline.status(number)` gives `{run, ok, state, app, env, version, failed, line, outputs}`.
async fn status(lua: Lua, number: i64) -> mlua::Result<Table> {
    let (run, stages) = found(&pipelines(&lua)?, number).await?;
    told(&lua, &run, &stages)
}

/// Who is told how a run goes.
enum OnStep {
    Nobody,
    Function(Function),
    Progress(Progress),
}

impl OnStep {
    fn of(value: Option<mlua::Value>) -> mlua::Result<OnStep> {
        match value {
            None | Some(mlua::Value::Nil) => Ok(OnStep::Nobody),
            Some(mlua::Value::Function(function)) => Ok(OnStep::Function(function)),
            Some(mlua::Value::UserData(behind)) if behind.is::<Progress>() => {
                Ok(OnStep::Progress(behind.borrow::<Progress>()?.clone()))
            }
            Some(other) => {
                Err(fault(format!("on_step is a function or what ev:progress gives, not a {}", other.type_name())))
            }
        }
    }

    async fn call(&self, lua: &Lua, news: &News) -> mlua::Result<()> {
        match self {
            OnStep::Nobody => Ok(()),
            OnStep::Function(function) => {
                let news = serde_json::to_value(news).map_err(fault)?;
                function.call_async(value::from_json(lua, &news)?).await
            }
            OnStep::Progress(progress) => progress.news(news).await,
        }
    }
}

/// `pipeline.abort(number)` and the like. What they begin is given back as a number.
fn to_a_run(lua: &Lua, name: &'static str, of: OfRun) -> mlua::Result<Function> {
    lua.create_async_function(move |lua, (number, word): (i64, Option<String>)| async move {
        effect(&lua, &format!("pipeline.{name}"))?;
        let (run, _) = found(&pipelines(&lua)?, number).await?;
        declared(&lua, &run.app)?;
        ask(&lua, of(number, word)).await
    })
}

/// `pipeline.word("freeze", "prod 2d stocktaking")`: any word, as it is said in a channel. Gives the lines of the answer, and the run if
/// it is about one.
async fn word(lua: Lua, (word, text): (String, Option<String>)) -> mlua::Result<(Vec<String>, Option<i64>)> {
    let (text, pipelines) = (text.unwrap_or_default(), pipelines(&lua)?);
    if !looks(&word, &text) {
        effect(&lua, "pipeline.word")?;
    }
    let refused = |refusal: Refusal| mlua::Error::external(value::Fail(refusal.text));
    for app in pipelines.about(&word, &text).await.map_err(refused)? {
        declared(&lua, &app)?;
    }
    let (who, may) = asker(&lua)?;
    let reply = pipelines.word(&word, &text, (&who, &may)).await.map_err(refused)?.reply;
    Ok((reply.public.into_iter().chain(reply.lines).collect(), reply.run))
}

/// `pipeline.rollback(number)`, or `pipeline.rollback(app, env [, version])`.
async fn rollback(
    lua: Lua,
    (what, env, to): (mlua::Value, Option<String>, Option<String>),
) -> mlua::Result<Option<i64>> {
    effect(&lua, "pipeline.rollback")?;
    let wrong = || fault("write pipeline.rollback(run) or pipeline.rollback(app, env [, version])");
    match (what, env) {
        (mlua::Value::String(app), Some(env)) => {
            let app = app.to_string_lossy();
            declared(&lua, &app)?;
            ask(&lua, Ask::RollbackPlace(app, env, to)).await
        }
        (number, None) => {
            let number = number.as_i64().or_else(|| Some(number.as_f64()? as i64)).ok_or_else(wrong)?;
            let (run, _) = found(&pipelines(&lua)?, number).await?;
            declared(&lua, &run.app)?;
            ask(&lua, Ask::Rollback(number)).await
        }
        _ => Err(wrong()),
    }
}

/// `pipeline.lock("shop/prod", why [, "2h"])`.
async fn lock(lua: Lua, (place, why, time): (String, String, Option<mlua::Value>)) -> mlua::Result<()> {
    effect(&lua, "pipeline.lock")?;
    declared(&lua, place.split('/').next().unwrap_or(""))?;
    let time = time.map(|time| value::duration("pipeline.lock", &time)).transpose()?;
    let time = time.map(|time| Millis::try_from(time.as_millis()).unwrap_or(Millis::MAX / 4));
    ask(&lua, Ask::Lock(place, time, why)).await.map(|_| ())
}

/// `pipeline.unlock("shop/prod" [, why])`; with a reason also somebody else's.
async fn unlock(lua: Lua, (place, why): (String, Option<String>)) -> mlua::Result<()> {
    effect(&lua, "pipeline.unlock")?;
    declared(&lua, place.split('/').next().unwrap_or(""))?;
    ask(&lua, Ask::Unlock(place, why)).await.map(|_| ())
}

async fn found(pipelines: &Pipelines, number: i64) -> mlua::Result<(Run, Vec<StageRun>)> {
    pipelines.run(number).await.map_err(fault)?.ok_or_else(|| fault(format!("there is no run {number}")))
}

fn told(lua: &Lua, run: &Run, stages: &[StageRun]) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.set("run", run.number)?;
    table.set("ok", run.state == RunState::Succeeded)?;
    table.set("state", run.state.name())?;
    table.set("app", run.app.as_str())?;
    table.set("env", run.env.as_str())?;
    table.set("version", run.shown())?;
    table.set("failed", run.failed.as_deref())?;
    let failed = stages.iter().find(|one| Some(&one.name) == run.failed.as_ref());
    table.set("line", failed.and_then(|one| one.failure.as_ref()).map(|failure| failure.line.as_str()))?;
    let outputs = lua.create_table()?;
    for one in stages.iter().filter(|one| !one.outputs.is_empty()) {
        outputs.set(one.name.as_str(), value::from_json(lua, &one.outputs.clone().into())?)?;
    }
    table.set("outputs", outputs)?;
    Ok(table)
}
