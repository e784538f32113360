//! Runs over HTTP, for programs that have a token: start one, look at it, stop it, tell how a remote build goes.
//!
//! `POST /pipelines/trigger`, `GET /pipelines/` (`?limit=1..100&app=`), `GET /pipelines/{run}`, `POST /pipelines/{run}/abort`,
//! `POST /pipelines/{status|stage|log}` (`{run, stage, status, text, seq}`). Each needs `Authorization: Bearer TOKEN`; a token may what
//! its flags allow. The token that a build was handed may tell how that build goes while its stage runs, and nothing else; it needs no
//! `run`.

use std::sync::Arc;

use masterchief_contract::Secret;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use subtle::ConstantTimeEq;
use warp::http::{HeaderMap, StatusCode, header};

use super::hooks::{Reply, reply};
use super::server::Shared;
use crate::pipelines::{Ask, Asked, Asker, DeployWords, May, Pipelines, Prepared, Told};
use crate::store::runs::Which;
use crate::users::FlagSet;

/// A program that may ask for runs.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSettings {
    /// What it shows as `Authorization: Bearer`.
    pub token: Secret,
    /// Its flags, as a person would have them: `D`.
    #[serde(default)]
    pub flags: String,
}

/// The body of `POST /pipelines/trigger`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Trigger {
    app: String,
    environment: Option<String>,
    #[serde(rename = "ref")]
    reference: Option<String>,
    deploy_tag: Option<String>,
    #[serde(default)]
    skip_tests: bool,
    #[serde(default)]
    skip_security_scan: bool,
    #[serde(default)]
    params: Map<String, Value>,
    key: Option<String>,
}

/// The body of what a remote build tells.
#[derive(Debug, Deserialize)]
struct Body {
    #[serde(alias = "pipeline_id", alias = "id")]
    run: Option<Number>,
    #[serde(alias = "stage_name", default)]
    stage: String,
    #[serde(default)]
    status: String,
    #[serde(alias = "message", alias = "line", default)]
    text: String,
    /// Which line of its log it is, where the build counts them.
    #[serde(default)]
    seq: Option<u64>,
}

/// The number of a run, or the mark of a step as a build has it in `MC_RUN_ID`: `118/build/1`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Number {
    Plain(i64),
    Marker(String),
}

impl Number {
    fn get(&self) -> Option<i64> {
        match self {
            Number::Plain(number) => Some(*number),
            Number::Marker(text) => text.split('/').next()?.parse().ok(),
        }
    }
}

/// Answers a request under `/pipelines`.
pub(super) async fn answer(
    shared: &Shared,
    post: bool,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Reply {
    let Some(pipelines) = &shared.pipelines else { return not_found() };
    let rest = path.trim_start_matches("/pipelines").trim_matches('/');
    if post && matches!(rest, "status" | "stage" | "log") {
        return told(pipelines, known(shared, headers).map(|(_, may)| may), shown(headers), body).await;
    }
    let Some((who, may)) = known(shared, headers) else {
        return stranger();
    };
    match (post, rest.split('/').collect::<Vec<_>>().as_slice()) {
        (true, ["trigger"]) => trigger(pipelines, who, may, body).await,
        (true, [number, "abort"]) => abort(pipelines, who, may, number).await,
        (false, [""]) => list(pipelines, query).await,
        (false, [number]) => show(pipelines, number).await,
        _ => not_found(),
    }
}

fn not_found() -> Reply {
    reply(StatusCode::NOT_FOUND, &json!({"error": "there is nothing here"}))
}

fn stranger() -> Reply {
    reply(StatusCode::UNAUTHORIZED, &json!({"error": "show a token of gateway.tokens as Authorization: Bearer"}))
}

fn wrong(text: impl std::fmt::Display) -> Reply {
    reply(StatusCode::UNPROCESSABLE_ENTITY, &json!({"error": text.to_string()}))
}

/// The token that is shown.
fn shown(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// Whose token it is. All are compared, so that the time tells nothing.
fn known(shared: &Shared, headers: &HeaderMap) -> Option<(Asker, May)> {
    let shown = shown(headers)?.as_bytes();
    let settings = shared.settings.load();
    let mut found = None;
    for (name, token) in &settings.tokens {
        let own = token.token.reveal().as_bytes();
        if !own.is_empty() && bool::from(own.ct_eq(shown)) {
            found = Some((name.clone(), token.flags.clone()));
        }
    }
    let (name, flags) = found?;
    // Flags that cannot be read were refused with the configuration; here they are none.
    let flags = FlagSet::parse(&flags).unwrap_or(FlagSet::NONE);
    let may = May { allows: Arc::new(move |mask| mask.allows(flags, FlagSet::NONE)), roles: Vec::new(), vouched: true };
    let who = Asker { origin: "http".to_owned(), ..Asker::program(&name) };
    Some((who, may))
}

async fn trigger(pipelines: &Pipelines, who: Asker, may: May, body: &[u8]) -> Reply {
    let asked: Trigger = match serde_json::from_slice(body) {
        Ok(asked) => asked,
        Err(fault) => return wrong(fault),
    };
    let mut params = asked.params;
    for (name, set) in [("skip_tests", asked.skip_tests), ("skip_security_scan", asked.skip_security_scan)] {
        if set {
            params.insert(name.to_owned(), Value::Bool(true));
        }
    }
    if let Some(tag) = &asked.deploy_tag {
        params.insert("deploy_tag".to_owned(), Value::from(tag.clone()));
    }
    let reference = asked.reference.or(asked.deploy_tag);
    let words = DeployWords { app: asked.app, environment: asked.environment, reference, ..DeployWords::default() };
    let prepared = match pipelines.prepare(words, params).await {
        Ok(prepared) => Prepared { unattended: true, key: asked.key, ..prepared },
        Err(fault) => return wrong(fault),
    };
    match pipelines.ask(Asked { ask: Ask::Deploy(Box::new(prepared)), who, may }).await {
        Ok(said) => reply(StatusCode::ACCEPTED, &json!({"id": said.run, "lines": said.lines})),
        Err(fault) if fault.contains("may not") => reply(StatusCode::FORBIDDEN, &json!({"error": fault})),
        Err(fault) => wrong(fault),
    }
}

async fn abort(pipelines: &Pipelines, who: Asker, may: May, number: &str) -> Reply {
    let Ok(number) = number.parse() else { return not_found() };
    match pipelines.ask(Asked { ask: Ask::Abort(number), who, may }).await {
        Ok(_) => reply(StatusCode::ACCEPTED, &json!({"id": number})),
        Err(fault) => wrong(fault),
    }
}

/// How a remote build goes: said where the run is, and in the log of its stage. Told twice, it is the same.
async fn told(pipelines: &Pipelines, may: Option<May>, shown: Option<&str>, body: &[u8]) -> Reply {
    let own = shown.and_then(|shown| pipelines.of_token(shown));
    if may.is_none() && own.is_none() {
        return stranger();
    }
    let Body { run, stage, status, text, seq } = match serde_json::from_slice(body) {
        Ok(body) => body,
        Err(fault) => return wrong(fault),
    };
    let (number, told) = (run.and_then(|run| run.get()), Told { stage, status, text, seq });
    let heard = match (may, own, number) {
        (Some(may), _, Some(number)) => pipelines.remote(number, &may, &told).await.map(|()| number),
        (None, Some(own), number) if number.is_none_or(|number| number == own.0) => {
            pipelines.remote_own(own, &told).await.map(|()| own.0)
        }
        (None, Some((own, _)), _) => {
            let fault = format!("this token speaks for run {own} only");
            return reply(StatusCode::FORBIDDEN, &json!({"error": fault}));
        }
        _ => Err("name the run: {\"run\": 118}".to_owned()),
    };
    match heard {
        Ok(number) => reply(StatusCode::ACCEPTED, &json!({"id": number})),
        Err(fault) => wrong(fault),
    }
}

async fn list(pipelines: &Pipelines, query: &str) -> Reply {
    let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let limit = value("limit").map_or(Ok(20), str::parse::<u32>);
    let Ok(limit @ 1..=100) = limit else { return wrong("limit is 1 to 100") };
    let which = Which { app: value("app").map(str::to_owned), limit, ..Which::default() };
    match pipelines.list(which).await {
        Ok(rows) => {
            let rows: Vec<Value> = rows.iter().map(|(_, run)| short(run)).collect();
            reply(StatusCode::OK, &Value::from(rows))
        }
        Err(fault) => reply(StatusCode::SERVICE_UNAVAILABLE, &json!({"error": fault.to_string()})),
    }
}

async fn show(pipelines: &Pipelines, number: &str) -> Reply {
    let Ok(number) = number.parse() else { return not_found() };
    match pipelines.run(number).await {
        Ok(Some((run, stages))) => {
            let mut told = short(&run);
            let stages = stages.iter().map(|one| {
                json!({"name": one.name, "status": one.state.plain(), "state": one.state, "attempt": one.attempt, "started": one.started,
                    "ended": one.ended, "summary": one.summary, "failure": one.failure})
            });
            told["stages"] = stages.collect();
            told["params"] = Value::Object(run.params);
            reply(StatusCode::OK, &told)
        }
        Ok(None) => reply(StatusCode::NOT_FOUND, &json!({"error": format!("there is no run {number}")})),
        Err(fault) => reply(StatusCode::SERVICE_UNAVAILABLE, &json!({"error": fault.to_string()})),
    }
}

fn short(run: &crate::pipelines::Run) -> Value {
    json!({"id": run.number, "app": run.app, "environment": run.env, "status": run.state.plain(), "state": run.state,
        "version": run.shown(), "sha": run.sha, "requester": run.asker.handle, "created": run.created, "started": run.started,
        "finished": run.finished, "failed": run.failed})
}
