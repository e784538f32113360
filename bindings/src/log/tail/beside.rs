//! What lies beside the paths: what had their names once, what was copied before it was cut, and what is which of the two.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use masterchief_contract::Batch;

use super::super::remembered::{mark_of, text_of};
use super::super::rotation::beside;
use super::{DRAIN, Tail, UNSEEN};

impl Tail {
    /// Looks for files that had a name of ours and are called something else already: renamed between two looks or while we
    /// were down, or copied before they were cut.
    pub(super) fn look_beside(&mut self) {
        self.owes_look = false;
        let now = SystemTime::now();
        let before = self.looked_beside.replace((Instant::now(), now));
        let since = before.map_or(now, |(_, before)| before - UNSEEN).max(self.began);
        for path in std::mem::take(&mut self.blank) {
            self.open_rotated(&path);
        }
        let mut paths = self.options.pattern.named();
        if self.renamed.is_none_or(|at| at.elapsed() >= DRAIN) {
            // Now and then also what was closed: whoever writes may go on with a file that was renamed long ago.
            self.renamed = Some(Instant::now());
            let known = self.remembered.paths().into_iter();
            paths.extend(known.filter(|path| self.options.pattern.is_match(path) && !path.exists()));
            for path in self.remembered.renamed() {
                self.open_rotated(&path);
            }
        }
        for path in paths {
            for (other, meta) in beside(&path, since) {
                if self.by_id((meta.dev(), meta.ino())).is_none() {
                    self.open_rotated(&other);
                }
            }
        }
    }

    /// Whether it is a copy of what is followed, which may be cut in a moment; until then it is read where it is.
    pub(super) fn is_copy(&mut self, file: &File, meta: &Metadata) -> bool {
        let id = (meta.dev(), meta.ino());
        let original = self.files.values_mut().find(|followed| followed.generation.is_copied_in(file, meta.len()));
        let Some(original) = original else { return false };
        if !original.generation.copies.contains(&id) {
            original.generation.copies.push(id);
        }
        true
    }

    /// Follows what a path names now, if that is not followed yet, to its end.
    fn open_rotated(&mut self, path: &Path) {
        let Some((file, meta)) = self.unread.open(path) else { return };
        // The name may have gone to another file since it was looked at.
        if self.by_id((meta.dev(), meta.ino())).is_some() {
            return;
        }
        if meta.len() == 0 {
            // A copy that somebody has just begun looks so. What it is, is known by what it holds.
            self.blank.insert(path.to_owned());
            return;
        }
        if self.is_copy(&file, &meta) {
            return;
        }
        if let Some(lane) = self.remember(file, path, &meta)
            && let Some(followed) = self.files.get_mut(&lane)
        {
            followed.generation.rotated = true;
        }
    }

    /// Follows a file that is what another was, to its end.
    pub(super) fn follow_rotated(
        &mut self,
        file: File,
        path: &Path,
        meta: &Metadata,
        (offset, skipping): (u64, bool),
        batch: &mut Batch,
    ) {
        let lane = Arc::from(self.new_lane(meta.dev(), meta.ino()));
        if let Some(lane) = self.follow(file, path, meta, (lane, offset, skipping))
            && let Some(followed) = self.files.get_mut(&lane)
        {
            followed.generation.rotated = true;
            followed.noted = Some(offset);
            // With what says that the other was cut: whoever dies now goes on here.
            let position = text_of(&mark_of(&followed.generation, &followed.lines));
            self.put_part(&lane, Vec::new(), position, batch);
        }
    }
}
