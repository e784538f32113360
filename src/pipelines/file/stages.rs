//! The stages of a pipeline file, and what depends on what.

use std::collections::HashMap;
use std::time::Duration;

use masterchief_contract::closest;
use serde_json::{Map, Value};

use super::super::graph::Graph;
use super::super::matrix::written_twice;
use super::super::model::{
    Action, Axis, Form, Matrix, Need, OnFailure, Param, Resources, Retry, Skip, Stage, Undo, Wait,
};
use super::super::template;
use super::names::{GATE, NAMES, check_names};
use super::policy;
use super::reader::{Fields, Reader, is_name};
use super::reports::reports;
use super::runner::{KEYS, Work, runner};
use crate::executors::{Class, Limits};
use crate::yaml::{Node, Spot, What};

/// How long an attempt may take where nothing is said.
const TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// How often a stage may be tried again.
const RETRIES_MAX: u64 = 100;
/// The flag that leaving out a stage needs where the stage names none.
pub(in super::super) const SKIPPER: &str = "S|S";
/// How many instances a matrix may have.
pub(in super::super) const INSTANCES_MAX: usize = 1000;
/// What is the same for stages that do not say otherwise.
#[derive(Clone, Debug)]
pub(super) struct Defaults {
    retry: Retry,
    timeout: Duration,
    idle_timeout: Option<Duration>,
    resources: Resources,
    env: Vec<(String, String)>,
}

impl Default for Defaults {
    fn default() -> Defaults {
        let (retry, resources) = (Retry::default(), Resources::default());
        Defaults { retry, timeout: TIMEOUT, idle_timeout: None, resources, env: Vec::new() }
    }
}

/// What texts of stages may name beside other stages.
pub(super) struct Known<'a> {
    pub(super) params: &'a [Param],
    pub(super) app: &'a str,
}

pub(super) fn defaults(reader: &mut Reader, node: &Node) -> Defaults {
    let mut out = Defaults::default();
    let Some(mut fields) = Fields::of(reader, node, "defaults") else { return out };
    common(reader, &mut fields, &mut out);
    fields.done(reader);
    out
}

/// The keys that stages and their defaults share.
fn common(reader: &mut Reader, fields: &mut Fields<'_>, out: &mut Defaults) {
    if let Some(node) = fields.take("retry") {
        out.retry = retry(reader, node, &out.retry);
    }
    if let Some(time) = fields.take("timeout").and_then(|node| reader.duration(node)) {
        out.timeout = time;
    }
    if let Some(time) = fields.take("idle_timeout").and_then(|node| reader.duration(node)) {
        out.idle_timeout = Some(time);
    }
    if let Some(node) = fields.take("resources") {
        out.resources = resources(reader, node, &out.resources);
    }
    if let Some(node) = fields.take("env") {
        for (name, spot, node) in reader.entries(node, "env") {
            if name == "PATH" || name.starts_with("LD_") || !is_name(name.trim_start_matches('_')) {
                reader.fault_at(spot, format!("{name:?} cannot be set: it is no name, or it decides what is run"));
            }
            let text = reader.text(node).unwrap_or_default();
            out.env.retain(|(known, _)| known != name);
            out.env.push((name.clone(), text));
        }
    }
}

/// A stage that was read, with what it needs still by name.
pub(super) struct Draft<'n> {
    pub(super) stage: Stage,
    needs: Vec<(String, Form, &'n Node)>,
    pub(super) node: &'n Node,
}

/// The stages of a file by name: their place, unless they cannot be read, and the line.
pub(super) type Places = HashMap<String, (Option<usize>, u64)>;

/// Reads all stages; those of `finally` come last.
pub(super) fn stages(
    reader: &mut Reader,
    node: &Node,
    finally: Option<&Node>,
    defaults: &Defaults,
    known: &Known<'_>,
) -> Option<(Vec<Stage>, Graph)> {
    let count = |node: &Node| if let What::Map(map) = &node.what { map.len() } else { 0 };
    let count = count(node) + finally.map_or(0, count);
    let mut drafts: Vec<Draft<'_>> = Vec::with_capacity(count);
    let mut places: Places = HashMap::with_capacity(count);
    for (node, last) in [(Some(node), false), (finally, true)] {
        let Some(node) = node else { continue };
        for (name, spot, node) in reader.entries(node, "stages") {
            let fault = if NAMES.contains(&name.as_str()) || GATE.contains(&name.as_str()) {
                Some(format!("a stage cannot be called {name:?}, which has a meaning in conditions"))
            } else if !is_name(name) {
                Some(format!("{name:?} is no name: letters, digits, - and _, a letter first"))
            } else {
                let first = places.get(name).map(|(_, line)| line);
                first.map(|line| format!("there is a stage {name} in line {line} already"))
            };
            if let Some(fault) = fault {
                reader.fault_at(spot, fault);
            }
            let draft = stage(reader, name, spot, node, defaults, last);
            places.insert(name.clone(), (draft.is_some().then_some(drafts.len()), spot.line));
            drafts.extend(draft);
        }
    }
    if places.is_empty() {
        reader.fault(node, "there are no stages; write `stages: {test: {shell: [\"make\", \"test\"]}}`");
        return None;
    }
    link(reader, &mut drafts, &places);
    let graph =
        Graph::new(drafts.iter().map(|draft| draft.stage.needs.iter().map(|need| need.stage).collect()).collect());
    for cycle in graph.cycles() {
        let name = |place: &usize| format!("{} (line {})", drafts[*place].stage.name, drafts[*place].stage.line);
        let path: Vec<String> = cycle.iter().chain(cycle.first()).map(name).collect();
        reader.fault(drafts[cycle[0]].node, format!("these stages wait for each other: {}", path.join(" -> ")));
    }
    for draft in &drafts {
        check_names(reader, draft, &places, known);
    }
    Some((drafts.into_iter().map(|draft| draft.stage).collect(), graph))
}

/// Finds the stages that are needed by name.
fn link(reader: &mut Reader, drafts: &mut [Draft<'_>], places: &Places) {
    for at in 0..drafts.len() {
        let mut needs: Vec<Need> = Vec::new();
        for (name, form, node) in std::mem::take(&mut drafts[at].needs) {
            match places.get(&name).map(|(place, _)| *place) {
                Some(Some(place)) if drafts[place].stage.finally && !drafts[at].stage.finally => {
                    reader.fault(
                        node,
                        format!("{name} stands under finally and runs after all others, so nothing can need it"),
                    );
                }
                Some(Some(place)) if needs.iter().any(|need| need.stage == place) => {
                    reader.fault(node, format!("{name} is needed twice"));
                }
                Some(Some(place)) => needs.push(Need { stage: place, form }),
                // What is wrong with that one was told.
                Some(None) => {}
                None => {
                    let hint = closest(&name, places.keys().map(String::as_str))
                        .map(|close| format!("; did you mean {close}?"));
                    reader.fault(node, format!("there is no stage {name:?}{}", hint.unwrap_or_default()));
                }
            }
        }
        drafts[at].stage.needs = needs;
    }
}

fn stage<'n>(
    reader: &mut Reader,
    name: &str,
    spot: &Spot,
    node: &'n Node,
    defaults: &Defaults,
    finally: bool,
) -> Option<Draft<'n>> {
    let mut fields = Fields::of(reader, node, name)?;
    let mut needs = Vec::new();
    for node in fields.take("needs").map(|node| reader.list(node)).unwrap_or_default() {
        let Some(text) = reader.text(node) else { continue };
        let (name, form) = match text.rsplit_once('.') {
            Some((name, "failed")) => (name, Form::Failed),
            Some((name, "done")) => (name, Form::Done),
            Some((name, "succeeded")) => (name, Form::Succeeded),
            _ => text.strip_suffix('?').map_or((text.as_str(), Form::Succeeded), |name| (name, Form::Optional)),
        };
        needs.push((name.to_owned(), form, node));
    }
    let when = fields.take("when").and_then(|node| reader.expr(node));
    let matrix = fields.take("matrix").and_then(|node| matrix(reader, node));
    let mut own = defaults.clone();
    common(reader, &mut fields, &mut own);
    let on_failure = on_failure(reader, &mut fields);
    let idempotent = fields.take("idempotent").and_then(|node| reader.bool(node)).unwrap_or(false);
    let (collect, matrix) = reports(reader, fields.take("collect"), matrix);
    let gate = fields.take("gate").and_then(|node| reader.expr(node));
    let outputs = fields.take("outputs").map(|node| reader.entries(node, "outputs")).unwrap_or_default();
    let outputs = outputs.into_iter().filter_map(|(name, _, node)| Some((name.clone(), reader.text(node)?))).collect();
    let (back, live) = (fields.take("rollback"), fields.take("live").and_then(|node| reader.bool(node)));
    let wait = wait(reader, &mut fields, name, spot);
    let skip = skip(reader, &mut fields, wait.as_ref());
    let runs = fields.take("runner");
    let actions = actions(reader, &mut fields);
    let rollback = way_back(reader, back, &actions, on_failure);
    let work = Work { actions: &actions, rollback: rollback.as_ref(), collect: &collect, env: &own.env };
    let runner = runner(reader, runs, &work);
    if actions.is_empty() == wait.is_none() {
        let names = reader.executors.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let ways = "approve, wait, window, lock, unlock, nothing";
        reader.fault_at(spot, format!("{name}: say what it does with exactly one of {names}, {ways}"));
    }
    let stage = Stage {
        name: name.to_owned(),
        line: spot.line,
        needs: Vec::new(),
        when,
        matrix,
        actions,
        wait,
        rollback,
        env: own.env,
        retry: own.retry,
        timeout: own.timeout,
        idle_timeout: own.idle_timeout,
        resources: own.resources,
        on_failure,
        idempotent,
        collect,
        gate,
        outputs,
        finally,
        skip,
        live: live == Some(true),
        runner,
    };
    Some(Draft { stage, needs, node })
}

fn on_failure(reader: &mut Reader, fields: &mut Fields<'_>) -> OnFailure {
    let named = fields.take("on_failure");
    match named.and_then(|node| reader.choice(node, &["fail", "continue", "ask", "rollback"])) {
        Some("continue") => OnFailure::Continue,
        Some("ask") => OnFailure::Ask,
        Some("rollback") => OnFailure::Rollback,
        _ => OnFailure::Fail,
    }
}

/// What a stage does: one executor, and after it `verify` and `health`. Whatever is left is a key that nobody knows.
fn actions(reader: &mut Reader, fields: &mut Fields<'_>) -> Vec<Action> {
    const AFTER: [&str; 2] = ["verify", "health"];
    let rest: Vec<(&String, &Spot, &Node)> = fields.rest();
    let mut found: Vec<(&String, &Node)> = Vec::new();
    for (key, spot, node) in rest {
        if reader.executors.contains_key(key.as_str()) {
            found.push((key, node));
            continue;
        }
        let names: Vec<&str> = reader.executors.keys().map(String::as_str).collect();
        let hint = match closest(key, names.iter().copied().chain(KEYS)) {
            Some(close) => format!("did you mean {close:?}?"),
            None => format!("a stage does one of {}", names.join(", ")),
        };
        reader.fault_at(spot, format!("there is no key {key:?} here; {hint}"));
    }
    found.sort_by_key(|(key, node)| (AFTER.iter().position(|after| after == key), node.spot.line));
    let main = found.iter().filter(|(key, _)| !AFTER.contains(&key.as_str())).count();
    if main > 1 {
        let names: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
        reader.fault(
            found[1].1,
            format!("a stage does one thing; these are {}: make a stage of each", names.join(" and ")),
        );
    }
    found.into_iter().map(|(key, node)| action(reader, key, node)).collect()
}

fn action(reader: &mut Reader, executor: &str, node: &Node) -> Action {
    let settings = reader.value(node);
    let executors = reader.executors;
    for (path, fault) in executors.get(executor).map(|one| one.check(&settings)).unwrap_or_default() {
        let parts: Vec<&str> = path.split('.').filter(|part| !part.is_empty()).collect();
        let spot = node.spot_of(&parts);
        reader.fault_at(&spot, format!("{executor}: {fault}"));
    }
    Action { executor: executor.to_owned(), settings }
}

/// Whether what a stage does has a way back of its own.
fn undoes(reader: &Reader, actions: &[Action]) -> bool {
    let first = actions.first().and_then(|action| reader.executors.get(&action.executor));
    first.is_some_and(|executor| executor.undoes())
}

/// How a stage is undone. One that undoes the run when it fails undoes itself too, where it can.
fn way_back(reader: &mut Reader, node: Option<&Node>, actions: &[Action], on_failure: OnFailure) -> Option<Undo> {
    let named = node.and_then(|node| undo(reader, node, actions));
    named.or_else(|| (on_failure == OnFailure::Rollback && undoes(reader, actions)).then_some(Undo::Own))
}

fn undo(reader: &mut Reader, node: &Node, actions: &[Action]) -> Option<Undo> {
    let own = |reader: &mut Reader, word: &Node| {
        reader.choice(word, &["undo"])?;
        if !undoes(reader, actions) {
            let named = actions.first().map_or("this", |action| action.executor.as_str());
            let message = format!(
                "{named} has no way back of its own; say what undoes it, as in rollback: {{shell: [make, undo]}}"
            );
            reader.fault(node, message);
            return None;
        }
        Some(Undo::Own)
    };
    if reader.is_text(node) {
        return own(reader, node);
    }
    let entries = reader.entries(node, "rollback");
    match entries.as_slice() {
        [(executor, _, value)]
            if reader.is_text(value) && actions.first().is_some_and(|first| first.executor == *executor.as_str()) =>
        {
            own(reader, value)
        }
        [(executor, _, value)] if reader.executors.contains_key(executor.as_str()) => {
            Some(Undo::Action(action(reader, executor, value)))
        }
        _ => {
            reader.fault(node, "write `rollback: undo`, or an executor with what it is told");
            None
        }
    }
}

fn wait(reader: &mut Reader, fields: &mut Fields<'_>, name: &str, spot: &Spot) -> Option<Wait> {
    let approve = fields.take("approve").and_then(|node| policy::approvals(reader, node, name)).map(Wait::Approve);
    let pause = fields.take("wait").and_then(|node| reader.duration(node)).map(Wait::Pause);
    let window = fields.take("window").map(|node| Wait::Window(policy::windows(reader, node)));
    let lock = fields.take("lock").and_then(|node| lock(reader, node));
    let mut truth = |key: &'static str, wait: Wait| {
        let yes = fields.take(key).and_then(|node| reader.bool(node)).unwrap_or(false);
        yes.then_some(wait)
    };
    let (unlock, nothing) = (truth("unlock", Wait::Unlock), truth("nothing", Wait::Nothing));
    let mut all = [approve, pause, window, lock, unlock, nothing].into_iter().flatten();
    let first = all.next();
    if all.next().is_some() {
        reader.fault_at(spot, format!("{name}: a stage waits for one thing; make a stage of each"));
    }
    first
}

/// `lock: the database moves`, or `lock: {for: 2h, why: the database moves}`.
fn lock(reader: &mut Reader, node: &Node) -> Option<Wait> {
    if reader.is_text(node) {
        return reader.text(node).map(|why| Wait::Lock(None, why));
    }
    let mut fields = Fields::of(reader, node, "lock")?;
    let time = fields.take("for").and_then(|node| reader.duration(node));
    let why = fields.need(reader, "why").and_then(|node| reader.text(node));
    fields.done(reader);
    Some(Wait::Lock(time, why?))
}

/// Who may leave the stage out: those with its `skip_flag`, or with the usual one. What people or the clock decide, nobody.
fn skip(reader: &mut Reader, fields: &mut Fields<'_>, wait: Option<&Wait>) -> Skip {
    let node = fields.take("skip_flag");
    if matches!(wait, Some(Wait::Approve(_) | Wait::Window(_))) {
        if let Some(node) = node {
            reader
                .fault(node, "nobody may leave out a stage that waits for people or for a window; take skip_flag away");
        }
        return Skip::Never;
    }
    let own = node.and_then(|node| reader.flags(node));
    Skip::Flags(own.unwrap_or(reader.skipper))
}

fn retry(reader: &mut Reader, node: &Node, before: &Retry) -> Retry {
    let mut out = before.clone();
    let Some(mut fields) = Fields::of(reader, node, "retry") else { return out };
    if let Some(node) = fields.take("times") {
        let times = reader.count(node).unwrap_or(0);
        if times > RETRIES_MAX {
            reader.fault(node, format!("a stage is tried again {RETRIES_MAX} times at most"));
        }
        out.times = times.min(RETRIES_MAX) as u32;
    }
    if let Some(time) = fields.take("first").and_then(|node| reader.duration(node)) {
        out.first = time;
    }
    if let Some(factor) = fields.take("factor").and_then(|node| reader.number(node)) {
        out.factor = factor.clamp(1.0, 100.0);
    }
    if let Some(time) = fields.take("max").and_then(|node| reader.duration(node)) {
        out.max = time;
    }
    if let Some(jitter) = fields.take("jitter").and_then(|node| reader.number(node)) {
        out.jitter = jitter.clamp(0.0, 1.0);
    }
    let classes = |reader: &mut Reader, node: &Node| -> Vec<Class> {
        reader.choices(node, Class::NAMES).into_iter().filter_map(Class::named).collect()
    };
    if let Some(node) = fields.take("on") {
        out.on = classes(reader, node);
    }
    if let Some(node) = fields.take("unless") {
        out.unless = classes(reader, node);
    }
    fields.done(reader);
    out
}

fn resources(reader: &mut Reader, node: &Node, before: &Resources) -> Resources {
    let mut out = before.clone();
    let Some(mut fields) = Fields::of(reader, node, "resources") else { return out };
    if let Some(pool) = fields.take("pool").and_then(|node| reader.word(node, "pool")) {
        out.pool = pool;
    }
    if let Some(slots) = fields.take("slots").and_then(|node| reader.count(node)) {
        out.slots = slots;
    }
    let cpu = fields.take("cpu").and_then(|node| reader.number(node));
    let limits = Limits {
        cpu: cpu.map(|cpu| (cpu.clamp(0.0, 1e6) * 1000.0) as u64).or(before.limits.cpu),
        memory: fields.take("mem").and_then(|node| reader.bytes(node)).or(before.limits.memory),
        disk: fields.take("disk").and_then(|node| reader.bytes(node)).or(before.limits.disk),
    };
    fields.done(reader);
    Resources { limits, ..out }
}

fn matrix(reader: &mut Reader, node: &Node) -> Option<Matrix> {
    let mut fields = Fields::of(reader, node, "matrix")?;
    let exclude = fields.take("exclude").map(|node| reader.list(node)).unwrap_or_default();
    let exclude: Vec<Map<String, Value>> = exclude.into_iter().map(|node| reader.object(node)).collect();
    let max_parallel = fields.take("max_parallel").and_then(|node| reader.count(node)).map(|most| most.max(1) as usize);
    let fail_fast = fields.take("fail_fast").and_then(|node| reader.bool(node)).unwrap_or(true);
    let mut axes = Vec::new();
    let mut instances: usize = 1;
    for (name, spot, node) in fields.rest() {
        if !is_name(name) {
            reader.fault_at(spot, format!("{name:?} is no name: letters, digits, - and _, a letter first"));
        }
        let value = reader.value(node);
        let axis = match value {
            Value::String(text) => match template::names(&text).ok().as_deref() {
                Some([path]) if text.len() == path.len() + 2 => Axis::From((*path).to_owned()),
                _ => Axis::Values(vec![Value::String(text)]),
            },
            Value::Array(values) => Axis::Values(values),
            other => Axis::Values(vec![other]),
        };
        if let Axis::Values(values) = &axis {
            if values.is_empty() || values.iter().any(|value| value.is_object() || value.is_array()) {
                reader.fault(node, format!("matrix.{name} is a list of texts or numbers, or {{stage.output}}"));
            }
            instances = instances.saturating_mul(values.len().max(1));
        }
        axes.push((name.clone(), axis));
    }
    if axes.is_empty() {
        reader.fault(node, "a matrix has names with lists of values, as in {suite: [unit, api]}");
    }
    if instances > INSTANCES_MAX {
        reader.fault(node, format!("this matrix has {instances} combinations; at most {INSTANCES_MAX} are run"));
    }
    let matrix = Matrix { axes, exclude, max_parallel, fail_fast };
    if let Some(fault) = written_twice(&matrix) {
        reader.fault(node, fault);
    }
    Some(matrix)
}
