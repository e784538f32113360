//! Control groups (version 2), where this process may make them: memory and processor of a command are then really limited.

use std::path::{Path, PathBuf};

/// Where the kernel shows them.
const ROOT: &str = "/sys/fs/cgroup";

/// The group of one command. It is removed when this is dropped.
#[derive(Debug)]
pub struct Cgroup {
    folder: PathBuf,
}

impl Cgroup {
    /// Makes a group with these limits and puts this process into it, so that all it starts is in it. `None` where nothing is
    /// to be limited, or where it may not be done.
    pub(super) fn make(memory: Option<u64>, cpu: Option<u64>) -> Option<Cgroup> {
        if memory.is_none() && cpu.is_none() || !Cgroup::available() {
            return None;
        }
        let folder = Path::new(ROOT).join(format!("masterchief-step-{}", std::process::id()));
        // One of a supervisor that was killed, and had the same number, is empty by now.
        let _ = std::fs::remove_dir(&folder);
        std::fs::create_dir(&folder).ok()?;
        let group = Cgroup { folder };
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

    /// Whether groups that limit memory and processor can be made here.
    pub fn available() -> bool {
        let controllers = std::fs::read_to_string(Path::new(ROOT).join("cgroup.subtree_control")).unwrap_or_default();
        let has = |name: &str| controllers.split_whitespace().any(|one| one == name);
        let probe = Path::new(ROOT).join(format!("masterchief-probe-{}", std::process::id()));
        let may = || std::fs::create_dir(&probe).and_then(|()| std::fs::remove_dir(&probe)).is_ok();
        has("memory") && has("cpu") && may()
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
        let _ = std::fs::write(Path::new(ROOT).join("cgroup.procs"), std::process::id().to_string());
        let _ = std::fs::remove_dir(&self.folder);
    }
}
