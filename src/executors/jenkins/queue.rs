//! A build in the queue of Jenkins: waited for, found by its mark when the queue has forgotten it, and called off.
//!
//! An item that left the queue is remembered for five minutes (jenkinsci/jenkins: `hudson/model/Queue.java`,
//! `leftItems`). Builds keep the number of their item and their parameters, so they are found by either.

use std::time::{Duration, Instant};

use reqwest::Url;
use serde_json::Value;

use super::super::class::{Class, Failure};
use super::super::step::End;
use super::client::{Fault, short};
use super::{Next, Pace, Place, Work, params, say};

/// What is read of an item.
const ITEM: &str = "id,why,cancelled,executable[number]";
/// What is read of the queue, and of the newest builds.
const ITEMS: &str = "items[id,task[url],actions[parameters[name,value]]]";
const BUILDS: &str = "builds[number,queueId,actions[parameters[name,value]]]{0,50}";
/// How often a build is searched: the one that is asked for may be between two lists.
const SEARCHES: u32 = 3;
/// The wait between two searches, and between two tries to end something.
const BREATH: Duration = Duration::from_millis(500);
/// How long an end is waited for before harder means, and at most.
const STOP_ASK: Duration = Duration::from_secs(20);
const STOP_MOST: Duration = Duration::from_secs(60);

/// The number of a queue item in the address that a build's request is answered with.
pub(super) fn item_of(location: &str) -> Option<u64> {
    let rest = location.split_once("/queue/item/")?.1;
    rest.split('/').next()?.parse().ok()
}

impl Work {
    /// Waits until an item of the queue becomes a build.
    pub(super) async fn wait(&self, item: u64, shared: bool) -> Result<Next, Fault> {
        let url = self.server.at(["queue", "item", &item.to_string(), "api", "json"], &[("tree", ITEM)]);
        let mut pace = Pace::new();
        let mut told = String::new();
        loop {
            if self.hands.is_stopping() {
                return Err(Fault::Stopped);
            }
            let state = match self.server.ask(url.clone(), &self.hands, self.server.patience).await {
                Err(Fault::Gone) => return self.wait_no_more(item, shared).await,
                state => state?,
            };
            if state["cancelled"] == Value::Bool(true) {
                let line =
                    format!("somebody cancelled the build of {} in the queue of {}", self.job(), self.server.name);
                return Ok(Next::Over(End::failed(Class::Cancelled, line)));
            }
            if let Some(number) = state["executable"]["number"].as_u64() {
                return self.begun(number, shared).await;
            }
            let why = short(state["why"].as_str().unwrap_or_default());
            // A countdown is no change.
            let kind: String = why.chars().filter(|one| !one.is_ascii_digit() && *one != '.').collect();
            if !why.is_empty() && kind != told {
                self.hands.tell(format!("in the queue of Jenkins: {why}"));
                say(&self.hands, &format!("in the queue: {why}"));
                told = kind;
            }
            if pace.rest(&self.hands).await {
                return Err(Fault::Stopped);
            }
        }
    }

    /// The queue has forgotten the item: its build is looked for.
    async fn wait_no_more(&self, item: u64, shared: bool) -> Result<Next, Fault> {
        say(&self.hands, &format!("the queue does not know item {item} any more; its build is looked for"));
        match self.find(Some(item), true).await? {
            Some(Place::Building { number, .. }) => self.begun(number, shared).await,
            Some(place) => {
                self.note(&place).await?;
                Ok(Next::Go(place))
            }
            None => {
                let line = format!(
                    "item {item} left the queue of {} and no build of {} came of it",
                    self.server.name,
                    self.job()
                );
                Err(Fault::Failed(Failure::new(Class::InfraLost, line)))
            }
        }
    }

    async fn begun(&self, number: u64, shared: bool) -> Result<Next, Fault> {
        say(&self.hands, &format!("build #{number} began: {}", self.build_page(number)));
        self.hands.tell(format!("build #{number} runs"));
        let place = Place::Building { number, shared, offset: 0, logged: self.logged() };
        self.note(&place).await?;
        Ok(Next::Go(place))
    }

    /// Looks for our build in the queue and among the newest builds, by its mark or by the number of its item.
    pub(super) async fn find(&self, item: Option<u64>, patient: bool) -> Result<Option<Place>, Fault> {
        for search in 0..SEARCHES {
            if search > 0 && !patient {
                tokio::time::sleep(BREATH).await;
            } else if search > 0 && self.hands.pause(BREATH).await {
                return Err(Fault::Stopped);
            }
            // First the queue: what leaves it meanwhile is among the builds.
            let url = self.server.at(["queue", "api", "json"], &[("tree", ITEMS)]);
            let queue = self.look(url, patient).await?;
            let job = self.server.at(self.parts(&[]), &[]);
            let ours = |one: &&Value| is_of(one["task"]["url"].as_str(), &job) && self.is_marked(one);
            if let Some(id) = list(&queue["items"]).iter().find(ours).and_then(|one| one["id"].as_u64()) {
                return Ok(Some(Place::Queued { item: id, shared: false }));
            }
            let url = self.server.at(self.parts(&["api", "json"]), &[("tree", BUILDS)]);
            let job = self.look(url, patient).await?;
            let ours =
                |one: &&Value| self.is_marked(one) || item.is_some_and(|item| one["queueId"].as_u64() == Some(item));
            if let Some(number) = list(&job["builds"]).iter().find(ours).and_then(|one| one["number"].as_u64()) {
                return Ok(Some(Place::Building { number, shared: false, offset: 0, logged: self.logged() }));
            }
        }
        Ok(None)
    }

    /// Reads something; whoever ends a step asks once, and is not to be ended by that.
    async fn look(&self, url: Url, patient: bool) -> Result<Value, Fault> {
        match patient {
            true => self.server.ask(url, &self.hands, self.server.patience).await,
            false => self.server.json(url).await,
        }
    }

    fn is_marked(&self, one: &Value) -> bool {
        let marker = self.step.marker();
        let values = list(&one["actions"]).iter().flat_map(|action| list(&action["parameters"]));
        let mut marks = values.filter(|value| value["name"] == params::MARKER);
        marks.any(|value| value["value"] == marker.as_str())
    }

    /// Ends what was begun, and sees that it ended.
    pub(super) async fn halt(&self, place: Option<&Place>) -> End {
        let until = Instant::now() + STOP_MOST;
        let mut place = match place {
            None => return End::Stopped,
            Some(Place::Posting { marked: false }) => {
                let line =
                    format!("it is not known whether a build of {} was begun; look at {}", self.job(), self.page());
                return End::Unsure(line);
            }
            Some(place) => place.clone(),
        };
        let mut asked: Option<Instant> = None;
        let mut reason = String::new();
        while Instant::now() < until {
            let done = match &place {
                Place::Posting { .. } => match self.find(None, false).await {
                    Ok(None) => return End::Stopped,
                    Ok(Some(found)) => Ok(Some(found)),
                    Err(fault) => Err(fault),
                },
                Place::Queued { shared: true, .. } | Place::Building { shared: true, .. } => {
                    say(&self.hands, "others wait for this build too: it is left to them");
                    return End::Stopped;
                }
                Place::Queued { item, .. } => self.call_off(*item).await,
                Place::Building { number, .. } => self.end_build(*number, &mut asked).await,
            };
            match done {
                Ok(Some(next)) => place = next,
                Ok(None) => return End::Stopped,
                Err(fault) => {
                    if let Fault::Unreached(failure) | Fault::Lost(failure) | Fault::Failed(failure) = fault {
                        reason = format!(" ({})", failure.line);
                    }
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
        let (job, name) = (self.job(), &self.server.name);
        End::Unsure(match place {
            Place::Building { number, .. } => {
                format!(
                    "build #{number} of {job} was asked to end and may still run{reason}; look at {}",
                    self.build_page(number)
                )
            }
            _ => format!("the build of {job} may still be in the queue of {name}{reason}; look at {}", self.page()),
        })
    }

    /// Takes an item out of the queue; nothing is left if it was cancelled, otherwise what became of it.
    async fn call_off(&self, item: u64) -> Result<Option<Place>, Fault> {
        let id = item.to_string();
        match self.server.post(self.server.at(["queue", "cancelItem"], &[("id", &id)]), None).await {
            // It may have left the queue already, and older servers say so of every item.
            Ok(_) | Err(Fault::Gone) => {}
            Err(fault) => return Err(fault),
        }
        let url = self.server.at(["queue", "item", &id, "api", "json"], &[("tree", ITEM)]);
        match self.server.json(url).await {
            Ok(state) if state["cancelled"] == Value::Bool(true) => {
                say(&self.hands, &format!("item {item} was taken out of the queue"));
                Ok(None)
            }
            Ok(state) => match state["executable"]["number"].as_u64() {
                Some(number) => Ok(Some(Place::Building { number, shared: false, offset: 0, logged: 0 })),
                None => Err(Fault::Lost(Failure::new(Class::Unknown, "it is still in the queue"))),
            },
            Err(Fault::Gone) => self.find(Some(item), false).await,
            Err(fault) => Err(fault),
        }
    }

    /// Asks a build to end, harder after a while; nothing is left once it has.
    async fn end_build(&self, number: u64, asked: &mut Option<Instant>) -> Result<Option<Place>, Fault> {
        let number_text = number.to_string();
        let since = asked.map(|since| since.elapsed());
        let verb = match since {
            None => Some("stop"),
            // Pipelines know these two; for others they are not there.
            Some(since) if since > 2 * STOP_ASK => Some("kill"),
            Some(since) if since > STOP_ASK => Some("term"),
            Some(_) => None,
        };
        if let Some(verb) = verb {
            match self.server.post(self.server.at(self.parts(&[&number_text, verb]), &[]), None).await {
                Ok(_) => _ = asked.get_or_insert_with(Instant::now),
                Err(Fault::Gone) => {}
                Err(fault) => return Err(fault),
            }
        }
        match self.build(number).await {
            Ok(build) if build.is_over() => {
                say(&self.hands, &format!("build #{number} ended: {}", build.result()));
                Ok(None)
            }
            Ok(_) => Err(Fault::Lost(Failure::new(Class::Unknown, "it still runs"))),
            Err(Fault::Gone) => Ok(None),
            Err(fault) => Err(fault),
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Whether an address that Jenkins gave is this job's. Only the path counts: Jenkins may know itself by another name.
fn is_of(url: Option<&str>, job: &Url) -> bool {
    let Some(url) = url.and_then(|url| Url::parse(url).ok()) else { return false };
    let below = |path: &str| path.find("/job/").map(|at| path[at..].trim_end_matches('/').to_owned());
    below(url.path()).is_some_and(|path| Some(path) == below(job.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_known_by_its_number_whatever_the_server_calls_itself() {
        assert_eq!(item_of("http://other:8080/ci/queue/item/42/"), Some(42));
        assert_eq!(item_of("/queue/item/42"), Some(42));
        for odd in ["http://ci/job/x/", ".", "/queue/item/", "/queue/item/-1/", "/queue/item/99999999999999999999/"] {
            assert_eq!(item_of(odd), None, "{odd}");
        }
        let job = Url::parse("http://ci:1/a/job/x%20y/job/z").unwrap();
        assert!(is_of(Some("https://outside/job/x%20y/job/z/"), &job));
        assert!(!is_of(Some("https://outside/job/z/"), &job) && !is_of(Some("z"), &job) && !is_of(None, &job));
    }
}
