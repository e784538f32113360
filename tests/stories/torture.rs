//! Whatever happens to a log, each line of it is heard once. What happens is chance, another each time; it is printed, and repeated
//! with `MASTERCHIEF_SEED`.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use masterchief::bot::Bot;
use masterchief::contract::Kind;

use super::chance::{Dice, number, seed};
use super::conformance::{self, Heard};

/// Bytes that a copy has at least: one that is shorter than 64 cannot be told from another file.
const COPIED: u64 = 256;

/// How a log is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// By one name, as logrotate has it.
    Named,
    /// Behind a link that is switched from file to file.
    Linked,
}

/// What may happen to a log.
struct Torture {
    dir: tempfile::TempDir,
    kept: Kept,
    /// Whether lines come in groups.
    groups: bool,
    file: File,
    written: usize,
    rotations: usize,
    /// Whether something was deleted that may not have been read yet.
    deleted: bool,
    dice: Dice,
}

impl Torture {
    fn new(seed: u64, kept: Kept, groups: bool) -> Torture {
        let dir = tempfile::tempdir().unwrap();
        // Of no file yet.
        let file = File::open("/dev/null").unwrap();
        let dice = Dice::new(seed);
        let mut torture = Torture { dir, kept, groups, file, written: 0, rotations: 0, deleted: false, dice };
        torture.begin();
        torture
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("app.log")
    }

    /// A writer: one that appends, or one that keeps its place whatever becomes of the file.
    fn create(path: &std::path::Path, dice: &mut Dice) -> File {
        let appends = !dice.one_in(3);
        OpenOptions::new().create(true).append(appends).write(!appends).truncate(false).open(path).unwrap()
    }

    /// A new file, by the name that is read.
    fn begin(&mut self) {
        if self.kept == Kept::Named {
            self.file = Torture::create(&self.path(), &mut self.dice);
            return;
        }
        self.rotations += 1;
        let (to, link) = (self.dir.path().join(format!("run-{}.txt", self.rotations)), self.dir.path().join("next"));
        self.file = Torture::create(&to, &mut self.dice);
        std::os::unix::fs::symlink(&to, &link).unwrap();
        fs::rename(&link, self.path()).unwrap();
    }

    fn write(&mut self, lines: usize) {
        let mut text = String::new();
        for _ in 0..lines {
            text.push_str(&format!("line {:06} {}\n", self.written, "x".repeat((self.written * 7) % 90)));
            let more = if self.groups { self.dice.below(3) } else { 0 };
            (0..more).for_each(|more| text.push_str(&format!("  and {more}\n")));
            self.written += 1;
        }
        // In two pieces, so that a read may fall between them; a group that waits too long is given away as it is.
        let at = if self.groups { text.len() } else { text.len() / 2 };
        let (one, two) = text.split_at(at);
        self.file.write_all(one.as_bytes()).unwrap();
        self.file.write_all(two.as_bytes()).unwrap();
    }

    /// Renamed, as logrotate does; now and then something is still written to the old one.
    fn rename(&mut self) {
        self.rotations += 1;
        fs::rename(self.path(), self.dir.path().join(format!("app.log.{}", self.rotations))).unwrap();
        if self.dice.one_in(3) {
            self.write(2);
        }
        self.begin();
    }

    /// Copied and cut, as logrotate does with `copytruncate`; then at once shorter than it was, as long, or longer.
    fn cut(&mut self) {
        while fs::metadata(self.path()).unwrap().len() < COPIED {
            self.write(1);
        }
        self.rotations += 1;
        let length = fs::metadata(self.path()).unwrap().len();
        fs::copy(self.path(), self.dir.path().join(format!("app.log.{}", self.rotations))).unwrap();
        OpenOptions::new().write(true).truncate(true).open(self.path()).unwrap();
        let least = if self.dice.one_in(3) { 0 } else { length + self.dice.below(200) as u64 };
        self.write(1);
        while fs::metadata(self.path()).unwrap().len() < least {
            self.write(1);
        }
    }

    /// Deleted with what nobody has read yet, and made anew.
    fn delete(&mut self) {
        self.write(3);
        fs::remove_file(self.path()).unwrap();
        self.deleted = true;
        self.begin();
    }

    /// The link is switched; now and then something is still written to the old file.
    fn switch(&mut self) {
        let before = self.file.try_clone().unwrap();
        self.begin();
        if self.dice.one_in(3) {
            let now = std::mem::replace(&mut self.file, before);
            self.write(2);
            self.file = now;
        }
        self.write(1);
    }

    async fn all_heard(&self, heard: &Heard) {
        let end = tokio::time::Instant::now() + Duration::from_secs(60);
        while heard.all().len() < self.written {
            if tokio::time::Instant::now() >= end {
                let heard: BTreeSet<usize> = numbers(heard).into_iter().collect();
                let missing: Vec<usize> = (0..self.written).filter(|number| !heard.contains(number)).collect();
                let (count, first) = (missing.len(), &missing[..missing.len().min(20)]);
                panic!("{count} of {} lines are missing: {first:?}", self.written);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The numbers of the lines that were heard, each as often as it was.
fn numbers(heard: &Heard) -> Vec<usize> {
    heard.all().iter().map(|text| text.split(' ').nth(1).unwrap_or("").parse().unwrap_or(usize::MAX)).collect()
}

/// `MASTERCHIEF_TORTURE=5000 cargo test --test stories torture` for longer.
async fn each_line_is_heard_once(kept: Kept, groups: bool, rounds: u64) {
    let rounds = number("MASTERCHIEF_TORTURE").unwrap_or(rounds);
    let (data, heard) = (tempfile::tempdir().unwrap(), Heard::default());
    let mut torture = Torture::new(seed(), kept, groups);
    let mask = format!("{}{}", torture.path().display(), if groups { " multi=indent" } else { "" });
    let start = async || {
        let bot = Bot::builder().data(data.path()).bind(Kind::Log, "-|-", &mask, heard.handler()).unwrap();
        let started = bot.start().await.unwrap();
        conformance::reading(&started).await;
        started
    };
    let mut started = start().await;
    for _ in 0..rounds {
        match (torture.dice.below(12), kept) {
            (0..=5, _) => {
                let lines = 1 + torture.dice.below(30);
                torture.write(lines);
            }
            (6..=9, Kept::Linked) => {
                // Of what a link named between two looks nobody knows.
                torture.write(1);
                torture.all_heard(&heard).await;
                torture.switch();
            }
            (6 | 7, Kept::Named) => torture.rename(),
            (8, Kept::Named) => torture.cut(),
            (9, Kept::Named) => {
                torture.write(1);
                torture.all_heard(&heard).await;
                torture.delete();
            }
            (10, _) => {
                if std::mem::take(&mut torture.deleted) {
                    // What is deleted lives as long as somebody has it open.
                    torture.all_heard(&heard).await;
                }
                started.stop("").await;
                let lines = torture.dice.below(10);
                torture.write(lines);
                if kept == Kept::Named && torture.dice.one_in(2) {
                    torture.rename();
                }
                started = start().await;
            }
            _ => tokio::time::sleep(Duration::from_millis(torture.dice.below(60) as u64)).await,
        }
    }
    torture.all_heard(&heard).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut numbers = numbers(&heard);
    numbers.sort_unstable();
    let twice: Vec<usize> = numbers.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    assert!(twice.is_empty() && numbers.len() == torture.written, "each line once; twice came {twice:?}");
    if groups {
        let whole = |text: &String| text.lines().skip(1).enumerate().all(|(at, line)| line == format!("  and {at}"));
        assert!(heard.all().iter().all(whole), "what belongs together comes together");
    }
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_to_a_log_each_line_is_heard_once_torture() {
    each_line_is_heard_once(Kept::Named, false, 150).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_to_a_log_of_groups_each_is_heard_once_and_whole_torture() {
    each_line_is_heard_once(Kept::Named, true, 50).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_a_link_is_switched_each_line_is_heard_once_torture() {
    each_line_is_heard_once(Kept::Linked, false, 80).await;
}
