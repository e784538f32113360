//! Control groups (version 2), where this process may make them: memory and processor of a command are then really limited.
//!
//! Groups of commands are made beside the group that we are in, where that was given to us (systemd: `Delegate=memory cpu` with
//! `DelegateSubgroup=bot`), or at the root where nobody keeps us in a group.

use std::path::{Path, PathBuf};

/// Where the kernel shows them: alone, or beside those of version 1.
const ROOTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
/// Where it stands in which group we are.
const OWN: &str = "/proc/self/cgroup";
/// What the group of the bot is called in one that was given to us.
const BOT: &str = "bot";
/// What the names of groups of commands begin with.
const STEP: &str = "masterchief-step-";

/// The groups as this process sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Tree {
    /// The group that we are in.
    home: PathBuf,
    /// The group below which we make others.
    parent: PathBuf,
}

/// The group of one command. It is removed when this is dropped.
#[derive(Debug)]
pub struct Cgroup {
    folder: PathBuf,
    /// Where we were before, and go back to: what keeps us in bounds there goes on to do so.
    home: PathBuf,
}

impl Cgroup {
    /// Makes a group with these limits and puts this process into it, so that all it starts is in it. `None` where nothing is
    /// to be limited, or where it may not be done.
    pub(super) fn make(memory: Option<u64>, cpu: Option<u64>) -> Option<Cgroup> {
        if memory.is_none() && cpu.is_none() {
            return None;
        }
        Tree::here()?.group(memory, cpu)
    }

    /// Whether groups that limit memory and processor can be made here.
    pub fn available() -> bool {
        Tree::here().is_some_and(|tree| tree.limits())
    }

    /// Removes the groups of commands whose supervisor was killed and that are empty by now.
    pub fn sweep() {
        if let Some(tree) = Tree::here() {
            tree.sweep();
        }
    }

    /// Whether the kernel killed something in it for its memory.
    pub(super) fn out_of_memory(&self) -> bool {
        let events = std::fs::read_to_string(self.folder.join("memory.events")).unwrap_or_default();
        events.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count.trim() != "0"))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // A group with processes in it cannot be removed, and we are in it.
        let _ = std::fs::write(self.home.join("cgroup.procs"), std::process::id().to_string());
        let _ = std::fs::remove_dir(&self.folder);
    }
}

impl Tree {
    /// As the kernel shows them; `None` where there are none of version 2.
    fn here() -> Option<Tree> {
        let own = std::fs::read_to_string(OWN).ok()?;
        ROOTS.iter().find_map(|root| Tree::of(Path::new(root), &own))
    }

    /// `own` is what `/proc/self/cgroup` says.
    fn of(root: &Path, own: &str) -> Option<Tree> {
        if !root.join("cgroup.controllers").is_file() {
            return None;
        }
        let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?.trim();
        if path.is_empty() {
            return Some(Tree { home: root.to_owned(), parent: root.to_owned() });
        }
        let home = root.join(path);
        // A group with processes in it has no groups with limits below it, so ours are beside it; what was not given to us is not ours to divide.
        let parent = home.parent().filter(|_| home.file_name().is_some_and(|name| name == BOT))?.to_owned();
        Some(Tree { home, parent })
    }

    /// Whether groups below the parent can be limited, and be made.
    fn limits(&self) -> bool {
        let probe = self.parent.join(format!("masterchief-probe-{}", std::process::id()));
        let may = || std::fs::create_dir(&probe).and_then(|()| std::fs::remove_dir(&probe)).is_ok();
        self.handed_down() && may()
    }

    /// Whether limits of memory and processor are handed down; where they are not and we may, they are now.
    fn handed_down(&self) -> bool {
        let control = self.parent.join("cgroup.subtree_control");
        let has = |name: &str| {
            let told = std::fs::read_to_string(&control).unwrap_or_default();
            told.split_whitespace().any(|one| one == name)
        };
        let all = || has("memory") && has("cpu");
        // At the root that is for who looks after the machine to say.
        all() || self.parent != self.home && std::fs::write(&control, "+memory +cpu").is_ok() && all()
    }

    fn group(&self, memory: Option<u64>, cpu: Option<u64>) -> Option<Cgroup> {
        if !self.handed_down() {
            return None;
        }
        let folder = self.parent.join(format!("{STEP}{}", std::process::id()));
        // One of a supervisor that was killed, and had the same number, is empty by now.
        let _ = std::fs::remove_dir(&folder);
        std::fs::create_dir(&folder).ok()?;
        let group = Cgroup { folder, home: self.home.clone() };
        let write = |name: &str, value: String| std::fs::write(group.folder.join(name), value);
        if let Some(bytes) = memory {
            write("memory.max", bytes.to_string()).ok()?;
            // Without this it would be slow instead of dead.
            let _ = write("memory.swap.max", "0".to_owned());
        }
        if let Some(thousandths) = cpu {
            write("cpu.max", format!("{} 100000", (thousandths * 100).max(1000))).ok()?;
        }
        write("cgroup.procs", std::process::id().to_string()).ok()?;
        Some(group)
    }

    fn sweep(&self) {
        let entries = std::fs::read_dir(&self.parent).into_iter().flatten().flatten();
        let ours =
            |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(STEP));
        for path in entries.map(|entry| entry.path()).filter(ours) {
            // One with processes in it cannot be removed.
            let _ = std::fs::remove_dir(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A group as the kernel shows it, as far as files can act that.
    fn folder(path: &Path, control: &str) {
        std::fs::create_dir_all(path).unwrap();
        for (name, text) in
            [("cgroup.controllers", "cpu memory pids"), ("cgroup.subtree_control", control), ("cgroup.procs", "")]
        {
            std::fs::write(path.join(name), text).unwrap();
        }
    }

    fn read(path: &Path, name: &str) -> String {
        std::fs::read_to_string(path.join(name)).unwrap_or_default()
    }

    #[test]
    fn a_command_has_a_group_beside_ours_with_its_limits_and_we_go_back_where_we_were() {
        let root = tempfile::tempdir().unwrap();
        let unit = root.path().join("system.slice/masterchief.service");
        folder(root.path(), "cpu memory");
        folder(&unit, "cpu memory");
        folder(&unit.join("bot"), "");
        let tree = Tree::of(root.path(), "0::/system.slice/masterchief.service/bot\n").unwrap();
        assert_eq!((&tree.parent, &tree.home), (&unit, &unit.join("bot")));
        assert!(tree.limits());
        let group = tree.group(Some(64 << 20), Some(1500)).unwrap();
        let made = group.folder.clone();
        assert_eq!(made.parent(), Some(unit.as_path()), "what limits the service limits its commands");
        assert_eq!(
            (read(&made, "memory.max"), read(&made, "cpu.max")),
            ("67108864".to_owned(), "150000 100000".to_owned())
        );
        assert_eq!(read(&made, "cgroup.procs"), std::process::id().to_string());
        std::fs::write(made.join("memory.events"), "low 0\noom_kill 1\n").unwrap();
        assert!(group.out_of_memory());
        drop(group);
        assert_eq!(read(&unit.join("bot"), "cgroup.procs"), std::process::id().to_string());
        assert_eq!(read(root.path(), "cgroup.procs"), "", "nobody gets out of the service's bounds");
    }

    #[test]
    fn limits_are_handed_down_by_us_where_the_group_was_given_to_us_and_never_at_the_root() {
        let root = tempfile::tempdir().unwrap();
        folder(root.path(), "");
        assert!(!Tree::of(root.path(), "0::/\n").unwrap().limits());
        assert_eq!(read(root.path(), "cgroup.subtree_control"), "");
        let unit = root.path().join("masterchief.service");
        folder(&unit, "");
        folder(&unit.join("bot"), "");
        let tree = Tree::of(root.path(), "3:cpu:/\n0::/masterchief.service/bot\n").unwrap();
        // The kernel reads `+memory +cpu`; a file shows what was written.
        assert!(!tree.limits() && read(&unit, "cgroup.subtree_control") == "+memory +cpu");
        std::fs::write(unit.join("cgroup.subtree_control"), "cpu memory").unwrap();
        assert!(tree.limits());
    }

    #[test]
    fn groups_that_were_left_empty_are_swept_and_others_stay() {
        let root = tempfile::tempdir().unwrap();
        folder(root.path(), "cpu memory");
        let (left, busy, other) = (
            root.path().join("masterchief-step-7"),
            root.path().join("masterchief-step-8"),
            root.path().join("others"),
        );
        [&left, &busy, &other].into_iter().for_each(|path| std::fs::create_dir(path).unwrap());
        // A folder with something in it cannot be removed, as a group with processes.
        std::fs::write(busy.join("cgroup.procs"), "8").unwrap();
        Tree::of(root.path(), "0::/\n").unwrap().sweep();
        assert!(!left.exists() && busy.exists() && other.exists());
    }

    #[test]
    fn where_there_is_no_version_2_nothing_is_made() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Tree::of(root.path(), "0::/\n"), None);
        folder(root.path(), "cpu memory");
        assert_eq!(Tree::of(root.path(), "4:memory:/x\n"), None, "only groups of version 1");
        assert_eq!(Tree::of(root.path(), "0::/user.slice/session-1.scope\n"), None, "that group is not ours to divide");
    }
}
