//! `json`: `encode(value)`, `decode(text)`, `null`.

use mlua::{Lua, LuaSerdeExt, Table};

use super::super::value;

/// The module.
pub(super) fn module(lua: &Lua) -> mlua::Result<Table> {
    let json = lua.create_table()?;
    json.set("null", lua.null())?;
    json.set(
        "encode",
        lua.create_function(|lua, (value, pretty): (mlua::Value, Option<bool>)| {
            let mut value = value::json(lua, "the value", value)?;
            // A table has no order; its text should not change from one run to the next.
            value.sort_all_objects();
            let text =
                if pretty == Some(true) { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            text.map_err(mlua::Error::external)
        })?,
    )?;
    json.set(
        "decode",
        lua.create_function(|lua, text: mlua::LuaString| {
            let value: serde_json::Value = serde_json::from_slice(&text.as_bytes())
                .map_err(|fault| mlua::Error::runtime(format!("not JSON: {fault}")))?;
            value::from_json(lua, &value)
        })?,
    )?;
    Ok(json)
}
