//! What many runs tell together, over HTTP: `/pipelines/dora?app=&last=30d` (all apps where none is named; `/metrics/dora` is the
//! same), `/pipelines/rollups?by=hour|day&app=&last=` , `/pipelines/images?repository=`
//! and `/pipelines/predict?app=&environment=`.

use std::time::Duration;

use serde_json::{Value, json};
use warp::http::StatusCode;

use super::hooks::{Reply, reply};
use super::looks::Query;
use super::runs::{plainly, refused, wrong};
use crate::pipelines::{Dora, Pipelines, rolled, words};
use crate::store::runs::{ImageRow, Span};

/// A day.
const DAY: Duration = Duration::from_secs(86_400);
/// The month that is told where nothing is said.
const MONTH: u32 = 30;
/// Images that are told, the newest.
const IMAGES: u32 = 100;

/// The four figures of an app, or of each.
pub(super) async fn dora(pipelines: &Pipelines, query: &Query) -> Result<Reply, Reply> {
    let since = query.since(pipelines.now(), DAY * MONTH).map_err(wrong)?;
    let told = |dora: Dora| {
        let mut told = json!(dora);
        told["line"] = Value::from(dora.to_string());
        told
    };
    if let Some(app) = query.text("app") {
        let dora = pipelines.dora(app, since).await.map_err(refused)?;
        return Ok(reply(StatusCode::OK, &told(dora)));
    }
    let mut all = Vec::new();
    let apps: Vec<String> = pipelines.catalog().all().map(|pipeline| pipeline.app.clone()).collect();
    for app in apps {
        all.push(told(pipelines.dora(&app, since).await.map_err(refused)?));
    }
    Ok(reply(StatusCode::OK, &json!({"apps": all})))
}

/// How likely a deployment is to fail, and how good that was foretold so far.
pub(super) async fn predict(pipelines: &Pipelines, query: &Query) -> Result<Reply, Reply> {
    let Some(app) = query.text("app") else { return Err(wrong("name the app: ?app=")) };
    let told = pipelines.predict(app, query.text("environment"), "*").await.map_err(refused)?;
    let report = &told.report;
    let report = json!({"runs": report.runs, "failed": report.failed, "count": report.count, "brier": report.brier,
        "guess": report.guess, "accuracy": report.accuracy, "calibration": report.calibration, "useful": report.useful()});
    let lines = plainly(words::predicted(&told));
    Ok(reply(
        StatusCode::OK,
        &json!({"app": told.app, "environment": told.environment, "risk": told.risk, "report": report, "lines": lines}),
    ))
}

/// What came of runs by the hour or by the day.
pub(super) async fn rollups(pipelines: &Pipelines, query: &Query) -> Result<Reply, Reply> {
    let (span, usual) = match query.text("by") {
        Some("hour") => (Span::Hour, DAY),
        None | Some("day") => (Span::Day, DAY * MONTH),
        Some(_) => return Err(wrong("by is hour or day")),
    };
    let since = query.since(pipelines.now(), usual).map_err(wrong)?;
    let rows = rolled(pipelines.records(), span, query.text("app"), since).await.map_err(refused)?;
    Ok(reply(StatusCode::OK, &json!(rows)))
}

/// What was pushed to registries.
pub(super) async fn images(pipelines: &Pipelines, query: &Query) -> Result<Reply, Reply> {
    let rows = pipelines.records().images(query.text("repository"), IMAGES).await.map_err(refused)?;
    let row = |row: &ImageRow| json!({"repository": row.repo, "tag": row.tag, "digest": row.digest, "size": row.size, "pushed_at": row.pushed, "run": row.run});
    Ok(reply(StatusCode::OK, &rows.iter().map(row).collect()))
}
