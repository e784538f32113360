//! `shell`: a command on this machine, started without a shell.
//!
//! `shell: ["make", "test"]`, or `shell: {run: [...], cwd: sub/folder, stdin: text, interrupt: true, grace: 10s, user: build}`. With
//! `user` the command has the rights of that account, and the workspace is given to it; that needs a bot that runs as root.
//!
//! The command finds, beside the variables of its stage, `MC_APP`, `MC_ENV`, `MC_SHA`, `MC_REF`, `MC_RUN`, `MC_STAGE`,
//! `MC_ATTEMPT`, `MC_WORKSPACE`; a file
//! `MC_OUTPUT` for lines `name=value` that later stages see as `{stage.name}` (a line `summary=...` is said in the channel); and a
//! file `MC_CHECKPOINT`, whose JSON the next attempt finds there again.

use std::io::Read;
use std::path::{Component, Path};
use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::{Future, Secret};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::account::Account;
use super::apart::apart;
use super::class::{Class, Failure};
use super::classify::classify;
use super::kept::write_private;
use super::log::ends;
use super::mask::Masker;
use super::process::{Ask, Job, JobEnd};
use super::settings::Settings;
use super::step::{End, Executor, Hands, Step};

/// The file for outputs in a step's folder.
const OUTPUT: &str = "output";
/// The file for a checkpoint in a step's folder.
pub(super) const CHECKPOINT: &str = "checkpoint";
/// Longer files of outputs are a mistake.
const OUTPUT_MAX: u64 = 1 << 20;

/// The executor.
pub(super) fn make(_: &Settings) -> Arc<dyn Executor> {
    Arc::new(Shell)
}

struct Shell;

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Written {
    Argv(Vec<String>),
    Whole(Whole),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    run: Vec<String>,
    #[serde(default)]
    cwd: Option<String>,
    #[serde(default)]
    stdin: Option<String>,
    #[serde(default)]
    interrupt: bool,
    #[serde(default, with = "humantime_serde")]
    grace: Option<Duration>,
    #[serde(default)]
    user: Option<String>,
}

fn read(settings: &Value) -> Result<Whole, String> {
    let whole = match serde_json::from_value(settings.clone()) {
        Ok(Written::Argv(run)) => Whole { run, cwd: None, stdin: None, interrupt: false, grace: None, user: None },
        Ok(Written::Whole(whole)) => whole,
        Err(_) => {
            return Err(
                "write a list, [\"make\", \"test\"], or a map with run, cwd, stdin, interrupt, grace, user".to_owned()
            );
        }
    };
    if whole.run.first().is_none_or(String::is_empty) {
        return Err("no program is named; write it as a list, [\"make\", \"test\"]".to_owned());
    }
    if let Some(cwd) = whole.cwd.as_deref().filter(|cwd| !is_below(cwd)) {
        return Err(format!("cwd: {cwd:?} leaves the workspace; name a folder in it, without .."));
    }
    Ok(whole)
}

/// Refuses secrets where everybody on this machine sees them.
pub(super) fn unseen(argv: &[String]) -> Result<(), String> {
    match argv.iter().find(|part| part.contains("${env:") || part.contains("${file:")) {
        Some(part) => Err(format!(
            "{part:?} would put a secret on a command line, where everybody on the machine can read it; give it to the \
             command as a variable, with env: {{TOKEN: \"${{env:TOKEN}}\"}} at the stage"
        )),
        None => Ok(()),
    }
}

/// Whether a path stays below where it is joined.
pub(super) fn is_below(path: &str) -> bool {
    Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

impl Executor for Shell {
    fn check(&self, settings: &Value) -> Vec<(String, String)> {
        let fault = read(settings).and_then(|whole| unseen(&whole.run));
        fault.err().map(|fault| (String::new(), fault)).into_iter().collect()
    }

    fn run(&self, step: Step, hands: Hands) -> Future<End> {
        Box::pin(async move {
            let whole = match read(&step.settings) {
                Ok(whole) => whole,
                Err(fault) => return End::failed(Class::Config, format!("shell: {fault}")),
            };
            let user = match whole.user {
                None => None,
                // A workspace may have a great many files.
                Some(name) => match apart({
                    let step = step.clone();
                    move || own(&name, &step)
                })
                .await
                {
                    Some(Ok(user)) => Some(user),
                    Some(Err(fault)) => return End::failed(Class::Config, format!("shell: user: {fault}")),
                    None => return End::failed(Class::Unknown, "shell: user: the workspace could not be given to it"),
                },
            };
            let job = Job {
                env: variables(&step),
                user,
                cwd: whole.cwd.as_ref().map(|cwd| step.workspace.join(cwd)),
                stdin: whole.stdin.map(Secret::new),
                ask: if whole.interrupt { Ask::Interrupt } else { Ask::Term },
                grace: whole.grace.unwrap_or(Duration::from_secs(10)),
                ..Job::new("main", whole.run)
            };
            let end = job.run(&step, &hands, |_| ()).await;
            let told = apart(move || finish(end, &step, |step| outputs(step, &hands))).await;
            told.unwrap_or_else(|| End::failed(Class::Unknown, "how it ended cannot be told; look at its log"))
        })
    }

    fn runs_elsewhere(&self) -> bool {
        true
    }
}

/// An account, with what its command writes to: the workspace, and the files for outputs and the checkpoint.
fn own(name: &str, step: &Step) -> Result<Account, String> {
    let account = Account::find(name)?;
    account.reaches(&step.workspace)?;
    account.reaches(&step.folder.join(OUTPUT))?;
    if step.folder.join("main.pid").exists() {
        // It runs already, or did: what it works with is its own.
        return Ok(account);
    }
    account.give(&step.workspace)?;
    // Writes the last checkpoint.
    drop(variables(step));
    for file in [OUTPUT, CHECKPOINT] {
        let path = step.folder.join(file);
        let made = std::fs::File::options().append(true).create(true).open(&path);
        made.map_err(|fault| format!("{}: {fault}", path.display()))?;
        account.give(&path)?;
    }
    Ok(account)
}

/// Variables that every command of a step finds. Writes the last checkpoint where the command looks for it.
pub(super) fn variables(step: &Step) -> Vec<(String, Secret)> {
    let checkpoint = step.folder.join(CHECKPOINT);
    if let Some(value) = step.checkpoint.as_ref().filter(|_| !checkpoint.exists()) {
        // Without it the command begins from the start, as it must be able to anyway.
        let _ = std::fs::write(&checkpoint, value.to_string());
    }
    let path = |path: &Path| path.display().to_string();
    let named = [
        ("MC_RUN", step.run.to_string()),
        ("MC_STAGE", step.stage.clone()),
        ("MC_ATTEMPT", step.attempt.to_string()),
        ("MC_APP", step.about.app.clone()),
        ("MC_ENV", step.about.env.clone()),
        ("MC_SHA", step.about.sha.clone()),
        ("MC_REF", step.about.reference.clone()),
        ("MC_WORKSPACE", path(&step.workspace)),
        ("MC_OUTPUT", path(&step.folder.join(OUTPUT))),
        ("MC_CHECKPOINT", path(&checkpoint)),
    ];
    named.into_iter().map(|(name, value)| (name.to_owned(), Secret::new(value))).collect()
}

/// What the end of a command means for its step; `done` tells the rest of a good end.
pub(super) fn finish(end: JobEnd, step: &Step, done: impl FnOnce(&Step) -> End) -> End {
    match end {
        JobEnd::Exited(0) => done(step),
        JobEnd::Exited(code) => End::Failed(classify(&ends(&step.folder), Some(code))),
        JobEnd::Signalled(signal) => {
            let line = format!("it was ended by signal {signal}, and not by us");
            End::Failed(Failure { class: Class::InfraLost, line, exit: Some(128 + signal), world: Vec::new() })
        }
        JobEnd::OutOfMemory => {
            let line = match step.limits.memory {
                Some(bytes) => format!("killed: it used more than its {} MiB; give the stage more `mem`", bytes >> 20),
                None => "killed for want of memory".to_owned(),
            };
            End::Failed(Failure { class: Class::Oom, line, exit: Some(137), world: Vec::new() })
        }
        JobEnd::OutOfDisk => {
            let most = step.limits.disk.unwrap_or_default() >> 20;
            let line = format!("killed: it filled more than its {most} MiB of the disk; give the stage more `disk`");
            End::Failed(Failure { class: Class::DiskFull, line, exit: Some(137), world: Vec::new() })
        }
        JobEnd::Stopped => End::Stopped,
        JobEnd::Lost => End::failed(Class::InfraLost, "it was lost with its supervisor; how far it came is not known"),
        JobEnd::Unstarted(failure) => End::Failed(failure),
    }
}

/// The outputs that a command wrote.
pub(super) fn outputs(step: &Step, hands: &Hands) -> End {
    match written(&step.folder, &hands.mask) {
        Ok((outputs, summary)) => End::Done { outputs, summary },
        Err(fault) => End::failed(Class::Config, fault),
    }
}

/// The outputs that a command wrote before it failed; none if they cannot be read.
pub fn left_outputs(folder: &Path, mask: &Masker) -> Map<String, Value> {
    written(folder, mask).map(|(outputs, _)| outputs).unwrap_or_default()
}

/// Hides secrets in what a command wrote for us in a step's folder. It has ended; whoever reads it again finds the same.
pub fn scrub(folder: &Path, mask: &Masker) {
    for path in [OUTPUT, CHECKPOINT].map(|name| folder.join(name)) {
        let Ok(file) = super::collect::open(&path) else { continue };
        let mut text = Vec::new();
        let whole = file.take(OUTPUT_MAX + 1).read_to_end(&mut text).is_ok() && text.len() as u64 <= OUTPUT_MAX;
        let hidden = mask.hide(&String::from_utf8_lossy(&text));
        // What is too long is not read, so nobody misses it.
        let done = match whole {
            true if hidden.as_bytes() == text => Ok(()),
            true => write_private(&path, hidden.as_bytes(), 0o600),
            false => std::fs::remove_file(&path),
        };
        if let Err(fault) = done {
            tracing::warn!(path = %path.display(), %fault, "Secrets could not be hidden in what a command wrote");
        }
    }
}

fn written(folder: &Path, mask: &Masker) -> Result<(Map<String, Value>, String), String> {
    let path = folder.join(OUTPUT);
    let mut outputs = Map::new();
    let mut summary = String::new();
    if std::fs::symlink_metadata(&path).is_err() {
        return Ok((outputs, summary));
    }
    // A command may have put anything there, also a pipe that would be waited for without end.
    let file = super::collect::open(&path).map_err(|fault| format!("MC_OUTPUT: {fault}; write name=value to it"))?;
    let mut text = Vec::new();
    let read = file.take(OUTPUT_MAX + 1).read_to_end(&mut text);
    read.map_err(|fault| format!("MC_OUTPUT cannot be read: {fault}"))?;
    if text.len() as u64 > OUTPUT_MAX {
        return Err(format!("MC_OUTPUT holds more than {OUTPUT_MAX} bytes; write outputs there, not logs"));
    }
    // Before it is read: what is a number then is no text to hide a secret in.
    for line in mask.hide(&String::from_utf8_lossy(&text)).lines().filter(|line| !line.trim().is_empty()) {
        let Some((name, value)) = line.split_once('=') else {
            return Err(format!("MC_OUTPUT has the line {line:?}; write name=value"));
        };
        let (name, value) = (name.trim(), value.trim());
        if name == "summary" {
            value.clone_into(&mut summary);
        } else {
            // A number, a truth or a list as itself, anything else as text.
            let read = serde_json::from_str(value).ok().filter(|value: &Value| !value.is_string());
            outputs.insert(name.to_owned(), read.unwrap_or_else(|| Value::from(value)));
        }
    }
    Ok((outputs, summary))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pipe_in_the_place_of_the_outputs_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(OUTPUT);
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        assert!(written(folder.path(), &Masker::default()).unwrap_err().contains("not a regular file"));
    }

    #[test]
    fn what_can_never_run_is_refused_when_the_pipeline_is_read() {
        let fault = |settings: Value| Shell.check(&settings).into_iter().next().map(|(_, fault)| fault);
        assert_eq!(fault(json!(["make", "test"])), None);
        assert_eq!(fault(json!({"run": ["make"], "cwd": "sub/folder", "grace": "3s"})), None);
        assert!(fault(json!("make test")).unwrap().contains("write a list"));
        assert!(fault(json!([])).unwrap().contains("no program"));
        let told = fault(json!(["curl", "-H", "Authorization: ${env:TOKEN}"])).unwrap();
        assert!(told.contains("env: {TOKEN: \"${env:TOKEN}\"}"), "{told}");
        assert!(fault(json!({"run": ["make"], "cwd": "../.."})).unwrap().contains("leaves the workspace"));
        assert_eq!(fault(json!({"run": ["make"], "user": "build"})), None);
        assert!(fault(json!({"run": ["make"], "users": "build"})).is_some());
    }
}
