//! `log`: words for the operators, with the script's name.

use mlua::{Lua, Table, Variadic};
use tracing::Level;

use super::vm;

/// The kind of bind that hears of lines of the log, and where it logs itself: of that none hears.
const HEARS: &str = "putlog";
const UNHEARD: &str = "masterchief::lua::api::log::unheard";
/// The longest line.
const LINE_MAX: usize = 4096;

/// The module; `print` is `log.info`.
pub(super) fn module(lua: &Lua) -> mlua::Result<Table> {
    let log = lua.create_table()?;
    for (name, level) in
        [("debug", Level::DEBUG), ("info", Level::INFO), ("warn", Level::WARN), ("error", Level::ERROR)]
    {
        let write = lua.create_function(move |lua, words| {
            let (script, text) = line(lua, words)?;
            if vm(lua)?.current().event.is_some_and(|event| event.kind().name() == HEARS) {
                // Else there would be no end of it.
                tracing::info!(target: UNHEARD, script, "{text}");
                return Ok(());
            }
            // The level of an event is fixed where it stands.
            match level {
                Level::DEBUG => tracing::debug!(script, "{text}"),
                Level::INFO => tracing::info!(script, "{text}"),
                Level::WARN => tracing::warn!(script, "{text}"),
                _ => tracing::error!(script, "{text}"),
            }
            Ok(())
        })?;
        log.set(name, write)?;
    }
    Ok(log)
}

/// The script and what it says: words with blanks between, tables as JSON.
fn line(lua: &Lua, words: Variadic<mlua::Value>) -> mlua::Result<(String, String)> {
    let mut parts = Vec::with_capacity(words.len());
    for word in words.iter() {
        let json = match word {
            mlua::Value::Table(_) => super::super::value::json(lua, "the table", word.clone()).ok(),
            _ => None,
        };
        parts.push(match json {
            Some(json) => json.to_string(),
            None => word.to_string()?,
        });
    }
    let mut text = parts.join(" ");
    if text.len() > LINE_MAX {
        let end = (0..=LINE_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    Ok((vm(lua)?.name.clone(), text))
}
