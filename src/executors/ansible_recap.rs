//! What became of a playbook, host by host, read from the lines that our callback plugin writes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::class::{Class, Failure};
use super::classify::classify;
use super::kept::short;

/// More hosts than these are counted, not named.
const HOSTS_MAX: usize = 1000;
/// So many hosts are named in one line for people.
const NAMED: usize = 6;
/// So many hosts are given to later stages.
const OUTPUT_HOSTS: usize = 200;
/// So much is read of the file of events at once, in bytes; no line of it is near as long.
const CHUNK: usize = 64 * 1024;
/// So many characters of what a host said are shown.
const SAID: usize = 140;
/// So many, where it stands among other hosts.
const SAID_AMONG: usize = 60;

/// One line of the plugin. What a kind of event does not have is left out.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Event {
    event: String,
    name: String,
    host: String,
    task: String,
    msg: String,
    /// A truth in a result, a number in the stats; `ignored` too.
    changed: Value,
    ignored: Value,
    ok: u64,
    failures: u64,
    unreachable: u64,
    skipped: u64,
    rescued: u64,
}

/// What became of one host, in tasks.
#[derive(Clone, Debug, Default)]
struct Host {
    ok: u64,
    changed: u64,
    failed: u64,
    unreachable: u64,
    ignored: u64,
    skipped: u64,
    rescued: u64,
    /// The task it failed in last, and what it said.
    said: Option<(String, String)>,
}

/// What became of all.
#[derive(Debug, Default)]
pub(super) struct Recap {
    hosts: BTreeMap<String, Host>,
    unnamed: u64,
    /// How many plays began.
    pub(super) plays: u64,
    /// Whether a play found no host at all.
    pub(super) unmatched: bool,
    tasks: u64,
    task: String,
    /// In the task that runs.
    fine: u64,
    bad: u64,
}

impl Recap {
    /// Takes one line. What is no event of ours is passed over.
    pub(super) fn take(&mut self, line: &str) {
        let Ok(event) = serde_json::from_str::<Event>(line) else { return };
        match event.event.as_str() {
            "play" => self.plays += 1,
            "no_hosts" => self.unmatched = true,
            "task" => {
                self.tasks += 1;
                self.task = short(&event.name, 60);
                (self.fine, self.bad) = (0, 0);
            }
            "ok" | "skipped" | "failed" | "unreachable" => self.result(event),
            "stats" => self.stats(&event),
            _ => {}
        }
    }

    fn host(&mut self, name: &str) -> Option<&mut Host> {
        if !self.hosts.contains_key(name) && self.hosts.len() >= HOSTS_MAX {
            return None;
        }
        Some(self.hosts.entry(short(name, 80)).or_default())
    }

    fn result(&mut self, event: Event) {
        let ignored = event.ignored.as_bool().unwrap_or(false);
        let bad = matches!(event.event.as_str(), "failed" | "unreachable") && !ignored;
        *(if bad { &mut self.bad } else { &mut self.fine }) += 1;
        let Some(host) = self.host(&event.host) else { return };
        match event.event.as_str() {
            "skipped" => host.skipped += 1,
            _ if bad => {
                let count = if event.event == "failed" { &mut host.failed } else { &mut host.unreachable };
                *count += 1;
                host.said = Some((short(&event.task, 60), event.msg));
            }
            _ => {
                host.ok += 1;
                host.ignored += u64::from(ignored);
                host.changed += u64::from(event.changed.as_bool().unwrap_or(false));
            }
        }
    }

    /// Ansible's own numbers at the end: they know what was rescued.
    fn stats(&mut self, event: &Event) {
        let Some(host) = self.host(&event.host) else {
            self.unnamed += 1;
            return;
        };
        host.ok = event.ok;
        host.changed = event.changed.as_u64().unwrap_or(host.changed);
        host.failed = event.failures;
        host.unreachable = event.unreachable;
        host.skipped = event.skipped;
        host.rescued = event.rescued;
        host.ignored = event.ignored.as_u64().unwrap_or(host.ignored);
    }

    /// How it goes, for people; empty before the first task.
    pub(super) fn words(&self) -> String {
        match (self.tasks, self.bad) {
            (0, _) => String::new(),
            (tasks, 0) => format!("task {tasks}/… {}, {} ok", self.task, hosts(self.fine)),
            (tasks, bad) => format!("task {tasks}/… {}, {} ok, {bad} not", self.task, hosts(self.fine)),
        }
    }

    /// Where it is, for a sentence about what was lost: ``in task 3, `install nginx` ``.
    pub(super) fn place(&self) -> String {
        if self.tasks == 0 {
            "before its first task".to_owned()
        } else {
            format!("in task {}, `{}`", self.tasks, self.task)
        }
    }

    /// Whether there is no host at all.
    pub(super) fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// One line for people: each host, the bad ones first, at most six.
    pub(super) fn line(&self) -> String {
        let mut all: Vec<(&String, &Host)> = self.hosts.iter().collect();
        all.sort_by_key(|(_, host)| host.failed == 0 && host.unreachable == 0);
        let named = all.iter().take(NAMED).map(|(name, host)| told(name, host));
        let mut parts: Vec<String> = named.collect();
        let more = all.len().saturating_sub(NAMED) as u64 + self.unnamed;
        if more > 0 {
            parts.push(format!("+{more} more"));
        }
        let mut line = parts.join(" | ");
        let ignored: u64 = self.hosts.values().map(|host| host.ignored).sum();
        if ignored > 0 {
            line.push_str(&format!(" ({ignored} ignored {})", if ignored == 1 { "failure" } else { "failures" }));
        }
        line
    }

    /// What later stages can use: sums over all hosts, in tasks, and the hosts by name.
    pub(super) fn outputs(&self) -> Map<String, Value> {
        let sum = |of: fn(&Host) -> u64| self.hosts.values().map(of).sum::<u64>();
        let mut hosts = Map::new();
        for (name, host) in self.hosts.iter().take(OUTPUT_HOSTS) {
            let Host { ok, changed, failed, unreachable, ignored, skipped, rescued, .. } = host;
            let counts = json!({"ok": ok, "changed": changed, "failed": failed, "unreachable": unreachable,
                "ignored": ignored, "skipped": skipped, "rescued": rescued});
            hosts.insert(name.clone(), counts);
        }
        let all = json!({"ok": sum(|host| host.ok), "changed": sum(|host| host.changed), "failed": sum(|host| host.failed),
            "unreachable": sum(|host| host.unreachable), "ignored": sum(|host| host.ignored), "hosts": hosts});
        all.as_object().cloned().unwrap_or_default()
    }

    /// Why it failed, if a host did: failed tasks before hosts that were not there.
    pub(super) fn failure(&self) -> Option<Failure> {
        let failed: Vec<_> = self.hosts.iter().filter(|(_, host)| host.failed > 0).collect();
        let away: Vec<_> = self.hosts.iter().filter(|(_, host)| host.unreachable > 0).collect();
        let of = |host: &Host| host.said.clone().unwrap_or_default();
        let (class, mut line, more) = if let Some((name, host)) = failed.first() {
            let (task, msg) = of(host);
            let class = classify(&msg, None).class;
            (class, format!("{name} failed at `{task}`: {}", or_unsaid(&msg, SAID)), failed.len() - 1)
        } else {
            let (name, host) = away.first()?;
            let (_, msg) = of(host);
            let said = or_unsaid(&msg, SAID);
            let refused = ["permission denied", "authentication fail", "access denied"];
            let (class, line) = if refused.iter().any(|word| msg.to_lowercase().contains(word)) {
                (Class::Auth, format!("{name} refuses our login: {said}; check the user and the key"))
            } else {
                (Class::InfraLost, format!("{name} cannot be reached: {said}; check that it is up and answers"))
            };
            (class, line, away.len() - 1)
        };
        if more > 0 {
            line.push_str(&format!(" (and {} more)", hosts(more as u64)));
        }
        Some(Failure { class, line, exit: None, world: vec![self.line()] })
    }
}

fn hosts(count: u64) -> String {
    format!("{count} {}", if count == 1 { "host" } else { "hosts" })
}

fn told(name: &str, host: &Host) -> String {
    let (task, msg) = host.said.clone().unwrap_or_default();
    if host.failed > 0 {
        return format!("{name} FAILED at `{task}`: {}", or_unsaid(&msg, SAID_AMONG));
    }
    if host.unreachable > 0 {
        return format!("{name} UNREACHABLE");
    }
    format!("{name} ok={} changed={}", host.ok, host.changed)
}

fn or_unsaid(msg: &str, most: usize) -> String {
    if msg.is_empty() { "it did not say why".to_owned() } else { short(msg, most) }
}

/// Reads the file of events while it grows.
#[derive(Debug)]
pub(super) struct Events {
    path: PathBuf,
    at: u64,
    partial: Vec<u8>,
}

impl Events {
    /// From its first line.
    pub(super) fn new(path: PathBuf) -> Events {
        Events { path, at: 0, partial: Vec::new() }
    }

    /// Gives all whole lines that are new to `recap`.
    pub(super) fn read(&mut self, recap: &mut Recap) {
        let Ok(mut file) = File::open(&self.path) else { return };
        let mut buffer = vec![0; CHUNK];
        loop {
            let read = file.seek(SeekFrom::Start(self.at)).and_then(|_| file.read(&mut buffer)).unwrap_or(0);
            self.at += read as u64;
            for piece in buffer[..read].split_inclusive(|byte| *byte == b'\n') {
                let room = CHUNK.saturating_sub(self.partial.len());
                self.partial.extend_from_slice(&piece[..piece.len().min(room)]);
                if piece.ends_with(b"\n") {
                    let line = std::mem::take(&mut self.partial);
                    recap.take(&String::from_utf8_lossy(&line));
                }
            }
            if read < CHUNK {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recap(lines: &[&str]) -> Recap {
        let mut recap = Recap::default();
        lines.iter().for_each(|line| recap.take(line));
        recap
    }

    #[test]
    fn what_is_no_event_is_passed_over_and_unknown_events_too() {
        let recap =
            recap(&["", "no json", "[1]", "null", r#"{"event":5}"#, r#"{"event":"weather"}"#, r#"{"host":null}"#]);
        assert!(recap.is_empty() && recap.words().is_empty() && recap.failure().is_none());
        assert_eq!(recap.line(), "");
    }

    #[test]
    fn while_it_runs_the_task_and_its_hosts_are_told() {
        let mut recap = recap(&[r#"{"event":"play","name":"all"}"#, r#"{"event":"task","name":"install nginx"}"#]);
        recap.take(r#"{"event":"ok","host":"web1","changed":true}"#);
        assert_eq!(recap.words(), "task 1/… install nginx, 1 host ok");
        recap.take(r#"{"event":"failed","host":"web2","task":"install nginx","msg":"No package"}"#);
        recap.take(r#"{"event":"failed","host":"web3","task":"install nginx","msg":"No package","ignored":true}"#);
        assert_eq!(recap.words(), "task 1/… install nginx, 2 hosts ok, 1 not");
        assert_eq!(
            recap.line(),
            "web2 FAILED at `install nginx`: No package | web1 ok=1 changed=1 | web3 ok=1 changed=0 (1 ignored failure)"
        );
    }

    #[test]
    fn a_failure_that_was_rescued_is_none_once_the_stats_are_there() {
        let mut recap = recap(&[r#"{"event":"failed","host":"web1","task":"try","msg":"no"}"#]);
        assert_eq!(recap.failure().unwrap().line, "web1 failed at `try`: no");
        recap.take(r#"{"event":"stats","host":"web1","ok":2,"changed":1,"failures":0,"unreachable":0,"rescued":1,"ignored":0}"#);
        assert!(recap.failure().is_none());
        assert_eq!(recap.line(), "web1 ok=2 changed=1");
        assert_eq!(recap.outputs()["hosts"]["web1"]["rescued"], 1);
    }

    #[test]
    fn of_many_hosts_six_are_named_the_bad_ones_first() {
        let mut recap = Recap::default();
        for host in 0..20 {
            recap.take(&format!(r#"{{"event":"ok","host":"a{host:02}"}}"#));
        }
        recap.take(r#"{"event":"unreachable","host":"z1","msg":"no route"}"#);
        recap.take(r#"{"event":"unreachable","host":"z2","msg":"no route"}"#);
        let line = recap.line();
        assert!(
            line.starts_with("z1 UNREACHABLE | z2 UNREACHABLE | a00 ok=1") && line.ends_with("| +16 more"),
            "{line}"
        );
        let failure = recap.failure().unwrap();
        assert_eq!(failure.class, Class::InfraLost);
        assert_eq!(failure.line, "z1 cannot be reached: no route; check that it is up and answers (and 1 host more)");
    }

    #[test]
    fn a_host_that_refuses_the_login_is_not_a_host_that_is_away() {
        let recap = recap(&[r#"{"event":"unreachable","host":"db","msg":"root@db: Permission denied (publickey)."}"#]);
        let failure = recap.failure().unwrap();
        assert_eq!(failure.class, Class::Auth);
        assert!(failure.line.starts_with("db refuses our login"), "{}", failure.line);
    }
}
