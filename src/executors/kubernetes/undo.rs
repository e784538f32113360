//! The way back: to the revision that was there before, as `kubectl rollout undo`, but found again after a restart.

use std::collections::BTreeMap;

use serde_json::json;

use super::kubectl::Halt;
use super::objects::{Deployment, Set};
use super::rollout::{Change, Ended, Note, Watch};
use super::{BACK, Work, refused, sets, stage_of};
use crate::executors::{Class, End, Failure};

impl Work<'_> {
    /// Back to the revision of this number, to the noted one, or to the one before. `is_undo` says that the settings are those of
    /// the step that is undone.
    pub(super) async fn back(self, number: Option<u64>, is_undo: bool) -> Result<End, Halt> {
        let now = self.deployment(&self.target).await?;
        let sets = sets(&self.kubectl, &now, self.hands).await?;
        if let Some(end) = self.untouched(&now, &sets, number) {
            return Ok(end);
        }
        let set = self.goal(&now, &sets, number)?.clone();
        let is_canary = self.wanted.weight().map_err(refused)?.is_some();
        let replicas = is_canary.then(|| self.note.as_ref().map_or(0, |note| note.replicas));
        let cause = format!(
            "MasterChief run {} by {}: back to revision {} ({})",
            self.step.run,
            self.step.requester,
            set.revision,
            set.said()
        );
        let change = Change::back(self.mark(true), &cause, &set, replicas);
        let sent = self.note.as_ref().is_some_and(|note| note.back && note.sent);
        let begun = sent || now.mark() == Some(&change.mark);
        let there = Some(set.revision) == now.revision() && replicas.is_none_or(|wished| wished == now.replicas());
        if !begun && !there {
            if is_undo {
                self.must_run_ours(&now)?;
            }
            self.send_back(&now, &change, &set).await?;
        }
        let already = format!("{} is already at revision {} ({})", self.target, set.revision, set.said());
        if !begun && there && now.paused() {
            // It would be watched for ever, and there is nothing to wait for.
            return self.say(&now, &already).await;
        }
        let changed = (begun || !there).then_some(&change);
        let watch = Watch { kubectl: &self.kubectl, name: &self.target, change: changed, hands: self.hands };
        match watch.run().await? {
            Ended::Live(live) if changed.is_none() => self.say(&live, &already).await,
            Ended::Live(live) => {
                let number = live.revision().map_or(String::new(), |number| format!(", now revision {number}"));
                let words =
                    format!("{} is back at {}{number}; all {} pods serve", self.target, set.said(), live.replicas());
                self.say(&live, &words).await
            }
            Ended::Failed(failure) => {
                let line = format!("the way back to {} failed too: {}", set.said(), failure.line);
                Ok(End::Failed(Failure { line, ..failure }))
            }
        }
    }

    /// The end, where the step that is to be undone never changed anything.
    fn untouched(&self, now: &Deployment, sets: &[Set], number: Option<u64>) -> Option<End> {
        let note = self.note.as_ref().filter(|note| !note.back && !note.sent && number.is_none())?;
        let ours = |mark: Option<&str>| mark == Some(&self.mark(false));
        if ours(now.mark()) || sets.iter().any(|set| ours(set.mark.as_deref())) {
            return None;
        }
        let summary = format!("{} was not changed, so there is nothing to undo", note.deployment);
        Some(End::Done { outputs: serde_json::Map::new(), summary })
    }

    /// The revision to go back to.
    fn goal<'a>(&self, now: &Deployment, sets: &'a [Set], number: Option<u64>) -> Result<&'a Set, Halt> {
        let listed: Vec<String> = sets.iter().map(|set| set.revision.to_string()).collect();
        let listed = if listed.is_empty() { "none".to_owned() } else { listed.join(", ") };
        let gone = |what: String| -> Halt {
            let line = format!("{what} is not in the history of {} (there are: {listed})", self.target);
            Failure::new(Class::Config, line).into()
        };
        if let Some(note) = self.note.as_ref().filter(|note| note.back || number.is_none()) {
            // A set keeps its name when its revision gets a new number.
            let named = sets.iter().find(|set| note.set.as_ref() == Some(&set.name));
            let alike = || sets.iter().find(|set| note.set.is_none() && set.images == note.images);
            let what =
                || note.revision.map_or("what was there before".to_owned(), |number| format!("revision {number}"));
            return named.or_else(alike).ok_or_else(|| gone(what()));
        }
        if let Some(number) = number {
            let exact = sets.iter().find(|set| set.revision == number);
            return exact.ok_or_else(|| gone(format!("revision {number}")));
        }
        if self.is_back(now) {
            let current = sets.iter().find(|set| Some(set.revision) == now.revision());
            return current.ok_or_else(|| gone("the present revision".to_owned()));
        }
        // Earlier attempts of the same stage are no way out of the last one.
        let stage = stage_of(now.mark());
        let is_other = |set: &&Set| stage.is_none() || stage_of(set.mark.as_deref()) != stage;
        let mut before = sets.iter().filter(|set| now.revision().is_none_or(|current| set.revision < current));
        before.find(is_other).ok_or_else(|| gone("a revision before this one".to_owned()))
    }

    /// Whether an earlier attempt of this step went back already.
    fn is_back(&self, now: &Deployment) -> bool {
        let forth = now.mark().and_then(|mark| mark.strip_suffix(BACK));
        forth.is_some_and(|mark| self.is_ours(Some(mark)))
    }

    /// Only a deployment that runs what the step has set may be taken back: what somebody else has set since, or what was
    /// there before a step that never came so far, must stay.
    fn must_run_ours(&self, now: &Deployment) -> Result<(), Halt> {
        let (plain, init) = now.containers();
        let wanted: BTreeMap<String, String> = match &self.note {
            Some(note) if note.back => return Ok(()),
            Some(note) if !note.made.is_empty() => note.made.clone(),
            _ => self.wanted.images(&plain, &init).map_err(refused)?.into_iter().collect(),
        };
        let has = now.images();
        let Some((name, image)) = wanted.iter().find(|(name, image)| has.get(*name) != Some(*image)) else {
            return Ok(());
        };
        let runs = has.get(name).map_or("", String::as_str);
        let line = format!("{} runs {runs} and not {image}, so there is nothing of this stage to undo", self.target);
        Err(Failure::new(Class::Config, line).into())
    }

    async fn send_back(&self, now: &Deployment, change: &Change, set: &Set) -> Result<(), Halt> {
        if now.paused() {
            let line = format!(
                "deployment {0} is paused and cannot go back; run kubectl rollout resume deployment/{0} first",
                self.target
            );
            return Err(Failure::new(Class::Config, line).into());
        }
        let replicas = self.note.as_ref().map_or(0, |note| note.replicas);
        let mut note = Note {
            back: true,
            sent: false,
            deployment: self.target.clone(),
            set: Some(set.name.clone()),
            revision: Some(set.revision),
            images: set.images.clone(),
            replicas,
            made: BTreeMap::new(),
        };
        self.hands.note(json!(note)).await?;
        if self.hands.is_stopping() {
            return Err(Halt::Stop);
        }
        let text =
            format!("{}/{} goes back to revision {} ({})", now.namespace(), self.target, set.revision, set.said());
        self.hands.log.line(&text);
        change.send(&self.kubectl, &self.target, self.hands).await?;
        note.sent = true;
        Ok(self.hands.note(json!(note)).await?)
    }

    async fn say(&self, live: &Deployment, words: &str) -> Result<End, Halt> {
        self.hands.log.line(words);
        let note = Note {
            back: true,
            sent: true,
            deployment: self.target.clone(),
            set: None,
            revision: live.revision(),
            images: live.images(),
            replicas: live.replicas(),
            made: BTreeMap::new(),
        };
        match self.done(live, &note).await? {
            End::Done { outputs, .. } => Ok(End::Done { outputs, summary: words.to_owned() }),
            end => Ok(end),
        }
    }
}
