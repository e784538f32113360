//! What waits: for people, for a time, for a window, for the end of a freeze or of a lock; how long; and over a restart.

use std::path::Path;
use std::time::Duration;

use masterchief::bot::{CHANNEL, Started};
use masterchief::pipelines::{Ask, Asked, Asker, May, Prepared, RunState, StageState};
use masterchief::store::runs::{OutboxRow, Put, Runs};

use super::acted::Acted;
use super::deploys::{builder, state, stop, with};
use super::steps::eventually;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_stage_waits_for_a_time_for_a_window_and_for_people() {
    let (test, acted) = with("app: shop\npolicy: {environments: {dev: {confirm: never, require_flag: \"-\"}}}\nstages:\n  soak: {wait: 10m}\n  hours: {needs: [soak], window: [{days: daily, from: \"13:00\", to: \"14:00\"}]}\n  people: {needs: [hours], approve: {count: 1, from: [lee], expires: 5m}}\n  rollout: {needs: [people], acted: {}}\n").await;
    test.user("kim").says(CHANNEL, "!deploy shop/v2").await;
    test.advance(10 * MINUTE + SECOND).await;
    let stages = async || test.started().pipelines().run(1).await.unwrap().unwrap().1;
    assert_eq!((stages().await[0].state, stages().await[1].state), (StageState::Succeeded, StageState::Waiting));
    test.advance(49 * MINUTE).await;
    assert_eq!(stages().await[1].state, StageState::Waiting);
    test.advance(MINUTE).await;
    let line =
        test.expect(CHANNEL, "[1] shop v2 -> dev by kim needs 1 approval from lee, not kim. Stage: people.").await;
    let code = line.split("!approve 1 ").nth(1).unwrap()[..4].to_owned();
    test.user("kim").says(CHANNEL, &format!("!approve 1 {code}")).await;
    test.expect(CHANNEL, "kim: the one who asked cannot approve 1.").await;
    test.user("lee").says(CHANNEL, &format!("!approve 1 {code}")).await;
    test.expect(CHANNEL, "[1] approved by lee").await;
    test.advance(5 * SECOND).await;
    test.expect(CHANNEL, "[1] shop v2 is live").await;
    assert_eq!(acted.done(), ["rollout#1"]);
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn nobody_agrees_to_a_stage_and_it_fails() {
    let (test, acted) = with("app: shop\npolicy: {environments: {dev: {confirm: never, require_flag: \"-\"}}}\nstages:\n  people: {approve: {count: 1, expires: 5m}}\n  rollout: {needs: [people], acted: {}}\n").await;
    test.user("kim").says(CHANNEL, "!deploy shop/v2").await;
    test.advance(5 * MINUTE + SECOND).await;
    test.expect(CHANNEL, "[1] shop v2 -> dev FAILED in people after 5m").await;
    test.user("kim").says(CHANNEL, "!deploy shop/v3").await;
    test.expect(CHANNEL, "[2] shop v3 -> dev by kim needs").await;
    test.user("lee").says(CHANNEL, "!reject 2 not on a Monday").await;
    test.expect(CHANNEL, "rejected by lee: not on a Monday").await;
    assert!(acted.done().is_empty());
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn people_have_to_agree_to_a_stage_only_when_its_condition_says_so_or_cannot_be_told() {
    let (test, acted) = with("app: shop\nparams: {big: {type: int, default: 1}}\npolicy: {environments: {dev: {confirm: never, require_flag: \"-\"}}}\nstages:\n  look: {acted: {}}\n  people: {needs: [look], approve: {count: 1, when: \"params.big > 3 || risk > 0.3 && params.big > 2\"}}\n  rollout: {needs: [people], acted: {}}\n").await;
    for (number, big) in [(1, 1), (2, 3), (3, 7)] {
        test.user("kim").says(CHANNEL, &format!("!deploy shop big={big}")).await;
        if number == 1 {
            test.expect(CHANNEL, "[1] shop the newest is live").await;
        } else {
            test.expect(CHANNEL, &format!("[{number}] shop the newest -> dev by kim needs 1 approval")).await;
            test.user("kim").says(CHANNEL, &format!("!abort {number}")).await;
            test.expect(CHANNEL, &format!("[{number}] shop the newest -> dev aborted")).await;
        }
    }
    assert_eq!(acted.done().iter().filter(|done| *done == "rollout#1").count(), 1);
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn a_calendar_freezes_and_what_waited_begins_when_it_thaws() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("pipelines")).unwrap();
    let text = "app: shop\npolicy: {environments: {dev: {confirm: never, require_flag: \"-\", freeze: [company.ics]}}}\nstages: {a: {timeout: 1h, acted: {takes: 40m}}}\n";
    std::fs::write(dir.path().join("pipelines/shop.yaml"), text).unwrap();
    let ics = "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nBEGIN:VEVENT\r\nUID:1\r\nSUMMARY:Stocktaking\r\nDTSTART:20260302T123000Z\r\nDTEND:20260302T140000Z\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";
    std::fs::write(dir.path().join("company.ics"), ics).unwrap();
    let acted = Acted::default();
    let settings = masterchief::pipelines::Settings { folder: dir.path().join("pipelines"), ..Default::default() };
    let test = masterchief::bot::TestBot::start(builder(&acted).pipelines(settings)).await.unwrap();
    test.user("kim").says(CHANNEL, "!deploy shop/v1").await;
    test.user("kim").says(CHANNEL, "!deploy shop/v2").await;
    test.advance(41 * MINUTE).await;
    assert_eq!(state(&test, 2).await, RunState::AwaitingWindow);
    test.user("kim").says(CHANNEL, "!deploy shop/v3").await;
    test.expect(CHANNEL, "kim: dev is frozen until 14:00 UTC (Stocktaking).").await;
    test.advance(79 * MINUTE + 5 * SECOND).await;
    assert_eq!(state(&test, 2).await, RunState::Running);
    test.advance(40 * MINUTE).await;
    // A run of one stage has three lines: that it began is told with its end.
    test.expect(
        CHANNEL,
        "[2] shop v2 -> dev started by kim. nothing is now v1 (1 went in between). shop v2 is live on dev",
    )
    .await;
    // Another day is frozen from now on: nobody has to start anything anew for it.
    let longer =
        ics.replace("DTEND:20260302T140000Z", "DTEND:20260302T200000Z").replace("Stocktaking", "A long stocktaking");
    std::fs::write(dir.path().join("company.ics"), longer).unwrap();
    test.advance(11 * SECOND).await;
    test.user("kim").says(CHANNEL, "!deploy shop/v4").await;
    test.expect(CHANNEL, "kim: dev is frozen until 20:00 UTC (A long stocktaking).").await;
    test.stop().await;
    std::fs::write(dir.path().join("company.ics"), "no calendar").unwrap();
    let settings = masterchief::pipelines::Settings { folder: dir.path().join("pipelines"), ..Default::default() };
    let test = masterchief::bot::TestBot::start(builder(&acted).pipelines(settings)).await.unwrap();
    test.user("kim").says(CHANNEL, "!deploy shop/v3").await;
    test.expect(CHANNEL, "kim: dev is frozen").await;
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn a_stage_locks_its_place_once_nobody_else_has_and_another_opens_it() {
    let (test, acted) = with("app: shop\npolicy: {environments: {dev: {confirm: never, require_flag: \"-\"}}}\nstages:\n  hold: {lock: {for: 1h, why: the database moves}, timeout: 10m}\n  rollout: {needs: [hold], acted: {takes: 60s}}\nfinally:\n  open: {unlock: true}\n").await;
    test.user("kim").says(CHANNEL, "!deploy shop/v1").await;
    test.advance(5 * SECOND).await;
    test.user("raj").says(CHANNEL, "!deploy shop/v2").await;
    test.expect(CHANNEL, "raj: shop/dev is locked by kim since 12:00").await;
    test.advance(MINUTE).await;
    test.expect(CHANNEL, "[1] shop v1 is live").await;
    test.user("raj").says(CHANNEL, "!lock shop/dev 5m mine").await;
    test.expect(CHANNEL, "shop/dev locked by raj").await;
    for (number, time) in [(3, 6), (4, 12)] {
        test.user("kim").says(CHANNEL, "!deploy! shop/v3 to dev it burns").await;
        test.expect(CHANNEL, &format!("[{number}] shop v3 -> dev started by kim")).await;
        test.advance(2 * MINUTE).await;
        assert_eq!(acted.done().len(), if number == 3 { 1 } else { 2 }, "it waits for raj's lock");
        test.advance((time - 2) * MINUTE).await;
        if number == 3 {
            test.expect(CHANNEL, "[3] shop v3 is live").await;
            test.user("raj").says(CHANNEL, "!lock shop/dev 5h mine").await;
            test.expect(CHANNEL, "shop/dev locked by raj").await;
        }
    }
    test.expect(CHANNEL, "[4] shop v3 -> dev FAILED in hold after 10m").await;
    test.user("raj").says(CHANNEL, "!deploy shop/v4 to dev").await;
    test.expect(CHANNEL, "raj: shop/dev is locked by raj").await;
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn a_stage_may_take_so_long_and_be_silent_so_long_and_a_run_may_too() {
    let with_stage = |stage: &str| {
        format!(
            "app: shop\npolicy: {{timeout: 20m, environments: {{dev: {{confirm: never, require_flag: \"-\"}}}}}}\nstages:\n  a: {{{stage}}}\n  b: {{needs: [a], acted: {{takes: 15m}}}}\nfinally: {{clean: {{acted: {{}}}}}}\n"
        )
    };
    for (stage, time, line) in [
        (
            "acted: {takes: 10m}, timeout: 5m",
            5 * MINUTE + 2 * SECOND,
            "[1] shop the newest -> dev FAILED in a after 5m",
        ),
        (
            "acted: {takes: 10m, tells: [one]}, idle_timeout: 4m",
            5 * MINUTE,
            "[1] shop the newest -> dev FAILED in a after 4m",
        ),
        (
            "acted: {takes: 6m, tells: [one, two]}, idle_timeout: 4m",
            21 * MINUTE,
            "[1] shop the newest -> dev FAILED after 20m",
        ),
    ] {
        let (test, acted) = with(&with_stage(stage)).await;
        test.user("kim").says(CHANNEL, "!deploy shop").await;
        test.advance(time).await;
        let told = test.expect(CHANNEL, line).await;
        assert!(told.contains("class: timeout") || told.contains("it took longer than it may"), "{told}");
        assert_eq!(acted.done().last().map(String::as_str), Some("clean#1"), "{stage}");
        let wanted = if told.contains("FAILED in a") { RunState::Failed } else { RunState::TimedOut };
        assert_eq!(state(&test, 1).await, wanted);
        stop(&test).await;
    }
}

const RESTARTED: &str = r##"
app: shop
params: { ask: { type: bool, default: false } }
policy:
  concurrency: { group: "{environment}" }
  environments:
    confirmed: {}
    agreed: { confirm: never, approvals: { count: 1 } }
    held: { confirm: never }
    again: { confirm: never }
    paused: { confirm: never }
    people: { confirm: never }
    locked: { confirm: never }
stages:
  held: { when: "environment == 'held'", acted: { fails: 1, line: held up }, on_failure: ask }
  again: { when: "environment == 'again'", acted: { fails: 9, class: network }, retry: { times: 2, first: 3s, jitter: 0 } }
  paused: { when: "environment == 'paused'", wait: 4s }
  people: { when: "environment == 'people'", approve: { count: 1 } }
  end: { needs: ["held?", "again?", "paused?", "people?"], acted: {} }
"##;

async fn ask(bot: &Started, who: &str, ask: Ask) -> Result<Option<i64>, String> {
    let who = Asker { handle: who.to_owned(), nick: who.to_owned(), ..Asker::default() };
    bot.pipelines()
        .ask(Asked { ask, who, may: May::all() })
        .await
        .map(|reply| reply.run)
        .map_err(|refusal| refusal.text)
}

async fn waits(bot: &Started, number: i64, run: RunState, stage: Option<StageState>) {
    eventually(&format!("run {number} in {run:?} with {stage:?}"), async || {
        let (now, stages) = bot.pipelines().run(number).await.unwrap().unwrap();
        now.state == run && stage.is_none_or(|stage| stages.iter().any(|one| one.state == stage))
    })
    .await;
}

/// The clock is real here: the records are written by a thread of their own, and the bot ends twice.
#[tokio::test]
async fn whatever_a_run_waits_for_it_waits_for_after_a_restart_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let acted = Acted::default();
    let start = async |folder: &Path| {
        let bot = builder(&acted).data(folder).start().await.unwrap();
        bot.put_pipeline("shop", RESTARTED).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
        bot
    };
    let bot = start(dir.path()).await;
    ask(&bot, "lee", Ask::Lock("shop/locked".to_owned(), None, "mine".to_owned())).await.unwrap();
    let cases = [
        ("confirmed", RunState::AwaitingConfirm, None),
        ("agreed", RunState::AwaitingApproval, None),
        ("held", RunState::Paused, Some(StageState::Failed)),
        ("again", RunState::Running, Some(StageState::RetryWait)),
        ("paused", RunState::Running, Some(StageState::Waiting)),
        ("people", RunState::Running, Some(StageState::Waiting)),
        ("locked", RunState::Draft, None),
    ];
    for (env, state, stage) in cases {
        let prepared = Prepared { app: "shop".to_owned(), environment: Some(env.to_owned()), ..Prepared::default() };
        let number = ask(&bot, "ana", Ask::Deploy(Box::new(prepared))).await.unwrap().unwrap();
        waits(&bot, number, state, stage).await;
    }
    // One that waits behind a lock, and one behind a run.
    ask(&bot, "ana", Ask::Queue(7)).await.unwrap();
    let prepared = Prepared { app: "shop".to_owned(), environment: Some("people".to_owned()), ..Prepared::default() };
    ask(&bot, "ana", Ask::Deploy(Box::new(prepared))).await.unwrap();
    waits(&bot, 8, RunState::Queued, None).await;
    bot.stop("").await;

    let bot = start(dir.path()).await;
    for (number, (_, state, stage)) in (1..).zip(cases).filter(|(number, _)| ![4, 5, 7].contains(number)) {
        waits(&bot, number, state, stage).await;
    }
    waits(&bot, 7, RunState::Queued, None).await;
    ask(&bot, "ana", Ask::Yes(1)).await.unwrap();
    let code = bot.pipelines().run(2).await.unwrap().unwrap().0.code;
    ask(&bot, "lee", Ask::Approve(2, code)).await.unwrap();
    ask(&bot, "lee", Ask::Promote(3)).await.unwrap();
    let (_, stages) = bot.pipelines().run(6).await.unwrap().unwrap();
    let code = stages.iter().find(|one| one.state == StageState::Waiting).unwrap().code.clone();
    ask(&bot, "lee", Ask::Approve(6, code)).await.unwrap();
    for number in 1..=6 {
        let (run, stages) = bot.pipelines().ended(number).await.unwrap().unwrap();
        let wanted = if number == 4 { RunState::Failed } else { RunState::Succeeded };
        assert_eq!(run.state, wanted, "{number}: {stages:#?}");
    }
    let (_, stages) = bot.pipelines().run(4).await.unwrap().unwrap();
    let again = stages.iter().find(|one| one.name == "again").unwrap();
    assert_eq!((again.attempt, again.retries), (3, 2), "retries before the restart count");
    waits(&bot, 8, RunState::Running, Some(StageState::Waiting)).await;
    assert_eq!(acted.done().iter().filter(|done| *done == "held#1").count(), 1);
    bot.stop("").await;
}

#[tokio::test]
async fn what_was_written_and_not_said_is_said_after_a_restart_of_a_run_only_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let heard = {
        let acted = Acted::default();
        let bot = builder(&acted).data(dir.path()).start().await.unwrap();
        bot.put_pipeline("shop", RESTARTED).await.unwrap();
        let prepared =
            Prepared { app: "shop".to_owned(), environment: Some("agreed".to_owned()), ..Prepared::default() };
        ask(&bot, "ana", Ask::Deploy(Box::new(prepared))).await.unwrap();
        bot.stop("").await;
        // The bot ends between writing a line and saying it.
        let path = std::fs::read_dir(dir.path()).unwrap().flatten().map(|file| file.path());
        let path = path
            .into_iter()
            .find(|path| {
                path.file_name().is_some_and(|name| {
                    name.to_string_lossy().starts_with("runs.") && !name.to_string_lossy().contains('-')
                })
            })
            .unwrap();
        let runs = Runs::open(Some(&path)).unwrap();
        let line = |at: i64, dedupe: &str, run: i64, text: &str| {
            let (dedupe, target) = (dedupe.to_owned(), format!("test/{CHANNEL}"));
            Put::Outbox(OutboxRow { dedupe, run, event: None, target, text: text.to_owned(), at, sent: None })
        };
        let lines = vec![
            line(1, "1:9", 1, "[1] old"),
            line(2, "lock:2", 0, "a lock is over"),
            line(3, "1:10", 1, "[1] FAILED"),
            line(3, "1:11", 1, "[1] what one may do"),
            line(4, "freeze:4", 0, "a freeze is over"),
        ];
        runs.write(lines).await.unwrap();
        drop(runs);
        let test = masterchief::bot::TestBot::start_in(dir.path(), builder(&acted)).await.unwrap();
        for text in ["a lock is over", "[1] FAILED", "[1] what one may do", "a freeze is over"] {
            test.expect(CHANNEL, text).await;
        }
        let heard = test.transcript();
        test.stop().await;
        heard
    };
    assert!(!heard.iter().any(|line| line.contains("[1] old")), "{heard:#?}");
}

#[tokio::test]
async fn what_is_live_is_what_went_out_last_whatever_was_asked_for_last() {
    let text = "app: shop\nparams: {ask: {type: bool, default: false}}\npolicy: {environments: {dev: {confirm: never, approvals: {count: 1, when: \"params.ask\"}}}}\nstages: {a: {acted: {}, rollback: undo}}\n";
    let dir = tempfile::tempdir().unwrap();
    let acted = Acted::default();
    let start = async || {
        let bot = builder(&acted).data(dir.path()).start().await.unwrap();
        bot.put_pipeline("shop", text).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
        bot
    };
    let bot = start().await;
    for (version, asks) in [("v1", true), ("v2", false)] {
        let params = serde_json::Map::from_iter([("ask".to_owned(), asks.into())]);
        let prepared = Prepared { app: "shop".to_owned(), version: version.to_owned(), params, ..Prepared::default() };
        ask(&bot, "ana", Ask::Deploy(Box::new(prepared))).await.unwrap();
    }
    bot.pipelines().ended(2).await.unwrap();
    // What was agreed to is something else since v2 went out, and is agreed to anew.
    for _ in 0..2 {
        waits(&bot, 1, RunState::AwaitingApproval, None).await;
        let code = bot.pipelines().run(1).await.unwrap().unwrap().0.code;
        ask(&bot, "lee", Ask::Approve(1, code)).await.unwrap();
    }
    bot.pipelines().ended(1).await.unwrap();
    bot.stop("").await;
    let bot = start().await;
    let refused = ask(&bot, "ana", Ask::Rollback(2)).await.unwrap_err();
    assert_eq!(refused, "run 1 came after it and is live; undo that one: !rollback 1");
    ask(&bot, "ana", Ask::RollbackPlace("shop".to_owned(), "dev".to_owned(), None)).await.unwrap();
    let (run, _) = bot.pipelines().ended(3).await.unwrap().unwrap();
    assert_eq!((run.version.as_str(), run.state), ("v2", RunState::Succeeded));
    bot.stop("").await;
}

#[tokio::test]
async fn what_is_being_stopped_and_what_is_being_undone_is_so_after_a_restart() {
    let text = "app: shop\nparams: {takes: {type: string, default: 0s}}\npolicy: {environments: {dev: {confirm: never, rollback: {mode: never, lock: false}}}}\nstages: {a: {acted: {takes: \"{params.takes}\", undo: 2s}, rollback: undo}}\nfinally: {clean: {acted: {takes: 2s}}}\n";
    let dir = tempfile::tempdir().unwrap();
    let acted = Acted::default();
    let start = async || {
        let bot = builder(&acted).data(dir.path()).start().await.unwrap();
        bot.put_pipeline("shop", text).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
        bot
    };
    let deploy = async |bot: &Started, version: &str, takes: &str| {
        let params = serde_json::Map::from_iter([("takes".to_owned(), takes.into())]);
        let prepared = Prepared { app: "shop".to_owned(), version: version.to_owned(), params, ..Prepared::default() };
        ask(bot, "ana", Ask::Deploy(Box::new(prepared))).await.unwrap().unwrap()
    };
    let bot = start().await;
    for version in ["v1", "v2"] {
        let number = deploy(&bot, version, "0s").await;
        bot.pipelines().ended(number).await.unwrap();
    }
    ask(&bot, "ana", Ask::Rollback(2)).await.unwrap();
    waits(&bot, 3, RunState::Running, Some(StageState::Running)).await;
    bot.stop("").await;

    let bot = start().await;
    waits(&bot, 2, RunState::RollingBack, None).await;
    let (run, _) = bot.pipelines().ended(3).await.unwrap().unwrap();
    assert_eq!((run.state, run.version.as_str()), (RunState::Succeeded, "v1"));
    waits(&bot, 2, RunState::RolledBack, None).await;
    let number = deploy(&bot, "v4", "60s").await;
    waits(&bot, number, RunState::Running, Some(StageState::Running)).await;
    ask(&bot, "ana", Ask::Abort(number)).await.unwrap();
    waits(&bot, number, RunState::Cancelling, Some(StageState::Running)).await;
    bot.stop("").await;

    let bot = start().await;
    let (run, stages) = bot.pipelines().ended(number).await.unwrap().unwrap();
    let states: Vec<StageState> = stages.iter().map(|one| one.state).collect();
    assert_eq!((run.state, states), (RunState::Cancelled, vec![StageState::Cancelled, StageState::Succeeded]));
    let done = acted.done();
    assert_eq!(done.iter().filter(|one| *one == "a#1").count(), 2, "what was stopped is not done after all: {done:?}");
    bot.stop("").await;
}

#[tokio::test(start_paused = true)]
async fn of_two_stages_that_wait_for_people_the_code_says_which_is_meant() {
    let text = "app: shop\npolicy: {environments: {dev: {confirm: never, require_flag: \"-\"}}}\nstages:\n  first: {approve: {count: 1, from: raj}}\n  second: {approve: {count: 1, from: lee}}\n  a: {needs: [first], acted: {}}\n  b: {needs: [second], acted: {}}\n";
    let (test, acted) = with(text).await;
    test.user("ana").says(CHANNEL, "!deploy shop").await;
    test.expect(CHANNEL, "needs 1 approval from raj, not ana. Stage: first.").await;
    let line = test.expect(CHANNEL, "needs 1 approval from lee, not ana. Stage: second.").await;
    let code = line.split("!approve 1 ").nth(1).unwrap()[..4].to_owned();
    test.user("lee").says(CHANNEL, "!reject 1 no").await;
    test.expect(CHANNEL, "lee: several stages of run 1 wait; say which: !reject 1 CODE <why>").await;
    test.user("lee").says(CHANNEL, &format!("!approve 1 {code}")).await;
    test.expect(CHANNEL, "[1] approved by lee").await;
    test.advance(10 * SECOND).await;
    assert_eq!(acted.done(), ["b#1"]);
    test.user("raj").says(CHANNEL, "!reject 1 not today").await;
    test.expect(CHANNEL, "rejected by raj: not today").await;
    assert_eq!(acted.done(), ["b#1"]);
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_takes_away_no_lock_but_its_own_whatever_its_reason_says() {
    let text = "app: shop\npolicy: {environments: {dev: {confirm: never, require_flag: \"-\"}}}\nstages:\n  rollout: {acted: {}}\nfinally:\n  open: {unlock: true}\n";
    let (test, _) = with(text).await;
    test.user("ana").says(CHANNEL, "!lock shop/dev 2h replica rebuild (run 1)").await;
    test.expect(CHANNEL, "shop/dev locked by ana").await;
    test.user("ana").says(CHANNEL, "!deploy! shop to dev the shop is down").await;
    test.advance(10 * SECOND).await;
    test.expect(CHANNEL, "is live on dev").await;
    test.user("kim").says(CHANNEL, "!deploy shop").await;
    test.expect(CHANNEL, "kim: shop/dev is locked by ana").await;
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_tried_again_locks_its_place_again() {
    let (test, acted) = with("app: shop\npolicy: {environments: {dev: {confirm: never, require_flag: \"-\"}}}\nstages:\n  hold: {lock: the database moves}\n  move: {needs: [hold], acted: {takes: 60s, fails: 1, line: no disk}}\n  after: {needs: [move], acted: {takes: 5s}}\nfinally:\n  open: {unlock: true}\n").await;
    test.user("kim").says(CHANNEL, "!deploy shop/v1").await;
    test.advance(2 * MINUTE).await;
    test.expect(CHANNEL, "[1] shop v1 -> dev FAILED in move").await;
    test.user("raj").says(CHANNEL, "!unlock shop/dev").await;
    test.expect(CHANNEL, "raj: shop/dev is not locked").await;
    test.user("kim").says(CHANNEL, "!retry 1").await;
    test.advance(5 * SECOND).await;
    test.user("raj").says(CHANNEL, "!lock shop/dev mine").await;
    test.expect(CHANNEL, "raj: shop/dev is locked by k\u{200b}im").await;
    test.advance(2 * MINUTE).await;
    test.expect(CHANNEL, "[1] shop v1 is live on dev").await;
    test.user("raj").says(CHANNEL, "!unlock shop/dev").await;
    test.find(CHANNEL, SECOND, |line| line.contains("raj: shop/dev is not locked")).await.unwrap();
    assert_eq!(acted.done(), ["move#1", "move#2", "after#1"]);
    stop(&test).await;
}
