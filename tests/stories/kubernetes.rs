//! Rollouts on Kubernetes: the real `kubectl` against a double of the API, which kubectl itself has to accept first.

use std::time::Duration;

use masterchief::contract::Secret;
use masterchief::executors::{Class, End};
use serde_json::{Value, json};

use super::cluster::{World, done};
use super::steps::until;

#[test]
fn kubectl_itself_accepts_the_double() {
    let world = World::with(&[]);
    let manifest = |image: &str| {
        let path = world.bench.folder.path().join("api.yaml");
        let labels = json!({"app": "api"});
        let template =
            json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "api", "image": image}]}});
        let spec = json!({"replicas": 2, "progressDeadlineSeconds": 1, "selector": {"matchLabels": labels}, "template": template});
        let all = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "api"}, "spec": spec});
        std::fs::write(&path, all.to_string()).unwrap();
        path.display().to_string()
    };
    let apply = |image: &str| world.kubectl(&["apply", "--validate=false", "-f", &manifest(image)]);
    assert!(apply("api:1").contains("created"));
    assert!(world.kubectl(&["rollout", "status", "deployment/api"]).contains("successfully rolled out"));
    assert!(apply("api:2").contains("configured"));
    assert!(world.kubectl(&["rollout", "status", "deployment/api"]).contains("successfully rolled out"));
    assert!(world.kubectl(&["set", "image", "deployment/api", "api=api:bad"]).contains("image updated"));
    let (code, _, complaint) = world.kubectl_with(&["--namespace=web", "rollout", "status", "deployment/api"]);
    assert_eq!(code, Some(1));
    assert!(complaint.contains("exceeded its progress deadline"), "{complaint}");
    let names = world.kubectl(&["get", "pods", "-o", "jsonpath={.items[*].metadata.name}"]);
    let logs =
        names.split(' ').map(|pod| world.kubectl_with(&["--namespace=web", "logs", pod, "--previous", "--tail=50"]).1);
    assert!(logs.collect::<String>().contains("panic: missing env STRIPE_KEY"));
    assert!(world.kubectl(&["rollout", "undo", "deployment/api"]).contains("rolled back"));
    assert!(world.kubectl(&["rollout", "status", "deployment/api"]).contains("successfully rolled out"));
    let history = world.kubectl(&["rollout", "history", "deployment/api"]);
    let revisions: Vec<&str> = history.lines().filter_map(|line| line.split_whitespace().next()).skip(2).collect();
    assert_eq!(revisions, ["1", "3", "4"], "{history}");
    assert!(world.kubectl(&["rollout", "undo", "deployment/api", "--to-revision=4"]).contains("skipped rollback"));
    world.kubectl(&["rollout", "pause", "deployment/api"]);
    let (code, _, complaint) = world.kubectl_with(&["--namespace=web", "rollout", "undo", "deployment/api"]);
    assert!(code == Some(1) && complaint.contains("paused"), "{complaint}");
    for (context, verb, part) in
        [("nobody", "get", "(Unauthorized)"), ("reader", "delete", "(Forbidden)"), ("unproven", "get", "x509")]
    {
        let (code, _, complaint) =
            world.kubectl_with(&["--context", context, "--namespace=web", verb, "deployment", "api"]);
        assert!(code == Some(1) && complaint.contains(part), "{complaint}");
    }
}

#[tokio::test]
async fn an_image_is_rolled_out_with_its_cause_and_our_mark_in_the_history() {
    let world = World::new(4);
    world.set("ready=1");
    let (outputs, summary) = done(world.run(world.step("registry/shop:7", json!({"progress_deadline": "3m"}))).await);
    assert_eq!(summary, "4 pods of shop live as revision 2");
    assert_eq!((&outputs["revision"], &outputs["previous_revision"]), (&json!(2), &json!(1)));
    assert_eq!((&outputs["image"], &outputs["previous_image"]), (&json!("registry/shop:7"), &json!("registry/shop:6")));
    assert_eq!((&outputs["replicas"], outputs["pods"].as_array().unwrap().len()), (&json!(4), 4));
    assert_eq!(outputs["pods"][0]["phase"], "Running");
    assert_eq!(outputs["history"][0]["run"], "118/rollout/1");
    let shop = world.deployment("shop");
    let annotations = &shop["metadata"]["annotations"];
    assert_eq!(annotations["kubernetes.io/change-cause"], "MasterChief run 118 by ana: registry/shop:7");
    assert_eq!(annotations["masterchief/run"], "118/rollout/1");
    assert_eq!(shop["spec"]["progressDeadlineSeconds"], 180);
    assert_eq!(shop["spec"]["template"]["spec"]["containers"][0]["image"], "registry/shop:7");
    let history = world.kubectl(&["rollout", "history", "deployment/shop"]);
    assert!(history.contains("MasterChief run 118 by ana: registry/shop:7"), "{history}");
    assert_eq!(world.patches(), 1);
    assert!(world.told().iter().any(|words| words.ends_with("of 4 pods new and ready")), "{:?}", world.told());
    // The note before the patch says where to go back to.
    let notes = world.bench.notes.noted.lock().unwrap().clone();
    assert_eq!((&notes[0]["sent"], &notes[0]["revision"], &notes[1]["sent"]), (&json!(false), &json!(1), &json!(true)));
}

#[tokio::test]
async fn a_controller_that_lags_behind_is_not_believed() {
    let world = World::new(2);
    world.set("hold=1");
    let running = world.start(world.step("registry/shop:7", json!({})));
    until("the first look", || !world.told().is_empty()).await;
    // What it says meanwhile is all about the revision before, where every pod is well.
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(!running.is_finished());
    world.set("hold=0&lag=0.3");
    let (outputs, _) = done(running.await.unwrap());
    assert_eq!(outputs["revision"], 2);
    assert_eq!(world.told()[0], "the cluster has not taken it up yet");
    assert_eq!(world.deployment("shop")["status"]["observedGeneration"], 2);
}

#[tokio::test]
async fn a_crash_tells_its_decisive_line_and_who_serves_and_the_way_back_leads_to_what_was_there() {
    let world = World::new(12);
    let failure = world.failure(world.step("registry/shop:bad", json!({"progress_deadline": "1s"}))).await;
    assert_eq!(failure.class, Class::AppNotReady);
    assert_eq!(failure.line, "progress deadline exceeded after 1s: the new pods crash (CrashLoopBackOff)");
    let [pod, serves] = failure.world.as_slice() else { panic!("{:?}", failure.world) };
    assert!(pod.starts_with("shop-"), "{pod}");
    assert!(pod.ends_with(" CrashLoopBackOff x4: panic: missing env STRIPE_KEY (main.rs:88)"), "{pod}");
    // Three of twelve may be away, three more may be there.
    assert_eq!(serves, "6 of 12 pods are new and failing, 9 old ones serve");
    let log = world.bench.log();
    assert!(log.contains("| reading the configuration\n| panic: missing env STRIPE_KEY (main.rs:88)"), "{log}");

    let (outputs, summary) = done(world.undo(world.step("registry/shop:bad", json!({}))).await);
    assert_eq!(summary, "shop is back at registry/shop:6, now revision 3; all 12 pods serve");
    assert_eq!((&outputs["revision"], &outputs["image"]), (&json!(3), &json!("registry/shop:6")));
    let history = world.kubectl(&["rollout", "history", "deployment/shop"]);
    assert!(history.contains("back to revision 1 (registry/shop:6)"), "{history}");
    assert_eq!(world.patches(), 2);

    let (_, summary) = done(world.undo(world.step("registry/shop:bad", json!({}))).await);
    assert!(summary.starts_with("shop is back at registry/shop:6"), "{summary}");
    // A second rollback by somebody else.
    let (_, summary) = done(world.run(world.step("x", json!({"image": null, "undo": 3}))).await);
    assert!(summary.contains("registry/shop:6"), "{summary}");
    assert_eq!(world.patches(), 2);
}

#[tokio::test]
async fn going_back_to_where_it_is_changes_nothing() {
    let world = World::new(2);
    let (_, summary) = done(world.run(world.step("x", json!({"image": null, "undo": 1}))).await);
    assert_eq!(summary, "shop is already at revision 1 (registry/shop:6)");
    let End::Failed(failure) = world.run(world.step("x", json!({"image": null, "undo": true}))).await else { panic!() };
    assert_eq!(failure.class, Class::Config);
    assert_eq!(failure.line, "a revision before this one is not in the history of shop (there are: 1)");
    assert_eq!(world.patches(), 0);
}

#[tokio::test]
async fn the_revision_before_is_found_without_a_note_and_a_failed_way_back_says_so() {
    let world = World::new(2);
    done(world.run(world.step("registry/shop:7", json!({}))).await);
    world.bench.notes.noted.lock().unwrap().clear();
    let (_, summary) = done(world.undo(world.step("registry/shop:7", json!({}))).await);
    assert_eq!(summary, "shop is back at registry/shop:6, now revision 3; all 2 pods serve");
    world.bench.notes.noted.lock().unwrap().clear();
    let mut step = world.step("registry/shop:bad", json!({"progress_deadline": "1s"}));
    step.run = 119;
    world.failure(step).await;
    world.bench.notes.noted.lock().unwrap().clear();
    let mut step = world.step("registry/shop:8", json!({}));
    step.run = 120;
    done(world.run(step.clone()).await);
    step.settings = json!({"context": "prod", "deployment": "shop", "undo": 4});
    step.noted = None;
    let End::Failed(failure) = world.undo(step).await else { panic!() };
    assert_eq!(failure.class, Class::AppNotReady);
    let begins = "the way back to registry/shop:bad failed too: progress deadline exceeded after 1s";
    assert!(failure.line.starts_with(begins), "{}", failure.line);
}

#[tokio::test]
async fn an_image_that_cannot_be_pulled_is_the_reason() {
    let world = World::new(4);
    let failure = world.failure(world.step("registry/shop:nopull", json!({"progress_deadline": "1s"}))).await;
    assert_eq!(failure.class, Class::AppNotReady);
    assert!(failure.line.contains("the image cannot be pulled (ImagePullBackOff)"), "{}", failure.line);
    let pod = " ImagePullBackOff: Back-off pulling image \"registry/shop:nopull\": manifest unknown";
    assert!(failure.world[0].ends_with(pod), "{:?}", failure.world);
    assert_eq!(failure.world[1], "2 of 4 pods are new and failing, 3 old ones serve");
}

#[tokio::test]
async fn a_probe_that_does_not_pass_is_told_with_what_the_pod_says() {
    let world = World::new(1);
    let failure = world.failure(world.step("registry/shop:unready", json!({"progress_deadline": "1s"}))).await;
    assert!(failure.line.ends_with("their readiness probe does not pass"), "{}", failure.line);
    let pod = "not ready: cannot reach the database at db:5432: connection refused";
    assert!(failure.world[0].ends_with(pod), "{:?}", failure.world);
}

#[tokio::test]
async fn each_refusal_has_its_class_and_its_sentence() {
    let world = World::new(1);
    for (more, class, part) in [
        (
            json!({"context": "reader"}),
            Class::Auth,
            "reader may not patch deployments in namespace web of cluster reader",
        ),
        (json!({"context": "nobody"}), Class::Auth, "cluster nobody does not know who we are (401)"),
        (json!({"context": "anybody"}), Class::Auth, "the kubeconfig has no credentials for cluster anybody"),
        (json!({"context": "unproven"}), Class::Network, "certificate of cluster unproven is not trusted"),
        (json!({"context": "lost"}), Class::Config, "the kubeconfig has no context for cluster lost"),
        (json!({"context": "away"}), Class::Network, "the API of cluster away cannot be reached"),
        (json!({"context": "mars"}), Class::Config, "no cluster mars is configured"),
        (json!({"deployment": "ship"}), Class::Config, "there is no deployment ship in cluster prod"),
        (json!({"namespace": "moon"}), Class::Config, "there is no namespace moon of cluster prod"),
        (
            json!({"weight": 10}),
            Class::Config,
            "there is no deployment shop-canary in cluster prod; a canary needs one",
        ),
        (json!({"container": "db"}), Class::Config, "there is no container db; there are shop"),
    ] {
        let failure = world.failure(world.step("registry/shop:7", more.clone())).await;
        assert_eq!(failure.class, class, "{more}: {}", failure.line);
        assert!(failure.line.contains(part), "{more}: {}", failure.line);
        assert!(!failure.line.contains('\n'));
    }
    let mut step = world.step("registry/shop:7", json!({}));
    step.env.push(("PATH".to_owned(), Secret::new("/nowhere")));
    let failure = world.failure(step).await;
    assert_eq!((failure.class, failure.line.contains("kubectl is not installed here")), (Class::Config, true));
    assert_eq!(world.deployment("shop")["metadata"]["generation"], 1);
}

#[tokio::test]
async fn a_bot_that_starts_again_makes_no_second_patch() {
    let world = World::new(4);
    world.set("hold=1");
    let first = world.start(world.step("registry/shop:7", json!({})));
    until("the patch", || world.patches() == 1).await;
    until("the first look", || !world.told().is_empty()).await;
    // As if the bot had died.
    first.abort();
    let _ = first.await;
    world.set("hold=0");
    let (outputs, _) = done(world.run(world.step("registry/shop:7", json!({}))).await);
    assert_eq!((world.patches(), &world.deployment("shop")["metadata"]["generation"]), (1, &json!(2)));
    assert_eq!(outputs["previous_image"], "registry/shop:6");
    // Nor if it died between the patch and the note that tells of it.
    world.bench.notes.noted.lock().unwrap().pop();
    done(world.run(world.step("registry/shop:7", json!({}))).await);
    assert_eq!(world.patches(), 1);
}

#[tokio::test]
async fn a_bot_that_starts_again_goes_back_only_once() {
    let world = World::new(4);
    done(world.run(world.step("registry/shop:7", json!({}))).await);
    world.set("hold=1");
    let step = world.step("registry/shop:7", json!({}));
    let first = tokio::spawn(world.bench.executors["kubernetes"].undo(step, world.bench.hands()));
    until("the patch", || world.patches() == 2).await;
    first.abort();
    let _ = first.await;
    world.set("hold=0");
    let (outputs, summary) = done(world.undo(world.step("registry/shop:7", json!({}))).await);
    assert_eq!(summary, "shop is back at registry/shop:6, now revision 3; all 4 pods serve");
    assert_eq!((world.patches(), &outputs["revision"]), (2, &json!(3)));
}

#[tokio::test]
async fn a_secret_in_the_log_of_a_pod_is_hidden_everywhere() {
    let mut world = World::new(1);
    world.bench.secrets.push(Secret::new("STRIPE_KEY"));
    let failure = world.failure(world.step("registry/shop:bad", json!({"progress_deadline": "1s"}))).await;
    assert!(failure.world[0].ends_with("panic: missing env *** (main.rs:88)"), "{:?}", failure.world);
    let log = world.bench.log();
    assert!(log.contains("missing env ***") && !log.contains("STRIPE"), "{log}");
}

#[tokio::test]
async fn stopping_leaves_the_rollout_to_the_cluster_and_says_so() {
    let world = World::new(4);
    let running = world.start(world.step("registry/shop:slow", json!({})));
    until("the first look", || !world.told().is_empty()).await;
    world.bench.stop.send_replace(true);
    let end = tokio::time::timeout(Duration::from_secs(2), running).await.expect("it ends soon").unwrap();
    assert_eq!(end, End::Stopped);
    assert!(world.bench.log().contains("The rollout of shop goes on in the cluster"), "{}", world.bench.log());
    assert_eq!(world.deployment("shop")["spec"]["template"]["spec"]["containers"][0]["image"], "registry/shop:slow");
}

#[tokio::test]
async fn a_paused_deployment_is_neither_changed_nor_taken_back() {
    let world = World::new(2);
    done(world.run(world.step("registry/shop:7", json!({}))).await);
    world.kubectl(&["rollout", "pause", "deployment/shop"]);
    let patches = world.patches();
    let mut step = world.step("registry/shop:8", json!({}));
    (step.run, step.noted) = (119, None);
    let failure = world.failure(step).await;
    assert_eq!(failure.class, Class::Config);
    assert!(failure.line.contains("run kubectl rollout resume deployment/shop"), "{}", failure.line);
    let End::Failed(failure) = world.undo(world.step("registry/shop:7", json!({}))).await else { panic!() };
    assert!(failure.line.contains("is paused and cannot go back"), "{}", failure.line);
    assert_eq!(world.patches(), patches);
}

#[tokio::test]
async fn an_api_that_stumbles_while_it_is_watched_fails_nothing() {
    let world = World::new(2);
    world.set("hold=1");
    let running = world.start(world.step("registry/shop:7", json!({})));
    until("the first look", || !world.told().is_empty()).await;
    world.set("fail=3&hold=0");
    done(running.await.unwrap());
    assert!(world.bench.log().contains("it is looked at again"), "{}", world.bench.log());
}

#[tokio::test]
async fn somebody_else_who_rolls_out_meanwhile_is_named_and_not_taken_for_us() {
    let world = World::new(2);
    let running = world.start(world.step("registry/shop:slow", json!({})));
    until("the first look", || !world.told().is_empty()).await;
    world.kubectl(&["set", "image", "deployment/shop", "shop=registry/shop:9"]);
    let End::Failed(failure) = running.await.unwrap() else { panic!() };
    assert_eq!(failure.class, Class::Cancelled);
    assert_eq!(failure.line, "somebody else changed shop meanwhile: it gets registry/shop:9");
}

#[tokio::test]
async fn a_second_attempt_starts_new_pods_and_still_knows_the_good_revision() {
    let world = World::new(2);
    world.failure(world.step("registry/shop:bad", json!({"progress_deadline": "1s"}))).await;
    let mut step = world.step("registry/shop:bad", json!({"progress_deadline": "1s"}));
    (step.attempt, step.noted) = (2, None);
    world.failure(step).await;
    let revision = &world.deployment("shop")["metadata"]["annotations"]["deployment.kubernetes.io/revision"];
    assert_eq!(revision, "3");
    let mut step = world.step("registry/shop:bad", json!({}));
    step.attempt = 2;
    let (outputs, _) = done(world.undo(step).await);
    assert_eq!(outputs["image"], "registry/shop:6");
}

#[tokio::test]
async fn without_a_note_earlier_attempts_are_no_way_back_and_what_others_set_stays() {
    let world = World::new(2);
    for attempt in [1, 2] {
        let mut step = world.step("registry/shop:bad", json!({"progress_deadline": "1s"}));
        (step.attempt, step.noted) = (attempt, None);
        world.failure(step).await;
    }
    let undoing = |image: &str, attempt: u32| {
        let mut step = world.step(image, json!({}));
        (step.run, step.attempt, step.noted) = (132, attempt, None);
        step
    };
    let End::Failed(failure) = world.undo(undoing("registry/shop:7", 1)).await else { panic!() };
    assert_eq!(failure.class, Class::Config);
    let line = "shop runs registry/shop:bad and not registry/shop:7, so there is nothing of this stage to undo";
    assert_eq!(failure.line, line);
    let (outputs, _) = done(world.undo(undoing("registry/shop:bad", 1)).await);
    assert_eq!(outputs["image"], "registry/shop:6");
    let (_, summary) = done(world.undo(undoing("registry/shop:bad", 2)).await);
    assert!(summary.starts_with("shop is already at revision"), "{summary}");
}

#[tokio::test]
async fn what_somebody_else_rolled_out_since_is_not_taken_back() {
    let world = World::new(1);
    done(world.run(world.step("registry/shop:7", json!({}))).await);
    world.kubectl(&["set", "image", "deployment/shop", "shop=registry/shop:9"]);
    world.kubectl(&["rollout", "status", "deployment/shop"]);
    let End::Failed(failure) = world.undo(world.step("registry/shop:7", json!({}))).await else { panic!() };
    let line = "shop runs registry/shop:9 and not registry/shop:7, so there is nothing of this stage to undo";
    assert_eq!((failure.class, failure.line.as_str()), (Class::Config, line));
    // What somebody has taken back already is where it should be.
    world.kubectl(&["rollout", "undo", "deployment/shop", "--to-revision=1"]);
    world.kubectl(&["rollout", "status", "deployment/shop"]);
    let (_, summary) = done(world.undo(world.step("registry/shop:7", json!({}))).await);
    assert_eq!(summary, "shop is already at revision 4 (registry/shop:6)");
}

#[tokio::test]
async fn a_step_that_never_changed_anything_has_nothing_to_undo() {
    let world = World::new(1);
    world.set("fail=100");
    world.failure(world.step("registry/shop:7", json!({}))).await;
    world.set("fail=0");
    let note = json!({"back": false, "sent": false, "deployment": "shop", "set": null, "revision": 1, "images": {}, "replicas": 1});
    let mut step = world.step("registry/shop:7", json!({}));
    step.noted = Some(note);
    let (_, summary) = done(world.undo(step).await);
    assert_eq!(summary, "shop was not changed, so there is nothing to undo");
    assert_eq!(world.patches(), 0);
}

#[tokio::test]
async fn whoever_may_not_see_pods_still_hears_who_serves() {
    let world = World::new(4);
    let settings = json!({"context": "deployer", "progress_deadline": "1s"});
    let failure = world.failure(world.step("registry/shop:bad", settings)).await;
    assert_eq!(failure.class, Class::AppNotReady);
    assert_eq!(failure.world, ["2 of 4 pods are new and failing, 3 old ones serve"]);
    assert!(world.bench.log().contains("deployer may not list pods in namespace web"), "{}", world.bench.log());
}

/// The rules of the Role that is documented.
fn role() -> Vec<Value> {
    let text = include_str!("../../examples/kubernetes-role.yaml");
    let role: Value = serde_saphyr::from_str(text.split("\n---").next().unwrap()).unwrap();
    role["rules"].as_array().unwrap().clone()
}

/// What a crash and the way back say to whoever has these rules.
async fn crash_and_back(rules: &[Value]) -> (String, String) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), Value::from(rules.to_vec()).to_string()).unwrap();
    let path = file.path().display().to_string();
    let world = World::with(&["--rules", &path, "--deployment", "shop=registry/shop:6*2@web"]);
    let settings = json!({"context": "role", "progress_deadline": "1s"});
    let crashed = world.run(world.step("registry/shop:bad", settings.clone())).await;
    let back = world.undo(world.step("registry/shop:bad", settings)).await;
    (format!("{crashed:?} {back:?}"), world.bench.log())
}

#[tokio::test]
async fn the_role_that_is_documented_is_enough_and_none_of_it_is_too_much() {
    let (said, log) = crash_and_back(&role()).await;
    assert!(said.contains("STRIPE_KEY") && said.contains("shop is back at registry/shop:6"), "{said}");
    assert!(!said.contains("(403)") && !log.contains("(403)"), "{log}");
    let role = role();
    let without = role
        .iter()
        .enumerate()
        .flat_map(|(at, rule)| rule["verbs"].as_array().unwrap().iter().map(move |verb| (at, verb.as_str().unwrap())));
    let each = without.map(async |(at, verb)| {
        let mut less = role.clone();
        less[at]["verbs"].as_array_mut().unwrap().retain(|one| one != verb);
        let (said, log) = crash_and_back(&less).await;
        let wanted = format!("may not {verb} ");
        assert!(said.contains(&wanted) || log.contains(&wanted), "{} without {verb}: {said}\n{log}", role[at]);
    });
    futures_util::future::join_all(each).await;
}

#[tokio::test]
async fn a_rollout_that_sticks_says_what_ails_its_pods_before_the_deadline() {
    let world = World::new(2);
    let running = world.start(world.step("registry/shop:bad", json!({})));
    until("a word about the crash", || world.told().iter().any(|words| words.ends_with(" CrashLoopBackOff x4"))).await;
    world.bench.stop.send_replace(true);
    assert_eq!(running.await.unwrap(), End::Stopped);
}

#[tokio::test]
async fn a_canary_gets_its_share_of_the_pods_and_loses_it_again() {
    let world = World::with(&[
        "--deployment",
        "shop=registry/shop:6*12@web",
        "--deployment",
        "shop-canary=registry/shop:6*0@web",
    ]);
    let settings = json!({"weight": 10, "container": "shop-canary"});
    let (outputs, summary) = done(world.run(world.step("registry/shop:7", settings.clone())).await);
    assert_eq!((summary.as_str(), &outputs["replicas"]), ("2 pods of shop-canary live as revision 2", &json!(2)));
    assert_eq!(world.deployment("shop")["metadata"]["generation"], 1);
    let (outputs, _) = done(world.undo(world.step("registry/shop:7", settings)).await);
    assert_eq!((&outputs["replicas"], &outputs["image"]), (&json!(0), &json!("registry/shop:6")));
}

#[test]
fn kubectl_would_apply_the_manifests_that_are_shipped() {
    let world = World::with(&[]);
    let apply = |file: &str| {
        let path = format!("{}/examples/{file}", env!("CARGO_MANIFEST_DIR"));
        let words = ["apply", "--dry-run=client", "--validate=false", "-f", &path, "-o", "name"];
        let (code, out, complaint) = world.kubectl_with(&words);
        assert_eq!(code, Some(0), "{complaint}");
        out.lines().map(|line| line.split('/').next().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    let all = "namespace configmap secret persistentvolumeclaim deployment.apps service";
    assert_eq!(apply("run/kubernetes.yaml"), all);
    let all = "role.rbac.authorization.k8s.io rolebinding.rbac.authorization.k8s.io";
    assert_eq!(apply("kubernetes-role.yaml"), all);
}

#[test]
fn settings_are_checked_against_the_clusters_there_are() {
    let world = World::with(&[]);
    let check = |context: &str| {
        let executors = masterchief::executors::executors(&world.settings);
        executors["kubernetes"].check(&json!({"context": context, "deployment": "shop", "image": "{build.image}"}))
    };
    assert!(check("prod").is_empty() && check("{environment}").is_empty());
    assert_eq!(check("mars")[0].0, "context");
}
