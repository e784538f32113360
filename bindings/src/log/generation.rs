//! One file as it was at one time: what it is known by, and how far it is read.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use masterchief_contract::{Inbound, Meter};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Bytes at the head that a file is known by, as far as it has them.
const HEAD: u64 = 1024;
/// Bytes before the offset that a file is known by.
const TAIL: u64 = 64;

/// Counts what was opened.
static OPENED: AtomicU64 = AtomicU64::new(0);
/// Bytes of the beginning that an open file is known by.
const FIRST: usize = 256;

/// What is remembered of a file over restarts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Where it was last seen.
    pub(super) path: String,
    pub(super) dev: u64,
    pub(super) ino: u64,
    /// How many bytes of the head are known, and their hash.
    pub(super) head_len: u64,
    pub(super) head: String,
    /// Everything below is in the journal.
    pub(super) offset: u64,
    /// The hash of up to 64 bytes before the offset.
    pub(super) tail: String,
    /// Unix seconds.
    pub(super) seen: u64,
    /// Whether the offset is within a line that was too long, the rest of which is not wanted.
    #[serde(default)]
    pub(super) skipping: bool,
    /// Whether the file was cut after that. What it held may stand in a copy (logrotate's `copytruncate`).
    #[serde(default)]
    pub(super) cut: bool,
    /// When the file was made, in microseconds, where the file system tells: inodes are given again.
    #[serde(default)]
    pub(super) born: Option<u64>,
}

/// When a file was made, in microseconds since 1970.
pub(super) fn born(meta: &Metadata) -> Option<u64> {
    let since = meta.created().ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    u64::try_from(since.as_micros()).ok()
}

impl Mark {
    /// Whether this file is the one that is remembered, and nothing below the offset has changed.
    pub(super) fn is(&self, file: &File, size: u64) -> bool {
        size >= self.offset
            && size >= self.head_len
            && hash(file, 0, self.head_len).is_ok_and(|head| head == self.head)
            && tail_hash(file, self.offset).is_ok_and(|tail| tail == self.tail)
    }

    /// Whether the file has the device, the inode and the birth that are remembered.
    pub(super) fn is_of(&self, meta: &Metadata) -> bool {
        let same_birth = self.born.zip(born(meta)).is_none_or(|(one, other)| one == other);
        (self.dev, self.ino) == (meta.dev(), meta.ino()) && same_birth
    }

    /// Whether there is enough to know a file by that has moved to another place on disk.
    pub(super) fn is_telling(&self) -> bool {
        self.head_len >= TAIL
    }
}

fn hash_of(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn hash(file: &File, from: u64, len: u64) -> io::Result<String> {
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    file.read_exact_at(&mut bytes, from)?;
    Ok(hash_of(&bytes))
}

fn tail_hash(file: &File, offset: u64) -> io::Result<String> {
    let from = offset.saturating_sub(TAIL);
    hash(file, from, offset - from)
}

/// What a look at a file finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing more than was read.
    Nothing,
    /// This many new bytes.
    More(u64),
    /// It was cut, or written anew.
    Cut,
}

/// An open file.
pub(super) struct Generation {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) dev: u64,
    pub(super) ino: u64,
    born: Option<u64>,
    /// Copies of it that were seen, by device and inode: what is copied may be cut in a moment.
    pub(super) copies: Vec<(u64, u64)>,
    /// Everything below was read.
    pub(super) read: u64,
    /// How long it was at the last look, and how long it was seen to be before it was cut.
    looked: u64,
    seen: u64,
    /// The first bytes, and the last that were read, to notice when the file is written anew. The last ones alone would
    /// not do: lines may end alike.
    first: Vec<u8>,
    last: Vec<u8>,
    modified: Option<SystemTime>,
    /// Counts up: which of two was opened first.
    pub(super) opened: u64,
    /// When something was read last, or the path was seen to name it.
    pub(super) quiet_since: Instant,
    /// Whether no path that is wanted names it any more.
    pub(super) rotated: bool,
}

impl Generation {
    /// An open file that is read from an offset on.
    pub(super) fn new(file: File, path: &Path, meta: &Metadata, offset: u64) -> io::Result<Generation> {
        let mut generation = Generation {
            file,
            path: path.to_owned(),
            dev: meta.dev(),
            ino: meta.ino(),
            born: born(meta),
            copies: Vec::new(),
            read: offset,
            looked: offset,
            seen: offset,
            first: Vec::new(),
            last: Vec::new(),
            modified: None,
            opened: OPENED.fetch_add(1, Ordering::Relaxed),
            quiet_since: Instant::now(),
            rotated: false,
        };
        generation.last = generation.before(offset)?;
        generation.first = vec![0; usize::try_from(offset).unwrap_or(FIRST).min(FIRST)];
        generation.file.read_exact_at(&mut generation.first, 0)?;
        Ok(generation)
    }

    /// Device and inode.
    pub(super) fn id(&self) -> (u64, u64) {
        (self.dev, self.ino)
    }

    /// What is on disk before an offset.
    fn before(&self, offset: u64) -> io::Result<Vec<u8>> {
        let from = offset.saturating_sub(TAIL);
        let mut bytes = vec![0; usize::try_from(offset - from).unwrap_or(0)];
        self.file.read_exact_at(&mut bytes, from)?;
        Ok(bytes)
    }

    /// Whether what was read last still stands where it stood.
    pub(super) fn is_whole(&self) -> bool {
        let mut first = [0; FIRST];
        let first = &mut first[..self.first.len()];
        // A disk that fails for a moment is no sign of a cut; a file that is shorter is.
        let failed = |fault: &io::Error| fault.kind() != io::ErrorKind::UnexpectedEof;
        let last = self.before(self.read).map(|bytes| bytes == self.last);
        let head = self.file.read_exact_at(first, 0).map(|()| *first == *self.first);
        last.unwrap_or_else(|fault| failed(&fault)) && head.unwrap_or_else(|fault| failed(&fault))
    }

    /// Looks whether there is more.
    pub(super) fn look(&mut self) -> io::Result<Look> {
        let meta = self.file.metadata()?;
        if meta.len() < self.read {
            return Ok(Look::Cut);
        }
        let modified = meta.modified().ok();
        let touched = modified != self.modified || modified.is_none();
        if meta.len() == self.read {
            if touched {
                self.modified = modified;
                if !self.is_whole() {
                    return Ok(Look::Cut);
                }
            }
            return Ok(Look::Nothing);
        }
        self.looked = meta.len();
        Ok(Look::More(meta.len() - self.read))
    }

    /// It was cut, and nobody has a copy: what of it is known to be lost is told, counts as one, and is an event.
    pub(super) fn tell_lost(&self, meter: &Meter) -> Option<Inbound> {
        let lost = self.seen.saturating_sub(self.read);
        if lost == 0 {
            return None;
        }
        let path = self.path.display();
        tracing::warn!(%path, lost, "A log was cut before it was read; so many bytes of it, at least, are lost");
        meter.drop_count(1);
        let text = format!("{path} was cut before it was read: {lost} bytes of it, at least, are lost");
        meter.note(text.as_str());
        Some(crate::gap::event(text, "bytes", lost))
    }

    /// Reads at most `most` bytes after what was read; nothing if the file was written anew meanwhile.
    pub(super) fn take(&mut self, most: usize, into: &mut Vec<u8>) -> io::Result<Option<usize>> {
        let start = into.len();
        into.resize(start + most, 0);
        let count = match self.file.read_at(&mut into[start..], self.read) {
            Ok(count) => count,
            Err(fault) => {
                into.truncate(start);
                return Err(fault);
            }
        };
        into.truncate(start + count);
        // Looked at after reading: what was read before the file was cut belongs to it.
        if !self.is_whole() {
            into.truncate(start);
            return Ok(None);
        }
        self.seen = self.seen.max(self.looked);
        self.read += count as u64;
        if count > 0 {
            self.quiet_since = Instant::now();
            let new = &into[start..];
            let room = (FIRST - self.first.len()).min(new.len());
            self.first.extend_from_slice(&new[..room]);
            let keep = usize::try_from(TAIL).unwrap_or(64);
            if new.len() >= keep {
                self.last = new[new.len() - keep..].to_vec();
            } else {
                self.last.extend_from_slice(new);
                let over = self.last.len().saturating_sub(keep);
                self.last.drain(..over);
            }
        }
        Ok(Some(count))
    }

    /// What is to be remembered when everything below `offset` is in the journal.
    pub(super) fn mark(&self, offset: u64, now: u64) -> io::Result<Mark> {
        let size = self.file.metadata()?.len();
        let head_len = size.min(HEAD).min(offset);
        Ok(Mark {
            path: self.path.to_string_lossy().into_owned(),
            dev: self.dev,
            ino: self.ino,
            head_len,
            head: hash(&self.file, 0, head_len)?,
            offset,
            tail: tail_hash(&self.file, offset)?,
            seen: now,
            skipping: false,
            cut: false,
            born: self.born,
        })
    }

    /// What is to be remembered of what the file held before it was cut: that everything that was read of it is in the
    /// journal.
    pub(super) fn cut_mark(&self, now: u64) -> Mark {
        Mark {
            path: self.path.to_string_lossy().into_owned(),
            dev: self.dev,
            ino: self.ino,
            head_len: self.first.len() as u64,
            head: hash_of(&self.first),
            offset: self.read,
            tail: hash_of(&self.last),
            seen: now,
            skipping: false,
            cut: true,
            born: self.born,
        }
    }

    /// Whether another file is a copy of this one, as far as it goes.
    pub(super) fn is_copied_in(&self, file: &File, len: u64) -> bool {
        let same = |from: u64, len: u64| {
            hash(file, from, len).ok().is_some_and(|other| hash(&self.file, from, len).is_ok_and(|ours| ours == other))
        };
        let tail = len.min(TAIL);
        len > 0 && (same(0, len.min(HEAD)) && same(len - tail, tail) || self.read > 0 && self.cut_mark(0).is(file, len))
    }

    /// How many names the file still has.
    pub(super) fn names(&self) -> u64 {
        self.file.metadata().map_or(0, |meta| meta.nlink())
    }
}
