//! What happens on the partyline as events for binds. Pure.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use masterchief_contract::{Actor, EventData, Kind, Value};

use super::kinds;
use super::news::{Change, Did};
use super::party::NETWORK;
use super::place::Place;

/// The event that binds see of a change, if they do.
pub(super) fn event_of(change: &Change, own: &Arc<str>, now: DateTime<Utc>) -> Option<EventData> {
    let bot = change.bot.as_ref().unwrap_or(own);
    let (kinds, mut fields, channel, text): (&'static [Kind], _, _, _) = match &change.what {
        Did::Entered { .. } => (&[kinds::CHON], vec![], None, String::new()),
        Did::Left { reason } if change.bot.is_none() => (&[kinds::CHOF], vec![], None, reason.clone()),
        Did::Joined { channel, icon, host } => {
            let fields = vec![("icon", Value::from(icon.to_string())), ("host", Value::from(&**host))];
            (&[kinds::CHJN], fields, Some(i64::from(*channel)), String::new())
        }
        Did::Parted { channel, reason } => (&[kinds::CHPT], vec![], Some(i64::from(*channel)), reason.clone()),
        Did::Said { channel, text, act: false } => (&[kinds::CHAT], vec![], Some(i64::from(*channel)), text.clone()),
        Did::Said { channel, text, act: true } => (&[kinds::ACT], vec![], Some(i64::from(*channel)), text.clone()),
        Did::Told { channel, text } if change.bot.is_some() => {
            (&[kinds::BCST], vec![], Some(channel.map_or(-1, i64::from)), text.clone())
        }
        Did::Away { reason } => (&[kinds::AWAY], vec![], None, reason.as_deref().unwrap_or("").to_owned()),
        Did::Left { .. } | Did::Told { .. } | Did::Renamed { .. } | Did::Unlinked { .. } => return None,
    };
    let handle = match &change.bot {
        Some(bot) => format!("{}@{bot}", change.handle),
        None => change.handle.to_string(),
    };
    let mut event = EventData::new(kinds, now);
    event.network = Arc::from(NETWORK);
    fields.push(("bot", Value::from(&**bot)));
    if !matches!(change.what, Did::Told { .. }) {
        // A bot that speaks for itself is nobody.
        fields.extend([("handle", Value::from(handle)), ("idx", Value::from(change.idx))]);
    }
    if let Some(channel) = channel {
        fields.push(("channel", Value::from(channel)));
        event.chan = u32::try_from(channel).ok().map(|number| Arc::from(Place::Party(number).to_string()));
    }
    if change.bot.is_none() {
        let nick = change.handle.to_string();
        let login = Some(nick.clone());
        event.actor = Some(Actor { user: nick.clone(), nick, host: NETWORK.to_owned(), login, ..Actor::default() });
    }
    (event.fields, event.text) = (fields, text);
    Some(event)
}
