//! One word that somebody said, and what comes of it.

use crate::pipelines::{Asker, May, Pipelines, Refusal, Said};
use crate::users::Book;
use masterchief_contract::{Action, Event, HandlerError, How, Outcome, user_error};
use std::time::Duration;

/// The time between two lines in private.
const PACE: Duration = Duration::from_secs(1);

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
pub(super) struct Word {
    pub(super) pipelines: Pipelines,
    /// What they may at the beginning.
    pub(super) may: May,
    /// By which it is asked again what they may; nothing where they may everything.
    pub(super) book: Option<Book>,
    pub(super) who: Asker,
    pub(super) word: &'static str,
    pub(super) event: Event,
}

impl Word {
    /// Does it, and tells who said it.
    pub(super) async fn answer(self) -> Done {
        // What is prepared before may take its time.
        let again = || self.book.as_ref().map_or_else(|| self.may.clone(), |book| May::of(book, &self.event));
        let said = self.pipelines.word_then(self.word, self.event.text(), (&self.who, &self.may), &again).await?;
        match said.private {
            true => self.whisper(said.reply.lines).await,
            false => Ok(Outcome::Reply(self.told(said))),
        }
    }

<<<<<<< HEAD
    /// The lines of an answer: for everybody, and for who asked with their name in front, unless they only looked.
    fn told(&self, said: Said) -> Vec<String> {
        let mut out = said.reply.public;
        let named = !self.event.private() && !said.looked;
        out.extend(said.reply.lines.into_iter().enumerate().map(|(at, line)| match (at, named) {
=======
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
>>>>>>> w-runners
            (0, true) => format!("{}: {line}", self.event.nick()),
            _ => line,
        }));
        out
    }

    /// Lines for who asked alone, one a second.
    async fn whisper(&self, lines: Vec<String>) -> Done {
        let network = self.event.network.to_string();
        for (at, text) in lines.into_iter().enumerate() {
            if at > 0 {
                tokio::time::sleep(PACE).await;
            }
            let target = self.event.nick().to_owned();
            let say = Action::Say { network: network.clone(), target, text, how: How::Notice, reply: true };
            self.event.perform(say).await.map_err(HandlerError::from)?;
        }
        Ok(Outcome::Nothing)
    }
}
