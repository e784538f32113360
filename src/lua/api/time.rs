//! `time`: the bot's clock, which tests can turn.

use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use mlua::{Lua, Table};

use super::super::value;
use super::{effect, vm};

/// The module.
pub(super) fn module(lua: &Lua) -> mlua::Result<Table> {
    let time = lua.create_table()?;
    time.set("now", lua.create_function(|lua, ()| Ok(seconds(vm(lua)?.services.clock.now())))?)?;
    time.set(
        "iso",
        lua.create_function(|lua, at: Option<f64>| {
            let at = moment(lua, at)?;
            Ok(at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
        })?,
    )?;
    time.set(
        "parse",
        lua.create_function(|_, text: String| {
            let at = DateTime::parse_from_rfc3339(&text).map_err(|fault| {
                mlua::Error::runtime(format!("{text:?} is not a time such as 2026-03-02T10:00:00Z: {fault}"))
            })?;
            Ok(seconds(at.to_utc()))
        })?,
    )?;
    time.set(
        "format",
        lua.create_function(|lua, (at, form, zone): (Option<f64>, String, Option<String>)| {
            let at = moment(lua, at)?;
            let zone: Tz = zone.as_deref().unwrap_or("UTC").parse().map_err(|_| {
                mlua::Error::runtime(format!(
                    "{:?} is not a zone; write an IANA name such as Europe/Lisbon",
                    zone.unwrap_or_default()
                ))
            })?;
            let items: Vec<Item<'_>> = StrftimeItems::new(&form).collect();
            if items.contains(&Item::Error) {
                return Err(mlua::Error::runtime(format!("{form:?} is not a form such as %Y-%m-%d %H:%M")));
            }
            Ok(at.with_timezone(&zone).format_with_items(items.iter()).to_string())
        })?,
    )?;
    time.set(
        "duration",
        lua.create_function(|_, text: mlua::Value| Ok(value::duration("time.duration", &text)?.as_secs_f64()))?,
    )?;
    time.set(
        "sleep",
        lua.create_async_function(|lua, time: mlua::Value| async move {
            effect(&lua, "time.sleep")?;
            let time = value::duration("time.sleep", &time)?;
            vm(&lua)?.services.clock.sleep(time).await;
            Ok(())
        })?,
    )?;
    Ok(time)
}

fn seconds(at: DateTime<Utc>) -> f64 {
    at.timestamp_millis() as f64 / 1000.0
}

/// A number of seconds since 1970 as a moment; now where none is given.
fn moment(lua: &Lua, at: Option<f64>) -> mlua::Result<DateTime<Utc>> {
    let Some(at) = at else {
        return Ok(vm(lua)?.services.clock.now());
    };
    let wrong = || mlua::Error::runtime(format!("{at} is no time in seconds since 1970"));
    DateTime::from_timestamp_millis((at * 1000.0) as i64).ok_or_else(wrong)
}
