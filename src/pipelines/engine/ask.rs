//! What people and programs ask for.

use std::collections::BTreeMap;
use std::sync::Arc;

use masterchief_contract::{Event, FlagScope};
use serde_json::{Map, Value};

use super::Engine;
use super::finish::no_run;
use crate::pipelines::outside::Checked;
use crate::pipelines::refusal::Refusal;
use crate::pipelines::run::{Asker, Commit, Millis};
use crate::store::runs::IncidentRow;
use crate::users::{Book, FlagMask};

/// What was found out before a run is asked for: it takes time, so it is done outside of the engine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prepared {
    /// The app.
    pub app: String,
    /// The environment; the pipeline's default if `None`.
    pub environment: Option<String>,
    /// The branch, tag or commit.
    pub reference: Option<String>,
    /// Its commit; empty where there is no repository.
    pub sha: String,
    /// What people call it; the reference where it is empty.
    pub version: String,
    /// Commits since what is live.
    pub commits: Vec<Commit>,
    /// How many there are.
    pub commit_count: u64,
    /// When the oldest of them was made.
    pub first_commit: Option<Millis>,
    /// Files they change; nothing where that is not known.
    pub files: Option<Vec<String>>,
    /// Parameters.
    pub params: Map<String, Value>,
    /// Stages to leave out.
    pub skip: Vec<String>,
    /// Only these stages.
    pub only: Vec<String>,
    /// Why rules are overridden, if they are.
    pub reason: Option<String>,
    /// The event that starts it.
    pub event: Value,
    /// A key that makes equal requests one, beside the pipeline's own.
    pub key: Option<String>,
    /// Whether nobody is there to say yes, so that none is asked.
    pub unattended: bool,
    /// Whether it is another run's request once more: then it is meant, however like that one it is.
    pub again: bool,
    /// How the checks came out that ask others.
    pub checks: Vec<Checked>,
    /// When they were asked; nothing where they were not.
    pub checked: Option<Millis>,
    /// The code of the plan that who asks was shown: what is not that any more is refused.
    pub shown: Option<String>,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// A run.
    Deploy(Box<Prepared>),
    /// It begins.
    Yes(i64),
    /// It ends.
    Abort(i64),
    /// A failed run goes on, from this stage or from wherever it failed.
    Retry(i64, Option<String>),
    /// What a run did is undone.
    Rollback(i64),
    /// What is live somewhere is undone: app, environment, to which version.
    RollbackPlace(String, String, Option<String>),
    /// Somebody agrees to what has this code.
    Approve(i64, String),
    /// Somebody does not.
    Reject(i64, String),
    /// A stage that is held counts as done.
    Promote(i64),
    /// A place is locked: place, for how long, why.
    Lock(String, Option<Millis>, String),
    /// A lock lasts longer.
    Extend(String, Millis),
    /// A lock ends; with a reason also somebody else's.
    Unlock(String, Option<String>),
    /// A run waits behind a lock.
    Queue(i64),
    /// What a run asked for is asked for anew.
    Again(i64),
    /// Everything, an environment or a place is frozen: scope, until when, why.
    Freeze(String, Option<Millis>, String),
    /// A freeze ends.
    Thaw(String),
    /// A line for the incident log: app, environment, run, words.
    Log(String, String, String),
    /// A line of the incident log is amended.
    Amend(Box<IncidentRow>, String),
    /// Nothing more of a run begins, and why.
    Pause(i64, String),
    /// It goes on.
    Resume(i64),
    /// A window, a freeze or a wait is passed: the run, the stage if there are several, and why.
    Pass(i64, String),
    /// A run is asked for at that time.
    Book(Millis, Box<Prepared>),
    /// What was booked under this number is not asked for.
    Unbook(i64),
}

impl Ask {
    /// What is asked for, in words for the audit trail.
    pub(in crate::pipelines) fn deed(&self) -> String {
        let wanted = |prepared: &Prepared| {
            let reference = prepared.reference.as_ref().map(|reference| format!("/{reference}")).unwrap_or_default();
            let env = prepared.environment.as_ref().map(|env| format!(" to {env}")).unwrap_or_default();
            let reason = prepared.reason.as_ref().map(|reason| format!(" (override: {reason})")).unwrap_or_default();
            format!("{}{reference}{env}{reason}", prepared.app)
        };
        match self {
            Ask::Deploy(prepared) => format!("deploy {}", wanted(prepared)),
            Ask::Yes(number) => format!("yes {number}"),
            Ask::Abort(number) => format!("abort {number}"),
            Ask::Retry(number, stage) => format!("retry {number} {}", stage.as_deref().unwrap_or("")),
            Ask::Rollback(number) => format!("rollback {number}"),
            Ask::RollbackPlace(app, env, _) => format!("rollback {app} {env}"),
            Ask::Approve(number, code) => format!("approve {number} {code}"),
            Ask::Reject(number, why) => format!("reject {number} {why}"),
            Ask::Promote(number) => format!("promote {number}"),
            Ask::Lock(place, _, why) => format!("lock {place} {why}"),
            Ask::Extend(place, time) => format!("extend the lock of {place} by {} s", time / 1000),
            Ask::Unlock(place, why) => format!("unlock {place} {}", why.as_deref().unwrap_or("")),
            Ask::Queue(number) => format!("queue {number}"),
            Ask::Again(number) => format!("again {number}"),
            Ask::Freeze(scope, _, why) => format!("freeze {scope} {why}"),
            Ask::Thaw(scope) => format!("thaw {scope}"),
            Ask::Log(app, _, text) => format!("log {app} {text}"),
            Ask::Amend(row, text) => format!("amend L-{} {text}", row.id),
            Ask::Pause(number, why) => format!("pause {number} {why}"),
            Ask::Resume(number) => format!("resume {number}"),
            Ask::Pass(number, why) => format!("skip {number} {why}"),
            Ask::Unbook(id) => format!("unbook B-{id}"),
            Ask::Book(_, prepared) => format!("book {}", wanted(prepared)),
        }
    }
}

/// Somebody asks.
pub struct Asked {
    /// For what.
    pub ask: Ask,
    /// Who.
    pub who: Asker,
    /// What they may.
    pub may: May,
}

/// Whether flags that a rule needs are somebody's.
pub type Allows = Arc<dyn Fn(&FlagMask) -> bool + Send + Sync>;

/// What somebody may, judged at the moment they ask.
#[derive(Clone)]
pub struct May {
    /// Whether these flags are theirs, here and now.
    pub allows: Allows,
    /// Their roles.
    pub roles: Vec<String>,
    /// Whether services, a certificate or a login vouch for them.
    pub vouched: bool,
    /// When somebody last changed by what they are known.
    pub touched: Option<Millis>,
    /// Which flags of theirs count at all, where they speak through a program that has some of them only.
    pub through: Option<Allows>,
}

/// What is answered: lines for who asked, or why not.
pub type Answer = Result<Reply, Refusal>;

/// A good answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The run it is about.
    pub run: Option<i64>,
    /// Lines for who asked; the first is told with their name.
    pub lines: Vec<String>,
    /// A line for everybody where it was asked, before those.
    pub public: Vec<String>,
}

impl Reply {
    /// Lines about a run.
    pub fn about(run: i64, lines: Vec<String>) -> Reply {
        Reply { run: Some(run), lines, public: Vec::new() }
    }

    /// Lines about nothing in particular.
    pub fn lines(lines: Vec<String>) -> Reply {
        Reply { run: None, lines, public: Vec::new() }
    }
}

impl May {
    /// What the person behind an event may, here and now.
    pub fn of(book: &Book, event: &Event) -> May {
        let standing = book.recognise(event.actor_now().as_ref(), &event.network, event.casemap);
        let (vouched, roles, touched) = (standing.who.vouched, standing.roles(), standing.touched());
        let (network, chan, casemap) = (Arc::clone(&event.network), event.chan.clone(), event.casemap);
        let scope = FlagScope::Channel;
        let allows =
            Arc::new(move |flags: &FlagMask| standing.allows(flags, scope, &network, chan.as_deref(), casemap));
        May { allows, roles, vouched, touched, through: None }
    }

    /// Everything: for a program that the pipeline itself names, and for the terminal.
    pub fn all() -> May {
        May { vouched: true, ..May::program(Arc::new(|_| true)) }
    }

    /// Nothing.
    pub fn nothing() -> May {
        May::program(Arc::new(|_| false))
    }

    /// What a program may that has these flags and is nobody.
    pub fn program(allows: Allows) -> May {
        May { allows, roles: Vec::new(), vouched: false, touched: None, through: None }
    }

    /// Whether the record has been as it is since then: else they may be somebody else by now, under two names.
    pub fn known_since(&self, at: Millis) -> bool {
        self.touched.is_none_or(|touched| touched <= at)
    }

    /// Whether the program they speak through, if there is one, may act where these flags are needed.
    pub fn reaches(&self, flags: Option<&FlagMask>) -> bool {
        self.through.as_ref().is_none_or(|through| flags.is_none_or(|flags| through(flags)))
    }

    /// Whether a name is theirs: a handle, or `@` and a group they are in or a role they have.
    pub fn is_named(&self, name: &str, handle: &str, groups: &BTreeMap<String, Vec<String>>) -> bool {
        match name.strip_prefix('@') {
            Some(group) => {
                let members = groups.get(group);
                members.is_some_and(|members| members.iter().any(|member| member == handle))
                    || self.roles.iter().any(|role| role == group)
            }
            None => name == handle,
        }
    }

    /// Whether flags that a rule needs are theirs; `None` is everybody.
    pub fn has(&self, flags: Option<&FlagMask>) -> bool {
        flags.is_none_or(|flags| (self.allows)(flags))
    }
}

impl Engine {
    /// Decides about what is asked, and answers.
    pub(in crate::pipelines) fn ask(&mut self, asked: Asked) -> Answer {
        let Asked { ask, who, may } = asked;
        match ask {
            Ask::Deploy(prepared) => {
                let (app, env) = (prepared.app.clone(), prepared.environment.clone().unwrap_or_default());
                let (by_itself, origin) = (prepared.unattended, who.origin.clone());
                let answer = self.deploy(*prepared, who, &may);
                if let (true, Err(fault)) = (by_itself, &answer) {
                    self.tell_refused((&app, &env), &origin, &fault.text);
                }
                answer
            }
            Ask::Yes(number) => self.yes(number, &who, &may),
            Ask::Abort(number) => self.abort(number, &who, &may),
            Ask::Retry(number, stage) => self.retry(number, stage.as_deref(), &who, &may),
            Ask::Rollback(number) => self.rollback(number, &who, &may),
            Ask::RollbackPlace(app, env, to) => self.rollback_place(&app, &env, to.as_deref(), &who, &may),
            Ask::Approve(number, code) => self.approve(number, &code, &who, &may),
            Ask::Reject(number, why) => self.reject(number, &why, &who, &may),
            Ask::Promote(number) => self.promote(number, &who, &may),
            Ask::Lock(place, time, why) => self.lock(&place, time, &why, &who, &may),
            Ask::Extend(place, time) => self.extend(&place, time, &who, &may),
            Ask::Unlock(place, why) => self.unlock(&place, why.as_deref(), &who, &may),
            Ask::Queue(number) => self.queue(number, &who, &may),
            // Whoever hands it on has found out what it is by now.
            Ask::Again(number) => Err(no_run(number)),
            Ask::Freeze(scope, until, why) => self.freeze(&scope, until, &why, &who, &may),
            Ask::Thaw(scope) => self.thaw(&scope, &who, &may),
            Ask::Log(app, env, text) => self.log(&app, &env, &text, &who, &may),
            Ask::Amend(row, text) => self.amend(&row, &text, &who, &may),
            Ask::Pause(number, why) => self.pause(number, &why, &who, &may),
            Ask::Resume(number) => self.resume_run(number, &who, &may),
            Ask::Pass(number, why) => self.pass(number, &why, &who, &may),
            Ask::Book(at, prepared) => self.book(at, &prepared, &who, &may),
            Ask::Unbook(id) => self.unbook(id, &who, &may),
        }
    }
}
