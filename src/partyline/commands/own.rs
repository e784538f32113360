//! `.handle`, `.nick`, `.servers`, `.store`, `.save`: what people who come from Eggdrop type by habit.

use masterchief_contract::HandlerError;

use super::records::rename;
use super::{Asked, Command};

pub(super) static COMMANDS: &[Command] = &[
    row!(Anywhere, "handle", "-", "<new>", "Gives your own record another handle", handle),
    row!(Anywhere, "nick", "-", "<new>", "The same as .handle", handle),
    row!(
        Anywhere,
        "servers",
        "o",
        "",
        "Lists the networks, on which server the bot is, and why it is on none",
        servers
    ),
    row!(Here, "store", "-", "", "Shows what of .console and .page is kept for you, which is what you see now", store),
    row!(
        Anywhere,
        "save",
        "m",
        "",
        "Lets scripts keep what they hold (evnt save), and tells where records are: each change is written before it is answered",
        save
    ),
];

type Lines = Result<Vec<String>, HandlerError>;

async fn handle(asked: &Asked) -> Lines {
    let user = asked.record()?;
    let new = asked.arg("new");
    rename(asked, &user, new).await?;
    let told = format!("You are {new} now; log in by that name from now on.");
    // Who asked by the old name is here by the new one when the answer comes.
    let told = match asked.idx {
        Some(idx) => {
            asked.desk.party.tell(idx, &told);
            Vec::new()
        }
        None => vec![told],
    };
    asked.desk.party.renamed(&[(user.handle, new.to_owned())]);
    Ok(told)
}

async fn servers(asked: &Asked) -> Lines {
    let networks = asked.desk.host.networks();
    if networks.is_empty() {
        return Ok(vec!["There are no networks; the bot lives on its own partyline.".to_owned()]);
    }
    let line = |status: crate::irc::Status| {
        let lag = status.lag_ms.map(|lag| format!(", {lag} ms away")).unwrap_or_default();
        match (status.connected, status.trouble) {
            (true, _) => format!("{}: on {} as {}{lag}", status.network, status.server, status.nick),
            (false, Some(why)) => format!("{}: not connected, last tried {}: {why}", status.network, status.server),
            (false, None) => format!("{}: connecting to {}", status.network, status.server),
        }
    };
    Ok(networks.into_iter().map(line).collect())
}

async fn store(asked: &Asked) -> Lines {
    let idx = asked.session()?;
    let party = &asked.desk.party;
    let (modes, page) = party.session(idx, |session| (session.modes.to_string(), session.page)).unwrap_or_default();
    Ok(vec![format!("Kept for you: .console {modes}, .page {page}; a change is kept at once.")])
}

async fn save(asked: &Asked) -> Lines {
    asked.desk.host.announce("save").await;
    let people = asked.desk.book.all().len();
    Ok(vec![format!("{people} records are in the data folder already: each change is written before it is answered.")])
}
