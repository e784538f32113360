//! Prometheus' query API: <https://prometheus.io/docs/prometheus/latest/querying/api/>.

use masterchief_contract::{Secret, SourceError, Value};
use reqwest::{Client, Url};

use super::rule::Labels;
use super::settings::PrometheusSettings;
use crate::faults;

/// The biggest answer, in bytes.
const ANSWER_MAX: usize = 16 << 20;

pub(super) struct Prometheus {
    client: Client,
    url: Url,
    user: Option<(String, Option<Secret>)>,
    token: Option<Secret>,
}

/// A client with a time limit.
pub(super) fn client(timeout: std::time::Duration) -> Result<Client, String> {
    Client::builder().user_agent(crate::AGENT).timeout(timeout).build().map_err(|fault| fault.to_string())
}

/// An address of the configuration with a path of the API behind it.
pub(super) fn address(base: &str, path: &str, pairs: &[(&str, &str)]) -> Result<Url, String> {
    let text = format!("{}{path}", base.trim_end_matches('/'));
    Url::parse_with_params(&text, pairs).map_err(|fault| format!("the url is no address: {fault}"))
}

/// An answer as JSON, not bigger than we can bear.
pub(super) async fn answer(request: reqwest::RequestBuilder) -> Result<Value, SourceError> {
    let lost = |fault: reqwest::Error| faults::lost(&fault.without_url());
    let mut response = request.send().await.map_err(lost)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(lost)? {
        body.extend_from_slice(&part);
        if body.len() > ANSWER_MAX {
            return Err(SourceError::Wrong(format!("the answer has more than {ANSWER_MAX} bytes; ask for less")));
        }
    }
    let json: Result<Value, _> = serde_json::from_slice(&body);
    let told = json.as_ref().ok().and_then(|json| json.get("error")?.as_str());
    match (status.as_u16(), told) {
        (400 | 422, Some(told)) => Err(SourceError::Wrong(format!("the query is refused: {told}"))),
        (401 | 403, _) => Err(SourceError::Wrong(format!("{status}: look at its username, password or token"))),
        (200..=299, _) => json.map_err(|fault| SourceError::Lost(format!("the answer is no JSON: {fault}"))),
        (_, told) => {
            let said = format!("{status} {}", told.unwrap_or(""));
            Err(if faults::passes(status) {
                SourceError::Lost(said)
            } else {
                SourceError::Wrong(format!("{}; look at its url", said.trim_end()))
            })
        }
    }
}

impl Prometheus {
    pub(super) fn new(settings: &PrometheusSettings, query: &str) -> Result<Prometheus, String> {
        Ok(Prometheus {
            client: client(settings.timeout)?,
            url: address(&settings.url, "/api/v1/query", &[("query", query)])?,
            user: settings.username.clone().map(|name| (name, settings.password.clone())),
            token: settings.token.clone(),
        })
    }

    pub(super) async fn ask(&self) -> Result<Vec<(Labels, f64)>, SourceError> {
        let mut request = self.client.get(self.url.clone());
        if let Some((name, password)) = &self.user {
            request = request.basic_auth(name, password.as_ref().map(Secret::reveal));
        } else if let Some(token) = &self.token {
            request = request.bearer_auth(token.reveal());
        }
        series(&answer(request).await?)
    }
}

fn series(answer: &Value) -> Result<Vec<(Labels, f64)>, SourceError> {
    let wrong = |what: &str| SourceError::Wrong(format!("the query gives {what}; it must give a vector or a scalar"));
    let result = answer.pointer("/data/result");
    match answer.pointer("/data/resultType").and_then(Value::as_str) {
        Some("scalar") => Ok(vec![(Labels::new(), sample(result.unwrap_or(&Value::Null)))]),
        Some("vector") => {
            let rows = result.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let named = |row: &Value| row.pointer("/metric/__name__").and_then(Value::as_str).map(str::to_owned);
            let first = rows.iter().find_map(named);
            // Where several metrics are asked for at once, the name is what tells their series apart.
            let several = rows.iter().filter_map(named).any(|name| Some(name) != first);
            let labels = |row: &Value| {
                let mut labels = labels(row.get("metric"));
                labels.extend(named(row).filter(|_| several).map(|name| ("__name__".to_owned(), name)));
                labels
            };
            Ok(rows.iter().map(|row| (labels(row), sample(row.get("value").unwrap_or(&Value::Null)))).collect())
        }
        Some(other) => Err(wrong(&format!("a {other}"))),
        None => Err(wrong("something else")),
    }
}

/// The labels of a series, without its name.
pub(super) fn labels(metric: Option<&Value>) -> Labels {
    let pairs = metric.and_then(Value::as_object).into_iter().flatten();
    let pairs = pairs.filter(|(name, _)| *name != "__name__");
    pairs.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
}

/// `[1435781451.781, "1.5"]`; what is no number is NaN.
fn sample(value: &Value) -> f64 {
    value.get(1).and_then(Value::as_str).and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn whoever_is_asked_hears_who_asks() {
        let (url, asked) = crate::canned::serve(|_| {
            (200, vec![], json!({"data": {"resultType": "vector", "result": []}}).to_string())
        })
        .await;
        let settings = serde_json::from_value(json!({"url": url, "token": "t"})).unwrap();
        Prometheus::new(&settings, "up").unwrap().ask().await.unwrap();
        let asked = asked.lock().unwrap();
        assert!(asked[0].contains(&format!("user-agent: {}\r\n", crate::AGENT)), "{}", asked[0]);
        assert!(asked[0].contains("authorization: bearer t\r\n"), "{}", asked[0]);
    }

    #[tokio::test]
    async fn a_server_that_is_ill_is_asked_again_soon_and_a_query_that_is_refused_is_not() {
        for (status, body, passes) in [
            (503, json!({"error": "query timed out in expression evaluation"}), true),
            (500, json!({}), true),
            (429, json!({}), true),
            (200, json!(null), false),
            (400, json!({"error": "parse error"}), false),
            (422, json!({"error": "too many samples"}), false),
            (401, json!({}), false),
            (404, json!({}), false),
        ] {
            let (url, _) = crate::canned::serve(move |_| (status, vec![], body.to_string())).await;
            let settings = serde_json::from_value(json!({"url": url})).unwrap();
            let fault = Prometheus::new(&settings, "up").unwrap().ask().await.err().unwrap();
            assert_eq!(matches!(fault, SourceError::Lost(_)), passes, "{status}: {fault}");
        }
    }

    #[test]
    fn vectors_and_scalars_are_read_and_the_rest_is_refused() {
        let vector = json!({"status": "success", "data": {"resultType": "vector", "result": [
            {"metric": {"__name__": "up", "job": "a"}, "value": [1.5, "1"]},
            {"metric": {"job": "b"}, "value": [1.5, "NaN"]},
            {"metric": {"job": "c"}, "value": [1.5, "+Inf"]},
        ]}});
        let found = series(&vector).unwrap();
        assert_eq!(found[0], (Labels::from([("job".to_owned(), "a".to_owned())]), 1.0));
        assert!(found[1].1.is_nan() && found[2].1 == f64::INFINITY);
        assert_eq!(series(&json!({"data": {"resultType": "scalar", "result": [1, "2.5"]}})).unwrap()[0].1, 2.5);
        assert!(series(&json!({"data": {"resultType": "matrix", "result": []}})).is_err());
        assert!(series(&json!({})).is_err());
    }
}
