//! The street: a parcel comes in, each event in it is decided, and the calls are started in order.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use arc_swap::ArcSwap;
use masterchief_contract::{Action, Event, How, Kind, Outcome, Outlets, Parcel, Returns, Shutdown, Who};
use tokio::time::Instant;
use tracing::Level;

use super::builder::Rules;
use super::calls::Calls;
use super::floodgate::{Floodgate, Pass};
use super::outbox::Outbox;
use super::sudo::Sudo;
use super::warden::Warden;
use super::words;
use crate::dispatch::{BindTable, Cooldowns, Decision, Denied, Since, Step, decide};
use crate::irc::{Around, TLS};
use crate::mesh::Leads;
use crate::partyline::{NETWORK, PUTLOG, Party};
use crate::users::{Book, Standing};

/// How long the street waits for a handler that may stop the rest of a line, before it goes on without.
const STOP_WINDOW: Duration = Duration::from_millis(20);
/// A person who is refused is told so at most this often.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// A call on its way.
type Running = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// What the street needs to decide and to act.
pub(crate) struct Street {
    /// The binds.
    pub(crate) table: BindTable,
    /// The people.
    pub(crate) book: Book,
    /// Runs what is decided.
    pub(crate) calls: Arc<Calls>,
    /// What stops floods.
    pub(crate) gate: Floodgate,
    /// Who is elevated, and for how long.
    pub(crate) sudo: Sudo,
    /// Where channels of networks are watched.
    pub(crate) party: Party,
    /// The networks.
    pub(crate) outbox: Outbox,
    /// Where this bot acts.
    pub(crate) leads: Leads,
    /// What the bot does in channels by itself.
    pub(crate) warden: Warden,
    /// Who was told lately.
    pub(crate) told: std::sync::Mutex<Cooldowns>,
}

/// Whether the later events of a parcel are still offered.
#[derive(PartialEq)]
enum Flow {
    On,
    Stopped,
}

impl Street {
    /// Runs until shutdown, then takes what is still in the inlet and waits a grace for the running calls.
    pub(crate) async fn run(self, mut parcels: Outlets, mut shutdown: Shutdown, rules: Arc<ArcSwap<Rules>>) {
        loop {
            let parcel = tokio::select! {
                biased;
                // First, so that an inlet that is never empty does not keep us; the rest is taken below.
                () = shutdown.recv() => break,
                parcel = parcels.recv() => parcel,
            };
            let Some(parcel) = parcel else { break };
            self.take(parcel).await;
        }
        parcels.close();
        while let Some(parcel) = parcels.recv().await {
            self.take(parcel).await;
        }
        let grace = rules.load().grace;
        if tokio::time::timeout(grace, self.calls.in_flight.none_left()).await.is_err() {
            tracing::warn!(running = self.calls.in_flight.count(), "Calls were still running at shutdown");
        }
    }

    /// One parcel: its events in order, until a handler stops the rest.
    async fn take(&self, parcel: Parcel) {
        for event in &parcel.events {
            self.overhear(event);
            self.party.shows(event);
            self.sudo.watch(event);
            if !self.is_ours(event) {
                continue;
            }
            self.warden.see(event);
            let Some(event) = self.passes(event).await else { return };
            let event = self.calls.asks.hear(event);
            if self.offer(&event).await == Flow::Stopped {
                if event.kinds != [Kind::Isupport] {
                    return;
                }
                // The line may say more than this.
                self.take_back(&event);
            }
        }
    }

    /// A handler does not want what the server says about itself: it is as it was.
    fn take_back(&self, event: &Event) {
        let (token, was) = (event.field_str("token"), event.field("was").and_then(|was| was.as_str()));
        let change = Some(event.field_str("value")).filter(|_| event.field("isset").is_some_and(|set| *set == true));
        if let Some(network) = self.outbox.network(&event.network) {
            network.take_back(token, change, was);
        }
    }

    /// Whether it is for this bot to do something about it: on a network that a group shares, only for the one that acts there.
    /// What concerns its own connection is always its own.
    fn is_ours(&self, event: &Event) -> bool {
        let own = matches!(event.kinds, [Kind::Evnt | Kind::Isupport, ..]);
        own || event.network.is_empty() || self.leads.may_act(&event.network)
    }

    /// The event as it is taken: not at all where somebody floods, unless a handler of kind `flud` stops their punishment.
    async fn passes(&self, event: &Event) -> Option<Event> {
        let rules = self.calls.rules.load_full();
        let Some(settings) = &rules.floods else { return Some(event.clone()) };
        let standing = self.book.recognise(event.actor.as_ref(), &event.network, event.casemap);
        match self.gate.judge(settings, event, &standing) {
            Pass::Yes => Some(event.clone()),
            Pass::No => None,
            Pass::Only(event) => Some(*event),
            Pass::After(flood, mask) => {
                if self.offer(&flood).await == Flow::On {
                    self.warden.punish(&flood, &mask, settings).await;
                }
                Some(event.clone())
            }
            Pass::Ask(flood, mask) => {
                if self.offer(&flood).await == Flow::Stopped {
                    return Some(event.clone());
                }
                let reason = format!("{} flood on {}", flood.field_str("type"), event.network);
                self.gate.ignore(&mask, settings.ignore, &reason, Since::Flood).await;
                self.warden.punish(&flood, &mask, settings).await;
                None
            }
        }
    }

    /// What is said in a channel of a network is heard by those who watch it.
    fn overhear(&self, event: &Event) {
        let (Some(chan), Some(actor)) = (event.chan(), event.actor.as_ref()) else { return };
        if !self.party.watched() || &*event.network == NETWORK || actor.own {
            return;
        }
        let how = match event.kinds {
            [Kind::Pubm, ..] => How::Say,
            [Kind::Ctcp] if event.field_str("keyword") == "ACTION" => How::Act,
            _ => return,
        };
        self.party.overhear(&event.network, chan, &actor.nick, &event.text, how);
    }

    /// Decides one event and starts what is decided.
    async fn offer(&self, event: &Event) -> Flow {
        let standing = self.book.recognise(event.actor.as_ref(), &event.network, event.casemap);
        let Decision { steps, denied } = decide(&self.table.index(), event, &standing, self.calls.rules.load().policy);
        // A command that is not taken of somebody is not among their words either: a password may stand behind it.
        let mut kept_out = event.private() && denied.iter().any(|denied| denied.kept_out);
        for denied in denied {
            self.deny(event, &denied, &standing).await;
        }
        let (log, encrypted) = (self.log_of(event), event.kinds == [TLS]);
        for step in steps {
            let (stops, quiet) =
                (step.returns == Returns::Stop, step.returns == Returns::Quiet && (encrypted || log.is_some()));
            // What a command answers is for the command log.
            kept_out |= matches!(step.kind, Kind::Pub | Kind::Msg);
            let outcome = self.start(event, step, &standing.who, stops || quiet).await;
            if stops && outcome == Some(Outcome::Stop) {
                return Flow::Stopped;
            }
            kept_out |= quiet && outcome == Some(Outcome::Stop);
        }
        if encrypted && !kept_out {
            let idx = event.field("idx").and_then(|idx| idx.as_u64());
            tracing::info!(network = %event.network, idx, server = event.text, "A connection is encrypted");
        }
        if let Some(mode) = log.filter(|_| !kept_out)
            && let Some(text) = words::overheard(event)
        {
            let text = self.calls.ledger.hide(&text);
            self.party.show_line(event, mode, &text);
            self.party.logged(mode, event.chan().unwrap_or("*"), &text);
        }
        Flow::On
    }

    /// The console mode under which people or binds want to see what is said here, if any do.
    fn log_of(&self, event: &Event) -> Option<char> {
        if &*event.network == NETWORK || event.actor.as_ref().is_some_and(|actor| actor.own) {
            return None;
        }
        let mode = match (event.kinds.first()?, event.chan()) {
            (&Kind::Pubm | &Kind::Notc | &Kind::Ctcp, Some(_)) => 'p',
            (&Kind::Wall, None) => 'w',
            (&Kind::Msgm | &Kind::Notc | &Kind::Ctcp, None) => 'm',
            _ => return None,
        };
        // Nobody looks over the sessions for every line where none of them wants any.
        let seen =
            || self.party.wants_lines() && self.party.each(|one| one.modes.wants(mode, Level::INFO)).contains(&true);
        (self.table.has_any(&[PUTLOG]) || seen()).then_some(mode)
    }

    /// Starts a call here, so that calls begin in the order of events; what waits goes on in a task of its own.
    async fn start(&self, event: &Event, step: Step, who: &Who, stops: bool) -> Option<Outcome> {
        let origin = stops.then(|| step.bind.origin());
        let mut call: Running = Box::pin(Arc::clone(&self.calls).run(event.clone(), step, who.clone()));
        let first =
            if stops { tokio::time::timeout(STOP_WINDOW, &mut call).await.ok() } else { poll_once(&mut call).await };
        if first.is_none() {
            tokio::spawn(async move {
                if let (Outcome::Stop, Some(bind)) = (call.await, origin) {
                    tracing::warn!(bind, window = ?STOP_WINDOW, "A STOP came too late to stop anything");
                }
            });
        }
        first
    }

    /// Somebody may not: the audit has it, and they are told what is missing.
    async fn deny(&self, event: &Event, denied: &Denied, standing: &Standing) {
        let bind = &denied.bind;
        let why = if denied.kept_out { "has the flag d or k".to_owned() } else { format!("needs {}", bind.flags) };
        self.calls.note(event, bind, &standing.who, "denied", &why);
        let Some(actor) = event.actor.as_ref().filter(|_| self.calls.rules.load().tell_denied && denied.told) else {
            return;
        };
        let key = format!("{}/{}", event.network, actor.source());
        let lately = {
            let mut told = self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let once = masterchief_contract::Cooldown { user: Some(TELL_AGAIN), ..Default::default() };
            told.check(bind.id, &once, &key, None, Instant::now()).is_err()
        };
        if lately {
            return;
        }
        let text = standing.explain_denial(bind.word(), &bind.flags, actor, &event.network);
        let network = event.network.to_string();
        let notice = Action::Say { network, target: actor.nick.clone(), text, how: How::Notice, reply: true };
        // Clients show it where it belongs. <https://ircv3.net/specs/client-tags/channel-context>
        let notice = match event.chan() {
            Some(chan) => {
                let tags = vec![("+channel-context".to_owned(), chan.to_owned())];
                Action::Tagged { tags, action: Box::new(notice) }
            }
            None => notice,
        };
        // Told in a task of its own: a full queue must not stop the street.
        let outlet = Arc::clone(&self.calls.outlet);
        tokio::spawn(async move {
            if let Err(refused) = outlet.perform(notice).await {
                tracing::debug!(%refused, "A denial could not be told");
            }
        });
    }
}

/// What the call gives at its first poll, if anything.
async fn poll_once(call: &mut Running) -> Option<Outcome> {
    std::future::poll_fn(|cx| match call.as_mut().poll(cx) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}
