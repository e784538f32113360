//! `!sudo 15m WHY`: somebody holds for a while what their record lends. It is announced and written down, and ends at its time, by
//! their word, or as soon as nobody vouches for them any more.

use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::{
    Action, BindOptions, Clock, Event, Future, Handler, HandlerError, HandlerResult, How, Kind, Outcome, Outlet,
    Shutdown, split_place, user_error,
};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::audit::Audit;
use super::outbox::Outbox;
use super::words;
use crate::dispatch::{BindFault, Kinds, NewBind};
use crate::partyline::CHOF;
use crate::store::AuditRow;
use crate::users::{Book, Elevation, Presence};

/// The word, and what is said behind it to end it.
pub(super) const WORD: &str = "!sudo";
const OFF: &str = "off";

/// Cheap to clone; all clones are the same.
#[derive(Clone)]
pub(crate) struct Sudo {
    book: Book,
    audit: Audit,
    outbox: Outbox,
    clock: Clock,
    /// Somebody was elevated.
    begun: Arc<Notify>,
}

impl Sudo {
    pub(crate) fn new(book: &Book, audit: &Audit, outbox: &Outbox, clock: &Clock) -> Sudo {
        let (book, audit, outbox, clock) = (book.clone(), audit.clone(), outbox.clone(), clock.clone());
        Sudo { book, audit, outbox, clock, begun: Arc::default() }
    }

    /// Ends what is over, each at its time, until it is time itself.
    pub(crate) async fn keep_time(self, mut shutdown: Shutdown) {
        loop {
            let next = self.book.elevated().iter().map(|one| one.until).min();
            let over = async {
                match next {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // Whose time is over has no other reason.
                biased;
                () = shutdown.recv() => return,
                () = over => self.end_all("the time is over"),
                () = self.book.lowered() => self.end_all("their record is gone, or has another handle"),
                () = self.begun.notified() => {}
            }
        }
    }

    /// Ends all whose time is over.
    fn end_all(&self, why: &str) {
        let now = Instant::now();
        self.book.elevated().iter().filter(|one| one.until <= now).for_each(|one| self.end(one, why));
    }

    /// Looks whether what happens leaves who is elevated vouched for as they were.
    pub(crate) fn watch(&self, event: &Event) {
        for one in self.book.elevated() {
            if one.presence.network != *event.network {
                continue;
            }
            if let Some(why) = self.over(&one, event) {
                self.end(&one, why);
            } else if event.kind() == Kind::Nick && about(&one, event) {
                let mut one = one;
                event.field_str("newnick").clone_into(&mut one.presence.nick);
                self.book.elevate(&one);
            }
        }
    }

    /// Why somebody is not elevated any more after this.
    fn over(&self, one: &Elevation, event: &Event) -> Option<&'static str> {
        let kind = event.kind();
        if kind == Kind::Evnt && event.field_str("type") == "disconnect-server" {
            return Some("the network is away");
        }
        let target = event.field_str("target");
        let kicked = kind == Kind::Kick && one.presence.has_nick(target, &event.network, event.casemap);
        if kicked && !self.is_here(one, event) {
            return Some("nobody sees them any more");
        }
        let actor = event.actor.as_ref()?;
        if kind == CHOF && one.presence.is_login(actor.login.as_deref()) {
            return Some("they left");
        }
        // What is old tells nothing of now.
        if kind == Kind::Hist || !about(one, event) {
            return None;
        }
        match kind {
            Kind::Account => {
                (!one.presence.outlives(event.field_str("newaccount"))).then_some("nobody vouches for them any more")
            }
            Kind::Sign | Kind::Splt => Some("they left"),
            Kind::Part => (!self.is_here(one, event)).then_some("nobody sees them any more"),
            _ => (!one.presence.is(actor, &event.network, event.casemap)).then_some("nobody vouches for them any more"),
        }
    }

    /// Whether we still share a channel with them, so that we would hear of it if they logged out.
    fn is_here(&self, one: &Elevation, event: &Event) -> bool {
        let Some(network) = self.outbox.network(&one.presence.network) else { return false };
        let channels = network.channels();
        let mut members = channels.iter().flat_map(|channel| network.members(channel));
        members.any(|member| event.casemap.eq(&member.nick, &one.presence.nick))
    }

    /// Elevates who asks; gives the line for everybody.
    fn rise(&self, event: &Event, time: Duration, why: &str) -> Result<Vec<String>, HandlerError> {
        let standing = self.book.recognise(event.actor.as_ref(), &event.network, event.casemap);
        let presence = event.actor.as_ref().and_then(|actor| Presence::of(actor, &event.network));
        let user = standing.who.handle.as_deref().filter(|_| standing.who.vouched).and_then(|who| self.book.get(who));
        let Some((user, presence)) = user.zip(presence) else { return Err(user_error(words::sudo_unknown())) };
        if !user.may_rise() {
            return Err(user_error(words::sudo_nothing(&user.handle)));
        }
        let rules = self.book.sudo();
        if time.is_zero() || time > rules.max {
            return Err(user_error(words::sudo_time(rules.max)));
        }
        if why.trim().is_empty() {
            return Err(user_error(words::sudo_why()));
        }
        let place = match event.chan() {
            Some(chan) => format!("{}/{chan}", event.network),
            None if rules.announce.is_empty() => return Err(user_error(words::sudo_unseen())),
            None => String::new(),
        };
        // One at a time: who is elevated elsewhere is not any more, and everybody hears of it.
        let others =
            self.book.elevated().into_iter().filter(|one| one.handle == user.handle && one.presence != presence);
        others.for_each(|one| self.end(&one, "they are elevated from elsewhere now"));
        let elevation = Elevation { handle: user.handle.clone(), presence, until: Instant::now() + time, place };
        self.book.elevate(&elevation);
        self.begun.notify_one();
        self.note(&elevation, "elevated", &format!("{} for {} s: {}", user.lent(), time.as_secs(), why.trim()));
        let line = words::sudo_begins(&user.handle, &user.lent(), time, why.trim());
        self.announce(&elevation, &line, event.chan().is_some());
        Ok(vec![line])
    }

    fn end(&self, one: &Elevation, why: &str) {
        // Somebody else may have ended it meanwhile.
        if self.book.lower(&one.handle, Some(one.until)).is_some() {
            self.note(one, "lowered", why);
            self.announce(one, &words::sudo_ends(&one.handle, why), false);
        }
    }

    /// Says it where it was asked for, if that has not heard it yet, and wherever else it is to be said.
    fn announce(&self, one: &Elevation, line: &str, heard: bool) {
        let mut places = self.book.sudo().announce.clone();
        places.retain(|place| *place != one.place);
        places.extend((!heard && !one.place.is_empty()).then(|| one.place.clone()));
        for place in places {
            let (network, target) = split_place(&place);
            let (network, target, text) = (network.to_owned(), target.to_owned(), line.to_owned());
            let say = Action::Say { network, target, text, how: How::Say, reply: true };
            // In a task of its own: a full queue must not stop the street.
            let outbox = self.outbox.clone();
            tokio::spawn(async move {
                if let Err(refused) = outbox.perform(say).await {
                    tracing::warn!(%place, %refused, "An elevation could not be announced");
                }
            });
        }
    }

    fn note(&self, one: &Elevation, action: &str, detail: &str) {
        let (_, target) = split_place(&one.place);
        self.audit.write(AuditRow {
            at: self.clock.now(),
            network: one.presence.network.clone(),
            actor: one.presence.nick.clone(),
            handle: Some(one.handle.clone()),
            kind: "sudo".to_owned(),
            mask: WORD.to_owned(),
            action: action.to_owned(),
            detail: format!("{target} {detail}").trim().to_owned(),
        });
    }
}

/// Whether it is they who do it.
fn about(one: &Elevation, event: &Event) -> bool {
    let actor = event.actor.as_ref().filter(|actor| !actor.own);
    actor.is_some_and(|actor| one.presence.has_nick(&actor.nick, &event.network, event.casemap))
}

/// The binds, ready for the table. Who may stands in the records.
pub(crate) fn binds(kinds: &Kinds, sudo: &Sudo) -> Result<Vec<NewBind>, BindFault> {
    let handler: Arc<dyn Handler> = Arc::new(Command(sudo.clone()));
    let options = BindOptions {
        usage: Some("<time> [why...]".to_owned()),
        help: Some(
            "Lends you for a while what your record allows, as in !sudo 15m the disk is full; !sudo off ends it"
                .to_owned(),
        ),
        ..BindOptions::default()
    };
    let bind = |kind: Kind| NewBind::parse(kinds, kind.name(), "-|-", WORD, options.clone(), Arc::clone(&handler));
    Ok(vec![bind(Kind::Pub)?, bind(Kind::Msg)?])
}

/// `!sudo`.
struct Command(Sudo);

impl Handler for Command {
    fn call(&self, event: Event) -> Future<HandlerResult> {
        let sudo = self.0.clone();
        Box::pin(async move {
            let time = event.arg_str("time");
            if time.eq_ignore_ascii_case(OFF) {
                let own = sudo.book.elevated().into_iter().find(|one| {
                    event.actor.as_ref().is_some_and(|actor| one.presence.is(actor, &event.network, event.casemap))
                });
                let Some(own) = own else { return Err(user_error(words::sudo_is_off())) };
                sudo.end(&own, "they said so");
                return Ok(Outcome::Nothing);
            }
            let time = humantime_serde::re::humantime::parse_duration(time)
                .map_err(|_| user_error(words::sudo_time(sudo.book.sudo().max)))?;
            sudo.rise(&event, time, event.arg_str("why")).map(Outcome::Reply)
        })
    }

    fn origin(&self) -> String {
        super::builtin::OWNER.to_owned()
    }
}
