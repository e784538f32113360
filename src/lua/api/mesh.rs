//! `mesh`: other bots, Eggdrops among them: `bots()`, `send(bot, cmd, data)`, `broadcast(cmd, data)`.

use mlua::{Lua, Table};

use super::{effect, vm};
use crate::mesh::{AskFault, Mesh};

/// The module.
pub(super) fn module(lua: &Lua) -> mlua::Result<Table> {
    let mesh = lua.create_table()?;
    mesh.set("bots", lua.create_function(|lua, ()| bots(lua))?)?;
    mesh.set("send", lua.create_async_function(send)?)?;
    mesh.set("broadcast", lua.create_async_function(broadcast)?)?;
    Ok(mesh)
}

/// `mesh.bots()`: all other bots, by name: `{bot=, via=, version=, linked=}`; `linked` for those that are linked with this one.
fn bots(lua: &Lua) -> mlua::Result<Table> {
    let view = of(lua)?.view();
    let out = lua.create_table()?;
    for bot in &view.bots {
        let row = lua.create_table()?;
        row.set("bot", bot.name.as_str())?;
        row.set("via", bot.uplink.as_str())?;
        row.set("version", bot.version)?;
        row.set("linked", view.links.iter().any(|link| link.peer.bot == bot.name))?;
        out.push(row)?;
    }
    Ok(out)
}

/// `mesh.send(bot, cmd [, data])`: to the `bot` binds of one bot. Ready when it is on its way; nobody says whether it arrived.
async fn send(lua: Lua, (bot, cmd, data): (String, String, Option<String>)) -> mlua::Result<()> {
    effect(&lua, "mesh.send")?;
    of(&lua)?.send(&bot, &cmd, &data.unwrap_or_default()).await.map_err(|fault| said("mesh.send", &fault))
}

/// `mesh.broadcast(cmd [, data])`: to the `bot` binds of all other bots.
async fn broadcast(lua: Lua, (cmd, data): (String, Option<String>)) -> mlua::Result<()> {
    effect(&lua, "mesh.broadcast")?;
    of(&lua)?.broadcast(&cmd, &data.unwrap_or_default()).await.map_err(|fault| said("mesh.broadcast", &fault))
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
