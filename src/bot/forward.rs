//! Notes for people on other bots: each stays in the records until its bot is linked and has said what became of it.

use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::Shutdown;
use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use crate::mesh::{Address, BotName, Mesh, News, Question, Word};
use crate::partyline::{Party, leave_note};
use crate::store::{NoteRow, Store, StoreError};

/// How long a bot may take to say what became of a note. One that says nothing (a script has taken the note) has had it.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked who took too long.
const LOOK: Duration = Duration::from_secs(10);
/// How long a note waits for its bot: as long as Eggdrop keeps one.
const KEPT: chrono::TimeDelta = chrono::TimeDelta::days(60);
/// Of whom other bots are asked: no session, since the answer may come long after.
const NO_SESSION: u32 = 0;

/// A note that a bot has been sent and has not answered.
struct Sent {
    id: i64,
    bot: BotName,
    sender: Word,
    at: Instant,
}

/// Sends notes to other bots.
pub(super) struct Forward {
    pub(super) mesh: Mesh,
    pub(super) party: Party,
    pub(super) store: Store,
    /// There is a new one.
    pub(super) wake: Arc<Notify>,
}

impl Forward {
    /// Runs until shutdown.
    pub(super) async fn run(self, mut shutdown: Shutdown) {
        let (mut news, mut sent) = (self.mesh.news(), Vec::new());
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                () = shutdown.recv() => return,
                () = self.wake.notified() => self.send(&mut sent).await,
                _ = look.tick() => self.look(&mut sent).await,
                next = news.recv() => match next {
                    Ok(news) => self.hears(&news, &mut sent).await,
                    // Whoever was linked meanwhile is looked up.
                    Err(RecvError::Lagged(_)) => self.send(&mut sent).await,
                    Err(RecvError::Closed) => return,
                },
            };
            if let Err(fault) = done {
                tracing::error!(%fault, "Notes for other bots cannot be read or written");
            }
        }
    }

    async fn hears(&self, news: &News, sent: &mut Vec<Sent>) -> Result<(), StoreError> {
        match news {
            News::Linked { .. } => self.send(sent).await,
            News::Lost { bot, .. } => {
                // What it did not answer is sent again.
                sent.retain(|one| one.bot != *bot);
                Ok(())
            }
            News::Answer { from, user, sock: None | Some(NO_SESSION), text } => {
                let theirs = |one: &Sent| one.bot == *from && one.sender == *user;
                let Some(at) = sent.iter().position(theirs) else { return Ok(()) };
                let one = sent.remove(at);
                self.store.erase_note(one.id).await?;
                self.tell(from, user, text).await
            }
            _ => Ok(()),
        }
    }

    /// Tells who wrote a note what became of it; where they are not here, by a note.
    async fn tell(&self, from: &BotName, to: &Word, text: &str) -> Result<(), StoreError> {
        let theirs = self
            .party
            .each(|session| session.handle.eq_ignore_ascii_case(to.as_str()).then_some(session.idx))
            .into_iter()
            .flatten();
        let theirs: Vec<u32> = theirs.collect();
        for idx in &theirs {
            self.party.tell(*idx, &format!("({from}) {text}"));
        }
        if theirs.is_empty() && self.party.book().get(to.as_str()).is_some() {
            leave_note(&self.party, &self.store, to.as_str(), from.as_str(), text).await?;
        }
        Ok(())
    }

    /// Sends what waits for bots that are linked.
    async fn send(&self, sent: &mut Vec<Sent>) -> Result<(), StoreError> {
        let (view, now) = (self.mesh.view(), self.party.clock().now());
        for note in self.store.notes_afar().await? {
            let Some((user, bot, sender)) = parts(&note).filter(|_| now - note.at < KEPT) else {
                tracing::warn!(to = note.recipient, from = note.sender, "A note waited too long for its bot");
                self.store.erase_note(note.id).await?;
                continue;
            };
            let linked = view.bots.iter().any(|row| row.name == bot);
            if !linked || sent.iter().any(|one| one.id == note.id) {
                continue;
            }
            let question = Question::Note { user, bot: bot.clone(), text: note.text };
            match self.mesh.question(sender.as_str(), NO_SESSION, question).await {
                Ok(()) => sent.push(Sent { id: note.id, bot, sender, at: Instant::now() }),
                Err(fault) => tracing::debug!(%fault, "A note is not sent yet"),
            }
        }
        Ok(())
    }

    /// Now and then: what took too long is forgotten, and what could not be sent before is.
    async fn look(&self, sent: &mut Vec<Sent>) -> Result<(), StoreError> {
        self.late(sent).await?;
        self.send(sent).await
    }

    /// Forgets what bots have had for long enough.
    async fn late(&self, sent: &mut Vec<Sent>) -> Result<(), StoreError> {
        let late = |one: &Sent| one.at.elapsed() >= PATIENCE;
        for one in sent.extract_if(.., |one| late(one)).collect::<Vec<_>>() {
            tracing::info!(bot = %one.bot, from = %one.sender, "A note was sent, and its bot does not say what became of it");
            self.store.erase_note(one.id).await?;
        }
        Ok(())
    }
}

/// To whom, where, and by whom.
fn parts(note: &NoteRow) -> Option<(Word, BotName, Word)> {
    let Address { user, bot, .. } = Address::parse(&note.recipient)?;
    Some((user?, bot, Word::new(&note.sender)?))
}
