//! Images in registries: what stages of ours pushed, and what registries tell of pushes.

use std::sync::Arc;

use chrono::DateTime;
use serde_json::{Map, Value};

use super::engine::May;
use super::handle::Pipelines;
use super::model::Pipeline;
use super::refusal::Refusal;
use super::run::Millis;
use super::words;
use crate::store::runs::{ImageRow, Put};

/// What a stage that pushed gave, as rows: one for each tag.
pub(super) fn pushed(run: i64, given: &Map<String, Value>, at: Millis) -> Vec<ImageRow> {
    let text = |name: &str| given.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let (Some(image), Some(digest)) = (text("image"), text("digest")) else { return Vec::new() };
    // A colon before the last slash is that of a port.
    let named = image.rfind('/').map_or(0, |at| at + 1);
    let repo = image[named..].find(':').map_or(image, |at| &image[..named + at]);
    let tags = given.get("tags").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let row = |tag: &str| ImageRow {
        repo: repo.to_owned(),
        tag: tag.to_owned(),
        digest: digest.to_owned(),
        size: given.get("size").and_then(Value::as_i64),
        pushed: at,
        run: Some(run),
    };
    tags.map(row).collect()
}

/// The pushes of tags that a registry tells of: <https://distribution.github.io/distribution/about/notifications/>. Layers, pulls
/// and what has no tag are left out.
fn told(body: &Value, now: Millis) -> Option<Vec<ImageRow>> {
    let events = body.get("events")?.as_array()?;
    let row = |event: &Value| {
        let text = |path: &str| event.pointer(path).and_then(Value::as_str).filter(|text| !text.is_empty());
        if text("/action") != Some("push") {
            return None;
        }
        let name = text("/target/repository")?;
        // The size of the target is that of its manifest; what it refers to is what an image takes.
        let parts = event.pointer("/target/references").and_then(Value::as_array);
        let size = parts.map(|parts| parts.iter().filter_map(|part| part.get("size")?.as_i64()).sum::<i64>());
        let at = text("/timestamp").and_then(|at| DateTime::parse_from_rfc3339(at).ok());
        Some(ImageRow {
            repo: text("/request/host").map_or_else(|| name.to_owned(), |host| format!("{host}/{name}")),
            tag: text("/target/tag")?.to_owned(),
            digest: text("/target/digest")?.to_owned(),
            size: size.filter(|size| *size > 0),
            pushed: at.map_or(now, |at| at.timestamp_millis().min(now)),
            run: None,
        })
    };
    Some(events.iter().filter_map(row).collect())
}

impl Pipelines {
    /// Takes in what a registry tells of pushes, from somebody who may deploy something; how many tags it was.
    pub async fn registry_told(&self, body: &Value, may: &May) -> Result<usize, Refusal> {
        let deploys = |pipeline: &Arc<Pipeline>| {
            pipeline.policy.environments.iter().any(|(_, rules)| may.has(rules.flags.as_ref()))
        };
        if !self.catalog().all().any(deploys) {
            return Err(Refusal::denied(words::MAY_DEPLOY_NOTHING));
        }
        let rows = told(body, self.now()).ok_or_else(|| Refusal::wrong(words::NO_NOTIFICATION))?;
        let count = rows.len();
        self.records().write(rows.into_iter().map(Put::Image).collect()).await?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_push_of_several_tags_is_a_row_each_whatever_port_the_registry_has() {
        let given =
            json!({"image": "localhost:5000/team/shop:7", "tags": ["7", "latest"], "digest": "sha256:ab", "size": 42});
        let Value::Object(given) = given else { panic!("no map") };
        let rows = pushed(118, &given, 9);
        let short: Vec<_> = rows.iter().map(|row| (row.repo.as_str(), row.tag.as_str(), row.size, row.run)).collect();
        assert_eq!(
            short,
            [
                ("localhost:5000/team/shop", "7", Some(42), Some(118)),
                ("localhost:5000/team/shop", "latest", Some(42), Some(118))
            ]
        );
        let mut built = given.clone();
        built.remove("digest");
        assert_eq!(pushed(118, &built, 9), [], "what was only built is in no registry");
    }

    #[test]
    fn of_what_a_registry_tells_the_tags_that_were_pushed_are_kept() {
        let push = json!({"action": "push", "timestamp": "1970-01-01T00:00:05Z", "request": {"host": "hub.example:5000"},
            "target": {"repository": "team/shop", "tag": "7", "digest": "sha256:ab", "size": 528,
                "references": [{"size": 1000}, {"size": 24}]}});
        let (mut pull, mut layer) = (push.clone(), push.clone());
        pull["action"] = json!("pull");
        layer["target"]["tag"] = Value::Null;
        let rows = told(&json!({"events": [pull, layer, push]}), 9000).unwrap();
        let wanted = ImageRow {
            repo: "hub.example:5000/team/shop".to_owned(),
            tag: "7".to_owned(),
            digest: "sha256:ab".to_owned(),
            size: Some(1024),
            pushed: 5000,
            run: None,
        };
        assert_eq!(rows, [wanted]);
        assert_eq!(told(&json!({"events": "none"}), 0), None);
        assert_eq!(told(&json!({"events": [1, {}, {"action": "push"}]}), 0), Some(Vec::new()));
    }
}
