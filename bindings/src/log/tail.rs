//! The tailer: follows every file that a path or a pattern names, through rotation, cutting and restarts.
//!
//! A file is known by device, inode and its content's marks, not by its name. What is remembered is how far it is in the
//! journal, in the same transaction as its lines: kill -9 neither loses a line nor repeats one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use masterchief_contract::{Batch, Borrowed, Fate, Meter, Part, Positions, Source, SourceError, Value};

use super::generation::{Generation, Look, Mark};
use super::lines::{Lines, Multiline};
use super::parse::{Parser, inbound};
use crate::paths::{Pattern, Wake};

/// How often files are looked at when no wake-up comes.
const POLL: Duration = Duration::from_millis(200);
/// How often a pattern is looked for new files when no wake-up comes.
const SCAN: Duration = Duration::from_secs(2);
/// How long a file that was renamed or deleted is read on after its last line.
const DRAIN: Duration = Duration::from_secs(10);
/// Bytes of one file in one batch.
const READ: usize = 256 << 10;
/// Bytes of one batch.
const BATCH: usize = 2 << 20;
/// How long before the last look a file may have been made that nobody has seen: it may have had its name between two looks.
const UNSEEN: Duration = Duration::from_secs(60);
/// The lane that says that the stream was read before.
const BEGUN: &str = "begun";
/// How long a file that is gone is remembered, and how many at most.
const REMEMBER: u64 = 24 * 3600;
const REMEMBER_MAX: usize = 1000;

/// What is followed, and how.
#[derive(Clone, Debug)]
pub(crate) struct TailOptions {
    pub(crate) pattern: Pattern,
    /// Whether files that are there before the first start are read from their beginning.
    pub(crate) from_start: bool,
    pub(crate) multiline: Option<Multiline>,
    pub(crate) parser: Parser,
    /// The longest line, in bytes.
    pub(crate) longest: usize,
}

/// The source of `log`.
pub(crate) struct Tail {
    options: TailOptions,
    meter: Arc<Meter>,
    wake: Option<Wake>,
    /// By lane.
    files: BTreeMap<Arc<str>, Followed>,
    /// Files that are not open, by lane.
    closed: BTreeMap<String, Mark>,
    /// Lanes to be forgotten with the next batch.
    forget: Vec<String>,
    /// Whether this stream was ever read before.
    fresh: bool,
    /// Whether that is noted.
    begun: bool,
    scanned: Option<Instant>,
    /// When the last scan began, by the clock of the file system.
    scan_time: Option<SystemTime>,
    /// The next file to read, so that a busy one does not keep the others from being read.
    turn: usize,
    numbered: u64,
}

struct Followed {
    generation: Generation,
    lines: Lines,
    shared: Arc<masterchief_contract::Fields>,
    /// How far it is written to the journal.
    noted: Option<u64>,
}

impl Tail {
    pub(crate) fn new(options: TailOptions, meter: Arc<Meter>) -> Tail {
        Tail {
            options,
            meter,
            wake: None,
            files: BTreeMap::new(),
            closed: BTreeMap::new(),
            forget: Vec::new(),
            fresh: true,
            begun: false,
            scanned: None,
            scan_time: None,
            turn: 0,
            numbered: 0,
        }
    }

    /// Looks which files the paths name now.
    fn scan(&mut self) {
        let began = SystemTime::now();
        let before = self.scan_time.replace(began);
        self.scanned = Some(Instant::now());
        let mut named: Vec<(u64, u64)> = Vec::new();
        for path in self.options.pattern.files() {
            let Ok(meta) = path.metadata() else { continue };
            if !meta.is_file() {
                continue;
            }
            named.push((meta.dev(), meta.ino()));
            if let Some(followed) = self.by_id(meta.dev(), meta.ino()) {
                followed.generation.path = path;
                followed.generation.rotated = false;
                continue;
            }
            let replaced = self.files.values().any(|followed| followed.generation.path == path);
            if let (true, Some(before)) = (replaced, before) {
                self.between(&path, before);
            }
            self.open_path(&path);
        }
        for followed in self.files.values_mut() {
            let id = (followed.generation.dev, followed.generation.ino);
            if !named.contains(&id) && !followed.generation.rotated {
                followed.generation.rotated = true;
                followed.generation.quiet_since = Instant::now();
            }
        }
        self.fresh = false;
    }

    fn by_id(&mut self, dev: u64, ino: u64) -> Option<&mut Followed> {
        self.files.values_mut().find(|followed| (followed.generation.dev, followed.generation.ino) == (dev, ino))
    }

    /// Files that had this path between two scans and are called something else already: made since then, and named
    /// like it.
    fn between(&mut self, path: &Path, since: SystemTime) {
        let Some((folder, name)) = path.parent().zip(path.file_name()) else { return };
        let name = name.to_string_lossy();
        let mut found: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let other = entry.path();
            let like = entry.file_name().to_string_lossy().starts_with(&*name);
            let packed =
                other.extension().is_some_and(|end| ["gz", "xz", "bz2", "zst"].iter().any(|packed| end == *packed));
            if !like || packed || other == path {
                continue;
            }
            if let Ok(meta) = entry.metadata()
                && meta.is_file()
                && let Ok(born) = meta.created()
                && born + UNSEEN >= since
                && self.by_id(meta.dev(), meta.ino()).is_none()
            {
                found.push((born, other));
            }
        }
        found.sort();
        for (_, other) in found {
            if let Some(lane) = self.open_path(&other)
                && let Some(followed) = self.files.get_mut(&lane)
            {
                followed.generation.rotated = true;
            }
        }
    }

    /// Opens a file where it is remembered, else at its beginning; at its end, if the stream is read for the first time.
    fn open_path(&mut self, path: &Path) -> Option<Arc<str>> {
        let opened = File::open(path).and_then(|file| file.metadata().map(|meta| (file, meta)));
        let (file, meta) = match opened {
            Ok(opened) => opened,
            Err(fault) => {
                self.meter.note(format!("{}: {fault}", path.display()));
                return None;
            }
        };
        let id = |mark: &Mark| (mark.dev, mark.ino) == (meta.dev(), meta.ino());
        let known = self.closed.iter().find(|(_, mark)| id(mark) && mark.is(&file, meta.len()));
        let known = known.or_else(|| {
            // The same path on another device (after a reboot, a restore), or moved there.
            let gone = |mark: &Mark| Path::new(&mark.path) == path || !Path::new(&mark.path).exists();
            let moved = |mark: &Mark| !id(mark) && mark.is_telling() && gone(mark) && mark.is(&file, meta.len());
            self.closed.iter().find(|(_, mark)| moved(mark))
        });
        let (lane, offset) = match known.map(|(lane, mark)| (lane.clone(), mark.offset)) {
            Some((lane, offset)) => {
                self.closed.remove(&lane);
                (lane, offset)
            }
            None => {
                let stale: Vec<String> =
                    self.closed.iter().filter(|(_, mark)| id(mark)).map(|(lane, _)| lane.clone()).collect();
                for lane in stale {
                    self.closed.remove(&lane);
                    self.forget.push(lane);
                }
                let offset = if self.fresh && !self.options.from_start { meta.len() } else { 0 };
                (self.new_lane(meta.dev(), meta.ino()), offset)
            }
        };
        self.follow(file, path, &meta, Arc::from(lane), offset)
    }

    fn new_lane(&mut self, dev: u64, ino: u64) -> String {
        self.numbered += 1;
        let micros = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        format!("{dev:x}:{ino:x}:{micros:x}.{}", self.numbered)
    }

    fn follow(
        &mut self,
        file: File,
        path: &Path,
        meta: &std::fs::Metadata,
        lane: Arc<str>,
        offset: u64,
    ) -> Option<Arc<str>> {
        let generation = match Generation::new(file, path, meta, offset) {
            Ok(generation) => generation,
            Err(fault) => {
                self.meter.note(format!("{}: {fault}", path.display()));
                return None;
            }
        };
        let shared = Arc::new(vec![("path", Value::String(path.display().to_string()))]);
        let lines = Lines::new(offset, self.options.longest);
        self.files.insert(Arc::clone(&lane), Followed { generation, lines, shared, noted: None });
        Some(lane)
    }

    /// Reads what there is, a part for each file that has something.
    fn read(&mut self) -> io::Result<Batch> {
        let mut batch = Batch::default();
        let (mut bytes, mut lag) = (0, 0);
        let lanes: Vec<Arc<str>> = self.files.keys().cloned().collect();
        let start = if lanes.is_empty() { 0 } else { self.turn % lanes.len() };
        self.turn = self.turn.wrapping_add(1);
        for lane in lanes[start..].iter().chain(&lanes[..start]) {
            if bytes >= BATCH {
                break;
            }
            let before = bytes;
            let cut = match self.read_one(lane, &mut batch, &mut bytes) {
                Ok(cut) => cut,
                Err(fault) => {
                    // One that cannot be read is no reason not to read the others.
                    if let Some(followed) = self.files.get(lane) {
                        self.meter.note(format!("{}: {fault}", followed.generation.path.display()));
                    }
                    false
                }
            };
            if cut {
                self.begin_again(lane);
            }
            if let Some(followed) = self.files.get(lane)
                && bytes > before
            {
                lag += followed
                    .generation
                    .file
                    .metadata()
                    .map_or(0, |meta| meta.len())
                    .saturating_sub(followed.generation.read);
            }
        }
        self.meter.lag(lag, "bytes");
        if !self.begun {
            // So that a log that comes later is read from its beginning, also after a restart.
            self.begun = true;
            let position = Some("yes".to_owned());
            batch.parts.push(Part { lane: Arc::from(BEGUN), shared: None, events: Vec::new(), position });
        }
        for lane in self.forget.drain(..) {
            batch.parts.push(Part {
                lane: Arc::from(lane),
                shared: None,
                events: Vec::new(),
                position: Some(String::new()),
            });
        }
        Ok(batch)
    }

    /// Reads one file; whether it was cut and has to be read from its beginning.
    fn read_one(&mut self, lane: &Arc<str>, batch: &mut Batch, bytes: &mut usize) -> io::Result<bool> {
        let Some(followed) = self.files.get_mut(lane) else { return Ok(false) };
        let multiline = self.options.multiline.as_ref();
        let mut out = Vec::new();
        let mut buffer = Vec::new();
        let mut cut = false;
        match followed.generation.look()? {
            Look::Nothing => {}
            Look::Cut => cut = true,
            Look::More(more) => {
                let most = usize::try_from(more).unwrap_or(READ).min(READ);
                match followed.generation.take(most, &mut buffer)? {
                    None => cut = true,
                    Some(_) => followed.lines.feed(&buffer, multiline, &mut out),
                }
            }
        }
        *bytes += buffer.len();
        let quiet = followed.generation.quiet_since.elapsed();
        let drained = followed.generation.rotated && buffer.is_empty() && quiet >= DRAIN;
        let gone =
            followed.generation.rotated && buffer.is_empty() && followed.generation.names() == 0 && quiet >= DRAIN / 5;
        if cut || drained || gone {
            followed.lines.flush(multiline, &mut out);
        } else {
            followed.lines.overdue(multiline, &mut out);
        }
        let delivered = followed.lines.delivered();
        if !out.is_empty() || followed.noted.is_none() {
            let position = if cut { String::new() } else { mark_text(&followed.generation, delivered)? };
            let parser = &self.options.parser;
            let events = out.into_iter().map(|line| inbound(line, parser)).collect();
            followed.noted = Some(delivered);
            let (lane, shared) = (Arc::clone(lane), Some(Arc::clone(&followed.shared)));
            batch.parts.push(Part { lane, shared, events, position: Some(position) });
        }
        if drained || gone {
            self.close_one(lane)?;
        }
        Ok(cut)
    }

    fn close_one(&mut self, lane: &Arc<str>) -> io::Result<()> {
        let Some(followed) = self.files.remove(lane) else { return Ok(()) };
        let mark = followed.generation.mark(followed.lines.delivered(), now())?;
        self.closed.insert(lane.to_string(), mark);
        let old = now().saturating_sub(REMEMBER);
        let mut ages: Vec<(u64, String)> = self.closed.iter().map(|(lane, mark)| (mark.seen, lane.clone())).collect();
        ages.sort();
        let over = ages.len().saturating_sub(REMEMBER_MAX);
        for (at, (seen, lane)) in ages.into_iter().enumerate() {
            if at < over || seen < old {
                self.closed.remove(&lane);
                self.forget.push(lane);
            }
        }
        Ok(())
    }

    /// The file was cut or written anew: what it holds now is another generation.
    fn begin_again(&mut self, lane: &Arc<str>) {
        let Some(followed) = self.files.remove(lane) else { return };
        tracing::info!(path = %followed.generation.path.display(), "A log was cut or written anew; it is read from its beginning");
        let Generation { file, path, .. } = followed.generation;
        let Ok(meta) = file.metadata() else { return };
        let lane = self.new_lane(meta.dev(), meta.ino());
        let rotated = followed.generation.rotated;
        if let Some(lane) = self.follow(file, &path, &meta, Arc::from(lane), 0)
            && let Some(followed) = self.files.get_mut(&lane)
        {
            followed.generation.rotated = rotated;
        }
    }

    fn restore(&mut self, positions: &Positions) {
        self.files.clear();
        self.closed.clear();
        self.forget.clear();
        self.fresh = positions.is_empty();
        self.begun = positions.contains_key(BEGUN);
        for (lane, text) in positions.iter().filter(|(lane, _)| *lane != BEGUN) {
            match serde_json::from_str::<Mark>(text) {
                Ok(mark) => {
                    self.closed.insert(lane.clone(), mark);
                }
                Err(fault) => {
                    tracing::error!(lane, %fault, "What is remembered of a log cannot be read; it is read from its beginning")
                }
            }
        }
    }

    /// Files that were renamed while we were down: looked for beside where they were.
    fn find_renamed(&mut self) {
        let folders: Vec<PathBuf> =
            self.closed.values().filter_map(|mark| Path::new(&mark.path).parent().map(Path::to_owned)).collect();
        let mut seen: Vec<PathBuf> = Vec::new();
        for folder in folders {
            if seen.contains(&folder) {
                continue;
            }
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let Ok(meta) = entry.metadata() else { continue };
                // The number of a file that is gone is given to another at once: what it holds must be known too.
                let unread = |mark: &Mark| {
                    let same = (mark.dev, mark.ino) == (meta.dev(), meta.ino()) && meta.len() > mark.offset;
                    same && File::open(entry.path()).is_ok_and(|file| mark.is(&file, meta.len()))
                };
                if meta.is_file()
                    && self.closed.values().any(unread)
                    && self.by_id(meta.dev(), meta.ino()).is_none()
                    && let Some(lane) = self.open_path(&entry.path())
                    && let Some(followed) = self.files.get_mut(&lane)
                {
                    followed.generation.rotated = true;
                }
            }
            seen.push(folder);
        }
    }

    fn is_waiting(&self) -> bool {
        self.files.values().any(|followed| followed.lines.is_waiting() || followed.generation.rotated)
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn mark_text(generation: &Generation, offset: u64) -> io::Result<String> {
    let mark = generation.mark(offset, now())?;
    serde_json::to_string(&mark).map_err(io::Error::other)
}

fn lost(fault: &io::Error) -> SourceError {
    SourceError::Lost(fault.to_string())
}

impl Source for Tail {
    fn blocking(&self) -> bool {
        true
    }

    fn open<'a>(&'a mut self, positions: &'a Positions) -> Borrowed<'a, Result<(), SourceError>> {
        Box::pin(async move {
            self.restore(positions);
            self.wake = Some(Wake::new(&self.options.pattern.folders()));
            self.scan_time = None;
            let seen = self.closed.values().map(|mark| mark.seen).max();
            self.find_renamed();
            if let Some(seen) = seen {
                // Files that came and went by another name before we ever saw them, or while we were down.
                let since = UNIX_EPOCH + Duration::from_secs(seen);
                for path in self.options.pattern.files() {
                    self.between(&path, since);
                }
            }
            self.scan();
            Ok(())
        })
    }

    fn next(&mut self) -> Borrowed<'_, Result<Batch, SourceError>> {
        Box::pin(async move {
            loop {
                let woken = self.wake.as_ref().is_some_and(Wake::take);
                if woken || self.scanned.is_none_or(|scanned| scanned.elapsed() >= SCAN) {
                    self.scan();
                    if let Some(wake) = &mut self.wake {
                        wake.watch(&self.options.pattern.folders());
                    }
                }
                let batch = self.read().map_err(|fault| lost(&fault))?;
                if !batch.is_empty() {
                    return Ok(batch);
                }
                let wait = if self.is_waiting() { POLL / 4 } else { POLL };
                match &mut self.wake {
                    Some(wake) => wake.wait(wait).await,
                    None => tokio::time::sleep(wait).await,
                }
            }
        })
    }

    fn settle<'a>(&'a mut self, _: u64, _: &'a [Fate]) -> Borrowed<'a, Result<(), SourceError>> {
        Box::pin(async { Ok(()) })
    }

    fn close(&mut self) -> Borrowed<'_, ()> {
        Box::pin(async {
            self.wake = None;
            self.files.clear();
        })
    }
}
