//! Everything the bot says of its own accord, one named function a message.

use std::time::Duration;

use chrono::DateTime;
use masterchief_contract::{Cause, Event, Kind, Who};

use super::scripts::Reloaded;
use crate::journal::{DeadRow, DeadState, LetGo};
use crate::pipelines::Run;
use crate::store::SaidRow;

/// In the channel, for a fault: the text of the fault is in the log under the same name.
pub(crate) fn fault(name: &str) -> String {
    format!("error {name}")
}

/// To a person who calls a command again too soon.
pub(crate) fn cooling_down(command: &str, left: Duration) -> String {
    format!("{command}: try again in {}", rounded_up(left))
}

/// To a person whose call took too long.
pub(crate) fn timed_out(command: &str, after: Duration) -> String {
    format!("{command}: gave up after {}; ask an operator, or try again", rounded_up(after))
}

/// To a person whose call finds too many others running.
pub(crate) fn busy(command: &str) -> String {
    format!("{command} is busy; try again in a while")
}

/// To who asks by CTCP.
pub(crate) fn version() -> String {
    format!("masterchief {}", env!("CARGO_PKG_VERSION"))
}

/// A command in the command log, as Eggdrop writes it: `<<nick>> !handle! words` for a channel, `(nick!user@host) !handle! words` for
/// words in private, `#handle# words` for the partyline.
pub(crate) fn command(event: &Event, kind: Kind, who: &Who, hide: impl Fn(&str) -> String) -> String {
    let (handle, words) = (who.handle.as_deref().unwrap_or("*"), hide(&event.text));
    match kind {
        Kind::Pub => format!("<<{}>> !{handle}! {words}", event.nick()),
        Kind::Msg => {
            let from = event.actor.as_ref().map(|actor| actor.source()).unwrap_or_default();
            format!("({from}) !{handle}! {words}")
        }
        _ => format!("#{handle}# {words}"),
    }
}

/// A line in the log of a channel, or of what is said in private; nothing for what is no words.
pub(crate) fn overheard(event: &Event) -> Option<String> {
    let place = event.chan().map(|chan| format!("[{}/{chan}] ", event.network)).unwrap_or_default();
    let (nick, text) = (event.nick(), event.text());
    let source = || event.actor.as_ref().map(|actor| actor.source()).unwrap_or_default();
    Some(match (event.kinds.first()?, event.chan()) {
        (&Kind::Pubm, _) => format!("{place}<{nick}> {text}"),
        (&Kind::Msgm, _) => format!("[{}] {text}", source()),
        (&Kind::Notc, Some(_)) => format!("{place}-{nick}- {text}"),
        (&Kind::Notc, None) => format!("-{}- {text}", source()),
        (&Kind::Ctcp, _) if event.field_str("keyword") == "ACTION" => format!("{place}* {nick} {text}"),
        (&Kind::Wall, _) => format!("!{}! {text}", event.field_str("from")),
        _ => return None,
    })
}

/// To a master who ignores a mask.
pub(crate) fn ignoring(mask: &str, time: Duration) -> String {
    format!("Not listening to {mask} for {}", in_units(time))
}

/// To a master whose mask would be everybody's.
pub(crate) fn mask_too_wide(mask: &str) -> String {
    format!("{mask} would be nearly everybody; name a nick, user@host or nick!user@host")
}

/// To a master who listens again.
pub(crate) fn listening(mask: &str) -> String {
    format!("Listening to {mask} again")
}

/// To a master who would listen to somebody who is heard already.
pub(crate) fn not_ignored(mask: &str) -> String {
    format!("{mask} is not ignored; !ignores or .ignores lists who is")
}

/// To everybody: somebody lends themselves what their record allows.
pub(crate) fn sudo_begins(handle: &str, lent: &str, time: Duration, why: &str) -> String {
    format!("{handle} is elevated ({lent}) for {}: {why}. !sudo off ends it.", in_units(time))
}

/// To everybody: they do so no more.
pub(crate) fn sudo_ends(handle: &str, why: &str) -> String {
    format!("{handle} is not elevated any more: {why}.")
}

/// To somebody for whom nothing vouches.
pub(crate) fn sudo_unknown() -> String {
    "I do not know you well enough: log in to services first, as somebody with a record".to_owned()
}

/// To somebody whose record lends nothing.
pub(crate) fn sudo_nothing(handle: &str) -> String {
    format!("your record lends you nothing; ask an owner: masterchief users sudo {handle} +FLAGS")
}

/// To somebody who wants it for too long, or for no time at all.
pub(crate) fn sudo_time(max: Duration) -> String {
    format!("say for how long, {} at most, and why: !sudo 15m the disk is full", in_units(max))
}

/// To somebody who does not say why.
pub(crate) fn sudo_why() -> String {
    "say why: !sudo 15m the disk is full".to_owned()
}

/// To somebody who asks where nobody sees it.
pub(crate) fn sudo_unseen() -> String {
    "say it in a channel, where others see it (or an owner sets users.sudo.announce)".to_owned()
}

/// To somebody who is not elevated.
pub(crate) fn sudo_is_off() -> String {
    "you are not elevated here".to_owned()
}

/// A time as it is written in commands: `1h 30m`.
fn in_units(time: Duration) -> String {
    humantime_serde::re::humantime::format_duration(Duration::from_secs(time.as_secs())).to_string()
}

/// To an operator who asks about a line that nobody knows, or that is none of theirs.
pub(crate) fn no_such_line(asked: &str) -> String {
    let what = if asked.is_empty() { "nothing I said here".to_owned() } else { format!("no line {asked}") };
    format!("There is {what} that I can tell about; !why, !why 2, !why L1234, or !why as a reply to the line")
}

/// To an operator: a line the bot said, what became of it, and why it was said.
pub(crate) fn why(row: &SaidRow, cause: &Cause, run: Option<&Run>) -> Vec<String> {
    let at = |millis: i64| DateTime::from_timestamp_millis(millis).unwrap_or_default().format("%F %T").to_string();
    let reason = if row.reason.is_empty() { String::new() } else { format!(", {}", row.reason) };
    let line = format!(
        "L{} to {}/{} at {}Z, {}, {}{reason}: {}",
        row.id,
        row.network,
        row.target,
        at(row.at),
        row.class,
        row.state,
        shortened(&row.text)
    );
    let mut parts: Vec<String> = Vec::new();
    if !cause.by.is_empty() {
        let handle = if cause.handle.is_empty() { "a stranger".to_owned() } else { format!("handle {}", cause.handle) };
        let said =
            if cause.words.is_empty() { "in private".to_owned() } else { format!("{:?}", shortened(&cause.words)) };
        parts.push(format!("{} ({handle}) {said} in {}", cause.by, cause.place));
    }
    if cause.event != 0 {
        parts.push(format!("event {} as {} {}", cause.event, cause.kind, cause.mask));
    }
    if !cause.origin.is_empty() {
        let version = if cause.version.is_empty() { String::new() } else { format!(" version {}", cause.version) };
        parts.push(format!("{}{version}", cause.origin));
    }
    if !cause.call.is_empty() {
        parts.push(format!("call {}", cause.call));
    }
    if let Some(run) = run {
        parts.push(format!(
            "run {} of {} {} to {}, asked for by {}",
            run.number, run.app, run.version, run.env, run.asker.nick
        ));
    }
    if parts.is_empty() {
        parts.push("of its own accord".to_owned());
    }
    vec![line, format!("because of {}", parts.join("; "))]
}

/// So many letters of a line are quoted.
const QUOTED: usize = 120;

fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(QUOTED).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// Who is ignored, for how much longer and why.
pub(crate) fn ignores(all: &[(&str, Option<Duration>, &str)]) -> Vec<String> {
    if all.is_empty() {
        return vec!["Nobody is ignored".to_owned()];
    }
    let row = |(mask, left, reason): &(&str, Option<Duration>, &str)| {
        let left = left.map_or("for ever".to_owned(), |left| format!("for {}", in_units(left)));
        format!("{mask} {left}: {reason}")
    };
    all.iter().map(row).collect()
}

/// On shutdown, to the networks.
pub(crate) fn goodbye(reason: &str) -> String {
    if reason.is_empty() { "MasterChief is going down".to_owned() } else { reason.to_owned() }
}

/// To somebody who asks for help on a command that is not there, or not for them.
pub(crate) fn no_such_command(command: &str, suggestion: Option<&str>) -> String {
    match suggestion {
        Some(close) => format!("There is no {command} for you here. Did you mean {close}?"),
        None => format!("There is no {command} for you here. !help lists what you may use."),
    }
}

/// One command in `!help`.
pub(crate) fn help_line(command: &str, usage: Option<&str>, help: Option<&str>) -> String {
    let mut line = command.to_owned();
    if let Some(usage) = usage.filter(|usage| !usage.is_empty()) {
        line.push(' ');
        line.push_str(usage);
    }
    if let Some(help) = help {
        line.push_str(" - ");
        line.push_str(help);
    }
    line
}

/// `!help` without a command: the words one may use.
pub(crate) fn help_overview(commands: &[String]) -> Vec<String> {
    if commands.is_empty() {
        return vec![
            "There is nothing you may use here. An owner can give you flags: masterchief users chattr".to_owned(),
        ];
    }
    vec![format!("Commands for you here: {}", commands.join(" ")), "!help COMMAND says more about one.".to_owned()]
}

/// To who reloads where there is nothing to reload.
pub(crate) fn no_scripts() -> String {
    "this bot has no scripts".to_owned()
}

/// To who reloads a script that is not there.
pub(crate) fn no_such_script(name: &str) -> String {
    format!("there is no script {name}")
}

/// What came of a reload.
pub(crate) fn reloaded(report: &Reloaded) -> Vec<String> {
    let mut lines = Vec::new();
    if !report.loaded.is_empty() {
        lines.push(format!("loaded {}", report.loaded.join(" ")));
    }
    if !report.removed.is_empty() {
        lines.push(format!("removed {}", report.removed.join(" ")));
    }
    lines.extend(report.failed.iter().map(|fault| format!("{fault}; a version before, if there was one, serves on")));
    if lines.is_empty() {
        lines.push("there is nothing to load".to_owned());
    }
    lines
}

/// Whole seconds, at least one.
fn rounded_up(time: Duration) -> String {
    let seconds = time.as_millis().div_ceil(1000).max(1);
    match seconds {
        0..60 => format!("{seconds} s"),
        _ => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

/// An event was given up.
pub(crate) fn dead_letter(number: u64, bind: &str, attempts: u32, reason: &str) -> String {
    let reason: String = reason.chars().take(200).collect();
    format!(
        "dead letter: event {number} for {bind} after {attempts} tries: {reason} (.dlq shows it, !replay {number} tries it dry)"
    )
}

/// The process died during a call that must not be made twice.
pub(crate) fn held(number: u64, bind: &str) -> String {
    format!(
        "held: event {number} for {bind} was being handled when the process died, and those behind it wait: .dlq retry -{number} does it once more, .dlq drop -{number} leaves it"
    )
}

/// So much waits for a bind that it begins nothing new.
pub(crate) fn stands_still(bind: &str, waiting: usize) -> String {
    format!(
        "{bind} begins nothing new: {waiting} events wait behind ones that fail, are held or take long (.dlq shows what is held)"
    )
}

/// A stream has as much of the journal as it may.
pub(crate) fn crowded(stream: &str, last: Option<&(String, u64)>) -> String {
    let whose = last.map_or(String::new(), |(bind, behind)| format!(", and {bind} is {behind} behind"));
    format!(
        "{stream} has its share of the journal{whose}: nothing more is read of it until there is room; others go on"
    )
}

/// A bind is gone for good, and had not done all that it wanted.
pub(crate) fn let_go(gone: &LetGo) -> String {
    let LetGo { bind, stream, letters, rest, numbers } = gone;
    let rest = numbers.map_or(String::new(), |(first, last)| {
        format!("; up to {rest} more, events {first} to {last} of {stream}, are handled by nobody and stay for as long as the journal keeps them")
    });
    format!("{bind} is gone for good: {letters} events that it had not done are dead letters (.dlq){rest}")
}

/// To whoever asks for one dead letter and does not say which.
pub(crate) fn name_a_letter() -> String {
    "name one by its number, as in .dlq show 3; .dlq lists them".to_owned()
}

/// There is no such dead letter.
pub(crate) fn no_such_letter(id: i64) -> String {
    format!("there is no dead letter {id}; .dlq lists them")
}

/// The newest dead letters.
pub(crate) fn letters(rows: &[DeadRow], all: u64) -> Vec<String> {
    if rows.is_empty() {
        return vec!["no dead letters".to_owned()];
    }
    let mut lines: Vec<String> = rows.iter().map(letter_line).collect();
    let more = all.saturating_sub(rows.len() as u64);
    if more > 0 {
        lines.push(format!("and {more} more: masterchief dlq list"));
    }
    lines
}

fn letter_line(row: &DeadRow) -> String {
    let state = if row.state == DeadState::Held { "held" } else { "dead" };
    let what = row.number.map_or("not understood".to_owned(), |number| format!("event {number}"));
    let whose = if row.bind.is_empty() { &row.stream } else { &row.bind };
    let reason: String = row.reason.chars().take(150).collect();
    format!("{} {state} {} {what} for {whose}: {reason}", row.id, row.at.format("%F %T"))
}

/// One dead letter.
pub(crate) fn letter(row: &DeadRow) -> Vec<String> {
    let mut lines = vec![letter_line(row)];
    if let Some(event) = &row.event {
        let text: String = event.text.chars().take(300).collect();
        lines.push(format!("lane {}, {} tries: {text}", event.lane, row.attempts));
    }
    if let Some(raw) = &row.raw {
        let text: String = String::from_utf8_lossy(raw).chars().take(300).collect();
        lines.push(format!("lane {}, {} bytes: {text}", row.lane, raw.len()));
    }
    lines
}

/// A dead letter gets another round of tries.
pub(crate) fn letter_retried(id: i64, bind: &str) -> String {
    format!("{id} is tried again by {bind}")
}

/// A dead letter that has no bind.
pub(crate) fn letter_cannot_be_retried(id: i64) -> String {
    format!("no bind that is there now could try {id}; .dlq show {id} shows it, .dlq drop {id} drops it")
}

/// A dead letter is thrown away.
pub(crate) fn letter_dropped(id: i64) -> String {
    format!("{id} is dropped")
}

/// There is no such event.
pub(crate) fn no_such_event(number: u64) -> String {
    format!("event {number} is not in the journal; `masterchief events list` shows what is")
}

/// What an event would lead to.
pub(crate) fn dry_replay(number: u64, lines: Vec<String>) -> Vec<String> {
    if lines.is_empty() {
        return vec![format!("no bind wants event {number} now")];
    }
    let mut out = vec![format!("event {number}, dry: nothing is done")];
    out.extend(lines);
    out
}

/// An event is given to binds again.
pub(crate) fn replayed(number: u64, binds: usize, speak: bool) -> String {
    let binds = if binds == 1 { "1 bind".to_owned() } else { format!("{binds} binds") };
    let quiet = if speak { "" } else { "; what it would say goes to the log" };
    format!("event {number} is given to {binds} again{quiet}")
}
