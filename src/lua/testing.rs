//! Tests of scripts, written in Luau: `require "test"`. The bot brings the bench they run on.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use masterchief_contract::Future;
use mlua::{AnyUserData, Function, Lua, LuaOptions, LuaSerdeExt, StdLib, Table, UserData, UserDataMethods};
use serde::Serialize;
use serde_json::Value;

use super::api;
use super::limits::{Limited, Limits};
use super::settings::Settings;
use super::value::{self, Options};
use super::vm::read_source;
use crate::executors::{Output, Response};
use crate::journal::Fixture;

/// How long `expect` waits, in the test's own time.
const PATIENCE: Duration = Duration::from_secs(5);

/// Makes bots for tests.
pub trait Bench: Send + Sync + 'static {
    /// A bot with this script on a network in memory; `config` is the script's block instead of the configured one.
    fn start(
        &self,
        script: &Path,
        at: Option<DateTime<Utc>>,
        config: Option<Value>,
    ) -> Future<Result<Arc<dyn TestBench>, String>>;
}

/// A bot under test and its network.
pub trait TestBench: Send + Sync + 'static {
    /// Adds or changes a person: services account, flags (of a record for that account), host.
    fn person(&self, nick: &str, person: Person) -> Future<Result<(), String>>;
    /// A person does something: `PRIVMSG #ops :words`, `PART #ops`.
    fn does(&self, nick: String, what: Deed) -> Future<()>;
    /// The next line to `target` that holds `text`; else all that was said.
    fn expect(&self, target: String, text: String, within: Duration) -> Future<Result<String, String>>;
    /// Something happens outside: an event of an ingested kind.
    fn happens(&self, fixture: Fixture) -> Future<Result<(), String>>;
    /// Lets time pass.
    fn advance(&self, time: Duration) -> Future<()>;
    /// Cuts the connection; whether the bot came back.
    fn kill_connection(&self) -> Future<bool>;
    /// Loads the script anew.
    fn reload(&self) -> Future<Result<(), String>>;
    /// What the bot did that no `expect` asked for.
    fn unexpected(&self) -> Vec<String>;
    /// Everything the bot said.
    fn transcript(&self) -> Vec<String>;
    /// Answers a request, `GET https://…`, from now on.
    fn http_stub(&self, request: String, answer: Response);
    /// Answers a command, its words joined by blanks, from now on.
    fn sh_stub(&self, command: String, output: Output);
    /// What was published so far: where to, and what.
    fn published(&self) -> Vec<(String, String)>;
    /// Stops the bot.
    fn stop(&self) -> Future<()>;
}

/// A person in a test.
#[derive(Clone, Debug, Default)]
pub struct Person {
    /// The services account.
    pub account: Option<String>,
    /// Flags of the record for that account.
    pub flags: Option<String>,
    /// The host that is shown.
    pub host: Option<String>,
}

/// What people do.
#[derive(Clone, Debug)]
pub enum Deed {
    /// Says words to a channel or the bot.
    Says(String, String),
    /// Joins a channel.
    Joins(String),
    /// Leaves a channel, with words.
    Parts(String, String),
    /// Quits, with words.
    Quits(String),
    /// Any line of IRC.
    Sends(String),
}

/// What became of one case.
#[derive(Clone, Debug, Serialize)]
pub struct CaseResult {
    /// The file.
    pub file: PathBuf,
    /// The case's name.
    pub name: String,
    /// What went wrong, with the line; none if nothing did.
    pub failure: Option<String>,
}

/// The cases of a file while it runs.
#[derive(Default)]
struct Plan {
    cases: Vec<(String, Function)>,
    benches: Vec<Arc<dyn TestBench>>,
}

/// Runs the cases of a test file in which `filter` occurs in the name. Call it under a paused clock.
pub async fn run_file(path: &Path, filter: &str, bench: Arc<dyn Bench>) -> Vec<CaseResult> {
    let result = |name: &str, failure| CaseResult { file: path.to_owned(), name: name.to_owned(), failure };
    let plan = Arc::<Mutex<Plan>>::default();
    let (lua, limits) = match prepare(path, &plan, bench) {
        Ok(ready) => ready,
        Err(fault) => return vec![result("(loading)", Some(fault))],
    };
    let cases = std::mem::take(&mut lock(&plan).cases);
    if cases.is_empty() {
        return vec![result("(loading)", Some("the file has no t.case(name, function)".to_owned()))];
    }
    let mut results = Vec::new();
    for (name, case) in cases.into_iter().filter(|(name, _)| name.contains(filter)) {
        let ran = Limited::new(Box::pin(case.call_async::<()>(())), &limits).await;
        let benches = std::mem::take(&mut lock(&plan).benches);
        for bench in benches {
            bench.stop().await;
        }
        results.push(result(&name, ran.err().map(|fault| super::script::told(&fault))));
    }
    drop(lua);
    results
}

fn prepare(path: &Path, plan: &Arc<Mutex<Plan>>, bench: Arc<dyn Bench>) -> Result<(Lua, Arc<Limits>), String> {
    let source = read_source(path).map_err(|fault| fault.to_string())?;
    let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
    let said = |fault: mlua::Error| super::script::told(&fault);
    let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH | StdLib::UTF8;
    let lua = Lua::new_with(libraries, LuaOptions::default()).map_err(said)?;
    let module = module(&lua, plan, bench, folder).map_err(said)?;
    let globals = lua.globals();
    api::pure(&lua, &globals).map_err(said)?;
    let require = lua.create_function(move |_, name: String| {
        if name == "test" {
            return Ok(module.clone());
        }
        Err(mlua::Error::runtime(format!("require {name:?}: a test has \"test\" only")))
    });
    globals.set("require", require.map_err(said)?).map_err(said)?;
    lua.sandbox(true).map_err(said)?;
    let limits = Limits::install(&lua, &Settings::default()).map_err(said)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    lua.load(source).set_name(format!("={name}")).exec().map_err(said)?;
    Ok((lua, limits))
}

fn module(lua: &Lua, plan: &Arc<Mutex<Plan>>, bench: Arc<dyn Bench>, folder: PathBuf) -> mlua::Result<Table> {
    let t = lua.create_table()?;
    let cases = Arc::clone(plan);
    t.set(
        "case",
        lua.create_function(move |_, (name, case): (String, Function)| {
            lock(&cases).cases.push((name, case));
            Ok(())
        })?,
    )?;
    let plan = Arc::clone(plan);
    t.set(
        "bot",
        lua.create_async_function(move |lua, options: Table| {
            let (bench, plan, folder) = (Arc::clone(&bench), Arc::clone(&plan), folder.clone());
            async move {
                let mut options = Options::new("t.bot", Some(options));
                let script: Option<String> = options.take("script")?;
                let at: Option<String> = options.take("at")?;
                let config = match options.take::<mlua::Value>("config")? {
                    None | Some(mlua::Value::Nil) => None,
                    Some(config) => Some(value::json(&lua, "config", config)?),
                };
                options.done()?;
                let script = script.ok_or_else(|| {
                    mlua::Error::runtime("t.bot needs a script, as in t.bot{ script = \"deploy.lua\" }")
                })?;
                let at = at.map(|at| moment(&at)).transpose()?;
                let started = bench.start(&folder.join(script), at, config).await.map_err(mlua::Error::runtime)?;
                lock(&plan).benches.push(Arc::clone(&started));
                Ok(TestBot(started, folder))
            }
        })?,
    )?;
    t.set(
        "eq",
        lua.create_function(|lua, (got, want, about): (mlua::Value, mlua::Value, Option<String>)| {
            let show = |value: mlua::Value| match value::json(lua, "the value", value.clone()) {
                Ok(json) => json.to_string(),
                Err(_) => format!("{value:?}"),
            };
            let (got, want) = (show(got), show(want));
            if got == want {
                return Ok(());
            }
            let about = about.map(|about| format!("{about}: ")).unwrap_or_default();
            Err(mlua::Error::runtime(format!("{about}got {got}, wanted {want}")))
        })?,
    )?;
    Ok(t)
}

/// `2026-03-02T10:00Z`, seconds or not.
fn moment(text: &str) -> mlua::Result<DateTime<Utc>> {
    let with_seconds = text.replacen('Z', ":00Z", 1);
    let read = DateTime::parse_from_rfc3339(text).or_else(|_| DateTime::parse_from_rfc3339(&with_seconds));
    read.map(|at| at.to_utc())
        .map_err(|_| mlua::Error::runtime(format!("{text:?} is not a time such as 2026-03-02T10:00Z")))
}

/// `b` in a test.
struct TestBot(Arc<dyn TestBench>, PathBuf);

/// `b:user("alice")` in a test.
struct TestUser {
    bench: Arc<dyn TestBench>,
    nick: String,
}

impl UserData for TestBot {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        methods.add_async_method("user", |_, this, (nick, options): (String, Option<Table>)| async move {
            let mut options = Options::new("b:user", options);
            let person = Person {
                account: options.take("account")?,
                flags: options.take("flags")?,
                host: options.take("host")?,
            };
            options.done()?;
            this.0.person(&nick, person).await.map_err(mlua::Error::runtime)?;
            Ok(TestUser { bench: Arc::clone(&this.0), nick })
        });
        methods.add_async_method(
            "expect",
            |_, this, (target, text, within): (String, String, Option<mlua::Value>)| async move {
                let within = within.map(|time| value::duration("expect", &time)).transpose()?.unwrap_or(PATIENCE);
                let heard = this.0.expect(target.clone(), text.clone(), within).await;
                heard.map_err(|all| {
                    mlua::Error::runtime(format!("{target} did not hear {text:?}. The bot said:\n{all}"))
                })
            },
        );
        methods.add_async_method(
            "expect_silence",
            |_, this, (target, within): (String, Option<mlua::Value>)| async move {
                let within =
                    within.map(|time| value::duration("expect_silence", &time)).transpose()?.unwrap_or(PATIENCE);
                match this.0.expect(target.clone(), String::new(), within).await {
                    Ok(line) => {
                        Err(mlua::Error::runtime(format!("{target} should have heard nothing but heard {line:?}")))
                    }
                    Err(_) => Ok(()),
                }
            },
        );
        methods.add_async_method("expect_no_effects", |_, this, ()| async move {
            this.0.advance(Duration::from_secs(1)).await;
            let done = this.0.unexpected();
            if done.is_empty() {
                Ok(())
            } else {
                Err(mlua::Error::runtime(format!("nobody expected:\n{}", done.join("\n"))))
            }
        });
        add_events(methods);
        add_stubs(methods);
    }
}

/// What happens to the bot under test.
fn add_events<M: UserDataMethods<TestBot>>(methods: &mut M) {
    methods.add_async_method("advance", |_, this, time: mlua::Value| async move {
        this.0.advance(value::duration("advance", &time)?).await;
        Ok(())
    });
    methods.add_async_method("happens", |lua, this, (what, event): (String, Option<Table>)| async move {
        let fixture = fixture(&lua, &this.1, &what, event)?;
        this.0.happens(fixture).await.map_err(mlua::Error::runtime)
    });
    methods.add_async_method("kill_connection", |_, this, ()| async move {
        if this.0.kill_connection().await { Ok(()) } else { Err(mlua::Error::runtime("the bot did not come back")) }
    });
    methods
        .add_async_method("reload", |_, this, ()| async move { this.0.reload().await.map_err(mlua::Error::runtime) });
    methods.add_method("published", |lua, this, ()| {
        let mut out = Vec::new();
        for (to, text) in this.0.published() {
            let row = lua.create_table()?;
            row.raw_set("to", to)?;
            row.raw_set("text", text)?;
            out.push(row);
        }
        Ok(out)
    });
    methods.add_method("transcript", |_, this, ()| Ok(this.0.transcript()));
}

/// `b:happens("file.json")`, a fixture beside the test, or `b:happens("webhook", { ... })`.
fn fixture(lua: &Lua, folder: &Path, what: &str, event: Option<Table>) -> mlua::Result<Fixture> {
    let wrong = |text: String| mlua::Error::runtime(text);
    let Some(event) = event else {
        let text = read_source(&folder.join(what)).map_err(|fault| wrong(format!("{what}: {fault}")))?;
        return serde_json::from_str(&text).map_err(|fault| wrong(format!("{what}: {fault}")));
    };
    let mut options = Options::new("b:happens", Some(event));
    let text: Option<String> = options.take("text")?;
    let lane: Option<String> = options.take("lane")?;
    let body: Option<String> = options.take("body")?;
    let json = match options.take::<mlua::Value>("json")? {
        None | Some(mlua::Value::Nil) => None,
        Some(json) => Some(value::json(lua, "json", json)?.to_string()),
    };
    let mut fields = serde_json::Map::new();
    for (name, value) in options.rest()? {
        fields.insert(name, value::json(lua, "a field", value)?);
    }
    Ok(Fixture {
        kind: what.to_owned(),
        lane: lane.unwrap_or_else(|| "test".to_owned()),
        key: None,
        at: None,
        text: text.unwrap_or_default(),
        fields,
        body: json.or(body),
        body_base64: None,
    })
}

/// What stands for the world outside.
fn add_stubs<M: UserDataMethods<TestBot>>(methods: &mut M) {
    methods.add_method("http_stub", |lua, this, (request, answer): (String, Table)| {
        let mut options = Options::new("b:http_stub", Some(answer));
        let status: Option<u16> = options.take("status")?;
        let mut body: Option<String> = options.take("body")?;
        if let Some(json) = options.take::<mlua::Value>("json")? {
            let json: serde_json::Value = lua.from_value(json)?;
            body = (!json.is_null()).then(|| json.to_string()).or(body);
        }
        options.done()?;
        let body = body.unwrap_or_default().into_bytes();
        this.0.http_stub(request, Response { status: status.unwrap_or(200), headers: Vec::new(), body });
        Ok(())
    });
    methods.add_method("sh_stub", |_, this, (command, output): (String, Table)| {
        let mut options = Options::new("b:sh_stub", Some(output));
        let code: Option<i32> = options.take("code")?;
        let stdout: Option<String> = options.take("stdout")?;
        let stderr: Option<String> = options.take("stderr")?;
        options.done()?;
        let output = Output {
            code: Some(code.unwrap_or(0)),
            stdout: stdout.unwrap_or_default().into_bytes(),
            stderr: stderr.unwrap_or_default().into_bytes(),
        };
        this.0.sh_stub(command, output);
        Ok(())
    });
}

impl UserData for TestUser {
    fn add_methods<M: UserDataMethods<Self>>(methods: &mut M) {
        // Each gives the person again, so that what they do can be written in a row.
        methods.add_async_function("says", |_, (this, target, text): (AnyUserData, String, String)| {
            does(this, Deed::Says(target, text))
        });
        methods.add_async_function("joins", |_, (this, chan): (AnyUserData, String)| does(this, Deed::Joins(chan)));
        methods.add_async_function("parts", |_, (this, chan, words): (AnyUserData, String, Option<String>)| {
            does(this, Deed::Parts(chan, words.unwrap_or_default()))
        });
        methods.add_async_function("quits", |_, (this, words): (AnyUserData, Option<String>)| {
            does(this, Deed::Quits(words.unwrap_or_default()))
        });
        methods.add_async_function("sends", |_, (this, line): (AnyUserData, String)| does(this, Deed::Sends(line)));
    }
}

async fn does(this: AnyUserData, deed: Deed) -> mlua::Result<AnyUserData> {
    let (bench, nick) = {
        let user = this.borrow::<TestUser>()?;
        (Arc::clone(&user.bench), user.nick.clone())
    };
    bench.does(nick, deed).await;
    Ok(this)
}

fn lock(plan: &Mutex<Plan>) -> std::sync::MutexGuard<'_, Plan> {
    plan.lock().unwrap_or_else(PoisonError::into_inner)
}
