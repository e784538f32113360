//! `.note` and `.notes`: words that wait for somebody.

use std::sync::Arc;

use masterchief_contract::{Event, Future, Handler, HandlerError, HandlerResult, Outcome};

use super::asked::Desk;
use super::bots::{mesh, name};
use super::noteign::ignores;
use super::{Asked, Command, OWNER, Reach, sorry};
use crate::mesh::{Address, BotName, Mesh};
use crate::partyline::party::Party;
use crate::store::{Store, StoreError};

/// Notes that may wait for one person.
const WAITING: usize = 50;
/// The longest note, in characters.
const LONGEST: usize = 1000;

pub(super) static COMMANDS: &[Command] = &[
    Command {
        name: "note",
        flags: "-",
        usage: "<handle> <words...>",
        help: "Says something to somebody, or keeps it until they are here; HANDLE@BOT is on another bot",
        reach: Reach::Anywhere,
        run: |asked| Box::pin(async move { note(&asked).await }),
    },
    Command {
        name: "notes",
        flags: "-",
        usage: "[what:list|read|erase=list]",
        help: "Counts, reads or erases the notes that wait for you",
        reach: Reach::Anywhere,
        run: |asked| Box::pin(async move { notes(&asked).await }),
    },
];

type Lines = Result<Vec<String>, HandlerError>;

/// What became of a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// They are here and have it.
    Shown,
    /// It is kept until they come.
    Kept,
    /// They are here and away; it is kept.
    KeptAway,
    /// It is longer than is kept.
    TooLong,
    /// So many wait for them that no more are kept.
    TooMany,
    /// A bind has taken it: nobody sees it.
    Taken,
    /// They take none of this sender.
    Unwanted,
}

/// The same, after binds of kind `note` have had it: one that says STOP takes it.
pub async fn deliver_note(party: &Party, store: &Store, to: &str, from: &str, words: &str) -> Result<Left, StoreError> {
    if words.chars().count() <= LONGEST && party.takes_note(to, from, words).await {
        return Ok(Left::Taken);
    }
    leave_note(party, store, to, from, words).await
}

/// Leaves a note for somebody who has a record.
pub async fn leave_note(party: &Party, store: &Store, to: &str, from: &str, words: &str) -> Result<Left, StoreError> {
    if words.chars().count() > LONGEST {
        return Ok(Left::TooLong);
    }
    if party.book().get(to).is_some_and(|user| ignores(&user, from)) {
        return Ok(Left::Unwanted);
    }
    let theirs =
        party.each(|session| session.handle.eq_ignore_ascii_case(to).then_some((session.idx, session.away.is_some())));
    let theirs: Vec<(u32, bool)> = theirs.into_iter().flatten().collect();
    let here: Vec<u32> = theirs.iter().filter(|(_, away)| !away).map(|(idx, _)| *idx).collect();
    if !here.is_empty() {
        here.iter().for_each(|idx| party.tell(*idx, &format!("Note from {from}: {words}")));
        return Ok(Left::Shown);
    }
    if store.notes(to).await?.len() >= WAITING {
        return Ok(Left::TooMany);
    }
    store.put_note(to, from, words, party.clock().now()).await?;
    Ok(if theirs.is_empty() { Left::Kept } else { Left::KeptAway })
}

async fn note(asked: &Asked) -> Lines {
    let (handle, words) = (asked.arg("handle"), asked.arg("words"));
    if let Some((user, bot)) = handle.rsplit_once('@') {
        let (mesh, bot) = (mesh(asked)?, name(bot)?);
        if bot != *mesh.name() {
            return note_afar(asked, &mesh, user, &bot).await;
        }
        return note_here(asked, user, words).await;
    }
    note_here(asked, handle, words).await
}

/// A note for somebody on another bot: it is kept here until that bot has answered what became of it.
async fn note_afar(asked: &Asked, mesh: &Mesh, user: &str, bot: &BotName) -> Lines {
    let (view, words) = (mesh.view(), asked.arg("words"));
    let linked = view.bots.iter().any(|row| row.name == *bot);
    if !linked && !view.records.iter().any(|record| record.name == *bot) {
        return sorry(format!("{bot} is neither linked nor known here; .bots lists who is linked"));
    }
    let (store, to) = (&asked.desk.store, format!("{user}@{bot}"));
    if !matches!(Address::parse(&to), Some(Address { sock: None, user: Some(_), .. })) {
        return sorry(format!("{user:?} is no handle"));
    }
    if words.chars().count() > LONGEST {
        return sorry(format!("a note has at most {LONGEST} characters"));
    }
    if store.notes(&to).await.map_err(HandlerError::internal)?.len() >= WAITING {
        return sorry(format!("{WAITING} notes wait for {to} already"));
    }
    let now = asked.desk.party.clock().now();
    store.put_note(&to, asked.handle(), words, now).await.map_err(HandlerError::internal)?;
    asked.desk.host.notes_go();
    Ok(vec![if linked {
        format!("On its way to {to}; what became of it is told here.")
    } else {
        format!("{bot} is not linked now; kept until it is.")
    }])
}

async fn note_here(asked: &Asked, handle: &str, words: &str) -> Lines {
    let user = asked.user(handle)?;
    let left = deliver_note(&asked.desk.party, &asked.desk.store, &user.handle, asked.handle(), words).await;
    match left.map_err(HandlerError::internal)? {
        Left::Shown => Ok(vec![format!("{} is here and has it.", user.handle)]),
        Left::Kept | Left::KeptAway => Ok(vec![format!("Kept for {}.", user.handle)]),
        Left::Taken => Ok(vec![format!("A bind has taken the note to {}.", user.handle)]),
        Left::Unwanted => sorry(format!("{} takes no notes of yours", user.handle)),
        Left::TooLong => sorry(format!("a note has at most {LONGEST} characters")),
        Left::TooMany => sorry(format!("{WAITING} notes wait for {} already", user.handle)),
    }
}

async fn notes(asked: &Asked) -> Lines {
    let store = &asked.desk.store;
    let waiting = store.notes(asked.handle()).await.map_err(HandlerError::internal)?;
    match asked.arg("what") {
        "read" | "erase" if waiting.is_empty() => Ok(vec!["No notes wait for you.".to_owned()]),
        "read" => {
            let mut lines = Vec::new();
            for (at, note) in waiting.iter().enumerate() {
                lines.push(format!("{}. {} from {}: {}", at + 1, note.at.format("%F %T"), note.sender, note.text));
            }
            lines.push(".notes erase erases them.".to_owned());
            Ok(lines)
        }
        "erase" => {
            let newest = waiting.iter().map(|note| note.id).max().unwrap_or(0);
            store.erase_notes(asked.handle(), newest).await.map_err(HandlerError::internal)?;
            Ok(vec![format!("{} erased.", waiting.len())])
        }
        _ => Ok(vec![match waiting.len() {
            0 => "No notes wait for you.".to_owned(),
            count => format!("{count} notes wait for you; .notes read shows them."),
        }]),
    }
}

/// Tells who comes in how many notes wait.
pub(super) struct Waiting(pub(super) Arc<Desk>);

impl Handler for Waiting {
    fn call(&self, event: Event) -> Future<HandlerResult> {
        let desk = Arc::clone(&self.0);
        Box::pin(async move {
            let idx = event.field("idx").and_then(|idx| idx.as_u64()).and_then(|idx| u32::try_from(idx).ok());
            let waiting = desk.store.notes(event.field_str("handle")).await.map_err(HandlerError::internal)?;
            if let Some(idx) = idx.filter(|_| !waiting.is_empty()) {
                desk.party.tell(idx, &format!("{} notes wait for you; .notes read shows them.", waiting.len()));
            }
            Ok(Outcome::Nothing)
        })
    }

    fn origin(&self) -> String {
        OWNER.to_owned()
    }
}
