//! What a step is given and what it leaves: variables and secrets, reports, files, a checkpoint.

use super::expr::Facts;
use super::model::Stage;
use super::template;
use crate::executors::{Class, End, Failure, LOG, Masker, artifacts, coverage, junit, log_parts, matching};
use crate::store::runs::{ArtifactRow, LogSegmentRow};
use crate::yaml::fill_with;
use masterchief_contract::Secret;
use serde_json::{Map, Value, json};
use std::path::Path;

/// Variables, and the secrets among them.
pub(super) type Variables = (Vec<(String, Secret)>, Vec<Secret>);
/// Where they are kept, in the folder of an attempt.
pub(super) const ARTIFACTS: &str = "artifacts";
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
        artifacts(workspace, &stage.collect.artifacts, &folder.join(ARTIFACTS), ARTIFACTS_MAX).map_err(config)?;
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

/// What is kept of an attempt's log: its head and its tail, in the order in which they are read, then what its commands wrote apart.
pub(super) fn segments(folder: &Path, of: &LogSegmentRow) -> Vec<LogSegmentRow> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut apart: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    apart.retain(|name| name.ends_with(".out"));
    apart.sort();
    let mut out: Vec<LogSegmentRow> = Vec::new();
    for file in log_parts().into_iter().chain(apart) {
        let bytes = std::fs::metadata(folder.join(&file)).map_or(0, |meta| meta.len() as i64);
        if bytes > 0 {
            let begins = out.last().map_or(0, |part| part.ends);
            let part = out.len() as i64 + 1;
            out.push(LogSegmentRow { part, file, begins, ends: begins + bytes, ..of.clone() });
        }
    }
    out
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_a_log_has_its_place_in_the_whole_of_it() {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in
            [("log", "head"), ("log.2", "older tail"), ("log.1", "newest"), ("main.out", "a=1"), ("note", "x")]
        {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let of = LogSegmentRow { run: 7, stage: "test".to_owned(), attempt: 2, ..LogSegmentRow::default() };
        assert!(segments(dir.path(), &of).iter().all(|one| one.run == 7 && one.attempt == 2));
        let parts: Vec<_> =
            segments(dir.path(), &of).into_iter().map(|one| (one.part, one.file, one.begins, one.ends)).collect();
        let wanted = [(1, "log", 0, 4), (2, "log.2", 4, 14), (3, "log.1", 14, 20), (4, "main.out", 20, 23)];
        assert_eq!(parts, wanted.map(|(part, file, begins, ends)| (part, file.to_owned(), begins, ends)));
        assert!(segments(&dir.path().join("none"), &of).is_empty());
    }
}
