//! Stages that are done for many.

use std::time::Duration;

use masterchief::bot::CHANNEL;

use super::deploys::{stop, with};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_matrix_runs_every_combination_and_a_list_from_a_stage_makes_one_each() {
    let (test, acted) = with(
        "app: shop\npolicy: {environments: {dev: {confirm: never, require_flag: \"-\"}}}\nstages:\n  test:\n    matrix: {suite: [unit, api], os: [a, b], exclude: [{suite: api, os: b}]}\n    acted: {takes: 5s}\n  find: {needs: [test], acted: {outputs: {hosts: [web1, web2, web3]}}}\n  host: {needs: [find], matrix: {host: \"{find.hosts}\", max_parallel: 1}, acted: {takes: \"2s\"}}\n  end: {needs: [host], acted: {}}\n",
    )
    .await;
    test.user("kim").says(CHANNEL, "!deploy shop").await;
    test.advance(30 * SECOND).await;
    test.expect(CHANNEL, "is live on dev").await;
    let mut done = acted.done();
    done[..3].sort();
    assert_eq!(
        done,
        [
            "test[api,a]#1",
            "test[unit,a]#1",
            "test[unit,b]#1",
            "find#1",
            "host[web1]#1",
            "host[web2]#1",
            "host[web3]#1",
            "end#1"
        ]
    );
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn when_a_stage_of_many_is_left_out_or_one_fails_none_of_the_others_begins() {
    const MANY: &str = "app: shop\npolicy: {environments: {dev: {confirm: never, require_flag: \"-\"}}}\nparams: {bad: {type: int, default: 0}}\nstages:\n  test: {acted: {fails: \"{params.bad}\"}}\n  host: {needs: [test], matrix: {host: [a, b, c]}, acted: {takes: 5s}}\n  one: {needs: [test], matrix: {n: [1, 2, 3], max_parallel: 1}, acted: {takes: 5s, fails: 9}}\n";
    let (test, acted) = with(MANY).await;
    test.user("kim").says(CHANNEL, "!deploy shop bad=1").await;
    test.expect(CHANNEL, "[1] shop the newest -> dev FAILED in test").await;
    test.advance(MINUTE).await;
    assert_eq!(acted.done(), ["test#1"]);
    test.user("kim").says(CHANNEL, "!deploy shop").await;
    test.advance(3 * SECOND).await;
    test.user("ana").says(CHANNEL, "!abort 2").await;
    test.expect(CHANNEL, "[2] shop the newest -> dev aborted").await;
    test.advance(MINUTE).await;
    assert_eq!(acted.done(), ["test#1", "test#1"], "an abort begins nothing");
    test.user("kim").says(CHANNEL, "!deploy shop").await;
    test.advance(MINUTE).await;
    test.expect(CHANNEL, "[3] shop the newest -> dev FAILED in one[1]").await;
    assert_eq!(
        acted.done().iter().filter(|done| done.starts_with("one")).count(),
        1,
        "the first failure ends the others"
    );
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn a_condition_on_the_matrix_leaves_out_single_ones_and_what_needs_the_others_goes_on() {
    let (test, acted) = with(
        "app: shop\nparams: {host: {type: string, default: b}}\npolicy: {environments: {dev: {confirm: never, require_flag: \"-\"}}}\nstages:\n  host: {matrix: {host: [a, b, c]}, when: \"matrix.host != params.host\", acted: {}}\n  after: {needs: [host], when: \"host.result == 'succeeded'\", acted: {}}\n  none: {matrix: {host: [a, b]}, when: \"matrix.host == 'x'\", acted: {}}\n  last: {needs: [none], acted: {}}\n",
    )
    .await;
    test.user("kim").says(CHANNEL, "!deploy shop").await;
    test.advance(10 * SECOND).await;
    test.expect(CHANNEL, "[1] shop the newest is live on dev").await;
    let mut done = acted.done();
    done.sort();
    assert_eq!(done, ["after#1", "host[a]#1", "host[c]#1"]);
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn a_stage_of_many_that_is_left_out_begins_for_none_of_them() {
    let (test, acted) = with(
        "app: shop\npolicy: {environments: {dev: {confirm: never, require_flag: \"-\"}}}\nstages:\n  find: {acted: {outputs: {hosts: [web1, web2]}}}\n  host: {needs: [find], matrix: {host: \"{find.hosts}\"}, acted: {}}\n  end: {needs: [\"host?\"], acted: {}}\n",
    )
    .await;
    test.user("ana").says(CHANNEL, "!deploy shop --skip host").await;
    test.advance(10 * SECOND).await;
    assert_eq!(acted.done(), ["find#1", "end#1"]);
    // What its list comes from may be left out with it.
    test.user("ana").says(CHANNEL, "!deploy shop --only end").await;
    test.advance(10 * SECOND).await;
    test.expect(CHANNEL, "[2] shop the newest is live on dev").await;
    assert_eq!(acted.done(), ["find#1", "end#1", "end#1"]);
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_done_in_any_case_for_many_is_done_for_all_of_them_after_an_abort_too() {
    let (test, acted) = with(
        "app: shop\npolicy: {environments: {dev: {confirm: never, require_flag: \"-\"}}}\nstages:\n  long: {acted: {takes: 60s}}\nfinally:\n  clean: {matrix: {host: [a, b, c], max_parallel: 1}, acted: {takes: 5s}}\n",
    )
    .await;
    test.user("ana").says(CHANNEL, "!deploy shop").await;
    test.advance(61 * SECOND).await;
    // While it cleans up.
    test.user("ana").says(CHANNEL, "!abort 1").await;
    test.advance(MINUTE).await;
    assert_eq!(acted.done(), ["long#1", "clean[a]#1", "clean[b]#1", "clean[c]#1"]);
    test.expect(CHANNEL, "[1] shop the newest -> dev aborted by ana").await;
    stop(&test).await;
}

#[tokio::test(start_paused = true)]
async fn two_of_many_never_share_a_name_and_what_is_listed_twice_is_done_once() {
    let text = |matrix: &str, hosts: &str| {
        format!(
            "app: shop\npolicy: {{environments: {{dev: {{confirm: never, require_flag: \"-\"}}}}}}\nstages:\n  find: {{acted: {{outputs: {{hosts: {hosts}}}}}}}\n  host: {{needs: [find], matrix: {matrix}, acted: {{}}}}\n"
        )
    };
    let (test, acted) = with(&text("{host: \"{find.hosts}\"}", "[web1, web2, web1]")).await;
    for (matrix, twice) in [
        ("{host: [a, b, a]}", "[a]"),
        ("{host: [1, \"1\"]}", "[1]"),
        ("{host: [\"a,b\", a], port: [c, \"b,c\"]}", "[a,b,c]"),
    ] {
        let text = text(matrix, "[]").replace("app: shop", "app: other");
        let faults = test.started().put_pipeline("other", &text).await.unwrap_err();
        let line = format!("two of its combinations would be called {twice}; write each value once");
        assert!(format!("{faults:?}").contains(&line), "{faults:#?}");
    }
    test.user("kim").says(CHANNEL, "!deploy shop").await;
    test.advance(10 * SECOND).await;
    test.expect(CHANNEL, "is live on dev").await;
    let mut done = acted.done();
    done.sort();
    assert_eq!(done, ["find#1", "host[web1]#1", "host[web2]#1"]);
    let text = text("{host: \"{find.hosts}\"}", "[1, \"1\"]").replace("app: shop", "app: other");
    test.started().put_pipeline("other", &text).await.unwrap();
    test.user("kim").says(CHANNEL, "!deploy other").await;
    test.expect(CHANNEL, "two of its combinations would be called [1]").await;
    stop(&test).await;
}
