//! What a step is given and what it leaves: variables and secrets, reports, files, a checkpoint.

use super::expr::Facts;
use super::model::Stage;
use super::template;
use crate::executors::{Class, End, Failure, LOG, Masker, artifacts, coverage, junit, matching};
use crate::store::runs::ArtifactRow;
use crate::yaml::fill_with;
use masterchief_contract::Secret;
use serde_json::{Map, Value, json};
use std::path::Path;

/// Variables, and the secrets among them.
pub(super) type Variables = (Vec<(String, Secret)>, Vec<Secret>);
/// The most that is kept of a stage's files.
const ARTIFACTS_MAX: u64 = 1 << 30;

/// The variables of a stage, and the secrets among them.
pub(super) fn variables(stage: &Stage, facts: &Facts, project: &Path) -> Result<Variables, String> {
    let (mut env, mut secrets) = (Vec::new(), Vec::new());
    for (name, text) in &stage.env {
        let value = template::fill_with(text, facts, &mut |own| reveal(own, project, &mut secrets));
        let value = value.map_err(|fault| format!("env.{name}: {fault}"))?;
        env.push((name.clone(), Secret::new(value)));
    }
    Ok((env, secrets))
}

/// Fills in what a stage is told. `${env:NAME}` and `${file:PATH}` in what the pipeline's author wrote are secrets; in what is filled in
/// they are text like any other.
pub(super) fn told(
    settings: &Value,
    facts: &Facts,
    project: &Path,
    secrets: &mut Vec<Secret>,
) -> Result<Value, String> {
    template::fill_all_with(settings, facts, &mut |own| reveal(own, project, secrets))
}

fn reveal(own: &str, project: &Path, secrets: &mut Vec<Secret>) -> Result<String, String> {
    fill_with(own, project, |secret| secrets.push(Secret::new(secret)))
}

/// Reads the reports of a stage and decides about its gate.
pub(super) fn collect(
    stage: &Stage,
    workspace: &Path,
    folder: &Path,
    facts: &mut Facts,
    outputs: &mut Map<String, Value>,
    summary: &mut String,
) -> Result<Vec<ArtifactRow>, Failure> {
    let config = |fault: String| Failure::new(Class::Config, fault);
    let mut tests = None;
    if let Some(glob) = &stage.collect.junit {
        let files = matching(workspace, glob).map_err(config)?;
        let read = junit(&files).map_err(config)?;
        for (name, count) in [
            ("total", read.total),
            ("passed", read.passed),
            ("failed", read.failed + read.errors),
            ("skipped", read.skipped),
        ] {
            outputs.insert(name.to_owned(), Value::from(count));
        }
        if summary.is_empty() {
            *summary = format!("{} passed", read.passed);
        }
        tests = Some(read);
    }
    if let Some(glob) = &stage.collect.coverage {
        let files = matching(workspace, glob).map_err(config)?;
        outputs.insert("coverage".to_owned(), Value::from(coverage(&files).map_err(config)?));
    }
    let raw = json!({"result": outputs});
    let mut more = Map::new();
    for (name, path) in &stage.outputs {
        let value = raw.as_object().and_then(|raw| template::look_up(path, raw));
        let Some(value) = value else { return Err(config(format!("outputs.{name}: it gave no {path}"))) };
        more.insert(name.clone(), value.clone());
    }
    outputs.extend(more);
    if let Some(gate) = &stage.gate {
        facts.extend(outputs.clone());
        facts.insert("outputs".to_owned(), Value::Object(outputs.clone()));
        if !gate.holds(facts).map_err(|fault| config(format!("the gate cannot be told: {fault}")))? {
            let names = tests.map(|tests| tests.failures).unwrap_or_default();
            let mut failure = Failure::new(Class::TestFailed, format!("the gate does not hold: {}", gate.text()));
            if let (Some(failed), Some(passed)) = (outputs.get("failed"), outputs.get("passed"))
                && failed.as_u64() > Some(0)
            {
                failure.line = format!(
                    "{passed} passed, {failed} failed: {}",
                    names.iter().take(3).cloned().collect::<Vec<_>>().join("; ")
                );
            }
            return Err(failure);
        }
    }
    if stage.collect.artifacts.is_empty() {
        return Ok(Vec::new());
    }
    let kept =
        artifacts(workspace, &stage.collect.artifacts, &folder.join("artifacts"), ARTIFACTS_MAX).map_err(config)?;
    Ok(kept
        .into_iter()
        .map(|one| ArtifactRow {
            path: one.path,
            bytes: one.bytes as i64,
            sha256: one.sha256,
            ..ArtifactRow::default()
        })
        .collect())
}

/// What a step left for its next attempt.
pub(super) fn checkpoint(folder: &Path, mask: &Masker) -> Option<Value> {
    const MOST: u64 = 1 << 20;
    let path = folder.join("checkpoint");
    std::fs::metadata(&path).ok().filter(|meta| meta.len() <= MOST)?;
    serde_json::from_slice(&std::fs::read(path).ok()?).ok().map(|value| hide_all(value, mask))
}

/// Bytes of a step's log and of what its commands wrote.
pub(super) fn bytes(folder: &Path) -> i64 {
    let written = |name: &str| name.starts_with(LOG) || name.ends_with(".out");
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes =
        entries.filter(|entry| written(&entry.file_name().to_string_lossy())).filter_map(|entry| entry.metadata().ok());
    sizes.map(|meta| meta.len() as i64).sum()
}

/// The same end without secrets.
pub(super) fn hidden(end: End, mask: &Masker) -> End {
    match end {
        End::Done { outputs, summary } => {
            let outputs = outputs.into_iter().map(|(name, value)| (name, hide_all(value, mask))).collect();
            End::Done { outputs, summary: mask.hide(&summary) }
        }
        End::Failed(failure) => {
            let world = failure.world.iter().map(|line| mask.hide(line)).collect();
            End::Failed(Failure { line: mask.hide(&failure.line), world, ..failure })
        }
        End::Unsure(why) => End::Unsure(mask.hide(&why)),
        End::Stopped => End::Stopped,
    }
}

fn hide_all(value: Value, mask: &Masker) -> Value {
    match value {
        Value::String(text) => Value::String(mask.hide(&text)),
        Value::Array(list) => list.into_iter().map(|item| hide_all(item, mask)).collect(),
        Value::Object(map) => {
            Value::Object(map.into_iter().map(|(name, value)| (name, hide_all(value, mask))).collect())
        }
        other => other,
    }
}
