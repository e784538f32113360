//! The places of the partyline: where people meet, where the bot sits, and channels of networks that are watched.

use std::fmt;

use masterchief_contract::CaseMap;

/// The channel in which the bot sits and takes commands.
pub const CHANNEL: &str = "#ops";
/// Channel 0, where everybody meets.
pub const LOBBY: &str = "#partyline";
/// The highest number of a channel that linked bots share, as in Eggdrop.
const CHANNEL_MAX: u32 = 99_999;

/// A place where words are said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// `#ops`: the bot's own channel here.
    Ops,
    /// `#partyline` (0) and `#1` to `#99999`.
    Party(u32),
    /// `#*1` to `#*99999`: of this bot alone, Eggdrop's local channels.
    Own(u32),
    /// `#chan@network`: a channel the bot is in elsewhere.
    Watched {
        /// The channel.
        channel: String,
        /// The network, as it is configured.
        network: String,
    },
}

impl Place {
    /// Reads a name. Numbers have no zeros in front: every place has one name.
    pub fn parse(name: &str) -> Option<Place> {
        if CaseMap::Ascii.eq(name, CHANNEL) {
            return Some(Place::Ops);
        }
        if CaseMap::Ascii.eq(name, LOBBY) {
            return Some(Place::Party(0));
        }
        if let Some((channel, network)) = name.rsplit_once('@') {
            let good = channel.len() > 1 && channel.starts_with(['#', '&', '+', '!']) && !network.is_empty();
            let clean = !name.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, ',' | '/'));
            // Folded, so that a channel cannot be in the room twice.
            let channel = CaseMap::Rfc1459.fold(channel);
            return (good && clean).then(|| Place::Watched { channel, network: network.to_owned() });
        }
        let name = name.strip_prefix('#')?;
        let digits = name.strip_prefix('*').unwrap_or(name);
        let number: u32 = digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
        let place = if digits == name { Place::Party(number) } else { Place::Own(number) };
        ((1..=CHANNEL_MAX).contains(&number) && !digits.starts_with('0')).then_some(place)
    }

    /// The number, where linked bots know this place.
    pub fn number(&self) -> Option<u32> {
        match self {
            Place::Party(number) => Some(*number),
            Place::Ops | Place::Own(_) | Place::Watched { .. } => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Ops => f.write_str(CHANNEL),
            Place::Party(0) => f.write_str(LOBBY),
            Place::Party(number) => write!(f, "#{number}"),
            Place::Own(number) => write!(f, "#*{number}"),
            Place::Watched { channel, network } => write!(f, "{channel}@{network}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn places_have_the_names_people_type() {
        assert_eq!(Place::parse("#OPS"), Some(Place::Ops));
        assert_eq!(Place::parse("#partyline"), Some(Place::Party(0)));
        assert_eq!(Place::parse("#42"), Some(Place::Party(42)));
        assert_eq!(Place::parse("#*5"), Some(Place::Own(5)));
        let watched = Place::Watched { channel: "#ops".to_owned(), network: "libera".to_owned() };
        assert_eq!(Place::parse("#Ops@libera"), Some(watched));
        for none in ["ops", "#0", "#007", "#100000", "#+1", "#dev", "#*0", "#**1", "#@x", "@libera", "#a b@x", ""] {
            assert_eq!(Place::parse(none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn a_place_is_known_by_the_name_it_prints(name in "#?[a-z0-9#@]{0,8}|\\PC{0,12}") {
            if let Some(place) = Place::parse(&name) {
                prop_assert_eq!(Place::parse(&place.to_string()), Some(place));
            }
        }
    }
}
