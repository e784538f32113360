//! One word that somebody said, and what comes of it.

use super::Verb;
use crate::pipelines::{Ask, Asked, Asker, DeployWords, May, Millis, Pipelines, Refusal, Reply, words};
use crate::store::runs::Which;
use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, TimeZone, Utc, Weekday};
use masterchief_contract::{Action, Event, HandlerError, How, Outcome, user_error};
use serde_json::Map;
use std::sync::Arc;
use std::time::Duration;

/// Lines of a log in private, at most.
const TAIL: usize = 20;
/// The time between two of them.
const TAIL_PACE: Duration = Duration::from_secs(1);
/// A day in milliseconds.
const DAY: Millis = 86_400_000;
/// An hour in milliseconds.
const HOUR: Millis = 3_600_000;
/// Rows of a list in a channel, at most.
const ROWS: u32 = 10;

/// What comes of a word.
pub(super) type Done = Result<Outcome, Undone>;

/// Why nothing came of it.
pub(crate) enum Undone {
    /// It is refused: words for the person, and of which kind it is.
    Refused(Refusal),
    /// Anything else.
    Fault(HandlerError),
}

impl From<Refusal> for Undone {
    fn from(refusal: Refusal) -> Undone {
        Undone::Refused(refusal)
    }
}

impl From<String> for Undone {
    fn from(text: String) -> Undone {
        Undone::Refused(Refusal::wrong(text))
    }
}

impl From<HandlerError> for Undone {
    fn from(fault: HandlerError) -> Undone {
        Undone::Fault(fault)
    }
}

impl From<Undone> for HandlerError {
    fn from(undone: Undone) -> HandlerError {
        match undone {
            Undone::Refused(refusal) => user_error(refusal.text),
            Undone::Fault(fault) => fault,
        }
    }
}

/// One word that somebody said.
pub(super) struct Said {
    pub(super) pipelines: Pipelines,
    pub(super) may: May,
    pub(super) who: Asker,
    pub(super) usage: &'static str,
    pub(super) event: Event,
}

impl Said {
    pub(super) async fn answer(self, verb: Verb) -> Done {
        let text = self.event.text().trim().to_owned();
        let (first, rest) = split(&text);
        match verb {
            Verb::Deploy | Verb::Override => self.deploy(&text, verb == Verb::Override).await,
            Verb::Yes => self.ask(Ask::Yes(self.number(first)?)).await,
            Verb::Abort => self.ask(Ask::Abort(self.number(first)?)).await,
            Verb::Retry => {
                let stage = Some(rest).filter(|rest| !rest.is_empty()).map(str::to_owned);
                self.ask(Ask::Retry(self.number(first)?, stage)).await
            }
            Verb::Rollback => match self.number(first) {
                Ok(number) => self.ask(Ask::Rollback(number)).await,
                Err(fault) => {
                    let (env, to) = split(rest);
                    if first.is_empty() || env.is_empty() {
                        return Err(fault.into());
                    }
                    let to = to.strip_prefix("to ").map(|to| to.trim().to_owned());
                    self.ask(Ask::RollbackPlace(first.to_owned(), env.to_owned(), to)).await
                }
            },
            Verb::Approve => self.ask(Ask::Approve(self.number(first)?, rest.to_owned())).await,
            Verb::Reject => self.ask(Ask::Reject(self.number(first)?, rest.to_owned())).await,
            Verb::Promote => self.ask(Ask::Promote(self.number(first)?)).await,
            Verb::Pause => self.ask(Ask::Pause(self.number(first)?, rest.to_owned())).await,
            Verb::Resume => self.ask(Ask::Resume(self.number(first)?)).await,
            Verb::Pass => self.ask(Ask::Pass(self.number(first)?, rest.to_owned())).await,
            Verb::Lock => self.lock(first, rest).await,
            Verb::Unlock => self.ask(Ask::Unlock(first.to_owned(), None)).await,
            Verb::Break => self.ask(Ask::Unlock(first.to_owned(), Some(rest.to_owned()))).await,
            Verb::Queue => match self.number(first) {
                Ok(number) => self.ask(Ask::Queue(number)).await,
                Err(fault) if first.is_empty() => Err(fault.into()),
                Err(_) => lines(self.pipelines.queue(first).await),
            },
            Verb::Again => self.ask(Ask::Again(self.number(first)?)).await,
            Verb::Freeze => {
                let (time, why) = timed(rest);
                let until = time.map(|time| self.pipelines.now() + time);
                self.ask(Ask::Freeze(first.to_owned(), until, why.to_owned())).await
            }
            Verb::Thaw => self.ask(Ask::Thaw(first.to_owned())).await,
            Verb::At => self.book(&text).await,
            Verb::Unbook => {
                let id = first.trim_start_matches("B-").parse().map_err(|_| user_error(self.written()))?;
                self.ask(Ask::Unbook(id)).await
            }
            Verb::Log => self.log(first, rest).await,
            _ => self.look(verb, first, rest).await,
        }
    }

    /// What only looks.
    async fn look(self, verb: Verb, first: &str, rest: &str) -> Done {
        let now = self.pipelines.now();
        match verb {
            Verb::Who => {
                let places = self.pipelines.places(first).await?;
                Ok(Outcome::Reply(vec![words::who(first, &places, now)]))
            }
            Verb::Whatson => {
                let (env, time) = match duration(first) {
                    Some(time) => (None, Some(time)),
                    None => (Some(first).filter(|env| !env.is_empty()), duration(rest)),
                };
                lines(self.pipelines.whatson(env, time.unwrap_or(HOUR)).await.map(|line| vec![line]))
            }
            Verb::Deploys => self.deploys(first, rest).await,
            Verb::Run => {
                let number = self.number(first)?;
                let Some((run, stages)) = self.pipelines.run(number).await.map_err(HandlerError::internal)? else {
                    return Err(Refusal::unknown(format!("there is no run {number}")).into());
                };
                let left = self.pipelines.left(number).await;
                Ok(Outcome::Reply(words::run(&run, &stages, left, now)))
            }
            Verb::Diff => {
                let number = self.number(first)?;
                let found = self.pipelines.run(number).await.map_err(HandlerError::internal)?;
                let (run, _) = found.ok_or_else(|| Refusal::unknown(format!("there is no run {number}")))?;
                self.whisper(words::diff(&run)).await
            }
            Verb::Tail => self.tail(first, rest).await,
            Verb::Sal => {
                let since = since(now, rest, DAY);
                let rows = self
                    .pipelines
                    .records()
                    .incidents(Some(first), since, ROWS)
                    .await
                    .map_err(HandlerError::internal)?;
                let lines: Vec<String> = rows.iter().map(words::incident).collect();
                Ok(Outcome::Reply(vec![if lines.is_empty() {
                    format!("{first}: nothing was logged")
                } else {
                    words::listed(&lines)
                }]))
            }
            Verb::Dora => {
                let since = since(now, rest, 30 * DAY);
                lines(self.pipelines.dora(first, since).await.map(|dora| vec![dora.to_string()]))
            }
            Verb::Predict => {
                let env = Some(rest).filter(|env| !env.is_empty());
                let told = self.pipelines.predict(first, env, &self.who.handle).await?;
                Ok(Outcome::Reply(words::predicted(&told)))
            }
            Verb::Flaky => {
                let since = since(now, rest, 30 * DAY);
                lines(self.pipelines.flaky(first, since).await)
            }
            Verb::Booked => self.booked(first).await,
            Verb::Slots | Verb::Runners => Ok(Outcome::Reply(self.shared(verb, now).await)),
            _ => {
                let catalog = self.pipelines.catalog();
                let one = |pipeline: &Arc<crate::pipelines::Pipeline>| {
                    let envs: Vec<&str> = pipeline.policy.environments.iter().map(|(env, _)| env.as_str()).collect();
                    format!("{} ({})", pipeline.app, envs.join(", "))
                };
                Ok(Outcome::Reply(vec![catalog.all().map(one).collect::<Vec<_>>().join(" | ")]))
            }
        }
    }

    /// What stages share: slots, or runners.
    async fn shared(&self, verb: Verb, now: Millis) -> Vec<String> {
        match verb {
            Verb::Runners => words::runners(&self.pipelines.runners().await.0, now),
            _ => vec![self.pipelines.slots().await.join(" | ")],
        }
    }

    /// What is booked, of one app if one is named.
    async fn booked(&self, app: &str) -> Done {
        let mut all = self.pipelines.booked().await;
        all.retain(|line| app.is_empty() || line.split(' ').nth(1) == Some(app));
        Ok(Outcome::Reply(vec![if all.is_empty() { "nothing is booked".to_owned() } else { words::listed(&all) }]))
    }

    /// Asks the engine, and tells what it answers.
    async fn ask(&self, ask: Ask) -> Done {
        let asked = Asked { ask, who: self.who.clone(), may: self.may.clone() };
        let reply = self.pipelines.ask(asked).await?;
        Ok(Outcome::Reply(self.told(reply)))
    }

    /// The lines of an answer: for everybody, and for who asked with their name in front.
    fn told(&self, reply: Reply) -> Vec<String> {
        let mut out = reply.public;
        let named = !self.event.private();
        out.extend(reply.lines.into_iter().enumerate().map(|(at, line)| match (at, named) {
            (0, true) => format!("{}: {line}", self.event.nick()),
            _ => line,
        }));
        out
    }

    fn number(&self, text: &str) -> Result<i64, Refusal> {
        let plain = text.trim_start_matches(['#', '[']).trim_end_matches(']');
        plain.parse().map_err(|_| Refusal::wrong(self.written()))
    }

    fn written(&self) -> String {
        format!("write it with {}", self.usage)
    }

    async fn deploy(&self, text: &str, reason: bool) -> Done {
        let typed = DeployWords::parse(text, reason)?;
        if reason && typed.rest.is_empty() {
            return Err(Refusal::wrong("say why: !deploy! APP to ENV <why>").into());
        }
        let why = reason.then(|| typed.rest.clone());
        let mut prepared = self.pipelines.prepare(typed, Map::new(), (&self.who, &self.may)).await?;
        prepared.reason = why;
        self.ask(Ask::Deploy(Box::new(prepared))).await
    }

    async fn book(&self, text: &str) -> Done {
        let now = DateTime::from_timestamp_millis(self.pipelines.now()).unwrap_or_default();
        let (when, typed) = text.split_once("deploy ").ok_or_else(|| Refusal::wrong(self.written()))?;
        let at = next(now, when.trim()).ok_or_else(|| Refusal::wrong(self.written()))?;
        let typed = DeployWords::parse(typed, false)?;
        let prepared = self.pipelines.prepare(typed, Map::new(), (&self.who, &self.may)).await?;
        self.ask(Ask::Book(at, Box::new(prepared))).await
    }

    async fn lock(&self, place: &str, rest: &str) -> Done {
        if let Some(more) = split(rest).0.strip_prefix('+') {
            let time = duration(more).ok_or_else(|| Refusal::wrong(format!("{more:?} is no time; write +1h")))?;
            return self.ask(Ask::Extend(place.to_owned(), time)).await;
        }
        let (time, why) = timed(rest);
        self.ask(Ask::Lock(place.to_owned(), time, why.to_owned())).await
    }

    async fn log(&self, first: &str, rest: &str) -> Done {
        if first == "amend" {
            let (id, text) = split(rest);
            let id = id.trim_start_matches("L-").parse().map_err(|_| Refusal::wrong("write !log amend L-12 <text>"))?;
            let row = self.pipelines.records().incident(id).await.map_err(HandlerError::internal)?;
            let row = row.ok_or_else(|| Refusal::unknown(format!("there is no L-{id}; !sal APP shows the log")))?;
            return self.ask(Ask::Amend(Box::new(row), text.to_owned())).await;
        }
        let (app, env) = first.split_once('/').unwrap_or((first, ""));
        self.ask(Ask::Log(app.to_owned(), env.to_owned(), rest.to_owned())).await
    }

    async fn deploys(&self, app: &str, rest: &str) -> Done {
        let pipeline = self.pipelines.catalog().get(app)?;
        let (env, count) = match split(rest) {
            (word, "") if word.parse::<u32>().is_ok() => ("", word),
            (env, count) => (env, count),
        };
        let env = Some(env).filter(|env| !env.is_empty());
        if let Some(env) = env.filter(|env| pipeline.rules(env).is_none()) {
            return Err(Refusal::unknown(format!("{app} has no environment {env:?}")).into());
        }
        let limit = count.parse().unwrap_or(3).clamp(1, ROWS);
        let which = Which { app: Some(app.to_owned()), env: env.map(str::to_owned), limit, ..Which::default() };
        let rows = self.pipelines.list(which).await.map_err(HandlerError::internal)?;
        let now = self.pipelines.now();
        let mut parts: Vec<String> = rows.iter().map(|(row, run)| words::run_row(row, run, now)).collect();
        if let Some(link) = &self.pipelines.settings().link {
            let env = env.map(|env| format!("/{env}")).unwrap_or_default();
            parts.push(format!("more: {link}/a/{app}{env}"));
        }
        Ok(Outcome::Reply(vec![if rows.is_empty() { format!("{app}: no run yet") } else { parts.join(" | ") }]))
    }

    /// The end of a log, in private, slowly: for the one who asked for the run, and for those who may deploy there.
    async fn tail(&self, first: &str, rest: &str) -> Done {
        let number = self.number(first)?;
        let found = self.pipelines.run(number).await.map_err(HandlerError::internal)?;
        let (run, _) = found.ok_or_else(|| Refusal::unknown(format!("there is no run {number}")))?;
        let pipeline = self.pipelines.catalog().get(&run.app)?;
        let flags = pipeline.rules(&run.env).map(|rules| rules.flags);
        let may = flags.is_some_and(|flags| self.may.has(flags.as_ref()));
        let own = self.may.vouched && self.who.handle == run.asker.handle;
        if !may && !own {
            return Err(Refusal::denied(format!(
                "the log of run {number} is for those who may deploy {}",
                run.place()
            ))
            .into());
        }
        let stage = Some(rest).filter(|rest| !rest.is_empty());
        let (stage, lines) = self.pipelines.tail(number, stage, TAIL).await?;
        let mut out = vec![format!("[{number}] {stage}, the last {} lines:", lines.len())];
        out.extend(lines.iter().map(|line| words::cut(line, 380)));
        self.whisper(out).await
    }

    /// Lines for who asked alone, one a second.
    async fn whisper(&self, lines: Vec<String>) -> Done {
        let network = self.event.network.to_string();
        for (at, text) in lines.into_iter().enumerate() {
            if at > 0 {
                tokio::time::sleep(TAIL_PACE).await;
            }
            let target = self.event.nick().to_owned();
            let say = Action::Say { network: network.clone(), target, text, how: How::Notice, reply: true };
            self.event.perform(say).await.map_err(HandlerError::from)?;
        }
        Ok(Outcome::Nothing)
    }
}

fn lines(answer: Result<Vec<String>, Refusal>) -> Done {
    Ok(answer.map(Outcome::Reply)?)
}

/// The first word and the rest.
fn split(text: &str) -> (&str, &str) {
    text.split_once(char::is_whitespace).map_or((text, ""), |(first, rest)| (first, rest.trim()))
}

fn duration(text: &str) -> Option<Millis> {
    let time = humantime_serde::re::humantime::parse_duration(text).ok()?;
    Some(i64::try_from(time.as_millis()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4))
}

/// A time at the beginning of a text, if there is one.
fn timed(text: &str) -> (Option<Millis>, &str) {
    let (first, rest) = split(text);
    match duration(first) {
        Some(time) => (Some(time), rest),
        None => (None, text),
    }
}

/// The moment that is meant by `today` or by a time before now.
fn since(now: Millis, text: &str, default: Millis) -> Millis {
    match text {
        "today" => now - now.rem_euclid(DAY),
        text => now - duration(text).unwrap_or(default),
    }
}

/// The next moment that is meant by `08:00`, `Mon 08:00` or `2026-03-02 08:00`, in UTC.
fn next(now: DateTime<Utc>, when: &str) -> Option<Millis> {
    let (day, time) = when.rsplit_once(' ').map_or(("", when), |(day, time)| (day.trim(), time));
    let time = NaiveTime::parse_from_str(time, "%H:%M").ok()?;
    if let Ok(date) = day.parse::<NaiveDate>() {
        let at = Utc.from_utc_datetime(&date.and_time(time));
        return (at > now).then(|| at.timestamp_millis());
    }
    let weekday = if day.is_empty() { None } else { Some(day.parse::<Weekday>().ok()?) };
    let days = (0..=7).map(|ahead| now.date_naive() + chrono::Duration::days(ahead));
    let mut fitting = days.filter(|date| weekday.is_none_or(|weekday| date.weekday() == weekday));
    let at = fitting.find_map(|date| Some(Utc.from_utc_datetime(&date.and_time(time))).filter(|at| *at > now))?;
    Some(at.timestamp_millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_to_come_has_a_clock_and_may_have_a_day() {
        // A Friday.
        let now = DateTime::parse_from_rfc3339("2026-02-27T09:30:00Z").unwrap().to_utc();
        let told = |when: &str| next(now, when).map(|at| words::moment(at, 0));
        assert_eq!(told("10:00").as_deref(), Some("2026-02-27 10:00 UTC"));
        assert_eq!(told("09:30").as_deref(), Some("2026-02-28 09:30 UTC"));
        assert_eq!(told("Mon 08:00").as_deref(), Some("2026-03-02 08:00 UTC"));
        assert_eq!(told("fri 09:00").as_deref(), Some("2026-03-06 09:00 UTC"));
        assert_eq!(told("2026-03-09 08:00").as_deref(), Some("2026-03-09 08:00 UTC"));
        for wrong in ["2026-02-01 08:00", "someday 08:00", "25:00", ""] {
            assert_eq!(told(wrong), None, "{wrong}");
        }
    }
}
