//! User files that are taken: each in a task of its own, with the lines behind it.

use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::task::JoinSet;

use super::super::BotName;
use super::super::book::PeerId;
use super::super::gift::{Giving, LINES, Offer};
use super::{Ask, Hub};

impl Hub {
    /// Fetches a file that may be taken.
    pub(super) fn fetch(&mut self, id: PeerId, offer: Offer, tasks: &mut JoinSet<()>) {
        let found = self.net.peers().find(|(other, _)| *other == id);
        let Some((bot, at, encrypted)) = found.map(|(_, peer)| (peer.bot.clone(), peer.at, peer.encrypted)) else {
            return;
        };
        let (Some(at), Some(record)) = (at, self.records.get(&bot)) else {
            return self.not_taken(id, bot, "where it is cannot be told");
        };
        let (to, lines) = mpsc::channel(LINES);
        let giving = Giving {
            id,
            bot,
            at,
            offer,
            tls: self.tls.clone(),
            pins: if encrypted { record.pins() } else { Vec::new() },
            insecure: record.settings.insecure,
            hub: self.to_self.clone(),
            house: self.house.clone(),
            lines,
        };
        self.givers.insert(id, to);
        tasks.spawn(giving.run());
    }

    /// A line about people of an Eggdrop.
    pub(super) fn given(&mut self, id: PeerId, line: String) {
        let Some(to) = self.givers.get(&id) else { return };
        let Err(fault) = to.try_send(line) else { return };
        self.givers.remove(&id);
        let bot = self.net.peers().find(|(other, _)| *other == id).map(|(_, peer)| peer.bot.clone());
        // Where the task has ended it says itself why.
        if let (TrySendError::Full(_), Some(bot)) = (fault, bot) {
            self.not_taken(id, bot, "there is more to tell than can be taken at once");
        }
    }

    fn not_taken(&mut self, id: PeerId, bot: BotName, fault: &str) {
        // Without room the other side goes on telling what nobody takes, until it offers the whole again.
        let _ = self.to_self.try_send(Ask::NotTaken { id, bot, fault: fault.to_owned() });
    }
}
