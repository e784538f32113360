//! An event as a script sees it: a table of fields, with methods.

use masterchief_contract::{Event, Value};
use mlua::{AnyUserData, Lua, LuaSerdeExt, Table, UserData};

use super::api;
use super::value;

/// The key under which the event itself stands in its table.
const SELF: &str = "_event";
/// The name of the methods' metatable among the VM's own values.
const METHODS: &str = "masterchief.event";

/// The event behind a table.
struct EventRef(Event);

impl UserData for EventRef {}

/// Prepares the methods. Called once for each VM.
pub(super) fn install(lua: &Lua) -> mlua::Result<()> {
    let methods = lua.create_table()?;
    for (name, how) in api::bot::WAYS {
        let say = lua.create_async_function(move |lua, (ev, text): (Table, mlua::Value)| async move {
            let event = of(&ev, name)?;
            let text = value::text(&lua, name, text)?;
            api::effect(&lua, &format!("ev:{name}"))?;
            let done = match how {
                Some(masterchief_contract::How::Notice) => event.notice(text).await,
                Some(masterchief_contract::How::Act) => event.act(text).await,
                Some(masterchief_contract::How::Say) => event.say(text).await,
                None => event.reply(text).await,
            };
            done.map_err(mlua::Error::external)
        })?;
        methods.set(*name, say)?;
    }
    methods.set("can", lua.create_function(api::bot::can)?)?;
    let meta = lua.create_table()?;
    meta.set("__index", methods)?;
    lua.set_named_registry_value(METHODS, meta)
}

/// The table for a handler.
pub(super) fn table(lua: &Lua, event: &Event) -> mlua::Result<Table> {
    let ev = lua.create_table_with_capacity(0, 20)?;
    ev.raw_set(SELF, lua.create_userdata(EventRef(event.clone()))?)?;
    ev.raw_set("id", event.id)?;
    ev.raw_set("kind", event.kind().name())?;
    ev.raw_set("network", &*event.network)?;
    ev.raw_set("time", event.at.timestamp_millis() as f64 / 1000.0)?;
    ev.raw_set("text", event.text())?;
    ev.raw_set("handle", event.handle())?;
    if let Some(actor) = &event.actor {
        ev.raw_set("nick", actor.nick.as_str())?;
        ev.raw_set("user", actor.user.as_str())?;
        ev.raw_set("host", actor.host.as_str())?;
        ev.raw_set("account", actor.account.as_deref())?;
        ev.raw_set("bot", actor.bot)?;
        ev.raw_set("own", actor.own)?;
        ev.raw_set("private", event.private())?;
    }
    ev.raw_set("chan", event.chan())?;
    if let Some(call) = event.call() {
        ev.raw_set("trace", &*call.trace)?;
        ev.raw_set("mask", &*call.mask)?;
        ev.raw_set("vouched", call.who.vouched)?;
        ev.raw_set("args", args(lua, &call.args)?)?;
    }
    ev.raw_set("tags", tags(lua, &event.tags)?)?;
    for (name, value) in &event.fields {
        match value {
            Value::String(text) => ev.raw_set(*name, text.as_str())?,
            other => ev.raw_set(*name, lua.to_value(other)?)?,
        }
    }
    ev.set_metatable(Some(lua.named_registry_value(METHODS)?))?;
    Ok(ev)
}

/// The event behind a table; `method` is who asks.
pub(super) fn of(ev: &Table, method: &str) -> mlua::Result<Event> {
    let missing =
        || mlua::Error::runtime(format!("call ev:{method}(...) with a colon, on the event the handler was given"));
    let behind: AnyUserData = ev.raw_get(SELF).map_err(|_| missing())?;
    let event = behind.borrow::<EventRef>().map_err(|_| missing())?;
    Ok(event.0.clone())
}

fn args(lua: &Lua, args: &masterchief_contract::Args) -> mlua::Result<Table> {
    let table = lua.create_table_with_capacity(0, args.len())?;
    for (name, value) in args {
        table.raw_set(name.as_str(), lua.to_value(value)?)?;
    }
    Ok(table)
}

fn tags(lua: &Lua, tags: &[(String, String)]) -> mlua::Result<Table> {
    let table = lua.create_table_with_capacity(0, tags.len())?;
    for (key, value) in tags {
        table.raw_set(key.as_str(), value.as_str())?;
    }
    Ok(table)
}
