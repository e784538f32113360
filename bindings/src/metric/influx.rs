//! InfluxDB 1.x: `/query` with InfluxQL. The newest value of each series counts; its tags are the labels.

use masterchief_contract::{SourceError, Value};
use reqwest::{Client, Url};

use super::prometheus::{address, answer, client, labels};
use super::rule::Labels;
use super::settings::InfluxSettings;

/// What it says of the moment, not of the query.
const PASSING: [&str; 5] =
    ["query-timeout", "max-concurrent-queries", "query interrupted", "query engine shutdown", "engine is closed"];

pub(super) struct Influx {
    client: Client,
    url: Url,
    settings: InfluxSettings,
}

impl Influx {
    pub(super) fn new(settings: &InfluxSettings, query: &str) -> Result<Influx, String> {
        let url = address(&settings.url, "/query", &[("db", &settings.database), ("q", query), ("epoch", "ms")])?;
        Ok(Influx { client: client(settings.timeout)?, url, settings: settings.clone() })
    }

    pub(super) async fn ask(&self) -> Result<Vec<(Labels, f64)>, SourceError> {
        let mut request = self.client.get(self.url.clone());
        if let Some(name) = &self.settings.username {
            request = request.basic_auth(name, self.settings.password.as_ref().map(|password| password.reveal()));
        }
        series(&answer(request).await?)
    }
}

fn series(answer: &Value) -> Result<Vec<(Labels, f64)>, SourceError> {
    let results = answer.get("results").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut out = Vec::new();
    for result in results {
        if let Some(fault) = result.get("error").and_then(Value::as_str) {
            let passes = PASSING.iter().any(|words| fault.contains(words));
            let said = format!("the query is refused: {fault}");
            return Err(if passes { SourceError::Lost(said) } else { SourceError::Wrong(said) });
        }
        for series in result.get("series").and_then(Value::as_array).into_iter().flatten() {
            let columns = series.get("columns").and_then(Value::as_array).map_or(0, Vec::len);
            if columns != 2 {
                return Err(SourceError::Wrong(format!(
                    "the query gives {columns} columns; it must give the time and one number"
                )));
            }
            let rows = series.get("values").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            // A window that has no values yet stands there with nothing in it.
            if let Some(value) = rows.iter().rev().find_map(|row| row.get(1)?.as_f64()) {
                out.push((labels(series.get("tags")), value));
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_newest_value_of_each_series_counts() {
        let answer = json!({"results": [{"series": [
            {"name": "sys", "tags": {"host": "a"}, "columns": ["time", "mean"], "values": [[1, 2.5], [2, 4], [3, null]]},
            {"name": "sys", "tags": {"host": "b"}, "columns": ["time", "mean"], "values": [[1, null]]},
        ]}]});
        assert_eq!(series(&answer).unwrap(), [(Labels::from([("host".to_owned(), "a".to_owned())]), 4.0)]);
        let refused = |why: &str| series(&json!({"results": [{"error": why}]})).unwrap_err();
        for why in ["database not found: ops", "error parsing query: found FRM"] {
            assert!(matches!(refused(why), SourceError::Wrong(_)), "{why}");
        }
        for why in ["query-timeout limit exceeded", "max-concurrent-queries limit exceeded(10, 10)", "engine is closed"]
        {
            assert!(matches!(refused(why), SourceError::Lost(_)), "{why}");
        }
        assert!(series(&json!({"results": [{"series": [{"columns": ["time", "a", "b"], "values": []}]}]})).is_err());
        assert!(series(&json!({"results": [{}]})).unwrap().is_empty());
    }
}
