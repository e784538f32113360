//! An errand: the step of a stage that another runner does. Who carries it there is handed in from above.

use std::time::Duration;

use masterchief_contract::{Future, Secret};

use super::super::run::Millis;
use crate::executors::{Class, End, Hands, Step};

/// What stands in the texts of an errand for the folder it works in, which only the runner knows.
pub const WORKSPACE_THERE: &str = "@masterchief:workspace@";

/// A step that another runner does.
pub struct Errand {
    /// Who.
    pub runner: String,
    /// When the attempt began: with run, stage and attempt it is this errand and no other, also after records were made anew.
    pub begun: Millis,
    /// The epoch of our records: a bot on them that is older than another says nothing any more.
    pub epoch: i64,
    /// How long it may take.
    pub timeout: Duration,
    /// The executor.
    pub executor: String,
    /// The step, with everything filled in. Its folders are ours; the runner has its own.
    pub step: Step,
    /// The secrets in it, so that they are hidden there too.
    pub secrets: Vec<Secret>,
}

/// Carries errands to runners.
pub trait Elsewhere: Send + Sync {
    /// Has an errand done, or goes on with one ([`Step::noted`]): its log and its end are those of the step. It returns soon after
    /// [`Hands::stopping`].
    fn run(&self, errand: Errand, hands: Hands) -> Future<End>;
}

/// There are no other runners.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nowhere;

impl Elsewhere for Nowhere {
    fn run(&self, errand: Errand, _: Hands) -> Future<End> {
        let line = format!("{} cannot be reached: this bot links with no others; look at `mesh:`", errand.runner);
        Box::pin(std::future::ready(End::failed(Class::InfraLost, line)))
    }
}
