//! Runs over HTTP, for programs and people that have a token: start one, look at it, answer it, stop it, tell how a remote build goes.
//!
//! `POST /pipelines/trigger`, `POST /pipelines/images` (the notifications of a registry), what `verbs.rs` does, `POST /pipelines/{status|stage|log}` (`{run, stage, status, text, seq}`) for remote
//! builds, and what `looks.rs` answers to GET. Each needs `Authorization: Bearer TOKEN`; a token may what its flags allow, and one that
//! is a person's no more than they may. The token that a build was handed may tell how that build goes while its stage runs, and
//! nothing else; it needs no `run`.

use std::sync::Arc;

use masterchief_contract::Secret;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use subtle::ConstantTimeEq;
use warp::Reply as _;
use warp::http::{HeaderMap, StatusCode, header};

use super::hooks::{AGAIN, Reply, reply};
use super::server::Shared;
use super::web::Hide;
use super::{looks, verbs};
use crate::pipelines::{
    Allows, Ask, Asked, Asker, DeployWords, May, Pipelines, Prepared, Refusal, RefusalKind, RunState, Told, words,
};
use crate::users::{FlagMask, FlagSet};

/// A program, or a person's program, that may ask for runs.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSettings {
    /// What it shows as `Authorization: Bearer`.
    pub token: Secret,
    /// Its flags, as a person would have them: `D`.
    #[serde(default)]
    pub flags: String,
    /// Whose it is: a handle. Without one nobody stands behind it, so it says neither yes nor no to anything. With one it may
    /// no more than they may, and what it does is theirs.
    pub handle: Option<String>,
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

/// Somebody who has shown a token, and what they may.
pub(super) struct Caller {
    pub(super) who: Asker,
    pub(super) may: May,
}

/// Answers a request under `/pipelines`.
pub(super) async fn answer(
    shared: &Shared,
    post: bool,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> warp::reply::Response {
    let Some(pipelines) = &shared.pipelines else { return not_found().into_response() };
    let parts: Vec<&str> = path.trim_matches('/').split('/').skip(1).collect();
    let caller = known(shared, pipelines, headers);
    if let (true, ["status" | "stage" | "log"]) = (post, parts.as_slice()) {
        return hidden(shared.web.hide(), told(pipelines, caller, shown(headers), body).await).into_response();
    }
    let caller = match caller {
        Ok(caller) => caller,
        Err(refused) => return refused.into_response(),
    };
    let done = match (post, parts.as_slice()) {
        (true, ["trigger"]) => trigger(pipelines, caller, body).await,
        (true, ["images"]) => images(pipelines, &caller, body).await,
        (true, parts) => verbs::answer(pipelines, caller, parts, body).await,
        (false, parts) => return looks::answer(pipelines, &caller, parts, query, shared.web.hide()).await,
    };
    hidden(shared.web.hide(), done).into_response()
}

/// An answer without the secrets in its texts: builds print what they should not, and people write it into reasons.
pub(super) fn hidden(hide: &Hide, reply: Reply) -> Reply {
    reply.map(|body| match serde_json::from_slice(&body) {
        Ok(value) => without_secrets(hide, value).to_string().into_bytes(),
        // All answers here are JSON.
        Err(_) => hide(&String::from_utf8_lossy(&body)).into_bytes(),
    })
}

/// The same of a value.
pub(super) fn without_secrets(hide: &Hide, value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(hide(&text)),
        Value::Array(list) => list.into_iter().map(|one| without_secrets(hide, one)).collect(),
        Value::Object(map) => {
            Value::Object(map.into_iter().map(|(name, one)| (hide(&name), without_secrets(hide, one))).collect())
        }
        other => other,
    }
}

pub(super) fn not_found() -> Reply {
    refused(Refusal::unknown(words::nothing_here()))
}

pub(super) fn wrong(text: impl std::fmt::Display) -> Reply {
    refused(Refusal::wrong(text.to_string()))
}

/// Lines as programs read them: without what keeps clients of IRC from calling somebody.
pub(super) fn plainly(lines: impl IntoIterator<Item = String>) -> Vec<String> {
    lines.into_iter().map(|line| line.replace('\u{200b}', "")).collect()
}

/// What the engine did not do, and why. Programs go by the status, or by `kind`.
pub(super) fn refused(refusal: impl Into<Refusal>) -> Reply {
    let Refusal { kind, text } = refusal.into();
    let status = status(kind);
    let mut out = reply(status, &json!({"error": plainly([text])[0], "kind": kind}));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        out.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static(AGAIN));
    }
    out
}

/// What a refusal is for programs.
pub(super) fn status(kind: RefusalKind) -> StatusCode {
    match kind {
        RefusalKind::Denied => StatusCode::FORBIDDEN,
        RefusalKind::Unknown => StatusCode::NOT_FOUND,
        RefusalKind::Conflict => StatusCode::CONFLICT,
        RefusalKind::Wrong => StatusCode::UNPROCESSABLE_ENTITY,
        RefusalKind::Busy | RefusalKind::Broken => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The token that is shown.
fn shown(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// Whether somebody may read the figures.
pub(super) fn may_measure(shared: &Shared, headers: &HeaderMap) -> bool {
    let settings = shared.settings.load();
    settings
        .metrics_token
        .as_ref()
        .is_none_or(|token| bool::from(token.reveal().as_bytes().ct_eq(shown(headers).unwrap_or_default().as_bytes())))
}

/// Whose token it is that a program shows.
pub(super) fn known(shared: &Shared, pipelines: &Pipelines, headers: &HeaderMap) -> Result<Caller, Box<Reply>> {
    let Some((name, token)) = named(shared, shown(headers).unwrap_or_default()) else {
        let error = json!({"error": words::show_a_token()});
        return Err(Box::new(reply(StatusCode::UNAUTHORIZED, &error)));
    };
    caller(shared, pipelines, &name, &token)
}

/// The token that this is, with its name. All are compared, so that the time tells nothing.
pub(super) fn named(shared: &Shared, shown: &str) -> Option<(String, TokenSettings)> {
    let settings = shared.settings.load();
    let mut found = None;
    for (name, token) in &settings.tokens {
        let own = token.token.reveal().as_bytes();
        if !own.is_empty() && bool::from(own.ct_eq(shown.as_bytes())) {
            found = Some((name.clone(), token.clone()));
        }
    }
    found
}

/// Who speaks with a token, and what they may.
pub(super) fn caller(
    shared: &Shared,
    pipelines: &Pipelines,
    name: &str,
    token: &TokenSettings,
) -> Result<Caller, Box<Reply>> {
    // Flags that cannot be read were refused with the configuration; here they are none.
    let flags = FlagSet::parse(&token.flags).unwrap_or(FlagSet::NONE);
    let own = Arc::new(move |mask: &FlagMask| mask.allows(flags, FlagSet::NONE));
    let forbidden = |text: String| Err(Box::new(refused(Refusal::denied(text))));
    let asker = |handle: &str| Asker { origin: "http".to_owned(), ..Asker::program(handle) };
    let Some(handle) = &token.handle else {
        // What it asked for would count as theirs.
        if shared.book.get(name).is_some() {
            return forbidden(words::called_like_a_person(name));
        }
        return Ok(Caller { who: asker(name), may: May::program(own) });
    };
    // As the records write it: who asked is compared with who approves.
    let Some(user) = shared.book.get(handle) else {
        return forbidden(words::whose_is_gone(name, handle));
    };
    let who = Asker { person: true, ..asker(&user.handle) };
    let person = pipelines.may(&who);
    let theirs = Arc::clone(&person.allows);
    let through: Allows = own.clone();
    let allows = Arc::new(move |mask: &FlagMask| own(mask) && theirs(mask));
    Ok(Caller { who, may: May { allows, through: Some(through), ..person } })
}

async fn trigger(pipelines: &Pipelines, Caller { who, may }: Caller, body: &[u8]) -> Reply {
    let asked: Trigger = match serde_json::from_slice(body) {
        Ok(asked) => asked,
        Err(fault) => return wrong(fault),
    };
    let pipeline = match pipelines.catalog().get(&asked.app) {
        Ok(pipeline) => pipeline,
        Err(refusal) => return refused(refusal),
    };
    let known = |name: &str| pipeline.params.iter().any(|param| param.name == name);
    let (mut params, mut skip) = (asked.params, Vec::new());
    let leave_out = [
        ("skip_tests", asked.skip_tests, ["test", "tests"]),
        ("skip_security_scan", asked.skip_security_scan, ["scan", "security_scan"]),
    ];
    for (name, _, stages) in leave_out.into_iter().filter(|(_, wanted, _)| *wanted) {
        if known(name) {
            params.insert(name.to_owned(), Value::Bool(true));
            continue;
        }
        let stages = stages.into_iter().filter(|stage| pipeline.stage(stage).is_some());
        let before = skip.len();
        skip.extend(stages.map(str::to_owned));
        if skip.len() == before {
            return wrong(words::nothing_to_leave_out(&pipeline.app, name));
        }
    }
    if let Some(tag) = asked.deploy_tag.as_ref().filter(|_| known("deploy_tag")) {
        params.insert("deploy_tag".to_owned(), Value::from(tag.clone()));
    }
    let reference = asked.reference.or(asked.deploy_tag);
    let words =
        DeployWords { app: asked.app, environment: asked.environment, reference, skip, ..DeployWords::default() };
    let prepared = match pipelines.prepare(words, params, (&who, &may)).await {
        Ok(prepared) => Prepared { unattended: who.is_program(), key: asked.key, ..prepared },
        Err(refusal) => return refused(refusal),
    };
    match pipelines.ask(Asked { ask: Ask::Deploy(Box::new(prepared)), who, may }).await {
        Ok(said) => accepted(pipelines, said.run, said.public.into_iter().chain(said.lines)).await,
        Err(refusal) => refused(refusal),
    }
}

/// What came of what was asked for; where who asked has to say yes to it first, also how.
pub(super) async fn accepted(pipelines: &Pipelines, run: Option<i64>, lines: impl Iterator<Item = String>) -> Reply {
    let mut told = json!({"id": run, "lines": plainly(lines)});
    let found = match run {
        Some(run) => pipelines.run(run).await.ok().flatten(),
        None => None,
    };
    if let Some((run, _)) = found.filter(|(run, _)| run.state == RunState::AwaitingConfirm) {
        told["state"] = json!(run.state.name());
        told["yes"] = json!(format!("/pipelines/{}/yes", run.number));
    }
    reply(StatusCode::ACCEPTED, &told)
}

/// What a registry tells of pushes.
async fn images(pipelines: &Pipelines, caller: &Caller, body: &[u8]) -> Reply {
    let body = match serde_json::from_slice(body) {
        Ok(body) => body,
        Err(fault) => return wrong(fault),
    };
    match pipelines.registry_told(&body, &caller.may).await {
        Ok(count) => reply(StatusCode::ACCEPTED, &json!({"images": count})),
        Err(refusal) => refused(refusal),
    }
}

/// How a remote build goes: said where the run is, and in the log of its stage. Told twice, it is the same.
async fn told(pipelines: &Pipelines, caller: Result<Caller, Box<Reply>>, shown: Option<&str>, body: &[u8]) -> Reply {
    let own = shown.and_then(|shown| pipelines.of_token(shown));
    let may = match (caller, &own) {
        (Err(refused), None) => return *refused,
        (caller, _) => caller.ok().map(|caller| caller.may),
    };
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
            return refused(Refusal::denied(words::speaks_for_another(own)));
        }
        _ => Err(Refusal::wrong(words::name_the_run())),
    };
    match heard {
        Ok(number) => reply(StatusCode::ACCEPTED, &json!({"id": number})),
        Err(refusal) => refused(refusal),
    }
}
