//! Commands of a step, each under a supervisor of its own (`masterchief __step`) that outlives the bot: whoever starts again
//! finds the process, or how it ended. There is no shell between; secrets are neither in argv nor on disk.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use masterchief_contract::Secret;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;

use super::account::Account;
use super::apart::apart;
use super::class::{Class, Failure};
use super::mask::Masker;
use super::step::{Hands, Limits, Step};

/// The variable that marks all that a job starts.
const MARK: &str = "MC_JOB";
/// How often the state of a process and its output are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long a supervisor that was just started may take to say so.
const BEGIN: Duration = Duration::from_secs(20);
/// How much of its output is read at once.
const CHUNK: usize = 256 * 1024;
/// The longest line that is given on; the rest of it is dropped.
const LINE_MAX: usize = 256 * 1024;

/// A command.
#[derive(Clone, Debug)]
pub struct Job {
    /// A name for its notes in the step's folder: `main`, `plan`. Each job of a step has another.
    pub name: &'static str,
    /// The program and its arguments. Never a secret.
    pub argv: Vec<String>,
    /// Variables beside those of the step; they win.
    pub env: Vec<(String, Secret)>,
    /// Where it runs; the step's workspace where it is `None`.
    pub cwd: Option<PathBuf>,
    /// What it reads; nothing where it is `None`.
    pub stdin: Option<Secret>,
    /// Where what it writes to standard output goes. Complaints go to the log.
    pub out: Out,
    /// What it is asked to end with.
    pub ask: Ask,
    /// How long it may take to end after that, before it is killed.
    pub grace: Duration,
    /// Whose rights it has; ours where it is `None`.
    pub user: Option<Account>,
}

/// Where standard output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Out {
    /// To the step's log.
    Log,
    /// To a file `NAME.out` in the step's folder, whose lines are given to the executor.
    Own,
}

/// What a process is asked to end with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// SIGTERM, to all it started.
    Term,
    /// SIGINT, once, to the command alone: for what wants to put its things in order.
    Interrupt,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq)]
pub enum JobEnd {
    /// With this code.
    Exited(i32),
    /// By a signal: 9 is what the kernel sends for want of memory, among others.
    Signalled(i32),
    /// The kernel killed it for its memory.
    OutOfMemory,
    /// It was killed because it filled more of the disk than it may.
    OutOfDisk,
    /// It was stopped because the step is to end; nothing of it is left.
    Stopped,
    /// Nobody knows: its supervisor died with it. Nothing of it is left running.
    Lost,
    /// It could not be started.
    Unstarted(Failure),
}

/// Whether the program that runs now is a supervisor's.
static IS_THIS: AtomicBool = AtomicBool::new(false);

/// Where the supervisor's program is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Supervisor {
    program: PathBuf,
}

impl Supervisor {
    /// A program that answers to `__step`: `masterchief` itself.
    pub fn at(program: impl Into<PathBuf>) -> Supervisor {
        Supervisor { program: program.into() }
    }

    /// The program that runs now is one, whatever its file is called: what `masterchief` itself says first.
    pub fn is_this_program() {
        IS_THIS.store(true, Ordering::Relaxed);
    }

    /// This program, if it is `masterchief`; else the one beside it, or in the folder above (where cargo puts examples and tests),
    /// else the one in the path.
    pub fn found() -> Supervisor {
        let own = std::env::current_exe().unwrap_or_default();
        let name = format!("masterchief{}", std::env::consts::EXE_SUFFIX);
        if IS_THIS.load(Ordering::Relaxed) || own.file_name().is_some_and(|file| file.to_string_lossy() == name) {
            // What runs now, also if its file was replaced meanwhile.
            let running = Path::new("/proc/self/exe");
            return Supervisor::at(if running.exists() { running.to_owned() } else { own });
        }
        let folders = own.ancestors().skip(1).take(2).map(|folder| folder.join(&name));
        let beside = folders.into_iter().find(|path| path.is_file());
        Supervisor::at(beside.unwrap_or_else(|| PathBuf::from(name)))
    }
}

/// What a supervisor is told on its standard input.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) name: String,
    pub(super) argv: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) cwd: PathBuf,
    pub(super) stdin: Option<String>,
    pub(super) out: Out,
    pub(super) ask: Ask,
    pub(super) grace: Duration,
    /// A user and a group by their numbers.
    #[serde(default)]
    pub(super) user: Option<(u32, u32)>,
    pub(super) hide: Vec<Vec<u8>>,
    pub(super) memory: Option<u64>,
    pub(super) cpu: Option<u64>,
    pub(super) disk: Option<u64>,
    /// What is added up for `disk`.
    #[serde(default)]
    pub(super) workspace: PathBuf,
}

/// What a supervisor writes into `NAME.pid` before it starts anything.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Running {
    pub(super) supervisor: i32,
    /// When that process began, as the kernel counts: a pid may be used again.
    pub(super) since: u64,
}

/// What a supervisor writes into `NAME.exit` at the end.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    pub(super) signal: Option<i32>,
    pub(super) stopped: bool,
    pub(super) oom: bool,
    /// Whether it filled more of the disk than it may.
    #[serde(default)]
    pub(super) full: bool,
    /// Why it could not be started.
    pub(super) fault: Option<String>,
    pub(super) missing: bool,
}

impl Job {
    /// A command that runs in the workspace, reads nothing and writes to the log.
    pub fn new(name: &'static str, argv: impl IntoIterator<Item = impl Into<String>>) -> Job {
        Job {
            name,
            argv: argv.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            cwd: None,
            stdin: None,
            out: Out::Log,
            ask: Ask::Term,
            grace: Duration::from_secs(10),
            user: None,
        }
    }

    /// What marks everything that this job starts.
    fn mark(&self, step: &Step) -> String {
        format!("{}/{}", step.folder.display(), self.name)
    }

    fn file(&self, step: &Step, end: &str) -> PathBuf {
        step.folder.join(format!("{}.{end}", self.name))
    }

    /// Runs it, or finds it again if it was started before the bot was. `line` is given every line of standard output of
    /// [`Out::Own`], from the first one, also when it is found again.
    pub async fn run(self, step: &Step, hands: &Hands, mut line: impl FnMut(&str) + Send) -> JobEnd {
        let running = self.file(step, "pid");
        let mut supervisor = None;
        if !running.exists() {
            if hands.is_stopping() {
                return JobEnd::Stopped;
            }
            match self.start(step, hands).await {
                Ok(child) => supervisor = Some(child),
                Err(failure) => return JobEnd::Unstarted(failure),
            }
        }
        let mut lines = Lines::new(self.file(step, "out"));
        let mut asked = false;
        loop {
            let ended = read_json::<Ended>(&self.file(step, "exit"));
            if self.out == Out::Own {
                while lines.read(&mut line) {
                    // A process that writes as fast as we read must not keep everybody else waiting.
                    tokio::task::yield_now().await;
                }
            }
            if let Some(ended) = ended {
                if self.out == Out::Own {
                    while lines.read(&mut line) {
                        tokio::task::yield_now().await;
                    }
                    lines.last(&mut line);
                }
                return self.outcome(ended, hands);
            }
            let at = read_json::<Running>(&running).unwrap_or_default();
            if !alive(at.supervisor, at.since) && read_json::<Ended>(&self.file(step, "exit")).is_none() {
                sweep(at, &format!("{MARK}={}", self.mark(step))).await;
                return JobEnd::Lost;
            }
            if hands.is_stopping() && !asked {
                asked = true;
                signal(at.supervisor, Signal::TERM);
            }
            let over = async {
                match &mut supervisor {
                    Some(child) => drop(child.wait().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = over => supervisor = None,
                () = hands.stopping(), if !asked => {}
            }
        }
    }

    /// Starts a supervisor; ready once it has said so.
    async fn start(&self, step: &Step, hands: &Hands) -> Result<tokio::process::Child, Failure> {
        let Some(program) = self.argv.first() else {
            return Err(Failure::new(Class::Config, "no program is named; write it as a list, [\"make\", \"test\"]"));
        };
        let fault = |what: String| Failure::new(Class::Unknown, format!("{program} could not be started: {what}"));
        let Limits { memory, cpu, disk } = step.limits;
        let mut env = super::local::inherited();
        env.extend(self.user.iter().flat_map(Account::variables));
        env.push((MARK.to_owned(), self.mark(step)));
        let told = step.env.iter().chain(&self.env).map(|(name, value)| (name.clone(), value.reveal().to_owned()));
        env.extend(told);
        let order = Order {
            name: self.name.to_owned(),
            argv: self.argv.clone(),
            env,
            cwd: self.cwd.clone().unwrap_or_else(|| step.workspace.clone()),
            stdin: self.stdin.as_ref().map(|text| text.reveal().to_owned()),
            out: self.out,
            ask: self.ask,
            grace: self.grace,
            user: self.user.as_ref().map(|account| (account.user, account.group)),
            hide: hands.mask.forms(),
            memory,
            cpu,
            disk,
            workspace: step.workspace.clone(),
        };
        let order = serde_json::to_vec(&order).map_err(|what| fault(what.to_string()))?;
        let mut starting = tokio::process::Command::new(&hands.supervisor.program);
        starting.arg("__step").arg(&step.folder).env_clear().current_dir("/");
        starting.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = starting.spawn().map_err(|what| {
            let path = hands.supervisor.program.display();
            fault(format!("its supervisor {path}: {what}; put the program masterchief there"))
        })?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(&order).await.map_err(|what| fault(what.to_string()))?;
        }
        let running = self.file(step, "pid");
        let begun = tokio::time::timeout(BEGIN, async {
            while !running.exists() {
                if let Ok(Some(status)) = child.try_wait() {
                    return Err(fault(format!("its supervisor ended at once ({status})")));
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Ok(())
        });
        match begun.await {
            Ok(Ok(())) => Ok(child),
            Ok(Err(failure)) => Err(failure),
            Err(_elapsed) => {
                let _ = child.kill().await;
                // It may have begun at this very moment.
                sweep(read_json(&running).unwrap_or_default(), &format!("{MARK}={}", self.mark(step))).await;
                Err(fault("its supervisor does not answer; the machine may have too much to do".to_owned()))
            }
        }
    }

    fn outcome(&self, ended: Ended, hands: &Hands) -> JobEnd {
        if ended.stopped {
            return JobEnd::Stopped;
        }
        if ended.oom {
            return JobEnd::OutOfMemory;
        }
        if ended.full {
            return JobEnd::OutOfDisk;
        }
        if let Some(fault) = ended.fault {
            let program = self.argv.first().map_or("", String::as_str);
            let line = if ended.missing {
                format!("{program} is not installed here; install it, or put its folder into PATH")
            } else {
                format!("{program} could not be started: {}", hands.mask.hide(&fault))
            };
            return JobEnd::Unstarted(Failure::new(Class::Config, line));
        }
        match (ended.code, ended.signal) {
            (Some(code), _) => JobEnd::Exited(code),
            (None, Some(signal)) => JobEnd::Signalled(signal),
            (None, None) => JobEnd::Lost,
        }
    }
}

/// Asks the supervisors of all commands of an attempt to end them: for one that nobody can go on with.
pub fn end_jobs(folder: &Path) {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    for file in files.filter(|file| file.extension().is_some_and(|end| end == "pid")) {
        let at = read_json::<Running>(&file).unwrap_or_default();
        if alive(at.supervisor, at.since) {
            signal(at.supervisor, Signal::TERM);
        }
    }
}

/// Whether the process of this pid is the one that began then.
pub(super) fn alive(pid: i32, since: u64) -> bool {
    pid > 0 && stat(pid).is_some_and(|stat| stat.since == since && stat.state != 'Z')
}

/// What the kernel tells of a process.
pub(super) struct Stat {
    pub(super) state: char,
    pub(super) parent: i32,
    pub(super) session: i32,
    pub(super) since: u64,
}

/// Reads `/proc/PID/stat` (proc_pid_stat(5)).
pub(super) fn stat(pid: i32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything, also parentheses.
    let rest = text.get(text.rfind(')')? + 2..)?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    // The group stands between.
    let session = fields.nth(1)?.parse().ok()?;
    // Field 22.
    let since = fields.nth(15)?.parse().ok()?;
    Some(Stat { state, parent, session, since })
}

pub(super) fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid).filter(|_| pid > 1) {
        // It may be gone already.
        let _ = kill_process(pid, signal);
    }
}

/// Ends what a supervisor that was killed left behind: all of its session, which began with it, and whatever went into a
/// session of its own with the job's mark in its environment. The command itself may not have been noted yet.
async fn sweep(at: Running, mark: &str) {
    for _ in 0..100 {
        let mark = mark.to_owned();
        // Every process of the machine is looked at.
        let left = apart(move || left_behind(at, &mark)).await.unwrap_or_default();
        if left.is_empty() {
            return;
        }
        left.into_iter().for_each(|pid| signal(pid, Signal::KILL));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What still runs of what a supervisor started: what has the mark, and its session with all that gave up its environment.
fn left_behind(at: Running, mark: &str) -> Vec<i32> {
    if at.supervisor <= 1 {
        return Vec::new();
    }
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_string_lossy().parse::<i32>().ok());
    let runs: Vec<(i32, Stat)> =
        pids.filter_map(|pid| Some((pid, stat(pid)?))).filter(|(_, one)| one.state != 'Z').collect();
    let marked = |pid: i32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|pair| pair == mark.as_bytes())
    };
    let (marked, others): (Vec<_>, Vec<_>) = runs.into_iter().partition(|(pid, _)| marked(*pid));
    let of_session = |stat: &Stat| stat.session == at.supervisor && stat.since >= at.since;
    // The number of a session that is over is given to others, after a restart of the machine at the latest: it is ours as long as
    // somebody in it has our mark, or its first process is the supervisor itself.
    let ours = marked.iter().any(|(_, stat)| of_session(stat))
        || stat(at.supervisor).is_some_and(|first| first.since == at.since);
    let others = others.into_iter().filter(|(pid, stat)| ours && of_session(stat) && *pid != at.supervisor);
    marked.iter().map(|(pid, _)| *pid).chain(others.map(|(pid, _)| pid)).collect()
}

pub(super) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// The lines of a file that grows.
struct Lines {
    path: PathBuf,
    file: Option<std::fs::File>,
    at: u64,
    partial: Vec<u8>,
}

impl Lines {
    fn new(path: PathBuf) -> Lines {
        Lines { path, file: None, at: 0, partial: Vec::new() }
    }

    /// Reads a piece; whether there may be more.
    fn read(&mut self, line: &mut (impl FnMut(&str) + Send)) -> bool {
        if self.file.is_none() {
            self.file = std::fs::File::open(&self.path).ok();
        }
        let Some(file) = &mut self.file else { return false };
        let mut buffer = vec![0; CHUNK];
        let read = file.seek(SeekFrom::Start(self.at)).and_then(|_| file.read(&mut buffer)).unwrap_or(0);
        self.at += read as u64;
        for piece in buffer[..read].split_inclusive(|byte| *byte == b'\n') {
            let room = LINE_MAX.saturating_sub(self.partial.len());
            self.partial.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                self.last(line);
            }
        }
        read == CHUNK
    }

    /// What stands there without a line's end.
    fn last(&mut self, line: &mut (impl FnMut(&str) + Send)) {
        if !self.partial.is_empty() {
            let bytes = std::mem::take(&mut self.partial);
            line(String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']));
        }
    }
}

/// A masker of what was handed on.
pub(super) fn masker(order: &Order) -> Masker {
    Masker::of_forms(order.hide.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_has_the_number_of_a_session_that_is_over_is_left_alone() {
        let spawn = |mark: &str| {
            let mut command = std::process::Command::new("setsid");
            command.args(["sleep", "60"]).env(MARK, mark).stdin(Stdio::null()).spawn().unwrap()
        };
        let (mut stranger, mut ours) = (spawn("/somewhere/else/main"), spawn("/data/runs/7/a/1/main"));
        let session = |child: &std::process::Child| child.id().cast_signed();
        for child in [&stranger, &ours] {
            while stat(session(child)).is_none_or(|stat| stat.session != session(child)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        // Of a supervisor that had these numbers, and began earlier.
        let at = |child: &std::process::Child| Running { supervisor: session(child), since: 1 };
        let mark = format!("{MARK}=/data/runs/7/a/1/main");
        assert_eq!(left_behind(at(&stranger), &mark), [session(&ours)]);
        assert_eq!(left_behind(at(&ours), &mark), [session(&ours)]);
        sweep(at(&stranger), &mark).await;
        assert!(stranger.try_wait().unwrap().is_none(), "it is somebody else's");
        assert!(!ours.wait().unwrap().success());
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }
}
