//! `sh`: commands that the script declares with `bot.caps`, started without a shell.

use std::time::Duration;

use mlua::{Lua, Table};

use super::super::value::Options;
use super::{effect, vm};
use crate::executors::Command;

/// How long a command may take unless it is told otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The module.
pub(super) fn module(lua: &Lua) -> mlua::Result<Table> {
    let sh = lua.create_table()?;
    sh.set("run", lua.create_async_function(run)?)?;
    Ok(sh)
}

/// `sh.run({"git", "status"}, {stdin=, env=, cwd=, timeout=})` gives `{ok, code, stdout, stderr}`.
async fn run(lua: Lua, (argv, options): (mlua::Value, Option<Table>)) -> mlua::Result<Table> {
    effect(&lua, "sh.run")?;
    let vm = vm(&lua)?;
    let mlua::Value::Table(list) = argv else {
        return Err(mlua::Error::runtime(
            "sh.run takes a list, such as {\"git\", \"status\"}: there is no shell to split words",
        ));
    };
    let argv: Vec<String> = list.sequence_values::<String>().collect::<mlua::Result<_>>()?;
    let program = argv.first().cloned().unwrap_or_default();
    if !vm.declared().commands.contains(&program) {
        return Err(mlua::Error::runtime(format!(
            "{program:?} is not declared; add bot.caps{{ sh = {{ {program:?} }} }} to the script"
        )));
    }
    let mut options = Options::new("sh.run", options);
    let stdin: Option<mlua::LuaString> = options.take("stdin")?;
    let mut env = Vec::new();
    if let Some(table) = options.take::<Table>("env")? {
        for pair in table.pairs::<String, String>() {
            let (name, value) = pair?;
            if name == "PATH" || name.starts_with("LD_") {
                return Err(mlua::Error::runtime(format!("{name} decides what is run, so a script cannot set it")));
            }
            env.push((name, value));
        }
    }
    let cwd = options.take("cwd")?;
    let timeout = options.duration("timeout")?.unwrap_or(TIMEOUT);
    options.done()?;
    let stdin = stdin.map(|stdin| stdin.as_bytes().to_vec());
    let command = Command { argv, stdin, env, cwd, timeout };
    let output = vm.services.shell.run(command).await.map_err(|fault| mlua::Error::runtime(format!("sh: {fault}")))?;
    let table = lua.create_table()?;
    table.set("ok", output.code == Some(0))?;
    table.set("code", output.code)?;
    table.set("stdout", lua.create_string(&output.stdout)?)?;
    table.set("stderr", lua.create_string(&output.stderr)?)?;
    Ok(table)
}
