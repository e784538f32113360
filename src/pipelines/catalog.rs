//! The pipelines there are: the files of a folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use masterchief_contract::closest;

use super::around::Around;
use super::calendars::{self, Calendars};
use super::file;
use super::model::{Pipeline, Wait};
use super::refusal::Refusal;
use super::words;
use crate::executors::Executors;
use crate::yaml::ConfigFault;

/// Pipelines, by what they ship.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    by_app: BTreeMap<String, Arc<Pipeline>>,
    /// Files that cannot be read, by name, with the first fault.
    broken: BTreeMap<String, String>,
    /// The calendars that they name, as they were when these were read.
    pub(super) calendars: Calendars,
}

impl Catalog {
    /// Reads all `.yaml` and `.toml` files of a folder, which need not be there. Good ones are in the catalog whatever is wrong with others.
    pub fn read(folder: &Path, executors: &Executors) -> (Catalog, Vec<ConfigFault>) {
        let mut files: Vec<_> =
            std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        files.retain(|path| path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "toml"));
        files.sort();
        let (mut catalog, mut faults) = (Catalog::default(), Vec::new());
        for path in files {
            let text = match std::fs::read_to_string(&path) {
                Ok(text) => text,
                Err(fault) => {
                    faults.push(ConfigFault { spot: None, message: format!("{}: {fault}", path.display()) });
                    continue;
                }
            };
            match file::parse(&path, &text, executors) {
                Ok(pipeline) => {
                    let app = pipeline.app.clone();
                    match catalog.put(pipeline) {
                        Some(fault) => faults.push(fault),
                        None => faults.extend(
                            catalog
                                .by_app
                                .get(&app)
                                .into_iter()
                                .flat_map(|pipeline| no_calendar(pipeline, &catalog.calendars)),
                        ),
                    }
                }
                Err(more) => {
                    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                    catalog.broken.insert(name, more[0].to_string());
                    faults.extend(more);
                }
            }
        }
        (catalog, faults)
    }

    /// Adds a pipeline, unless another ships the same.
    pub fn put(&mut self, pipeline: Pipeline) -> Option<ConfigFault> {
        if let Some(other) = self.by_app.get(&pipeline.app) {
            let message = format!(
                "{}: {} ships {} already; give this one an `app` of its own",
                pipeline.file.display(),
                other.file.display(),
                pipeline.app
            );
            return Some(ConfigFault { spot: None, message });
        }
        self.by_app.insert(pipeline.app.clone(), Arc::new(pipeline));
        let files = calendars::named(self.by_app.values());
        self.calendars.refresh(&files);
        None
    }

    /// The pipeline that ships this; else what to say.
    pub fn get(&self, app: &str) -> Result<Arc<Pipeline>, Refusal> {
        self.by_app.get(app).cloned().ok_or_else(|| {
            if let Some(fault) = self.broken.get(app) {
                return Refusal::conflict(words::cannot_be_read(app, fault));
            }
            let mut close: Vec<&str> = self.by_app.keys().map(String::as_str).filter(|name| near(app, name)).collect();
            // A slip of the finger comes before a part of a name.
            close.sort_by_key(|name| closest(app, std::iter::once(*name)).is_none());
            Refusal::unknown(match close.as_slice() {
                [] if self.by_app.is_empty() => words::no_pipelines(app),
                [] => words::no_app_of(app, self.by_app.keys().cloned().collect::<Vec<_>>().join(", ")),
                close => words::no_app_but(app, close.join(" or ")),
            })
        })
    }

    /// All of them, by app.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Pipeline>> {
        self.by_app.values()
    }

    /// Tells the bot whom pipelines and groups name. What stands in a file that cannot be read now is told no more, but it was.
    pub(super) fn tell_named(&self, groups: &BTreeMap<String, Vec<String>>, around: &dyn Around) {
        let rules = self.all().flat_map(|pipeline| &pipeline.policy.environments).map(|(_, rules)| rules);
        let rules = rules.flat_map(|rules| rules.approvals.iter().chain(&rules.emergency));
        let stages = self.all().flat_map(|pipeline| &pipeline.stages).filter_map(|stage| match &stage.wait {
            Some(Wait::Approve(approvals)) => Some(approvals),
            _ => None,
        });
        let named = rules.chain(stages).flat_map(|approvals| &approvals.from).filter(|name| !name.starts_with('@'));
        let handles = named.chain(groups.values().flatten()).cloned().collect();
        around.names(&handles, !self.broken.is_empty());
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_app.is_empty() && self.broken.is_empty()
    }
}

/// Whether somebody who typed `asked` may have meant `name`: a slip, or a part of it.
fn near(asked: &str, name: &str) -> bool {
    let first = asked.chars().next();
    closest(asked, std::iter::once(name)).is_some()
        || asked.len() >= 2 && name.starts_with(asked)
        || first.is_some() && name.split('-').next().is_some_and(|part| closest(asked, std::iter::once(part)).is_some())
}

/// Calendars that cannot be read. The pipeline is there all the same: until they can be, its places are frozen.
fn no_calendar(pipeline: &Pipeline, calendars: &Calendars) -> Vec<ConfigFault> {
    let named = pipeline
        .policy
        .environments
        .iter()
        .flat_map(|(env, rules)| rules.freeze.iter().map(move |file| (env, pipeline.calendar(file))));
    let fault = |(env, path): (&String, PathBuf)| {
        let fault = calendars.get(&path)?.as_ref().err()?;
        let file = pipeline.file.display();
        let message = format!(
            "{file}: policy.environments.{env}.freeze: {}: {fault}; {env} is frozen until it can be read",
            path.display()
        );
        Some(ConfigFault { spot: None, message })
    };
    named.filter_map(fault).collect()
}
