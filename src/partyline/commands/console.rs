//! `.console` and `.page`: what a session sees of the log, and how much of an answer at once.

use masterchief_contract::{HandlerError, user_error};

use super::{Asked, Command, sorry};
use crate::partyline::console_modes::{MODES, Modes};
use crate::partyline::hall::{CONSOLE_SETTING, PAGE_SETTING};

pub(super) static COMMANDS: &[Command] = &[
    row!(
        Here,
        "console",
        "to|o",
        "[change] [level] [place]",
        "Shows or changes what you see of the log: letters as in +bc-d (+* for all), a level from error to debug, and of which channel, as in libera/#ops (* for all); it is kept",
        console
    ),
    row!(
        Here,
        "page",
        "-",
        "[lines]",
        "Shows so many lines of an answer at once, the next ones at an empty line; off shows all. It is kept, and is for telnet",
        page
    ),
];

/// Lines that fit on no screen.
const PAGE_MAX: usize = 1000;

async fn console(asked: &Asked) -> Result<Vec<String>, HandlerError> {
    let idx = asked.session()?;
    let party = &asked.desk.party;
    let mut modes = party.session(idx, |session| session.modes.clone()).unwrap_or_default();
    let most = party.most_of(&asked.standing);
    let changes: Vec<&str> =
        ["change", "level", "place"].into_iter().map(|name| asked.arg(name)).filter(|text| !text.is_empty()).collect();
    if changes.is_empty() {
        let mut lines = vec![format!("You see {modes}. The letters:")];
        let yours = MODES.iter().filter(|(.., shown)| Some(*shown) <= most);
        lines.extend(yours.map(|(letter, about, _)| format!("  {letter}  {about}")));
        return Ok(lines);
    }
    let mut nothing = String::new();
    for change in changes {
        modes = modes.change(change).map_err(user_error)?;
        if change.starts_with(['+', '-']) {
            nothing.push_str(&Modes::nothing_for(change));
        }
    }
    modes = modes.only(most);
    let mut said = vec![format!("You see {modes} now.")];
    if !nothing.is_empty() {
        said.push(format!("There is nothing here for {nothing}."));
    }
    party.set_modes(idx, modes.clone());
    keep(asked, CONSOLE_SETTING, modes.to_string()).await?;
    Ok(said)
}

/// Keeps a setting of who asks, if they have a record.
pub(super) async fn keep(asked: &Asked, setting: &str, value: String) -> Result<(), HandlerError> {
    let Ok(user) = asked.record() else { return Ok(()) };
    asked.put_setting(user, setting, Some(value)).await
}

async fn page(asked: &Asked) -> Result<Vec<String>, HandlerError> {
    let (idx, party) = (asked.session()?, &asked.desk.party);
    let lines = match asked.arg("lines") {
        "" => {
            let lines = party.session(idx, |session| session.page).unwrap_or_default();
            let now = if lines == 0 { "whole answers".to_owned() } else { format!("{lines} lines at once") };
            return Ok(vec![format!("You see {now}; .page 20 or .page off changes that.")]);
        }
        "off" | "0" => 0,
        number => match number.parse() {
            Ok(lines) if (1..=PAGE_MAX).contains(&lines) => lines,
            _ => return sorry(format!("{number:?} is not 1 to {PAGE_MAX} lines, nor off")),
        },
    };
    party.set_page(idx, lines);
    keep(asked, PAGE_SETTING, lines.to_string()).await?;
    Ok(vec![if lines == 0 {
        "You see whole answers.".to_owned()
    } else {
        format!("You see {lines} lines at once; an empty line shows the next ones.")
    }])
}
