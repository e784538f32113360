//! Calls of ours that wait for their answers, and those of others that wait for ours.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use super::book::PeerId;
use super::name::BotName;
use super::talk::{Assembler, Said, Size};

/// Calls of ours that wait at once.
const WAITING: usize = 1024;

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallFault {
    /// Nobody of that name is linked.
    #[error("{0} is not linked; `mesh.bots()` and .bots tell who is")]
    NoSuchBot(BotName),
    /// It does not speak of calls.
    #[error("{0} is an Eggdrop and answers no calls; use mesh.send")]
    NotOurs(BotName),
    /// The data is too long.
    #[error("the data of a call has at most {} bytes", super::talk::DATA_MAX)]
    TooLong,
    /// Too many wait.
    #[error("{WAITING} calls wait for answers; try again later")]
    Busy,
    /// The bot was lost before it answered: it may have done it or not.
    #[error("{0} was lost before it answered; whether it has done it is not known")]
    Lost(BotName),
    /// No answer in time: it may have done it or not.
    #[error("{0} did not answer in time; whether it has done it is not known")]
    Late(BotName),
    /// It answers with a fault.
    #[error("{0}")]
    Refused(String),
    /// The bot is shutting down.
    #[error("the bot is shutting down")]
    Closing,
}

/// Where an answer goes.
pub(super) type Reply = oneshot::Sender<Result<String, CallFault>>;

/// The calls.
pub(super) struct Pending {
    next: u32,
    waiting: BTreeMap<u32, (BotName, Reply)>,
    assembler: Assembler,
}

impl Default for Pending {
    /// Numbers begin anywhere: what answers a call from before a restart must meet nobody who waits for something else.
    fn default() -> Pending {
        let mut next = [0; 4];
        // Without random numbers they begin where they began before, and two would have to meet in the same moment.
        let _ = getrandom::fill(&mut next);
        Pending { next: u32::from_le_bytes(next), waiting: BTreeMap::new(), assembler: Assembler::default() }
    }
}

/// A call of another bot.
pub(super) struct Called {
    pub(super) id: u32,
    pub(super) cmd: String,
    pub(super) data: String,
}

impl Pending {
    /// A call begins: gives its frames, or tells who asked why not.
    pub(super) fn begin(
        &mut self,
        bot: BotName,
        (cmd, data): (String, String),
        reply: Reply,
        size: Size,
    ) -> Vec<String> {
        self.waiting.retain(|_, (_, reply)| !reply.is_closed());
        self.next = self.next.wrapping_add(1);
        let id = self.next;
        let fault = match (Said::Call { id, cmd, data }).frames(size) {
            Some(frames) if self.waiting.len() < WAITING => {
                self.waiting.insert(id, (bot, reply));
                return frames;
            }
            Some(_) => CallFault::Busy,
            None => CallFault::TooLong,
        };
        // Whoever asked may have gone.
        let _ = reply.send(Err(fault));
        Vec::new()
    }

    /// A frame came over a link. An answer is given to who waits for it, if it is of the bot that was asked; a call is given back.
    pub(super) fn frame(&mut self, from: &BotName, via: PeerId, text: &str, now: i64) -> Option<Called> {
        match self.assembler.take(from, via, text, now)? {
            Said::Call { id, cmd, data } => Some(Called { id, cmd, data }),
            Said::Answer { id, result } => {
                if self.waiting.get(&id).is_some_and(|(bot, _)| bot == from)
                    && let Some((_, reply)) = self.waiting.remove(&id)
                {
                    let _ = reply.send(result.map_err(CallFault::Refused));
                }
                None
            }
        }
    }

    /// A bot is gone: who waits for it waits no longer.
    pub(super) fn lost(&mut self, bot: &BotName) {
        self.assembler.forget(bot);
        let ids: Vec<u32> = self.waiting.iter().filter(|(_, (other, _))| other == bot).map(|(id, _)| *id).collect();
        for (_, reply) in ids.into_iter().filter_map(|id| self.waiting.remove(&id)) {
            let _ = reply.send(Err(CallFault::Lost(bot.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> BotName {
        text.parse().unwrap()
    }

    fn begin(pending: &mut Pending, reply: Reply) -> Vec<String> {
        pending.begin(name("Other"), ("cmd".to_owned(), "x".to_owned()), reply, Size::Small)
    }

    #[test]
    fn only_the_one_that_was_asked_answers_and_one_that_is_lost_is_not_waited_for() {
        let mut pending = Pending::default();
        let (reply, mut answer) = oneshot::channel();
        assert_eq!(begin(&mut pending, reply).len(), 1);
        let id = pending.next;
        let good = Said::Answer { id, result: Ok("done".to_owned()) }.frames(Size::Small).unwrap();
        assert!(pending.frame(&name("Mallory"), 1, &good[0], 0).is_none());
        assert!(answer.try_recv().is_err());
        pending.frame(&name("other"), 1, &good[0], 0);
        assert_eq!(answer.try_recv(), Ok(Ok("done".to_owned())));
        let (reply, mut answer) = oneshot::channel();
        begin(&mut pending, reply);
        pending.lost(&name("OTHER"));
        assert_eq!(answer.try_recv(), Ok(Err(CallFault::Lost(name("Other")))));
    }
    #[test]
    fn an_answer_from_before_a_restart_is_nobodys() {
        let (mut before, mut after) = (Pending::default(), Pending::default());
        let (reply, _lost) = oneshot::channel();
        begin(&mut before, reply);
        let (reply, mut answer) = oneshot::channel();
        begin(&mut after, reply);
        let late = Said::Answer { id: before.next, result: Ok("of another".to_owned()) }.frames(Size::Small).unwrap();
        after.frame(&name("Other"), 1, &late[0], 0);
        assert!(answer.try_recv().is_err());
        let own = Said::Answer { id: after.next, result: Ok("its own".to_owned()) }.frames(Size::Small).unwrap();
        after.frame(&name("Other"), 1, &own[0], 0);
        assert_eq!(answer.try_recv(), Ok(Ok("its own".to_owned())));
    }
}
