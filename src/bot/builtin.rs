//! The binds that every bot has: `!help` and `!reload`, in channels and in private, and the answers to CTCP.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use masterchief_contract::{
    Action, BindOptions, Event, Future, Handler, HandlerError, HandlerResult, Kind, Outcome, closest, user_error,
};
use tokio::time::Instant;

use super::builder::Rules;
use super::scripts::Scripts;
use super::sudo;
use super::words;
use crate::dispatch::{BindFault, BindTable, Kinds, NewBind};
use crate::irc::text;
use crate::partyline::ELSEWHERE;
use crate::users::Book;

/// The owner of these binds.
pub(crate) const OWNER: &str = "builtin";
/// Answers to CTCP queries within [`CTCP_WINDOW`].
const CTCP_MAX: usize = 10;
/// The time in which so many are answered.
const CTCP_WINDOW: Duration = Duration::from_secs(60);
/// The word for loading scripts anew, and who may say it.
const RELOAD: &str = "!reload";
/// Whoever may run any code.
const OWNERS: &str = "n|-";
/// The word for help.
const HELP: &str = "!help";

/// `!help` and `!help COMMAND`, showing only what this person may run here.
struct Help {
    table: BindTable,
    book: Book,
}

/// The built-in binds, ready for the table.
pub(crate) fn binds(
    kinds: &Kinds,
    table: &BindTable,
    book: &Book,
    scripts: &Arc<OnceLock<Scripts>>,
    rules: Arc<ArcSwap<Rules>>,
) -> Result<Vec<NewBind>, BindFault> {
    let help: Arc<dyn Handler> = Arc::new(Help { table: table.clone(), book: book.clone() });
    let options = BindOptions {
        usage: Some("[command]".to_owned()),
        help: Some("Lists the commands you may use here, or explains one".to_owned()),
        ..BindOptions::default()
    };
    let mut binds = Vec::new();
    for kind in [Kind::Pub, Kind::Msg] {
        binds.push(NewBind::parse(kinds, kind.name(), "-|-", HELP, options.clone(), Arc::clone(&help))?);
    }
    let reload: Arc<dyn Handler> = Arc::new(Reload { scripts: Arc::clone(scripts) });
    let options = BindOptions {
        usage: Some("[script]".to_owned()),
        help: Some("Loads a script anew, or all of them".to_owned()),
        ..BindOptions::default()
    };
    for kind in [Kind::Pub, Kind::Msg] {
        binds.push(NewBind::parse(kinds, kind.name(), OWNERS, RELOAD, options.clone(), Arc::clone(&reload))?);
    }
    let ctcp: Arc<dyn Handler> = Arc::new(Ctcp { rules, answered: Mutex::default() });
    for keyword in ["PING", "VERSION", "TIME", "SOURCE", "CLIENTINFO"] {
        binds.push(NewBind::parse(
            kinds,
            Kind::Ctcp.name(),
            "-|-",
            keyword,
            BindOptions::default(),
            Arc::clone(&ctcp),
        )?);
    }
    Ok(binds)
}

/// `!reload` and `!reload SCRIPT`.
struct Reload {
    /// Empty in a bot without scripts.
    scripts: Arc<OnceLock<Scripts>>,
}

impl Handler for Reload {
    fn call(&self, event: Event) -> Future<HandlerResult> {
        let scripts = Arc::clone(&self.scripts);
        Box::pin(async move {
            let Some(scripts) = scripts.get() else { return Err(user_error(words::no_scripts())) };
            let asked = event.arg_str("script");
            let report = if asked.is_empty() {
                scripts.reload_all().await
            } else {
                let name = if asked.ends_with(".lua") { asked.to_owned() } else { format!("{asked}.lua") };
                scripts.reload_named(&name).await.ok_or_else(|| user_error(words::no_such_script(&name)))?
            };
            Ok(Outcome::Reply(words::reloaded(&report)))
        })
    }

    fn origin(&self) -> String {
        OWNER.to_owned()
    }
}

/// The answers to CTCP. A bind of one's own that returns STOP comes before them.
struct Ctcp {
    rules: Arc<ArcSwap<Rules>>,
    answered: Mutex<VecDeque<Instant>>,
}

impl Ctcp {
    /// Whether one more may be answered now: a flood of queries is not our flood of answers.
    fn may(&self) -> bool {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        while answered.front().is_some_and(|at| now.duration_since(*at) >= CTCP_WINDOW) {
            answered.pop_front();
        }
        let may = answered.len() < CTCP_MAX;
        if may {
            answered.push_back(now);
        }
        may
    }
}

impl Handler for Ctcp {
    fn call(&self, event: Event) -> Future<HandlerResult> {
        let keyword = event.field("keyword").and_then(|value| value.as_str()).unwrap_or("").to_owned();
        let answer = match keyword.as_str() {
            "PING" => event.text().to_owned(),
            "VERSION" => words::version(),
            "TIME" => event.at.to_rfc2822(),
            "SOURCE" => env!("CARGO_PKG_REPOSITORY").to_owned(),
            _ => "ACTION CLIENTINFO PING SOURCE TIME VERSION".to_owned(),
        };
        let by_bot = event.actor.as_ref().is_some_and(|actor| actor.bot);
        let may = self.rules.load().answer_ctcp && !by_bot && self.may();
        Box::pin(async move {
            if may {
                let params = vec![event.nick().to_owned(), text::as_ctcp(&keyword, &answer)];
                let notice = Action::Send { network: event.network.to_string(), command: "NOTICE".to_owned(), params };
                event.perform(notice).await.map_err(HandlerError::internal)?;
            }
            Ok(Outcome::Nothing)
        })
    }

    fn origin(&self) -> String {
        OWNER.to_owned()
    }
}

impl Handler for Help {
    fn call(&self, event: Event) -> Future<HandlerResult> {
        let lines = self.lines(&event);
        Box::pin(async move { Ok(Outcome::Reply(lines)) })
    }

    fn origin(&self) -> String {
        OWNER.to_owned()
    }
}

impl Help {
    fn lines(&self, event: &Event) -> Vec<String> {
        let allowed = self.allowed(event);
        let asked = event.arg_str("command");
        if asked.is_empty() {
            return words::help_overview(&allowed.keys().cloned().collect::<Vec<_>>());
        }
        let found = [asked.to_owned(), format!("!{asked}")].into_iter().find_map(|word| allowed.get_key_value(&word));
        match found {
            Some((word, (usage, help))) => vec![words::help_line(word, usage.as_deref(), help.as_deref())],
            None => {
                let close = closest(asked, allowed.keys().map(String::as_str));
                vec![words::no_such_command(asked, close)]
            }
        }
    }

    /// The commands this person may run here, with usage and help.
    fn allowed(&self, event: &Event) -> BTreeMap<String, (Option<String>, Option<String>)> {
        let standing = self.book.recognise(event.actor.as_ref(), &event.network, event.casemap);
        let kind = event.kind();
        let mut out = BTreeMap::new();
        for row in self.table.rows() {
            // Most people have nothing to lend themselves.
            let idle = *row.mask == *sudo::WORD && !standing.may_rise();
            let may = || !idle && standing.allows(&row.flags, row.scope, &event.network, event.chan(), event.casemap);
            if row.kind == kind && !row.shadowed && row.origin != ELSEWHERE && may() {
                out.insert(row.mask.to_string(), (row.usage, row.help));
            }
        }
        out
    }
}
