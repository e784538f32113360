//! What a stage says under `terraform`, and what of it can never work.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::shell::is_below;

/// When a plan is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Apply {
    /// When somebody approved it.
    #[default]
    AfterApproval,
    /// At once.
    Auto,
    /// Not at all.
    Never,
}

/// The plan that was approved.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Approved {
    /// Where the plan phase saved it.
    pub(super) file: PathBuf,
    /// Its sum in hex, as it was shown.
    pub(super) sha256: String,
}

/// What a stage says under `terraform`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    /// In the workspace.
    #[serde(default = "here")]
    pub(super) dir: String,
    /// The program; `tofu`, else `terraform`, where it is left out.
    #[serde(default)]
    pub(super) binary: Option<String>,
    /// The workspace; it is made where it is not there yet. The one that is selected where it is left out.
    #[serde(default)]
    pub(super) workspace: Option<String>,
    /// Values of variables. They win over every file.
    #[serde(default)]
    pub(super) vars: Map<String, Value>,
    /// In `dir`.
    #[serde(default)]
    pub(super) var_files: Vec<String>,
    /// When the plan is applied.
    #[serde(default)]
    pub(super) apply: Apply,
    /// Whether a plan that destroys something fails.
    #[serde(default = "yes")]
    pub(super) forbid_destroy: bool,
    /// The second flag, for a run that is meant to destroy.
    #[serde(default)]
    pub(super) allow_destroy: bool,
    /// What `init` is told about the backend; it may be secret.
    #[serde(default)]
    pub(super) backend_config: Map<String, Value>,
    /// How long an apply may take to end what it is at, and to write the state, when it is stopped; a minute where it is left out.
    #[serde(default, with = "humantime_serde")]
    pub(super) grace: Option<Duration>,
    /// Given by the engine alone.
    #[serde(default)]
    pub(super) apply_plan: Option<Approved>,
}

fn here() -> String {
    ".".to_owned()
}

fn yes() -> bool {
    true
}

/// Reads what a stage says; else the key that is wrong and a sentence.
pub(super) fn read(settings: &Value) -> Result<Written, (&'static str, String)> {
    let written: Written = serde_json::from_value(settings.clone()).map_err(|fault| {
        let keys = "write a map with dir, and if need be workspace, vars, var_files, apply (after_approval, auto, never), \
            forbid_destroy, allow_destroy, backend_config, binary, grace";
        ("", format!("{fault}; {keys}"))
    })?;
    let outside = |path: &&String| !is_below(path);
    if outside(&&written.dir) {
        return Err(("dir", format!("{:?} leaves the workspace; name a folder in it, without ..", written.dir)));
    }
    if let Some(file) = written.var_files.iter().find(outside) {
        return Err(("var_files", format!("{file:?} leaves the folder; name a file in it, without ..")));
    }
    let strange = |name: &&String| name.is_empty() || name.starts_with('-') || name.contains(['/', ' ']);
    if let Some(name) = written.workspace.as_ref().filter(strange) {
        return Err(("workspace", format!("{name:?} is not the name of a workspace; use letters, digits, - and _")));
    }
    if written.apply == Apply::Never && written.apply_plan.is_some() {
        return Err(("apply", "this stage never applies; write `apply: after_approval`".to_owned()));
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_can_never_run_is_refused_with_the_key_that_is_wrong() {
        let fault = |settings: Value| read(&settings).err();
        assert_eq!(fault(json!({"dir": "infra", "workspace": "{environment}", "apply": "after_approval"})), None);
        assert_eq!(fault(json!({})), None);
        let wrong = [
            (json!({"dir": "/etc"}), "dir", "leaves the workspace"),
            (json!({"var_files": ["../prod.tfvars"]}), "var_files", "leaves the folder"),
            (json!({"workspace": "-help"}), "workspace", "not the name of a workspace"),
            (json!({"apply": "sometimes"}), "", "after_approval"),
            (json!({"apply": "never", "apply_plan": {"file": "/p", "sha256": "00"}}), "apply", "never applies"),
            (json!({"target": "a.b"}), "", "unknown field `target`"),
        ];
        for (settings, key, words) in wrong {
            let (at, said) = fault(settings.clone()).unwrap();
            assert!(at == key && said.contains(words), "{settings}: {at}: {said}");
        }
    }
}
