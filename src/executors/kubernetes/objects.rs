//! Deployments, their replica sets and pods as the API tells them, and how far a rollout is.
//!
//! How a rollout is judged follows `rollout_status.go` of kubectl; revisions follow `history.go` and `rollback.go`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::kubectl::plain;

/// Where the controller keeps the number of a revision.
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
/// Where `kubectl rollout history` looks for the reason.
pub(super) const CAUSE: &str = "kubernetes.io/change-cause";
/// Which step of ours changed it last.
pub(super) const MARK: &str = "masterchief/run";
/// The label that tells pods of one replica set from those of another.
pub(super) const HASH: &str = "pod-template-hash";
/// The longest message of the cluster that is passed on.
const MESSAGE_MAX: usize = 160;
/// The deadline of a deployment that says none (`SetDefaults_Deployment`).
const DEADLINE: u64 = 600;

/// A deployment.
#[derive(Clone, Debug)]
pub(super) struct Deployment(pub(super) Value);

/// How far a rollout is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The controller has not seen the change: its numbers are about the one before.
    Unseen,
    /// It goes on.
    Going,
    /// Nothing goes on until somebody resumes it.
    Paused,
    /// It made no progress within its deadline.
    Exceeded,
    /// All pods are new and available.
    Live,
}

/// How many pods there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Of all, as wished.
    pub(super) wished: u64,
    /// New ones.
    pub(super) updated: u64,
    /// Old ones that are still there.
    pub(super) old: u64,
    /// New ones that are ready, at least.
    pub(super) ready: u64,
}

fn map_at<'a>(value: &'a Value, path: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    value.pointer(path).and_then(Value::as_object).into_iter().flatten()
}

fn list_at<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    value.pointer(path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text_at<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or("")
}

fn annotation<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get("metadata")?.get("annotations")?.get(name)?.as_str()
}

/// The containers of a template: their names and images.
fn images_of(value: &Value, list: &str) -> Vec<(String, String)> {
    let each = list_at(value, &format!("/spec/template/spec/{list}")).iter();
    each.map(|one| (text_at(one, "/name").to_owned(), text_at(one, "/image").to_owned())).collect()
}

fn all_images(value: &Value) -> BTreeMap<String, String> {
    images_of(value, "containers").into_iter().chain(images_of(value, "initContainers")).collect()
}

impl Deployment {
    fn count(&self, path: &str) -> u64 {
        self.0.pointer(path).and_then(Value::as_u64).unwrap_or(0)
    }

    /// Where it is.
    pub(super) fn namespace(&self) -> &str {
        text_at(&self.0, "/metadata/namespace")
    }

    /// What it is called.
    pub(super) fn name(&self) -> &str {
        text_at(&self.0, "/metadata/name")
    }

    /// Grows with every change of what is wished.
    pub(super) fn generation(&self) -> u64 {
        self.count("/metadata/generation")
    }

    /// How many pods are wished; one where nothing is said.
    pub(super) fn replicas(&self) -> u64 {
        self.0.pointer("/spec/replicas").and_then(Value::as_u64).unwrap_or(1)
    }

    /// Within how many seconds there must be some progress.
    pub(super) fn deadline(&self) -> u64 {
        self.0.pointer("/spec/progressDeadlineSeconds").and_then(Value::as_u64).unwrap_or(DEADLINE)
    }

    /// Whether it is paused.
    pub(super) fn paused(&self) -> bool {
        self.0.pointer("/spec/paused") == Some(&Value::Bool(true))
    }

    /// The revision it is at, once the controller has given it a number.
    pub(super) fn revision(&self) -> Option<u64> {
        annotation(&self.0, REVISION)?.parse().ok()
    }

    /// Which step of ours changed it last.
    pub(super) fn mark(&self) -> Option<&str> {
        annotation(&self.0, MARK)
    }

    /// Why it was changed last.
    pub(super) fn cause(&self) -> Option<String> {
        annotation(&self.0, CAUSE).map(|text| plain(text, MESSAGE_MAX))
    }

    /// The containers that stay, and those that run before them.
    pub(super) fn containers(&self) -> (Vec<String>, Vec<String>) {
        let names = |list| images_of(&self.0, list).into_iter().map(|(name, _)| name).collect();
        (names("containers"), names("initContainers"))
    }

    /// All images, by container.
    pub(super) fn images(&self) -> BTreeMap<String, String> {
        all_images(&self.0)
    }

    /// How many pods there are.
    pub(super) fn counts(&self) -> Counts {
        let updated = self.count("/status/updatedReplicas");
        let old = self.count("/status/replicas").saturating_sub(updated);
        let ready = self.count("/status/availableReplicas").saturating_sub(old).min(updated);
        Counts { wished: self.replicas(), updated, old, ready }
    }

    fn condition(&self, kind: &str) -> Option<&Value> {
        list_at(&self.0, "/status/conditions").iter().find(|one| text_at(one, "/type") == kind)
    }

    /// How far it is. Numbers of an older generation are not believed.
    pub(super) fn stage(&self) -> Stage {
        if self.count("/status/observedGeneration") < self.generation() {
            return Stage::Unseen;
        }
        if self.paused() {
            return Stage::Paused;
        }
        if self.condition("Progressing").is_some_and(|one| text_at(one, "/reason") == "ProgressDeadlineExceeded") {
            return Stage::Exceeded;
        }
        let Counts { wished, updated, old, .. } = self.counts();
        if updated < wished || old > 0 || self.count("/status/availableReplicas") < updated {
            return Stage::Going;
        }
        Stage::Live
    }

    /// Why no pods can be made, such as a quota.
    pub(super) fn refusal(&self) -> Option<String> {
        let failing = self.condition("ReplicaFailure").filter(|one| text_at(one, "/status") == "True")?;
        Some(plain(text_at(failing, "/message"), MESSAGE_MAX))
    }

    /// The selector as `kubectl --selector` takes it.
    pub(super) fn selector(&self) -> String {
        let labels = map_at(&self.0, "/spec/selector/matchLabels");
        let mut parts: Vec<String> =
            labels.filter_map(|(name, value)| Some(format!("{name}={}", value.as_str()?))).collect();
        for one in list_at(&self.0, "/spec/selector/matchExpressions") {
            let values: Vec<&str> = list_at(one, "/values").iter().filter_map(Value::as_str).collect();
            let (key, values) = (text_at(one, "/key"), values.join(","));
            match text_at(one, "/operator") {
                "In" => parts.push(format!("{key} in ({values})")),
                "NotIn" => parts.push(format!("{key} notin ({values})")),
                "Exists" => parts.push(key.to_owned()),
                "DoesNotExist" => parts.push(format!("!{key}")),
                _ => {}
            }
        }
        parts.join(",")
    }

    /// Its replica sets among these, the newest revision first.
    pub(super) fn sets(&self, list: &Value) -> Vec<Set> {
        let uid = text_at(&self.0, "/metadata/uid");
        let owned =
            |one: &&Value| list_at(one, "/metadata/ownerReferences").iter().any(|own| text_at(own, "/uid") == uid);
        let mut sets: Vec<Set> = list_at(list, "/items").iter().filter(owned).filter_map(Set::read).collect();
        sets.sort_by_key(|set| std::cmp::Reverse(set.revision));
        sets
    }
}

/// A replica set: one revision of a deployment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Set {
    /// What it is called; the same for the same template, whatever its number.
    pub(super) name: String,
    pub(super) revision: u64,
    pub(super) mark: Option<String>,
    cause: Option<String>,
    pub(super) images: BTreeMap<String, String>,
    pub(super) hash: String,
    template: Value,
}

impl Set {
    fn read(value: &Value) -> Option<Set> {
        Some(Set {
            name: text_at(value, "/metadata/name").to_owned(),
            revision: annotation(value, REVISION)?.parse().ok()?,
            mark: annotation(value, MARK).map(str::to_owned),
            cause: annotation(value, CAUSE).map(|text| plain(text, MESSAGE_MAX)),
            images: all_images(value),
            hash: text_at(value, &format!("/metadata/labels/{HASH}")).to_owned(),
            template: value.pointer("/spec/template")?.clone(),
        })
    }

    /// The template as the deployment had it.
    pub(super) fn template(&self) -> Value {
        let mut template = self.template.clone();
        if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
            labels.remove(HASH);
        }
        template
    }

    /// Its images, for people.
    pub(super) fn said(&self) -> String {
        self.images.values().cloned().collect::<Vec<_>>().join(", ")
    }

    /// A row of the history.
    pub(super) fn row(&self) -> Value {
        json!({"revision": self.revision, "cause": self.cause, "run": self.mark, "images": self.images})
    }
}

/// What [`Pod::read`] wants to know, a line for each pod: bounded, however long their specifications are.
pub(super) const PODS: &str = "jsonpath={range .items[*]}{.metadata.name}{\"\\t\"}{.metadata.labels.pod-template-hash}\
    {\"\\t\"}{.metadata.deletionTimestamp}{\"\\t\"}{.status.phase}{\"\\t\"}{.status.conditions}\
    {\"\\t\"}{.status.initContainerStatuses}{\"\\t\"}{.status.containerStatuses}{\"\\n\"}{end}";

/// A pod.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pod {
    pub(super) name: String,
    pub(super) hash: String,
    /// Whether it is about to go.
    pub(super) ending: bool,
    pub(super) phase: String,
    pub(super) ready: bool,
    pub(super) restarts: u64,
    pub(super) sick: Option<Sick>,
}

/// Why a pod is not ready.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sick {
    /// In the words of the cluster, `CrashLoopBackOff`; empty where it may still come up.
    pub(super) reason: String,
    /// What the cluster says to it.
    pub(super) message: String,
    /// Whose log may tell more.
    pub(super) container: Option<String>,
}

impl Pod {
    /// Reads one line of [`PODS`].
    pub(super) fn read(line: &str) -> Option<Pod> {
        let fields: Vec<&str> = line.split('\t').collect();
        let [name, hash, deletion, phase, conditions, init, main] = fields.as_slice() else { return None };
        if name.is_empty() || name.starts_with('-') {
            return None;
        }
        let list = |text: &str| serde_json::from_str::<Vec<Value>>(text).unwrap_or_default();
        let (conditions, statuses) = (list(conditions), [list(init), list(main)].concat());
        let condition = |kind: &str| conditions.iter().find(|one| text_at(one, "/type") == kind);
        let ready = condition("Ready").is_some_and(|one| text_at(one, "/status") == "True");
        let unscheduled = condition("PodScheduled").filter(|one| text_at(one, "/status") == "False");
        let sick = statuses.iter().find_map(sickness).or_else(|| {
            let unscheduled = unscheduled?;
            let message = plain(text_at(unscheduled, "/message"), MESSAGE_MAX);
            Some(Sick { reason: plain(text_at(unscheduled, "/reason"), 60), message, container: None })
        });
        Some(Pod {
            name: (*name).to_owned(),
            hash: (*hash).to_owned(),
            ending: !deletion.is_empty(),
            phase: plain(phase, 20),
            ready,
            restarts: statuses.iter().filter_map(|one| one.get("restartCount")?.as_u64()).sum(),
            sick: if ready { None } else { Some(sick.unwrap_or_default()) },
        })
    }

    /// A row for outputs.
    pub(super) fn row(&self, namespace: &str) -> Value {
        let reason = self.sick.as_ref().map(|sick| sick.reason.as_str()).filter(|reason| !reason.is_empty());
        json!({"name": self.name, "phase": self.phase, "ready": self.ready, "restarts": self.restarts,
            "reason": reason, "namespace": namespace})
    }
}

/// What is wrong with one container.
fn sickness(status: &Value) -> Option<Sick> {
    let container = Some(text_at(status, "/name").to_owned()).filter(|name| !name.is_empty());
    let sick = |reason: &str, message: &str| {
        let (reason, message) = (plain(reason, 60), plain(message, MESSAGE_MAX));
        Some(Sick { reason, message, container: container.clone() })
    };
    let last = text_at(status, "/lastState/terminated/reason");
    let waiting = text_at(status, "/state/waiting/reason");
    match waiting {
        "" => {}
        // These are on their way; a reason of a container beside them says more.
        "ContainerCreating" | "PodInitializing" => return None,
        "CrashLoopBackOff" if last == "OOMKilled" => return sick(last, "killed for its memory"),
        _ => return sick(waiting, text_at(status, "/state/waiting/message")),
    }
    let code = status.pointer("/state/terminated/exitCode").and_then(Value::as_i64);
    if code.is_some_and(|code| code != 0) {
        return sick(text_at(status, "/state/terminated/reason"), text_at(status, "/state/terminated/message"));
    }
    let running = status.pointer("/state/running").is_some() && status.get("ready") == Some(&Value::Bool(false));
    match (running, last) {
        (false, _) => None,
        (true, "") => sick("not ready", ""),
        (true, last) => sick(last, text_at(status, "/lastState/terminated/message")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(status: Value) -> Deployment {
        Deployment(json!({"metadata": {"generation": 5}, "spec": {"replicas": 12}, "status": status}))
    }

    #[test]
    fn numbers_of_an_older_generation_are_not_believed() {
        let all = json!({"observedGeneration": 4, "replicas": 12, "updatedReplicas": 12, "availableReplicas": 12});
        assert_eq!(deployment(all.clone()).stage(), Stage::Unseen);
        let mut seen = all;
        seen["observedGeneration"] = json!(5);
        assert_eq!(deployment(seen).stage(), Stage::Live);
        assert_eq!(deployment(json!(null)).stage(), Stage::Unseen);
        assert_eq!(Deployment(json!(7)).stage(), Stage::Going);
    }

    #[test]
    fn a_rollout_goes_on_until_all_are_new_none_is_old_and_all_are_available() {
        let stage = |updated: u64, total: u64, available: u64| {
            let status = json!({"observedGeneration": 5, "replicas": total, "updatedReplicas": updated,
                "availableReplicas": available});
            deployment(status).stage()
        };
        assert_eq!(stage(4, 13, 9), Stage::Going);
        assert_eq!(stage(12, 13, 13), Stage::Going);
        assert_eq!(stage(12, 12, 11), Stage::Going);
        assert_eq!(stage(12, 12, 12), Stage::Live);
        let exceeded = json!({"observedGeneration": 5, "updatedReplicas": 4, "replicas": 12, "availableReplicas": 8,
            "conditions": [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]});
        assert_eq!(deployment(exceeded.clone()).stage(), Stage::Exceeded);
        assert_eq!(deployment(exceeded).counts(), Counts { wished: 12, updated: 4, old: 8, ready: 0 });
    }

    #[test]
    fn a_selector_is_written_as_kubectl_takes_it() {
        let spec = json!({"matchLabels": {"app": "shop", "tier": "web"}, "matchExpressions": [
            {"key": "zone", "operator": "In", "values": ["a", "b"]}, {"key": "old", "operator": "DoesNotExist"}]});
        let deployment = Deployment(json!({"spec": {"selector": spec}}));
        assert_eq!(deployment.selector(), "app=shop,tier=web,zone in (a,b),!old");
    }

    #[test]
    fn a_pod_says_what_ails_it() {
        let read = |conditions: Value, main: Value| {
            Pod::read(&format!("shop-1-a\t1\t\tRunning\t{conditions}\t\t{main}")).unwrap().sick
        };
        let reason = |state: Value, last: Value| {
            let status = json!([{"name": "shop", "ready": false, "state": state, "lastState": last}]);
            read(json!([]), status).unwrap().reason
        };
        let crash = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        assert_eq!(reason(crash.clone(), json!({})), "CrashLoopBackOff");
        assert_eq!(reason(crash, json!({"terminated": {"reason": "OOMKilled"}})), "OOMKilled");
        assert_eq!(reason(json!({"waiting": {"reason": "ContainerCreating"}}), json!({})), "");
        assert_eq!(reason(json!({"running": {}}), json!({})), "not ready");
        assert_eq!(reason(json!({"terminated": {"exitCode": 1, "reason": "Error"}}), json!({})), "Error");
        let unscheduled =
            json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3"}]);
        assert_eq!(read(unscheduled, json!([])).unwrap().reason, "Unschedulable");
        assert_eq!(read(json!([{"type": "Ready", "status": "True"}]), json!([])), None);
        for hostile in ["", "a\tb", "--all\t\t\t\t\t\t", "\t\t\t\t\t\t"] {
            assert_eq!(Pod::read(hostile), None);
        }
        assert!(Pod::read("a\t\t\t\tnot json\t[7]\t{}").unwrap().sick.is_some());
    }
}
