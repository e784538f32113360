//! `log`: lines of files that are followed, and syslog that is received.

mod generation;
mod lines;
mod listen;
mod mask;
mod parse;
mod remembered;
mod rotation;
mod tail;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::{EventData, FlagScope, Kind, KindSpec, Matching, Meter, Returns, Source, Wanted};
use regex::Regex;
use serde::Deserialize;

use crate::Settings;
use lines::{Multiline, Rule};
use mask::{LogMask, Place};
use parse::{NAMES, Parser};
use tail::{Tail, TailOptions};

/// The row.
pub static KINDS: &[KindSpec] = &[KindSpec {
    kind: Kind::Log,
    matching: Matching::Journal,
    flags: FlagScope::Nobody,
    stackable: true,
    returns: Returns::Ignored,
    subject: line,
    check: |mask| LogMask::parse(mask).map(drop),
    fields: &["path", "offset", "data", "cut", "peer", "gap"],
    about: "a line is written to a log, or received as syslog; `data` is what the line says; with the word `gap`: a log was cut before it was read",
    example: "/var/log/app.log ~ERROR|FATAL",
    wants: Some(|mask| {
        let mask = LogMask::parse(mask)?;
        Ok(Wanted { stream: mask.stream().into(), filter: mask.filter() })
    }),
}];

fn line(event: &EventData) -> Cow<'_, str> {
    Cow::Borrowed(&event.text)
}

/// How the logs that a path or a pattern names are read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// The path as it stands in masks.
    pub path: String,
    /// How lines are read: text, syslog, json, logfmt, nginx, apache; or `pattern`.
    pub format: Option<String>,
    /// A regular expression; its named groups become fields.
    pub pattern: Option<String>,
    /// How lines belong together: `indent`, `java`, or a name under `multiline`.
    pub multi: Option<String>,
    /// Whether a log that is there before the first start is read from its `start` or its `end`.
    #[serde(default)]
    pub from: From,
    /// The longest line, in bytes; longer ones are cut.
    pub longest: Option<usize>,
}

/// Where reading begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum From {
    /// With what is written from now on.
    #[default]
    End,
    /// With what is there.
    Start,
}

/// How lines belong together. One of `start` and `continue`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MultilineSettings {
    /// A line that matches begins a group.
    pub start: Option<String>,
    /// A line that matches belongs to the one before it.
    pub r#continue: Option<String>,
    /// How long a group waits for more.
    #[serde(default = "two_seconds", with = "humantime_serde")]
    pub wait: Duration,
}

/// Where syslog is received.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyslogSettings {
    /// UDP: best effort by nature.
    pub udp: Option<SocketAddr>,
    /// TCP, lines or counted octets.
    pub tcp: Option<SocketAddr>,
}

/// A line is cut at this length, in bytes.
const LONGEST: usize = 256 << 10;
/// How long a group of lines waits for more.
const WAIT: Duration = Duration::from_secs(2);

fn two_seconds() -> Duration {
    WAIT
}

/// The path or pattern of a mask; nothing for syslog and what is no mask.
pub(crate) fn path_of(mask: &str) -> Option<String> {
    match LogMask::parse(mask).ok()?.place {
        Place::Path(pattern) => Some(pattern.to_string()),
        Place::Syslog => None,
    }
}

/// The source of a stream, or why there is none.
pub(crate) fn source(settings: &Settings, stream: &str, meter: &Arc<Meter>) -> Result<Box<dyn Source>, String> {
    let text = stream.strip_prefix("log:").unwrap_or(stream);
    let mask = LogMask::parse(text).map_err(|fault| fault.to_string())?;
    let pattern = match mask.place {
        Place::Syslog => return listen::source(settings.syslog.as_ref(), meter),
        Place::Path(pattern) => pattern,
    };
    let path = pattern.to_string();
    let configured = settings.logs.iter().find(|log| log.path == path);
    let format = mask.format.as_deref().or(configured.and_then(|log| log.format.as_deref()));
    let parser = match (configured.and_then(|log| log.pattern.as_deref()), format) {
        (Some(text), _) => {
            let pattern = Regex::new(text).map_err(|fault| format!("the pattern of {path}: {fault}"))?;
            Parser::Regex(Box::new(pattern))
        }
        (None, Some(name)) => {
            Parser::named(name).ok_or_else(|| format!("there is no format {name:?}; there are {NAMES}"))?
        }
        (None, None) => Parser::None,
    };
    let multi = mask.multi.as_deref().or(configured.and_then(|log| log.multi.as_deref()));
    Ok(Box::new(Tail::new(
        TailOptions {
            pattern,
            from_start: configured.is_some_and(|log| log.from == From::Start),
            multiline: multi.map(|name| multiline(&settings.multiline, name)).transpose()?,
            parser,
            longest: configured.and_then(|log| log.longest).unwrap_or(LONGEST),
        },
        Arc::clone(meter),
    )))
}

/// A rule by its name.
fn multiline(configured: &BTreeMap<String, MultilineSettings>, name: &str) -> Result<Multiline, String> {
    let pattern = |text: &str| regex::bytes::Regex::new(text).map_err(|fault| format!("multiline.{name}: {fault}"));
    if let Some(settings) = configured.get(name) {
        let rule = match (&settings.start, &settings.r#continue) {
            (Some(start), None) => Rule::Start(pattern(start)?),
            (None, Some(more)) => Rule::Continue(pattern(more)?),
            _ => return Err(format!("multiline.{name}: say either start or continue")),
        };
        return Ok(Multiline { rule, wait: settings.wait });
    }
    let rule = match name {
        "indent" => Rule::Continue(pattern(r"^\s")?),
        "java" => Rule::Continue(pattern(r"^(\s|Caused by:|Suppressed:|\.\.\. \d+ more)")?),
        _ => {
            return Err(format!(
                "there is no multiline {name:?}; there are indent, java, and those under sources.multiline"
            ));
        }
    };
    Ok(Multiline { rule, wait: WAIT })
}

/// Any bytes as a log, for the fuzzer: whole or in pieces the lines are the same, and each is understood or not.
#[cfg(fuzzing)]
pub fn fuzz(bytes: &[u8], cut: usize) {
    let multi = multiline(&BTreeMap::new(), "java").ok();
    for multi in [None, multi.as_ref()] {
        let (mut whole, mut pieces) = (Vec::new(), Vec::new());
        let mut lines = lines::Lines::new(0, 200);
        lines.feed(bytes, multi, &mut whole);
        lines.flush(multi, &mut whole);
        let mut lines = lines::Lines::new(0, 200);
        let (one, two) = bytes.split_at(cut.min(bytes.len()));
        lines.feed(one, multi, &mut pieces);
        lines.feed(two, multi, &mut pieces);
        lines.flush(multi, &mut pieces);
        if bytes.split(|byte| *byte == b'\n').all(|line| line.len() <= 200) {
            assert_eq!(whole, pieces);
        }
        for line in whole {
            for name in parse::NAMES.split(", ") {
                if let Some(parser) = parse::Parser::named(name) {
                    let _ = parse::inbound(line.clone(), &parser);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::io::Write;
    use std::path::{Path, PathBuf};

    use masterchief_contract::{Batch, Inbound, Positions};

    use super::*;

    /// A log that is read as the runner reads it, and a journal of its positions.
    struct Read {
        dir: tempfile::TempDir,
        settings: Settings,
        stream: String,
        source: Box<dyn Source>,
        meter: Arc<Meter>,
        positions: Positions,
        events: Vec<Inbound>,
    }

    impl Read {
        async fn new(name: &str, words: &str, prepare: impl FnOnce(&Path)) -> Read {
            let dir = tempfile::tempdir().unwrap();
            prepare(dir.path());
            let path = dir.path().join(name).display().to_string();
            let settings = serde_json::json!({"logs": [{"path": path, "longest": 16}]});
            let settings: Settings = serde_json::from_value(settings).unwrap();
            let stream = format!("log:{path} {words}");
            let meter = Arc::<Meter>::default();
            let source = source(&settings, &stream, &meter).unwrap();
            let (positions, events) = (Positions::new(), Vec::new());
            let mut read = Read { dir, settings, stream, source, meter, positions, events };
            read.source.open(&read.positions).await.unwrap();
            read.some(Duration::from_millis(200)).await;
            read
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn append(&self, name: &str, bytes: &[u8]) {
            OpenOptions::new().append(true).create(true).open(self.path(name)).unwrap().write_all(bytes).unwrap();
        }

        /// Reads for a while.
        async fn some(&mut self, time: Duration) {
            let until = std::time::Instant::now() + time;
            while let Some(left) = until.checked_duration_since(std::time::Instant::now()) {
                let Ok(batch) = tokio::time::timeout(left, self.source.next()).await else { return };
                for part in batch.unwrap().parts {
                    if let Some(position) = part.position {
                        self.positions.insert(part.lane.to_string(), position);
                    }
                    self.events.extend(part.events);
                }
                self.source.settle(0, &[]).await.unwrap();
            }
        }

        /// Reads until so many events are there, and a little longer.
        async fn texts(&mut self, count: usize) -> Vec<String> {
            for _ in 0..200 {
                if self.events.len() >= count {
                    break;
                }
                self.some(Duration::from_millis(50)).await;
            }
            self.some(Duration::from_millis(100)).await;
            self.events.iter().map(|event| event.text.clone()).collect()
        }

        async fn restart(&mut self) {
            self.source.close().await;
            self.source = source(&self.settings, &self.stream, &self.meter).unwrap();
            self.source.open(&self.positions).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_link_that_is_switched_to_another_file_is_followed_there_and_nothing_is_left_behind() {
        let mut read = Read::new("current", "", |dir| {
            File::create(dir.join("a")).unwrap();
            std::os::unix::fs::symlink(dir.join("a"), dir.join("current")).unwrap();
        })
        .await;
        read.append("a", b"one\n");
        assert_eq!(read.texts(1).await, ["one"]);
        read.append("a", b"two\n");
        read.append("b", b"three\n");
        std::os::unix::fs::symlink(read.path("b"), read.path("next")).unwrap();
        std::fs::rename(read.path("next"), read.path("current")).unwrap();
        read.append("b", b"four\n");
        let mut texts = read.texts(4).await;
        texts.sort();
        assert_eq!(texts, ["four", "one", "three", "two"]);
    }

    /// Many lines, of 11 bytes each.
    fn many(count: usize) -> String {
        (0..count).map(|number| format!("line {number:05}\n")).collect()
    }

    #[tokio::test]
    async fn whoever_keeps_their_place_in_a_log_that_is_cut_leaves_a_hole_and_no_line_is_lost_for_it() {
        for seen_empty in [true, false] {
            let mut read = Read::new("app.log", "", |dir| drop(File::create(dir.join("app.log")).unwrap())).await;
            // Not opened to append: what is written goes where the writer was.
            let mut writer = OpenOptions::new().write(true).open(read.path("app.log")).unwrap();
            writer.write_all(many(100_000).as_bytes()).unwrap();
            assert_eq!(read.texts(100_000).await.len(), 100_000);
            for round in 1..3 {
                let before = read.events.len();
                OpenOptions::new().write(true).open(read.path("app.log")).unwrap().set_len(0).unwrap();
                if seen_empty {
                    read.some(Duration::from_millis(300)).await;
                }
                writer.write_all(format!("after {round}\nmore\n").as_bytes()).unwrap();
                let texts = read.texts(before + 2).await;
                assert_eq!(texts[before..], [format!("after {round}"), "more".to_owned()], "seen empty: {seen_empty}");
            }
            assert_eq!(read.meter.dropped(), 0);
            read.restart().await;
            writer.write_all(b"last\n").unwrap();
            assert_eq!(read.texts(100_005).await[100_004..], ["last"]);
        }
    }

    #[tokio::test]
    async fn a_log_that_is_cut_before_it_was_read_is_told_and_counted() {
        let mut read = Read::new("app.log", "", |dir| drop(File::create(dir.join("app.log")).unwrap())).await;
        read.append("app.log", many(100_000).as_bytes());
        let first = read.source.next().await.unwrap().count();
        assert!((1..100_000).contains(&first), "{first}");
        File::create(read.path("app.log")).unwrap();
        read.append("app.log", b"new\n");
        let texts = read.texts(2).await;
        assert_eq!(texts.last().map(String::as_str), Some("new"));
        assert_eq!(read.meter.dropped(), 1);
        let told = read.events.iter().find(|event| event.fields.iter().any(|(name, _)| *name == "gap")).unwrap();
        let bytes = told.fields[0].1["bytes"].as_u64().unwrap();
        assert!(told.text.contains(&format!("{bytes} bytes of it, at least, are lost")), "{}", told.text);
        assert!(bytes > 100_000, "of what was there {bytes} are not read");
        assert!(read.meter.noted().contains("bytes of it, at least, are lost"), "{}", read.meter.noted());
        // One that was read whole is cut without loss.
        File::create(read.path("app.log")).unwrap();
        read.append("app.log", b"newer\n");
        let texts = read.texts(texts.len() + 1).await;
        assert_eq!((texts.last().map(String::as_str), read.meter.dropped()), (Some("newer"), 1));
    }

    #[tokio::test]
    async fn a_new_file_of_a_pattern_is_read_from_its_beginning() {
        let mut read = Read::new("*.log", "", |dir| std::fs::write(dir.join("old.log"), "before us\n").unwrap()).await;
        read.append("new.log", b"one\ntwo\n");
        read.append("other.txt", b"not ours\n");
        assert_eq!(read.texts(2).await, ["one", "two"]);
    }

    #[tokio::test]
    async fn a_line_that_is_no_text_is_kept_as_it_came() {
        let mut read = Read::new("app.log", "", |dir| drop(File::create(dir.join("app.log")).unwrap())).await;
        read.append("app.log", b"caf\xe9\nfine\n");
        assert_eq!(read.texts(2).await, ["caf\u{fffd}", "fine"]);
        assert_eq!((read.events[0].body.as_slice(), read.events[1].body.len()), (&b"caf\xe9"[..], 0));
    }

    #[tokio::test]
    async fn the_rest_of_a_line_that_is_too_long_is_no_line_also_after_a_restart() {
        let mut read = Read::new("app.log", "", |dir| drop(File::create(dir.join("app.log")).unwrap())).await;
        read.append("app.log", b"0123456789abcdefghij");
        assert_eq!(read.texts(1).await, ["0123456789abcdef"]);
        read.restart().await;
        read.append("app.log", b"klmnopqrstuvwxyz and more\nnext\n");
        assert_eq!(read.texts(2).await, ["0123456789abcdef", "next"]);
        assert_eq!(read.events[0].fields.iter().filter(|(name, _)| *name == "cut").count(), 1);
    }

    #[tokio::test]
    async fn lines_that_belong_together_do_so_also_over_a_restart_between_them() {
        let mut read =
            Read::new("app.log", "multi=indent", |dir| drop(File::create(dir.join("app.log")).unwrap())).await;
        read.append("app.log", b"a\n b\n");
        read.some(Duration::from_millis(300)).await;
        assert!(read.events.is_empty(), "there may be more");
        read.restart().await;
        read.append("app.log", b" c\nd\n");
        assert_eq!(read.texts(2).await, ["a\n b\n c", "d"]);
    }

    #[tokio::test]
    async fn a_copy_that_is_seen_while_it_is_made_is_no_log_of_its_own() {
        for pattern in ["app.log", "app.log*"] {
            let mut read = Read::new(pattern, "", |dir| drop(File::create(dir.join("app.log")).unwrap())).await;
            read.append("app.log", b"one\n");
            assert_eq!(read.texts(1).await, ["one"]);
            // It is made first, and then filled.
            drop(File::create(read.path("app.log.1")).unwrap());
            read.some(Duration::from_millis(600)).await;
            read.append("app.log", b"two\n");
            assert_eq!(read.texts(2).await, ["one", "two"]);
            for part in ["on", "e\ntw", "o\n"] {
                read.append("app.log.1", part.as_bytes());
                read.some(Duration::from_millis(300)).await;
            }
            File::create(read.path("app.log")).unwrap();
            read.append("app.log", b"three\n");
            assert_eq!(read.texts(3).await, ["one", "two", "three"], "{pattern}");
        }
    }

    #[tokio::test]
    async fn what_is_written_late_to_a_log_that_was_renamed_before_anybody_saw_it_is_read() {
        let mut read = Read::new("app.log", "", |dir| drop(File::create(dir.join("app.log")).unwrap())).await;
        read.append("app.log", b"one\n");
        assert_eq!(read.texts(1).await, ["one"]);
        drop(File::create(read.path("app.log.1")).unwrap());
        read.some(Duration::from_millis(600)).await;
        read.append("app.log.1", b"late\n");
        assert_eq!(read.texts(2).await, ["one", "late"]);
    }

    #[tokio::test]
    async fn a_log_that_is_rotated_away_while_nobody_reads_because_there_is_no_room_is_read_afterwards() {
        let mut read = Read::new("*.log", "", |dir| drop(File::create(dir.join("app.log")).unwrap())).await;
        read.append("app.log", b"one\n");
        assert_eq!(read.texts(1).await, ["one"]);
        read.append("new.log", b"two\nthree\n");
        let mut waiting = Batch::default();
        while read.meter.lagging() != Some((10, "bytes")) {
            read.source.idle(&mut waiting).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // What is gone by name is still open.
        std::fs::remove_file(read.path("new.log")).unwrap();
        read.source.idle(&mut waiting).await.unwrap();
        assert_eq!(read.texts(3).await, ["one", "two", "three"]);
    }

    #[tokio::test]
    async fn logs_of_one_pattern_that_are_all_rotated_again_and_again_are_read_to_the_last_line_of_each() {
        const NAMES: [&str; 5] = ["a.log", "b.log", "c.log", "d.log", "e.log"];
        let make = |dir: &Path| NAMES.iter().for_each(|name| drop(File::create(dir.join(name)).unwrap()));
        let mut read = Read::new("*.log", "", make).await;
        let mut all = Vec::new();
        for round in 0..6 {
            for name in NAMES {
                let old = read.path(&format!("{name}.{round}"));
                read.append(name, format!("{name} {round}\n").as_bytes());
                std::fs::rename(read.path(name), &old).unwrap();
                // The new one is there, and something is still written to the old one.
                read.append(name, format!("{name} new {round}\n").as_bytes());
                OpenOptions::new()
                    .append(true)
                    .open(&old)
                    .unwrap()
                    .write_all(format!("{name} late {round}\n").as_bytes())
                    .unwrap();
                all.extend(["", "new ", "late "].map(|word| format!("{name} {word}{round}")));
            }
            read.some(Duration::from_millis(20 * (round % 3))).await;
        }
        let mut texts = read.texts(all.len()).await;
        texts.sort();
        all.sort();
        assert_eq!(texts, all);
    }

    #[tokio::test]
    async fn a_log_that_nobody_could_open_at_first_is_read_from_its_beginning_once_it_can_be() {
        let mut read = Read::new("app.log", "", |dir| {
            std::os::unix::fs::symlink(dir.join("volume/app.log"), dir.join("app.log")).unwrap();
        })
        .await;
        assert!(read.texts(0).await.is_empty());
        std::fs::create_dir(read.path("volume")).unwrap();
        read.append("volume/app.log", b"one\ntwo\n");
        assert_eq!(read.texts(2).await, ["one", "two"]);
        read.append("volume/app.log", b"three\n");
        assert_eq!(read.texts(3).await, ["one", "two", "three"]);
    }

    #[tokio::test]
    async fn without_wake_ups_logs_are_found_followed_and_read_through_a_rotation_all_the_same() {
        let mut read = Read::new("*.log", "", |dir| drop(File::create(dir.join("app.log")).unwrap())).await;
        let options = TailOptions {
            pattern: crate::paths::Pattern::parse(&read.path("*.log").display().to_string()).unwrap(),
            from_start: false,
            multiline: None,
            parser: Parser::None,
            longest: LONGEST,
        };
        let mut tail = Tail::new(options, Arc::clone(&read.meter));
        tail.open(&read.positions).await.unwrap();
        tail.go_blind();
        read.source = Box::new(tail);
        read.append("app.log", b"one\n");
        assert_eq!(read.texts(1).await, ["one"]);
        std::fs::rename(read.path("app.log"), read.path("app.log.1")).unwrap();
        read.append("app.log.1", b"two\n");
        read.append("app.log", b"three\n");
        read.append("new.log", b"four\n");
        let mut texts = read.texts(4).await;
        texts.sort();
        assert_eq!(texts, ["four", "one", "three", "two"]);
    }

    // The five that Telegraf's own tests of its tail leave out, "to be fixed".

    /// A copy is made and the file cut, as logrotate does, and written again before anybody looks.
    async fn cut_and_written(now: &str) {
        let mut read = Read::new("app.log", "", |dir| drop(File::create(dir.join("app.log")).unwrap())).await;
        read.append("app.log", b"one\ntwo\n");
        assert_eq!(read.texts(2).await, ["one", "two"]);
        std::fs::copy(read.path("app.log"), read.path("app.log.1")).unwrap();
        File::create(read.path("app.log")).unwrap();
        read.append("app.log", now.as_bytes());
        let lines: Vec<&str> = ["one", "two"].into_iter().chain(now.lines()).collect();
        assert_eq!(read.texts(lines.len()).await, lines);
    }

    #[tokio::test]
    async fn a_log_that_is_cut_and_as_long_as_it_was_is_read_from_its_beginning() {
        cut_and_written("six\nten\n").await;
    }

    #[tokio::test]
    async fn a_log_that_is_cut_and_longer_than_it_was_is_read_from_its_beginning() {
        cut_and_written("three\nfour\nfive\n").await;
        cut_and_written("six\n").await;
    }

    #[tokio::test]
    async fn what_was_not_read_of_a_log_that_is_deleted_is_read() {
        let mut read = Read::new("app.log", "", |dir| drop(File::create(dir.join("app.log")).unwrap())).await;
        read.append("app.log", b"one\ntwo\n");
        std::fs::remove_file(read.path("app.log")).unwrap();
        assert_eq!(read.texts(2).await, ["one", "two"]);
    }

    #[tokio::test]
    async fn a_log_that_is_deleted_and_made_again_is_read_on_both_sides_of_that() {
        let mut read = Read::new("app.log", "", |dir| drop(File::create(dir.join("app.log")).unwrap())).await;
        for round in 0..5 {
            read.append("app.log", format!("old {round}\n").as_bytes());
            std::fs::remove_file(read.path("app.log")).unwrap();
            read.append("app.log", format!("new {round}\n").as_bytes());
            let mut texts = read.texts(2 * (round + 1)).await;
            let mut last = texts.split_off(2 * round);
            last.sort();
            assert_eq!(last, [format!("new {round}"), format!("old {round}")]);
        }
    }

    #[tokio::test]
    async fn a_restart_in_the_middle_of_a_group_leaves_it_whole() {
        let mut read =
            Read::new("app.log", "multi=indent", |dir| drop(File::create(dir.join("app.log")).unwrap())).await;
        read.append("app.log", b"one\na\n b");
        assert_eq!(read.texts(1).await, ["one"]);
        read.restart().await;
        read.append("app.log", b"c\n d\ntwo\n");
        assert_eq!(read.texts(2).await, ["one", "a\n bc\n d"]);
    }
}
