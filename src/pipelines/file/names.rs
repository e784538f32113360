//! Names in conditions and texts: what nothing gives is refused before a run begins.

use std::collections::HashMap;

use masterchief_contract::closest;
use serde_json::Value;

use super::super::expr::Expr;
use super::super::model::Undo;
use super::super::template;
use super::reader::Reader;
use super::stages::{Draft, Known};

/// What conditions and texts can ask about beside stages.
pub(super) const NAMES: &[&str] = &[
    "params",
    "environment",
    "app",
    "ref",
    "sha",
    "version",
    "repo",
    "run",
    "requester",
    "risk",
    "plan",
    "event",
    "matrix",
    "workspace",
    "project",
    "files",
    "state",
    "previous",
];
/// What a gate can ask about its own stage.
pub(super) const GATE: &[&str] = &["coverage", "total", "passed", "failed", "skipped", "outputs", "seconds"];

/// Refuses names in conditions and texts that will never be known when the stage begins.
pub(super) fn check_names(
    reader: &mut Reader,
    draft: &Draft<'_>,
    places: &HashMap<String, (usize, u64)>,
    known: &Known<'_>,
) {
    let stage = &draft.stage;
    let mut check = |names: &mut dyn Iterator<Item = &str>, more: &[&str], what: &str| {
        for path in names {
            let root = path.split('.').next().unwrap_or("");
            let found = NAMES.contains(&root) || places.contains_key(root) || more.contains(&root);
            let param = path.strip_prefix("params.");
            let known_param = |name: &str| name == "environment" || known.params.iter().any(|param| param.name == name);
            let lost = param.filter(|name| !known_param(name));
            if !found || lost.is_some() {
                let params = known.params.iter().map(|param| param.name.as_str());
                let all = places.keys().map(String::as_str).chain(NAMES.iter().copied());
                let close = lost.map_or_else(|| closest(root, all), |name| closest(name, params));
                let hint = close.map(|close| format!("; did you mean {close}?")).unwrap_or_default();
                let message =
                    format!("{}: {what} asks for {path:?}, which nothing in {} gives{hint}", stage.name, known.app);
                reader.fault(draft.node, message);
            }
        }
    };
    let expr = |expr: &Option<Expr>| -> Vec<String> {
        let params = |expr: &Expr| expr.params().into_iter().map(|name| format!("params.{name}")).collect::<Vec<_>>();
        expr.iter().flat_map(|expr| expr.names().iter().cloned().chain(params(expr))).collect()
    };
    check(&mut expr(&stage.when).iter().map(String::as_str), &[], "when");
    check(&mut expr(&stage.gate).iter().map(String::as_str), GATE, "gate");
    let mut texts: Vec<&str> = stage.env.iter().map(|(_, text)| text.as_str()).collect();
    texts.extend(stage.runner.iter().flat_map(|wanted| &wanted.labels).map(String::as_str));
    for action in &stage.actions {
        texts_of(&action.settings, &mut texts);
    }
    if let Some(Undo::Action(action)) = &stage.rollback {
        texts_of(&action.settings, &mut texts);
    }
    for text in texts {
        // A text that cannot be read was told already.
        check(&mut template::names(text).unwrap_or_default().into_iter(), &["repo"], "its text");
    }
    if stage.matrix.is_none() && stage.when.as_ref().is_some_and(|when| when.names().contains("matrix")) {
        let message = format!(
            "{}: when asks for matrix, and the stage has none; give it one, or ask for something else",
            stage.name
        );
        reader.fault(draft.node, message);
    }
}

fn texts_of<'v>(value: &'v Value, out: &mut Vec<&'v str>) {
    match value {
        Value::String(text) => out.push(text),
        Value::Array(list) => list.iter().for_each(|item| texts_of(item, out)),
        Value::Object(map) => map.values().for_each(|item| texts_of(item, out)),
        _ => {}
    }
}
