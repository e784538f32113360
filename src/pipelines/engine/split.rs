//! A netsplit takes away who was asked to say yes: the time for it stands still until they are back, as the same account.

use super::Engine;
use crate::pipelines::run::{Asker, Millis, Run};
use crate::pipelines::state::RunState;
use crate::pipelines::words;

/// How long somebody may take to come back. After that a split is over for everybody.
const PATIENCE: Millis = 600_000;

impl Engine {
    /// Somebody was lost in a netsplit.
    pub(super) fn lost(&mut self, network: &str, nick: &str) {
        let theirs = |run: &Run| asked_by(run, network, nick) && run.away.is_none();
        for number in self.numbers(theirs) {
            let Some(live) = self.runs.get_mut(&number) else { continue };
            live.run.away = Some(live.run.due.map_or(0, |due| (due - self.now).max(0)));
            live.run.due = Some(self.now + PATIENCE);
            let line = words::lost(&live.run);
            self.say_aside(number, &line);
        }
    }

    /// Somebody whom the network vouches for is there.
    pub(super) fn found(&mut self, who: &Asker) {
        let theirs = |run: &Run| {
            let same = run.asker.handle == who.handle && (!run.asker.has_account() || who.shares_account(&run.asker));
            run.state == RunState::AwaitingConfirm && run.away.is_some() && same
        };
        for number in self.numbers(theirs) {
            let Some(live) = self.runs.get_mut(&number) else { continue };
            let left = live.run.away.take().unwrap_or_default();
            live.run.due = Some(self.now + left);
            live.run.asker.nick.clone_from(&who.nick);
            let line = words::found(&live.run, left);
            self.say_aside(number, &line);
        }
    }

    /// Somebody left, or has another nick now: what waits for their yes waits no more.
    pub(super) fn gone(&mut self, network: &str, nick: &str) {
        // Who has the nick of somebody who was lost is somebody else.
        for number in self.numbers(|run| asked_by(run, network, nick) && run.away.is_none()) {
            self.nobody_says_yes(number);
        }
    }

    /// Words were taken back: what they asked for and nobody has said yes to is off.
    pub(super) fn redacted(&mut self, network: &str, msgid: &str) {
        let theirs = |run: &Run| waits_on(run, network) && run.asker.msgid.as_deref() == Some(msgid);
        for number in self.numbers(theirs) {
            self.is_off(number, words::taken_back);
        }
    }

    /// A run is off, because who had to say yes is not there any more.
    pub(super) fn nobody_says_yes(&mut self, number: i64) {
        self.is_off(number, words::gone);
    }

    fn is_off(&mut self, number: i64, why: fn(&Run) -> String) {
        self.to(number, RunState::Expired, "bot");
        let Some(live) = self.runs.get(&number) else { return };
        let line = why(&live.run);
        self.must_say(number, "finished", &line);
        self.next_turn(number);
    }

    /// A line that is none of those a run may say: nobody knows how many splits there will be.
    fn say_aside(&mut self, number: i64, line: &str) {
        if let Some(live) = self.runs.get_mut(&number) {
            live.run.spared += 1;
            self.must_say(number, "start", line);
        }
    }

    fn numbers(&self, of: impl Fn(&Run) -> bool) -> Vec<i64> {
        self.runs.values().map(|live| &live.run).filter(|run| of(run)).map(|run| run.number).collect()
    }
}

/// Whether a run waits for the yes of this nick.
fn asked_by(run: &Run, network: &str, nick: &str) -> bool {
    waits_on(run, network) && run.asker.nick.eq_ignore_ascii_case(nick)
}

/// Whether a run waits for the yes of somebody on this network.
fn waits_on(run: &Run, network: &str) -> bool {
    let here = masterchief_contract::split_place(&run.asker.place).0 == network;
    run.state == RunState::AwaitingConfirm && here
}
