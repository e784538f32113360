//! What a stage is done for: one instance for each combination of its matrix.

use serde_json::{Map, Value};

use crate::pipelines::model::{Axis, Matrix, Pipeline, Stage};
use crate::pipelines::run::StageRun;

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
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let key: Vec<String> = combination.values().map(text).collect();
    StageRun { name: format!("{}[{}]", stage.name, key.join(",")), spec, matrix: combination, ..StageRun::default() }
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
