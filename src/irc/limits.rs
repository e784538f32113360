//! What a line of ours may hold on this server: how long topics, reasons and nicks are, how many modes go together, which channels
//! there is room for, which tags pass. Pure.

use super::isupport::{ISupport, ModeChange};
use super::message::Message;

/// Modes with a parameter in one line where the server names no number (RFC 1459).
const MODES: usize = 3;
/// Bytes of letters and parameters in one MODE line, well under a line.
const MODE_ROOM: usize = 400;

/// A command as this server takes it: cut where the server would cut it, and in several lines where it takes fewer modes at once.
pub(super) fn fitted(isupport: &ISupport, command: &str, params: &[&str]) -> Vec<Vec<String>> {
    let mut owned: Vec<String> = params.iter().map(|param| (*param).to_owned()).collect();
    if command.eq_ignore_ascii_case("MODE")
        && let Some(lines) = mode_lines(isupport, params)
    {
        return lines;
    }
    if let Some((at, token)) = limited(command)
        && let Some(most) = isupport.number(token).filter(|most| *most > 0)
        && let Some(text) = owned.get_mut(at).filter(|text| text.len() > most)
    {
        tracing::warn!(command, token, most, "Cut to what the server takes");
        text.truncate(text.floor_char_boundary(most));
    }
    vec![owned]
}

/// Two lines of ours as one, if both change modes of one channel and the server takes as many at once.
pub(super) fn merged(isupport: &ISupport, one: &str, other: &str) -> Option<String> {
    let changes = |line: &str| {
        let message =
            Message::parse(line).ok().filter(|message| message.command == "MODE" && message.tags.is_empty())?;
        let chan = message.param(0).to_owned();
        Some((chan, changes(isupport, message.params())?))
    };
    let ((chan, mut all), (other, more)) = (changes(one)?, changes(other)?);
    all.extend(more);
    let same = isupport.casemap().eq(&chan, &other);
    let mut lines = written(isupport, &chan, &all);
    (same && lines.len() == 1).then(|| format!("MODE {}", lines.remove(0).join(" ")))
}

/// Why a channel cannot be joined here, whatever its members say. `joined` are the channels we are in.
pub(super) fn no_room(isupport: &ISupport, chan: &str, joined: &[String]) -> Option<String> {
    if let Some(most) = isupport.number("CHANNELLEN").filter(|most| *most > 0 && chan.len() > *most) {
        return Some(format!("the name of {chan} has {} bytes; this server takes {most}", chan.len()));
    }
    let sign = chan.chars().next()?;
    let most = isupport.chanlimit(sign)?;
    let there = joined.iter().filter(|name| name.starts_with(sign)).count();
    (there >= most).then(|| format!("the bot is in {there} channels that begin with {sign}; this server allows {most}"))
}

/// Whether the server passes a tag for other clients on (CLIENTTAGDENY). <https://ircv3.net/specs/extensions/message-tags>
pub(super) fn passes(isupport: &ISupport, tag: &str) -> bool {
    let Some(list) = isupport.get("CLIENTTAGDENY") else { return true };
    let name = tag.strip_prefix('+').unwrap_or(tag);
    let listed = |wanted: &str| list.split(',').any(|item| item == wanted);
    if listed("*") { listed(&format!("-{name}")) } else { !listed(name) }
}

/// Which parameter of a command has a limit, and by which token.
fn limited(command: &str) -> Option<(usize, &'static str)> {
    let rows = [
        ("TOPIC", 1, "TOPICLEN"),
        ("KICK", 2, "KICKLEN"),
        ("AWAY", 0, "AWAYLEN"),
        ("SETNAME", 0, "NAMELEN"),
        ("NICK", 0, "NICKLEN"),
    ];
    rows.into_iter().find(|(name, ..)| command.eq_ignore_ascii_case(name)).map(|(_, at, token)| (at, token))
}

/// A MODE line as several, if it is one that changes a channel's modes and is understood to its end.
fn mode_lines(isupport: &ISupport, params: &[&str]) -> Option<Vec<Vec<String>>> {
    let changes = changes(isupport, params)?;
    Some(written(isupport, params.first()?, &changes))
}

/// The changes of a MODE line's parameters. Nothing where it asks instead of changing, or where something is left over.
fn changes(isupport: &ISupport, params: &[&str]) -> Option<Vec<ModeChange>> {
    let [chan, letters, rest @ ..] = params else { return None };
    let words = rest.iter().all(|param| !param.is_empty() && !param.starts_with(':') && !param.contains(' '));
    if !isupport.is_channel(chan) || !letters.starts_with(['+', '-']) || !words {
        return None;
    }
    let changes = isupport.modes(letters, rest);
    let taken = changes.iter().filter(|change| change.param.is_some()).count();
    let all = changes.len() == letters.chars().filter(|c| !matches!(c, '+' | '-')).count();
    // `MODE #ops +b` asks for the list.
    let asks = changes.iter().any(|change| change.param.is_none() && isupport.is_list(change.letter));
    (taken == rest.len() && all && !asks && !changes.is_empty()).then_some(changes)
}

/// Changes as parameters of as few lines as this server allows.
fn written(isupport: &ISupport, chan: &str, changes: &[ModeChange]) -> Vec<Vec<String>> {
    let most = match isupport.get("MODES") {
        None => MODES,
        Some(number) => number.parse().ok().filter(|most| *most > 0).unwrap_or(usize::MAX),
    };
    let mut lines = Vec::new();
    let (mut letters, mut params, mut sign, mut bytes) = (String::new(), Vec::new(), None, 0);
    for change in changes {
        let param = change.param.as_deref();
        let room = param.map_or(0, |param| param.len() + 1) + 2;
        if !letters.is_empty() && (bytes + room > MODE_ROOM || param.is_some() && params.len() >= most) {
            lines.push(line(chan, &std::mem::take(&mut letters), &std::mem::take(&mut params)));
            (sign, bytes) = (None, 0);
        }
        if sign != Some(change.add) {
            letters.push(if change.add { '+' } else { '-' });
            sign = Some(change.add);
        }
        letters.push(change.letter);
        params.extend(param.map(str::to_owned));
        bytes += room;
    }
    if !letters.is_empty() {
        lines.push(line(chan, &letters, &params));
    }
    lines
}

fn line(chan: &str, letters: &str, params: &[String]) -> Vec<String> {
    [chan.to_owned(), letters.to_owned()].into_iter().chain(params.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(tokens: &[&str]) -> ISupport {
        let mut isupport = ISupport::default();
        let params: Vec<&str> = ["chief"].into_iter().chain(tokens.iter().copied()).chain(["are supported"]).collect();
        isupport.take(&params);
        isupport
    }

    fn sent(isupport: &ISupport, line: &str) -> Vec<String> {
        let message = Message::parse(line).unwrap();
        let lines = fitted(isupport, message.command, message.params());
        lines.into_iter().map(|params| params.join(" ")).collect()
    }

    #[test]
    fn modes_go_together_as_many_as_the_server_takes() {
        let four = told(&["MODES=4", "CHANMODES=b,k,l,imnt"]);
        assert_eq!(
            sent(&four, "MODE #ops +oo-v+bnti-l a b c *!*@d"),
            ["#ops +oo-v+bnti-l a b c *!*@d"],
            "modes without a parameter are not counted"
        );
        assert_eq!(sent(&four, "MODE #ops +ooooo-o a b c d e f"), ["#ops +oooo a b c d", "#ops +o-o e f"]);
        assert_eq!(sent(&told(&[]), "MODE #ops +oooo a b c d"), ["#ops +ooo a b c", "#ops +o d"]);
        assert_eq!(sent(&told(&["MODES"]), "MODE #ops +oooo a b c d"), ["#ops +oooo a b c d"], "no limit");
        for other in ["MODE #ops b", "MODE #ops +b", "MODE chief +i", "MODE #ops", "MODE #ops +o a b"] {
            let params = Message::parse(other).unwrap().params().join(" ");
            assert_eq!(sent(&four, other), [params], "{other}: nothing to group");
        }
    }

    #[test]
    fn lines_that_wait_become_one_where_they_are_about_one_channel() {
        let isupport = told(&["MODES=3", "CHANMODES=b,k,l,imnt"]);
        let both = |one: &str, other: &str| merged(&isupport, one, other);
        assert_eq!(both("MODE #ops +o a", "MODE #OPS -o+v b c").as_deref(), Some("MODE #ops +o-o+v a b c"));
        assert_eq!(both("MODE #ops +oo a b", "MODE #ops +vv c d"), None, "four are one too many");
        assert_eq!(both("MODE #ops +o a", "MODE #dev +o a"), None);
        assert_eq!(both("MODE #ops +o a", "KICK #ops b"), None);
        assert_eq!(both("MODE #ops +o a", "MODE #ops b"), None, "that asks for the bans");
        assert_eq!(both("MODE #ops +o a", "@label=x MODE #ops +v b"), None);
    }

    #[test]
    fn texts_are_cut_to_what_the_server_takes_and_never_inside_a_letter() {
        let isupport = told(&["TOPICLEN=9", "KICKLEN=4", "AWAYLEN=3", "NAMELEN=0"]);
        assert_eq!(sent(&isupport, "TOPIC #ops :all is well here"), ["#ops all is we"]);
        assert_eq!(sent(&isupport, "KICK #ops bob :über"), ["#ops bob übe"]);
        assert_eq!(sent(&isupport, "AWAY :\u{1f44d}"), [""]);
        assert_eq!(sent(&isupport, "SETNAME :what is 0 is no limit"), ["what is 0 is no limit"]);
    }

    #[test]
    fn a_channel_that_no_server_would_let_us_into_is_refused_with_the_number() {
        let isupport = told(&["CHANLIMIT=#&:2,+:", "CHANNELLEN=8"]);
        let joined = ["#a".to_owned(), "#b".to_owned()];
        assert!(no_room(&isupport, "#c", &joined).unwrap().contains("allows 2"));
        assert_eq!((no_room(&isupport, "+c", &joined), no_room(&isupport, "#c", &joined[..1])), (None, None));
        assert!(no_room(&isupport, "#longer-than", &[]).unwrap().contains("takes 8"));
        assert_eq!(no_room(&told(&[]), "#any", &joined), None);
    }

    #[test]
    fn tags_that_the_server_drops_are_known() {
        let passed = |list: &str, tag: &str| passes(&told(&[list]), tag);
        assert!(passed("X", "+typing"));
        assert!(passed("CLIENTTAGDENY=*,-reply,-draft/reply", "+reply"));
        assert!(!passed("CLIENTTAGDENY=*,-reply", "+draft/react"));
        assert!(passed("CLIENTTAGDENY=typing", "+reply") && !passed("CLIENTTAGDENY=typing", "+typing"));
        assert!(passed("CLIENTTAGDENY=", "+reply"));
    }

    proptest! {
        #[test]
        fn what_is_split_says_the_same(letters in "[+-][ovblkint+-]{0,12}", names in prop::collection::vec("[a-z]{1,90}", 0..12)) {
            let isupport = told(&["MODES=3", "CHANMODES=b,k,l,imnt"]);
            let params: Vec<&str> =
                ["#ops", letters.as_str()].into_iter().chain(names.iter().map(String::as_str)).collect();
            let lines = fitted(&isupport, "MODE", &params);
            let read = |params: &[String]| {
                let rest: Vec<&str> = params[2..].iter().map(String::as_str).collect();
                isupport.modes(&params[1], &rest)
            };
            let all: Vec<ModeChange> = lines.iter().flat_map(|line| read(line)).collect();
            prop_assert_eq!(all, isupport.modes(&letters, &params[2..]));
        }
    }
}
