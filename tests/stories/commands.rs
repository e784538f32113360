//! The binary, as operators and supervisors use it.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use masterchief::store::{Mark, Store, UserRow};

use crate::lab::Lab;
use crate::person::Person;
use crate::servers::free_port;

fn masterchief(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_masterchief"));
    command
        .args(args)
        .current_dir(folder)
        .env_remove("RUST_LOG")
        .env_remove("MASTERCHIEF_ENV")
        .env_remove("MASTERCHIEF_CONFIG");
    command
}

pub(crate) fn run(folder: &Path, args: &[&str], input: &str) -> Output {
    let mut child =
        masterchief(folder, args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that does not read its input is no fault here.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn complained(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn in_an_empty_folder_it_answers_at_once_and_ends_with_its_input() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), &[], "!hello\n!help hello\n/msg !hello\n!nothing\n\u{fffd}\n");
    let said = said(&output);
    assert!(output.status.success(), "{}", complained(&output));
    assert!(said.contains("<chief> hi "), "{said}");
    assert!(said.contains("<chief> !hello - Says hi"), "{said}");
    assert!(said.contains("nice and quiet here"), "{said}");
    assert!(folder.path().join("data/masterchief.db").is_file());
}

#[test]
fn a_new_project_is_checked_tested_and_tried() {
    let folder = tempfile::tempdir().unwrap();
    let made = run(folder.path(), &["new", "ops"], "");
    assert!(made.status.success() && said(&made).contains("masterchief repl ops"));
    assert!(!run(folder.path(), &["new", "ops"], "").status.success(), "it is there already");
    let checked = run(folder.path(), &["check", "ops"], "");
    assert!(checked.status.success(), "{}", complained(&checked));
    let tested = run(folder.path(), &["test", "ops"], "");
    assert!(tested.status.success() && said(&tested).contains("3 cases, 0 failed"), "{}", said(&tested));
    let tried = run(folder.path(), &["repl", "ops"], "!hello\n");
    assert!(said(&tried).contains("hi "), "{}", said(&tried));
    assert!(!folder.path().join("ops/data").exists(), "a try keeps nothing");
    std::fs::write(folder.path().join("ops/scripts/bad.lua"), "bot.bind('pub', '-|-', '!x y', print)\n").unwrap();
    let checked = run(folder.path(), &["check", "ops", "--json"], "");
    assert_eq!(checked.status.code(), Some(2));
    let report: serde_json::Value = serde_json::from_str(&said(&checked)).unwrap();
    assert!(report["faults"][0].as_str().unwrap().contains("bad.lua:1: mask \"!x y\", column 3"), "{report}");
}

#[test]
fn a_failing_test_is_told_with_its_line_and_fails_the_command() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &["new", "ops"], "");
    let test = "local t = require 'test'\nt.case('it fails', function()\n  local b = t.bot{ script = 'hello.lua' }\n  b:user('alice'):says('#ops', '!hello')\n  b:expect('#ops', 'good bye')\nend)\n";
    std::fs::write(folder.path().join("ops/scripts/hello_test.lua"), test).unwrap();
    let output = run(folder.path(), &["test", "ops"], "");
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    assert!(
        said.contains("FAILED hello_test.lua: it fails")
            && said.contains("hello_test.lua:5")
            && said.contains("hi alice"),
        "{said}"
    );
}

#[tokio::test]
async fn without_networks_it_ends_with_its_input_unless_others_can_reach_it() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    std::fs::write(folder.path().join("config.yaml"), format!("gateway: {{listen: \"127.0.0.1:{port}\"}}\n")).unwrap();
    let mut command = masterchief(folder.path(), &["run", "--config", "config.yaml"]);
    let mut bot = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        assert!(bot.try_wait().unwrap().is_none(), "it has ended");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Its input was at an end before it listened.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(bot.try_wait().unwrap().is_none(), "it has ended");
    assert!(Command::new("kill").arg(bot.id().to_string()).status().unwrap().success());
    assert!(bot.wait().unwrap().success());

    let quiet = tempfile::tempdir().unwrap();
    let output = run(quiet.path(), &["run"], "");
    assert!(output.status.success() && complained(&output).contains("`run --no-console` goes on"), "{output:?}");
}

#[tokio::test]
async fn it_is_shown_with_which_bot_somebody_came_and_a_word_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &[], "!hello\n");
    let users = |args: &[&str]| run(folder.path(), &[&["users"], args].concat(), "");
    assert!(users(&["add", "carol"]).status.success());
    let store = Store::open(&folder.path().join("data/masterchief.db")).await.unwrap();
    let mut row = store.users().await.unwrap().into_iter().find(|row| row.handle == "carol").unwrap();
    row.marks.push(Mark { kind: "given-by".to_owned(), scope: String::new(), value: "HubBot".to_owned() });
    store.put_user(&row).await.unwrap();
    store.close().await;
    let shown = || serde_json::from_str::<serde_json::Value>(&said(&users(&["show", "carol"]))).unwrap();
    assert_eq!(shown()["given_by"], "HubBot");
    assert!(users(&["edit", "carol", "--comment", "of the night"]).status.success());
    assert_eq!(shown()["given_by"], "HubBot", "another word keeps it");
    let owned = said(&users(&["edit", "carol", "--own"]));
    assert!(owned.contains("carol is ours now; HubBot adds nothing to it any more"), "{owned}");
    assert!(said(&users(&["audit"])).contains("HubBot adds nothing"));
    assert!(shown()["given_by"].is_null());
    assert!(complained(&users(&["edit", "carol", "--own"])).contains("came with no bot"));
}

#[tokio::test]
async fn who_lost_an_authenticator_is_let_in_without_it_again() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &[], "!hello\n");
    let users = |args: &[&str]| run(folder.path(), &[&["users"], args].concat(), "");
    assert!(users(&["add", "carol"]).status.success());
    let store = Store::open(&folder.path().join("data/masterchief.db")).await.unwrap();
    let of_carol = async || store.users().await.unwrap().into_iter().find(|row| row.handle == "carol").unwrap();
    let mut row = of_carol().await;
    let value = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ".to_owned();
    row.marks.push(Mark { kind: "totp".to_owned(), scope: String::new(), value });
    let given = Mark { kind: "given-by".to_owned(), scope: String::new(), value: "HubBot".to_owned() };
    let both = UserRow { marks: row.marks.iter().cloned().chain([given]).collect(), ..row.clone() };
    store.put_user(&both).await.unwrap();
    let done = said(&users(&["edit", "carol", "--own", "--no-totp"]));
    assert!(done.contains("carol is ours now") && done.contains("want no code any more"), "{done}");
    store.put_user(&row).await.unwrap();
    let done = said(&users(&["edit", "carol", "--no-totp"]));
    assert!(done.contains("logins of carol want no code any more"), "{done}");
    assert!(of_carol().await.marks.iter().all(|mark| mark.kind != "totp"));
    assert!(complained(&users(&["edit", "carol", "--no-totp"])).contains("logins of carol want no code"));
    store.close().await;
}

#[test]
fn people_are_added_changed_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let lost = run(folder.path(), &["users", "list"], "");
    assert!(complained(&lost).contains("there is no project here"), "{}", complained(&lost));
    run(folder.path(), &[], "!hello\n");
    let users = |args: &[&str]| run(folder.path(), &[&["users"], args].concat(), "long enough\n");
    assert!(users(&["add", "alice", "--flags", "m", "--account", "libera/alice"]).status.success());
    assert!(users(&["chattr", "alice", "-m+D"]).status.success());
    assert!(users(&["chattr", "alice", "+o", "libera/#ops"]).status.success());
    assert!(users(&["passwd", "alice"]).status.success());
    assert!(users(&["edit", "alice", "--host", "*!alice@*.example"]).status.success());
    let shown: serde_json::Value = serde_json::from_str(&said(&users(&["show", "alice"]))).unwrap();
    assert_eq!(shown["channels"]["libera/#ops"], "lo");
    assert_eq!((shown["password"].as_bool(), shown["accounts"][0].as_str()), (Some(true), Some("libera/alice")));
    assert!(shown["flags"].as_str().unwrap().contains('D'));
    for wrong in [
        &["add", "alice"][..],
        &["add", "1st"],
        &["chattr", "bob", "+o"],
        &["chattr", "alice", "+1"],
        &["edit", "alice", "--host", "*!*@*"],
    ] {
        let output = users(wrong);
        assert!(!output.status.success() && complained(&output).contains("error:"), "{wrong:?}");
    }
    // People are looked after without the passwords that only a connection needs.
    let config = folder.path().join("config/global/config.yaml");
    std::fs::create_dir_all(config.parent().unwrap()).unwrap();
    std::fs::write(&config, "networks: {libera: {servers: [\"h\"], password: \"${env:MASTERCHIEF_NOT_SET}\"}}\n")
        .unwrap();
    assert!(complained(&run(folder.path(), &["check"], "")).contains("no variable MASTERCHIEF_NOT_SET"));
    assert!(said(&users(&["chattr", "alice", "+v", "#dev"])).contains("alice has the flags v in #dev"));
    assert!(said(&users(&["audit"])).contains("alice has the flags v in #dev"));
    assert!(users(&["del", "alice"]).status.success());
    assert_eq!(said(&users(&["list", "--json"])).trim(), "[]");
}

#[test]
fn a_wrong_configuration_is_told_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("my.yaml"), "networks:\n  a: {servers: [\"h\"], nik: x}\n").unwrap();
    let output = run(folder.path(), &["check", "--config", "my.yaml"], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        complained(&output).contains("my.yaml:2:23: there is no key \"nik\"; did you mean \"nick\"?"),
        "{}",
        complained(&output)
    );
    for (args, holds) in [
        (&["version"][..], "masterchief "),
        (&["completions", "bash"], "complete"),
        (&["binds", "--kinds"], "rawt"),
        (&["binds"], "!help"),
        (&["scripts"], "hello.lua"),
    ] {
        let output = run(folder.path(), args, "");
        assert!(output.status.success() && said(&output).contains(holds), "{args:?}: {}", complained(&output));
    }
}

#[test]
fn check_tells_of_a_port_and_of_files_that_are_claimed_twice_and_of_what_this_build_cannot_do() {
    let folder = tempfile::tempdir().unwrap();
    let project = |config: &str, binds: &[(&str, &str)]| {
        for (path, text) in [
            ("config/global/config.yaml", config.to_owned()),
            (
                "scripts/twice.lua",
                binds
                    .iter()
                    .map(|(kind, mask)| format!("bot.bind('{kind}', '-|-', '{mask}', function() end)\n"))
                    .collect(),
            ),
        ] {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        run(folder.path(), &["check"], "")
    };
    let checked = project("gateway: {listen: 127.0.0.1:8125}\nsources: {statsd: {tcp: 0.0.0.0:8125}}\n", &[]);
    assert_eq!(checked.status.code(), Some(2));
    let told = complained(&checked);
    assert!(
        told.contains("config.yaml:2:20: sources.statsd.tcp: 0.0.0.0:8125 is taken by gateway.listen already"),
        "{told}"
    );
    let kafka = "sources: {kafka: {default: {brokers: [\"127.0.0.1:9092\"], group: chief}}}\n";
    for (binds, doubt) in [
        (
            [("file", "/data/in/*.csv rows then=move:/data/done"), ("file", "/data/in/a*.csv")],
            "they may read the same files, and one of them puts them away",
        ),
        (
            [("log", "/var/log/app.log"), ("file", "/var/log/*.log then=delete")],
            "one of them puts away the files whose lines the other reads",
        ),
        ([("stream", "kafka:deploys"), ("stream", "kafka:~^dep")], "both read a topic with one group"),
    ] {
        let checked = project(kafka, &binds);
        let told = complained(&checked);
        assert!(told.contains(doubt) && told.contains("twice.lua:"), "{binds:?}: {told}");
        assert_eq!(checked.status.code(), Some(0), "it may be meant: {told}");
    }
    #[cfg(not(feature = "kafka-tls"))]
    for more in ["tls: true", "username: chief, password: p, mechanism: SCRAM-SHA-512"] {
        let checked = project(&kafka.replace("group: chief", more), &[("stream", "kafka:deploys")]);
        let told = complained(&checked);
        assert!(told.contains("twice.lua:") && told.contains("build it with --features kafka-tls"), "{more}: {told}");
        assert_eq!(checked.status.code(), Some(2));
    }
    let checked = project(kafka, &[("file", "/data/in/*.csv"), ("file", "/data/in/*.json then=delete")]);
    assert!(checked.status.success() && complained(&checked).is_empty(), "{}", complained(&checked));
}

#[test]
fn every_kind_is_listed_and_a_bind_with_its_example_is_listed_too() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), &["new", "ops"], "");
    let kinds: serde_json::Value =
        serde_json::from_str(&said(&run(folder.path(), &["binds", "--kinds", "--json"], ""))).unwrap();
    let kinds: Vec<(&str, &str)> = kinds
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["kind"].as_str().unwrap(), row["example"].as_str().unwrap()))
        .collect();
    let bind = |(kind, mask): &(&str, &str)| format!("bot.bind({kind:?}, \"-|-\", {mask:?}, function() end)\n");
    std::fs::write(folder.path().join("ops/scripts/all.lua"), kinds.iter().map(bind).collect::<String>()).unwrap();
    let listed = run(folder.path(), &["binds", "ops", "--json"], "");
    assert!(listed.status.success(), "{}", complained(&listed));
    let listed: serde_json::Value = serde_json::from_str(&said(&listed)).unwrap();
    let bound = |kind: &str, mask: &str| {
        let mut rows =
            listed.as_array().unwrap().iter().filter(|row| row["origin"].as_str().unwrap().contains("all.lua"));
        rows.any(|row| row["kind"] == kind && row["mask"] == mask)
    };
    for (kind, mask) in &kinds {
        assert!(bound(kind, mask), "{kind} {mask}: {listed}");
    }
    // What is read from outside, every anchor of it.
    for kind in ["webhook", "file", "log", "stream", "metric", "rest", "database"] {
        assert!(kinds.iter().any(|(known, _)| *known == kind), "{kind}");
    }
}

/// A running bot that is killed if the story fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already where the story went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_reloads_on_hup_without_leaving_and_says_goodbye_on_term() {
    let lab = Lab::start();
    let folder = tempfile::tempdir().unwrap();
    let config = |channels: &str| {
        format!(
            "networks:\n  lab:\n    servers: [\"127.0.0.1:{}\"]\n    tls: {{fingerprints: [\"{}\"]}}\n    channels: [{channels}]\nlog: {{format: json}}\n",
            lab.tls,
            lab.fingerprint("server")
        )
    };
    let file = folder.path().join("config/global/config.yaml");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, config("\"#ops\"")).unwrap();
    let child = masterchief(folder.path(), &["run"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut running = Running(child);
    let errors = running.0.stderr.take().unwrap();
    let log = std::thread::spawn(move || BufReader::new(errors).lines().map_while(Result::ok).collect::<Vec<String>>());
    let mut alice = Person::connect(lab.plain, "alice").await;
    alice.joins("#ops").await;
    alice.joins("#dev").await;
    let in_names =
        |line: &crate::person::Heard| line.command == "353" && line.params.iter().any(|names| names.contains("chief"));
    if alice.count(in_names) == 0 {
        alice.waits(|line| line.command == "JOIN" && line.from == "chief").await;
    }
    std::fs::write(&file, config("\"#ops\", \"#dev\"")).unwrap();
    signal(&running.0, "-HUP");
    alice.sees_join("chief", "#dev").await;
    // Saving the file is enough.
    alice.joins("#qa").await;
    std::fs::write(&file, config("\"#ops\", \"#dev\", \"#qa\"")).unwrap();
    alice.sees_join("chief", "#qa").await;
    let second = run(folder.path(), &["run", "--no-console"], "");
    assert!(complained(&second).contains("another bot runs with it"), "{}", complained(&second));
    std::fs::write(&file, "networks: [broken\n").unwrap();
    signal(&running.0, "-HUP");
    alice.says("#ops", "!hello");
    alice.hears("chief", "hi alice").await;
    assert_eq!(alice.count(|line| line.command == "QUIT" && line.from == "chief"), 0);
    signal(&running.0, "-TERM");
    alice.waits(|line| line.command == "QUIT" && line.from == "chief").await;
    let status = tokio::task::spawn_blocking(move || running.0.wait().unwrap()).await.unwrap();
    assert_eq!(status.code(), Some(0));
    let log = log.join().unwrap();
    assert!(log.iter().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{log:#?}");
    assert!(log.iter().any(|line| line.contains("not taken")), "{log:#?}");
}
