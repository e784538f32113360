//! The bot: puts the rooms together, runs the street through them, reloads and shuts down.

mod audit;
mod bench;
pub(crate) mod bindpage;
mod builder;
mod builtin;
mod calls;
mod cannot;
pub(crate) mod control;
mod deliver;
mod deploys;
mod dry;
mod fakenet;
mod fakeserver;
mod floodgate;
mod follow;
mod inflight;
mod ingest;
mod letters;
mod lock;
mod luastep;
mod mesh;
mod meshrun;
mod names;
mod outbox;
mod outside;
mod partyline;
mod people;
mod replay;
mod schedules;
mod scripts;
mod seam;
mod start;
mod started;
mod street;
mod testbot;
mod triggers;
mod vitals;
mod watch;
mod words;

use crate::dispatch::Kinds;

pub use bench::run_tests;
pub use builder::{Builder, Rules};
pub use cannot::StartError;
pub(crate) use deploys::ANCHOR;
pub use dry::{DryRun, dry_replay, dry_run};
pub use fakenet::{FakeNet, Heard};
pub(crate) use ingest::STATUS_FILE;
pub use ingest::{SourceMaker, SourceWrap};
pub(crate) use luastep::stage_executors;
pub use partyline::Wish;
pub use people::{PeopleError, read_users, row_of, user_of};
pub use replay::Replayed;
pub use scripts::{Reloaded, script_files, test_files};
pub(crate) use start::PEOPLE;
pub(crate) use started::{JOURNAL, RUNS};
pub use started::{PutError, Started, Status};
pub use testbot::{CHANNEL, NETWORK, TestBot, TestUser};
pub use watch::watch;

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
    let mut lists = vec![crate::irc::KINDS, crate::pipelines::KINDS, crate::partyline::KINDS, crate::mesh::KINDS];
    lists.extend(masterchief_bindings::KINDS);
    Kinds::new(&lists)
}
