//! What people hear of a run whose bot is killed between writing a line down and saying it: nothing that is not written down, nothing
//! twice unless it says so, and in the end how the run ended. The server outlives each of the bots.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use masterchief::store::runs::{At, OutboxRow, Runs};

use super::runs::masterchief;
use super::steps::eventually;
use super::wire::{Line, Wire};

/// What is said again because nobody knows whether it was heard says so.
const MARK: &str = "(perhaps said before)";
/// The kills: after so many lines of the run were written down, and so many milliseconds later.
const KILLS: &[(usize, u64)] = &[(1, 0), (2, 30), (3, 0), (1, 250), (3, 5), (2, 0), (3, 400), (1, 5)];

const SHOP: &str = "app: shop\npolicy: {environments: {dev: {confirm: never}}}\nannounce: {channels: [\"#ops\"], progress: true, coalesce: 0s}\nstages:\n  test: {shell: [sleep, \"0.2\"]}\n  build: {needs: [test], shell: [sleep, \"0.2\"]}\n  rollout: {needs: [build], shell: [sleep, \"0.2\"]}\n";

/// A bot that is a process, and the server it is on.
struct World {
    folder: tempfile::TempDir,
    wire: Wire,
    bot: Option<(Child, Line)>,
    /// What was heard: the words.
    heard: Vec<String>,
}

impl World {
    async fn new() -> World {
        let (folder, wire) = (tempfile::tempdir().unwrap(), Wire::plain().await);
        let path = |name: &str| folder.path().join(name);
        for name in ["config/pipelines", "config/global", "scripts"] {
            std::fs::create_dir_all(path(name)).unwrap();
        }
        std::fs::write(path("config/pipelines/shop.yaml"), SHOP).unwrap();
        std::fs::write(
            path("scripts/mark.lua"),
            "bot.bind('evnt', '-|-', 'sighup', function() bot.say('#ops', 'that is all') end)\n",
        )
        .unwrap();
        // Lines have to wait, so that what is written down is not said at once.
        let config = format!(
            "data: data\nscripts: {{folder: scripts}}\nnetworks:\n  story:\n    servers: [\"127.0.0.1:{}\"]\n    tls: false\n    channels: [\"#ops\"]\n    pace: {{burst: 1, interval: 150ms}}\n",
            wire.port()
        );
        std::fs::write(path("config/global/config.yaml"), config).unwrap();
        World { folder, wire, bot: None, heard: Vec::new() }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    async fn starts(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_masterchief"));
        command.arg("--config").arg(self.folder.path()).args(["run", "--no-console"]).current_dir(self.folder.path());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = self.wire.accepts().await;
        line.is_joined("", "").await;
        self.bot = Some((child, line));
        let socket = self.data().join("control.sock");
        eventually("the bot", async || std::os::unix::net::UnixStream::connect(&socket).is_ok()).await;
    }

    /// Kills it; what was on its way is heard all the same.
    async fn falls(&mut self) {
        let Some((mut child, mut line)) = self.bot.take() else { return };
        child.kill().unwrap();
        child.wait().unwrap();
        let rest = line.rest().await;
        rest.iter().for_each(|line| self.hears(line));
    }

    fn hears(&mut self, line: &str) {
        if let Some(words) = line.strip_prefix("PRIVMSG #ops :") {
            self.heard.push(words.to_owned());
        }
    }

    /// Whether it was heard how a run ended.
    fn knows(&self, run: i64) -> bool {
        let end = |line: &String| {
            line.contains("is live on dev") || line.contains("succeeded, just before I was started anew")
        };
        self.heard.iter().any(|line| line.starts_with(&format!("[{run}] ")) && end(line))
    }

    /// Listens until it was heard how a run ended and nothing more comes: what is said in a channel is said in order, so twice the mark
    /// says that there was nothing between. How things stand is told a moment after a start.
    async fn listens(&mut self, run: i64) {
        let (mut silent, start) = (0, Instant::now());
        while silent < 2 || !self.knows(run) && start.elapsed() < Duration::from_secs(15) {
            let (child, line) = self.bot.as_mut().unwrap();
            let pid = child.id().to_string();
            assert!(Command::new("kill").args(["-HUP", &pid]).status().unwrap().success());
            let mut heard = Vec::new();
            loop {
                let said = line.next().await.expect("the bot is gone");
                if said.ends_with("that is all") {
                    break;
                }
                if let Some(token) = said.strip_prefix("PING ") {
                    line.says(&[&format!(":s PONG s {token}")]).await;
                }
                heard.push(said);
            }
            silent = if heard.iter().any(|line| line.starts_with("PRIVMSG")) { 0 } else { silent + 1 };
            heard.iter().for_each(|line| self.hears(line));
        }
    }
}

/// What is written down of a run.
async fn written(runs: &Runs, run: i64) -> Vec<OutboxRow> {
    runs.notices(run).await.unwrap()
}

async fn state(runs: &Runs, run: i64) -> String {
    runs.run(run).await.unwrap().map(|(row, _)| row.state).unwrap_or_default()
}

/// Kills the bot between writing down and saying. `MASTERCHIEF_FALLS` sets how often.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_announced_that_is_not_written_down_and_nothing_twice_unsaid() {
    let falls: usize = std::env::var("MASTERCHIEF_FALLS").ok().and_then(|count| count.parse().ok()).unwrap_or(4);
    let mut world = World::new().await;
    let mut again = 0;
    world.starts().await;
    let runs = Runs::look(&At::File(world.data().join("runs.db"))).await.unwrap();
    for (round, (lines, later)) in KILLS.iter().copied().cycle().take(falls).enumerate() {
        let run = i64::try_from(round).unwrap() + 1;
        let (code, said) = masterchief(world.folder.path(), &["deploy", "--detach", "shop", "to", "dev"]);
        assert_eq!(code, Some(0), "{said}");
        let start = Instant::now();
        while written(&runs, run).await.len() < lines && state(&runs, run).await != "succeeded" {
            assert!(start.elapsed() < Duration::from_secs(30), "line {lines} of run {run} is never written down");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(later)).await;
        world.falls().await;
        world.starts().await;
        eventually("the end", async || state(&runs, run).await == "succeeded").await;
        eventually("all to be said", async || written(&runs, run).await.iter().all(|row| row.sent.is_some())).await;
        world.listens(run).await;

        let rows = written(&runs, run).await;
        let mine: Vec<&String> = world.heard.iter().filter(|line| line.starts_with(&format!("[{run}] "))).collect();
        let plain = |line: &String| line.replace(MARK, "").trim().to_owned();
        for line in &mine {
            assert!(rows.iter().any(|row| row.text == plain(line)), "{line:?} is not written down: {rows:#?}");
        }
        for (at, line) in mine.iter().enumerate() {
            let before = mine[..at].iter().any(|other| plain(other) == plain(line));
            assert!(!before || line.contains(MARK), "{line:?} was said twice, and nobody said so: {mine:#?}");
            again += usize::from(before);
        }
        assert!(world.knows(run), "after {lines} lines and {later} ms nobody heard how it ended: {mine:#?}\n{rows:#?}");
        println!("killed after {lines} lines and {later} ms: heard {mine:#?}");
    }
    println!("{falls} falls, {again} lines said again");
    world.falls().await;
}
