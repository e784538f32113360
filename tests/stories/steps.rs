//! Commands of steps under their supervisor: real processes, on a clock that is real.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use masterchief::contract::{Future, Secret};
use masterchief::executors::{
    About, Class, End, Executors, Failure, Hands, Keeper, Limits, Masker, Settings, Step, StepLog, Supervisor,
    executors, tail,
};
use serde_json::{Map, Value, json};
use tokio::sync::watch;

/// Keeps notes in memory.
#[derive(Clone, Default)]
pub(crate) struct Notes {
    pub(crate) noted: Arc<Mutex<Vec<Value>>>,
    pub(crate) told: Arc<Mutex<Vec<String>>>,
}

impl Keeper for Notes {
    fn note(&self, note: Value) -> Future<Result<(), String>> {
        self.noted.lock().unwrap().push(note);
        Box::pin(async { Ok(()) })
    }

    fn tell(&self, words: String) {
        self.told.lock().unwrap().push(words);
    }
}

/// A step in a folder, with all it needs to run.
pub(crate) struct Bench {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) notes: Notes,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) secrets: Vec<Secret>,
    pub(crate) executors: Executors,
}

impl Bench {
    pub(crate) fn new(settings: &Settings) -> Bench {
        Bench {
            folder: tempfile::tempdir().unwrap(),
            notes: Notes::default(),
            stop: watch::Sender::new(false),
            secrets: Vec::new(),
            executors: executors(settings),
        }
    }

    /// A step that has not begun.
    pub(crate) fn step(&self, settings: Value) -> Step {
        let (workspace, folder) = (self.folder.path().join("workspace"), self.folder.path().join("step"));
        std::fs::create_dir_all(&workspace).unwrap();
        std::fs::create_dir_all(&folder).unwrap();
        Step {
            run: 118,
            stage: "test".to_owned(),
            attempt: 1,
            settings,
            workspace,
            folder,
            env: Vec::new(),
            limits: Limits::default(),
            requester: "ana".to_owned(),
            about: About {
                app: "shop".to_owned(),
                env: "prod".to_owned(),
                sha: "9f3c1e2".to_owned(),
                reference: "v2".to_owned(),
                repo: Some("https://git.example/acme/shop.git".to_owned()),
            },
            noted: self.notes.noted.lock().unwrap().last().cloned(),
            checkpoint: None,
            token: None,
        }
    }

    pub(crate) fn hands(&self) -> Hands {
        let mask = Masker::new(&self.secrets);
        let log = StepLog::open(&self.folder.path().join("step"), mask.clone());
        let supervisor = Supervisor::at(env!("CARGO_BIN_EXE_masterchief"));
        Hands::new(log, mask, supervisor, self.stop.subscribe(), Arc::new(self.notes.clone()))
    }

    pub(crate) async fn run(&self, executor: &str, step: Step) -> End {
        self.executors[executor].run(step, self.hands()).await
    }

    pub(crate) fn log(&self) -> String {
        tail(&self.folder.path().join("step"), 1000).join("\n")
    }
}

pub(crate) fn alive(pid_file: &Path) -> bool {
    let Ok(pid) = std::fs::read_to_string(pid_file) else { return false };
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

/// Waits for what comes by itself.
pub(crate) async fn until(what: &str, mut check: impl FnMut() -> bool) {
    eventually(what, async || check()).await;
}

/// The same, where looking takes its time.
pub(crate) async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    for _ in 0..1200 {
        if check().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{what} did not happen within half a minute");
}

pub(crate) fn done(end: End, bench: &Bench) -> Map<String, Value> {
    let End::Done { outputs, .. } = end else { panic!("{end:?}\n{}", bench.log()) };
    outputs
}

pub(crate) fn failed(end: End) -> Failure {
    let End::Failed(failure) = end else { panic!("{end:?}") };
    failure
}

fn sh(script: &str) -> Value {
    json!(["sh", "-c", script])
}

#[tokio::test]
async fn a_command_writes_its_log_and_its_outputs_and_no_secret_is_in_them() {
    let mut bench = Bench::new(&Settings::default());
    bench.secrets.push(Secret::new("hunter2-of-prod"));
    let mut step = bench.step(sh("printf 'it is hunter2'; sleep 0.2; echo '-of-prod'; echo $TOKEN >&2; \
        echo image=shop:7 >> $MC_OUTPUT; echo failed=0 >> $MC_OUTPUT; echo 'summary=412 passed' >> $MC_OUTPUT"));
    step.env.push(("TOKEN".to_owned(), Secret::new("hunter2-of-prod")));
    let End::Done { outputs, summary } = bench.run("shell", step).await else { panic!("{}", bench.log()) };
    assert_eq!((json!(outputs), summary.as_str()), (json!({"image": "shop:7", "failed": 0}), "412 passed"));
    let log = bench.log();
    assert!(log.contains("it is ***\n") && !log.contains("hunter2"), "{log}");
    for entry in std::fs::read_dir(bench.folder.path().join("step")).unwrap().flatten() {
        let text = String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()).into_owned();
        assert!(!text.contains("hunter2"), "{} holds the secret", entry.path().display());
    }
}

#[tokio::test]
async fn a_command_that_fails_or_is_not_there_says_so_in_one_line() {
    let bench = Bench::new(&Settings::default());
    let End::Failed(failure) = bench.run("shell", bench.step(sh("echo it is broken; exit 3"))).await else { panic!() };
    assert_eq!((failure.exit, failure.line.as_str()), (Some(3), "it is broken"));
    let bench = Bench::new(&Settings::default());
    let End::Failed(failure) = bench.run("shell", bench.step(json!(["no-such-program"]))).await else { panic!() };
    assert_eq!(failure.class, Class::Config);
    assert!(failure.line.starts_with("no-such-program is not installed here"), "{}", failure.line);
}

#[tokio::test]
async fn stopping_leaves_no_process_behind_wherever_it_hides_and_whatever_it_ignores() {
    let bench = Bench::new(&Settings::default());
    let pids = bench.folder.path().to_owned();
    let script = format!(
        "trap '' TERM; (setsid sh -c 'trap \"\" TERM; echo $$ > {0}/hidden; sleep 300' &) ; echo $$ > {0}/shown; while :; do sleep 1; done",
        pids.display()
    );
    let mut settings = json!({"run": ["sh", "-c", script], "grace": "300ms"});
    settings["cwd"] = json!(".");
    let (step, hands) = (bench.step(settings), bench.hands());
    let running = tokio::spawn(bench.executors["shell"].run(step, hands));
    until("the start of both", || alive(&pids.join("hidden")) && alive(&pids.join("shown"))).await;
    bench.stop.send_replace(true);
    assert_eq!(running.await.unwrap(), End::Stopped);
    assert!(!alive(&pids.join("hidden")) && !alive(&pids.join("shown")));
}

#[tokio::test]
async fn what_is_interrupted_is_asked_once_also_if_it_closes_its_output_first() {
    let bench = Bench::new(&Settings::default());
    let heard = bench.folder.path().join("heard");
    let script = format!(
        r#"
import os, signal, time
def asked(*_):
    with open("{0}.asked", "a") as file: file.write("x\n")
    for output in (1, 2):
        try: os.close(output)
        except OSError: pass
signal.signal(signal.SIGINT, asked)
open("{0}", "w").close()
while not os.path.exists("{0}.asked"): time.sleep(0.05)
time.sleep(1.5)
"#,
        heard.display()
    );
    // A shell loses a signal that comes while it starts a command.
    let settings = json!({"run": ["python3", "-c", script], "interrupt": true, "grace": "20s"});
    let running = tokio::spawn(bench.executors["shell"].run(bench.step(settings), bench.hands()));
    until("the start", || heard.exists()).await;
    bench.stop.send_replace(true);
    assert_eq!(running.await.unwrap(), End::Stopped);
    let asked = std::fs::read_to_string(heard.with_extension("asked")).unwrap();
    assert_eq!(asked, "x\n", "a second time would make it leave everything as it is");
}

#[tokio::test]
async fn what_a_command_leaves_in_the_background_ends_with_it() {
    let bench = Bench::new(&Settings::default());
    let pid = bench.folder.path().join("pid");
    let script = format!("(setsid sleep 300 & echo $! > {}) ; echo done", pid.display());
    assert!(matches!(bench.run("shell", bench.step(sh(&script))).await, End::Done { .. }));
    assert!(!alive(&pid));
}

#[tokio::test]
async fn a_bot_that_starts_again_finds_the_command_or_how_it_ended() {
    let bench = Bench::new(&Settings::default());
    let script = sh("echo once >> log-of-it; sleep 0.7; echo n=1 >> $MC_OUTPUT");
    let first = tokio::spawn(bench.executors["shell"].run(bench.step(script.clone()), bench.hands()));
    let begun = bench.folder.path().join("workspace/log-of-it");
    until("the start", || begun.exists()).await;
    // As if the bot had died: nobody waits for it any more.
    first.abort();
    let End::Done { outputs, .. } = bench.run("shell", bench.step(script.clone())).await else { panic!() };
    assert_eq!(json!(outputs), json!({"n": 1}));
    // And once more after its end.
    assert!(matches!(bench.run("shell", bench.step(script)).await, End::Done { .. }));
    assert_eq!(std::fs::read_to_string(begun).unwrap(), "once\n");
}

#[tokio::test]
async fn a_supervisor_that_is_killed_loses_the_command_and_nothing_runs_on() {
    let bench = Bench::new(&Settings::default());
    let pid = bench.folder.path().join("pid");
    let script = format!("echo $$ > {}; exec sleep 300", pid.display());
    let running = tokio::spawn(bench.executors["shell"].run(bench.step(sh(&script)), bench.hands()));
    until("the start", || alive(&pid)).await;
    let note: Value =
        serde_json::from_slice(&std::fs::read(bench.folder.path().join("step/main.pid")).unwrap()).unwrap();
    std::process::Command::new("kill").args(["-9", &note["supervisor"].to_string()]).status().unwrap();
    let End::Failed(failure) = running.await.unwrap() else { panic!() };
    assert_eq!(failure.class, Class::InfraLost);
    assert!(!alive(&pid));
}

#[tokio::test]
async fn a_command_that_takes_too_much_memory_is_killed_and_called_so() {
    let bench = Bench::new(&Settings::default());
    let mut step = bench.step(json!(["python3", "-c", "x = bytearray(400_000_000)\nimport time\ntime.sleep(60)"]));
    step.limits.memory = Some(100 << 20);
    let End::Failed(failure) = bench.run("shell", step).await else { panic!() };
    assert_eq!(failure.class, Class::Oom);
    assert!(failure.line.contains("100 MiB"), "{}", failure.line);
}

#[tokio::test]
async fn a_command_that_fills_too_much_of_the_disk_is_killed_and_called_so() {
    let bench = Bench::new(&Settings::default());
    // What was there before is not its own.
    let mut step = bench.step(json!([
        "sh",
        "-c",
        "for n in 1 2 3 4 5 6 7 8 9; do head -c 1000000 /dev/zero > $n; done; sleep 60"
    ]));
    std::fs::write(step.workspace.join("before"), vec![1; 6_000_000]).unwrap();
    step.limits.disk = Some(4 << 20);
    // Also where memory is watched, which is looked at more often.
    step.limits.memory = Some(400 << 20);
    let End::Failed(failure) = bench.run("shell", step).await else { panic!("{}", bench.log()) };
    assert_eq!((failure.class, failure.line.contains("4 MiB of the disk")), (Class::DiskFull, true), "{failure:?}");
    // One file alone is stopped by the kernel at once.
    let bench = Bench::new(&Settings::default());
    let mut step = bench.step(json!([
        "python3",
        "-c",
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_DFL); open('big', 'wb').write(bytes(9_000_000))"
    ]));
    step.limits.disk = Some(4 << 20);
    let End::Failed(failure) = bench.run("shell", step).await else { panic!("{}", bench.log()) };
    assert_eq!(failure.class, Class::DiskFull, "{failure:?}");
    // What stays below it is let alone.
    let bench = Bench::new(&Settings::default());
    let mut step = bench.step(json!(["sh", "-c", "head -c 1000000 /dev/zero > a; sleep 1.2"]));
    step.limits.disk = Some(4 << 20);
    assert!(matches!(bench.run("shell", step).await, End::Done { .. }), "{}", bench.log());
}

#[tokio::test]
async fn of_a_log_without_end_the_head_and_the_tail_are_kept() {
    let bench = Bench::new(&Settings::default());
    let script = sh("echo first line; head -c 60000000 /dev/zero | tr '\\0' 'x' | fold -w 99; echo last line");
    assert!(matches!(bench.run("shell", bench.step(script)).await, End::Done { .. }));
    let folder = bench.folder.path().join("step");
    let kept: u64 = std::fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.metadata().unwrap().len()).sum();
    assert!(kept < 20 << 20, "{kept} bytes are kept");
    let text = masterchief::executors::ends(&folder);
    assert!(text.starts_with("first line\n") && text.trim_end().ends_with("last line"));
}

#[tokio::test]
async fn a_command_has_the_rights_of_the_user_it_is_given_and_where_that_cannot_be_people_are_told() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let bench = Bench::new(&Settings::default());
    let user = |name: &str| json!({"run": ["sh", "-c", "id -un; echo of=$USER:$HOME >> $MC_OUTPUT; echo done > deep/file; echo '7' > $MC_CHECKPOINT"], "user": name});
    let failure = failed(bench.run("shell", bench.step(user("nobody-of-this-name"))).await);
    assert!(failure.line.starts_with("shell: user: there is no user nobody-of-this-name"), "{}", failure.line);
    let step = bench.step(user("nobody"));
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        let line = failed(bench.run("shell", step).await).line;
        assert!(line.contains("the bot does not run as root, so it cannot run anything as nobody"), "{line}");
        return;
    }
    let allow = |mode| std::fs::set_permissions(bench.folder.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    allow(0o700);
    let line = failed(bench.run("shell", step).await).line;
    assert!(line.contains("nobody may not enter") && line.contains("chmod o+x"), "{line}");
    allow(0o755);
    // What an earlier stage left is its own now; what a link leads to, or has a name elsewhere too, is not.
    let step = bench.step(user("nobody"));
    let elsewhere = bench.folder.path().join("elsewhere");
    std::fs::write(&elsewhere, "").unwrap();
    std::fs::create_dir(step.workspace.join("deep")).unwrap();
    std::fs::hard_link(&elsewhere, step.workspace.join("hard")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", step.workspace.join("soft")).unwrap();
    let outputs = done(bench.run("shell", step.clone()).await, &bench);
    assert_eq!(outputs["of"], "nobody:/nonexistent");
    assert_eq!(bench.log(), "nobody");
    let owner = |path: &Path| std::fs::metadata(path).unwrap().uid();
    assert_ne!(owner(&step.workspace.join("deep/file")), 0);
    assert_eq!((owner(&elsewhere), owner(Path::new("/etc/passwd"))), (0, 0));
    assert_eq!(std::fs::read_to_string(step.folder.join("checkpoint")).unwrap(), "7\n");
}

#[tokio::test]
async fn a_scan_fails_by_what_its_report_has_and_never_passes_without_one() {
    let scan = async |script: &str, more: Value| {
        let bench = Bench::new(&Settings::default());
        let mut settings = json!({"run": ["sh", "-c", script], "severity": "high"});
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let step = bench.step(settings);
        std::fs::write(step.workspace.join("scan.json"), "{\"high\": 0}").unwrap();
        bench.run("scan", step).await
    };
    let trivy = |severity: &str| {
        let found = json!({"SchemaVersion": 2, "Results": [{"Vulnerabilities": [
            {"VulnerabilityID": "CVE-1", "PkgName": "ssl", "Severity": severity}]}]});
        format!("echo '{found}'; exit 1")
    };
    let End::Done { outputs, summary } = scan(&trivy("LOW"), json!({})).await else { panic!() };
    assert_eq!((summary.as_str(), &outputs["low"]), ("0 critical, 0 high, 1 low", &json!(1)));
    let failure = failed(scan(&trivy("CRITICAL"), json!({})).await);
    assert_eq!((failure.line.as_str(), failure.exit), ("1 critical, 0 high: CVE-1 in ssl", Some(1)));
    let report = json!({"report": "scan.json"});
    let end = scan("echo looking; echo '{\"high\": 2}' > scan.json", report.clone()).await;
    assert_eq!(failed(end).line, "0 critical, 2 high");
    // The one that was there before is of another scan.
    let line = failed(scan("echo fine", report.clone()).await).line;
    assert!(line.starts_with("scan.json is no report that can be counted"), "{line}");
    let failure = failed(scan("echo 'fatal: Connection refused'; exit 2", report).await);
    assert_eq!((failure.class, failure.exit), (Class::Network, Some(2)));
}
