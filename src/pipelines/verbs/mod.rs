//! The words of `!deploy` and all that belongs to it, and what comes of them: for a channel, a shell, a script and a program with a token
//! alike, by one engine and one table of who may what. `docs/verbs.md` shows which word is which way to be had.

mod about;
mod look;
mod said;
mod times;
mod ways;

use std::collections::BTreeMap;

use super::catalog::Catalog;
use super::engine::May;
use super::refusal::Refusal;
use super::request::DeployWords;
use super::run::Asker;
use super::words;

pub use said::Said;
pub use ways::{SHORT, page};

/// Every word: how it is written after it, what it does, and its meaning here.
pub const WORDS: &[(&str, &str, &str, Verb)] = &[
    ("!deploy", "APP[/REF] [to ENV] [name=value] [--skip STAGE]", "Starts a deployment", Verb::Deploy),
    ("!deploy!", "APP[/REF] to ENV WHY", "Starts a deployment although something forbids it now", Verb::Override),
    ("!yes", "RUN", "Says yes to what was understood", Verb::Yes),
    ("!abort", "RUN", "Stops a run", Verb::Abort),
    ("!drop", "RUN", "Takes a run out of the queue", Verb::Abort),
    ("!retry", "RUN [STAGE]", "Goes on with a run where it failed", Verb::Retry),
    ("!rollback", "RUN | APP ENV", "Undoes what a run did", Verb::Rollback),
    ("!approve", "RUN CODE", "Agrees to what was shown with this code", Verb::Approve),
    ("!reject", "RUN WHY", "Does not agree", Verb::Reject),
    ("!promote", "RUN", "Goes on although a stage is held", Verb::Promote),
    ("!pause", "RUN [WHY]", "Lets nothing more of a run begin", Verb::Pause),
    ("!resume", "RUN", "Lets a run that was paused go on", Verb::Resume),
    ("!skip!", "RUN [STAGE] WHY", "Passes a window, a freeze or a wait that a run waits for", Verb::Pass),
    ("!lock", "APP/ENV [2h|+1h] WHY", "Locks a place", Verb::Lock),
    ("!unlock", "APP/ENV", "Takes one's lock away", Verb::Unlock),
    ("!unlock!", "APP/ENV WHY", "Takes somebody else's lock away", Verb::Break),
    ("!queue", "RUN | APP", "Waits behind a lock, or shows who waits", Verb::Queue),
    ("!again", "RUN", "Asks for the same once more", Verb::Again),
    ("!freeze", "ENV|APP/ENV|* [2d] WHY", "Forbids deployments", Verb::Freeze),
    ("!thaw", "ENV|APP/ENV|*", "Ends a freeze", Verb::Thaw),
    ("!at", "[DAY] 08:00 deploy APP to ENV", "Books a deployment", Verb::At),
    ("!booked", "[APP]", "Lists what is booked", Verb::Look),
    ("!unbook", "B-N", "Calls off what is booked", Verb::Unbook),
    ("!who", "APP", "Shows what is where", Verb::Look),
    ("!whatson", "[ENV] [1h]", "Shows what changed lately, and the alerts since", Verb::Look),
    ("!deploys", "APP [ENV] [N]", "Lists the newest runs", Verb::Look),
    ("!run", "RUN", "Shows a run", Verb::Look),
    ("!diff", "RUN", "Shows the commits of a run", Verb::Look),
    ("!tail", "RUN [STAGE]", "Sends you the end of a log in private", Verb::Look),
    ("!log", "APP [TEXT] | amend L-N TEXT", "Writes into the incident log, or reads it", Verb::Log),
    ("!sal", "APP [today|7d]", "Reads the incident log, of linked bots too", Verb::Look),
    ("!dora", "APP [30d]", "Tells how often and how well an app is deployed", Verb::Look),
    ("!predict", "APP [ENV]", "Tells how likely a deployment is to fail, and how good that is foretold", Verb::Look),
    ("!flaky", "APP [30d]", "Tells what fails most", Verb::Look),
    ("!slots", "", "Shows what stages share, and who holds it", Verb::Look),
    ("!runners", "", "Lists who does stages that name a runner: labels, slots, and how it went", Verb::Look),
    ("!apps", "", "Lists what can be deployed, and where to", Verb::Look),
];

/// What is done when a word is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// A run is asked for.
    Deploy,
    /// The same, although a rule forbids it.
    Override,
    /// It begins.
    Yes,
    /// It ends.
    Abort,
    /// It goes on where it failed.
    Retry,
    /// What it did is undone.
    Rollback,
    /// Somebody agrees.
    Approve,
    /// Somebody does not.
    Reject,
    /// What is held counts as done.
    Promote,
    /// Nothing more of it begins.
    Pause,
    /// It goes on.
    Resume,
    /// What it waits for is passed.
    Pass,
    /// A place is locked.
    Lock,
    /// One's own lock ends.
    Unlock,
    /// Another's lock ends.
    Break,
    /// A run waits behind a lock; or it is shown who waits.
    Queue,
    /// The same is asked for anew.
    Again,
    /// Nothing is deployed there.
    Freeze,
    /// A freeze ends.
    Thaw,
    /// A run is booked.
    At,
    /// It is called off.
    Unbook,
    /// The incident log gets a line.
    Log,
    /// Something is shown.
    Look,
}

/// Whether this is one of the words for pipelines.
pub fn is_word(word: &str) -> bool {
    WORDS.iter().any(|(known, ..)| *known == word)
}

/// The row of a word, with or without its `!`; else what to say.
pub fn row(word: &str) -> Result<&'static (&'static str, &'static str, &'static str, Verb), Refusal> {
    let plain = word.trim_start_matches('!');
    WORDS.iter().find(|(known, ..)| known.trim_start_matches('!') == plain).ok_or_else(|| {
        let names = WORDS.iter().map(|(known, ..)| known.trim_start_matches('!'));
        let close = masterchief_contract::closest(plain, names).map(words::or_did_you_mean);
        Refusal::wrong(words::no_such_word(plain, close.unwrap_or_default()))
    })
}

/// Whether a word only shows something.
pub fn looks(word: &str, text: &str) -> bool {
    let (first, rest) = times::split(text.trim());
    row(word).is_ok_and(|(.., verb)| match verb {
        Verb::Look => true,
        Verb::Queue => said::numbered(first).is_none() && !first.is_empty(),
        // Without words it is read.
        Verb::Log => rest.is_empty() && !matches!(first, "" | "amend"),
        _ => false,
    })
}

/// Whether somebody may say this word and what stands behind it, as far as that can be told without a run: for tables of who may
/// what. Where the word wants a run, the place stands in its stead: `!approve shop/prod`.
pub fn permits(
    catalog: &Catalog,
    groups: &BTreeMap<String, Vec<String>>,
    (word, text): (&str, &str),
    (who, may): (&Asker, &May),
) -> Result<(), Refusal> {
    let (.., verb) = row(word)?;
    if matches!(verb, Verb::Deploy | Verb::Override) {
        return catalog.permits_deploy(DeployWords::parse(text, *verb == Verb::Override)?, who, may);
    }
    if *verb == Verb::Look {
        return look::permits(catalog, word, text, (who, may));
    }
    let mut words = text.split_whitespace();
    let first = words.next().unwrap_or("");
    let place = first.split_once('/').or_else(|| Some((first, words.next()?)));
    let Some((app, env)) = place.filter(|(app, _)| !app.is_empty()) else {
        return Err(Refusal::wrong(words::place_behind_it(word)));
    };
    match verb {
        Verb::Approve | Verb::Reject => {
            catalog.permits_agreeing(app, env, may, |name| may.is_named(name, &who.handle, groups))
        }
        _ => catalog.permits_acting(app, env, may),
    }
}
