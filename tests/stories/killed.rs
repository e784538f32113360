//! The process itself is killed (SIGKILL) with an outbox full of pages, while the server lives on: none is lost, and none is said
//! twice as if it were new.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::wire::{Line, Wire};

/// Pages that wait when it is killed.
const PAGES: usize = 40;
const AGAIN: &str = "(perhaps said before) ";
const SCRIPT: &str = r##"
bot.bind("pub", "-|-", "!fill", function()
  local pages = {}
  for n = 1, 40 do pages[n] = `page <{n}>` end
  bot.say("#ops", table.concat(pages, "\n"), { class = "page" })
  log.info("the outbox is full")
end)
bot.bind("pub", "-|-", "!hello", function() return "hi" end)
"##;

/// How often each page was heard: as it is, and marked.
type Heard = BTreeMap<usize, (usize, usize)>;

fn configure(folder: &Path, port: u16, interval: &str) {
    let config = format!(
        "networks:\n  story:\n    servers: [\"127.0.0.1:{port}\"]\n    tls: false\n    channels: [\"#ops\"]\n    \
         pace: {{burst: 1, interval: {interval}}}\ndata: data\nscripts: {{folder: scripts}}\nlog: {{level: info}}\n"
    );
    std::fs::write(folder.join("config.yaml"), config).unwrap();
}

fn born(folder: &Path, log: Stdio) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_masterchief"));
    command.args(["run", "--no-console", "--config", "config.yaml"]).current_dir(folder).env_remove("RUST_LOG");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

/// A line of the bot: whether it is a page, and which.
fn page(line: &str, heard: &mut Heard) -> bool {
    let number = line.split_once("page <").and_then(|(_, rest)| rest.strip_suffix('>')?.parse().ok());
    let Some(number) = number.filter(|_| line.contains(" PRIVMSG ") || line.starts_with("PRIVMSG ")) else {
        return false;
    };
    let counts = heard.entry(number).or_default();
    if line.contains(AGAIN) {
        counts.1 += 1
    } else {
        counts.0 += 1
    }
    true
}

/// What a server does about a line of the bot; where it has promised it, the line comes back.
async fn answers(line: &mut Line, said: &str) {
    if let Some(token) = said.strip_prefix("PING ") {
        line.says(&[&format!(":s PONG s :{token}")]).await;
    }
    if let Some((label, words)) = said.strip_prefix("@label=").and_then(|rest| rest.split_once(' ')) {
        line.says(&[&format!("@label={label} :chief!c@host {words}")]).await;
    }
}

async fn killed_with(caps: &str) {
    let folder = tempfile::tempdir().unwrap();
    let wire = Wire::plain().await;
    std::fs::create_dir(folder.path().join("scripts")).unwrap();
    std::fs::write(folder.path().join("scripts/fill.lua"), SCRIPT).unwrap();
    configure(folder.path(), wire.port(), "250ms");
    let mut heard = Heard::new();

    let mut child = born(folder.path(), Stdio::piped());
    let log = child.stderr.take().unwrap();
    let full = tokio::task::spawn_blocking(move || {
        BufReader::new(log).lines().map_while(Result::ok).any(|line| line.contains("the outbox is full"))
    });
    let mut line = wire.accepts().await;
    line.is_joined(caps, "").await;
    line.says(&[":alice!a@h PRIVMSG #ops :!fill"]).await;
    while heard.len() < 3 || !full.is_finished() {
        let said = line.next().await.expect("it lives");
        page(&said, &mut heard);
        // Of the third nobody ever hears what became of it.
        if heard.len() < 3 {
            answers(&mut line, &said).await;
        }
    }
    assert!(full.await.unwrap(), "the log ended");
    child.kill().unwrap();
    child.wait().unwrap();
    for said in line.rest().await {
        page(&said, &mut heard);
    }
    assert!(heard.len() < PAGES, "it was to die with pages unsaid: {heard:?}");

    configure(folder.path(), wire.port(), "0s");
    let mut child = born(folder.path(), Stdio::null());
    let mut line = wire.accepts().await;
    line.is_joined(caps, "").await;
    let marked = |heard: &Heard| heard.values().map(|(_, marked)| *marked).sum::<usize>();
    while heard.len() < PAGES {
        let said = line.next().await.expect("it lives");
        page(&said, &mut heard);
        answers(&mut line, &said).await;
    }
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    // It reads all that was said before it goes.
    while let Some(said) = line.next().await {
        page(&said, &mut heard);
        answers(&mut line, &said).await;
        if said.starts_with("QUIT") {
            line.says(&["ERROR :Closing link"]).await;
            break;
        }
    }
    drop(line);
    assert!(child.wait().unwrap().success());
    let twice: Vec<_> = heard.iter().filter(|(_, (plain, _))| *plain > 1).collect();
    assert!(twice.is_empty(), "said again as if they were new: {twice:?}");
    let before = marked(&heard);

    owes_nothing(folder.path(), &wire, caps).await;
    println!("{PAGES} pages, {before} of them said marked in the second life");
}

/// The third life owes nobody anything.
async fn owes_nothing(folder: &Path, wire: &Wire, caps: &str) {
    let mut child = born(folder, Stdio::null());
    let mut line = wire.accepts().await;
    line.is_joined(caps, "").await;
    line.says(&[":alice!a@h PRIVMSG #ops :!hello"]).await;
    loop {
        let said = line.next().await.expect("it lives");
        assert!(!page(&said, &mut Heard::new()), "{said} was said in the life before");
        if said.ends_with("PRIVMSG #ops :hi") {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_with_a_full_outbox_loses_no_page_where_the_server_gives_receipts() {
    killed_with("message-tags batch echo-message labeled-response").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_killed_with_a_full_outbox_loses_no_page_where_the_server_says_nothing() {
    killed_with("").await;
}
