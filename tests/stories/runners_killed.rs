//! Runners that are killed with what they do: each a process of its own.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use masterchief::bot::Started;
use masterchief::pipelines::{Ask, RunState, StageState};
use serde_json::Value;

use super::mesh_chiefs::{caller, named};
use super::retried::files;
use super::runners::{POLICY, asks, deploy, ended, offers, patient, row, stage};
use super::servers::free_port;
use super::steps::{alive, eventually, until};

/// A runner that is a process of its own.
struct Process {
    folder: tempfile::TempDir,
    child: Option<Child>,
}

impl Process {
    fn start(name: &str, port: u16) -> Process {
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            "data: data\npartyline: {{listen: \"127.0.0.1:0\"}}\nmesh:\n  name: {name}\n  retry: 500ms\n  bots: {{One: {{addresses: [\"127.0.0.1:{port}\"], attributes: [hub], password: geheim}}}}\nrunner: {{labels: [build], slots: 2, accept_from: [One]}}\n"
        );
        std::fs::create_dir_all(folder.path().join("config/global")).unwrap();
        std::fs::write(folder.path().join("config/global/config.yaml"), config).unwrap();
        let mut process = Process { folder, child: None };
        process.begin();
        process
    }

    fn begin(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_masterchief"));
        command.arg("--config").arg(self.folder.path()).args(["run", "--no-console"]);
        command.stdin(Stdio::piped()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// The supervisors of its commands.
    fn supervisors(&self) -> Vec<i32> {
        let mut found = Vec::new();
        files(&self.folder.path().join("data/errands"), &mut found);
        let notes = found.iter().filter(|path| path.ends_with("/main.pid")).filter_map(|path| std::fs::read(path).ok());
        notes
            .map(|note| serde_json::from_slice::<Value>(&note).unwrap()["supervisor"].as_i64().unwrap() as i32)
            .collect()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn kill(pid: i32) {
    Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
}

/// Two runners, each a process, and a home whose stage says where it is and waits until it is let go.
struct Three {
    one: Started,
    runners: [Process; 2],
    number: i64,
    pid: PathBuf,
    good: PathBuf,
    _folder: tempfile::TempDir,
}

impl Three {
    async fn start(more: &str) -> Three {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let (pid, good) = (folder.path().join("pid"), folder.path().join("good"));
        let script =
            format!("echo $$ > {}; echo began; until test -e {}; do sleep 0.1; done", pid.display(), good.display());
        let text =
            format!("app: shop\n{POLICY}\nstages:\n  test: {{runner: build{more}, shell: [sh, -c, \"{script}\"]}}\n");
        let known = named("One", Some(port), &[("Two", caller()), ("Tre", caller())]);
        let one = patient(folder.path(), known, &text, Duration::from_secs(3)).await;
        let runners = [Process::start("Two", port), Process::start("Tre", port)];
        offers(&one, "Two").await;
        offers(&one, "Tre").await;
        let number = deploy(&one).await;
        until("the command", || alive(&pid)).await;
        Three { one, runners, number, pid, good, _folder: folder }
    }

    /// The runner where it is done, which is killed with all it does.
    async fn kill(&mut self) -> (usize, String) {
        let name = stage(&self.one, self.number, "test").await.runner.unwrap().name;
        let at = usize::from(name == "Tre");
        self.runners[at].kill();
        self.runners[at].supervisors().into_iter().for_each(kill);
        kill(std::fs::read_to_string(&self.pid).unwrap().trim().parse().unwrap());
        (at, name)
    }

    fn logs(&self) -> String {
        self.runners.iter().map(Process::log).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_is_killed_loses_the_stage_and_it_is_tried_again_on_another() {
    let mut all = Three::start(", idempotent: true").await;
    let (_, killed) = all.kill().await;
    std::fs::write(&all.good, "").unwrap();
    let (run, stages) = ended(&all.one, all.number).await;
    assert_eq!((run.state, stages[0].attempt), (RunState::Succeeded, 2), "{stages:#?}\n{}", all.logs());
    assert_ne!(stages[0].runner.as_ref().unwrap().name, killed);
    let lost = row(&all.one, &killed).await.unwrap();
    assert_eq!((lost.there, lost.lost, lost.busy), (false, 1, 0));
    let attempts = all.one.pipelines().records().attempts(all.number).await.unwrap();
    let line = attempts[0].line.clone().unwrap();
    assert!(line.contains(&format!("its runner {killed} is away since 3s")), "{line}");
    assert_eq!(attempts[0].class.as_deref(), Some("infra_lost"));
    all.one.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_simply_be_done_again_asks_people_who_are_told_where_it_would_go() {
    let mut all = Three::start("").await;
    let (at, killed) = all.kill().await;
    let other = if killed == "Two" { "Tre" } else { "Two" };
    // The bot is back before it is given up: it knows that its command is gone.
    all.runners[at].begin();
    eventually("that people are asked", async || {
        stage(&all.one, all.number, "test").await.state == StageState::NeedsOperator
    })
    .await;
    let line = stage(&all.one, all.number, "test").await.failure.unwrap().line;
    assert!(
        line.contains(&format!("retry on another runner: it goes to {other}, not to {killed}")),
        "{line}\n{}",
        all.logs()
    );
    std::fs::write(&all.good, "").unwrap();
    asks(&all.one, Ask::Retry(all.number, None)).await;
    let (run, stages) = ended(&all.one, all.number).await;
    assert_eq!(
        (run.state, stages[0].runner.as_ref().unwrap().name.as_str()),
        (RunState::Succeeded, other),
        "{stages:#?}"
    );
    all.one.stop("").await;
}
