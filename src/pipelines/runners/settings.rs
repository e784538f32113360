//! What can be configured about this bot as a runner.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;

use super::is_label;

/// The `runner` block.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// What this bot can do, for stages that say `runner: LABEL`.
    pub labels: BTreeSet<String>,
    /// How many such stages it does at once, its own and those of other bots.
    pub slots: u32,
    /// The bots whose stages it does: they run commands here, as this bot's own user. Nobody's where it is empty.
    pub accept_from: BTreeSet<String>,
    /// How long another runner may be away before what it does for us counts as lost.
    #[serde(with = "humantime_serde")]
    pub patience: Duration,
    /// How long a stage waits for a runner where its pipeline has no `queue_timeout`.
    #[serde(with = "humantime_serde")]
    pub wait: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            labels: BTreeSet::new(),
            slots: 1,
            accept_from: BTreeSet::new(),
            patience: Duration::from_secs(5 * 60),
            wait: Duration::from_secs(3600),
        }
    }
}

impl Settings {
    /// What is wrong beyond the grammar: the key and a sentence.
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        if let Some(bad) = self.labels.iter().find(|label| !is_label(label)) {
            faults
                .push(("labels", format!("{bad:?} is no label: letters, digits, - _ and ., a letter or digit first")));
        }
        if self.slots == 0 {
            faults.push(("slots", "a runner without slots would never do anything; take its labels away".to_owned()));
        }
        if !self.accept_from.is_empty() && self.labels.is_empty() {
            faults.push(("accept_from", "say with labels what this bot can do, or no stage is ever sent".to_owned()));
        }
        if self.patience < Duration::from_secs(1) {
            faults.push(("patience", "is a second at least: links break".to_owned()));
        }
        faults
    }

    /// Whether the stages of this bot are done here.
    pub fn accepts(&self, bot: &str) -> bool {
        self.accept_from.iter().any(|name| name.eq_ignore_ascii_case(bot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_closed_by_default_and_what_can_never_work_is_told() {
        let none = Settings::default();
        assert!(none.faults().is_empty() && !none.accepts("One"));
        let text = r#"{"labels": ["a b"], "slots": 0, "patience": "0s"}"#;
        let wrong: Settings = serde_json::from_str(text).unwrap();
        let keys: Vec<&str> = wrong.faults().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["labels", "slots", "patience"]);
        let open: Settings = serde_json::from_str(r#"{"labels": ["build"], "accept_from": ["One"]}"#).unwrap();
        assert!(open.faults().is_empty() && open.accepts("one") && !open.accepts("Two"));
        let useless: Settings = serde_json::from_str(r#"{"accept_from": ["One"]}"#).unwrap();
        assert_eq!(useless.faults()[0].0, "accept_from");
        assert!(serde_json::from_str::<Settings>(r#"{"label": []}"#).is_err());
    }
}
