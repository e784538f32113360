//! Parameters, triggers and the policy of a pipeline file.

use std::time::Duration;

use chrono::NaiveTime;
use serde_json::{Map, Value};

use super::super::model::{
    Action, Approvals, Check, Concurrency, OnBusy, Param, Policy, Rollback, RollbackMode, Rules, Takes, Trigger,
};
use super::super::window::{self, Window};
use super::reader::{Fields, Reader, is_name};
use crate::users::FlagMask;
use crate::yaml::Node;

/// The flag that deploying needs where the policy names none.
pub(in super::super) const DEPLOYER: &str = "D|D";
/// How long there is for an approval where the policy says nothing.
const APPROVAL: Duration = Duration::from_secs(30 * 60);

/// How long a metric is watched for a check: it is looked at once.
const LOOK: &str = "100ms";

pub(super) fn params(reader: &mut Reader, node: &Node) -> Vec<Param> {
    let mut out = Vec::new();
    for (name, spot, node) in reader.entries(node, "params") {
        if !is_name(name) {
            reader.fault_at(spot, format!("{name:?} is no name: letters, digits, - and _, a letter first"));
        }
        let Some(mut fields) = Fields::of(reader, node, &format!("params.{name}")) else { continue };
        let kind = fields.need(reader, "type");
        let kind = kind.and_then(|node| reader.choice(node, &["choice", "string", "ref", "bool", "int", "number"]));
        let of = fields.take("of").map(|node| reader.texts(node));
        let form = fields.take("match");
        let takes = match kind {
            Some("choice") => {
                let of = of.unwrap_or_default();
                if of.is_empty() {
                    reader.fault(node, format!("params.{name}: name the choices, as in of: [staging, prod]"));
                }
                Takes::Choice(of)
            }
            Some("ref") => Takes::Ref,
            Some("bool") => Takes::Bool,
            Some("int") => Takes::Int,
            Some("number") => Takes::Number,
            _ => Takes::Text(form.and_then(|node| {
                let text = reader.text(node)?;
                if let Err(fault) = regex::Regex::new(&text) {
                    reader.fault(node, format!("{text:?} is no regular expression: {fault}"));
                }
                Some(text)
            })),
        };
        let optional = fields.take("optional").and_then(|node| reader.bool(node)).unwrap_or(false);
        let needs_flag = fields.take("needs_flag").and_then(|node| reader.flags(node)).flatten();
        let secret = fields.take("secret").and_then(|node| reader.bool(node)).unwrap_or(false);
        let given = fields.take("default");
        if secret && (kind != Some("string") || given.is_some()) {
            reader.fault(
                node,
                format!("params.{name}: what is secret is a string without a default; hand over one of your own as env: {{NAME: \"${{env:NAME}}\"}}"),
            );
        }
        fields.done(reader);
        let param = Param { name: name.clone(), takes, default: None, optional, needs_flag, secret };
        let default = given.map(|node| (node, reader.value(node)));
        if let Some(Err(fault)) = default.as_ref().map(|(_, value)| super::super::request::fits(&param, value)) {
            reader.fault(node, format!("params.{name}.default: {fault}"));
        }
        out.push(Param { default: default.map(|(_, value)| value), ..param });
    }
    out
}

pub(super) fn triggers(reader: &mut Reader, node: &Node) -> Vec<Trigger> {
    const KINDS: [&str; 8] = ["webhook", "file", "stream", "log", "metric", "rest", "database", "time"];
    let mut out = Vec::new();
    for node in reader.list(node) {
        let entries = reader.entries(node, "a trigger");
        let [(kind, spot, node)] = entries.as_slice() else {
            reader.fault(node, "a trigger has one key, its kind, as in `- webhook: {bind: github/push}`");
            continue;
        };
        if kind.as_str() != "irc" && !KINDS.contains(&kind.as_str()) {
            reader.fault_at(spot, format!("there is no trigger {kind:?}; there are irc, {}", KINDS.join(", ")));
            continue;
        }
        let Some(mut fields) = Fields::of(reader, node, kind) else { continue };
        let mask = match kind.as_str() {
            "irc" => fields.take("channels").map(|node| reader.texts(node).join(" ")),
            "time" => fields.need(reader, "cron").and_then(|node| reader.text(node)),
            _ => fields.need(reader, "bind").and_then(|node| reader.text(node)),
        };
        // Words of people have parameters of their own.
        let by_itself = kind.as_str() != "irc";
        let mut own = |key: &'static str| if by_itself { fields.take(key) } else { None };
        let (when, params) = (own("when"), own("params"));
        let when = when.and_then(|node| reader.expr(node));
        let params = params.map(|node| reader.object(node)).unwrap_or_default();
        let tz = if kind.as_str() == "time" { fields.take("tz") } else { None };
        let tz = tz.and_then(|node| zone(reader, node).map(|zone| zone.name().to_owned()));
        fields.done(reader);
        let kind = if kind.as_str() == "irc" { "pub".to_owned() } else { (*kind).clone() };
        out.push(Trigger { kind, mask: mask.unwrap_or_default(), when, params, tz });
    }
    out
}

pub(super) fn policy(reader: &mut Reader, node: &Node, params: &[Param]) -> Policy {
    let mut policy = Policy::default();
    let Some(mut fields) = Fields::of(reader, node, "policy") else { return policy };
    if let Some(node) = fields.take("concurrency") {
        policy.concurrency = concurrency(reader, node);
    }
    if let Some(node) = fields.take("idempotency")
        && let Some(mut fields) = Fields::of(reader, node, "policy.idempotency")
    {
        let key = fields.need(reader, "key").map(|node| reader.value(node));
        let window = fields.take("window").and_then(|node| reader.duration(node)).unwrap_or(Duration::from_secs(600));
        fields.done(reader);
        if window > Duration::from_secs(86_400) {
            reader.fault(node, "policy.idempotency.window: a key counts for a day at most");
        }
        policy.idempotency = key.and_then(|key| Some((key.as_str()?.to_owned(), window)));
    }
    policy.timeout = fields.take("timeout").and_then(|node| reader.duration(node));
    policy.queue_timeout = fields.take("queue_timeout").and_then(|node| reader.duration(node));
    match fields.need(reader, "environments") {
        Some(list) => {
            for (name, spot, node) in reader.entries(list, "policy.environments") {
                if !is_name(name) {
                    reader.fault_at(spot, format!("{name:?} is no name: letters, digits, - and _, a letter first"));
                }
                if let Some(rules) = rules(reader, node, name) {
                    policy.environments.push((name.clone(), rules));
                }
            }
            let named = params.iter().find(|param| param.name == "environment");
            if let Some(Takes::Choice(of)) = named.map(|param| &param.takes) {
                for name in of.iter().filter(|name| policy.environments.iter().all(|(known, _)| known != *name)) {
                    reader.fault(list, format!("params.environment may be {name}, and policy.environments says nothing of it: nobody could run it there"));
                }
            }
        }
        None => return policy,
    }
    fields.done(reader);
    policy
}

fn concurrency(reader: &mut Reader, node: &Node) -> Concurrency {
    let mut out = Concurrency::default();
    let Some(mut fields) = Fields::of(reader, node, "policy.concurrency") else { return out };
    if let Some(Value::String(group)) = fields.take("group").map(|node| reader.value(node)) {
        out.group = group;
    }
    let busy = fields.take("on_busy");
    out.on_busy = match busy.and_then(|node| reader.choice(node, &["queue", "cancel_older", "reject", "latest_only"])) {
        Some("cancel_older") => OnBusy::CancelOlder,
        Some("reject") => OnBusy::Reject,
        Some("latest_only") => OnBusy::LatestOnly,
        _ => OnBusy::Queue,
    };
    if let Some(most) = fields.take("max_queued").and_then(|node| reader.count(node)) {
        out.max_queued = most as usize;
    }
    fields.done(reader);
    out
}

fn rules(reader: &mut Reader, node: &Node, name: &str) -> Option<Rules> {
    let path = format!("policy.environments.{name}");
    let mut fields = Fields::of(reader, node, &path)?;
    let confirm = fields.take("confirm").and_then(|node| reader.choice(node, &["always", "never"]));
    let flags = match fields.take("require_flag") {
        Some(node) => reader.flags(node)?,
        None => FlagMask::parse(DEPLOYER).ok(),
    };
    let emergency = fields.take("emergency").and_then(|node| self::approvals(reader, node, &path));
    let approvals = fields.take("approvals").and_then(|node| approvals(reader, node, &path));
    let windows = fields.take("windows").map(|node| windows(reader, node)).unwrap_or_default();
    let freeze = fields.take("freeze").map(|node| reader.texts(node)).unwrap_or_default();
    let max_commits = fields.take("max_commits").and_then(|node| reader.count(node));
    let rollback = fields.take("rollback").map(|node| rollback(reader, node)).unwrap_or_default();
    let priority = fields.take("priority").and_then(|node| reader.count(node)).unwrap_or(0).min(100);
    let checks = fields.take("checks").map(|node| reader.list(node)).unwrap_or_default();
    let checks = checks.into_iter().filter_map(|node| check(reader, node)).collect();
    fields.done(reader);
    Some(Rules {
        confirm: confirm != Some("never"),
        flags,
        approvals,
        emergency,
        windows,
        freeze: freeze.into_iter().map(Into::into).collect(),
        max_commits,
        rollback,
        checks,
        priority,
    })
}

/// `"size(files) < 100"`, `{ci: ci/unit}`, `{metric: "prometheus:error_rate{app='shop'}<0.01"}`.
fn check(reader: &mut Reader, node: &Node) -> Option<Check> {
    if reader.is_text(node) {
        return reader.expr(node).map(Check::Holds);
    }
    let entries = reader.entries(node, "a check");
    let (executor, value, settings) = match entries.as_slice() {
        [(kind, _, value)] if kind.as_str() == "ci" => {
            let mut settings = match reader.value(value) {
                Value::Object(map) => map,
                text => Map::from_iter([("status".to_owned(), text)]),
            };
            // Whoever asks for a run is told at once.
            settings.insert("wait".to_owned(), "0s".into());
            ("ci", *value, settings)
        }
        [(kind, _, value)] if kind.as_str() == "metric" => {
            let mut settings = match reader.value(value) {
                Value::Object(map) => map,
                text => Map::from_iter([("checks".to_owned(), vec![text].into())]),
            };
            settings.insert("for".to_owned(), LOOK.into());
            settings.insert("every".to_owned(), LOOK.into());
            settings.insert("min_points".to_owned(), 1.into());
            ("verify", *value, settings)
        }
        _ => {
            let known =
                "a condition such as \"size(files) < 100\", {ci: ci/unit}, or {metric: \"prometheus:error_rate<0.01\"}";
            reader.fault(node, format!("a check is {known}"));
            return None;
        }
    };
    let first = settings.get("checks").and_then(|checks| checks.get(0));
    let first = first.map(|check| check.get("name").or(check.get("check")).unwrap_or(check));
    let name = settings.get("status").or(first).and_then(Value::as_str).unwrap_or(executor).to_owned();
    let name = name.strip_prefix("prometheus:").unwrap_or(&name).chars().take(60).collect();
    let settings = Value::Object(settings);
    for (path, fault) in reader.executors.get(executor).map(|one| one.check(&settings)).unwrap_or_default() {
        let parts: Vec<&str> = path.split('.').filter(|part| !part.is_empty()).collect();
        let spot = value.spot_of(&parts);
        reader.fault_at(&spot, format!("{}: {fault}", entries[0].0));
    }
    Some(Check::Asks(name, Action { executor: executor.to_owned(), settings }))
}

/// Refuses checks that ask about a commit where nothing says which.
pub(super) fn ask_of_no_commit(reader: &mut Reader, node: &Node, policy: &Policy) {
    for (env, rules) in &policy.environments {
        let lost = |action: &Action| action.executor == "ci" && action.settings.get("commit").is_none();
        if let Some((name, _)) = rules.asks_outside().find(|(_, action)| lost(action)) {
            let message =
                format!("{env} asks for {name} of a commit, and there is no repo to know it by; write repo: https://…");
            reader.fault(node, message);
        }
    }
}

impl Default for Rollback {
    fn default() -> Rollback {
        Rollback { mode: RollbackMode::Never, auto_after: None, lock: true }
    }
}

fn rollback(reader: &mut Reader, node: &Node) -> Rollback {
    const MODES: [&str; 3] = ["never", "offer", "auto"];
    let mode = |word: Option<&str>| match word {
        Some("offer") => RollbackMode::Offer,
        Some("auto") => RollbackMode::Auto,
        _ => RollbackMode::Never,
    };
    if reader.is_text(node) {
        return Rollback { mode: mode(reader.choice(node, &MODES)), ..Rollback::default() };
    }
    let Some(mut fields) = Fields::of(reader, node, "rollback") else { return Rollback::default() };
    let named = fields.need(reader, "mode").and_then(|node| reader.choice(node, &MODES));
    let auto_after = fields.take("auto_after").and_then(|node| reader.duration(node));
    let lock = fields.take("lock").and_then(|node| reader.bool(node)).unwrap_or(true);
    fields.done(reader);
    Rollback { mode: mode(named), auto_after, lock }
}

pub(super) fn approvals(reader: &mut Reader, node: &Node, path: &str) -> Option<Approvals> {
    let mut fields = Fields::of(reader, node, &format!("{path}.approvals"))?;
    let count = fields.take("count").and_then(|node| reader.count(node)).unwrap_or(1).max(1) as usize;
    let from = fields.take("from").map(|node| reader.texts(node)).unwrap_or_default();
    let not_requester = fields.take("not_requester").and_then(|node| reader.bool(node)).unwrap_or(true);
    let expires = fields.take("expires").and_then(|node| reader.duration(node)).unwrap_or(APPROVAL);
    let when = fields.take("when").and_then(|node| reader.expr(node));
    fields.done(reader);
    Some(Approvals { count, from, not_requester, expires, when })
}

pub(super) fn windows(reader: &mut Reader, node: &Node) -> Vec<Window> {
    let mut out = Vec::new();
    for node in reader.list(node) {
        let Some(mut fields) = Fields::of(reader, node, "windows") else { continue };
        let days = fields.take("days").map_or(Some([true; 7]), |node| {
            let text = reader.texts(node).join(",");
            let days = window::days(&text);
            if days.is_none() {
                reader.fault(node, format!("{text:?} are no days; write mon-fri, sat,sun or daily"));
            }
            days
        });
        let mut time = |key: &'static str| {
            let node = fields.need(reader, key)?;
            let text = reader.text(node)?;
            let read = NaiveTime::parse_from_str(&text, "%H:%M").ok();
            if read.is_none() {
                reader.fault(node, format!("{text:?} is no time of day; write \"08:00\""));
            }
            read
        };
        let (from, to) = (time("from"), time("to"));
        let tz = fields.take("tz").map_or(Some(chrono_tz::UTC), |node| zone(reader, node));
        fields.done(reader);
        if let (Some(days), Some(from), Some(to), Some(tz)) = (days, from, to, tz) {
            out.push(Window { days, from, to, tz });
        }
    }
    out
}

fn zone(reader: &mut Reader, node: &Node) -> Option<chrono_tz::Tz> {
    let text = reader.text(node)?;
    let zone = text.parse().ok();
    if zone.is_none() {
        reader.fault(node, format!("{text:?} is no zone; write a name such as Europe/Lisbon, or UTC"));
    }
    zone
}
