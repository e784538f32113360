//! `.note` and `.notes`: words that wait for somebody.

use std::sync::Arc;

use masterchief_contract::{Event, Future, Handler, HandlerError, HandlerResult, Outcome};

use super::asked::Desk;
use super::{Asked, Command, OWNER, Reach, sorry};

/// Notes that may wait for one person.
const WAITING: usize = 50;
/// The longest note, in characters.
const LONGEST: usize = 1000;

pub(super) static COMMANDS: &[Command] = &[
    Command {
        name: "note",
        flags: "-",
        usage: "<handle> <words...>",
        help: "Says something to somebody, or keeps it until they are here",
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

async fn note(asked: &Asked) -> Lines {
    let (handle, words) = (asked.arg("handle"), asked.arg("words"));
    if handle.contains('@') {
        return sorry("notes for people on linked bots are not taken yet");
    }
    if words.chars().count() > LONGEST {
        return sorry(format!("a note has at most {LONGEST} characters"));
    }
    let user = asked.user(handle)?;
    let party = &asked.desk.party;
    let text = format!("Note from {}: {words}", asked.handle());
    let here = |session: &crate::partyline::room::Session| {
        (session.handle.eq_ignore_ascii_case(&user.handle) && session.away.is_none()).then_some(session.idx)
    };
    let here: Vec<u32> = party.each(here).into_iter().flatten().collect();
    if !here.is_empty() {
        here.iter().for_each(|idx| party.tell(*idx, &text));
        return Ok(vec![format!("{} is here and has it.", user.handle)]);
    }
    let store = &asked.desk.store;
    let waiting = store.notes(&user.handle).await.map_err(HandlerError::internal)?;
    if waiting.len() >= WAITING {
        return sorry(format!("{WAITING} notes wait for {} already", user.handle));
    }
    let now = party.clock().now();
    store.put_note(&user.handle, asked.handle(), words, now).await.map_err(HandlerError::internal)?;
    Ok(vec![format!("Kept for {}.", user.handle)])
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
