//! The outbox: an action goes to the network that does it. There is no other way to a channel. What is said on a network is put on
//! account first, and kept within what its channel bears.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use masterchief_contract::{Action, Actor, Future, How, Outlet, Receipt, Refused};

use super::ledger::Ledger;
use super::mesh::Desk;
use super::speech::Speech;
use crate::gateway::{Answer, Answers};
use crate::irc::{Around, Member, Network};
use crate::lua::World;
use crate::mesh::{self, Leads};
use crate::partyline::{self, Here, Party};

/// Something that does actions.
#[derive(Clone)]
pub(crate) enum Place {
    /// An IRC network.
    Irc(Network),
    /// The partyline.
    Party(Party),
}

/// The places by the names they have in the configuration. Cheap to clone; all clones are the same one.
#[derive(Clone)]
pub(crate) struct Outbox {
    places: Arc<ArcSwap<BTreeMap<String, Place>>>,
    /// What is said, and what became of it.
    pub(crate) speech: Speech,
    /// The partyline, where channels of networks can be watched.
    pub(crate) watched: Arc<ArcSwapOption<Party>>,
    /// Whoever posted a webhook and waits.
    pub(crate) answers: Answers,
    /// People on other bots whose words are being done here.
    pub(crate) desk: Desk,
    /// Where this bot acts, on networks that it shares with others.
    pub(crate) leads: Leads,
}

impl Outbox {
    /// No places yet.
    pub(crate) fn new(ledger: Ledger) -> Outbox {
        Outbox {
            places: Arc::default(),
            speech: Speech::new(ledger),
            watched: Arc::default(),
            answers: Answers::default(),
            desk: Desk::default(),
            leads: Leads::default(),
        }
    }

    /// Adds a place, or replaces the one of that name.
    pub(crate) fn put(&self, name: &str, place: Place) {
        self.places.rcu(|places| {
            let mut places = BTreeMap::clone(places);
            places.insert(name.to_owned(), place.clone());
            places
        });
    }

    /// Takes a place away.
    pub(crate) fn remove(&self, name: &str) {
        self.places.rcu(|places| {
            let mut places = BTreeMap::clone(places);
            places.remove(name);
            places
        });
    }

    /// The names of all places.
    pub(crate) fn names(&self) -> Vec<String> {
        self.places.load().keys().cloned().collect()
    }

    /// The IRC networks.
    pub(crate) fn networks(&self) -> Vec<Network> {
        let places = self.places.load();
        let irc = places.values().filter_map(|place| match place {
            Place::Irc(network) => Some(network.clone()),
            Place::Party(_) => None,
        });
        irc.collect()
    }

    /// The IRC network of this name; of the only one for an empty name.
    pub(crate) fn network(&self, name: &str) -> Option<Network> {
        match self.place(name) {
            Ok(Place::Irc(network)) => Some(network),
            _ => None,
        }
    }

    /// The place an action for this network goes to. An empty name means the only one there is.
    fn place(&self, name: &str) -> Result<Place, Refused> {
        let places = self.places.load();
        let names = || places.keys().cloned().collect::<Vec<_>>().join(", ");
        if name.is_empty() {
            // The partyline is meant only where there is no network.
            let network = |place: &&Place| matches!(place, Place::Irc(_));
            let mut all = places.values().filter(network);
            return match (all.next().or(places.values().next()), all.next()) {
                (Some(place), None) => Ok(place.clone()),
                (None, _) => Err(Refused::new("there is no network to act on; add one under `networks:`")),
                _ => Err(Refused::new(format!("say which network is meant, as in `NETWORK/#channel`: {}", names()))),
            };
        }
        let found = places.get(name).cloned();
        found.ok_or_else(|| Refused::new(format!("there is no network {name}; there are: {}", names())))
    }
}

impl Outlet for Outbox {
    fn perform(&self, action: Action) -> Future<Result<(), Refused>> {
        let outbox = self.clone();
        Box::pin(async move { outbox.act(action, false).await.map(drop) })
    }

    fn deliver(&self, action: Action) -> Future<Result<Receipt, Refused>> {
        let outbox = self.clone();
        Box::pin(async move { outbox.act(action, true).await })
    }

    fn now(&self, network: &str, then: &Actor) -> Option<Actor> {
        match (self.place(network), &then.login) {
            (Ok(Place::Irc(network)), _) if then.seen => network.now(then),
            (Ok(Place::Party(party)), Some(handle)) => {
                let here = party.each(|session| session.handle.eq_ignore_ascii_case(handle)).contains(&true);
                here.then(|| then.clone())
            }
            // Whom the bot does not see is who they were: nobody would tell.
            _ => Some(then.clone()),
        }
    }
}

impl Outbox {
    /// Does an action; where `wait` is set, words are waited for until it is known what became of them.
    async fn act(&self, action: Action, wait: bool) -> Result<Receipt, Refused> {
        let network = match action.bare() {
            Action::Tagged { .. } | Action::Marked { .. } => "",
            Action::Answer { event, status, content_type, body } => {
                let answer = Answer { status: *status, content_type: content_type.clone(), body: body.clone() };
                return match self.answers.give(*event, answer) {
                    true => Ok(Receipt::default()),
                    false => Err(Refused::new(
                        "nobody waits for an answer to this event; give its route a time, as in answer: 3s",
                    )),
                };
            }
            Action::Say { network, .. }
            | Action::Join { network, .. }
            | Action::Part { network, .. }
            | Action::Send { network, .. } => network.as_str(),
        };
        if network == mesh::NETWORK {
            return self.desk.perform(&self.hidden(action)).map(|()| Receipt::default());
        }
        match self.place(network)? {
            Place::Irc(network) => {
                // To be in a channel is not to act there.
                let acts = !matches!(action.bare(), Action::Join { .. });
                if acts && !self.leads.may_act(network.name()) {
                    return Err(not_ours(&self.leads, network.name()));
                }
                let party = self.watched.load_full().filter(|party| party.watched());
                let said = party.as_ref().and_then(|_| said(&network, action.bare()));
                let receipt = self.speech.perform(&network, action, wait).await?;
                if let (Some(party), Some((nick, target, text, how))) = (party, said) {
                    for line in self.speech.ledger.hide(&text).lines() {
                        party.overhear(network.name(), &target, &nick, line, how);
                    }
                }
                Ok(receipt)
            }
            Place::Party(party) => party.perform(self.hidden(action)).map(|()| Receipt::default()),
        }
    }

    /// The words alone, with every secret in them hidden: for places that are no IRC network.
    fn hidden(&self, action: Action) -> Action {
        match action.untagged().1 {
            Action::Say { network, target, text, how, reply } => {
                let text = self.speech.ledger.hide(&text).into_owned();
                Action::Say { network, target, text, how, reply }
            }
            other => other,
        }
    }
}

/// Another bot of the group acts there.
fn not_ours(leads: &Leads, network: &str) -> Refused {
    let leader = leads.of(network).and_then(|led| led.leader);
    let who = leader.map_or("nobody yet".to_owned(), |leader| leader.to_string());
    Refused::new(format!(
        "{network} is shared by a group of bots, and {who} acts there now; mesh.leader({network:?}) tells"
    ))
}

impl World for Outbox {
    fn networks(&self) -> Vec<String> {
        self.names()
    }

    fn hide(&self, text: &str) -> String {
        self.speech.ledger.hide(text).into_owned()
    }

    fn nick(&self, network: &str) -> Option<String> {
        match self.place(network).ok()? {
            Place::Irc(network) => Some(network.nick()),
            Place::Party(party) => Some(party.bot().to_string()),
        }
    }

    fn channels(&self, network: &str) -> Vec<String> {
        match self.place(network) {
            Ok(Place::Irc(network)) => network.channels(),
            Ok(Place::Party(_)) => vec![partyline::CHANNEL.to_owned(), partyline::LOBBY.to_owned()],
            Err(_) => Vec::new(),
        }
    }

    fn members(&self, network: &str, channel: &str) -> Vec<Member> {
        match self.place(network) {
            Ok(Place::Irc(network)) => network.members(channel),
            Ok(Place::Party(party)) => {
                let Some(place) = partyline::Place::parse(channel) else { return Vec::new() };
                let here = party.here(&place);
                here.into_iter().map(|here| on_the_partyline(&here)).chain([bot(&party)]).collect()
            }
            Err(_) => Vec::new(),
        }
    }

    fn channel(&self, network: &str, channel: &str) -> Option<(String, String)> {
        match self.place(network).ok()? {
            Place::Irc(network) => network.channel(channel),
            Place::Party(party) => {
                partyline::Place::parse(channel).map(|place| (party.topic(&place), "+nt".to_owned()))
            }
        }
    }
}

fn on_the_partyline(here: &Here) -> Member {
    Member {
        nick: here.author.nick.to_string(),
        user: here.author.handle.to_string(),
        host: here.author.host.to_string(),
        account: Some(here.author.handle.to_string()),
        status: if here.icon == '-' { String::new() } else { "@".to_owned() },
        ..Member::default()
    }
}

fn bot(party: &Party) -> Member {
    let nick = party.bot().to_string();
    Member {
        user: nick.clone(),
        nick,
        host: partyline::NETWORK.to_owned(),
        status: "@".to_owned(),
        ..Member::default()
    }
}

/// What the bot says in a channel, for those who watch it.
fn said(network: &Network, action: &Action) -> Option<(String, String, String, How)> {
    let Action::Say { target, text, how, .. } = action else { return None };
    target.starts_with(['#', '&', '+', '!']).then(|| (network.nick(), target.clone(), text.clone(), *how))
}
