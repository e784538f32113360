//! What a stage is done for: one instance for each combination of its matrix.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::file::stages::INSTANCES_MAX;
use super::model::{Axis, Matrix, Pipeline, Stage};
use super::run::StageRun;
use super::words;

/// The instances of all stages: one each, or one for each combination of its matrix. Those that depend on a list that is not
/// there yet are one for now.
pub(super) fn instances(pipeline: &Pipeline) -> Vec<StageRun> {
    let mut out = Vec::new();
    for (spec, stage) in pipeline.stages.iter().enumerate() {
        match &stage.matrix {
            Some(matrix) if matrix.axes.iter().all(|(_, axis)| matches!(axis, Axis::Values(_))) => {
                out.extend(
                    combinations(matrix, &|_| None).into_iter().map(|combination| instance(stage, spec, combination)),
                );
            }
            _ => out.push(StageRun { name: stage.name.clone(), spec, ..StageRun::default() }),
        }
    }
    out
}

pub(super) fn instance(stage: &Stage, spec: usize, combination: Map<String, Value>) -> StageRun {
    let name = format!("{}[{}]", stage.name, key(&combination));
    StageRun { name, spec, matrix: combination, ..StageRun::default() }
}

/// What an instance is called by.
fn key(combination: &Map<String, Value>) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    combination.values().map(text).collect::<Vec<String>>().join(",")
}

/// Why these cannot be instances of one stage: two of them would have one name, one log, one row.
pub(super) fn one_name(all: &[Map<String, Value>]) -> Option<String> {
    let mut seen = HashSet::new();
    let twice = all.iter().map(key).find(|key| !seen.insert(key.clone()))?;
    Some(words::same_name_twice(twice))
}

/// The same for all instances of a matrix, as far as they are known before a run. One that is too large is refused as that.
pub(super) fn written_twice(matrix: &Matrix) -> Option<String> {
    let known = |(_, axis): &(String, Axis)| match axis {
        Axis::Values(values) => Some(values.len()),
        Axis::From(_) => None,
    };
    let sizes: Option<Vec<usize>> = matrix.axes.iter().map(known).collect();
    let all = sizes?.into_iter().fold(1, usize::saturating_mul);
    (all <= INSTANCES_MAX).then(|| one_name(&combinations(matrix, &|_| None))).flatten()
}

/// Every combination of a matrix but those that are left out. `list` gives the values of names that come from outputs.
pub(super) fn combinations(matrix: &Matrix, list: &dyn Fn(&str) -> Option<Vec<Value>>) -> Vec<Map<String, Value>> {
    let mut out = vec![Map::new()];
    for (name, axis) in &matrix.axes {
        let values = match axis {
            Axis::Values(values) => values.clone(),
            Axis::From(path) => list(path).unwrap_or_default(),
        };
        let with = |before: &Map<String, Value>, value: &Value| {
            let mut combination = before.clone();
            combination.insert(name.clone(), value.clone());
            combination
        };
        out =
            out.iter().flat_map(|before| values.iter().map(|value| with(before, value)).collect::<Vec<_>>()).collect();
    }
    out.retain(|combination| {
        !matrix.exclude.iter().any(|exclude| exclude.iter().all(|(name, value)| combination.get(name) == Some(value)))
    });
    out
}

/// The same with each once.
pub(super) fn each_once(all: Vec<Map<String, Value>>) -> Vec<Map<String, Value>> {
    let mut seen = HashSet::new();
    all.into_iter().filter(|one| seen.insert(Value::Object(one.clone()).to_string())).collect()
}
