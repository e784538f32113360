//! What happened in a run, told anew from its events.

use std::collections::HashMap;

use masterchief::pipelines::{Pipelines, RunState, StageState};
use serde_json::Value;

/// Follows the events of a run: each begins where the one before ended, goes where the tables of states allow, and the last is where the
/// rows are. What became ready is told by its row alone until it begins.
pub(crate) async fn replayed(pipelines: &Pipelines, number: i64) {
    let read = async || pipelines.records().events(number).await.unwrap();
    let (events, run, stages) = loop {
        let before = read().await;
        let (run, stages) = pipelines.run(number).await.unwrap().unwrap();
        // Nothing came between.
        if read().await.len() == before.len() {
            break (before, run, stages);
        }
    };
    let mut at: HashMap<String, String> = HashMap::new();
    for event in &events {
        let data: Value = serde_json::from_str(&event.data).unwrap();
        let (Some(from), Some(to)) = (data["from"].as_str(), data["to"].as_str()) else { continue };
        let name = data["stage"].as_str().unwrap_or_default().to_owned();
        let was = at.insert(name.clone(), to.to_owned());
        let first = if event.kind == "run" { "" } else { "pending" };
        let was = was.as_deref().unwrap_or(first);
        assert!(was == from || was == "pending" && from == "ready", "run {number} {name}: {was}, then {from} -> {to}");
        let allowed = |from: &str, to: &str| match event.kind.as_str() {
            "run" => known::<RunState>(from).may(known(to)),
            _ => known::<StageState>(from).may(known(to)),
        };
        assert!(from.is_empty() || allowed(from, to), "run {number} {name}: {from} -> {to}");
    }
    assert_eq!(at.get("").map(String::as_str), Some(run.state.name()), "run {number}");
    for one in stages {
        let told = at.get(&one.name).map_or("pending", String::as_str);
        let ready = told == "pending" && one.state == StageState::Ready;
        assert!(ready || told == one.state.name(), "run {number} {}: {told} by its events, {:?}", one.name, one.state);
    }
}

fn known<T: serde::de::DeserializeOwned>(name: &str) -> T {
    serde_json::from_value(name.into()).unwrap()
}
