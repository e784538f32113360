//! What is tried again or undone: what never began, with which commit, and with which files.

use std::path::Path;
use std::time::Duration;

use masterchief::bot::{Bot, CHANNEL, Started, TestBot};
use masterchief::pipelines::{Ask, Asked, Asker, DeployWords, May, Run, RunState, Settings, StageRun};
use serde_json::{Map, json};

use super::acted::Acted;
use super::checkout::Origin;
use super::deploys::{builder, stop, with};

const SECOND: Duration = Duration::from_secs(1);

const ASKING: &str = r##"
app: shop
policy:
  environments:
    dev: { confirm: always, require_flag: d }
    prod: { confirm: never, require_flag: d, approvals: { count: 1, from: [lee] } }
    stage: { confirm: never, require_flag: d }
    shut: { confirm: never, require_flag: d, windows: [{ days: daily, from: "02:00", to: "03:00" }], emergency: { count: 1, from: [lee] } }
stages: { rollout: { acted: { takes: 60s } } }
"##;

#[tokio::test(start_paused = true)]
async fn what_was_aborted_before_it_began_is_asked_for_again_and_never_tried_again() {
    let (test, acted) = with(ASKING).await;
    let kim = test.user("kim");
    kim.says(CHANNEL, "!deploy shop/v1 to stage").await;
    test.expect(CHANNEL, "[1] shop v1 -> stage started").await;
    for (number, words, waits) in [
        (2, "!deploy shop/v2 to dev", RunState::AwaitingConfirm),
        (3, "!deploy shop/v2 to prod", RunState::AwaitingApproval),
        (4, "!deploy shop/v2 to stage", RunState::Queued),
        (5, "!deploy! shop/v2 to shut it burns", RunState::AwaitingApproval),
    ] {
        kim.says(CHANNEL, words).await;
        test.advance(SECOND).await;
        assert_eq!(super::deploys::state(&test, number).await, waits, "{words}");
        kim.says(CHANNEL, &format!("!abort {number}")).await;
        test.expect(CHANNEL, &format!("[{number}] shop v2 -> ")).await;
        kim.says(CHANNEL, &format!("!retry {number}")).await;
        test.expect(CHANNEL, &format!("kim: run {number} never began; ask again: !again {number}")).await;
        kim.says(CHANNEL, &format!("!rollback {number}")).await;
        test.advance(SECOND).await;
        assert_eq!(super::deploys::state(&test, number).await, RunState::Cancelled);
    }
    test.advance(120 * SECOND).await;
    assert_eq!(acted.done(), ["rollout#1"], "nothing of what was aborted ran");
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn before_anything_changed_no_way_back_is_offered_or_promised() {
    let text = "app: shop\nparams: {bad: {type: int, default: 0}}\npolicy: {environments: {dev: {confirm: never, require_flag: \"-\", rollback: {mode: offer, auto_after: 5m}}}}\nstages:\n  test: {acted: {fails: \"{params.bad}\", line: it broke}}\n  rollout: {needs: [test], acted: {}, rollback: undo}\n";
    let (test, _) = with(text).await;
    test.user("kim").says(CHANNEL, "!deploy shop/v1").await;
    test.expect(CHANNEL, "[1] shop v1 is live").await;
    test.user("kim").says(CHANNEL, "!deploy shop/v2 bad=1").await;
    let line = test.expect(CHANNEL, "!retry 2 test | !tail 2 | leave").await;
    assert!(!line.contains("rollback") && !line.contains("roll back"), "{line}");
    assert!(line.starts_with("[2] dev still has v1. kim: "), "{line}");
    test.advance(400 * SECOND).await;
    assert_eq!(super::deploys::state(&test, 2).await, RunState::Failed, "nothing was there to undo");
    stop(&test).await;
}

const ROLES: &str = "app: shop\nparams: {bad: {type: int, default: 0}}\npolicy: {environments: {dev: {confirm: never, require_flag: d, approvals: {count: 1, from: [FROM]}}}}\nstages: {rollout: {acted: {fails: \"{params.bad}\"}}}\n";

#[tokio::test(start_paused = true)]
async fn who_may_no_more_since_a_run_began_may_not_in_that_run_either() {
    let dir = tempfile::tempdir().unwrap();
    let write = |text: &str| std::fs::write(dir.path().join("shop.yaml"), text).unwrap();
    write(&ROLES.replace("FROM", "lee, raj"));
    let acted = Acted::default();
    let settings = Settings { folder: dir.path().to_owned(), ..Settings::default() };
    let test = TestBot::start(builder(&acted).pipelines(settings)).await.unwrap();
    for (nick, flags) in [("raj", "+dD"), ("kim", "+d"), ("lee", "+D")] {
        test.user(nick).with_flags(flags);
    }
    let (kim, lee) = (test.user("kim"), test.user("lee"));
    kim.says(CHANNEL, "!deploy shop/v1 bad=1").await;
    let line = test.expect(CHANNEL, "[1] shop v1 -> dev by kim needs 1 approval").await;
    let code = line.split("!approve 1 ").nth(1).unwrap()[..4].to_owned();
    write(&ROLES.replace("FROM", "raj").replace(": d,", ": D,"));
    assert!(test.started().pipelines().reload(None).await.is_empty());
    lee.says(CHANNEL, &format!("!approve 1 {code}")).await;
    test.expect(CHANNEL, "lee: 1 needs somebody of raj").await;
    test.user("raj").says(CHANNEL, "!approve 1 ffff0").await;
    let line = test.expect(CHANNEL, "raj: that is not the code of what is shown now").await;
    assert!(line.contains("!run 1 shows it") && !line.contains(&code), "{line}");
    test.user("raj").says(CHANNEL, "!run 1").await;
    test.expect(CHANNEL, &format!("!approve 1 {code}")).await;
    test.user("raj").says(CHANNEL, &format!("!approve 1 {code}")).await;
    test.advance(5 * SECOND).await;
    test.expect(CHANNEL, "[1] shop v1 -> dev FAILED in rollout").await;
    kim.says(CHANNEL, "!retry 1").await;
    test.expect(CHANNEL, "kim: you may not deploy shop to dev (needs flag D").await;
    test.user("raj").says(CHANNEL, "!retry 1").await;
    test.advance(5 * SECOND).await;
    assert_eq!(acted.done(), ["rollout#1", "rollout#2"]);
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn who_is_not_known_asks_for_nothing_that_somebody_else_has_to_agree_to() {
    let open = ROLES.replace("FROM", "lee").replace("require_flag: d", "require_flag: \"-\"");
    let (test, acted) = with(&open).await;
    // Who that is nobody can tell: it may be lee, who would agree to it.
    test.user("stranger").says(CHANNEL, "!deploy shop/v1").await;
    test.expect(CHANNEL, "stranger: somebody else has to agree to it, so log in to services first").await;
    test.advance(5 * SECOND).await;
    assert!(acted.done().is_empty());
    stop(&test).await;
}

/// A bot with real commands, and the folder where it keeps what is its.
async fn real(pipeline: &str) -> (Started, tempfile::TempDir) {
    let data = tempfile::tempdir().unwrap();
    let supervisor = Path::new(env!("CARGO_BIN_EXE_masterchief"));
    let settings = Settings { folder: "".into(), ..Settings::default() };
    let bot = Bot::builder().data(data.path()).supervisor(supervisor).pipelines(settings).start().await.unwrap();
    bot.put_pipeline("shop", pipeline).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
    (bot, data)
}

fn ana() -> Asker {
    Asker { handle: "ana".to_owned(), nick: "ana".to_owned(), ..Asker::default() }
}

async fn ask(bot: &Started, ask: Ask) -> Option<i64> {
    bot.pipelines().ask(Asked { ask, who: ana(), may: May::all() }).await.unwrap().run
}

async fn deploy(bot: &Started) -> i64 {
    let words = DeployWords { app: "shop".to_owned(), reference: Some("main".to_owned()), ..DeployWords::default() };
    let prepared = bot.pipelines().prepare(words, Map::new(), (&ana(), &May::all())).await.unwrap();
    ask(bot, Ask::Deploy(Box::new(prepared))).await.unwrap()
}

async fn ended(bot: &Started, number: i64) -> (Run, Vec<StageRun>) {
    bot.pipelines().ended(number).await.unwrap().unwrap()
}

#[tokio::test]
async fn what_is_checked_out_is_the_commit_that_was_shown_though_somebody_pushed_since() {
    let origin = Origin::new();
    let text = format!(
        "app: shop\nrepo: {}\nparams: {{ref: {{type: ref, default: main}}}}\npolicy: {{environments: {{dev: {{confirm: always}}}}}}\nstages: {{checkout: {{git: {{repo: \"{{repo}}\", ref: \"{{ref}}\"}}}}}}\n",
        origin.path()
    );
    let (bot, _data) = real(&text).await;
    for after in ["push", "push by force", "delete"] {
        let shown = origin.commit("a", after, "What people agree to");
        let number = deploy(&bot).await;
        match after {
            "push" => _ = origin.commit("a", &format!("evil {after}"), "What nobody saw"),
            "push by force" => {
                origin.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
                origin.commit("a", &format!("evil {after}"), "What nobody saw");
            }
            _ => {
                origin.git(&["reset", "--quiet", "--hard", "HEAD~1"]);
                origin.git(&["reflog", "expire", "--expire=now", "--all"]);
                origin.git(&["gc", "--quiet", "--prune=now"]);
            }
        }
        ask(&bot, Ask::Yes(number)).await;
        let (run, stages) = ended(&bot, number).await;
        assert_eq!(run.sha, shown);
        if after == "delete" {
            let line = &stages[0].failure.as_ref().unwrap().line;
            assert!(line.contains("no more, which was shown as main"), "{line}");
        } else {
            assert_eq!(run.state, RunState::Succeeded, "{:?}", stages[0].failure);
            assert_eq!(stages[0].outputs["sha"], json!(shown), "{after}");
            assert_eq!(stages[0].outputs["branch"], json!("main"));
        }
    }
    bot.stop("").await;
}

#[tokio::test]
async fn who_tries_again_or_undoes_finds_the_files_of_the_run_and_no_file_is_left_when_all_is_well() {
    let origin = Origin::new();
    let flag = tempfile::tempdir().unwrap();
    let good = flag.path().join("good");
    let text = format!(
        "app: shop\nrepo: {}\nparams: {{ref: {{type: ref, default: main}}}}\npolicy: {{environments: {{dev: {{confirm: never, rollback: never}}}}}}\nstages:\n  checkout: {{git: {{repo: \"{{repo}}\", ref: \"{{ref}}\"}}}}\n  test: {{needs: [checkout], shell: [test, -f, a]}}\n  rollout: {{needs: [test], shell: [sh, -c, \"test -f a && test -e {}\"], rollback: {{shell: [test, -f, a]}}}}\n",
        origin.path(),
        good.display()
    );
    let (bot, data) = real(&text).await;
    let left = |number: i64| {
        let mut found = Vec::new();
        files(data.path(), &mut found);
        found.iter().any(|path| path.contains(&format!("/{number}/workspace/")))
    };
    std::fs::write(&good, "").unwrap();
    let number = deploy(&bot).await;
    assert_eq!(ended(&bot, number).await.0.state, RunState::Succeeded);
    super::steps::until("the workspace to go", || !left(number)).await;

    std::fs::remove_file(&good).unwrap();
    let number = deploy(&bot).await;
    assert_eq!(ended(&bot, number).await.0.failed.as_deref(), Some("rollout"));
    assert!(left(number));
    std::fs::write(&good, "").unwrap();
    // At once, while what is left of the run is being put away.
    ask(&bot, Ask::Retry(number, Some("rollout".to_owned()))).await;
    let (run, stages) = ended(&bot, number).await;
    assert_eq!((run.state, stages[0].attempt), (RunState::Succeeded, 1), "{stages:#?}");
    super::steps::until("the workspace to go", || !left(number)).await;

    std::fs::remove_file(&good).unwrap();
    let number = deploy(&bot).await;
    assert_eq!(ended(&bot, number).await.0.state, RunState::Failed);
    let undo = ask(&bot, Ask::Rollback(number)).await.unwrap();
    let (run, stages) = ended(&bot, undo).await;
    assert_eq!(run.state, RunState::Succeeded, "{stages:#?}");
    super::steps::until("the workspace to go", || !left(number)).await;
    bot.stop("").await;
}

/// All files below a folder.
pub(crate) fn files(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            files(&entry.path(), found);
        } else {
            found.push(entry.path().display().to_string());
        }
    }
}

/// A folder as it is at this moment.
pub(crate) fn copied(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => copied(&entry.path(), &to),
            kind if kind.is_file() => drop(std::fs::copy(entry.path(), to).unwrap()),
            _ => {}
        }
    }
}
