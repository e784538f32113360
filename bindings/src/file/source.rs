//! The source of `file`: what is there is compared with what was read before; what settled is read.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::Utc;
use masterchief_contract::{
    BAD_BYTES, Batch, Borrowed, EVENT_BYTES, Fate, Fields, Inbound, Meter, Part, Positions, Source, SourceError,
    Undecodable, Value,
};

use super::document;
use super::mask::{FileMask, Format, On, Then};
use super::rows::{Next, Rows};
use super::seen::{Look, Seen, fields, gone, hash, lane, move_into, position, position_only, seen_of};
use crate::paths::Wake;
use crate::unread::Unread;

/// How often the folders are looked at when no wake-up comes.
const LOOK: Duration = Duration::from_secs(5);
/// The biggest file that is one event, in bytes; a bigger one is read with `rows`.
const WHOLE_MAX: u64 = 16 << 20;
/// Rows and bytes of one batch.
const ROWS: usize = 2000;
const BYTES: usize = 2 << 20;

pub(super) struct Files {
    mask: FileMask,
    meter: Arc<Meter>,
    unread: Unread,
    wake: Option<Wake>,
    seen: BTreeMap<PathBuf, Seen>,
    /// Files that changed, as they looked, since when they look so.
    settling: BTreeMap<PathBuf, (Look, Instant)>,
    ready: VecDeque<PathBuf>,
    reading: Option<Reading>,
    /// Files that are read and are to be moved or deleted once that is durable.
    finished: Vec<PathBuf>,
    looked: Option<Instant>,
    /// When all that is there was counted last.
    counted: Option<Instant>,
    /// Whether this stream was never read before.
    fresh: bool,
    /// Whether that it was is noted.
    begun: bool,
    /// Files that could not be read, since when.
    unreadable: BTreeMap<PathBuf, Instant>,
    /// Files that are on a file system that is not mounted, as far as it was told.
    away: usize,
}

/// The lane that says that the stream was read before; no path is called that.
const BEGUN: &str = "begun";

/// A file that is read row by row.
struct Reading {
    path: PathBuf,
    lane: Arc<str>,
    shared: Arc<Fields>,
    rows: Rows,
    row: u64,
    seen: Seen,
}

impl Files {
    pub(super) fn new(mask: FileMask, meter: Arc<Meter>) -> Files {
        Files {
            mask,
            unread: Unread::new(Arc::clone(&meter)),
            meter,
            wake: None,
            seen: BTreeMap::new(),
            settling: BTreeMap::new(),
            ready: VecDeque::new(),
            reading: None,
            finished: Vec::new(),
            looked: None,
            counted: None,
            fresh: true,
            begun: false,
            unreadable: BTreeMap::new(),
            away: 0,
        }
    }

    /// Compares what is there with what is known; gives parts for what needs no reading.
    fn look(&mut self, batch: &mut Batch) {
        self.looked = Some(Instant::now());
        let mut listed = self.mask.pattern.listed();
        let paths: BTreeSet<PathBuf> = std::mem::take(&mut listed.files).into_iter().collect();
        self.unread.looked(self.mask.pattern.missing_folder().or_else(|| listed.doubt()));
        let (gone, away) = gone(&self.seen, &paths, &listed);
        self.tell_away(away);
        for path in gone {
            self.seen.remove(&path);
            let events = match self.mask.on {
                On::Delete => vec![bare(path.display().to_string())],
                _ => Vec::new(),
            };
            batch.parts.push(Part {
                lane: lane(&path),
                shared: Some(Arc::new(fields(&path, "deleted", 0, "", Format::of(&path)))),
                events,
                position: Some(String::new()),
            });
        }
        self.settling.retain(|path, _| paths.contains(path));
        for path in paths {
            let Ok(look) = Look::at(&path) else { continue };
            let known = self.seen.get(&path);
            if known.is_some_and(|seen| look.is(seen) && seen.rows.is_none()) {
                continue;
            }
            if self.fresh && !self.mask.existing || self.mask.on == On::Delete {
                let seen = Seen { rows: None, ..seen_of(&path, look, String::new(), false) };
                batch.parts.push(position_only(&path, &seen));
                self.seen.insert(path, seen);
                continue;
            }
            let waiting = self.unreadable.contains_key(&path)
                || self.ready.contains(&path)
                || self.reading.as_ref().is_some_and(|reading| reading.path == path);
            if waiting {
                continue;
            }
            match self.settling.get(&path) {
                Some((before, since)) if *before == look => {
                    if since.elapsed() >= self.mask.settle {
                        self.settling.remove(&path);
                        self.ready.push_back(path);
                    }
                }
                _ => {
                    self.settling.insert(path, (look, Instant::now()));
                }
            }
        }
        // What is there already is not told apart later from what is new, so it is looked again.
        let unseen = !listed.saw(self.mask.pattern.root()) && self.mask.pattern.root().exists();
        self.fresh = self.fresh && unseen;
        if !self.begun && !self.fresh {
            // So that what is dropped while we are down is new, also if nothing was there at first.
            self.begun = true;
            let position = Some("yes".to_owned());
            batch.parts.push(Part { lane: Arc::from(BEGUN), shared: None, events: Vec::new(), position });
        }
    }

    fn tell_away(&mut self, away: usize) {
        if std::mem::replace(&mut self.away, away) != away {
            let text = format!("files on a file system that is not mounted now: {away}; they do not count as gone");
            self.meter.note(if away > 0 { text } else { String::new() });
        }
    }

    /// Reads a file that has settled.
    fn begin(&mut self, path: PathBuf, batch: &mut Batch) -> io::Result<()> {
        let look = match Look::at(&path) {
            Ok(look) => look,
            // Gone before it was read: the next look sees that.
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(fault) => return Err(fault),
        };
        let before = self.seen.get(&path).cloned();
        let sha256 = hash(&path)?;
        let known = before.is_some();
        let same = before.as_ref().is_some_and(|before| before.sha256 == sha256);
        let mut seen = seen_of(&path, look, sha256, known);
        let unfinished = before.as_ref().and_then(|before| before.rows).filter(|_| same);
        let wanted = match self.mask.on {
            On::Create => !known || unfinished.is_some(),
            On::Change => known,
            _ => true,
        };
        if !wanted || (same && unfinished.is_none()) {
            // The file that was read, whose file system has another number since: it is to be put away still.
            seen.done = same && before.is_some_and(|before| before.done && look.is_but_for_its_system(&before));
            if seen.done {
                self.finished.push(path.clone());
            }
            batch.parts.push(position_only(&path, &seen));
            self.seen.insert(path, seen);
            return Ok(());
        }
        let event = if before.as_ref().is_some_and(|before| before.rows.is_none() || before.known) {
            "modified"
        } else {
            "created"
        };
        let format = self.mask.format_of(&path);
        let shared = Arc::new(fields(&path, event, seen.size, &seen.sha256, format));
        if !self.mask.rows {
            self.whole(path, format, shared, seen, batch)?;
            return Ok(());
        }
        match Rows::open(File::open(&path)?, format, &self.mask)? {
            Err(fault) => self.bad(path, seen, &fault, batch),
            Ok(rows) => {
                seen.known = event == "modified";
                let mut reading = Reading { lane: lane(&path), path, shared, rows, row: 0, seen };
                // What was written before the process died is not written again.
                while reading.row < unfinished.unwrap_or(0) {
                    match reading.rows.next()? {
                        Next::Row(..) | Next::Bad(..) => reading.row += 1,
                        Next::Broken(_) | Next::End => break,
                    }
                }
                self.reading = Some(reading);
                Ok(())
            }
        }
    }

    /// A file as one event.
    fn whole(
        &mut self,
        path: PathBuf,
        format: Format,
        shared: Arc<Fields>,
        seen: Seen,
        batch: &mut Batch,
    ) -> io::Result<()> {
        if seen.size > WHOLE_MAX {
            let fault = format!("it has {} bytes, and {WHOLE_MAX} are one event at most; bind it with rows", seen.size);
            return self.bad(path, seen, &fault, batch);
        }
        let mut bytes = Vec::new();
        File::open(&path)?.take(WHOLE_MAX).read_to_end(&mut bytes)?;
        let without_mark = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&bytes);
        let (text, data) = match std::str::from_utf8(without_mark) {
            Ok(text) => match document::parse(format, text, &self.mask) {
                Ok(data) => (text.to_owned(), data),
                Err(fault) => return self.bad(path, seen, &fault, batch),
            },
            Err(_) if format == Format::Text => (String::new(), Value::Null),
            Err(fault) => return self.bad(path, seen, &fault.to_string(), batch),
        };
        let body = if text.is_empty() { bytes } else { Vec::new() };
        let mut own = Fields::new();
        if !data.is_null() {
            own.push(("data", data));
        }
        let inbound = Inbound { key: None, at: Utc::now(), text, fields: own, body };
        if inbound.size() > EVENT_BYTES {
            return self.bad(path, seen, "what it holds is too much for one event; bind it with rows", batch);
        }
        let seen = Seen { done: true, ..seen };
        let position = position(&seen);
        batch.parts.push(Part {
            lane: lane(&path),
            shared: Some(shared),
            events: vec![inbound],
            position: Some(position),
        });
        self.finished.push(path.clone());
        self.seen.insert(path, seen);
        Ok(())
    }

    /// A file that cannot be understood: its beginning goes to the dead letters, and it is not read again until it changes.
    fn bad(&mut self, path: PathBuf, seen: Seen, fault: &str, batch: &mut Batch) -> io::Result<()> {
        let bytes = beginning(&path)?;
        let reason = format!("{}: {fault}", path.display());
        batch.undecodable.push(Undecodable { lane: lane(&path), bytes, reason });
        batch.parts.push(position_only(&path, &seen));
        self.seen.insert(path, seen);
        Ok(())
    }

    /// More rows of the file that is being read.
    fn more(&mut self, batch: &mut Batch) -> io::Result<()> {
        let Some(reading) = &mut self.reading else { return Ok(()) };
        let mut events = Vec::new();
        let mut bytes = 0;
        let (mut done, mut broken) = (false, false);
        while events.len() < ROWS && bytes < BYTES {
            let lane = Arc::clone(&reading.lane);
            let place = |fault: &str| format!("{}: {fault}", reading.path.display());
            match reading.rows.next()? {
                Next::Row(text, data) => {
                    reading.row += 1;
                    let mut own: Fields = vec![("row", Value::from(reading.row))];
                    if !data.is_null() {
                        own.push(("data", data));
                    }
                    let event = Inbound { key: None, at: Utc::now(), text, fields: own, body: Vec::new() };
                    let size = event.size();
                    if size > EVENT_BYTES {
                        let reason = place(&format!("row {} is too much for one event: {size} bytes", reading.row));
                        let mut row = event.text.into_bytes();
                        row.truncate(BAD_BYTES);
                        bytes += row.len();
                        batch.undecodable.push(Undecodable { lane, bytes: row, reason });
                        continue;
                    }
                    bytes += size;
                    events.push(event);
                }
                Next::Bad(mut row, fault) => {
                    reading.row += 1;
                    row.truncate(BAD_BYTES);
                    bytes += row.len() + fault.len();
                    batch.undecodable.push(Undecodable { lane, bytes: row, reason: place(&fault) });
                }
                Next::Broken(fault) => {
                    batch.undecodable.push(Undecodable {
                        lane,
                        bytes: beginning(&reading.path)?,
                        reason: place(&fault),
                    });
                    (done, broken) = (true, true);
                    break;
                }
                Next::End => {
                    done = true;
                    break;
                }
            }
        }
        if done && let Some(last) = events.last_mut() {
            last.fields.push(("last", Value::Bool(true)));
        }
        reading.seen.rows = (!done).then_some(reading.row);
        // What breaks off stays where it is, for somebody to look at.
        reading.seen.done = done && !broken;
        let (lane, shared) = (Arc::clone(&reading.lane), Some(Arc::clone(&reading.shared)));
        batch.parts.push(Part { lane, shared, events, position: Some(position(&reading.seen)) });
        self.seen.insert(reading.path.clone(), reading.seen.clone());
        if done {
            self.finished.push(reading.path.clone());
            self.reading = None;
        }
        Ok(())
    }

    /// What there is now; empty if nothing has settled.
    fn collect(&mut self) -> io::Result<Batch> {
        let mut batch = Batch::default();
        if self.reading.is_some() {
            self.more(&mut batch)?;
            self.tell_lag();
            return Ok(batch);
        }
        self.unreadable.retain(|_, since| since.elapsed() < LOOK);
        let woken = self.wake.as_ref().is_some_and(Wake::take);
        let due = !self.settling.is_empty() || self.looked.is_none_or(|looked| looked.elapsed() >= LOOK);
        if woken || due {
            self.look(&mut batch);
            self.mask.pattern.doubt().into_iter().for_each(|doubt| self.meter.note(doubt));
            if let Some(wake) = &mut self.wake {
                wake.watch(&self.mask.pattern.folders());
            }
        }
        self.tell_lag();
        let mut bytes = 0;
        while bytes < BYTES && self.reading.is_none() {
            let Some(path) = self.ready.pop_front() else { break };
            bytes += usize::try_from(path.metadata().map_or(0, |meta| meta.len())).unwrap_or(BYTES);
            let before = batch.parts.len();
            if let Err(fault) = self.begin(path.clone(), &mut batch).and_then(|()| self.more(&mut batch)) {
                // One that cannot be read is no reason not to read the others; it is looked at again.
                self.unread.failed(&path, &fault);
                self.reading = None;
                self.unreadable.insert(path, Instant::now());
            } else {
                self.unread.worked(&path);
            }
            // What names its columns again and again is more than the file.
            let parts = batch.parts.iter().skip(before);
            bytes += parts.flat_map(|part| &part.events).map(Inbound::size).sum::<usize>();
        }
        Ok(batch)
    }

    /// The same while nobody reads because the journal is full: of all that is there now. What it is stays to be found.
    fn tell_lag_of_all(&mut self) {
        if self.counted.is_some_and(|counted| counted.elapsed() < LOOK) {
            return;
        }
        self.counted = Some(Instant::now());
        let mut listed = self.mask.pattern.listed();
        let paths: BTreeSet<PathBuf> = std::mem::take(&mut listed.files).into_iter().collect();
        let done = |path: &PathBuf, seen: &Seen| seen.rows.is_none() && Look::at(path).is_ok_and(|look| look.is(seen));
        let waiting = match self.mask.on {
            On::Delete => gone(&self.seen, &paths, &listed).0.len(),
            _ => paths.iter().filter(|path| !self.seen.get(*path).is_some_and(|seen| done(path, seen))).count(),
        };
        self.meter.lag(waiting as u64, "files");
    }

    /// How many files there are that are not read to their end.
    fn tell_lag(&self) {
        let waiting = self.ready.len() + self.settling.len() + usize::from(self.reading.is_some());
        self.meter.lag(waiting as u64, "files");
    }

    /// Moves or deletes what is read and durable.
    fn put_away(&mut self) {
        for path in std::mem::take(&mut self.finished) {
            // What was written meanwhile has not been read: it is another file.
            let same =
                self.seen.get(&path).is_some_and(|seen| seen.done && Look::at(&path).is_ok_and(|look| look.is(seen)));
            let done = match &self.mask.then {
                _ if !same => continue,
                Then::Keep => continue,
                Then::Delete => std::fs::remove_file(&path),
                Then::Move(folder) => move_into(&path, folder),
            };
            if let Err(fault) = done
                && fault.kind() != io::ErrorKind::NotFound
            {
                tracing::error!(path = %path.display(), %fault, "A file that is read cannot be put away; it stays, and is not read again");
                self.meter.note(format!("{}: {fault}", path.display()));
            }
        }
    }
}

/// As much of a file as is kept of one that cannot be understood.
fn beginning(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(BAD_BYTES as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn bare(text: String) -> Inbound {
    Inbound { key: None, at: Utc::now(), text, fields: Fields::new(), body: Vec::new() }
}

impl Source for Files {
    fn blocking(&self) -> bool {
        true
    }

    fn open<'a>(&'a mut self, positions: &'a Positions) -> Borrowed<'a, Result<(), SourceError>> {
        Box::pin(async move {
            (self.fresh, self.begun) = (positions.is_empty(), positions.contains_key(BEGUN));
            (self.reading, self.looked) = (None, None);
            self.ready.clear();
            self.settling.clear();
            self.finished.clear();
            self.seen = positions
                .iter()
                .filter(|(path, _)| *path != BEGUN)
                .filter_map(|(path, text)| Some((PathBuf::from(path), serde_json::from_str(text).ok()?)))
                .collect();
            if self.mask.then != Then::Keep {
                // Read and durable, but not put away when the process died.
                let unchanged =
                    |(path, seen): &(&PathBuf, &Seen)| seen.done && Look::at(path).is_ok_and(|look| look.is(seen));
                self.finished = self.seen.iter().filter(unchanged).map(|(path, _)| path.clone()).collect();
                self.put_away();
            }
            self.wake = Some(Wake::new(&self.mask.pattern.folders()));
            Ok(())
        })
    }

    fn next(&mut self) -> Borrowed<'_, Result<Batch, SourceError>> {
        Box::pin(async move {
            loop {
                let batch = self.collect().map_err(|fault| SourceError::Lost(fault.to_string()))?;
                if !batch.is_empty() {
                    return Ok(batch);
                }
                let wait =
                    if self.settling.is_empty() { LOOK } else { self.mask.settle.max(Duration::from_millis(10)) / 2 };
                match &mut self.wake {
                    Some(wake) => wake.wait(wait).await,
                    None => tokio::time::sleep(wait).await,
                }
            }
        })
    }

    fn settle<'a>(&'a mut self, _: u64, _: &'a [Fate]) -> Borrowed<'a, Result<(), SourceError>> {
        Box::pin(async move {
            self.put_away();
            Ok(())
        })
    }

    fn idle<'a>(&'a mut self, _: &'a mut Batch) -> Borrowed<'a, Result<(), SourceError>> {
        self.tell_lag_of_all();
        Box::pin(async { Ok(()) })
    }

    fn close(&mut self) -> Borrowed<'_, ()> {
        Box::pin(async {
            (self.wake, self.reading) = (None, None);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn batches(name: &str, words: &str, text: &str) -> Vec<Batch> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        let mask = FileMask::parse(&format!("{} settle=1ms {words}", path.display())).unwrap();
        let mut files = Files::new(mask, Arc::default());
        files.open(&Positions::new()).await.unwrap();
        let mut out = Vec::new();
        loop {
            let batch = files.next().await.unwrap();
            files.settle(0, &[]).await.unwrap();
            out.push(batch);
            if files.seen.values().any(|seen| seen.rows.is_none()) && files.reading.is_none() {
                return out;
            }
        }
    }

    #[tokio::test]
    async fn files_that_come_while_nobody_reads_are_counted_and_all_are_found_afterwards() {
        let (dir, meter) = (tempfile::tempdir().unwrap(), Arc::<Meter>::default());
        let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let mask = FileMask::parse(&format!("{}/*.txt rows settle=1ms", dir.path().display())).unwrap();
        let mut files = Files::new(mask, Arc::clone(&meter));
        files.open(&Positions::new()).await.unwrap();
        put("first.txt", "first\n");
        let mut texts = Vec::new();
        let mut waiting = loop {
            let batch = files.next().await.unwrap();
            if batch.count() > 0 {
                break batch;
            }
            files.settle(0, &[]).await.unwrap();
        };
        files.idle(&mut waiting).await.unwrap();
        assert_eq!(meter.lagging(), Some((0, "files")), "it is read, and waits for room");
        (0..20).for_each(|number| put(&format!("{number}.txt"), &format!("{number}\n")));
        put("first.txt", "first again\n");
        files.counted = None;
        files.idle(&mut waiting).await.unwrap();
        assert_eq!(meter.lagging(), Some((21, "files")));
        // There is room again.
        texts.extend(waiting.parts.into_iter().flat_map(|part| part.events).map(|event| event.text));
        files.settle(0, &[]).await.unwrap();
        while texts.len() < 22 {
            let batch = tokio::time::timeout(Duration::from_secs(30), files.next()).await.unwrap().unwrap();
            texts.extend(batch.parts.into_iter().flat_map(|part| part.events).map(|event| event.text));
            files.settle(0, &[]).await.unwrap();
        }
        texts.sort();
        let mut all: Vec<String> = (0..20).map(|number| number.to_string()).collect();
        all.extend(["first", "first again"].map(str::to_owned));
        all.sort();
        assert_eq!(texts, all, "each once");
        assert!(tokio::time::timeout(Duration::from_millis(300), files.next()).await.is_err(), "there is nothing more");
        assert_eq!(meter.lagging(), Some((0, "files")));
    }

    /// What is told of a folder: of what is there at first, and of each deed.
    async fn told(words: &str, deeds: &[&dyn Fn(&Path)]) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("old.txt"), "old").unwrap();
        let mask = FileMask::parse(&format!("{}/*.txt settle=20ms {words}", dir.path().display())).unwrap();
        let mut files = Files::new(mask, Arc::default());
        files.open(&Positions::new()).await.unwrap();
        let mut out = Vec::new();
        let mut deeds = deeds.iter();
        loop {
            // Long enough for a file to settle.
            match tokio::time::timeout(Duration::from_millis(300), files.next()).await {
                Ok(batch) => {
                    for part in batch.unwrap().parts {
                        let shared = part.shared.as_ref().map(|shared| shared.to_vec()).unwrap_or_default();
                        let of = |name: &str| shared.iter().find(|(key, _)| *key == name).unwrap().1.as_str().unwrap();
                        out.extend(part.events.iter().map(|event| match event.text.starts_with('/') {
                            true => format!("{} {}", of("event"), of("name")),
                            false => format!("{} {}: {}", of("event"), of("name"), event.text),
                        }));
                    }
                    files.settle(0, &[]).await.unwrap();
                }
                Err(_) => match deeds.next() {
                    Some(deed) => deed(dir.path()),
                    None => return out,
                },
            }
        }
    }

    #[tokio::test]
    async fn what_is_made_what_is_changed_or_what_goes_is_told_as_the_mask_says() {
        let put =
            |name: &'static str, text: &'static str| move |dir: &Path| std::fs::write(dir.join(name), text).unwrap();
        let (make, change, again) = (put("new.txt", "new"), put("new.txt", "newer"), put("old.txt", "older"));
        let replace = |dir: &Path| {
            std::fs::write(dir.join("part"), "newest").unwrap();
            std::fs::rename(dir.join("part"), dir.join("new.txt")).unwrap();
        };
        let remove = |dir: &Path| std::fs::remove_file(dir.join("new.txt")).unwrap();
        let deeds: [&dyn Fn(&Path); 5] = [&make, &change, &again, &replace, &remove];
        let all = [
            "created old.txt: old",
            "created new.txt: new",
            "modified new.txt: newer",
            "modified old.txt: older",
            "modified new.txt: newest",
        ];
        assert_eq!(told("", &deeds).await, all);
        assert_eq!(told("existing=no", &deeds).await, all[1..]);
        assert_eq!(told("on=create", &deeds).await, all[..2]);
        assert_eq!(told("on=change", &deeds).await, all[2..]);
        assert_eq!(told("on=delete", &deeds).await, ["deleted new.txt"]);
    }

    /// What is told of a folder when it is looked at until all in it has settled, and what is remembered of it.
    async fn looks(files: &mut Files) -> (Vec<String>, Vec<String>) {
        let mut out = (Vec::new(), Vec::new());
        for _ in 0..3 {
            files.looked = None;
            let batch = files.collect().unwrap();
            files.settle(0, &[]).await.unwrap();
            for part in batch.parts.into_iter().filter(|part| &*part.lane != BEGUN) {
                let event = part.shared.as_ref().map(|shared| shared[2].1.as_str().unwrap().to_owned());
                out.0.extend(part.events.iter().map(|told| format!("{} {}", event.as_deref().unwrap(), told.text)));
                out.1.extend(part.position);
            }
            // A file has settled after a millisecond.
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        out
    }

    fn on(folder: &Path, words: &str) -> (Files, Arc<Meter>) {
        let meter = Arc::<Meter>::default();
        let mask = FileMask::parse(&format!("{}/*.txt settle=1ms {words}", folder.display())).unwrap();
        (Files::new(mask, Arc::clone(&meter)), meter)
    }

    #[tokio::test]
    async fn the_same_bytes_again_are_nothing_new_unless_something_else_or_nothing_was_there_in_between() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("one.txt");
        let put = |text: &str| std::fs::write(&path, text).unwrap();
        for words in ["", "then=delete"] {
            let (mut files, _) = on(dir.path(), words);
            files.open(&Positions::new()).await.unwrap();
            put("old");
            assert_eq!(looks(&mut files).await.0, ["created old"]);
            // What was put away and comes again is dropped again.
            let again = if words.is_empty() { Vec::new() } else { vec!["created old"] };
            put("old");
            assert_eq!(looks(&mut files).await.0, again, "{words:?}");
            std::fs::write(dir.path().join("part"), "old").unwrap();
            std::fs::rename(dir.path().join("part"), &path).unwrap();
            assert_eq!(looks(&mut files).await.0, again, "{words:?}");
            let event = if words.is_empty() { "modified" } else { "created" };
            for text in ["other", "old"] {
                put(text);
                assert_eq!(looks(&mut files).await.0, [format!("{event} {text}")]);
            }
            // It may be away already.
            let _ = std::fs::remove_file(&path);
            assert!(looks(&mut files).await.0.is_empty());
        }
    }

    #[tokio::test]
    async fn what_was_on_a_share_that_is_not_mounted_is_not_gone_and_is_nothing_new_when_it_is_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("one.txt");
        for words in ["", "on=delete"] {
            std::fs::write(&path, "1").unwrap();
            let (mut files, meter) = on(dir.path(), words);
            files.open(&Positions::new()).await.unwrap();
            assert_eq!(looks(&mut files).await.0.len(), usize::from(words.is_empty()));
            // The folder that is there now is of another file system than the one it was in.
            files.seen.values_mut().for_each(|seen| seen.mount.push_str("/share"));
            std::fs::remove_file(&path).unwrap();
            assert_eq!(looks(&mut files).await, (Vec::new(), Vec::new()), "{words:?}: nothing is forgotten or told");
            assert!(meter.noted().contains("not mounted now: 1"), "{}", meter.noted());
            assert_eq!(files.seen.len(), 1);
            std::fs::write(&path, "1").unwrap();
            assert!(looks(&mut files).await.0.is_empty(), "{words:?}: it is what it was");
            assert_eq!(meter.noted(), "");
            std::fs::remove_file(&path).unwrap();
            let (told, places) = looks(&mut files).await;
            assert_eq!((told.len(), places), (usize::from(!words.is_empty()), vec![String::new()]), "{words:?}: gone");
        }
    }

    #[tokio::test]
    async fn what_is_gone_is_gone_though_its_file_system_has_another_number_since_it_was_mounted_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("one.txt");
        for words in ["on=create", "on=delete"] {
            std::fs::write(&path, "1").unwrap();
            let (mut files, _) = on(dir.path(), words);
            files.open(&Positions::new()).await.unwrap();
            let (told, places) = looks(&mut files).await;
            assert_eq!(told.len(), usize::from(words == "on=create"));
            // The bot is away; somebody takes the file, and when the machine begins again its file systems have other numbers.
            std::fs::remove_file(&path).unwrap();
            let mut place: Value = serde_json::from_str(places.last().unwrap()).unwrap();
            for (name, value) in place.as_object_mut().unwrap() {
                if ["dev", "volume"].contains(&name.as_str()) {
                    *value = Value::from(value.as_u64().unwrap() + 1);
                }
            }
            let known = [(path.display().to_string(), place.to_string()), (BEGUN.to_owned(), "yes".to_owned())];
            let (mut files, meter) = on(dir.path(), words);
            files.open(&Positions::from(known)).await.unwrap();
            let (told, places) = looks(&mut files).await;
            assert_eq!((told.len(), places), (usize::from(words == "on=delete"), vec![String::new()]), "{words}: gone");
            assert_eq!(meter.noted(), "");
            // What comes under its name is another one.
            std::fs::write(&path, "2").unwrap();
            assert_eq!(looks(&mut files).await.0.len(), usize::from(words == "on=create"), "{words}");
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[tokio::test]
    async fn what_was_read_is_put_away_though_its_file_system_has_another_number_since() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("one.txt");
        std::fs::write(&path, "1").unwrap();
        let (mut files, _) = on(dir.path(), "");
        files.open(&Positions::new()).await.unwrap();
        let (_, places) = looks(&mut files).await;
        let mut place: Value = serde_json::from_str(places.last().unwrap()).unwrap();
        place["dev"] = Value::from(place["dev"].as_u64().unwrap() + 1);
        // The bot died before it was put away.
        let known = [(path.display().to_string(), place.to_string()), (BEGUN.to_owned(), "yes".to_owned())];
        let (mut files, _) = on(dir.path(), "then=delete");
        files.open(&Positions::from(known)).await.unwrap();
        assert_eq!((looks(&mut files).await.0, path.exists()), (Vec::new(), false));
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_listed_is_not_an_empty_one() {
        let (root, meter) = (tempfile::tempdir().unwrap(), Arc::<Meter>::default());
        let (share, aside) = (root.path().join("share"), root.path().join("aside"));
        std::fs::create_dir_all(share.join("deep")).unwrap();
        let put = |name: &str, text: &str| std::fs::write(share.join(name), text).unwrap();
        put("one.txt", "1\n");
        put("deep/two.txt", "2\n");
        for words in ["", "rows", "on=delete"] {
            let mask = FileMask::parse(&format!("{}/**/*.txt settle=1ms {words}", share.display())).unwrap();
            let mut files = Files::new(mask, Arc::clone(&meter));
            let mut positions = Positions::new();
            let mut heard = Vec::new();
            // It is looked, whatever the clock says, and all that is there is taken.
            let mut look = async |positions: &mut Positions| {
                for _ in 0..3 {
                    (files.looked, files.counted) = (None, None);
                    let batch = files.collect().unwrap();
                    files.settle(0, &[]).await.unwrap();
                    for part in batch.parts {
                        let event = part.shared.as_ref().map(|shared| shared[2].1.as_str().unwrap().to_owned());
                        heard.extend(part.events.iter().map(|_| event.clone().unwrap()));
                        let place = part.position.unwrap_or_default();
                        positions.insert(part.lane.to_string(), place);
                    }
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
                std::mem::take(&mut heard)
            };
            let there = if words == "on=delete" { 0 } else { 2 };
            assert_eq!(look(&mut positions).await.len(), there, "{words:?}");
            let known = positions.clone();
            // No folder is there, or something else, or not the one below.
            std::fs::rename(&share, &aside).unwrap();
            assert_eq!((look(&mut positions).await.len(), &positions), (0, &known), "{words:?}: it is missing");
            std::fs::write(&share, "no folder").unwrap();
            assert_eq!((look(&mut positions).await.len(), &positions), (0, &known), "{words:?}: it is no folder");
            std::fs::remove_file(&share).unwrap();
            std::fs::rename(&aside, &share).unwrap();
            assert_eq!((look(&mut positions).await.len(), &positions), (0, &known), "{words:?}: it is back");
            // What is gone in a folder that is there, is.
            std::fs::remove_file(share.join("deep/two.txt")).unwrap();
            assert_eq!(look(&mut positions).await.len(), usize::from(there == 0), "{words:?}");
            assert!(positions.iter().any(|(path, place)| path.ends_with("two.txt") && place.is_empty()));
            put("deep/two.txt", "2\n");
        }
    }

    #[tokio::test]
    async fn in_a_tree_with_more_folders_than_are_walked_what_is_new_and_what_is_gone_there_is_told() {
        let root = tempfile::tempdir().unwrap();
        let make = |folders: std::ops::Range<usize>, file: bool| {
            for folder in folders.map(|number| root.path().join(number.to_string())) {
                std::fs::create_dir(&folder).unwrap();
                if file {
                    std::fs::write(folder.join("some.txt"), "some").unwrap();
                }
            }
        };
        let put = |name: &str| std::fs::write(root.path().join(name), name).unwrap();
        let files = |words: &str| {
            let mask = FileMask::parse(&format!("{}/**/*.txt settle=1ms {words}", root.path().display())).unwrap();
            Files::new(mask, Arc::default())
        };
        /// It is looked, whatever the clock says; which events are told of what, and how many files are forgotten.
        async fn look(files: &mut Files) -> (Vec<String>, usize) {
            let (mut heard, mut forgotten) = (Vec::new(), 0);
            for _ in 0..3 {
                files.looked = None;
                let batch = files.collect().unwrap();
                files.settle(0, &[]).await.unwrap();
                for part in batch.parts {
                    forgotten += usize::from(part.position.as_deref() == Some(""));
                    let shared = part.shared.as_ref().map(|shared| shared[2].1.clone()).unwrap_or_default();
                    let name = part.lane.rsplit('/').next().unwrap();
                    heard.extend(part.events.iter().map(|_| format!("{} {name}", shared.as_str().unwrap())));
                }
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            (heard, forgotten)
        }
        // So far all are walked.
        make(0..90, true);
        let mut deleted = files("on=delete");
        assert_eq!(look(&mut deleted).await, (vec![], 0));
        make(90..130, false);
        put("old.txt");
        assert!(deleted.mask.pattern.listed().doubt().unwrap().contains("not seen"));
        assert_eq!(look(&mut deleted).await, (vec![], 0), "what is beyond the bound now is not gone");
        let mut new = files("existing=no");
        assert_eq!(look(&mut new).await, (vec![], 0));
        put("new.txt");
        assert_eq!(look(&mut new).await, (vec!["created new.txt".to_owned()], 0));
        std::fs::remove_file(root.path().join("new.txt")).unwrap();
        assert_eq!(look(&mut new).await, (vec![], 1));
        // Wherever it was.
        (0..45).for_each(|folder| std::fs::remove_file(root.path().join(format!("{folder}/some.txt"))).unwrap());
        std::fs::remove_dir_all(root.path().join("45")).unwrap();
        let (heard, forgotten) = look(&mut deleted).await;
        assert_eq!((heard, forgotten), (vec!["deleted some.txt".to_owned(); 46], 46));
    }

    #[tokio::test]
    async fn a_file_that_is_still_written_waits_until_it_has_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let mask = FileMask::parse(&format!("{}/*.json settle=2s", dir.path().display())).unwrap();
        let mut files = Files::new(mask, Arc::default());
        files.open(&Positions::new()).await.unwrap();
        let path = dir.path().join("report.json");
        let began = Instant::now();
        let mut events: Vec<Inbound> = Vec::new();
        for part in ["{\"orders\": [1", ", 2", ", 3]}"] {
            use std::io::Write;
            std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(&path)
                .unwrap()
                .write_all(part.as_bytes())
                .unwrap();
            let until = tokio::time::Instant::now() + Duration::from_millis(200);
            while let Ok(batch) = tokio::time::timeout_at(until, files.next()).await {
                let batch = batch.unwrap();
                assert!(batch.undecodable.is_empty() && batch.count() == 0, "{batch:?}");
                files.settle(0, &[]).await.unwrap();
            }
        }
        while events.is_empty() {
            events.extend(files.next().await.unwrap().parts.into_iter().flat_map(|part| part.events));
        }
        assert_eq!(events[0].text, "{\"orders\": [1, 2, 3]}");
        assert!(began.elapsed() >= Duration::from_millis(2400), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn columns_with_long_names_make_more_batches_not_bigger_ones() {
        let names = ["a", "b"].map(|name| name.repeat(20_000)).join(",");
        let batches = batches("wide.csv", "rows", &format!("{names}\n{}", "1,2\n".repeat(500))).await;
        assert_eq!(batches.iter().map(Batch::count).sum::<usize>(), 500);
        for batch in &batches {
            assert!(batch.size() < BYTES + 50_000, "{}", batch.size());
        }
    }

    #[tokio::test]
    async fn a_small_file_that_would_be_too_much_as_a_value_is_a_dead_letter_that_says_what_to_do() {
        let names = ["a", "b"].map(|name| name.repeat(20_000)).join(",");
        let batches = batches("wide.csv", "", &format!("{names}\n{}", "1,2\n".repeat(5000))).await;
        let bad: Vec<&Undecodable> = batches.iter().flat_map(|batch| &batch.undecodable).collect();
        assert!(matches!(bad[..], [one] if one.reason.contains("bind it with rows")), "{bad:?}");
    }

    #[tokio::test]
    async fn a_row_that_cannot_be_understood_is_kept_as_far_as_it_helps() {
        let text = format!("a,b\n1,2\n3,\"{}", "4,5\n".repeat(500_000));
        let batches = batches("open.csv", "rows", &format!("{text}\",6\n")).await;
        let bad: Vec<&Undecodable> = batches.iter().flat_map(|batch| &batch.undecodable).collect();
        assert!(
            matches!(bad[..], [one] if one.bytes.len() == BAD_BYTES && one.reason.contains("line 3")),
            "{}",
            bad.len()
        );
    }
}
