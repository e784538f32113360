//! An event as a script sees it: fields that are read when asked for, and methods.

use std::sync::Arc;

use masterchief_contract::{Action, Delivery, Event, How, Kind, Value};
use mlua::{AnyUserData, IntoLua, Lua, LuaSerdeExt, LuaString, MetaMethod, Table, UserData, UserDataMethods};

use super::api;
use super::value::{self, Options};

/// The name of the methods' table among the VM's own values.
const METHODS: &str = "masterchief.event";
/// The fields that events of all kinds may have, besides the kind's own.
const FIELDS: &[&str] = &[
    "id",
    "kind",
    "network",
    "time",
    "text",
    "handle",
    "nick",
    "user",
    "host",
    "account",
    "bot",
    "own",
    "private",
    "chan",
    "trace",
    "mask",
    "vouched",
    "args",
    "tags",
    "body",
    "json",
    "lane",
    "key",
    "attempt",
    "redelivered",
    "replay",
    "dry",
];

/// An event in a script. Making one copies nothing: most handlers read two or three of its twenty fields.
pub(super) struct EventRef(pub(super) Event);

impl UserData for EventRef {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_meta_method(MetaMethod::Index, |lua, this, key: LuaString| {
            let key = key.to_str()?;
            match field(lua, &this.0, &key)? {
                mlua::Value::Nil => method(lua, &key),
                found => Ok(found),
            }
        });
        methods.add_meta_method(MetaMethod::Iter, |lua, this, ()| {
            let next: mlua::Function = lua.globals().get("next")?;
            Ok((next, table(lua, &this.0)?))
        });
        methods.add_meta_method(MetaMethod::ToString, |_, this, ()| {
            Ok(format!("event {} ({})", this.0.id, this.0.kind()))
        });
    }
}

/// Prepares the methods. Called once for each VM.
pub(super) fn install(lua: &Lua) -> mlua::Result<()> {
    let methods = lua.create_table()?;
    for &(name, how) in api::bot::WAYS {
        let say = move |lua: Lua, (ev, text, options): (mlua::Value, mlua::Value, Option<Table>)| async move {
            let event = of(&ev, name)?;
            let text = value::text(&lua, name, text)?;
            let manner = api::saying::Manner::read(name, how.unwrap_or(How::Say), options)?;
            api::effect(&lua, &format!("ev:{name}"))?;
            let text = match event.chan() {
                Some(_) if how.is_none() => format!("{}: {text}", event.nick()),
                _ => text,
            };
            let action = event.answer(text, manner.how).map_err(mlua::Error::external)?;
            let Some(call) = event.call() else { return Err(mlua::Error::runtime("this event was not dispatched")) };
            manner.perform(&lua, Arc::clone(&call.outlet), action).await
        };
        let say = lua.create_async_function(say)?;
        methods.set(name, say)?;
    }
    let react = |lua: Lua, (ev, reaction): (mlua::Value, String)| async move {
        let event = of(&ev, "react")?;
        api::effect(&lua, "ev:react")?;
        event.react(reaction).await.map_err(mlua::Error::external)
    };
    methods.set("react", lua.create_async_function(react)?)?;
    methods.set("respond", lua.create_async_function(respond)?)?;
    methods.set("ask", lua.create_async_function(api::ask::ask)?)?;
    methods.set("progress", lua.create_function(api::progress::begin)?)?;
    methods.set("can", lua.create_function(api::bot::can)?)?;
    methods.set("table", lua.create_function(|lua, ev: mlua::Value| table(lua, &of(&ev, "table")?))?)?;
    lua.set_named_registry_value(METHODS, methods)
}

/// The value for a handler.
pub(super) fn value(lua: &Lua, event: &Event) -> mlua::Result<AnyUserData> {
    lua.create_userdata(EventRef(event.clone()))
}

/// The event behind a value; `method` is who asks.
pub(super) fn of(ev: &mlua::Value, method: &str) -> mlua::Result<Event> {
    let behind = ev.as_userdata().and_then(|behind| behind.borrow::<EventRef>().ok());
    behind.map(|event| event.0.clone()).ok_or_else(|| {
        mlua::Error::runtime(format!("call ev:{method}(...) with a colon, on the event the handler was given"))
    })
}

fn method(lua: &Lua, name: &str) -> mlua::Result<mlua::Value> {
    let methods: Table = lua.named_registry_value(METHODS)?;
    methods.raw_get(name)
}

/// One field; nil where the event has none of that name.
fn field(lua: &Lua, event: &Event, name: &str) -> mlua::Result<mlua::Value> {
    let actor = event.actor.as_ref();
    let call = event.call();
    match name {
        "nick" => actor.map(|actor| actor.nick.as_str()).into_lua(lua),
        "text" => event.text().into_lua(lua),
        "chan" => event.chan().into_lua(lua),
        "args" => call.map(|call| args(lua, &call.args)).transpose()?.into_lua(lua),
        "account" => actor.and_then(|actor| actor.account.as_deref()).into_lua(lua),
        "handle" => event.handle().into_lua(lua),
        "user" => actor.map(|actor| actor.user.as_str()).into_lua(lua),
        "host" => actor.map(|actor| actor.host.as_str()).into_lua(lua),
        "network" => (*event.network).into_lua(lua),
        "private" => actor.map(|_| event.private()).into_lua(lua),
        "kind" => event.kind().name().into_lua(lua),
        "time" => (event.at.timestamp_millis() as f64 / 1000.0).into_lua(lua),
        "id" => event.id.into_lua(lua),
        // Kinds of the mesh and the partyline have a bot of their own: its name.
        "bot" if event.field("bot").is_none() => actor.map(|actor| actor.bot).into_lua(lua),
        "own" => actor.map(|actor| actor.own).into_lua(lua),
        "trace" => call.map(|call| Arc::clone(&call.trace)).as_deref().into_lua(lua),
        "mask" => call.map(|call| Arc::clone(&call.mask)).as_deref().into_lua(lua),
        "vouched" => call.map(|call| call.who.vouched).into_lua(lua),
        "tags" => tags(lua, &event.tags)?.into_lua(lua),
        "body" if actor.is_none() => lua.create_string(bytes(event))?.into_lua(lua),
        "json" if actor.is_none() => match event.json() {
            Some(value) => value::from_json(lua, &value),
            None => Ok(mlua::Value::Nil),
        },
        "lane" => (!event.lane.is_empty()).then_some(&*event.lane).into_lua(lua),
        "key" => event.key.as_deref().into_lua(lua),
        "attempt" => delivery(event, |delivery| delivery.attempt).into_lua(lua),
        "redelivered" => delivery(event, |delivery| delivery.redelivered).into_lua(lua),
        "replay" => delivery(event, |delivery| delivery.replay).into_lua(lua),
        "dry" => delivery(event, |delivery| delivery.dry).into_lua(lua),
        other => match event.field(other) {
            // What was posted is what it says.
            None if other == "data" && matches!(event.kind(), Kind::Webhook | Kind::Stream) => {
                field(lua, event, "json")
            }
            None => Ok(mlua::Value::Nil),
            Some(Value::String(text)) => text.as_str().into_lua(lua),
            Some(value) => lua.to_value(value),
        },
    }
}

/// `ev:respond{ status =, body =, json =, type = }` answers whoever posted a webhook.
async fn respond(lua: Lua, (ev, options): (mlua::Value, Table)) -> mlua::Result<()> {
    let event = of(&ev, "respond")?;
    api::effect(&lua, "ev:respond")?;
    let mut options = Options::new("ev:respond", Some(options));
    let status = options.take::<u16>("status")?.unwrap_or(200);
    if !(200..600).contains(&status) {
        return Err(mlua::Error::runtime(format!("ev:respond: status is 200 to 599, not {status}")));
    }
    let json = match options.take::<mlua::Value>("json")? {
        None | Some(mlua::Value::Nil) => None,
        Some(json) => Some(value::json(&lua, "json", json)?.to_string().into_bytes()),
    };
    let body: Option<LuaString> = options.take("body")?;
    let usual = if json.is_some() { "application/json" } else { "text/plain; charset=utf-8" };
    let content_type = options.take::<String>("type")?.unwrap_or_else(|| usual.to_owned());
    options.done()?;
    let body = json.or_else(|| body.map(|body| body.as_bytes().to_vec())).unwrap_or_default();
    let answer = Action::Answer { event: event.id, status, content_type, body };
    event.perform(answer).await.map_err(mlua::Error::external)
}

/// The bytes as they came.
fn bytes(event: &Event) -> &[u8] {
    if event.body.is_empty() { event.text.as_bytes() } else { &event.body }
}

/// Something of how it was delivered; nil for what did not pass the journal.
fn delivery<T>(event: &Event, of: impl Fn(Delivery) -> T) -> Option<T> {
    event.call()?.delivery.map(of)
}

/// All fields, for those who want to look through them or keep them.
fn table(lua: &Lua, event: &Event) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    let own = event.own_fields().map(|(name, _)| *name);
    for name in FIELDS.iter().copied().chain(own) {
        table.raw_set(name, field(lua, event, name)?)?;
    }
    Ok(table)
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
