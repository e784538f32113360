//! What this bot lacks in a channel (op, or to be let in) is asked of other MasterChiefs that are operators there. Who is asked gives it
//! to the account only that is written down for the bot that asks, as far as the network shows it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use masterchief_contract::{Action, BindOptions, Event, Future, Handler, HandlerResult, Kind, Outcome, Outlet};
use tokio::time::Instant;

use crate::bot::outbox::Outbox;
use crate::dispatch::{BindFault, BindTable, Kinds, NewBind};
use crate::mesh::{BotName, Call, Mesh, NEED};

/// The owner of the bind.
const OWNER: &str = "mesh.need";
/// The type of a need for op; all others are to be let in.
const OP: &str = "op";
/// The types of those.
const TO_BE_LET_IN: &[&str] = &["invite", "unban", "limit", "key"];
/// For how long nobody is asked again, so that no war of modes comes of it; and the same for being let in.
const OP_AGAIN: Duration = Duration::from_secs(600);
const IN_AGAIN: Duration = Duration::from_secs(60);
/// How long a bot may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bots that are asked for one need.
const ASKED: usize = 16;
/// Needs that are remembered; a server that makes more up is hostile.
const REMEMBERED: usize = 1000;

/// Asks others.
#[derive(Clone)]
struct Asks {
    mesh: Mesh,
    outbox: Outbox,
    /// When each need was last told.
    asked: Arc<Mutex<HashMap<String, Instant>>>,
}

/// Binds it.
pub(in crate::bot) fn bind(kinds: &Kinds, table: &BindTable, mesh: &Mesh, outbox: &Outbox) -> Result<(), BindFault> {
    let asks: Arc<dyn Handler> = Arc::new(Asks { mesh: mesh.clone(), outbox: outbox.clone(), asked: Arc::default() });
    let bind = NewBind::parse(kinds, Kind::Need.name(), "-|-", "*", BindOptions::default(), asks)?;
    table.replace(OWNER, vec![bind]);
    Ok(())
}

impl Handler for Asks {
    fn call(&self, event: Event) -> Future<HandlerResult> {
        let asks = self.clone();
        Box::pin(async move {
            let what = event.field_str("type");
            if let (Some(chan), Some(network)) = (event.chan(), asks.outbox.network(&event.network))
                && asks.is_due(&format!("{}/{} {what}", event.network, event.casemap.fold(chan)), what)
            {
                let need = format!("{} {chan} {what} {}", event.network, network.nick());
                asks.ask(&need).await;
            }
            Ok(Outcome::Nothing)
        })
    }

    fn origin(&self) -> String {
        OWNER.to_owned()
    }
}

impl Asks {
    /// Whether it was not told lately; from now on it was.
    fn is_due(&self, need: &str, what: &str) -> bool {
        let (now, again) = (Instant::now(), if what == OP { OP_AGAIN } else { IN_AGAIN });
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.get(need).is_some_and(|at| now.duration_since(*at) < again) {
            return false;
        }
        if asked.len() >= REMEMBERED {
            asked.retain(|_, at| now.duration_since(*at) < again);
        }
        if asked.len() < REMEMBERED {
            asked.insert(need.to_owned(), now);
        }
        true
    }

    /// Asks one after the other until one gives it.
    async fn ask(&self, need: &str) {
        let view = self.mesh.view();
        for bot in view.bots.iter().filter(|bot| bot.is_ours()).take(ASKED) {
            match self.mesh.own(&bot.name, NEED, need, PATIENCE).await {
                Ok(_) => {
                    tracing::info!(bot = %bot.name, need, "Another bot gives what is needed");
                    return;
                }
                Err(fault) => tracing::debug!(bot = %bot.name, need, %fault, "Another bot does not help"),
            }
        }
    }
}

/// Gives another bot what it needs, if it is who its record says, or tells why not.
pub(super) async fn give(mesh: &Mesh, outbox: &Outbox, call: &Call) -> Result<String, String> {
    let words: Vec<&str> = call.data.split(' ').collect();
    let &[network, chan, what, nick] = words.as_slice() else {
        return Err("a need is a network, a channel, what is needed and a nick".to_owned());
    };
    if !call.proven {
        return Err(format!("a bot that is not trusted stands between {} and here", call.from));
    }
    let accounts = accounts_of(mesh, &call.from, network);
    if accounts.is_empty() {
        return Err(format!("no account of {} on {network} is written down here", call.from));
    }
    let place = outbox.network(network).ok_or_else(|| format!("there is no network {network} here"))?;
    if !place.is_operator(chan) {
        return Err(format!("{} is no operator in {chan}", mesh.name()));
    }
    let casemap = place.casemap();
    let seen_in = |chan: &str| place.members(chan).into_iter().find(|member| casemap.eq(&member.nick, nick));
    // Who wants in is known from other channels.
    let seen = if what == OP { seen_in(chan) } else { place.channels().iter().find_map(|chan| seen_in(chan)) };
    let seen = seen.ok_or_else(|| format!("{nick} is not seen by {}", mesh.name()))?;
    if !seen.account.as_deref().is_some_and(|seen| accounts.iter().any(|account| casemap.eq(seen, account))) {
        return Err(format!("{nick} is not logged in as {}", accounts.join(" or ")));
    }
    let (command, params) = match what {
        OP => ("MODE", vec![chan, "+o", nick]),
        // An invitation opens what is closed, full or locked, and on most servers it passes a ban.
        what if TO_BE_LET_IN.contains(&what) => ("INVITE", vec![nick, chan]),
        _ => return Err(format!("nobody here knows how to give {what}")),
    };
    let params = params.into_iter().map(str::to_owned).collect();
    let action = Action::Send { network: network.to_owned(), command: command.to_owned(), params };
    outbox.perform(action).await.map_err(|refused| refused.message)?;
    tracing::info!(bot = %call.from, chan, what, nick, "A bot of the mesh is given what it needs");
    Ok(String::new())
}

/// The accounts that are written down for a bot on a network.
fn accounts_of(mesh: &Mesh, bot: &BotName, network: &str) -> Vec<String> {
    let view = mesh.view();
    let record = view.records.iter().find(|record| record.name == *bot);
    record.map(|record| record.settings.accounts_on(network).map(str::to_owned).collect()).unwrap_or_default()
}
