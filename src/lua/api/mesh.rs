//! `mesh`: other bots, Eggdrops among them: `bots()`, `send(bot, cmd, data)`, `broadcast(cmd, data)`,
//! `call(bot, cmd, data)`, `run(bot, ev, words)`, `leader(network)`.

use std::time::Duration;

use mlua::{Lua, Table};

use super::super::event;
use super::super::value::Options;
use super::{effect, vm};
use crate::mesh::{AskFault, Asker, Mesh};

/// How long an answer may take unless it is said.
const CALL: Duration = Duration::from_secs(30);

/// The module.
pub(super) fn module(lua: &Lua) -> mlua::Result<Table> {
    let mesh = lua.create_table()?;
    mesh.set("bots", lua.create_function(|lua, ()| bots(lua))?)?;
    mesh.set("send", lua.create_async_function(send)?)?;
    mesh.set("call", lua.create_async_function(call)?)?;
    mesh.set("run", lua.create_async_function(run)?)?;
    mesh.set("leader", lua.create_function(leader)?)?;
    mesh.set("broadcast", lua.create_async_function(broadcast)?)?;
    Ok(mesh)
}

/// `mesh.bots()`: all other bots, by name: `{bot=, via=, version=, ours=, linked=}`; `ours` for another MasterChief, `linked` for one
/// that is linked with this one.
fn bots(lua: &Lua) -> mlua::Result<Table> {
    let view = of(lua)?.view();
    let out = lua.create_table()?;
    for bot in &view.bots {
        let row = lua.create_table()?;
        row.set("bot", bot.name.as_str())?;
        row.set("via", bot.uplink.as_str())?;
        row.set("version", bot.version)?;
        row.set("ours", bot.is_ours())?;
        row.set("linked", view.links.iter().any(|link| link.peer.bot == bot.name))?;
        out.push(row)?;
    }
    Ok(out)
}

/// `mesh.leader(network)`: who acts on a network that a group of bots shares: `{bot=, epoch=, ours=}`; `bot` is missing while nobody
/// is known to, `ours` says whether it is this one. `nil` where no group shares it.
fn leader(lua: &Lua, network: String) -> mlua::Result<Option<Table>> {
    let leads = of(lua)?.leads().clone();
    let Some(led) = leads.of(&network) else { return Ok(None) };
    let row = lua.create_table()?;
    row.set("bot", led.leader.map(|leader| leader.to_string()))?;
    row.set("epoch", led.epoch)?;
    row.set("ours", leads.may_act(&network))?;
    Ok(Some(row))
}

/// `mesh.send(bot, cmd [, data])`: to the `bot` binds of one bot. Ready when it is on its way; nobody says whether it arrived.
async fn send(lua: Lua, (bot, cmd, data): (String, String, Option<String>)) -> mlua::Result<()> {
    effect(&lua, "mesh.send")?;
    let data = overt(&lua, data)?;
    of(&lua)?.send(&bot, &cmd, &data).await.map_err(|fault| said("mesh.send", &fault))
}

/// `mesh.broadcast(cmd [, data])`: to the `bot` binds of all other bots.
async fn broadcast(lua: Lua, (cmd, data): (String, Option<String>)) -> mlua::Result<()> {
    effect(&lua, "mesh.broadcast")?;
    let data = overt(&lua, data)?;
    of(&lua)?.broadcast(&cmd, &data).await.map_err(|fault| said("mesh.broadcast", &fault))
}

/// `mesh.call(bot, cmd [, data [, {timeout=}]])`: what the `bot` bind of another MasterChief answers; its fault is raised. Half
/// a minute unless said otherwise.
async fn call(
    lua: Lua,
    (bot, cmd, data, options): (String, String, Option<String>, Option<Table>),
) -> mlua::Result<String> {
    effect(&lua, "mesh.call")?;
    let mut options = Options::new("mesh.call", options);
    let within = options.duration("timeout")?.unwrap_or(CALL);
    options.done()?;
    let data = overt(&lua, data)?;
    let answer = of(&lua)?.call(&bot, &cmd, &data, within).await;
    answer.map_err(|fault| mlua::Error::runtime(format!("mesh.call: {fault}")))
}

/// `mesh.run(bot, ev, words [, {timeout=}])`: what another MasterChief says to these words of the person behind `ev`. The person
/// has to be vouched for here, and known there, where their own flags count.
async fn run(
    lua: Lua,
    (bot, ev, words, options): (String, mlua::Value, String, Option<Table>),
) -> mlua::Result<String> {
    effect(&lua, "mesh.run")?;
    let mut options = Options::new("mesh.run", options);
    let within = options.duration("timeout")?.unwrap_or(CALL);
    options.done()?;
    let event = event::of(&ev, "run")?;
    let who = event.call().map(|call| call.who.clone()).unwrap_or_default();
    let Some(handle) = who.handle.filter(|_| who.vouched) else {
        return Err(mlua::Error::runtime("mesh.run: nobody vouches here for who that is, so nobody can there"));
    };
    let words = overt(&lua, Some(words))?;
    // What it says later comes where this was asked.
    let nick = || event.actor.as_ref().map(|actor| actor.nick.clone());
    let target = event.chan.as_ref().map(ToString::to_string).or_else(nick).unwrap_or_default();
    let asker = Asker { handle: handle.to_string(), network: event.network.to_string(), target };
    let answer = of(&lua)?.run_from(&bot, &words, within, asker).await;
    answer.map_err(|fault| mlua::Error::runtime(format!("mesh.run: {fault}")))
}

/// What leaves for another bot is in as many hands as what is said in a channel.
fn overt(lua: &Lua, data: Option<String>) -> mlua::Result<String> {
    Ok(vm(lua)?.services.world.hide(&data.unwrap_or_default()))
}

fn of(lua: &Lua) -> mlua::Result<Mesh> {
    let mesh = vm(lua)?.services.mesh.clone();
    mesh.ok_or_else(|| {
        mlua::Error::runtime("this bot is in no mesh; give it a name under `mesh:` in the configuration")
    })
}

fn said(what: &str, fault: &AskFault) -> mlua::Error {
    mlua::Error::runtime(format!("{what}: {fault}"))
}
