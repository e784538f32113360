//! A run and its stages, as they are kept in memory and, as JSON, in the records.

use std::collections::BTreeMap;

use masterchief_contract::{Event, Secret, split_place};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::runners::Host;
use super::state::{RunState, StageState};
use crate::executors::Failure;

/// A moment, in Unix milliseconds.
pub type Millis = i64;

/// What a run is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunKind {
    /// Something new goes somewhere.
    #[default]
    Deploy,
    /// What was there before comes back.
    Rollback,
}

/// Who asks for something, where, and what they may: judged at that moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Asker {
    /// The handle; `*` is a stranger. A program has a name of its own, such as `webhook`.
    pub handle: String,
    /// What to call them where they asked.
    pub nick: String,
    /// The services account that vouches for them, if one does.
    pub account: Option<String>,
    /// Where they asked: `network/#channel`, `network/nick`, or nothing.
    pub place: String,
    /// How they asked: `irc`, `cli`, `http`, `webhook`, `time`…
    pub origin: String,
    /// Whether a person is behind it who can be asked although they are in no channel: their token has their name, or they are on a page.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub person: bool,
    /// The network's own id of the words with which they asked, as long as this process lives.
    #[serde(skip)]
    pub msgid: Option<String>,
}

impl Asker {
    /// The person behind an event.
    pub fn of(event: &Event) -> Asker {
        let target = event.chan().unwrap_or_else(|| event.nick());
        Asker {
            handle: event.handle().to_owned(),
            nick: event.nick().to_owned(),
            account: event.actor.as_ref().and_then(|actor| actor.account.clone()),
            place: format!("{}/{target}", event.network),
            origin: "irc".to_owned(),
            person: false,
            msgid: event.tag("msgid").map(str::to_owned),
        }
    }

    /// A program that asks: `webhook`, `time`.
    pub fn program(name: &str) -> Asker {
        Asker { handle: name.to_owned(), nick: name.to_owned(), origin: name.to_owned(), ..Asker::default() }
    }

    /// Whether it is a program that nobody stands behind: nobody is there to be asked for a yes.
    pub fn is_program(&self) -> bool {
        self.place.is_empty() && self.origin != "cli" && !self.person
    }

    /// Whether services vouch for them.
    pub fn has_account(&self) -> bool {
        self.account.is_some()
    }

    /// What people call them: the handle, and a stranger by their nick.
    pub fn called(&self) -> &str {
        if self.handle == "*" && !self.nick.is_empty() { &self.nick } else { &self.handle }
    }

    /// Whether both come by the same services account of the same network.
    pub fn shares_account(&self, other: &Asker) -> bool {
        let account = |asker: &Asker| Some((split_place(&asker.place).0.to_owned(), asker.account.clone()?));
        match (account(self), account(other)) {
            (Some(one), Some(other)) => one.0 == other.0 && one.1.eq_ignore_ascii_case(&other.1),
            _ => false,
        }
    }

    /// Whether both come by services of the same network, but not by the same account.
    pub fn has_other_account(&self, other: &Asker) -> bool {
        let here = split_place(&self.place).0 == split_place(&other.place).0;
        here && other.account.is_some() && !self.shares_account(other)
    }

    /// The channel they asked in, if it is one.
    pub fn channel(&self) -> Option<&str> {
        let target = split_place(&self.place).1;
        target.starts_with(['#', '&', '+', '!']).then_some(self.place.as_str())
    }
}

/// What was live before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Before {
    /// The run that brought it.
    pub run: i64,
    /// What people call it.
    pub version: String,
    /// The commit.
    pub sha: String,
    /// What its stages gave.
    pub outputs: Map<String, Value>,
}

/// Somebody holds a run up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Halt {
    /// Who.
    pub by: String,
    /// Since when.
    pub at: Millis,
}

/// What was foretold of a run before it began. It is written down with the run and never changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Risk {
    /// How likely it is to fail, 0 to 1.
    pub risk: f64,
    /// How many of the runs before it failed, 0 to 1.
    pub usual: f64,
    /// What speaks most for that, the strongest first, three at most.
    pub reasons: Vec<String>,
    /// Of the runs of which the like was foretold: how many failed, and how many there were.
    pub alike: (u32, u32),
    /// Whether forecasts for this app were better than simple guesses so far; what is of no use is not shown.
    pub useful: bool,
}

/// A commit that goes out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Commit {
    /// The hash.
    pub sha: String,
    /// Who wrote it.
    pub author: String,
    /// Its first line.
    pub subject: String,
    /// When it was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Millis>,
}

/// A run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    /// Its number.
    pub number: i64,
    /// The version of the pipeline.
    pub pipeline: String,
    /// The app.
    pub app: String,
    /// The environment.
    pub env: String,
    /// What it is for.
    pub kind: RunKind,
    /// How far it is.
    pub state: RunState,
    /// How many events it has.
    pub seq: i64,
    /// What people call what goes out.
    pub version: String,
    /// The branch, tag or commit that was asked for.
    pub reference: String,
    /// The commit; empty where there is no repository.
    pub sha: String,
    /// What was live when it was asked for.
    pub before: Option<Before>,
    /// That something else is live by now than when it was asked for, where nobody has to say yes to that; said when it begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub onto: Option<String>,
    /// What was live when it began and had proven good: what undoing it goes back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub good: Option<Before>,
    /// Commits since then, the newest first, a hundred at most.
    pub commits: Vec<Commit>,
    /// How many there are.
    pub commit_count: u64,
    /// When the oldest of them was made.
    pub first_commit: Option<Millis>,
    /// Files they change, a thousand at most; nothing where that is not known.
    pub files: Option<Vec<String>>,
    /// All parameters; what is secret is not here.
    pub params: Map<String, Value>,
    /// What was given in secret, until it is kept where only the bot reads it. It is in no record.
    #[serde(skip)]
    pub given: BTreeMap<String, Secret>,
    /// Whether that is still kept there.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keeps: bool,
    /// The event that started it.
    pub event: Value,
    /// Who asked.
    pub asker: Asker,
    /// Whether nobody is there to say yes, so that none is asked.
    pub unattended: bool,
    /// Why rules were overridden, if they were.
    pub reason: Option<String>,
    /// Why it does not wait for its window, and who says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passed: Option<String>,
    /// Who holds it up, if somebody does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<Halt>,
    /// The run it undoes.
    pub parent: Option<i64>,
    /// The keys that make equal requests one: the requester's, and the pipeline's.
    pub keys: Vec<String>,
    /// What must not run beside it.
    pub group: String,
    /// Where it is talked about.
    pub places: Vec<String>,
    /// The code of what was shown to those who have to agree.
    pub code: String,
    /// Whether people have to agree, and have not.
    pub approvals: Vec<String>,
    /// When it was asked for.
    pub created: Millis,
    /// When it began to wait for its turn.
    pub queued: Option<Millis>,
    /// When it has waited too long for it.
    pub queue_end: Option<Millis>,
    /// Not before this moment.
    pub not_before: Option<Millis>,
    /// When all others who are asked before it may begin said that it may.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checked: Option<Millis>,
    /// When its first stage began.
    pub started: Option<Millis>,
    /// When it ended.
    pub finished: Option<Millis>,
    /// What was left of the time for a yes when who asked was lost in a netsplit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub away: Option<Millis>,
    /// When the present state ends by itself.
    pub due: Option<Millis>,
    /// When it has taken too long.
    pub deadline: Option<Millis>,
    /// What a rollback goes back to.
    pub target: Option<Before>,
    /// When it is undone by itself.
    pub undo_at: Option<Millis>,
    /// Why it stops: the state it will have then.
    pub ending: Option<RunState>,
    /// Who stopped it, if somebody did.
    pub stopped_by: String,
    /// What was foretold of it; nothing where too little is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub risk: Option<Risk>,
    /// The stage that made it fail.
    pub failed: Option<String>,
    /// How many lines were said about it.
    pub lines: u32,
    /// How many of them count no more: somebody tried it again by hand.
    pub spared: u32,
    /// What there was no room for; it is said with the next line.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unsaid: Vec<String>,
    /// Stages that were left out by who asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<String>,
    /// Parameters that need a flag and are not what they usually are, as `name=value`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub guarded: Vec<String>,
}

/// A stage of a run; of a matrix each combination is one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StageRun {
    /// Its name, with its place in the matrix: `test[unit]`.
    pub name: String,
    /// Which stage of the pipeline.
    pub spec: usize,
    /// Its place in the matrix.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub matrix: Map<String, Value>,
    /// How far it is.
    pub state: StageState,
    /// The newest attempt; 0 before the first.
    pub attempt: u32,
    /// How many retries are used up.
    pub retries: u32,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// When its turn came; from here until it began it waited for what others held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready: Option<Millis>,
    /// When its first attempt began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<Millis>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Millis>,
    /// What it gave.
    pub outputs: Map<String, Value>,
    /// A few words about how it went.
    pub summary: String,
    /// How much longer it could have taken without the run taking longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slack: Option<Millis>,
    /// When something is due: the next attempt, the end of a wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due: Option<Millis>,
    /// What the last attempt left for the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Value>,
    /// What its first action noted last: its undoing goes by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noted: Option<Value>,
    /// Whether it undoes the stage of the pipeline instead of doing it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub undo: bool,
    /// Whether it failed and the run goes on nevertheless.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub forgiven: bool,
    /// Where its newest attempt is done, if it says what its runner must have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runner: Option<Host>,
    /// The runner on which it failed last: another one is taken where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub avoid: Option<String>,
    /// The code of the plan that has to be agreed to, and who has.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub code: String,
    /// Who agreed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<String>,
}

impl Run {
    /// `shop/prod`.
    pub fn place(&self) -> String {
        format!("{}/{}", self.app, self.env)
    }

    /// Why a rule does not count for it, if one does not.
    pub fn overrides(&self) -> Option<&str> {
        self.reason.as_deref().or(self.passed.as_deref())
    }

    /// Whether there is something to compare with, and nobody could tell yet what lies between.
    pub fn commits_unknown(&self) -> bool {
        let before = self.before.as_ref().is_some_and(|before| !before.sha.is_empty() && before.sha != self.sha);
        before && !self.sha.is_empty() && self.files.is_none() && self.commits.is_empty()
    }

    /// What people call what goes out: the version, else the first letters of the commit.
    pub fn shown(&self) -> String {
        shown(&self.version, &self.sha)
    }
}

/// A version and a commit as people read them.
pub(super) fn shown(version: &str, sha: &str) -> String {
    let short: String = sha.chars().take(7).collect();
    match (version.is_empty(), short.is_empty()) {
        (true, true) => "the newest".to_owned(),
        (true, false) => short,
        (false, _) => version.to_owned(),
    }
}

impl StageRun {
    /// Whether it counts as done well for what needs it.
    pub fn good(&self) -> bool {
        self.state == StageState::Succeeded || self.forgiven
    }
}
