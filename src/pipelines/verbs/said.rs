//! One word that somebody said, and what comes of it.

use chrono::DateTime;
use serde_json::Map;

use super::times::{duration, moment_of, split, timed};
use super::{Verb, looks, row};
use crate::pipelines::engine::{Ask, Asked, May, Prepared, Reply};
use crate::pipelines::handle::Pipelines;
use crate::pipelines::prepare::Slow;
use crate::pipelines::refusal::Refusal;
use crate::pipelines::request::DeployWords;
use crate::pipelines::run::Asker;
use crate::pipelines::words;

/// What came of a word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// Lines for everybody, and for who said it.
    pub reply: Reply,
    /// Whether something was only shown.
    pub looked: bool,
    /// Whether all of it is for who said it alone, slowly.
    pub private: bool,
}

/// A word with who says it.
struct Saying<'a> {
    pipelines: &'a Pipelines,
    usage: &'static str,
    who: &'a Asker,
    may: &'a May,
    slow: Slow<'a>,
}

impl Pipelines {
    /// Does what a word does, with or without its `!`: `lock`, `shop/prod 2h the database moves`. Looking is a word too.
    pub async fn word(&self, word: &str, text: &str, (who, may): (&Asker, &May)) -> Result<Said, Refusal> {
        self.word_then(word, text, (who, may), (&|| may.clone(), &|_| ())).await
    }

    /// The same, by what they may once what was asked for is understood: that may take its time, and then it is told.
    pub(crate) async fn word_then(
        &self,
        word: &str,
        text: &str,
        (who, may): (&Asker, &May),
        (again, slow): (&(dyn Fn() -> May + Sync), &(dyn Fn(String) + Sync)),
    ) -> Result<Said, Refusal> {
        let (known, usage, _, verb) = row(word)?;
        let text = text.trim();
        let saying = Saying { pipelines: self, usage, who, may, slow };
        if !looks(word, text) {
            let ask = saying.meant(*verb, text).await?;
            let reply = self.ask_telling(Asked { ask, who: who.clone(), may: again() }, slow).await?;
            return Ok(Said { reply, ..Said::default() });
        }
        let word = known.trim_start_matches('!');
        let lines = self.look((word, usage), text, (who, may)).await?;
        Ok(Said { reply: Reply::lines(lines), looked: true, private: matches!(word, "tail" | "diff") })
    }
}

impl Saying<'_> {
    /// What somebody asks for who says this.
    async fn meant(&self, verb: Verb, text: &str) -> Result<Ask, Refusal> {
        let (first, rest) = split(text);
        let (some, owned) = (|text: &str| Some(text.to_owned()).filter(|text| !text.is_empty()), str::to_owned);
        Ok(match verb {
            Verb::Deploy | Verb::Override => self.deploy(text, verb == Verb::Override).await?,
            Verb::Yes => Ask::Yes(self.number(first)?),
            Verb::Abort => Ask::Abort(self.number(first)?),
            Verb::Retry => Ask::Retry(self.number(first)?, some(rest)),
            Verb::Rollback => self.rollback(first, rest)?,
            Verb::Approve => Ask::Approve(self.number(first)?, owned(rest)),
            Verb::Reject => Ask::Reject(self.number(first)?, owned(rest)),
            Verb::Promote => Ask::Promote(self.number(first)?),
            Verb::Pause => Ask::Pause(self.number(first)?, owned(rest)),
            Verb::Resume => Ask::Resume(self.number(first)?),
            Verb::Pass => Ask::Pass(self.number(first)?, owned(rest)),
            Verb::Lock => match split(rest).0.strip_prefix('+') {
                Some(more) => {
                    let time = duration(more).ok_or_else(|| Refusal::wrong(words::no_time(more)))?;
                    Ask::Extend(owned(first), time)
                }
                None => {
                    let (time, why) = timed(rest);
                    Ask::Lock(owned(first), time, owned(why))
                }
            },
            Verb::Unlock => Ask::Unlock(owned(first), None),
            Verb::Break => Ask::Unlock(owned(first), Some(owned(rest))),
            Verb::Queue => Ask::Queue(self.number(first)?),
            Verb::Again => Ask::Again(self.number(first)?),
            Verb::Freeze => {
                let (time, why) = timed(rest);
                let until = time.map(|time| self.pipelines.now().saturating_add(time));
                Ask::Freeze(owned(first), until, owned(why))
            }
            Verb::Thaw => Ask::Thaw(owned(first)),
            Verb::At => self.book(text).await?,
            Verb::Unbook => Ask::Unbook(first.trim_start_matches("B-").parse().map_err(|_| self.written())?),
            Verb::Log => self.log(first, rest).await?,
            Verb::Look => return Err(self.written()),
        })
    }

    fn number(&self, text: &str) -> Result<i64, Refusal> {
        numbered(text).ok_or_else(|| self.written())
    }

    fn written(&self) -> Refusal {
        Refusal::wrong(words::written(self.usage))
    }

    fn rollback(&self, first: &str, rest: &str) -> Result<Ask, Refusal> {
        if let Some(number) = numbered(first) {
            return Ok(Ask::Rollback(number));
        }
        let (env, to) = split(rest);
        if first.is_empty() || env.is_empty() {
            return Err(self.written());
        }
        let to = to.strip_prefix("to ").map(|to| to.trim().to_owned());
        Ok(Ask::RollbackPlace(first.to_owned(), env.to_owned(), to))
    }

    async fn deploy(&self, text: &str, reason: bool) -> Result<Ask, Refusal> {
        let typed = DeployWords::parse(text, reason)?;
        if reason && typed.rest.is_empty() {
            return Err(Refusal::wrong(words::WHY_OVERRIDE));
        }
        let why = reason.then(|| typed.rest.clone());
        let prepared = self.prepared(typed).await?;
        Ok(Ask::Deploy(Box::new(Prepared { reason: why, unattended: self.who.is_program(), ..prepared })))
    }

    async fn book(&self, text: &str) -> Result<Ask, Refusal> {
        let now = DateTime::from_timestamp_millis(self.pipelines.now()).unwrap_or_default();
        let (when, typed) = text.split_once("deploy ").ok_or_else(|| self.written())?;
        let at = moment_of(now, when.trim()).ok_or_else(|| self.written())?;
        let typed = DeployWords::parse(typed, false)?;
        let prepared = self.prepared(typed).await?;
        Ok(Ask::Book(at, Box::new(prepared)))
    }

    async fn prepared(&self, typed: DeployWords) -> Result<Prepared, Refusal> {
        self.pipelines.prepare_telling(typed, Map::new(), (self.who, self.may), self.slow).await
    }

    async fn log(&self, first: &str, rest: &str) -> Result<Ask, Refusal> {
        if first == "amend" {
            let (id, text) = split(rest);
            let id = id.trim_start_matches("L-").parse().map_err(|_| Refusal::wrong(words::AMEND))?;
            let row = self.pipelines.records().incident(id).await?;
            let row = row.ok_or_else(|| Refusal::unknown(words::no_incident(id)))?;
            return Ok(Ask::Amend(Box::new(row), text.to_owned()));
        }
        let (app, env) = first.split_once('/').unwrap_or((first, ""));
        Ok(Ask::Log(app.to_owned(), env.to_owned(), rest.to_owned()))
    }
}

/// The number of a run as people write it: `118`, `#118`, `[118]`.
pub(super) fn numbered(text: &str) -> Option<i64> {
    text.trim_start_matches(['#', '[']).trim_end_matches(']').parse().ok()
}
