//! `pipeline`: runs of pipelines that the script declares with `bot.caps`. Who stands behind the event has to be allowed to.

use mlua::{Function, Lua, Table};
use serde_json::Map;

use super::super::value::{self, Options};
use super::{effect, vm};
use crate::pipelines::{Ask, Asked, Asker, DeployWords, May, Pipelines, Prepared, Run, RunState, StageRun};

/// The module.
pub(super) fn module(lua: &Lua) -> mlua::Result<Table> {
    let pipeline = lua.create_table()?;
    pipeline.set("run", lua.create_async_function(run)?)?;
    pipeline.set("start", lua.create_async_function(start)?)?;
    pipeline.set("status", lua.create_async_function(status)?)?;
    pipeline.set("abort", lua.create_async_function(abort)?)?;
    Ok(pipeline)
}

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
        None => Ok((Asker::program(&vm.name), May::all())),
    }
}

async fn ask(lua: &Lua, ask: Ask) -> mlua::Result<Option<i64>> {
    let (who, may) = asker(lua)?;
    let reply = pipelines(lua)?.ask(Asked { ask, who, may }).await;
    // Why not is for the person, as `!deploy` would say it.
    reply.map(|reply| reply.run).map_err(|text| mlua::Error::external(value::Fail(text)))
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
    let prepared =
        pipelines(lua)?.prepare(words, params).await.map_err(|text| mlua::Error::external(value::Fail(text)))?;
    let prepared = Prepared { unattended: true, key, ..prepared };
    ask(lua, Ask::Deploy(Box::new(prepared))).await?.ok_or_else(|| fault("no run was made"))
}

/// `pipeline.run(app, {…, on_step=function(news) end})`: the same, and waits for its end. Gives what `pipeline.status` gives.
async fn run(lua: Lua, (app, options): (String, Option<Table>)) -> mlua::Result<Table> {
    let mut options = Options::new("pipeline.run", options);
    let on_step: Option<Function> = options.take("on_step")?;
    let pipelines = pipelines(&lua)?;
    let mut news = pipelines.news();
    let number = begin(&lua, app, options).await?;
    loop {
        let (run, stages) = found(&pipelines, number).await?;
        if run.state.ended() {
            return told(&lua, &run, &stages);
        }
        loop {
            match news.recv().await {
                Ok(one) if one.run == number => {
                    if let Some(on_step) = &on_step {
                        let one_json = serde_json::to_value(&*one).map_err(fault)?;
                        on_step.call_async::<()>(value::from_json(&lua, &one_json)?).await?;
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

/// `pipeline.abort(number)`.
async fn abort(lua: Lua, number: i64) -> mlua::Result<()> {
    effect(&lua, "pipeline.abort")?;
    let (run, _) = found(&pipelines(&lua)?, number).await?;
    declared(&lua, &run.app)?;
    ask(&lua, Ask::Abort(number)).await.map(|_| ())
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
