//! `stream`: messages to Kafka, RabbitMQ and Redis.

use std::collections::BTreeMap;

use masterchief_bindings::stream::Message;
use mlua::{Lua, Table};

use super::super::value::{self, Options};
use super::{effect, vm};

/// The module.
pub(super) fn module(lua: &Lua) -> mlua::Result<Table> {
    let stream = lua.create_table()?;
    stream.set("publish", lua.create_async_function(publish)?)?;
    Ok(stream)
}

/// `stream.publish(to, message [, {key=, id=, headers=}])`: ready once the broker has acknowledged it; gives the broker's own
/// name for it. A table is sent as JSON. `key` is Kafka's, `id` RabbitMQ's message id, by which readers know it again.
async fn publish(lua: Lua, (to, payload, options): (String, mlua::Value, Option<Table>)) -> mlua::Result<String> {
    effect(&lua, "stream.publish")?;
    let payload = match payload {
        mlua::Value::String(text) => text.as_bytes().to_vec(),
        other => value::json(&lua, "the message", other)?.to_string().into_bytes(),
    };
    let mut options = Options::new("stream.publish", options);
    let (key, id) = (options.take("key")?, options.take("id")?);
    let mut headers = BTreeMap::new();
    if let Some(table) = options.take::<Table>("headers")? {
        for pair in table.pairs::<String, String>() {
            let (name, value) = pair?;
            headers.insert(name, value);
        }
    }
    options.done()?;
    let message = Message { to, payload, key, id, headers };
    let sent = vm(&lua)?.services.streams.publish(message).await;
    sent.map_err(|fault| mlua::Error::runtime(format!("stream.publish: {fault}")))
}
