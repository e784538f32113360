//! Payloads as providers really send them, and what becomes of each.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use masterchief_bindings::webhook::{Headers, Preset, RouteSettings, describe};

struct Given([(&'static str, &'static str); 1]);

impl Headers for Given {
    fn header(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }
}

/// What a payload is understood as: `event action repo reference`, and its line.
fn understood(preset: Preset, header: (&'static str, &'static str), file: &str) -> (String, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/payloads").join(file);
    let body = std::fs::read(path).unwrap();
    let route = RouteSettings { preset: Some(preset), ..RouteSettings::default() };
    let (hook, _) = describe(&route, preset.name(), &Given([header]), &body).unwrap();
    (format!("{} | {} | {} | {}", hook.event, hook.action, hook.repo, hook.reference), hook.text)
}

/// Preset, what its header says, file, what it is understood as, its line.
const PAYLOADS: &[(Preset, &str, &str, &str, &str)] = &[
    (
        Preset::Github,
        "push",
        "github/push.json",
        "push |  | binkkatal/sample_app | master",
        "binkkatal/sample_app master push by binkkatal: 1 commit: test a push event",
    ),
    (
        Preset::Github,
        "pull_request",
        "github/pull-request.json",
        "pull_request | opened | baxterthehacker/public-repo | master",
        "baxterthehacker/public-repo master pull_request opened #1 by baxterthehacker: Update the README with new information",
    ),
    (
        Preset::Github,
        "issues",
        "github/issues.json",
        "issues | opened | baxterthehacker/public-repo | ",
        "baxterthehacker/public-repo issues opened #2 by baxterthehacker: Spelling error in the README file",
    ),
    (
        Preset::Github,
        "issue_comment",
        "github/issue-comment.json",
        "issue_comment | created | baxterthehacker/public-repo | ",
        "baxterthehacker/public-repo issue_comment created #2 by baxterthehacker: You are totally right! I'll get this fixed right away.",
    ),
    (
        Preset::Github,
        "release",
        "github/release.json",
        "release | published | baxterthehacker/public-repo | 0.0.1",
        "baxterthehacker/public-repo 0.0.1 release published by baxterthehacker",
    ),
    (
        Preset::Github,
        "deployment_status",
        "github/deployment-status.json",
        "deployment_status |  | baxterthehacker/public-repo | master",
        "baxterthehacker/public-repo master deployment_status success by baxterthehacker: production",
    ),
    (
        Preset::Github,
        "check_run",
        "github/check-run.json",
        "check_run | rerequested | github/hello-world | ",
        "github/hello-world check_run rerequested neutral by octocat: randscape",
    ),
    (
        Preset::Github,
        "workflow_run",
        "github/workflow_run.json",
        "workflow_run | My workflow_run | baxterthehacker/public-repo | master",
        "baxterthehacker/public-repo master workflow_run My workflow_run finished by baxterthehacker: My Workflow",
    ),
    (Preset::Github, "ping", "github/ping.json", "ping |  |  | ", "ping Keep it logically awesome."),
    (
        Preset::Gitlab,
        "Push Hook",
        "gitlab/push-event.json",
        "push |  | mike/diaspora | master",
        "mike/diaspora master push by John Smith: fixed readme",
    ),
    (
        Preset::Gitlab,
        "Merge Request Hook",
        "gitlab/merge-request-event.json",
        "merge_request | open | gitlabhq/gitlab-test | master",
        "gitlabhq/gitlab-test master merge_request open by root: MS-Viewport",
    ),
    (
        Preset::Gitlab,
        "Pipeline Hook",
        "gitlab/pipeline-event.json",
        "pipeline | success | gitlab-org/gitlab-test | master",
        "gitlab-org/gitlab-test master pipeline success by root: test",
    ),
    (
        Preset::Gitlab,
        "Job Hook",
        "gitlab/job-event.json",
        "job | created | gitlab-org/gitlab-test | gitlab-script-trigger",
        "gitlab-org/gitlab-test gitlab-script-trigger job created by User: test",
    ),
    (
        Preset::Gitlab,
        "Deployment Hook",
        "gitlab/deployment-event.json",
        "deployment | success | root/test-deployment-webhooks | ",
        "root/test-deployment-webhooks deployment success by root: staging",
    ),
    (
        Preset::Bitbucket,
        "repo:push",
        "bitbucket/repo-push.json",
        "repo | push | team_name/repo_name | name-of-branch",
        "team_name/repo_name name-of-branch repo push by emmap1: new commit message",
    ),
    (
        Preset::Bitbucket,
        "pullrequest:created",
        "bitbucket/pull-request-created.json",
        "pullrequest | created | team_name/repo_name | master",
        "team_name/repo_name master pullrequest created by emmap1: Title of pull request",
    ),
    (
        Preset::Bitbucket,
        "repo:commit_status_updated",
        "bitbucket/repo-commit-status-updated.json",
        "repo | commit_status_updated | team_name/repo_name | ",
        "team_name/repo_name repo commit_status_updated SUCCESSFUL by emmap1: Unit Tests (Python)",
    ),
    (
        Preset::Bitbucket,
        "pr:opened",
        "bitbucket-server/pr-opened.json",
        "pr | opened | ~gopher/webhook-test | master",
        "~gopher/webhook-test master pr opened by gopher: Update README",
    ),
    (
        Preset::Bitbucket,
        "repo:refs_changed",
        "bitbucket-server/repo-refs-changed.json",
        "repo | refs_changed | ~gopher/webhook-test | feature/wip",
        "~gopher/webhook-test feature/wip repo refs_changed by gopher",
    ),
    (
        Preset::Gitea,
        "push",
        "gitea/push-event.json",
        "push |  | example/example | master",
        "example/example master push by example: 1 commit: example",
    ),
    (
        Preset::Gitea,
        "pull_request",
        "gitea/pull-request-event.json",
        "pull_request | opened | example/example | master",
        "example/example master pull_request opened #2 by example2: update",
    ),
    (
        Preset::Gitea,
        "release",
        "gitea/release-event.json",
        "release | published | example/example | example",
        "example/example example release published by example: 0.0.0",
    ),
];

#[test]
fn what_providers_send_is_understood() {
    for (preset, said, file, what, text) in PAYLOADS {
        let header = match preset {
            Preset::Github => "X-GitHub-Event",
            Preset::Gitlab => "X-Gitlab-Event",
            Preset::Bitbucket => "X-Event-Key",
            _ => "X-Gitea-Event",
        };
        let found = understood(*preset, (header, said), file);
        assert_eq!((found.0.as_str(), found.1.as_str()), (*what, *text), "{file}");
    }
}

/// What a payload of a provider whose events stand in the body is: `event action repo reference`, its line, its delivery.
fn told(route: &RouteSettings, header: (&'static str, &'static str), file: &str) -> (String, String, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/payloads").join(file);
    let (hook, _) = describe(route, "route", &Given([header]), &std::fs::read(path).unwrap()).unwrap();
    assert_eq!(hook.challenge.is_some(), file.ends_with("challenge.json"), "{file}");
    (format!("{} | {} | {} | {}", hook.event, hook.action, hook.repo, hook.reference), hook.text, hook.delivery)
}

#[test]
fn what_names_its_event_in_the_body_is_understood_and_known_when_it_comes_again() {
    let of = |preset| RouteSettings { preset: Some(preset), ..RouteSettings::default() };
    let generic =
        RouteSettings { event: Some("/kind".to_owned()), delivery: Some("/run/id".to_owned()), ..of(Preset::Generic) };
    for (route, header, file, what, text, delivery) in [
        (
            of(Preset::Jenkins),
            ("", ""),
            "jenkins/finalized.json",
            "shop | FINALIZED | https://git.example/acme/shop.git | main",
            "shop #12 FINALIZED FAILURE https://ci.example/job/shop/12/",
            "job/shop/ 12 FINALIZED",
        ),
        (
            of(Preset::Pagerduty),
            ("", ""),
            "pagerduty/priority-updated.json",
            "incident.priority_updated |  | API Service | ",
            "incident.priority_updated API Service by Tenex Engineer: A little bump in the road https://acme.pagerduty.com/incidents/PGR0VU2",
            "01BWDWL3NYY7LUFPZCC28QUCMK",
        ),
        (of(Preset::Slack), ("", ""), "slack/challenge.json", "url_verification |  |  | ", "url_verification", ""),
        (
            of(Preset::Slack),
            ("", ""),
            "slack/message.json",
            "message |  |  | ",
            "message by U1: the shop is down",
            "Ev01",
        ),
        (
            of(Preset::Stripe),
            ("", ""),
            "stripe/charge-failed.json",
            "charge.failed |  |  | ",
            "charge.failed evt_1",
            "evt_1",
        ),
        (
            of(Preset::Standard),
            ("webhook-id", "msg_1"),
            "standard/contact-created.json",
            "contact.created |  |  | ",
            "contact.created msg_1",
            "msg_1",
        ),
        (generic, ("", ""), "generic/backup.json", "backup |  |  | ", "backup done in 4 minutes", "7"),
    ] {
        let found = told(&route, header, file);
        assert_eq!((found.0.as_str(), found.1.as_str(), found.2.as_str()), (what, text, delivery), "{file}");
    }
    let firing = told(&of(Preset::Grafana), ("", ""), "grafana/firing.json");
    assert_eq!((firing.0.as_str(), firing.1.as_str()), ("firing | DiskFull |  | ", "FIRING DiskFull db1 is at 95 %"));
    assert!(firing.2.starts_with("{}:{alertname=\"DiskFull\"} firing "), "{}", firing.2);
}
