//! Values between Luau and the rest: what may go where, said in words a script's author understands.

use std::time::Duration;

use masterchief_contract::{Outcome, Value, closest};
use mlua::{FromLua, Lua, LuaSerdeExt, Table, UserData};

use super::api::saying::Got;

/// Lines that a handler may return at once.
const LINES_MAX: usize = 1000;

/// A failure with words for the person, raised by `bot.fail`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Fail(pub(super) String);

/// Raised by `bot.dead`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct GiveUp(pub(super) String);

/// Raised by `bot.retry`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(super) struct Again {
    pub(super) after: Option<Duration>,
    pub(super) reason: String,
}

/// `bot.STOP` and `bot.PASS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    Stop,
    Pass,
}

impl UserData for Sign {}

/// What a handler's return means.
pub(super) fn outcome(lua: &Lua, value: mlua::Value) -> Result<Outcome, String> {
    match value {
        mlua::Value::Nil => Ok(Outcome::Nothing),
        mlua::Value::String(text) => Ok(Outcome::Reply(vec![text.to_string_lossy()])),
        mlua::Value::Integer(_) | mlua::Value::Number(_) => {
            Ok(Outcome::Reply(vec![text(lua, "return", value).map_err(|fault| fault.to_string())?]))
        }
        mlua::Value::UserData(sign) => match sign.borrow::<Sign>().map(|sign| *sign) {
            Ok(Sign::Stop) => Ok(Outcome::Stop),
            Ok(Sign::Pass) => Ok(Outcome::Pass),
            // `return ev:say(..., { wait = true })`: it is said already.
            Err(_) if sign.is::<Got>() => Ok(Outcome::Nothing),
            Err(_) => Err(wrong_return("a userdata")),
        },
        mlua::Value::Table(list) => lines(lua, &list).map(Outcome::Reply),
        other => Err(wrong_return(&format!("a {}", other.type_name()))),
    }
}

fn lines(lua: &Lua, list: &Table) -> Result<Vec<String>, String> {
    let mut out = Vec::new();
    for line in list.sequence_values::<mlua::Value>() {
        if out.len() == LINES_MAX {
            return Err(format!("a handler returned more than {LINES_MAX} lines"));
        }
        let line = line.map_err(|fault| fault.to_string())?;
        out.push(text(lua, "return", line).map_err(|_| wrong_return("a list of something else"))?);
    }
    if out.is_empty() && !list.is_empty() {
        return Err(wrong_return("a table with named keys"));
    }
    Ok(out)
}

fn wrong_return(what: &str) -> String {
    format!("a handler returns nil, a string, a list of strings, bot.STOP or bot.PASS; this one returned {what}")
}

/// A string or a number as text.
pub(super) fn text(lua: &Lua, what: &str, value: mlua::Value) -> mlua::Result<String> {
    match value {
        mlua::Value::String(text) => Ok(text.to_string_lossy()),
        mlua::Value::Integer(_) | mlua::Value::Number(_) => {
            let text = lua.coerce_string(value)?;
            Ok(text.map(|text| text.to_string_lossy()).unwrap_or_default())
        }
        other => Err(mlua::Error::runtime(format!("{what} takes a string, not a {}", other.type_name()))),
    }
}

/// A time: a number of seconds, or text such as `"10s"` or `"1h30m"`.
pub(super) fn duration(what: &str, value: &mlua::Value) -> mlua::Result<Duration> {
    let wrong = || mlua::Error::runtime(format!("{what} is a time such as \"10s\" or a number of seconds"));
    match value {
        mlua::Value::Integer(seconds) => u64::try_from(*seconds).map(Duration::from_secs).map_err(|_| wrong()),
        mlua::Value::Number(seconds) => Duration::try_from_secs_f64(*seconds).map_err(|_| wrong()),
        mlua::Value::String(text) => {
            humantime_serde::re::humantime::parse_duration(&text.to_string_lossy()).map_err(|_| wrong())
        }
        _ => Err(wrong()),
    }
}

/// A value as JSON.
pub(super) fn json(lua: &Lua, what: &str, value: mlua::Value) -> mlua::Result<Value> {
    lua.from_value(value).map_err(|fault| mlua::Error::runtime(format!("{what} cannot be kept as JSON: {fault}")))
}

/// JSON as a value.
pub(super) fn from_json(lua: &Lua, value: &Value) -> mlua::Result<mlua::Value> {
    lua.to_value(value)
}

/// A table of options. Each key that is read is known; [`Options::done`] refuses the others.
pub(super) struct Options {
    what: &'static str,
    table: Option<Table>,
    known: Vec<&'static str>,
}

impl Options {
    /// The options of a call.
    pub(super) fn new(what: &'static str, table: Option<Table>) -> Options {
        Options { what, table, known: Vec::new() }
    }

    /// An option, if it is given.
    pub(super) fn take<T: FromLua>(&mut self, name: &'static str) -> mlua::Result<Option<T>> {
        self.known.push(name);
        let Some(table) = &self.table else { return Ok(None) };
        let value: Option<T> = table
            .raw_get(name)
            .map_err(|fault| mlua::Error::runtime(format!("option {name} of {}: {fault}", self.what)))?;
        Ok(value)
    }

    /// A list of strings, if it is given.
    pub(super) fn list(&mut self, name: &'static str) -> mlua::Result<Vec<String>> {
        let what = self.what;
        let wrong =
            || mlua::Error::runtime(format!("{name} of {what} is a list of strings, such as {{ \"one\", \"two\" }}"));
        match self.take::<mlua::Value>(name)? {
            None | Some(mlua::Value::Nil) => Ok(Vec::new()),
            Some(mlua::Value::Table(list)) => {
                list.sequence_values::<String>().map(|item| item.map_err(|_| wrong())).collect()
            }
            Some(_) => Err(wrong()),
        }
    }

    /// A time, if it is given.
    pub(super) fn duration(&mut self, name: &'static str) -> mlua::Result<Option<Duration>> {
        match self.take::<mlua::Value>(name)? {
            None | Some(mlua::Value::Nil) => Ok(None),
            Some(value) => duration(name, &value).map(Some),
        }
    }

    /// What was not read.
    pub(super) fn rest(self) -> mlua::Result<Vec<(String, mlua::Value)>> {
        let Some(table) = self.table else { return Ok(Vec::new()) };
        let mut out = Vec::new();
        for pair in table.pairs::<String, mlua::Value>() {
            let (name, value) = pair?;
            if !self.known.contains(&name.as_str()) {
                out.push((name, value));
            }
        }
        Ok(out)
    }

    /// Refuses options that nobody knows.
    pub(super) fn done(self) -> mlua::Result<()> {
        let Some(table) = self.table else { return Ok(()) };
        for pair in table.pairs::<mlua::Value, mlua::Value>() {
            let (key, _) = pair?;
            let name = key.to_string()?;
            if !self.known.contains(&name.as_str()) {
                let hint = match closest(&name, self.known.iter().copied()) {
                    Some(close) => format!("did you mean {close}?"),
                    None => format!("there are {}", self.known.join(", ")),
                };
                return Err(mlua::Error::runtime(format!("{} has no option {name}; {hint}", self.what)));
            }
        }
        Ok(())
    }
}
