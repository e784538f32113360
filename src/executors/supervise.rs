//! The supervisor: a small process of its own for each command. It masks and caps what the command writes, limits what it
//! uses, ends it with all it started, and writes down how it ended, whether or not the bot still lives.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit, set_child_subreaper, setsid};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;

use super::cgroup::Cgroup;
use super::disk::Disk;
use super::log::LOG;
use super::process::{Ask, Ended, Order, Out, Running, masker, signal as send, stat};

/// Of a log so many bytes are kept from its beginning…
const HEAD: u64 = 8 << 20;
/// …and twice so many, at most, from its end.
const TAIL: u64 = 4 << 20;
/// Of standard output that an executor reads, so much is kept.
const OWN_MAX: u64 = 256 << 20;
/// How long what is left of a command's children may take to end when the command has.
const LEFTOVER: Duration = Duration::from_secs(2);
/// How long output may take to end when nobody is left who could write any.
const DRAIN: Duration = Duration::from_secs(5);
/// How long after a KILL it is waited for what does not go.
const GIVE_UP: Duration = Duration::from_secs(10);
/// How often memory is looked at where no control group limits it.
const WEIGH: Duration = Duration::from_millis(100);
/// How often it is looked whether all are gone.
const LOOK: Duration = Duration::from_millis(20);

/// The work of `masterchief __step FOLDER`; the order comes on standard input.
pub fn main(folder: &Path) -> ExitCode {
    let mut text = Vec::new();
    let read = std::io::stdin().read_to_end(&mut text).map(|_| serde_json::from_slice::<Order>(&text));
    // Half an order is none: whoever gave it is dead, and nothing was begun.
    let Ok(Ok(order)) = read else { return ExitCode::FAILURE };
    drop(text);
    // A session of its own: no terminal of the bot's and no signal to its group reaches the command.
    let _ = setsid();
    let _ = set_child_subreaper(Some(rustix::process::getpid()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return ExitCode::FAILURE };
    let ended = runtime.block_on(supervise(folder, &order));
    let written = ended.and_then(|ended| replace(folder, &order.name, "exit", &ended));
    if written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn supervise(folder: &Path, order: &Order) -> std::io::Result<Ended> {
    let mut stopping = signal(SignalKind::terminate())?;
    claim(folder, &order.name, &ourselves())?;
    let group = Cgroup::make(order.memory, order.cpu);
    let mut filling = order.disk.map(|most| tokio::spawn(Disk::of(&order.workspace, most).filled()));
    let mut child = match spawn(order) {
        Ok(child) => child,
        Err(fault) => return Ok(unstarted(&fault, order)),
    };
    limit(child.id().unwrap_or(0).cast_signed(), order);
    // Where the kernel does not limit memory for us we look ourselves. Limiting the address space instead would end whatever
    // only reserves it (Go, Java).
    let watched = order.memory.filter(|_| group.is_none());
    let log = Sink::Log(Capped::open(folder.join(LOG)));
    let out = match order.out {
        Out::Log => Sink::Log(Capped::open(folder.join(LOG))),
        Out::Own => Sink::Own(OpenOptions::new().create(true).append(true).open(file(folder, &order.name, "out"))?, 0),
    };
    let (input, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    if let (Some(mut input), Some(text)) = (input, order.stdin.clone()) {
        // A command that does not read all of it is no fault.
        tokio::spawn(async move { input.write_all(text.as_bytes()).await });
    }
    let pumps = async { tokio::join!(pump(stdout, out, order), pump(stderr, log, order)) };
    let mut pumps = std::pin::pin!(pumps);
    let mut pumped = false;
    let (mut stopped, mut too_large, mut full) = (false, false, false);
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            _ = stopping.recv(), if !stopped => {
                stopped = true;
                // Its output is read on meanwhile, so that nobody waits for us. It is asked once, also if it closes its output first.
                let ending = end(&mut child, order);
                tokio::pin!(ending);
                tokio::select! {
                    () = &mut ending => {}
                    _ = &mut pumps, if !pumped => { pumped = true; ending.await }
                }
            }
            _ = &mut pumps, if !pumped => pumped = true,
            () = tokio::time::sleep(WEIGH), if watched.is_some() && !too_large => {
                if watched.is_some_and(|most| resident() > most) {
                    too_large = true;
                    kill_all();
                }
            }
            () = over(&mut filling), if filling.is_some() => {
                (full, filling) = (true, None);
                kill_all();
            }
        }
    };
    // What it started and left is ended too.
    let clear = end_all(LEFTOVER, Signal::TERM);
    tokio::pin!(clear);
    tokio::select! {
        () = &mut clear => {}
        _ = &mut pumps, if !pumped => { pumped = true; clear.await }
    }
    if !pumped {
        let _ = tokio::time::timeout(DRAIN, pumps).await;
    }
    let oom = too_large || group.is_some_and(|group| group.out_of_memory());
    // The kernel ends who writes a file that is longer than all it may have.
    let full = full || order.disk.is_some() && status.signal() == Some(Signal::XFSZ.as_raw());
    Ok(ended(status, stopped, (oom, full)))
}

/// How a command ended. That it used too much is told where it failed.
fn ended(status: ExitStatus, stopped: bool, (oom, full): (bool, bool)) -> Ended {
    let (code, signal, failed) = (status.code(), status.signal(), !status.success());
    Ended { code, signal, stopped, oom: oom && failed, full: full && failed, ..Ended::default() }
}

/// This process, as others find it.
fn ourselves() -> Running {
    let own = std::process::id().cast_signed();
    Running { supervisor: own, since: stat(own).map_or(0, |stat| stat.since) }
}

/// Kills the command and all it started.
fn kill_all() {
    descendants().into_iter().for_each(|pid| send(pid, Signal::KILL));
}

/// Ready when a task is over; never without one.
async fn over(task: &mut Option<JoinHandle<()>>) {
    match task {
        // One that failed has nothing to say.
        Some(task) => drop(task.await),
        None => std::future::pending().await,
    }
}

/// Why a command did not start.
fn unstarted(fault: &std::io::Error, order: &Order) -> Ended {
    let missing = fault.kind() == std::io::ErrorKind::NotFound && order.cwd.is_dir();
    Ended { fault: Some(fault.to_string()), missing, ..Ended::default() }
}

fn spawn(order: &Order) -> std::io::Result<Child> {
    let mut argv = order.argv.iter();
    let program = argv.next().ok_or(std::io::ErrorKind::InvalidInput)?;
    if !order.cwd.is_dir() {
        let text = format!("there is no folder {}", order.cwd.display());
        return Err(std::io::Error::new(std::io::ErrorKind::NotFound, text));
    }
    let mut starting = Command::new(program);
    starting.args(argv).env_clear().envs(order.env.iter().map(|(name, value)| (name, value)));
    starting.current_dir(&order.cwd).process_group(0);
    if let Some((user, group)) = order.user.filter(|_| rustix::process::geteuid().is_root()) {
        // Our own groups are given up with it.
        starting.uid(user).gid(group);
    }
    starting.stdin(if order.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
    starting.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
}

/// Limits the command alone.
fn limit(child: i32, order: &Order) {
    let Some(pid) = Pid::from_raw(child) else { return };
    let set = |resource, most: u64| {
        let _ = prlimit(Some(pid), resource, Rlimit { current: Some(most), maximum: Some(most) });
    };
    if let Some(bytes) = order.disk {
        set(Resource::Fsize, bytes);
    }
    set(Resource::Core, 0);
}

/// Asks the command to end, and kills what is left after its grace.
async fn end(child: &mut Child, order: &Order) {
    let pid = child.id().unwrap_or(0).cast_signed();
    match order.ask {
        Ask::Interrupt => {
            send(pid, Signal::INT);
            let _ = tokio::time::timeout(order.grace, child.wait()).await;
            end_all(LEFTOVER, Signal::TERM).await;
        }
        Ask::Term => end_all(order.grace, Signal::TERM).await,
    }
}

/// Ends everything below us; returns when nothing is left.
async fn end_all(grace: Duration, first: Signal) {
    let begun = Instant::now();
    let mut asked: Vec<i32> = Vec::new();
    loop {
        let left = descendants();
        if left.is_empty() {
            return;
        }
        let over = begun.elapsed() >= grace;
        if begun.elapsed() >= grace + GIVE_UP {
            // What may not be signalled, or hangs in the kernel, must not hold up the rest.
            return;
        }
        for pid in left {
            if over {
                send(pid, Signal::KILL);
            } else if !asked.contains(&pid) {
                asked.push(pid);
                send(pid, first);
                // One that is halted hears nothing.
                send(pid, Signal::CONT);
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Everything that the command started and that still runs, wherever it hid: orphans become our own children.
fn descendants() -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_string_lossy().parse::<i32>().ok());
    let all: Vec<(i32, i32, char)> =
        pids.filter_map(|pid| stat(pid).map(|stat| (pid, stat.parent, stat.state))).collect();
    let mut found = vec![std::process::id().cast_signed()];
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        let children = all.iter().filter(|(pid, of, _)| *of == parent && !found.contains(pid)).map(|(pid, ..)| *pid);
        let children: Vec<i32> = children.collect();
        found.extend(children);
        at += 1;
    }
    let running = |pid: &i32| all.iter().any(|(one, _, state)| one == pid && *state != 'Z');
    found.into_iter().skip(1).filter(running).collect()
}

/// Bytes of memory that everything below us has (proc_pid_statm(5)).
fn resident() -> u64 {
    let page = rustix::param::page_size() as u64;
    let pages = |pid: i32| -> Option<u64> {
        std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?.split(' ').nth(1)?.parse().ok()
    };
    descendants().into_iter().filter_map(pages).sum::<u64>() * page
}

/// Where output goes.
enum Sink {
    Log(Capped),
    /// With the bytes that were written.
    Own(File, u64),
}

impl Sink {
    fn write(&mut self, bytes: &[u8]) {
        match self {
            Sink::Log(log) => log.write(bytes),
            Sink::Own(file, written) => {
                *written += bytes.len() as u64;
                if *written <= OWN_MAX {
                    // A full disk must not end a deployment that works.
                    let _ = file.write_all(bytes);
                }
            }
        }
    }
}

/// Reads until the end, hides secrets, writes.
async fn pump(stream: Option<impl AsyncRead + Unpin>, mut sink: Sink, order: &Order) {
    let Some(mut stream) = stream else { return };
    let masker = masker(order);
    let mut mask = masker.stream();
    let (mut buffer, mut clear) = (vec![0; 64 * 1024], Vec::new());
    loop {
        let read = stream.read(&mut buffer).await.unwrap_or(0);
        clear.clear();
        if read == 0 {
            mask.finish(&mut clear);
            sink.write(&clear);
            return;
        }
        mask.push(&buffer[..read], &mut clear);
        sink.write(&clear);
    }
}

/// A log of which the head and the tail are kept: `log`, then `log.2` and `log.1` in this order.
struct Capped {
    path: PathBuf,
    file: Option<File>,
    /// Bytes in `file`.
    size: u64,
    tail: bool,
}

impl Capped {
    fn open(path: PathBuf) -> Capped {
        let tail = tail_of(&path, 1).exists();
        let mut log = Capped { path, file: None, size: 0, tail };
        log.reopen();
        log
    }

    fn reopen(&mut self) {
        let path = if self.tail { tail_of(&self.path, 1) } else { self.path.clone() };
        self.file = OpenOptions::new().create(true).append(true).open(path).ok();
        self.size = self.file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |meta| meta.len());
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.size >= if self.tail { TAIL } else { HEAD } {
            // The other stream's half may have gone on already.
            let newest = tail_of(&self.path, 1);
            let full = std::fs::metadata(&newest).is_ok_and(|meta| meta.len() >= TAIL);
            if self.tail && full {
                let _ = std::fs::rename(&newest, tail_of(&self.path, 2));
            }
            self.tail = true;
            self.reopen();
        }
        if let Some(file) = &mut self.file {
            let _ = file.write_all(bytes);
            self.size += bytes.len() as u64;
        }
    }
}

/// The name of a part of the tail: 1 is the newest.
pub(super) fn tail_of(log: &Path, part: u8) -> PathBuf {
    log.with_extension(part.to_string())
}

fn file(folder: &Path, name: &str, end: &str) -> PathBuf {
    folder.join(format!("{name}.{end}"))
}

/// Writes down that this is the supervisor of a command, unless there is one already: a bot that died right after it gave the
/// order may be followed by one that gives it again.
fn claim(folder: &Path, name: &str, note: &Running) -> std::io::Result<()> {
    let new = file(folder, name, &format!("pid.{}", note.supervisor));
    let mut writing = File::create(&new)?;
    writing.write_all(&serde_json::to_vec(note)?)?;
    writing.sync_data()?;
    let claimed = std::fs::hard_link(&new, file(folder, name, "pid"));
    std::fs::remove_file(&new)?;
    claimed
}

/// Writes a note whole or not at all.
fn replace(folder: &Path, name: &str, end: &str, note: &impl serde::Serialize) -> std::io::Result<()> {
    let (path, new) = (file(folder, name, end), file(folder, name, &format!("{end}.new")));
    let mut writing = File::create(&new)?;
    writing.write_all(&serde_json::to_vec(note)?)?;
    writing.sync_data()?;
    std::fs::rename(&new, &path)
}
