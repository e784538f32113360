//! The calendars that rules name, as they were read last. They are read beside the runs: what decides about these reads no files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::calendar::{self, Frozen};
use super::model::Pipeline;

/// What is frozen by a calendar, or why it cannot be read.
pub(super) type Calendar = Result<Arc<Vec<Frozen>>, String>;
/// What tells versions of a file apart; nothing where it is not there.
type Stamp = Option<(SystemTime, u64)>;

/// Calendars, by their files.
#[derive(Clone, Debug, Default)]
pub(super) struct Calendars {
    known: BTreeMap<PathBuf, (Stamp, Calendar)>,
}

impl Calendars {
    /// These files as they are now.
    pub(super) fn of(files: &BTreeSet<PathBuf>) -> Calendars {
        let mut calendars = Calendars::default();
        calendars.refresh(files);
        calendars
    }

    /// Reads those of these files that are new or changed, and forgets all others; whether anything is otherwise than before.
    pub(super) fn refresh(&mut self, files: &BTreeSet<PathBuf>) -> bool {
        let before = self.known.len();
        self.known.retain(|path, _| files.contains(path));
        let mut changed = self.known.len() < before;
        for path in files {
            let stamp = stamp(path);
            let known = self.known.get(path).filter(|(known, _)| *known == stamp);
            // One that could not be read may be readable now, whatever its time says.
            let fault = match known {
                Some((_, Ok(_))) => continue,
                Some((_, Err(fault))) => Some(fault.clone()),
                None => None,
            };
            let now = read(path);
            if fault.is_none() || now.as_ref().err() != fault.as_ref() {
                changed = true;
                self.known.insert(path.clone(), (stamp, now));
            }
        }
        changed
    }

    /// Whether there are any.
    pub(super) fn any(&self) -> bool {
        !self.known.is_empty()
    }

    /// A calendar as it was read last; nothing where it was not.
    pub(super) fn get(&self, path: &Path) -> Option<&Calendar> {
        self.known.get(path).map(|(_, read)| read)
    }
}

/// The files of calendars that pipelines name.
pub(super) fn named<'p>(pipelines: impl Iterator<Item = &'p Arc<Pipeline>>) -> BTreeSet<PathBuf> {
    let of = |pipeline: &Arc<Pipeline>| -> Vec<PathBuf> {
        let rules = pipeline.policy.environments.iter().flat_map(|(_, rules)| &rules.freeze);
        rules.map(|file| pipeline.calendar(file)).collect()
    };
    pipelines.flat_map(of).collect()
}

fn stamp(path: &Path) -> Stamp {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}

fn read(path: &Path) -> Calendar {
    let text = std::fs::read_to_string(path).map_err(|fault| fault.to_string())?;
    calendar::parse(&text).map(Arc::new).map_err(|fault| fault.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ics(name: &str) -> String {
        format!(
            "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nBEGIN:VEVENT\r\nUID:1\r\nSUMMARY:{name}\r\nDTSTART:20260302T123000Z\r\nDTEND:20260302T140000Z\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
        )
    }

    #[test]
    fn a_file_is_read_when_it_changed_and_again_as_long_as_it_cannot_be() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("company.ics");
        let (files, mut calendars) = (BTreeSet::from([path.clone()]), Calendars::default());
        assert!(calendars.get(&path).is_none());
        assert!(calendars.refresh(&files) && calendars.get(&path).unwrap().is_err(), "it is not there");
        std::fs::write(&path, ics("Stocktaking")).unwrap();
        assert!(calendars.refresh(&files) && calendars.get(&path).unwrap().as_ref().unwrap().len() == 1);
        let first = Arc::clone(calendars.get(&path).unwrap().as_ref().unwrap());
        assert!(!calendars.refresh(&files), "it is as it was");
        assert!(Arc::ptr_eq(&first, calendars.get(&path).unwrap().as_ref().unwrap()));
        std::fs::write(&path, ics("A longer stocktaking")).unwrap();
        assert!(calendars.refresh(&files));
        assert!(calendars.refresh(&BTreeSet::new()) && calendars.get(&path).is_none());
    }
}
