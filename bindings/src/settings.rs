//! What can be configured about sources.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::log::{LogSettings, MultilineSettings, SyslogSettings};

/// The `sources` block.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How logs are read, where a mask does not say so.
    pub logs: Vec<LogSettings>,
    /// How lines belong together, by a name for `multi=`.
    pub multiline: BTreeMap<String, MultilineSettings>,
    /// Where syslog is received.
    pub syslog: Option<SyslogSettings>,
}
