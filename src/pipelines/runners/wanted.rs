//! What a stage wants of its runner: labels, all of which it must have.

use std::collections::BTreeSet;

use super::super::expr::Facts;
use super::super::model::Pipeline;
use super::super::template;

/// What a stage says under `runner`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Labels as they are written; `{params.os}` in them is filled in when the stage's turn comes.
    pub labels: Vec<String>,
    /// Whether what undoes the stage is done on a runner too.
    pub undo: bool,
}

/// Whether this is a label.
pub(in crate::pipelines) fn is_label(text: &str) -> bool {
    let good = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.starts_with(char::is_alphanumeric) && text.chars().all(good) && text.len() <= 64
}

impl Wanted {
    /// The labels with everything in braces filled in.
    pub(in crate::pipelines) fn filled(&self, facts: &Facts) -> Result<Vec<String>, String> {
        let one = |text: &String| match template::fill(text, facts) {
            Ok(label) if is_label(&label) => Ok(label),
            Ok(other) => Err(format!("runner: {text} is {other:?} here, which is no label")),
            Err(fault) => Err(format!("runner: {fault}")),
        };
        self.labels.iter().map(one).collect()
    }

    /// The names that the labels ask about.
    pub(in crate::pipelines) fn roots(&self) -> Vec<&str> {
        let names = self.labels.iter().flat_map(|text| template::names(text).unwrap_or_default());
        names.filter_map(|name| name.split('.').next()).collect()
    }
}

/// Labels that stages want and nobody ever had, with a sentence each.
pub fn unknown_labels(pipeline: &Pipeline, known: &BTreeSet<String>) -> Vec<String> {
    let mut out = Vec::new();
    for stage in &pipeline.stages {
        let wanted = stage.runner.iter().flat_map(|wanted| &wanted.labels);
        for label in wanted.filter(|label| !label.contains('{') && !known.contains(*label)) {
            out.push(format!(
                "{}:{}: {} wants a runner with the label {label}, which nobody ever had; give it to one under runner.labels",
                pipeline.file.display(),
                stage.line,
                stage.name
            ));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::super::super::file;
    use super::*;
    use crate::executors::{Settings, executors};

    #[test]
    fn labels_that_nobody_ever_had_are_told_with_their_line() {
        let text = "app: shop\npolicy: {environments: {dev: {}}}\nstages:\n  a: {shell: [make], runner: [build, gpu]}\n  b: {shell: [make], runner: \"{params.environment}\"}\n";
        let pipeline = file::parse(Path::new("shop.yaml"), text, &executors(&Settings::default())).unwrap();
        let told = unknown_labels(&pipeline, &BTreeSet::from(["build".to_owned()]));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("shop.yaml:4: a wants a runner with the label gpu, which nobody ever had"),
            "{told:?}"
        );
        let wanted = pipeline.stages[1].runner.clone().unwrap();
        let facts = |env: &str| Facts::from_iter([("params".to_owned(), json!({"environment": env}))]);
        assert_eq!(wanted.filled(&facts("linux")), Ok(vec!["linux".to_owned()]));
        assert!(wanted.filled(&facts("a b")).unwrap_err().contains("no label"));
        assert!(wanted.filled(&Facts::new()).is_err());
    }
}
