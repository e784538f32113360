//! Running calls: one handler after another where a choice depends on it, with a deadline, a cooldown and a name.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::FutureExt;
use masterchief_contract::{
    Action, Call, Clock, Delivery, Event, Handler, HandlerError, HandlerResult, How, Kind, Matching, Outcome, Outlet,
    Returns, Who, split_place,
};
use tokio::time::Instant;

use super::audit::Audit;
use super::because::Because;
use super::builder::Rules;
use super::inflight::InFlight;
use super::ledger::Ledger;
use super::names::Names;
use super::outbox::Outbox;
use super::words;
use crate::dispatch::{Bind, Cooldowns, Step};
use crate::irc::Around;
use crate::lua::Asks;
use crate::mesh::Leads;
use crate::partyline::{DCC, FILT, Party};
use crate::store::AuditRow;

/// Calls of one bind that may run at once, so that a slow handler cannot fill the memory.
pub(super) const CALLS_MAX: u64 = 256;

/// Why a delivery did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// For operators.
    pub(crate) reason: String,
    /// When it is to be tried again, if the handler says so.
    pub(crate) after: Option<Duration>,
    /// Whether it can never succeed.
    pub(crate) dead: bool,
    /// Whether the reason is the handler's own words, which others may see.
    pub(crate) own_words: bool,
}

/// Runs the steps of a decision.
pub(crate) struct Calls {
    /// Where actions go.
    pub(crate) outlet: Arc<dyn Outlet>,
    /// What is said, and what must not be.
    pub(crate) ledger: Ledger,
    /// Who did what.
    pub(crate) audit: Audit,
    /// The time of day, for the audit.
    pub(crate) clock: Clock,
    /// How people and calls are treated.
    pub(crate) rules: Arc<ArcSwap<Rules>>,
    /// Questions to people; the time they take to answer is none of a call's own.
    pub(crate) asks: Asks,
    /// What is running.
    pub(crate) in_flight: InFlight,
    /// Where this bot acts.
    leads: Leads,
    /// Where sessions can be ended.
    party: Arc<ArcSwapOption<Party>>,
    names: Names,
    cooldowns: Mutex<Cooldowns>,
}

/// What a command of the partyline gives, as in Eggdrop, to end the session of who gave it.
const BREAK: &str = "break";
/// Where the command log stands among what is logged: the console mode c.
const COMMANDS: &str = "masterchief::bot::audit::commands";

impl Calls {
    /// Nothing is running yet.
    pub(crate) fn new(outbox: &Outbox, audit: Audit, clock: Clock, rules: Arc<ArcSwap<Rules>>) -> Calls {
        Calls {
            outlet: Arc::new(outbox.clone()),
            ledger: outbox.speech.ledger.clone(),
            audit,
            clock,
            rules,
            asks: Asks::default(),
            in_flight: InFlight::default(),
            leads: outbox.leads.clone(),
            party: Arc::clone(&outbox.watched),
            names: Names::new(),
            cooldowns: Mutex::new(Cooldowns::default()),
        }
    }

    /// Runs a step, and where it passes, what it was in front of.
    pub(crate) async fn run(self: Arc<Self>, event: Event, step: Step, who: Who) -> Outcome {
        let _running = self.in_flight.begin();
        let mut binds = std::iter::once(&step.bind).chain(&step.fallbacks);
        loop {
            let Some(bind) = binds.next() else { return Outcome::Pass };
            match self.one(&event, bind, &step, &who).await {
                Outcome::Pass => {}
                outcome => {
                    if outcome == Outcome::Stop && step.returns == Returns::Log {
                        tracing::info!(target: COMMANDS, "{}", words::command(&event, step.kind, &who, |text| self.ledger.hide(text).into_owned()));
                    }
                    return outcome;
                }
            }
        }
    }

    /// One call of one bind, from its arguments to what is said about it.
    async fn one(&self, event: &Event, bind: &Arc<Bind>, step: &Step, who: &Who) -> Outcome {
        let schedule = bind.spec().matching == Matching::Named;
        if !self.is_ours(bind) {
            tracing::debug!(bind = %bind.mask, origin = %bind.origin(), "Another bot of the group calls it");
            return Outcome::Nothing;
        }
        let most = if schedule && !bind.options.overlap { 1 } else { CALLS_MAX };
        let Some(_turn) = bind.turn(most) else {
            tracing::warn!(bind = %bind.mask, origin = %bind.origin(), running = most, "A call is left out: those before it still run");
            if !schedule {
                // Told only if it can be told at once: whoever has no turn must not wait for one.
                let outlet = self.speaking(event, bind, step.kind, who, "");
                let _ = self.tell(event, bind, &outlet, words::busy(bind.word())).now_or_never();
            }
            return Outcome::Nothing;
        };
        let name = self.names.next();
        let outlet = self.speaking(event, bind, step.kind, who, &name);
        let text = event.text.get(step.text_at..).unwrap_or("");
        let args = match bind.usage.as_ref().map(|usage| usage.read(text)) {
            None => Default::default(),
            Some(Ok(args)) => args,
            Some(Err(fault)) => {
                self.tell(event, bind, &outlet, fault.for_person(bind.word())).await;
                return Outcome::Nothing;
            }
        };
        if let Some(left) = self.too_soon(event, bind) {
            self.tell(event, bind, &outlet, words::cooling_down(bind.word(), left)).await;
            return Outcome::Nothing;
        }
        let call = Call {
            bind: bind.id,
            kind: step.kind,
            mask: Arc::clone(&bind.mask),
            who: who.clone(),
            text_at: step.text_at,
            args,
            trace: Arc::clone(&name),
            outlet: Arc::clone(&outlet),
            to: bind.to.clone(),
            delivery: None,
        };
        bind.hit();
        if !bind.flags.is_open() {
            self.note(event, bind, who, "ran", text);
        }
        let limit = self.limit(bind);
        // With the call, which knows where the words of a schedule go.
        let event = event.for_call(call);
        let result = deadline(&bind.handler, event.clone(), limit, (&self.asks, &name)).await;
        self.finish(&event, Calling { bind, who, name: &name, limit, outlet: &outlet }, result).await
    }

    /// Whether this bot calls it, where several share a network.
    fn is_ours(&self, bind: &Bind) -> bool {
        let schedule = bind.spec().matching == Matching::Named;
        let to = bind.to.as_deref().map(|to| split_place(to).0);
        self.leads.may_call(&bind.options.acts, schedule, to)
    }

    /// What a call says goes out with the reason for it.
    fn speaking(&self, event: &Event, bind: &Arc<Bind>, kind: Kind, who: &Who, call: &str) -> Arc<dyn Outlet> {
        self.because(&self.outlet, event, bind, kind, who, &Arc::from(call))
    }

    fn because(
        &self,
        outlet: &Arc<dyn Outlet>,
        event: &Event,
        bind: &Arc<Bind>,
        kind: Kind,
        who: &Who,
        call: &Arc<str>,
    ) -> Arc<dyn Outlet> {
        let (outlet, event, mask) = (Arc::clone(outlet), event.clone(), Arc::clone(&bind.mask));
        let (bind, who, call) = (Arc::downgrade(bind), who.clone(), Arc::clone(call));
        Arc::new(Because { outlet, event, mask, bind, kind, who, call })
    }

    /// How long a call of this bind may take.
    pub(crate) fn limit(&self, bind: &Bind) -> Duration {
        bind.options.timeout.unwrap_or_else(|| self.rules.load().timeout)
    }

    /// Delivers an event from the journal to a bind.
    pub(crate) async fn deliver(
        &self,
        event: &Event,
        bind: &Arc<Bind>,
        delivery: Delivery,
        limit: Duration,
    ) -> Result<(), Failure> {
        self.deliver_to(event, bind, delivery, limit, &self.outlet).await
    }

    /// The same with another outlet, for a replay.
    pub(crate) async fn deliver_to(
        &self,
        event: &Event,
        bind: &Arc<Bind>,
        delivery: Delivery,
        limit: Duration,
        outlet: &Arc<dyn Outlet>,
    ) -> Result<(), Failure> {
        if !self.is_ours(bind) {
            return Ok(());
        }
        let _running = self.in_flight.begin();
        let name = self.names.next();
        let call = Call {
            bind: bind.id,
            kind: bind.kind(),
            mask: Arc::clone(&bind.mask),
            who: Who::default(),
            text_at: 0,
            args: Default::default(),
            outlet: self.because(outlet, event, bind, bind.kind(), &Who::default(), &name),
            trace: Arc::clone(&name),
            to: bind.to.clone(),
            delivery: Some(delivery),
        };
        bind.hit();
        let event = event.for_call(call);
        let fault = match deadline(&bind.handler, event.clone(), limit, (&self.asks, &name)).await {
            Some(Ok(Outcome::Reply(lines))) => {
                for text in lines {
                    // What cannot be said now is tried again, and in the end a dead letter.
                    if let Err(refused) = event.say(text).await {
                        tracing::warn!(bind = %bind.mask, origin = %bind.origin(), %refused, "A reply was refused");
                        let reason = refused.to_string();
                        return Err(Failure { reason, after: None, dead: false, own_words: false });
                    }
                }
                return Ok(());
            }
            Some(Ok(_)) => return Ok(()),
            Some(Err(fault)) => fault,
            None => HandlerError::internal(format!("it took longer than {limit:?}")),
        };
        tracing::warn!(call = %name, event = event.id, bind = %bind.mask, origin = %bind.origin(), attempt = delivery.attempt, %fault, "A delivery failed");
        Err(match fault {
            HandlerError::Retry { after, reason } => Failure { reason, after, dead: false, own_words: true },
            HandlerError::Dead(reason) => Failure { reason, after: None, dead: true, own_words: true },
            HandlerError::User(reason) => Failure { reason, after: None, dead: false, own_words: true },
            fault => Failure { reason: fault.to_string(), after: None, dead: false, own_words: false },
        })
    }

    /// Says what came of a call.
    async fn finish(&self, event: &Event, calling: Calling<'_>, result: Option<HandlerResult>) -> Outcome {
        let Calling { bind, who, name, limit, outlet } = calling;
        let origin = bind.origin();
        match result {
            // The text is what becomes of the line, and no answer.
            Some(Ok(outcome)) if bind.kind() == FILT => outcome,
            Some(Ok(Outcome::Reply(lines))) if bind.kind() == DCC && lines == [BREAK] => {
                self.end_session(event);
                Outcome::Nothing
            }
            Some(Ok(Outcome::Reply(lines))) => {
                self.reply(event, bind, outlet, lines).await;
                Outcome::Nothing
            }
            Some(Ok(outcome)) => outcome,
            Some(Err(HandlerError::User(text))) => {
                self.note(event, bind, who, "failed", &text);
                self.tell(event, bind, outlet, text).await;
                Outcome::Nothing
            }
            Some(Err(fault)) => {
                tracing::error!(call = %name, bind = %bind.mask, %origin, %fault, "A handler failed");
                self.reply(event, bind, outlet, vec![words::fault(&format!("e-{name}"))]).await;
                Outcome::Nothing
            }
            None => {
                tracing::error!(call = %name, bind = %bind.mask, %origin, ?limit, "A handler took too long");
                self.tell(event, bind, outlet, words::timed_out(bind.word(), limit)).await;
                Outcome::Nothing
            }
        }
    }

    /// Whoever gave the command leaves the partyline.
    fn end_session(&self, event: &Event) {
        let idx = event.field("idx").and_then(|idx| idx.as_u64()).and_then(|idx| u32::try_from(idx).ok());
        if let (Some(idx), Some(party)) = (idx, self.party.load_full()) {
            party.boot(idx, "goodbye");
        }
    }

    /// Lines for where the event came from.
    async fn reply(&self, event: &Event, bind: &Bind, outlet: &Arc<dyn Outlet>, lines: Vec<String>) {
        let Some(target) = event.reply_target() else {
            if !lines.is_empty() {
                tracing::warn!(
                    bind = %bind.mask, origin = %bind.origin(), ?lines,
                    "A handler answers an event of no channel: name one with bot.say or bot.to"
                );
            }
            return;
        };
        if lines.is_empty() {
            return;
        }
        // Together: what they are too much for is told of all of them at once.
        let (network, text) = (event.reply_network().to_owned(), lines.join("\n"));
        let say = Action::Say { network, target, text, how: How::Say, reply: true };
        if let Err(refused) = outlet.perform(event.answering(say)).await {
            tracing::warn!(bind = %bind.mask, origin = %bind.origin(), %refused, "A reply was refused");
        }
    }

    /// Words for the person: in a channel with their nick in front.
    async fn tell(&self, event: &Event, bind: &Bind, outlet: &Arc<dyn Outlet>, text: String) {
        let line = if event.private() { text } else { format!("{}: {text}", event.nick()) };
        self.reply(event, bind, outlet, vec![line]).await;
    }

    /// A line for the audit trail.
    pub(crate) fn note(&self, event: &Event, bind: &Bind, who: &Who, action: &str, detail: &str) {
        self.audit.write(AuditRow {
            at: self.clock.now(),
            network: event.network.to_string(),
            actor: event.actor.as_ref().map(|actor| actor.source()).unwrap_or_default(),
            handle: who.handle.as_ref().map(|handle| handle.to_string()),
            kind: bind.kind().name().to_owned(),
            mask: bind.mask.to_string(),
            action: action.to_owned(),
            detail: match event.chan() {
                Some(chan) => format!("{chan} {detail}"),
                None => detail.to_owned(),
            },
        });
    }

    /// How long this person, channel or bind has to wait.
    fn too_soon(&self, event: &Event, bind: &Bind) -> Option<Duration> {
        if bind.options.cooldown == Default::default() {
            return None;
        }
        let person = event.actor.as_ref().map(|actor| match &actor.account {
            Some(account) => format!("{}/{account}", event.network),
            None => format!("{}/{}@{}", event.network, actor.user, actor.host),
        });
        let chan = event.chan().map(|chan| format!("{}/{}", event.network, event.casemap.fold(chan)));
        let mut cooldowns = self.cooldowns.lock().unwrap_or_else(PoisonError::into_inner);
        cooldowns
            .check(bind.id, &bind.options.cooldown, person.as_deref().unwrap_or(""), chan.as_deref(), Instant::now())
            .err()
    }
}

/// A call whose handler has ended.
struct Calling<'a> {
    bind: &'a Arc<Bind>,
    who: &'a Who,
    name: &'a str,
    limit: Duration,
    outlet: &'a Arc<dyn Outlet>,
}

/// What the handler gives, nothing if it takes longer than `limit`, without the time it waited for people. A panic is a fault like any
/// other.
async fn deadline(
    handler: &Arc<dyn Handler>,
    event: Event,
    limit: Duration,
    (asks, trace): (&Asks, &str),
) -> Option<HandlerResult> {
    let guarded = AssertUnwindSafe(async { handler.call(event).await }).catch_unwind();
    tokio::pin!(guarded);
    let mut until = Instant::now() + limit;
    let mut counted = Duration::ZERO;
    let result = loop {
        match tokio::time::timeout_at(until, &mut guarded).await {
            Ok(Ok(result)) => break Some(result),
            Ok(Err(panic)) => {
                break Some(Err(HandlerError::internal(format!("the handler panicked: {}", panic_text(&*panic)))));
            }
            Err(_elapsed) => {
                let spent = asks.spent(trace);
                if spent <= counted {
                    break None;
                }
                until += spent - counted;
                counted = spent;
            }
        }
    };
    asks.forget(trace);
    result
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}
