//! The records of runs: what is written is there again, and what does not fit is refused. All of it holds in a file of SQLite and on
//! a real PostgreSQL.

#[path = "../../../../tests/stories/postgresql.rs"]
pub(super) mod postgresql;
pub(super) mod story;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use masterchief_contract::Secret;
use postgresql::Postgresql;

use super::*;

/// Where records are tried: a file, or a schema of a server.
pub(super) struct Ground {
    pub(super) at: At,
    server: Option<(Arc<Postgresql>, String)>,
    _dir: tempfile::TempDir,
}

impl Ground {
    pub(super) fn file() -> Ground {
        let dir = tempfile::tempdir().unwrap();
        Ground { at: At::File(dir.path().join("runs.db")), server: None, _dir: dir }
    }

    /// A schema of its own.
    pub(super) async fn schema(server: &Arc<Postgresql>) -> Ground {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let schema = format!("ground{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let records = Records { url: Some(Secret::new(server.schema(&schema).await)), insecure: false };
        let server = Some((Arc::clone(server), schema));
        Ground { at: records.at(None).unwrap(), server, _dir: tempfile::tempdir().unwrap() }
    }

    /// An empty one of the same kind.
    async fn another(&self) -> Ground {
        match &self.server {
            Some((server, _)) => Ground::schema(server).await,
            None => Ground::file(),
        }
    }

    pub(super) async fn open(&self) -> Runs {
        Runs::begin(&self.at).await.unwrap()
    }

    /// Why they cannot be opened.
    async fn refused(&self) -> String {
        Runs::begin(&self.at).await.unwrap_err().to_string()
    }

    /// What somebody does there by hand.
    async fn by_hand(&self, sql: &str) {
        match (&self.at, &self.server) {
            (_, Some((server, schema))) => drop(server.ask(schema, &postgres::tables(sql)).await),
            (At::File(path), _) => rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap(),
            _ => panic!("nobody reaches {}", self.at),
        }
    }

    /// All that is there: tables with their columns and keys, indexes, rows.
    async fn dump(&self) -> Vec<String> {
        match (&self.at, &self.server) {
            (_, Some((server, schema))) => dump_schema(server, schema).await,
            (At::File(path), _) => dump(path),
            _ => panic!("nobody reaches {}", self.at),
        }
    }
}

/// Stories that hold in both places. A server is started once for all of them.
macro_rules! in_both_places {
    ($($name:ident),* $(,)?) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            story::$name(&Ground::file()).await;
        })*

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn all_of_it_holds_on_postgresql_too() {
            let server = Arc::new(Postgresql::start().await);
            $(story::$name(&Ground::schema(&server).await).await;)*
            story::a_server_proves_who_it_is(&server).await;
            super::moving::tests::what_is_in_a_file_is_taken_along_once(&server).await;
            story::of_two_on_a_server_only_one_that_is_alive_has_the_records(&server).await;
            story::what_is_written_while_the_server_goes_away_is_written_once(&server).await;
        }
    };
}

in_both_places! {
    what_is_written_together_is_there_together_also_after_a_restart,
    a_run_and_its_stages_are_read_as_they_were_at_one_moment,
    a_row_that_belongs_to_nothing_is_refused_with_all_that_was_to_be_written_with_it,
    old_runs_are_forgotten_but_what_is_live_stays,
    a_schema_that_was_changed_or_is_newer_is_refused,
    everything_that_is_asked_can_be_asked,
    what_belongs_to_a_place_or_a_run_that_is_not_there_is_refused,
    records_of_each_version_before_are_brought_up_to_date_with_all_that_is_in_them,
    what_would_be_forgotten_is_what_is_forgotten,
    migrations_that_are_taken_back_leave_what_was_there_before_them,
    only_what_is_older_goes_and_looking_takes_nothing,
    hours_and_days_are_what_a_recount_gives,
    what_is_forgotten_stays_counted,
}

pub(super) fn put_run(number: i64, app: &str, env: &str, state: &str, ended: bool) -> Vec<Put> {
    let pipeline =
        PipelineRow { hash: "h".to_owned(), name: app.to_owned(), app: app.to_owned(), ..PipelineRow::default() };
    vec![
        Put::Place { app: app.to_owned(), repo: None, env: env.to_owned() },
        Put::Pipeline(pipeline),
        Put::Run(RunRow {
            number,
            pipeline: "h".to_owned(),
            app: app.to_owned(),
            env: env.to_owned(),
            state: state.to_owned(),
            ended,
            created: number,
            idem_key: Some(format!("key-{}", number / 10)),
            ..RunRow::default()
        }),
    ]
}

#[tokio::test]
async fn the_questions_that_are_asked_all_day_use_an_index_and_sort_nothing_that_is_long() {
    let runs = Runs::open(None).unwrap();
    let plans = runs
        .read(|db| {
            let Db::Sqlite(db) = db else { panic!("not a file") };
            let plan = |sql: String| {
                let mut statement = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
                // What is asked for is not looked at, only how it would be.
                let nothing = vec![rusqlite::types::Null; statement.parameter_count()];
                let rows = statement.query_map(rusqlite::params_from_iter(nothing), |row| row.get::<_, String>(3))?;
                Ok((sql, rows.collect::<rusqlite::Result<Vec<_>>>()?))
            };
            sql::all().into_iter().map(plan).collect::<Result<Vec<_>, RunsError>>()
        })
        .await
        .unwrap();
    for (sql, plan) in plans {
        let good =
            plan.iter().any(|line| line.contains("USING")) && !plan.iter().any(|line| line.starts_with("SCAN run"));
        let whole =
            sql.contains("?1 IS NULL AND ?2 IS NULL") || sql.contains("WHERE run = ?1") || sql.contains("GROUP BY");
        assert!(good, "{sql}\n{plan:#?}");
        assert!(whole || !plan.iter().any(|line| line.contains("ORDER BY")), "{sql}\n{plan:#?}");
    }
}

/// All that is in a file: columns of its tables with their keys, indexes, rows.
fn dump(path: &Path) -> Vec<String> {
    let db = rusqlite::Connection::open(path).unwrap();
    let lines = |sql: &str| {
        let mut statement = db.prepare(sql).unwrap();
        let columns = statement.column_count();
        let line = |row: &rusqlite::Row<'_>| {
            let cell = |at| row.get::<_, rusqlite::types::Value>(at).map(|value| format!("{value:?}"));
            Ok((0..columns).map(cell).collect::<rusqlite::Result<Vec<String>>>()?.join(" "))
        };
        let mut lines: Vec<String> = statement.query_map([], line).unwrap().map(Result::unwrap).collect();
        lines.sort();
        lines
    };
    let names = "SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'schema_migration'";
    let tables: Vec<String> =
        db.prepare(names).unwrap().query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let mut out = lines("SELECT name, tbl_name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL");
    for table in tables {
        for sql in [
            format!("SELECT '{table}', name, type, \"notnull\", pk FROM pragma_table_info('{table}')"),
            format!("SELECT '{table}', \"table\", \"from\", \"to\", on_delete FROM pragma_foreign_key_list('{table}')"),
            format!("SELECT '{table}', * FROM {table}"),
        ] {
            out.extend(lines(&sql));
        }
    }
    out.sort();
    out
}

/// The same of a schema. How keys and their indexes are called is nobody's business.
async fn dump_schema(server: &Postgresql, schema: &str) -> Vec<String> {
    let lines = async |sql: &str| {
        let rows = server.ask(schema, sql).await;
        rows.iter().map(|row| sqlx::Row::get::<String, _>(row, 0)).collect::<Vec<_>>()
    };
    let own = "schemaname = current_schema() AND tablename <> 'schema_migration'";
    let made = format!(
        "SELECT tablename || ' ' || indexdef FROM pg_indexes WHERE {own} AND indexname NOT LIKE '%_pkey'
         UNION ALL SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
         WHERE connamespace = current_schema()::regnamespace AND contype <> 'n'
         UNION ALL SELECT table_name || ' ' || column_name || ' ' || data_type || ' ' || is_nullable || COALESCE(column_default, '')
         FROM information_schema.columns WHERE table_schema = current_schema()"
    );
    let mut out = lines(&made).await;
    let tables = lines(&format!("SELECT tablename::text FROM pg_tables WHERE {own}")).await;
    let rows = tables.iter().map(|table| format!("SELECT '{table} ' || one::text FROM \"{table}\" AS one"));
    out.extend(lines(&rows.collect::<Vec<_>>().join(" UNION ALL ")).await);
    out.sort();
    out
}
