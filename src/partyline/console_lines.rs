//! What happens on networks as lines of the console: who comes and goes, kicks and modes, and the lines of servers. Words are shown
//! when binds have had their say about them.

use masterchief_contract::{Event, Kind};
use tracing::Level;

use super::console_modes::Shown;
use super::here::watches;
use super::news::What;
use super::party::{NETWORK, Party};
use super::room::bare;

/// The letters that lines of this sort have.
pub(super) const LETTERS: &str = "mpjkrw";
/// The letter of each line of a server: they become events only where somebody wants them.
pub(super) const EACH: &str = "r";
/// The longest line of a server that is shown, in bytes.
const LONGEST: usize = 1000;

impl Party {
    /// Shows something that happened on a network to those who want to see it and may. Costs a look at a number where nobody does.
    pub fn shows(&self, event: &Event) {
        if !self.wants_lines() || event.network.is_empty() || &*event.network == NETWORK {
            return;
        }
        if let Some((mode, text)) = line_of(event) {
            self.show_line(event, mode, &text);
        }
    }

    /// Shows a line about something that happened on a network to those who want to see it and may.
    pub fn show_line(&self, event: &Event, mode: char, text: &str) {
        let text = &text[..text.floor_char_boundary(LONGEST)];
        let place = event.chan().map(|chan| format!("{}/{chan}", event.network));
        let wants = |session: &super::room::Session| {
            let wants = session.modes.wants(mode, Level::INFO);
            (wants && place.as_deref().is_none_or(|place| session.modes.wants_place(place))).then_some(session.idx)
        };
        let may = |idx: &u32| {
            let Some(standing) = self.standing(*idx) else { return false };
            match (self.most_of(&standing), event.chan()) {
                (Some(Shown::Watchers), Some(chan)) => watches(&standing, &event.network, chan),
                (most, _) => most > Some(Shown::Watchers),
            }
        };
        let to: Vec<u32> = self.each(wants).into_iter().flatten().filter(may).collect();
        if to.is_empty() {
            return;
        }
        self.change(|room, now| {
            let from = bare(&room.bot);
            for idx in to {
                room.tell(idx, from.clone(), What::Log { mode, level: Level::INFO, text: text.to_owned() }, now);
            }
        });
    }
}

/// An event as a line, and its letter.
fn line_of(event: &Event) -> Option<(char, String)> {
    let at = event.chan().map_or_else(|| event.network.to_string(), |chan| format!("{}/{chan}", event.network));
    let actor = event.actor.as_ref();
    let nick = actor.map_or("", |actor| actor.nick.as_str());
    let whole = || actor.map_or(String::new(), |actor| format!("{}!{}@{}", actor.nick, actor.user, actor.host));
    let (text, target) = (&event.text, event.field_str("target"));
    let first = *event.kinds.first()?;
    let line = match first {
        Kind::Join => ('j', format!("{} joined", whole())),
        Kind::Part => ('j', format!("{} left: {text}", whole())),
        Kind::Sign => ('j', format!("{} quit: {text}", whole())),
        Kind::Splt => ('j', format!("{nick} was lost in a netsplit")),
        Kind::Rejn => ('j', format!("{nick} is back from a netsplit")),
        Kind::Nick => ('j', format!("{nick} is {} now", event.field_str("newnick"))),
        Kind::Kick => ('k', format!("{target} was kicked by {nick}: {text}")),
        Kind::Mode => ('k', format!("mode {} {target} by {nick}", event.field_str("mode"))),
        Kind::Topc => ('k', format!("topic by {nick}: {text}")),
        Kind::Rawt => ('r', format!("<- {} {} {text}", event.field_str("from"), event.field_str("keyword"))),
        _ => return None,
    };
    Some((line.0, format!("[{at}] {}", line.1)))
}
