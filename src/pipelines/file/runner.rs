//! What a stage says of its runner, and the keys that stages have.

use super::super::model::{Action, Collect, Undo};
use super::super::runners::{Wanted, is_label};
use super::reader::Reader;
use crate::yaml::Node;

/// The keys of a stage beside its executors.
pub(super) const KEYS: [&str; 23] = [
    "needs",
    "when",
    "matrix",
    "retry",
    "timeout",
    "idle_timeout",
    "resources",
    "env",
    "on_failure",
    "idempotent",
    "collect",
    "gate",
    "outputs",
    "rollback",
    "live",
    "skip_flag",
    "runner",
    "approve",
    "wait",
    "window",
    "lock",
    "unlock",
    "nothing",
];

/// What of a stage bears on where it can be done.
pub(super) struct Work<'w> {
    pub(super) actions: &'w [Action],
    pub(super) rollback: Option<&'w Undo>,
    pub(super) collect: &'w Collect,
    pub(super) env: &'w [(String, String)],
}

/// `runner: build`, or `runner: [build, linux]`: all of them have to be there.
pub(super) fn runner(reader: &mut Reader, node: Option<&Node>, work: &Work<'_>) -> Option<Wanted> {
    let node = node?;
    let written = if reader.is_text(node) { vec![node] } else { reader.list(node) };
    let mut labels = Vec::new();
    for node in written {
        let Some(label) = reader.text(node) else { continue };
        if !label.contains('{') && !is_label(&label) {
            reader.fault(node, format!("{label:?} is no label: letters, digits, - _ and ., a letter or digit first"));
        }
        labels.push(label);
    }
    if labels.is_empty() {
        reader.fault(node, "write a label that runners have, `runner: build`, or a list of which all are needed");
        return None;
    }
    let goes = |reader: &Reader, action: &Action| {
        reader.executors.get(&action.executor).is_some_and(|executor| executor.runs_elsewhere())
    };
    match work.actions.first() {
        None => reader.fault(node, "this stage waits, which no runner has to do; take `runner` away"),
        Some(action) if !goes(reader, action) => {
            let able: Vec<&str> = reader
                .executors
                .iter()
                .filter(|(_, one)| one.runs_elsewhere())
                .map(|(name, _)| name.as_str())
                .collect();
            let message = format!(
                "{} is done by this bot itself; a runner does {}: take `runner` away, or let a command do it",
                action.executor,
                able.join(", ")
            );
            reader.fault(node, message);
        }
        Some(action) => {
            let project = action.settings.to_string().contains("{project}");
            if project || work.env.iter().any(|(_, text)| text.contains("{project}")) {
                reader.fault(node, "{project} is a folder of this bot's machine, which a runner does not have; put the file into the repository");
            }
        }
    }
    if work.collect.any() {
        reader.fault(node, "collect reads files of this bot's workspace, and those of a runner stay there; write what is needed to MC_OUTPUT");
    }
    let undo = matches!(work.rollback, Some(Undo::Action(action)) if goes(reader, action));
    Some(Wanted { labels, undo })
}
