//! A script: one file, one VM, one task. Loaded as a whole or not at all.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use masterchief_contract::{BindId, Event, HandlerError, HandlerResult, Value};
use mlua::{Function, Lua};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};

use super::handler::{Entry, failure};
use super::limits::{Limited, Limits};
use super::services::Services;
use super::vm::{Current, Vm, read_source};
use super::{event, value};
use crate::dispatch::NewBind;

/// Bytes of a script's SHA-256 that name its version.
const VERSION: usize = 4;
/// Calls that may wait for a script.
const JOBS: usize = 1024;
/// How long `on_load` and `on_unload` may take.
const HOOK: Duration = Duration::from_secs(5);

/// Where a script's task runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// On a thread of its own, so that nothing it does holds up anybody else.
    Thread,
    /// On the runtime that loads it. For tests under a paused clock.
    Local,
}

/// Why a script was not loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", if message.starts_with(script.as_str()) { String::new() } else { format!("{script}: ") })]
pub struct LoadError {
    /// The file's name.
    pub script: String,
    /// What is wrong, with the line where there is one.
    pub message: String,
}

/// What a script's task is asked.
pub(super) enum Job {
    /// Call a handler.
    Call { entry: Arc<Entry>, event: Event, answer: oneshot::Sender<HandlerResult> },
    /// Run what is to run once the script is loaded.
    Begin { carried: Option<Value>, answer: oneshot::Sender<Result<(), String>> },
    /// Run what is to run before it goes, and give what the next version is to have.
    Unload { answer: oneshot::Sender<Option<Value>> },
}

/// A loaded script.
pub struct Script {
    name: String,
    path: PathBuf,
    vm: Arc<Vm>,
    limits: Arc<Limits>,
    meters: Arc<Meters>,
    jobs: mpsc::Sender<Job>,
    ended: oneshot::Receiver<()>,
}

#[derive(Debug, Default)]
struct Meters {
    memory: AtomicUsize,
    running: AtomicU64,
}

/// How a script is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ScriptStatus {
    /// The file's name.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// Binds it declared and has not taken away.
    pub binds: usize,
    /// Bytes its VM holds.
    pub memory: usize,
    /// Calls that run now.
    pub running: u64,
    /// Calls so far.
    pub calls: u64,
    /// Calls that ended in a fault.
    pub faults: u64,
}

/// A VM ready to run, and what was declared.
struct Ready {
    lua: Lua,
    vm: Arc<Vm>,
    limits: Arc<Limits>,
}

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Script {
    /// Loads a file: a new VM, its top level run, its binds checked. Nothing has happened outside of it yet.
    pub async fn load(path: &Path, services: &Services, placement: Placement) -> Result<Script, LoadError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let refused = |message: String| LoadError { script: name.clone(), message };
        let source = read_source(path).map_err(|fault| refused(fault.to_string()))?;
        let (jobs, from) = mpsc::channel(JOBS);
        let version: String = Sha256::digest(&source).iter().take(VERSION).map(|byte| format!("{byte:02x}")).collect();
        let vm = Vm::new(&name, &version, services, jobs.downgrade());
        let meters = Arc::<Meters>::default();
        let (ready, loaded) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let task = {
            let meters = Arc::clone(&meters);
            async move {
                match prepare(vm, source).await {
                    Err(message) => {
                        // Whoever loads has gone away: then nobody needs to know.
                        let _ = ready.send(Err(message));
                    }
                    Ok(Ready { lua, vm, limits }) => {
                        if ready.send(Ok((Arc::clone(&vm), limits.clone()))).is_ok() {
                            serve(&lua, &vm, &limits, from, &meters).await;
                        }
                    }
                }
                let _ = end.send(());
            }
        };
        match placement {
            Placement::Local => drop(tokio::spawn(task)),
            Placement::Thread => on_a_thread(&name, task).map_err(|fault| refused(fault.to_string()))?,
        }
        let gone = || refused("the script's thread ended while it was loaded".to_owned());
        let (vm, limits) = loaded.await.map_err(|_| gone())?.map_err(refused)?;
        Ok(Script { path: path.to_owned(), vm, limits, meters, jobs, ended, name })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs its `bot.on_load` functions, with what the version before left for it in `bot.carried`.
    pub async fn begin(&self, carried: Option<Value>) -> Result<(), LoadError> {
        let refused = |message: &str| LoadError { script: self.name.clone(), message: message.to_owned() };
        let (answer, answered) = oneshot::channel();
        if self.jobs.send(Job::Begin { carried, answer }).await.is_err() {
            return Err(refused("the script has ended"));
        }
        match tokio::time::timeout(HOOK, answered).await {
            Ok(Ok(result)) => result.map_err(|message| refused(&message)),
            Ok(Err(_)) => Err(refused("the script has ended")),
            Err(_) => Err(refused(&format!("bot.on_load took longer than {HOOK:?}"))),
        }
    }

    /// The same for one that serves already and was told to let go. What it binds meanwhile is bound already.
    pub async fn begin_again(&self, carried: Option<Value>) -> Result<(), LoadError> {
        self.vm.bound.store(false, Ordering::Relaxed);
        let begun = self.begin(carried).await;
        self.vm.bound.store(true, Ordering::Relaxed);
        self.vm.declared().binds.clear();
        begun
    }

    /// What it has declared so far, in `bot.on_load` too.
    pub fn declared(&self) -> Vec<NewBind> {
        self.vm.declared().binds.iter().flatten().cloned().collect()
    }

    /// It is about to be replaced: it may bind nothing more.
    pub fn retire(&self) {
        self.vm.retired.store(true, Ordering::Relaxed);
    }

    /// Its binds are in the table, under these numbers.
    pub fn bound(&self, ids: Vec<BindId>) {
        self.vm.bound.store(true, Ordering::Relaxed);
        let mut declared = self.vm.declared();
        let mut ids = ids.into_iter();
        let given = declared.binds.iter().map(|bind| bind.as_ref().and_then(|_| ids.next())).collect();
        declared.ids = given;
        declared.binds.clear();
    }

    /// Runs its `bot.on_unload` functions; gives what the next version is to have.
    pub async fn carried(&self) -> Option<Value> {
        let (answer, answered) = oneshot::channel();
        self.jobs.send(Job::Unload { answer }).await.ok()?;
        tokio::time::timeout(HOOK, answered).await.ok()?.ok()?
    }

    /// Lets it finish what was begun, at most for `grace`, and ends it.
    pub async fn stop(self, grace: Duration) {
        let Script { name, jobs, mut ended, limits, vm, .. } = self;
        vm.retired.store(true, Ordering::Relaxed);
        vm.services.asks.end(Arc::as_ptr(&vm) as usize);
        // The binds that are gone hold the other senders; when the last call is over, the script ends by itself.
        drop(jobs);
        vm.declared().binds.clear();
        drop(vm);
        if tokio::time::timeout(grace, &mut ended).await.is_err() {
            tracing::warn!(script = %name, ?grace, "A script is ended while calls still run");
            limits.kill();
        }
    }

    /// How it is doing.
    pub fn status(&self) -> ScriptStatus {
        ScriptStatus {
            name: self.name.clone(),
            path: self.path.clone(),
            binds: self.vm.declared().ids.iter().flatten().count(),
            memory: self.meters.memory.load(Ordering::Relaxed),
            running: self.meters.running.load(Ordering::Relaxed),
            calls: self.vm.calls.load(Ordering::Relaxed),
            faults: self.vm.faults.load(Ordering::Relaxed),
        }
    }
}

fn on_a_thread(name: &str, task: impl Future<Output = ()> + Send + 'static) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // The thread is waited for through `ended`.
    std::thread::Builder::new().name(name.to_owned()).spawn(move || runtime.block_on(task))?;
    Ok(())
}

/// Makes the VM and runs the top level.
async fn prepare(vm: Arc<Vm>, source: String) -> Result<Ready, String> {
    let memory = vm.limits.memory;
    let said = |fault: mlua::Error| match root(&fault) {
        mlua::Error::MemoryError(_) => format!("it needs more than {memory} bytes; raise scripts.limits.memory"),
        _ => told(&fault),
    };
    let (lua, limits) = vm.state().map_err(said)?;
    let chunk = lua.load(source).set_name(format!("={}", vm.name)).into_function().map_err(said)?;
    let top = Limited::new(Box::pin(chunk.call_async::<()>(())), &limits);
    match tokio::time::timeout(vm.limits.load, top).await {
        Ok(done) => done.map_err(said)?,
        Err(_elapsed) => {
            return Err(format!("its top level took longer than {:?}", vm.limits.load));
        }
    }
    vm.loading.store(false, Ordering::Relaxed);
    Ok(Ready { lua, vm, limits })
}

/// Runs jobs until nobody can send one any more and the last has ended.
async fn serve(lua: &Lua, vm: &Arc<Vm>, limits: &Arc<Limits>, mut jobs: mpsc::Receiver<Job>, meters: &Meters) {
    let mut running: FuturesUnordered<Running> = FuturesUnordered::new();
    let mut open = true;
    meters.memory.store(lua.used_memory(), Ordering::Relaxed);
    while open || !running.is_empty() {
        tokio::select! {
            biased;
            Some(()) = running.next(), if !running.is_empty() => {}
            job = jobs.recv(), if open => match job {
                None => open = false,
                Some(job) => {
                    let mut call = start(lua, vm, limits, job);
                    // Most calls never wait, and then need no place among the waiting.
                    if std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_pending())).await {
                        running.push(call);
                    }
                }
            }
        }
        meters.running.store(running.len() as u64, Ordering::Relaxed);
        tidy_memory(lua, vm, meters);
    }
}

/// Luau collects nothing in an emergency, so it is done before there is one.
fn tidy_memory(lua: &Lua, vm: &Arc<Vm>, meters: &Meters) {
    let used = lua.used_memory();
    meters.memory.store(used, Ordering::Relaxed);
    if used > vm.limits.memory / 4 * 3 {
        // It can fail only in a finaliser, and scripts have none.
        let _ = lua.gc_collect();
        meters.memory.store(lua.used_memory(), Ordering::Relaxed);
    }
}

fn start(lua: &Lua, vm: &Arc<Vm>, limits: &Arc<Limits>, job: Job) -> Running {
    let (lua, vm, limits) = (lua.clone(), Arc::clone(vm), Arc::clone(limits));
    match job {
        Job::Call { entry, event, mut answer } => Box::pin(async move {
            vm.calls.fetch_add(1, Ordering::Relaxed);
            let current = Current::of(&event);
            let call =
                On { vm: Arc::clone(&vm), current, call: Limited::new(Box::pin(call(&lua, entry, event)), &limits) };
            let result = tokio::select! {
                biased;
                result = call => result,
                // Nobody waits for it any more: its time is over.
                () = answer.closed() => return,
            };
            if matches!(result, Err(HandlerError::Internal(_))) {
                vm.faults.fetch_add(1, Ordering::Relaxed);
            }
            let _ = answer.send(result);
        }),
        Job::Begin { carried, mut answer } => Box::pin(async move {
            tokio::select! {
                begun = begin(&lua, &vm, &limits, carried) => drop(answer.send(begun)),
                () = answer.closed() => {}
            }
        }),
        Job::Unload { mut answer } => Box::pin(async move {
            tokio::select! {
                left = unload(&lua, &vm, &limits) => drop(answer.send(left)),
                () = answer.closed() => {}
            }
        }),
    }
}

async fn call(lua: &Lua, entry: Arc<Entry>, event: Event) -> HandlerResult {
    let result = async {
        let ev = event::value(lua, &event)?;
        entry.function.call_async::<mlua::Value>(ev).await
    };
    match result.await {
        Ok(returned) => {
            value::outcome(lua, returned).map_err(|words| HandlerError::internal(format!("{}: {words}", entry.origin)))
        }
        Err(fault) => {
            if matches!(root(&fault), mlua::Error::MemoryError(_)) {
                let _ = lua.gc_collect();
            }
            Err(failure(&fault))
        }
    }
}

async fn begin(lua: &Lua, vm: &Arc<Vm>, limits: &Arc<Limits>, carried: Option<Value>) -> Result<(), String> {
    let said = |fault: mlua::Error| told(&fault);
    if let Some(carried) = carried {
        let carried = value::from_json(lua, &carried).map_err(said)?;
        // The module is read-only for the script, not for us.
        let bot: mlua::Table = lua.globals().get("bot").map_err(said)?;
        bot.set_readonly(false);
        bot.raw_set("carried", carried).map_err(said)?;
        bot.set_readonly(true);
    }
    let hooks: Vec<Function> = vm.declared().on_load.clone();
    for hook in hooks {
        Limited::new(Box::pin(hook.call_async::<()>(())), limits).await.map_err(said)?;
    }
    Ok(())
}

async fn unload(lua: &Lua, vm: &Arc<Vm>, limits: &Arc<Limits>) -> Option<Value> {
    let hooks: Vec<Function> = vm.declared().on_unload.clone();
    let mut carried = None;
    for hook in hooks {
        match Limited::new(Box::pin(hook.call_async::<mlua::Value>(())), limits).await {
            Ok(mlua::Value::Nil) => {}
            Ok(left) => match value::json(lua, "what bot.on_unload returns", left) {
                Ok(left) => carried = Some(left),
                Err(fault) => tracing::error!(script = %vm.name, %fault, "Nothing is carried over"),
            },
            Err(fault) => tracing::error!(script = %vm.name, %fault, "bot.on_unload failed"),
        }
    }
    carried
}

/// A fault in one paragraph: without the traceback where it only repeats the message.
pub(super) fn told(fault: &mlua::Error) -> String {
    let text = match root(fault) {
        mlua::Error::SyntaxError { message, .. } => message.clone(),
        mlua::Error::RuntimeError(message) => message.clone(),
        other => other.to_string(),
    };
    let line = match fault {
        mlua::Error::CallbackError { traceback, .. } => position(traceback),
        _ => None,
    };
    let text = text.split("\nstack traceback").next().unwrap_or(&text).trim().to_owned();
    match line {
        Some(line) if !text.contains(&line) => format!("{line}: {text}"),
        _ => text,
    }
}

fn root(fault: &mlua::Error) -> &mlua::Error {
    match fault {
        mlua::Error::CallbackError { cause, .. } | mlua::Error::WithContext { cause, .. } => root(cause),
        other => other,
    }
}

/// The first place in a traceback that is a script's: `deploy.lua:12`.
fn position(traceback: &str) -> Option<String> {
    traceback.lines().find_map(|line| {
        let word = line.split_whitespace().next()?;
        let (file, rest) = word.split_once(':')?;
        let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
        (file.ends_with(".lua") && !number.is_empty()).then(|| format!("{file}:{number}"))
    })
}

/// A call that says, whenever it runs, what it is about.
struct On<F> {
    vm: Arc<Vm>,
    current: Current,
    call: F,
}

impl<F: Future + Unpin> Future for On<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<F::Output> {
        self.vm.set_current(&self.current);
        Pin::new(&mut self.call).poll(cx)
    }
}
