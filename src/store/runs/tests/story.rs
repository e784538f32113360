//! The stories of the records, for any place.

use super::*;

pub(super) use crate::store::runs::retention::tests::only_what_is_older_goes_and_looking_takes_nothing;
pub(super) use crate::store::runs::rollup::tests::{
    hours_and_days_are_what_a_recount_gives, what_is_forgotten_stays_counted,
};

/// Records of a version.
macro_rules! fixture {
    ($version:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/runs/fixtures/", $version, ".sql"))
    };
}

/// Records of version 1.
const OLD: &str = fixture!("0001");
/// Of all versions before this one, from the first on.
const OLDER: [&str; 7] =
    [OLD, fixture!("0002"), fixture!("0003"), fixture!("0004"), fixture!("0005"), fixture!("0006"), fixture!("0007")];

pub(in crate::store::runs) async fn what_is_written_together_is_there_together_also_after_a_restart(ground: &Ground) {
    let runs = ground.open().await;
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
    let runs = ground.open().await;
    let loaded = runs.load(i64::MAX).await.unwrap();
    assert_eq!((loaded.runs.len(), loaded.stages.len(), loaded.last_run, loaded.unsaid.len()), (1, 1, 2, 1));
    assert_eq!(
        loaded.attempts.iter().map(|row| (row.n, row.note.as_deref())).collect::<Vec<_>>(),
        [(2, Some("{\"pid\":7}"))]
    );
    let which = Which { app: Some("shop".to_owned()), limit: 10, ..Which::default() };
    assert_eq!(runs.runs(which).await.unwrap().iter().map(|run| run.number).collect::<Vec<_>>(), [2, 1]);
}

pub(in crate::store::runs) async fn a_run_and_its_stages_are_read_as_they_were_at_one_moment(ground: &Ground) {
    let runs = ground.open().await;
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

pub(in crate::store::runs) async fn a_row_that_belongs_to_nothing_is_refused_with_all_that_was_to_be_written_with_it(
    ground: &Ground,
) {
    let runs = ground.open().await;
    let mut puts = put_run(1, "shop", "prod", "running", false);
    puts.push(Put::Stage(StageRow { run: 9, name: "test".to_owned(), ..StageRow::default() }));
    assert!(runs.write(puts).await.unwrap_err().to_string().to_lowercase().contains("foreign key"));
    assert!(runs.run(1).await.unwrap().is_none());
    runs.write(put_run(1, "shop", "prod", "running", false)).await.unwrap();
    let event = EventRow { run: 1, seq: 1, ..EventRow::default() };
    runs.write(vec![Put::Event(event.clone())]).await.unwrap();
    assert!(runs.write(vec![Put::Event(event)]).await.is_err(), "what happened is written once");
}

pub(in crate::store::runs) async fn old_runs_are_forgotten_but_what_is_live_stays(ground: &Ground) {
    let runs = ground.open().await;
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

pub(in crate::store::runs) async fn a_schema_that_was_changed_or_is_newer_is_refused(ground: &Ground) {
    drop(ground.open().await);
    ground.by_hand("INSERT INTO schema_migration (version, name, checksum) VALUES (99, 'later', '')").await;
    assert!(ground.refused().await.contains("newer masterchief"));
    ground.by_hand("DELETE FROM schema_migration WHERE version = 99").await;
    ground.by_hand("UPDATE schema_migration SET checksum = 'x' WHERE version = 1").await;
    assert!(ground.refused().await.contains("0001_runs"));
}

pub(in crate::store::runs) async fn what_belongs_to_a_place_or_a_run_that_is_not_there_is_refused(ground: &Ground) {
    let runs = ground.open().await;
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
        assert!(fault.to_lowercase().contains("foreign key"), "{put:?}: {fault}");
    }
    // A line about a place is of no run.
    runs.write(vec![lock("shop/prod"), line(0), line(1), live("prod")]).await.unwrap();
    let loaded = runs.load(i64::MAX).await.unwrap();
    assert_eq!(loaded.unsaid.iter().map(|row| row.run).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(runs.lock("shop/prod").await.unwrap().unwrap().place, "shop/prod");
}

pub(in crate::store::runs) async fn records_of_each_version_before_are_brought_up_to_date_with_all_that_is_in_them(
    ground: &Ground,
) {
    for (at, old) in OLDER.into_iter().enumerate() {
        are_brought_up_to_date(&ground.another().await, old, at + 1).await;
    }
}

async fn are_brought_up_to_date(ground: &Ground, old: &str, version: usize) {
    ground.by_hand(old).await;
    let done = async || {
        let known = Runs::migrations(&ground.at).await.unwrap();
        known.into_iter().map(|(_, done)| done).collect::<Vec<_>>()
    };
    let before = done().await;
    assert_eq!(before.len(), OLDER.len() + 1, "whoever adds a migration keeps records as they were before it");
    assert!(!before[..version].contains(&false) && !before[version..].contains(&true), "{before:?}");
    let runs = ground.open().await;
    assert!(!done().await.contains(&false));
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
    assert_eq!(loaded.last_incident.as_ref().unwrap().hash, "h2");
    assert_eq!(runs.attempts(1).await.unwrap()[0].exit, Some(0));
    // It is one of the new ones in every way.
    let segment =
        LogSegmentRow { run: 1, stage: "test".to_owned(), attempt: 1, part: 1, ends: 9, ..LogSegmentRow::default() };
    runs.write(vec![Put::LogSegment(segment.clone()), Put::Unlock("tool/dev".to_owned())]).await.unwrap();
    assert_eq!(runs.log_segments(1).await.unwrap(), [segment]);
    // What each version brought came along, and the next number is none that was given.
    assert_eq!(runs.log_segments(2).await.unwrap().len(), usize::from(version >= 2));
    assert_eq!(loaded.live[0].replicas, (version >= 3).then_some(3));
    assert_eq!(runs.claim("a test").await.unwrap(), if version >= 5 { 4 } else { 1 });
    let warned = loaded.locks.iter().find(|lock| lock.place == "tool/dev").unwrap().warned;
    assert_eq!((loaded.last_booking, warned), (1, (version >= 7).then_some(9000)));
    runs.write(vec![Put::Unbook(1)]).await.unwrap();
    assert_eq!(runs.load(0).await.unwrap().last_booking, 1);
    runs.check().await.unwrap();
}

pub(in crate::store::runs) async fn what_would_be_forgotten_is_what_is_forgotten(ground: &Ground) {
    let runs = ground.open().await;
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

pub(in crate::store::runs) async fn migrations_that_are_taken_back_leave_what_was_there_before_them(ground: &Ground) {
    ground.by_hand(OLD).await;
    let before = ground.dump().await;
    drop(ground.open().await);
    assert_ne!(ground.dump().await, before);
    let all = Runs::migrations(&ground.at).await.unwrap().len();
    // One after the other, each to what the one before it left.
    let mut steps = vec![ground.dump().await];
    for _ in 1..all {
        assert_eq!(Runs::rollback(&ground.at, 1).await.unwrap().len(), 1);
        steps.push(ground.dump().await);
    }
    assert_eq!(steps.last().unwrap(), &before);
    for wrong in [0, 1, 99] {
        let fault = Runs::rollback(&ground.at, wrong).await.unwrap_err().to_string();
        assert!(fault.contains("the first is what they are"), "{fault}");
    }
    let runs = ground.open().await;
    assert_eq!(runs.load(0).await.unwrap().runs.len(), 2);
    drop(runs);
    assert_eq!(ground.dump().await, steps[0], "and they come again");
    assert_eq!(Runs::rollback(&ground.at, all - 1).await.unwrap().len(), all - 1);
    assert_eq!(ground.dump().await, before);
}

/// Each question finds rows there, in the same order everywhere.
pub(in crate::store::runs) async fn everything_that_is_asked_can_be_asked(ground: &Ground) {
    let runs = ground.open().await;
    for number in [1, 2] {
        let mut puts = put_run(number, "shop", "prod", "running", number == 1);
        if let Some(Put::Run(run)) = puts.last_mut() {
            (run.started, run.finished) = (Some(5), (number == 1).then_some(9));
        }
        let (run, class) = (number, Some("infra".to_owned()));
        for name in ["b", "B", "a", "\u{e4}"] {
            let stage = StageRow { run, name: name.to_owned(), state: "succeeded".to_owned(), ..StageRow::default() };
            puts.push(Put::Stage(StageRow { started: Some(1), ended: Some(4), waited: Some(2), ..stage }));
            // A program may say anything.
            let line = Some("a\0b".to_owned());
            let (stage, class) = (name.to_owned(), class.clone());
            puts.push(Put::Attempt(AttemptRow { run, stage, n: 1, class, line, ..AttemptRow::default() }));
        }
        let place = || ("shop".to_owned(), "prod".to_owned());
        let (app, env) = place();
        puts.push(Put::Deployment(DeploymentRow { app, env, run, validated: true, ..DeploymentRow::default() }));
        puts.push(Put::Approval(ApprovalRow { run, yes: true, ..ApprovalRow::default() }));
        puts.push(Put::Artifact(ArtifactRow { run, path: "p".to_owned(), ..ArtifactRow::default() }));
        puts.push(Put::Booking(BookingRow { id: run, ..BookingRow::default() }));
        puts.push(Put::Freeze(FreezeRow { scope: run.to_string(), until: Some(7), ..FreezeRow::default() }));
        let (app, env) = place();
        puts.push(Put::Incident(IncidentRow { id: run, app, env, run: Some(run), ..IncidentRow::default() }));
        puts.push(Put::Event(EventRow { run, seq: 1, ..EventRow::default() }));
        runs.write(puts).await.unwrap();
    }
    let one = |app: Option<&str>, env: Option<&str>| Which {
        app: app.map(str::to_owned),
        env: env.map(str::to_owned),
        limit: 9,
        ..Which::default()
    };
    for which in [one(None, None), one(Some("shop"), None), one(Some("shop"), Some("prod"))] {
        assert_eq!(runs.runs(which.clone()).await.unwrap().len(), 2, "{which:?}");
        let began = runs.began(which).await.unwrap();
        assert!(began.len() == 2 && began.iter().all(|(_, brought)| brought.as_ref().unwrap().validated));
    }
    let (_, stages) = runs.run(1).await.unwrap().unwrap();
    let names: Vec<&str> = stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(names, ["B", "a", "b", "\u{e4}"], "texts are in order by their bytes");
    assert!(runs.attempts(1).await.unwrap()[0].line.as_ref().unwrap().starts_with('a'));
    assert_eq!((runs.times("shop").await.unwrap().len(), runs.waits("shop").await.unwrap().len()), (8, 8));
    assert_eq!(runs.failures("shop", 0).await.unwrap()[0], ("B".to_owned(), "infra".to_owned(), 2));
    assert_eq!(runs.run_states(0).await.unwrap(), [("running".to_owned(), 1), ("running".to_owned(), 1)]);
    assert_eq!(runs.stage_states().await.unwrap(), [("succeeded".to_owned(), 4)]);
    assert_eq!(runs.apps().await.unwrap(), ["shop"]);
    assert_eq!((runs.open_runs("shop").await.unwrap().len(), runs.events(2).await.unwrap().len()), (1, 1));
    assert_eq!(runs.deployments("shop", "prod", 1).await.unwrap()[0].run, 2);
    assert_eq!(runs.deployed_since(Some("prod"), 0).await.unwrap().len(), 2);
    assert_eq!(runs.deployed_since(None, 0).await.unwrap().len(), 2);
    assert_eq!(runs.incidents(Some("shop"), 0, 9).await.unwrap().len(), 2);
    assert_eq!(runs.incidents(None, 0, 1).await.unwrap()[0].id, 2);
    assert_eq!((runs.incidents_from(2, 9).await.unwrap().len(), runs.incident(3).await.unwrap()), (1, None));
    assert_eq!((runs.approvals(1).await.unwrap().len(), runs.artifacts(2).await.unwrap().len()), (1, 1));
    assert_eq!(runs.pipeline("h").await.unwrap().unwrap().app, "shop");
    let loaded = runs.load(0).await.unwrap();
    assert_eq!((loaded.freezes.len(), loaded.bookings.len(), loaded.live[0].run), (2, 2, 2));
    assert_eq!((loaded.last_incident.unwrap().id, loaded.events[&2]), (2, 1));
    let gone = vec![Put::Thaw("1".to_owned()), Put::Unbook(1), Put::Unstage(2, "a".to_owned())];
    runs.write(gone).await.unwrap();
    assert_eq!(runs.load(0).await.unwrap().freezes.len(), 1);
    assert_eq!(runs.attempts(2).await.unwrap().len(), 3, "what belongs to a row goes with it");
    assert_eq!(runs.claim("a test").await.unwrap(), 1);
    runs.check().await.unwrap();
}

pub(in crate::store::runs) async fn of_two_on_a_server_only_one_that_is_alive_has_the_records(
    server: &Arc<Postgresql>,
) {
    let ground = Ground::schema(server).await;
    let (old, new) = (ground.open().await, ground.open().await);
    assert_eq!(old.claim("the first").await.unwrap(), 1);
    let fault = new.alone(std::time::Duration::from_millis(300)).await.unwrap_err();
    assert!(matches!(&fault, RunsError::Held(who) if who == "the first at 127.0.0.1"), "{fault}");
    assert!(fault.to_string().starts_with("another bot (the first at 127.0.0.1) has the records of runs; stop it"));
    old.write(put_run(1, "shop", "prod", "running", false)).await.unwrap();
    // The line to the first one breaks; the second one finds nobody. The first one comes back and finds that one.
    let (_, schema) = ground.server.as_ref().unwrap();
    let lock = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid() AND granted";
    server.ask(schema, &format!("SELECT pg_terminate_backend(pid) FROM ({lock}) AS one")).await;
    assert_eq!(new.claim("the second").await.unwrap(), 2);
    let fault = old.write(put_run(2, "shop", "prod", "running", false)).await.unwrap_err();
    assert!(matches!(&fault, RunsError::Taken(who) if who == "the second at 127.0.0.1"), "{fault}");
    assert!(old.taken() && !new.taken() && new.run(2).await.unwrap().is_none());
    new.write(put_run(3, "shop", "prod", "running", false)).await.unwrap();
    assert!(old.run(3).await.unwrap().is_some(), "looking is free");
    // One that ends gives them up, though somebody still looks.
    new.release().await;
    assert_eq!(ground.open().await.claim("the third").await.unwrap(), 3);
    assert!(new.run(3).await.unwrap().is_some());
}

/// Whoever writes an event twice is refused, so a write whose end was not heard must not be tried again blindly.
pub(in crate::store::runs) async fn what_is_written_while_the_server_goes_away_is_written_once(
    server: &Arc<Postgresql>,
) {
    let ground = Ground::schema(server).await;
    let (_, schema) = ground.server.as_ref().unwrap();
    let runs = ground.open().await;
    runs.write(put_run(1, "shop", "prod", "running", false)).await.unwrap();
    runs.claim("a test").await.unwrap();
    let enough = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn({
        let (runs, enough) = (runs.clone(), Arc::clone(&enough));
        async move {
            let mut seq = 0;
            while !enough.load(Ordering::Relaxed) {
                seq += 1;
                let event = || vec![Put::Event(EventRow { run: 1, seq, ..EventRow::default() })];
                while let Err(fault) = runs.write(event()).await {
                    assert!(matches!(fault, RunsError::Lost(_)), "{seq}: {fault}");
                }
            }
            seq
        }
    });
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid() AND granted";
    let mut kills = 0;
    while kills < 10 && !writing.is_finished() {
        kills += server.ask(schema, kill).await.len();
    }
    enough.store(true, Ordering::Relaxed);
    let last = writing.await.unwrap();
    let there: Vec<i64> = runs.events(1).await.unwrap().into_iter().map(|event| event.seq).collect();
    assert_eq!(there, (1..=last).collect::<Vec<_>>());
}

pub(in crate::store::runs) async fn a_server_proves_who_it_is(server: &Arc<Postgresql>) {
    let begin = async |trusted: &str| {
        let records = Records { url: Some(Secret::new(server.tls_url(trusted))), insecure: false };
        Runs::begin(&records.at(None).unwrap()).await
    };
    let runs = begin("cert.pem").await.unwrap();
    let asked = "SELECT COUNT(*) FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl";
    assert_eq!(runs.read(|db| db.number(asked, &[])).await.unwrap(), 1, "it is asked over TLS");
    let fault = begin("other.pem").await.unwrap_err().to_string();
    assert!(fault.contains("PostgreSQL's database postgres on localhost") && fault.contains("certificate"), "{fault}");
}
