//! Pipelines: what a file says, what a run does, who may what. The engine is pure; [`Pipelines`] is the handle that drives it.

mod announce;
mod around;
mod attempt;
mod calendar;
mod calendars;
mod catalog;
mod collect;
mod deployments;
mod drawn;
mod drive;
mod engine;
mod expr;
mod figures;
mod file;
mod graph;
mod handle;
mod held;
mod hooks;
mod images;
mod kinds;
mod looks;
mod mails;
mod matrix;
mod may;
mod model;
mod outside;
mod pools;
mod prepare;
mod refusal;
mod remote;
mod request;
mod rolled;
mod run;
mod runners;
mod settings;
mod state;
mod steps;
mod template;
mod unreadable;
mod verbs;
mod window;
pub mod words;

pub use around::Around;
pub use catalog::Catalog;
pub use deployments::{Deployment, deployments};
pub use engine::{Allows, Answer, Ask, Asked, Foretold, May, News, Prepared, Preview, Reply};
pub use figures::{Band, Dora, StageTimes, Stats, Times, advice, stats};
pub use file::parse;
pub use handle::{Opening, Pipelines, chosen};
pub use kinds::{KIND, KINDS, STEP};
pub use looks::{Places, Tampered, hash_of_line, open_artifact, verify_incidents};
pub use model::{Approvals, Param, Pipeline, Rules, Skip, Stage, Takes, Trigger};
pub use outside::Checked;
pub use pools::PoolRow;
pub use refusal::{Kind as RefusalKind, Refusal};
pub use remote::Told;
pub use request::{DeployWords, typed};
pub use rolled::{Rolled, rolled};
pub use run::{Asker, Millis, Risk, Run, StageRun};
pub use runners::{
    Elsewhere, Errand, HERE, Host, Known, Nowhere, Offer, RunnerRow, Settings as RunnerSettings, WORKSPACE_THERE,
    Wanted, known, unknown_labels,
};
pub use settings::{Hook, Mails, Settings};
pub use state::{RunState, StageState};
pub use steps::{folder_name, step_folder};
pub use template::fill_all;
pub use verbs::{SHORT, Said, Verb, WORDS, is_word, looks, page, permits, row};

/// Any text as a calendar of freezes, for the fuzzer: it is read and can be asked, or it is refused.
#[cfg(fuzzing)]
pub fn fuzz_calendar(text: &str) {
    let now = chrono::DateTime::UNIX_EPOCH + chrono::TimeDelta::days(20_000);
    for frozen in calendar::parse(text).unwrap_or_default() {
        let _ = frozen.active(now);
    }
}
