//! Whose rights a command has: an account of this machine, by its name in `/etc/passwd`. Only a bot that runs as root can choose.

use std::os::unix::fs::{MetadataExt, lchown};
use std::path::{Path, PathBuf};

/// Where accounts are.
const ACCOUNTS: &str = "/etc/passwd";

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
    /// may be a file of somebody else.
    pub(super) fn give(&self, path: &Path) -> Result<(), String> {
        if !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        let fault = |what: std::io::Error| format!("{} cannot be given to {}: {what}", path.display(), self.name);
        let meta = match std::fs::symlink_metadata(path) {
            // What a command that runs took away meanwhile is nobody's.
            Err(what) if what.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            meta => meta.map_err(fault)?,
        };
        // What it has already is not walked through: the account may change it under our feet.
        if meta.uid() == self.user {
            return Ok(());
        }
        if meta.is_dir() || meta.nlink() < 2 {
            lchown(path, Some(self.user), Some(self.group)).map_err(fault)?;
        }
        if meta.is_dir() {
            for entry in std::fs::read_dir(path).map_err(fault)?.flatten() {
                self.give(&entry.path())?;
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
}
