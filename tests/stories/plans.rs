//! A plan of infrastructure as people meet it: its counts and its code in the channel, an agreement to exactly that plan, and that plan
//! applied.

use std::path::{Path, PathBuf};

use masterchief::bot::{Bot, CHANNEL, TestBot};
use masterchief::pipelines::Settings;
use serde_json::{Value, json};

use super::steps::eventually;
use super::terraform::path;

/// A bot that ships `infra` with a double of OpenTofu, which does what `double.json` in a folder says.
async fn infra(dir: &Path, told: Value) -> TestBot {
    infra_with(dir, told, "").await
}

/// The same with more keys in the stage that applies.
async fn infra_with(dir: &Path, told: Value, more: &str) -> TestBot {
    let source = dir.join("infra");
    std::fs::create_dir_all(&source).unwrap();
    std::fs::write(source.join("double.json"), told.to_string()).unwrap();
    let settings = Settings { folder: "".into(), ..Settings::default() };
    let supervisor = Path::new(env!("CARGO_BIN_EXE_masterchief"));
    let bot = Bot::builder().supervisor(supervisor).pipelines(settings);
    let test = TestBot::start(bot).await.unwrap();
    drop(path(dir));
    let text = format!(
        "app: infra\npolicy: {{environments: {{prod: {{confirm: never, require_flag: d}}}}}}\nstages:\n  get: {{shell: [cp, -r, \"{dir}/infra\", infra]}}\n  apply: {{needs: [get], terraform: {{dir: infra, binary: \"{dir}/bin/tofu\"}}{more}}}\n",
        dir = dir.display()
    );
    test.started().put_pipeline("infra", &text).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
    for nick in ["ana", "raj"] {
        test.user(nick).with_flags("+d");
    }
    test
}

/// Whether an attempt to plan and apply began this command.
fn began(test: &TestBot, attempt: u32, command: &str) -> bool {
    test.started().pipelines().folder().join(format!("1/apply/{attempt}/{command}.pid")).exists()
}

/// The code of the plan in the line that asks for an agreement.
fn code(line: &str) -> String {
    line.split("!approve 1 ").nth(1).unwrap().split(' ').next().unwrap().to_owned()
}

/// The saved plan, wherever the attempt that planned keeps it.
fn saved(test: &TestBot) -> PathBuf {
    test.started().pipelines().folder().join("1/apply/1/plan.tfplan")
}

#[tokio::test]
async fn a_plan_is_shown_with_its_counts_agreed_to_by_its_code_and_only_that_plan_is_applied() {
    let dir = tempfile::tempdir().unwrap();
    let changes = json!([["create", "aws_instance.web"], ["create", "aws_eip.web"], ["update", "aws_lb.front"]]);
    let test = infra(dir.path(), json!({"changes": changes, "seconds": 0.1})).await;
    test.user("ana").says(CHANNEL, "!deploy infra to prod").await;
    let line = test.expect(CHANNEL, "[1] infra the newest -> prod by ana needs 1 approval").await;
    let code = code(&line);
    assert!(line.contains(&format!("Plan: 2 add, 1 change, 0 destroy (plan {code}).")), "{line}");
    assert!(line.contains("not ana"), "{line}");
    assert!(began(&test, 1, "plan") && !began(&test, 1, "apply"));
    test.user("ana").says(CHANNEL, &format!("!approve 1 {code}")).await;
    test.expect(CHANNEL, "the one who asked cannot approve 1").await;
    test.user("raj").says(CHANNEL, "!approve 1 zzzz").await;
    test.expect(CHANNEL, "that is not the code of what is shown now").await;
    assert!(!began(&test, 2, "apply"));
    test.user("raj").says(CHANNEL, &format!("!approve 1 {code}")).await;
    test.expect(CHANNEL, "raj").await;
    test.expect(CHANNEL, "[1] infra the newest is live on prod").await;
    assert!(began(&test, 2, "apply") && !began(&test, 2, "plan"));
    let (_, stages) = test.started().pipelines().run(1).await.unwrap().unwrap();
    let apply = stages.iter().find(|one| one.name == "apply").unwrap();
    assert_eq!((apply.attempt, &apply.outputs["add"], &apply.outputs["change"]), (2, &json!(2), &json!(1)));
    let log = test.started().pipelines().tail(1, Some("apply"), 100).await.unwrap().1.join("\n");
    assert!(log.contains("aws_instance.web: complete"), "{log}");
    test.stop().await;
}

#[tokio::test]
async fn a_plan_that_is_not_the_one_people_saw_is_never_applied() {
    let dir = tempfile::tempdir().unwrap();
    let test = infra(dir.path(), json!({"changes": [["create", "aws_instance.web"]]})).await;
    test.user("ana").says(CHANNEL, "!deploy infra to prod").await;
    let code = code(&test.expect(CHANNEL, "needs 1 approval").await);
    std::fs::write(saved(&test), json!([["delete", "aws_db.orders"]]).to_string()).unwrap();
    test.user("raj").says(CHANNEL, &format!("!approve 1 {code}")).await;
    test.expect(CHANNEL, "[1] infra the newest -> prod FAILED in apply").await;
    assert!(!began(&test, 1, "apply") && !began(&test, 2, "apply"));
    test.stop().await;
}

#[tokio::test]
async fn a_plan_that_changes_nothing_asks_nobody_and_one_that_is_refused_is_not_applied() {
    let dir = tempfile::tempdir().unwrap();
    let test = infra(dir.path(), json!({"changes": []})).await;
    test.user("ana").says(CHANNEL, "!deploy infra to prod").await;
    test.expect(CHANNEL, "[1] infra the newest is live on prod").await;
    test.stop().await;
    let dir = tempfile::tempdir().unwrap();
    let test = infra(dir.path(), json!({"changes": [["create", "aws_instance.web"]]})).await;
    test.user("ana").says(CHANNEL, "!deploy infra to prod").await;
    test.expect(CHANNEL, "needs 1 approval").await;
    test.user("raj").says(CHANNEL, "!reject 1 not on a Friday").await;
    eventually("the end", async || test.started().pipelines().run(1).await.unwrap().unwrap().0.state.ended()).await;
    assert!(!began(&test, 1, "apply") && !began(&test, 2, "apply"));
    test.stop().await;
}

#[tokio::test]
async fn what_proves_a_change_good_is_asked_once_it_is_made() {
    let dir = tempfile::tempdir().unwrap();
    // Nothing answers there before the change, nor after it.
    let health = ", health: {url: \"http://127.0.0.1:1/\", times: 1, every: 100ms, within: 300ms}";
    let test = infra_with(dir.path(), json!({"changes": [["create", "aws_lb.front"]]}), health).await;
    test.user("ana").says(CHANNEL, "!deploy infra to prod").await;
    let line = test.expect(CHANNEL, "[1] infra the newest -> prod by ana needs 1 approval").await;
    let code = code(&line);
    test.user("raj").says(CHANNEL, &format!("!approve 1 {code}")).await;
    let found =
        async || test.transcript().iter().any(|line| line.contains("[1] infra the newest -> prod FAULTY in apply"));
    eventually("it does not prove good", found).await;
    assert!(began(&test, 2, "apply"));
    test.stop().await;
}

#[tokio::test]
async fn a_plan_that_changes_outputs_only_is_agreed_to_and_applied_too() {
    let dir = tempfile::tempdir().unwrap();
    let test = infra(dir.path(), json!({"changes": [], "outputs": true})).await;
    test.user("ana").says(CHANNEL, "!deploy infra to prod").await;
    let line = test.expect(CHANNEL, "[1] infra the newest -> prod by ana needs 1 approval").await;
    let code = code(&line);
    assert!(line.contains(&format!("Plan: only outputs change (plan {code}).")), "{line}");
    assert!(!began(&test, 2, "apply"));
    test.user("raj").says(CHANNEL, &format!("!approve 1 {code}")).await;
    test.expect(CHANNEL, "[1] infra the newest is live on prod").await;
    assert!(began(&test, 2, "apply"));
    test.stop().await;
}
