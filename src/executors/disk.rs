//! How much of the disk a command fills. No control group counts that, so it is added up: what is in the workspace of its run, less what
//! was there before. What a command writes elsewhere is not seen; no single file of it grows longer than all it may have.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::apart::apart;

/// How often it is added up, at most.
const LOOK: Duration = Duration::from_millis(500);
/// Adding up takes this part of the time, at most.
const PART: u32 = 20;

/// What a command may fill.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    /// What there was when it began, and what it may fill beside that.
    most: u64,
    /// How long adding up took.
    took: Duration,
}

impl Disk {
    /// Adds up what is there before a command begins.
    pub(super) fn of(folder: &Path, most: u64) -> Disk {
        let begun = Instant::now();
        let before = filled(folder);
        Disk { folder: folder.to_owned(), most: before.saturating_add(most), took: begun.elapsed() }
    }

    /// Ready when more is filled than may be.
    pub(super) async fn filled(mut self) {
        loop {
            tokio::time::sleep(LOOK.max(self.took * PART)).await;
            let (folder, begun) = (self.folder.clone(), Instant::now());
            let now = apart(move || filled(&folder)).await.unwrap_or_default();
            self.took = begun.elapsed();
            if now > self.most {
                return;
            }
        }
    }
}

/// Bytes of the disk that a folder takes, without what links in it point to.
fn filled(folder: &Path) -> u64 {
    let (mut sum, mut left) = (0_u64, vec![folder.to_owned()]);
    while let Some(folder) = left.pop() {
        // What is gone by now takes nothing.
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(about) = entry.metadata() else { continue };
            // A block is 512 bytes, whatever the file system (stat(2)); a file of several names is counted once for each of them.
            sum = sum.saturating_add(about.blocks().saturating_mul(512) / about.nlink().max(1));
            if about.is_dir() {
                left.push(entry.path());
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_folder_is_added_up_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let empty = filled(dir.path());
        std::fs::create_dir(dir.path().join("a")).unwrap();
        std::fs::write(dir.path().join("a/b"), vec![1; 300_000]).unwrap();
        std::fs::hard_link(dir.path().join("a/b"), dir.path().join("c")).unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("everything")).unwrap();
        let now = filled(dir.path());
        assert!((300_000..400_000).contains(&(now - empty)), "{now} of {empty}");
        assert_eq!(filled(Path::new("/nowhere")), 0);
    }
}
