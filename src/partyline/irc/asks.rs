//! What clients ask by themselves: who is there, what is set, what this is.

use masterchief_contract::CaseMap;

use super::client::Client;
use super::lines::SERVER;
use crate::irc::message::Message;
use crate::partyline::here::Here;
use crate::partyline::place::Place;

/// Names in one question.
const NAMES: usize = 10;

impl Client {
    /// Answers a question.
    pub(super) fn ask(&self, command: &str, message: &Message<'_>) -> Vec<String> {
        let param = message.param(0);
        match command {
            "NAMES" => match Place::parse(param) {
                Some(place) if self.is_in(&place) => self.names(&place),
                _ => vec![self.numeric("366", &[if param.is_empty() { "*" } else { param }, "End of NAMES"])],
            },
            "WHO" => self.who(param),
            "WHOIS" => self.whois(message.last()),
            "WHOWAS" => vec![
                self.numeric("406", &[param, "nobody is remembered here; see .audit"]),
                self.numeric("369", &[param, "End of WHOWAS"]),
            ],
            "MODE" => self.mode(message),
            "LIST" => self.list(),
            "ISON" => {
                let on = message.params().iter().flat_map(|names| names.split(' ')).filter(|nick| self.known(nick));
                vec![self.numeric("303", &[&on.take(NAMES * 4).collect::<Vec<_>>().join(" ")])]
            }
            "USERHOST" => {
                let found = message.params().iter().take(NAMES).filter_map(|nick| self.party.find(nick));
                let shown = found.map(|one| {
                    let sign = if one.away.is_some() { '-' } else { '+' };
                    format!("{}={sign}{}@{}", one.author.nick, one.author.handle, one.author.host)
                });
                vec![self.numeric("302", &[&shown.collect::<Vec<_>>().join(" ")])]
            }
            "MOTD" => self.motd(),
            "LUSERS" => {
                let count = self.party.each(|_| ()).len();
                let words =
                    format!("There are {count} sessions and {} people on linked bots", self.party.guests().len());
                vec![self.numeric("251", &[&words])]
            }
            "VERSION" => {
                vec![self.numeric("351", &[concat!("masterchief-", env!("CARGO_PKG_VERSION")), SERVER, "a partyline"])]
            }
            "TIME" => vec![self.numeric("391", &[SERVER, &self.party.clock().now().to_rfc2822()])],
            "INFO" => vec![self.numeric("374", &["this is the partyline of a masterchief; .help"])],
            "ADMIN" | "STATS" | "LINKS" | "MAP" => vec![self.numeric("481", &["see .status, .bots and .help"])],
            other => vec![self.numeric("421", &[other, "there is no such command; .help lists those of the bot"])],
        }
    }

    fn is_in(&self, place: &Place) -> bool {
        self.party.session(self.idx, |session| session.places.contains(place)).unwrap_or(false)
    }

    fn known(&self, nick: &str) -> bool {
        CaseMap::Rfc1459.eq(nick, &self.party.bot()) || self.party.find(nick).is_some()
    }

    fn who(&self, mask: &str) -> Vec<String> {
        let row = |chan: &str, one: &Here| {
            let flags =
                format!("{}{}", if one.away.is_some() { 'G' } else { 'H' }, if one.icon == '-' { "" } else { "@" });
            let (author, server) = (&one.author, one.bot.as_deref().unwrap_or(SERVER));
            let real = format!("0 {}", author.handle);
            self.numeric("352", &[chan, &author.handle, &author.host, server, &author.nick, &flags, &real])
        };
        let mut lines = Vec::new();
        if let Some(place) = Place::parse(mask) {
            if self.is_in(&place) {
                let name = place.to_string();
                let bot = self.party.bot();
                let real = "0 the bot";
                lines.push(self.numeric("352", &[&name, &bot, SERVER, SERVER, &bot, "HB@", real]));
                lines.extend(self.party.here(&place).iter().map(|one| row(&name, one)));
            }
        } else if let Some(one) = self.party.find(mask) {
            lines.push(row("*", &one));
        }
        lines.push(self.numeric("315", &[if mask.is_empty() { "*" } else { mask }, "End of WHO"]));
        lines
    }

    fn whois(&self, nick: &str) -> Vec<String> {
        let mut lines = Vec::new();
        if CaseMap::Rfc1459.eq(nick, &self.party.bot()) {
            let bot = self.party.bot();
            lines.push(self.numeric("311", &[&bot, &bot, SERVER, "*", "masterchief"]));
            lines.push(self.numeric("335", &[&bot, "is a bot: .help lists what it does for you"]));
        } else if let Some(one) = self.party.find(nick) {
            let (author, nick) = (&one.author, &*one.author.nick);
            lines.push(self.numeric("311", &[nick, &author.handle, &author.host, "*", &author.handle]));
            let facts = author.idx.and_then(|idx| {
                self.party.session(idx, |session| {
                    let places: Vec<String> = session.places.iter().map(Place::to_string).collect();
                    (places.join(" "), session.spoke, session.since)
                })
            });
            if let Some((places, spoke, since)) = facts {
                lines.push(self.numeric("319", &[nick, &places]));
                let idle = (self.party.clock().now() - spoke).num_seconds().max(0).to_string();
                lines.push(
                    self.numeric("317", &[nick, &idle, &since.timestamp().to_string(), "seconds idle, signon time"]),
                );
            }
            lines.push(self.numeric("312", &[nick, SERVER, "the partyline"]));
            lines.push(self.numeric("330", &[nick, &author.handle, "is logged in as"]));
            if let Some(away) = &one.away {
                lines.push(self.numeric("301", &[nick, away]));
            }
        } else {
            lines.push(self.numeric("401", &[nick, "is not on the partyline"]));
        }
        lines.push(self.numeric("318", &[if nick.is_empty() { "*" } else { nick }, "End of WHOIS"]));
        lines
    }

    fn mode(&self, message: &Message<'_>) -> Vec<String> {
        let target = message.param(0);
        let change = message.params().get(1).copied();
        match (Place::parse(target), change) {
            (Some(_), None) => vec![self.numeric("324", &[target, "+nt"])],
            (Some(_), Some("b" | "+b")) => vec![self.numeric("368", &[target, "End of the list of bans"])],
            (Some(_), Some(_)) => vec![self.numeric("482", &[target, "nothing is set here; see .help"])],
            (None, None) if CaseMap::Rfc1459.eq(target, self.nick()) => vec![self.numeric("221", &["+"])],
            // Clients set +i by themselves; it means nothing here.
            (None, Some(_)) if CaseMap::Rfc1459.eq(target, self.nick()) => Vec::new(),
            (None, _) => vec![self.numeric("502", &["you cannot look at others' modes"])],
        }
    }

    fn list(&self) -> Vec<String> {
        let mut places: Vec<Place> = vec![Place::Party(0), Place::Ops];
        for mut theirs in self.party.each(|session| session.places.clone()) {
            // Which channels of networks are watched is for those who watch them.
            theirs.retain(|place| !matches!(place, Place::Watched { .. }) || self.is_in(place));
            places.extend(theirs);
        }
        places.sort();
        places.dedup();
        let mut lines = vec![self.numeric("321", &["Channel", "Users Name"])];
        lines.extend(places.iter().map(|place| {
            let count = self.party.here(place).len() + 1;
            self.numeric("322", &[&place.to_string(), &count.to_string(), &self.party.topic(place)])
        }));
        lines.push(self.numeric("323", &["End of LIST"]));
        lines
    }
}
