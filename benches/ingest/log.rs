//! Lines from a file to a handler.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use masterchief::bot::Bot;
use masterchief::contract::{Event, Kind};
use masterchief_bindings::Settings;
use masterchief_bindings::log::{From, LogSettings};

use crate::{Aim, Fallible, Texts, cpu_seconds};

const LINES: u64 = 3_000_000;

/// Lines of 100 bytes from a file to a handler in Rust, each through the journal.
pub(crate) async fn lines() -> Fallible<Vec<Aim>> {
    let mut aims = Vec::new();
    for texts in Texts::BOTH {
        let figure = read(texts).await?;
        aims.push(Aim { what: format!("log, lines/s on one core ({})", texts.named()), figure, least: 500_000.0 });
    }
    Ok(aims)
}

/// Gives the lines a second of processor time: what one core does.
async fn read(texts: Texts) -> Fallible<f64> {
    let (dir, data) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let path = dir.path().join("app.log");
    let mut file = BufWriter::new(File::create(&path)?);
    for line in texts.of(99).iter().cycle().take(LINES as usize) {
        writeln!(file, "{line}")?;
    }
    file.flush()?;
    let began = Instant::now();
    let text = std::fs::read(&path)?;
    let counted = text
        .split(|byte| *byte == b'\n')
        .filter(|line| std::str::from_utf8(line).is_ok_and(|line| !line.is_empty()))
        .count();
    let floor = counted as f64 / began.elapsed().as_secs_f64();
    drop(text);
    let heard = Arc::<AtomicU64>::default();
    let handler = {
        let heard = Arc::clone(&heard);
        move |event: Event| {
            heard.fetch_add(u64::from(!event.text().is_empty()), Ordering::Relaxed);
            async {}
        }
    };
    let log = LogSettings {
        path: path.display().to_string(),
        format: None,
        pattern: None,
        multi: None,
        from: From::Start,
        longest: None,
    };
    let settings = Settings { logs: vec![log], ..Settings::default() };
    let cpu = cpu_seconds();
    let began = Instant::now();
    let bot = Bot::builder().data(data.path()).sources(settings);
    let started = bot.bind(Kind::Log, "-|-", &path.display().to_string(), handler)?.start().await?;
    while heard.load(Ordering::Relaxed) < LINES {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (wall, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    println!(
        "log: {:.0} lines/s by the clock ({}), {:.0} lines a second of processor time",
        LINES as f64 / wall,
        texts.named(),
        LINES as f64 / cpu
    );
    println!("log: the floor, reading and splitting the file, is {floor:.0} lines/s");
    started.stop("").await;
    Ok(LINES as f64 / cpu)
}
