//! What is done to runs and places over HTTP: the words of the channel, by the same engine and the same rules.
//!
//! `POST /pipelines/{run}/{yes|approve|reject|retry|rollback|abort|again|promote|pause|resume|skip|queue}` and
//! `POST /pipelines/{rollback|lock|extend|unlock|freeze|thaw|incidents}`; what a word needs beside the run stands in the body, as JSON.
//! `POST /pipelines/words/{word}` with `{"text": "…"}` takes every word as it is said in a channel, and `GET /pipelines/words/{word}?text=…`
//! those that only look.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use warp::http::StatusCode;

use super::hooks::{Reply, reply};
use super::runs::{Caller, accepted, not_found, plainly, refused, wrong};
use crate::pipelines::{Ask, Asked, Millis, Pipelines, words};

/// What a word needs beside its run.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Said {
    /// The code of what was shown, for `approve`.
    code: String,
    /// Why.
    reason: String,
    /// The stage to go on from, for `retry`.
    stage: Option<String>,
    /// `app/environment`, for `lock`, `extend`, `unlock`.
    place: String,
    /// An environment, `app/environment` or `*`, for `freeze`, `thaw`.
    scope: String,
    /// The app, for `rollback` and `incidents`.
    app: String,
    /// The environment, for `rollback` and `incidents`.
    environment: String,
    /// The version to go back to.
    to: Option<String>,
    /// For how long.
    #[serde(rename = "for", with = "humantime_serde")]
    time: Option<Duration>,
    /// The words, for `incidents`; what is said behind a word, for `words`.
    text: String,
}

/// Does what a word does.
pub(super) async fn answer(pipelines: &Pipelines, caller: Caller, parts: &[&str], body: &[u8]) -> Reply {
    let empty = body.iter().all(u8::is_ascii_whitespace);
    let said = if empty { Ok(Said::default()) } else { serde_json::from_slice::<Said>(body) };
    let said = match said {
        Ok(said) => said,
        Err(fault) => return wrong(fault),
    };
    let ask = match parts {
        ["words", word] => return word_said(pipelines, &caller, word, &said.text).await,
        [number, word] => number.parse().ok().and_then(|number| of_a_run(number, word, said)),
        ["extend"] if said.time.is_none() => {
            return wrong(words::for_how_long());
        }
        [word] => of_a_place(word, said, pipelines.now()),
        _ => None,
    };
    let Some(ask) = ask else { return not_found() };
    match pipelines.ask(Asked { ask, who: caller.who, may: caller.may }).await {
        Ok(told) => accepted(pipelines, told.run, told.public.into_iter().chain(told.lines)).await,
        Err(refusal) => refused(refusal),
    }
}

/// Does what a word does, as it is said in a channel.
pub(super) async fn word_said(pipelines: &Pipelines, caller: &Caller, word: &str, text: &str) -> Reply {
    match pipelines.word(word, text, (&caller.who, &caller.may)).await {
        Ok(said) => {
            let lines = said.reply.public.into_iter().chain(said.reply.lines);
            match said.looked {
                true => reply(StatusCode::OK, &json!({"id": said.reply.run, "lines": plainly(lines)})),
                false => accepted(pipelines, said.reply.run, lines).await,
            }
        }
        Err(refusal) => refused(refusal),
    }
}

fn of_a_run(number: i64, word: &str, said: Said) -> Option<Ask> {
    Some(match word {
        "yes" => Ask::Yes(number),
        "approve" => Ask::Approve(number, said.code),
        "reject" => Ask::Reject(number, said.reason),
        "retry" => Ask::Retry(number, said.stage),
        "rollback" => Ask::Rollback(number),
        "abort" => Ask::Abort(number),
        "again" => Ask::Again(number),
        "promote" => Ask::Promote(number),
        "pause" => Ask::Pause(number, said.reason),
        "resume" => Ask::Resume(number),
        "skip" => Ask::Pass(number, [said.stage.unwrap_or_default(), said.reason].join(" ").trim().to_owned()),
        "queue" => Ask::Queue(number),
        _ => return None,
    })
}

fn of_a_place(word: &str, said: Said, now: Millis) -> Option<Ask> {
    let time = said.time.map(|time| Millis::try_from(time.as_millis()).unwrap_or(Millis::MAX / 4).min(Millis::MAX / 4));
    let reason = Some(said.reason.clone()).filter(|reason| !reason.is_empty());
    Some(match word {
        "rollback" => Ask::RollbackPlace(said.app, said.environment, said.to),
        "lock" => Ask::Lock(said.place, time, said.reason),
        "extend" => Ask::Extend(said.place, time?),
        "unlock" => Ask::Unlock(said.place, reason),
        "freeze" => Ask::Freeze(said.scope, time.map(|time| now.saturating_add(time)), said.reason),
        "thaw" => Ask::Thaw(said.scope),
        "incidents" => Ask::Log(said.app, said.environment, said.text),
        _ => return None,
    })
}
