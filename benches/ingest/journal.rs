//! Appends to the journal, from many tasks.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use chrono::Utc;
use masterchief::contract::{Batch, Clock, Inbound, Kind, Matching};
use masterchief::{bot, journal};

use crate::{Aim, Fallible, Texts};

const TASKS: usize = 2000;
const EACH: usize = 200;
/// Bytes of a text.
const WIDE: usize = 300;

/// Durable appends of one event each, from many tasks.
pub(crate) async fn appends() -> Fallible<Vec<Aim>> {
    let mut aims = Vec::new();
    for texts in Texts::BOTH {
        let dir = tempfile::tempdir()?;
        let rate = written(dir.path(), texts).await?;
        let (named, floor) = (texts.named(), floor_of_appends(dir.path(), &texts.of(WIDE + 20))?);
        println!("journal: {rate:.0} durable appends/s of {WIDE} bytes ({named}), one event each, from {TASKS} tasks");
        println!(
            "journal: {:.2} of the floor, which is {floor:.0}/s: the same rows in transactions of {TASKS}, without anything else",
            rate / floor
        );
        aims.push(Aim { what: format!("journal, appends/s ({named})"), figure: rate, least: 200_000.0 });
    }
    Ok(aims)
}

async fn written(folder: &Path, texts: Texts) -> Fallible<f64> {
    let kinds = bot::kinds();
    let specs = kinds.all().filter(|spec| spec.matching == Matching::Journal);
    let journal =
        journal::open(Some(&folder.join("journal.db")), journal::Settings::default(), specs, Clock::system())?;
    let (stream, texts): (Arc<str>, Arc<[String]>) = (Arc::from("webhook"), texts.of(WIDE).into());
    let began = Instant::now();
    let tasks = (0..TASKS).map(|task| {
        let (journal, stream, texts) = (journal.clone(), Arc::clone(&stream), Arc::clone(&texts));
        tokio::spawn(async move {
            let lane: Arc<str> = Arc::from(format!("lane {task}"));
            for round in 0..EACH {
                let text = texts[(round * TASKS + task) % texts.len()].clone();
                let event = Inbound { key: None, at: Utc::now(), text, fields: Vec::new(), body: Vec::new() };
                let written = journal.append(Kind::Webhook, &stream, Batch::one(Arc::clone(&lane), event, 0)).await;
                assert!(written.is_ok(), "{written:?}");
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await?;
    }
    let rate = (TASKS * EACH) as f64 / began.elapsed().as_secs_f64();
    journal.close().await;
    Ok(rate)
}

/// The same bytes into a table of SQLite with the same settings, in transactions as big as the tasks are many.
fn floor_of_appends(folder: &Path, texts: &[String]) -> Fallible<f64> {
    let db = rusqlite::Connection::open(folder.join("floor.db"))?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.execute_batch("CREATE TABLE events(first INTEGER PRIMARY KEY, records BLOB NOT NULL)")?;
    let began = Instant::now();
    let mut count = 0_u64;
    while count < 200_000 {
        db.execute_batch("BEGIN IMMEDIATE")?;
        for text in texts.iter().cycle().skip(count as usize % texts.len()).take(TASKS) {
            count += 1;
            db.prepare_cached("INSERT INTO events(first, records) VALUES (?1, ?2)")?
                .execute(rusqlite::params![count, text.as_bytes()])?;
        }
        db.execute_batch("COMMIT")?;
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}
