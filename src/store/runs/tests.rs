//! The records of runs: what is written is there again, and what does not fit is refused.

use super::*;

fn put_run(number: i64, app: &str, env: &str, state: &str, ended: bool) -> Vec<Put> {
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
async fn the_questions_that_are_asked_all_day_use_an_index() {
    let runs = Runs::open(None).unwrap();
    let plans = runs
        .read(|db| {
            let asked = [
                "SELECT * FROM run WHERE app = 'a' AND env = 'b' AND number < 9 ORDER BY number DESC LIMIT 1",
                "SELECT * FROM run WHERE app = 'a' AND number < 9 ORDER BY number DESC LIMIT 1",
                "SELECT number FROM run WHERE idem_key = 'a' AND created >= 1",
                "SELECT * FROM stage WHERE run = 1",
                "SELECT * FROM outbox WHERE sent IS NULL ORDER BY at",
                "SELECT * FROM deployment WHERE app = 'a' AND env = 'b' ORDER BY run DESC",
            ];
            let plan = |sql: &&str| all(db, &format!("EXPLAIN QUERY PLAN {sql}"), [], |row| row.get::<_, String>(3));
            asked.iter().map(plan).collect::<Result<Vec<_>, _>>()
        })
        .await
        .unwrap();
    for plan in plans {
        assert!(plan.iter().any(|line| line.contains("USING") && !line.contains("SCAN")), "{plan:?}");
    }
}
