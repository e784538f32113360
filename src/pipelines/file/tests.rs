//! Pipeline files, good and bad.

use std::sync::Arc;
use std::time::Duration;

use masterchief_contract::Future;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::model::{Axis, Form, OnBusy, OnFailure, RollbackMode, Takes, Undo, Wait};
use super::*;
use crate::executors::{Class, End, Executor, Hands, Step};

/// Takes any settings but `bad`, and may have a way back.
struct Any(bool);

impl Executor for Any {
    fn check(&self, settings: &Value) -> Vec<(String, String)> {
        settings.get("bad").map(|_| ("bad".to_owned(), "this is bad".to_owned())).into_iter().collect()
    }

    fn run(&self, _: Step, _: Hands) -> Future<End> {
        Box::pin(async { End::done() })
    }

    fn undoes(&self) -> bool {
        self.0
    }
}

fn executors() -> Executors {
    const NAMES: [&str; 11] =
        ["ci", "shell", "git", "jenkins", "docker", "terraform", "kubernetes", "ansible", "verify", "health", "http"];
    let made = |name: &str| Arc::new(Any(matches!(name, "kubernetes" | "verify"))) as Arc<dyn Executor>;
    NAMES.into_iter().map(|name| (name.to_owned(), made(name))).collect()
}

fn good(text: &str) -> Pipeline {
    parse(Path::new("shop.yaml"), text, &executors()).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

fn faults(text: &str) -> Vec<String> {
    let faults = parse(Path::new("shop.yaml"), text, &executors()).map(|_| ()).unwrap_err();
    faults.iter().map(ToString::to_string).collect()
}

const WHOLE: &str = r##"
version: 1
app: shop
repo: https://git.example/shop.git
description: Build, test and ship the shop.
params:
  environment: { type: choice, of: [dev, staging, prod], default: staging }
  ref:         { type: ref, default: main }
  skip_tests:  { type: bool, default: false, needs_flag: S }
  deploy_tag:  { type: string, match: "^v[0-9.]+$", optional: true }
triggers:
  - irc:     { channels: ["#ops", "#shop"] }
  - webhook: { bind: github/push, when: "event.ref == 'refs/heads/main'", params: { environment: dev } }
  - time:    { cron: "0 7 * * 1-5", tz: Europe/Berlin, params: { environment: staging } }
policy:
  concurrency: { group: "deploy:shop:{environment}", on_busy: queue, max_queued: 10 }
  idempotency: { key: "{sha}:{environment}", window: 10m }
  timeout: 45m
  environments:
    dev:     { confirm: never,  rollback: auto, require_flag: "-" }
    staging: { confirm: never,  rollback: auto, require_flag: d }
    prod:
      confirm: always
      require_flag: D
      approvals: { count: 1, from: "@payments", not_requester: true, expires: 30m, when: "risk > 0.3 || plan.destroy > 0" }
      windows: [ { days: mon-fri, from: "08:00", to: "16:00", tz: UTC } ]
      freeze:  [ calendar/company.ics ]
      checks:  [ { ci: "ci/unit" }, { metric: "prometheus:error_rate{app='shop'}<0.01" }, "size(files) < 100" ]
      max_commits: 8
      rollback: { mode: offer, auto_after: 5m, lock: true }
announce:
  channels: ["#shop", { name: "#ops", only: [start, failed, finished, rollback, lock], when: "environment == 'prod'" }]
  coalesce: 20s
  log_to: incident-log
defaults:
  retry: { times: 3, first: 2s, factor: 2, max: 60s, jitter: 0.2, on: [network, infra_lost, quota] }
  timeout: 15m
  idle_timeout: 5m
  resources: { slots: 1, cpu: 1, mem: 1GiB, disk: 5GiB }
  env: { CI: "true" }
stages:
  checkout:
    git: { repo: "{repo}", ref: "{ref}" }
    idempotent: true
  test:
    needs: [checkout]
    when: "!params.skip_tests"
    matrix: { suite: [unit, api, ui], fail_fast: true }
    shell: ["make", "test-{matrix.suite}"]
    collect: { junit: "out/*.xml", coverage: "out/cov.xml" }
    gate: "coverage >= 0.80 && failed == 0"
    retry: { times: 1, on: [flaky_test, network] }
  scan:
    needs: [checkout]
    shell: ["trivy", "fs", "."]
    on_failure: ask
  build:
    needs: [test, scan]
    jenkins: { job: shop-image, server: main, params: { GIT_SHA: "{checkout.sha}", TAG: "{run.number}" } }
    resources: { pool: jenkins-executors, slots: 1 }
    outputs: { image: "result.env.IMAGE" }
  infra:
    needs: [build]
    when: "changed('infra/**')"
    terraform: { dir: infra, workspace: "{environment}", apply: after_approval }
  canary:
    needs: [build, "infra?"]
    when: "environment == 'prod'"
    kubernetes: { context: prod, deployment: shop, image: "{build.image}", weight: 10 }
    verify: { for: 5m, every: 15s, checks: ["x < 1"], failure_limit: 1 }
    on_failure: rollback
  rollout:
    needs: ["canary?"]
    health: { url: "https://{environment}.shop.example/health", expect: 200, times: 3, every: 5s }
    kubernetes: { context: "{environment}", deployment: shop, image: "{build.image}" }
    rollback: { kubernetes: undo }
  hosts:
    needs: [rollout]
    matrix: { host: "{rollout.hosts}", max_parallel: 2 }
    ansible: { playbook: ops/notify.yml, limit: "{matrix.host}" }
  people:
    needs: [rollout.done]
    approve: { count: 2, from: ["@ops", ana] }
finally:
  cleanup: { shell: ["rm", "-rf", "{workspace}"] }
"##;

#[test]
fn a_whole_file_is_read_as_it_is_meant() {
    let shop = good(WHOLE);
    assert_eq!((shop.app.as_str(), shop.stages.len(), shop.triggers.len()), ("shop", 10, 3));
    assert_eq!(shop.params[0].takes, Takes::Choice(vec!["dev".into(), "staging".into(), "prod".into()]));
    assert!(shop.params[2].needs_flag.is_some() && shop.params[3].optional);
    let prod = shop.rules("prod").unwrap();
    let asked: Vec<(&str, &str)> =
        prod.asks_outside().map(|(name, action)| (name.as_str(), action.executor.as_str())).collect();
    assert_eq!(asked, [("ci/unit", "ci"), ("error_rate{app='shop'}<0.01", "verify")]);
    assert_eq!(prod.checks.len(), 3);
    assert!(prod.confirm && prod.flags.is_some() && prod.windows.len() == 1 && prod.max_commits == Some(8));
    assert_eq!((prod.rollback.mode, prod.rollback.auto_after), (RollbackMode::Offer, Some(Duration::from_secs(300))));
    assert!(shop.rules("dev").unwrap().flags.is_none() && !shop.rules("dev").unwrap().confirm);
    assert_eq!(shop.policy.concurrency.on_busy, OnBusy::Queue);
    let stage = |name: &str| shop.stage(name).unwrap();
    let test = stage("test");
    assert_eq!(test.matrix.as_ref().unwrap().axes[0].1, Axis::Values(vec![json!("unit"), json!("api"), json!("ui")]));
    assert_eq!(
        (test.retry.times, test.retry.first, test.retry.on.clone()),
        (1, Duration::from_secs(2), vec![Class::FlakyTest, Class::Network])
    );
    assert_eq!(test.env, [("CI".to_owned(), "true".to_owned())]);
    assert_eq!(stage("build").resources.pool, "jenkins-executors");
    assert_eq!(stage("build").resources.limits.memory, Some(1 << 30));
    let names = |name: &str| stage(name).actions.iter().map(|action| action.executor.clone()).collect::<Vec<_>>();
    assert_eq!(
        (names("rollout"), names("canary")),
        (vec!["kubernetes".into(), "health".into()], vec!["kubernetes".into(), "verify".into()])
    );
    assert_eq!((stage("canary").on_failure, stage("canary").needs[1].form), (OnFailure::Rollback, Form::Optional));
    assert_eq!(stage("hosts").matrix.as_ref().unwrap().axes[0].1, Axis::From("rollout.hosts".to_owned()));
    assert_eq!(stage("people").needs[0].form, Form::Done);
    assert!(matches!(stage("people").wait, Some(Wait::Approve(ref approvals)) if approvals.count == 2));
    assert!(stage("cleanup").finally && !stage("test").finally);
    assert_eq!(shop.hash.len(), 64);
}

#[test]
fn every_fault_is_told_at_once_with_its_line_and_column() {
    let told = faults(
        "app: shop\npolicy:\n  environments:\n    prod: {confirm: allways}\nstages:\n  a:\n    needs: [b]\n    shell: [x]\n    timout: 5m\n  b:\n    needs: [a]\n    shell: {bad: 1}\n  c:\n    needs: [d]\n    shel: [x]\n  e:\n    when: \"params.x = 3\"\n    shell: [\"{nope.sha}\"]\n",
    );
    let all = told.join("\n");
    for part in [
        "shop.yaml:4:21: \"allways\" is none of the choices; did you mean always?",
        "these stages wait for each other: a (line 6) -> b (line 10) -> a (line 6)",
        "shop.yaml:9:5: there is no key \"timout\" here; did you mean \"timeout\"?",
        "shop.yaml:12:13: shell: this is bad",
        "shop.yaml:14:13: there is no stage \"d\"",
        "shop.yaml:15:5: there is no key \"shel\" here; did you mean \"shell\"?",
        "c: say what it does",
        "this is no condition",
        "e: its text asks for \"nope.sha\"",
    ] {
        assert!(all.contains(part), "{part} is not in:\n{all}");
    }
    let lines: Vec<u64> = told.iter().map(|text| text.split(':').nth(1).unwrap().parse().unwrap()).collect();
    assert!(lines.is_sorted(), "{all}");
}

#[test]
fn what_would_surprise_somebody_later_is_refused() {
    let with = |stages: &str| faults(&format!("policy: {{environments: {{dev: {{}}}}}}\nstages:\n{stages}"));
    for (stages, part) in [
        ("  a: {shell: [x], git: {repo: y}}", "a stage does one thing"),
        ("  a: {}", "say what it does"),
        ("  a: {shell: [x], rollback: undo}", "shell has no way back of its own"),
        ("  a: {kubernetes: {}, rollback: {banana: undo}}", "write `rollback: undo`"),
        ("  params: {shell: [x]}", "has a meaning in conditions"),
        ("  a: {needs: [a], shell: [x]}", "a (line 3) -> a (line 3)"),
        ("  a: {shell: [x]}\n  b: {needs: [a, a.done], shell: [x]}", "a is needed twice"),
        ("  a: {shell: [x], env: {PATH: /x}}", "cannot be set"),
        ("  a: {shell: [x], matrix: {n: []}}", "is a list of texts or numbers"),
        ("  a: {shell: [\"{matrix\"]}", "not closed"),
        ("  a: {shell: [x], resources: {mem: much}}", "this is a size"),
        ("  a: {shell: [x], when: \"params.enviroment == 'x'\"}", ""),
        ("  a: {shell: [x]}\n  a: {shell: [y]}", "stands here twice"),
        ("  a: {shell: [x]}\nfinally:\n  a: {shell: [x]}", "there is a stage a in line 3 already"),
        ("  a: {shell: [x], when: \"matrix.x == 1\"}", "3:6: a: when asks for matrix, and the stage has none"),
        ("  a: {approve: {}, skip_flag: S}", "nobody may leave out a stage that waits for people"),
        ("  a: {approve: {}, wait: 5m}", "a stage waits for one thing"),
        ("  a: {lock: {for: 5m}}", "the key \"why\" is missing"),
        ("  a: {needs: [z], shell: [x]}\nfinally:\n  z: {shell: [x]}", "nothing can need it"),
    ] {
        let told = with(stages).join("\n");
        assert!(told.contains(part), "{stages}: {told}");
    }
    assert!(faults("stages: {a: {shell: [x]}}")[0].contains("there is no policy"));
    let told = faults("triggers: [{irc: {channels: [\"#ops\"], params: {a: 1}}}]\npolicy: {environments: {dev: {checks: [{weather: fine}, {ci: {status: a, bad: 1}}]}}}\nstages: {a: {shell: [x]}}").join("\n");
    assert!(
        told.contains("1:39: there is no key \"params\" here")
            && told.contains("2:40: a check is a condition such as")
            && told.contains("ci: this is bad")
            && told.contains("dev asks for a of a commit, and there is no repo"),
        "{told}"
    );
    assert!(faults("params: {environment: {type: choice, of: [dev, prod]}}\npolicy: {environments: {dev: {}}}\nstages: {a: {shell: [x]}}")[0].contains("says nothing of it"));
    assert!(faults("").iter().any(|fault| fault.contains("no stages")));
}

#[test]
fn an_environment_that_names_no_flag_needs_the_deployers() {
    let shop = good("policy: {environments: {dev: {}}}\nstages: {a: {shell: [x]}}");
    let dev = shop.rules("dev").unwrap();
    assert_eq!(dev.flags.as_ref().map(ToString::to_string).as_deref(), Some("D|D"));
    assert!(dev.confirm);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_file_has_become_it_is_read_or_refused_with_a_place(
        cuts in proptest::collection::vec((0..WHOLE.len(), 0usize..12, "[ a-z{}:\\[\\]\",.?$#|-]{0,4}"), 1..5)
    ) {
        let mut text: Vec<char> = WHOLE.chars().collect();
        for (at, less, more) in cuts {
            let from = at.min(text.len());
            let to = (from + less).min(text.len());
            text.splice(from..to, more.chars());
        }
        let text: String = text.into_iter().collect();
        if let Err(faults) = parse(Path::new("shop.yaml"), &text, &executors()) {
            prop_assert!(!faults.is_empty());
            for fault in faults {
                prop_assert!(fault.spot.is_some() && !fault.message.is_empty(), "{fault:?}");
            }
        }
    }
}

#[test]
fn a_stage_that_undoes_the_run_undoes_itself_too_where_it_can() {
    let of = |stage: &str| {
        let whole = good(&format!("policy: {{environments: {{dev: {{}}}}}}\nstages:\n  a: {stage}\n"));
        whole.stages[0].rollback.clone()
    };
    assert_eq!(of("{kubernetes: {}, on_failure: rollback}"), Some(Undo::Own));
    assert_eq!(of("{shell: [x], on_failure: rollback}"), None);
    assert_eq!(of("{kubernetes: {}, rollback: {kubernetes: undo}}"), Some(Undo::Own));
}

#[test]
fn a_stage_with_nothing_in_it_is_told_once_whoever_needs_it() {
    for (text, line) in [
        (
            "app: shop\npolicy: {environments: {dev: {}}}\nstages:\n  test: {shell: [make, test], needs: [build]}\n  build:\n",
            5,
        ),
        (
            "app: shop\npolicy: {environments: {dev: {}}}\nstages:\n  build:\n  test: {shell: [make, test], needs: [build], when: \"build.state == 'succeeded'\"}\n",
            4,
        ),
        ("app: shop\npolicy: {environments: {dev: {}}}\nstages:\n  build:\n", 4),
    ] {
        let faults = parse(Path::new("shop.yaml"), text, &executors()).unwrap_err();
        let told: Vec<(u64, &str)> =
            faults.iter().map(|fault| (fault.spot.as_ref().unwrap().line, fault.message.as_str())).collect();
        assert_eq!(told, [(line, "build is a map of keys")], "{text}");
    }
}

#[test]
fn a_stage_wants_a_parameter_by_its_whole_name() {
    let wants = |settings: &str, rollback: &str| {
        let text = format!(
            "app: shop\npolicy: {{environments: {{dev: {{}}}}}}\nparams: {{key: {{type: string, secret: true}}, keyspace: {{type: string, default: a}}}}\nstages:\n  a: {{shell: {settings}, rollback: {{shell: {rollback}}}}}\n"
        );
        let pipeline = good(&text);
        (pipeline.stages[0].wants("key", false), pipeline.stages[0].wants("key", true))
    };
    assert_eq!(wants("[a, \"{params.keyspace}\"]", "[b, \"x-{params.key}-y\"]"), (false, true));
    assert_eq!(wants("[a, \"{params.key}\"]", "[b, params.key]"), (true, false));
}
