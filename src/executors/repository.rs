//! What git tells of a repository without a checkout: the commit of a name, what lies between two commits, and why git was refused.
//!
//! Facts: git-ls-remote(1), git-fetch(1), git-config(1) (`GIT_CONFIG_COUNT`, `http.<url>.extraHeader`, `protocol.allow`),
//! git-check-ref-format(1).

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use masterchief_contract::Secret;
use serde::Serialize;

use super::apart::apart;
use super::class::{Class, Failure};
use super::gitname::{SAID_MAX, is_sha, is_short, patterns, pick, place, ref_fault, repo_fault, tip, unknown};
use super::local::{Command, LocalShell, Output};
use super::{ExecFault, Shell};

/// Of commits and of files at most so many are listed.
const CHANGES_MAX: usize = 1000;
/// How long a mirror may take to be brought up to date.
const MIRROR: Duration = Duration::from_secs(2 * 3600);
/// How long git may take for what it does on this machine alone.
const LOCAL: Duration = Duration::from_secs(60);
/// What every git of ours is told: nothing of the repository's is run, nothing is left in the background, and a line that
/// stands still for a minute is given up.
const ALWAYS: &[&str] = &[
    "protocol.ext.allow=never",
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "gc.autoDetach=false",
    "maintenance.autoDetach=false",
    "advice.detachedHead=false",
    "http.lowSpeedLimit=100",
    "http.lowSpeedTime=60",
];

/// What git says when it is refused: the class, signs of it, and how the sentence about the repository goes on.
const COMPLAINTS: &[(Class, &[&str], &str)] = &[
    (Class::Auth, &["Host key verification failed"], "does not show a known host key; add its key to known_hosts"),
    (
        Class::Auth,
        &[
            "Authentication failed",
            "could not read Username",
            "could not read Password",
            "Permission denied (",
            "error: 401",
            "error: 403",
            "HTTP 401",
            "HTTP 403",
        ],
        "lets us not in; see the variable GIT_TOKEN or the key of the stage",
    ),
    (Class::DiskFull, &["No space left on device"], "does not fit on this disk; make room"),
    (Class::Config, &["dubious ownership"], "belongs to another user; add it to git's safe.directory"),
    (
        Class::Config,
        &["not allowed", "Unable to find remote helper", "remote helper"],
        "is not reached by a transport that is allowed; write https://, ssh:// or a path",
    ),
    (
        Class::Network,
        &["certificate", "SSL_", "gnutls"],
        "shows no certificate that is trusted; see its certificate and ours",
    ),
    (
        Class::Network,
        &[
            "Could not resolve host",
            "Could not resolve proxy",
            "Name or service not known",
            "Temporary failure in name resolution",
        ],
        "is at a host that nobody knows; see the name and the DNS",
    ),
    (
        Class::Network,
        &[
            "Connection refused",
            "Failed to connect",
            "Couldn't connect",
            "Connection timed out",
            "Operation timed out",
            "Network is unreachable",
            "No route to host",
            "unable to connect",
        ],
        "cannot be reached; see whether its host is up",
    ),
    (
        Class::Config,
        &[
            "does not appear to be a git repository",
            "' not found",
            "does not exist",
            "Repository not found",
            "error: 404",
            "not a git repository",
        ],
        "is not a repository that we can see; see its address and our rights",
    ),
    (
        Class::Network,
        &[
            "early EOF",
            "RPC failed",
            "hung up unexpectedly",
            "Connection reset",
            "Operation too slow",
            "unexpected disconnect",
            "Recv failure",
            "error: 50",
        ],
        "broke off; try again",
    ),
];

/// A commit that a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The whole hash in lower case.
    pub sha: String,
}

/// What lies between two commits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// The commits, the newest first; at most 1000.
    pub commits: Vec<Commit>,
    /// The files that differ, by their paths; at most 1000.
    pub files: Vec<String>,
}

/// A commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Commit {
    /// The whole hash.
    pub sha: String,
    /// Who wrote it.
    pub author: String,
    /// The first line of its message.
    pub subject: String,
    /// When it was made, in Unix milliseconds.
    pub at: Option<i64>,
}

/// Asks a repository which commit a branch, a tag or `HEAD` stands for; `env` may hold `GIT_TOKEN` (and `GIT_USER`). A whole
/// hash is given back as it is: only a fetch can tell whether it is there.
pub async fn resolve(
    repo: &str,
    reference: &str,
    env: &[(String, Secret)],
    timeout: Duration,
) -> Result<Resolved, Failure> {
    if let Some(fault) = repo_fault(repo).or_else(|| ref_fault(reference)) {
        return Err(Failure::new(Class::Config, fault));
    }
    if is_sha(reference) {
        return Ok(Resolved { sha: reference.to_ascii_lowercase() });
    }
    let patterns = patterns(reference);
    let mut args = vec!["ls-remote", "--", repo];
    args.extend(patterns.iter().map(String::as_str));
    let listing = ask(repo, &args, env, timeout).await?;
    if let Some(named) = pick(&listing, reference) {
        return Ok(Resolved { sha: named.sha });
    }
    let all = ask(repo, &["ls-remote", "--heads", "--tags", "--refs", "--", repo], env, timeout).await?;
    match is_short(reference).then(|| tip(&all, reference)).flatten() {
        Some(sha) => Ok(Resolved { sha }),
        None => Err(unknown(repo, reference, &all)),
    }
}

/// Keeps a bare copy of all branches and tags of a repository in `folder`, which is made if it is not there. Two at once on one
/// folder take turns.
pub async fn mirror(repo: &str, folder: &Path, env: &[(String, Secret)]) -> Result<(), Failure> {
    if let Some(fault) = repo_fault(repo) {
        return Err(Failure::new(Class::Config, fault));
    }
    let path = whole(folder);
    let kept =
        |fault: std::io::Error| Failure::new(Class::Config, format!("the mirror {path} cannot be kept: {fault}"));
    std::fs::create_dir_all(folder).map_err(kept)?;
    let lock = std::fs::File::create(folder.join("masterchief.lock")).map_err(kept)?;
    let waiting = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await;
    let _turn = waiting.map_err(std::io::Error::other).and_then(|locked| locked).map_err(kept)?;
    ask(repo, &["init", "--quiet", "--bare", "--", &path], env, LOCAL).await?;
    // Locks in it are of somebody who is dead: it is our turn.
    let locked = folder.to_owned();
    apart(move || unlock(&locked)).await;
    let all = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];
    let mut args = vec!["-C", &path, "fetch", "--quiet", "--prune", "--force", "--no-auto-maintenance", "--", repo];
    args.extend(all);
    ask(repo, &args, env, MIRROR).await.map(drop)
}

/// What lies between two commits (or names of a clone), from a clone on this machine, bare or not: the commits of `to` that are
/// not in `from`, and the files that differ between both.
pub async fn changes(clone: &Path, from: &str, to: &str) -> Result<Changes, Failure> {
    let path = whole(clone);
    let mut ends = Vec::new();
    for name in [from, to] {
        if let Some(fault) = ref_fault(name) {
            return Err(Failure::new(Class::Config, fault));
        }
        let commit = format!("{name}^{{commit}}");
        let args = ["-C", &path, "rev-parse", "--verify", "--quiet", "--end-of-options", &commit];
        let found = run(&path, &args, &[], LOCAL).await?;
        let sha = String::from_utf8_lossy(&found.stdout).trim().to_owned();
        if found.code != Some(0) || !is_sha(&sha) {
            let line = format!("the commit {name} is not in this clone; fetch it first, and not with a depth");
            return Err(Failure::new(Class::Config, line));
        }
        ends.push(sha);
    }
    let (range, most) = (format!("{}..{}", ends[0], ends[1]), format!("--max-count={CHANGES_MAX}"));
    let format = "--format=%H%x00%an%x00%ct%x00%s";
    let log = ["-C", &path, "log", "--no-show-signature", "--encoding=UTF-8", &most, format, &range, "--"];
    let log = ask(&path, &log, &[], LOCAL).await?;
    let commits = log.lines().filter_map(|line| {
        let mut fields = line.splitn(4, '\0').map(ToOwned::to_owned);
        let (sha, author) = (fields.next()?, fields.next()?);
        let at = fields.next()?.parse::<i64>().ok().map(|seconds| seconds.saturating_mul(1000));
        Some(Commit { sha, author, at, subject: fields.next()? })
    });
    let commits = commits.take(CHANGES_MAX).collect();
    let diff = ["-C", &path, "diff", "--name-only", "--no-renames", "--no-ext-diff", "-z", &ends[0], &ends[1], "--"];
    let diff = ask(&path, &diff, &[], LOCAL).await?;
    let files = diff.split('\0').filter(|file| !file.is_empty()).take(CHANGES_MAX).map(ToOwned::to_owned).collect();
    Ok(Changes { commits, files })
}

/// The tag that a commit of a clone has; of several the newest by version.
pub async fn tag(clone: &Path, sha: &str) -> Option<String> {
    let path = whole(clone);
    let args = ["-C", &path, "tag", "--points-at", sha, "--sort=-version:refname"];
    let tags = ask(&path, &args, &[], LOCAL).await.ok().filter(|_| is_sha(sha))?;
    tags.lines().next().map(ToOwned::to_owned)
}

/// A path as it is from anywhere.
fn whole(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// Runs git and gives what it printed, or why it failed.
async fn ask(repo: &str, args: &[&str], env: &[(String, Secret)], timeout: Duration) -> Result<String, Failure> {
    let output = run(repo, args, env, timeout).await?;
    match output.code {
        Some(0) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        code => Err(refused(&String::from_utf8_lossy(&output.stderr), repo).exit(code.unwrap_or(-1))),
    }
}

async fn run(repo: &str, args: &[&str], env: &[(String, Secret)], timeout: Duration) -> Result<Output, Failure> {
    let mut all: Vec<(String, String)> =
        env.iter().map(|(name, value)| (name.clone(), value.reveal().to_owned())).collect();
    all.extend(environment(repo, env).into_iter().map(|(name, value)| (name, value.reveal().to_owned())));
    let argv = argv(args.iter().copied());
    let command = Command { argv, stdin: None, env: all, cwd: Some("/".to_owned()), timeout };
    LocalShell.run(command).await.map_err(|ExecFault(fault)| {
        if fault.starts_with("killed") {
            let line = format!("{} did not answer git within {timeout:?}; see whether it is reachable", place(repo));
            return Failure::new(Class::Timeout, line);
        }
        Failure::new(Class::Config, format!("git could not be started ({fault}); install git"))
    })
}

/// The command line of a git of ours.
pub(super) fn argv<'a>(args: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let always = ALWAYS.iter().flat_map(|setting| ["-c", setting]);
    ["git"].into_iter().chain(always).chain(args).map(ToOwned::to_owned).collect()
}

/// Variables for a git of ours: it never asks, speaks English, and has its token in a header for the repository's own host only.
pub(super) fn environment(repo: &str, env: &[(String, Secret)]) -> Vec<(String, Secret)> {
    let mut out =
        vec![("GIT_TERMINAL_PROMPT".to_owned(), "0"), ("GIT_ASKPASS".to_owned(), ""), ("LC_ALL".to_owned(), "C")]
            .into_iter()
            .map(|(name, value)| (name, Secret::new(value)))
            .collect::<Vec<_>>();
    let told = |name: &str| env.iter().rev().find(|(one, _)| one == name).map(|(_, value)| value.reveal());
    if told("GIT_SSH_COMMAND").is_none() {
        out.push(("GIT_SSH_COMMAND".to_owned(), Secret::new("ssh -o BatchMode=yes")));
    }
    let (Some(token), Some(root)) = (told("GIT_TOKEN").filter(|token| !token.is_empty()), http_root(repo)) else {
        return out;
    };
    let user = told("GIT_USER").unwrap_or("x-access-token");
    let header = format!("Authorization: Basic {}", STANDARD.encode(format!("{user}:{token}")));
    let count = told("GIT_CONFIG_COUNT").and_then(|count| count.parse::<u32>().ok()).unwrap_or(0);
    out.push((format!("GIT_CONFIG_KEY_{count}"), Secret::new(format!("http.{root}.extraHeader"))));
    out.push((format!("GIT_CONFIG_VALUE_{count}"), Secret::new(header)));
    out.push(("GIT_CONFIG_COUNT".to_owned(), Secret::new((count + 1).to_string())));
    out
}

/// `https://host:port/` of a repository that is reached over HTTP.
fn http_root(repo: &str) -> Option<String> {
    let (scheme, rest) = repo.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let host = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    matches!(scheme.as_str(), "http" | "https").then(|| format!("{scheme}://{host}/"))
}

/// What git's complaints mean, in one sentence.
pub(super) fn refused(text: &str, repo: &str) -> Failure {
    let repo = place(repo);
    for (class, signs, sentence) in COMPLAINTS {
        if signs.iter().any(|sign| text.contains(sign)) {
            return Failure::new(*class, format!("{repo} {sentence}"));
        }
    }
    let lines = || text.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let said = lines().find(|line| line.starts_with("fatal:") || line.starts_with("error:")).or_else(|| lines().next());
    let said: String = said.unwrap_or("it says nothing").chars().take(SAID_MAX).collect();
    Failure::new(Class::Unknown, format!("git failed with {repo}: {said}"))
}

/// Removes what a git that was killed left as a sign that it works.
pub(super) fn unlock(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && name != "objects" {
            unlock(&path);
        } else if kind.is_file() && path.extension().is_some_and(|end| end == "lock") && name != "masterchief.lock" {
            // One that cannot be removed is what git will complain of.
            let _ = std::fs::remove_file(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_for_the_host_of_the_repository_only_and_never_in_the_command_line() {
        let env = [("GIT_TOKEN".to_owned(), Secret::new("hunter2")), ("GIT_CONFIG_COUNT".to_owned(), Secret::new("2"))];
        let told = environment("https://git.example:8443/team/shop.git", &env);
        let value = |name: &str| told.iter().find(|(one, _)| one == name).map(|(_, value)| value.reveal().to_owned());
        assert_eq!(value("GIT_CONFIG_KEY_2").as_deref(), Some("http.https://git.example:8443/.extraHeader"));
        let header = format!("Authorization: Basic {}", STANDARD.encode("x-access-token:hunter2"));
        assert_eq!((value("GIT_CONFIG_VALUE_2"), value("GIT_CONFIG_COUNT").as_deref()), (Some(header), Some("3")));
        assert!(environment("git@git.example:shop", &env).iter().all(|(name, _)| !name.starts_with("GIT_CONFIG")));
    }

    #[test]
    fn what_git_complains_of_has_a_class_and_a_sentence() {
        let class = |text: &str| refused(text, "https://git.example/shop").class;
        assert_eq!(class("fatal: unable to access 'x': Could not resolve host: git.example"), Class::Network);
        assert_eq!(class("fatal: unable to access 'x': The requested URL returned error: 403"), Class::Auth);
        assert_eq!(class("fatal: could not read Username for 'x': terminal prompts disabled"), Class::Auth);
        assert_eq!(
            class("git@x: Permission denied (publickey).\nfatal: Could not read from remote repository."),
            Class::Auth
        );
        assert_eq!(class("remote: Not Found\nfatal: repository 'x' not found"), Class::Config);
        assert_eq!(class("error: RPC failed; curl 56\nfatal: early EOF"), Class::Network);
        let failure = refused("noise\nfatal: it is odd\nmore noise", "/srv/shop");
        assert_eq!(
            (failure.class, failure.line.as_str()),
            (Class::Unknown, "git failed with /srv/shop: fatal: it is odd")
        );
    }
}
