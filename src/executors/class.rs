//! Why a stage failed: a class that decides whether it is tried again, and one line that says it.

use serde::{Deserialize, Serialize};

/// The class of a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// A name, a connection or a certificate on the way.
    Network,
    /// It took longer than it may.
    Timeout,
    /// Somebody was refused: a password, a token, a right.
    Auth,
    /// A limit of somebody else's: requests, storage, seats.
    Quota,
    /// No room on a disk.
    DiskFull,
    /// Killed for its memory.
    Oom,
    /// The machine, pod or agent that worked is gone.
    InfraLost,
    /// A test that fails now and then.
    FlakyTest,
    /// Tests failed.
    TestFailed,
    /// It does not compile.
    Compile,
    /// What it was told is wrong: a missing file, a key, a parameter.
    Config,
    /// What was rolled out does not come up.
    AppNotReady,
    /// Somebody else holds the state of the infrastructure.
    StateLock,
    /// Somebody stopped it.
    Cancelled,
    /// None of these.
    #[default]
    Unknown,
}

/// A failure of a step.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// Its class.
    pub class: Class,
    /// The one decisive line, for people: what went wrong, and the next step where there is one.
    pub line: String,
    /// The exit code of a command, where there was one.
    pub exit: Option<i32>,
    /// What the world looks like now, a line each: pods that serve, hosts that were done. At most three are shown.
    pub world: Vec<String>,
}

impl Class {
    /// All of them, as they are written.
    pub const NAMES: &[&str] = &[
        "network",
        "timeout",
        "auth",
        "quota",
        "disk_full",
        "oom",
        "infra_lost",
        "flaky_test",
        "test_failed",
        "compile",
        "config",
        "app_not_ready",
        "state_lock",
        "cancelled",
        "unknown",
    ];

    /// The name as it is written in files and said in channels.
    pub fn name(self) -> &'static str {
        Class::NAMES[self as usize]
    }

    /// The class of this name.
    pub fn named(name: &str) -> Option<Class> {
        const ALL: [Class; 15] = [
            Class::Network,
            Class::Timeout,
            Class::Auth,
            Class::Quota,
            Class::DiskFull,
            Class::Oom,
            Class::InfraLost,
            Class::FlakyTest,
            Class::TestFailed,
            Class::Compile,
            Class::Config,
            Class::AppNotReady,
            Class::StateLock,
            Class::Cancelled,
            Class::Unknown,
        ];
        ALL.into_iter().find(|class| class.name() == name)
    }
}

impl Failure {
    /// A failure of this class.
    pub fn new(class: Class, line: impl Into<String>) -> Failure {
        Failure { class, line: line.into(), ..Failure::default() }
    }

    /// The same with the exit code of a command.
    pub fn exit(self, code: i32) -> Failure {
        Failure { exit: Some(code), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_is_found_by_its_name_as_it_is_written_and_stored() {
        for name in Class::NAMES {
            let class = Class::named(name).unwrap();
            assert_eq!(class.name(), *name);
            assert_eq!(serde_json::to_value(class).unwrap(), *name);
        }
        assert_eq!(Class::named("weather"), None);
    }
}
