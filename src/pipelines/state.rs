//! The states of runs and stages, and which may follow which: one table each. Every other step is a fault in the engine.

use serde::{Deserialize, Serialize};

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Asked for; nothing is decided.
    #[default]
    Draft,
    /// The one who asked has to say yes.
    AwaitingConfirm,
    /// It waits for its turn.
    Queued,
    /// It waits for a window, or for a freeze or a lock to end.
    AwaitingWindow,
    /// People have to agree.
    AwaitingApproval,
    /// Stages run.
    Running,
    /// Somebody has to decide how to go on.
    Paused,
    /// It is being stopped.
    Cancelling,
    /// What it did is being undone.
    RollingBack,
    /// All went well.
    Succeeded,
    /// A stage failed.
    Failed,
    /// Somebody stopped it.
    Cancelled,
    /// It took longer than it may.
    TimedOut,
    /// It failed, and what it did was undone.
    RolledBack,
    /// It failed, and so did undoing it.
    RollbackFailed,
    /// Somebody said no.
    Rejected,
    /// Nobody answered, or its turn never came.
    Expired,
}

/// How far a stage is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageState {
    /// What it needs has not ended.
    #[default]
    Pending,
    /// It may begin.
    Ready,
    /// It waits for a slot or for what it uses.
    WaitingResources,
    /// It is about to be begun: this is durable before anything happens.
    Starting,
    /// Its work has begun.
    Running,
    /// Its work is done, and it is looked whether that proves good: `verify`, `health`.
    Validating,
    /// People, a window or the clock have to do something.
    Waiting,
    /// The bot died while it ran, and what ran is not there any more.
    Lost,
    /// It failed and will be tried again.
    RetryWait,
    /// The bot died while it ran, and only a person can tell how far it came.
    NeedsOperator,
    /// Well.
    Succeeded,
    /// Badly.
    Failed,
    /// It was left out.
    Skipped,
    /// Stopped.
    Cancelled,
    /// It took longer than it may.
    TimedOut,
    /// Its work is done, and it did not prove good.
    Faulty,
}

use RunState as R;
use StageState as S;

/// Which state of a run may follow which.
const RUNS: &[(RunState, &[RunState])] = &[
    (R::Draft, &[R::AwaitingConfirm, R::AwaitingApproval, R::Queued, R::Cancelled, R::Expired]),
    (R::AwaitingConfirm, &[R::AwaitingApproval, R::Queued, R::Cancelled, R::Expired]),
    (R::AwaitingApproval, &[R::Queued, R::Rejected, R::Cancelled, R::Expired]),
    (
        R::Queued,
        &[
            R::AwaitingConfirm,
            R::AwaitingWindow,
            R::AwaitingApproval,
            R::Running,
            R::Rejected,
            R::Cancelled,
            R::Expired,
        ],
    ),
    (R::AwaitingWindow, &[R::Queued, R::AwaitingApproval, R::Running, R::Rejected, R::Cancelled, R::Expired]),
    (R::Running, &[R::Paused, R::Cancelling, R::Succeeded, R::Failed, R::TimedOut]),
    (R::Paused, &[R::Running, R::Cancelling, R::Failed, R::TimedOut]),
    (R::Cancelling, &[R::Cancelled, R::TimedOut, R::Failed]),
    (R::RollingBack, &[R::RolledBack, R::RollbackFailed]),
    // A failed run may be tried again from where it failed.
    (R::Failed, &[R::Running, R::RollingBack]),
    (R::TimedOut, &[R::Running, R::RollingBack]),
    // What was aborted may have gone out in part.
    (R::Cancelled, &[R::Running, R::RollingBack]),
    // A deployment that went well may be undone later.
    (R::Succeeded, &[R::RollingBack]),
    (R::RollbackFailed, &[R::RollingBack, R::RolledBack]),
];

/// What may come of work.
const WORKED: &[StageState] =
    &[S::Succeeded, S::Failed, S::TimedOut, S::Cancelled, S::Lost, S::RetryWait, S::NeedsOperator, S::Waiting];

/// Which state of a stage may follow which.
const STAGES: &[(StageState, &[StageState])] = &[
    (S::Pending, &[S::Ready, S::Skipped, S::Cancelled]),
    (S::Ready, &[S::WaitingResources, S::Starting, S::Waiting, S::Succeeded, S::Skipped, S::Failed, S::Cancelled]),
    (S::WaitingResources, &[S::Starting, S::Cancelled, S::Failed]),
    (S::Waiting, &[S::Ready, S::Starting, S::Succeeded, S::Failed, S::Cancelled, S::TimedOut]),
    // What is stopped, or whose bot dies, before it has said that it began ends as what runs does.
    (S::Starting, &[S::Running]),
    (S::Starting, WORKED),
    (S::Running, &[S::Validating]),
    (S::Running, WORKED),
    (S::Lost, &[S::RetryWait, S::NeedsOperator, S::Failed]),
    (S::Validating, &[S::Succeeded, S::Faulty, S::Cancelled, S::RetryWait, S::NeedsOperator, S::Waiting]),
    (S::RetryWait, &[S::Ready, S::Cancelled]),
    (S::NeedsOperator, &[S::Ready, S::Succeeded, S::Failed, S::Cancelled]),
    // Tried again by somebody.
    (S::Failed, &[S::Pending, S::Ready]),
    (S::TimedOut, &[S::Pending, S::Ready]),
    (S::Faulty, &[S::Pending, S::Ready]),
    (S::Cancelled, &[S::Pending]),
    (S::Skipped, &[S::Pending]),
    // What is done in any case is done again when its run goes on, and a lock that was given back is taken again.
    (S::Succeeded, &[S::Pending]),
];

impl RunState {
    /// Whether `next` may follow.
    pub fn may(self, next: RunState) -> bool {
        RUNS.iter().any(|(from, to)| *from == self && to.contains(&next))
    }

    /// Whether nothing more happens by itself.
    pub fn ended(self) -> bool {
        self >= R::Succeeded
    }

    /// Whether stages may be under way.
    pub fn active(self) -> bool {
        matches!(self, R::Running | R::Paused | R::Cancelling)
    }

    /// One of the five names that other programs know: pending, running, success, failed, aborted.
    pub fn plain(self) -> &'static str {
        match self {
            R::Draft | R::AwaitingConfirm | R::Queued | R::AwaitingWindow | R::AwaitingApproval => "pending",
            R::Running | R::Paused | R::Cancelling | R::RollingBack => "running",
            R::Succeeded => "success",
            R::Failed | R::TimedOut | R::RolledBack | R::RollbackFailed => "failed",
            R::Cancelled | R::Rejected | R::Expired => "aborted",
        }
    }

    /// The name as it is stored.
    pub fn name(self) -> &'static str {
        match self {
            R::Draft => "draft",
            R::AwaitingConfirm => "awaiting_confirm",
            R::Queued => "queued",
            R::AwaitingWindow => "awaiting_window",
            R::AwaitingApproval => "awaiting_approval",
            R::Running => "running",
            R::Paused => "paused",
            R::Cancelling => "cancelling",
            R::RollingBack => "rolling_back",
            R::Succeeded => "succeeded",
            R::Failed => "failed",
            R::Cancelled => "cancelled",
            R::TimedOut => "timed_out",
            R::RolledBack => "rolled_back",
            R::RollbackFailed => "rollback_failed",
            R::Rejected => "rejected",
            R::Expired => "expired",
        }
    }
}

impl StageState {
    /// Whether `next` may follow.
    pub fn may(self, next: StageState) -> bool {
        STAGES.iter().any(|(from, to)| *from == self && to.contains(&next))
    }

    /// Whether nothing more happens by itself.
    pub fn ended(self) -> bool {
        self >= S::Succeeded
    }

    /// Whether a step of it is under way.
    pub fn steps(self) -> bool {
        matches!(self, S::Starting | S::Running | S::Validating)
    }

    /// Whether it ended badly.
    pub fn bad(self) -> bool {
        matches!(self, S::Failed | S::TimedOut | S::Faulty | S::Cancelled)
    }

    /// One of the names that other programs know: pending, running, success, failed, aborted, skipped.
    pub fn plain(self) -> &'static str {
        match self {
            S::Pending | S::Ready | S::WaitingResources => "pending",
            S::Starting | S::Running | S::Validating | S::Waiting | S::Lost | S::RetryWait | S::NeedsOperator => {
                "running"
            }
            S::Succeeded => "success",
            S::Failed | S::TimedOut | S::Faulty => "failed",
            S::Skipped => "skipped",
            S::Cancelled => "aborted",
        }
    }

    /// The name as it is stored.
    pub fn name(self) -> &'static str {
        match self {
            S::Pending => "pending",
            S::Ready => "ready",
            S::WaitingResources => "waiting_resources",
            S::Starting => "starting",
            S::Running => "running",
            S::Validating => "validating",
            S::Waiting => "waiting",
            S::Lost => "lost",
            S::RetryWait => "retry_wait",
            S::NeedsOperator => "needs_operator",
            S::Succeeded => "succeeded",
            S::Failed => "failed",
            S::Skipped => "skipped",
            S::Cancelled => "cancelled",
            S::TimedOut => "timed_out",
            S::Faulty => "faulty",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_state_of_a_run_can_be_reached_and_left_or_is_an_end() {
        let all: Vec<RunState> =
            RUNS.iter().flat_map(|(from, to)| std::iter::once(*from).chain(to.iter().copied())).collect();
        for state in all {
            assert!(state == R::Draft || RUNS.iter().any(|(_, to)| to.contains(&state)), "{state:?} is never reached");
            assert!(state.ended() || RUNS.iter().any(|(from, _)| *from == state), "{state:?} is never left");
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
        }
        assert!(
            !R::Succeeded.may(R::Running)
                && !R::Expired.may(R::Queued)
                && !R::Rejected.may(R::Running)
                && R::Failed.may(R::RollingBack)
        );
    }

    #[test]
    fn other_programs_know_five_names_for_all_runs_and_one_more_for_stages() {
        let runs: BTreeSet<RunState> =
            RUNS.iter().flat_map(|(from, to)| std::iter::once(*from).chain(to.iter().copied())).collect();
        let told: Vec<(&str, &str)> = runs.into_iter().map(|state| (state.name(), state.plain())).collect();
        let wanted = [
            ("draft", "pending"),
            ("awaiting_confirm", "pending"),
            ("queued", "pending"),
            ("awaiting_window", "pending"),
            ("awaiting_approval", "pending"),
            ("running", "running"),
            ("paused", "running"),
            ("cancelling", "running"),
            ("rolling_back", "running"),
            ("succeeded", "success"),
            ("failed", "failed"),
            ("cancelled", "aborted"),
            ("timed_out", "failed"),
            ("rolled_back", "failed"),
            ("rollback_failed", "failed"),
            ("rejected", "aborted"),
            ("expired", "aborted"),
        ];
        assert_eq!(told, wanted);
        let stages: BTreeSet<StageState> =
            STAGES.iter().flat_map(|(from, to)| std::iter::once(*from).chain(to.iter().copied())).collect();
        let told: Vec<(&str, &str)> = stages.into_iter().map(|state| (state.name(), state.plain())).collect();
        let wanted = [
            ("pending", "pending"),
            ("ready", "pending"),
            ("waiting_resources", "pending"),
            ("starting", "running"),
            ("running", "running"),
            ("validating", "running"),
            ("waiting", "running"),
            ("lost", "running"),
            ("retry_wait", "running"),
            ("needs_operator", "running"),
            ("succeeded", "success"),
            ("failed", "failed"),
            ("skipped", "skipped"),
            ("cancelled", "aborted"),
            ("timed_out", "failed"),
            ("faulty", "failed"),
        ];
        assert_eq!(told, wanted);
    }

    #[test]
    fn every_state_of_a_stage_can_be_reached_and_left_or_is_an_end() {
        let all: Vec<StageState> =
            STAGES.iter().flat_map(|(from, to)| std::iter::once(*from).chain(to.iter().copied())).collect();
        for state in all {
            assert!(
                state == S::Pending || STAGES.iter().any(|(_, to)| to.contains(&state)),
                "{state:?} is never reached"
            );
            assert!(state.ended() || STAGES.iter().any(|(from, _)| *from == state), "{state:?} is never left");
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
        }
        assert!(!S::Succeeded.may(S::Running) && S::Running.may(S::RetryWait));
    }
}
