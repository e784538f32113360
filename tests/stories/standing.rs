//! Runs that people hold up, let go on, or bring past a window; and what is told once a day.

use std::time::Duration;

use masterchief::bot::{CHANNEL, TestBot};
use masterchief::pipelines::{Ask, Asked, Asker, May, Prepared, RunState};

use super::deploys::{state, stop, with};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

const SHOP: &str = "app: shop\npolicy: {timeout: 10m, environments: {dev: {confirm: never, require_flag: d}}}\nstages:\n  test: {matrix: {suite: [a, b, c], max_parallel: 1}, acted: {takes: 60s}}\n  flaky: {acted: {takes: 10s, fails: 1, class: network, line: lost}, retry: {times: 1, first: 30s}}\n  rollout: {needs: [test, flaky], acted: {takes: 60s}}\n";

#[tokio::test(start_paused = true)]
async fn what_is_paused_ends_what_it_is_at_and_begins_nothing_until_it_goes_on() {
    let (test, acted) = with(SHOP).await;
    test.user("kim").says(CHANNEL, "!deploy shop/v1").await;
    test.advance(15 * SECOND).await;
    test.user("stranger").says(CHANNEL, "!pause 1").await;
    test.expect(CHANNEL, "stranger: I do not know you").await;
    test.user("raj").says(CHANNEL, "!pause 1 the database is slow").await;
    test.expect(CHANNEL, "[1] shop v1 -> dev paused by raj: the database is slow. Nothing more begins. !resume 1 | !abort 1. Auto-abort in 60 min.").await;
    test.advance(5 * MINUTE).await;
    assert_eq!(acted.done(), ["flaky#1", "test[a]#1"], "what ran went on to its end, and nothing more began");
    for (word, answer) in [
        ("!pause 1", "is paused by r\u{200b}aj already"),
        ("!retry 1", "is paused by r\u{200b}aj; !resume 1 first"),
        ("!promote 1", "is paused by r\u{200b}aj; !resume 1 first"),
    ] {
        test.user("kim").says(CHANNEL, word).await;
        test.expect(CHANNEL, &format!("kim: run 1 {answer}")).await;
    }
    test.user("kim").says(CHANNEL, "!run 1").await;
    test.expect(CHANNEL, "[1] shop v1 -> dev: paused").await;
    test.user("kim").says(CHANNEL, "!resume 1").await;
    test.expect(CHANNEL, "[1] shop v1 -> dev goes on, says kim; it stood still for 5m.").await;
    // Its own time is ten minutes, without those in which it stood still.
    test.advance(7 * MINUTE).await;
    test.expect(CHANNEL, "[1] shop v1 is live on dev").await;
    let mut done = acted.done();
    done.sort();
    assert_eq!(done, ["flaky#1", "flaky#2", "rollout#1", "test[a]#1", "test[b]#1", "test[c]#1"]);
    test.user("kim").says(CHANNEL, "!resume 1").await;
    test.expect(CHANNEL, "kim: run 1 is succeeded, and nobody paused it").await;
    test.user("kim").says(CHANNEL, "!sal shop today").await;
    test.expect(CHANNEL, "run 1 paused: the database is slow").await;
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn who_forgets_a_paused_run_finds_it_aborted_and_what_is_done_in_any_case_done() {
    let (test, acted) = with(&format!("{SHOP}finally: {{cleanup: {{acted: {{}}}}}}\n")).await;
    test.user("kim").says(CHANNEL, "!deploy shop/v1").await;
    test.advance(5 * SECOND).await;
    test.user("kim").says(CHANNEL, "!pause 1").await;
    test.expect(CHANNEL, "[1] shop v1 -> dev paused by kim. Nothing more begins.").await;
    test.advance(59 * MINUTE).await;
    assert_eq!(state(&test, 1).await, RunState::Paused);
    test.advance(2 * MINUTE).await;
    test.expect(CHANNEL, "[1] shop v1 -> dev aborted by bot.").await;
    assert!(acted.done().contains(&"cleanup#1".to_owned()));
    stop(&test).await;
}

const WINDOW: &str = r##"
app: shop
policy:
  environments:
    dev: { confirm: never, require_flag: d, windows: [{ days: daily, from: "08:00", to: "12:10" }] }
    prod: { confirm: never, require_flag: d, windows: [{ days: daily, from: "08:00", to: "12:10" }], emergency: { count: 1, from: [lee] } }
stages:
  build: { acted: {} }
  test: { acted: {} }
  rollout: { needs: [build, test], acted: { takes: 14m } }
"##;

#[tokio::test(start_paused = true)]
async fn a_window_that_closed_meanwhile_is_passed_by_who_may_with_a_reason() {
    let (test, acted) = with(WINDOW).await;
    let kim = test.user("kim");
    kim.says(CHANNEL, "!deploy shop/v1 to dev").await;
    test.expect(CHANNEL, "[1] shop v1 -> dev started").await;
    kim.says(CHANNEL, "!deploy shop/v2 to dev").await;
    test.expect(CHANNEL, "[2] queued for shop/dev").await;
    kim.says(CHANNEL, "!skip! 2 hurry").await;
    test.expect(CHANNEL, "kim: no window or freeze holds run 2 up; it waits for 1 by kim in").await;
    test.advance(16 * MINUTE).await;
    test.expect(
        CHANNEL,
        "[2] shop v2 waits: dev is closed until Tue 08:00 UTC (outside its window). !abort 2 | pass it: !skip! 2 <why>",
    )
    .await;
    kim.says(CHANNEL, "!skip! 2").await;
    test.expect(CHANNEL, "kim: say why, logged in: !skip! 2 <why>").await;
    test.user("stranger").says(CHANNEL, "!skip! 2 hurry").await;
    test.expect(CHANNEL, "stranger: I do not know you").await;
    kim.says(CHANNEL, "!skip! 2 the fix cannot wait").await;
    test.expect(CHANNEL, "[2] shop v2 -> dev: kim does not let it wait: the fix cannot wait.").await;
    test.expect(CHANNEL, "[2] shop v2 -> dev started by kim (override: the fix cannot wait, says kim).").await;
    test.advance(16 * MINUTE).await;
    test.expect(CHANNEL, "[2] shop v2 is live on dev").await;
    assert_eq!(acted.done().len(), 6);
    kim.says(CHANNEL, "!sal shop today").await;
    test.expect(CHANNEL, "run 2 does not wait for its window: the fix cannot wait").await;
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn where_people_are_asked_in_an_emergency_they_are_asked_before_a_window_is_passed() {
    let (test, _) = with(WINDOW).await;
    let kim = test.user("kim");
    kim.says(CHANNEL, "!deploy shop/v1 to prod").await;
    test.expect(CHANNEL, "[1] shop v1 -> prod started").await;
    kim.says(CHANNEL, "!deploy shop/v2 to prod").await;
    test.advance(16 * MINUTE).await;
    test.expect(CHANNEL, "[2] shop v2 waits: prod is closed").await;
    kim.says(CHANNEL, "!skip! 2 the fix cannot wait").await;
    let line = test.expect(CHANNEL, "[2] shop v2 -> prod: kim does not let it wait: the fix cannot wait. shop v2 -> prod by kim needs 1 approval from lee, not kim.").await;
    let code = line.split("!approve 2 ").nth(1).unwrap()[..4].to_owned();
    test.user("lee").says(CHANNEL, &format!("!approve 2 {code}")).await;
    test.expect(CHANNEL, "approved by lee").await;
    test.advance(16 * MINUTE).await;
    test.expect(CHANNEL, "[2] shop v2 is live on prod").await;
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_waits_for_the_clock_is_passed_with_the_flag_for_it() {
    let (test, _) = with("app: shop\npolicy: {environments: {dev: {confirm: never, require_flag: d}}}\nstages:\n  night: {window: [{days: daily, from: \"23:00\", to: \"23:30\"}]}\n  soak: {wait: 3h, skip_flag: \"-\"}\n  rollout: {needs: [night, soak], acted: {}}\n").await;
    test.user("kim").says(CHANNEL, "!deploy shop/v1").await;
    test.expect(
        CHANNEL,
        "[1] shop v1 -> dev: night waits for its window until 23:00 UTC. !abort 1 | pass it: !skip! 1 night <why>",
    )
    .await;
    test.user("kim").says(CHANNEL, "!skip! 1 it is late").await;
    test.expect(CHANNEL, "kim: run 1 is running; several stages wait, name one: night, soak").await;
    test.user("kim").says(CHANNEL, "!skip! 1 night it is late").await;
    test.expect(CHANNEL, "kim: you may not leave out night (needs flag S); ask an owner").await;
    test.user("kim").says(CHANNEL, "!skip! 1 soak it ran yesterday").await;
    test.expect(CHANNEL, "[1] shop v1 -> dev: soak passed by kim: it ran yesterday.").await;
    test.user("ana").says(CHANNEL, "!skip! 1 it is late").await;
    test.advance(5 * SECOND).await;
    test.expect(CHANNEL, "night passed by ana: it is late.").await;
    test.expect(CHANNEL, "shop v1 is live on dev").await;
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn once_a_day_it_is_told_what_the_clock_ran_without_a_word() {
    let text = format!(
        "app: shop\ntriggers: [{{time: {{cron: \"*/30 * * * *\"}}}}]\nannounce: {{channels: [\"test/{CHANNEL}\"]}}\npolicy: {{environments: {{dev: {{confirm: never, require_flag: d}}}}}}\nstages: {{a: {{acted: {{}}}}}}\n"
    );
    let (test, _) = with(&text).await;
    test.user("kim").says(CHANNEL, "!deploy shop/v1").await;
    test.advance(MINUTE).await;
    test.expect(CHANNEL, "[1] shop v1 is live on dev").await;
    let before = test.said();
    for _ in 0..19 {
        test.advance(HOUR).await;
    }
    test.advance(58 * MINUTE).await;
    assert_eq!(test.said(), before, "all went well");
    test.advance(2 * MINUTE).await;
    test.expect(CHANNEL, "Last 24 h by the clock: shop/dev 39 ok, 1 other ok").await;
    for _ in 0..24 {
        test.advance(HOUR).await;
    }
    test.expect(CHANNEL, "Last 24 h by the clock: shop/dev 48 ok").await;
    assert_eq!(test.said(), before + 2);
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_booked_is_listed_and_called_off() {
    let (test, acted) =
        with("app: shop\npolicy: {environments: {dev: {confirm: never, require_flag: d}}}\nstages: {a: {acted: {}}}\n")
            .await;
    let kim = test.user("kim");
    kim.says(CHANNEL, "!booked").await;
    test.expect(CHANNEL, "nothing is booked").await;
    kim.says(CHANNEL, "!at 14:00 deploy shop/v2 to dev").await;
    test.expect(CHANNEL, "kim: booked: shop to dev at 14:00 UTC (B-1). Call it off: !unbook B-1").await;
    kim.says(CHANNEL, "!at 13:00 deploy shop/v1 to dev").await;
    kim.says(CHANNEL, "!booked shop").await;
    test.expect(
        CHANNEL,
        "B-2 shop v1 to dev at 13:00 UTC by k\u{200b}im | B-1 shop v2 to dev at 14:00 UTC by k\u{200b}im",
    )
    .await;
    test.user("stranger").says(CHANNEL, "!unbook B-1").await;
    test.expect(CHANNEL, "stranger: I do not know you").await;
    test.user("raj").says(CHANNEL, "!unbook B-1").await;
    test.expect(CHANNEL, "B-1 is off: shop v2 to dev at 14:00 UTC (booked by k\u{200b}im).").await;
    kim.says(CHANNEL, "!unbook B-1").await;
    test.expect(CHANNEL, "kim: nothing is booked as B-1; !booked lists what is").await;
    test.advance(3 * HOUR).await;
    test.expect(CHANNEL, "[1] shop v1 is live on dev").await;
    assert_eq!(acted.done(), ["a#1"]);
    stop(&test).await;
}

/// Lines about runs that the bot said.
fn about_runs(test: &TestBot) -> Vec<String> {
    let mark = format!("PRIVMSG {CHANNEL} [");
    test.transcript().into_iter().filter(|line| line.starts_with(&mark)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_place_that_was_away_hears_the_newest_of_each_run_once() {
    let text = format!(
        "app: shop\nannounce: {{channels: [\"{CHANNEL}\"]}}\npolicy: {{environments: {{dev: {{confirm: never, require_flag: \"-\"}}}}}}\nstages:\n  a: {{acted: {{takes: 4s}}}}\n  b: {{needs: [a], acted: {{takes: 4s, fails: 9, line: it broke}}}}\n  c: {{needs: [b], acted: {{}}}}\n"
    );
    let long = text.replace("app: shop", "app: long").replace("takes: 4s}", "takes: 20m}");
    let (test, _) = with(&text).await;
    test.started().put_pipeline("long", &long).await.unwrap();
    let who = || Asker { handle: "ana".to_owned(), nick: "ana".to_owned(), ..Asker::default() };
    let deploy = async |app: &str| {
        let prepared = Prepared { app: app.to_owned(), unattended: true, ..Prepared::default() };
        let ask = Ask::Deploy(Box::new(prepared));
        test.started().pipelines().ask(Asked { ask, who: who(), may: May::all() }).await.unwrap().run.unwrap()
    };
    assert_eq!(deploy("long").await, 1);
    test.expect(CHANNEL, "[1] long").await;
    let before = about_runs(&test).len();
    test.net().refuse(true);
    test.net().cut();
    test.advance(SECOND).await;
    for _ in 0..2 {
        let run = deploy("shop").await;
        test.started().pipelines().ended(run).await.unwrap();
    }
    test.net().refuse(false);
    test.advance(5 * MINUTE).await;
    test.expect(CHANNEL, "[3] shop the newest -> dev FAILED in b").await;
    let said = about_runs(&test)[before..].to_vec();
    assert!(!said.iter().any(|line| line.contains("started by")), "old lines are no news: {said:#?}");
    let failed = said.iter().filter(|line| line.contains("[2] shop the newest -> dev FAILED")).count();
    assert_eq!(failed, 1, "{said:#?}");
    stop(&test).await;
}
