//! What starts pipelines beside people: the triggers of their files, bound like any handler.

use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::{
    BindOptions, DeliveryOptions, Event, Future, Handler, HandlerError, HandlerResult, Matching, Outcome,
};
use serde_json::{Map, Value};

use crate::dispatch::{BindFault, Kinds, NewBind};
use crate::pipelines::{
    Ask, Asked, Asker, DeployWords, May, Pipeline, Pipelines, Refusal, RefusalKind, Trigger, fill_all,
};

/// A repository that is away, or a full queue, is asked again so often, over a quarter of an hour or so…
const ATTEMPTS: u32 = 10;
/// …first after so long at most, then twice that.
const BACKOFF: Duration = Duration::from_secs(5);

/// The binds of all triggers of all pipelines. One that cannot be bound is told, and the others are there.
pub(super) fn binds(kinds: &Kinds, pipelines: &Pipelines) -> (Vec<NewBind>, Vec<(String, BindFault)>) {
    let (mut binds, mut faults) = (Vec::new(), Vec::new());
    for pipeline in pipelines.catalog().all() {
        for trigger in pipeline.triggers.iter().filter(|trigger| trigger.kind != "pub") {
            match bind(kinds, pipelines, pipeline, trigger) {
                Ok(bind) => binds.push(bind),
                Err(fault) => faults.push((pipeline.app.clone(), fault)),
            }
        }
    }
    (binds, faults)
}

fn bind(kinds: &Kinds, pipelines: &Pipelines, pipeline: &Pipeline, trigger: &Trigger) -> Result<NewBind, BindFault> {
    let handler = Triggered { pipelines: pipelines.clone(), app: pipeline.app.clone(), trigger: trigger.clone() };
    let mut options = BindOptions {
        tz: trigger.tz.clone(),
        help: Some(format!("starts {}", pipeline.app)),
        ..BindOptions::default()
    };
    if kinds.get(&trigger.kind).is_some_and(|spec| spec.matching == Matching::Journal) {
        options.delivery = DeliveryOptions { max_attempts: ATTEMPTS, backoff: BACKOFF, ..DeliveryOptions::default() };
    }
    NewBind::parse(kinds, &trigger.kind, "-|-", &trigger.mask, options, Arc::new(handler))
}

struct Triggered {
    pipelines: Pipelines,
    app: String,
    trigger: Trigger,
}

impl Handler for Triggered {
    fn call(&self, event: Event) -> Future<HandlerResult> {
        let facts = facts(&event);
        let holds = self.trigger.when.as_ref().map_or(Ok(true), |when| when.holds(&facts));
        let params = fill_all(&Value::Object(self.trigger.params.clone()), &facts);
        let (pipelines, app, kind) = (self.pipelines.clone(), self.app.clone(), self.trigger.kind.clone());
        let delivery = event.delivery();
        let key = match &event.key {
            // Whoever asks for an event again means it.
            _ if delivery.replay => None,
            Some(key) => Some(format!("{kind}:{key}")),
            // What its source has no name for is known by its number in the journal: a try after a crash is the same.
            None if !event.lane.is_empty() => Some(format!("{kind}#{}", event.id)),
            None => None,
        };
        let told = facts.get("event").cloned().unwrap_or_default();
        Box::pin(async move {
            // A condition that cannot be told will not be told better by trying again.
            if !holds.map_err(HandlerError::Dead)? {
                return Ok(Outcome::Nothing);
            }
            let params = params.map_err(HandlerError::Dead)?.as_object().cloned().unwrap_or_default();
            if delivery.dry {
                return Err(HandlerError::Dead(format!("a run of {app} is left out: this replay is dry")));
            }
            let words = DeployWords { app, ..DeployWords::default() };
            // The repository may be away for a while, and we ourselves too.
            let refused = |refusal: Refusal| {
                tracing::warn!(%kind, fault = %refusal, "A trigger asked for a run that is refused");
                match refusal.kind {
                    RefusalKind::Busy | RefusalKind::Broken => {
                        HandlerError::Retry { after: None, reason: refusal.text }
                    }
                    _ => HandlerError::Dead(refusal.text),
                }
            };
            let (who, may) = (Asker::program(&kind), May::all());
            let mut prepared = pipelines.prepare(words, params, (&who, &may)).await.map_err(&refused)?;
            prepared.unattended = true;
            prepared.key = key;
            prepared.event = told;
            let asked = Asked { ask: Ask::Deploy(Box::new(prepared)), who, may };
            pipelines.ask(asked).await.map(|_| Outcome::Nothing).map_err(refused)
        })
    }

    fn origin(&self) -> String {
        format!("{}.yaml", self.app)
    }
}

/// What conditions and texts of a trigger can ask about: `event` with the fields of its kind, and its body if that is JSON.
fn facts(event: &Event) -> Map<String, Value> {
    let mut told = Map::new();
    if let Some(Value::Object(body)) = event.json() {
        told.extend(body);
    }
    for (name, value) in event.own_fields() {
        told.entry((*name).to_owned()).or_insert_with(|| value.clone());
    }
    told.insert("text".to_owned(), Value::from(event.text.clone()));
    Map::from_iter([("event".to_owned(), Value::Object(told))])
}
