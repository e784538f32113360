//! The data folder, taken by one bot at a time.

use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::StartError;

/// The file that says whose the data folder is.
const LOCK: &str = "masterchief.lock";

/// A data folder that is ours until this is dropped, or the process ends in whatever way.
#[derive(Debug)]
pub(crate) struct FolderLock(File);

impl FolderLock {
    /// Makes the folder if need be, and takes it.
    pub(crate) fn take(folder: &Path) -> Result<FolderLock, StartError> {
        let fault = |reason: String| StartError::Data { folder: folder.to_owned(), reason };
        // What services post may be nobody else's business.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|failed| fault(failed.to_string()))?;
        let file = File::create(folder.join(LOCK)).map_err(|failed| fault(failed.to_string()))?;
        match file.try_lock() {
            Ok(()) => Ok(FolderLock(file)),
            Err(TryLockError::WouldBlock) => {
                Err(fault("another bot runs with it; stop that one, or name another folder under `data`".to_owned()))
            }
            Err(TryLockError::Error(failed)) => Err(fault(failed.to_string())),
        }
    }
}

impl Drop for FolderLock {
    /// Closing would do only once nobody else holds the file, and a program that is just being started holds every open
    /// file until it runs.
    fn drop(&mut self) {
        if let Err(fault) = self.0.unlock() {
            tracing::warn!(%fault, "The data folder could not be given back");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_ours_alone_until_it_is_let_go_even_if_a_copy_of_the_file_is_still_held() {
        let dir = tempfile::tempdir().unwrap();
        let lock = FolderLock::take(dir.path()).unwrap();
        let fault = FolderLock::take(dir.path()).unwrap_err().to_string();
        assert!(fault.contains("another bot runs with it"), "{fault}");
        // As in a child between fork and exec.
        let _copy = lock.0.try_clone().unwrap();
        drop(lock);
        FolderLock::take(dir.path()).unwrap();
    }
}
