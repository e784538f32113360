//! Who offers what: all other bots are asked what they do for us, and what one still does that we want no more is ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use masterchief_contract::Shutdown;
use tokio::sync::broadcast;
use tokio::time::Instant;

use super::Shared;
use super::wire::{Asked, Key, Offered, Request};
use crate::mesh::{BotName, CallFault, Mesh, News, WORK};
use crate::pipelines::{HERE, Known, Offer, Pipelines, known};

/// How often they are asked while there are stages that want a runner.
const AGAIN: Duration = Duration::from_secs(10);
/// How soon it is looked again whether a step is wanted no more.
const SOON: Duration = Duration::from_secs(1);
/// How long one may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Follows who offers what until shutdown.
pub(super) async fn follow(shared: Arc<Shared>, pipelines: Pipelines, mesh: Option<Mesh>, mut shutdown: Shutdown) {
    shared.host.share_with(&pipelines);
    let mut news = mesh.as_ref().map(Mesh::news);
    let mut asking = Asking::new(shared, pipelines, mesh);
    asking.ask_all().await;
    asking.tell().await;
    loop {
        let wait = if asking.unwanted.is_empty() { AGAIN } else { SOON };
        // By when they were asked, not by what came since: a bot that has much to do asks as often as any.
        let due = asking.asked + wait;
        tokio::select! {
            () = shutdown.recv() => return,
            // What we offer ourselves is told anew.
            () = asking.shared.changed.notified() => {}
            () = tokio::time::sleep_until(due) => {
                // Looked at only now: a pipeline that wants a runner may be read at any time.
                if !asking.asks_on() {
                    asking.asked = Instant::now();
                    continue;
                }
                asking.ask_all().await;
            }
            linked = next(&mut news) => match linked {
                Some(bot) => asking.lost(&bot),
                None => asking.ask_all().await,
            },
        }
        asking.tell().await;
    }
}

/// The bot that is lost; nothing when another is linked.
async fn next(news: &mut Option<broadcast::Receiver<Arc<News>>>) -> Option<BotName> {
    let Some(news) = news else { return std::future::pending().await };
    loop {
        match news.recv().await.as_deref() {
            Ok(News::Lost { bot, .. }) => return Some(bot.clone()),
            Ok(News::Linked { .. }) | Err(broadcast::error::RecvError::Lagged(_)) => return None,
            Ok(_) => {}
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

struct Asking {
    shared: Arc<Shared>,
    pipelines: Pipelines,
    mesh: Option<Mesh>,
    others: BTreeMap<String, Offer>,
    /// Steps that runners do for us and that are not under way here, as far as was seen once.
    unwanted: BTreeSet<(String, Key)>,
    /// What is written down of who was ever there.
    kept: Vec<Known>,
    /// When all were asked last.
    asked: Instant,
}

impl Asking {
    fn new(shared: Arc<Shared>, pipelines: Pipelines, mesh: Option<Mesh>) -> Asking {
        let kept = shared.data.as_deref().map(known).unwrap_or_default();
        let me = mesh.as_ref().map_or(HERE, |mesh| mesh.name().as_str()).to_owned();
        let away = kept.iter().filter(|one| one.name != me).map(|one| {
            let Known { name, labels, slots, seen } = one.clone();
            (name.clone(), Offer { name, labels, slots, seen, ..Offer::default() })
        });
        let others = away.collect();
        Asking { shared, pipelines, mesh, others, unwanted: BTreeSet::new(), kept, asked: Instant::now() }
    }

    /// Whether others are asked again by the clock: somebody may wait for a runner, or a step is wanted no more.
    fn asks_on(&self) -> bool {
        self.mesh.is_some() && (!self.unwanted.is_empty() || self.pipelines.wants_runners())
    }

    fn now(&self) -> i64 {
        self.shared.clock.now().timestamp_millis()
    }

    fn lost(&mut self, bot: &BotName) {
        if let Some(offer) = self.others.get_mut(bot.as_str()) {
            offer.there = false;
        }
    }

    /// Asks all other bots of our kind.
    async fn ask_all(&mut self) {
        let Some(mesh) = self.mesh.clone() else { return };
        let view = mesh.view();
        let ours: Vec<BotName> = view.bots.iter().filter(|bot| bot.is_ours()).map(|bot| bot.name.clone()).collect();
        let epoch = self.pipelines.epoch();
        let asked = ours.into_iter().map(|bot| {
            let mesh = mesh.clone();
            async move {
                let answered = ask(&mesh, &bot, Request { epoch, asked: Asked::Who }).await;
                (bot, answered)
            }
        });
        let mut unwanted = BTreeSet::new();
        for (bot, answered) in join_all(asked).await {
            let name = bot.as_str().to_owned();
            let mut offer = self.others.remove(&name).unwrap_or_default();
            (offer.name, offer.there) = (name.clone(), true);
            match answered {
                Ok(Offered { labels, slots, others, instance, ours }) => {
                    offer = Offer {
                        labels: labels.into_iter().collect(),
                        slots,
                        others,
                        refuses: None,
                        seen: self.now(),
                        ..offer
                    };
                    let mut instances = self.shared.instances.lock().unwrap_or_else(PoisonError::into_inner);
                    instances.insert(name.clone(), instance);
                    drop(instances);
                    let gone =
                        |key: &Key| !self.pipelines.is_under_way(key.run as i64, &key.stage, (key.attempt, key.begun));
                    unwanted.extend(ours.into_iter().filter(gone).map(|key| (name.clone(), key)));
                }
                Err(CallFault::Refused(why)) => {
                    // One of an older version does not know what it is asked.
                    let why = if why.contains("no bot bind") {
                        format!("{name} is of a version that does no work for others")
                    } else {
                        why
                    };
                    (offer.refuses, offer.seen) = (Some(why), self.now());
                }
                Err(_) => offer.there = false,
            }
            self.others.insert(name, offer);
        }
        // What was begun just now may not be known here yet: it is ended when it is seen twice.
        for (name, key) in unwanted.intersection(&self.unwanted) {
            let Ok(bot) = name.parse::<BotName>() else { continue };
            tracing::info!(runner = %name, run = key.run, stage = %key.stage, "A runner is told to end what is wanted no more");
            let request = Request { epoch, asked: Asked::Stop { key: key.clone() } };
            // One that does not hear it is asked again.
            let _ = ask_any(&mesh, &bot, &request).await;
        }
        self.unwanted = unwanted;
        self.asked = Instant::now();
    }

    /// Tells the engine, and writes down who was ever there.
    async fn tell(&mut self) {
        let settings = self.shared.settings.load_full();
        let name = self.mesh.as_ref().map_or(HERE, |mesh| mesh.name().as_str()).to_owned();
        let own = Offer {
            name,
            here: true,
            there: true,
            labels: settings.labels.clone(),
            slots: settings.slots,
            others: self.shared.host.busy_but(""),
            refuses: None,
            seen: self.now(),
            ended: self.shared.host.ended(),
        };
        let runs = !own.labels.is_empty() || !settings.accept_from.is_empty();
        let mut offers: Vec<Offer> = self.others.values().cloned().collect();
        offers.extend(runs.then_some(own));
        self.keep(&offers);
        self.pipelines.offer(&settings, offers).await;
    }

    fn keep(&mut self, offers: &[Offer]) {
        let Some(data) = &self.shared.data else { return };
        let able = offers.iter().filter(|offer| !offer.labels.is_empty());
        let all: Vec<Known> = able
            .map(|offer| Known {
                name: offer.name.clone(),
                labels: offer.labels.clone(),
                slots: offer.slots,
                seen: offer.seen,
            })
            .collect();
        let same = |one: &Known, other: &Known| {
            (&one.name, &one.labels, one.slots) == (&other.name, &other.labels, other.slots)
        };
        let unchanged = all.len() == self.kept.len() && all.iter().zip(&self.kept).all(|(one, other)| same(one, other));
        if unchanged {
            return;
        }
        if let Err(fault) = Known::keep(&all, data) {
            tracing::warn!(%fault, "Who is a runner is not written down; after a restart it is learned anew");
        }
        self.kept = all;
    }
}

async fn ask(mesh: &Mesh, bot: &BotName, request: Request) -> Result<Offered, CallFault> {
    let answer = ask_any(mesh, bot, &request).await?;
    serde_json::from_str(&answer).map_err(|fault| CallFault::Refused(fault.to_string()))
}

async fn ask_any(mesh: &Mesh, bot: &BotName, request: &Request) -> Result<String, CallFault> {
    let text = serde_json::to_string(request).map_err(|fault| CallFault::Refused(fault.to_string()))?;
    mesh.own(bot, WORK, &text, PATIENCE).await
}
