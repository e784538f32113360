//! `.say`, `.act`, `.msg`, `.op`, `.deop`, `.halfop`, `.dehalfop`, `.voice`, `.devoice`, `.invite`, `.kick`, `.topic`, `.channel`: channels of networks.

use masterchief_contract::{Action, HandlerError, How, split_place, user_error};

use super::{Asked, Command, sorry};

/// Members in one line.
const IN_A_ROW: usize = 10;

pub(super) static COMMANDS: &[Command] = &[
    row!(
        Anywhere,
        "say",
        "o|o",
        "<channel> <words...>",
        "Says something in a channel: libera/#ops, or #ops where there is one network",
        say
    ),
    row!(Anywhere, "act", "o|o", "<channel> <words...>", "Acts in a channel", act),
    row!(Anywhere, "msg", "o", "<nick> <words...>", "Says something to somebody on a network: libera/alice", msg),
    row!(Anywhere, "op", "o|o", "<channel> <nick>", "Gives somebody the sign @", op),
    row!(Anywhere, "deop", "o|o", "<channel> <nick>", "Takes the sign @ away", deop),
    row!(Anywhere, "halfop", "ol|ol", "<channel> <nick>", "Gives somebody the sign %, where a network has it", halfop),
    row!(Anywhere, "dehalfop", "ol|ol", "<channel> <nick>", "Takes the sign % away", dehalfop),
    row!(Anywhere, "voice", "ov|ov", "<channel> <nick>", "Gives somebody the sign +", voice),
    row!(Anywhere, "devoice", "ov|ov", "<channel> <nick>", "Takes the sign + away", devoice),
    row!(Anywhere, "invite", "o|o", "<channel> <nick>", "Invites somebody into a channel", invite),
    row!(Anywhere, "kick", "o|o", "<channel> <nick> [words...]", "Kicks somebody from a channel", kick),
    row!(Anywhere, "topic", "o|o", "<channel> <words...>", "Sets the topic of a channel", topic),
    row!(Anywhere, "channel", "o|o", "[channel]", "Lists the channels the bot is in, or who is in one", channel),
];

type Lines = Result<Vec<String>, HandlerError>;

/// The channel of a command, in which who asks has these flags.
pub(super) fn place(asked: &Asked, flags: &str) -> Result<(String, String), HandlerError> {
    place_of(asked, asked.arg("channel"), flags)
}

/// Whether this names a channel, with its network or without.
fn is_channel(text: &str) -> bool {
    split_place(text).1.starts_with(['#', '&', '+', '!'])
}

/// The channel and the nick of a command, in which who asks has these flags: in our order, or in Eggdrop's.
fn place_and_nick(asked: &Asked, flags: &str) -> Result<((String, String), String), HandlerError> {
    let (channel, nick) = (asked.arg("channel"), asked.arg("nick"));
    let (channel, nick) = if !is_channel(channel) && is_channel(nick) { (nick, channel) } else { (channel, nick) };
    Ok((place_of(asked, channel, flags)?, nick.to_owned()))
}

/// A channel of a network, in which who asks has these flags.
pub(super) fn place_of(asked: &Asked, text: &str, flags: &str) -> Result<(String, String), HandlerError> {
    let (network, channel) = split_place(text);
    let networks = asked.desk.host.networks();
    let names = || networks.iter().map(|one| format!("{}/#ops", one.network)).collect::<Vec<_>>().join(" or ");
    let network = match (network, networks.as_slice()) {
        (_, []) => return sorry("the bot is on no network"),
        _ if !is_channel(text) => return sorry(format!("{text:?} is no channel, which is written as in {}", names())),
        ("", [one]) => one.network.clone(),
        ("", _) => return sorry(format!("say which network is meant, as in {}", names())),
        (name, all) => match all.iter().find(|one| one.network == name) {
            Some(one) => one.network.clone(),
            None => return sorry(format!("there is no network {name}; channels are written as in {}", names())),
        },
    };
    if !asked.may(flags, Some((&network, channel))) {
        return sorry(format!("{network}/{channel} is not yours: it needs the flags {flags}"));
    }
    Ok((network, channel.to_owned()))
}

/// The channel of a command, before which the sign of a status may stand: `@#ops` is its operators, where the server has that.
fn heard_in(asked: &Asked) -> Result<(String, String), HandlerError> {
    let (network, target) = split_place(asked.arg("channel"));
    let (signs, channel) = split_status(target);
    let named = if network.is_empty() { channel.to_owned() } else { format!("{network}/{channel}") };
    let (network, channel) = place_of(asked, &named, "o|o")?;
    Ok((network, format!("{signs}{channel}")))
}

/// The signs of a status and the channel behind them. `&` and `+` begin channels, too, so they are signs only before another one.
fn split_status(target: &str) -> (&str, &str) {
    let before = target.find('#').filter(|at| target[..*at].chars().all(|sign| "~&@%+".contains(sign)));
    target.split_at(before.unwrap_or_else(|| target.len() - target.trim_start_matches(['~', '@', '%']).len()))
}

async fn say(asked: &Asked) -> Lines {
    let (network, channel) = heard_in(asked)?;
    asked.say(&format!("{network}/{channel}"), asked.arg("words"), How::Say).await?;
    Ok(vec![format!("Said in {network}/{channel}.")])
}

async fn act(asked: &Asked) -> Lines {
    let (network, channel) = heard_in(asked)?;
    asked.say(&format!("{network}/{channel}"), asked.arg("words"), How::Act).await?;
    Ok(vec![format!("Acted in {network}/{channel}.")])
}

async fn msg(asked: &Asked) -> Lines {
    let nick = asked.arg("nick");
    if split_place(nick).1.starts_with(['#', '&', '+', '!']) {
        return sorry(".say speaks in channels");
    }
    asked.say(nick, asked.arg("words"), How::Say).await?;
    Ok(vec![format!("Said to {nick}.")])
}

async fn send(asked: &Asked, network: String, command: &str, params: Vec<String>) -> Lines {
    let action = Action::Send { network, command: command.to_owned(), params };
    asked.desk.outlet.perform(action).await.map_err(|refused| user_error(refused.message))?;
    Ok(vec!["Sent.".to_owned()])
}

/// Changes a sign of somebody in a channel where who asks has these flags.
async fn mode(asked: &Asked, flags: &str, change: &str) -> Lines {
    let ((network, channel), nick) = place_and_nick(asked, flags)?;
    send(asked, network, "MODE", vec![channel, change.to_owned(), nick]).await
}

async fn op(asked: &Asked) -> Lines {
    mode(asked, "o|o", "+o").await
}

async fn deop(asked: &Asked) -> Lines {
    mode(asked, "o|o", "-o").await
}

async fn halfop(asked: &Asked) -> Lines {
    mode(asked, "ol|ol", "+h").await
}

async fn dehalfop(asked: &Asked) -> Lines {
    mode(asked, "ol|ol", "-h").await
}

async fn voice(asked: &Asked) -> Lines {
    mode(asked, "ov|ov", "+v").await
}

async fn devoice(asked: &Asked) -> Lines {
    mode(asked, "ov|ov", "-v").await
}

async fn invite(asked: &Asked) -> Lines {
    let ((network, channel), nick) = place_and_nick(asked, "o|o")?;
    send(asked, network, "INVITE", vec![nick, channel]).await
}

async fn kick(asked: &Asked) -> Lines {
    let ((network, channel), nick) = place_and_nick(asked, "o|o")?;
    let words = asked.arg("words");
    let words = if words.is_empty() { asked.handle() } else { words };
    send(asked, network, "KICK", vec![channel, nick, words.to_owned()]).await
}

async fn topic(asked: &Asked) -> Lines {
    let (network, channel) = place(asked, "o|o")?;
    send(asked, network, "TOPIC", vec![channel, asked.arg("words").to_owned()]).await
}

async fn channel(asked: &Asked) -> Lines {
    if asked.arg("channel").is_empty() {
        let networks = asked.desk.host.networks();
        let rows = networks.iter().map(|one| format!("{}: {}", one.network, one.channels.join(" ")));
        return Ok(rows.collect());
    }
    let (network, channel) = place(asked, "o|o")?;
    let members = asked.desk.host.members(&network, &channel);
    if members.is_empty() {
        return sorry(format!("the bot is not in {network}/{channel}"));
    }
    let mut lines = vec![format!("{} in {network}/{channel}:", members.len())];
    let names: Vec<String> = members.iter().map(|one| format!("{}{}", one.status, one.nick)).collect();
    lines.extend(names.chunks(IN_A_ROW).map(|row| row.join(" ")));
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_a_status_stand_before_a_channel_whatever_else_begins_one() {
        let cases = [
            ("#ops", "", "#ops"),
            ("@#ops", "@", "#ops"),
            ("+#ops", "+", "#ops"),
            ("&#ops", "&", "#ops"),
            ("@+#ops", "@+", "#ops"),
            ("&local", "", "&local"),
            ("@&local", "@", "&local"),
            ("+modeless", "", "+modeless"),
            ("@ops", "@", "ops"),
            ("ops#x", "", "ops#x"),
        ];
        for (target, signs, channel) in cases {
            assert_eq!(split_status(target), (signs, channel), "{target}");
        }
    }
}
