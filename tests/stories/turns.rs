//! Whose turn it is: what replaces what, who goes first, how long one waits, and what undoing goes back to then.

use std::time::Duration;

use masterchief::bot::{CHANNEL, TestBot};
use masterchief::pipelines::{Ask, Asked, Asker, May, Prepared, RunState, Settings, StageState};

use super::acted::Acted;
use super::deploys::{builder, state, stop, with};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn busy(policy: &str) -> String {
    format!(
        "app: shop\npolicy:\n  concurrency: {{on_busy: {policy}}}\n  environments: {{dev: {{confirm: never, require_flag: \"-\", approvals: {{count: 1, when: \"params.ask\"}}}}}}\nparams: {{ask: {{type: bool, default: false}}}}\nstages: {{a: {{acted: {{takes: 60s}}}}}}\n"
    )
}

async fn states(test: &TestBot, count: i64) -> Vec<RunState> {
    let mut out = Vec::new();
    for number in 1..=count {
        out.push(state(test, number).await);
    }
    out
}

/// A program asks for a version of the shop.
async fn asked(test: &TestBot, env: &str, version: &str, key: Option<&str>) -> Result<i64, String> {
    let prepared = Prepared {
        app: "shop".to_owned(),
        environment: Some(env.to_owned()),
        sha: version.to_owned(),
        version: version.to_owned(),
        key: key.map(str::to_owned),
        unattended: true,
        ..Prepared::default()
    };
    let who = Asker::program("test");
    let asked = Asked { ask: Ask::Deploy(Box::new(prepared)), who, may: May::all() };
    test.started().pipelines().ask(asked).await.map(|reply| reply.run.unwrap()).map_err(|refusal| refusal.text)
}

#[tokio::test(start_paused = true)]
async fn a_newer_run_cancels_the_one_that_runs_and_those_that_wait() {
    let (test, acted) = with(&busy("cancel_older")).await;
    test.user("kim").says(CHANNEL, "!deploy shop").await;
    test.advance(5 * SECOND).await;
    test.user("kim").says(CHANNEL, "!deploy shop ask=yes").await;
    test.expect(CHANNEL, "[2] shop the newest -> dev by kim needs 1 approval").await;
    test.user("kim").says(CHANNEL, "!deploy shop").await;
    test.expect(CHANNEL, "[2] shop the newest -> dev aborted by run 3.").await;
    test.advance(2 * MINUTE).await;
    test.expect(CHANNEL, "[3] shop the newest is live").await;
    assert_eq!(states(&test, 3).await, [RunState::Cancelled, RunState::Cancelled, RunState::Succeeded]);
    assert_eq!(acted.done(), ["a#1"]);
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn where_one_at_most_may_run_another_is_refused_also_one_that_people_agreed_to_late() {
    let (test, acted) = with(&busy("reject")).await;
    test.user("kim").says(CHANNEL, "!deploy shop ask=yes").await;
    let line = test.expect(CHANNEL, "!approve 1 ").await;
    let code = line.split("!approve 1 ").nth(1).unwrap()[..4].to_owned();
    test.user("ana").says(CHANNEL, "!deploy shop").await;
    test.expect(CHANNEL, "[2] shop the newest -> dev started").await;
    test.user("raj").says(CHANNEL, "!deploy shop").await;
    test.expect(CHANNEL, "raj: shop/dev is busy with run 2 by ana; wait for it, or !abort 2").await;
    test.user("raj").says(CHANNEL, &format!("!approve 1 {code}")).await;
    test.expect(CHANNEL, "shop the newest -> dev aborted by run 2, which runs there.").await;
    test.advance(2 * MINUTE).await;
    assert_eq!(states(&test, 2).await, [RunState::Cancelled, RunState::Succeeded]);
    assert_eq!(acted.done(), ["a#1"]);
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn of_those_that_wait_only_the_newest_is_left_whatever_the_others_wait_for() {
    let (test, acted) = with(&busy("latest_only")).await;
    for words in ["", " ask=yes", "", ""] {
        test.user("kim").says(CHANNEL, &format!("!deploy shop{words}")).await;
        test.advance(SECOND).await;
    }
    test.advance(3 * MINUTE).await;
    use RunState::{Cancelled, Succeeded};
    assert_eq!(states(&test, 4).await, [Succeeded, Cancelled, Cancelled, Succeeded]);
    assert_eq!(acted.done().len(), 2);
    stop(&test).await;
}

const PROD: &str = r##"
app: shop
policy:
  queue_timeout: 30m
  environments:
    prod: { confirm: never, require_flag: "-", windows: [{ days: daily, from: "08:00", to: "12:20" }] }
params: { bad: { type: int, default: 0 } }
stages: { rollout: { timeout: 2h, acted: { takes: 60s, undo: 60s, fails: "{params.bad}" }, rollback: undo } }
"##;

#[tokio::test(start_paused = true)]
async fn an_override_that_waited_is_undone_to_what_was_there_when_it_began() {
    let (test, acted) = with(PROD).await;
    for version in ["v1", "v2"] {
        test.user("ana").says(CHANNEL, &format!("!deploy shop/{version} to prod")).await;
        test.advance(SECOND).await;
        if version == "v1" {
            test.advance(2 * MINUTE).await;
        }
    }
    // It was asked for while v1 was live and v2 under way.
    test.user("raj").says(CHANNEL, "!deploy! shop/v3 to prod it burns").await;
    test.expect(CHANNEL, "[3] queued for shop/prod").await;
    test.advance(3 * MINUTE).await;
    test.expect(CHANNEL, "[3] shop v3 is live").await;
    test.user("raj").says(CHANNEL, "!rollback 3").await;
    test.expect(CHANNEL, "[4] rollback shop prod v3 -> v2 started by raj (run 3)").await;
    test.advance(2 * MINUTE).await;
    test.expect(CHANNEL, "[4] shop v2 is live again on prod").await;
    assert_eq!(acted.done().len(), 4);
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn what_waits_too_long_for_its_turn_or_its_window_expires() {
    let slow = PROD.replace("takes: 60s", "takes: 40m");
    let (test, acted) = with(&slow).await;
    test.user("ana").says(CHANNEL, "!deploy shop/v1 to prod").await;
    test.user("raj").says(CHANNEL, "!deploy shop/v2 to prod").await;
    test.expect(CHANNEL, "[2] queued for shop/prod").await;
    test.advance(31 * MINUTE).await;
    test.expect(CHANNEL, "[2] shop v2 -> prod expired").await;
    assert_eq!(state(&test, 1).await, RunState::Running);
    stop(&test).await;

    // This one gets its turn at 12:25, after the window, and waits for tomorrow's no longer than it may.
    let (test, _) = with(&PROD.replace("takes: 60s", "takes: 25m")).await;
    test.user("ana").says(CHANNEL, "!deploy shop/v1 to prod").await;
    test.user("raj").says(CHANNEL, "!deploy shop/v2 to prod").await;
    test.advance(26 * MINUTE).await;
    assert_eq!(state(&test, 2).await, RunState::AwaitingWindow);
    test.advance(5 * MINUTE).await;
    test.expect(CHANNEL, "[2] shop v2 -> prod expired").await;
    assert_eq!(acted.done().len(), 1);
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn two_deliveries_of_one_commit_are_one_run_and_one_delivery_never_two() {
    let (test, acted) = with("app: shop\npolicy: {idempotency: {key: \"{sha}:{environment}\", window: 10m}, environments: {dev: {}}}\nstages: {a: {acted: {}}}\n").await;
    assert_eq!(asked(&test, "dev", "abc", Some("delivery-1")).await, Ok(1));
    assert_eq!(asked(&test, "dev", "abc", Some("delivery-2")).await, Ok(1), "another delivery of the same commit");
    assert_eq!(asked(&test, "dev", "def", Some("delivery-3")).await, Ok(2));
    assert_eq!(asked(&test, "dev", "xyz", Some("delivery-3")).await, Ok(2), "the same delivery");
    test.advance(11 * MINUTE).await;
    assert_eq!(asked(&test, "dev", "abc", Some("delivery-2")).await, Ok(1), "the other delivery, once more");
    assert_eq!(asked(&test, "dev", "abc", Some("delivery-4")).await, Ok(3), "the commit's key is over");
    assert_eq!(asked(&test, "dev", "zzz", Some("delivery-1")).await, Ok(1), "the delivery's is not");
    test.advance(MINUTE).await;
    assert_eq!(acted.done().len(), 3);
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn twenty_runs_share_four_slots_the_urgent_first_and_else_in_order() {
    let acted = Acted::default();
    let settings = Settings { pools: [("default".to_owned(), 4)].into(), ..Settings::default() };
    let test = TestBot::start(builder(&acted).pipelines(settings)).await.unwrap();
    let text = "app: shop\npolicy:\n  concurrency: {group: \"{run.number}\"}\n  environments: {dev: {}, prod: {priority: 10}}\nstages: {a: {acted: {takes: 10s}}}\n";
    test.started().put_pipeline("shop", text).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
    for n in 0..20 {
        asked(&test, if n % 4 == 3 { "prod" } else { "dev" }, &n.to_string(), None).await.unwrap();
    }
    test.advance(2 * MINUTE).await;
    let mut spans = Vec::new();
    for number in 1..=20 {
        let (run, stages) = test.started().pipelines().run(number).await.unwrap().unwrap();
        assert_eq!(run.state, RunState::Succeeded);
        spans.push((stages[0].started.unwrap(), stages[0].ended.unwrap(), run.env == "prod", number));
    }
    for (from, ..) in &spans {
        let together = spans.iter().filter(|(other, end, ..)| other <= from && from < end).count();
        assert!(together <= 4, "{spans:?}");
    }
    let began = |prod: bool| {
        let mut all: Vec<_> = spans.iter().filter(|(_, _, is, number)| *is == prod && *number > 4).collect();
        all.sort_by_key(|(from, _, _, number)| (*from, *number));
        all.iter().map(|(from, _, _, number)| (*number, *from)).collect::<Vec<_>>()
    };
    let (prod, dev) = (began(true), began(false));
    assert!(prod.is_sorted() && dev.is_sorted(), "{prod:?} {dev:?}");
    assert!(prod.last().unwrap().1 <= dev.first().unwrap().1, "{prod:?} {dev:?}");
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn of_sixty_four_stages_at_once_never_more_than_eight_have_a_slot_also_where_some_are_aborted() {
    let acted = Acted::default();
    let settings = Settings { pools: [("default".to_owned(), 8)].into(), ..Settings::default() };
    let test = TestBot::start(builder(&acted).pipelines(settings)).await.unwrap();
    let text = "app: shop\npolicy:\n  concurrency: {group: \"{run.number}\"}\n  environments: {dev: {confirm: never, require_flag: d}}\nstages:\n  a: {matrix: {n: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]}, acted: {takes: 10s}}\n";
    test.started().put_pipeline("shop", text).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
    for n in 0..4 {
        asked(&test, "dev", &n.to_string(), None).await.unwrap();
    }
    let mut at_work = 0;
    for number in 1..=4 {
        let (_, stages) = test.started().pipelines().run(number).await.unwrap().unwrap();
        at_work += stages.iter().filter(|one| one.state.steps()).count();
        assert!(stages.iter().all(|one| one.state.steps() || one.state == StageState::WaitingResources), "{stages:#?}");
    }
    assert_eq!(at_work, 8);
    // One while its stages run and wait, another before any of its own began.
    test.advance(4 * SECOND).await;
    for number in [1, 4] {
        test.user("kim").with_flags("+d").says(CHANNEL, &format!("!abort {number}")).await;
        test.expect(CHANNEL, &format!("kim: stopping run {number}")).await;
    }
    test.advance(2 * MINUTE).await;
    assert_eq!(
        states(&test, 4).await,
        [RunState::Cancelled, RunState::Succeeded, RunState::Succeeded, RunState::Cancelled]
    );
    assert_eq!((acted.most_at_once(), acted.done().len()), (8, 32));
    test.user("kim").says(CHANNEL, "!slots").await;
    test.expect(CHANNEL, "default 0/8 taken, 0 wait").await;
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn how_long_a_run_still_takes_is_its_longest_way_and_what_had_time_to_spare_is_shown() {
    let (test, _) = with("app: shop\npolicy: {environments: {dev: {confirm: never, require_flag: \"-\"}}}\nstages:\n  long: {acted: {takes: 10m}}\n  short: {acted: {takes: 4m}}\n  end: {needs: [long, short], acted: {takes: 2m}}\n").await;
    test.user("kim").says(CHANNEL, "!deploy shop").await;
    test.advance(13 * MINUTE).await;
    test.user("kim").says(CHANNEL, "!run 1").await;
    let line = test.expect(CHANNEL, "to spare").await;
    assert!(
        line.contains("short ok 4m, 6m to spare") && line.contains("end ok 2m") && !line.contains("end ok 2m,"),
        "{line}"
    );
    test.user("kim").says(CHANNEL, "!deploy shop").await;
    test.advance(2 * MINUTE).await;
    test.user("kim").says(CHANNEL, "!run 2").await;
    test.expect(CHANNEL, "~10 min left").await;
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_says_yes_to_what_is_not_there_any_more_is_asked_again() {
    let shop = "app: shop\npolicy: {environments: {dev: {require_flag: \"-\"}, prod: {require_flag: \"-\", approvals: {count: 1, not_requester: false}}}}\nstages: {a: {acted: {takes: 5s}}}\n";
    let (test, acted) = with(shop).await;
    test.user("ana").says(CHANNEL, "!deploy shop/v2 to dev").await;
    test.expect(CHANNEL, "shop -> dev: v2 is the first there").await;
    assert_eq!(asked(&test, "dev", "v3", None).await, Ok(2));
    test.advance(10 * SECOND).await;
    assert_eq!(state(&test, 2).await, RunState::Succeeded);
    test.user("ana").says(CHANNEL, "!yes 1").await;
    test.expect(CHANNEL, "[1] ana: your turn. nothing is now v3 (2 went in between). !yes 1 within 5 min").await;
    assert_eq!(acted.done().len(), 1);
    test.user("ana").says(CHANNEL, "!yes 1").await;
    test.advance(10 * SECOND).await;
    assert_eq!(state(&test, 1).await, RunState::Succeeded);
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn a_stage_that_waits_for_a_pool_says_who_holds_it() {
    let text = "app: shop\nannounce: {progress: true}\npolicy: {concurrency: {group: \"{run.number}\"}, environments: {dev: {confirm: never, require_flag: \"-\"}}}\nstages:\n  build: {acted: {takes: 1s}}\n  rollout: {needs: [build], acted: {takes: 2m}, resources: {pool: prod-hosts}}\n  after: {needs: [rollout], acted: {}}\n";
    let (test, _) = with(text).await;
    for _ in 0..2 {
        test.user("kim").says(CHANNEL, "!deploy shop/v1").await;
    }
    test.advance(30 * SECOND).await;
    let line = test.expect(CHANNEL, "[2] build ok 1s | rollout: waits for prod-hosts, held by 1 rollout").await;
    assert!(line.ends_with("held by 1 rollout"), "{line}");
    test.user("kim").says(CHANNEL, "!run 2").await;
    test.expect(CHANNEL, "rollout waits for prod-hosts, held by 1 rollout").await;
    test.advance(100 * SECOND).await;
    test.user("kim").says(CHANNEL, "!run 2").await;
    test.expect(CHANNEL, "rollout running").await;
    test.advance(3 * MINUTE).await;
    test.expect(CHANNEL, "[2] shop v1 is live").await;
    test.stop().await;
}

const THREE: &str = "app: shop\npolicy: {environments: {dev: {confirm: never, require_flag: \"-\"}, prod: {confirm: never, require_flag: \"-\", approvals: {count: 1, from: [raj]}}}}\nstages: {a: {acted: {takes: 5s}}, b: {needs: [a], acted: {takes: 1s}}, c: {needs: [b], acted: {takes: 1s}}}\n";

#[tokio::test(start_paused = true)]
async fn where_nobody_says_yes_it_is_said_what_something_goes_out_on_top_of() {
    let (test, _) = with(THREE).await;
    for (who, words) in [
        ("ana", "!deploy shop/v1 to dev"),
        ("raj", "!deploy shop/v2 to dev"),
        ("kim", "!deploy! shop/v3 to dev it burns"),
    ] {
        test.user(who).says(CHANNEL, words).await;
    }
    let line = test.expect(CHANNEL, "[1] shop v1 -> dev started by ana.").await;
    assert!(!line.contains("in between"), "{line}");
    test.advance(MINUTE).await;
    test.expect(CHANNEL, "[2] shop v2 -> dev started by raj. nothing is now v1 (1 went in between).").await;
    test.expect(
        CHANNEL,
        "[3] shop v3 -> dev started by kim (override: it burns). nothing is now v2 (2 went in between).",
    )
    .await;
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn who_agreed_agrees_anew_when_something_else_went_out_meanwhile() {
    let (test, _) = with(THREE).await;
    let mut codes = Vec::new();
    for (number, who, version) in [(1, "ana", "v2"), (2, "lee", "v3")] {
        test.user(who).says(CHANNEL, &format!("!deploy shop/{version} to prod")).await;
        let line = test.expect(CHANNEL, &format!("[{number}] shop {version} -> prod by {who} needs 1 approval")).await;
        codes.push(line.split(&format!("!approve {number} ")).nth(1).unwrap()[..4].to_owned());
    }
    test.user("raj").says(CHANNEL, &format!("!approve 2 {}", codes[1])).await;
    test.expect(CHANNEL, "[2] approved by raj").await;
    test.user("raj").says(CHANNEL, &format!("!approve 1 {}", codes[0])).await;
    test.expect(CHANNEL, "[1] approved by raj").await;
    assert_eq!(state(&test, 1).await, RunState::Queued);
    test.advance(10 * SECOND).await;
    test.expect(CHANNEL, "[2] shop v3 is live on prod").await;
    let line = test
        .expect(
            CHANNEL,
            "[1] shop v2 -> prod by ana needs 1 approval from raj, not ana. nothing is now v3 (2 went in between). Plan: a, b, c. !approve 1 ",
        )
        .await;
    let anew = line.split("!approve 1 ").nth(1).unwrap()[..4].to_owned();
    assert_ne!(anew, codes[0]);
    test.user("raj").says(CHANNEL, &format!("!approve 1 {}", codes[0])).await;
    test.expect(CHANNEL, "raj: that is not the code of what is shown now").await;
    test.advance(10 * SECOND).await;
    assert_eq!(state(&test, 1).await, RunState::AwaitingApproval);
    test.user("raj").says(CHANNEL, &format!("!approve 1 {anew}")).await;
    test.expect(CHANNEL, "[1] approved by raj").await;
    test.advance(10 * SECOND).await;
    test.expect(CHANNEL, "[1] shop v2 is live on prod").await;
    stop(&test).await;
}
