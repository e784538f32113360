//! How long each kind of row is kept, where that is less long than the run it belongs to, or it belongs to none.

use super::RunsError;
use super::db::{Db, params};
use super::writer::Runs;

/// Rows of one kind: its name, the tables and which rows of them are old at `?1`.
const KINDS: [(&str, &[&str]); 6] = [
    ("files", &["log_segment WHERE run IN", "artifact WHERE run IN"]),
    ("events", &["event WHERE run IN"]),
    ("notices", &["outbox WHERE sent < ?1"]),
    ("hourly", &["rollup WHERE span = 'hour' AND at < ?1"]),
    ("daily", &["rollup WHERE span = 'day' AND at < ?1"]),
    ("images", &["image WHERE pushed < ?1"]),
];
/// Runs that were over before `?1`.
const OVER: &str = "(SELECT number FROM run WHERE ended = 1 AND finished < ?1)";

/// The kinds of rows that have a time of their own.
pub fn kept_apart() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|(kind, _)| *kind)
}

/// What is old of one kind: how many rows, and the runs whose files go with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Old {
    /// Rows.
    pub rows: i64,
    /// Runs whose folders are not needed any more.
    pub folders: Vec<i64>,
}

impl Runs {
    /// What of this kind is older than that moment; with `forget` it is gone then. A kind that is none has nothing.
    pub async fn expire(&self, kind: &str, before: i64, forget: bool) -> Result<Old, RunsError> {
        let Some((name, tables)) = KINDS.into_iter().find(|(known, _)| *known == kind) else {
            return Ok(Old::default());
        };
        let work = move |db: &Db| {
            let mut old = Old::default();
            for table in tables {
                let from = if table.ends_with("IN") { format!("{table} {OVER}") } else { (*table).to_owned() };
                old.rows += db.number(&format!("SELECT COUNT(*) FROM {from}"), params![before])?;
                if forget {
                    db.execute(&format!("DELETE FROM {from}"), params![before])?;
                }
            }
            if name == "files" {
                // A step that said nothing has a folder all the same.
                let sql = format!("{} ORDER BY number", OVER.trim_matches(['(', ')']));
                old.folders = db.all(&sql, params![before], |row| row.get(0))?;
            }
            Ok(old)
        };
        if forget { self.change(work).await } else { self.read(work).await }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::store::runs::tests::{Ground, put_run};
    use crate::store::runs::{AttemptRow, EventRow, ImageRow, LogSegmentRow, OutboxRow, Put, StageRow};

    async fn records(ground: &Ground) -> Runs {
        let runs = ground.open().await;
        for number in [1, 2] {
            let mut puts = put_run(number, "shop", "prod", "succeeded", true);
            if let Some(Put::Run(run)) = puts.last_mut() {
                run.finished = Some(number * 100_000_000);
            }
            let stage = || "test".to_owned();
            puts.push(Put::Stage(StageRow { run: number, name: stage(), ..StageRow::default() }));
            puts.push(Put::Attempt(AttemptRow { run: number, stage: stage(), n: 1, ..AttemptRow::default() }));
            let segment =
                LogSegmentRow { run: number, stage: stage(), attempt: 1, part: 1, ..LogSegmentRow::default() };
            puts.push(Put::LogSegment(segment));
            puts.push(Put::Event(EventRow { run: number, seq: 1, ..EventRow::default() }));
            let said = OutboxRow {
                dedupe: number.to_string(),
                run: number,
                sent: Some(number * 100_000_000),
                ..OutboxRow::default()
            };
            puts.push(Put::Outbox(said));
            let image = ImageRow {
                repo: "r".to_owned(),
                tag: number.to_string(),
                pushed: number * 100_000_000,
                ..ImageRow::default()
            };
            puts.push(Put::Image(image));
            runs.write(puts).await.unwrap();
        }
        let waits = OutboxRow { dedupe: "waits".to_owned(), run: 1, ..OutboxRow::default() };
        runs.write(vec![Put::Outbox(waits)]).await.unwrap();
        runs
    }

    pub(in crate::store::runs) async fn only_what_is_older_goes_and_looking_takes_nothing(ground: &Ground) {
        let runs = records(ground).await;
        let between = 150_000_000;
        for kind in kept_apart() {
            let would = runs.expire(kind, between, false).await.unwrap();
            assert_eq!(runs.expire(kind, between, false).await.unwrap(), would, "{kind}");
            assert_eq!(runs.expire(kind, between, true).await.unwrap(), would, "{kind}");
            assert_eq!((would.rows, runs.expire(kind, between, false).await.unwrap().rows), (1, 0), "{kind}");
            let folders: &[i64] = if kind == "files" { &[1] } else { &[] };
            assert_eq!(would.folders, folders, "{kind}");
        }
        assert_eq!((runs.log_segments(1).await.unwrap().len(), runs.log_segments(2).await.unwrap().len()), (0, 1));
        assert_eq!((runs.events(1).await.unwrap().len(), runs.events(2).await.unwrap().len()), (0, 1));
        let left: Vec<String> = runs.notices(1).await.unwrap().into_iter().map(|row| row.dedupe).collect();
        assert_eq!(left, ["waits"], "what was not said yet stays");
        assert!(runs.run(1).await.unwrap().is_some(), "the run itself is kept as long as runs are");
        assert_eq!(runs.images(None, 9).await.unwrap().len(), 1);
        assert_eq!(runs.expire("people", i64::MAX, true).await.unwrap(), Old::default());
    }
}
