//! A pipeline drawn with letters: what comes after what.

use super::model::{Form, Pipeline, Stage};

/// More stages are not drawn: nobody reads that, and a long chain would be as wide as it is long.
const DRAWN: usize = 300;

impl Pipeline {
    /// Its stages as a tree, a line each. A stage that needs several hangs under the one that comes last, and names the others.
    pub fn tree(&self) -> Vec<String> {
        let mut out = vec![format!("{}: {}", self.app, self.description).trim_end_matches([':', ' ']).to_owned()];
        if self.stages.len() > DRAWN {
            let count = self.stages.len();
            out.push(format!("{count} stages are too many to be drawn; masterchief pipelines show {} --dot", self.app));
            return out;
        }
        let order = self.graph.order();
        let mut place = vec![0; order.len()];
        order.iter().enumerate().for_each(|(at, stage)| place[*stage] = at);
        let parent = |stage: usize| self.graph.needs[stage].iter().copied().max_by_key(|need| place[*need]);
        let mut children: Vec<Vec<usize>> = vec![Vec::new(); order.len()];
        let (mut roots, mut last) = (Vec::new(), Vec::new());
        for stage in &order {
            match parent(*stage) {
                Some(parent) => children[parent].push(*stage),
                None if self.stages[*stage].finally => last.push(*stage),
                None => roots.push(*stage),
            }
        }
        roots.extend(last);
        // A stage, and what stands in front of it and of what hangs under it.
        let mut left: Vec<(usize, String, String)> =
            roots.iter().rev().map(|root| (*root, String::new(), String::new())).collect();
        while let Some((stage, front, under)) = left.pop() {
            out.push(format!("{front}{}", self.drawn(stage, parent(stage))));
            for (at, child) in children[stage].iter().enumerate().rev() {
                let (branch, beside) = if at + 1 == children[stage].len() { ("`- ", "   ") } else { ("|- ", "|  ") };
                left.push((*child, format!("{under}{branch}"), format!("{under}{beside}")));
            }
        }
        out
    }

    /// One stage: `rollout: kubernetes, health (also after scan; when environment == 'prod')`.
    fn drawn(&self, at: usize, parent: Option<usize>) -> String {
        let stage = &self.stages[at];
        let does: Vec<&str> = stage.actions.iter().map(|action| action.executor.as_str()).collect();
        let does = if does.is_empty() { "waits".to_owned() } else { does.join(", ") };
        let mut notes = Vec::new();
        let others: Vec<&str> = stage
            .needs
            .iter()
            .filter(|need| Some(need.stage) != parent)
            .map(|need| self.stages[need.stage].name.as_str())
            .collect();
        if !others.is_empty() {
            notes.push(format!("also after {}", others.join(", ")));
        }
        notes.extend(how(stage, parent));
        notes.extend(stage.when.as_ref().map(|when| format!("when {}", when.text())));
        if stage.matrix.is_some() {
            notes.push("for each of its matrix".to_owned());
        }
        if stage.finally {
            notes.push("in any case".to_owned());
        }
        let notes = if notes.is_empty() { String::new() } else { format!(" ({})", notes.join("; ")) };
        format!("{}: {does}{notes}", stage.name)
    }
}

/// How what it hangs under has to end, if not well.
fn how(stage: &Stage, parent: Option<usize>) -> Option<String> {
    let need = stage.needs.iter().find(|need| Some(need.stage) == parent)?;
    Some(match need.form {
        Form::Succeeded => return None,
        Form::Optional => "also if that is skipped".to_owned(),
        Form::Failed => "if that fails".to_owned(),
        Form::Done => "however that ends".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::executors::executors;
    use crate::pipelines::parse;

    const SHOP: &str = "app: shop
description: Ships the shop.
policy: {environments: {dev: {}}}
stages:
  checkout: {shell: [git]}
  test: {needs: [checkout], shell: [make], matrix: {suite: [unit, api]}}
  scan: {needs: [checkout], shell: [trivy]}
  build: {needs: [test, scan?], shell: [make], when: \"environment == 'dev'\"}
  complain: {needs: [build.failed], shell: [mail]}
finally:
  cleanup: {shell: [rm]}
";

    #[test]
    fn a_pipeline_is_drawn_as_a_tree_with_what_else_its_stages_wait_for() {
        let pipeline = parse(Path::new("shop.yaml"), SHOP, &executors(&Default::default())).unwrap();
        let wanted = "shop: Ships the shop.
checkout: shell
|- test: shell (for each of its matrix)
`- scan: shell
   `- build: shell (also after test; also if that is skipped; when environment == 'dev')
      `- complain: shell (if that fails)
cleanup: shell (in any case)";
        assert_eq!(pipeline.tree().join("\n"), wanted);
    }

    #[test]
    fn what_is_too_large_to_be_read_is_not_drawn() {
        let stages: String = (0..400).map(|n| format!("  s{n}: {{shell: [x]}}\n")).collect();
        let text = format!("app: wide\npolicy: {{environments: {{dev: {{}}}}}}\nstages:\n{stages}");
        let pipeline = parse(Path::new("wide.yaml"), &text, &executors(&Default::default())).unwrap();
        assert_eq!(pipeline.tree().len(), 2);
        assert!(pipeline.tree()[1].contains("--dot"), "{:?}", pipeline.tree());
    }
}
