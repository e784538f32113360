//! An errand of ours: asked of its runner, followed over links that break, stopped, or given up as lost.

use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::Shared;
use super::wire::{Asked, Ended, Key, Order, Progress, Request, Standing};
use crate::executors::{Class, End, Hands};
use crate::mesh::{BotName, CallFault, Mesh, WORK};
use crate::pipelines::Errand;

/// How long a runner may take to say how a step goes when there is no news.
const WAIT: u64 = 10;
/// How long it may take to answer at all.
const ANSWER: Duration = Duration::from_secs(40);
/// How long where it is only asked how it goes: one that is gone without a word, as when its cable is pulled, is away after that.
const LOOKED: Duration = Duration::from_secs(WAIT + 4);
/// How often one that is away, or has no slot, is asked again.
const AGAIN: Duration = Duration::from_millis(500);
/// How long one that is away is waited for when its step is to end; it is told when it is back.
const FAREWELL: Duration = Duration::from_secs(10);
/// How often it is told what is waited for.
const SAY: Duration = Duration::from_secs(20);
/// The file that says how much of the log we have.
const REACHED: &str = "reached";

/// Has an errand done.
pub(super) async fn run(shared: Arc<Shared>, errand: Errand, hands: Hands) -> End {
    let mut known = shared.mesh.subscribe();
    // Whoever holds us holds the sender too.
    let mesh = known.wait_for(Option::is_some).await.ok().and_then(|mesh| mesh.clone().flatten());
    let Some(mesh) = mesh else {
        let line = format!("{} cannot be reached: this bot links with no others; look at `mesh:`", errand.runner);
        return End::failed(Class::InfraLost, line);
    };
    let Ok(bot) = errand.runner.parse::<BotName>() else {
        return End::failed(Class::Config, format!("{:?} is no name of a bot", errand.runner));
    };
    let noted = errand.step.noted.as_ref();
    let instance = match noted {
        Some(noted) => noted.get("instance").and_then(Value::as_str).map(str::to_owned),
        None => shared.instances.lock().unwrap_or_else(PoisonError::into_inner).get(bot.as_str()).cloned(),
    };
    if noted.is_none() {
        // Before it is asked: should we fall now, the next one asks that runner for it and no other.
        if let Err(failure) = hands.note(json!({"runner": bot.as_str(), "instance": instance})).await {
            return End::Failed(failure);
        }
    }
    let reached = Reached::read(&errand.step.folder, hands.log.path());
    let key = Key {
        run: errand.step.run,
        stage: errand.step.stage.clone(),
        attempt: errand.step.attempt,
        begun: errand.begun,
    };
    Trip { shared, mesh, bot, errand, key, hands, instance, reached, seen: 0, away: None, said: None }.run().await
}

/// How much of a log we have: bytes of the runner's, and how long ours was then.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Reached {
    theirs: u64,
    ours: u64,
}

impl Reached {
    /// What was reached before a restart. What was written after that is asked for again, so it is cut off.
    fn read(folder: &Path, log: &Path) -> Reached {
        let text = std::fs::read_to_string(folder.join(REACHED)).unwrap_or_default();
        let reached: Reached = serde_json::from_str(&text).unwrap_or_default();
        if let Ok(file) = std::fs::File::options().write(true).open(log)
            && file.metadata().is_ok_and(|meta| meta.len() > reached.ours)
        {
            // One that cannot be cut has some lines twice.
            let _ = file.set_len(reached.ours);
        }
        reached
    }

    fn keep(&self, folder: &Path) {
        let (path, new) = (folder.join(REACHED), folder.join(format!("{REACHED}.new")));
        // Without it some lines come twice after a restart.
        let kept = std::fs::write(&new, json!(self).to_string()).and_then(|()| std::fs::rename(&new, path));
        if let Err(fault) = kept {
            tracing::debug!(%fault, "How much of a runner's log is here is not written down");
        }
    }
}

/// An errand that is under way.
struct Trip {
    shared: Arc<Shared>,
    mesh: Mesh,
    bot: BotName,
    errand: Errand,
    key: Key,
    hands: Hands,
    instance: Option<String>,
    reached: Reached,
    /// The newest words of the runner that we have.
    seen: u64,
    /// Since when the runner does not answer.
    away: Option<Instant>,
    /// When it was told last what is waited for.
    said: Option<Instant>,
}

impl Trip {
    async fn run(mut self) -> End {
        let (mut begun, mut told) = (false, false);
        loop {
            let stopping = self.hands.is_stopping();
            let asked = match (stopping && !told, begun) {
                (true, _) => Asked::Stop { key: self.key.clone() },
                (false, false) => match self.order() {
                    Ok(order) => Asked::Begin(Box::new(order)),
                    Err(end) => return end,
                },
                (false, true) => {
                    let (key, from, seen) = (self.key.clone(), self.reached.theirs, self.seen);
                    Asked::Look { key, from, seen, wait: WAIT }
                }
            };
            let (looks, stops) = (matches!(asked, Asked::Look { .. }), matches!(asked, Asked::Stop { .. }));
            let answered = tokio::select! {
                answered = self.ask(asked) => answered,
                // What only looks can be left; what begins something must be known to have arrived.
                () = self.hands.stopping(), if looks && !stopping => continue,
            };
            let progress = match answered {
                Ok(progress) => progress,
                Err(fault) => match self.absent(fault).await {
                    Some(end) => return end,
                    None => continue,
                },
            };
            if self.away.take().is_some() {
                self.said = None;
            }
            match progress.standing {
                Standing::Here => {
                    begun = true;
                    told |= stops;
                    if let Some(end) = self.take(progress) {
                        return end;
                    }
                }
                Standing::Unknown if stopping => return End::Stopped,
                Standing::Unknown => begun = false,
                Standing::Full => {
                    self.say(&format!("waits for a slot on {}", self.bot));
                    self.hands.pause(AGAIN).await;
                }
                Standing::Other => return self.lost("was made anew, and knows nothing of it"),
                Standing::Refused(why) => return End::failed(Class::Config, why),
            }
        }
    }

    /// What the runner is to do. Secrets go only over a link of our own that nobody reads.
    fn order(&self) -> Result<Order, End> {
        let Errand { executor, step, secrets, timeout, .. } = &self.errand;
        let sealed = self.mesh.view().links.iter().any(|link| link.peer.bot == self.bot && link.peer.encrypted);
        let linked = self.mesh.view().way_to(&self.bot).is_some();
        if !secrets.is_empty() && linked && !sealed {
            let line = format!(
                "its secrets go to {} only over a link of their own with TLS; link {} and {} directly, or take the secrets out",
                self.bot,
                self.mesh.name(),
                self.bot
            );
            return Err(End::failed(Class::Config, line));
        }
        let about = &step.about;
        Ok(Order {
            key: self.key.clone(),
            executor: executor.clone(),
            settings: step.settings.clone(),
            env: step.env.iter().map(|(name, value)| (name.clone(), value.reveal().to_owned())).collect(),
            hide: secrets.iter().map(|secret| secret.reveal().to_owned()).collect(),
            memory: step.limits.memory,
            cpu: step.limits.cpu,
            disk: step.limits.disk,
            timeout: timeout.as_secs(),
            requester: step.requester.clone(),
            app: about.app.clone(),
            environment: about.env.clone(),
            sha: about.sha.clone(),
            reference: about.reference.clone(),
            repo: about.repo.clone(),
            checkpoint: step.checkpoint.clone(),
            instance: self.instance.clone(),
        })
    }

    async fn ask(&self, asked: Asked) -> Result<Progress, CallFault> {
        let patience = if matches!(asked, Asked::Look { .. }) { LOOKED } else { ANSWER };
        let request = Request { epoch: self.errand.epoch, asked };
        let text = serde_json::to_string(&request).map_err(|fault| CallFault::Refused(fault.to_string()))?;
        let answer = self.mesh.own(&self.bot, WORK, &text, patience).await?;
        serde_json::from_str(&answer).map_err(|fault| CallFault::Refused(fault.to_string()))
    }

    /// Takes in how it goes; its end, when all is told.
    fn take(&mut self, progress: Progress) -> Option<End> {
        let Progress { text, next, told, seen, end, instance, .. } = progress;
        if !instance.is_empty() {
            self.instance.get_or_insert(instance);
        }
        let text = BASE64.decode(text).unwrap_or_default();
        if !text.is_empty() {
            self.hands.log.line(&String::from_utf8_lossy(&text));
            let ours = std::fs::metadata(self.hands.log.path()).map_or(0, |meta| meta.len());
            self.reached = Reached { theirs: next, ours };
            self.reached.keep(&self.errand.step.folder);
        }
        if seen != self.seen {
            self.seen = seen;
            if !told.is_empty() {
                self.hands.tell(told);
            }
        }
        let Ended { how, left, checkpoint } = end?;
        let folder = &self.errand.step.folder;
        if let Err(fault) = leave(folder, &left, checkpoint.as_ref()) {
            return Some(End::failed(
                Class::DiskFull,
                format!("what {} gave cannot be written here: {fault}", self.bot),
            ));
        }
        Some(how.into())
    }

    /// The runner does not answer. It goes on without us, and is asked again; the end, once it has been away too long.
    async fn absent(&mut self, fault: CallFault) -> Option<End> {
        match &fault {
            // The bot goes down; the next one asks again.
            CallFault::Closing => std::future::pending().await,
            CallFault::TooLong => {
                let line = "what it is told is longer than the mesh carries; put it into the repository";
                return Some(End::failed(Class::Config, line));
            }
            _ => {}
        }
        let since = match self.away {
            Some(since) => since,
            None => {
                tracing::warn!(runner = %self.bot, %fault, stage = %self.key.stage, run = self.key.run, "A runner does not answer");
                *self.away.insert(Instant::now())
            }
        };
        self.say(&format!("{} is away; what it does goes on there", self.bot));
        if self.hands.is_stopping() && since.elapsed() >= FAREWELL {
            self.hands.log.line(&format!("{} is away; it is told to stop when it is back", self.bot));
            return Some(End::Stopped);
        }
        let patience = self.shared.settings.load().patience;
        if since.elapsed() >= patience {
            let time = humantime_serde::re::humantime::format_duration(patience);
            if let CallFault::Refused(why) = &fault {
                return Some(self.lost(&format!("refuses since {time}: {why}")));
            }
            return Some(self.lost(&format!("is away since {time}, and whether its work goes on there is not known")));
        }
        // A stop that is told already need not be waited for.
        tokio::time::sleep(AGAIN).await;
        None
    }

    /// Tells people what is waited for, now and then: a step that only waits for its runner is not one that hangs.
    fn say(&mut self, words: &str) {
        if self.said.is_none_or(|at| at.elapsed() >= SAY) {
            self.said = Some(Instant::now());
            self.hands.tell(words);
        }
    }

    fn lost(&self, why: &str) -> End {
        End::failed(Class::InfraLost, format!("its runner {} {why}", self.bot))
    }
}

/// Writes what a step gave where its executor would have left it here.
fn leave(folder: &Path, left: &Map<String, Value>, checkpoint: Option<&Value>) -> std::io::Result<()> {
    let line = |(name, value): (&String, &Value)| match value {
        Value::String(text) => format!("{name}={text}\n"),
        other => format!("{name}={other}\n"),
    };
    if !left.is_empty() {
        std::fs::write(folder.join("output"), left.iter().map(line).collect::<String>())?;
    }
    if let Some(checkpoint) = checkpoint {
        std::fs::write(folder.join("checkpoint"), checkpoint.to_string())?;
    }
    Ok(())
}
