//! Logs as others make them: rotated by logrotate, sent by rsyslog.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use masterchief::bot::{Bot, Started};
use masterchief::contract::Kind;
use masterchief_bindings::Settings;
use masterchief_bindings::log::SyslogSettings;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::conformance::{self, Heard, World, numbered, reading};
use super::servers::{Server, free_port};
use super::worlds::{Row, row};

/// Rotates once, as cron would.
async fn rotate(folder: &Path, directives: &str) {
    if directives.contains("dateext") {
        // A second is the finest that its names tell.
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    let log = folder.join("logs/app.log");
    let config = folder.join("logrotate.conf");
    fs::write(&config, format!("{} {{\n{directives}\n}}\n", log.display())).unwrap();
    let mut logrotate = Command::new("logrotate");
    logrotate.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin").arg("--force").arg("--state").arg(folder.join("state"));
    let done = logrotate.arg(&config).output().unwrap_or_else(|fault| panic!("logrotate: {fault}; ./test installs it"));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn append(log: &Path, texts: &[String]) {
    let mut file = OpenOptions::new().create(true).append(true).open(log).unwrap();
    file.write_all((texts.join("\n") + "\n").as_bytes()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_way_logrotate_rotates_each_line_is_heard_once() {
    for directives in [
        "create\nrotate 3",
        "create\nrotate 2\ncompress",
        "create\nrotate 3\ncompress\ndelaycompress",
        "copytruncate\nrotate 9",
        "create\nrotate 5\ndateext\ndateformat -%Y%m%d-%s",
        "nocreate\nrotate 1",
    ] {
        let (dir, data, heard) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), Heard::default());
        fs::create_dir(dir.path().join("logs")).unwrap();
        let log = dir.path().join("logs/app.log");
        append(&log, &numbered("before", 0..5));
        let bot = || {
            let bot = Bot::builder().data(data.path());
            bot.bind(Kind::Log, "-|-", &log.display().to_string(), heard.handler()).unwrap().start()
        };
        let started = bot().await.unwrap();
        reading(&started).await;
        let mut expected = Vec::new();
        for round in 0..4 {
            let lines = numbered(&format!("round {round}"), 0..50 + round * 7);
            append(&log, &lines);
            expected.extend(lines);
            if directives.ends_with("\ncompress") || directives.ends_with("rotate 1") {
                // What is compressed or deleted at once must have been read before.
                heard.until(expected.len()).await;
            }
            rotate(dir.path(), directives).await;
        }
        let last = numbered("last", 0..10);
        append(&log, &last);
        expected.extend(last);
        heard.until(expected.len()).await;
        started.stop("").await;
        append(&log, &numbered("down", 0..5));
        if !directives.ends_with("\ncompress") {
            rotate(dir.path(), directives).await;
        }
        expected.extend(numbered("down", 0..5));
        let started = bot().await.unwrap();
        heard.until(expected.len()).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(heard.all(), expected, "{directives}");
        started.stop("").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rsyslog_sends_by_udp_and_tcp_and_its_messages_are_understood() {
    let (dir, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (udp, tcp) = (free_port(), free_port());
    let at = |port: u16| Some(format!("127.0.0.1:{port}").parse().unwrap());
    let settings = Settings { syslog: Some(SyslogSettings { udp: at(udp), tcp: at(tcp) }), ..Settings::default() };
    let (errors, all) = (Heard::default(), Heard::default());
    let bot = Bot::builder().data(data.path()).sources(settings);
    let bot = bot.bind(Kind::Log, "-|-", "syslog:local3.err", errors.handler()).unwrap();
    let started = bot.bind(Kind::Log, "-|-", "syslog", all.handler()).unwrap().start().await.unwrap();
    reading(&started).await;
    let folder = dir.path().display().to_string();
    let config = format!(
        r#"global(workDirectory="{folder}")
module(load="imfile" PollingInterval="1")
input(type="imfile" File="{folder}/bad.log" Tag="till:" Severity="error" Facility="local3")
input(type="imfile" File="{folder}/good.log" Tag="till[7]:" Severity="info" Facility="local3")
action(type="omfwd" Target="127.0.0.1" Port="{tcp}" Protocol="tcp" TCP_Framing="octet-counted" Template="RSYSLOG_SyslogProtocol23Format")
action(type="omfwd" Target="127.0.0.1" Port="{udp}" Protocol="udp" Template="RSYSLOG_TraditionalForwardFormat")
action(type="omfwd" Target="127.0.0.1" Port="{tcp}" Protocol="tcp" Template="RSYSLOG_TraditionalForwardFormat")
"#
    );
    fs::write(dir.path().join("rsyslog.conf"), config).unwrap();
    let args = ["-n", "-f", &format!("{folder}/rsyslog.conf"), "-i", &format!("{folder}/pid")];
    let _rsyslog = Server::start("/usr/sbin/rsyslogd", &args, &[], dir.path());
    append(&dir.path().join("bad.log"), &["the drawer is stuck".to_owned()]);
    append(&dir.path().join("good.log"), &["sold a käse".to_owned()]);
    // Each three times: RFC 5424 counted, RFC 3164 over UDP, RFC 3164 by lines.
    let wanted = |heard: &Heard, words: &str| heard.all().iter().filter(|text| text.contains(words)).count();
    let end = tokio::time::Instant::now() + Duration::from_secs(30);
    while wanted(&all, "drawer") < 3 || wanted(&all, "käse") < 3 || wanted(&errors, "drawer") < 3 {
        assert!(tokio::time::Instant::now() < end, "{:?} {:?}", all.all(), errors.all());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(wanted(&errors, "käse"), 0, "only what is an error: {:?}", errors.all());
    let rows = started.journal().newest("", 100).await.unwrap();
    let drawers: Vec<_> = rows.iter().filter(|row| row.event.text.contains("drawer")).collect();
    for row in &drawers {
        let data = row.event.field("data").unwrap();
        assert_eq!(
            (&data["facility"], &data["severity"], &data["app"]),
            (&"local3".into(), &"err".into(), &"till".into()),
            "{data}"
        );
    }
    assert_eq!(drawers.len(), 3);
    started.stop("").await;
}

/// A program that says what happens over TCP.
struct SyslogWorld {
    at: SocketAddr,
    connection: Option<TcpStream>,
}

/// What stands before its words.
const HEAD: &str = "<13>Jan  1 00:00:00 host app: ";

impl SyslogWorld {
    fn new() -> SyslogWorld {
        SyslogWorld { at: SocketAddr::from(([127, 0, 0, 1], free_port())), connection: None }
    }

    async fn send(&mut self, bytes: &[u8]) {
        if self.connection.is_none() {
            self.connection = Some(TcpStream::connect(self.at).await.unwrap());
        }
        let connection = self.connection.as_mut().unwrap();
        connection.write_all(bytes).await.unwrap();
        connection.flush().await.unwrap();
    }
}

impl World for SyslogWorld {
    fn kind(&self) -> Kind {
        Kind::Log
    }

    fn mask(&self) -> String {
        "syslog".to_owned()
    }

    fn settings(&self) -> Settings {
        Settings { syslog: Some(SyslogSettings { udp: None, tcp: Some(self.at) }), ..Settings::default() }
    }

    fn row(&self) -> Row {
        row("syslog")
    }

    /// The connection was to the bot before.
    fn started(&mut self, _: &Started) {
        self.connection = None;
    }

    async fn publish(&mut self, texts: &[String]) {
        let lines: String = texts.iter().map(|text| format!("{HEAD}{text}\n")).collect();
        self.send(lines.as_bytes()).await;
    }

    async fn cut(&mut self) {
        self.connection = None;
    }

    fn heard_as(&self, text: &str) -> String {
        format!("{HEAD}{text}")
    }

    async fn poison(&mut self) -> Option<String> {
        self.send(&[HEAD.as_bytes(), b"no \xff text\n"].concat()).await;
        Some(format!("{HEAD}no \u{fffd} text"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn syslog_over_tcp_passes_what_of_the_suite_has_a_meaning() {
    conformance::passes_at_once(async || SyslogWorld::new()).await;
}
