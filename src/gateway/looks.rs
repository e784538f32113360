//! What can be looked at over HTTP: runs, their artifacts, what many of them tell together.
//!
//! `GET /pipelines/` (`?limit=1..100&below=RUN&app=&environment=`), `/pipelines/deployments` (the same), `/pipelines/{run}`,
//! `/pipelines/{run}/{summary|events|artifacts|notices}`,
//! `/pipelines/{run}/artifacts/STAGE/PATH` (for those who may deploy there), `/pipelines/{who|queue}?app=`,
//! `/pipelines/{dora|rollups|images|predict}` (see `figures.rs`), `/pipelines/ws` (see `live.rs`), `/pipelines/incidents?app=&last=7d`, `/pipelines/words/{word}?text=` (what a channel sees). `/runs/…` is
//! the same, and so is `/metrics/dora`.

use std::time::Duration;

use futures_util::stream;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use warp::Reply as _;
use warp::http::{HeaderValue, StatusCode, header};
use warp::reply::Response;

use super::figures;
use super::hooks::{Reply, reply};
use super::runs::{Caller, hidden, not_found, plainly, refused, wrong};
use super::verbs::word_said;
use super::web::Hide;
use crate::pipelines::{Millis, Pipelines, Refusal, Run, RunState, StageRun, StageState, looks, row, words};
use crate::store::runs::{RunsError, Which};

/// Lines of the incident log, at most.
const INCIDENTS: u32 = 100;
/// An artifact is sent in parts of so many bytes.
const PART: usize = 64 * 1024;

/// Answers a GET.
pub(super) async fn answer(
    pipelines: &Pipelines,
    caller: &Caller,
    parts: &[&str],
    query: &str,
    hide: &Hide,
) -> Response {
    let query = Query::read(query);
    let done = match parts {
        [] | [""] | ["deployments"] => list(pipelines, &query, !parts.concat().is_empty()).await,
        ["ws"] => Err(reply(StatusCode::UPGRADE_REQUIRED, &json!({"error": "ask for it as a WebSocket"}))),
        ["dora"] => figures::dora(pipelines, &query).await,
        ["predict"] => figures::predict(pipelines, &query).await,
        ["images"] => figures::images(pipelines, &query).await,
        ["rollups"] => figures::rollups(pipelines, &query).await,
        ["who" | "queue" | "incidents"] => of_an_app(pipelines, parts[0], &query).await,
        ["words", word] => words_shown(pipelines, caller, word, &query).await,
        [number] => show(pipelines, number).await,
        [number, "summary"] => summary(pipelines, number).await,
        [number, "events"] => events(pipelines, number).await,
        [number, "artifacts"] => artifacts(pipelines, number).await,
        [number, "notices"] => notices(pipelines, number).await,
        [number, "artifacts", stage, path @ ..] if !path.is_empty() => {
            return match artifact(pipelines, caller, (number, stage, &path.join("/"))).await {
                Ok(response) => response,
                Err(reply) => reply.into_response(),
            };
        }
        _ => Err(not_found()),
    };
    hidden(hide, done.unwrap_or_else(|reply| reply)).into_response()
}

/// What follows the question mark.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn read(text: &str) -> Query {
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        Query(pairs.map(|(name, value)| (name.to_owned(), plain(value))).collect())
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The beginning of the time that `last` names.
    pub(super) fn since(&self, now: Millis, default: Duration) -> Result<Millis, String> {
        let last = match self.text("last") {
            Some(text) => humantime_serde::re::humantime::parse_duration(text)
                .map_err(|_| format!("last={text} is no time; write last=30d"))?,
            None => default,
        };
        Ok(now.saturating_sub(Millis::try_from(last.as_millis()).unwrap_or(Millis::MAX)))
    }
}

/// A part of a query or a path without its percent signs.
pub(super) fn plain(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let pair = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).filter(|_| *byte == b'%') {
            Some(decoded) => {
                out.push(decoded);
                at += 3;
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn broken(fault: RunsError) -> Reply {
    refused(fault)
}

/// The newest runs, or those that began, as deployments.
async fn list(pipelines: &Pipelines, query: &Query, deployments: bool) -> Result<Reply, Reply> {
    let Ok(limit @ 1..=100) = query.text("limit").map_or(Ok(20), str::parse::<u32>) else {
        return Err(wrong("limit is 1 to 100"));
    };
    let below = query.text("below").map(str::parse).transpose().map_err(|_| wrong("below is the number of a run"))?;
    let text = |name: &str| query.text(name).map(str::to_owned);
    let which = Which { app: text("app"), env: text("environment"), below, limit, ..Which::default() };
    if which.env.is_some() && which.app.is_none() {
        return Err(wrong("name the app of that environment too: app="));
    }
    if deployments {
        let rows = pipelines.deployments(which).await.map_err(broken)?;
        return Ok(reply(StatusCode::OK, &json!(rows)));
    }
    let rows = pipelines.list(which).await.map_err(broken)?;
    let rows: Vec<Value> = rows.iter().map(|(_, run)| short(run)).collect();
    Ok(reply(StatusCode::OK, &Value::from(rows)))
}

/// What is asked about an app.
async fn of_an_app(pipelines: &Pipelines, what: &str, query: &Query) -> Result<Reply, Reply> {
    let Some(app) = query.text("app") else { return Err(wrong("name the app: ?app=")) };
    let now = pipelines.now();
    let days = |days: u64| Duration::from_secs(days * 86_400);
    let told = match what {
        "who" => {
            let line = words::who(app, &pipelines.places(app).await.map_err(refused)?, now);
            json!({"app": app, "lines": plainly([line])})
        }
        "queue" => json!({"app": app, "lines": plainly(pipelines.queue(app).await.map_err(refused)?)}),
        _ => {
            let since = query.since(now, days(7)).map_err(wrong)?;
            let rows = pipelines.logged(app, since, INCIDENTS).await.map_err(broken)?;
            let line = |(bot, row): &(Option<String>, crate::store::runs::IncidentRow)| {
                json!({"bot": bot, "id": row.id, "at": row.at, "handle": row.handle, "environment": row.env, "run": row.run, "amends": row.amends,
                    "text": row.text, "hash": row.hash})
            };
            rows.iter().map(line).collect()
        }
    };
    Ok(reply(StatusCode::OK, &told))
}

/// What is seen in a channel by who says a word that only looks.
async fn words_shown(pipelines: &Pipelines, caller: &Caller, word: &str, query: &Query) -> Result<Reply, Reply> {
    let text = query.text("text").unwrap_or("");
    if row(word).is_ok() && !looks(word, text) {
        return Err(wrong(format!("{word} does something: POST it, with {{\"text\": \"…\"}}")));
    }
    Ok(word_said(pipelines, caller, word, text).await)
}

/// A run that is there, with its stages.
async fn found(pipelines: &Pipelines, number: &str) -> Result<(Run, Vec<StageRun>), Reply> {
    let Ok(number) = number.parse() else { return Err(not_found()) };
    let run = pipelines.run(number).await.map_err(broken)?;
    run.ok_or_else(|| refused(Refusal::unknown(format!("there is no run {number}"))))
}

/// All that is known of a run.
async fn show(pipelines: &Pipelines, number: &str) -> Result<Reply, Reply> {
    let (run, stages) = found(pipelines, number).await?;
    let records = pipelines.records();
    let attempts = records.attempts(run.number).await.map_err(broken)?;
    let segments = records.log_segments(run.number).await.map_err(broken)?;
    let approvals = records.approvals(run.number).await.map_err(broken)?;
    // Who agrees writes one of them: it stands for what is shown here.
    let own = stages.iter().filter(|one| one.state == StageState::Waiting).map(|one| one.code.as_str());
    let codes = (run.state == RunState::AwaitingApproval).then_some(run.code.as_str()).into_iter().chain(own);
    let codes: Value = codes.filter(|code| !code.is_empty()).map(Value::from).collect();
    let stages = stages.iter().map(|one| {
        let attempts = attempts.iter().filter(|row| row.stage == one.name).map(|row| {
            let log = segments.iter().filter(|part| part.stage == row.stage && part.attempt == row.n);
            let log = log.map(|part| json!({"file": part.file, "from": part.begins, "to": part.ends}));
            json!({"n": row.n, "begun": row.begun, "ended": row.ended, "class": row.class, "exit": row.exit, "line": row.line,
                "bytes": row.bytes, "log": log.collect::<Value>()})
        });
        json!({"name": one.name, "status": one.state.plain(), "state": one.state, "attempt": one.attempt, "started": one.started,
            "ended": one.ended, "summary": one.summary, "failure": one.failure, "outputs": one.outputs,
            "attempts": attempts.collect::<Value>()})
    });
    let approvals = approvals
        .iter()
        .map(|row| json!({"handle": row.handle, "yes": row.yes, "code": row.code, "reason": row.reason, "at": row.at}));
    let mut told = short(&run);
    told["stages"] = stages.collect();
    told["codes"] = codes;
    told["approvals"] = approvals.collect();
    told["commits"] = json!(run.commits);
    told["commit_count"] = json!(run.commit_count);
    told["before"] = run
        .before
        .as_ref()
        .map_or(Value::Null, |before| json!({"run": before.run, "version": before.version, "sha": before.sha}));
    told["parent"] = json!(run.parent);
    told["reason"] = json!(run.reason);
    told["params"] = Value::Object(run.params);
    Ok(reply(StatusCode::OK, &told))
}

/// How a run went, in figures and in the words of the channel.
async fn summary(pipelines: &Pipelines, number: &str) -> Result<Reply, Reply> {
    let (run, stages) = found(pipelines, number).await?;
    let now = pipelines.now();
    let left = pipelines.left(run.number).await;
    let count = |status: &str| stages.iter().filter(|one| one.state.plain() == status).count();
    let statuses = ["pending", "running", "success", "failed", "aborted", "skipped"];
    let stage_counts: serde_json::Map<String, Value> =
        statuses.into_iter().map(|status| (status.to_owned(), Value::from(count(status)))).collect();
    let failed = stages.iter().find(|one| run.failed.as_ref() == Some(&one.name));
    let mut told = short(&run);
    told["waited"] = json!(run.started.or(run.finished).unwrap_or(now) - run.created);
    told["took"] = json!(run.started.map(|from| run.finished.unwrap_or(now) - from));
    told["left"] = json!(left.filter(|_| run.state.active()));
    told["stages"] = Value::Object(stage_counts);
    told["failure"] = json!(failed.and_then(|one| one.failure.as_ref()));
    told["lines"] = json!(plainly(words::run(&run, &stages, left, now)));
    Ok(reply(StatusCode::OK, &told))
}

/// What happened in a run, in order.
async fn events(pipelines: &Pipelines, number: &str) -> Result<Reply, Reply> {
    let (run, _) = found(pipelines, number).await?;
    let rows = pipelines.records().events(run.number).await.map_err(broken)?;
    let row = |row: &crate::store::runs::EventRow| {
        let data: Value = serde_json::from_str(&row.data).unwrap_or_default();
        json!({"seq": row.seq, "at": row.at, "kind": row.kind, "actor": row.actor, "data": data})
    };
    Ok(reply(StatusCode::OK, &rows.iter().map(row).collect()))
}

/// What was said of a run, and where.
async fn notices(pipelines: &Pipelines, number: &str) -> Result<Reply, Reply> {
    let (run, _) = found(pipelines, number).await?;
    let rows = pipelines.records().notices(run.number).await.map_err(broken)?;
    let row = |row: &crate::store::runs::OutboxRow| json!({"key": row.dedupe, "event": row.event, "target": row.target, "text": row.text, "at": row.at, "sent": row.sent});
    Ok(reply(StatusCode::OK, &rows.iter().map(row).collect()))
}

/// The files that were kept of a run.
async fn artifacts(pipelines: &Pipelines, number: &str) -> Result<Reply, Reply> {
    let (run, _) = found(pipelines, number).await?;
    let rows = pipelines.records().artifacts(run.number).await.map_err(broken)?;
    let row = |row: &crate::store::runs::ArtifactRow| json!({"stage": row.stage, "path": row.path, "bytes": row.bytes, "sha256": row.sha256});
    Ok(reply(StatusCode::OK, &rows.iter().map(row).collect()))
}

/// One of them, in parts.
async fn artifact(
    pipelines: &Pipelines,
    caller: &Caller,
    (number, stage, path): (&str, &str, &str),
) -> Result<Response, Reply> {
    let (run, _) = found(pipelines, number).await?;
    let rules = pipelines.catalog().get(&run.app).ok().and_then(|pipeline| pipeline.rules(&run.env).cloned());
    if !rules.is_some_and(|rules| caller.may.has(rules.flags.as_ref())) {
        return Err(refused(Refusal::denied(format!("this token may not fetch what was kept of {}", run.place()))));
    }
    let (row, file) = pipelines.artifact(run.number, &plain(stage), &plain(path)).await.map_err(refused)?;
    let parts = stream::try_unfold(tokio::fs::File::from_std(file), |mut file| async move {
        let mut part = vec![0; PART];
        let read = file.read(&mut part).await?;
        part.truncate(read);
        Ok::<_, std::io::Error>((read > 0).then_some((part, file)))
    });
    let mut response = warp::reply::stream(parts).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    if let Ok(sum) = HeaderValue::from_str(&format!("\"{}\"", row.sha256)) {
        headers.insert(header::ETAG, sum);
    }
    Ok(response)
}

fn short(run: &Run) -> Value {
    json!({"id": run.number, "app": run.app, "environment": run.env, "status": run.state.plain(), "state": run.state,
        "version": run.shown(), "sha": run.sha, "requester": run.asker.handle, "created": run.created, "started": run.started,
        "finished": run.finished, "failed": run.failed})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_with_or_without_percent_signs() {
        let query = Query::read("app=my%2Dshop&last=1h&odd=%zz%2");
        assert_eq!((query.text("app"), query.text("odd"), query.text("none")), (Some("my-shop"), Some("%zz%2"), None));
        assert_eq!(query.since(7_200_000, Duration::ZERO).ok(), Some(3_600_000));
        assert!(Query::read("last=soon").since(0, Duration::ZERO).is_err());
    }
}
