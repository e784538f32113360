//! What a file looks like from outside, what is remembered of it, and where it is put away.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use masterchief_contract::{Fields, Part, Value};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::mask::Format;
use crate::paths::Listed;

/// What is remembered of a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) dev: u64,
    pub(super) ino: u64,
    pub(super) size: u64,
    /// Nanoseconds since 1970.
    pub(super) modified: i128,
    pub(super) sha256: String,
    /// Rows that are in the journal, while the file is not done.
    pub(super) rows: Option<u64>,
    /// Whether it was there before this.
    pub(super) known: bool,
    /// Whether all of it is in the journal: only then it may be put away.
    #[serde(default)]
    pub(super) done: bool,
    /// Where the file system of its folder is mounted; nothing is unknown.
    #[serde(default)]
    pub(super) mount: String,
}

/// What a file looks like from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) dev: u64,
    pub(super) ino: u64,
    pub(super) size: u64,
    pub(super) modified: i128,
}

impl Look {
    pub(super) fn at(path: &Path) -> io::Result<Look> {
        let meta = path.metadata()?;
        let modified = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
        Ok(Look { dev: meta.dev(), ino: meta.ino(), size: meta.len(), modified })
    }

    pub(super) fn is(&self, seen: &Seen) -> bool {
        self.dev == seen.dev && self.is_but_for_its_system(seen)
    }

    /// The same but for the number of its file system, which another start may have changed.
    pub(super) fn is_but_for_its_system(&self, seen: &Seen) -> bool {
        (self.ino, self.size, self.modified) == (seen.ino, seen.size, seen.modified)
    }
}

/// What is to be remembered of a file that looks so.
pub(super) fn seen_of(path: &Path, look: Look, sha256: String, known: bool) -> Seen {
    Seen {
        dev: look.dev,
        ino: look.ino,
        size: look.size,
        modified: look.modified,
        sha256,
        rows: None,
        known,
        done: false,
        mount: mount(path.parent().unwrap_or(path)),
    }
}

/// Where the file system of a folder is mounted or, where that folder is not there, that of the nearest one above it. Its number would
/// not do: a share that is mounted again may have another, and so may the root of a container that is begun again.
fn mount(folder: &Path) -> String {
    let mut above = folder.ancestors().filter_map(|folder| Some((folder, folder.metadata().ok()?.dev())));
    let Some((first, dev)) = above.next() else { return String::new() };
    let top = above.take_while(|(_, other)| *other == dev).last().map_or(first, |(folder, _)| folder);
    top.display().to_string()
}

/// What was seen and is gone, as far as anybody can say, and how many nobody can speak for: a folder whose file system is not mounted is
/// an empty one of another file system, and what was in it is there as soon as it is mounted again.
pub(super) fn gone(
    seen: &BTreeMap<PathBuf, Seen>,
    paths: &BTreeSet<PathBuf>,
    listed: &Listed,
) -> (Vec<PathBuf>, usize) {
    let mut mounts = HashMap::new();
    let mut is_mounted = |path: &Path, seen: &Seen| {
        let folder = path.parent().unwrap_or(path);
        seen.mount.is_empty() || seen.mount == *mounts.entry(folder.to_owned()).or_insert_with(|| mount(folder))
    };
    let missing: Vec<_> = seen.iter().filter(|(path, _)| !paths.contains(*path) && listed.is_gone(path)).collect();
    let count = missing.len();
    let gone: Vec<PathBuf> =
        missing.into_iter().filter(|(path, seen)| is_mounted(path, seen)).map(|(path, _)| path.clone()).collect();
    let away = count - gone.len();
    (gone, away)
}

/// Each file is a lane of its own.
pub(super) fn lane(path: &Path) -> Arc<str> {
    Arc::from(path.display().to_string())
}

/// As it stands in the journal.
pub(super) fn position(seen: &Seen) -> String {
    serde_json::to_string(seen).unwrap_or_default()
}

/// What is remembered, and no event.
pub(super) fn position_only(path: &Path, seen: &Seen) -> Part {
    Part { lane: lane(path), shared: None, events: Vec::new(), position: Some(position(seen)) }
}

pub(super) fn hash(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        digest.update(&buffer[..count]);
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Into a folder, under a name that is free there.
pub(super) fn move_into(path: &Path, folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut to = folder.join(&name);
    let mut number = 1;
    while to.exists() {
        to = folder.join(format!("{name}.{number}"));
        number += 1;
    }
    match std::fs::rename(path, &to) {
        Err(fault) if fault.kind() == io::ErrorKind::CrossesDevices => {
            std::fs::copy(path, &to)?;
            std::fs::remove_file(path)
        }
        done => done,
    }
}

/// What all events of a file share.
pub(super) fn fields(path: &Path, event: &str, size: u64, sha256: &str, format: Format) -> Fields {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    vec![
        ("path", Value::from(path.display().to_string())),
        ("name", Value::from(name)),
        ("event", Value::from(event)),
        ("size", Value::from(size)),
        ("sha256", Value::from(sha256)),
        ("format", Value::from(format.name())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_is_known_by_where_it_is_mounted() {
        // There is no system without these two.
        assert_eq!((mount(Path::new("/")), mount(Path::new("/proc/self/fd"))), ("/".to_owned(), "/proc".to_owned()));
        assert_eq!(mount(Path::new("/proc/none/deeper")), "/proc", "that of the nearest folder that is there");
    }
}
