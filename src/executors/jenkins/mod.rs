//! `jenkins`: a build of a Jenkins job, started with parameters, followed to its end, found again after a restart.
//!
//! `jenkins: {job: folder/name, server: main, params: {TAG: "7"}}`; where only one is configured, `server` may be left
//! out.
//!
//! A job that declares a text parameter `MC_RUN_ID` gets a name for this attempt in it, and only its builds can be told
//! from others after a crash in the moment between the request and its answer. With `stage_updates: true` a job that
//! declares a password parameter `MC_TOKEN` gets a token in it, with which it may tell how its stages go while the step
//! runs: `POST /pipelines/stage` of our gateway with `{"stage": "Deploy", "status": "running"}`. Later stages see `number`, `url`,
//! `result`, `duration` (seconds), `artifacts` (paths) and, if the build leaves an artifact `mc-output.json` with a
//! JSON object, `env`.

mod client;
mod follow;
mod params;
mod queue;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::Future;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::client::{Fault, Patience, Server, short};
use super::class::{Class, Failure};
use super::log::OWN;
use super::settings::{Jenkins as Address, Settings};
use super::step::{End, Executor, Hands, Step};

/// How long a server may be away before anything was begun there.
const PATIENCE_FIRST: Duration = Duration::from_secs(4);
/// How long the answer to a request for a build is waited for when the step is to end.
const LAST_WORD: Duration = Duration::from_secs(2);
/// How often a build is asked for if the answers are lost.
const TRIES: u32 = 3;
/// The first and the longest wait between two looks.
const PACE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// The executor.
pub(super) fn make(settings: &Settings) -> Arc<dyn Executor> {
    Arc::new(Jenkins { servers: settings.jenkins.clone() })
}

struct Jenkins {
    servers: BTreeMap<String, Address>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    job: String,
    #[serde(default)]
    server: Option<String>,
    #[serde(default)]
    params: Map<String, Value>,
    /// Whether the build tells how its stages go, with a token of its own.
    #[serde(default)]
    stage_updates: bool,
}

/// How far a step is; this is what is noted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "at", rename_all = "snake_case")]
enum Place {
    /// A build is about to be asked for, or was, and the answer is not known.
    Posting { marked: bool },
    /// It waits as this item of the queue. Others wait for it too if it is shared.
    Queued { item: u64, shared: bool },
    /// It is built. Its log is read up to `offset`, when our log had `logged` bytes.
    Building { number: u64, shared: bool, offset: u64, logged: u64 },
}

/// What follows from a place.
enum Next {
    Go(Place),
    Over(End),
}

/// One step at work.
struct Work {
    server: Server,
    /// The names of the folders and of the job.
    names: Vec<String>,
    params: Map<String, Value>,
    step: Step,
    hands: Hands,
}

impl Executor for Jenkins {
    fn check(&self, settings: &Value) -> Vec<(String, String)> {
        self.read(settings).err().into_iter().collect()
    }

    fn tells(&self, settings: &Value) -> bool {
        self.read(settings).is_ok_and(|(written, _)| written.stage_updates)
    }

    fn run(&self, step: Step, hands: Hands) -> Future<End> {
        let opened = self.open(step, hands.clone());
        Box::pin(async move {
            let end = match opened {
                Ok(work) => work.run().await,
                Err(failure) => End::Failed(failure),
            };
            let hide = |text: String| hands.mask.hide(&text);
            match end {
                End::Failed(Failure { class, line, exit, world }) => {
                    End::Failed(Failure { class, line: hide(line), exit, world: world.into_iter().map(hide).collect() })
                }
                End::Unsure(line) => End::Unsure(hide(line)),
                other => other,
            }
        })
    }
}

impl Jenkins {
    /// Reads what a stage says; or the key that is wrong, and why.
    fn read(&self, settings: &Value) -> Result<(Written, String), (String, String)> {
        let at = |key: &str, fault: String| (key.to_owned(), fault);
        let written: Written = serde_json::from_value(settings.clone()).map_err(|fault| {
            let wanted = "{job: folder/name, server: main, params: {NAME: value}, stage_updates: true}";
            at("", format!("write {wanted} ({fault})"))
        })?;
        if names(&written.job).is_none() {
            return Err(at("job", format!("{:?} names no job; write folder/name", written.job)));
        }
        for (name, value) in &written.params {
            if value.is_array() || value.is_object() {
                return Err(at(&format!("params.{name}"), "is a list or a map; write a text".to_owned()));
            }
        }
        let known: Vec<&str> = self.servers.keys().map(String::as_str).collect();
        let server = match (&written.server, known.as_slice()) {
            (_, []) => return Err(at("", "no Jenkins is configured; add one as executors.jenkins.main".to_owned())),
            (None, [only]) => (*only).to_owned(),
            (None, many) => return Err(at("server", format!("is missing; there are {}", many.join(", ")))),
            // What is filled in later cannot be looked up yet.
            (Some(name), _) if known.contains(&name.as_str()) || name.contains('{') => name.clone(),
            (Some(name), many) => {
                return Err(at("server", format!("no Jenkins is called {name:?}; there are {}", many.join(", "))));
            }
        };
        Ok((written, server))
    }

    fn open(&self, step: Step, hands: Hands) -> Result<Work, Failure> {
        let wrong = |key: &str, fault: &str| {
            let dot = if key.is_empty() { "" } else { "." };
            Failure::new(Class::Config, format!("jenkins{dot}{key}: {fault}"))
        };
        let (written, name) = self.read(&step.settings).map_err(|(key, fault)| wrong(&key, &fault))?;
        let address =
            self.servers.get(&name).ok_or_else(|| wrong("server", &format!("no Jenkins is called {name:?}")))?;
        let server = Server::open(&name, address)?;
        let names = names(&written.job).ok_or_else(|| wrong("job", "names no job"))?;
        Ok(Work { server, names, params: written.params, step, hands })
    }
}

/// The names of the folders and of the job.
fn names(job: &str) -> Option<Vec<String>> {
    let names: Vec<String> = job.trim_matches('/').split('/').map(str::to_owned).collect();
    let bad = |name: &String| name.trim().is_empty() || name == "." || name == ".." || name.contains(char::is_control);
    (!names.iter().any(bad)).then_some(names)
}

/// A line of ours in the log.
fn say(hands: &Hands, text: &str) {
    hands.log.line(&format!("{OWN}{text}"));
}

/// The waits between two looks: short at first, longer while nothing happens.
struct Pace(Duration);

impl Pace {
    fn new() -> Pace {
        Pace(PACE.0)
    }

    /// Something happened.
    fn quick(&mut self) {
        self.0 = self.0.min(PACE.0 * 4);
    }

    /// Waits; whether the step is to end.
    async fn rest(&mut self, hands: &Hands) -> bool {
        let wait = self.0;
        self.0 = (wait * 3 / 2).min(PACE.1);
        hands.pause(wait).await
    }
}

impl Work {
    async fn run(self) -> End {
        // A note that is not ours means that nothing is known, as does none; a later version may have written it.
        let mut place = match self.step.noted.clone().map(serde_json::from_value::<Place>) {
            None => None,
            Some(Ok(place)) => Some(place),
            Some(Err(_)) => {
                return End::Unsure(format!("the note about {} cannot be read; look at it in Jenkins", self.job()));
            }
        };
        let mut tries = 0;
        loop {
            let next = match &place {
                None => self.begin().await,
                Some(Place::Posting { marked }) => {
                    tries += 1;
                    self.look_again(*marked, tries).await
                }
                Some(Place::Queued { item, shared }) => self.wait(*item, *shared).await,
                Some(Place::Building { number, shared, offset, logged }) => {
                    self.follow(*number, *shared, *offset, *logged).await
                }
            };
            match next {
                Ok(Next::Go(next)) => place = Some(next),
                Ok(Next::Over(end)) => return end,
                Err(Fault::Stopped) => return self.halt(place.as_ref()).await,
                Err(Fault::Gone) => return End::Failed(self.gone()),
                Err(Fault::Unreached(failure) | Fault::Lost(failure) | Fault::Failed(failure)) => {
                    return End::Failed(self.with_world(failure, place.as_ref()));
                }
            }
        }
    }

    /// Reads what the job takes, refuses what it does not, and asks for a build.
    async fn begin(&self) -> Result<Next, Fault> {
        let refused = |line: String| Fault::Failed(Failure::new(Class::Config, line));
        let url = self.server.at(self.parts(&["api", "json"]), &[("tree", params::TREE)]);
        let job = self.server.ask(url, &self.hands, PATIENCE_FIRST).await?;
        let known = params::definitions(&job);
        let mut fields =
            params::texts(&self.params, &known).map_err(|fault| refused(format!("{}: {fault}", self.job())))?;
        if job["buildable"] == Value::Bool(false) {
            return Err(refused(self.unbuildable()));
        }
        let marked = known.iter().any(|one| one.name == params::MARKER);
        if marked {
            fields.retain(|(name, _)| name != params::MARKER);
            fields.push((params::MARKER.to_owned(), self.step.marker()));
        } else {
            say(
                &self.hands,
                "the job declares no parameter MC_RUN_ID: if the bot dies while it asks, the build is not found again",
            );
        }
        self.hand_over_token(&known, &mut fields).map_err(Fault::Failed)?;
        if self.hands.is_stopping() {
            return Err(Fault::Stopped);
        }
        self.note(&Place::Posting { marked }).await?;
        let form = (!known.is_empty()).then(|| params::form(&fields));
        let last = if form.is_some() { "buildWithParameters" } else { "build" };
        let url = self.server.at(self.parts(&[last]), &[]);
        let mut patience = Patience::new(PATIENCE_FIRST);
        let answer = loop {
            // Once it is on its way it may have been taken: whoever stops us is heard, and then it is looked for.
            let posted = tokio::select! {
                biased;
                posted = self.server.post(url.clone(), form.as_deref()) => posted,
                () = self.stopped_long_ago() => {
                    say(&self.hands, "it is to end before Jenkins said whether the build was taken");
                    return Ok(Next::Go(Place::Posting { marked }));
                }
            };
            match posted {
                Ok(answer) => break answer,
                Err(Fault::Lost(failure)) => {
                    say(&self.hands, &format!("{}; it is not known whether the build was taken", failure.line));
                    return Ok(Next::Go(Place::Posting { marked }));
                }
                Err(fault @ Fault::Unreached(_)) => patience.bear(fault, &self.hands).await?,
                Err(fault) => return Err(fault),
            }
        };
        self.taken(answer, marked).await
    }

    /// Ready a moment after the step is to end: long enough for an answer that is on its way.
    async fn stopped_long_ago(&self) {
        self.hands.stopping().await;
        tokio::time::sleep(LAST_WORD).await;
    }

    /// Gives the build the token with which it tells how its stages go, if the job declares a parameter for it, and one that hides it.
    fn hand_over_token(&self, known: &[params::Definition], fields: &mut Vec<(String, String)>) -> Result<(), Failure> {
        fields.retain(|(name, _)| name != params::TOKEN);
        let Some(token) = &self.step.token else { return Ok(()) };
        match known.iter().find(|one| one.name == params::TOKEN) {
            Some(own) if own.hides() => fields.push((params::TOKEN.to_owned(), token.reveal().to_owned())),
            Some(_) => {
                let line = format!(
                    "{}: MC_TOKEN is no Password parameter, so everybody who may look at the build could read the token; make it \
                     one, or take it away",
                    self.job()
                );
                return Err(Failure::new(Class::Config, line));
            }
            None => say(
                &self.hands,
                "the job declares no parameter MC_TOKEN: it needs one of gateway.tokens to tell how its stages go",
            ),
        }
        Ok(())
    }

    async fn taken(&self, answer: client::Answer, marked: bool) -> Result<Next, Fault> {
        let failed = |class: Class, line: String| Err(Fault::Failed(Failure::new(class, line)));
        let (job, name) = (self.job(), &self.server.name);
        match answer.status {
            400 => {
                return failed(
                    Class::Config,
                    format!("{job} does not take these parameters; look at what it declares"),
                );
            }
            409 => return failed(Class::Config, self.unbuildable()),
            _ => {}
        }
        let Some(item) = answer.location.as_deref().and_then(queue::item_of) else {
            let line =
                format!("{name} took the request but queued no build of {job}; one of its plugins may have refused it");
            return failed(Class::Unknown, line);
        };
        // With our mark in it, an equal build in the queue can only be our own.
        let shared = answer.status == 303 && !marked;
        let place = Place::Queued { item, shared };
        self.note(&place).await?;
        if answer.status == 303 {
            say(
                &self.hands,
                &format!("{job} is merged into an equal build that was in the queue already, item {item}"),
            );
        } else {
            say(&self.hands, &format!("{job} is in the queue of {name}, item {item}"));
        }
        Ok(Next::Go(place))
    }

    /// Looks for a build that may have been asked for; asks for one if there is none.
    async fn look_again(&self, marked: bool, tries: u32) -> Result<Next, Fault> {
        if !marked {
            let line =
                "it is not known whether the build was begun, and without a parameter MC_RUN_ID it cannot be found";
            return Ok(Next::Over(End::Unsure(format!("{}: {line}; look at {}", self.job(), self.page()))));
        }
        if let Some(found) = self.find(None, true).await? {
            say(&self.hands, "the build that was asked for is found again");
            self.note(&found).await?;
            return Ok(Next::Go(found));
        }
        if tries >= TRIES {
            let line =
                format!("{} loses every request for a build of {}; see what is between", self.server.name, self.job());
            return Err(Fault::Failed(Failure::new(Class::Network, line)));
        }
        self.begin().await
    }

    async fn note(&self, place: &Place) -> Result<(), Fault> {
        let note = serde_json::to_value(place).unwrap_or(Value::Null);
        self.hands.note(note).await.map_err(Fault::Failed)
    }

    /// The job as people write it.
    fn job(&self) -> String {
        self.names.join("/")
    }

    /// The parts of an address below the job.
    fn parts<'a>(&'a self, rest: &[&'a str]) -> Vec<&'a str> {
        self.names.iter().flat_map(|name| ["job", name.as_str()]).chain(rest.iter().copied()).collect()
    }

    /// The page of the job.
    fn page(&self) -> String {
        self.server.at(self.parts(&[""]), &[]).to_string()
    }

    /// The page of a build.
    fn build_page(&self, number: u64) -> String {
        self.server.at(self.parts(&[&number.to_string(), ""]), &[]).to_string()
    }

    fn gone(&self) -> Failure {
        let line = format!("{} has no job {}, or does not show it to us", self.server.name, short(&self.job()));
        Failure::new(Class::Config, format!("{line}; check its name with all its folders"))
    }

    fn unbuildable(&self) -> String {
        format!("{} cannot be built: it is disabled, or it is a folder; enable it in Jenkins", self.job())
    }

    /// What may go on in Jenkins although we give up.
    fn with_world(&self, failure: Failure, place: Option<&Place>) -> Failure {
        let world = match place {
            Some(Place::Queued { item, .. }) => {
                vec![format!("item {item} may still be in the queue of {}", self.server.name)]
            }
            Some(Place::Building { number, .. }) => vec![format!("the build may go on: {}", self.build_page(*number))],
            _ => Vec::new(),
        };
        Failure { world, ..failure }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn jenkins(names: &[&str]) -> Jenkins {
        let one = json!({"url": "https://ci.example/sub", "user": "bot", "token": "t"});
        let servers = names.iter().map(|name| ((*name).to_owned(), serde_json::from_value(one.clone()).unwrap()));
        Jenkins { servers: servers.collect() }
    }

    fn fault(names: &[&str], settings: Value) -> Option<(String, String)> {
        jenkins(names).check(&settings).into_iter().next()
    }

    #[test]
    fn what_can_never_build_is_refused_with_its_key_when_the_pipeline_is_read() {
        assert_eq!(fault(&["main"], json!({"job": "shop/image", "params": {"TAG": "{run.number}", "N": 1}})), None);
        assert_eq!(fault(&["a", "b"], json!({"job": "{app}", "server": "{where}"})), None);
        let of = |names: &[&str], settings: Value| fault(names, settings).unwrap();
        assert_eq!(of(&["a", "b"], json!({"job": "x"})), ("server".into(), "is missing; there are a, b".into()));
        assert_eq!(of(&["a"], json!({"job": "x", "server": "c"})).1, "no Jenkins is called \"c\"; there are a");
        assert!(of(&[], json!({"job": "x"})).1.contains("executors.jenkins.main"));
        assert_eq!(of(&["a"], json!({"job": "../x"})).0, "job");
        assert_eq!(of(&["a"], json!({"job": "x//y"})).0, "job");
        assert_eq!(of(&["a"], json!({"job": "x", "params": {"L": [1]}})).0, "params.L");
        assert!(of(&["a"], json!({"job": "x", "jobs": 1})).1.contains("jobs"));
        assert!(of(&["a"], json!("x")).1.starts_with("write {job"));
    }

    #[test]
    fn names_are_escaped_in_addresses_and_credentials_are_never_in_them() {
        let jenkins = jenkins(&["main"]);
        let server = Server::open("main", &jenkins.servers["main"]).unwrap();
        let url = server.at(["job", "a b", "job", "feature%2Fx", "api", "json"], &[("tree", "a[b]{0,5}")]);
        assert!(url.as_str().starts_with("https://ci.example/sub/job/a%20b/job/feature%252Fx/api/json?tree="), "{url}");
        let with = |url: &str| serde_json::from_value(json!({"url": url, "user": "bot", "token": "t"})).unwrap();
        for bad in ["https://bot:pass@ci.example/", "ci.example", "ftp://ci.example/"] {
            let Err(failure) = Server::open("main", &with(bad)) else { panic!("{bad}") };
            assert!(
                failure.line.starts_with("executors.jenkins.main.url") && !failure.line.contains("pass@"),
                "{}",
                failure.line
            );
        }
    }
}
