//! `.status`, `.uptime`, `.traffic`, `.rehash`, `.restart`, `.die`, `.binds`, `.modules`, `.scripts`, `.reload`: the bot
//! itself.

use masterchief_contract::{HandlerError, user_error};

use super::bots::{name, question};
use super::{Asked, Command};
use crate::mesh::Question;

pub(super) static COMMANDS: &[Command] = &[
    row!(Anywhere, "status", "m", "", "Shows how the bot is doing", status),
    row!(Anywhere, "uptime", "-", "", "Tells since when the bot runs", uptime),
    row!(Anywhere, "traffic", "m", "", "Shows lines in and out of the networks, and what was lost here", traffic),
    row!(Anywhere, "rehash", "m", "", "Reads the configuration anew; a bad one changes nothing", rehash),
    row!(
        Anywhere,
        "restart",
        "m",
        "",
        "Reads the configuration and loads every script anew; no connection is dropped",
        restart
    ),
    row!(Anywhere, "die", "n", "[words...]", "Ends the bot", die),
    row!(Anywhere, "binds", "m", "[kind]", "Lists the binds: kind, flags, mask, hits and origin", binds),
    row!(
        Anywhere,
        "modules",
        "m",
        "[bot]",
        "Lists the kinds of bind that this bot knows, or asks a linked bot for its modules",
        modules
    ),
    row!(Anywhere, "scripts", "m", "", "Lists the scripts, and how they are doing", scripts),
    row!(Anywhere, "reload", "n", "[script]", "Loads a script anew, or all of them", reload),
];

type Lines = Result<Vec<String>, HandlerError>;

async fn status(asked: &Asked) -> Lines {
    let mut lines = asked.desk.host.status().await;
    let (here, guests) = (asked.desk.party.each(|_| ()).len(), asked.desk.party.guests().len());
    lines.push(format!("partyline: {here} sessions, {guests} people on linked bots"));
    lines.extend(uptime(asked).await?);
    Ok(lines)
}

async fn uptime(asked: &Asked) -> Lines {
    let since = asked.desk.host.started();
    let up = (asked.desk.party.clock().now() - since).num_seconds().max(0);
    let (days, hours, minutes) = (up / 86_400, up / 3600 % 24, up / 60 % 60);
    Ok(vec![format!("Up for {days} days, {hours} hours and {minutes} minutes, since {}", since.format("%F %T UTC"))])
}

async fn traffic(asked: &Asked) -> Lines {
    let networks = asked.desk.host.networks();
    let row = |one: &crate::irc::Status| {
        format!(
            "{}: {} lines in, {} out, {} wait, {} dropped, {} refused, {} connections",
            one.network, one.lines_in, one.lines_out, one.queued, one.dropped, one.refused, one.connections
        )
    };
    let mut lines: Vec<String> = networks.iter().map(row).collect();
    let (slow, events) = asked.desk.party.lost();
    lines.push(format!("partyline: {slow} sessions let go because they did not read, {events} events without room"));
    Ok(lines)
}

async fn rehash(asked: &Asked) -> Lines {
    asked.desk.host.rehash().await.map_err(user_error)
}

async fn restart(asked: &Asked) -> Lines {
    asked.desk.host.announce("prerestart").await;
    // Scripts are loaded also where the configuration is not taken.
    let rehashed = asked.desk.host.rehash().await;
    let reloaded = asked.desk.host.reload(None).await;
    if let (Err(one), Err(other)) = (&rehashed, &reloaded) {
        return Err(user_error(format!("{one}; {other}")));
    }
    let lines = [rehashed, reloaded].into_iter().flat_map(|done| done.unwrap_or_else(|fault| vec![fault]));
    Ok(lines.collect())
}

async fn die(asked: &Asked) -> Lines {
    let words = asked.arg("words");
    let reason = if words.is_empty() { asked.handle().to_owned() } else { format!("{}: {words}", asked.handle()) };
    asked.desk.host.end(&reason).map_err(user_error)?;
    Ok(vec!["Goodbye.".to_owned()])
}

async fn binds(asked: &Asked) -> Lines {
    let kind = asked.arg("kind");
    let rows = asked.desk.table.rows();
    let wanted = rows.iter().filter(|row| kind.is_empty() || row.kind.name() == kind);
    let mut lines: Vec<String> = wanted
        .map(|row| {
            let behind = if row.shadowed { " (behind another)" } else { "" };
            format!(
                "{:<8} {:<8} {:<24} {:>6}  {}{behind}",
                row.kind,
                row.flags.to_string(),
                row.mask,
                row.hits,
                row.origin
            )
        })
        .collect();
    lines.push(format!("{} binds", lines.len()));
    Ok(lines)
}

async fn modules(asked: &Asked) -> Lines {
    if !asked.arg("bot").is_empty() {
        return question(asked, Question::Modules(name(asked.arg("bot"))?)).await;
    }
    Ok(asked.desk.host.modules())
}

async fn scripts(asked: &Asked) -> Lines {
    Ok(asked.desk.host.scripts().await)
}

async fn reload(asked: &Asked) -> Lines {
    let name = Some(asked.arg("script").to_owned()).filter(|name| !name.is_empty());
    asked.desk.host.reload(name).await.map_err(user_error)
}
