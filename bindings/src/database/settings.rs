//! What can be configured about databases.

use std::collections::BTreeMap;
use std::time::Duration;

use masterchief_contract::{Secret, Value};
use serde::Deserialize;

/// A database.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseSettings {
    /// `postgres://`, `mysql://` (MariaDB too), `sqlite:///path` or `mongodb://host/database`.
    pub url: Secret,
    /// The queries, by the name in masks.
    #[serde(default)]
    pub queries: BTreeMap<String, QuerySettings>,
    /// Whether queries may only read.
    #[serde(default = "yes")]
    pub read_only: bool,
    /// How long a query may take.
    #[serde(default = "thirty_seconds", with = "humantime_serde")]
    pub timeout: Duration,
}

/// A query.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuerySettings {
    /// One statement of SQL. `:cursor` is where we are, with `on: cursor`.
    #[serde(default)]
    pub sql: String,
    /// Instead of SQL, for MongoDB.
    pub find: Option<FindSettings>,
    /// How often.
    #[serde(default = "minute", with = "humantime_serde")]
    pub every: Duration,
    /// What is an event.
    #[serde(default)]
    pub on: On,
    /// The columns that tell rows apart (`on: rows`, or `overlap`).
    #[serde(default)]
    pub key: Vec<String>,
    /// The column that grows (`on: cursor`); rows come in its order.
    pub cursor: Option<String>,
    /// Where the cursor begins: a number or a text. With MongoDB it may be left out, for all there is.
    pub start: Option<Value>,
    /// For how long what was passed is asked for again (`on: cursor`): a row that is committed after one behind it was read
    /// is found if it comes within this time. Sequences count before they commit, a timestamp has company in its second,
    /// and the `_id`s of two writers are in no order: the longest transaction is a good time. The journal knows what it has
    /// by the query, the cursor and `key` (the whole row, where there is none), so nothing is told twice; hence at most a
    /// day, and less than `journal.remember_keys`.
    #[serde(default, with = "humantime_serde")]
    pub overlap: Duration,
    /// Whether what is there at the first look is an event (`on: rows`, `on: hash`).
    #[serde(default)]
    pub first: bool,
    /// A channel of PostgreSQL whose notifications make it ask at once.
    pub listen: Option<String>,
    /// Whether a change stream of MongoDB (a replica set has them) makes it ask at once.
    #[serde(default)]
    pub watch: bool,
    /// Rows that are taken at once at most.
    #[serde(default = "rows")]
    pub rows: usize,
}

/// What is looked for in MongoDB.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FindSettings {
    /// The collection.
    pub collection: String,
    /// What documents are like, as for `find`; extended JSON (`{"$oid": "..."}`) is understood. All, where it is left out.
    #[serde(default)]
    pub filter: Value,
    /// The fields that are wanted, beside `_id`. All, where it is left out.
    #[serde(default)]
    pub fields: Vec<String>,
}

/// What is an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum On {
    /// A row is new, other than it was, or gone.
    #[default]
    Rows,
    /// Each row behind the cursor, once.
    Cursor,
    /// Any change of the whole result.
    Hash,
}

fn yes() -> bool {
    true
}

fn minute() -> Duration {
    Duration::from_secs(60)
}

fn thirty_seconds() -> Duration {
    Duration::from_secs(30)
}

fn rows() -> usize {
    10_000
}
