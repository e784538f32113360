//! The warden of channels: bans and settings that outlive the bot, held to in every channel where the bot is op.

mod passes;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use masterchief_contract::{Action, Actor, CaseMap, Clock, Event, FlagScope, Kind, Outlet, Shutdown, split_place};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::StartError;
use super::outbox::Outbox;
use crate::dispatch::{Ban, Deed, FloodSettings, Held, Pass, place_key};
use crate::irc::{Member, Network};
use crate::store::{Store, StoreError};
use crate::users::{Book, FlagFault, FlagMask};

/// Under which names they stand among what scripts keep. No script can have them.
const BANS: &str = "@bans";
const CHANNELS: &str = "@channels";
const PASSES: &str = "@passes";
/// Bans and channels that are kept.
const KEPT_MAX: u32 = 4096;
/// Commands that wait to be sent; the next round makes up for those that had no room.
const WAITING: usize = 1024;
/// How often everything is looked over: bans that are over, people who came in before the bot was op.
const ROUND: Duration = Duration::from_secs(60);
/// How often in a minute what others change in one channel is changed back: services that want it otherwise win.
const BACK: u32 = 6;
/// Signs of who may kick and ban.
const OPS: [char; 4] = ['~', '&', '@', '%'];

/// What the bot does in channels by itself. Cheap to clone; all clones are the same one.
#[derive(Clone)]
pub(crate) struct Warden {
    inner: Arc<Inner>,
}

struct Inner {
    bans: Mutex<Vec<Ban>>,
    held: Mutex<BTreeMap<String, Held>>,
    /// Who may come in although others may not.
    passes: Mutex<Vec<Pass>>,
    store: Store,
    clock: Clock,
    book: Book,
    outbox: Outbox,
    masks: Masks,
    work: mpsc::Sender<Action>,
    /// Since when, and how often since then, what others change was changed back, by place.
    back: Mutex<BTreeMap<String, (Instant, u32)>>,
    /// Until they are carried out.
    orders: Mutex<Option<mpsc::Receiver<Action>>>,
}

/// Who is what, by flags.
struct Masks {
    /// Nobody kicks them for a ban: Eggdrop's friends.
    friends: FlagMask,
    ops: FlagMask,
    /// Opped everywhere.
    autoops: FlagMask,
    voices: FlagMask,
    autovoices: FlagMask,
}

impl Masks {
    fn read() -> Result<Masks, FlagFault> {
        Ok(Masks {
            friends: FlagMask::parse("fomn|fomn")?,
            ops: FlagMask::parse("o|o")?,
            autoops: FlagMask::parse("a|a")?,
            voices: FlagMask::parse("v|v")?,
            autovoices: FlagMask::parse("g|g")?,
        })
    }
}

impl Warden {
    /// With what was kept.
    pub(crate) async fn open(store: &Store, clock: &Clock, book: &Book, outbox: &Outbox) -> Result<Warden, StartError> {
        let (work, orders) = mpsc::channel(WAITING);
        let bans = kept(store, BANS, clock.now()).await?.into_iter().map(|(_, ban)| ban).collect();
        let held = kept(store, CHANNELS, clock.now()).await?.into_iter().collect();
        let passes = kept(store, PASSES, clock.now()).await?.into_iter().map(|(_, pass)| pass).collect();
        let inner = Inner {
            bans: Mutex::new(bans),
            held: Mutex::new(held),
            passes: Mutex::new(passes),
            store: store.clone(),
            clock: clock.clone(),
            book: book.clone(),
            outbox: outbox.clone(),
            masks: Masks::read().map_err(|fault| StartError::Flags { key: "channels".to_owned(), fault })?,
            work,
            back: Mutex::default(),
            orders: Mutex::new(Some(orders)),
        };
        Ok(Warden { inner: Arc::new(inner) })
    }

    /// Joins what is to be joined, sends what is ordered and looks everything over now and then, until shutdown.
    pub(crate) async fn run(self, mut shutdown: Shutdown) {
        let orders = self.inner.orders.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut orders) = orders else { return };
        for (place, held) in self.held().clone() {
            if let Some(channel) = held.joined {
                let key = held.key.map(|key| key.reveal().to_owned());
                self.order(Action::Join { network: split_place(&place).0.to_owned(), channel, key });
            }
        }
        let mut round = tokio::time::interval(ROUND);
        round.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let order = tokio::select! {
                () = shutdown.recv() => return,
                order = orders.recv() => order,
                _ = round.tick() => {
                    self.round().await;
                    continue;
                }
            };
            let Some(order) = order else { return };
            // A full queue makes orders wait, and us with them; then some are left out until the next round.
            let done = tokio::select! {
                () = shutdown.recv() => return,
                done = self.inner.outbox.perform(order) => done,
            };
            if let Err(refused) = done {
                tracing::warn!(%refused, "What a channel is held to could not be done");
            }
        }
    }

    /// All bans, the oldest first.
    pub(crate) fn bans(&self) -> Vec<Ban> {
        self.lock().clone()
    }

    /// What a place is held to.
    pub(crate) fn of(&self, place: &str) -> Held {
        self.held().get(place).cloned().unwrap_or_default()
    }

    /// Keeps a ban, replacing the one of that mask and place, and holds everybody to it.
    pub(crate) async fn ban(&self, ban: Ban) -> Result<(), StoreError> {
        let value = to_json(&ban)?;
        self.inner.store.kv_set(BANS, &key(&ban), &value, None).await?;
        {
            let mut bans = self.lock();
            bans.retain(|old| !old.is(ban.place.as_deref(), &ban.mask));
            bans.push(ban.clone());
        }
        for (network, channel) in self.places(|place| ban.counts_in(place)) {
            if ban.sticky {
                self.mode(&network, &channel, "+b", &ban.mask);
            }
            self.clear_out(&network, &channel, std::slice::from_ref(&ban));
        }
        Ok(())
    }

    /// Lifts a ban; the one there was.
    pub(crate) async fn unban(&self, place: Option<&str>, mask: &str) -> Result<Option<Ban>, StoreError> {
        let found = self.lock().iter().find(|ban| ban.is(place, mask)).cloned();
        let Some(ban) = found else { return Ok(None) };
        self.inner.store.kv_delete(BANS, &key(&ban)).await?;
        self.lock().retain(|old| !old.is(place, mask));
        for (network, channel) in self.places(|place| ban.counts_in(place)) {
            self.mode(&network, &channel, "-b", &ban.mask);
        }
        Ok(Some(ban))
    }

    /// Keeps what a place is held to, and holds it to that.
    pub(crate) async fn hold(&self, place: &str, held: Held) -> Result<(), StoreError> {
        if held == Held::default() {
            self.inner.store.kv_delete(CHANNELS, place).await?;
            self.held().remove(place);
            return Ok(());
        }
        self.inner.store.kv_set(CHANNELS, place, &to_json(&held)?, None).await?;
        self.held().insert(place.to_owned(), held);
        let (network, channel) = split_place(place);
        if let Some(network) = self.inner.outbox.network(network).filter(|network| is_op(network, channel)) {
            self.put_right(&network, channel);
        }
        Ok(())
    }

    /// Throws out who floods a channel, where that is wanted and we are op. `flood` is the event that tells of it.
    pub(crate) async fn punish(&self, flood: &Event, mask: &str, settings: &FloodSettings) {
        let (Some(chan), Some(actor), deed) = (flood.chan(), &flood.actor, settings.deed_of(flood)) else { return };
        let network = self.inner.outbox.network(&flood.network);
        let Some(network) = network.filter(|network| deed != Deed::Ignore && is_op(network, chan)) else { return };
        let (reason, since) = (format!("{} flood", flood.field_str("type")), self.inner.clock.now());
        if deed == Deed::Kick {
            let params = vec![chan.to_owned(), actor.nick.clone(), reason];
            return self.send(network.name(), "KICK", params);
        }
        let (place, by) = (Some(place_key(network.name(), chan)), network.nick());
        let until = since.checked_add_signed(TimeDelta::from_std(settings.ignore).unwrap_or(TimeDelta::MAX));
        let ban = Ban { place, mask: mask.to_owned(), by, reason, since, until, sticky: false };
        if let Err(fault) = self.ban(ban).await {
            tracing::error!(%fault, mask, "Who floods a channel cannot be banned from it");
        }
    }

    /// Looks at what happens in channels.
    pub(crate) fn see(&self, event: &Event) {
        let Some(chan) = event.chan() else { return };
        match event.kinds {
            [Kind::Join | Kind::Rejn, ..] => self.comes(event, chan),
            [Kind::Mode, ..] => self.changes(event, chan),
            _ => {}
        }
    }

    fn comes(&self, event: &Event, chan: &str) {
        let Some(actor) = event.actor.as_ref().filter(|actor| !actor.own) else { return };
        let place = place_key(&event.network, chan);
        let held = self.of(&place);
        let source = actor.source();
        let ban = self.lock().iter().find(|ban| ban.counts_in(&place) && ban.meets(&source, event.casemap)).cloned();
        let Some(network) = self.inner.outbox.network(&event.network) else { return };
        let may = |mask: &FlagMask| self.may(actor, mask, &event.network, chan, event.casemap);
        let masks = &self.inner.masks;
        let ban = ban.filter(|ban| !ban.is_over(self.inner.clock.now()) && !may(&masks.friends));
        if let Some(ban) = ban.filter(|_| !self.is_exempt(&place, &source, event.casemap)) {
            if is_op(&network, chan) {
                self.throw_out(network.name(), chan, &actor.nick, &ban);
            }
            return;
        }
        let op = may(&masks.autoops) || held.autoop && may(&masks.ops);
        let voice = may(&masks.autovoices) || held.autovoice && may(&masks.voices);
        if (op || voice) && is_op(&network, chan) {
            self.mode(network.name(), chan, if op { "+o" } else { "+v" }, &actor.nick);
        }
    }

    fn changes(&self, event: &Event, chan: &str) {
        let Some(network) = self.inner.outbox.network(&event.network) else { return };
        let own = event.actor.as_ref().is_some_and(|actor| actor.own);
        let (mode, target) = (event.field_str("mode"), event.field_str("target"));
        let place = place_key(&event.network, chan);
        if mode == "+o" && event.casemap.eq(target, &network.nick()) {
            return self.put_right(&network, chan);
        }
        let held = self.of(&place);
        if own || held == Held::default() && mode != "-b" || !is_op(&network, chan) {
            return;
        }
        match mode {
            "-b" => {
                let sticky = |ban: &Ban| ban.sticky && ban.counts_in(&place) && event.casemap.eq(&ban.mask, target);
                if self.lock().iter().any(sticky) && self.goes_back(&place) {
                    self.mode(network.name(), chan, "+b", target);
                }
            }
            "+o" if held.bitch => {
                let member = network.members(chan).into_iter().find(|member| event.casemap.eq(&member.nick, target));
                let actor = member.as_ref().map(actor).unwrap_or_default();
                // A server gives it back after a split: whoever is nobody here loses it all the same.
                let may = self.may(&actor, &self.inner.masks.ops, &event.network, chan, event.casemap);
                if !may && self.goes_back(&place) {
                    self.mode(network.name(), chan, "-o", target);
                }
            }
            _ => {
                let mut letters = mode.chars();
                if let (Some(sign), Some(letter)) = (letters.next(), letters.next())
                    && held.forbids(sign == '+', letter)
                    && self.goes_back(&place)
                {
                    let back = format!("{}{letter}", if sign == '+' { '-' } else { '+' });
                    self.send(network.name(), "MODE", vec![chan.to_owned(), back]);
                }
            }
        }
    }

    /// Whether what others changed in a place is changed back once more: two who each want it their way would never end.
    fn goes_back(&self, place: &str) -> bool {
        let (mut back, now) = (self.inner.back.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
        back.retain(|_, (since, _)| now.duration_since(*since) < ROUND);
        let (_, count) = back.entry(place.to_owned()).or_insert((now, 0));
        *count += 1;
        if *count == BACK + 1 {
            tracing::warn!(place, "Somebody else wants this channel otherwise; for a minute they have it their way");
        }
        *count <= BACK
    }

    /// Everything that a channel is held to, now that we are op there.
    fn put_right(&self, network: &Network, chan: &str) {
        let place = place_key(network.name(), chan);
        let bans: Vec<Ban> = self.lock().iter().filter(|ban| ban.counts_in(&place)).cloned().collect();
        for ban in bans.iter().filter(|ban| ban.sticky) {
            self.mode(network.name(), chan, "+b", &ban.mask);
        }
        let lists = |pass: &&Pass| pass.counts_in(&place) && network.is_list(pass.sort.letter());
        for pass in self.passes().iter().filter(lists) {
            self.mode(network.name(), chan, &format!("+{}", pass.sort.letter()), &pass.mask);
        }
        self.clear_out(network.name(), chan, &bans);
        let set = network.channel(chan).map(|(_, modes)| modes).unwrap_or_default();
        let missing = self.of(&place).missing(&set);
        if !missing.is_empty() {
            self.send(network.name(), "MODE", vec![chan.to_owned(), missing]);
        }
    }

    /// Throws those out who meet one of these bans, where we are op.
    fn clear_out(&self, network: &str, chan: &str, bans: &[Ban]) {
        let Some(network) = self.inner.outbox.network(network) else { return };
        if bans.is_empty() || !is_op(&network, chan) {
            return;
        }
        let (casemap, nick, now) = (network.casemap(), network.nick(), self.inner.clock.now());
        let place = place_key(network.name(), chan);
        for member in network.members(chan) {
            let actor = actor(&member);
            let source = actor.source();
            let Some(ban) = bans.iter().find(|ban| !ban.is_over(now) && ban.meets(&source, casemap)) else { continue };
            let friend = self.may(&actor, &self.inner.masks.friends, network.name(), chan, casemap);
            let exempt = self.is_exempt(&place, &source, casemap);
            if !friend && !exempt && !casemap.eq(&member.nick, &nick) {
                self.throw_out(network.name(), chan, &member.nick, ban);
            }
        }
    }

    /// Now and then: bans that are over are lifted, and who came in while we were not op is found.
    async fn round(&self) {
        let now = self.inner.clock.now();
        let over: Vec<Ban> = self.lock().iter().filter(|ban| ban.is_over(now)).cloned().collect();
        for ban in over {
            if let Err(fault) = self.unban(ban.place.as_deref(), &ban.mask).await {
                tracing::error!(%fault, mask = ban.mask, "A ban that is over cannot be lifted");
            }
        }
        let bans = self.bans();
        for network in self.inner.outbox.networks() {
            for chan in network.channels() {
                let place = place_key(network.name(), &chan);
                let bans: Vec<Ban> = bans.iter().filter(|ban| ban.counts_in(&place)).cloned().collect();
                self.clear_out(network.name(), &chan, &bans);
            }
        }
    }

    fn may(&self, actor: &Actor, mask: &FlagMask, network: &str, chan: &str, casemap: CaseMap) -> bool {
        let standing = self.inner.book.recognise(Some(actor), network, casemap);
        standing.allows(mask, FlagScope::Channel, network, Some(chan), casemap)
    }

    /// Those of these channels in which we are op.
    fn places(&self, is: impl Fn(&str) -> bool) -> Vec<(String, String)> {
        let mut places = Vec::new();
        for network in self.inner.outbox.networks() {
            let channels = network.channels().into_iter();
            let here = channels.filter(|chan| is(&place_key(network.name(), chan)) && is_op(&network, chan));
            places.extend(here.map(|chan| (network.name().to_owned(), chan)));
        }
        places
    }

    fn throw_out(&self, network: &str, chan: &str, nick: &str, ban: &Ban) {
        self.mode(network, chan, "+b", &ban.mask);
        let reason = if ban.reason.is_empty() { "banned".to_owned() } else { format!("banned: {}", ban.reason) };
        self.send(network, "KICK", vec![chan.to_owned(), nick.to_owned(), reason]);
    }

    fn mode(&self, network: &str, chan: &str, mode: &str, target: &str) {
        self.send(network, "MODE", vec![chan.to_owned(), mode.to_owned(), target.to_owned()]);
    }

    fn send(&self, network: &str, command: &str, params: Vec<String>) {
        self.order(Action::Send { network: network.to_owned(), command: command.to_owned(), params });
    }

    fn order(&self, action: Action) {
        if self.inner.work.try_send(action).is_err() {
            tracing::warn!("Too much is to be done in channels; the next round makes up for it");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Ban>> {
        self.inner.bans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<String, Held>> {
        self.inner.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether we may kick and ban there.
fn is_op(network: &Network, chan: &str) -> bool {
    let (nick, casemap) = (network.nick(), network.casemap());
    let own = network.members(chan).into_iter().find(|member| casemap.eq(&member.nick, &nick));
    own.is_some_and(|member| member.status.starts_with(OPS))
}

fn actor(member: &Member) -> Actor {
    Actor {
        nick: member.nick.clone(),
        user: member.user.clone(),
        host: member.host.clone(),
        account: member.account.clone(),
        ..Actor::default()
    }
}

fn key(ban: &Ban) -> String {
    format!("{} {}", ban.place.as_deref().unwrap_or("*"), CaseMap::Rfc1459.fold(&ban.mask))
}

fn to_json(value: &impl Serialize) -> Result<serde_json::Value, StoreError> {
    serde_json::to_value(value).map_err(|fault| StoreError::Damaged(fault.to_string()))
}

/// What is kept under a name. What cannot be read was written by a newer version, and is left alone.
async fn kept<T: DeserializeOwned>(
    store: &Store,
    under: &str,
    now: DateTime<Utc>,
) -> Result<Vec<(String, T)>, StoreError> {
    let mut out = Vec::new();
    for name in store.kv_names(under, "", KEPT_MAX, now).await? {
        let Some(value) = store.kv_get(under, &name, now).await? else { continue };
        match serde_json::from_value(value) {
            Ok(value) => out.push((name, value)),
            Err(fault) => tracing::error!(%fault, under, name, "A record of a channel cannot be read"),
        }
    }
    Ok(out)
}
