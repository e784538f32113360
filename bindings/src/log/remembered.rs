//! What is remembered of files that are not open: where each was, and how far it is in the journal.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use masterchief_contract::Positions;

use super::generation::Mark;
use super::rotation::beside;

/// The lane that says that the stream was read before.
pub(super) const BEGUN: &str = "begun";
/// How long a file that is gone is remembered, in seconds, and how many at most.
const REMEMBER: u64 = 24 * 3600;
const REMEMBER_MAX: usize = 10_000;
/// Files that are looked at for a copy of what was cut.
const COPIES: usize = 20;

/// Marks by lane.
#[derive(Default)]
pub(super) struct Remembered {
    marks: BTreeMap<String, Mark>,
    /// Lanes to be forgotten in the journal too.
    forget: Vec<String>,
}

/// Unix seconds.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Remembered {
    /// What stands in the journal.
    pub(super) fn of(positions: &Positions) -> Remembered {
        let mut out = Remembered::default();
        for (lane, text) in positions.iter().filter(|(lane, _)| *lane != BEGUN) {
            match serde_json::from_str::<Mark>(text) {
                Ok(mark) => {
                    out.marks.insert(lane.clone(), mark);
                }
                Err(fault) => {
                    tracing::error!(lane, %fault, "What is remembered of a log cannot be read; it is read from its beginning")
                }
            }
        }
        out
    }

    /// Takes what is remembered of a file, with its lane. What its device and inode were before, if that is not this file,
    /// was cut or deleted.
    pub(super) fn take(&mut self, file: &File, path: &Path, meta: &Metadata) -> Option<(String, Mark)> {
        let id = |mark: &Mark| !mark.cut && (mark.dev, mark.ino) == (meta.dev(), meta.ino());
        let known = self.marks.iter().find(|(_, mark)| id(mark) && mark.is(file, meta.len()));
        let known = known.or_else(|| {
            // The same path on another device (after a reboot, a restore), or moved there.
            let gone = |mark: &Mark| Path::new(&mark.path) == path || !Path::new(&mark.path).exists();
            let moved =
                |mark: &Mark| !id(mark) && (mark.cut || mark.is_telling() && gone(mark)) && mark.is(file, meta.len());
            self.marks.iter().find(|(_, mark)| moved(mark))
        });
        if let Some(lane) = known.map(|(lane, _)| lane.clone()) {
            return self.marks.remove_entry(&lane);
        }
        self.marks.values_mut().filter(|mark| id(mark)).for_each(|mark| mark.cut = true);
        None
    }

    /// The copy that holds what a file held before it was cut. `followed` tells what is open.
    pub(super) fn copy_of(
        &self,
        mark: &Mark,
        followed: impl Fn((u64, u64)) -> bool,
    ) -> Option<(PathBuf, File, Metadata)> {
        let found = beside(Path::new(&mark.path), UNIX_EPOCH).into_iter().rev().take(COPIES);
        let mut unknown = found.filter(|(_, meta)| {
            let id = (meta.dev(), meta.ino());
            !followed(id) && !self.marks.values().any(|mark| !mark.cut && (mark.dev, mark.ino) == id)
        });
        unknown.find_map(|(path, _)| {
            let file = File::open(&path).ok()?;
            let meta = file.metadata().ok()?;
            let is_it = mark.offset > 0 && !followed((meta.dev(), meta.ino())) && mark.is(&file, meta.len());
            is_it.then_some((path, file, meta))
        })
    }

    /// Remembers a file that is let go of. The oldest are forgotten where there are too many.
    pub(super) fn put(&mut self, lane: &str, mark: Mark) {
        self.marks.insert(lane.to_owned(), mark);
        let old = now().saturating_sub(REMEMBER);
        let mut ages: Vec<(u64, String)> = self.marks.iter().map(|(lane, mark)| (mark.seen, lane.clone())).collect();
        ages.sort();
        let over = ages.len().saturating_sub(REMEMBER_MAX);
        for (at, (seen, lane)) in ages.into_iter().enumerate() {
            if at < over || seen < old {
                self.drop(lane);
            }
        }
    }

    fn drop(&mut self, lane: String) {
        self.marks.remove(&lane);
        self.forget.push(lane);
    }

    /// The lanes that are to be forgotten in the journal.
    pub(super) fn forgotten(&mut self) -> Vec<String> {
        std::mem::take(&mut self.forget)
    }

    /// When any file was seen last.
    pub(super) fn last_seen(&self) -> Option<SystemTime> {
        self.marks.values().map(|mark| mark.seen).max().map(|seen| UNIX_EPOCH + Duration::from_secs(seen))
    }

    /// Files with something unread that are called something else now, beside where they were.
    pub(super) fn renamed(&self) -> Vec<PathBuf> {
        let mut folders: Vec<&Path> = self.marks.values().filter_map(|mark| Path::new(&mark.path).parent()).collect();
        folders.sort();
        folders.dedup();
        let mut out = Vec::new();
        for entry in folders.into_iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            // The number of a file that is gone is given to another at once: what it holds must be known too.
            let unread = |mark: &Mark| {
                let same = (mark.dev, mark.ino) == (meta.dev(), meta.ino()) && meta.len() > mark.offset;
                same && !mark.cut && File::open(entry.path()).is_ok_and(|file| mark.is(&file, meta.len()))
            };
            if meta.is_file() && self.marks.values().any(unread) {
                out.push(entry.path());
            }
        }
        out
    }
}
