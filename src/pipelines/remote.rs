//! What builds elsewhere tell of themselves over HTTP: which step of ours it is about, each thing once, without its secrets.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use masterchief_contract::Secret;
use subtle::ConstantTimeEq;
use tokio::sync::watch;

use super::run::Millis;
use super::words;
use crate::executors::{Masker, OWN, StepLog};

/// The longest text that is taken.
const TEXT_MAX: usize = 1000;
/// So much is remembered of a build, to tell what is told twice.
const TOLD_MAX: usize = 10_000;
/// After one of these a stage elsewhere has ended: what began it comes too late.
const ENDS: &[&str] =
    &["success", "succeeded", "passed", "done", "failure", "failed", "aborted", "unstable", "skipped", "not_built"];
/// What begins a stage elsewhere.
const BEGINS: &[&str] = &["pending", "queued", "waiting", "started", "start", "running", "in_progress"];
/// Who runs builds elsewhere.
const ELSEWHERE: &str = "jenkins";

/// What a build tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The stage, by its name there.
    pub stage: String,
    /// How far that stage is: `running`, `success`; of the whole build if no stage is named.
    pub status: String,
    /// A line of its log, or words about its state.
    pub text: String,
    /// Which line it is, where the build counts them.
    pub seq: Option<u64>,
}

/// A step that runs, as it is heard and stopped from outside.
pub(super) struct Ear {
    pub(super) name: String,
    /// Which attempt, and when it began.
    pub(super) attempt: (u32, Millis),
    pub(super) stop: watch::Sender<bool>,
    listening: Mutex<Option<Listening>>,
}

struct Listening {
    executor: String,
    log: StepLog,
    mask: Masker,
    token: Option<Secret>,
    told: BTreeSet<(String, String, Option<u64>)>,
    last: Option<Told>,
    /// Lines without a number so far.
    lines: usize,
}

impl Ear {
    pub(super) fn new(name: &str, attempt: (u32, Millis)) -> Ear {
        Ear { name: name.to_owned(), attempt, stop: watch::Sender::new(false), listening: Mutex::default() }
    }

    /// An action begins: what is told from now on is about it, and `token` lets its build in.
    pub(super) fn listen(&self, executor: &str, log: StepLog, mask: Masker, token: Option<Secret>) {
        let listening =
            Listening { executor: executor.to_owned(), log, mask, token, told: BTreeSet::new(), last: None, lines: 0 };
        *self.listening.lock().unwrap_or_else(PoisonError::into_inner) = Some(listening);
    }

    /// It ended: its token is nobody's now.
    pub(super) fn forget(&self) {
        *self.listening.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether what it runs now goes on elsewhere.
    pub(super) fn is_elsewhere(&self) -> bool {
        let listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        listening.as_ref().is_some_and(|one| one.executor == ELSEWHERE)
    }

    /// Whether a token that was shown is the one of this step.
    pub(super) fn knows(&self, shown: &str) -> bool {
        let listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        let own = listening.as_ref().and_then(|one| one.token.as_ref());
        own.is_some_and(|own| own.reveal().as_bytes().ct_eq(shown.as_bytes()).into())
    }

    /// Takes in what a build tells: it stands in the log, and is given back as words for people if it is about how far it is. `None`
    /// for what was told before, or comes too late.
    pub(super) fn hear(&self, told: &Told) -> Option<String> {
        let mut listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        let one = listening.as_mut()?;
        if !one.is_new(told) {
            return None;
        }
        let parts = [told.stage.as_str(), told.status.as_str(), told.text.as_str()];
        let text = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
        let text = words::cut(&one.mask.hide(&text), TEXT_MAX);
        one.log.line(&format!("{OWN}{text}"));
        (!told.status.is_empty()).then_some(text)
    }
}

impl Listening {
    /// Whether it was not told before. A status counts once for its stage, and none that begins a stage counts after one that ended
    /// it; a line counts once by its number, or unless it is the same as the one before.
    fn is_new(&mut self, told: &Told) -> bool {
        let status = told.status.to_ascii_lowercase();
        let key = |status: &str| (told.stage.clone(), status.to_owned(), told.seq.filter(|_| status.is_empty()));
        if status.is_empty() && told.seq.is_none() {
            let new = self.last.as_ref() != Some(told) && self.lines < TOLD_MAX;
            self.lines += usize::from(new);
            self.last = Some(told.clone());
            return new;
        }
        let ended = BEGINS.contains(&status.as_str()) && ENDS.iter().any(|end| self.told.contains(&key(end)));
        if ended || self.told.contains(&key(&status)) {
            return false;
        }
        // Who tells more than that is not listened to any more: its log is elsewhere.
        if self.told.len() >= TOLD_MAX {
            return false;
        }
        self.told.insert(key(&status));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(stage: &str, status: &str, text: &str) -> Told {
        Told { stage: stage.to_owned(), status: status.to_owned(), text: text.to_owned(), seq: None }
    }

    fn ear(folder: &tempfile::TempDir) -> Ear {
        let ear = Ear::new("build", (1, 0));
        let mask = Masker::new(&[Secret::new("hunter2-of-prod")]);
        ear.listen("jenkins", StepLog::open(folder.path(), mask.clone()), mask, Some(Secret::new("the-token")));
        ear
    }

    #[test]
    fn each_thing_is_told_once_and_never_with_a_secret() {
        let folder = tempfile::tempdir().unwrap();
        let ear = ear(&folder);
        assert_eq!(ear.hear(&told("Deploy", "running", "")).as_deref(), Some("Deploy running"));
        assert_eq!(ear.hear(&told("Deploy", "running", "")), None);
        assert_eq!(
            ear.hear(&told("Deploy", "success", "as hunter2-of-prod")).as_deref(),
            Some("Deploy success as ***")
        );
        assert_eq!(ear.hear(&told("Deploy", "started", "")), None, "it comes too late");
        assert_eq!(ear.hear(&told("Smoke", "running", "")).as_deref(), Some("Smoke running"));
        for _ in 0..2 {
            assert_eq!(ear.hear(&told("Smoke", "", "GET / 200")), None, "a line of a log is not said");
        }
        let counted = Told { seq: Some(7), ..told("Smoke", "", "GET / 200") };
        ear.hear(&counted);
        ear.hear(&counted);
        let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
        assert_eq!(log.matches("GET / 200").count(), 2, "{log}");
        assert!(!log.contains("hunter2"), "{log}");
    }

    #[test]
    fn a_token_counts_only_while_its_step_runs() {
        let folder = tempfile::tempdir().unwrap();
        let ear = ear(&folder);
        assert!(ear.knows("the-token") && !ear.knows("the-toke") && !ear.knows(""));
        ear.forget();
        assert!(!ear.knows("the-token"));
        assert_eq!(ear.hear(&told("Deploy", "running", "")), None);
    }
}
