//! What is looked at again and again passes the suite as what is pushed does: something over HTTP, and databases.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use masterchief::contract::Kind;
use masterchief::journal;
use masterchief_bindings::Settings;
use masterchief_bindings::database;
use masterchief_bindings::rest::{On, RestSettings};
use mongodb::bson::{Document, doc};
use serde_json::{Value, json};
use sqlx::mysql::MySqlConnection;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use warp::Filter;
use warp::http::Response;

use super::conformance::{self, Fail, Heard, World, numbered};
use super::polled::{databases, query, rest};
use super::postgresql::Postgresql;
use super::runs::masterchief;
use super::servers::{Database, Way};
use super::steps::eventually;
use super::worlds::{Row, row};

/// A name that no other world has.
pub(crate) fn name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("jobs{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Where a text came in the order of all.
#[derive(Default)]
pub(crate) struct Places(HashMap<String, i64>);

impl Places {
    pub(crate) fn put(&mut self, text: &str) -> i64 {
        // All with as many digits: the double of MongoDB sorts numbers as if they were texts.
        let place = self.0.len() as i64 + 100_001;
        self.0.insert(text.to_owned(), place);
        place
    }

    pub(crate) fn of(&self, text: &str) -> i64 {
        self.0[text]
    }
}

/// A list over HTTP, in one page with an ETag or in several.
struct RestWorld {
    list: Arc<Mutex<List>>,
    way: Way,
    paged: bool,
}

#[derive(Default)]
struct List {
    items: Vec<String>,
    /// As many as the answers hold so far: what is new comes in several.
    shown: usize,
    /// The next answer is of somebody else, who knows nothing of lists.
    stranger: bool,
}

const PAGE: usize = 300;

impl List {
    fn answer(&mut self, page: usize, tag: Option<String>, paged: bool) -> Response<String> {
        if std::mem::take(&mut self.stranger) {
            return Response::builder().body("<h1>Please log in</h1>".to_owned()).unwrap();
        }
        if page == 0 {
            let rest = self.items.len() - self.shown;
            self.shown += (rest / 4).max(10).min(rest);
        }
        let now = format!("\"{}\"", self.shown);
        if !paged && tag.as_ref() == Some(&now) {
            return Response::builder().status(304).body(String::new()).unwrap();
        }
        let shown = &self.items[..self.shown];
        if !paged {
            return Response::builder().header("etag", now).body(json!(shown).to_string()).unwrap();
        }
        let mut answer = Response::builder();
        if (page + 1) * PAGE < shown.len() {
            answer = answer.header("link", format!("</things?page={}>; rel=\"next\"", page + 1));
        }
        let some = shown.chunks(PAGE).nth(page).unwrap_or_default();
        let items: Vec<Value> = some.iter().map(|text| json!({"id": text, "size": text.len()})).collect();
        answer.body(json!(items).to_string()).unwrap()
    }
}

impl RestWorld {
    async fn new(paged: bool) -> RestWorld {
        let list = Arc::<Mutex<List>>::default();
        let shared = Arc::clone(&list);
        let things = warp::path!("things")
            .and(warp::header::optional::<String>("if-none-match"))
            .and(warp::query::<BTreeMap<String, usize>>())
            .map(move |tag: Option<String>, query: BTreeMap<String, usize>| {
                shared.lock().unwrap().answer(query.get("page").copied().unwrap_or(0), tag, paged)
            });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let way = Way::to(listener.local_addr().unwrap().port()).await;
        tokio::spawn(warp::serve(things).incoming(listener).run());
        RestWorld { list, way, paged }
    }
}

impl World for RestWorld {
    fn kind(&self) -> Kind {
        Kind::Rest
    }

    fn mask(&self) -> String {
        "rest:things".to_owned()
    }

    fn settings(&self) -> Settings {
        let things = RestSettings {
            on: if self.paged { On::Items } else { On::New },
            pointer: None,
            transform: None,
            key: if self.paged { vec!["id".to_owned()] } else { Vec::new() },
            first: true,
            next: self.paged.then(|| "link".to_owned()),
            ..rest(format!("http://127.0.0.1:{}/things", self.way.port))
        };
        Settings { rest: [("things".to_owned(), things)].into(), ..Settings::default() }
    }

    async fn publish(&mut self, texts: &[String]) {
        self.list.lock().unwrap().items.extend_from_slice(texts);
    }

    async fn cut(&mut self) {
        self.way.cut();
    }

    fn heard_as(&self, text: &str) -> String {
        if self.paged { json!({"id": text, "size": text.len()}).to_string() } else { text.to_owned() }
    }

    fn row(&self) -> Row {
        row(if self.paged { "REST (several pages)" } else { "REST (one page)" })
    }

    async fn poison(&mut self) -> Option<String> {
        self.list.lock().unwrap().stranger = true;
        None
    }

    async fn stop(&mut self) {
        self.way.close();
    }

    async fn start(&mut self) {
        self.way.open();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_items_over_http_pass_the_suite() {
    conformance::passes_at_once(async || RestWorld::new(false).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn items_on_several_pages_pass_the_suite() {
    conformance::passes_at_once(async || RestWorld::new(true).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_sees_that_a_server_does_not_answer_and_that_it_does_again() {
    let (dir, heard, mut world) = (tempfile::tempdir().unwrap(), Heard::default(), RestWorld::new(false).await);
    world.stop().await;
    let data = dir.path().join("data");
    let started = conformance::bot(&mut world, &data, &heard, Fail::Never, journal::Settings::default()).await;
    let sources = || {
        let (code, said) = masterchief(dir.path(), &["sources", "--json"]);
        assert_eq!(code, Some(0), "{said}");
        serde_json::from_str::<Value>(&said).unwrap()["sources"][0].clone()
    };
    eventually("that it is lost", async || sources()["state"] == "lost").await;
    assert_eq!((sources()["stream"].as_str(), sources()["error"].is_string()), (Some("rest:things"), true));
    world.start().await;
    eventually("that it is back", async || sources()["state"] == "reading").await;
    world.publish(&numbered("told", 0..3)).await;
    heard.until(3).await;
    eventually("what came", async || sources()["events"] == 3).await;
    let (_, said) = masterchief(dir.path(), &["sources"]);
    assert!(said.contains("at least once") && said.contains("STREAM IN THE JOURNAL"), "{said}");
    started.stop("").await;
}

/// Whoever has the table, as who writes to it knows them.
enum Base {
    Sqlite(SqliteConnection, tempfile::TempDir),
    Postgres(PgConnection, Way),
    Maria(MySqlConnection, Way),
    Mongo(mongodb::Collection<Document>, Way),
}

/// A table that grows, read behind a cursor.
struct TableWorld {
    base: Base,
    table: String,
    url: String,
    places: Places,
}

/// The file, and what it is called while it is away.
const FILES: [&str; 2] = ["jobs.db", "away"];

impl TableWorld {
    async fn sqlite() -> TableWorld {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/{}", dir.path().display(), FILES[0]);
        let options: sqlx::sqlite::SqliteConnectOptions = url.parse().unwrap();
        let mut db = options.create_if_missing(true).connect().await.unwrap();
        sqlx::query("CREATE TABLE jobs(id INTEGER PRIMARY KEY, text TEXT)").execute(&mut db).await.unwrap();
        TableWorld::on(Base::Sqlite(db, dir), "jobs".to_owned(), url)
    }

    async fn postgres(server: &Postgresql) -> TableWorld {
        let (url, table) = (|port| format!("postgres://chief@127.0.0.1:{port}/postgres"), name());
        let mut db = PgConnection::connect(&url(server.port)).await.unwrap();
        let make = format!("CREATE TABLE {table}(id bigint PRIMARY KEY, text text)");
        sqlx::query(AssertSqlSafe(make)).execute(&mut db).await.unwrap();
        let way = Way::to(server.port).await;
        let url = url(way.port);
        TableWorld::on(Base::Postgres(db, way), table, url)
    }

    async fn maria(server: &Database) -> TableWorld {
        let (url, table) = (|port| format!("mysql://root@127.0.0.1:{port}/mysql"), name());
        let options: sqlx::mysql::MySqlConnectOptions = url(server.port).parse().unwrap();
        let mut db = options.connect().await.unwrap();
        let make = format!("CREATE TABLE {table}(id BIGINT PRIMARY KEY, text TEXT)");
        sqlx::query(AssertSqlSafe(make)).execute(&mut db).await.unwrap();
        let way = Way::to(server.port).await;
        let url = url(way.port);
        TableWorld::on(Base::Maria(db, way), table, url)
    }

    async fn mongo(server: &Database) -> TableWorld {
        let (url, table) = (|port| format!("mongodb://127.0.0.1:{port}/shop?directConnection=true"), name());
        let client = mongodb::Client::with_uri_str(url(server.port)).await.unwrap();
        let way = Way::to(server.port).await;
        let jobs = client.database("shop").collection(&table);
        let url = url(way.port);
        TableWorld::on(Base::Mongo(jobs, way), table, url)
    }

    fn on(base: Base, table: String, url: String) -> TableWorld {
        TableWorld { base, table, url, places: Places::default() }
    }

    fn way(&self) -> Option<&Way> {
        match &self.base {
            Base::Sqlite(..) => None,
            Base::Postgres(_, way) | Base::Maria(_, way) | Base::Mongo(_, way) => Some(way),
        }
    }

    /// Calls the file of SQLite something else.
    fn rename(&self, from: &str, to: &str) {
        let Base::Sqlite(_, dir) = &self.base else { return };
        std::fs::rename(dir.path().join(from), dir.path().join(to)).unwrap();
    }

    /// The column that grows.
    fn id(&self) -> &'static str {
        if matches!(self.base, Base::Mongo(..)) { "_id" } else { "id" }
    }
}

/// Writes rows in one transaction.
macro_rules! insert {
    ($db:expr, $sql:expr, $rows:expr) => {{
        let mut all = $db.begin().await.unwrap();
        for (id, text) in $rows {
            sqlx::query(AssertSqlSafe($sql)).bind(id).bind(text.as_str()).execute(&mut *all).await.unwrap();
        }
        all.commit().await.unwrap();
    }};
}

impl World for TableWorld {
    fn kind(&self) -> Kind {
        Kind::Database
    }

    fn mask(&self) -> String {
        "db:query/jobs".to_owned()
    }

    fn settings(&self) -> Settings {
        let sql = format!("SELECT id, text FROM {} WHERE id > :cursor ORDER BY id", self.table);
        // Few at once, so that there is more than one look to fail at.
        let mut jobs = database::QuerySettings { rows: 20, ..query(&sql, database::On::Cursor) };
        if matches!(self.base, Base::Mongo(..)) {
            let find = database::FindSettings { collection: self.table.clone(), ..database::FindSettings::default() };
            let cursor = Some(self.id().to_owned());
            // Its double needs long for each look.
            jobs = database::QuerySettings {
                sql: String::new(),
                find: Some(find),
                cursor,
                start: None,
                rows: 200,
                ..jobs
            };
        }
        databases(&self.url, &[("jobs", jobs)])
    }

    async fn publish(&mut self, texts: &[String]) {
        let rows: Vec<(i64, &String)> = texts.iter().map(|text| (self.places.put(text), text)).collect();
        let into = |values: &str| format!("INSERT INTO {}(id, text) VALUES ({values})", self.table);
        match &mut self.base {
            Base::Sqlite(db, _) => insert!(db, into("?, ?"), rows),
            Base::Postgres(db, _) => insert!(db, into("$1, $2"), rows),
            Base::Maria(db, _) => insert!(db, into("?, ?"), rows),
            Base::Mongo(jobs, _) => {
                let rows = rows.into_iter().map(|(id, text)| doc! { "_id": id, "text": text.as_str() });
                jobs.insert_many(rows).await.unwrap();
            }
        }
    }

    fn row(&self) -> Row {
        row(match &self.base {
            Base::Sqlite(..) => "SQLite",
            Base::Postgres(..) => "PostgreSQL",
            Base::Maria(..) => "MariaDB",
            Base::Mongo(..) => "MongoDB",
        })
    }

    async fn cut(&mut self) {
        self.way().unwrap().cut();
    }

    async fn poison(&mut self) -> Option<String> {
        let id = self.places.put("poison");
        let Base::Sqlite(db, _) = &mut self.base else { panic!("it takes none") };
        sqlx::query("INSERT INTO jobs(id, text) VALUES (?, CAST(x'6eff' AS TEXT))").bind(id).execute(db).await.unwrap();
        // Its bytes, in base64.
        Some(json!({"id": id, "text": "bv8="}).to_string())
    }

    fn heard_as(&self, text: &str) -> String {
        let mut row = serde_json::Map::new();
        row.insert(self.id().to_owned(), self.places.of(text).into());
        row.insert("text".to_owned(), text.into());
        Value::Object(row).to_string()
    }

    async fn stop(&mut self) {
        match self.way() {
            Some(way) => way.close(),
            None => self.rename(FILES[0], FILES[1]),
        }
    }

    async fn start(&mut self) {
        match self.way() {
            Some(way) => way.open(),
            None => self.rename(FILES[1], FILES[0]),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_sqlite_behind_a_cursor_pass_the_suite() {
    conformance::passes_at_once(TableWorld::sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_postgresql_behind_a_cursor_pass_the_suite() {
    let server = Postgresql::start().await;
    conformance::passes_at_once(async || TableWorld::postgres(&server).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_mariadb_behind_a_cursor_pass_the_suite() {
    let server = Database::maria().await;
    conformance::passes_at_once(async || TableWorld::maria(&server).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_of_mongodb_behind_a_cursor_pass_the_suite() {
    let server = Database::mongo().await;
    conformance::passes_at_once(async || TableWorld::mongo(&server).await).await;
}

/// A channel of PostgreSQL.
struct NotifyWorld {
    db: PgConnection,
    way: Way,
    channel: String,
}

impl NotifyWorld {
    async fn on(server: &Postgresql) -> NotifyWorld {
        let db = PgConnection::connect(&server.url("public")).await.unwrap();
        NotifyWorld { db, way: Way::to(server.port).await, channel: name() }
    }
}

impl World for NotifyWorld {
    fn kind(&self) -> Kind {
        Kind::Database
    }

    fn mask(&self) -> String {
        format!("db:listen/{}", self.channel)
    }

    fn settings(&self) -> Settings {
        databases(&format!("postgres://chief@127.0.0.1:{}/postgres", self.way.port), &[])
    }

    fn row(&self) -> Row {
        row("PostgreSQL channel")
    }

    async fn publish(&mut self, texts: &[String]) {
        let mut all = self.db.begin().await.unwrap();
        for text in texts {
            let notify = sqlx::query("SELECT pg_notify($1, $2)").bind(&self.channel).bind(text);
            notify.execute(&mut *all).await.unwrap();
        }
        all.commit().await.unwrap();
    }

    async fn cut(&mut self) {
        self.way.cut();
    }

    async fn stop(&mut self) {
        self.way.close();
    }

    async fn start(&mut self) {
        self.way.open();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_of_postgresql_passes_what_of_the_suite_has_a_meaning() {
    let server = Postgresql::start().await;
    conformance::passes_at_once(async || NotifyWorld::on(&server).await).await;
}
