//! What the rest of the bot asks of runners, and tells of them.

use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::super::engine::Msg;
use super::super::handle::Pipelines;
use super::super::run::Millis;
use super::{Offer, RunnerRow, Settings};

impl Pipelines {
    /// What is configured of this bot as a runner, and what all runners offer now.
    pub async fn offer(&self, own: &Settings, offers: Vec<Offer>) {
        // At shutdown nobody needs it any more.
        let _ = self.inner.to.send(Msg::Offered(Box::new(own.clone()), offers)).await;
    }

    /// All runners, and how many slots the stages of this bot take here.
    pub async fn runners(&self) -> (Vec<RunnerRow>, u32) {
        let (to, told) = oneshot::channel();
        let _ = self.inner.to.send(Msg::Runners(to)).await;
        told.await.unwrap_or_default()
    }

    /// Whether any stage says what its runner must have.
    pub fn wants_runners(&self) -> bool {
        self.catalog().all().any(|pipeline| pipeline.stages.iter().any(|stage| stage.runner.is_some()))
    }

    /// The epoch of our records, which a bot raises that begins on them.
    pub fn epoch(&self) -> i64 {
        self.inner.steps.inner.epoch.load(Ordering::Acquire)
    }

    /// Whether an attempt of a stage is under way: which, and when it began.
    pub fn is_under_way(&self, run: i64, stage: &str, attempt: (u32, Millis)) -> bool {
        self.inner.steps.is_under_way(run, stage, attempt)
    }
}
