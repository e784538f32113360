//! Commands on this machine, started without a shell.

use std::process::Stdio;
use std::time::Duration;

use masterchief_contract::Future;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::{ExecFault, Shell};

/// The longest output that is kept of each stream, where nobody asks for more; the rest is read and dropped.
const OUTPUT_MAX: usize = 1 << 20;
/// What a command gets of our own environment. Secrets live there too, so the list is short.
const ENVIRONMENT: &[&str] = &["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER"];

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// What it reads.
    pub stdin: Option<Vec<u8>>,
    /// Variables beside the few that are passed on.
    pub env: Vec<(String, String)>,
    /// The folder it runs in; ours where none is given.
    pub cwd: Option<String>,
    /// How long it may take before it is killed.
    pub timeout: Duration,
}

/// What became of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it wrote.
    pub stdout: Vec<u8>,
    /// What it complained.
    pub stderr: Vec<u8>,
}

/// This machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalShell;

impl Shell for LocalShell {
    fn run(&self, command: Command) -> Future<Result<Output, ExecFault>> {
        Box::pin(async move {
            let timeout = command.timeout;
            match tokio::time::timeout(timeout, run(command, OUTPUT_MAX)).await {
                Ok(result) => result.map(|(output, _)| output),
                Err(_elapsed) => Err(late(timeout)),
            }
        })
    }
}

/// Runs a command whose output is of use only as a whole; `None` if there is more of it than that.
pub(super) async fn run_whole(command: Command, most: usize) -> Result<Option<Output>, ExecFault> {
    let timeout = command.timeout;
    let ended = tokio::time::timeout(timeout, run(command, most)).await.unwrap_or_else(|_| Err(late(timeout)))?;
    Ok(Some(ended).filter(|(_, whole)| *whole).map(|(output, _)| output))
}

fn late(timeout: Duration) -> ExecFault {
    ExecFault(format!("killed: it ran longer than {timeout:?}"))
}

/// A command and what it started; killed together if it is given up.
struct Group(i32);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.0).filter(|_| self.0 > 1) {
            // It may be gone already.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
        }
    }
}

/// What a command gets of our own environment.
pub(super) fn inherited() -> Vec<(String, String)> {
    ENVIRONMENT.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?))).collect()
}

/// Runs it and keeps so much of each stream; whether that is all of it.
async fn run(command: Command, most: usize) -> Result<(Output, bool), ExecFault> {
    let Some((program, args)) = command.argv.split_first() else {
        return Err(ExecFault("no program is named".to_owned()));
    };
    let fault = |what: std::io::Error| ExecFault(format!("{program}: {what}"));
    let mut starting = tokio::process::Command::new(program);
    starting.args(args).env_clear().kill_on_drop(true).process_group(0);
    starting.envs(inherited());
    starting.envs(command.env.iter().map(|(name, value)| (name, value)));
    if let Some(cwd) = &command.cwd {
        starting.current_dir(cwd);
    }
    let stdin = if command.stdin.is_some() { Stdio::piped() } else { Stdio::null() };
    let mut child = starting.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(fault)?;
    let mut group = Group(child.id().unwrap_or(0).cast_signed());
    let (input, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let (Some(mut input), Some(bytes)) = (input, &command.stdin) {
            // A command that does not read all of it is no fault.
            let _ = input.write_all(bytes).await;
        }
    };
    let ((), stdout, stderr, status) = tokio::join!(feed, read(out, most), read(err, most), child.wait());
    let status = status.map_err(fault)?;
    // It ended by itself; what it left in the background is meant.
    group.0 = 0;
    let ((stdout, out_whole), (stderr, err_whole)) = (stdout.map_err(fault)?, stderr.map_err(fault)?);
    Ok((Output { code: status.code(), stdout, stderr }, out_whole && err_whole))
}

async fn read(stream: Option<impl AsyncRead + Unpin>, most: usize) -> std::io::Result<(Vec<u8>, bool)> {
    let (mut kept, mut whole) = (Vec::new(), true);
    let Some(mut stream) = stream else { return Ok((kept, whole)) };
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let bytes = stream.read(&mut buffer).await?;
        if bytes == 0 {
            return Ok((kept, whole));
        }
        let room = most - kept.len();
        whole &= bytes <= room;
        kept.extend_from_slice(&buffer[..bytes.min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(argv: &[&str]) -> Command {
        Command {
            argv: argv.iter().map(|arg| (*arg).to_owned()).collect(),
            stdin: None,
            env: Vec::new(),
            cwd: None,
            timeout: Duration::from_secs(10),
        }
    }

    #[tokio::test]
    async fn arguments_are_passed_as_they_are() {
        let output = LocalShell.run(command(&["printf", "%s|", "a b", "$(id); `id`", "*"])).await.unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "a b|$(id); `id`|*|");
        assert_eq!(output.code, Some(0));
    }

    #[tokio::test]
    async fn it_reads_its_input_and_sees_no_secrets_of_ours() {
        let with_input = Command { stdin: Some(b"hello".to_vec()), ..command(&["cat"]) };
        assert_eq!(LocalShell.run(with_input).await.unwrap().stdout, b"hello");
        let names = String::from_utf8(LocalShell.run(command(&["env"])).await.unwrap().stdout).unwrap();
        assert!(
            names.lines().all(|line| ENVIRONMENT.iter().any(|name| line.starts_with(&format!("{name}=")))),
            "{names}"
        );
    }

    #[tokio::test]
    async fn what_is_of_use_only_as_a_whole_is_whole_or_not_there() {
        let long = || command(&["head", "-c", "3000000", "/dev/zero"]);
        assert_eq!(run_whole(long(), 3_000_000).await.unwrap().unwrap().stdout.len(), 3_000_000);
        assert_eq!(run_whole(long(), 2_999_999).await.unwrap(), None);
        assert_eq!(LocalShell.run(long()).await.unwrap().stdout.len(), OUTPUT_MAX);
    }

    #[tokio::test]
    async fn what_a_command_started_ends_with_it_when_it_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let script = format!("sleep 300 & echo $! > {}/pid; wait", dir.path().display());
        let slow = Command { timeout: Duration::from_millis(300), ..command(&["sh", "-c", &script]) };
        assert!(LocalShell.run(slow).await.is_err());
        let pid = std::fs::read_to_string(dir.path().join("pid")).unwrap();
        for _ in 0..100 {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z ") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the sleep runs on");
    }

    #[tokio::test]
    async fn a_long_one_is_killed_and_an_unknown_one_told() {
        let slow = Command { timeout: Duration::from_millis(100), ..command(&["sleep", "60"]) };
        assert!(LocalShell.run(slow).await.unwrap_err().0.contains("killed"));
        assert!(LocalShell.run(command(&["no-such-program-here"])).await.is_err());
        assert!(LocalShell.run(command(&[])).await.is_err());
    }
}
