//! What a rollout that does not come up looks like: which pods ail, what the decisive line of their log is, who serves.

use std::sync::LazyLock;

use regex::Regex;

use super::kubectl::{Halt, Kind, Kubectl, clean, plain};
use super::objects::{Counts, Deployment, PODS, Pod, Sick};
use crate::executors::{Class, Failure, Hands};

/// So many lines of a failing pod's log go to the run's log.
const TAIL: &str = "--tail=50";
/// So much of a log is read.
const TAIL_BYTES: &str = "--limit-bytes=262144";
/// The longest line of it.
const LOG_LINE_MAX: usize = 4000;
/// The longest decisive line.
const LINE_MAX: usize = 160;
/// So many different reasons are looked into; a third line of the world says who serves.
const REASONS_MAX: usize = 2;

/// The pods of a deployment. What cannot be read is told in the log: pods are for words only.
pub(super) async fn pods(kubectl: &Kubectl, deployment: &Deployment, hands: &Hands) -> Result<Vec<Pod>, Halt> {
    let selector = deployment.selector();
    if selector.is_empty() {
        return Ok(Vec::new());
    }
    let text = match kubectl.read(&["get", "pods", &format!("--selector={selector}"), "-o", PODS], hands).await {
        Ok(text) => text,
        Err(Halt::Fault(fault)) => {
            hands.log.line(&format!("the pods cannot be read: {}", fault.failure.line));
            return Ok(Vec::new());
        }
        Err(halt) => return Err(halt),
    };
    Ok(String::from_utf8_lossy(&text).lines().filter_map(Pod::read).filter(|pod| !pod.ending).collect())
}

/// The template hash of the revision a deployment is at; empty where it cannot be told.
pub(super) async fn hash(kubectl: &Kubectl, deployment: &Deployment, hands: &Hands) -> Result<String, Halt> {
    let sets = match super::sets(kubectl, deployment, hands).await {
        Ok(sets) => sets,
        Err(Halt::Fault(_)) => Vec::new(),
        Err(halt) => return Err(halt),
    };
    let current = sets.into_iter().find(|set| Some(set.revision) == deployment.revision());
    Ok(current.map_or(String::new(), |set| set.hash))
}

/// The reason that the first ailing new pod has, in a few words for the channel.
pub(super) async fn first_words(
    kubectl: &Kubectl,
    deployment: &Deployment,
    hands: &Hands,
) -> Result<Option<String>, Halt> {
    let hash = hash(kubectl, deployment, hands).await?;
    let pods = pods(kubectl, deployment, hands).await?;
    let ailing = pods.iter().filter(|pod| hash.is_empty() || pod.hash == hash).find_map(|pod| {
        let sick = pod.sick.as_ref().filter(|sick| !sick.reason.is_empty())?;
        Some(title(pod, sick))
    });
    Ok(ailing)
}

/// Makes the failure of a rollout that did not come up; `line` begins with this.
pub(super) async fn failure(
    begins: &str,
    kubectl: &Kubectl,
    deployment: &Deployment,
    hands: &Hands,
) -> Result<Failure, Halt> {
    let hash = hash(kubectl, deployment, hands).await?;
    let pods = pods(kubectl, deployment, hands).await?;
    let is_new = |pod: &&Pod| hash.is_empty() && !pod.ready || pod.hash == hash;
    let mut seen: Vec<&str> = Vec::new();
    let mut world = Vec::new();
    let mut first = None;
    for pod in pods.iter().filter(is_new) {
        let Some(sick) = pod.sick.as_ref().filter(|sick| !sick.reason.is_empty()) else { continue };
        if seen.contains(&sick.reason.as_str()) || seen.len() >= REASONS_MAX {
            continue;
        }
        seen.push(&sick.reason);
        first.get_or_insert(sick);
        let detail = decisive(kubectl, pod, sick, hands).await?.unwrap_or_else(|| sick.message.clone());
        let title = title(pod, sick);
        world.push(hands.mask.hide(&if detail.is_empty() { title } else { format!("{title}: {detail}") }));
    }
    let Counts { wished, updated, old, ready } = deployment.counts();
    world.push(if pods.is_empty() {
        who_serves(wished, updated - ready, ready, old)
    } else {
        let count = |is: &dyn Fn(&Pod) -> bool| pods.iter().filter(|pod| is(pod)).count() as u64;
        let ailing = count(&|pod| is_new(&pod) && !pod.ready);
        who_serves(wished, ailing, count(&|pod| is_new(&pod) && pod.ready), count(&|pod| !is_new(&pod) && pod.ready))
    });
    let why = match (first, deployment.refusal()) {
        (Some(sick), _) => meaning(sick),
        (None, Some(refusal)) => format!("no new pods can be made ({refusal})"),
        (None, None) => "the new pods do not get ready".to_owned(),
    };
    let line = hands.mask.hide(&format!("{begins}: {why}"));
    Ok(Failure { class: Class::AppNotReady, line, exit: None, world })
}

/// `4 of 12 pods are new and failing, 8 old ones serve`.
fn who_serves(wished: u64, ailing: u64, ready: u64, old: u64) -> String {
    let mut parts = vec![format!("{ailing} of {wished} pods are new and failing")];
    if ready > 0 {
        parts.push(format!("{ready} new {}", if ready == 1 { "one serves" } else { "ones serve" }));
    }
    parts.push(match old {
        0 if ready == 0 => "none serves".to_owned(),
        0 => "no old one is left".to_owned(),
        1 => "1 old one serves".to_owned(),
        old => format!("{old} old ones serve"),
    });
    parts.join(", ")
}

/// `web-7f9c4 CrashLoopBackOff x4`.
fn title(pod: &Pod, sick: &Sick) -> String {
    match pod.restarts {
        0 => format!("{} {}", pod.name, sick.reason),
        restarts => format!("{} {} x{restarts}", pod.name, sick.reason),
    }
}

/// What a reason means for people, with the next step.
fn meaning(sick: &Sick) -> String {
    let reason = &sick.reason;
    match reason.as_str() {
        "ImagePullBackOff" | "ErrImagePull" | "InvalidImageName" | "ErrImageNeverPull" => {
            format!("the image cannot be pulled ({reason}); check its name and the pull secret")
        }
        "OOMKilled" => format!("the new pods are killed for their memory ({reason}); raise their limit"),
        "Unschedulable" => format!("no node takes the new pods ({})", sick.message),
        "not ready" => "the new pods run, but their readiness probe does not pass".to_owned(),
        "CrashLoopBackOff" | "Error" => format!("the new pods crash ({reason})"),
        _ => format!("the new pods do not start ({reason})"),
    }
}

/// Writes the end of a failing container's log to the run's log, and gives its decisive line.
async fn decisive(kubectl: &Kubectl, pod: &Pod, sick: &Sick, hands: &Hands) -> Result<Option<String>, Halt> {
    let Some(container) = sick.container.as_deref() else { return Ok(None) };
    // A container that never started has no log.
    if pod.restarts == 0 && !matches!(sick.reason.as_str(), "not ready" | "Error" | "OOMKilled") {
        return Ok(None);
    }
    let container = format!("--container={container}");
    let args = ["logs", &pod.name, &container, TAIL, TAIL_BYTES, "--previous"];
    let mut read = Err(Halt::Stop);
    // What runs now may have said nothing yet; what ran before has said why it ended.
    for args in if pod.restarts > 0 { [&args[..], &args[..5]] } else { [&args[..5], &args[..]] } {
        read = kubectl.read(args, hands).await;
        match &read {
            Ok(text) if !text.is_empty() => break,
            Err(Halt::Stop) => break,
            Err(Halt::Fault(fault)) if fault.kind == Kind::Denied => break,
            _ => {}
        }
    }
    let text = match read {
        Ok(text) => text,
        Err(Halt::Fault(fault)) => {
            hands.log.line(&format!("the log of {} cannot be read: {}", pod.name, fault.failure.line));
            return Ok(None);
        }
        Err(halt) => return Err(halt),
    };
    let text = String::from_utf8_lossy(&text);
    hands.log.line(&format!("The last lines of {} ({}):", pod.name, container.trim_start_matches("--")));
    text.lines().for_each(|line| hands.log.line(&format!("| {}", clean(line, LOG_LINE_MAX))));
    Ok(decisive_line(&text))
}

/// Words of lines that say what went wrong.
static TELLING: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let words = "panic|fatal|critical|\\w*error|\\w*exception|cannot|can't|could not|unable to|failed|failure|denied|refused\
        |missing|no such|not found|undefined|out of memory|segmentation fault|killed";
    Regex::new(&format!("(?i)\\b({words})\\b")).ok()
});

/// The first line that looks like an error, else the last one.
fn decisive_line(text: &str) -> Option<String> {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let tells = |line: &&str| TELLING.as_ref().is_some_and(|telling| telling.is_match(line));
    let line = lines.clone().find(tells).or_else(|| lines.next_back())?;
    Some(plain(line, LINE_MAX)).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_decisive_line_of_a_log_is_found() {
        let find = |text: &str| decisive_line(text).unwrap_or_default();
        assert_eq!(find("starting\npanic: missing env KEY\nbye"), "panic: missing env KEY");
        assert_eq!(find("Traceback (most recent call last):\n  File \"a\"\nKeyError: 'X'\n"), "KeyError: 'X'");
        assert_eq!(find("starting\nthe mirror is on\nbye\n\n"), "bye");
        assert_eq!(find("\n\n"), "");
        assert_eq!(find(&format!("error: {}", "x".repeat(500))).chars().count(), LINE_MAX + 1);
    }

    #[test]
    fn who_serves_is_said_in_numbers() {
        assert_eq!(who_serves(12, 4, 0, 8), "4 of 12 pods are new and failing, 8 old ones serve");
        assert_eq!(who_serves(3, 1, 1, 1), "1 of 3 pods are new and failing, 1 new one serves, 1 old one serves");
        assert_eq!(who_serves(1, 1, 0, 0), "1 of 1 pods are new and failing, none serves");
    }
}
