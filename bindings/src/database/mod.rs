//! `database`: a query is asked on a schedule, or when the database says so, and what changed is told; or PostgreSQL is
//! listened to.

mod listen;
#[cfg(feature = "mongodb")]
mod mongo;
mod settings;
mod source;
mod sql;

use std::borrow::Cow;
use std::sync::Arc;

use masterchief_contract::{EventData, FlagScope, Kind, KindSpec, MaskFault, Matching, Meter, Returns, Source, Wanted};

use crate::poll::Polled;
use crate::{Settings, gap};

pub use settings::{DatabaseSettings, FindSettings, On, QuerySettings};

/// The row.
pub static KINDS: &[KindSpec] = &[KindSpec {
    kind: Kind::Database,
    matching: Matching::Journal,
    flags: FlagScope::Nobody,
    stackable: true,
    returns: Returns::Ignored,
    subject: words,
    check: |mask| DbMask::parse(mask).map(drop),
    fields: &["query", "channel", "event", "key", "data", gap::GAP],
    about: "a row of a query is added, changed or removed; or PostgreSQL notifies, or nobody listened for a while",
    example: "db:query/orders",
    wants: Some(|mask| DbMask::parse(mask).map(|mask| mask.wanted())),
}];

fn words(event: &EventData) -> Cow<'_, str> {
    Cow::Borrowed(&event.text)
}

/// `db[@CONN]:query/NAME` or `db[@CONN]:listen/CHANNEL[ gap]`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct DbMask {
    conn: String,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Query(String),
    /// And whether what is wanted of it is what is known to be lost.
    Listen(String, bool),
}

impl DbMask {
    fn parse(mask: &str) -> Result<DbMask, MaskFault> {
        const FORM: &str = "write db:query/NAME or db:listen/CHANNEL; the SQL, and what of it is an event (`on`), stand in the configuration";
        let wrong = |at: usize| Err(MaskFault::at(mask, at, FORM));
        let Some((scheme, rest)) = mask.split_once(':') else { return wrong(mask.len()) };
        let conn = match scheme.split_once('@') {
            Some(("db", conn)) if !conn.is_empty() => conn,
            None if scheme == "db" => "default",
            _ => return wrong(0),
        };
        let after = scheme.len() + 1;
        let Some((what, name)) = rest.split_once('/') else { return wrong(after) };
        let gapless = name.strip_suffix(gap::GAP).and_then(|name| name.strip_suffix(' ')).filter(|_| what == "listen");
        let (name, gap) = (gapless.unwrap_or(name), gapless.is_some());
        let letters = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.');
        if name.is_empty() || !name.chars().all(letters) {
            return wrong(after + what.len() + 1);
        }
        let what = match what {
            "query" => What::Query(name.to_owned()),
            "listen" => What::Listen(name.to_owned(), gap),
            _ => return wrong(after),
        };
        Ok(DbMask { conn: conn.to_owned(), what })
    }

    /// One connection listens for both: for whoever wants what is notified, and for whoever wants what is lost.
    fn wanted(self) -> Wanted {
        match self.what {
            What::Query(_) => Wanted::all(self.to_string()),
            What::Listen(channel, gap) => {
                let stream = DbMask { what: What::Listen(channel, false), ..self }.to_string();
                Wanted { stream: stream.into(), filter: Some(Arc::new(move |event| gap::is_of(event) == gap)) }
            }
        }
    }
}

impl std::fmt::Display for DbMask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let conn = if self.conn == "default" { String::new() } else { format!("@{}", self.conn) };
        match &self.what {
            What::Query(name) => write!(f, "db{conn}:query/{name}"),
            What::Listen(channel, false) => write!(f, "db{conn}:listen/{channel}"),
            What::Listen(channel, true) => write!(f, "db{conn}:listen/{channel} {}", gap::GAP),
        }
    }
}

/// The source of a stream, or why there is none.
pub(crate) fn source(settings: &Settings, stream: &str, meter: &Arc<Meter>) -> Result<Box<dyn Source>, String> {
    let mask = DbMask::parse(stream).map_err(|fault| fault.to_string())?;
    let conn = &mask.conn;
    let missing = || {
        format!(
            "there is no connection {conn}; add it, as in sources: {{databases: {{{conn}: {{url: \"postgres://...\"}}}}}}"
        )
    };
    let database = settings.databases.get(conn).ok_or_else(missing)?;
    match mask.what {
        What::Listen(channel, _) => Ok(Box::new(listen::Listen::new(database, &channel, meter)?)),
        What::Query(name) => {
            let missing =
                || format!("there is no query {name}; add it, as in queries: {{{name}: {{sql: \"SELECT ...\"}}}}");
            let query = database.queries.get(&name).ok_or_else(missing)?;
            Ok(Box::new(Polled::new(source::Rows::new(&name, database, query, meter)?, meter)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_notified_and_what_is_lost_come_over_one_connection_and_go_to_whoever_wants_them() {
        let wanted = ["db:listen/jobs", "db:listen/jobs gap"].map(|mask| DbMask::parse(mask).unwrap().wanted());
        assert_eq!(wanted.each_ref().map(|wanted| &*wanted.stream), ["db:listen/jobs"; 2]);
        let (mut lost, told) = (EventData::new(&[], chrono::Utc::now()), EventData::new(&[], chrono::Utc::now()));
        lost.fields.push((gap::GAP, serde_json::json!({"seconds": 7})));
        assert_eq!(wanted.map(|wanted| (wanted.meets(&told), wanted.meets(&lost))), [(true, false), (false, true)]);
    }

    #[test]
    fn masks_name_a_connection_and_what_is_asked() {
        for mask in ["db:query/orders", "db@shop:query/orders", "db:listen/deploys", "db@shop:listen/deploys gap"] {
            assert_eq!(DbMask::parse(mask).unwrap().to_string(), mask);
        }
        for (mask, column) in [
            ("", 1),
            ("db", 3),
            ("sql:query/a", 1),
            ("db:orders", 4),
            ("db:query/", 10),
            ("db:drop/a", 4),
            ("db:query/a b", 10),
            ("db@shop:query/stock on <5", 15),
            ("db:query/stock on rows", 10),
            ("db:query/orders gap", 10),
            ("db:listen/ gap", 11),
        ] {
            let fault = DbMask::parse(mask).unwrap_err();
            assert_eq!(fault.column, column, "{mask}: {fault}");
        }
    }
}
