//! Files and logs: the suite, and what only they do.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use masterchief::bot::Bot;
use masterchief::contract::{Event, Kind};

use super::conformance::{self, World, some_fail};
use super::resident::resident;

/// A log that somebody writes.
struct LogWorld {
    dir: tempfile::TempDir,
    file: File,
}

impl LogWorld {
    async fn new() -> LogWorld {
        let dir = tempfile::tempdir().unwrap();
        let file = OpenOptions::new().create(true).append(true).open(dir.path().join("app.log")).unwrap();
        LogWorld { dir, file }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("app.log")
    }
}

impl World for LogWorld {
    fn kind(&self) -> Kind {
        Kind::Log
    }

    fn mask(&self) -> String {
        self.path().display().to_string()
    }

    async fn publish(&mut self, texts: &[String]) {
        for text in texts {
            self.file.write_all(format!("{text}\n").as_bytes()).unwrap();
        }
    }

    /// For a log this is a rotation.
    async fn cut(&mut self) {
        let number = fs::read_dir(self.dir.path()).unwrap().count();
        fs::rename(self.path(), self.dir.path().join(format!("app.log.{number}"))).unwrap();
        self.file = OpenOptions::new().create(true).append(true).open(self.path()).unwrap();
    }

    async fn stop(&mut self) -> bool {
        false
    }
}

/// A folder into which files are dropped, a line each event.
struct DropWorld {
    dir: tempfile::TempDir,
    number: usize,
}

impl DropWorld {
    async fn new() -> DropWorld {
        DropWorld { dir: tempfile::tempdir().unwrap(), number: 0 }
    }

    fn put(&mut self, name: &str, text: &[u8]) {
        let part = self.dir.path().join(".part");
        fs::write(&part, text).unwrap();
        fs::rename(part, self.dir.path().join(name)).unwrap();
    }
}

impl World for DropWorld {
    fn kind(&self) -> Kind {
        Kind::File
    }

    fn mask(&self) -> String {
        format!("{}/*.{{ndjson,txt}} rows settle=20ms", self.dir.path().display())
    }

    async fn publish(&mut self, texts: &[String]) {
        self.number += 1;
        self.put(&format!("{:05}.txt", self.number), (texts.join("\n") + "\n").as_bytes());
        // Files have no order among each other; the next is put when this one is on its way.
        tokio::time::sleep(Duration::from_millis(120)).await;
    }

    async fn poison(&mut self) -> bool {
        self.number += 1;
        self.put(&format!("{:05}.ndjson", self.number), b"{\"not\": closed\n");
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_passes_the_suite() {
    conformance::passes(LogWorld::new).await;
    some_fail(&mut LogWorld::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_falls_over_is_begun_again_and_nothing_is_lost() {
    conformance::failing(&mut LogWorld::new().await, conformance::Fail::Panic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_files_passes_the_suite() {
    conformance::passes(DropWorld::new).await;
    some_fail(&mut DropWorld::new().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_csv_of_a_million_rows_is_read_row_by_row_in_little_memory() {
    const ROWS: usize = 1_000_000;
    let (dir, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let count = Arc::<AtomicUsize>::default();
    let handler = {
        let count = Arc::clone(&count);
        move |event: Event| {
            let right = event.field("data").is_some_and(|data| data.get("n").is_some());
            count.fetch_add(usize::from(right), Ordering::Relaxed);
            async {}
        }
    };
    let mask = format!("{}/*.csv rows settle=50ms then=delete", dir.path().display());
    let bot = Bot::builder().data(data.path()).bind(Kind::File, "-|-", &mask, handler).unwrap();
    let started = bot.start().await.unwrap();
    let text: String =
        std::iter::once("n,name\n".to_owned()).chain((0..ROWS).map(|row| format!("{row},row {row}\n"))).collect();
    let before = resident();
    fs::write(dir.path().join("big.part"), &text).unwrap();
    fs::rename(dir.path().join("big.part"), dir.path().join("big.csv")).unwrap();
    // As long as it gets on: how fast is for the benches to say.
    let (mut seen, mut still) = (0, 0);
    while still < 3000 {
        let now = count.load(Ordering::Relaxed);
        if now == ROWS && !dir.path().join("big.csv").exists() {
            let grown = resident().saturating_sub(before) / 1024;
            assert!(grown < 300, "{grown} MiB more than before");
            started.stop("").await;
            return;
        }
        still = if now == seen { still + 1 } else { 0 };
        seen = now;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{} rows of {ROWS}", count.load(Ordering::Relaxed));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_every_format_are_read_and_a_broken_one_is_a_dead_letter_with_its_place() {
    let (dir, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let seen = Arc::<std::sync::Mutex<Vec<(String, String)>>>::default();
    let handler = {
        let seen = Arc::clone(&seen);
        move |event: Event| {
            let data = event.field("data").map(ToString::to_string).unwrap_or_default();
            seen.lock().unwrap().push((event.field_str("name").to_owned(), data));
            async {}
        }
    };
    let mask =
        format!("{}/**/*.* settle=20ms then=move:{}/done", dir.path().join("in").display(), dir.path().display());
    fs::create_dir_all(dir.path().join("in/deep")).unwrap();
    let bot = Bot::builder().data(data.path()).bind(Kind::File, "-|-", &mask, handler).unwrap();
    let started = bot.start().await.unwrap();
    for (name, text) in [
        ("a.json", "{\"n\": 1}"),
        ("deep/b.yaml", "n: 1\nno: no\n"),
        ("c.csv", "n,m\n1,\"two\nlines\"\n"),
        ("d.xml", "<r><n>1</n></r>"),
        ("e.ndjson", "{\"n\": 1}\n{\"n\": 2}\n"),
        ("f.txt", "words"),
        ("bad.json", "{\"n\": \n"),
    ] {
        fs::write(dir.path().join("in").join(name), text).unwrap();
    }
    for _ in 0..1000 {
        let dead = started.journal().status().await.unwrap().dead;
        if seen.lock().unwrap().len() == 6 && dead == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut seen = seen.lock().unwrap().clone();
    seen.sort();
    let expected = [
        ("a.json", "{\"n\":1}"),
        ("b.yaml", "{\"n\":1,\"no\":\"no\"}"),
        ("c.csv", "[{\"n\":\"1\",\"m\":\"two\\nlines\"}]"),
        ("d.xml", "{\"r\":{\"n\":\"1\"}}"),
        ("e.ndjson", "[{\"n\":1},{\"n\":2}]"),
        ("f.txt", ""),
    ];
    assert_eq!(seen, expected.map(|(name, data)| (name.to_owned(), data.to_owned())));
    let dead = started.journal().dead_letters(5).await.unwrap();
    assert!(dead[0].reason.contains("bad.json") && dead[0].reason.contains("line 2"), "{dead:?}");
    for _ in 0..200 {
        if dir.path().join("done/a.json").exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(dir.path().join("done/a.json").exists() && dir.path().join("in/bad.json").exists());
    started.stop("").await;
}
