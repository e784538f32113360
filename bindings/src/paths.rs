//! Paths with patterns, and wake-ups when something in their folders changes.

use std::collections::BTreeSet;
use std::fs::DirEntry;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use globset::{GlobBuilder, GlobMatcher};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// Folders that are walked for one pattern at most.
const FOLDERS_MAX: usize = if cfg!(test) { 100 } else { 10_000 };

/// A path that may hold `*`, `?`, `[a-z]`, `{a,b}` and `**`.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    text: String,
    matcher: GlobMatcher,
    /// The folder before the first wildcard.
    root: PathBuf,
    plain: bool,
    recursive: bool,
    /// Whether there are more folders than are walked, and that was told.
    told: Arc<AtomicBool>,
}

/// What a look at folders gave.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    pub(crate) files: Vec<PathBuf>,
    /// Folders, and paths, of which nobody can say what is there, and why: a folder that cannot be listed is not an empty one.
    unknown: Vec<(PathBuf, String)>,
    /// Whether there are more folders than are walked. Another time others may be beyond the bound.
    beyond: bool,
}

impl Listed {
    /// Whether this folder could be looked at, and those below it, as far as they are walked.
    pub(crate) fn saw(&self, path: &Path) -> bool {
        !self.unknown.iter().any(|(unknown, _)| path.starts_with(unknown))
    }

    /// Whether a file that is not among those it has is gone, as far as anybody can say.
    pub(crate) fn is_gone(&self, path: &Path) -> bool {
        // Where not all is walked, not to be among them says nothing.
        self.saw(path) && (!self.beyond || path.metadata().is_err_and(|fault| is_absent(&fault)))
    }

    /// Why somebody should look, if that is so.
    pub(crate) fn doubt(&self) -> Option<String> {
        let Some((path, why)) = self.unknown.first() else { return self.beyond.then(too_many) };
        Some(format!("{} cannot be looked at, so nothing below it counts as gone: {why}", path.display()))
    }
}

/// What is in a folder. One that is gone since its parent was listed is empty; the first one is missing.
fn entries(folder: &Path, first: bool, unknown: &mut Vec<(PathBuf, String)>) -> Vec<DirEntry> {
    let mut failed = |fault: io::Error| {
        if first || fault.kind() != ErrorKind::NotFound {
            unknown.push((folder.to_owned(), fault.to_string()));
        }
    };
    let mut out = Vec::new();
    match std::fs::read_dir(folder) {
        Err(fault) => failed(fault),
        Ok(entries) => {
            for entry in entries {
                match entry {
                    Ok(entry) => out.push(entry),
                    Err(fault) => failed(fault),
                }
            }
        }
    }
    out
}

/// Whether a fault says that there is no such path.
fn is_absent(fault: &io::Error) -> bool {
    matches!(fault.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// What is told of more folders than are walked.
fn too_many() -> String {
    format!("more than {FOLDERS_MAX} folders: files in the others are not seen; name a folder nearer to them")
}

fn absent(path: &Path, fault: &io::Error) -> String {
    match fault.kind() {
        ErrorKind::NotFound => {
            format!("{} is not there; it is read once it is, or put the path right", path.display())
        }
        _ => format!("{}: {fault}", path.display()),
    }
}

impl Pattern {
    /// Reads a pattern; a fault is one sentence.
    pub(crate) fn parse(text: &str) -> Result<Pattern, String> {
        if !text.starts_with('/') {
            return Err("a path begins with /".to_owned());
        }
        let glob = GlobBuilder::new(text).literal_separator(true).build().map_err(|fault| fault.kind().to_string())?;
        let wild = |part: &str| part.contains(['*', '?', '[', '{']);
        let plain = !wild(text);
        let parts = Path::new(text).components();
        let fixed: PathBuf = parts
            .take_while(|part| !matches!(part, Component::Normal(name) if wild(&name.to_string_lossy())))
            .collect();
        let root = if plain { fixed.parent().map(Path::to_owned).unwrap_or(fixed) } else { fixed };
        Ok(Pattern {
            text: text.to_owned(),
            matcher: glob.compile_matcher(),
            root,
            plain,
            recursive: text.contains("**"),
            told: Arc::default(),
        })
    }

    /// The files it names now.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.listed().files
    }

    /// The files it names now, and what could not be looked at.
    pub(crate) fn listed(&self) -> Listed {
        let mut listed = Listed::default();
        if self.plain {
            let path = PathBuf::from(&self.text);
            match path.try_exists() {
                Ok(true) => listed.files.push(path),
                // Without its folder nobody can say whether it is gone.
                Ok(false) if self.root.is_dir() => {}
                Ok(false) => listed.unknown.push((path, "its folder is not there".to_owned())),
                Err(fault) => listed.unknown.push((path, fault.to_string())),
            }
            return listed;
        }
        let folders = self.walk(&mut listed);
        for folder in &folders {
            for entry in entries(folder, *folder == self.root, &mut listed.unknown) {
                let path = entry.path();
                if !self.matcher.is_match(&path) {
                    continue;
                }
                match path.metadata() {
                    Ok(meta) if meta.is_file() => listed.files.push(path),
                    Ok(_) => {}
                    Err(fault) if fault.kind() == ErrorKind::NotFound => {}
                    Err(fault) => listed.unknown.push((path, fault.to_string())),
                }
            }
        }
        listed.files.sort();
        listed
    }

    /// The paths that its files have, also if the one that it names is not there now.
    pub(crate) fn named(&self) -> Vec<PathBuf> {
        if self.plain { vec![PathBuf::from(&self.text)] } else { self.files() }
    }

    /// Why there can be no file by it, if that is so.
    pub(crate) fn missing_folder(&self) -> Option<String> {
        // Who names one file need not be able to list what is beside it.
        let looked = if self.plain { self.root.metadata().map(drop) } else { std::fs::read_dir(&self.root).map(drop) };
        looked.err().map(|fault| absent(&self.root, &fault))
    }

    /// The same, where the one file that it may name is to be there.
    pub(crate) fn missing(&self) -> Option<String> {
        if !self.plain {
            return self.missing_folder();
        }
        let path = Path::new(&self.text);
        match path.metadata() {
            Ok(meta) if meta.is_file() => None,
            Ok(_) => Some(format!("{} is no file; name the file, or those in it with /*", self.text)),
            Err(fault) => Some(absent(path, &fault)),
        }
    }

    /// The folder before its first wildcard.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Whether it names this path.
    pub(crate) fn is_match(&self, path: &Path) -> bool {
        if self.plain { Path::new(&self.text) == path } else { self.matcher.is_match(path) }
    }

    /// The folders its files may be in, as far as they exist.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        self.walk(&mut Listed::default())
    }

    /// The same; what cannot be listed, and whether there are more, is noted.
    fn walk(&self, listed: &mut Listed) -> Vec<PathBuf> {
        let deep = if self.plain { 0 } else { self.depth() };
        let mut out = vec![self.root.clone()];
        let mut level = vec![self.root.clone()];
        for _ in 0..deep {
            let mut next = Vec::new();
            for folder in level {
                for entry in entries(&folder, folder == self.root, &mut listed.unknown) {
                    match entry.file_type() {
                        Ok(kind) if kind.is_dir() => {}
                        // Links to folders are not followed: they may go round in circles.
                        Ok(_) => continue,
                        Err(fault) => {
                            listed.unknown.push((entry.path(), fault.to_string()));
                            continue;
                        }
                    }
                    if out.len() >= FOLDERS_MAX {
                        self.tell_too_many();
                        listed.beyond = true;
                        return out;
                    }
                    out.push(entry.path());
                    next.push(entry.path());
                }
            }
            if next.is_empty() {
                break;
            }
            level = next;
        }
        out
    }

    fn tell_too_many(&self) {
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::error!(
                pattern = %self.text,
                "There are more than {FOLDERS_MAX} folders; files in the others are not seen. Name a folder nearer to them"
            );
        }
    }

    /// What is to be told of it: that there are more folders than are walked.
    pub(crate) fn doubt(&self) -> Option<String> {
        let told = self.told.load(Ordering::Relaxed);
        told.then(too_many)
    }

    /// How many folders below the root its files may be.
    fn depth(&self) -> usize {
        if self.recursive {
            return 64;
        }
        let all = Path::new(&self.text).components().count();
        (all - self.root.components().count()).saturating_sub(1)
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// Tells that something changed. It may be wrong in both directions: whoever uses it also looks without it.
pub(crate) struct Wake {
    state: Arc<(AtomicBool, Notify)>,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
}

impl Wake {
    /// Watches these folders.
    pub(crate) fn new(folders: &[PathBuf]) -> Wake {
        let state = Arc::<(AtomicBool, Notify)>::default();
        let told = Arc::clone(&state);
        let woken = move |event: notify::Result<notify::Event>| {
            // Our own reading is an event too; it must not wake us again.
            if event.is_ok_and(|event| event.kind.is_access() && !closed_after_writing(&event)) {
                return;
            }
            told.0.store(true, Ordering::Release);
            told.1.notify_one();
        };
        let watcher = notify::recommended_watcher(woken)
            .inspect_err(
                |fault| tracing::warn!(%fault, "No wake-ups for changed files; they are looked at regularly instead"),
            )
            .ok();
        let mut wake = Wake { state, watcher, watched: BTreeSet::new() };
        wake.watch(folders);
        wake
    }

    /// Watches these folders, and no others.
    pub(crate) fn watch(&mut self, folders: &[PathBuf]) {
        let Some(watcher) = &mut self.watcher else { return };
        let wanted: BTreeSet<PathBuf> = folders.iter().cloned().collect();
        for gone in self.watched.difference(&wanted) {
            // A folder that is gone is not watched any more in any case.
            let _ = watcher.unwatch(gone);
        }
        for new in wanted.difference(&self.watched) {
            if let Err(fault) = watcher.watch(new, RecursiveMode::NonRecursive) {
                tracing::debug!(%fault, folder = %new.display(), "No wake-ups for this folder");
            }
        }
        self.watched = wanted.into_iter().filter(|folder| folder.exists()).collect();
    }

    /// Whether something happened since the last time this was asked.
    pub(crate) fn take(&self) -> bool {
        self.state.0.swap(false, Ordering::AcqRel)
    }

    /// Waits for something to happen, at most this long.
    pub(crate) async fn wait(&self, most: Duration) {
        // Whether it happened or not: the caller looks.
        let _ = tokio::time::timeout(most, self.state.1.notified()).await;
    }
}

fn closed_after_writing(event: &notify::Event) -> bool {
    use notify::event::{AccessKind, AccessMode};
    matches!(event.kind, notify::EventKind::Access(AccessKind::Close(AccessMode::Write)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_finds_its_files_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for name in ["a.json", "b.csv", "deep/c.json", "deep/er/d.json", "deep/er/e.txt"] {
            std::fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            std::fs::write(root.join(name), "").unwrap();
        }
        let found = |pattern: &str| {
            let pattern = Pattern::parse(&format!("{}/{pattern}", root.display())).unwrap();
            let names = pattern.files().into_iter().map(|path| path.strip_prefix(root).unwrap().display().to_string());
            names.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(found("*.json"), "a.json");
        assert_eq!(found("a.json"), "a.json");
        assert_eq!(found("[!b]*.{json,csv}"), "a.json");
        assert_eq!(found("**/*.json"), "a.json deep/c.json deep/er/d.json");
        assert_eq!(found("*/*.{json,txt}"), "deep/c.json");
        assert_eq!(found("deep/**/*.txt"), "deep/er/e.txt");
        assert!(Pattern::parse("data/*.json").is_err());
        assert!(Pattern::parse("/data/[").is_err());
    }

    #[test]
    fn that_there_are_more_folders_than_are_walked_is_told() {
        let dir = tempfile::tempdir().unwrap();
        (0..FOLDERS_MAX).for_each(|number| std::fs::create_dir(dir.path().join(number.to_string())).unwrap());
        let pattern = Pattern::parse(&format!("{}/**/*.json", dir.path().display())).unwrap();
        assert_eq!(pattern.doubt(), None);
        assert_eq!(pattern.folders().len(), FOLDERS_MAX);
        assert!(pattern.doubt().unwrap().contains("not seen"));
    }
}
