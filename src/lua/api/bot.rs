//! `bot`: binding, saying, joining.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use masterchief_contract::{
    Action, Acts, BindId, BindOptions, CaseMap, Cooldown, DeliveryOptions, FlagScope, How, Missed, OnCrash, Order,
    Outlet,
};
use mlua::{Function, Lua, MultiValue, Table, UserData, UserDataMethods};

use super::super::called::called;
use super::super::event;
use super::super::handler::{Entry, LuaHandler};
use super::super::value::{self, Again, Fail, GiveUp, Options, Sign};
use super::super::vm::{Declared, Vm};
use super::saying::Manner;
use super::{effect, vm};
use crate::dispatch::NewBind;
use crate::users::{FlagMask, FlagSet};

/// The ways to say something, as methods of an event. `reply` puts the nick in front.
pub(in super::super) const WAYS: &[(&str, Option<How>)] =
    &[("reply", None), ("say", Some(How::Say)), ("notice", Some(How::Notice)), ("act", Some(How::Act))];

/// What `bot.bind` returns.
struct Handle {
    vm: std::sync::Weak<Vm>,
    place: Place,
}

/// Where a bind is.
#[derive(Clone, Copy)]
enum Place {
    /// Declared while loading: its place in the list.
    Declared(usize),
    /// Made while running.
    Bound(BindId),
}

impl UserData for Handle {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_method("unbind", |_, handle, ()| handle.unbind());
    }
}

impl Handle {
    fn unbind(&self) -> mlua::Result<bool> {
        let Some(vm) = self.vm.upgrade() else { return Ok(false) };
        match self.place {
            Place::Bound(id) => unbind(&vm, id),
            Place::Declared(at) => {
                let mut declared = vm.declared();
                if !vm.bound.load(Ordering::Relaxed) {
                    return Ok(declared.binds.get_mut(at).and_then(Option::take).is_some());
                }
                // It stays known: what is refused now may be taken away later, and twice is no harm.
                let id = declared.ids.get(at).copied().flatten();
                drop(declared);
                id.map_or(Ok(false), |id| unbind(&vm, id))
            }
        }
    }
}

/// The module.
pub(super) fn module(lua: &Lua) -> mlua::Result<Table> {
    let vm = vm(lua)?;
    let bot = lua.create_table()?;
    bot.set("STOP", lua.create_userdata(Sign::Stop)?)?;
    bot.set("PASS", lua.create_userdata(Sign::Pass)?)?;
    bot.set("script", vm.name.as_str())?;
    bot.set("version", env!("CARGO_PKG_VERSION"))?;
    let settings = vm.services.settings.load();
    let block = settings.blocks.get(vm.name.trim_end_matches(".lua"));
    bot.set("config", block.map(|block| value::from_json(lua, block)).transpose()?)?;
    bot.set("bind", lua.create_function(bind)?)?;
    bot.set("unbind", lua.create_function(|_, handle: mlua::UserDataRef<Handle>| handle.unbind())?)?;
    bot.set("fail", lua.create_function(fail)?)?;
    bot.set("dead", lua.create_function(dead)?)?;
    bot.set("retry", lua.create_function(retry)?)?;
    for (name, how) in [("say", How::Say), ("to", How::Say), ("notice", How::Notice), ("act", How::Act)] {
        bot.set(name, saying(lua, name, how)?)?;
    }
    bot.set("join", lua.create_async_function(join)?)?;
    bot.set("part", lua.create_async_function(part)?)?;
    bot.set("raw", lua.create_async_function(raw)?)?;
    bot.set("callevent", lua.create_async_function(callevent)?)?;
    bot.set("networks", lua.create_function(|lua, ()| Ok(super::vm(lua)?.services.world.networks()))?)?;
    bot.set(
        "nick",
        lua.create_function(|lua, network: Option<String>| {
            let vm = super::vm(lua)?;
            let network = network.unwrap_or_else(|| vm.network());
            Ok(vm.services.world.nick(&network))
        })?,
    )?;
    bot.set(
        "channels",
        lua.create_function(|lua, network: Option<String>| {
            let vm = super::vm(lua)?;
            let network = network.unwrap_or_else(|| vm.network());
            Ok(vm.services.world.channels(&network))
        })?,
    )?;
    bot.set("users", lua.create_function(users)?)?;
    bot.set(
        "topic",
        lua.create_function(|lua, target: String| {
            let vm = super::vm(lua)?;
            let (network, channel) = vm.place(&target);
            Ok(vm.services.world.channel(&network, &channel).map(|(topic, _)| topic))
        })?,
    )?;
    bot.set("caps", lua.create_function(caps)?)?;
    bot.set("on_load", lua.create_function(|lua, f: Function| declare(lua, "bot.on_load", |d| d.on_load.push(f)))?)?;
    bot.set(
        "on_unload",
        lua.create_function(|lua, f: Function| declare(lua, "bot.on_unload", |d| d.on_unload.push(f)))?,
    )?;
    Ok(bot)
}

/// Takes a bind away, unless what is behind it would then do what it must not.
fn unbind(vm: &Vm, id: BindId) -> mlua::Result<bool> {
    let services = &vm.services;
    services.guard.allows(|| services.table.without(id)).map_err(mlua::Error::runtime)?;
    Ok(services.table.unbind(id))
}

/// `bot.bind(kind, flags, mask, handler [, options])`.
fn bind(lua: &Lua, args: MultiValue) -> mlua::Result<Handle> {
    const FORM: &str = "bot.bind(kind, flags, mask, handler [, options])";
    let wrong = |what: &str| mlua::Error::runtime(format!("{what}; write {FORM}"));
    let mut args = args.into_iter();
    let mut word = |what: &str| match args.next() {
        Some(mlua::Value::String(text)) => Ok(text.to_string_lossy()),
        Some(other) => Err(wrong(&format!("{what} is a string, not a {}", other.type_name()))),
        None => Err(wrong(&format!("{what} is missing"))),
    };
    let (kind, flags, mask) = (word("kind")?, word("flags")?, word("mask")?);
    let function = match args.next() {
        Some(mlua::Value::Function(function)) => function,
        Some(other) => {
            return Err(wrong(&format!("the handler is a function, not a {}", other.type_name())));
        }
        None => return Err(wrong("the handler is missing")),
    };
    let options = match args.next() {
        None | Some(mlua::Value::Nil) => None,
        Some(mlua::Value::Table(table)) => Some(table),
        Some(other) => return Err(wrong(&format!("the options are a table, not a {}", other.type_name()))),
    };
    let options = bind_options(options)?;
    let vm = vm(lua)?;
    let line = function.info().line_defined.unwrap_or(0);
    let entry = Entry { function, origin: Arc::from(format!("{}:{line}", vm.name)) };
    let handler = Arc::new(LuaHandler::new(&vm, entry));
    let new = NewBind::parse(&vm.services.kinds, &kind, &flags, &mask, options, handler)
        .map_err(|fault| mlua::Error::runtime(fault.to_string()))?;
    let weak = Arc::downgrade(&vm);
    if !vm.bound.load(Ordering::Relaxed) {
        let mut declared = vm.declared();
        declared.binds.push(Some(new));
        return Ok(Handle { vm: weak, place: Place::Declared(declared.binds.len() - 1) });
    }
    if vm.retired.load(Ordering::Relaxed) {
        return Err(mlua::Error::runtime("a newer version of this script serves already; it does the binding"));
    }
    let services = &vm.services;
    let may = services.guard.allows(|| services.table.with_one(&vm.name, new.clone()));
    may.map_err(mlua::Error::runtime)?;
    Ok(Handle { vm: weak, place: Place::Bound(services.table.bind(&vm.name, new)) })
}

fn bind_options(table: Option<Table>) -> mlua::Result<BindOptions> {
    let mut options = Options::new("bot.bind", table);
    let aliases = options.list("aliases")?;
    let bound = BindOptions {
        usage: options.take("usage")?,
        help: options.take("help")?,
        aliases,
        cooldown: match options.take::<mlua::Value>("cooldown")? {
            None | Some(mlua::Value::Nil) => Cooldown::default(),
            Some(mlua::Value::Table(table)) => {
                let mut parts = Options::new("cooldown", Some(table));
                let cooldown = Cooldown {
                    user: parts.duration("user")?,
                    channel: parts.duration("channel")?,
                    global: parts.duration("global")?,
                };
                parts.done()?;
                cooldown
            }
            Some(time) => Cooldown { user: Some(value::duration("cooldown", &time)?), ..Cooldown::default() },
        },
        timeout: options.duration("timeout")?,
        tz: options.take("tz")?,
        missed: match options.take::<String>("missed")?.as_deref() {
            None | Some("skip") => Missed::Skip,
            Some("once") => Missed::Once,
            Some("all") => Missed::All,
            Some(other) => {
                return Err(mlua::Error::runtime(format!("missed is \"skip\", \"once\" or \"all\", not {other:?}")));
            }
        },
        overlap: match options.take::<mlua::Value>("overlap")? {
            None | Some(mlua::Value::Nil) => false,
            Some(mlua::Value::Boolean(overlap)) => overlap,
            Some(_) => return Err(mlua::Error::runtime("overlap is true or false")),
        },
        to: options.take("to")?,
        acts: match options.take::<String>("acts")?.as_deref() {
            None => Acts::Usual,
            Some("all") => Acts::All,
            Some(network) => Acts::On(network.to_owned()),
        },
        delivery: delivery_options(&mut options)?,
    };
    options.done()?;
    Ok(bound)
}

/// How events from the journal are delivered.
fn delivery_options(options: &mut Options) -> mlua::Result<DeliveryOptions> {
    let usual = DeliveryOptions::default();
    let wrong = |text: String| Err(mlua::Error::runtime(text));
    Ok(DeliveryOptions {
        max_attempts: options.take("max_attempts")?.unwrap_or(usual.max_attempts),
        backoff: options.duration("backoff")?.unwrap_or(usual.backoff),
        conc: options.take("conc")?.unwrap_or(usual.conc),
        order: match options.take::<String>("order")?.as_deref() {
            None | Some("lane") => Order::Lane,
            Some("none") => Order::None,
            Some(other) => return wrong(format!("order is \"lane\" or \"none\", not {other:?}")),
        },
        on_crash: match options.take::<String>("on_crash")?.as_deref() {
            None | Some("retry") => OnCrash::Retry,
            Some("hold") => OnCrash::Hold,
            Some(other) => return wrong(format!("on_crash is \"retry\" or \"hold\", not {other:?}")),
        },
    })
}

fn declare(lua: &Lua, what: &str, add: impl FnOnce(&mut Declared)) -> mlua::Result<()> {
    let vm = vm(lua)?;
    if !vm.loading.load(Ordering::Relaxed) {
        return Err(mlua::Error::runtime(format!("{what} belongs at the top level of the script")));
    }
    add(&mut vm.declared());
    Ok(())
}

/// `bot.caps{ http = {"api.example.net"}, sh = {"git"}, pipelines = {"shop"}, flags = "D" }`. The flags count where nobody stands
/// behind an event: a schedule, a webhook. Without them the script may then deploy only where nobody needs a flag.
fn caps(lua: &Lua, table: Table) -> mlua::Result<()> {
    let mut options = Options::new("bot.caps", Some(table));
    let (http, sh, pipelines) = (options.list("http")?, options.list("sh")?, options.list("pipelines")?);
    let flags = options.take::<String>("flags")?.unwrap_or_default();
    let flags = FlagSet::parse(&flags).map_err(|fault| mlua::Error::runtime(format!("flags of bot.caps: {fault}")))?;
    options.done()?;
    if let Some(url) = http.iter().find(|host| host.is_empty() || host.contains(['/', ' ', '@'])) {
        return Err(mlua::Error::runtime(format!(
            "{url:?} is not a host; write \"example.net\", or \"example.net:8443\""
        )));
    }
    declare(lua, "bot.caps", |declared| {
        declared.hosts.extend(http);
        declared.commands.extend(sh);
        declared.pipelines.extend(pipelines);
        declared.flags = declared.flags.union(flags);
    })
}

/// `bot.fail(text)` raises; the text is for the person.
fn fail(lua: &Lua, text: mlua::Value) -> mlua::Result<()> {
    Err(mlua::Error::external(Fail(value::text(lua, "bot.fail", text)?)))
}

/// `bot.dead(reason)` raises: an event from the journal becomes a dead letter at once.
fn dead(lua: &Lua, reason: mlua::Value) -> mlua::Result<()> {
    Err(mlua::Error::external(GiveUp(value::text(lua, "bot.dead", reason)?)))
}

/// `bot.retry(after [, reason])` raises: an event from the journal is tried again after this time.
fn retry(lua: &Lua, (after, reason): (mlua::Value, Option<mlua::Value>)) -> mlua::Result<()> {
    let after = match after {
        mlua::Value::Nil => None,
        after => Some(value::duration("bot.retry", &after)?),
    };
    let reason = reason.map(|reason| value::text(lua, "bot.retry", reason)).transpose()?;
    Err(mlua::Error::external(Again { after, reason: reason.unwrap_or_else(|| "the script asks for it".to_owned()) }))
}

fn saying(lua: &Lua, name: &'static str, how: How) -> mlua::Result<Function> {
    lua.create_async_function(move |lua, (target, text, options): (String, mlua::Value, Option<Table>)| async move {
        effect(&lua, &format!("bot.{name}"))?;
        let text = value::text(&lua, "bot.say", text)?;
        let manner = Manner::read(name, how, options)?;
        let vm = vm(&lua)?;
        let (network, target) = vm.place(&target);
        let say = Action::Say { network, target, text, how: manner.how, reply: false };
        manner.perform(&lua, outlet(&vm), say).await
    })
}

async fn join(lua: Lua, (target, key): (String, Option<String>)) -> mlua::Result<()> {
    effect(&lua, "bot.join")?;
    let vm = vm(&lua)?;
    let (network, channel) = vm.place(&target);
    perform(&vm, Action::Join { network, channel, key }).await
}

async fn part(lua: Lua, (target, reason): (String, Option<String>)) -> mlua::Result<()> {
    effect(&lua, "bot.part")?;
    let vm = vm(&lua)?;
    let (network, channel) = vm.place(&target);
    perform(&vm, Action::Part { network, channel, reason: reason.unwrap_or_default() }).await
}

/// `bot.raw(command, params... )`: a command of IRC, composed safely, on the network of the event.
async fn raw(lua: Lua, (command, params): (String, mlua::Variadic<String>)) -> mlua::Result<()> {
    effect(&lua, "bot.raw")?;
    let vm = vm(&lua)?;
    let network = vm.network();
    perform(&vm, Action::Send { network, command, params: params.to_vec() }).await
}

/// `bot.callevent(name [, text])`: tells binds of kind `evnt` of something that has a name of one's own.
async fn callevent(lua: Lua, (name, text): (String, Option<String>)) -> mlua::Result<()> {
    effect(&lua, "callevent")?;
    let vm = vm(&lua)?;
    let cause = vm.current().event;
    let text = text.unwrap_or_default();
    let wrong = |fault: String| mlua::Error::runtime(format!("bot.callevent: {fault}"));
    let event = called(&name, &text, cause.as_ref(), vm.services.clock.now()).map_err(wrong)?;
    vm.services.inlet.put(event).await.map_err(|closed| wrong(closed.to_string()))
}

async fn perform(vm: &Arc<Vm>, action: Action) -> mlua::Result<()> {
    outlet(vm).perform(action).await.map_err(mlua::Error::external)
}

/// Where actions go now.
fn outlet(vm: &Arc<Vm>) -> Arc<dyn Outlet> {
    vm.current().outlet.unwrap_or_else(|| Arc::clone(&vm.services.outlet))
}

/// `bot.users(channel)`: a list of `{nick, user, host, account, status, realname, away, bot}`.
fn users(lua: &Lua, target: String) -> mlua::Result<Vec<Table>> {
    let vm = vm(lua)?;
    let (network, channel) = vm.place(&target);
    let mut out = Vec::new();
    for member in vm.services.world.members(&network, &channel) {
        let row = lua.create_table_with_capacity(0, 8)?;
        row.raw_set("nick", member.nick)?;
        row.raw_set("user", member.user)?;
        row.raw_set("host", member.host)?;
        row.raw_set("account", member.account)?;
        row.raw_set("status", member.status)?;
        row.raw_set("realname", member.realname)?;
        row.raw_set("away", member.away)?;
        row.raw_set("bot", member.bot)?;
        out.push(row);
    }
    Ok(out)
}

/// `ev:can(flags)`: whether who did it holds these flags here and now.
pub(in super::super) fn can(lua: &Lua, (ev, flags): (mlua::Value, String)) -> mlua::Result<bool> {
    let event = event::of(&ev, "can")?;
    let mask = FlagMask::parse(&flags).map_err(|fault| mlua::Error::runtime(format!("flags {flags:?}, {fault}")))?;
    let vm = vm(lua)?;
    // Who they were when it happened they need not be any more.
    let standing = vm.services.book.recognise(event.actor_now().as_ref(), &event.network, event.casemap);
    let scope = if event.private() { FlagScope::AnyChannel } else { FlagScope::Channel };
    let casemap: CaseMap = event.casemap;
    Ok(standing.allows(&mask, scope, &event.network, event.chan(), casemap))
}
