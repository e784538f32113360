//! The user file of an Eggdrop, read: people and bots as plain data, and a person as a record of ours. What it says beside them is
//! counted. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::flags::{FlagSet, Section};
use super::mirror::PEOPLE_MAX;
use super::user::{COMMENT_MAX, OF_ONE, User, UserFault, is_short};

/// How the first line begins, since Eggdrop 1.3.
const BEGINS: &str = "#4v:";
/// What stands before masks of a channel.
const OF_CHANNELS: &[&str] = &["::", "&&", "$$"];
/// What is kept where there is no hostmask.
const NO_HOST: &str = "none";
/// The port of a bot whose address has none.
const PORT: u16 = 3333;
/// What is wrong with a line that stands at the wrong place.
const NOBODYS: &str = "it belongs to nobody";
/// The letter of bots.
const BOT: char = 'b';
/// As what more of a sort is counted than a record holds.
const HOSTMASKS: &str = "hostmasks";
/// How many lines that mean nothing are told one by one, and how many names of what is not read; of others how many there are.
const TOLD: usize = 200;
/// As what names are counted beyond that.
const OTHER: &str = "OTHER";

/// What a user file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Userfile {
    /// The bot whose file it is.
    pub bot: String,
    /// Its people.
    pub people: Vec<EggPerson>,
    /// The bots it knows.
    pub bots: Vec<EggBot>,
    /// Bans, ignores, exempts and invites, which are not read.
    pub masks: usize,
    /// Other things about people and bots that are not read, by name, and how many of them.
    pub others: BTreeMap<String, usize>,
    /// The first lines that mean nothing: their number and why.
    pub faults: Vec<(usize, &'static str)>,
    /// How many more there are.
    pub more_faults: usize,
}

/// A person of an Eggdrop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EggPerson {
    /// The name of the record.
    pub handle: String,
    /// Global flags, as written.
    pub flags: String,
    /// Channels, with the flags there as written.
    pub channels: Vec<(String, String)>,
    /// Hostmasks.
    pub hosts: Vec<String>,
    /// Services accounts.
    pub accounts: Vec<String>,
    /// Fingerprints of certificates.
    pub certs: Vec<String>,
    /// Words of the operators.
    pub comment: String,
    /// Whether there is a password, which can be read by nobody.
    pub password: bool,
    /// What of a sort is there beyond the most that a record holds, and is not read: how many.
    pub more: BTreeMap<&'static str, usize>,
}

/// A bot that an Eggdrop knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EggBot {
    /// Its name.
    pub handle: String,
    /// Where it listens: host, port, and whether that port begins with TLS.
    pub address: Option<(String, u16, bool)>,
    /// What it is to that Eggdrop: `h`, `a`, `l`, `r`, `i`…
    pub flags: String,
}

/// A file that is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserfileFault {
    /// Not a user file.
    #[error("this is no user file of an Eggdrop since 1.3: such a one begins with {BEGINS}")]
    Other,
    /// More of them than anybody has.
    #[error("line {0}: from there on there are more than {PEOPLE_MAX} people and bots")]
    Many(usize),
}

/// Whose lines come.
#[derive(Default)]
enum Open {
    #[default]
    Nobody,
    Masks,
    Person(Box<(EggPerson, EggBot)>),
}

/// What reads a file.
#[derive(Default)]
struct Reader {
    file: Userfile,
    open: Open,
    /// Handles that stood there, in lower case.
    seen: BTreeSet<String>,
}

impl Userfile {
    /// Reads one.
    pub fn parse(text: &str) -> Result<Userfile, UserfileFault> {
        let mut lines = text.lines().enumerate();
        let first = lines.next().map(|(_, line)| line).filter(|line| line.starts_with(BEGINS));
        let first = first.ok_or(UserfileFault::Other)?;
        let mut reader = Reader::default();
        // `#4v: eggdrop v1.8.4 -- Name -- written …`
        first.split(" -- ").nth(1).unwrap_or("").trim().clone_into(&mut reader.file.bot);
        for (at, line) in lines {
            if line.starts_with(['#', ';']) || line.trim().is_empty() {
                continue;
            }
            if let Err(why) = reader.take(line) {
                reader.fault(at + 1, why);
            }
            if reader.seen.len() > PEOPLE_MAX {
                return Err(UserfileFault::Many(at + 1));
            }
        }
        reader.open(Open::Nobody);
        Ok(reader.file)
    }
}

impl Reader {
    fn fault(&mut self, at: usize, why: &'static str) {
        if self.file.faults.len() < TOLD {
            self.file.faults.push((at, why));
        } else {
            self.file.more_faults += 1;
        }
    }

    fn take(&mut self, line: &str) -> Result<(), &'static str> {
        let (code, rest) = word(line);
        let rest = rest.trim();
        match code {
            "-" | "%" | "@" | "!" => return self.belongs(code, rest),
            code if code.starts_with('*') || OF_CHANNELS.iter().any(|sign| code.starts_with(sign)) => {
                self.open(Open::Masks);
            }
            code if code.starts_with("--") => {
                let Open::Person(both) = &mut self.open else { return Err(NOBODYS) };
                let (person, bot) = &mut **both;
                entry(person, bot, &mut self.file.others, &code[2..], rest);
            }
            handle => {
                self.open(Open::Nobody);
                let (_pass, rest) = word(rest);
                let (flags, _) = word(rest);
                if flags.is_empty() {
                    return Err("a record without flags");
                }
                if !self.seen.insert(handle.to_ascii_lowercase()) {
                    return Err("somebody who stands above already");
                }
                let (handle, flags) = (handle.to_owned(), flags.to_owned());
                let bot = EggBot { handle: handle.clone(), ..EggBot::default() };
                self.open(Open::Person(Box::new((EggPerson { handle, flags, ..EggPerson::default() }, bot))));
            }
        }
        Ok(())
    }

    /// What belongs to whoever is open.
    fn belongs(&mut self, code: &str, rest: &str) -> Result<(), &'static str> {
        match (code, &mut self.open) {
            ("!", Open::Person(both)) => {
                let (channel, rest) = word(rest);
                let (_last_seen, rest) = word(rest);
                let (flags, _greeting) = word(rest);
                if channel.is_empty() || flags.is_empty() {
                    return Err("a channel without flags");
                }
                let of_channel = (channel.to_owned(), flags.to_owned());
                keep(&mut both.0.channels, "channels", &mut both.0.more, of_channel);
            }
            // Hostmasks as they were written once.
            ("-", Open::Person(both)) => {
                let EggPerson { hosts, more, .. } = &mut both.0;
                let all = rest.split(',').map(str::trim).filter(|host| !host.is_empty());
                all.for_each(|host| keep(hosts, HOSTMASKS, more, host));
            }
            ("-" | "%" | "@", Open::Masks) => self.file.masks += 1,
            _ => return Err(NOBODYS),
        }
        Ok(())
    }

    /// Nothing more comes about whoever was open.
    fn open(&mut self, open: Open) {
        match std::mem::replace(&mut self.open, open) {
            Open::Person(both) if both.0.flags.contains(BOT) => self.file.bots.push(both.1),
            Open::Person(both) => self.file.people.push(both.0),
            Open::Nobody | Open::Masks => {}
        }
    }
}

/// Something about somebody: `--NAME value`.
fn entry(person: &mut EggPerson, bot: &mut EggBot, others: &mut BTreeMap<String, usize>, name: &str, value: &str) {
    let name = name.to_ascii_uppercase();
    match name.as_str() {
        "HOSTS" if value == NO_HOST || value.is_empty() => {}
        "HOSTS" => keep(&mut person.hosts, HOSTMASKS, &mut person.more, value),
        "PASS" | "PASS2" => person.password = true,
        "COMMENT" => value.clone_into(&mut person.comment),
        "ACCOUNT" => keep(&mut person.accounts, "accounts", &mut person.more, value),
        "FPRINT" => keep(&mut person.certs, "certificates", &mut person.more, value),
        "BOTADDR" => bot.address = address(value),
        "BOTFL" => value.clone_into(&mut bot.flags),
        _ => {
            let known = others.len() < TOLD || others.contains_key(&name);
            *others.entry(if known { name } else { OTHER.to_owned() }).or_default() += 1;
        }
    }
}

/// Takes one more of a sort, if a record holds so many; else it is counted.
fn keep<T>(all: &mut Vec<T>, sort: &'static str, more: &mut BTreeMap<&'static str, usize>, one: impl Into<T>) {
    if all.len() < OF_ONE {
        all.push(one.into());
    } else {
        *more.entry(sort).or_default() += 1;
    }
}

/// The first word and what follows it.
pub(super) fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start_matches(' ');
    text.split_once(' ').unwrap_or((text, ""))
}

/// `host:port/relay`, a `+` before a port that begins with TLS, and `;` for the colons of an address.
pub(super) fn address(text: &str) -> Option<(String, u16, bool)> {
    let (host, ports) = text.split_once(':').unwrap_or((text, ""));
    let port = ports.split('/').next().unwrap_or("");
    let (port, tls) = port.strip_prefix('+').map_or((port, false), |port| (port, true));
    let port = if port.is_empty() { PORT } else { port.parse().ok().filter(|port| *port != 0)? };
    (!host.is_empty()).then(|| (host.replace(';', ":"), port, tls))
}

impl EggPerson {
    /// The person as a record of ours, with these letters at most, and what does not go into it. Channels and accounts are of a network,
    /// if one is named.
    pub fn record(&self, network: Option<&str>, letters: FlagSet) -> Result<(User, Vec<String>), UserFault> {
        let (mut user, mut left) = (User::new(&self.handle)?, Vec::new());
        let more = |(what, count): (&&str, &usize)| format!("{count} more {what}: one person has at most {OF_ONE}");
        left.extend(self.more.iter().map(more));
        let mut long = Vec::new();
        let mut taken = |text: &str, section, place: &str| match FlagSet::parse(text) {
            Ok(all) => {
                let all = all.settled(section, FlagSet::NONE);
                let above = all.without(letters);
                if !above.is_empty() {
                    left.push(format!("the flags {above}{place}"));
                }
                all.common(letters)
            }
            Err(fault) => {
                left.push(format!("the flags {text}{place} ({fault})"));
                FlagSet::NONE
            }
        };
        user.flags = taken(&self.flags, Section::Global, "");
        for (channel, flags) in &self.channels {
            if let Err(fault) = is_short("channel", channel) {
                long.push(fault.to_string());
                continue;
            }
            let flags = taken(flags, Section::Channel, &format!(" in {channel}"));
            let channel = network.map_or_else(|| channel.clone(), |network| format!("{network}/{channel}"));
            if !flags.is_empty() {
                user.channels.insert(channel, flags);
            }
        }
        left.extend(long);
        for host in &self.hosts {
            left.extend(user.add_host(host).err().map(|fault| fault.to_string()));
        }
        for cert in &self.certs {
            left.extend(user.add_cert(cert).err().map(|fault| fault.to_string()));
        }
        for account in &self.accounts {
            match network {
                Some(network) => {
                    left.extend(user.add_account(&format!("{network}/{account}")).err().map(|fault| fault.to_string()));
                }
                None => left.push(format!("the account {account}, whose network is not named")),
            }
        }
        left.extend(self.password.then(|| "the password".to_owned()));
        user.comment = self.comment.chars().take(COMMENT_MAX).collect();
        if user.comment.len() < self.comment.len() {
            left.push(format!("the comment beyond its first {COMMENT_MAX} characters"));
        }
        Ok((user, left))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As Eggdrop 1.8.4 writes it, with a record of 1.10 and one of old among them.
    const WRITTEN: &str = "\
#4v: eggdrop v1.8.4 -- HubBot -- written Sun Nov 22 12:00:00 2026
owner      - hjlmnoptx               
! #lab                 1795225432 lmno       hello, boss
! #old                 0 -         
--XTRA created 1795224832
--HOSTS *!*@127.0.0.1
--HOSTS -telnet!*@*
--PASS +ixNop.mmoPC/
--COMMENT knows: all -- of it
carol      - fp                      
! #lab                 0 lo         
--HOSTS none
--ACCOUNT carol
--FPRINT AA:BB
--PASS2 $pbkdf2-sha256$rounds=16000$x$y
dave       ab12cdEF -                       
- *!dave@example.org,*!d@example.net
LeafBot    - bfo                     
--BOTADDR 2001;db8;;7:+3334/3335
--BOTFL ghs
--HOSTS *!*@leaf.example
--PASS plain
Old        - b
--BOTADDR old.example
carol      - n                       
--HOSTS *!*@evil.example
broken
*ban - -
- *!*@leafban.example:+0:+1795225453:0:owner:reason
*ignore - -
- *!*@flood.example:+0:owner:1795225453:x
::#lab bans
- *!*@chan.bad:+0*:+1795225448:0:owner:chanban
&&#lab exempts
% *!*@good.example:+0:+1:0:owner:
$$#lab invites
--HOSTS *!*@nobody.example
";

    #[test]
    fn people_and_bots_are_read_and_the_rest_is_counted() {
        let file = Userfile::parse(WRITTEN).unwrap();
        assert_eq!(file.bot, "HubBot");
        let owner = EggPerson {
            handle: "owner".to_owned(),
            flags: "hjlmnoptx".to_owned(),
            channels: vec![("#lab".to_owned(), "lmno".to_owned()), ("#old".to_owned(), "-".to_owned())],
            hosts: vec!["*!*@127.0.0.1".to_owned(), "-telnet!*@*".to_owned()],
            comment: "knows: all -- of it".to_owned(),
            password: true,
            ..EggPerson::default()
        };
        assert_eq!(file.people[0], owner);
        let names: Vec<&str> = file.people.iter().map(|one| one.handle.as_str()).collect();
        assert_eq!(names, ["owner", "carol", "dave"]);
        assert_eq!(file.people[1].accounts, ["carol"]);
        assert_eq!(file.people[2].hosts, ["*!dave@example.org", "*!d@example.net"]);
        let leaf = EggBot {
            handle: "LeafBot".to_owned(),
            address: Some(("2001:db8::7".to_owned(), 3334, true)),
            flags: "ghs".to_owned(),
        };
        assert_eq!(file.bots[0], leaf);
        assert_eq!(file.bots[1].address, Some(("old.example".to_owned(), 3333, false)));
        assert_eq!((file.masks, file.others.clone()), (4, BTreeMap::from([("XTRA".to_owned(), 1)])));
        let faults: Vec<&str> = file.faults.iter().map(|(_, why)| *why).collect();
        let nobody = "it belongs to nobody";
        let wanted = ["somebody who stands above already", nobody, "a record without flags", nobody];
        assert_eq!(faults, wanted, "{:?}", file.faults);
        assert_eq!(Userfile::parse("owner - n\n"), Err(UserfileFault::Other));
    }

    #[test]
    fn a_person_becomes_a_record_within_the_letters_and_what_is_left_is_said() {
        let file = Userfile::parse(WRITTEN).unwrap();
        let letters = FlagSet::parse("fopl").unwrap();
        let (owner, left) = file.people[0].record(Some("libera"), letters).unwrap();
        assert_eq!((owner.flags.to_string(), owner.hosts.len()), ("lop".to_owned(), 1));
        assert_eq!(
            owner.channels,
            BTreeMap::from([("libera/#lab".to_owned(), letters.common(FlagSet::parse("lo").unwrap()))])
        );
        assert!(owner.password.is_none());
        assert_eq!(left[..2], ["the flags hjmntx", "the flags mn in #lab"]);
        assert!(left[2].contains("meets everybody") && left[3] == "the password" && left.len() == 4, "{left:?}");
        let (carol, left) = file.people[1].record(None, FlagSet::ALL).unwrap();
        assert!(carol.accounts.is_empty() && carol.certs.is_empty() && carol.channels.contains_key("#lab"));
        assert!(left[0].contains("64 digits") && left[1].contains("whose network is not named"), "{left:?}");
        let named = |handle: &str| EggPerson { handle: handle.to_owned(), ..EggPerson::default() };
        assert!(named("1st").record(None, FlagSet::ALL).is_err());
        assert!(named("console").record(None, FlagSet::ALL).is_err());
    }

    #[test]
    fn of_one_person_no_more_is_taken_than_can_be_looked_through_with_every_event() {
        let many = |what: &str| (0..1000).map(|one| format!("{what}{one}\n")).collect::<String>();
        let flags = |channel: String| (channel, "o".to_owned());
        let channels = many("! #lab").replace('\n', " 0 o\n");
        let text = format!(
            "{BEGINS} x\ncarol - -\n{channels}{}{}--COMMENT {}\n",
            many("--HOSTS *!c@host"),
            many("--ACCOUNT carol"),
            "é".repeat(1000)
        );
        let mut carol = Userfile::parse(&text).unwrap().people.remove(0);
        assert_eq!(carol.hosts.len(), OF_ONE, "and no more is kept of it");
        let old = format!("{BEGINS} x\ncarol - -\n- {}\n", "a,".repeat(1 << 20));
        let (all, more) = (&Userfile::parse(&old).unwrap().people[0].hosts, (1 << 20) - OF_ONE);
        assert_eq!((all.len(), Userfile::parse(&old).unwrap().people[0].more[HOSTMASKS]), (OF_ONE, more));
        let (user, left) = carol.record(Some("libera"), FlagSet::ALL).unwrap();
        assert_eq!((user.hosts.len(), user.accounts.len(), user.channels.len()), (OF_ONE, OF_ONE, OF_ONE));
        assert_eq!(user.comment.chars().count(), COMMENT_MAX);
        assert!(left.len() == 4 && left.iter().any(|left| left.starts_with("744 more hostmasks")), "{left:?}");
        let long = "x".repeat(1 << 20);
        carol.hosts = vec![format!("*!c@{long}")];
        carol.channels = vec![flags(format!("#{long}"))];
        carol.accounts = vec![long.clone()];
        let (user, left) = carol.record(Some("libera"), FlagSet::ALL).unwrap();
        assert!(user.hosts.is_empty() && user.channels.is_empty() && user.accounts.is_empty());
        assert!(left.iter().all(|left| left.len() < 100), "and they are not quoted at length");
        carol.handle = long;
        assert!(carol.record(None, FlagSet::ALL).unwrap_err().to_string().len() < 300);
    }

    #[test]
    fn more_people_than_anybody_has_and_lines_without_meaning_cost_no_more_than_a_few() {
        let people: String = (0..=PEOPLE_MAX).map(|one| format!("p{one} - f\n")).collect();
        assert_eq!(Userfile::parse(&format!("{BEGINS} x\n{people}p - f\n")), Err(UserfileFault::Many(PEOPLE_MAX + 2)));
        let nothing: String = (0..1000).map(|one| format!("--X{one} y\nq{one}\n")).collect();
        let file = Userfile::parse(&format!("{BEGINS} x\ncarol - f\n{nothing}")).unwrap();
        assert_eq!(
            (file.faults.len(), file.faults.len() + file.more_faults),
            (TOLD, 1999),
            "{:?}",
            file.faults.first()
        );
        assert!(file.others.len() <= TOLD + 1, "{}", file.others.len());
        let others: String = (0..1000).map(|one| format!("--X{one} y\n")).collect();
        let file = Userfile::parse(&format!("{BEGINS} x\ncarol - f\n{others}")).unwrap();
        assert_eq!((file.others.len(), file.others[OTHER]), (TOLD + 1, 800));
    }

    proptest! {
        #[test]
        fn whatever_stands_in_a_file_nobody_has_more_than_their_letters(
            at in 0..WRITTEN.len(), length in 0usize..40, put in "\\PC{0,20}|[-!*:&$#@%b \n]{0,20}",
        ) {
            let text = WRITTEN.get(..at).unwrap_or(BEGINS).to_owned() + &put + WRITTEN.get(at + length..).unwrap_or("");
            let Ok(file) = Userfile::parse(&text) else { return Ok(()) };
            let letters = FlagSet::parse("vf").unwrap();
            for person in &file.people {
                let Ok((user, _)) = person.record(Some("net"), letters) else { continue };
                prop_assert!(user.flags.without(letters).is_empty() && user.password.is_none());
                prop_assert!(user.channels.values().all(|flags| flags.without(letters).is_empty()));
                prop_assert!(!person.flags.contains(BOT));
            }
            for bot in &file.bots {
                prop_assert!(bot.address.as_ref().is_none_or(|(host, port, _)| !host.is_empty() && *port != 0));
            }
        }

        #[test]
        fn any_text_is_read(text in any::<String>()) {
            let _ = Userfile::parse(&text);
            let _ = Userfile::parse(&format!("{BEGINS}\n{text}"));
        }
    }
}
