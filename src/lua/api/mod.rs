//! The modules that scripts see. A new one is a file here and a row in [`MODULES`].

pub(super) mod ask;
pub(super) mod bot;
mod fmt;
mod http;
mod json;
mod kv;
mod log;
mod mesh;
mod pipeline;
pub(super) mod progress;
pub(super) mod saying;
mod sh;
mod stream;
mod time;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use mlua::{Lua, Table};

use super::vm::Vm;

/// A module: its global name and what makes it.
type Module = (&'static str, fn(&Lua) -> mlua::Result<Table>);

/// The modules, by global name.
pub(super) const MODULES: &[Module] = &[
    ("bot", bot::module),
    ("fmt", fmt::module),
    ("http", http::module),
    ("json", json::module),
    ("kv", kv::module),
    ("log", log::module),
    ("mesh", mesh::module),
    ("pipeline", pipeline::module),
    ("sh", sh::module),
    ("stream", stream::module),
    ("time", time::module),
];

/// Sets the modules that need no bot.
pub(super) fn pure(lua: &Lua, globals: &Table) -> mlua::Result<()> {
    globals.set("json", json::module(lua)?)?;
    globals.set("fmt", fmt::module(lua)?)
}

/// The VM that this Lua state belongs to.
pub(super) fn vm(lua: &Lua) -> mlua::Result<Arc<Vm>> {
    let vm = lua.app_data_ref::<Arc<Vm>>();
    vm.map(|vm| Arc::clone(&vm)).ok_or_else(|| mlua::Error::runtime("this state is no script"))
}

/// Refuses what acts on the world while the script is only being loaded: if the load fails, nothing has happened.
pub(super) fn effect(lua: &Lua, what: &str) -> mlua::Result<()> {
    if vm(lua)?.loading.load(Ordering::Relaxed) {
        return Err(mlua::Error::runtime(format!(
            "{what} acts on the world, and the top level of a script only declares; move it into a handler or bot.on_load"
        )));
    }
    // What goes to an outlet is told there; the rest cannot be taken back.
    let told = what.starts_with("bot.") || what.starts_with("ev:") || what == "time.sleep";
    if !told && vm(lua)?.current().dry {
        return Err(mlua::Error::runtime(format!("{what} is left out: this replay is dry")));
    }
    Ok(())
}
