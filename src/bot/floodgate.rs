//! The gate before the street: floods stop here, and those who are ignored.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use masterchief_contract::{
    BindOptions, Clock, Event, EventData, FlagScope, Future, Handler, HandlerError, HandlerResult, Kind, Outcome,
    Value, user_error,
};
use tokio::time::Instant;

use super::words;
use crate::dispatch::{BindFault, FloodSettings, Floods, Ignore, Kinds, NewBind, Since, Spared, Verdict};
use crate::mesh::Mesh;
use crate::partyline::DCC;
use crate::store::Store;
use crate::users::{FlagFault, FlagMask, Standing};

/// Under which name the ignored stand among what scripts keep. No script can have it.
const KEPT: &str = "@ignores";
/// Masks read at the start.
const KEPT_MAX: u32 = 4096;
/// Whom floods are not counted of: Eggdrop's friends and bots, and those who could not help themselves if they were ignored.
const FRIENDS: &str = "bfmn|fmn";
/// Who is heard whatever is ignored, if they are vouched for.
const OWNERS: &str = "n|-";
/// Who may say whom to ignore.
const MASTERS: &str = "m|-";
/// How long somebody is ignored where no time is said.
const USUALLY: Duration = Duration::from_secs(900);
/// Letters that a mask must have beside wildcards, so that nobody ignores everybody.
const MASK_LETTERS: usize = 3;
/// The longest time for which somebody is ignored: ten years.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Cheap to clone; all clones are the same gate.
#[derive(Clone)]
pub(crate) struct Floodgate {
    floods: Arc<Mutex<Floods>>,
    friends: FlagMask,
    owners: FlagMask,
    /// The mesh, once there is one: its bots are spared where the network shows them under their accounts.
    mesh: Arc<OnceLock<Mesh>>,
    store: Store,
    clock: Clock,
}

/// What becomes of an event.
pub(crate) enum Pass {
    /// It goes on.
    Yes,
    /// It does not.
    No,
    /// In its place goes this one, which no command answers.
    Only(Box<Event>),
    /// It does not, unless a handler of this event stops the punishment of this mask.
    Ask(Box<Event>, String),
    /// It goes on, after this one, unless a handler of that stops the punishment of this mask.
    After(Box<Event>, String),
}

impl Floodgate {
    /// With those who are still to be ignored.
    pub(crate) async fn open(store: &Store, clock: &Clock) -> Result<Floodgate, FlagFault> {
        let (friends, owners) = (FlagMask::parse(FRIENDS)?, FlagMask::parse(OWNERS)?);
        let (floods, mesh) = (Arc::default(), Arc::default());
        let gate = Floodgate { floods, friends, owners, mesh, store: store.clone(), clock: clock.clone() };
        let now = clock.now();
        for mask in store.kv_names(KEPT, "", KEPT_MAX, now).await.unwrap_or_default() {
            let Ok(Some(kept)) = store.kv_get(KEPT, &mask, now).await else { continue };
            let until = kept["until"].as_str().and_then(|at| DateTime::parse_from_rfc3339(at).ok());
            let left = until.and_then(|until| (until.to_utc() - now).to_std().ok());
            let reason = kept["reason"].as_str().unwrap_or("").to_owned();
            let until = left.map(|left| Instant::now() + left);
            let since = if kept["flood"] == true { Since::Flood } else { Since::Said };
            // No more are read than there is room for.
            let _ = gate.lock().ignore(Ignore { mask, until, reason, since }, Instant::now());
        }
        Ok(gate)
    }

    /// From now on bots of this mesh are spared.
    pub(crate) fn spare(&self, mesh: &Mesh) {
        // There is one mesh, told at the start.
        let _ = self.mesh.set(mesh.clone());
    }

    /// Whether it is by a bot that is known here.
    fn is_by_a_bot(&self, event: &Event) -> bool {
        let account = event.actor.as_ref().and_then(|actor| actor.account.as_deref());
        let Some((mesh, account)) = self.mesh.get().zip(account) else { return false };
        mesh.view().bot_at(&event.network, |other| event.casemap.eq(other, account)).is_some()
    }

    /// What becomes of an event of this person.
    pub(crate) fn judge(&self, settings: &FloodSettings, event: &Event, standing: &Standing) -> Pass {
        let chan = event.chan();
        let may = |flags| standing.allows(flags, FlagScope::Channel, &event.network, chan, event.casemap);
        let spared = match (may(&self.friends) || self.is_by_a_bot(event), standing.who.vouched && may(&self.owners)) {
            (_, true) => Spared::All,
            (true, false) => Spared::Counting,
            (false, false) => Spared::Nothing,
        };
        let verdict = self.lock().judge(settings, event, spared, Instant::now());
        match verdict {
            Verdict::Fine => Pass::Yes,
            Verdict::Ignored => Pass::No,
            Verdict::Crowd if standing.who.handle.is_some() => Pass::Yes,
            // Strangers command nothing while a channel is flooded; who looks on still sees all of it.
            Verdict::Crowd => match event.kinds.first() {
                Some(&Kind::Pubm) => {
                    let data = EventData { kinds: &[Kind::Pubm], ..EventData::clone(event) };
                    Pass::Only(Box::new(Event::new(data)))
                }
                Some(&Kind::Ctcp) => Pass::No,
                _ => Pass::Yes,
            },
            Verdict::Flood { kind, mask } => Pass::Ask(Box::new(flood(event, kind)), mask),
            Verdict::Told { kind, mask } => Pass::After(Box::new(flood(event, kind)), mask),
        }
    }

    /// Ignores a mask for this long.
    pub(crate) async fn ignore(&self, mask: &str, time: Duration, reason: &str, since: Since) {
        // What is longer is for ever, and no date of a calendar.
        let (now, time) = (Instant::now(), time.min(LONGEST));
        let ignore = Ignore { mask: mask.to_owned(), until: now.checked_add(time), reason: reason.to_owned(), since };
        let (before, gone) = {
            let mut floods = self.lock();
            let before = floods.listen(mask);
            (before.filter(|before| before != mask), floods.ignore(ignore, now))
        };
        let refused = gone.as_ref().is_some_and(|gone| gone.mask == mask);
        match &gone {
            Some(_) if refused => {
                tracing::warn!(mask, reason, "Not ignored: no room is left, and all who have it were named")
            }
            Some(gone) => {
                tracing::warn!(
                    mask = gone.mask,
                    "Heard again before its time: no room is left for all who are ignored"
                );
            }
            None => {}
        }
        if !refused {
            tracing::warn!(mask, ?time, reason, "Ignored");
        }
        let gone = gone.filter(|_| !refused).map(|gone| gone.mask);
        for old in before.into_iter().chain(gone) {
            if let Err(fault) = self.store.kv_delete(KEPT, &old).await {
                tracing::warn!(%fault, mask = old, "Who is not ignored any more cannot be written down; a restart ignores them again");
            }
        }
        if refused {
            return;
        }
        let until: DateTime<Utc> = self.clock.now() + time;
        let kept = serde_json::json!({"until": until.to_rfc3339(), "reason": reason, "flood": since == Since::Flood});
        if let Err(fault) = self.store.kv_set(KEPT, mask, &kept, Some(until)).await {
            tracing::warn!(%fault, mask, "Who is ignored cannot be written down; a restart forgets it");
        }
    }

    async fn listen(&self, mask: &str) -> bool {
        let Some(written) = self.lock().listen(mask) else { return false };
        // If it cannot be deleted it is ignored again after a restart, and the log says so.
        if let Err(fault) = self.store.kv_delete(KEPT, &written).await {
            tracing::warn!(%fault, mask, "Who is listened to again cannot be written down");
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Floods> {
        self.floods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is told of a flood, of which this is one too many.
fn flood(event: &Event, kind: &str) -> Event {
    let mut flood = EventData::new(&[Kind::Flud], event.at);
    flood.network = Arc::clone(&event.network);
    flood.casemap = event.casemap;
    flood.actor = event.actor.clone();
    flood.chan = event.chan.clone();
    flood.fields = vec![("type", Value::from(kind))];
    Event::new(flood)
}

/// `!ignore`, `!unignore` and `!ignores`.
struct Command {
    gate: Floodgate,
    work: Work,
}

#[derive(Clone, Copy)]
enum Work {
    Ignore,
    Listen,
    List,
}

/// The binds of the gate, ready for the table.
pub(crate) fn binds(kinds: &Kinds, gate: &Floodgate) -> Result<Vec<NewBind>, BindFault> {
    let rows = [
        ("!ignore", "<mask> [time:duration] [reason...]", "Listens to nobody with this mask for a while", Work::Ignore),
        ("!unignore", "<mask>", "Listens to a mask again", Work::Listen),
        ("!ignores", "", "Lists who is not listened to", Work::List),
    ];
    let mut binds = Vec::new();
    for (word, usage, help, work) in rows {
        let handler: Arc<dyn Handler> = Arc::new(Command { gate: gate.clone(), work });
        let options =
            BindOptions { usage: Some(usage.to_owned()), help: Some(help.to_owned()), ..BindOptions::default() };
        for kind in [Kind::Pub, Kind::Msg] {
            binds.push(NewBind::parse(kinds, kind.name(), MASTERS, word, options.clone(), Arc::clone(&handler))?);
        }
        // On the partyline they have Eggdrop's names, and in private wherever commands of it are taken.
        let dotted = match work {
            Work::Ignore => ".+ignore",
            Work::Listen => ".-ignore",
            Work::List => ".ignores",
        };
        binds.push(NewBind::parse(kinds, Kind::Msg.name(), MASTERS, dotted, options.clone(), Arc::clone(&handler))?);
        binds.push(NewBind::parse(kinds, DCC.name(), MASTERS, &dotted[1..], options, handler)?);
    }
    Ok(binds)
}

impl Handler for Command {
    fn call(&self, event: Event) -> Future<HandlerResult> {
        let (gate, work) = (self.gate.clone(), self.work);
        Box::pin(async move {
            let mask = whole(event.arg_str("mask"));
            let lines = match work {
                Work::Ignore => {
                    let letters = mask.chars().filter(|c| c.is_alphanumeric()).count();
                    if letters < MASK_LETTERS {
                        return Err(user_error(words::mask_too_wide(&mask)));
                    }
                    let seconds = event.arg("time").and_then(Value::as_f64);
                    let time = seconds.and_then(|secs| Duration::try_from_secs_f64(secs).ok()).unwrap_or(USUALLY);
                    let by = format!("{} by {}", event.arg_str("reason"), event.nick());
                    gate.ignore(&mask, time, by.trim(), Since::Said).await;
                    vec![words::ignoring(&mask, time)]
                }
                Work::Listen if gate.listen(&mask).await => vec![words::listening(&mask)],
                Work::Listen => return Err(user_error(words::not_ignored(&mask))),
                Work::List => {
                    let now = Instant::now();
                    let all = gate.lock().ignored(now);
                    let left = |ignore: &Ignore| ignore.until.map(|until| until - now);
                    words::ignores(
                        &all.iter().map(|one| (one.mask.as_str(), left(one), one.reason.as_str())).collect::<Vec<_>>(),
                    )
                }
            };
            Ok::<_, HandlerError>(Outcome::Reply(lines))
        })
    }

    fn origin(&self) -> String {
        super::builtin::OWNER.to_owned()
    }
}

/// A nick or a host alone as the mask that is meant.
fn whole(mask: &str) -> String {
    match (mask.contains('!'), mask.contains('@')) {
        (true, _) => mask.to_owned(),
        (false, true) => format!("*!{mask}"),
        (false, false) if mask.contains('.') => format!("*!*@{mask}"),
        (false, false) => format!("{mask}!*@*"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_has_to_go_for_lack_of_room_is_forgotten_on_the_disk_too_and_who_was_named_stays() {
        let (store, clock) = (Store::memory(), Clock::system());
        let gate = Floodgate::open(&store, &clock).await.unwrap();
        gate.ignore("named!*@*", Duration::from_secs(86_400), "", Since::Said).await;
        for n in 0..KEPT_MAX {
            gate.ignore(&format!("*!*@h{n}"), Duration::from_secs(900 + u64::from(n)), "", Since::Flood).await;
        }
        let kept = store.kv_names(KEPT, "", 2 * KEPT_MAX, clock.now()).await.unwrap();
        assert_eq!(kept.len(), KEPT_MAX as usize);
        let again = Floodgate::open(&store, &clock).await.unwrap();
        let known = again.lock().ignored(Instant::now());
        let since = |mask: &str| known.iter().find(|one| one.mask == mask).map(|one| one.since);
        assert_eq!((since("named!*@*"), since("*!*@h0")), (Some(Since::Said), None));
        assert_eq!((known.len(), since("*!*@h1")), (KEPT_MAX as usize, Some(Since::Flood)));
    }
}
