//! A build of Jenkins while it runs: its log line by line, then what came of it.
//!
//! The log is read from an offset that counts the bytes on the disk of Jenkins, not those that are sent: line ends
//! become CRLF and hidden notes are left out (jenkinsci/jenkins: `hudson/model/Run/_api.jelly`). So an offset is only
//! what a server gave.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use reqwest::Url;
use serde_json::{Map, Value};

use super::super::class::{Class, Failure};
use super::super::classify::classify;
use super::super::log::ends;
use super::super::step::{End, Hands};
use super::client::{Fault, Patience, short, unless_stopped};
use super::{Next, OWN, Pace, Place, Work, say};

/// What is read of a build.
const BUILD: &str = "number,building,result,duration,url,artifacts[fileName,relativePath]";
/// So much of a build's log is kept here; after that only its end.
const LOG_MAX: u64 = 16 << 20;
/// So many of the last lines are kept of a log that is too long.
const TAIL_LINES: usize = 200;
/// A longer line is cut; so much of it is read before secrets in it are hidden.
const LINE_MAX: usize = 8 << 10;
const LINE_READ: usize = 64 << 10;
/// How often the place in the log is noted.
const NOTE_EVERY: Duration = Duration::from_secs(2);
/// How long a build may have ended without a result.
const RESULT_WAIT: Duration = Duration::from_secs(15);
/// The artifact whose JSON becomes an output, and how long it may be.
const OUTPUT: &str = "mc-output.json";
const OUTPUT_MAX: usize = 1 << 20;
/// So many artifacts are listed.
const ARTIFACTS_MAX: usize = 1000;

/// A build as Jenkins tells it.
#[derive(Debug)]
pub(super) struct Build {
    building: bool,
    result: Option<String>,
    /// In milliseconds.
    duration: Option<u64>,
    url: Option<String>,
    artifacts: Vec<Artifact>,
}

#[derive(Debug)]
struct Artifact {
    file: String,
    path: String,
}

impl Build {
    /// Reads one; what is missing or of another kind is left out.
    fn of(value: &Value) -> Build {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let artifacts = value["artifacts"].as_array().map_or(&[][..], Vec::as_slice);
        let artifact =
            |one: &Value| Some(Artifact { file: text(&one["fileName"])?, path: text(&one["relativePath"])? });
        Build {
            building: value["building"] == Value::Bool(true),
            result: text(&value["result"]),
            duration: value["duration"].as_u64(),
            url: text(&value["url"]),
            artifacts: artifacts.iter().filter_map(artifact).take(ARTIFACTS_MAX).collect(),
        }
    }

    /// Whether it has ended.
    pub(super) fn is_over(&self) -> bool {
        !self.building && self.result.is_some()
    }

    /// How it ended.
    pub(super) fn result(&self) -> &str {
        self.result.as_deref().unwrap_or("no result")
    }
}

/// Writes the log of a build into ours, each line once.
struct Reader {
    /// Where the next part begins.
    offset: u64,
    /// The beginning of a line whose end has not come, and what it was when this part began.
    held: Vec<u8>,
    held_before: Vec<u8>,
    /// Lines read of this part, and how many of the next ones were read before it was lost.
    lines: u64,
    again: u64,
    /// Lines that were written after the newest note, before a restart.
    written: VecDeque<String>,
    /// The bytes of our log that are the build's.
    size: u64,
    tail: VecDeque<String>,
    left_out: u64,
}

impl Reader {
    fn new(offset: u64, logged: u64, hands: &Hands) -> Reader {
        let written = written_after(hands, logged);
        let (held, held_before, tail) = (Vec::new(), Vec::new(), VecDeque::new());
        Reader { offset, held, held_before, lines: 0, again: 0, written, size: logged, tail, left_out: 0 }
    }

    /// A part begins, perhaps once more.
    fn begin(&mut self) {
        self.again += self.lines;
        self.lines = 0;
        self.held.clone_from(&self.held_before);
    }

    fn take(&mut self, bytes: &[u8], hands: &Hands) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_READ.saturating_sub(self.held.len());
            self.held.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                let line = std::mem::take(&mut self.held);
                self.line(&line, hands);
            }
        }
    }

    /// A part is whole; whether there was anything in it.
    fn end(&mut self, offset: u64, more: bool, hands: &Hands) -> bool {
        if !more && !self.held.is_empty() {
            let line = std::mem::take(&mut self.held);
            self.line(&line, hands);
        }
        let grew = offset != self.offset;
        self.offset = offset;
        self.held_before.clone_from(&self.held);
        (self.lines, self.again) = (0, 0);
        grew
    }

    fn line(&mut self, line: &[u8], hands: &Hands) {
        self.lines += 1;
        if self.again > 0 {
            self.again -= 1;
            // The count of what was read of this part stays the same however often it is lost.
            return;
        }
        let text = String::from_utf8_lossy(line);
        let mut text = hands.mask.hide(text.trim_end_matches(['\r', '\n']));
        if text.len() > LINE_MAX {
            let end = (0..=LINE_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.truncate(end);
            text.push_str(" (cut)");
        }
        if let Some(at) = self.written.iter().take(8).position(|written| *written == text) {
            self.written.drain(..=at);
            return;
        }
        self.written.clear();
        if self.size < LOG_MAX {
            self.size += text.len() as u64 + 1;
            hands.log.line(&text);
            return;
        }
        self.left_out += 1;
        self.tail.push_back(text);
        if self.tail.len() > TAIL_LINES {
            self.tail.pop_front();
        }
    }

    /// There is no more.
    fn close(&mut self, page: &str, hands: &Hands) {
        let missing = self.left_out - self.tail.len() as u64;
        if self.left_out > 0 {
            say(hands, &format!("{missing} lines are left out here; all of them are in {page}console"));
        }
        for line in self.tail.drain(..) {
            hands.log.line(&line);
        }
    }
}

/// Lines in our log from there on that are not our own.
fn written_after(hands: &Hands, at: u64) -> VecDeque<String> {
    let Ok(bytes) = std::fs::read(hands.log.path()) else { return VecDeque::new() };
    let from = usize::try_from(at).unwrap_or(usize::MAX);
    let text = String::from_utf8_lossy(bytes.get(from..).unwrap_or_default());
    text.lines().filter(|line| !line.starts_with(OWN)).map(str::to_owned).collect()
}

impl Work {
    /// How long our log is.
    pub(super) fn logged(&self) -> u64 {
        std::fs::metadata(self.hands.log.path()).map_or(0, |meta| meta.len())
    }

    /// What Jenkins says of a build.
    pub(super) async fn build(&self, number: u64) -> Result<Build, Fault> {
        self.server.json(self.build_url(number)).await.map(|value| Build::of(&value))
    }

    fn build_url(&self, number: u64) -> Url {
        self.server.at(self.parts(&[&number.to_string(), "api", "json"]), &[("tree", BUILD)])
    }

    /// Follows a build to its end.
    pub(super) async fn follow(&self, number: u64, shared: bool, offset: u64, logged: u64) -> Result<Next, Fault> {
        let mut reader = Reader::new(offset, logged, &self.hands);
        let mut patience = Patience::new(self.server.patience);
        let mut pace = Pace::new();
        let mut noted = Instant::now();
        loop {
            if self.hands.is_stopping() {
                return Err(Fault::Stopped);
            }
            match self.part(number, &mut reader).await {
                Ok((grew, more)) => {
                    patience.well();
                    if !more {
                        break;
                    }
                    if grew {
                        pace.quick();
                    }
                    // An offset within a line would lose its beginning.
                    if grew && noted.elapsed() >= NOTE_EVERY && reader.held.is_empty() {
                        let logged = self.logged();
                        self.note(&Place::Building { number, shared, offset: reader.offset, logged }).await?;
                        noted = Instant::now();
                    }
                }
                // A log that is not there, or not shown to us, says nothing about the build.
                Err(Fault::Gone) => {
                    if self.state(number).await?.is_over() {
                        break;
                    }
                }
                Err(fault) => patience.bear(fault, &self.hands).await?,
            }
            if pace.rest(&self.hands).await {
                return Err(Fault::Stopped);
            }
        }
        reader.close(&self.build_page(number), &self.hands);
        self.note(&Place::Building { number, shared, offset: reader.offset, logged: self.logged() }).await?;
        self.conclude(number).await
    }

    /// Reads what there is of a log; whether there was anything, and whether more will come.
    async fn part(&self, number: u64, reader: &mut Reader) -> Result<(bool, bool), Fault> {
        let start = reader.offset.to_string();
        let parts = self.parts(&[&number.to_string(), "logText", "progressiveText"]).join("\n");
        let url = self.server.at(parts.split('\n'), &[("start", &start)]);
        let mut answer = unless_stopped(&self.hands, self.server.open_log(url)).await?;
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let more = header("x-more-data").is_some_and(|more| more.eq_ignore_ascii_case("true"));
        let Some(size) = header("x-text-size").and_then(|size| size.parse().ok()) else {
            let line = format!("{} gives a log without its length; check what is between", self.server.name);
            return Err(Fault::Lost(Failure::new(Class::Network, line)));
        };
        reader.begin();
        while let Some(piece) = unless_stopped(&self.hands, self.server.piece(&mut answer)).await? {
            reader.take(&piece, &self.hands);
            if self.hands.is_stopping() {
                return Err(Fault::Stopped);
            }
        }
        Ok((reader.end(size, more, &self.hands), more))
    }

    /// What Jenkins says of a build that must be there.
    async fn state(&self, number: u64) -> Result<Build, Fault> {
        match self.server.ask(self.build_url(number), &self.hands, self.server.patience).await {
            Ok(value) => Ok(Build::of(&value)),
            Err(Fault::Gone) => {
                let line = format!(
                    "build #{number} of {} is not in Jenkins any more; somebody may have deleted it",
                    self.job()
                );
                Err(Fault::Failed(Failure::new(Class::InfraLost, line)))
            }
            Err(fault) => Err(fault),
        }
    }

    /// The log is complete: waits for the result, and says what it means.
    async fn conclude(&self, number: u64) -> Result<Next, Fault> {
        let mut pace = Pace::new();
        let mut ended: Option<Instant> = None;
        let build = loop {
            let build = self.state(number).await?;
            if build.is_over() {
                break build;
            }
            if !build.building && ended.get_or_insert_with(Instant::now).elapsed() > RESULT_WAIT {
                let line = format!(
                    "build #{number} of {} ended without a result; Jenkins may have been restarted",
                    self.job()
                );
                return Err(Fault::Failed(Failure::new(Class::InfraLost, line)));
            }
            if pace.rest(&self.hands).await {
                return Err(Fault::Stopped);
            }
        };
        if build.result() == "SUCCESS" {
            return Ok(Next::Over(self.done(number, build).await?));
        }
        Ok(Next::Over(End::Failed(self.failure(number, &build))))
    }

    fn failure(&self, number: u64, build: &Build) -> Failure {
        let (job, result) = (self.job(), build.result());
        let failure = match result {
            "UNSTABLE" => Failure::new(
                Class::TestFailed,
                format!("build #{number} of {job} is unstable: some of its tests failed"),
            ),
            "ABORTED" => Failure::new(Class::Cancelled, format!("build #{number} of {job} was aborted in Jenkins")),
            "NOT_BUILT" => {
                Failure::new(Class::Unknown, format!("build #{number} of {job} built nothing; look at its page"))
            }
            "FAILURE" => {
                let failure = classify(&telling(&ends(&self.step.folder)), None);
                let line = format!("build #{number} of {job} failed and says nothing");
                if failure.line.trim().is_empty() { Failure { line, ..failure } } else { failure }
            }
            other => Failure::new(
                Class::Unknown,
                format!("build #{number} of {job} ended as {}, which we do not know", short(other)),
            ),
        };
        Failure { world: vec![format!("build #{number}: {}", self.shown_page(number, build))], ..failure }
    }

    async fn done(&self, number: u64, build: Build) -> Result<End, Fault> {
        let mut outputs = Map::new();
        outputs.insert("number".to_owned(), number.into());
        outputs.insert("url".to_owned(), self.shown_page(number, &build).into());
        outputs.insert("result".to_owned(), build.result().into());
        let seconds = build.duration.map(|millis| millis.saturating_add(500) / 1000);
        outputs.insert("duration".to_owned(), seconds.into());
        let paths = build.artifacts.iter().map(|one| Value::from(one.path.as_str())).collect();
        outputs.insert("artifacts".to_owned(), Value::Array(paths));
        if let Some(artifact) = build.artifacts.iter().find(|one| one.file == OUTPUT) {
            outputs.insert("env".to_owned(), Value::Object(self.env(number, &artifact.path).await?));
        }
        Ok(End::Done { outputs, summary: format!("build #{number}") })
    }

    /// The object in an artifact.
    async fn env(&self, number: u64, path: &str) -> Result<Map<String, Value>, Fault> {
        let number_text = number.to_string();
        let mut parts = self.parts(&[&number_text, "artifact"]);
        parts.extend(path.split('/').filter(|part| !matches!(*part, "" | "." | "..")));
        let url = self.server.at(parts, &[]);
        let wrong = |what: &str| {
            let line = format!("{OUTPUT} of build #{number} of {} {what}; let the job write a JSON object", self.job());
            Fault::Failed(Failure::new(Class::Config, line))
        };
        let mut patience = Patience::new(self.server.patience);
        let body = loop {
            match unless_stopped(&self.hands, self.server.bytes(url.clone(), OUTPUT_MAX)).await {
                Ok(body) => break body,
                Err(Fault::Gone) => return Err(wrong("cannot be read")),
                Err(fault) => patience.bear(fault, &self.hands).await?,
            }
        };
        serde_json::from_slice(&body).map_err(|_| wrong("is no JSON object"))
    }

    /// The page of a build under the name that Jenkins gives itself, which is the one for people.
    fn shown_page(&self, number: u64, build: &Build) -> String {
        let own = build.url.as_deref().and_then(|url| Url::parse(url).ok());
        let own = own.filter(|url| matches!(url.scheme(), "http" | "https") && url.username().is_empty());
        own.filter(|url| url.password().is_none()).map_or_else(|| self.build_page(number), |url| url.to_string())
    }
}

/// The lines of a log that can say why a build failed: neither ours nor those that only say that it did.
fn telling(log: &str) -> String {
    let says_nothing = |line: &&str| {
        let line = line.trim();
        line.starts_with(OWN)
            || line.starts_with("Finished: ")
            || line.starts_with("[Pipeline]")
            || (line.starts_with("Build step '") && line.ends_with("marked build as failure"))
    };
    let lines: Vec<&str> = log.lines().filter(|line| !says_nothing(line)).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use masterchief_contract::{Future, Secret};
    use tokio::sync::watch;

    use super::super::super::log::StepLog;
    use super::super::super::mask::Masker;
    use super::super::super::process::Supervisor;
    use super::super::super::step::Keeper;
    use super::*;

    struct Nobody;

    impl Keeper for Nobody {
        fn note(&self, _: Value) -> Future<Result<(), String>> {
            Box::pin(async { Ok(()) })
        }

        fn tell(&self, _: String) {}
    }

    fn hands(folder: &tempfile::TempDir) -> Hands {
        let mask = Masker::new(&[Secret::new("hunter2-of-prod")]);
        let log = StepLog::open(folder.path(), mask.clone());
        Hands::new(log, mask, Supervisor::at("/nothing"), watch::Sender::new(false).subscribe(), Arc::new(Nobody))
    }

    fn read(folder: &tempfile::TempDir) -> String {
        std::fs::read_to_string(folder.path().join("log")).unwrap_or_default()
    }

    const LOG: &str = "Started\r\n\r\nit is hunter2-of-prod \u{e4}\r\nno end";
    const WRITTEN: &str = "Started\n\nit is *** \u{e4}\nno end\n";

    #[test]
    fn wherever_a_log_is_cut_on_the_way_its_lines_and_its_secrets_are_whole() {
        for size in 1..LOG.len() {
            let folder = tempfile::tempdir().unwrap();
            let hands = hands(&folder);
            let mut reader = Reader::new(0, 0, &hands);
            reader.begin();
            LOG.as_bytes().chunks(size).for_each(|piece| reader.take(piece, &hands));
            assert!(reader.end(900, false, &hands));
            assert_eq!(read(&folder), WRITTEN, "pieces of {size}");
        }
    }

    #[test]
    fn a_part_that_is_lost_again_and_again_is_written_once() {
        for cuts in [[7, 20], [20, 7], [36, 36], [1, 40]] {
            let folder = tempfile::tempdir().unwrap();
            let hands = hands(&folder);
            let mut reader = Reader::new(0, 0, &hands);
            for cut in cuts {
                reader.begin();
                reader.take(&LOG.as_bytes()[..cut], &hands);
            }
            reader.begin();
            reader.take(LOG.as_bytes(), &hands);
            reader.end(900, false, &hands);
            assert_eq!(read(&folder), WRITTEN, "{cuts:?}");
        }
    }

    #[test]
    fn a_line_without_end_is_cut_and_of_a_log_without_end_the_last_lines_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let hands = hands(&folder);
        let mut reader = Reader::new(0, LOG_MAX - 1, &hands);
        reader.begin();
        reader.take(&vec![b'x'; 1 << 20], &hands);
        assert!(reader.held.len() <= LINE_READ);
        reader.take(b"\n", &hands);
        (0..1000).for_each(|n| reader.take(format!("{n}\n").as_bytes(), &hands));
        reader.end(1, false, &hands);
        reader.close("http://ci/1/", &hands);
        let log = read(&folder);
        let lines: Vec<&str> = log.lines().collect();
        assert!(lines[0].len() < LINE_MAX + 10 && lines[0].ends_with("xx (cut)"));
        assert_eq!(lines[1], "[masterchief] 800 lines are left out here; all of them are in http://ci/1/console");
        assert_eq!((lines.len(), lines[2], lines[201]), (202, "800", "999"));
    }

    #[test]
    fn what_only_says_that_a_build_failed_does_not_say_why() {
        let log =
            "[masterchief] x\n[Pipeline] sh\nboom\nBuild step 'Shell' marked build as failure\nFinished: FAILURE\n";
        assert_eq!(telling(log), "boom");
    }

    #[test]
    fn a_build_is_read_whatever_is_missing() {
        let nulls = serde_json::json!({"building": null, "result": null, "duration": null, "artifacts": [null, {}]});
        for odd in [Value::Null, serde_json::json!([]), serde_json::json!({"artifacts": 7}), nulls] {
            let build = Build::of(&odd);
            assert!(!build.is_over() && !build.building && build.artifacts.is_empty(), "{odd}");
        }
    }
}
