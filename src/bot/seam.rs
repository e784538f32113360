//! Where the partyline and the mesh meet: what people here do goes to linked bots, what people there do comes to the room,
//! and bots that call the partyline's port are handed on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::Shutdown;
use tokio::sync::Semaphore;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::irc::Fingerprint;
use crate::mesh::{Local, Mesh, News, Word};
use crate::partyline::{Arrival, Arrivals, Change, Did, HANDLE, Party, Place, Session};

/// How long those who come or go are waited for once one does.
const CROWD: Duration = Duration::from_millis(50);
/// Of so many at most.
const CROWD_MAX: usize = 4096;
/// Bots that are taken over from the partyline's port, linked or about to be; as many as the mesh links at most.
const LOGINS: usize = 256;

/// Joins them until shutdown.
pub(super) fn join(party: &Party, mesh: &Mesh, arrivals: Arrivals, shutdown: &Shutdown) -> Vec<JoinHandle<()>> {
    vec![
        tokio::spawn(outwards(party.clone(), mesh.clone(), shutdown.clone())),
        tokio::spawn(inwards(party.clone(), mesh.clone(), shutdown.clone())),
        tokio::spawn(receive(arrivals, mesh.clone(), shutdown.clone())),
    ]
}

/// Bots that called and told their name.
async fn receive(mut arrivals: Arrivals, mesh: Mesh, mut shutdown: Shutdown) {
    let places = Arc::new(Semaphore::new(LOGINS));
    loop {
        let arrival = tokio::select! {
            () = shutdown.recv() => return,
            arrival = arrivals.recv() => arrival,
        };
        let Some(Arrival { stream, read, handle, peer, tls, cert }) = arrival else { return };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!(%peer, bot = %handle, "A bot called while too many others did");
            continue;
        };
        let cert = cert.and_then(|cert| cert.parse::<Fingerprint>().ok());
        let (mesh, mut shutdown) = (mesh.clone(), shutdown.clone());
        tokio::spawn(async move {
            let _place = place;
            let done = tokio::select! {
                () = shutdown.recv() => return,
                done = mesh.adopt_from(Some(peer.ip()), stream, &handle, &read, (tls, cert)) => done,
            };
            if let Err(fault) = done {
                tracing::warn!(%peer, bot = %handle, %fault, "A bot called and is not linked");
            }
        });
    }
}

/// Somebody as they are here now.
struct Sitting {
    sock: u32,
    handle: Arc<str>,
    icon: char,
    host: String,
    channels: Vec<u32>,
}

/// What linked bots know of people here: each is in one channel, the one they went to last.
#[derive(Default)]
struct Known {
    /// The channels of each session, the last one last.
    channels: BTreeMap<u32, Vec<u32>>,
}

impl Known {
    /// What linked bots are told of a change; they may be told two things.
    fn tell(&mut self, change: &Change, at: impl Fn(u32) -> Option<(char, String)>) -> Vec<Local> {
        let sock = change.idx;
        let Some(nick) = Word::new(&change.handle) else { return Vec::new() };
        let goes = |chan: u32, (icon, host): (char, String)| Local::Join { sock, nick: nick.clone(), chan, icon, host };
        match &change.what {
            Did::Joined { channel, icon, host } => {
                let channels = self.channels.entry(sock).or_default();
                channels.retain(|known| known != channel);
                channels.push(*channel);
                vec![goes(*channel, (*icon, host.to_string()))]
            }
            Did::Parted { channel, reason } => {
                let Some(channels) = self.channels.get_mut(&sock) else { return Vec::new() };
                let was_there = channels.last() == Some(channel);
                channels.retain(|known| known != channel);
                match channels.last() {
                    None => {
                        self.channels.remove(&sock);
                        vec![Local::Part { sock, reason: reason.clone() }]
                    }
                    Some(other) if was_there => at(sock).map(|who| goes(*other, who)).into_iter().collect(),
                    Some(_) => Vec::new(),
                }
            }
            Did::Left { reason } => match self.channels.remove(&sock) {
                Some(_) => vec![Local::Part { sock, reason: reason.clone() }],
                None => Vec::new(),
            },
            Did::Said { channel, text, act } => {
                let mut out = Vec::new();
                let channels = self.channels.entry(sock).or_default();
                if channels.last() != Some(channel) {
                    // Words are heard where somebody is: who speaks elsewhere goes there.
                    channels.retain(|known| known != channel);
                    channels.push(*channel);
                    out.extend(at(sock).map(|who| goes(*channel, who)));
                }
                out.push(Local::Say { sock, text: text.clone(), act: *act });
                out
            }
            Did::Told { channel, text } => vec![Local::Tell { chan: *channel, text: text.clone() }],
            Did::Away { reason } if self.channels.contains_key(&sock) => {
                vec![Local::Away { sock, text: reason.as_deref().map(str::to_owned) }]
            }
            Did::Renamed { .. } if self.channels.contains_key(&sock) => vec![Local::Nick { sock, nick }],
            Did::Away { .. } | Did::Renamed { .. } | Did::Entered { .. } | Did::Unlinked { .. } => Vec::new(),
        }
    }

    /// What linked bots are told when it is not known what they missed: who is gone, and where everybody is.
    fn again(&mut self, now: Vec<Sitting>) -> Vec<Local> {
        let mut out = Vec::new();
        for sock in std::mem::take(&mut self.channels).into_keys() {
            if !now.iter().any(|one| one.sock == sock && !one.channels.is_empty()) {
                out.push(Local::Part { sock, reason: String::new() });
            }
        }
        for Sitting { sock, handle, icon, host, channels } in now {
            if let (Some(nick), Some(chan)) = (Word::new(&handle), channels.last().copied()) {
                out.push(Local::Join { sock, nick, chan, icon, host });
                self.channels.insert(sock, channels);
            }
        }
        out
    }
}

fn as_it_is(session: &Session) -> Sitting {
    Sitting {
        sock: session.idx,
        handle: Arc::clone(&session.handle),
        icon: session.icon,
        host: session.host.to_string(),
        channels: session.places.iter().filter_map(Place::number).collect(),
    }
}

async fn outwards(party: Party, mesh: Mesh, mut shutdown: Shutdown) {
    let mut changes = party.changes();
    let mut known = Known::default();
    // Whoever was here before the mesh was.
    let mut tell = known.again(party.each(as_it_is));
    loop {
        for local in tell {
            if let Err(fault) = mesh.tell(local).await {
                tracing::debug!(%fault, "Linked bots are not told something of the partyline");
            }
        }
        let change = tokio::select! {
            () = shutdown.recv() => return,
            change = changes.recv() => change,
        };
        tell = match change {
            Ok(change) => {
                known.tell(&change, |idx| party.session(idx, |session| (session.icon, session.host.to_string())))
            }
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "The partyline is faster than the mesh; some words were not passed on");
                known.again(party.each(as_it_is))
            }
            Err(RecvError::Closed) => return,
        };
    }
}

/// What happened elsewhere, as the room takes it.
fn change(news: &News) -> Option<Change> {
    let of = |member: &crate::mesh::Member, what: Did| Change {
        bot: Some(Arc::from(member.bot.as_str())),
        idx: member.sock,
        handle: Arc::from(member.nick.as_str()),
        what,
    };
    let joined = |member: &crate::mesh::Member| {
        let host = Arc::from(member.host.as_str());
        of(member, Did::Joined { channel: member.chan, icon: member.icon, host })
    };
    Some(match news {
        News::Joined { member, .. } | News::Moved { member, .. } => joined(member),
        // Who leaves there leaves the channel: they are in one at a time.
        News::Left { member, reason, .. } => of(member, Did::Parted { channel: member.chan, reason: reason.clone() }),
        News::Renamed { member, old } => of(member, Did::Renamed { old: Arc::from(old.as_str()) }),
        News::Away { member, .. } => of(member, Did::Away { reason: member.away.as_deref().map(Arc::from) }),
        News::Said { member, chan, text, act } => {
            of(member, Did::Said { channel: *chan, text: text.clone(), act: *act })
        }
        News::BotSaid { bot, chan, text } => Change {
            bot: Some(Arc::from(bot.as_str())),
            idx: 0,
            handle: Arc::from(bot.as_str()),
            what: Did::Told { channel: *chan, text: text.clone() },
        },
        News::Lost { bot, reason } => Change {
            bot: Some(Arc::from(bot.as_str())),
            idx: 0,
            handle: Arc::from(bot.as_str()),
            what: Did::Unlinked { reason: reason.clone() },
        },
        News::Linked { .. } | News::Answer { .. } | News::Script { .. } | News::Boot { .. } => return None,
    })
}

async fn inwards(party: Party, mesh: Mesh, mut shutdown: Shutdown) {
    let mut news = mesh.news();
    // The mesh is there before the room is: who came with a link that was quicker than we.
    look_again(&party, &mesh);
    loop {
        let next = tokio::select! {
            () = shutdown.recv() => return,
            next = news.recv() => next,
        };
        let (mut changes, mut next) = (Vec::new(), Some(next));
        // Where a link comes up or is lost, many come or go: they are taken in together.
        let until = Instant::now() + CROWD;
        while let Some(one) = next.take() {
            match one {
                Ok(one) => {
                    take_in(&one, &party, &mut changes);
                    if matches!(&*one, News::Joined { .. } | News::Left { .. }) && changes.len() < CROWD_MAX {
                        next = tokio::time::timeout_at(until, news.recv()).await.ok();
                    }
                }
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(
                        missed,
                        "The mesh is faster than the partyline; people on other bots are looked up anew"
                    );
                    party.take(std::mem::take(&mut changes));
                    look_again(&party, &mesh);
                }
                Err(RecvError::Closed) => return,
            }
        }
        party.take(changes);
    }
}

/// Takes in what happened elsewhere: a change of the room is gathered, the rest is done at once.
fn take_in(news: &News, party: &Party, changes: &mut Vec<Change>) {
    match news {
        News::Answer { from, user, sock: Some(sock), text } => {
            // Only to whom it says, and never as if the bot itself spoke.
            let theirs = |session: &Session| session.handle.eq_ignore_ascii_case(user.as_str());
            if party.session(*sock, theirs) == Some(true) {
                party.tell(*sock, &format!("({from}) {text}"));
            }
        }
        News::Boot { from, user, reason } => boot(party, &from.to_string(), user, reason),
        other => changes.extend(change(other)),
    }
}

/// Somebody on another bot, who may, sends somebody of ours off.
fn boot(party: &Party, from: &str, user: &Word, reason: &str) {
    // Owners and the console are nobody's elsewhere to send away.
    let theirs = |session: &Session| {
        let may = session.icon != '*' && &*session.handle != HANDLE;
        (may && session.handle.eq_ignore_ascii_case(user.as_str())).then_some(session.idx)
    };
    for idx in party.each(theirs).into_iter().flatten() {
        party.boot(idx, &format!("{from}: {reason}"));
    }
}

/// Brings the room to what the mesh knows now.
fn look_again(party: &Party, mesh: &Mesh) {
    let view = mesh.view();
    let mut changes = Vec::new();
    for guest in party.guests() {
        let there = |member: &&crate::mesh::Member| {
            guest.bot.eq_ignore_ascii_case(member.bot.as_str()) && guest.idx == member.sock
        };
        if view.members.iter().find(there).is_none() {
            let what = Did::Parted { channel: guest.channel, reason: String::new() };
            changes.push(Change { bot: Some(guest.bot), idx: guest.idx, handle: guest.handle, what });
        }
    }
    let when = crate::mesh::When::Before;
    changes.extend(view.members.iter().filter_map(|member| change(&News::Joined { member: member.clone(), when })));
    party.take(changes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn did(what: Did) -> Change {
        Change { bot: None, idx: 7, handle: Arc::from("alice"), what }
    }

    fn shown(known: &mut Known, what: Did) -> Vec<String> {
        let told = known.tell(&did(what), |_| Some(('@', "home".to_owned())));
        let shown = |local: Local| match local {
            Local::Join { chan, .. } => format!("join {chan}"),
            Local::Part { reason, .. } => format!("part {reason}"),
            Local::Say { text, .. } => format!("say {text}"),
            other => format!("{other:?}"),
        };
        told.into_iter().map(shown).collect()
    }

    #[test]
    fn others_see_somebody_in_the_channel_they_went_to_last() {
        let mut known = Known::default();
        let joins = |channel| Did::Joined { channel, icon: '@', host: Arc::from("home") };
        let parts = |channel| Did::Parted { channel, reason: "bye".to_owned() };
        let says = |channel| Did::Said { channel, text: "hi".to_owned(), act: false };
        assert_eq!(shown(&mut known, joins(0)), ["join 0"]);
        assert_eq!(shown(&mut known, joins(5)), ["join 5"]);
        assert_eq!(shown(&mut known, says(5)), ["say hi"]);
        assert_eq!(shown(&mut known, says(0)), ["join 0", "say hi"]);
        assert_eq!(shown(&mut known, parts(5)), [""; 0]);
        assert_eq!(shown(&mut known, joins(5)), ["join 5"]);
        assert_eq!(shown(&mut known, parts(5)), ["join 0"]);
        assert_eq!(shown(&mut known, parts(0)), ["part bye"]);
        assert_eq!(shown(&mut known, Did::Left { reason: "bye".to_owned() }), [""; 0]);
    }

    #[test]
    fn what_was_missed_is_told_anew() {
        let mut known = Known::default();
        known.tell(&did(Did::Joined { channel: 0, icon: '-', host: Arc::from("home") }), |_| None);
        let bob = Sitting { sock: 8, handle: Arc::from("bob"), icon: '-', host: "home".to_owned(), channels: vec![0] };
        let told = known.again(vec![bob]);
        assert!(matches!(told[0], Local::Part { sock: 7, .. }));
        assert!(matches!(told[1], Local::Join { sock: 8, chan: 0, .. }));
    }
}
