//! `http`: requests to the hosts that the script declares with `bot.caps`.

use std::time::Duration;

use mlua::{Lua, Table};

use super::super::value::{self, Options};
use super::{effect, vm};
use crate::executors::{Request, Response};

/// How long a request may take unless it says otherwise.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The module.
pub(super) fn module(lua: &Lua) -> mlua::Result<Table> {
    let http = lua.create_table()?;
    for method in ["get", "post", "put", "patch", "delete", "head"] {
        let function = lua.create_async_function(move |lua, (url, options): (String, Option<Table>)| async move {
            send(lua, method.to_ascii_uppercase(), url, options).await
        })?;
        http.set(method, function)?;
    }
    http.set(
        "request",
        lua.create_async_function(|lua, (method, url, options): (String, String, Option<Table>)| async move {
            send(lua, method, url, options).await
        })?,
    )?;
    Ok(http)
}

async fn send(lua: Lua, method: String, url: String, options: Option<Table>) -> mlua::Result<Table> {
    effect(&lua, "http")?;
    let vm = vm(&lua)?;
    let mut options = Options::new("http", options);
    let mut headers = Vec::new();
    if let Some(table) = options.take::<Table>("headers")? {
        for pair in table.pairs::<String, String>() {
            headers.push(pair?);
        }
    }
    let body: Option<mlua::LuaString> = options.take("body")?;
    let mut body = body.map(|body| body.as_bytes().to_vec());
    match options.take::<mlua::Value>("json")? {
        None | Some(mlua::Value::Nil) => {}
        Some(json) => {
            body = Some(value::json(&lua, "json", json)?.to_string().into_bytes());
            headers.push(("content-type".to_owned(), "application/json".to_owned()));
        }
    }
    let timeout = options.duration("timeout")?.unwrap_or(TIMEOUT);
    options.done()?;
    let hosts = vm.declared().hosts.clone();
    let request = Request { method, url, headers, body, timeout };
    let answer = vm
        .services
        .http
        .request(request, hosts)
        .await
        .map_err(|fault| mlua::Error::runtime(format!("http: {fault}")))?;
    table(&lua, &answer)
}

/// `{status, ok, headers, body}`; `body` as JSON by `json.decode(answer.body)`.
fn table(lua: &Lua, answer: &Response) -> mlua::Result<Table> {
    let table = lua.create_table()?;
    table.set("status", answer.status)?;
    table.set("ok", (200..300).contains(&answer.status))?;
    table.set("body", lua.create_string(&answer.body)?)?;
    let headers = lua.create_table()?;
    for (name, value) in &answer.headers {
        headers.set(name.as_str(), value.as_str())?;
    }
    table.set("headers", headers)?;
    Ok(table)
}
