//! The commands: one row each, the same for telnet, IRC clients, pages, the terminal and `/msg` on networks.
//!
//! A command is a bind of kind `dcc` like any other: the street judges flags, audits, limits and answers.

/// A row: where it reaches, its word, flags, usage and help, and an async function of what was asked.
macro_rules! row {
    ($reach:ident, $name:literal, $flags:literal, $usage:literal, $help:literal, $run:expr) => {
        super::Command {
            name: $name,
            flags: $flags,
            usage: $usage,
            help: $help,
            reach: super::Reach::$reach,
            run: |asked| Box::pin(async move { $run(&asked).await }),
        }
    };
}

mod asked;
mod at;
mod away;
mod bans;
mod boot;
mod bot;
mod bots;
mod channels;
mod chanset;
mod console;
mod elsewhere;
mod help;
mod look;
mod motd;
mod noteign;
mod notes;
mod outside;
mod own;
mod passes;
mod policy;
mod records;
mod secrets;
mod talk;
mod who;

use std::sync::Arc;

use masterchief_contract::{
    BindOptions, Event, Future, Handler, HandlerError, HandlerResult, Kind, Outcome, user_error,
};

use super::kinds::{CHON, DCC};
use super::party::NETWORK;
use crate::dispatch::{BindFault, Kinds, NewBind};

use asked::Asked;
pub use asked::{Desk, Host};
pub use elsewhere::ELSEWHERE;
pub use notes::{Left, deliver_note, leave_note};
pub use outside::word_for;

/// The owner of these binds.
pub const OWNER: &str = "partyline";
/// Lines that are answered on a network; there is more room on the partyline.
const LINES_ON_NETWORKS: usize = 15;

/// What a command gives: lines, or words about what is wrong.
type Given = Future<Result<Vec<String>, HandlerError>>;

/// One command.
pub struct Command {
    /// The word, without its dot.
    pub name: &'static str,
    /// Who may: `-` is everybody on the partyline.
    pub flags: &'static str,
    /// The grammar of its arguments.
    pub usage: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Where it can be given.
    pub reach: Reach,
    /// Does it.
    run: fn(Asked) -> Given,
}

/// Where a command can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// On the partyline, and in private on networks by who is vouched for there.
    Anywhere,
    /// On the partyline.
    Here,
    /// On the partyline, and what stands behind so many words is a secret that is written down nowhere.
    Secret(usize),
}

/// All of them.
static COMMANDS: &[&[Command]] = &[
    at::COMMANDS,
    away::COMMANDS,
    bans::COMMANDS,
    boot::COMMANDS,
    bot::COMMANDS,
    bots::COMMANDS,
    channels::COMMANDS,
    chanset::COMMANDS,
    console::COMMANDS,
    help::COMMANDS,
    look::COMMANDS,
    motd::COMMANDS,
    noteign::COMMANDS,
    notes::COMMANDS,
    outside::COMMANDS,
    own::COMMANDS,
    passes::COMMANDS,
    policy::COMMANDS,
    records::COMMANDS,
    secrets::COMMANDS,
    talk::COMMANDS,
    who::COMMANDS,
];

/// All rows.
fn rows() -> impl Iterator<Item = &'static Command> {
    COMMANDS.iter().flat_map(|rows| rows.iter())
}

/// The arguments of a command that may be written down, and those that may not.
pub(super) fn parted<'a>(word: &str, rest: &'a str) -> (&'a str, Option<&'a str>) {
    let Some(Reach::Secret(shown)) = rows().find(|row| row.name == word).map(|row| row.reach) else {
        return (rest, None);
    };
    let mut at = 0;
    for _ in 0..shown {
        let tail = &rest[at..];
        let word = tail
            .trim_start()
            .find(char::is_whitespace)
            .map_or(tail.len(), |end| tail.len() - tail.trim_start().len() + end);
        at += word;
    }
    (rest[..at].trim(), Some(rest[at..].trim()))
}

/// The binds of all commands.
pub fn binds(kinds: &Kinds, desk: &Arc<Desk>) -> Result<Vec<NewBind>, BindFault> {
    let mut binds = Vec::new();
    for row in rows() {
        let options = BindOptions {
            usage: Some(row.usage.to_owned()),
            help: Some(row.help.to_owned()),
            ..BindOptions::default()
        };
        let handler: Arc<dyn Handler> = Arc::new(Word { desk: Arc::clone(desk), row });
        binds.push(NewBind::parse(kinds, DCC.name(), row.flags, row.name, options.clone(), Arc::clone(&handler))?);
        if row.reach == Reach::Anywhere {
            // Strangers are on networks too.
            let flags = if row.flags == "-" { "p" } else { row.flags };
            let mask = format!(".{}", row.name);
            binds.push(NewBind::parse(kinds, Kind::Msg.name(), flags, &mask, options, handler)?);
        } else if row.name != outside::TAKEN {
            binds.push(elsewhere::bind(kinds, desk, row)?);
        }
    }
    let waiting: Arc<dyn Handler> = Arc::new(notes::Waiting(Arc::clone(desk)));
    binds.push(NewBind::parse(kinds, CHON.name(), "-|-", "*", BindOptions::default(), waiting)?);
    Ok(binds)
}

/// A command as a handler.
struct Word {
    desk: Arc<Desk>,
    row: &'static Command,
}

impl Handler for Word {
    fn call(&self, event: Event) -> Future<HandlerResult> {
        let asked = Asked::new(Arc::clone(&self.desk), event);
        let here = asked.event.network.as_ref() == NETWORK;
        let run = self.row.run;
        Box::pin(async move {
            if !here && !asked.standing.who.vouched {
                // A hostmask may be made up, and some of these make rights that last.
                return Err(user_error("log in to services first, or come to the partyline"));
            }
            let mut lines = run(asked).await?;
            if !here && lines.len() > LINES_ON_NETWORKS {
                let more = lines.len() - LINES_ON_NETWORKS;
                lines.truncate(LINES_ON_NETWORKS);
                lines.push(format!("… and {more} more lines; ask on the partyline for all of them"));
            }
            Ok(Outcome::Reply(lines))
        })
    }

    fn origin(&self) -> String {
        OWNER.to_owned()
    }
}

/// Words about what is wrong.
fn sorry<T>(text: impl Into<String>) -> Result<T, HandlerError> {
    Err(user_error(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What operators who come from Eggdrop type, and what is our own.
    const WANTED: &str = "help who whom whoami bots bottree link unlink chat console me note notes away back boot chattr +user -user \
        adduser +host -host chhandle chpass newpass match whois status rehash restart die binds channel +chan -chan chanset chaninfo \
        say msg act op deop voice devoice invite kick topic ban +ban -ban bans stick unstick traffic uptime \
        modules page quit botinfo trace +bot -bot chaddr botattr comment dlq runs run deploy locks sources events scripts reload \
        caps audit policy at boot handle nick servers store save kickban halfop dehalfop motd info echo vbottree \
        +noteign -noteign noteigns +exempt -exempt exempts +invite -invite invites";

    #[test]
    fn every_command_that_is_promised_is_there() {
        let missing: Vec<&str> = WANTED.split_whitespace().filter(|name| rows().all(|row| row.name != *name)).collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn what_is_taken_on_the_partyline_alone_stands_in_the_readme() {
        // The word `.dlq` is one of the bot's own elsewhere.
        let here = rows().filter(|row| row.reach != Reach::Anywhere && row.name != outside::TAKEN);
        let mut here: Vec<String> = here.map(|row| format!(".{}", row.name)).collect();
        here.sort_unstable();
        let sentence = format!("`{}`", here.join(" "));
        assert!(include_str!("../../../README.md").contains(&sentence), "{sentence}");
    }

    #[test]
    fn every_row_is_a_good_bind_and_no_word_stands_twice() {
        use crate::dispatch::Usage;
        let mut names: Vec<&str> = rows().map(|row| row.name).collect();
        for row in rows() {
            assert!(Usage::parse(row.usage).is_ok(), "{}: {}", row.name, row.usage);
            assert!(crate::users::FlagMask::parse(row.flags).is_ok(), "{}", row.name);
            assert!(!row.help.ends_with('.') && !row.help.is_empty(), "{}", row.name);
        }
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
