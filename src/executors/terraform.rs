//! `terraform`: a plan that is shown, and exactly that plan applied. Works with `tofu`, else with `terraform`.
//!
//! `terraform: {dir: infra, workspace: prod, vars: {size: 3}, var_files: [prod.tfvars], apply: after_approval | auto | never,
//! forbid_destroy: true, allow_destroy: false, backend_config: {bucket: b}, binary: tofu,
//! grace: 60s}`.
//!
//! An approval stands between the plan and its apply, so a stage runs twice: first it plans, and its outputs hold `plan_file` and
//! `plan_sha256`; then it runs with `apply_plan: {file, sha256}` beside its settings and applies that file if it still has that
//! sum. A state that somebody else has locked is never unlocked, and an apply whose end nobody saw is never begun again.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::{Future, Secret};
use serde_json::{Map, Value, json};

use super::apart::apart;
use super::class::{Class, Failure};
use super::kept::{end_of, note_of, write_private};
use super::log::ends;
use super::process::{Ask, Job, JobEnd, Out};
use super::settings::Settings;
use super::shell::finish;
use super::step::{End, Executor, Hands, Step};
use super::terraform_files::{PLAN_MAX, scrub, summed};
use super::terraform_settings::{Apply, Approved, Written, read};
use super::terraform_ui::{Counts, Echo, Ui};

/// The saved plan in a step's folder. It holds values of variables, so only we may read it.
const PLAN: &str = "plan.tfplan";
/// The copy whose sum was looked at, and that is applied.
const APPROVED: &str = "approved.tfplan";
/// The file of variables, while it plans.
pub(super) const VARS: &str = "vars.tfvars.json";
/// The file for the backend, while it is initialised.
const BACKEND: &str = "backend.tfvars.json";
/// How long a plan, and what comes before it, may take to give its lock back.
pub(super) const GRACE: Duration = Duration::from_secs(30);
/// How long an apply may take to end what it is at, and to write the state.
const APPLY_GRACE: Duration = Duration::from_secs(60);
/// What a build without `-json` complains.
const NO_JSON: &str = "flag provided but not defined: -json";

/// The executor.
pub(super) fn make(_: &Settings) -> Arc<dyn Executor> {
    Arc::new(Terraform)
}

struct Terraform;

impl Executor for Terraform {
    fn check(&self, settings: &Value) -> Vec<(String, String)> {
        if settings.get("apply_plan").is_some() {
            // Whoever could name one here could pass by those who approve.
            let fault = "only a plan that was approved is named here, and not by a pipeline; leave it out".to_owned();
            return vec![("apply_plan".to_owned(), fault)];
        }
        read(settings).err().map(|(key, fault)| (key.to_owned(), fault)).into_iter().collect()
    }

    fn run(&self, step: Step, hands: Hands) -> Future<End> {
        Box::pin(async move {
            let end = match read(&step.settings) {
                Ok(written) => match ended(&step, &written) {
                    Some(end) => end,
                    None => work(&written, &step, &hands).await,
                },
                Err((key, fault)) => {
                    let key = if key.is_empty() { String::new() } else { format!("{key}: ") };
                    End::failed(Class::Config, format!("terraform: {key}{fault}"))
                }
            };
            [VARS, BACKEND, APPROVED].iter().for_each(|name| drop(std::fs::remove_file(step.folder.join(name))));
            end
        })
    }
}

/// How this very apply ended, if the bot was restarted after it.
fn ended(step: &Step, written: &Written) -> Option<End> {
    let noted = step.noted.as_ref()?;
    let same = match &written.apply_plan {
        Some(plan) => noted["sha256"].as_str() == Some(&plan.sha256),
        None => written.apply == Apply::Auto,
    };
    end_of(noted).filter(|_| same)
}

async fn work(written: &Written, step: &Step, hands: &Hands) -> End {
    let Some(program) = written.binary.clone().or_else(|| found(step)) else {
        return End::failed(
            Class::Config,
            "neither tofu nor terraform is installed here; install one, or name it with `binary`",
        );
    };
    let dir = step.workspace.join(&written.dir);
    if !dir.is_dir() {
        return End::failed(Class::Config, format!("dir: there is no folder {} in the workspace", written.dir));
    }
    let tool = Tool { program, dir, step, hands, written };
    let done = match &written.apply_plan {
        Some(plan) => tool.apply(plan).await,
        None => match tool.plan().await {
            Ok(planned) if written.apply == Apply::Auto && planned.changes => tool.apply(&planned.saved).await,
            Ok(planned) => Ok(planned.end()),
            Err(end) => Err(end),
        },
    };
    match done {
        Ok(end) => end,
        Err(end) => *end,
    }
}

/// The one that is installed.
fn found(step: &Step) -> Option<String> {
    let own = step.env.iter().rev().find(|(name, _)| name == "PATH").map(|(_, path)| path.reveal().to_owned());
    let path = own.or_else(|| std::env::var("PATH").ok())?;
    let names = ["tofu", "terraform"].into_iter();
    names.map(str::to_owned).find(|name| std::env::split_paths(&path).any(|folder| folder.join(name).is_file()))
}

/// A plan that is saved.
struct Planned {
    saved: Approved,
    counts: Counts,
    changes: bool,
    resources: Vec<String>,
}

impl Planned {
    fn end(self) -> End {
        let Counts { add, change, destroy } = self.counts;
        let mut outputs = json!({"add": add, "change": change, "destroy": destroy, "changes": self.changes,
            "resources": self.resources});
        if !self.changes {
            return End::Done {
                outputs: outputs.as_object().cloned().unwrap_or_default(),
                summary: "no changes".to_owned(),
            };
        }
        let code = code(&self.saved.sha256);
        outputs["plan"] = json!(code);
        outputs["plan_file"] = json!(self.saved.file);
        outputs["plan_sha256"] = json!(self.saved.sha256);
        let summary = if self.counts == Counts::default() {
            format!("only outputs change (plan {code})")
        } else {
            format!("{add} add, {change} change, {destroy} destroy (plan {code})")
        };
        End::Done { outputs: outputs.as_object().cloned().unwrap_or_default(), summary }
    }
}

/// The four characters that people type to approve a plan.
fn code(sha256: &str) -> &str {
    sha256.get(..4).unwrap_or(sha256)
}

/// The program in its folder.
pub(super) struct Tool<'a> {
    pub(super) program: String,
    pub(super) dir: PathBuf,
    pub(super) step: &'a Step,
    pub(super) hands: &'a Hands,
    pub(super) written: &'a Written,
}

/// An end that comes before the work is done.
pub(super) type Early = Box<End>;

fn early(class: Class, line: impl Into<String>) -> Early {
    Box::new(End::failed(class, line))
}

impl Tool<'_> {
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.step.folder.join(name)
    }

    /// Writes what is secret into a file of the step, and gives the option that names it.
    pub(super) fn secret_file(&self, option: &str, name: &str, values: &Map<String, Value>) -> Result<String, Early> {
        let bytes = serde_json::to_vec(values).map_err(|fault| early(Class::Config, fault.to_string()))?;
        let written = write_private(&self.path(name), &bytes, 0o600);
        written.map_err(|fault| {
            early(Class::Unknown, format!("a file for {} cannot be written: {fault}", self.program))
        })?;
        Ok(format!("{option}={}", self.path(name).display()))
    }

    /// Runs it; what it prints goes to the log, or to `ui` and what that lets through.
    async fn job(&self, name: &'static str, args: Vec<String>, grace: Duration, ui: Option<&mut Ui>) -> JobEnd {
        let again = self.path(&format!("{name}.pid")).exists();
        let env = [("TF_IN_AUTOMATION", "1"), ("CHECKPOINT_DISABLE", "1"), ("TF_INPUT", "0")];
        let mut job = Job {
            cwd: Some(self.dir.clone()),
            env: env.map(|(name, value)| (name.to_owned(), Secret::new(value))).into(),
            ask: Ask::Interrupt,
            grace,
            ..Job::new(name, std::iter::once(self.program.clone()).chain(args.iter().cloned()))
        };
        let mut echo = Echo::new(self.hands, again.then_some(self.step.folder.as_path()));
        if !again {
            self.hands.log.line(&format!("$ {} {}", self.program, args.join(" ")));
        }
        let Some(ui) = ui else { return job.run(self.step, self.hands, |_| ()).await };
        job.out = Out::Own;
        let mut last = String::new();
        let end = job.run(self.step, self.hands, |line| {
            if let Some(line) = ui.take(line) {
                echo.line(&line);
            }
            let words = ui.words();
            if words != last {
                self.hands.tell(words.clone());
                last = words;
            }
        });
        let end = end.await;
        let (said, mask) = (self.path(&format!("{name}.out")), self.hands.mask.clone());
        if apart(move || scrub(&said, &mask)).await.is_none() {
            // Rather nothing than secrets.
            let _ = std::fs::remove_file(self.path(&format!("{name}.out")));
        }
        end
    }

    /// What the newest command wrote to the log.
    pub(super) fn said(&self) -> String {
        let log = ends(&self.step.folder);
        let begin = log.rfind(&format!("\n$ {} ", self.program)).unwrap_or(0);
        log.get(begin..).unwrap_or("").to_owned()
    }

    /// What the end of a command means that had to end well.
    fn must(&self, end: JobEnd, mut ui: Ui) -> Result<(), Early> {
        match end {
            JobEnd::Exited(0) => Ok(()),
            JobEnd::Exited(code) => {
                let said = self.said();
                let failure = ui.failure(&self.program).or_else(|| {
                    ui.take_boxes(&said);
                    ui.failure(&self.program)
                });
                let failure = failure.unwrap_or_else(|| super::classify(&said, None));
                let line = self.hands.mask.hide(&failure.line);
                Err(Box::new(End::Failed(Failure { line, exit: Some(code), ..failure })))
            }
            other => Err(Box::new(finish(other, self.step, |_| End::done()))),
        }
    }

    /// Gets the folder ready: providers, the backend, the workspace.
    async fn ready(&self) -> Result<(), Early> {
        let mut args = vec!["init".to_owned(), "-input=false".to_owned(), "-no-color".to_owned()];
        if !self.written.backend_config.is_empty() {
            args.push("-reconfigure".to_owned());
            args.push(self.secret_file("-backend-config", BACKEND, &self.written.backend_config)?);
        }
        self.hands.tell("init");
        self.must(self.job("init", args, GRACE, None).await, Ui::default())?;
        let Some(workspace) = &self.written.workspace else { return Ok(()) };
        let args = |verb: &str| ["workspace", verb, "-no-color", workspace].map(str::to_owned).to_vec();
        let end = self.job("workspace", args("select"), GRACE, None).await;
        if matches!(end, JobEnd::Exited(code) if code != 0) && self.said_of_workspace() {
            return self.must(self.job("workspace-new", args("new"), GRACE, None).await, Ui::default());
        }
        self.must(end, Ui::default())
    }

    /// Whether the workspace is not there yet.
    fn said_of_workspace(&self) -> bool {
        ends(&self.step.folder).contains("doesn't exist")
    }

    async fn plan(&self) -> Result<Planned, Early> {
        self.ready().await?;
        let file = self.path(PLAN);
        if !self.path("plan.pid").exists() {
            // It keeps the rights of a file that is there.
            let made = write_private(&file, b"", 0o600);
            made.map_err(|fault| early(Class::Unknown, format!("the plan cannot be saved: {fault}")))?;
        }
        let mut args = vec!["plan".to_owned(), "-input=false".to_owned(), "-detailed-exitcode".to_owned()];
        args.push(format!("-out={}", file.display()));
        args.extend(self.written.var_files.iter().map(|file| format!("-var-file={file}")));
        if !self.written.vars.is_empty() {
            // The last file wins over those that lie in the folder; variables of the environment would not.
            args.push(self.secret_file("-var-file", VARS, &self.written.vars)?);
        }
        self.hands.tell("plan");
        let mut ui = Ui::default();
        let with_json = args.iter().cloned().chain(["-json".to_owned()]).collect();
        let mut end = self.job("plan", with_json, GRACE, Some(&mut ui)).await;
        if end == JobEnd::Exited(1) && ends(&self.step.folder).contains(NO_JSON) {
            args.push("-no-color".to_owned());
            ui = Ui::default();
            end = self.job("plan-plain", args, GRACE, None).await;
            if end == JobEnd::Exited(2) {
                self.show(&file, &mut ui).await?;
            }
        }
        let changes = end == JobEnd::Exited(2);
        let counts = ui.counts();
        if changes {
            self.refuse_destroy(counts, &ui.destroyed).inspect_err(|_| drop(std::fs::remove_file(&file)))?;
        } else {
            let done = self.must(end, std::mem::take(&mut ui));
            let _ = std::fs::remove_file(&file);
            done?;
        }
        let sha256 = match changes {
            true => summed(&file).await.map_err(|fault| early(Class::Unknown, fault))?.0,
            false => String::new(),
        };
        // They are told as they come, which is another way each time.
        let mut resources: Vec<String> = ui.planned.iter().map(|words| self.hands.mask.hide(words)).collect();
        resources.sort_unstable();
        Ok(Planned { saved: Approved { file, sha256 }, counts, changes, resources })
    }

    /// Reads the plan of a build that cannot say it line by line.
    async fn show(&self, file: &Path, ui: &mut Ui) -> Result<(), Early> {
        let args = vec!["show".to_owned(), "-json".to_owned(), file.display().to_string()];
        let shown = self.path("show.out");
        // Reading may be done again, and what was read may hold secrets, so nothing of it stays.
        let forget = || {
            ["pid", "exit", "out"].iter().for_each(|end| drop(std::fs::remove_file(self.path(&format!("show.{end}")))))
        };
        forget();
        let job = Job {
            cwd: Some(self.dir.clone()),
            out: Out::Own,
            ..Job::new("show", std::iter::once(self.program.clone()).chain(args))
        };
        let end = job.run(self.step, self.hands, |_| ()).await;
        let read = move || {
            let size = std::fs::metadata(&shown).map_or(0, |meta| meta.len());
            if size <= PLAN_MAX { std::fs::read_to_string(&shown).unwrap_or_default() } else { String::new() }
        };
        let text = apart(read).await.unwrap_or_default();
        forget();
        self.must(end, Ui::default())?;
        if !ui.take_plan(&text) {
            return Err(early(Class::Unknown, "the plan cannot be read; use a terraform of 0.15.3 or later"));
        }
        Ok(())
    }

    fn refuse_destroy(&self, counts: Counts, destroyed: &[String]) -> Result<(), Early> {
        if counts.destroy == 0 || !self.written.forbid_destroy || self.written.allow_destroy {
            return Ok(());
        }
        let mut named: Vec<&str> = destroyed.iter().map(String::as_str).collect();
        named.sort_unstable();
        named.truncate(5);
        let more = counts.destroy.saturating_sub(named.len() as u64);
        let mut line = format!("the plan would destroy {}", named.join(", "));
        if more > 0 {
            let _ = write!(line, " and {more} more");
        }
        line.push_str("; if that is meant, run it again with `allow_destroy: true`");
        Err(early(Class::Config, self.hands.mask.hide(&line)))
    }

    /// Applies the plan that was approved, and no other.
    async fn apply(&self, plan: &Approved) -> Result<End, Early> {
        let code = code(&plan.sha256);
        let began = self.path("apply.pid").exists();
        let noted = self.step.noted.as_ref();
        let ours = noted.is_some_and(|note| note["phase"] == "applying" && note["sha256"] == plan.sha256.as_str());
        if began != ours {
            let what = if ours { "it is not known whether it began" } else { "another plan was begun in this attempt" };
            return Ok(self.unsure(code, what, &Ui::default()));
        }
        if !began {
            self.approved(plan).await?;
            self.ready().await?;
            self.remember_state().await;
            let note = json!({"phase": "applying", "sha256": plan.sha256});
            self.hands.note(note).await.map_err(|failure| Box::new(End::Failed(failure)))?;
        }
        let end = self.applied(code, self.path(APPROVED)).await;
        if let Some(mut note) = note_of(&end) {
            note["sha256"] = json!(plan.sha256);
            // What was done is done: if the note is lost, the files still say so.
            if self.hands.note(note).await.is_ok() && matches!(end, End::Done { .. }) {
                let _ = std::fs::remove_file(&plan.file);
            }
        }
        Ok(end)
    }

    /// Looks at the sum of the plan, and keeps a copy that nobody exchanges meanwhile.
    async fn approved(&self, plan: &Approved) -> Result<(), Early> {
        let (sha256, bytes) =
            summed(&plan.file).await.map_err(|fault| early(Class::Config, format!("{fault}; plan again")))?;
        if !sha256.eq_ignore_ascii_case(&plan.sha256) {
            let code = code(&plan.sha256);
            let line = format!("refused: the plan file is not the one that was approved (plan {code}); plan again");
            return Err(early(Class::Config, line));
        }
        let copied = write_private(&self.path(APPROVED), &bytes, 0o600);
        copied.map_err(|fault| early(Class::Unknown, format!("the plan cannot be copied: {fault}")))
    }

    async fn applied(&self, code: &str, file: PathBuf) -> End {
        let file = file.display().to_string();
        let args = |option: &str| ["apply", "-input=false", option, &file].map(str::to_owned).to_vec();
        let grace = self.written.grace.unwrap_or(APPLY_GRACE);
        let mut ui = Ui::default();
        self.hands.tell(format!("applying plan {code}"));
        let mut end = self.job("apply", args("-json"), grace, Some(&mut ui)).await;
        let plain = end == JobEnd::Exited(1) && ends(&self.step.folder).contains(NO_JSON);
        if plain {
            ui = Ui::default();
            end = self.job("apply-plain", args("-no-color"), grace, Some(&mut ui)).await;
        }
        match end {
            JobEnd::Exited(0) => {
                let Counts { add, change, destroy } = ui.counts();
                let outputs = json!({"applied": true, "add": add, "change": change, "destroy": destroy, "plan": code});
                let summary = format!("{add} added, {change} changed, {destroy} destroyed (plan {code})");
                End::Done { outputs: outputs.as_object().cloned().unwrap_or_default(), summary }
            }
            JobEnd::Exited(_) => {
                let world = format!("{} of {} steps were applied; the state knows them", ui.done, ui.total());
                let world = if plain { Vec::new() } else { vec![world] };
                match self.must(end, ui) {
                    Err(end) if matches!(*end, End::Failed(_)) => with_world(*end, world),
                    Err(end) => *end,
                    Ok(()) => End::done(),
                }
            }
            JobEnd::Stopped if ui.busy.is_empty() && !plain => {
                self.hands.log.line(&format!(
                    "stopped: {} of {} steps were applied; the state knows them",
                    ui.done,
                    ui.total()
                ));
                End::Stopped
            }
            JobEnd::Unstarted(failure) => End::Failed(failure),
            JobEnd::Stopped => self.unsure(code, "it was killed because it did not end when it was stopped", &ui),
            JobEnd::Signalled(9) | JobEnd::OutOfMemory | JobEnd::OutOfDisk => {
                self.broken_off(code, "it was killed in the middle", &ui).await
            }
            JobEnd::Signalled(_) | JobEnd::Lost => self.broken_off(code, "it was lost in the middle", &ui).await,
        }
    }

    /// It broke off, and what is left of it can still be looked at.
    async fn broken_off(&self, code: &str, what: &str, ui: &Ui) -> End {
        let End::Unsure(line) = self.unsure(code, what, ui) else { return End::done() };
        let Some(left) = self.left().await else { return End::Unsure(line) };
        let begin = line.split("; look at ").next().unwrap_or(&line);
        End::Unsure(self.hands.mask.hide(&format!("{begin}; {left}; plan again (nothing is applied again by itself)")))
    }

    /// What only a person can tell.
    fn unsure(&self, code: &str, what: &str, ui: &Ui) -> End {
        let mut line = format!("the apply of plan {code} may be half done: {what}");
        if ui.total() > 0 {
            let _ = write!(line, ", {} of {} steps are known to be done", ui.done, ui.total());
        }
        if let Some((address, action)) = ui.busy.first_key_value() {
            let _ = write!(line, ", {action} of {address} was open");
        }
        let (program, dir) = (&self.program, &self.written.dir);
        let _ = write!(
            line,
            "; look at `{program} state list` in {dir}, then plan again (nothing is applied again by itself)"
        );
        End::Unsure(self.hands.mask.hide(&line))
    }
}

fn with_world(end: End, world: Vec<String>) -> End {
    match end {
        End::Failed(failure) => End::Failed(Failure { world, ..failure }),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_may_not_name_a_plan_that_nobody_approved() {
        let settings = json!({"dir": "infra", "apply_plan": {"file": "/tmp/mine", "sha256": "00"}});
        assert_eq!(Terraform.check(&settings)[0].0, "apply_plan");
        assert_eq!(Terraform.check(&json!({"dir": "infra"})), []);
    }
}
