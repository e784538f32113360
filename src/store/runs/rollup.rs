//! What came of runs, by the hour and by the day: counted in the transaction that writes a run, so that it is what a recount would give.

use super::RunsError;
use super::db::{Db, Row, params};
use super::rows::RunRow;
use super::writer::Runs;

/// How much time a row is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// An hour, from its full hour in UTC.
    Hour,
    /// A day, from midnight in UTC.
    Day,
}

impl Span {
    /// The name as it is stored.
    pub fn name(self) -> &'static str {
        match self {
            Span::Hour => "hour",
            Span::Day => "day",
        }
    }

    /// In milliseconds.
    pub fn millis(self) -> i64 {
        match self {
            Span::Hour => 3_600_000,
            Span::Day => 86_400_000,
        }
    }
}

/// What came of the runs of a place that ended within a span.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RollupRow {
    /// When the span began.
    pub at: i64,
    /// The app.
    pub app: String,
    /// The environment.
    pub env: String,
    /// How many ended.
    pub ended: i64,
    /// How many of them went well.
    pub succeeded: i64,
    /// How many of them did not, or were undone; the rest was called off.
    pub failed: i64,
    /// How many of them had begun.
    pub began: i64,
    /// How long those waited before, in milliseconds, from the moment they were asked for.
    pub waited: i64,
    /// How long they ran, in milliseconds.
    pub ran: i64,
}

impl RollupRow {
    const SELECT: &str = "SELECT at, app, env, ended, succeeded, failed, began, waited, ran FROM rollup";

    fn of(row: &Row<'_>) -> Result<RollupRow, RunsError> {
        Ok(RollupRow {
            at: row.get(0)?,
            app: row.get(1)?,
            env: row.get(2)?,
            ended: row.get(3)?,
            succeeded: row.get(4)?,
            failed: row.get(5)?,
            began: row.get(6)?,
            waited: row.get(7)?,
            ran: row.get(8)?,
        })
    }
}

/// What one run adds: nothing until it has ended. `at` is when it did. `first` is the row as it was written first: where it goes and
/// when it was asked for never changes.
fn counted(run: &RunRow, first: &RunRow) -> Option<RollupRow> {
    let at = run.finished.filter(|_| run.ended)?;
    let failed = matches!(run.state.as_str(), "failed" | "timed_out" | "rolled_back" | "rollback_failed");
    Some(RollupRow {
        at,
        app: first.app.clone(),
        env: first.env.clone(),
        ended: 1,
        succeeded: i64::from(run.state == "succeeded"),
        failed: i64::from(failed),
        began: i64::from(run.started.is_some()),
        waited: run.started.map_or(0, |started| started - first.created),
        ran: run.started.map_or(0, |started| at - started),
    })
}

/// Counts a run that is about to be written, instead of what it was.
pub(super) fn count(db: &Db, run: &RunRow) -> Result<(), RunsError> {
    let before = format!("{} WHERE number = ?1", RunRow::SELECT);
    let before = db.one(&before, params![run.number], RunRow::of)?;
    let now = counted(run, before.as_ref().unwrap_or(run));
    let before = before.as_ref().and_then(|before| counted(before, before));
    if before == now {
        return Ok(());
    }
    before.map(|row| add(db, &row, -1)).transpose()?;
    now.map(|row| add(db, &row, 1)).transpose()?;
    Ok(())
}

fn add(db: &Db, row: &RollupRow, sign: i64) -> Result<(), RunsError> {
    const SQL: &str = "INSERT INTO rollup (span, at, app, env, ended, succeeded, failed, began, waited, ran)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (span, at, app, env) DO UPDATE SET
         ended = rollup.ended + excluded.ended, succeeded = rollup.succeeded + excluded.succeeded,
         failed = rollup.failed + excluded.failed, began = rollup.began + excluded.began,
         waited = rollup.waited + excluded.waited, ran = rollup.ran + excluded.ran";
    for span in [Span::Hour, Span::Day] {
        let at = row.at - row.at.rem_euclid(span.millis());
        db.execute(
            SQL,
            params![
                span.name(),
                at,
                row.app,
                row.env,
                sign * row.ended,
                sign * row.succeeded,
                sign * row.failed,
                sign * row.began,
                sign * row.waited,
                sign * row.ran,
            ],
        )?;
        if sign < 0 {
            let sql = "DELETE FROM rollup WHERE span = ?1 AND at = ?2 AND app = ?3 AND env = ?4 AND ended = 0";
            db.execute(sql, params![span.name(), at, row.app, row.env])?;
        }
    }
    Ok(())
}

impl Runs {
    /// What came of runs since then, by span and place, the newest first: of one app, or of all.
    pub async fn rollups(&self, span: Span, app: Option<&str>, since: i64) -> Result<Vec<RollupRow>, RunsError> {
        let app = app.map(str::to_owned);
        let since = since - since.rem_euclid(span.millis());
        self.read(move |db| match app {
            Some(app) => {
                let sql =
                    format!("{} WHERE span = ?1 AND app = ?2 AND at >= ?3 ORDER BY at DESC, env", RollupRow::SELECT);
                db.all(&sql, params![span.name(), app, since], RollupRow::of)
            }
            None => {
                let sql = format!("{} WHERE span = ?1 AND at >= ?2 ORDER BY at DESC, app, env", RollupRow::SELECT);
                db.all(&sql, params![span.name(), since], RollupRow::of)
            }
        })
        .await
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use proptest::strategy::ValueTree;

    use super::*;
    use crate::store::runs::tests::{Ground, put_run};
    use crate::store::runs::{Put, Which};

    const STATES: [(&str, bool); 6] = [
        ("running", false),
        ("rolling_back", false),
        ("succeeded", true),
        ("failed", true),
        ("rolled_back", true),
        ("cancelled", true),
    ];

    /// What counting the runs themselves gives.
    async fn recounted(runs: &Runs, span: Span) -> Vec<RollupRow> {
        let rows = runs.runs(Which { limit: 1000, ..Which::default() }).await.unwrap();
        let mut out: BTreeMap<(i64, String, String), RollupRow> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.ended) {
            let ended = row.finished.unwrap();
            let at = ended - ended % span.millis();
            let sum = out.entry((at, row.app.clone(), row.env.clone())).or_default();
            (sum.at, sum.app, sum.env) = (at, row.app.clone(), row.env.clone());
            sum.ended += 1;
            sum.succeeded += i64::from(row.state == "succeeded");
            sum.failed += i64::from(["failed", "rolled_back"].contains(&row.state.as_str()));
            if let Some(started) = row.started {
                sum.began += 1;
                sum.waited += started - row.created;
                sum.ran += ended - started;
            }
        }
        let mut out: Vec<RollupRow> = out.into_values().collect();
        out.sort_by_key(|row| (std::cmp::Reverse(row.at), row.app.clone(), row.env.clone()));
        out
    }

    fn written(number: i64, app: &str, state: usize, minutes: i64, began: bool) -> Vec<Put> {
        let (state, ended) = STATES[state];
        let mut puts = put_run(number, app, "prod", state, ended);
        if let Some(Put::Run(run)) = puts.last_mut() {
            run.created = minutes * 60_000;
            run.started = began.then_some(run.created + 7_000);
            run.finished = ended.then_some(run.created + 67_000);
        }
        puts
    }

    type Written = (i64, usize, i64, bool);

    fn histories() -> impl Strategy<Value = Vec<Written>> {
        prop::collection::vec((1..12_i64, 0..6_usize, 0..4000_i64, any::<bool>()), 1..60)
    }

    async fn counted_as_recounted(runs: &Runs, all: Vec<Written>) {
        for (number, state, minutes, began) in all {
            let app = if number % 2 == 0 { "shop" } else { "tool" };
            runs.write(written(number, app, state, minutes, began)).await.unwrap();
        }
        for span in [Span::Hour, Span::Day] {
            let known = runs.rollups(span, None, 0).await.unwrap();
            assert_eq!(known, recounted(runs, span).await);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn hours_and_days_are_always_what_a_recount_gives(all in histories()) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async { counted_as_recounted(&Runs::open(None).unwrap(), all).await });
        }
    }

    pub(in crate::store::runs) async fn hours_and_days_are_what_a_recount_gives(ground: &Ground) {
        let runs = ground.open().await;
        let mut runner = prop::test_runner::TestRunner::deterministic();
        for _ in 0..3 {
            let all = histories().new_tree(&mut runner).unwrap().current();
            counted_as_recounted(&runs, all).await;
        }
    }

    pub(in crate::store::runs) async fn what_is_forgotten_stays_counted(ground: &Ground) {
        let runs = ground.open().await;
        runs.write(written(1, "shop", 2, 10, true)).await.unwrap();
        let before = runs.rollups(Span::Day, Some("shop"), 0).await.unwrap();
        assert_eq!((before[0].ended, before[0].waited, before[0].ran), (1, 7_000, 60_000));
        assert_eq!(runs.purge(i64::MAX).await.unwrap(), [1]);
        assert_eq!(runs.rollups(Span::Day, Some("shop"), 0).await.unwrap(), before);
        assert_eq!(runs.rollups(Span::Day, Some("tool"), 0).await.unwrap(), []);
    }
}
