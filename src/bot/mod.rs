//! The bot: puts the rooms together, runs the street through them, reloads and shuts down.

mod audit;
mod because;
mod bench;
#[cfg(test)]
mod bent;
pub(crate) mod bindpage;
mod budget;
mod builder;
mod builtin;
mod calls;
mod cannot;
#[cfg(test)]
#[path = "../../tests/stories/chance.rs"]
mod chance;
pub(crate) mod control;
mod deliver;
mod deploys;
mod dry;
mod fakenet;
mod fakeserver;
mod floodgate;
mod follow;
mod forward;
mod inflight;
mod ingest;
#[cfg(any(test, fuzzing))]
mod judged;
mod later;
mod ledger;
mod letters;
mod lock;
mod luastep;
mod mesh;
mod names;
mod outbox;
mod outside;
mod overt;
mod own;
mod partyline;
mod people;
mod policy;
mod replay;
mod runners;
mod schedules;
mod scripts;
mod seam;
mod seen;
mod sieve;
mod speech;
mod start;
mod started;
#[cfg(test)]
mod strangers;
mod street;
mod sudo;
mod testbot;
mod triggers;
mod vitals;
mod warden;
mod watch;
mod why;
mod wishes;
mod words;

use crate::dispatch::Kinds;

pub use bench::run_tests;
pub use builder::{Builder, Rules};
pub use cannot::StartError;
pub(crate) use deploys::ANCHOR;
pub use dry::{DryRun, Tested, dry_replay, dry_run, try_people, try_policy};
pub use fakenet::{FakeNet, Heard};
pub(crate) use ingest::STATUS_FILE;
pub use ingest::{SourceMaker, SourceWrap};
#[cfg(any(test, fuzzing))]
pub use judged::judged;
pub(crate) use lock::FolderLock;
pub(crate) use luastep::stage_executors;
pub(crate) use mesh::{forget_told, verify_told};
pub use people::{PeopleError, change_user, read_users, row_of, touched, user_of};
pub use policy::{Broken, Settings as PolicySettings, Table as PolicyTable};
pub use replay::Replayed;
pub use scripts::{Reloaded, script_files, test_files};
pub(crate) use start::PEOPLE;
pub(crate) use started::{JOURNAL, RUNS};
pub use started::{PutError, Started, Status};
pub use testbot::{CHANNEL, NETWORK, TestBot, TestUser};
pub use watch::watch;
pub use wishes::Wish;

/// Where a bot begins.
#[derive(Clone, Copy, Debug)]
pub struct Bot;

impl Bot {
    /// A bot that knows nobody and is nowhere yet.
    pub fn builder() -> Builder {
        Builder::new()
    }
}

/// The kinds that this bot knows: of IRC, and of each source.
pub fn kinds() -> Kinds {
    let mut lists =
        vec![crate::irc::KINDS, crate::pipelines::KINDS, crate::partyline::KINDS, crate::mesh::KINDS, own::KINDS];
    lists.extend(masterchief_bindings::KINDS);
    Kinds::new(&lists)
}
