//! Runs whose pipeline, as it was recorded, this program cannot read: another version of it wrote that.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::graph::Graph;
use super::model::{Collect, OnFailure, Pipeline, Resources, Retry, Skip, Stage, Wait};
use super::run::{Run, StageRun};

impl Pipeline {
    /// What stands in for a pipeline that cannot be read: stages of the names that are known, which do nothing, and the rules of the one
    /// there is now. It is good for looking at its run and for ending it.
    pub(super) fn stand_in(run: &Run, own: &[StageRun], now: Option<&Pipeline>) -> Pipeline {
        let count = own.iter().map(|one| one.spec + 1).max().unwrap_or(0);
        let name = |spec: usize| {
            let one = own.iter().find(|one| one.spec == spec);
            let name = one.map_or("", |one| one.name.trim_start_matches(if one.undo { "undo-" } else { "" }));
            // A place in a matrix stands behind it.
            name.split('[').next().unwrap_or("").to_owned()
        };
        Pipeline {
            name: run.app.clone(),
            app: run.app.clone(),
            repo: None,
            description: String::new(),
            hash: run.pipeline.clone(),
            source: Arc::from(""),
            file: now.map_or_else(PathBuf::new, |now| now.file.clone()),
            params: Vec::new(),
            triggers: Vec::new(),
            policy: now.map(|now| now.policy.clone()).unwrap_or_default(),
            announce: now.map(|now| now.announce.clone()).unwrap_or_default(),
            stages: (0..count).map(|spec| stage(name(spec))).collect(),
            graph: Graph::new(vec![Vec::new(); count]),
        }
    }
}

fn stage(name: String) -> Stage {
    Stage {
        name,
        line: 0,
        needs: Vec::new(),
        when: None,
        matrix: None,
        actions: Vec::new(),
        wait: Some(Wait::Nothing),
        runner: None,
        rollback: None,
        env: Vec::new(),
        retry: Retry::default(),
        timeout: Duration::from_secs(1),
        idle_timeout: None,
        resources: Resources::default(),
        on_failure: OnFailure::Fail,
        idempotent: false,
        collect: Collect::default(),
        gate: None,
        outputs: Vec::new(),
        finally: false,
        skip: Skip::Never,
        live: false,
    }
}
