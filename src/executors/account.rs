//! Whose rights a command has: an account of this machine, by its name in `/etc/passwd`. Only a bot that runs as root can choose.

use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Uid, chownat, fstat, openat};
use rustix::io::Errno;

/// Where accounts are.
const ACCOUNTS: &str = "/etc/passwd";

/// Deeper folders are a mistake, or meant to use up what we can open.
const DEPTH_MAX: usize = 200;

/// An account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    pub(super) user: u32,
    pub(super) group: u32,
    home: PathBuf,
}

impl Account {
    /// The account of this name, if commands can have its rights; else what to do about it.
    pub(super) fn find(name: &str) -> Result<Account, String> {
        let text = std::fs::read_to_string(ACCOUNTS).map_err(|fault| format!("{ACCOUNTS} cannot be read: {fault}"))?;
        let Some(account) = text.lines().filter_map(read).find(|account| account.name == name) else {
            return Err(format!("there is no user {name} in {ACCOUNTS} here; add it with useradd, or name another"));
        };
        let own = rustix::process::geteuid();
        if !own.is_root() && own.as_raw() != account.user {
            return Err(format!(
                "the bot does not run as root, so it cannot run anything as {name}; run the bot as root, or as {name}"
            ));
        }
        Ok(account)
    }

    /// Variables that say who it is.
    pub(super) fn variables(&self) -> [(String, String); 3] {
        let home = self.home.display().to_string();
        [("HOME", home), ("USER", self.name.clone()), ("LOGNAME", self.name.clone())]
            .map(|(name, value)| (name.to_owned(), value))
    }

    /// Whether it can come to a folder at all; else what to do about it.
    pub(super) fn reaches(&self, folder: &Path) -> Result<(), String> {
        let closed = |path: &&Path| {
            std::fs::metadata(path).is_ok_and(|meta| {
                let own = meta.uid() == self.user && meta.mode() & 0o100 != 0;
                let shared = meta.gid() == self.group && meta.mode() & 0o010 != 0;
                !own && !shared && meta.mode() & 0o001 == 0
            })
        };
        match folder.ancestors().skip(1).find(closed).filter(|_| self.user != 0) {
            None => Ok(()),
            Some(path) => {
                let path = path.display();
                Err(format!("{} may not enter {path}; allow it with chmod o+x {path}", self.name))
            }
        }
    }

    /// Gives it a file or a folder with all that is in it. Links are not followed, and a file with a second name stays whose it is: that
    /// may be a file of somebody else. A command of the account may exchange what stands there at any moment, so everything is opened
    /// once and from then on known by its descriptor, never by its name.
    pub(super) fn give(&self, path: &Path) -> Result<(), String> {
        if !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        let given = self.give_at(CWD, path.as_os_str().as_bytes(), 0);
        given.map_err(|what| format!("{} cannot be given to {}: {what}", path.display(), self.name))
    }

    fn give_at(&self, folder: BorrowedFd<'_>, name: &[u8], depth: usize) -> Result<(), String> {
        let told = |what: Errno| std::io::Error::from(what).to_string();
        if depth > DEPTH_MAX {
            return Err(format!("it is more than {DEPTH_MAX} folders deep; remove what made them"));
        }
        let found = match openat(folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            // What a command that runs took away meanwhile is nobody's.
            Err(Errno::NOENT) => return Ok(()),
            found => found.map_err(told)?,
        };
        let meta = fstat(&found).map_err(told)?;
        // What it has already is not walked through: what is in it is its own to give.
        if meta.st_uid == self.user {
            return Ok(());
        }
        let is_folder = FileType::from_raw_mode(meta.st_mode) == FileType::Directory;
        if is_folder || meta.st_nlink < 2 {
            let (user, group) = (Some(Uid::from_raw(self.user)), Some(Gid::from_raw(self.group)));
            chownat(&found, "", user, group, AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW).map_err(told)?;
        }
        if !is_folder {
            return Ok(());
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inside = openat(&found, ".", flags, Mode::empty()).map_err(told)?;
        for entry in Dir::read_from(&inside).map_err(told)? {
            let entry = entry.map_err(told)?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                self.give_at(inside.as_fd(), name, depth + 1)?;
            }
        }
        Ok(())
    }
}

/// `name:x:1000:1000:words:/srv/name:/bin/sh`.
fn read(line: &str) -> Option<Account> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, user, group, _, home, ..] = fields.as_slice() else { return None };
    let (user, group) = (user.parse().ok()?, group.parse().ok()?);
    Some(Account { name: (*name).to_owned(), user, group, home: PathBuf::from(home) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_name_and_what_is_no_account_is_none() {
        let root = Account::find("root");
        if rustix::process::geteuid().is_root() {
            assert_eq!(root.unwrap().user, 0);
        } else {
            assert!(root.unwrap_err().contains("does not run as root"));
        }
        assert!(Account::find("nobody-of-this-name").unwrap_err().contains("useradd"));
        let account = read("build:x:1001:100:Build,,,:/srv/build:/bin/sh").unwrap();
        assert_eq!((account.user, account.group, account.home), (1001, 100, PathBuf::from("/srv/build")));
        assert_eq!(read("# nothing"), None);
        assert_eq!(read("build:x:-1:100::/:"), None);
    }

    fn nobody() -> Account {
        Account { name: "nobody".to_owned(), user: 65_534, group: 65_534, home: PathBuf::from("/") }
    }

    fn owner(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).unwrap().uid()
    }

    #[test]
    fn all_in_a_folder_is_given_but_no_file_with_a_second_name_and_nothing_behind_a_link() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
        std::fs::create_dir_all(theirs.join("a/b")).unwrap();
        std::fs::create_dir_all(&ours).unwrap();
        for file in [ours.join("secret"), ours.join("twice"), theirs.join("a/b/plain")] {
            std::fs::write(file, "x").unwrap();
        }
        std::fs::hard_link(ours.join("twice"), theirs.join("a/twice")).unwrap();
        std::os::unix::fs::symlink(&ours, theirs.join("link")).unwrap();
        nobody().give(&theirs).unwrap();
        for (path, user) in [
            (theirs.join("a/b/plain"), 65_534),
            (theirs.join("a"), 65_534),
            (theirs.join("link"), 65_534),
            (theirs.join("a/twice"), 0),
            (ours.join("secret"), 0),
            (ours.clone(), 0),
        ] {
            assert_eq!(owner(&path), user, "{}", path.display());
        }
        assert_eq!(nobody().give(&dir.path().join("gone")), Ok(()));
        let deep = (0..300).fold(dir.path().join("deep"), |path, _| path.join("d"));
        std::fs::create_dir_all(deep).unwrap();
        assert!(nobody().give(&dir.path().join("deep")).unwrap_err().contains("folders deep"));
    }

    #[test]
    fn a_folder_that_becomes_a_link_meanwhile_gives_nothing_away() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (outside, workspace) = (dir.path().join("outside"), dir.path().join("workspace"));
        for folder in [&outside, &workspace, &workspace.join("a")] {
            std::fs::create_dir_all(folder).unwrap();
        }
        let secret = outside.join("secret");
        std::fs::write(&secret, "x").unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (a, b) = (workspace.join("a"), workspace.join("b"));
                std::os::unix::fs::symlink(&outside, &b).unwrap();
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    rustix::fs::renameat_with(
                        rustix::fs::CWD,
                        &a,
                        rustix::fs::CWD,
                        &b,
                        rustix::fs::RenameFlags::EXCHANGE,
                    )
                    .unwrap();
                }
            });
            for _ in 0..5_000 {
                for path in [&workspace, &workspace.join("a"), &workspace.join("b")] {
                    let _ = std::os::unix::fs::lchown(path, Some(0), Some(0));
                }
                // What is exchanged between two looks is no folder, or no link: either is a fault, and well.
                let _ = nobody().give(&workspace);
                if owner(&secret) != 0 {
                    break;
                }
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        assert_eq!((owner(&secret), owner(&outside)), (0, 0));
    }
}
