//! Appends to the journal, from many tasks.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use chrono::Utc;
use masterchief::contract::{Batch, Clock, Inbound, Kind, Matching};
use masterchief::{bot, journal};

use crate::Fallible;

/// Durable appends of one event each, from many tasks.
pub(crate) async fn appends() -> Fallible<()> {
    const TASKS: usize = 2000;
    const EACH: usize = 200;
    let dir = tempfile::tempdir()?;
    let kinds = bot::kinds();
    let specs = kinds.all().filter(|spec| spec.matching == Matching::Journal);
    let journal =
        journal::open(Some(&dir.path().join("journal.db")), journal::Settings::default(), specs, Clock::system())?;
    let stream: Arc<str> = Arc::from("webhook");
    let began = Instant::now();
    let tasks = (0..TASKS).map(|task| {
        let (journal, stream) = (journal.clone(), Arc::clone(&stream));
        tokio::spawn(async move {
            let lane: Arc<str> = Arc::from(format!("lane {task}"));
            for _ in 0..EACH {
                let event =
                    Inbound { key: None, at: Utc::now(), text: "x".repeat(300), fields: Vec::new(), body: Vec::new() };
                let written = journal.append(Kind::Webhook, &stream, Batch::one(Arc::clone(&lane), event, 0)).await;
                assert!(written.is_ok(), "{written:?}");
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await?;
    }
    let rate = (TASKS * EACH) as f64 / began.elapsed().as_secs_f64();
    println!("journal: {rate:.0} durable appends/s of 300 bytes, one event each, from {TASKS} tasks");
    let floor = floor_of_appends(dir.path())?;
    println!(
        "journal: {:.2} of the floor, which is {floor:.0}/s: the same rows in transactions of {TASKS}, without anything else",
        rate / floor
    );
    journal.close().await;
    Ok(())
}

/// The same bytes into a table of SQLite with the same settings, in transactions as big as the tasks are many.
fn floor_of_appends(folder: &Path) -> Fallible<f64> {
    let db = rusqlite::Connection::open(folder.join("floor.db"))?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.execute_batch("CREATE TABLE events(first INTEGER PRIMARY KEY, records BLOB NOT NULL)")?;
    let bytes = vec![b'x'; 320];
    let began = Instant::now();
    let mut count = 0_u64;
    while count < 200_000 {
        db.execute_batch("BEGIN IMMEDIATE")?;
        for _ in 0..2000 {
            count += 1;
            db.prepare_cached("INSERT INTO events(first, records) VALUES (?1, ?2)")?
                .execute(rusqlite::params![count, bytes])?;
        }
        db.execute_batch("COMMIT")?;
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}
