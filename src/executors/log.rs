//! The log of one attempt: a file that commands and executors append to, masked, its head and its tail kept.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::mask::Masker;
use super::supervise::tail_of;

/// What lines of ours begin with in the log of a build elsewhere, so that they are never taken for the build's.
pub const OWN: &str = "[masterchief] ";
/// The file in a step's folder.
pub const LOG: &str = "log";

/// Appends to the log of an attempt. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StepLog {
    path: Arc<PathBuf>,
    mask: Masker,
    file: Arc<Mutex<Option<File>>>,
}

impl StepLog {
    /// The log in a step's folder.
    pub fn open(folder: &Path, mask: Masker) -> StepLog {
        StepLog { path: Arc::new(folder.join(LOG)), mask, file: Arc::default() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file, with its folder: what needs no files has none before it says something.
    fn open_file(&self) -> std::io::Result<File> {
        let open = || OpenOptions::new().create(true).append(true).open(self.path.as_path());
        match (open(), self.path.parent()) {
            (Err(fault), Some(folder)) if fault.kind() == std::io::ErrorKind::NotFound => {
                std::fs::create_dir_all(folder)?;
                open()
            }
            (opened, _) => opened,
        }
    }

    /// Appends lines. What cannot be written is told in the bot's own log: a full disk must not fail what works.
    pub fn line(&self, text: &str) {
        let mut hidden = self.mask.hide(text);
        if !hidden.ends_with('\n') {
            hidden.push('\n');
        }
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file.is_none() {
            *file = self.open_file().ok();
        }
        let written = file.as_mut().map(|file| file.write_all(hidden.as_bytes()));
        if !matches!(written, Some(Ok(()))) {
            tracing::warn!(path = %self.path.display(), "A line of a step's log could not be written");
        }
    }
}

/// The files of a log in the order in which they are read: its head, then its tail.
pub fn log_parts() -> Vec<String> {
    let log = Path::new(LOG);
    [log.to_owned(), tail_of(log, 2), tail_of(log, 1)].map(|path| path.display().to_string()).into()
}

/// So much of each end is looked at.
const END: u64 = 256 * 1024;

/// The beginning and the end of a step's log, at most half a megabyte.
pub fn ends(folder: &Path) -> String {
    let log = folder.join(LOG);
    let parts = [log.clone(), tail_of(&log, 2), tail_of(&log, 1)];
    let sizes = parts.each_ref().map(|path| std::fs::metadata(path).map_or(0, |meta| meta.len()));
    let all: u64 = sizes.iter().sum();
    if all <= 2 * END {
        return parts.iter().map(|path| piece(path, 0, all)).collect();
    }
    let newest = if sizes[2] > 0 { &parts[2] } else { &parts[0] };
    let size = if sizes[2] > 0 { sizes[2] } else { sizes[0] };
    let mut out = piece(&log, 0, END);
    out.push('\n');
    out.push_str(&piece(newest, size.saturating_sub(END), END));
    out
}

/// The last lines of a step's log.
pub fn tail(folder: &Path, count: usize) -> Vec<String> {
    let text = ends(folder);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].iter().map(|line| (*line).to_owned()).collect()
}

fn piece(path: &Path, at: u64, most: u64) -> String {
    let Ok(mut file) = File::open(path) else { return String::new() };
    let mut bytes = Vec::new();
    let read = file.seek(SeekFrom::Start(at)).and_then(|_| file.take(most).read_to_end(&mut bytes));
    if read.is_err() {
        return String::new();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
