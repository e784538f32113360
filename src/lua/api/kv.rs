//! `kv`: what a script keeps over reloads and restarts. Each script has its own.

use mlua::{Lua, Table};

use super::super::value::{self, Options};
use super::{effect, vm};
use crate::store::StoreError;

/// Names that `kv.keys` gives at most.
const KEYS_MAX: u32 = 1000;

/// The module.
pub(super) fn module(lua: &Lua) -> mlua::Result<Table> {
    let kv = lua.create_table()?;
    kv.set(
        "get",
        lua.create_async_function(|lua, name: String| async move {
            let vm = vm(&lua)?;
            let found = vm.services.store.kv_get(&vm.name, &name, vm.services.clock.now()).await.map_err(said)?;
            found.map(|found| value::from_json(&lua, &found)).transpose()
        })?,
    )?;
    kv.set(
        "set",
        lua.create_async_function(|lua, (name, new, options): (String, mlua::Value, Option<Table>)| async move {
            effect(&lua, "kv.set")?;
            let mut options = Options::new("kv.set", options);
            let ttl = options.duration("ttl")?;
            options.done()?;
            let vm = vm(&lua)?;
            if new.is_nil() {
                vm.services.store.kv_delete(&vm.name, &name).await.map_err(said)?;
                return Ok(());
            }
            let new = value::json(&lua, "the value", new)?;
            let time = ttl.map(|ttl| chrono::Duration::from_std(ttl).unwrap_or(chrono::Duration::MAX));
            // A time beyond the calendar is for ever.
            let expires = time.and_then(|time| vm.services.clock.now().checked_add_signed(time));
            vm.services.store.kv_set(&vm.name, &name, &new, expires).await.map_err(said)
        })?,
    )?;
    kv.set(
        "incr",
        lua.create_async_function(|lua, (name, by): (String, Option<f64>)| async move {
            effect(&lua, "kv.incr")?;
            let vm = vm(&lua)?;
            let now = vm.services.clock.now();
            vm.services.store.kv_incr(&vm.name, &name, by.unwrap_or(1.0), now).await.map_err(said)
        })?,
    )?;
    kv.set(
        "cas",
        lua.create_async_function(|lua, (name, old, new): (String, mlua::Value, mlua::Value)| async move {
            effect(&lua, "kv.cas")?;
            let vm = vm(&lua)?;
            let (old, new) = (value::json(&lua, "the old value", old)?, value::json(&lua, "the new value", new)?);
            let now = vm.services.clock.now();
            vm.services.store.kv_cas(&vm.name, &name, &old, &new, now).await.map_err(said)
        })?,
    )?;
    kv.set(
        "delete",
        lua.create_async_function(|lua, name: String| async move {
            effect(&lua, "kv.delete")?;
            let vm = vm(&lua)?;
            vm.services.store.kv_delete(&vm.name, &name).await.map_err(said)
        })?,
    )?;
    kv.set(
        "keys",
        lua.create_async_function(|lua, prefix: Option<String>| async move {
            let vm = vm(&lua)?;
            let now = vm.services.clock.now();
            vm.services.store.kv_names(&vm.name, &prefix.unwrap_or_default(), KEYS_MAX, now).await.map_err(said)
        })?,
    )?;
    Ok(kv)
}

fn said(fault: StoreError) -> mlua::Error {
    mlua::Error::runtime(format!("kv: {fault}"))
}
