//! How the bot is, for monitors.

use std::fmt::Write;

use masterchief_contract::Future;
use serde::Serialize;

/// Whoever knows how the bot is.
pub trait Vitals: Send + Sync + 'static {
    /// What must be well for the bot to be given work.
    fn checks(&self) -> Future<Vec<Check>>;
    /// Everything that is counted.
    fn metrics(&self) -> Future<Metrics>;
}

/// One thing that is well or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What.
    pub name: String,
    /// Whether it is.
    pub ok: bool,
    /// What is wrong; empty if nothing.
    pub detail: String,
}

/// Numbers in the text format of Prometheus (0.0.4).
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    text: String,
}

impl Metrics {
    /// A family of numbers: a name in `snake_case`, what it counts, `counter` or `gauge`, and a row for each set of labels.
    pub fn family<'a>(
        &mut self,
        name: &str,
        about: &str,
        kind: &str,
        rows: impl IntoIterator<Item = (Vec<(&'a str, &'a str)>, f64)>,
    ) {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return;
        }
        let about = about.replace('\\', "\\\\").replace('\n', "\\n");
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {about}\n# TYPE {name} {kind}");
        for (labels, value) in rows {
            let labels: Vec<String> =
                labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(self.text, "{name}{labels} {value}");
        }
    }

    /// The text.
    pub fn text(self) -> String {
        self.text
    }
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_prometheus_reads_them() {
        let mut metrics = Metrics::default();
        metrics.family("a_total", "What\nit is", "counter", [(vec![("of", "x\"y\\z")], 3.0), (vec![], 0.5)]);
        metrics.family("none", "Nothing", "gauge", []);
        assert_eq!(
            metrics.text(),
            "# HELP a_total What\\nit is\n# TYPE a_total counter\na_total{of=\"x\\\"y\\\\z\"} 3\na_total 0.5\n"
        );
    }
}
