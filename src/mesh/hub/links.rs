//! Links that come up and end: whose they are, what they teach us, what they stand in for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, oneshot};

use super::super::book::PeerId;
use super::super::link::{Out, QUEUE};
use super::super::name::BotName;
use super::super::net::{Effect, Net};
use super::super::records::Encryption;
use super::talkative::Talk;
use super::{Hub, LINKS_MAX, Line, Up, random};

impl Line {
    fn new(
        out: mpsc::Sender<Out>,
        bot: BotName,
        called: bool,
        hold: Arc<AtomicBool>,
        stop: oneshot::Sender<()>,
    ) -> Line {
        let (talk, fair) = (Talk::default(), Talk::fair());
        Line { out, bot, called, talk, fair, hold, dropped: 0, _stop: stop }
    }
}

impl Hub {
    /// Weighs what a line of a link costs others. A link that gives them more than is fair is read slowly while one of them is behind:
    /// else the one that is behind would be lost for it.
    pub(super) fn weigh(&mut self, id: PeerId, effects: &[Effect]) {
        let (mut given, mut behind) = (false, false);
        for effect in effects {
            if let Effect::Send { to, talk: false, .. } = effect
                && *to != id
            {
                given = true;
                behind |= self.lines.0.get(to).is_some_and(|line| line.out.capacity() < QUEUE / 2);
            }
        }
        let Some(line) = self.lines.0.get_mut(&id).filter(|_| given) else { return };
        if !line.fair.take() && behind && !line.hold.swap(true, Ordering::Relaxed) {
            tracing::debug!(bot = %line.bot, "It is read slowly: it sends more than others can take");
        }
    }

    pub(super) async fn up(&mut self, up: Up) -> Vec<Effect> {
        let refused =
            self.is_first(&up).err().or((self.lines.0.len() >= LINKS_MAX).then_some("there are too many links"));
        let Up { id, peer, out, stop, hold, learned, pin, asked } = up;
        let (now, bot, called) = (self.now(), peer.bot.clone(), peer.called);
        self.changed = true;
        if let Some(fault) = refused {
            tracing::warn!(%bot, fault, "A bot is not linked");
            // It is a line until it has ended: then the dialer, if it was ours, hears of it.
            self.lines.0.insert(id, Line::new(out, bot, called, hold, stop));
            let mut effects = Net::refuse(id, fault);
            if let Some(asked) = asked {
                effects.extend(self.net.answer(&asked, &format!("Failed to link: {fault}"), now));
            }
            return effects;
        }
        if learned.is_some() || pin.is_some() {
            self.learn(&bot, learned, pin).await;
        }
        let after = self.records.get(&bot).is_some_and(|record| record.settings.tls == Encryption::After);
        let upgrades = after && !peer.encrypted;
        self.lines.0.insert(id, Line::new(out.clone(), bot.clone(), called, hold, stop));
        let mut effects = self.net.up(id, peer, now);
        if self.net.peers().all(|(linked, _)| linked != id) {
            // The net does not take it: its line ends, and the dialer, if it was ours, hears of it then.
            let fault = why(&effects);
            tracing::warn!(%bot, fault, "A bot is not linked");
            if let Some(asked) = asked {
                effects.extend(self.net.answer(&asked, &format!("Failed to link {bot}: {fault}"), now));
            }
            return effects;
        }
        self.dialer.is_up(&bot);
        tracing::info!(%bot, "A bot is linked");
        if let Some(asked) = asked {
            effects.extend(self.net.answer(&asked, &format!("Linked with {bot}."), now));
        }
        // A hub is there: what stood in for it is no longer needed.
        if self.records.get(&bot).is_some_and(|record| record.settings.attrs().hub) {
            for id in self.stand_ins() {
                effects.extend(self.net.cut(id, "restructure", now));
            }
        }
        if upgrades {
            // Behind what was just told to it. Without room it stays as insecure as it was allowed to be.
            self.after(id, effects, &out).await
        } else {
            effects
        }
    }

    /// Of two who make a first link by one name at the same time, the second is nobody: what the first has taught us is
    /// what it would have had to prove.
    fn is_first(&self, up: &Up) -> Result<(), &'static str> {
        let bot = &up.peer.bot;
        if self.net.book().bot(bot).is_some() && (up.learned.is_some() || up.pin.is_some()) {
            return Err("it is in the net already, and teaches us nothing");
        }
        let Some(record) = self.records.get(bot) else { return Ok(()) };
        if up.pin.is_some_and(|pin| !record.pins().is_empty() && !record.pins().contains(&pin)) {
            return Err("another certificate was learned of it while it logged in; if that one is wrong, forget it");
        }
        // Who calls us is taught a password only where we knew none.
        if !up.peer.called && up.learned.is_some() && record.link_password().is_some() {
            return Err("a password was agreed on with it while it logged in; it has to prove that one");
        }
        Ok(())
    }

    /// Does what is to be done, and then asks for TLS.
    async fn after(&mut self, id: PeerId, effects: Vec<Effect>, out: &mpsc::Sender<Out>) -> Vec<Effect> {
        let (own, others): (Vec<Effect>, Vec<Effect>) =
            effects.into_iter().partition(|effect| matches!(effect, Effect::Send { to, .. } if *to == id));
        for effect in own {
            self.send(effect);
        }
        if out.try_send(Out::StartTls).is_err() {
            tracing::warn!(link = id, "There is no room to ask for TLS");
        }
        others
    }

    /// The links with alternates that we have called.
    fn stand_ins(&self) -> Vec<PeerId> {
        let alternate = |bot: &BotName| self.records.get(bot).is_some_and(|record| record.settings.attrs().alternate);
        self.lines.0.iter().filter(|(_, line)| line.called && alternate(&line.bot)).map(|(id, _)| *id).collect()
    }

    pub(super) fn down(&mut self, id: PeerId, reason: &str) -> Vec<Effect> {
        self.changed = true;
        if let Some(line) = self.lines.0.remove(&id) {
            tracing::info!(bot = %line.bot, reason, "A bot is no longer linked");
            if line.called {
                self.dialer.failed(&line.bot, random());
            }
        }
        self.net.down(id, reason, self.now())
    }
}

/// Why a link is not taken, by what is done about it.
fn why(effects: &[Effect]) -> String {
    let reason = effects.iter().find_map(|effect| match effect {
        Effect::Close { reason, .. } => Some(reason.clone()),
        _ => None,
    });
    reason.unwrap_or_default()
}
