//! The user file of an Eggdrop that may be taken: what is let in of it, how it is fetched, and what changes in it afterwards. What becomes
//! of it is for the house.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use super::House;
use super::book::PeerId;
use super::facts::Letters;
use super::hub::Ask;
use super::name::BotName;
use super::tls::Tls;
use crate::irc::{Fingerprint, Stream};
use crate::users::{Changed, EggBot, EggPerson, Mirror, USERFILE_MAX, Userfile};

/// Lines that wait behind a file. Who brings more has to begin anew.
pub(super) const LINES: usize = 4096;
/// Lines that are looked at together.
const TOGETHER: usize = 256;
/// How long the port of a file may take to answer, and all of the file to come.
const CONNECT: Duration = Duration::from_secs(15);
const ALL: Duration = Duration::from_secs(120);
/// How often it is looked whether the file is still wanted.
const LOOK: Duration = Duration::from_millis(250);
/// Ports below are nobody's who is not root; an Eggdrop never is.
const PORT_MIN: u16 = 1024;

/// What may be taken of a user file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Take {
    /// The network that its channels and accounts are of; without one channels count on every network, and accounts are left out.
    pub network: Option<String>,
    /// The letters.
    pub letters: Letters,
}

/// What has come of an Eggdrop's people.
#[derive(Clone, Debug, Default)]
pub struct Gift {
    /// Who is there, or is another than before.
    pub people: Vec<EggPerson>,
    /// Bots it knows.
    pub bots: Vec<EggBot>,
    /// Handles that are nobody's there any more, or were for a moment.
    pub gone: Vec<String>,
    /// Who has another handle there since: the one before and the one now.
    pub renamed: Vec<(String, String)>,
    /// Whether this is a whole file, so that who is not in it is gone too, and how many masks stand in it.
    pub file: Option<usize>,
    /// Whether from here on lines find no more room.
    pub full: bool,
}

/// Where a user file can be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) port: u16,
    /// Whether that port begins with TLS.
    pub(super) tls: bool,
    pub(super) length: u64,
}

/// It cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum GiftFault {
    #[error("the link or the sharing ended before the file was there")]
    Gone,
    #[error("its port for the file cannot be reached: {0}")]
    Connect(io::Error),
    #[error("the file broke off: {0}")]
    Io(#[from] io::Error),
    #[error("the file took longer than {} s", ALL.as_secs())]
    Slow,
    #[error("it would send the file in clear, and is not named insecure")]
    Clear,
    #[error("the file comes with another certificate than the link has")]
    Pin,
    #[error("{0}")]
    Wrong(String),
}

impl Take {
    /// Reads letters, with a network before them if one is named: `fov`, `libera/fov`; `-` for no letters.
    pub fn parse(text: &str) -> Result<Take, String> {
        let (network, letters) =
            text.rsplit_once('/').map_or((None, text), |(network, letters)| (Some(network), letters));
        if network.is_some_and(|name| name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '/')) {
            return Err(format!("{text:?}: write letters, or network/letters, as in libera/fov"));
        }
        Ok(Take { network: network.map(str::to_owned), letters: Letters::parse(letters)? })
    }
}

impl Offer {
    /// `address port length`. The address is that of the link, whatever stands there.
    pub(super) fn parse(text: &str) -> Result<Offer, String> {
        let mut words = text.split_ascii_whitespace().skip(1);
        let (port, length) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let (port, tls) = port.strip_prefix('+').map_or((port, false), |port| (port, true));
        let port = port.parse::<u16>().ok().filter(|_| !port.starts_with('+')).filter(|port| *port >= PORT_MIN);
        let port = port.ok_or_else(|| format!("the port of the file is not one from {PORT_MIN} on"))?;
        let length = length.parse().ok().filter(|length| (1..=USERFILE_MAX).contains(length));
        let length = length.ok_or_else(|| format!("the file is empty or larger than {} MiB", USERFILE_MAX >> 20))?;
        Ok(Offer { port, tls, length })
    }
}

/// A file that is fetched, and what comes behind it. One task.
pub(super) struct Giving {
    pub(super) id: PeerId,
    pub(super) bot: BotName,
    /// Where the link goes.
    pub(super) at: IpAddr,
    pub(super) offer: Offer,
    pub(super) tls: Tls,
    /// The certificates that are taken; any where none is known.
    pub(super) pins: Vec<Fingerprint>,
    pub(super) insecure: bool,
    pub(super) hub: mpsc::Sender<Ask>,
    pub(super) house: Arc<dyn House>,
    /// What is said behind `s `; nothing more comes once the link or the sharing has ended.
    pub(super) lines: mpsc::Receiver<String>,
}

impl Giving {
    /// Takes all there is, until nothing more comes.
    pub(super) async fn run(mut self) {
        if let Err(fault) = self.take().await {
            // The hub may have ended.
            let _ = self.hub.send(Ask::NotTaken { id: self.id, bot: self.bot.clone(), fault: fault.to_string() }).await;
        }
    }

    async fn take(&mut self) -> Result<(), GiftFault> {
        let text = tokio::select! {
            text = tokio::time::timeout(ALL, self.fetch()) => text.unwrap_or(Err(GiftFault::Slow))?,
            () = self.left_alone() => return Err(GiftFault::Gone),
        };
        let file = Userfile::parse(&text).map_err(|fault| GiftFault::Wrong(fault.to_string()))?;
        drop(text);
        let mut mirror = Mirror::of(&file);
        let gift = Gift { people: file.people, bots: file.bots, file: Some(file.masks), ..Gift::default() };
        self.give(gift).await?;
        let mut lines = Vec::new();
        while self.lines.recv_many(&mut lines, TOGETHER).await > 0 {
            let gift = Gift::of(lines.drain(..).map(|line| mirror.take(&line)));
            self.give(gift).await?;
        }
        Ok(())
    }

    /// Ready when the link or the sharing has ended: a file is not fetched for nobody.
    async fn left_alone(&self) {
        while !self.lines.is_closed() {
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn give(&self, gift: Gift) -> Result<(), GiftFault> {
        let nobody = gift.people.is_empty() && gift.bots.is_empty() && gift.gone.is_empty();
        if nobody && gift.file.is_none() && !gift.full {
            return Ok(());
        }
        self.house.given(self.bot.clone(), gift).await.map_err(GiftFault::Wrong)
    }

    /// The file as text. What is no UTF-8 in it was somebody's other alphabet.
    async fn fetch(&self) -> Result<String, GiftFault> {
        if !self.offer.tls && !self.insecure {
            return Err(GiftFault::Clear);
        }
        let connecting = TcpStream::connect(SocketAddr::new(self.at, self.offer.port));
        let tcp = tokio::time::timeout(CONNECT, connecting).await.map_err(|_| io::ErrorKind::TimedOut.into());
        let tcp = tcp.and_then(|tcp| tcp).map_err(GiftFault::Connect)?;
        let mut stream: Stream = Box::new(tcp);
        if self.offer.tls {
            let (encrypted, seen) = self.tls.connect(stream, &self.at.to_string()).await?;
            if !self.pins.is_empty() && !seen.is_some_and(|seen| self.pins.contains(&seen)) {
                return Err(GiftFault::Pin);
            }
            stream = encrypted;
        }
        let bytes = read(&mut stream, self.offer.length).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// As many bytes as were told; who sends is told how many there are after each read, as DCC has it.
async fn read(stream: &mut Stream, length: u64) -> io::Result<Vec<u8>> {
    let (mut bytes, mut part) = (Vec::new(), [0; 16_384]);
    while (bytes.len() as u64) < length {
        let most = usize::try_from(length - bytes.len() as u64).map_or(part.len(), |left| left.min(part.len()));
        let read = stream.read(&mut part[..most]).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&part[..read]);
        let told = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
        // Who has sent all may be gone before it hears of the last of it.
        if stream.write_all(&told).await.and(stream.flush().await).is_err() && (bytes.len() as u64) < length {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
    }
    Ok(bytes)
}

impl Gift {
    /// What lines have changed, each person as they are behind the last of them.
    fn of(changes: impl Iterator<Item = Changed>) -> Gift {
        let mut gift = Gift::default();
        let forget = |gift: &mut Gift, handle: &str| {
            gift.people.retain(|other| !other.handle.eq_ignore_ascii_case(handle));
        };
        for change in changes {
            match change {
                Changed::Person(person) => {
                    forget(&mut gift, &person.handle);
                    gift.people.push(person);
                }
                Changed::Bot(bot) => gift.bots.push(bot),
                Changed::Gone(handle) => {
                    forget(&mut gift, &handle);
                    gift.renamed.retain(|(_, now)| !now.eq_ignore_ascii_case(&handle));
                    gift.gone.push(handle);
                }
                // Written otherwise it is the same handle.
                Changed::Renamed(old, person) if old.eq_ignore_ascii_case(&person.handle) => {
                    forget(&mut gift, &old);
                    gift.people.push(person);
                }
                Changed::Renamed(old, person) => {
                    forget(&mut gift, &old);
                    gift.moved(&old, &person.handle);
                    gift.gone.push(old);
                    forget(&mut gift, &person.handle);
                    gift.people.push(person);
                }
                Changed::Full => gift.full = true,
                Changed::Nothing => {}
            }
        }
        gift
    }

    /// Notes another handle. Who had one in between is told of by the first and the last; who got a handle that somebody left a moment ago
    /// was nobody before.
    fn moved(&mut self, old: &str, new: &str) {
        let between = self.renamed.iter_mut().find(|(_, now)| now.eq_ignore_ascii_case(old));
        if let Some((_, now)) = between {
            new.clone_into(now);
        } else if !self.renamed.iter().any(|(before, _)| before.eq_ignore_ascii_case(old)) {
            self.renamed.push((old.to_owned(), new.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_names_a_port_and_a_length_that_can_be() {
        let good = |text: &str| Offer::parse(text).unwrap();
        assert_eq!(good("2130706433 36297 566"), Offer { port: 36_297, tls: false, length: 566 });
        assert_eq!(good("10.0.0.1 +36297 566"), Offer { port: 36_297, tls: true, length: 566 });
        for bad in [
            "",
            "1",
            "1 36297",
            "1 36297 0",
            "1 36297 16777217",
            "1 22 566",
            "1 0 5",
            "1 70000 5",
            "1 -5 5",
            "1 ++5000 5",
            "1 36297 -1",
        ] {
            assert!(Offer::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn letters_may_have_a_network_before_them() {
        assert_eq!(Take::parse("libera/fo").unwrap().network.as_deref(), Some("libera"));
        assert!(Take::parse("fo").unwrap().letters.has('l'), "with what they bring");
        assert!(Take::parse("-").unwrap().letters == Letters::default());
        for bad in ["/fo", "a b/fo", "f1", "a/b/fo", "libera/f o"] {
            assert!(Take::parse(bad).is_err(), "{bad}");
        }
    }

    fn person(handle: &str, flags: &str) -> EggPerson {
        EggPerson { handle: handle.to_owned(), flags: flags.to_owned(), ..EggPerson::default() }
    }

    #[test]
    fn who_is_renamed_is_told_of_by_the_first_handle_and_the_last() {
        let renamed = |old: &str, new: &str| Changed::Renamed(old.to_owned(), person(new, "f"));
        let told = |changes: Vec<Changed>| Gift::of(changes.into_iter()).renamed;
        let pair = |old: &str, new: &str| vec![(old.to_owned(), new.to_owned())];
        assert_eq!(told(vec![renamed("carol", "cara"), renamed("CARA", "caroline")]), pair("carol", "caroline"));
        assert!(told(vec![renamed("carol", "cara"), Changed::Gone("Cara".to_owned())]).is_empty());
        let another = vec![renamed("carol", "cara"), Changed::Person(person("carol", "f")), renamed("carol", "cleo")];
        assert_eq!(told(another), pair("carol", "cara"), "the second carol was nobody before");
        assert!(told(vec![renamed("carol", "Carol")]).is_empty());
    }

    #[test]
    fn of_many_lines_the_last_word_counts() {
        let changes = [
            Changed::Person(person("carol", "f")),
            Changed::Person(person("Carol", "fo")),
            Changed::Person(person("dave", "f")),
            Changed::Gone("dave".to_owned()),
            Changed::Renamed("carol".to_owned(), person("caroline", "fo")),
        ];
        let gift = Gift::of(changes.into_iter());
        assert_eq!(
            (gift.people, gift.gone),
            (vec![person("caroline", "fo")], vec!["dave".to_owned(), "carol".to_owned()])
        );
        let gift = Gift::of([Changed::Renamed("carol".to_owned(), person("Carol", "fo"))].into_iter());
        assert_eq!((gift.people, gift.gone), (vec![person("Carol", "fo")], Vec::new()), "she has her handle still");
    }
}
