//! `ansible`: a playbook, run by `ansible-playbook`, told host by host while it runs.
//!
//! `ansible: {playbook: site.yml, inventory: inv/prod, limit: web, tags: [a], skip_tags: [b], extra_vars: {k: v}, check: true,
//! diff: true, user: deploy, forks: 10, vault_password_env: VAULT_PASSWORD}`.
//!
//! Ansible-core has no callback that writes events line by line, so ours lies beside the step and is loaded with it
//! (`ansible_callback.py`). What Ansible prints goes to the log as usual.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::{Future, Secret};
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::ansible_recap::{Events, Recap};
use super::class::{Class, Failure};
use super::classify::classify;
use super::kept::{end_of, note_of, short, write_private};
use super::log::ends;
use super::process::{Job, JobEnd, signal};
use super::settings::Settings;
use super::shell::{finish, is_below};
use super::step::{End, Executor, Hands, Step};

/// Our callback plugin.
const CALLBACK: &str = include_str!("ansible_callback.py");
/// The folder it is put into; nothing else may lie there, for Ansible loads all of it.
const CALLBACKS: &str = "callbacks";
/// The file of events in a step's folder.
const EVENTS: &str = "events";
/// The variable that tells the plugin where that is.
const EVENTS_VARIABLE: &str = "MC_ANSIBLE_EVENTS";
/// The file of extra variables in a step's folder, for as long as the playbook runs.
const EXTRA_VARS: &str = "extra_vars.json";
/// The script that prints the vault's password.
const VAULT: &str = "vault_password";
/// How often the events are looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How long a playbook may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(15);
/// So many characters of Ansible's own complaint are shown.
const SAID: usize = 220;

/// The executor.
pub(super) fn make(_: &Settings) -> Arc<dyn Executor> {
    Arc::new(Ansible)
}

struct Ansible;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    /// In the workspace.
    playbook: String,
    /// A path, or names with a comma behind each: `host1,host2,`.
    inventory: String,
    /// Only these hosts.
    #[serde(default)]
    limit: Option<String>,
    /// Only tasks with one of these.
    #[serde(default)]
    tags: Vec<String>,
    /// No task with one of these.
    #[serde(default)]
    skip_tags: Vec<String>,
    /// Variables that win over all others; they may be secret.
    #[serde(default)]
    extra_vars: Map<String, Value>,
    /// Nothing is changed; it is told what would be.
    #[serde(default)]
    check: bool,
    /// Whether what changes in files is shown in the log.
    #[serde(default)]
    diff: bool,
    /// Who we are on the hosts.
    #[serde(default)]
    user: Option<String>,
    /// So many hosts at a time.
    #[serde(default)]
    forks: Option<u16>,
    /// The variable of the stage that holds the vault's password.
    #[serde(default)]
    vault_password_env: Option<String>,
}

fn read(settings: &Value) -> Result<Written, (&'static str, String)> {
    let written: Written = serde_json::from_value(settings.clone()).map_err(|fault| {
        let keys = "write a map with playbook and inventory, and if need be limit, tags, skip_tags, extra_vars, check, diff, \
            user, forks, vault_password_env";
        ("", format!("{fault}; {keys}"))
    })?;
    if written.playbook.is_empty() || written.playbook.starts_with('-') || !is_below(&written.playbook) {
        return Err((
            "playbook",
            format!("{:?} is not a file in the workspace; name one, without ..", written.playbook),
        ));
    }
    if written.inventory.is_empty() {
        return Err(("inventory", "it is empty; name a file, a folder or hosts (\"web1,web2,\")".to_owned()));
    }
    if written.forks == Some(0) {
        return Err(("forks", "0 hosts at a time would never end; leave it out or name a number".to_owned()));
    }
    let is_name = |name: &str| {
        let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
        name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit())
    };
    if let Some(name) = written.vault_password_env.as_deref().filter(|name| !is_name(name)) {
        return Err((
            "vault_password_env",
            format!("{name:?} is not the name of a variable; write the name, not the password"),
        ));
    }
    Ok(written)
}

impl Executor for Ansible {
    fn check(&self, settings: &Value) -> Vec<(String, String)> {
        read(settings).err().map(|(key, fault)| (key.to_owned(), fault)).into_iter().collect()
    }

    fn run(&self, step: Step, hands: Hands) -> Future<End> {
        Box::pin(async move {
            if let Some(end) = step.noted.as_ref().and_then(end_of) {
                return end;
            }
            let end = match read(&step.settings) {
                Ok(written) => play(&written, &step, &hands).await,
                Err((key, fault)) => {
                    let key = if key.is_empty() { String::new() } else { format!("{key}: ") };
                    End::failed(Class::Config, format!("ansible: {key}{fault}"))
                }
            };
            // Kept first: without the events nobody could say it again.
            let kept = match note_of(&end) {
                Some(note) => hands.note(note).await.is_ok(),
                None => true,
            };
            clear(&step.folder, kept);
            end
        })
    }
}

async fn play(written: &Written, step: &Step, hands: &Hands) -> End {
    let known = written.vault_password_env.as_ref().filter(|name| step.env.iter().all(|(known, _)| known != *name));
    if let Some(name) = known {
        let line = format!("the stage has no variable {name} with the vault's password; add it to `env`");
        return End::failed(Class::Config, line);
    }
    if let Err(fault) = prepare(written, &step.folder) {
        return End::failed(Class::Unknown, format!("files for ansible-playbook cannot be written: {fault}"));
    }
    let job = Job { env: variables(step), grace: GRACE, ..Job::new("main", argv(written, &step.folder)) };
    let mut recap = Recap::default();
    let mut events = Events::new(step.folder.join(EVENTS));
    let end = tokio::select! {
        end = job.run(step, hands, |_| ()) => end,
        never = follow(&mut events, &mut recap, hands, written) => match never {},
    };
    if end == JobEnd::Lost {
        sweep(&step.folder).await;
    }
    events.read(&mut recap);
    told(end, written, &recap, step, hands)
}

/// Ends what a playbook left whose supervisor is dead. Its workers make sessions of their own (since ansible-core 2.19), so they
/// are in no group of ours; but all that they start has the variable with our file in its environment.
async fn sweep(folder: &Path) {
    let mark = format!("{EVENTS_VARIABLE}={}", folder.join(EVENTS).display());
    let has_mark = |pid: i32| {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    };
    for _ in 0..100 {
        let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_string_lossy().parse::<i32>().ok());
        let left: Vec<i32> = pids.filter(|pid| has_mark(*pid)).collect();
        if left.is_empty() {
            return;
        }
        left.into_iter().for_each(|pid| signal(pid, Signal::KILL));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The files that the playbook needs beside its own.
fn prepare(written: &Written, folder: &Path) -> std::io::Result<()> {
    if folder.join("main.pid").exists() {
        // It runs already, or has ended, and read them.
        return Ok(());
    }
    std::fs::create_dir_all(folder.join(CALLBACKS))?;
    std::fs::write(folder.join(CALLBACKS).join("masterchief_events.py"), CALLBACK)?;
    if !written.extra_vars.is_empty() {
        let text = serde_json::to_vec(&written.extra_vars)?;
        write_private(&folder.join(EXTRA_VARS), &text, 0o600)?;
    }
    if let Some(name) = &written.vault_password_env {
        // A script instead of the password itself: that stays in the environment.
        write_private(&folder.join(VAULT), format!("#!/bin/sh\nprintf '%s\\n' \"${name}\"\n").as_bytes(), 0o700)?;
    }
    Ok(())
}

fn clear(folder: &Path, events: bool) {
    for name in [EXTRA_VARS, VAULT].into_iter().chain(events.then_some(EVENTS)) {
        let _ = std::fs::remove_file(folder.join(name));
    }
    let _ = std::fs::remove_dir_all(folder.join(CALLBACKS));
}

fn argv(written: &Written, folder: &Path) -> Vec<String> {
    let mut argv = vec!["ansible-playbook".to_owned(), format!("--inventory={}", written.inventory)];
    let options = [
        ("limit", written.limit.clone()),
        ("tags", Some(written.tags.join(","))),
        ("skip-tags", Some(written.skip_tags.join(","))),
        ("user", written.user.clone()),
        ("forks", written.forks.map(|forks| forks.to_string())),
        ("vault-password-file", written.vault_password_env.as_ref().map(|_| folder.join(VAULT).display().to_string())),
    ];
    for (name, value) in options {
        argv.extend(value.filter(|value| !value.is_empty()).map(|value| format!("--{name}={value}")));
    }
    if !written.extra_vars.is_empty() {
        argv.push(format!("--extra-vars=@{}", folder.join(EXTRA_VARS).display()));
    }
    argv.extend(written.check.then(|| "--check".to_owned()));
    argv.extend(written.diff.then(|| "--diff".to_owned()));
    argv.push(written.playbook.clone());
    argv
}

fn variables(step: &Step) -> Vec<(String, Secret)> {
    let own = |name: &str| step.env.iter().find(|(known, _)| known == name).map(|(_, value)| value.reveal());
    let mut callbacks = step.folder.join(CALLBACKS).display().to_string();
    if let Some(theirs) = own("ANSIBLE_CALLBACK_PLUGINS") {
        callbacks = format!("{callbacks}:{theirs}");
    }
    let mut env = vec![
        ("ANSIBLE_CALLBACK_PLUGINS", callbacks),
        (EVENTS_VARIABLE, step.folder.join(EVENTS).display().to_string()),
        ("ANSIBLE_NOCOLOR", "1".to_owned()),
        ("ANSIBLE_RETRY_FILES_ENABLED", "0".to_owned()),
        // So that the log grows line by line.
        ("PYTHONUNBUFFERED", "1".to_owned()),
    ];
    if own("LC_ALL").is_none() {
        // Ansible refuses to work where letters are not UTF-8.
        env.push(("LC_ALL", "C.UTF-8".to_owned()));
    }
    env.into_iter().map(|(name, value)| (name.to_owned(), Secret::new(value))).collect()
}

/// Reads events and tells of them, for ever.
async fn follow(events: &mut Events, recap: &mut Recap, hands: &Hands, written: &Written) -> Infallible {
    let mode = if written.check { "check mode, " } else { "" };
    let mut last = String::new();
    loop {
        events.read(recap);
        let words = recap.words();
        if words != last {
            hands.tell(format!("{mode}{words}"));
            last = words;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What the end of the playbook means.
fn told(end: JobEnd, written: &Written, recap: &Recap, step: &Step, hands: &Hands) -> End {
    match end {
        JobEnd::Exited(0) if recap.is_empty() && recap.unmatched => {
            let line = "it did nothing: no host matched; check `inventory`, `limit` and the `hosts` of the playbook";
            End::failed(Class::Config, line)
        }
        JobEnd::Exited(0) => {
            let mut summary = hands.mask.hide(&recap.line());
            if written.check {
                summary = format!("check mode, nothing changed: {summary}");
            }
            let mut outputs = recap.outputs();
            outputs.insert("check".to_owned(), Value::from(written.check));
            End::Done { outputs, summary }
        }
        JobEnd::Exited(code) => {
            let failure = recap.failure().unwrap_or_else(|| complaint(step, recap.plays > 0));
            let hide = |text: &String| hands.mask.hide(text);
            let world = failure.world.iter().map(hide).collect();
            End::Failed(Failure { line: hide(&failure.line), world, exit: Some(code), ..failure })
        }
        JobEnd::Lost if !written.check => {
            let hosts = if recap.is_empty() { String::new() } else { format!(" ({})", recap.line()) };
            let line =
                format!("the playbook was lost {}; look at its hosts before you run it again{hosts}", recap.place());
            End::Unsure(hands.mask.hide(&line))
        }
        other => finish(other, step, |_| End::done()),
    }
}

/// What Ansible itself complains about: a playbook that is not one, a vault that stays shut, hosts that are not in the inventory.
fn complaint(step: &Step, began: bool) -> Failure {
    let text = ends(&step.folder);
    let lines: Vec<&str> = text.lines().collect();
    let said = |line: &str| {
        // ansible-core to 2.18 writes the first, later ones write the second.
        line.strip_prefix("ERROR! ").or_else(|| line.strip_prefix("[ERROR]: ")).map(str::to_owned)
    };
    let Some((at, said)) = lines.iter().enumerate().rev().find_map(|(at, line)| Some((at, said(line)?))) else {
        return classify(&text, None);
    };
    let mut line = short(said.trim_end_matches('.'), SAID);
    let workspace = format!("{}/", step.workspace.display());
    if let Some(place) = lines[at..].iter().take(6).find_map(|line| place(line)) {
        line = format!("{line} ({})", place.replace(&workspace, ""));
    }
    let lower = line.to_lowercase();
    let (class, advice) = if lower.contains("attempting to decrypt but no vault secrets") {
        (Class::Config, "; name the variable with the password in `vault_password_env`")
    } else if lower.contains("decryption failed") {
        (
            Class::Auth,
            "; the vault's password does not fit, put the right one into the variable of `vault_password_env`",
        )
    } else if began {
        (classify(&line, None).class, "")
    } else {
        (Class::Config, "")
    };
    Failure::new(class, format!("{line}{advice}"))
}

/// The file and line that a complaint names: `site.yml:3`.
fn place(line: &str) -> Option<String> {
    if let Some(origin) = line.strip_prefix("Origin: ") {
        // File, line and column.
        return Some(origin.rsplit_once(':')?.0.to_owned()).filter(|place| place.len() < SAID);
    }
    let rest = line.strip_prefix("The error appears to be in '")?;
    let (file, rest) = rest.split_once("': line ")?;
    let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some(format!("{file}:{number}")).filter(|place| place.len() < SAID)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_can_never_run_is_refused_with_the_key_that_is_wrong() {
        let fault = |settings: Value| Ansible.check(&settings).into_iter().next();
        assert_eq!(fault(json!({"playbook": "site.yml", "inventory": "inv/{environment}", "check": false})), None);
        let wrong = [
            (json!({"playbook": "../site.yml", "inventory": "inv"}), "playbook", "without .."),
            (json!({"playbook": "--help", "inventory": "inv"}), "playbook", "not a file in the workspace"),
            (json!({"playbook": "site.yml", "inventory": ""}), "inventory", "it is empty"),
            (json!({"playbook": "site.yml"}), "", "missing field `inventory`"),
            (json!({"playbook": "site.yml", "inventory": "inv", "become": true}), "", "unknown field `become`"),
            (json!({"playbook": "site.yml", "inventory": "inv", "forks": 0}), "forks", "never end"),
            (
                json!({"playbook": "s.yml", "inventory": "i", "vault_password_env": "a\";b"}),
                "vault_password_env",
                "name",
            ),
            (json!("site.yml"), "", "write a map"),
        ];
        for (settings, key, words) in wrong {
            let (at, said) = fault(settings.clone()).unwrap();
            assert!(at == key && said.contains(words), "{settings}: {at}: {said}");
        }
    }

    #[test]
    fn an_option_is_one_word_whatever_it_holds_and_variables_are_a_file() {
        let settings = json!({"playbook": "ops/site.yml", "inventory": "a,b,", "limit": "--version", "tags": ["x", "y"],
            "extra_vars": {"token": "s3cret"}, "check": true, "forks": 3, "vault_password_env": "VAULT"});
        let argv = argv(&read(&settings).unwrap(), Path::new("/s"));
        let options = ["--inventory=a,b,", "--limit=--version", "--tags=x,y", "--forks=3"];
        assert_eq!(argv[1..5], options);
        assert_eq!(
            argv[5..],
            ["--vault-password-file=/s/vault_password", "--extra-vars=@/s/extra_vars.json", "--check", "ops/site.yml"]
        );
    }

    #[test]
    fn old_and_new_complaints_name_their_place() {
        assert_eq!(place("Origin: /w/bad.yml:3:7").unwrap(), "/w/bad.yml:3");
        assert_eq!(
            place("The error appears to be in '/w/bad.yml': line 3, column 7, but may").unwrap(),
            "/w/bad.yml:3"
        );
        assert_eq!(place("3     - nmae: x"), None);
    }
}
