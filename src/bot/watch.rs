//! Watches files and says when they changed. The wake-ups are the system's, and a slow look of our own beside them,
//! because a wake-up can be missed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use masterchief_contract::Shutdown;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// How long files must be quiet before a change counts, so that an editor has finished writing.
const QUIET: Duration = Duration::from_millis(150);
/// How often to look without having been woken.
const LOOK: Duration = Duration::from_secs(10);
/// Wake-ups waiting; more of them say nothing more.
const WAKES: usize = 1;

/// What is known of a file: when it was written and how long it is.
type Mark = Option<(SystemTime, u64)>;

/// Watches folders (not those in them) until shutdown and calls `changed` with the paths that did. `list` names the files to
/// look at and is asked each time, so new files are seen.
pub async fn watch<L, C, F>(roots: Vec<PathBuf>, list: L, mut changed: C, mut shutdown: Shutdown)
where
    L: Fn() -> Vec<PathBuf>,
    C: FnMut(Vec<PathBuf>) -> F,
    F: Future<Output = ()>,
{
    let (wake, mut woken) = mpsc::channel(WAKES);
    // Both kept until the end: without the watcher there are no wake-ups, and without a sender the channel is closed,
    // which is no wake-up either.
    let _watcher = wake_on_change(&roots, wake.clone());
    let _wake = wake;
    let mut known = marks(&list());
    loop {
        tokio::select! {
            () = shutdown.recv() => return,
            _ = tokio::time::timeout(LOOK, woken.recv()) => {}
        }
        if let Some(paths) = settled(&list, &mut known, &mut shutdown).await {
            changed(paths).await;
        }
    }
}

/// The files that changed, once they have been quiet; nothing if none did or it is time to stop.
async fn settled(
    list: &impl Fn() -> Vec<PathBuf>,
    known: &mut BTreeMap<PathBuf, Mark>,
    shutdown: &mut Shutdown,
) -> Option<Vec<PathBuf>> {
    let mut now = marks(&list());
    if now == *known {
        return None;
    }
    loop {
        tokio::select! {
            () = shutdown.recv() => return None,
            () = tokio::time::sleep(QUIET) => {}
        }
        let later = marks(&list());
        if later == now {
            break;
        }
        now = later;
    }
    let mut paths: Vec<PathBuf> =
        now.iter().filter(|(path, mark)| known.get(*path) != Some(*mark)).map(|(path, _)| path.clone()).collect();
    paths.extend(known.keys().filter(|path| !now.contains_key(*path)).cloned());
    *known = now;
    (!paths.is_empty()).then_some(paths)
}

fn wake_on_change(roots: &[PathBuf], wake: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    let woken = move |event: notify::Result<notify::Event>| {
        // Our own reading is an event too; it must not wake us again.
        if event.is_ok_and(|event| event.kind.is_access()) {
            return;
        }
        // Full means that a wake-up is already waiting.
        let _ = wake.try_send(());
    };
    let mut watcher = match notify::recommended_watcher(woken) {
        Ok(watcher) => watcher,
        Err(fault) => {
            tracing::warn!(%fault, "No wake-ups for changed files: looking every ten seconds");
            return None;
        }
    };
    for root in roots {
        if let Err(fault) = watcher.watch(root, RecursiveMode::NonRecursive) {
            tracing::debug!(%fault, root = %root.display(), "No wake-ups for this folder: looking every ten seconds");
        }
    }
    Some(watcher)
}

fn marks(paths: &[PathBuf]) -> BTreeMap<PathBuf, Mark> {
    paths.iter().map(|path| (path.clone(), mark(path))).collect()
}

fn mark(path: &Path) -> Mark {
    let meta = path.metadata().ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_changed_a_new_and_a_deleted_file_are_told_once_each() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_owned();
        let (old, new) = (root.join("a.lua"), root.join("b.lua"));
        std::fs::write(&old, "1").unwrap();
        let (told, mut tell) = mpsc::channel(16);
        let (stopper, shutdown) = Shutdown::new();
        let list = {
            let root = root.clone();
            move || std::fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect()
        };
        let changed = move |paths| {
            let told = told.clone();
            async move { told.send(paths).await.unwrap() }
        };
        let task = tokio::spawn(watch(vec![root], list, changed, shutdown));
        tokio::time::sleep(Duration::from_millis(50)).await;
        std::fs::write(&old, "12").unwrap();
        assert_eq!(tell.recv().await.unwrap(), std::slice::from_ref(&old));
        std::fs::write(&new, "1").unwrap();
        assert_eq!(tell.recv().await.unwrap(), [new]);
        std::fs::remove_file(&old).unwrap();
        assert_eq!(tell.recv().await.unwrap(), [old]);
        stopper.stop();
        task.await.unwrap();
    }
}
