//! What a step is given and what it leaves: variables and secrets, reports, files, a checkpoint.

use super::expr::Facts;
use super::model::{Collect, Stage};
use super::template;
use super::words;
use crate::executors::{
    Artifact, Class, End, Failure, LOG, Masker, Tests, artifacts, coverage, junit, log_parts, matching, open_regular,
};
use crate::store::runs::{ArtifactRow, LogSegmentRow};
use crate::yaml::fill_with;
use masterchief_contract::Secret;
use serde_json::{Map, Value};
use std::io::Read;
use std::path::{Path, PathBuf};

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

/// The file in the folder of an attempt that is as old as its beginning.
const BEGUN: &str = "begun";
/// So many tests that failed are named.
const NAMED: usize = 3;

/// Marks the beginning of an attempt, so that reports of an earlier one are known as such. One that is taken up again keeps its mark.
pub(super) fn mark(folder: &Path) -> Result<(), String> {
    let path = folder.join(BEGUN);
    match std::fs::File::options().write(true).create_new(true).open(&path) {
        Err(fault) if fault.kind() != std::io::ErrorKind::AlreadyExists => Err(format!("{}: {fault}", path.display())),
        _ => Ok(()),
    }
}

/// Reads the reports of a stage that is done, and decides about its gate.
pub(super) fn collect(
    stage: &Stage,
    (workspace, folder): (&Path, &Path),
    facts: &mut Facts,
    outputs: &mut Map<String, Value>,
    summary: &mut String,
) -> Result<Vec<ArtifactRow>, Failure> {
    let config = |fault: String| Failure::new(Class::Config, fault);
    let mut tests = None;
    if let Some(glob) = &stage.collect.junit {
        let read = junit(&own_files(workspace, glob, folder).map_err(config)?).map_err(config)?;
        count(&read, outputs);
        if summary.is_empty() {
            *summary = format!("{} passed", read.passed);
        }
        tests = Some(read);
    }
    if let Some(glob) = &stage.collect.coverage {
        let files = own_files(workspace, glob, folder).map_err(config)?;
        outputs.insert("coverage".to_owned(), Value::from(coverage(&files).map_err(config)?));
    }
    let (more, missing) = named(stage, outputs);
    if let Some((name, path)) = missing.first() {
        return Err(config(words::gave_no(name, path)));
    }
    outputs.extend(more);
    if let Some(gate) = &stage.gate {
        facts.extend(outputs.clone());
        facts.insert("outputs".to_owned(), Value::Object(outputs.clone()));
        if !gate.holds(facts).map_err(|fault| config(words::gate_untold(fault)))? {
            let line = tests.as_ref().and_then(failures);
            let line = line.unwrap_or_else(|| words::gate_fails(gate.text()));
            return Err(Failure::new(Class::TestFailed, line));
        }
    }
    if stage.collect.artifacts.is_empty() {
        return Ok(Vec::new());
    }
    keep(&stage.collect.artifacts, workspace, folder).map_err(config)
}

/// Takes what a stage that failed left all the same: what is not there is no fault of its own. `failure` is told by the tests that
/// failed, unless something took the whole command away; of reports only those count that this attempt wrote.
pub(super) fn collect_failed(
    stage: &Stage,
    (workspace, folder): (&Path, &Path),
    outputs: &mut Map<String, Value>,
    failure: Option<&mut Failure>,
) -> Vec<ArtifactRow> {
    let found = |glob: &String| matching(workspace, glob).unwrap_or_default();
    if let Some(failure) = failure {
        let fresh = |glob: &String| written_since(found(glob), &folder.join(BEGUN));
        if let Some(read) = stage.collect.junit.as_ref().map(fresh).and_then(|files| junit(&files).ok()) {
            count(&read, outputs);
            if let Some(line) = failures(&read).filter(|_| !took_away(failure.class)) {
                failure.line = line;
                if failure.class != Class::FlakyTest {
                    failure.class = Class::TestFailed;
                }
            }
        }
        if let Some(share) = stage.collect.coverage.as_ref().map(fresh).and_then(|files| coverage(&files).ok()) {
            outputs.insert("coverage".to_owned(), Value::from(share));
        }
        outputs.extend(named(stage, outputs).0);
    }
    let globs: Vec<String> = stage.collect.artifacts.iter().filter(|glob| !found(glob).is_empty()).cloned().collect();
    if globs.is_empty() {
        return Vec::new();
    }
    keep(&globs, workspace, folder).unwrap_or_else(|fault| {
        tracing::warn!(stage = %stage.name, %fault, "What a stage that failed left could not be kept");
        Vec::new()
    })
}

/// Whether a failure of this class ended the command whatever its tests did.
fn took_away(class: Class) -> bool {
    matches!(class, Class::Timeout | Class::Oom | Class::InfraLost | Class::DiskFull | Class::Cancelled)
}

/// The counts of tests as outputs.
fn count(read: &Tests, outputs: &mut Map<String, Value>) {
    let failed = read.failed + read.errors;
    for (name, count) in [("total", read.total), ("passed", read.passed), ("failed", failed), ("skipped", read.skipped)]
    {
        outputs.insert(name.to_owned(), Value::from(count));
    }
}

/// `412 passed, 3 failed: names`, if any failed.
fn failures(read: &Tests) -> Option<String> {
    let failed = read.failed + read.errors;
    let names = read.failures.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
    (failed > 0).then(|| words::tests_failed(read.passed, failed, names))
}

/// The outputs that the stage's author named, and those that are not there.
fn named<'s>(stage: &'s Stage, outputs: &Map<String, Value>) -> (Map<String, Value>, Vec<(&'s String, &'s String)>) {
    let (mut more, mut missing) = (Map::new(), Vec::new());
    if stage.outputs.is_empty() {
        return (more, missing);
    }
    let raw = Map::from_iter([("result".to_owned(), Value::Object(outputs.clone()))]);
    for (name, path) in &stage.outputs {
        match template::look_up(path, &raw) {
            Some(value) => _ = more.insert(name.clone(), value.clone()),
            None => missing.push((name, path)),
        }
    }
    (more, missing)
}

/// The files of a pattern that this attempt wrote: what an earlier one left, or another instance, is no report of this one.
fn own_files(workspace: &Path, glob: &str, folder: &Path) -> Result<Vec<PathBuf>, String> {
    let all = matching(workspace, glob)?;
    let (found, own) = (all.len(), written_since(all, &folder.join(BEGUN)));
    match own.is_empty() && found > 0 {
        true => Err(words::only_old(glob)),
        false => Ok(own),
    }
}

/// What is read of an instance of a matrix: `out/{matrix.suite}/*.xml`.
pub(super) fn of_instance(collect: &Collect, facts: &Facts) -> Collect {
    let matrix = facts.get("matrix").and_then(Value::as_object);
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let fill = |glob: &String| {
        let mut glob = glob.clone();
        for (name, value) in matrix.into_iter().flatten() {
            glob = glob.replace(&format!("{{matrix.{name}}}"), &globset::escape(&text(value)));
        }
        glob
    };
    Collect {
        junit: collect.junit.as_ref().map(fill),
        coverage: collect.coverage.as_ref().map(fill),
        artifacts: collect.artifacts.iter().map(fill).collect(),
    }
}

/// Those of these files that are not older than a mark.
fn written_since(files: Vec<PathBuf>, mark: &Path) -> Vec<PathBuf> {
    let when = |path: &Path| std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let Some(begun) = when(mark) else { return files };
    files.into_iter().filter(|path| when(path).is_some_and(|at| at >= begun)).collect()
}

fn keep(globs: &[String], workspace: &Path, folder: &Path) -> Result<Vec<ArtifactRow>, String> {
    let kept = artifacts(workspace, globs, &folder.join(ARTIFACTS), ARTIFACTS_MAX)?;
    let row = |one: Artifact| ArtifactRow {
        path: one.path,
        bytes: one.bytes as i64,
        sha256: one.sha256,
        ..ArtifactRow::default()
    };
    Ok(kept.into_iter().map(row).collect())
}

/// What a step left for its next attempt.
pub(super) fn checkpoint(folder: &Path, mask: &Masker) -> Option<Value> {
    const MOST: u64 = 1 << 20;
    let path = folder.join("checkpoint");
    let mut text = Vec::new();
    open_regular(&path).ok()?.take(MOST + 1).read_to_end(&mut text).ok()?;
    let value = serde_json::from_slice(&text).ok().filter(|_| text.len() as u64 <= MOST)?;
    Some(mask.hide_all(value))
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
            let outputs = outputs.into_iter().map(|(name, value)| (mask.hide(&name), mask.hide_all(value))).collect();
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
