//! The records of runs: what is written is there again, and what does not fit is refused.

use super::*;

pub(super) fn put_run(number: i64, app: &str, env: &str, state: &str, ended: bool) -> Vec<Put> {
    let pipeline =
        PipelineRow { hash: "h".to_owned(), name: app.to_owned(), app: app.to_owned(), ..PipelineRow::default() };
    vec![
        Put::Place { app: app.to_owned(), repo: None, env: env.to_owned() },
        Put::Pipeline(pipeline),
        Put::Run(RunRow {
            number,
            pipeline: "h".to_owned(),
            app: app.to_owned(),
            env: env.to_owned(),
            state: state.to_owned(),
            ended,
            created: number,
            idem_key: Some(format!("key-{}", number / 10)),
            ..RunRow::default()
        }),
    ]
}

#[tokio::test]
async fn what_is_written_together_is_there_together_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("runs.db");
    let runs = Runs::open(Some(&path)).unwrap();
    let mut puts = put_run(1, "shop", "prod", "running", false);
    puts.push(Put::Stage(StageRow { run: 1, name: "test".to_owned(), attempt: 2, ..StageRow::default() }));
    for n in [1, 2] {
        puts.push(Put::Attempt(AttemptRow { run: 1, stage: "test".to_owned(), n, ..AttemptRow::default() }));
    }
    puts.push(Put::Outbox(OutboxRow { dedupe: "1:1:x".to_owned(), run: 1, ..OutboxRow::default() }));
    runs.write(puts).await.unwrap();
    runs.write(put_run(2, "shop", "prod", "succeeded", true)).await.unwrap();
    runs.write(vec![Put::Note(1, "test".to_owned(), 2, "{\"pid\":7}".to_owned())]).await.unwrap();
    drop(runs);
    let runs = Runs::open(Some(&path)).unwrap();
    let loaded = runs.load(i64::MAX).await.unwrap();
    assert_eq!((loaded.runs.len(), loaded.stages.len(), loaded.last_run, loaded.unsaid.len()), (1, 1, 2, 1));
    assert_eq!(
        loaded.attempts.iter().map(|row| (row.n, row.note.as_deref())).collect::<Vec<_>>(),
        [(2, Some("{\"pid\":7}"))]
    );
    let which = Which { app: Some("shop".to_owned()), limit: 10, ..Which::default() };
    assert_eq!(runs.runs(which).await.unwrap().iter().map(|run| run.number).collect::<Vec<_>>(), [2, 1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_and_its_stages_are_read_as_they_were_at_one_moment() {
    let dir = tempfile::tempdir().unwrap();
    let runs = Runs::open(Some(&dir.path().join("runs.db"))).unwrap();
    let both = |state: i64| {
        let mut puts = put_run(1, "shop", "prod", &state.to_string(), false);
        puts.push(Put::Stage(StageRow {
            run: 1,
            name: "test".to_owned(),
            state: state.to_string(),
            ..StageRow::default()
        }));
        puts
    };
    runs.write(both(0)).await.unwrap();
    let writer = runs.clone();
    let writing = tokio::spawn(async move {
        for state in 1..=600 {
            writer.write(both(state)).await.unwrap();
        }
    });
    while !writing.is_finished() {
        let (run, stages) = runs.run(1).await.unwrap().unwrap();
        assert_eq!(run.state, stages[0].state);
    }
    writing.await.unwrap();
}

#[tokio::test]
async fn a_row_that_belongs_to_nothing_is_refused_with_all_that_was_to_be_written_with_it() {
    let runs = Runs::open(None).unwrap();
    let mut puts = put_run(1, "shop", "prod", "running", false);
    puts.push(Put::Stage(StageRow { run: 9, name: "test".to_owned(), ..StageRow::default() }));
    assert!(runs.write(puts).await.unwrap_err().to_string().contains("FOREIGN KEY"));
    assert!(runs.run(1).await.unwrap().is_none());
    runs.write(put_run(1, "shop", "prod", "running", false)).await.unwrap();
    let event = EventRow { run: 1, seq: 1, ..EventRow::default() };
    runs.write(vec![Put::Event(event.clone())]).await.unwrap();
    assert!(runs.write(vec![Put::Event(event)]).await.is_err(), "what happened is written once");
}

#[tokio::test]
async fn old_runs_are_forgotten_but_what_is_live_stays() {
    let runs = Runs::open(None).unwrap();
    for number in 1..=60 {
        let mut puts = put_run(number, "shop", "prod", "succeeded", true);
        if let Some(Put::Run(run)) = puts.last_mut() {
            run.finished = Some(number);
        }
        let place = ("shop".to_owned(), "prod".to_owned());
        puts.push(Put::Deployment(DeploymentRow {
            app: place.0,
            env: place.1,
            run: number,
            ..DeploymentRow::default()
        }));
        puts.push(Put::Stage(StageRow { run: number, name: "test".to_owned(), ..StageRow::default() }));
        runs.write(puts).await.unwrap();
    }
    assert_eq!(runs.purge(40).await.unwrap(), (1..=10).collect::<Vec<_>>());
    assert!(runs.run(10).await.unwrap().is_none() && runs.run(11).await.unwrap().is_some());
}

#[test]
fn a_schema_that_was_changed_or_is_newer_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("runs.db");
    drop(Runs::open(Some(&path)).unwrap());
    let change = |sql: &str| rusqlite::Connection::open(&path).unwrap().execute(sql, []).unwrap();
    change("INSERT INTO schema_migration (version, name, checksum) VALUES (99, 'later', '')");
    assert!(Runs::open(Some(&path)).unwrap_err().to_string().contains("newer masterchief"));
    change("DELETE FROM schema_migration WHERE version = 99");
    change("UPDATE schema_migration SET checksum = 'x' WHERE version = 1");
    assert!(Runs::open(Some(&path)).unwrap_err().to_string().contains("0001_runs"));
}

#[tokio::test]
async fn the_questions_that_are_asked_all_day_use_an_index_and_sort_nothing_that_is_long() {
    let runs = Runs::open(None).unwrap();
    let plans = runs
        .read(|db| {
            let plan = |sql: String| {
                let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
                // What is asked for is not looked at, only how it would be.
                let nothing = vec![rusqlite::types::Null; statement.parameter_count()];
                let rows = statement.query_map(rusqlite::params_from_iter(nothing), |row| row.get::<_, String>(3))?;
                Ok((sql, rows.collect::<rusqlite::Result<Vec<_>>>()?))
            };
            sql::all().into_iter().map(plan).collect::<Result<Vec<_>, RunsError>>()
        })
        .await
        .unwrap();
    for (sql, plan) in plans {
        let good =
            plan.iter().any(|line| line.contains("USING")) && !plan.iter().any(|line| line.starts_with("SCAN run"));
        let whole =
            sql.contains("?1 IS NULL AND ?2 IS NULL") || sql.contains("WHERE run = ?1") || sql.contains("GROUP BY");
        assert!(good, "{sql}\n{plan:#?}");
        assert!(whole || !plan.iter().any(|line| line.contains("ORDER BY")), "{sql}\n{plan:#?}");
    }
}

#[tokio::test]
async fn what_belongs_to_a_place_or_a_run_that_is_not_there_is_refused() {
    let runs = Runs::open(None).unwrap();
    runs.write(put_run(1, "shop", "prod", "running", false)).await.unwrap();
    let lock = |place: &str| Put::Lock(LockRow { place: place.to_owned(), ..LockRow::default() });
    let line = |run: i64| Put::Outbox(OutboxRow { dedupe: format!("{run}:1:x"), run, ..OutboxRow::default() });
    let live = |env: &str| {
        Put::Deployment(DeploymentRow {
            app: "shop".to_owned(),
            env: env.to_owned(),
            run: 1,
            ..DeploymentRow::default()
        })
    };
    let segment =
        Put::LogSegment(LogSegmentRow { run: 1, stage: "test".to_owned(), attempt: 1, ..LogSegmentRow::default() });
    for put in [lock("shop/night"), line(9), live("night"), segment] {
        let fault = runs.write(vec![put.clone()]).await.unwrap_err().to_string();
        assert!(fault.contains("FOREIGN KEY"), "{put:?}: {fault}");
    }
    // A line about a place is of no run.
    runs.write(vec![lock("shop/prod"), line(0), line(1), live("prod")]).await.unwrap();
    let loaded = runs.load(i64::MAX).await.unwrap();
    assert_eq!(loaded.unsaid.iter().map(|row| row.run).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(runs.lock("shop/prod").await.unwrap().unwrap().place, "shop/prod");
}

#[tokio::test]
async fn records_of_the_version_before_are_brought_up_to_date_with_all_that_is_in_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("runs.db");
    let old = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/runs/fixtures/0001.sql"));
    rusqlite::Connection::open(&path).unwrap().execute_batch(old).unwrap();
    let done = || Runs::migrations(&path).unwrap().into_iter().map(|(_, done)| done).collect::<Vec<_>>();
    assert!(done()[0] && !done()[1..].contains(&true));
    let runs = Runs::open(Some(&path)).unwrap();
    assert!(!done().contains(&false));
    // What ended before is counted as if it had always been.
    let days = runs.rollups(Span::Day, None, 0).await.unwrap();
    assert_eq!(
        days.iter().map(|day| day.ended).sum::<i64>(),
        runs.runs(Which { limit: 9, ..Which::default() }).await.unwrap().iter().filter(|run| run.ended).count() as i64
    );
    let loaded = runs.load(0).await.unwrap();
    assert_eq!(loaded.runs.iter().map(|run| run.number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!((loaded.live.len(), loaded.live[0].version.as_str()), (1, "v1"));
    let locks: Vec<&str> = loaded.locks.iter().map(|lock| lock.place.as_str()).collect();
    assert_eq!(locks, ["shop/prod", "tool/dev"], "also of a place where nothing ran");
    assert_eq!(
        loaded.unsaid.iter().map(|row| (row.run, row.text.as_str())).collect::<Vec<_>>(),
        [(0, "about a place"), (2, "about 2")]
    );
    assert_eq!(loaded.last_incident.unwrap().hash, "h2");
    assert_eq!(runs.attempts(1).await.unwrap()[0].exit, Some(0));
    // It is one of the new ones in every way.
    let segment =
        LogSegmentRow { run: 1, stage: "test".to_owned(), attempt: 1, part: 1, ends: 9, ..LogSegmentRow::default() };
    runs.write(vec![Put::LogSegment(segment.clone()), Put::Unlock("tool/dev".to_owned())]).await.unwrap();
    assert_eq!(runs.log_segments(1).await.unwrap(), [segment]);
    runs.check().await.unwrap();
}

#[tokio::test]
async fn what_would_be_forgotten_is_what_is_forgotten() {
    let runs = Runs::open(None).unwrap();
    for number in 1..=60 {
        let mut puts = put_run(number, "shop", "prod", "succeeded", true);
        if let Some(Put::Run(run)) = puts.last_mut() {
            run.finished = Some(number);
        }
        let row =
            DeploymentRow { app: "shop".to_owned(), env: "prod".to_owned(), run: number, ..DeploymentRow::default() };
        puts.push(Put::Deployment(row));
        runs.write(puts).await.unwrap();
    }
    let would = runs.old(8).await.unwrap();
    assert_eq!(would, (1..=7).collect::<Vec<_>>());
    assert_eq!(runs.old(8).await.unwrap(), would, "looking changes nothing");
    assert_eq!(runs.purge(8).await.unwrap(), would);
}

/// All that is in a database: columns of its tables with their keys, indexes, rows.
fn dump(path: &Path) -> Vec<String> {
    let db = Connection::open(path).unwrap();
    let lines = |sql: &str| {
        let mut statement = db.prepare(sql).unwrap();
        let columns = statement.column_count();
        let line = |row: &rusqlite::Row<'_>| {
            let cell = |at| row.get::<_, rusqlite::types::Value>(at).map(|value| format!("{value:?}"));
            Ok((0..columns).map(cell).collect::<rusqlite::Result<Vec<String>>>()?.join(" "))
        };
        let mut lines: Vec<String> = statement.query_map([], line).unwrap().map(Result::unwrap).collect();
        lines.sort();
        lines
    };
    let names = "SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'schema_migration'";
    let tables: Vec<String> =
        db.prepare(names).unwrap().query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let mut out = lines("SELECT name, tbl_name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL");
    for table in tables {
        for sql in [
            format!("SELECT '{table}', name, type, \"notnull\", pk FROM pragma_table_info('{table}')"),
            format!("SELECT '{table}', \"table\", \"from\", \"to\", on_delete FROM pragma_foreign_key_list('{table}')"),
            format!("SELECT '{table}', * FROM {table}"),
        ] {
            out.extend(lines(&sql));
        }
    }
    out.sort();
    out
}

#[tokio::test]
async fn migrations_that_are_taken_back_leave_what_was_there_before_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("runs.db");
    let old = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/runs/fixtures/0001.sql"));
    Connection::open(&path).unwrap().execute_batch(old).unwrap();
    let before = dump(&path);
    drop(Runs::open(Some(&path)).unwrap());
    assert_ne!(dump(&path), before);
    let all = Runs::migrations(&path).unwrap().len();
    // One after the other, each to what the one before it left.
    let mut steps = vec![dump(&path)];
    for _ in 1..all {
        assert_eq!(Runs::rollback(&path, 1).unwrap().len(), 1);
        steps.push(dump(&path));
    }
    assert_eq!(steps.last().unwrap(), &before);
    for wrong in [0, 1, 99] {
        let fault = Runs::rollback(&path, wrong).unwrap_err().to_string();
        assert!(fault.contains("the first is what they are"), "{fault}");
    }
    let runs = Runs::open(Some(&path)).unwrap();
    assert_eq!(runs.load(0).await.unwrap().runs.len(), 2);
    drop(runs);
    assert_eq!(dump(&path), steps[0], "and they come again");
    assert_eq!(Runs::rollback(&path, all - 1).unwrap().len(), all - 1);
    assert_eq!(dump(&path), before);
}
