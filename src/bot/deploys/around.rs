//! The bot around the pipelines: its networks, its users, its audit trail.

use std::collections::BTreeSet;
use std::sync::Arc;

use masterchief_contract::{Actor, Clock, Event, EventData, Future, Kind, split_place};

use super::super::audit::Audit;
use super::super::outbox::Outbox;
use super::OWNER;
use crate::irc::Network;
use crate::journal::Journal;
use crate::lua::World;
use crate::pipelines::{Around, Asker, May, Millis};
use crate::store::runs::IncidentRow;
use crate::store::{AuditRow, Store};
use crate::users::{Book, FlagMask};

/// So many of the newest events are looked at for alerts.
const LOOKED_AT: usize = 200;

/// What pipelines see of the bot.
pub(crate) struct Surroundings {
    pub(crate) outbox: Outbox,
    pub(crate) book: Book,
    pub(crate) audit: Audit,
    pub(crate) journal: Journal,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
}

impl Around for Surroundings {
    /// As if they were logged in.
    fn may(&self, who: &Asker) -> May {
        let (network, target) = split_place(&who.place);
        let actor = Actor { nick: who.nick.clone(), login: Some(who.handle.clone()), ..Actor::default() };
        let mut data = EventData::new(&[Kind::Pub], self.clock.now());
        data.actor = Some(actor);
        data.network = Arc::from(network);
        data.chan = who.channel().map(|_| Arc::from(target));
        May::of(&self.book, &Event::new(data))
    }

    /// What is no network of IRC is always there.
    fn present(&self, place: &str) -> bool {
        self.outbox.network(split_place(place).0).is_none_or(|network| network.status().connected)
    }

    fn hide(&self, text: &str) -> String {
        World::hide(&self.outbox, text)
    }

    fn names(&self, handles: &BTreeSet<String>, more: bool) {
        let before = if more { Arc::unwrap_or_clone(self.book.named()) } else { BTreeSet::new() };
        self.book.name(&handles.union(&before).cloned().collect());
    }

    fn who_may(&self, flags: &FlagMask, place: &str) -> Vec<String> {
        let may = |handle: &str| {
            let who = Asker { handle: handle.to_owned(), place: place.to_owned(), ..Asker::default() };
            self.may(&who).has(Some(flags))
        };
        self.book.all().iter().map(|user| user.handle.clone()).filter(|handle| may(handle)).collect()
    }

    fn find(&self, handle: &str) -> Option<(String, String)> {
        self.outbox.networks().iter().find_map(|network| {
            let nick = nick_of(&self.book, network, handle)?;
            Some((network.name().to_owned(), nick))
        })
    }

    fn nicks(&self, place: &str) -> Vec<String> {
        let (network, channel) = split_place(place);
        let members = self.outbox.network(network).map(|network| network.members(channel));
        members.into_iter().flatten().map(|member| member.nick).collect()
    }

    fn alerts(&self, since: Millis) -> Future<Vec<(Millis, String)>> {
        let journal = self.journal.clone();
        Box::pin(async move {
            let mut alerts = Vec::new();
            for kind in [Kind::Metric, Kind::Webhook] {
                // An alert that cannot be read is not there; the log says why.
                let rows = journal.newest(kind.name(), LOOKED_AT).await;
                let rows =
                    rows.inspect_err(|fault| tracing::warn!(%fault, "Alerts cannot be told")).unwrap_or_default();
                let events = rows.into_iter().map(|row| row.event).filter(began);
                alerts.extend(events.map(|event| (event.at.timestamp_millis(), event.text().to_owned())));
            }
            alerts.retain(|(at, _)| *at >= since);
            alerts.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
            alerts
        })
    }

    fn told(&self, app: &str, since: Millis, limit: u32) -> Future<Vec<(String, IncidentRow)>> {
        let (store, app) = (self.store.clone(), app.to_owned());
        Box::pin(async move {
            let rows = store.told_since(Some(&app), since, limit).await;
            let rows =
                rows.inspect_err(|fault| tracing::warn!(%fault, "The incident logs of other bots cannot be read"));
            rows.unwrap_or_default().into_iter().map(|told| (told.origin, told.row)).collect()
        })
    }

    fn note(&self, who: &Asker, deed: &str, refused: Option<&str>) {
        let (network, target) = split_place(&who.place);
        self.audit.write(AuditRow {
            at: self.clock.now(),
            action: refused.map_or("ran", |_| "failed").to_owned(),
            actor: who.nick.clone(),
            handle: Some(who.handle.clone()).filter(|handle| handle != "*"),
            network: network.to_owned(),
            kind: OWNER.to_owned(),
            mask: who.origin.clone(),
            detail: [target, deed, refused.unwrap_or("")].map(str::trim).join(" ").trim().to_owned(),
        });
    }
}

/// Whether an event says that an alert began.
fn began(event: &Event) -> bool {
    event.field_str("state") == "firing"
        || event.field_str("provider") == "alertmanager" && event.field_str("event") == "firing"
}

/// The nick of somebody on a network, if the services there vouch for them.
fn nick_of(book: &Book, network: &Network, handle: &str) -> Option<String> {
    let channels = network.channels();
    let mut members = channels.iter().flat_map(|channel| network.members(channel));
    let theirs = members.find(|member| {
        let actor = Actor { nick: member.nick.clone(), account: member.account.clone(), ..Actor::default() };
        let who = book.recognise(Some(&actor), network.name(), network.casemap()).who;
        who.vouched && who.handle.as_deref() == Some(handle)
    });
    theirs.map(|member| member.nick)
}

#[cfg(test)]
mod tests {
    use masterchief_contract::Value;

    use super::*;

    #[test]
    fn an_alert_is_a_metric_that_fires_or_what_alertmanager_posts() {
        let event = |fields: &[(&'static str, &str)]| {
            let fields = fields.iter().map(|(name, value)| (*name, Value::from(*value))).collect();
            Event::new(EventData { fields, ..EventData::new(&[Kind::Metric], chrono::Utc::now()) })
        };
        assert!(began(&event(&[("state", "firing")])));
        assert!(!began(&event(&[("state", "resolved")])));
        assert!(began(&event(&[("provider", "alertmanager"), ("event", "firing")])));
        assert!(!began(&event(&[("provider", "alertmanager"), ("event", "resolved")])));
        assert!(!began(&event(&[("provider", "github"), ("event", "firing")])));
    }
}
