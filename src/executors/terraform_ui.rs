//! What Terraform and OpenTofu say, read by a program: the lines of their machine-readable UI (`-json`, since 0.15.3; OpenTofu's
//! "Machine-Readable UI"), the boxes they draw around errors without it, and a plan as `show -json` gives it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde_json::Value;

use super::class::{Class, Failure};
use super::classify::classify;
use super::kept::short;
use super::log::{StepLog, ends};
use super::mask::Masker;
use super::step::Hands;

/// So many resources are named to later stages.
pub(super) const NAMED: usize = 50;
/// So many faults are kept.
const FAULTS: usize = 10;
/// So many resources that are being worked on are kept.
const BUSY: usize = 1000;
/// So many characters of a message are written to the log.
const MESSAGE: usize = 2000;

/// How many resources a plan or an apply adds, changes and destroys; one that is replaced counts as added and destroyed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// New ones.
    pub(super) add: u64,
    /// Changed in place.
    pub(super) change: u64,
    /// Destroyed.
    pub(super) destroy: u64,
}

/// What was said so far.
#[derive(Debug, Default)]
pub(super) struct Ui {
    summary: Option<Counts>,
    counted: Counts,
    /// Actions and addresses, the first fifty.
    pub(super) planned: Vec<String>,
    /// The addresses of what is destroyed or replaced, the first fifty.
    pub(super) destroyed: Vec<String>,
    /// Steps of an apply that are done.
    pub(super) done: u64,
    /// Steps that went wrong.
    pub(super) failed: u64,
    /// What is being worked on: addresses and actions.
    pub(super) busy: BTreeMap<String, String>,
    newest: String,
    faults: Vec<Fault>,
    /// Whether what comes now, without `-json`, is values of outputs.
    values: bool,
}

/// One error of theirs.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Fault {
    summary: String,
    detail: String,
    /// File and line.
    place: Option<String>,
    address: Option<String>,
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or("")
}

impl Ui {
    /// Takes one line; gives what of it belongs into the log. Values of outputs never do.
    pub(super) fn take(&mut self, line: &str) -> Option<String> {
        // Some builds write a prefix before what goes to a pipe.
        let json = line.find('{').map_or("", |at| &line[at..]);
        let Ok(said) = serde_json::from_str::<Value>(json) else {
            return self.plain(line);
        };
        let address = text(&said, "/hook/resource/addr");
        let action = text(&said, "/hook/action");
        match text(&said, "/type") {
            "planned_change" => self.plan(text(&said, "/change/action"), text(&said, "/change/resource/addr")),
            "change_summary" => {
                let count = |name: &str| said["changes"][name].as_u64().unwrap_or(0);
                self.summary = Some(Counts { add: count("add"), change: count("change"), destroy: count("remove") });
            }
            "diagnostic" => return Some(self.diagnostic(&said)),
            // Data that is only read during an apply is no step of it.
            "apply_start" if action != "read" && self.busy.len() < BUSY => {
                self.busy.insert(address.to_owned(), action.to_owned());
            }
            "apply_complete" if action != "read" => {
                self.busy.remove(address);
                self.done += 1;
                self.newest = address.to_owned();
            }
            "apply_errored" if action != "read" => {
                self.busy.remove(address);
                self.failed += 1;
            }
            _ => {}
        }
        Some(text(&said, "/@message").chars().take(MESSAGE).collect()).filter(|line: &String| !line.is_empty())
    }

    fn plain(&mut self, line: &str) -> Option<String> {
        if let Some((_, counts)) = line.split_once("Apply complete! Resources: ") {
            let number = |part: &str| part.split_whitespace().next()?.parse().ok();
            let mut numbers = counts.split(',').map(|part| number(part).unwrap_or(0));
            let mut next = || numbers.next().unwrap_or(0);
            self.summary = Some(Counts { add: next(), change: next(), destroy: next() });
        }
        self.values |= is_outputs(line);
        Some(line.chars().take(MESSAGE).collect()).filter(|line: &String| !self.values && !line.trim().is_empty())
    }

    fn plan(&mut self, action: &str, address: &str) {
        let Counts { add, change, destroy } = &mut self.counted;
        match action {
            "create" => *add += 1,
            "update" => *change += 1,
            "delete" => *destroy += 1,
            "replace" => (*add, *destroy) = (*add + 1, *destroy + 1),
            // Nothing, a read, a move, an import: nothing is built for it.
            _ => return,
        }
        if self.planned.len() < NAMED {
            self.planned.push(format!("{action} {}", short(address, 120)));
        }
        if matches!(action, "delete" | "replace") && self.destroyed.len() < NAMED {
            self.destroyed.push(short(address, 120));
        }
    }

    fn diagnostic(&mut self, said: &Value) -> String {
        let part = |path: &str| text(said, path).to_owned();
        let (summary, detail) = (part("/diagnostic/summary"), part("/diagnostic/detail"));
        let file = part("/diagnostic/range/filename");
        let number = said.pointer("/diagnostic/range/start/line").and_then(Value::as_u64);
        let place = (!file.is_empty()).then(|| number.map_or(file.clone(), |line| format!("{file}:{line}")));
        let address = Some(part("/diagnostic/address")).filter(|address| !address.is_empty());
        let severity = text(said, "/diagnostic/severity");
        let word = if severity == "error" { "Error" } else { "Warning" };
        let at = place.as_ref().map_or(String::new(), |place| format!(" ({place})"));
        let logged = format!("{word}: {summary}{at}\n{detail}").chars().take(MESSAGE).collect();
        if severity == "error" && self.faults.len() < FAULTS {
            self.faults.push(Fault { summary, detail, place, address });
        }
        logged
    }

    /// Reads a plan as `show -json` gives it; whether it is one.
    pub(super) fn take_plan(&mut self, shown: &str) -> bool {
        let json = shown.find('{').map_or("", |at| &shown[at..]);
        let Ok(plan) = serde_json::from_str::<Value>(json.trim_end()) else { return false };
        let none = Vec::new();
        for change in plan["resource_changes"].as_array().unwrap_or(&none) {
            let actions = change["change"]["actions"].as_array().unwrap_or(&none);
            let actions: Vec<&str> = actions.iter().filter_map(Value::as_str).collect();
            let action = if actions.len() > 1 { "replace" } else { actions.first().copied().unwrap_or("") };
            self.plan(action, change["address"].as_str().unwrap_or(""));
        }
        plan.is_object()
    }

    /// Takes the errors from the boxes that are drawn around them without `-json`.
    pub(super) fn take_boxes(&mut self, text: &str) {
        let mut fault: Option<Fault> = None;
        for line in text.lines() {
            let line = line.trim_start_matches(['│', '|', '╷', '╵']).trim();
            if let Some(summary) = line.strip_prefix("Error: ") {
                self.faults.extend(fault.take());
                fault = Some(Fault { summary: short(summary, MESSAGE), ..Fault::default() });
            } else if let Some(fault) = &mut fault {
                let place = line.strip_prefix("on ").and_then(|rest| rest.split_once(" line "));
                if let Some((file, rest)) = place.filter(|_| fault.place.is_none()) {
                    let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
                    fault.place = Some(format!("{}:{number}", short(file, 120)));
                } else if fault.detail.len() < MESSAGE {
                    fault.detail.push_str(line);
                    fault.detail.push('\n');
                }
            }
        }
        self.faults.extend(fault);
        self.faults.truncate(FAULTS);
    }

    /// What it counts to: what they say themselves, else what was counted.
    pub(super) fn counts(&self) -> Counts {
        self.summary.unwrap_or(self.counted)
    }

    /// How many steps an apply has.
    pub(super) fn total(&self) -> u64 {
        self.counted.add + self.counted.change + self.counted.destroy
    }

    /// How an apply goes: `2 of 4 applied: aws_x.y`. Empty before the first step is done.
    pub(super) fn words(&self) -> String {
        match self.done {
            0 => String::new(),
            done => format!("{done} of {} applied: {}", self.total(), short(&self.newest, 80)),
        }
    }

    /// The decisive fault of all that were said.
    pub(super) fn failure(&self, program: &str) -> Option<Failure> {
        let is_lock = |fault: &&Fault| fault.summary.contains("state lock") || fault.detail.contains("Lock Info:");
        if let Some(fault) = self.faults.iter().find(is_lock) {
            return Some(locked(fault, program));
        }
        // What only follows from another says nothing.
        let hollow = |fault: &&Fault| {
            fault.summary != "execution halted" && !fault.summary.contains("encountered problems during init")
        };
        let fault = self.faults.iter().find(hollow).or(self.faults.first())?;
        let detail = fault.detail.split("\n\n").map(|part| short(part, 160)).find(|part| !part.is_empty());
        let detail = detail.map_or(String::new(), |detail| format!(": {}", detail.trim_end_matches('.')));
        let at = fault.place.as_ref().map_or(String::new(), |place| format!(" ({place})"));
        let address = fault.address.as_ref().map_or(String::new(), |address| format!("{}: ", short(address, 120)));
        let summary = short(&fault.summary, 160);
        if summary.contains("plan is stale") || summary.contains("plan does not match") {
            return Some(Failure::new(Class::Config, format!("{summary}{detail}; plan again")));
        }
        let said = classify(&format!("{summary}{detail}"), None).class;
        // What names a place in a file and no resource was written wrong.
        let written = said == Class::Unknown && fault.address.is_none() && fault.place.is_some();
        Some(Failure::new(if written { Class::Config } else { said }, format!("{address}{summary}{detail}{at}")))
    }
}

/// Somebody else works there.
fn locked(fault: &Fault, program: &str) -> Failure {
    let of = |name: &str| {
        let line = fault.detail.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
        line.map(|value| short(value, 80)).filter(|value| !value.is_empty())
    };
    let who = of("Who").map_or("somebody".to_owned(), |who| who);
    // Without the fractions of a second.
    let since = of("Created").map_or(String::new(), |since| {
        let at = since.find('.').unwrap_or(since.len());
        format!(" since {}", since.get(..at).unwrap_or(&since))
    });
    let what = of("Operation")
        .map_or(String::new(), |what| format!(", {}", what.trim_start_matches("OperationType").to_lowercase()));
    let line = match of("ID") {
        Some(id) => format!(
            "the state is locked by {who}{since} (lock {id}{what}); wait for it, or if nobody works there any more, a person \
            may run `{program} force-unlock {id}`"
        ),
        None => format!("the state is locked: {}; wait for whoever works there", short(&fault.detail, 160)),
    };
    Failure::new(Class::StateLock, line)
}

/// Whether values of outputs follow this line, without `-json`.
pub(super) fn is_outputs(line: &str) -> bool {
    let line = line.trim();
    line.strip_prefix("o:").unwrap_or(line) == "Outputs:"
}

/// Writes lines to the log, each once, also where a command is found again and all it said is read again.
pub(super) struct Echo<'a> {
    log: &'a StepLog,
    mask: &'a Masker,
    /// Lines that the log has already, and how often.
    known: HashMap<String, usize>,
}

impl Echo<'_> {
    /// Into the log of `hands`; the step's folder is given where the log may have some of it already.
    pub(super) fn new<'a>(hands: &'a Hands, again: Option<&Path>) -> Echo<'a> {
        let mut known = HashMap::new();
        for line in again.map_or(String::new(), ends).lines() {
            *known.entry(line.to_owned()).or_default() += 1;
        }
        Echo { log: &hands.log, mask: &hands.mask, known }
    }

    /// Writes what may be several lines.
    pub(super) fn line(&mut self, text: &str) {
        for line in self.mask.hide(text).lines() {
            match self.known.get_mut(line) {
                Some(count) if *count > 0 => *count -= 1,
                _ => self.log.line(line),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = "Error message: resource temporarily unavailable\nLock Info:\n  ID:        04caf9c5-8d6a\n  \
        Path:      terraform.tfstate\n  Operation: OperationTypeApply\n  Who:       root@vm\n  Version:   1.11.4\n  \
        Created:   2026-11-21 16:36:23.058978455 +0000 UTC\n  Info:      \n\n\nTerraform acquires a state lock";

    fn ui(lines: &[Value]) -> Ui {
        let mut ui = Ui::default();
        for line in lines {
            ui.take(&line.to_string());
        }
        ui
    }

    fn json(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    fn planned(action: &str, address: &str) -> Value {
        serde_json::json!({"type": "planned_change", "change": {"resource": {"addr": address}, "action": action}})
    }

    #[test]
    fn a_plan_is_counted_by_its_summary_and_without_one_by_its_changes() {
        let changes =
            [planned("create", "a.b"), planned("replace", "c.d"), planned("delete", "e.f"), planned("noop", "g.h")];
        let mut plan = ui(&changes);
        assert_eq!(plan.counts(), Counts { add: 2, change: 0, destroy: 2 });
        assert_eq!((plan.planned.len(), plan.destroyed.join(" ").as_str()), (3, "c.d e.f"));
        plan.take(r#"{"type":"change_summary","changes":{"add":3,"change":1,"remove":null,"operation":"plan"}}"#);
        assert_eq!(plan.counts(), Counts { add: 3, change: 1, destroy: 0 });
    }

    #[test]
    fn an_apply_is_told_step_by_step_and_what_is_open_is_known() {
        let hook = |kind: &str, address: &str, action: &str| serde_json::json!({"type": kind, "hook": {"resource": {"addr": address}, "action": action}});
        let mut apply = ui(&[planned("create", "a.b"), planned("update", "c.d"), hook("apply_start", "a.b", "create")]);
        assert_eq!(apply.words(), "");
        for line in [
            hook("apply_complete", "a.b", "create"),
            hook("apply_start", "c.d", "update"),
            hook("apply_start", "data.x", "read"),
        ] {
            apply.take(&line.to_string());
        }
        assert_eq!(apply.words(), "1 of 2 applied: a.b");
        assert_eq!(apply.busy.keys().collect::<Vec<_>>(), ["c.d"]);
    }

    #[test]
    fn values_of_outputs_are_never_for_the_log() {
        let line =
            r#"{"@message":"Outputs: 1","outputs":{"key":{"sensitive":true,"value":"hunter2"}},"type":"outputs"}"#;
        assert_eq!(Ui::default().take(line).as_deref(), Some("Outputs: 1"));
    }

    #[test]
    fn a_lock_names_its_holder_in_both_ways_of_saying_it() {
        let said = serde_json::json!({"type": "diagnostic", "diagnostic": {"severity": "error",
            "summary": "Error acquiring the state lock", "detail": LOCK}});
        let mut boxes = Ui::default();
        let drawn = LOCK.lines().map(|line| format!("│ {line}\n")).collect::<String>();
        boxes.take_boxes(&format!("╷\n│ Error: Error acquiring the state lock\n│ \n{drawn}╵\n"));
        for ui in [ui(&[said]), boxes] {
            let failure = ui.failure("tofu").unwrap();
            assert_eq!(failure.class, Class::StateLock);
            let begin =
                "the state is locked by root@vm since 2026-11-21 16:36:23 (lock 04caf9c5-8d6a, apply); wait for it";
            assert!(failure.line.starts_with(begin), "{}", failure.line);
        }
    }

    #[test]
    fn an_error_names_its_file_and_line_in_both_ways_of_saying_it() {
        let said = json(
            r#"{"type":"diagnostic","diagnostic":{"severity":"error","summary":"Unclosed configuration block",
            "detail":"There is no closing brace.","range":{"filename":"bad.tf","start":{"line":1}}}}"#,
        );
        let mut boxes = Ui::default();
        boxes.take_boxes("│ Error: Unclosed configuration block\n│ \n│   on bad.tf line 1, in resource:\n│ \n│ There is no closing brace.\n╵");
        for ui in [ui(&[said]), boxes] {
            let failure = ui.failure("tofu").unwrap();
            assert_eq!(
                (failure.class, failure.line.as_str()),
                (Class::Config, "Unclosed configuration block: There is no closing brace (bad.tf:1)")
            );
        }
    }

    #[test]
    fn strange_lines_break_nothing() {
        let mut ui = Ui::default();
        for line in [
            "",
            "o:",
            "{",
            "[]",
            "{\"type\":7}",
            r#"{"type":"diagnostic"}"#,
            r#"{"type":"apply_complete","hook":null}"#,
        ] {
            ui.take(line);
        }
        assert!(ui.failure("tofu").is_none());
        assert!(
            !ui.take_plan("no plan")
                && ui.take_plan(r#"o:{"resource_changes":[{"address":null,"change":{"actions":[1]}}]}"#)
        );
        assert_eq!(ui.counts(), Counts::default());
    }
}
