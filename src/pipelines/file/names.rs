//! Names in conditions and texts: what nothing gives is refused before a run begins.

use masterchief_contract::closest;

use super::super::model::Undo;
use super::super::template;
use super::reader::Reader;
use super::stages::{Draft, Known, Places};

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
pub(super) fn check_names(reader: &mut Reader, draft: &Draft<'_>, places: &Places, known: &Known<'_>) {
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
    for (expr, more, what) in [(&stage.when, &[][..], "when"), (&stage.gate, GATE, "gate")] {
        let Some(expr) = expr else { continue };
        check(&mut expr.names().iter().map(String::as_str), more, what);
        let params: Vec<String> = expr.params().iter().map(|name| format!("params.{name}")).collect();
        check(&mut params.iter().map(String::as_str), more, what);
    }
    let mut texts: Vec<&str> = stage.env.iter().map(|(_, text)| text.as_str()).collect();
    texts.extend(stage.runner.iter().flat_map(|wanted| &wanted.labels).map(String::as_str));
    for action in &stage.actions {
        template::texts_of(&action.settings, &mut texts);
    }
    if let Some(Undo::Action(action)) = &stage.rollback {
        template::texts_of(&action.settings, &mut texts);
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
