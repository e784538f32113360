//! One word that somebody said, and what comes of it.

use crate::pipelines::{Asker, May, Pipelines, Refusal, Said};
use crate::users::Book;
use masterchief_contract::{Action, Event, HandlerError, How, Outcome, user_error};
use std::time::Duration;
use tokio::sync::mpsc;

/// The time between two lines in private.
const PACE: Duration = Duration::from_secs(1);
/// What is said at most while somebody waits for an answer.
const SLOW: usize = 8;

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
        let (to, mut slow) = mpsc::channel(SLOW);
        // Who does not listen any more has gone.
        let tell = |words: String| drop(to.try_send(words));
        let said = {
            let asked = (&self.who, &self.may);
            let saying = self.pipelines.word_then(self.word, self.event.text(), asked, (&again, &tell));
            tokio::pin!(saying);
            loop {
                tokio::select! {
                    biased;
                    // Who cannot be told so soon is answered all the same.
                    Some(words) = slow.recv() => drop(self.event.reply(words).await),
                    said = &mut saying => break said?,
                }
            }
        };
        match said.private {
            true => self.whisper(said.reply.lines).await,
            false => Ok(Outcome::Reply(self.told(said))),
        }
    }

    /// The lines of an answer: for everybody, and for who asked with their name in front, unless they only looked.
    fn told(&self, said: Said) -> Vec<String> {
        let mut out = said.reply.public;
        let named = !self.event.private() && !said.looked;
        out.extend(said.reply.lines.into_iter().enumerate().map(|(at, line)| match (at, named) {
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
