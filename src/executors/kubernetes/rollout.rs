//! One change of a deployment, made at most once, and the rollout that follows, watched to its end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::kubectl::{Fault, Halt, Kind, Kubectl};
use super::objects::{CAUSE, Counts, Deployment, MARK, Set, Stage};
use super::trouble;
use crate::executors::{Class, Failure, Hands};

/// How soon a rollout is looked at again, at first.
const LOOK_FIRST: Duration = Duration::from_millis(250);
/// How soon at last.
const LOOK_LAST: Duration = Duration::from_secs(3);
/// How long the API may be away while a rollout is watched, before we say that we cannot.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long nothing may move before the pods are asked what ails them.
const STUCK: Duration = Duration::from_secs(5);
/// How long an answer to a patch is waited for when the step is to end.
const PARTING: Duration = Duration::from_secs(3);
/// How often a patch is sent whose answer was lost.
const SENDS: u32 = 5;

/// What is kept about an attempt before and after the cluster is changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Note {
    /// Whether it was a way back.
    pub(super) back: bool,
    /// Whether the cluster has taken the change.
    pub(super) sent: bool,
    /// The deployment.
    pub(super) deployment: String,
    /// The replica set to go back to, which keeps its name when its revision gets a new number.
    pub(super) set: Option<String>,
    /// Its number then.
    pub(super) revision: Option<u64>,
    /// Its images then, by container.
    pub(super) images: BTreeMap<String, String>,
    /// How many pods were wished then.
    pub(super) replicas: u64,
    /// The images after it, as the cluster has taken them.
    #[serde(default)]
    pub(super) made: BTreeMap<String, String>,
}

/// A change: one patch, and how to tell that it was made.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// What marks it as ours.
    pub(super) mark: String,
    /// `strategic` or `json`.
    pub(super) form: &'static str,
    pub(super) patch: Value,
    /// The images after it.
    pub(super) images: BTreeMap<String, String>,
}

impl Change {
    /// Whether the deployment is as this change makes it.
    pub(super) fn is_made(&self, deployment: &Deployment) -> bool {
        deployment.mark() == Some(&self.mark) && self.has_images(deployment)
    }

    /// Whether the deployment has these images, whoever set them.
    pub(super) fn has_images(&self, deployment: &Deployment) -> bool {
        let has = deployment.images();
        self.images.iter().all(|(name, image)| has.get(name) == Some(image))
    }

    /// New images.
    pub(super) fn forth(
        mark: String,
        cause: &str,
        images: BTreeMap<String, String>,
        init: &[String],
        spec: Map<String, Value>,
    ) -> Change {
        let list = |is_init: bool| -> Vec<Value> {
            let chosen = images.iter().filter(|(name, _)| init.contains(name) == is_init);
            chosen.map(|(name, image)| json!({"name": name, "image": image})).collect()
        };
        let mut template = Map::new();
        for (key, list) in [("containers", list(false)), ("initContainers", list(true))] {
            if !list.is_empty() {
                template.insert(key.to_owned(), Value::from(list));
            }
        }
        let mut spec = spec;
        let whole = spec.entry("template").or_insert_with(|| json!({}));
        whole["spec"] = Value::from(template);
        let mut annotations = Map::new();
        annotations.insert(CAUSE.to_owned(), Value::from(cause));
        annotations.insert(MARK.to_owned(), Value::from(mark.as_str()));
        let patch = json!({"metadata": {"annotations": annotations}, "spec": spec});
        Change { mark, form: "strategic", patch, images }
    }

    /// Back to the template of a revision. As `rollback.go`, but with our mark, so that it is found again.
    pub(super) fn back(mark: String, cause: &str, set: &Set, replicas: Option<u64>) -> Change {
        let path = |name: &str| format!("/metadata/annotations/{}", name.replace('/', "~1"));
        let mut patch = vec![
            json!({"op": "replace", "path": "/spec/template", "value": set.template()}),
            json!({"op": "add", "path": path(CAUSE), "value": cause}),
            json!({"op": "add", "path": path(MARK), "value": mark}),
        ];
        if let Some(replicas) = replicas {
            patch.push(json!({"op": "replace", "path": "/spec/replicas", "value": replicas}));
        }
        Change { mark, form: "json", patch: Value::from(patch), images: set.images.clone() }
    }

    /// Makes it. An answer that is lost is no fault: the same patch again changes nothing.
    pub(super) async fn send(&self, kubectl: &Kubectl, deployment: &str, hands: &Hands) -> Result<Deployment, Halt> {
        let mut sends = 1;
        loop {
            let late = async {
                hands.stopping().await;
                tokio::time::sleep(PARTING).await;
            };
            let sent = tokio::select! {
                sent = kubectl.patch(deployment, self.form, &self.patch) => sent,
                () = late => return Err(self.leave(deployment, hands)),
            };
            match sent {
                Ok(patched) => return Ok(Deployment(patched)),
                Err(fault) if fault.kind == Kind::Passing && sends < SENDS => {
                    hands.log.line(&format!("it is tried again: {}", fault.failure.line));
                    if hands.pause(LOOK_FIRST * 2_u32.pow(sends)).await {
                        return Err(self.leave(deployment, hands));
                    }
                    sends += 1;
                }
                Err(fault) => return Err(Halt::Fault(fault)),
            }
        }
    }

    fn leave(&self, deployment: &str, hands: &Hands) -> Halt {
        let mark = &self.mark;
        hands
            .log
            .line(&format!("Stopped before the API answered. If {deployment} has {MARK}={mark}, it took the change."));
        Halt::Stop
    }
}

/// How a rollout ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// All is new and available.
    Live(Deployment),
    /// It did not come up.
    Failed(Failure),
}

/// A rollout that is watched.
pub(super) struct Watch<'a> {
    pub(super) kubectl: &'a Kubectl,
    pub(super) name: &'a str,
    /// The change it follows from; `None` where nothing was changed.
    pub(super) change: Option<&'a Change>,
    pub(super) hands: &'a Hands,
}

impl Watch<'_> {
    /// Watches until it ends, or the step is to end: then the rollout goes on without us.
    pub(super) async fn run(&self) -> Result<Ended, Halt> {
        let mut told = String::new();
        let ended = self.look(&mut told).await;
        if matches!(ended, Err(Halt::Stop)) && self.change.is_some() {
            let name = self.name;
            self.hands.log.line(&format!("Stopped watching. The rollout of {name} goes on in the cluster ({told})."));
        }
        ended
    }

    async fn look(&self, told: &mut String) -> Result<Ended, Halt> {
        let mut pace = LOOK_FIRST;
        let mut heard = Instant::now();
        let mut moved = Instant::now();
        loop {
            match self.kubectl.json(&["get", "deployments.apps", self.name, "-o", "json"], self.hands).await {
                Ok(value) => {
                    heard = Instant::now();
                    let deployment = Deployment(value);
                    if let Some(ended) = self.ended(&deployment).await? {
                        return Ok(ended);
                    }
                    let words = words(&deployment);
                    if words != *told {
                        (pace, moved) = (LOOK_FIRST, Instant::now());
                        self.hands.log.line(&words);
                        self.hands.tell(&words);
                        *told = words;
                    } else if moved.elapsed() > STUCK {
                        moved = Instant::now();
                        if let Some(ails) = trouble::first_words(self.kubectl, &deployment, self.hands).await? {
                            self.hands.tell(format!("{words}; {ails}"));
                        }
                    }
                }
                Err(halt) => self.endure(halt, heard)?,
            }
            if self.hands.pause(pace).await {
                return Err(Halt::Stop);
            }
            pace = pace.mul_f32(1.5).min(LOOK_LAST);
        }
    }

    /// Goes on after a fault that may pass.
    fn endure(&self, halt: Halt, heard: Instant) -> Result<(), Halt> {
        let Halt::Fault(Fault { kind, mut failure }) = halt else { return Err(halt) };
        if kind == Kind::Passing && heard.elapsed() < PATIENCE {
            self.hands.log.line(&format!("it is looked at again: {}", failure.line));
            return Ok(());
        }
        failure.line = match kind {
            Kind::Missing => format!("deployment {} was deleted while it was rolled out", self.name),
            _ => format!("the rollout of {} goes on, but cannot be watched: {}", self.name, failure.line),
        };
        Err(Halt::Fault(Fault { kind, failure }))
    }

    async fn ended(&self, deployment: &Deployment) -> Result<Option<Ended>, Halt> {
        if let Some(change) = self.change.filter(|change| !change.is_made(deployment)) {
            // Ours is no longer what is rolled out, so neither its success nor its failure can be told.
            let images: Vec<String> =
                change.images.keys().filter_map(|name| deployment.images().get(name).cloned()).collect();
            let who = deployment.cause().filter(|_| deployment.mark() != Some(&change.mark));
            let line = match who {
                Some(cause) => format!("somebody else changed {} meanwhile: {cause}", self.name),
                None => format!("somebody else changed {} meanwhile: it gets {}", self.name, images.join(", ")),
            };
            return Ok(Some(Ended::Failed(Failure::new(Class::Cancelled, line))));
        }
        match deployment.stage() {
            Stage::Live => Ok(Some(Ended::Live(deployment.clone()))),
            Stage::Exceeded => {
                let begins = format!("progress deadline exceeded after {}", spell(deployment.deadline()));
                let failure = trouble::failure(&begins, self.kubectl, deployment, self.hands).await?;
                Ok(Some(Ended::Failed(failure)))
            }
            Stage::Unseen | Stage::Going | Stage::Paused => Ok(None),
        }
    }
}

/// How far it is, in a few words.
fn words(deployment: &Deployment) -> String {
    let Counts { wished, updated, old, ready } = deployment.counts();
    match deployment.stage() {
        Stage::Unseen => "the cluster has not taken it up yet".to_owned(),
        Stage::Paused => "paused by somebody; it waits for kubectl rollout resume".to_owned(),
        _ if updated >= wished && ready >= wished && old > 0 => {
            format!("{ready} of {wished} pods new and ready, {old} old ones end")
        }
        _ => format!("{ready} of {wished} pods new and ready"),
    }
}

/// Seconds for people: `3m`, `90s`.
fn spell(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        seconds if seconds % 60 == 0 => format!("{}m", seconds / 60),
        seconds => format!("{}m{:02}s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_patch_sets_images_and_marks_and_only_what_is_asked() {
        let images = BTreeMap::from([("setup".to_owned(), "s:7".to_owned()), ("shop".to_owned(), "shop:7".to_owned())]);
        let change = Change::forth("118/rollout/1".to_owned(), "why", images, &["setup".to_owned()], Map::new());
        let annotations = json!({"kubernetes.io/change-cause": "why", "masterchief/run": "118/rollout/1"});
        let spec = json!({"template": {"spec": {"containers": [{"name": "shop", "image": "shop:7"}],
            "initContainers": [{"name": "setup", "image": "s:7"}]}}});
        assert_eq!(change.patch, json!({"metadata": {"annotations": annotations}, "spec": spec}));
    }

    #[test]
    fn times_are_spelled_for_people() {
        assert_eq!([5, 180, 90].map(spell), ["5s", "3m", "1m30s"]);
    }
}
