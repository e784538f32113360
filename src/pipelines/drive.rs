//! Drives the engine: takes what is told, lets it decide, writes, and then lets things happen.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::{Action, Cause, Class, Clock, How, Mark, Outlet, Shutdown, split_place};
use tokio::sync::{broadcast, mpsc, watch};

use super::announce::NOTICE;
use super::around::Around;
use super::engine::{Effect, Engine, Msg, News};
use super::held::{Held, Line};
use super::hooks::{HOOK, Post, poster};
use super::mails::{MAIL, mail, mailer};
use super::steps::Steps;
use crate::executors::{Mail, NetHttp, apart};
use crate::store::Anchor;
use crate::store::runs::{Put, Runs, RunsError};

/// How long what became of a run is worth saying.
const WORTH: Duration = Duration::from_secs(24 * 3600);
/// So much is taken in at once before it is written.
const GROUP: usize = 4096;
/// Lines that wait for a network.
const SPEECH: usize = 4096;
/// How often a line is tried again: what is taken up after a restart is said before the networks are there.
const TRIES: u32 = 20;
/// The time between two of these tries.
const AGAIN: Duration = Duration::from_millis(500);
/// How long records that are on a server may take at the end.
const OVERDUE: Duration = Duration::from_secs(5);
/// The longest wait between two looks at the clock.
const LOOK: Duration = Duration::from_secs(3600);

/// What it takes to drive an engine.
pub(super) struct Drive {
    pub(super) engine: Engine,
    pub(super) runs: Runs,
    pub(super) steps: Steps,
    pub(super) from: mpsc::Receiver<Msg>,
    pub(super) news: broadcast::Sender<Arc<News>>,
    pub(super) outlet: Arc<dyn Outlet>,
    pub(super) clock: Clock,
    pub(super) around: Arc<dyn Around>,
    /// The newest line of the incident log that is durable.
    pub(super) chained: watch::Sender<Option<Anchor>>,
    /// Where lines for each network go.
    pub(super) speaking: BTreeMap<String, mpsc::Sender<Action>>,
    /// Where lines for each hook go.
    pub(super) posting: BTreeMap<String, mpsc::Sender<Post>>,
    /// Where mail goes, once there is some.
    pub(super) mailing: Option<mpsc::Sender<Mail>>,
    /// Lines for networks that are away.
    pub(super) held: Held,
    /// The file that says that we went down in order.
    pub(super) stopped: PathBuf,
}

impl Drive {
    /// Runs until it is time. Steps that are under way go on without us.
    pub(super) async fn run(mut self, shutdown: Shutdown) {
        self.drive(shutdown).await;
        self.runs.release().await;
        // Without it the next one tells what ended just now once more.
        if let Err(fault) = tokio::fs::write(&self.stopped, "").await {
            tracing::debug!(%fault, "That the runs ended in order is not written down");
        }
    }

    async fn drive(&mut self, mut shutdown: Shutdown) {
        self.engine.now = self.now();
        let known = self.engine.runs.keys().chain(&self.engine.unreadable).copied().collect();
        self.steps.sweep(self.engine.last_run, known);
        self.engine.resume();
        loop {
            if !self.settle(&mut shutdown).await {
                return;
            }
            let wait = self
                .engine
                .next_due()
                .map_or(LOOK, |due| Duration::from_millis((due - self.now()).max(0).unsigned_abs()));
            let first = tokio::select! {
                msg = self.from.recv() => match msg {
                    Some(msg) => Some(msg),
                    None => return,
                },
                () = tokio::time::sleep(wait.min(LOOK)) => None,
                () = shutdown.recv() => return,
            };
            self.engine.now = self.now();
            let mut next = first;
            for _ in 0..GROUP {
                let Some(msg) = next else { break };
                self.take(msg);
                next = self.from.try_recv().ok();
            }
            if let Some(msg) = next {
                self.take(msg);
            }
            self.engine.tick();
        }
    }

    fn take(&mut self, msg: Msg) {
        if let Msg::Back(network, _) = &msg {
            for target in self.held.on(network) {
                let lines = self.held.take(&target);
                self.engine.effects.extend(lines.into_iter().map(|line| said(&target, line)));
            }
        }
        self.engine.take(msg);
    }

    /// Keeps lines for networks that are away, and lets those go that waited for one that is there. What is kept is not noted as
    /// said: should we fall, the next one says it.
    fn hold(&mut self, effects: Vec<Effect>) -> Vec<Effect> {
        let mut out = Vec::with_capacity(effects.len());
        for effect in effects {
            let Effect::Say { run, dedupe, target, text, passing } = effect else {
                out.push(effect);
                continue;
            };
            let elsewhere = target.starts_with(HOOK) || target.starts_with(MAIL);
            let present = elsewhere || self.around.present(target.trim_start_matches(NOTICE));
            if passing && !present {
                // How it went then is nobody's news any more.
                self.engine.puts.push(Put::Said(dedupe, self.engine.now));
                continue;
            }
            let gone = self.held.keep(&target, Line { run, at: self.engine.now, dedupe, text, passing });
            self.engine.puts.extend(gone.into_iter().map(|dedupe| Put::Said(dedupe, self.engine.now)));
            if present {
                out.extend(self.held.take(&target).into_iter().map(|line| said(&target, line)));
            }
        }
        out
    }

    fn now(&self) -> i64 {
        self.clock.now().timestamp_millis()
    }

    /// Writes what was decided, and lets it happen; whether to go on.
    async fn settle(&mut self, shutdown: &mut Shutdown) -> bool {
        loop {
            let (puts, effects) = self.engine.drain();
            if puts.is_empty() && effects.is_empty() {
                return true;
            }
            let newest = puts.iter().rev().find_map(|put| match put {
                Put::Incident(row) => Some(Anchor { id: row.id, hash: row.hash.clone() }),
                _ => None,
            });
            if !puts.is_empty() && !self.write(puts, shutdown).await {
                return false;
            }
            if newest.is_some() {
                self.chained.send_replace(newest);
            }
            let effects = self.hold(effects);
            // Written down as said before it is: twice would be worse than not at all, and the newest state is told anew.
            let said: Vec<Put> = effects
                .iter()
                .filter_map(|effect| match effect {
                    Effect::Say { dedupe, .. } => Some(Put::Said(dedupe.clone(), self.engine.now)),
                    _ => None,
                })
                .collect();
            if !said.is_empty() && !self.write(said, shutdown).await {
                return false;
            }
            for effect in effects {
                self.happen(effect);
            }
        }
    }

    /// Writes until it is written: runs wait for their records, they do not fail for want of them.
    async fn write(&self, puts: Vec<Put>, shutdown: &mut Shutdown) -> bool {
        let (mut wait, puts) = (Duration::from_millis(100), Arc::new(puts));
        loop {
            let written = tokio::select! {
                written = self.runs.write_shared(Arc::clone(&puts)) => written,
                () = overdue(shutdown) => return false,
            };
            match written {
                Ok(()) => return true,
                Err(fault @ RunsError::Taken(_)) => {
                    // What is under way goes on, and the other one has found it.
                    tracing::error!(%fault, "Runs end here");
                    return false;
                }
                Err(fault) => tracing::error!(%fault, "Runs wait: their records cannot be written"),
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(Duration::from_secs(10)),
                () = shutdown.recv() => return false,
            }
        }
    }

    fn happen(&mut self, effect: Effect) {
        match effect {
            Effect::Start(order) => self.steps.start(*order),
            Effect::Stop(run, stage) => self.steps.stop(run, stage),
            Effect::Abandon(run, stage, attempt) => self.steps.abandon(run, &stage, attempt),
            Effect::Look(run, pipeline, env, facts) => {
                let steps = self.steps.clone();
                tokio::spawn(async move {
                    let told = steps.look(&pipeline, &env, &facts).await;
                    // At shutdown nobody needs it any more; the next one asks again.
                    let _ = steps.inner.to.send(Msg::Checked(run, told)).await;
                });
            }
            Effect::Calendars(mut calendars, files) => {
                let to = self.steps.inner.to.clone();
                tokio::spawn(async move {
                    let read = apart(move || calendars.refresh(&files).then_some(calendars)).await;
                    if let Some(Some(calendars)) = read {
                        // At shutdown nobody needs it any more.
                        let _ = to.send(Msg::Calendars(Box::new(calendars))).await;
                    }
                });
            }
            Effect::Say { dedupe, target, text, .. } if target.starts_with(HOOK) => {
                let text = self.around.hide(&text);
                self.post(&target, dedupe, text);
            }
            Effect::Say { dedupe, target, text, .. } if target.starts_with(MAIL) => {
                let text = self.around.hide(&text);
                self.mail(&target, &dedupe, &text);
            }
            Effect::Say { run, target, text, passing, .. } => {
                let class = if passing { Class::Progress } else { Class::Reply };
                let how = if target.starts_with(NOTICE) { How::Notice } else { How::Say };
                self.say(target.trim_start_matches(NOTICE), text, how, class, run);
            }
            Effect::Tell { place, nick, text } => {
                let (network, _) = split_place(&place);
                let target = if network.is_empty() { nick } else { format!("{network}/{nick}") };
                self.say(&target, text, How::Notice, Class::Reply, 0);
            }
            Effect::News(news) => {
                // Nobody may be listening.
                let _ = self.news.send(Arc::new(news));
            }
            Effect::Answer(to, answer) => {
                // Whoever asked may have gone.
                let _ = to.send(answer);
            }
            Effect::Noted(to) => {
                let _ = to.send(Ok(()));
            }
            Effect::Keep(run, given) => self.steps.keep(run, &given),
            Effect::Forget(run) => self.steps.forget(run),
            Effect::Tidy(run, whole) => self.steps.tidy(run, whole),
        }
    }

    /// Hands a line to a hook, through a task of its own.
    fn post(&mut self, target: &str, delivery: String, text: String) {
        let name = target.trim_start_matches(HOOK);
        let Some(hook) = self.engine.settings.hooks.get(name).cloned() else {
            tracing::warn!(hook = %name, "A pipeline is announced to a hook that is not in pipelines.hooks");
            return;
        };
        let posting = self.posting.entry(name.to_owned()).or_insert_with(|| poster(name, Arc::new(NetHttp)));
        if posting.try_send(Post { hook, delivery, text }).is_err() {
            tracing::warn!(hook = %name, "A line about a run was given up: its hook takes none");
        }
    }

    /// Hands a line to whoever sends mail.
    fn mail(&mut self, target: &str, key: &str, text: &str) {
        let Some(mail) = mail(&self.engine.settings.mail, target, key, text, self.now()) else {
            tracing::warn!(%target, "A pipeline is announced to a list that is not in pipelines.mail.lists");
            return;
        };
        if self.mailing.get_or_insert_with(mailer).try_send(mail).is_err() {
            tracing::warn!(%target, "A line about a run was given up: too many wait to be sent as mail");
        }
    }

    /// Hands a line to its network, through a task of that network: one that takes nothing must not hold up the runs, and lines
    /// to one place keep their order.
    fn say(&mut self, target: &str, text: String, how: How, class: Class, run: i64) {
        let (network, target) = split_place(target);
        let action = Action::Say { network: network.to_owned(), target: target.to_owned(), text, how, reply: false };
        // How a run ended is worth saying after a long outage too.
        let expires = (class != Class::Progress).then_some(WORTH);
        let cause = Cause { kind: "pipeline".to_owned(), origin: "pipelines".to_owned(), run, ..Cause::default() };
        let action =
            action.marked(Mark { class: Some(class), expires, cause: Some(Arc::new(cause)), ..Mark::default() });
        let outlet = &self.outlet;
        let speaking = self.speaking.entry(network.to_owned()).or_insert_with(|| speak(Arc::clone(outlet)));
        if speaking.try_send(action).is_err() {
            tracing::warn!(%target, "A line about a run was given up: its network takes none");
        }
    }
}

/// Ready when it has been time to go for a while: a server that does not answer must not keep us.
async fn overdue(shutdown: &mut Shutdown) {
    shutdown.recv().await;
    tokio::time::sleep(OVERDUE).await;
}

/// A line that waited is to be said.
fn said(target: &str, line: Line) -> Effect {
    let Line { run, dedupe, text, passing, .. } = line;
    Effect::Say { run, dedupe, target: target.to_owned(), text, passing }
}

/// A task that hands lines on, one after the other.
fn speak(outlet: Arc<dyn Outlet>) -> mpsc::Sender<Action> {
    let (to, mut from) = mpsc::channel::<Action>(SPEECH);
    tokio::spawn(async move {
        while let Some(action) = from.recv().await {
            let mut tries = 0;
            while let Err(refused) = outlet.perform(action.clone()).await {
                tries += 1;
                if tries > TRIES {
                    tracing::warn!(%refused, "A line about a run was refused");
                    break;
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    });
    to
}

/// How long stages took before, as medians.
pub(super) fn medians(rows: Vec<(String, i64)>) -> HashMap<String, f64> {
    let mut by_name: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    for (name, time) in rows {
        let times = by_name.entry(name).or_default();
        if times.len() < 20 {
            times.push(time);
        }
    }
    let median = |mut times: Vec<i64>| {
        times.sort_unstable();
        times[times.len() / 2] as f64
    };
    by_name.into_iter().map(|(name, times)| (name, median(times))).collect()
}
