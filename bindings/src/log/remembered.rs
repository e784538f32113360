//! What is remembered of files that are not open: where each was, and how far it is in the journal.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use masterchief_contract::Positions;

use super::generation::{Generation, Mark};
use super::lines::Lines;
use super::rotation::{beside, is_beside};

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
    /// When any file was seen last before we began.
    seen: Option<u64>,
}

/// Unix seconds.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Remembered {
    /// What stands in the journal.
    pub(super) fn of(positions: &Positions) -> Remembered {
        let seen = positions.get(BEGUN).and_then(|text| text.parse().ok());
        let mut out = Remembered { seen, ..Remembered::default() };
        for (lane, text) in positions.iter().filter(|(lane, _)| *lane != BEGUN) {
            match serde_json::from_str::<Mark>(text) {
                Ok(mut mark) => {
                    out.seen = out.seen.max(Some(mark.seen));
                    // What is not there for a while is not forgotten because it was quiet before.
                    mark.seen = now();
                    out.marks.insert(lane.clone(), mark);
                }
                Err(fault) => {
                    tracing::error!(lane, %fault, "What is remembered of a log cannot be read; it is read from its beginning")
                }
            }
        }
        out
    }

    /// What is remembered of a file, with its lane if it goes on with that; a copy of another begins where that one is, in a
    /// lane of its own. What its device and inode were before, if that is not this file, was cut or deleted.
    pub(super) fn take(&mut self, file: &File, path: &Path, meta: &Metadata) -> Option<(Option<String>, Mark)> {
        let id = |mark: &Mark| !mark.cut && mark.is_of(meta);
        let known = self.marks.iter().find(|(_, mark)| id(mark) && mark.is(file, meta.len()));
        let known = known.or_else(|| {
            // The same path on another device (after a reboot, a restore), or moved there.
            let gone = |mark: &Mark| Path::new(&mark.path) == path || !Path::new(&mark.path).exists();
            let moved =
                |mark: &Mark| !mark.cut && !id(mark) && mark.is_telling() && gone(mark) && mark.is(file, meta.len());
            self.marks.iter().find(|(_, mark)| moved(mark))
        });
        if let Some(lane) = known.map(|(lane, _)| lane.clone()) {
            return self.marks.remove_entry(&lane).map(|(lane, mark)| (Some(lane), mark));
        }
        self.marks.values_mut().filter(|mark| id(mark)).for_each(|mark| mark.cut = true);
        // By its name it is what rotation made of another, and by its content too.
        let copied =
            |mark: &&Mark| mark.offset > 0 && is_beside(Path::new(&mark.path), path) && mark.is(file, meta.len());
        self.marks.values().filter(copied).max_by_key(|mark| mark.offset).map(|mark| (None, mark.clone()))
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
            // The number of a file that was deleted is given to another at once, and that may be the copy.
            !followed(id) && !self.marks.values().any(|mark| !mark.cut && mark.is_of(meta))
        });
        unknown.find_map(|(path, _)| {
            let file = File::open(&path).ok()?;
            let meta = file.metadata().ok()?;
            let is_it = mark.offset > 0 && !followed((meta.dev(), meta.ino())) && mark.is(&file, meta.len());
            is_it.then_some((path, file, meta))
        })
    }

    /// A copy that was seen before the cut, and holds no more than what was read.
    pub(super) fn known_copy(
        &self,
        mark: &Mark,
        copies: &[(u64, u64)],
        followed: impl Fn((u64, u64)) -> bool,
    ) -> Option<(PathBuf, File, Metadata)> {
        let found = beside(Path::new(&mark.path), UNIX_EPOCH).into_iter().rev();
        let mut copied = found.filter(|(_, meta)| {
            let id = (meta.dev(), meta.ino());
            copies.contains(&id) && !followed(id) && meta.len() <= mark.offset
        });
        copied.find_map(|(path, meta)| Some((path.clone(), File::open(path).ok()?, meta)))
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

    /// When any file was seen last before we began, as far as the clock can be believed.
    pub(super) fn last_seen(&self) -> Option<SystemTime> {
        self.seen.map(|seen| (UNIX_EPOCH + Duration::from_secs(seen)).min(SystemTime::now()))
    }

    /// The paths that files had.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> = self.marks.values().map(|mark| PathBuf::from(&mark.path)).collect();
        paths.sort();
        paths.dedup();
        paths
    }

    /// Files with something unread that are called something else now, beside where they were.
    pub(super) fn renamed(&self) -> Vec<PathBuf> {
        let mut marks: HashMap<(u64, u64), Vec<&Mark>> = HashMap::new();
        let mut folders = Vec::new();
        for mark in self.marks.values().filter(|mark| !mark.cut) {
            marks.entry((mark.dev, mark.ino)).or_default().push(mark);
            let path = std::fs::canonicalize(&mark.path).unwrap_or_else(|_| PathBuf::from(&mark.path));
            folders.extend(path.parent().map(Path::to_owned));
        }
        folders.sort();
        folders.dedup();
        let mut out = Vec::new();
        for entry in folders.into_iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            // The number of a file that is gone is given to another at once: what it holds must be known too.
            let unread = |mark: &&Mark| {
                meta.len() > mark.offset
                    && mark.is_of(&meta)
                    && File::open(entry.path()).is_ok_and(|file| mark.is(&file, meta.len()))
            };
            let known = marks.get(&(meta.dev(), meta.ino()));
            if meta.is_file() && known.is_some_and(|marks| marks.iter().any(unread)) {
                out.push(entry.path());
            }
        }
        out
    }
}

/// What is to be remembered of a file. It may be cut while that is read from it: then what is known of it counts.
pub(super) fn mark_of(generation: &Generation, lines: &Lines) -> Mark {
    match generation.mark(lines.delivered(), now()) {
        Ok(mark) if generation.is_whole() => Mark { skipping: lines.is_skipping(), ..mark },
        _ => generation.cut_mark(now()),
    }
}

/// As it stands in the journal.
pub(super) fn text_of(mark: &Mark) -> String {
    // Numbers, texts and truth values are JSON.
    serde_json::to_string(mark).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_that_has_the_number_of_a_file_that_was_deleted_is_found_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let [log, copy] = ["app.log", "app.log.1"].map(|name| dir.path().join(name));
        std::fs::write(&log, "one\ntwo\n").unwrap();
        std::fs::copy(&log, &copy).unwrap();
        let [meta, of_copy] = [&log, &copy].map(|path| path.metadata().unwrap());
        let generation = Generation::new(File::open(&log).unwrap(), &log, &meta, 8).unwrap();
        let mark = Mark { cut: true, ..generation.mark(8, now()).unwrap() };
        let mut remembered = Remembered::default();
        let deleted = Mark { dev: of_copy.dev(), ino: of_copy.ino(), born: Some(1), cut: false, ..mark.clone() };
        remembered.put("deleted", deleted.clone());
        let found = remembered.copy_of(&mark, |_| false).map(|(path, ..)| path);
        assert_eq!(found, Some(copy));
        // One that is known itself is no copy that nobody knows.
        remembered.put("known", Mark { born: None, ..deleted });
        assert!(remembered.copy_of(&mark, |_| false).is_none());
    }
}
