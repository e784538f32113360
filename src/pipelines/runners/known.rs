//! Runners that were ever there, kept in a file: what a label is worth is known before anybody is linked.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::run::Millis;

/// The file under the data folder.
const FILE: &str = "runners.json";

/// A runner that was there once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Known {
    /// Its name.
    pub name: String,
    /// The labels it had last.
    pub labels: BTreeSet<String>,
    /// How many stages it did at once.
    pub slots: u32,
    /// When it was seen last.
    pub seen: Millis,
}

/// The runners that were ever there; none where the file is not there or cannot be read.
pub fn known(data: &Path) -> Vec<Known> {
    let text = std::fs::read_to_string(data.join(FILE)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

impl Known {
    /// Keeps them, whole or not at all.
    pub fn keep(all: &[Known], data: &Path) -> std::io::Result<()> {
        let new = data.join(format!("{FILE}.new"));
        std::fs::write(&new, serde_json::to_vec_pretty(all)?)?;
        std::fs::rename(&new, data.join(FILE))
    }
}
