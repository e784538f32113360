//! `.console`: what of the log a session sees.

use masterchief_contract::{HandlerError, user_error};

use super::{Asked, Command, Reach};
use crate::partyline::console_modes::MODES;
use crate::partyline::hall::CONSOLE_SETTING;

pub(super) static COMMANDS: &[Command] = &[Command {
    name: "console",
    flags: "m",
    usage: "[change] [level]",
    help: "Shows or changes what you see of the log: letters as in +bc-d (+* for all), and a level from error to trace; it is kept",
    reach: Reach::Here,
    run: |asked| Box::pin(async move { console(&asked).await }),
}];

async fn console(asked: &Asked) -> Result<Vec<String>, HandlerError> {
    let idx = asked.session()?;
    let party = &asked.desk.party;
    let mut modes = party.session(idx, |session| session.modes).unwrap_or_default();
    let changes: Vec<&str> =
        ["change", "level"].into_iter().map(|name| asked.arg(name)).filter(|text| !text.is_empty()).collect();
    if changes.is_empty() {
        let mut lines = vec![format!("You see {modes}. The letters:")];
        lines.extend(MODES.iter().map(|(letter, about)| format!("  {letter}  {about}")));
        return Ok(lines);
    }
    for change in changes {
        modes = modes.change(change).map_err(user_error)?;
    }
    party.set_modes(idx, modes);
    if let Some(user) = asked.desk.book.get(asked.handle()) {
        let mut user = crate::users::User::clone(&user);
        user.settings.insert(CONSOLE_SETTING.to_owned(), modes.to_string());
        asked.put(user).await?;
    }
    Ok(vec![format!("You see {modes} now.")])
}
