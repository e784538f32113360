//! The scripts that run: loading, reloading all-or-nothing, and letting the old version finish.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Mutex;

use super::own::tell_of_script;
use super::policy::Policy;
use crate::dispatch::{BindTable, NewBind};
use crate::lua::{LoadError, Placement, Script, ScriptStatus, Services};

/// How long an old version may take to finish its calls after a reload.
const DRAIN: Duration = Duration::from_secs(60);
/// What a script test's name ends with; such a file is not a script of the bot.
const TEST_SUFFIX: &str = "_test.lua";

/// The scripts of one folder. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Scripts {
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    services: Services,
    table: BindTable,
    placement: Placement,
    /// What a version must not break, once all are there.
    policy: OnceLock<Policy>,
    /// By name. Held over a reload, so that two reloads of one script do not cross.
    running: Mutex<BTreeMap<String, Script>>,
}

/// What came of looking at the folder.
#[derive(Debug, Default)]
pub struct Reloaded {
    /// Scripts that serve in a new version.
    pub loaded: Vec<String>,
    /// Scripts that are gone.
    pub removed: Vec<String>,
    /// Scripts that could not be loaded. Where there was an old version, it still serves.
    pub failed: Vec<LoadError>,
}

impl Scripts {
    /// No script is loaded yet.
    pub(crate) fn new(folder: PathBuf, services: Services, table: BindTable, placement: Placement) -> Scripts {
        let inner = Inner { folder, services, table, placement, policy: OnceLock::new(), running: Mutex::default() };
        Scripts { inner: Arc::new(inner) }
    }

    /// From now on no version is taken that breaks the policy.
    pub(crate) fn guard(&self, policy: Policy) {
        let judge = policy.clone();
        self.inner.services.guard.set(move |index| judge.holds_for(index).map_err(|broken| broken.to_string()));
        // Told once, at the start.
        let _ = self.inner.policy.set(policy);
    }

    /// Whether these binds may take the place of those the script has.
    fn may_take(&self, name: &str, binds: &[NewBind]) -> Result<(), LoadError> {
        let Some(policy) = self.inner.policy.get() else { return Ok(()) };
        let held = policy.holds_for(&self.inner.table.with(name, binds.to_vec()));
        held.map_err(|broken| LoadError { script: name.to_owned(), message: broken.to_string() })
    }

    /// Loads every script of the folder anew, and takes away those whose file is gone.
    pub(crate) async fn reload_all(&self) -> Reloaded {
        let files = script_files(&self.inner.folder);
        let mut report = Reloaded::default();
        if let Err(fault) = std::fs::read_dir(&self.inner.folder) {
            // A folder that cannot be looked into is not an empty one: what runs goes on.
            if !self.inner.running.lock().await.is_empty() {
                let script = self.inner.folder.display().to_string();
                report.failed.push(LoadError { script, message: fault.to_string() });
            }
            return report;
        }
        let names: BTreeSet<String> = files.iter().map(|path| script_name(path)).collect();
        let gone: Vec<String> = {
            let running = self.inner.running.lock().await;
            running.keys().filter(|name| !names.contains(*name)).cloned().collect()
        };
        for name in gone {
            self.remove(&name).await;
            report.removed.push(name);
        }
        for path in files {
            self.reload_into(&path, &mut report).await;
        }
        report
    }

    /// Reloads the scripts among these files; a library under `lib/` concerns all of them.
    pub(crate) async fn reload_changed(&self, paths: &[PathBuf]) -> Reloaded {
        let is_script = |path: &PathBuf| path.parent() == Some(&*self.inner.folder) && is_script(path);
        if paths.iter().any(|path| !is_script(path) && !path.to_string_lossy().ends_with(TEST_SUFFIX)) {
            return self.reload_all().await;
        }
        let mut report = Reloaded::default();
        for path in paths.iter().filter(|path| is_script(path)) {
            let name = script_name(path);
            if !path.exists() {
                self.remove(&name).await;
                report.removed.push(name);
                continue;
            }
            self.reload_into(path, &mut report).await;
        }
        report
    }

    /// Loads the script of this name; nothing if the folder has none.
    pub(crate) async fn reload_named(&self, name: &str) -> Option<Reloaded> {
        let path = script_files(&self.inner.folder).into_iter().find(|path| script_name(path) == name)?;
        let mut report = Reloaded::default();
        self.reload_into(&path, &mut report).await;
        Some(report)
    }

    /// Loads one script and notes what came of it.
    pub(crate) async fn reload_into(&self, path: &Path, report: &mut Reloaded) {
        match self.reload(path).await {
            Ok(()) => report.loaded.push(script_name(path)),
            Err(fault) => report.failed.push(fault),
        }
    }

    /// Loads one script: a new VM, its binds collected and checked, then swapped in at once. A fault leaves the
    /// version before it serving.
    pub(crate) async fn reload(&self, path: &Path) -> Result<(), LoadError> {
        let name = script_name(path);
        let mut running = self.inner.running.lock().await;
        let script = Script::load(path, &self.inner.services, self.inner.placement).await?;
        let carried = match running.get(&name) {
            Some(old) => old.carried().await,
            None => None,
        };
        let begun = script.begin(carried.clone()).await;
        if let Err(fault) = begun.and_then(|()| self.may_take(&name, &script.declared())) {
            script.stop(Duration::ZERO).await;
            if let Some(old) = running.get(&name)
                && let Err(again) = old.begin_again(carried).await
            {
                // It has let go of what it held, and goes on all the same.
                tracing::error!(fault = %again, "The version before serves on, but could not begin again");
            }
            return Err(fault);
        }
        if let Some(old) = running.get(&name) {
            old.retire();
        }
        let binds = script.declared();
        let count = binds.len();
        script.bound(self.inner.table.replace(&name, binds));
        let old = running.insert(name.clone(), script);
        drop(running);
        tracing::info!(script = %name, binds = count, "Script loaded");
        tell_of_script(&self.inner.services.inlet, &self.inner.services.clock, &name, true);
        for row in self.inner.table.rows().iter().filter(|row| row.shadowed && *row.owner == *name) {
            tracing::warn!(script = %name, kind = %row.kind, mask = %row.mask, "Bound again later: the later one serves, and this one only if that passes");
        }
        if let Some(old) = old {
            tokio::spawn(async move { old.stop(DRAIN).await });
        }
        Ok(())
    }

    /// Takes a script away.
    pub(crate) async fn remove(&self, name: &str) {
        let mut running = self.inner.running.lock().await;
        let old = running.remove(name);
        self.inner.table.remove(name);
        drop(running);
        if let Some(old) = old {
            tracing::info!(script = %name, "Script removed");
            tell_of_script(&self.inner.services.inlet, &self.inner.services.clock, name, false);
            tokio::spawn(async move {
                // Nobody gets what it leaves behind.
                let _ = old.carried().await;
                old.stop(DRAIN).await;
            });
        }
    }

    /// Ends all of them, each within `grace`.
    pub(crate) async fn stop(&self, grace: Duration) {
        let all = std::mem::take(&mut *self.inner.running.lock().await);
        // All at once, so that many slow ones take no longer than one.
        let stopping = all.into_values().map(|script| async move {
            let _ = tokio::time::timeout(grace, script.carried()).await;
            script.stop(grace).await;
        });
        futures_util::future::join_all(stopping).await;
    }

    /// How each is doing.
    pub(crate) async fn status(&self) -> Vec<ScriptStatus> {
        self.inner.running.lock().await.values().map(Script::status).collect()
    }

    /// The folder and the files in it that matter, for whoever watches them.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut files = script_files(&self.inner.folder);
        files.extend(lua_files(&self.inner.folder.join("lib")));
        files
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.inner.folder
    }
}

/// The scripts of a folder, by name.
pub fn script_files(folder: &Path) -> Vec<PathBuf> {
    lua_files(folder).into_iter().filter(|path| is_script(path)).collect()
}

/// The script tests of a folder, by name.
pub fn test_files(folder: &Path) -> Vec<PathBuf> {
    lua_files(folder).into_iter().filter(|path| path.to_string_lossy().ends_with(TEST_SUFFIX)).collect()
}

fn lua_files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "lua") && path.is_file());
    files.sort();
    files
}

fn is_script(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".lua") && !name.ends_with(TEST_SUFFIX) && !name.starts_with('.')
}

/// `deploy.lua` is the script `deploy.lua`.
fn script_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
