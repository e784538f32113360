//! `.motd`, `.info`, `.echo`: what everybody is greeted with, what one says of oneself, and one's own words.

use masterchief_contract::HandlerError;

use super::bots::{name, question};
use super::console::keep;
use super::{Asked, Command, sorry};
use crate::mesh::Question;
use crate::partyline::hall::{ECHO_SETTING, INFO_SETTING};

pub(super) static COMMANDS: &[Command] = &[
    row!(
        Anywhere,
        "motd",
        "-",
        "[bot]",
        "Shows what everybody is greeted with here, or asks a linked bot, as .botmotd does",
        motd
    ),
    row!(
        Anywhere,
        "info",
        "-",
        "[words...]",
        "Shows or changes what you say of yourself, which .whois shows; none takes it out",
        info
    ),
    row!(
        Here,
        "echo",
        "-",
        "[switch:on|off]",
        "Shows you your own words too, or no more; it is kept, and is for telnet",
        echo
    ),
];

/// The longest line that one says of oneself, in characters: as long as Eggdrop's.
const INFO_MAX: usize = 80;

type Lines = Result<Vec<String>, HandlerError>;

async fn motd(asked: &Asked) -> Lines {
    if !asked.arg("bot").is_empty() {
        return question(asked, Question::Motd(name(asked.arg("bot"))?)).await;
    }
    let lines = asked.desk.settings.load().motd.clone();
    Ok(if lines.is_empty() { vec!["There is no message of the day.".to_owned()] } else { lines })
}

async fn info(asked: &Asked) -> Lines {
    let user = asked.record()?;
    let words = asked.arg("words");
    if words.is_empty() {
        return Ok(vec![match user.settings.get(INFO_SETTING) {
            Some(info) => format!("You say of yourself: {info}"),
            None => "You say nothing of yourself; .info WORDS changes that.".to_owned(),
        }]);
    }
    if words.chars().count() > INFO_MAX {
        return sorry(format!("it has at most {INFO_MAX} characters"));
    }
    let info = Some(words.to_owned()).filter(|words| !words.eq_ignore_ascii_case("none"));
    asked.put_setting(user, INFO_SETTING, info.clone()).await?;
    Ok(vec![match info {
        Some(info) => format!("You say of yourself: {info}"),
        None => "You say nothing of yourself any more.".to_owned(),
    }])
}

async fn echo(asked: &Asked) -> Lines {
    let (idx, party) = (asked.session()?, &asked.desk.party);
    let on = match asked.arg("switch") {
        "" => {
            let on = party.session(idx, |session| session.echo).unwrap_or_default();
            return Ok(vec![format!("Your own words are {} to you.", if on { "shown" } else { "not shown" })]);
        }
        switch => switch == "on",
    };
    party.set_echo(idx, on);
    keep(asked, ECHO_SETTING, if on { "on" } else { "off" }.to_owned()).await?;
    Ok(vec![format!("Your own words are {} to you.", if on { "shown" } else { "not shown any more" })])
}
