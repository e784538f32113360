//! What a file looks like from outside, what is remembered of it, and where it is put away.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use masterchief_contract::Part;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

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
        (self.dev, self.ino, self.size, self.modified) == (seen.dev, seen.ino, seen.size, seen.modified)
    }
}

/// What is to be remembered of a file that looks so.
pub(super) fn seen_of(look: Look, sha256: String, known: bool) -> Seen {
    Seen {
        dev: look.dev,
        ino: look.ino,
        size: look.size,
        modified: look.modified,
        sha256,
        rows: None,
        known,
        done: false,
    }
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
