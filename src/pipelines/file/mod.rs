//! Reading pipeline files: strict, every fault at once, each with its line and column.

mod names;
mod policy;
mod reader;
mod reports;
mod runner;
pub(super) mod stages;

use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::model::{Announce, AnnouncePlace, Pipeline};
use crate::executors::Executors;
use crate::yaml::{ConfigFault, Node};
use reader::{Fields, Reader};

/// Reads one pipeline. `executors` are those that stages may use.
pub fn parse(file: &Path, text: &str, executors: &Executors) -> Result<Pipeline, Vec<ConfigFault>> {
    let tree = Node::parse(file, text).map_err(|fault| vec![fault])?;
    let mut reader = Reader::new(executors);
    let pipeline = read(&mut reader, file, text, &tree);
    reader.faults.sort_by_key(|fault| fault.spot.as_ref().map(|spot| (spot.line, spot.column)));
    match pipeline {
        Some(pipeline) if reader.faults.is_empty() => Ok(pipeline),
        _ => Err(reader.faults),
    }
}

/// The version of pipeline files that this reads.
const VERSION: i64 = 1;

fn read(reader: &mut Reader, file: &Path, text: &str, tree: &Node) -> Option<Pipeline> {
    let mut fields = Fields::of(reader, tree, "")?;
    if let Some(node) = fields.take("version")
        && reader.int(node) != Some(VERSION)
    {
        reader.fault(node, format!("version: this program reads version {VERSION}"));
    }
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let app = match fields.take("app") {
        Some(node) => reader.word(node, "app").unwrap_or_default(),
        None => name.clone(),
    };
    let repo = fields.take("repo").and_then(|node| reader.text(node));
    let description = fields.take("description").and_then(|node| reader.text(node)).unwrap_or_default();
    let params = fields.take("params").map(|node| policy::params(reader, node)).unwrap_or_default();
    let triggers = fields.take("triggers").map(|node| policy::triggers(reader, node)).unwrap_or_default();
    let policy = match fields.take("policy") {
        Some(node) => {
            let policy = policy::policy(reader, node, &params);
            if repo.is_none() {
                policy::ask_of_no_commit(reader, node, &policy);
            }
            policy
        }
        None => {
            reader.fault(
                tree,
                "there is no policy, so nobody may run this; write at least `policy: {environments: {dev: {}}}`",
            );
            Default::default()
        }
    };
    let announce = fields.take("announce").map(|node| announce(reader, node)).unwrap_or_default();
    let defaults = fields.take("defaults").map(|node| stages::defaults(reader, node)).unwrap_or_default();
    let stages = fields.take("stages");
    let finally = fields.take("finally");
    fields.done(reader);
    let Some(stages) = stages else {
        reader.fault(tree, "there are no stages; write `stages: {test: {shell: [\"make\", \"test\"]}}`");
        return None;
    };
    let known = stages::Known { params: &params, app: &app };
    let (stages, graph) = stages::stages(reader, stages, finally, &defaults, &known)?;
    let hash = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let (source, file) = (Arc::from(text), file.to_owned());
    Some(Pipeline {
        name,
        app,
        repo,
        description,
        hash,
        source,
        file,
        params,
        triggers,
        policy,
        announce,
        stages,
        graph,
    })
}

fn announce(reader: &mut Reader, node: &Node) -> Announce {
    const NEWS: &[&str] = &["start", "failed", "finished", "rollback", "lock"];
    let mut announce = Announce::default();
    let Some(mut fields) = Fields::of(reader, node, "announce") else { return announce };
    for place in fields.take("channels").map(|node| reader.list(node)).unwrap_or_default() {
        if reader.is_text(place) {
            let target = reader.text(place).unwrap_or_default();
            announce.places.push(AnnouncePlace { target, only: Vec::new(), when: None });
            continue;
        }
        let Some(mut fields) = Fields::of(reader, place, "announce.channels") else { continue };
        let target = fields.need(reader, "name").and_then(|node| reader.text(node)).unwrap_or_default();
        let only = fields.take("only").map(|node| reader.choices(node, NEWS)).unwrap_or_default();
        let when = fields.take("when").and_then(|node| reader.expr(node));
        fields.done(reader);
        announce.places.push(AnnouncePlace { target, only: only.into_iter().map(str::to_owned).collect(), when });
    }
    announce.coalesce = fields.take("coalesce").and_then(|node| reader.duration(node));
    announce.progress = fields.take("progress").and_then(|node| reader.bool(node));
    // Every run is in the incident log anyway; there is no other.
    fields.take("log_to").and_then(|node| reader.choice(node, &["incident-log"]));
    fields.done(reader);
    announce
}

#[cfg(test)]
mod tests;
