//! The outbox: an action goes to the network that does it. There is no other way to a channel.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use masterchief_contract::{Action, Future, Outlet, Refused};

use super::meshrun::Desk;
use crate::gateway::{Answer, Answers};
use crate::irc::{Member, Network};
use crate::lua::World;
use crate::mesh;
use crate::partyline::{self, Console};

/// Something that does actions.
#[derive(Clone)]
pub(crate) enum Place {
    /// An IRC network.
    Irc(Network),
    /// The terminal.
    Console(Console),
}

/// The places by the names they have in the configuration. Cheap to clone; all clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct Outbox {
    places: Arc<ArcSwap<BTreeMap<String, Place>>>,
    /// Whoever posted a webhook and waits.
    pub(crate) answers: Answers,
    /// People on other bots whose words are being done here.
    pub(crate) desk: Desk,
}

impl Outbox {
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
            Place::Console(_) => None,
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
            let mut all = places.values();
            return match (all.next(), all.next()) {
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
        Box::pin(async move {
            let network = match &action {
                Action::Answer { event, status, content_type, body } => {
                    let answer = Answer { status: *status, content_type: content_type.clone(), body: body.clone() };
                    return match outbox.answers.give(*event, answer) {
                        true => Ok(()),
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
                return outbox.desk.perform(&action);
            }
            match outbox.place(network)? {
                Place::Irc(network) => network.perform(action).await,
                Place::Console(console) => console.perform(action),
            }
        })
    }
}

impl World for Outbox {
    fn networks(&self) -> Vec<String> {
        self.names()
    }

    fn nick(&self, network: &str) -> Option<String> {
        match self.place(network).ok()? {
            Place::Irc(network) => Some(network.nick()),
            Place::Console(console) => Some(console.bot().to_owned()),
        }
    }

    fn channels(&self, network: &str) -> Vec<String> {
        match self.place(network) {
            Ok(Place::Irc(network)) => network.channels(),
            Ok(Place::Console(_)) => vec![partyline::CHANNEL.to_owned()],
            Err(_) => Vec::new(),
        }
    }

    fn members(&self, network: &str, channel: &str) -> Vec<Member> {
        match self.place(network) {
            Ok(Place::Irc(network)) => network.members(channel),
            Ok(Place::Console(console)) if channel == partyline::CHANNEL => {
                [console.nick(), console.bot()].map(at_the_console).to_vec()
            }
            _ => Vec::new(),
        }
    }

    fn channel(&self, network: &str, channel: &str) -> Option<(String, String)> {
        match self.place(network).ok()? {
            Place::Irc(network) => network.channel(channel),
            Place::Console(_) => (channel == partyline::CHANNEL).then(Default::default),
        }
    }
}

fn at_the_console(nick: &str) -> Member {
    Member {
        nick: nick.to_owned(),
        user: nick.to_owned(),
        host: partyline::NETWORK.to_owned(),
        account: None,
        status: String::new(),
    }
}
