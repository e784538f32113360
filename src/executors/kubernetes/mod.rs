//! Rolls an image out on Kubernetes: one patch, then the rollout watched until the controller says that it is done.
//!
//! `{context: prod, deployment: shop, image: "registry/shop:7"}`, or `images` by container; `container` where there are several;
//! `namespace`; `progress_deadline: 3m`; `weight: 10` changes `shop-canary` and gives it ten percent of the pods; `undo: true` goes
//! back. Whoever the kubeconfig says we are needs a Role with `get`, `patch` on `deployments`, `list` on `replicasets`,
//! `get`, `list` on `pods`, `get` on `pods/log`: examples/kubernetes-role.yaml is one.

mod kubectl;
mod objects;
mod rollout;
mod trouble;
mod undo;
mod wanted;

use std::collections::BTreeMap;
use std::sync::Arc;

use masterchief_contract::Future;
use serde_json::{Map, Value, json};

use self::kubectl::{Halt, Kind, Kubectl};
use self::objects::{Deployment, Set, Stage};
use self::rollout::{Change, Ended, Note, Watch};
use self::wanted::{Refusal, Wanted, Way};
use super::{Class, Cluster, End, Executor, Failure, Hands, Settings, Step};

/// So many pods and revisions are given as outputs.
const ROWS: usize = 20;
/// How the mark of a way back ends.
const BACK: &str = "/undo";

pub(super) fn make(settings: &Settings) -> Arc<dyn Executor> {
    Arc::new(Kubernetes { clusters: Arc::new(settings.kubernetes.clone()) })
}

#[derive(Clone)]
struct Kubernetes {
    clusters: Arc<BTreeMap<String, Cluster>>,
}

impl Executor for Kubernetes {
    fn check(&self, settings: &Value) -> Vec<(String, String)> {
        let mut faults = Wanted::check(settings);
        if let Some(context) = settings.get("context").and_then(Value::as_str).filter(|text| !text.contains('{')) {
            let unknown = !self.clusters.contains_key(context) && !context.is_empty();
            faults.extend(unknown.then(|| ("context".to_owned(), self.unknown(context))));
        }
        faults
    }

    fn run(&self, step: Step, hands: Hands) -> Future<End> {
        let this = self.clone();
        Box::pin(async move { end(this.either(&step, &hands, false).await, &hands) })
    }

    fn undoes(&self) -> bool {
        true
    }

    fn undo(&self, step: Step, hands: Hands) -> Future<End> {
        let this = self.clone();
        Box::pin(async move { end(this.either(&step, &hands, true).await, &hands) })
    }

    fn repeatable(&self) -> bool {
        // Its mark in the cluster tells whether the change was made.
        true
    }
}

fn end(result: Result<End, Halt>, hands: &Hands) -> End {
    match result {
        Ok(end) => end,
        Err(Halt::Stop) => End::Stopped,
        Err(Halt::Fault(fault)) => {
            let line = hands.mask.hide(&fault.failure.line);
            End::Failed(Failure { line, ..fault.failure })
        }
    }
}

fn refused((key, sentence): Refusal) -> Failure {
    let key = if key.is_empty() { String::new() } else { format!(".{key}") };
    Failure::new(Class::Config, format!("kubernetes{key}: {sentence}"))
}

/// One change of one deployment, and all it takes.
struct Work<'a> {
    kubectl: Kubectl,
    wanted: Wanted,
    /// The deployment that is changed.
    target: String,
    /// What was noted before a restart, or by the step that is undone.
    note: Option<Note>,
    step: &'a Step,
    hands: &'a Hands,
}

impl Kubernetes {
    fn unknown(&self, context: &str) -> String {
        let known: Vec<&str> = self.clusters.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        format!("no cluster {context} is configured (there are: {known}); add it to executors.kubernetes")
    }

    async fn either(&self, step: &Step, hands: &Hands, undo: bool) -> Result<End, Halt> {
        let wanted = Wanted::read(&step.settings).map_err(refused)?;
        let Some(cluster) = self.clusters.get(&wanted.context) else {
            return Err(Failure::new(Class::Config, self.unknown(&wanted.context)).into());
        };
        let kubectl = Kubectl::new(&wanted.context, cluster, wanted.namespace.as_deref(), step);
        let note = step.noted.as_ref().and_then(|note| serde_json::from_value(note.clone()).ok());
        let (target, way) = (wanted.target(), wanted.way().map_err(refused)?);
        let work = Work { kubectl, wanted, target, note, step, hands };
        match way {
            Way::Back(number) => work.back(number, false).await,
            Way::Forth if undo => work.back(None, true).await,
            Way::Forth => work.forth().await,
        }
    }
}

/// The run and stage of a mark, `118/rollout`; none of a way back.
fn stage_of(mark: Option<&str>) -> Option<&str> {
    let mark = mark.filter(|mark| !mark.ends_with(BACK))?;
    mark.rsplit_once('/').map(|(stage, _attempt)| stage)
}

/// The replica sets of a deployment, the newest revision first.
async fn sets(kubectl: &Kubectl, deployment: &Deployment, hands: &Hands) -> Result<Vec<Set>, Halt> {
    let selector = deployment.selector();
    if selector.is_empty() {
        return Ok(Vec::new());
    }
    let args = ["get", "replicasets.apps", &format!("--selector={selector}"), "-o", "json"];
    Ok(deployment.sets(&kubectl.json(&args, hands).await?))
}

impl Work<'_> {
    /// Reads a deployment, or says what is missing.
    async fn deployment(&self, name: &str) -> Result<Deployment, Halt> {
        match self.kubectl.json(&["get", "deployments.apps", name, "-o", "json"], self.hands).await {
            Ok(value) => Ok(Deployment(value)),
            Err(Halt::Fault(fault)) if fault.kind == Kind::Missing => {
                let cluster = &self.kubectl.cluster;
                let place = self.wanted.namespace.as_deref();
                let place =
                    place.map_or(String::new(), |place| format!("namespace {place} of ")) + "cluster " + cluster;
                let line = if fault.failure.line.contains("namespaces \"") {
                    format!("there is no {place}; make it, or name another namespace")
                } else if name == self.wanted.deployment {
                    format!("there is no deployment {name} in {place}; check its name and the namespace")
                } else {
                    format!("there is no deployment {name} in {place}; a canary needs one of that name")
                };
                Err(Failure::new(Class::Config, line).into())
            }
            Err(halt) => Err(halt),
        }
    }

    fn mark(&self, back: bool) -> String {
        format!("{}{}", self.step.marker(), if back { BACK } else { "" })
    }

    /// Whether a mark is of an attempt of this very stage to go forth.
    fn is_ours(&self, mark: Option<&str>) -> bool {
        stage_of(mark).is_some_and(|stage| Some(stage) == stage_of(Some(&self.mark(false))))
    }

    /// To new images.
    async fn forth(self) -> Result<End, Halt> {
        let total = match self.wanted.weight().map_err(refused)? {
            Some(weight) => {
                let main = self.deployment(&self.wanted.deployment).await?;
                Some(main.replicas().saturating_mul(weight).div_ceil(100))
            }
            None => None,
        };
        let before = self.deployment(&self.target).await?;
        let mut change = self.change(&before, total)?;
        let known = self.note.clone().filter(|note| !note.back);
        let note = match known {
            Some(note) if note.sent || change.is_made(&before) => note,
            known => self.begin(&before, &change, known).await?,
        };
        if !note.made.is_empty() {
            // The cluster may write them in another way than we do, with digests for example.
            change.images.clone_from(&note.made);
        }
        let watch = Watch { kubectl: &self.kubectl, name: &self.target, change: Some(&change), hands: self.hands };
        match watch.run().await? {
            Ended::Live(live) => self.done(&live, &note).await,
            Ended::Failed(failure) => Ok(End::Failed(failure)),
        }
    }

    /// The one patch.
    fn change(&self, before: &Deployment, replicas: Option<u64>) -> Result<Change, Halt> {
        let (plain, init) = before.containers();
        let images: BTreeMap<String, String> =
            self.wanted.images(&plain, &init).map_err(refused)?.into_iter().collect();
        let listed: Vec<&str> = images.values().map(String::as_str).collect();
        let cause = format!("MasterChief run {} by {}: {}", self.step.run, self.step.requester, listed.join(", "));
        let mut spec = Map::new();
        if let Some(seconds) = self.wanted.deadline().map_err(refused)? {
            spec.insert("progressDeadlineSeconds".to_owned(), Value::from(seconds));
        }
        if let Some(replicas) = replicas {
            spec.insert("replicas".to_owned(), Value::from(replicas));
        }
        let mut change = Change::forth(self.mark(false), &cause, images, &init, spec);
        if change.has_images(before) && before.stage() == Stage::Exceeded {
            // The same images failed before. As `kubectl rollout restart` does, another annotation makes new pods.
            let mut annotations = Map::new();
            annotations.insert(objects::MARK.to_owned(), Value::from(self.mark(false)));
            change.patch["spec"]["template"]["metadata"] = json!({"annotations": annotations});
        }
        Ok(change)
    }

    /// Notes where we come from, then changes the deployment.
    async fn begin(&self, before: &Deployment, change: &Change, known: Option<Note>) -> Result<Note, Halt> {
        if before.paused() {
            let line = format!(
                "deployment {0} is paused, so nothing would be rolled out; run kubectl rollout resume deployment/{0}",
                self.target
            );
            return Err(Failure::new(Class::Config, line).into());
        }
        let sets = self.history(before).await?;
        if known.is_some() && sets.iter().any(|set| set.mark.as_deref() == Some(change.mark.as_str())) {
            let line = format!(
                "somebody else changed {} while the bot was away: {}",
                self.target,
                before.cause().unwrap_or_default()
            );
            return Err(Failure::new(Class::Cancelled, line).into());
        }
        let mut note = known.unwrap_or_else(|| self.origin(before, &sets));
        self.hands.note(json!(note)).await?;
        if self.hands.is_stopping() {
            return Err(Halt::Stop);
        }
        let said: Vec<String> = change.images.iter().map(|(name, image)| format!("{name}={image}")).collect();
        let text = format!("{}/{} gets {}", before.namespace(), self.target, said.join(", "));
        self.hands.log.line(&text);
        let made = change.send(&self.kubectl, &self.target, self.hands).await?.images();
        note.made = made.into_iter().filter(|(name, _)| change.images.contains_key(name)).collect();
        note.sent = true;
        self.hands.note(json!(note)).await?;
        Ok(note)
    }

    /// The history, as far as we may read it.
    async fn history(&self, deployment: &Deployment) -> Result<Vec<Set>, Halt> {
        match sets(&self.kubectl, deployment, self.hands).await {
            Err(Halt::Fault(fault)) => {
                self.hands.log.line(&format!("the history cannot be read: {}", fault.failure.line));
                Ok(Vec::new())
            }
            read => read,
        }
    }

    /// Where a way back would lead: to what is there now, or, where that is an earlier attempt of ours, to what was before it.
    fn origin(&self, before: &Deployment, sets: &[Set]) -> Note {
        let current = sets.iter().find(|set| Some(set.revision) == before.revision());
        let to = if self.is_ours(before.mark()) {
            sets.iter().find(|set| !self.is_ours(set.mark.as_deref()))
        } else {
            current
        };
        Note {
            back: false,
            sent: false,
            deployment: self.target.clone(),
            set: to.map(|set| set.name.clone()),
            revision: to.map(|set| set.revision).or_else(|| before.revision()),
            images: to.map_or_else(|| before.images(), |set| set.images.clone()),
            replicas: before.replicas(),
            made: BTreeMap::new(),
        }
    }

    /// What later stages can use, and a few words.
    async fn done(&self, live: &Deployment, note: &Note) -> Result<End, Halt> {
        let namespace = live.namespace();
        let sets = self.history(live).await?;
        let hash = sets.iter().find(|set| Some(set.revision) == live.revision()).map(|set| set.hash.clone());
        let pods = trouble::pods(&self.kubectl, live, self.hands).await?;
        let pods = pods.iter().filter(|pod| hash.as_ref().is_none_or(|hash| pod.hash == *hash));
        let rows: Vec<Value> = pods.take(ROWS).map(|pod| pod.row(namespace)).collect();
        let first = |images: &BTreeMap<String, String>| {
            let (plain, _) = live.containers();
            plain.first().and_then(|name| images.get(name).cloned())
        };
        let outputs = json!({
            "deployment": live.name(),
            "namespace": namespace,
            "revision": live.revision(),
            "image": first(&live.images()),
            "previous_revision": note.revision,
            "previous_image": first(&note.images),
            "replicas": live.replicas(),
            "pods": rows,
            "history": sets.iter().take(ROWS).map(Set::row).collect::<Vec<_>>(),
        });
        let Value::Object(outputs) = outputs else { return Ok(End::done()) };
        let revision = live.revision().map_or(String::new(), |number| format!(" as revision {number}"));
        let summary = format!("{} pods of {} live{revision}", live.replicas(), live.name());
        self.hands.log.line(&summary);
        Ok(End::Done { outputs, summary })
    }
}
