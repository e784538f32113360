//! `git`: a checkout of one commit into the workspace.
//!
//! `git: {repo: "https://git.example/shop.git", ref: main}`; also `depth: 1`, `submodules: true`, `into: sub/folder`, `key: path` of
//! an SSH key, and `clean: false` to keep what is not of the repository. A token comes in the stage's variable `GIT_TOKEN`.
//!
//! Where it is the pipeline's own repository and what was asked for, the commit is the one that people were shown, said yes to and
//! approved, wherever its branch has moved since; if it is gone, the step says so.
//!
//! Outputs: `sha`, `short`, `author`, `author_email`, `subject`, `committed_at`, `ref`, `branch` (empty where it is none).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use masterchief_contract::{Future, Secret};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::apart::apart;
use super::class::{Class, Failure};
use super::gitname::{is_local, is_sha, is_short, patterns, pick, ref_fault, repo_fault, unknown};
use super::log::tail;
use super::process::{Job, JobEnd, Out};
use super::repository::{argv, environment, refused, unlock};
use super::settings::Settings;
use super::shell::{finish, is_below};
use super::step::{End, Executor, Hands, Step};

/// Where what was fetched last is kept, so that the next fetch need not begin anew.
const FETCHED: &str = "refs/masterchief/fetched";
/// So many lines of the log are looked at for git's complaints.
const SAID: usize = 20;
/// The longest text about a commit that is handed on.
const TEXT_MAX: usize = 500;
/// So many lines of a listing of names are read.
const NAMES_MAX: usize = 50_000;

/// The executor.
pub(super) fn make(_: &Settings) -> Arc<dyn Executor> {
    Arc::new(Git)
}

struct Git;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    repo: String,
    #[serde(rename = "ref", default = "head")]
    reference: String,
    #[serde(default)]
    depth: Option<u32>,
    #[serde(default)]
    submodules: bool,
    #[serde(default)]
    into: Option<String>,
    #[serde(default)]
    key: Option<PathBuf>,
    #[serde(default = "yes")]
    clean: bool,
}

fn head() -> String {
    "HEAD".to_owned()
}

fn yes() -> bool {
    true
}

fn read(settings: &Value) -> Result<Whole, (&'static str, String)> {
    let whole: Whole = serde_json::from_value(settings.clone()).map_err(|fault| {
        ("", format!("{fault}; write a map with repo, ref, and if need be depth, submodules, into, key, clean"))
    })?;
    // What is in braces is not known yet when a pipeline is read.
    let known = |text: &str| !text.contains('{');
    if let Some(fault) = Some(&whole.repo).filter(|repo| known(repo)).and_then(|repo| repo_fault(repo)) {
        return Err(("repo", fault));
    }
    if let Some(fault) = Some(&whole.reference).filter(|name| known(name)).and_then(|name| ref_fault(name)) {
        return Err(("ref", fault));
    }
    if whole.depth == Some(0) {
        return Err(("depth", "depth 0 fetches nothing; leave it out for all of the history".to_owned()));
    }
    if let Some(into) = whole.into.as_deref().filter(|into| !is_below(into)) {
        return Err(("into", format!("{into:?} leaves the workspace; name a folder in it, without ..")));
    }
    Ok(whole)
}

impl Executor for Git {
    fn check(&self, settings: &Value) -> Vec<(String, String)> {
        read(settings).err().map(|(key, fault)| (key.to_owned(), fault)).into_iter().collect()
    }

    fn run(&self, step: Step, hands: Hands) -> Future<End> {
        Box::pin(async move {
            let whole = match read(&step.settings) {
                Ok(whole) => whole,
                Err((_, fault)) => return End::failed(Class::Config, hands.mask.hide(&format!("git: {fault}"))),
            };
            let end = match Checkout::begin(&step, &hands, &whole).await {
                Ok(checkout) => checkout.run().await.unwrap_or_else(|end| end),
                Err(failure) => End::Failed(failure),
            };
            match end {
                End::Failed(failure) => End::Failed(Failure { line: hands.mask.hide(&failure.line), ..failure }),
                end => end,
            }
        })
    }

    fn repeatable(&self) -> bool {
        true
    }
}

/// A checkout that goes on.
struct Checkout<'a> {
    step: &'a Step,
    hands: &'a Hands,
    whole: &'a Whole,
    folder: PathBuf,
    env: Vec<(String, Secret)>,
    /// Whether there was a clone before this attempt.
    again: bool,
}

impl<'a> Checkout<'a> {
    async fn begin(step: &'a Step, hands: &'a Hands, whole: &'a Whole) -> Result<Checkout<'a>, Failure> {
        let config = |line: String| Failure::new(Class::Config, line);
        if let Some(fault) = repo_fault(&whole.repo).or_else(|| ref_fault(&whole.reference)) {
            return Err(config(format!("git: {fault}")));
        }
        let folder = whole.into.as_ref().map_or_else(|| step.workspace.clone(), |into| step.workspace.join(into));
        let made = std::fs::create_dir_all(&folder).and_then(|()| folder.canonicalize());
        let folder = made.map_err(|fault| config(format!("git: into: the folder cannot be made: {fault}")))?;
        // A link that an earlier checkout brought along may lead anywhere.
        if !step.workspace.canonicalize().is_ok_and(|workspace| folder.starts_with(workspace)) {
            return Err(config("git: into: the folder leads out of the workspace; name another one".to_owned()));
        }
        let mut env = environment(&whole.repo, &step.env);
        if let Some(key) = &whole.key {
            env.retain(|(name, _)| name != "GIT_SSH_COMMAND");
            env.push(("GIT_SSH_COMMAND".to_owned(), Secret::new(ssh(key).map_err(config)?)));
        }
        // Without a clone of its own no repository above is to be found.
        let above = folder.parent().unwrap_or(Path::new("/")).display().to_string();
        env.push(("GIT_CEILING_DIRECTORIES".to_owned(), Secret::new(above)));
        let own = folder.join(".git");
        let again = match step.noted.as_ref().and_then(|note| note.get("again")).and_then(Value::as_bool) {
            Some(again) => again,
            None => {
                let kind = std::fs::symlink_metadata(&own).ok();
                if kind.as_ref().is_some_and(|kind| !kind.is_dir()) {
                    std::fs::remove_file(&own)
                        .map_err(|fault| config(format!("git: .git cannot be replaced: {fault}")))?;
                }
                let again = kind.is_some_and(|kind| kind.is_dir());
                let locked = own.clone();
                apart(move || unlock(&locked)).await;
                hands.note(json!({"again": again})).await?;
                again
            }
        };
        Ok(Checkout { step, hands, whole, folder, env, again })
    }

    async fn run(&self) -> Result<End, End> {
        let repo = self.whole.repo.as_str();
        self.git("init", &["init", "--quiet"]).await?;
        self.git("origin", &["config", "remote.origin.url", repo]).await?;
        let (full, sha) = self.fetch().await?;
        self.hands.tell(format!("checks out {}", short(&sha)));
        self.git("checkout", &["checkout", "--quiet", "--force", "--detach", &sha]).await?;
        if self.again && self.whole.clean {
            self.git("clean", &["clean", "--quiet", "--force", "-d"]).await?;
        }
        if self.whole.submodules {
            self.submodules().await?;
        }
        let format = "--format=%H%n%an%n%ae%n%cI%n%s";
        let told =
            self.git("tell", &["log", "-1", "--no-show-signature", "--encoding=UTF-8", format, &sha, "--"]).await?;
        let text = |at: usize| told.get(at).map_or(String::new(), |line| line.chars().take(TEXT_MAX).collect());
        let branch = full.as_deref().and_then(|full| full.strip_prefix("refs/heads/")).unwrap_or("");
        let mut outputs = Map::new();
        let named = [
            ("sha", sha.clone()),
            ("short", short(&sha).to_owned()),
            ("author", text(1)),
            ("author_email", text(2)),
            ("subject", text(4)),
            ("committed_at", text(3)),
            ("ref", self.whole.reference.clone()),
            ("branch", branch.to_owned()),
        ];
        outputs.extend(named.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))));
        let summary = self.hands.mask.hide(&format!("{} {} ({})", short(&sha), text(4), text(1)));
        self.hands.log.line(&format!("checked out {summary}"));
        Ok(End::Done { outputs, summary })
    }

    /// Fetches what the reference stands for: its whole name, if it is one, and its commit.
    async fn fetch(&self) -> Result<(Option<String>, String), End> {
        let (repo, reference) = (self.whole.repo.as_str(), self.whole.reference.as_str());
        self.hands.tell(format!("fetches {reference}"));
        if is_sha(reference) {
            let sha = reference.to_ascii_lowercase();
            self.fetch_commit(&sha).await?;
            return Ok((None, self.commit(&sha).await?));
        }
        let patterns = patterns(reference);
        let mut asking = vec!["ls-remote", "--", repo];
        asking.extend(patterns.iter().map(String::as_str));
        let listing = self.git("name", &asking).await?.join("\n");
        let named = pick(&listing, reference);
        if let Some(sha) = self.shown()
            && named.as_ref().is_none_or(|named| named.sha != sha)
        {
            return Ok((named.map(|named| named.full), self.as_shown(&sha).await?));
        }
        if let Some(named) = named {
            self.git("fetch", &self.fetching(&[&format!("+{}:{FETCHED}", named.full)], true)).await?;
            return Ok((Some(named.full), self.commit(FETCHED).await?));
        }
        if is_short(reference) {
            self.fetch_all().await?;
            return Ok((None, self.commit(reference).await?));
        }
        let all = self.git("names", &["ls-remote", "--heads", "--tags", "--refs", "--", repo]).await?.join("\n");
        Err(End::Failed(unknown(repo, reference, &all)))
    }

    /// The commit that people were shown, said yes to and approved, where it is what is to be checked out.
    fn shown(&self) -> Option<String> {
        let about = &self.step.about;
        let asked = if about.reference.is_empty() { "HEAD" } else { &about.reference };
        let same = about.repo.as_deref() == Some(&self.whole.repo) && self.whole.reference == asked;
        (same && is_sha(&about.sha)).then(|| about.sha.to_ascii_lowercase())
    }

    /// Fetches what people were shown, though its name stands for another commit by now.
    async fn as_shown(&self, sha: &str) -> Result<String, End> {
        let Whole { repo, reference, .. } = self.whole;
        self.hands.log.line(&format!("{reference} moved meanwhile; {} was shown and is taken", short(sha)));
        self.fetch_commit(sha).await?;
        let kept = self.attempt("there", &["cat-file", "-e", &format!("{sha}^{{commit}}")]).await?;
        if kept.is_err() {
            let line = format!(
                "{repo} has {} no more, which was shown as {reference}; deploy what is there now, and look at it first",
                short(sha)
            );
            return Err(End::failed(Class::Config, line));
        }
        Ok(sha.to_owned())
    }

    /// Fetches a commit by its hash.
    async fn fetch_commit(&self, sha: &str) -> Result<(), End> {
        // Not every server gives a commit that is no branch's; then all is fetched.
        if self.attempt("fetch", &self.fetching(&[&format!("+{sha}:{FETCHED}")], true)).await?.is_err() {
            self.fetch_all().await?;
        }
        Ok(())
    }

    async fn fetch_all(&self) -> Result<(), End> {
        let all = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"];
        self.git("fetch-all", &self.fetching(&all, false)).await.map(drop)
    }

    /// The arguments of a fetch.
    fn fetching(&self, refs: &[&str], shallow: bool) -> Vec<String> {
        let mut args = vec!["fetch".to_owned(), "--quiet".to_owned(), "--force".to_owned()];
        args.extend(["--no-recurse-submodules", "--no-auto-maintenance"].map(ToOwned::to_owned));
        match self.whole.depth.filter(|_| shallow) {
            Some(depth) => args.push(format!("--depth={depth}")),
            None if self.folder.join(".git/shallow").exists() => args.push("--unshallow".to_owned()),
            None => {}
        }
        if !shallow {
            args.push("--prune".to_owned());
        }
        args.extend(["--", &self.whole.repo].into_iter().chain(refs.iter().copied()).map(ToOwned::to_owned));
        args
    }

    /// The commit of a name in the clone.
    async fn commit(&self, name: &str) -> Result<String, End> {
        let commit = format!("{name}^{{commit}}");
        let args = ["rev-parse", "--verify", "--quiet", "--end-of-options", &commit];
        let found = self.attempt("sha", &args).await?.unwrap_or_default();
        match found.first().map(|line| line.trim()).filter(|sha| is_sha(sha)) {
            Some(sha) => Ok(sha.to_owned()),
            None => {
                let Whole { repo, reference, .. } = self.whole;
                let line = format!("{repo} has no one commit {reference}; write a branch, a tag or the whole hash");
                Err(End::failed(Class::Config, line))
            }
        }
    }

    async fn submodules(&self) -> Result<(), End> {
        self.hands.tell("fetches submodules");
        self.git("sync", &["submodule", "--quiet", "sync", "--recursive"]).await?;
        let depth = self.whole.depth.map(|depth| format!("--depth={depth}"));
        // A folder of this machine is nothing that a repository from elsewhere may ask for.
        let files = if is_local(&self.whole.repo) { "protocol.file.allow=always" } else { "protocol.file.allow=never" };
        let mut args = vec!["-c", files, "submodule", "--quiet", "update", "--init", "--recursive", "--force"];
        args.extend(depth.as_deref());
        self.git("submodules", &args).await.map(drop)
    }

    /// Runs a git that must not fail; gives the lines it printed.
    async fn git(&self, name: &'static str, args: &[impl AsRef<str>]) -> Result<Vec<String>, End> {
        self.attempt(name, args).await?.map_err(|code| {
            let text = tail(&self.step.folder, SAID).join("\n");
            End::Failed(refused(&text, &self.whole.repo).exit(code))
        })
    }

    /// Runs a git that may fail; gives the lines it printed, or its exit code.
    async fn attempt(&self, name: &'static str, args: &[impl AsRef<str>]) -> Result<Result<Vec<String>, i32>, End> {
        let job = Job {
            env: self.env.clone(),
            cwd: Some(self.folder.clone()),
            out: Out::Own,
            ..Job::new(name, argv(args.iter().map(AsRef::as_ref)))
        };
        let mut lines = Vec::new();
        let keep = |line: &str| {
            if lines.len() < NAMES_MAX {
                lines.push(line.to_owned());
            }
        };
        match job.run(self.step, self.hands, keep).await {
            JobEnd::Exited(0) => Ok(Ok(lines)),
            JobEnd::Exited(code) => Ok(Err(code)),
            end => Err(finish(end, self.step, |_| End::done())),
        }
    }
}

/// The command that uses a key, as a shell reads it.
fn ssh(key: &Path) -> Result<String, String> {
    if !key.is_file() {
        return Err(format!("git: key: there is no file {}; name an SSH key of this machine", key.display()));
    }
    let quoted = key.display().to_string().replace('\'', r"'\''");
    Ok(format!("ssh -i '{quoted}' -o IdentitiesOnly=yes -o BatchMode=yes"))
}

fn short(sha: &str) -> &str {
    sha.get(..7).unwrap_or(sha)
}
