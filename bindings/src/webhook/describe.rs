//! What a payload says: which event, of what, and what it is known by. Written against the providers' own documentation
//! and payloads; what a provider leaves out stays empty.

use std::sync::LazyLock;

use masterchief_contract::Value;
use sha2::{Digest, Sha256};

use super::kept::Kept;
use super::settings::{Preset, RouteSettings};
use super::verify::Headers;

/// A post, understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hook {
    /// `push`, `pull_request`, `firing`.
    pub event: String,
    /// `opened`, `failed`, `COMPLETED`.
    pub action: String,
    /// `acme/shop`.
    pub repo: String,
    /// A branch or a tag, without `refs/heads/`.
    pub reference: String,
    /// The same on every redelivery; empty where the provider has nothing of the kind.
    pub delivery: String,
    /// One line for people.
    pub text: String,
    /// What must be answered for the sender to believe that somebody is here (Slack's challenge).
    pub challenge: Option<String>,
}

/// The JSON text of a form's field `payload`, where the post is a form.
pub(super) fn form_payload(headers: &dyn Headers, body: &[u8]) -> Option<String> {
    if !headers.header("Content-Type").starts_with("application/x-www-form-urlencoded") {
        return None;
    }
    form_urlencoded::parse(body).find(|(name, _)| name == "payload").map(|(_, value)| value.into_owned())
}

/// Understands a post that was verified. Gives its JSON text where that is not the body itself.
///
/// The error says what is wrong with the body, with the place.
pub fn describe(
    route: &RouteSettings,
    name: &str,
    headers: &dyn Headers,
    body: &[u8],
) -> Result<(Hook, Option<Vec<u8>>), String> {
    let preset = route.preset_of(name);
    let payload = form_payload(headers, body);
    let text = payload.as_deref().map_or(body, str::as_bytes);
    // What says that it is a form and is JSON all the same is what curl sends.
    let is_json = || serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok();
    let form = payload.is_none()
        && headers.header("Content-Type").starts_with("application/x-www-form-urlencoded")
        && !is_json();
    let json = if form {
        let pairs =
            form_urlencoded::parse(body).map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())));
        Value::Object(pairs.collect())
    } else if text.iter().all(u8::is_ascii_whitespace) {
        Value::Null
    } else {
        match read(preset, text) {
            Ok(json) => json,
            // A generic post may be anything.
            Err(_) if preset == Preset::Generic => Value::Null,
            Err(fault) => return Err(fault.to_string()),
        }
    };
    let mut hook = match preset {
        Preset::Github | Preset::Gitea | Preset::Forgejo => forge(preset, headers, &json),
        Preset::Gitlab => gitlab(headers, body, &json),
        Preset::Bitbucket => bitbucket(headers, &json),
        Preset::Jenkins => jenkins(&json),
        Preset::Alertmanager | Preset::Grafana => alerts(&json),
        Preset::Pagerduty => pagerduty(&json),
        Preset::Slack => slack(&json),
        Preset::Stripe => typed(str_at(&json, "/id"), &json),
        Preset::Standard => typed(headers.header("webhook-id"), &json),
        Preset::Generic => generic(route, headers, &json),
    };
    if hook.event.is_empty() {
        hook.event = "event".to_owned();
    }
    // A mask's own signs cannot stand in its parts.
    hook.event = hook.event.replace(['/', ':', '#'], ".");
    if hook.text.is_empty() {
        hook.text = format!("{name}/{}", hook.event);
    }
    let as_json = if form { serde_json::to_vec(&json).ok() } else { payload.map(String::into_bytes) };
    Ok((hook, as_json))
}

/// What the functions below ask about, where payloads are long.
fn read(preset: Preset, text: &[u8]) -> serde_json::Result<Value> {
    static FORGE_KEPT: LazyLock<Kept> = LazyLock::new(|| Kept::of(FORGE));
    static GITLAB_KEPT: LazyLock<Kept> = LazyLock::new(|| Kept::of(GITLAB));
    match preset {
        Preset::Github | Preset::Gitea | Preset::Forgejo => FORGE_KEPT.read(text),
        Preset::Gitlab => GITLAB_KEPT.read(text),
        _ => serde_json::from_slice(text),
    }
}

/// All that [`forge`] looks at.
const FORGE: &[&str] = &[
    "/action",
    "/check_run/conclusion",
    "/check_run/name",
    "/check_suite/head_branch",
    "/comment/body",
    "/commits/",
    "/deployment/environment",
    "/deployment/ref",
    "/deployment_status/state",
    "/head_commit/message",
    "/issue/number",
    "/issue/title",
    "/pull_request/base/ref",
    "/pull_request/number",
    "/pull_request/title",
    "/pusher/name",
    "/ref",
    "/release/name",
    "/release/tag_name",
    "/repository/full_name",
    "/sender/login",
    "/sender/username",
    "/workflow_run/conclusion",
    "/workflow_run/head_branch",
    "/workflow_run/name",
    "/zen",
];

/// All that [`gitlab`] looks at.
const GITLAB: &[&str] = &[
    "/action",
    "/build_name",
    "/build_status",
    "/commit/message",
    "/commits",
    "/environment",
    "/event_name",
    "/event_type",
    "/name",
    "/object_attributes/action",
    "/object_attributes/note",
    "/object_attributes/ref",
    "/object_attributes/status",
    "/object_attributes/target_branch",
    "/object_attributes/title",
    "/object_kind",
    "/project/path_with_namespace",
    "/project_name",
    "/ref",
    "/repository/name",
    "/status",
    "/tag",
    "/user/name",
    "/user/username",
    "/user_name",
    "/user_username",
];

/// What a pointer of ours leads to. None of them has an escaped sign, so that nothing need be made to follow it.
fn at<'a>(json: &'a Value, pointer: &str) -> Option<&'a Value> {
    pointer.split('/').skip(1).try_fold(json, |json, name| match json {
        Value::Object(map) => map.get(name),
        Value::Array(list) => list.get(name.parse::<usize>().ok()?),
        _ => None,
    })
}

fn str_at<'a>(json: &'a Value, pointer: &str) -> &'a str {
    at(json, pointer).and_then(Value::as_str).unwrap_or("")
}

/// The first of these that is a text.
fn first<'a>(json: &'a Value, pointers: &[&str]) -> &'a str {
    pointers.iter().map(|pointer| str_at(json, pointer)).find(|text| !text.is_empty()).unwrap_or("")
}

fn branch(reference: &str) -> String {
    let reference =
        reference.strip_prefix("refs/heads/").or_else(|| reference.strip_prefix("refs/tags/")).unwrap_or(reference);
    reference.to_owned()
}

fn line(parts: &[&str]) -> String {
    let parts: Vec<&str> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
    let text = parts.join(" ");
    let first = text.lines().next().unwrap_or("");
    // Somebody did it, and there is no more to say.
    first.strip_suffix(':').unwrap_or(first).chars().take(300).collect()
}

/// GitHub, Gitea and Forgejo: the same payloads under other headers.
fn forge(preset: Preset, headers: &dyn Headers, json: &Value) -> Hook {
    let (event, delivery) = match preset {
        Preset::Github => ("X-GitHub-Event", "X-GitHub-Delivery"),
        Preset::Forgejo if !headers.header("X-Forgejo-Event").is_empty() => ("X-Forgejo-Event", "X-Forgejo-Delivery"),
        _ => ("X-Gitea-Event", "X-Gitea-Delivery"),
    };
    let (event, delivery) = (headers.header(event), headers.header(delivery));
    let (action, repo) = (str_at(json, "/action"), str_at(json, "/repository/full_name"));
    let reference = branch(first(
        json,
        &[
            "/ref",
            "/pull_request/base/ref",
            "/workflow_run/head_branch",
            "/check_suite/head_branch",
            "/deployment/ref",
            "/release/tag_name",
        ],
    ));
    let who = first(json, &["/sender/login", "/pusher/name", "/sender/username"]);
    let what = first(
        json,
        &[
            "/comment/body",
            "/pull_request/title",
            "/issue/title",
            "/head_commit/message",
            "/release/name",
            "/workflow_run/name",
            "/check_run/name",
            "/deployment/environment",
            "/zen",
        ],
    );
    let count = at(json, "/commits").and_then(Value::as_array).map_or(0, Vec::len);
    let commits =
        if event == "push" { format!("{count} commit{}:", if count == 1 { "" } else { "s" }) } else { String::new() };
    let number = first_number(json, &["/pull_request/number", "/issue/number"])
        .map_or(String::new(), |number| format!("#{number}"));
    let conclusion = first(json, &["/workflow_run/conclusion", "/check_run/conclusion", "/deployment_status/state"]);
    Hook {
        event: event.to_owned(),
        action: action.to_owned(),
        repo: repo.to_owned(),
        delivery: delivery.to_owned(),
        text: line(&[repo, &reference, event, action, &number, conclusion, &by(who), &commits, what]),
        reference,
        challenge: None,
    }
}

fn by(who: &str) -> String {
    if who.is_empty() { String::new() } else { format!("by {who}:") }
}

fn first_number(json: &Value, pointers: &[&str]) -> Option<u64> {
    pointers.iter().find_map(|pointer| at(json, pointer)?.as_u64())
}

fn gitlab(headers: &dyn Headers, body: &[u8], json: &Value) -> Hook {
    let header = headers.header("X-Gitlab-Event").trim_end_matches(" Hook").to_lowercase().replace(' ', "_");
    let kind = first(json, &["/object_kind", "/event_name", "/event_type"]);
    let event = match if kind.is_empty() { header.as_str() } else { kind } {
        // A job is called a build in payloads.
        "build" => "job",
        event => event,
    };
    let action = first(json, &["/object_attributes/action", "/action"]);
    let action = match event {
        "pipeline" => str_at(json, "/object_attributes/status"),
        "job" => str_at(json, "/build_status"),
        "deployment" => str_at(json, "/status"),
        _ => action,
    };
    let repo = first(json, &["/project/path_with_namespace", "/project_name", "/repository/name"]);
    let reference =
        branch(first(json, &["/ref", "/object_attributes/target_branch", "/object_attributes/ref", "/tag"]));
    let delivery = ["Idempotency-Key", "webhook-id"].map(|name| headers.header(name));
    let delivery = match delivery.into_iter().find(|id| !id.is_empty()) {
        Some(id) => id.to_owned(),
        // Older ones: an id that whatever follows from an event has too, so that alone it would not do.
        None if !headers.header("X-Gitlab-Event-UUID").is_empty() => {
            let digest: String = Sha256::digest(body).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
            format!("{} {digest}", headers.header("X-Gitlab-Event-UUID"))
        }
        None => String::new(),
    };
    let who = first(json, &["/user_username", "/user/username", "/user_name", "/user/name"]);
    let newest = at(json, "/commits").and_then(Value::as_array).and_then(|commits| commits.last());
    let newest = newest.filter(|_| event == "push").map_or("", |commit| first(commit, &["/title", "/message"]));
    let what = first(
        json,
        &[
            "/object_attributes/note",
            "/object_attributes/title",
            "/name",
            "/build_name",
            "/environment",
            "/commit/message",
        ],
    );
    Hook {
        event: event.to_owned(),
        action: action.to_owned(),
        repo: repo.to_owned(),
        delivery,
        text: line(&[repo, &reference, event, action, &by(who), newest, what]),
        reference,
        challenge: None,
    }
}

/// `repo:push` is the event `repo` with the action `push`.
fn bitbucket(headers: &dyn Headers, json: &Value) -> Hook {
    let key = headers.header("X-Event-Key");
    let (event, action) = key.split_once(':').unwrap_or((key, ""));
    let project = first(json, &["/repository/project/key", "/pullRequest/toRef/repository/project/key"]);
    let slug = first(json, &["/repository/slug", "/pullRequest/toRef/repository/slug"]);
    let full = first(json, &["/repository/full_name"]);
    let full = if full.is_empty() && !project.is_empty() { format!("{project}/{slug}") } else { full.to_owned() };
    let reference = branch(first(
        json,
        &[
            "/push/changes/0/new/name",
            "/changes/0/ref/displayId",
            "/pullrequest/destination/branch/name",
            "/pullRequest/toRef/displayId",
        ],
    ));
    let delivery = ["X-Request-UUID", "X-Request-Id"].map(|name| headers.header(name));
    let who = first(json, &["/actor/nickname", "/actor/display_name", "/actor/name"]);
    let what = first(
        json,
        &[
            "/comment/content/raw",
            "/comment/text",
            "/pullrequest/title",
            "/pullRequest/title",
            "/push/changes/0/new/target/message",
            "/commit_status/name",
        ],
    );
    let state = str_at(json, "/commit_status/state");
    Hook {
        event: event.to_owned(),
        action: action.to_owned(),
        delivery: delivery.into_iter().find(|id| !id.is_empty()).unwrap_or("").to_owned(),
        text: line(&[&full, &reference, event, action, state, &by(who), what]),
        repo: full,
        reference,
        challenge: None,
    }
}

/// The notification plugin: the job is the event, the phase its action.
fn jenkins(json: &Value) -> Hook {
    let (job, phase) = (str_at(json, "/name"), str_at(json, "/build/phase"));
    let number = at(json, "/build/number").and_then(Value::as_u64).unwrap_or(0);
    let status = str_at(json, "/build/status");
    let url = first(json, &["/build/full_url", "/build/url", "/url"]);
    Hook {
        event: job.to_owned(),
        action: phase.to_owned(),
        repo: str_at(json, "/build/scm/url").to_owned(),
        reference: branch(str_at(json, "/build/scm/branch").trim_start_matches("origin/")),
        delivery: if job.is_empty() { String::new() } else { format!("{} {number} {phase}", str_at(json, "/url")) },
        text: line(&[job, &format!("#{number}"), phase, status, url]),
        challenge: None,
    }
}

/// Alertmanager's and Grafana's groups of alerts. A group that is told again with the same alerts is the same delivery.
fn alerts(json: &Value) -> Hook {
    let status = str_at(json, "/status");
    let name = first(json, &["/commonLabels/alertname", "/alerts/0/labels/alertname", "/title"]);
    let alerts = at(json, "/alerts").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut digest = Sha256::new();
    for alert in alerts {
        let labels = alert.get("labels").map(ToString::to_string).unwrap_or_default();
        let mark = match str_at(alert, "/fingerprint") {
            "" => labels,
            fingerprint => fingerprint.to_owned(),
        };
        digest.update(format!(
            "{mark} {} {} {}\n",
            str_at(alert, "/status"),
            str_at(alert, "/startsAt"),
            str_at(alert, "/endsAt")
        ));
    }
    let digest: String = digest.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    let group = str_at(json, "/groupKey");
    let summary = first(
        json,
        &["/commonAnnotations/summary", "/alerts/0/annotations/summary", "/commonAnnotations/description", "/message"],
    );
    let count = if alerts.len() > 1 { format!("({} alerts)", alerts.len()) } else { String::new() };
    Hook {
        event: status.to_owned(),
        action: name.to_owned(),
        delivery: if group.is_empty() && alerts.is_empty() {
            String::new()
        } else {
            format!("{group} {status} {digest}")
        },
        text: line(&[&status.to_uppercase(), name, &count, summary]),
        ..Hook::default()
    }
}

fn pagerduty(json: &Value) -> Hook {
    let event = str_at(json, "/event/event_type");
    let title = first(json, &["/event/data/title", "/event/data/summary"]);
    let service = str_at(json, "/event/data/service/summary");
    let who = str_at(json, "/event/agent/summary");
    Hook {
        event: event.to_owned(),
        repo: service.to_owned(),
        delivery: str_at(json, "/event/id").to_owned(),
        text: line(&[event, service, &by(who), title, str_at(json, "/event/data/html_url")]),
        ..Hook::default()
    }
}

fn slack(json: &Value) -> Hook {
    let kind = str_at(json, "/type");
    let command = str_at(json, "/command");
    let (event, action) = match kind {
        "event_callback" => (str_at(json, "/event/type"), str_at(json, "/event/subtype")),
        "" if !command.is_empty() => ("command", command.trim_start_matches('/')),
        kind => (kind, ""),
    };
    let who = first(json, &["/event/user", "/user_name", "/user/username"]);
    Hook {
        event: event.to_owned(),
        action: action.to_owned(),
        delivery: first(json, &["/event_id", "/trigger_id"]).to_owned(),
        text: line(&[event, action, &by(who), first(json, &["/event/text", "/text"])]),
        challenge: (kind == "url_verification").then(|| str_at(json, "/challenge").to_owned()),
        ..Hook::default()
    }
}

/// Stripe and Standard Webhooks: the body names its type.
fn typed(delivery: &str, json: &Value) -> Hook {
    let event = str_at(json, "/type");
    Hook { event: event.to_owned(), delivery: delivery.to_owned(), text: line(&[event, delivery]), ..Hook::default() }
}

fn generic(route: &RouteSettings, headers: &dyn Headers, json: &Value) -> Hook {
    let at = |place: &Option<String>| match place.as_deref() {
        Some(pointer) if pointer.starts_with('/') => match json.pointer(pointer) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Null) | None => String::new(),
            Some(other) => other.to_string(),
        },
        Some(header) => headers.header(header).to_owned(),
        None => String::new(),
    };
    let delivery = match at(&route.delivery) {
        id if id.is_empty() => route.signature.id.as_deref().map_or("", |name| headers.header(name)).to_owned(),
        id => id,
    };
    let event = at(&route.event);
    Hook {
        text: line(&[&event, first(json, &["/text", "/message", "/title", "/summary"])]),
        event,
        delivery,
        ..Hook::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Named(String);

    impl Headers for Named {
        fn header(&self, name: &str) -> &str {
            if name.ends_with("-Event") { &self.0 } else { "" }
        }
    }

    #[test]
    fn what_is_kept_of_a_payload_tells_the_same_as_all_of_it() {
        let payloads = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/payloads");
        let mut count = 0;
        for (folder, preset) in [("github", Preset::Github), ("gitea", Preset::Gitea), ("gitlab", Preset::Gitlab)] {
            for entry in std::fs::read_dir(payloads.join(folder)).unwrap().flatten() {
                let text = std::fs::read(entry.path()).unwrap();
                let name = entry.file_name().to_string_lossy().replace("-event.json", "").replace(".json", "");
                let headers = Named(name.replace('-', "_"));
                let told = |json: &Value| match preset {
                    Preset::Gitlab => gitlab(&headers, &text, json),
                    _ => forge(preset, &headers, json),
                };
                let all: Value = serde_json::from_slice(&text).unwrap();
                assert_eq!(told(&read(preset, &text).unwrap()), told(&all), "{}", entry.path().display());
                count += 1;
            }
        }
        assert!(count >= 18, "{count} payloads");
    }
}
