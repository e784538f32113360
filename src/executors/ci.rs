//! `ci`: whether a commit is green where it is built: the status that GitHub, GitLab, Gitea or Forgejo keeps of it.
//!
//! `ci: ci/unit`, or `ci: {status: ci/unit, forge: main, project: acme/shop, commit: "{sha}", wait: 30m, every: 15s}`. Forges stand in
//! `executors.forges`; one that is alone there need not be named. The project is read from the address of the pipeline's repository, the
//! commit is that of the run. As a stage it waits until the status is there and neither queued nor running; a check of an environment
//! looks once.
//!
//! GitHub: "Get the combined status for a specific reference", and "List check runs for a Git reference" where that has none of this
//! name. Gitea and Forgejo: `repoGetCombinedStatusByRef`. GitLab: "List the statuses of a commit".

use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::Future;
use reqwest::Url;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::class::{Class, Failure};
use super::http::{NetHttp, Request, Response};
use super::settings::{Forge, ForgeKind, Settings};
use super::step::{End, Executor, Hands, Step};
use super::{ExecFault, Http};

/// How long a question may take.
const ANSWER: Duration = Duration::from_secs(10);
/// So many statuses are asked for at once; the most that GitHub gives.
const PAGE: &str = "100";
/// So many pages of them are read.
const PAGES: usize = 10;
/// So many times in a row nobody may answer while it waits.
const UNHEARD: u32 = 5;

/// The executor.
pub(super) fn make(settings: &Settings) -> Arc<dyn Executor> {
    Arc::new(Ci { http: Arc::new(NetHttp), settings: Arc::new(settings.clone()) })
}

struct Ci {
    http: Arc<dyn Http>,
    settings: Arc<Settings>,
}

/// The settings as they are written.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    /// The name of the status: `ci/unit`, the name of a check run, of a job.
    status: String,
    /// Which forge; the only one where it is left out.
    #[serde(default)]
    forge: Option<String>,
    /// The project there: `acme/shop`.
    #[serde(default)]
    project: Option<String>,
    /// The commit; the run's where it is left out.
    #[serde(default)]
    commit: Option<String>,
    /// How long to wait for it.
    #[serde(default = "half_an_hour", with = "humantime_serde")]
    wait: Duration,
    /// How often to look meanwhile.
    #[serde(default = "a_quarter", with = "humantime_serde")]
    every: Duration,
}

fn half_an_hour() -> Duration {
    Duration::from_secs(30 * 60)
}

fn a_quarter() -> Duration {
    Duration::from_secs(15)
}

/// What a forge says of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    /// It is good.
    Green,
    /// It is not: in its own word, and where to read more.
    Red(String),
    /// It is not known yet: queued, running.
    Open(String),
    /// There is no such status.
    Nothing,
}

/// Why there is no answer.
enum Silent {
    /// There may be one the next time.
    Now(String),
    /// There never will.
    Ever(Failure),
}

impl Executor for Ci {
    fn check(&self, settings: &Value) -> Vec<(String, String)> {
        let written = match read(settings) {
            Ok(written) => written,
            Err(fault) => return vec![(String::new(), fault)],
        };
        let late = |text: &Option<String>| text.as_ref().is_some_and(|text| text.contains('{'));
        if written.every < Duration::from_secs(1) {
            return vec![("every".to_owned(), "look once a second at most".to_owned())];
        }
        match self.forge(&written) {
            Err(fault) if !late(&written.forge) => vec![("forge".to_owned(), fault)],
            _ => Vec::new(),
        }
    }

    fn run(&self, step: Step, hands: Hands) -> Future<End> {
        let made = read(&step.settings).and_then(|written| {
            let (name, forge) = self.forge(&written)?;
            Ok((Asking::new(&written, name, forge, &step)?, written))
        });
        let http = Arc::clone(&self.http);
        Box::pin(async move {
            match made {
                Ok((asking, written)) => asking.wait(&written, http.as_ref(), &hands).await,
                Err(fault) => End::failed(Class::Config, format!("ci: {fault}")),
            }
        })
    }

    /// It only looked.
    fn undoes(&self) -> bool {
        true
    }

    fn undo(&self, _: Step, _: Hands) -> Future<End> {
        Box::pin(async { End::done() })
    }

    fn works_with_files(&self) -> bool {
        false
    }

    fn repeatable(&self) -> bool {
        true
    }
}

impl Ci {
    /// The forge that is meant, and its name.
    fn forge(&self, written: &Written) -> Result<(String, Forge), String> {
        let forges = &self.settings.forges;
        match &written.forge {
            Some(name) => forges.get_key_value(name).ok_or_else(|| {
                let names: Vec<&str> = forges.keys().map(String::as_str).collect();
                let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                format!("there is no forge {name:?} in executors.forges; there is {known}")
            }),
            None if forges.len() == 1 => forges.first_key_value().ok_or_else(String::new),
            None if forges.is_empty() => {
                Err("who knows how commits fared? write executors.forges, as in main: {kind: github, url: \"https://api.github.com\"}".to_owned())
            }
            None => {
                let names: Vec<&str> = forges.keys().map(String::as_str).collect();
                Err(format!("name one of the forges: {}", names.join(", ")))
            }
        }
        .map(|(name, forge)| (name.clone(), forge.clone()))
    }
}

/// The settings; a text alone is the name of the status.
fn read(settings: &Value) -> Result<Written, String> {
    let settings = match settings {
        Value::String(status) => json!({"status": status}),
        other => other.clone(),
    };
    let written: Written = serde_json::from_value(settings).map_err(|fault| {
        format!("{fault}; write the name of a status, or status, forge, project, commit, wait, every")
    })?;
    if written.status.trim().is_empty() {
        Err("which status? write its name, as in ci/unit".to_owned())
    } else {
        Ok(written)
    }
}

/// `acme/shop` of `https://git.example/acme/shop.git`, `git@git.example:acme/shop.git`, `ssh://git@git.example:22/acme/shop`.
fn project_of(repo: &str) -> Option<String> {
    let path = match (repo.split_once("://"), repo.split_once(':')) {
        (Some(("file", _)), _) => None,
        (Some((_, rest)), _) => rest.split_once('/').map(|(_, path)| path),
        (None, Some((_, path))) => Some(path),
        (None, None) => None,
    }?;
    let path = path.trim_matches('/').trim_end_matches(".git");
    (!path.is_empty()).then(|| path.to_owned())
}

/// A question to a forge.
struct Asking {
    name: String,
    forge: Forge,
    url: Url,
    project: String,
    commit: String,
    status: String,
}

impl Asking {
    fn new(written: &Written, name: String, forge: Forge, step: &Step) -> Result<Asking, String> {
        let project = written.project.clone().or_else(|| project_of(step.about.repo.as_deref()?));
        let project =
            project.ok_or("which project? write project: OWNER/NAME, or give the pipeline a repo with an address")?;
        let commit = written.commit.clone().unwrap_or_else(|| step.about.sha.clone());
        if commit.is_empty() || !commit.chars().all(|c| c.is_ascii_alphanumeric() || "-_./".contains(c)) {
            return Err(format!(
                "{commit:?} is no commit; give the pipeline a repo, or write commit: \"{{stage.sha}}\""
            ));
        }
        let url = Url::parse(&forge.url).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url =
            url.ok_or_else(|| format!("executors.forges.{name}.url is the address of a forge: https://git.example"))?;
        Ok(Asking { name, forge, url, project, commit, status: written.status.clone() })
    }

    /// Waits until the status is there and says how it went.
    async fn wait(&self, written: &Written, http: &dyn Http, hands: &Hands) -> End {
        let until = tokio::time::Instant::now() + written.wait;
        let (mut unheard, mut told) = (0, String::new());
        loop {
            let said = tokio::select! {
                () = hands.stopping() => return End::Stopped,
                said = self.look(http) => said,
            };
            let (line, class) = match said {
                Ok(Said::Green) => {
                    let outputs = Map::from_iter([("status".to_owned(), json!("success"))]);
                    return End::Done { outputs, summary: format!("{} is green", self.status) };
                }
                Ok(Said::Red(how)) => return End::failed(Class::TestFailed, format!("{} {how}", self.what())),
                Ok(Said::Open(how)) => (format!("{} {how}; ask again when it has ended", self.what()), Class::Timeout),
                Ok(Said::Nothing) => {
                    let line =
                        format!("there is no {}; is the commit pushed, and does CI know this name?", self.what());
                    (line, Class::Timeout)
                }
                Err(Silent::Ever(failure)) => {
                    return End::Failed(Failure { line: hands.mask.hide(&failure.line), ..failure });
                }
                Err(Silent::Now(why)) => {
                    unheard += 1;
                    (
                        format!("{} does not answer: {why}; look at its address and whether it runs", self.name),
                        Class::Network,
                    )
                }
            };
            if class != Class::Network {
                unheard = 0;
            }
            let line = hands.mask.hide(&line);
            if tokio::time::Instant::now() + written.every > until || unheard >= UNHEARD {
                return End::failed(class, line);
            }
            if line != told {
                hands.log.line(&line);
                hands.tell(line.split(';').next().unwrap_or("").to_owned());
                told = line;
            }
            if hands.pause(written.every).await {
                return End::Stopped;
            }
        }
    }

    /// `ci/unit of 9f3c1e2`.
    fn what(&self) -> String {
        format!("{} of {}", self.status, self.commit.get(..7).unwrap_or(&self.commit))
    }

    async fn look(&self, http: &dyn Http) -> Result<Said, Silent> {
        match self.forge.kind {
            ForgeKind::Github => match self.combined(http).await? {
                Said::Nothing => self.check_runs(http).await,
                said => Ok(said),
            },
            ForgeKind::Gitea => self.combined(http).await,
            ForgeKind::Gitlab => {
                let path = ["api", "v4", "projects", &self.project, "repository", "commits", &self.commit, "statuses"];
                let told = self.get(http, &path, &[("name", &self.status), ("per_page", PAGE)]).await?;
                let own = told.as_array().into_iter().flatten().filter(|one| one["name"] == self.status.as_str());
                let newest = own.max_by_key(|one| one["id"].as_u64());
                Ok(newest.map_or(Said::Nothing, |one| judge(one["status"].as_str(), &one["target_url"])))
            }
        }
    }

    /// The status of this name among those of the commit. GitHub calls what it says `state`, Gitea `status`.
    async fn combined(&self, http: &dyn Http) -> Result<Said, Silent> {
        let path = self.of_commit("status");
        for page in 1..=PAGES {
            let page = page.to_string();
            let told = self.get(http, &path, &[("per_page", PAGE), ("limit", PAGE), ("page", &page)]).await?;
            let all = told["statuses"].as_array().map(Vec::as_slice).unwrap_or_default();
            if let Some(one) = all.iter().find(|one| one["context"] == self.status.as_str()) {
                return Ok(judge(one["state"].as_str().or(one["status"].as_str()), &one["target_url"]));
            }
            if all.is_empty() {
                break;
            }
        }
        Ok(Said::Nothing)
    }

    /// What GitHub Actions and other apps say of the commit.
    async fn check_runs(&self, http: &dyn Http) -> Result<Said, Silent> {
        let query = [("check_name", self.status.as_str()), ("filter", "latest"), ("per_page", PAGE)];
        let told = self.get(http, &self.of_commit("check-runs"), &query).await?;
        let newest = told["check_runs"].as_array().into_iter().flatten().max_by_key(|one| one["id"].as_u64());
        Ok(newest.map_or(Said::Nothing, |one| {
            judge(one["conclusion"].as_str().or(one["status"].as_str()), &one["html_url"])
        }))
    }

    fn of_commit<'s>(&'s self, what: &'s str) -> Vec<&'s str> {
        let under: &[&str] = if self.forge.kind == ForgeKind::Gitea { &["api", "v1"] } else { &[] };
        under
            .iter()
            .copied()
            .chain(["repos"])
            .chain(self.project.split('/'))
            .chain(["commits", &self.commit, what])
            .collect()
    }

    async fn get(&self, http: &dyn Http, path: &[&str], query: &[(&str, &str)]) -> Result<Value, Silent> {
        let mut url = self.url.clone();
        if let Ok(mut own) = url.path_segments_mut() {
            own.pop_if_empty().extend(path);
        }
        url.query_pairs_mut().extend_pairs(query);
        let mut headers = vec![("accept".to_owned(), "application/json".to_owned())];
        if let Some(token) = &self.forge.token {
            headers.push(match self.forge.kind {
                ForgeKind::Github => ("authorization".to_owned(), format!("Bearer {}", token.reveal())),
                ForgeKind::Gitea => ("authorization".to_owned(), format!("token {}", token.reveal())),
                ForgeKind::Gitlab => ("private-token".to_owned(), token.reveal().to_owned()),
            });
        }
        let request = Request { method: "GET".to_owned(), url: url.to_string(), headers, body: None, timeout: ANSWER };
        let host = format!("{}:{}", self.url.host_str().unwrap_or(""), self.url.port_or_known_default().unwrap_or(0));
        let response = http.request(request, vec![host]).await.map_err(|ExecFault(why)| Silent::Now(why))?;
        self.answer(&response)
    }

    fn answer(&self, response: &Response) -> Result<Value, Silent> {
        let Asking { name, project, .. } = self;
        let ever = |class, line: String| Err(Silent::Ever(Failure::new(class, line)));
        match (response.status, serde_json::from_slice::<Value>(&response.body)) {
            (200, Ok(value)) => Ok(value),
            (401 | 403, _) => ever(
                Class::Auth,
                format!("{name} refuses us; put a token that may read {project} into executors.forges.{name}.token"),
            ),
            (404 | 422, _) => ever(
                Class::Config,
                format!(
                    "{name} knows no commit {} of {project}; is it pushed, and may the token of executors.forges.{name} read it?",
                    self.commit.get(..7).unwrap_or(&self.commit)
                ),
            ),
            (429 | 500.., _) => Err(Silent::Now(format!("HTTP {}", response.status))),
            (status, _) => ever(
                Class::Config,
                format!("what answers as {name} is no such forge (HTTP {status}); correct executors.forges.{name}.url"),
            ),
        }
    }
}

/// What the word of a forge means; what nobody knows is not good, nor what was skipped: its needs may have failed.
fn judge(how: Option<&str>, link: &Value) -> Said {
    let word: String = how.unwrap_or("unknown").chars().filter(|c| !c.is_control()).take(30).collect();
    match word.as_str() {
        "success" | "neutral" => Said::Green,
        "pending"
        | "queued"
        | "in_progress"
        | "running"
        | "created"
        | "waiting"
        | "requested"
        | "waiting_for_resource"
        | "preparing"
        | "scheduled"
        | "manual" => Said::Open(format!("is {}", word.replace('_', " "))),
        _ => {
            let link = link.as_str().filter(|link| link.starts_with("http") && link.len() < 150);
            let link = link.map(|link| format!(", see {}", link.replace(char::is_control, ""))).unwrap_or_default();
            Said::Red(format!("is not green ({}{link})", word.replace('_', " ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn ci(forges: &[&str]) -> Ci {
        let forge = Forge { kind: ForgeKind::Github, url: "https://api.github.com".to_owned(), token: None };
        let forges: BTreeMap<String, Forge> = forges.iter().map(|name| ((*name).to_owned(), forge.clone())).collect();
        Ci { http: Arc::new(NetHttp), settings: Arc::new(Settings { forges, ..Settings::default() }) }
    }

    #[test]
    fn a_project_is_read_from_the_address_of_its_repository() {
        let told: Vec<Option<String>> = [
            "https://git.example/acme/shop.git",
            "git@git.example:acme/team/shop.git",
            "ssh://git@git.example:2222/acme/shop",
            "/srv/git/shop.git",
            "file:///srv/git/shop.git",
        ]
        .map(project_of)
        .into();
        let known = |name: &str| Some(name.to_owned());
        assert_eq!(told, [known("acme/shop"), known("acme/team/shop"), known("acme/shop"), None, None]);
    }

    #[test]
    fn the_only_forge_need_not_be_named_and_several_must() {
        let faults =
            |ci: &Ci, settings: Value| ci.check(&settings).into_iter().map(|(_, fault)| fault).collect::<String>();
        assert_eq!(faults(&ci(&["main"]), json!("ci/unit")), "");
        assert!(faults(&ci(&[]), json!("ci/unit")).contains("executors.forges"));
        assert!(faults(&ci(&["a", "b"]), json!("ci/unit")).contains("name one of the forges: a, b"));
        assert!(faults(&ci(&["a"]), json!({"status": "x", "forge": "b"})).contains("there is a"));
        assert!(faults(&ci(&["a"]), json!({"statis": "x"})).contains("write the name of a status"));
        assert!(faults(&ci(&["a"]), json!({"status": "x", "every": "10ms"})).contains("once a second"));
    }

    #[test]
    fn words_that_nobody_knows_are_not_green() {
        assert_eq!(judge(Some("success"), &Value::Null), Said::Green);
        assert_eq!(judge(Some("in_progress"), &Value::Null), Said::Open("is in progress".to_owned()));
        assert_eq!(
            judge(Some("timed_out"), &json!("https://ci.example/7")),
            Said::Red("is not green (timed out, see https://ci.example/7)".to_owned())
        );
        assert!(matches!(judge(Some("wonderful"), &Value::Null), Said::Red(_)));
        assert!(matches!(judge(None, &Value::Null), Said::Red(_)));
        assert!(matches!(judge(Some("skipped"), &Value::Null), Said::Red(_)));
    }
}
