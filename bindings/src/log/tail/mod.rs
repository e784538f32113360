//! The tailer: follows every file that a path or a pattern names, through rotation, cutting and restarts.
//!
//! A file is known by device, inode and its content's marks, not by its name. What is remembered is how far it is in the
//! journal, in the same transaction as its lines: kill -9 neither loses a line nor repeats one.

mod beside;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use masterchief_contract::{Batch, Borrowed, Fate, Meter, Part, Positions, Source, SourceError, Value};

use super::generation::{Generation, Look};
use super::lines::{Line, Lines, Multiline};
use super::parse::{Parser, inbound};
use super::remembered::{BEGUN, Remembered, mark_of, now, text_of};
use super::rotation::is_beside;
use crate::paths::{Pattern, Wake};
use crate::unread::Unread;

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
/// How far the file system's clock may be behind ours: it counts in ticks.
const TICK: Duration = Duration::from_millis(50);
/// How long before the last look a file may have been made that nobody has seen: it may have had its name between two looks.
const UNSEEN: Duration = Duration::from_secs(60);

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
    unread: Unread,
    wake: Option<Wake>,
    /// By lane.
    files: BTreeMap<Arc<str>, Followed>,
    /// Files that are not open.
    remembered: Remembered,
    /// Whether this stream was ever read before.
    fresh: bool,
    /// Whether that is noted.
    begun: bool,
    scanned: Option<Instant>,
    /// When it was looked beside the paths, also by the clock of the file system; whether there is a reason to look again.
    looked_beside: Option<(Instant, SystemTime)>,
    owes_look: bool,
    /// Files beside ours that hold nothing yet.
    blank: BTreeSet<PathBuf>,
    /// When files that were closed were looked at last.
    renamed: Option<Instant>,
    /// When the stream began to be read: what was there before is not looked for.
    began: SystemTime,
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
            unread: Unread::new(Arc::clone(&meter)),
            meter,
            wake: None,
            files: BTreeMap::new(),
            remembered: Remembered::default(),
            fresh: true,
            begun: false,
            scanned: None,
            looked_beside: None,
            owes_look: false,
            blank: BTreeSet::new(),
            renamed: None,
            began: UNIX_EPOCH,
            turn: 0,
            numbered: 0,
        }
    }

    /// As where the system gives no wake-ups, such as on a share.
    #[cfg(test)]
    pub(super) fn go_blind(&mut self) {
        self.wake = None;
    }

    /// Looks which files the paths name now.
    fn scan(&mut self) {
        self.scanned = Some(Instant::now());
        self.unread.looked(self.options.pattern.missing());
        let mut named: Vec<(u64, u64)> = Vec::new();
        for path in self.options.pattern.files() {
            let Ok(meta) = path.metadata() else { continue };
            if !meta.is_file() {
                continue;
            }
            let mut id = (meta.dev(), meta.ino());
            let opened = if self.by_id(id).is_some() { None } else { self.unread.open(&path) };
            if let Some((_, meta)) = &opened {
                // The name may have gone to yet another file since.
                id = (meta.dev(), meta.ino());
            }
            named.push(id);
            if let Some(followed) = self.by_id(id) {
                followed.generation.path = path;
                followed.generation.rotated = false;
                continue;
            }
            let Some((file, meta)) = opened else { continue };
            // A pattern may name what rotation makes, too.
            let beside = self.files.values().any(|followed| is_beside(&followed.generation.path, &path));
            // A copy that somebody has begun holds nothing yet.
            if !(beside && (meta.len() == 0 || self.is_copy(&file, &meta))) {
                self.remember(file, &path, &meta);
            }
        }
        if self.looked_beside.is_none_or(|(at, _)| at.elapsed() >= POLL) {
            self.look_beside();
        } else {
            self.owes_look = true;
        }
        for followed in self.files.values_mut() {
            let id = followed.generation.id();
            if !named.contains(&id) && !followed.generation.rotated {
                followed.generation.rotated = true;
                followed.generation.quiet_since = Instant::now();
            }
        }
        self.fresh = false;
    }

    /// Looks whether files came or went, where there may be a reason to.
    fn look_around(&mut self) {
        let woken = self.wake.as_ref().is_some_and(Wake::take);
        let owed = self.owes_look && self.looked_beside.is_none_or(|(at, _)| at.elapsed() >= POLL);
        if woken || owed || self.scanned.is_none_or(|scanned| scanned.elapsed() >= SCAN) {
            self.scan();
            if let Some(wake) = &mut self.wake {
                wake.watch(&self.options.pattern.folders());
                self.options.pattern.doubt().into_iter().for_each(|doubt| self.meter.note(doubt));
            }
        }
    }

    fn by_id(&mut self, id: (u64, u64)) -> Option<&mut Followed> {
        self.files.values_mut().find(|followed| followed.generation.id() == id)
    }

    /// Tells how much of what is followed is not read yet.
    fn measure(&mut self) {
        let files = self.files.values().map(|followed| &followed.generation);
        self.unread.measure(files.map(|one| (&one.file, one.read)));
    }

    /// Follows a file from where it is remembered, else from its beginning; from its end, if the stream is read for the
    /// first time.
    fn remember(&mut self, file: File, path: &Path, meta: &Metadata) -> Option<Arc<str>> {
        let (lane, offset, skipping) = match self.remembered.take(&file, path, meta) {
            Some((lane, mark)) => {
                (lane.unwrap_or_else(|| self.new_lane(meta.dev(), meta.ino())), mark.offset, mark.skipping)
            }
            None => {
                let offset = if self.fresh && !self.options.from_start { meta.len() } else { 0 };
                (self.new_lane(meta.dev(), meta.ino()), offset, false)
            }
        };
        self.follow(file, path, meta, (Arc::from(lane), offset, skipping))
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
        meta: &Metadata,
        (lane, offset, skipping): (Arc<str>, u64, bool),
    ) -> Option<Arc<str>> {
        let generation = match Generation::new(file, path, meta, offset) {
            Ok(generation) => generation,
            Err(fault) => {
                self.unread.failed(path, &fault);
                return None;
            }
        };
        let shared = Arc::new(vec![("path", Value::String(path.display().to_string()))]);
        let mut lines = Lines::new(offset, self.options.longest);
        if skipping {
            lines.skip();
        }
        self.files.insert(Arc::clone(&lane), Followed { generation, lines, shared, noted: None });
        Some(lane)
    }

    /// The lanes in the order in which they are read: what is rotated holds older lines, and the others take turns.
    fn lanes(&mut self) -> Vec<Arc<str>> {
        let (mut lanes, mut others): (Vec<_>, Vec<_>) =
            self.files.iter().partition(|(_, followed)| followed.generation.rotated);
        lanes.sort_by_key(|(_, followed)| followed.generation.opened);
        self.turn = self.turn.wrapping_add(1);
        let start = self.turn.checked_rem(others.len()).unwrap_or(0);
        others.rotate_left(start);
        lanes.into_iter().chain(others).map(|(lane, _)| Arc::clone(lane)).collect()
    }

    /// Reads what there is, a part for each file that has something.
    fn read(&mut self) -> io::Result<Batch> {
        let mut batch = Batch::default();
        let mut bytes = 0;
        for lane in &self.lanes() {
            if bytes >= BATCH {
                break;
            }
            let cut = match self.read_one(lane, &mut batch, &mut bytes) {
                Ok(cut) => cut,
                Err(fault) => {
                    // One that cannot be read is no reason not to read the others.
                    if let Some(followed) = self.files.get(lane) {
                        self.unread.failed(&followed.generation.path, &fault);
                    }
                    false
                }
            };
            if cut {
                self.begin_again(lane);
            }
        }
        self.measure();
        if !self.begun {
            // So that a log that comes later is read from its beginning, also after a restart.
            self.begun = true;
            let position = Some(now().to_string());
            batch.parts.push(Part { lane: Arc::from(BEGUN), shared: None, events: Vec::new(), position });
        }
        for lane in self.remembered.forgotten() {
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
                    Some(_) => {
                        self.unread.worked(&followed.generation.path);
                        followed.lines.feed(&buffer, multiline, &mut out);
                    }
                }
            }
        }
        *bytes += buffer.len();
        let quiet = followed.generation.quiet_since.elapsed();
        let drained = followed.generation.rotated && buffer.is_empty() && quiet >= DRAIN;
        let gone =
            followed.generation.rotated && buffer.is_empty() && followed.generation.names() == 0 && quiet >= DRAIN / 5;
        if cut {
            let mark = followed.generation.cut_mark(now());
            let mut from = (followed.lines.delivered(), followed.lines.is_skipping());
            let copies = std::mem::take(&mut followed.generation.copies);
            let is_open = |id| self.files.values().any(|one| one.generation.id() == id);
            let copy = self.remembered.copy_of(&mark, is_open).or_else(|| {
                // It was copied before we read the last of it: nothing is left to read there.
                let (path, file, meta) = self.remembered.known_copy(&mark, &copies, is_open)?;
                from = (meta.len(), false);
                Some((path, file, meta))
            });
            let Some(followed) = self.files.get_mut(lane) else { return Ok(false) };
            let mut lost = None;
            if copy.is_none() {
                lost = followed.generation.tell_lost(&self.meter);
                followed.lines.flush(multiline, &mut out);
            }
            self.put_part(lane, out, text_of(&mark), batch);
            if let (Some(lost), Some(part)) = (lost, batch.parts.last_mut()) {
                part.events.push(lost);
            }
            if mark.offset > 0 {
                self.remembered.put(lane, mark);
            }
            if let Some((path, file, meta)) = copy {
                self.follow_rotated(file, &path, &meta, from, batch);
            }
            return Ok(true);
        }
        if drained || gone {
            followed.lines.flush(multiline, &mut out);
        } else {
            followed.lines.overdue(multiline, &mut out);
        }
        let delivered = followed.lines.delivered();
        if !out.is_empty() || followed.noted.is_none() {
            let position = text_of(&mark_of(&followed.generation, &followed.lines));
            followed.noted = Some(delivered);
            self.put_part(lane, out, position, batch);
        }
        if drained || gone {
            self.close_one(lane);
        }
        Ok(false)
    }

    fn put_part(&self, lane: &Arc<str>, out: Vec<Line>, position: String, batch: &mut Batch) {
        let shared = self.files.get(lane).map(|followed| Arc::clone(&followed.shared));
        let events = out.into_iter().map(|line| inbound(line, &self.options.parser)).collect();
        batch.parts.push(Part { lane: Arc::clone(lane), shared, events, position: Some(position) });
    }

    fn close_one(&mut self, lane: &Arc<str>) {
        let Some(followed) = self.files.remove(lane) else { return };
        let mark = mark_of(&followed.generation, &followed.lines);
        self.remembered.put(lane, mark);
    }

    /// The file was cut or written anew: what it holds now is another generation.
    fn begin_again(&mut self, lane: &Arc<str>) {
        let Some(followed) = self.files.remove(lane) else { return };
        tracing::info!(path = %followed.generation.path.display(), "A log was cut or written anew; it is read from its beginning");
        let Generation { file, path, .. } = followed.generation;
        let Ok(meta) = file.metadata() else { return };
        self.owes_look = true;
        let lane = self.new_lane(meta.dev(), meta.ino());
        let rotated = followed.generation.rotated;
        if let Some(lane) = self.follow(file, &path, &meta, (Arc::from(lane), 0, false))
            && let Some(followed) = self.files.get_mut(&lane)
        {
            followed.generation.rotated = rotated;
        }
    }

    fn is_waiting(&self) -> bool {
        self.files.values().any(|followed| followed.lines.is_waiting() || followed.generation.rotated)
    }
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
            self.files.clear();
            self.blank.clear();
            self.remembered = Remembered::of(positions);
            (self.fresh, self.begun) = (positions.is_empty(), positions.contains_key(BEGUN));
            self.wake = Some(Wake::new(&self.options.pattern.folders()));
            // Files that came and went by another name while we were down are looked for from then on.
            self.began = if self.fresh { SystemTime::now() - TICK } else { UNIX_EPOCH };
            self.renamed = None;
            self.looked_beside = self.remembered.last_seen().map(|seen| (Instant::now() - POLL, seen));
            self.scan();
            Ok(())
        })
    }

    fn next(&mut self) -> Borrowed<'_, Result<Batch, SourceError>> {
        Box::pin(async move {
            loop {
                self.look_around();
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

    fn idle<'a>(&'a mut self, _: &'a mut Batch) -> Borrowed<'a, Result<(), SourceError>> {
        // What is opened now is read later, whatever becomes of its name meanwhile.
        self.look_around();
        self.measure();
        Box::pin(async { Ok(()) })
    }

    fn close(&mut self) -> Borrowed<'_, ()> {
        Box::pin(async {
            self.wake = None;
            self.files.clear();
        })
    }
}
