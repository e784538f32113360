//! One script's VM: its state, its modules, its sandbox.

use std::path::{Component, Path};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use masterchief_contract::{BindId, Event, Outlet, closest};
use mlua::{Function, Lua, LuaOptions, StdLib, Table};
use tokio::sync::mpsc::WeakSender;

use super::api;
use super::event;
use super::limits::Limits;
use super::script::Job;
use super::services::Services;
use super::settings::Settings;
use crate::dispatch::NewBind;
use crate::users::FlagSet;

/// Makes waiting work in coroutines of a script's own.
const COROUTINES: &str = include_str!("coroutines.luau");
/// The longest source file.
const SOURCE_MAX: u64 = 1 << 20;
/// What a library's name ends with in the folder.
const LIBRARY: &str = "lua";
/// The table of loaded libraries among the VM's own values.
const LOADED: &str = "masterchief.loaded";

/// What a script's functions share. It stands in the VM's app data.
pub(super) struct Vm {
    /// The file's name: `deploy.lua`.
    pub(super) name: String,
    /// The beginning of the SHA-256 of its text.
    pub(super) version: String,
    pub(super) services: Services,
    /// The limits it was loaded with.
    pub(super) limits: Settings,
    /// Whether the top level runs.
    pub(super) loading: AtomicBool,
    /// Whether its binds are in the table; before that, binds are collected.
    pub(super) bound: AtomicBool,
    /// Whether another version serves now.
    pub(super) retired: AtomicBool,
    /// Calls so far.
    pub(super) calls: AtomicU64,
    /// Calls that failed with a fault.
    pub(super) faults: AtomicU64,
    declared: Mutex<Declared>,
    /// What is being handled.
    current: Mutex<Current>,
    /// Weak, so that the script ends when nobody can call it any more.
    pub(super) jobs: WeakSender<Job>,
}

/// What is being handled: an event, or nothing.
#[derive(Clone, Default)]
pub(super) struct Current {
    /// The network of the event.
    pub(super) network: Option<Arc<str>>,
    /// Where its actions go: with the reason for them, or nowhere in a replay.
    pub(super) outlet: Option<Arc<dyn Outlet>>,
    /// Whether nothing may be done.
    pub(super) dry: bool,
    /// The event itself.
    pub(super) event: Option<Event>,
}

impl Current {
    pub(super) fn of(event: &Event) -> Current {
        Current {
            network: Some(Arc::clone(&event.network)),
            outlet: event.call().map(|call| Arc::clone(&call.outlet)),
            dry: event.delivery().dry,
            event: Some(event.clone()),
        }
    }
}

/// What the top level declared.
#[derive(Default)]
pub(super) struct Declared {
    pub(super) binds: Vec<Option<NewBind>>,
    /// The numbers the binds got, in the same places.
    pub(super) ids: Vec<Option<BindId>>,
    pub(super) on_load: Vec<Function>,
    pub(super) on_unload: Vec<Function>,
    pub(super) hosts: Vec<String>,
    pub(super) commands: Vec<String>,
    pub(super) pipelines: Vec<String>,
    /// What it may where nobody stands behind an event.
    pub(super) flags: FlagSet,
}

impl Vm {
    pub(super) fn new(name: &str, version: &str, services: &Services, jobs: WeakSender<Job>) -> Arc<Vm> {
        Arc::new(Vm {
            name: name.to_owned(),
            version: version.to_owned(),
            services: services.clone(),
            limits: services.settings.load().limits,
            loading: AtomicBool::new(true),
            bound: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            calls: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            declared: Mutex::default(),
            current: Mutex::default(),
            jobs,
        })
    }

    /// A state with everything in it, and its limits.
    pub(super) fn state(self: &Arc<Vm>) -> mlua::Result<(Lua, Arc<Limits>)> {
        let libraries = StdLib::TABLE
            | StdLib::STRING
            | StdLib::MATH
            | StdLib::UTF8
            | StdLib::BIT
            | StdLib::BUFFER
            | StdLib::COROUTINE;
        let lua = Lua::new_with(libraries, LuaOptions::default())?;
        lua.set_app_data(Arc::clone(self));
        event::install(&lua)?;
        let globals = lua.globals();
        for name in ["collectgarbage", "gcinfo", "getfenv", "setfenv", "loadstring", "load", "newproxy", "os", "debug"]
        {
            globals.raw_remove(name)?;
        }
        for (name, module) in api::MODULES {
            let module = module(&lua)?;
            refuse_unknown(&lua, name, &module)?;
            globals.set(*name, module)?;
        }
        globals.set("print", globals.get::<Table>("log")?.get::<Function>("info")?)?;
        lua.set_named_registry_value(LOADED, lua.create_table()?)?;
        globals.set("require", lua.create_function(require)?)?;
        lua.load(COROUTINES).set_name("=coroutines").call::<()>(Lua::poll_pending())?;
        lua.sandbox(true)?;
        let limits = Limits::install(&lua, &self.limits)?;
        Ok((lua, limits))
    }

    pub(super) fn declared(&self) -> MutexGuard<'_, Declared> {
        self.declared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The network of the event that is being handled; empty where there is none.
    pub(super) fn network(&self) -> String {
        self.current().network.as_deref().unwrap_or("").to_owned()
    }

    /// What is being handled now.
    pub(super) fn current(&self) -> Current {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_current(&self, current: &Current) {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone_from(current);
    }

    /// A target as a script writes it: `#chan` on the network of the event, or `network/#chan`.
    pub(super) fn place(&self, target: &str) -> (String, String) {
        if let Some((network, rest)) = target.split_once('/')
            && !rest.is_empty()
            && self.services.world.networks().iter().any(|name| name == network)
        {
            return (network.to_owned(), rest.to_owned());
        }
        (self.network(), target.to_owned())
    }
}

/// Members that a module may lack.
const OPTIONAL: &[&str] = &["config", "carried"];

/// Makes a slip such as `bot.bnid` an error that says what was meant.
fn refuse_unknown(lua: &Lua, module: &'static str, table: &Table) -> mlua::Result<()> {
    let names: Vec<String> =
        table.pairs::<String, mlua::Value>().map(|pair| Ok(pair?.0)).collect::<mlua::Result<_>>()?;
    let unknown = lua.create_function(move |_, (_, name): (mlua::Value, String)| {
        if OPTIONAL.contains(&name.as_str()) {
            return Ok(mlua::Value::Nil);
        }
        let hint = match closest(&name, names.iter().map(String::as_str)) {
            Some(close) => format!("did you mean {module}.{close}?"),
            None => format!("there are {}", names.join(", ")),
        };
        Err(mlua::Error::runtime(format!("there is no {module}.{name}; {hint}")))
    })?;
    let meta = lua.create_table()?;
    meta.set("__index", unknown)?;
    table.set_metatable(Some(meta))
}

/// Reads a source file, with a limit.
pub(super) fn read_source(path: &Path) -> std::io::Result<String> {
    let size = std::fs::metadata(path)?.len();
    if size > SOURCE_MAX {
        return Err(std::io::Error::other(format!("{size} bytes; a script has at most {SOURCE_MAX}")));
    }
    std::fs::read_to_string(path)
}

/// `require "lib/name"`: a library beside the scripts, run once in each VM.
fn require(lua: &Lua, name: String) -> mlua::Result<mlua::Value> {
    let vm = api::vm(lua)?;
    let loaded: Table = lua.named_registry_value(LOADED)?;
    let known: mlua::Value = loaded.get(name.as_str())?;
    if !known.is_nil() {
        return Ok(known);
    }
    let relative = Path::new(&name);
    let inside = relative.components().all(|part| matches!(part, Component::Normal(_))) && !name.is_empty();
    if !inside || !name.starts_with("lib/") {
        return Err(mlua::Error::runtime(format!(
            "require {name:?}: libraries stand in the folder lib, as in require \"lib/oncall\""
        )));
    }
    let path = vm.services.folder.join(relative).with_extension(LIBRARY);
    let source = read_source(&path)
        .map_err(|fault| mlua::Error::runtime(format!("require {name:?}: {}: {fault}", path.display())))?;
    let value: mlua::Value = lua.load(source).set_name(format!("={name}.lua")).call(())?;
    let value = if value.is_nil() { mlua::Value::Boolean(true) } else { value };
    loaded.set(name, value.clone())?;
    Ok(value)
}
