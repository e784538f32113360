//! What is wanted of files and not read, as an operator is told of it: how much, and which of them cannot be read.

use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use masterchief_contract::Meter;

/// What is away for less than this is only being rotated.
const MOMENT: Duration = Duration::from_secs(3);
/// How often it is told how much is not read yet.
const MEASURE: Duration = Duration::from_secs(1);

pub(crate) struct Unread {
    meter: Arc<Meter>,
    faults: BTreeMap<PathBuf, String>,
    /// What is not there at all, and since when.
    missing: Option<(String, Instant)>,
    measured: Option<Instant>,
}

impl Unread {
    pub(crate) fn new(meter: Arc<Meter>) -> Unread {
        Unread { meter, faults: BTreeMap::new(), missing: None, measured: None }
    }

    /// Opens a file, if that can be done.
    pub(crate) fn open(&mut self, path: &Path) -> Option<(File, Metadata)> {
        match File::open(path).and_then(|file| file.metadata().map(|meta| (file, meta))) {
            Ok(opened) => {
                self.worked(path);
                Some(opened)
            }
            Err(fault) => {
                self.failed(path, &fault);
                None
            }
        }
    }

    /// Tells, now and then, how many bytes there are of files that are read up to some place.
    pub(crate) fn measure<'a>(&mut self, files: impl Iterator<Item = (&'a File, u64)>) {
        if self.measured.is_none_or(|at| at.elapsed() >= MEASURE) {
            self.measured = Some(Instant::now());
            let rest = files.map(|(file, read)| file.metadata().map_or(0, |meta| meta.len()).saturating_sub(read));
            self.meter.lag(rest.sum(), "bytes");
        }
    }

    /// A file cannot be read. One that has gone meanwhile is none.
    pub(crate) fn failed(&mut self, path: &Path, fault: &io::Error) {
        if fault.kind() != io::ErrorKind::NotFound {
            self.faults.insert(path.to_owned(), fault.to_string());
            self.tell();
        }
    }

    /// A file can be read.
    pub(crate) fn worked(&mut self, path: &Path) {
        if !self.faults.is_empty() && self.faults.remove(path).is_some() {
            self.tell();
        }
    }

    /// It was looked for files: why there are none, if that is so.
    pub(crate) fn looked(&mut self, missing: Option<String>) {
        self.faults.retain(|path, _| path.symlink_metadata().is_ok());
        let since = self.missing.take().map(|(_, since)| since);
        self.missing = missing.map(|why| (why, since.unwrap_or_else(Instant::now)));
        self.tell();
    }

    fn tell(&self) {
        let missing = self.missing.as_ref().filter(|(_, since)| since.elapsed() >= MOMENT);
        match (self.faults.first_key_value(), missing) {
            (Some((path, fault)), _) => {
                let more = match self.faults.len() {
                    1 => String::new(),
                    count => format!(" (and {} more)", count - 1),
                };
                self.meter.trouble(format!("{}: {fault}{more}", path.display()));
            }
            (None, Some((why, _))) => self.meter.trouble(why),
            (None, None) => self.meter.well(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_read_is_told_until_it_can_or_is_gone() {
        let (dir, meter) = (tempfile::tempdir().unwrap(), Arc::<Meter>::default());
        let [one, two] = ["a.log", "b.log"].map(|name| dir.path().join(name));
        [&one, &two].iter().for_each(|path| std::fs::write(path, "").unwrap());
        let mut unread = Unread::new(Arc::clone(&meter));
        unread.failed(&two, &io::ErrorKind::NotFound.into());
        assert_eq!(meter.troubled(), None, "it has gone meanwhile");
        [&one, &two].iter().for_each(|path| unread.failed(path, &io::ErrorKind::PermissionDenied.into()));
        let said = meter.troubled().unwrap();
        assert!(said.contains("a.log: permission denied (and 1 more)"), "{said}");
        unread.worked(&one);
        assert!(meter.troubled().unwrap().ends_with("b.log: permission denied"));
        std::fs::remove_file(&two).unwrap();
        unread.looked(None);
        assert_eq!(meter.troubled(), None);
    }

    #[test]
    fn what_is_away_for_a_moment_is_no_trouble() {
        let meter = Arc::<Meter>::default();
        let mut unread = Unread::new(Arc::clone(&meter));
        unread.looked(Some("it is not there".to_owned()));
        assert_eq!(meter.troubled(), None);
        unread.missing = unread.missing.take().map(|(why, since)| (why, since - MOMENT));
        unread.looked(Some("it is not there".to_owned()));
        assert_eq!(meter.troubled().as_deref(), Some("it is not there"));
        unread.looked(None);
        assert_eq!(meter.troubled(), None);
    }
}
