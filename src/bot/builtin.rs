//! The binds that every bot has: `!help`, in channels and in private.

use std::collections::BTreeMap;
use std::sync::Arc;

use masterchief_contract::{BindOptions, Event, Future, Handler, HandlerResult, Kind, Outcome};

use super::words;
use crate::dispatch::{BindFault, BindTable, Kinds, NewBind};
use crate::users::Book;

/// The owner of these binds.
pub(crate) const OWNER: &str = "builtin";
/// The word for help.
const HELP: &str = "!help";

/// `!help` and `!help COMMAND`, showing only what this person may run here.
struct Help {
    table: BindTable,
    book: Book,
}

/// The built-in binds, ready for the table.
pub(crate) fn binds(kinds: &Kinds, table: &BindTable, book: &Book) -> Result<Vec<NewBind>, BindFault> {
    let help: Arc<dyn Handler> = Arc::new(Help {
        table: table.clone(),
        book: book.clone(),
    });
    let options = BindOptions {
        usage: Some("[command]".to_owned()),
        help: Some("Lists the commands you may use here, or explains one".to_owned()),
        ..BindOptions::default()
    };
    [Kind::Pub, Kind::Msg]
        .into_iter()
        .map(|kind| NewBind::parse(kinds, kind.name(), "-|-", HELP, options.clone(), Arc::clone(&help)))
        .collect()
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
        let found = [asked.to_owned(), format!("!{asked}")]
            .into_iter()
            .find_map(|word| allowed.get_key_value(&word));
        match found {
            Some((word, (usage, help))) => vec![words::help_line(word, usage.as_deref(), help.as_deref())],
            None => {
                let close = crate::dispatch::closest(asked, allowed.keys().map(String::as_str));
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
            let may = || standing.allows(&row.flags, row.scope, &event.network, event.chan(), event.casemap);
            if row.kind == kind && !row.shadowed && may() {
                out.insert(row.mask.to_string(), (row.usage, row.help));
            }
        }
        out
    }
}
