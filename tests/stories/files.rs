//! Files and logs: the suite, and what only they do.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use masterchief::contract::Kind;

use super::conformance::{self, World, some_fail};

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
async fn a_folder_of_files_passes_the_suite() {
    conformance::passes(DropWorld::new).await;
    some_fail(&mut DropWorld::new().await).await;
}
