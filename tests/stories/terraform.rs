//! Plans and their applies: with the real `terraform` (1.4 or later, for `terraform_data`) where it is installed, and with a
//! double of OpenTofu for what needs a provider or a shared backend.

use std::path::{Path, PathBuf};

use masterchief::contract::Secret;
use masterchief::executors::{Class, End, Failure, Settings, Step};
use serde_json::{Value, json};

use super::servers::program as tool;
use super::steps::{Bench, until};

/// The real one, if there is one that knows `terraform_data`; without it a story says that it told nothing.
fn real() -> Option<String> {
    let program = tool("terraform").display().to_string();
    let said = std::process::Command::new(&program).args(["version", "-json"]).env("CHECKPOINT_DISABLE", "1").output();
    let version: Value = serde_json::from_slice(&said.map(|said| said.stdout).unwrap_or_default()).unwrap_or_default();
    let mut parts =
        version["terraform_version"].as_str().unwrap_or("0.0").split('.').map(|part| part.parse().unwrap_or(0));
    let modern = (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (1, 4);
    if !modern {
        eprintln!("there is no terraform of 1.4 or later here; this story told nothing");
    }
    modern.then_some(program)
}

/// A bench whose stage works in `infra`, with this configuration.
fn bench(main: &str) -> Bench {
    let bench = Bench::new(&Settings::default());
    let infra = bench.step(json!({})).workspace.join("infra");
    std::fs::create_dir_all(&infra).unwrap();
    std::fs::write(infra.join("main.tf"), main).unwrap();
    bench
}

/// The same with the double, told what to do.
fn double(told: Value) -> Bench {
    let bench = bench("");
    retell(&bench, told);
    bench
}

fn retell(bench: &Bench, told: Value) {
    std::fs::write(infra(bench).join("double.json"), told.to_string()).unwrap();
}

fn infra(bench: &Bench) -> PathBuf {
    bench.folder.path().join("workspace/infra")
}

/// A step with the real program, or with the double as `tofu` in the path.
fn step(bench: &Bench, program: Option<&str>, more: Value) -> Step {
    let mut settings = json!({"dir": "infra"});
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    if let Some(program) = program {
        settings["binary"] = json!(program);
        return bench.step(settings);
    }
    let mut step = bench.step(settings);
    step.env.push(("PATH".to_owned(), Secret::new(path(bench.folder.path()))));
    step
}

/// A path in which the double is `tofu`; it is put below a folder.
pub(crate) fn path(folder: &Path) -> String {
    let bin = folder.join("bin");
    if !bin.exists() {
        use std::os::unix::fs::PermissionsExt;
        std::fs::create_dir_all(&bin).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doubles/terraform.py");
        std::fs::write(bin.join("tofu"), format!("#!/bin/sh\nexec python3 {script} \"$@\"\n")).unwrap();
        std::fs::set_permissions(bin.join("tofu"), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    format!("{}:{}", bin.display(), std::env::var("PATH").unwrap())
}

async fn run(bench: &Bench, program: Option<&str>, more: Value) -> End {
    bench.run("terraform", step(bench, program, more)).await
}

async fn done(bench: &Bench, program: Option<&str>, more: Value) -> (Value, String) {
    match run(bench, program, more).await {
        End::Done { outputs, summary } => (json!(outputs), summary),
        other => panic!("{other:?}\n{}", bench.log()),
    }
}

async fn failed(bench: &Bench, program: Option<&str>, more: Value) -> Failure {
    match run(bench, program, more).await {
        End::Failed(failure) => failure,
        other => panic!("{other:?}\n{}", bench.log()),
    }
}

/// What the engine gives beside the settings once a plan was approved. A new attempt has a new folder.
fn approved(bench: &Bench, outputs: &Value) -> Value {
    let (old, new) = (bench.folder.path().join("step"), bench.folder.path().join("plan"));
    std::fs::rename(&old, &new).unwrap();
    let name = Path::new(outputs["plan_file"].as_str().unwrap()).file_name().unwrap().to_owned();
    json!({"apply_plan": {"file": new.join(name), "sha256": outputs["plan_sha256"]}})
}

fn told(bench: &Bench, words: &str) -> bool {
    bench.notes.told.lock().unwrap().iter().any(|told| told.contains(words))
}

fn calls(bench: &Bench, verb: &str) -> usize {
    let calls = std::fs::read_to_string(infra(bench).join("calls")).unwrap_or_default();
    calls.lines().filter(|call| call.starts_with(verb)).count()
}

/// Whether anything runs that was started for this bench.
fn runs(bench: &Bench) -> bool {
    let home = bench.folder.path().to_owned();
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.into_iter().any(|entry| std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(&home)))
}

/// Ends the supervisor of a job as the kernel might.
fn kill_supervisor(bench: &Bench, job: &str) {
    let note = std::fs::read(bench.folder.path().join(format!("step/{job}.pid"))).unwrap();
    let note: Value = serde_json::from_slice(&note).unwrap();
    std::process::Command::new("kill").args(["-9", &note["supervisor"].to_string()]).status().unwrap();
}

const TWO: &str = "
variable \"size\" { default = \"small\" }
resource \"terraform_data\" \"web\" { input = var.size }
resource \"terraform_data\" \"db\" { input = \"two\" }
";

const SLOW: &str = "
resource \"terraform_data\" \"first\" { input = \"one\" }
resource \"terraform_data\" \"slow\" {
  input      = \"two\"
  depends_on = [terraform_data.first]
  provisioner \"local-exec\" { command = \"echo once >> begun; sleep 2\" }
}
";

#[tokio::test]
async fn a_plan_is_shown_with_its_code_and_exactly_that_plan_is_applied() {
    let Some(program) = real() else { return };
    let bench = bench(TWO);
    let (plan, summary) = done(&bench, Some(&program), json!({})).await;
    let code = plan["plan"].as_str().unwrap();
    assert_eq!(summary, format!("2 add, 0 change, 0 destroy (plan {code})"));
    assert_eq!((code.len(), plan["changes"].as_bool()), (4, Some(true)));
    assert_eq!(plan["resources"], json!(["create terraform_data.db", "create terraform_data.web"]));
    let (outputs, summary) = done(&bench, Some(&program), approved(&bench, &plan)).await;
    assert_eq!(summary, format!("2 added, 0 changed, 0 destroyed (plan {code})"));
    assert_eq!(outputs["applied"], true);
    assert!(told(&bench, "2 of 2 applied: terraform_data."), "{:?}", bench.notes.told.lock().unwrap());
    // What was applied is no longer to do, and its plan is gone.
    assert!(!bench.folder.path().join("plan/plan.tfplan").exists());
    let other = Bench { folder: bench.folder, ..Bench::new(&Settings::default()) };
    std::fs::remove_dir_all(other.folder.path().join("step")).unwrap();
    let (plan, summary) = done(&other, Some(&program), json!({})).await;
    assert_eq!((summary.as_str(), &plan["changes"]), ("no changes", &json!(false)));
}

#[tokio::test]
async fn a_plan_that_is_not_the_one_that_was_approved_is_refused() {
    let bench = double(json!({"changes": [["create", "aws_instance.web"]]}));
    let (plan, _) = done(&bench, None, json!({})).await;
    let approval = approved(&bench, &plan);
    let file = bench.folder.path().join("plan/plan.tfplan");
    std::fs::write(&file, "another plan").unwrap();
    let failure = failed(&bench, None, approval.clone()).await;
    assert_eq!(failure.class, Class::Config);
    assert!(failure.line.starts_with("refused: the plan file is not the one that was approved"), "{}", failure.line);
    std::fs::remove_file(&file).unwrap();
    let failure = failed(&bench, None, approval).await;
    assert_eq!(failure.line, "the saved plan is gone; plan again");
    assert_eq!(calls(&bench, "apply"), 0);
}

#[tokio::test]
async fn what_would_destroy_needs_a_second_flag() {
    let changes = json!([["create", "aws_instance.a"], ["delete", "aws_db.main"], ["replace", "aws_lb.front"]]);
    let told = json!({"changes": changes});
    let failure = failed(&double(told.clone()), None, json!({"apply": "auto"})).await;
    assert_eq!(failure.class, Class::Config);
    let line =
        "the plan would destroy aws_db.main, aws_lb.front; if that is meant, run it again with `allow_destroy: true`";
    assert_eq!(failure.line, line);
    for more in [json!({"allow_destroy": true}), json!({"forbid_destroy": false})] {
        let (plan, summary) = done(&double(told.clone()), None, more).await;
        assert!(summary.starts_with("2 add, 0 change, 2 destroy (plan "), "{summary}");
        assert_eq!(plan["resources"][1], "delete aws_db.main");
    }
    let Some(program) = real() else { return };
    let bench = bench(TWO);
    done(&bench, Some(&program), json!({"apply": "auto"})).await;
    std::fs::write(infra(&bench).join("main.tf"), "").unwrap();
    std::fs::remove_dir_all(bench.folder.path().join("step")).unwrap();
    let bench = Bench { folder: bench.folder, ..Bench::new(&Settings::default()) };
    let failure = failed(&bench, Some(&program), json!({"apply": "auto"})).await;
    assert!(failure.line.starts_with("the plan would destroy terraform_data."), "{}", failure.line);
    assert!(std::fs::read_to_string(infra(&bench).join("terraform.tfstate")).unwrap().contains("terraform_data"));
}

#[tokio::test]
async fn the_holder_of_a_lock_is_named_and_nothing_is_unlocked() {
    let bench = double(json!({"changes": [["create", "a.b"]], "locked": true}));
    let failure = failed(&bench, None, json!({})).await;
    assert_eq!(failure.class, Class::StateLock);
    let begin = "the state is locked by lee@build-7 since 2026-08-22 14:03:09 (lock 9db590f1-b6fe-c5f2-2678-8804f089deba, apply)";
    assert!(failure.line.starts_with(begin), "{}", failure.line);
    assert_eq!(calls(&bench, "force-unlock"), 0);
    let Some(program) = real() else { return };
    let bench = self::bench(SLOW);
    let holder = tokio::spawn(
        bench.executors["terraform"].run(step(&bench, Some(&program), json!({"apply": "auto"})), bench.hands()),
    );
    let begun = infra(&bench).join("begun");
    until("the slow resource", || begun.exists()).await;
    // Another stage in the same folder of the same workspace.
    let mut second = step(&bench, Some(&program), json!({}));
    second.folder = bench.folder.path().join("second");
    std::fs::create_dir_all(&second.folder).unwrap();
    second.noted = None;
    let End::Failed(failure) = bench.run("terraform", second).await else { panic!("{}", bench.log()) };
    assert_eq!(failure.class, Class::StateLock);
    assert!(failure.line.contains("(lock ") && failure.line.contains(", apply)"), "{}", failure.line);
    assert!(matches!(holder.await.unwrap(), End::Done { .. }));
}

#[tokio::test]
async fn a_mistake_in_the_files_names_its_place() {
    let Some(program) = real() else { return };
    let unknown = "resource \"terraform_data\" \"web\" {\n  input = var.nothing\n}\n";
    let failure = failed(&bench(unknown), Some(&program), json!({})).await;
    assert_eq!((failure.class, failure.exit), (Class::Config, Some(1)));
    assert!(
        failure.line.starts_with("Reference to undeclared input variable: ") && failure.line.ends_with("(main.tf:2)"),
        "{}",
        failure.line
    );
    // This one is found before there is a plan, and said in boxes.
    let failure = failed(&bench("resource \"x\" {\n"), Some(&program), json!({})).await;
    assert_eq!(failure.class, Class::Config);
    assert!(failure.line.ends_with("(main.tf:1)"), "{}", failure.line);
}

#[tokio::test]
async fn an_apply_that_fails_says_what_was_done() {
    let changes = json!([["create", "aws_vpc.main"], ["create", "aws_instance.web"], ["create", "aws_lb.front"]]);
    let bench = double(json!({"changes": changes, "fail": "aws_instance.web"}));
    let failure = failed(&bench, None, json!({"apply": "auto"})).await;
    let line = "aws_instance.web: creating EC2 Instance: VcpuLimitExceeded: You have requested more vCPU (main.tf:12)";
    assert_eq!((failure.line.as_str(), failure.exit), (line, Some(1)));
    assert_eq!(failure.world, ["1 of 3 steps were applied; the state knows them"]);
    // The bot is started again before anybody heard of it.
    assert_eq!(failed(&bench, None, json!({"apply": "auto"})).await, failure);
    assert_eq!(calls(&bench, "apply"), 1);
}

#[tokio::test]
async fn who_is_stopped_ends_what_it_is_at_and_keeps_the_state() {
    let changes = json!([["create", "aws_vpc.main"], ["create", "aws_instance.web"]]);
    let bench = double(json!({"changes": changes, "seconds": 1.5}));
    let running =
        tokio::spawn(bench.executors["terraform"].run(step(&bench, None, json!({"apply": "auto"})), bench.hands()));
    until("the apply", || calls(&bench, "apply") == 1).await;
    bench.stop.send_replace(true);
    assert_eq!(running.await.unwrap(), End::Stopped, "{}", bench.log());
    assert!(bench.log().contains("stopped: 1 of 2 steps were applied"), "{}", bench.log());
    assert!(!runs(&bench));
    let Some(program) = real() else { return };
    let bench = self::bench(SLOW);
    let running = tokio::spawn(
        bench.executors["terraform"].run(step(&bench, Some(&program), json!({"apply": "auto"})), bench.hands()),
    );
    until("the slow resource", || infra(&bench).join("begun").exists()).await;
    bench.stop.send_replace(true);
    assert_eq!(running.await.unwrap(), End::Stopped, "{}", bench.log());
    assert!(!runs(&bench));
    let state = std::fs::read_to_string(infra(&bench).join("terraform.tfstate")).unwrap();
    assert!(state.contains("\"first\""), "{state}");
    assert!(!infra(&bench).join(".terraform.tfstate.lock.info").exists(), "its lock is gone with it");
}

#[tokio::test]
async fn an_apply_that_has_to_be_killed_is_for_a_person() {
    let told =
        json!({"changes": [["create", "aws_vpc.main"], ["create", "aws_lb.front"]], "seconds": 30, "stubborn": true});
    let bench = double(told);
    let more = json!({"apply": "auto", "grace": "300ms"});
    let running = tokio::spawn(bench.executors["terraform"].run(step(&bench, None, more), bench.hands()));
    until("the apply", || bench.log().contains("aws_vpc.main: Working...")).await;
    bench.stop.send_replace(true);
    let End::Unsure(words) = running.await.unwrap() else { panic!("{}", bench.log()) };
    assert!(words.contains("it was killed because it did not end when it was stopped"), "{words}");
    assert!(words.contains("create of aws_vpc.main was open"), "{words}");
    assert!(!runs(&bench));
}

#[tokio::test]
async fn a_plan_is_applied_in_the_folder_it_was_made_in_too_and_a_stale_one_is_not() {
    let bench = double(json!({"changes": [["create", "a.b"]]}));
    let (plan, _) = done(&bench, None, json!({})).await;
    let approval = json!({"apply_plan": {"file": plan["plan_file"], "sha256": plan["plan_sha256"]}});
    let (_, summary) = done(&bench, None, approval.clone()).await;
    assert!(summary.starts_with("1 added"), "{summary}");
    // Another plan may not pass for the one that this attempt applied.
    let other = json!({"apply_plan": {"file": plan["plan_file"], "sha256": "00".repeat(32)}});
    let End::Unsure(words) = run(&bench, None, other).await else { panic!() };
    assert!(words.contains("another plan was begun in this attempt"), "{words}");
    let bench = double(json!({"changes": [["create", "a.b"]]}));
    let (plan, _) = done(&bench, None, json!({})).await;
    retell(&bench, json!({"changes": [["create", "c.d"]]}));
    let failure = failed(&bench, None, approved(&bench, &plan)).await;
    assert!(failure.class == Class::Config && failure.line.ends_with("; plan again"), "{failure:?}");
}

#[tokio::test]
async fn a_bot_that_starts_again_finds_the_apply_and_logs_each_line_once() {
    let changes = json!([["create", "aws_vpc.main"], ["create", "aws_instance.web"]]);
    let bench = double(json!({"changes": changes, "seconds": 1.0}));
    let first =
        tokio::spawn(bench.executors["terraform"].run(step(&bench, None, json!({"apply": "auto"})), bench.hands()));
    until("the first resource", || told(&bench, "1 of 2 applied: aws_vpc.main")).await;
    first.abort();
    assert!(first.await.is_err(), "it had ended already");
    let (_, summary) = done(&bench, None, json!({"apply": "auto"})).await;
    assert!(summary.starts_with("2 added, 0 changed, 0 destroyed (plan "), "{summary}");
    // And once more after its end.
    assert_eq!(done(&bench, None, json!({"apply": "auto"})).await.1, summary);
    assert_eq!((calls(&bench, "plan"), calls(&bench, "apply")), (1, 1));
    let log = bench.log();
    for line in ["aws_vpc.main: complete after 1s", "aws_instance.web: complete after 1s", "Apply complete!"] {
        assert_eq!(log.lines().filter(|logged| *logged == line).count(), 1, "{line}\n{log}");
    }
}

#[tokio::test]
async fn an_apply_whose_end_nobody_saw_is_for_a_person_and_never_begun_again() {
    let told_it =
        json!({"changes": [["create", "aws_vpc.main"], ["create", "aws_lb.front"]], "seconds": 1.0, "locks": true});
    let bench = double(told_it);
    std::fs::write(infra(&bench).join("state"), "aws_old.one\n").unwrap();
    let (plan, _) = done(&bench, None, json!({})).await;
    let approval = approved(&bench, &plan);
    let running = tokio::spawn(bench.executors["terraform"].run(step(&bench, None, approval.clone()), bench.hands()));
    until("the first resource", || told(&bench, "1 of 2 applied")).await;
    kill_supervisor(&bench, "apply");
    let End::Unsure(words) = running.await.unwrap() else { panic!("{}", bench.log()) };
    assert!(words.contains("it was lost in the middle, 1 of 2 steps are known to be done"), "{words}");
    assert!(words.contains("; state of 2: +aws_vpc.main"), "{words}");
    assert!(
        words.contains(
            "; locked by lee@build-7 since 2026-08-22 14:03:09 (lock 9db590f1-b6fe-c5f2-2678-8804f089deba, apply)"
        ),
        "{words}"
    );
    assert!(words.ends_with("; plan again (nothing is applied again by itself)"), "{words}");
    assert!(bench.log().contains("in the state now: aws_old.one\nin the state now: aws_vpc.main"), "{}", bench.log());
    assert_eq!(calls(&bench, "force-unlock"), 0);
    assert!(!runs(&bench));
    assert_eq!(run(&bench, None, approval.clone()).await, End::Unsure(words));
    assert_eq!(calls(&bench, "apply"), 1);
    // One that holds no lock says so too.
    let bench = double(json!({"changes": [["create", "aws_vpc.main"], ["create", "aws_lb.front"]], "seconds": 1.0}));
    let (plan, _) = done(&bench, None, json!({})).await;
    let approval = approved(&bench, &plan);
    let running = tokio::spawn(bench.executors["terraform"].run(step(&bench, None, approval.clone()), bench.hands()));
    until("the first resource", || told(&bench, "1 of 2 applied")).await;
    kill_supervisor(&bench, "apply");
    let End::Unsure(words) = running.await.unwrap() else { panic!("{}", bench.log()) };
    assert!(words.contains("; state of 1: +aws_vpc.main; not locked; plan again"), "{words}");
    // The note came to be, and then the machine went down.
    let bench = double(json!({"changes": [["create", "aws_vpc.main"]]}));
    let (plan, _) = done(&bench, None, json!({})).await;
    let approval = approved(&bench, &plan);
    bench.notes.noted.lock().unwrap().push(json!({"phase": "applying", "sha256": plan["plan_sha256"]}));
    let End::Unsure(words) = run(&bench, None, approval).await else { panic!("{}", bench.log()) };
    assert!(words.contains("it is not known whether it began"), "{words}");
    assert_eq!(calls(&bench, "apply"), 0);
}

#[tokio::test]
async fn secrets_are_in_no_argument_no_log_and_no_file_but_the_plan() {
    use std::os::unix::fs::PermissionsExt;
    let mut bench = double(json!({"changes": [["create", "a.b"]], "secret": "value-of-output"}));
    bench.secrets.push(Secret::new("hunter2-of-prod"));
    let more =
        json!({"apply": "auto", "vars": {"token": "hunter2-of-prod"}, "backend_config": {"key": "hunter2-of-prod"}});
    done(&bench, None, more).await;
    let calls = std::fs::read_to_string(infra(&bench).join("calls")).unwrap();
    assert!(
        calls.contains("-var-file=") && calls.contains("-backend-config=") && !calls.contains("hunter2"),
        "{calls}"
    );
    for entry in std::fs::read_dir(bench.folder.path().join("step")).unwrap().flatten() {
        let text = String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()).into_owned();
        let name = entry.path().display().to_string();
        assert!(!text.contains("hunter2") && !text.contains("value-of-output"), "{name} holds a secret");
    }
    let Some(program) = real() else { return };
    let main = "
variable \"token\" { sensitive = true }
resource \"terraform_data\" \"web\" { input = var.token }
output \"token\" {
  value     = var.token
  sensitive = true
}
output \"word\" { value = \"value-of-output\" }
";
    let bench = self::bench(main);
    // A file of the project's own does not win over what the stage says.
    std::fs::write(infra(&bench).join("terraform.tfvars"), "token = \"from the file\"\n").unwrap();
    let (plan, _) = done(&bench, Some(&program), json!({"vars": {"token": "hunter2-of-prod"}})).await;
    let mode = std::fs::metadata(plan["plan_file"].as_str().unwrap()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    done(&bench, Some(&program), approved(&bench, &plan)).await;
    assert!(std::fs::read_to_string(infra(&bench).join("terraform.tfstate")).unwrap().contains("hunter2-of-prod"));
    for folder in ["step", "plan"] {
        for entry in std::fs::read_dir(bench.folder.path().join(folder)).unwrap().flatten() {
            let text = String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()).into_owned();
            assert!(
                !text.contains("hunter2") && !text.contains("value-of-output"),
                "{:?} holds a secret",
                entry.path()
            );
        }
    }
}

#[tokio::test]
async fn a_workspace_that_is_not_there_is_made_and_the_backend_is_told_by_a_file() {
    let Some(program) = real() else { return };
    let bench = bench(&format!("terraform {{\n  backend \"local\" {{}}\n}}\n{TWO}"));
    let state = bench.folder.path().join("states/one.tfstate");
    let more = json!({"workspace": "staging", "apply": "auto", "backend_config": {"path": state, "workspace_dir": bench.folder.path().join("spaces")},
        "var_files": ["big.tfvars"]});
    std::fs::write(infra(&bench).join("big.tfvars"), "size = \"large\"\n").unwrap();
    done(&bench, Some(&program), more).await;
    let state = std::fs::read_to_string(bench.folder.path().join("spaces/staging/terraform.tfstate"));
    let state =
        state.or_else(|_| std::fs::read_to_string(bench.folder.path().join("spaces/staging/one.tfstate"))).unwrap();
    assert!(state.contains("large"), "{state}");
}

#[tokio::test]
async fn a_build_that_cannot_say_it_in_json_is_read_by_its_plan() {
    let changes = json!([["create", "a.b"], ["replace", "c.d"], ["update", "e.f"]]);
    let bench = double(json!({"changes": changes, "old": true, "secret": "value-of-output", "workspaces": []}));
    let (plan, summary) = done(&bench, None, json!({"allow_destroy": true, "workspace": "prod"})).await;
    assert!(summary.starts_with("2 add, 1 change, 1 destroy (plan "), "{summary}");
    assert_eq!(plan["resources"], json!(["create a.b", "replace c.d", "update e.f"]));
    let (_, summary) = done(&bench, None, approved(&bench, &plan)).await;
    assert!(summary.starts_with("2 added, 1 changed, 1 destroyed (plan "), "{summary}");
    for folder in ["step", "plan"] {
        for entry in std::fs::read_dir(bench.folder.path().join(folder)).unwrap().flatten() {
            let text = String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()).into_owned();
            assert!(!text.contains("value-of-output"), "{:?} holds a secret", entry.path());
        }
    }
    // Of an old real one, only outputs can be shown without a provider.
    let old = tool("terraform-0.15");
    if old.is_absolute() {
        let bench = self::bench("output \"word\" {\n  value = \"value-of-output\"\n}\n");
        let (plan, summary) = done(&bench, Some(&old.display().to_string()), json!({})).await;
        assert!(summary.starts_with("only outputs change (plan "), "{summary}");
        let (_, summary) = done(&bench, Some(&old.display().to_string()), approved(&bench, &plan)).await;
        assert!(summary.starts_with("0 added, 0 changed, 0 destroyed (plan "), "{summary}");
        assert!(!bench.log().contains("value-of-output"), "{}", bench.log());
    }
}

#[tokio::test]
async fn what_is_missing_is_said_in_one_sentence() {
    let bench = double(json!({}));
    let mut step = step(&bench, None, json!({}));
    step.env.push(("PATH".to_owned(), Secret::new("/nowhere")));
    let End::Failed(failure) = bench.run("terraform", step).await else { panic!() };
    assert!(
        failure.class == Class::Config && failure.line.starts_with("neither tofu nor terraform is installed here"),
        "{failure:?}"
    );
    let failure = failed(&bench, Some("no-such-tofu"), json!({})).await;
    assert!(
        failure.class == Class::Config && failure.line.starts_with("no-such-tofu is not installed here"),
        "{failure:?}"
    );
    let failure = failed(&bench, None, json!({"dir": "nowhere"})).await;
    assert!(failure.class == Class::Config && failure.line.contains("there is no folder nowhere"), "{failure:?}");
}

#[tokio::test]
async fn what_is_never_applied_is_only_planned() {
    let bench = double(json!({"changes": [["create", "a.b"]]}));
    let (plan, _) = done(&bench, None, json!({"apply": "never"})).await;
    let mut approval = approved(&bench, &plan);
    approval["apply"] = json!("never");
    let failure = failed(&bench, None, approval).await;
    assert!(failure.line.contains("this stage never applies"), "{failure:?}");
    assert_eq!(calls(&bench, "apply"), 0);
}
