//! A real PostgreSQL of Debian on a free port of the loopback, with its own data, stopped with the test that started it. Tests beside
//! the code use it too, so it names nothing of this folder.

#![allow(dead_code, reason = "each of those who use it needs some of it only")]

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection};

/// How long it may take to begin or to end.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Postgresql {
    dir: tempfile::TempDir,
    pub(crate) port: u16,
    server: Option<Child>,
}

impl Postgresql {
    /// One with nothing in it.
    pub(crate) async fn start() -> Postgresql {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Postgresql { dir, port, server: None };
        let made =
            server.command("initdb", &["-U", "chief", "-A", "trust", "-E", "UTF8", "--no-sync"]).status().unwrap();
        assert!(made.success(), "initdb: {made}");
        server.certificate();
        server.begin().await;
        server
    }

    /// Starts it again, on the same port and with what it had.
    pub(crate) async fn begin(&mut self) {
        let (port, folder) = (self.port.to_string(), self.dir.path().display().to_string());
        let [cert, key] = ["cert", "key"].map(|name| format!("ssl_{name}_file={folder}/{name}.pem"));
        let options = ["-F", "-p", &port, "-h", "127.0.0.1", "-k", &folder, "-c", "ssl=on", "-c", &cert, "-c", &key];
        self.server = Some(self.command("postgres", &options).spawn().unwrap());
        let until = Instant::now() + PATIENCE;
        while PgConnection::connect(&self.url("public")).await.is_err() {
            let log = || std::fs::read_to_string(self.dir.path().join("server.log")).unwrap_or_default();
            assert!(Instant::now() < until, "PostgreSQL does not begin on {}: {}", self.port, log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Stops it, as `systemctl stop` does: whoever is connected is let go at once.
    pub(crate) async fn stop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        Command::new("kill").args(["-INT", &server.id().to_string()]).status().unwrap();
        let until = Instant::now() + PATIENCE;
        while server.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "PostgreSQL does not end on {}", self.port);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Its address, for somebody with a schema of their own.
    pub(crate) fn url(&self, schema: &str) -> String {
        format!("postgres://chief@127.0.0.1:{}/postgres?sslmode=disable&options[search_path]={schema}", self.port)
    }

    /// Its address for who wants TLS and trusts what is in a file of its folder.
    pub(crate) fn tls_url(&self, trusted: &str) -> String {
        let file = self.dir.path().join(trusted);
        format!("postgres://chief@localhost:{}/postgres?sslmode=verify-full&sslrootcert={}", self.port, file.display())
    }

    /// A certificate that it signed itself, `cert.pem`, and one that is not its own, `other.pem`.
    fn certificate(&self) {
        let made = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (own, other, key) = (made(), made(), self.dir.path().join("key.pem"));
        std::fs::write(self.dir.path().join("cert.pem"), own.cert.pem()).unwrap();
        std::fs::write(self.dir.path().join("other.pem"), other.cert.pem()).unwrap();
        std::fs::write(&key, own.signing_key.serialize_pem()).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        if let Some((user, group)) = less() {
            std::os::unix::fs::chown(&key, Some(user), Some(group)).unwrap();
        }
    }

    /// A new schema, by its address.
    pub(crate) async fn schema(&self, name: &str) -> String {
        self.ask("public", &format!("CREATE SCHEMA {name}")).await;
        self.url(name)
    }

    /// What an operator asks there.
    pub(crate) async fn ask(&self, schema: &str, sql: &str) -> Vec<PgRow> {
        let mut db = PgConnection::connect(&self.url(schema)).await.unwrap();
        let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(&mut db).await;
        rows.unwrap_or_else(|fault| panic!("{sql}: {fault}"))
    }

    /// A program of its newest version.
    fn command(&self, program: &str, options: &[&str]) -> Command {
        let mut found: Vec<_> = std::fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect();
        found.sort();
        let bin = found.pop().unwrap_or_else(|| panic!("PostgreSQL is not here; ./test installs it")).join("bin");
        let log = std::fs::File::options().create(true).append(true).open(self.dir.path().join("server.log")).unwrap();
        let mut command = Command::new(bin.join(program));
        command.arg("-D").arg(self.dir.path().join("db")).args(options).current_dir(self.dir.path());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        if let Some((user, group)) = less() {
            command.uid(user).gid(group);
        }
        command
    }
}

/// Who it runs as where we are root, which it refuses.
fn less() -> Option<(u32, u32)> {
    let of =
        |which| id(&[which, "postgres"]).unwrap_or_else(|| panic!("there is no user postgres; ./test installs it"));
    (id(&["-u"]) == Some(0)).then(|| (of("-u"), of("-g")))
}

fn id(args: &[&str]) -> Option<u32> {
    String::from_utf8(Command::new("id").args(args).output().ok()?.stdout).ok()?.trim().parse().ok()
}

impl Drop for Postgresql {
    fn drop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        // Its children end with it. It may have ended by itself.
        let _ = Command::new("kill").args(["-QUIT", &server.id().to_string()]).stderr(Stdio::null()).status();
        let _ = server.wait();
    }
}
