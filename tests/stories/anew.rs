//! What was asked for is asked for anew (`!again`), and what becomes of runs whose pipeline another version of the bot wrote.

use std::path::Path;
use std::time::Duration;

use masterchief::bot::{Bot, CHANNEL, Started, TestBot};
use masterchief::pipelines::{Ask, Asked, Asker, May, Prepared, Run, RunState, Settings, StageRun};
use serde_json::json;

use super::acted::Acted;
use super::checkout::Origin;
use super::deploys::{builder, stop};
use super::steps::{alive, until};

const PLACE: &str = "policy: {environments: {dev: {confirm: always, require_flag: \"-\"}}}";

async fn ask(bot: &Started, ask: Ask) -> Result<Option<i64>, String> {
    let asked = Asked { ask, who: Asker::program("test"), may: May::all() };
    bot.pipelines().ask(asked).await.map(|reply| reply.run).map_err(|refusal| refusal.text)
}

#[tokio::test]
async fn again_asks_with_the_same_parameters_and_resolves_the_branch_again() {
    let (origin, data) = (Origin::new(), tempfile::tempdir().unwrap());
    let settings = Settings { folder: "".into(), ..Settings::default() };
    let bot = Bot::builder().data(data.path()).executor("acted", Acted::default()).pipelines(settings);
    let bot = bot.start().await.unwrap();
    let text = format!(
        "app: shop\nrepo: {}\nparams: {{ref: {{type: ref, default: main}}, count: {{type: int, default: 1}}}}\n{PLACE}\nstages: {{a: {{acted: {{takes: 0s}}}}}}\n",
        origin.path()
    );
    bot.put_pipeline("shop", &text).await.unwrap();
    let ana = Asker {
        handle: "ana".to_owned(),
        nick: "ana".to_owned(),
        place: "lab/#ops".to_owned(),
        origin: "irc".to_owned(),
        ..Asker::default()
    };
    let says =
        async |word: &str, text: &str| bot.pipelines().word(word, text, (&ana, &May::all())).await.unwrap().reply;
    let first = origin.git(&["rev-parse", "HEAD"]);
    let reply = says("!deploy", "shop to dev count=7").await;
    assert!(
        reply.public[0].starts_with(&format!("shop -> dev: main ({}) is the first there", &first[..7])),
        "{reply:?}"
    );
    says("!abort", "1").await;
    let second = origin.commit("a", "two", "Sell a second thing");
    // What is shown is what is there now, and what a yes is for.
    let reply = says("!again", "1").await;
    assert!(
        reply.public[0].starts_with(&format!("shop -> dev: main ({}) is the first there", &second[..7])),
        "{reply:?}"
    );
    assert!(reply.lines[0].starts_with("say \"!yes 2\""), "{reply:?}");
    let third = origin.commit("a", "three", "What nobody saw");
    says("!yes", "2").await;
    let run = async |number: i64| bot.pipelines().ended(number).await.unwrap().unwrap().0;
    assert_eq!((run(1).await.sha, run(2).await.sha), (first, second.clone()));
    assert_eq!((run(2).await.params["count"].clone(), run(2).await.state), (json!(7), RunState::Succeeded));
    // A program asks once.
    let number = ask(&bot, Ask::Again(2)).await.unwrap().unwrap();
    assert_eq!((run(number).await.sha, run(number).await.commit_count), (third, 1));
    assert_eq!(run(number).await.before.map(|before| before.sha), Some(second));
    bot.stop("").await;
}

#[tokio::test(start_paused = true)]
async fn again_is_for_what_is_over_and_what_it_asks_for_is_judged_anew() {
    let test = TestBot::start(builder(&Acted::default())).await.unwrap();
    let text = "app: shop\nparams: {count: {type: int, default: 1}}\npolicy:\n  idempotency: {key: \"{environment}\", window: 1h}\n  environments: {dev: {confirm: never, require_flag: \"-\"}, prod: {confirm: never}}\nstages: {a: {acted: {takes: 20s, undo: 1s}, rollback: undo}}\n";
    test.started().put_pipeline("shop", text).await.unwrap();
    let ana = test.user("ana").with_flags("+D");
    ana.says(CHANNEL, "!deploy shop/v1 to prod count=2").await;
    test.expect(CHANNEL, "[1] shop v1 -> prod started").await;
    test.user("ana").says(CHANNEL, "!again 1").await;
    test.expect(CHANNEL, "ana: run 1 is running").await;
    test.user("ana").says(CHANNEL, "!again 9").await;
    test.expect(CHANNEL, "ana: there is no run 9").await;
    test.advance(Duration::from_secs(30)).await;
    test.expect(CHANNEL, "[1] shop v1 is live on prod").await;
    test.user("mallory").says(CHANNEL, "!again 1").await;
    test.expect(CHANNEL, "mallory: I do not know you").await;
    // As it stands in the file now.
    test.started()
        .put_pipeline("other", "app: other\npolicy: {environments: {dev: {}}}\nstages: {a: {nothing: true}}\n")
        .await
        .unwrap();
    assert_eq!(ask(&test.started(), Ask::Again(1)).await, Ok(Some(2)), "a program means it too, whatever the key");
    test.advance(Duration::from_secs(30)).await;
    test.user("ana").says(CHANNEL, "!rollback shop prod").await;
    test.advance(Duration::from_secs(30)).await;
    test.expect(CHANNEL, "[3] shop v1 is live again on prod").await;
    test.user("ana").says(CHANNEL, "!again 3").await;
    test.expect(CHANNEL, "ana: run 3 undid another; !rollback shop prod undoes what is live there now").await;
    stop(&test).await;
}

/// How many runs ended because their pipeline cannot be read, as the incident log has it.
async fn ended_so(bot: &Started) -> usize {
    let log = bot.pipelines().records().incidents(Some("shop"), 0, 100).await.unwrap();
    log.iter().filter(|row| row.text.contains("cannot be read any more")).count()
}

/// Whether it was told in one line, with what to do.
async fn is_told_once(bot: &Started, run: i64) {
    let rows = bot.pipelines().records().notices(run).await.unwrap();
    let ended: Vec<&String> = rows.iter().map(|row| &row.text).filter(|line| line.contains(" ended: ")).collect();
    let [line] = ended.as_slice() else { panic!("{rows:#?}") };
    let begin =
        format!("[{run}] shop v2 -> dev ended: this version of the bot cannot read the pipeline it began with (");
    let end = format!(" !again {run} asks anew with the one there is now | !run {run}");
    assert!(line.starts_with(&begin) && line.ends_with(&end) && line.len() < 400, "{line}");
}

/// Waits in all states that a run can wait in, and one that runs a command.
const OLD: &str = "app: shop\npolicy:\n  environments:\n    dev: {confirm: never}\n    prod: {confirm: never, approvals: {count: 1}}\nstages:\n  work: {shell: [sh, -c, \"echo $$ > PID; exec sleep 300\"]}\n  more: {needs: [work], acted: {}}\n";

#[tokio::test]
async fn runs_whose_pipeline_cannot_be_read_any_more_end_and_are_asked_for_anew() {
    let dir = tempfile::tempdir().unwrap();
    let pid = dir.path().join("pid");
    let text = OLD.replace("PID", &pid.display().to_string());
    let before = |bot: masterchief::bot::Builder| {
        let supervisor = Path::new(env!("CARGO_BIN_EXE_masterchief"));
        let settings = Settings { folder: "".into(), ..Settings::default() };
        bot.data(&dir.path().join("data")).supervisor(supervisor).pipelines(settings)
    };
    // The version before knows the work of `more`.
    let bot = before(Bot::builder().executor("acted", Acted::default())).start().await.unwrap();
    bot.put_pipeline("shop", &text).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
    let deploy = async |env: &str| {
        let environment = Some(env.to_owned());
        let prepared = Prepared { app: "shop".to_owned(), environment, unattended: true, ..Prepared::default() };
        ask(&bot, Ask::Deploy(Box::new(prepared))).await.unwrap().unwrap()
    };
    let (runs, waits, asks) = (deploy("dev").await, deploy("dev").await, deploy("prod").await);
    // One that was asked for in a channel waits too.
    let ana =
        Asker { handle: "ana".to_owned(), place: "lab/#ops".to_owned(), origin: "irc".to_owned(), ..Asker::default() };
    let asked = bot.pipelines().word("deploy", "shop/v2 to dev", (&ana, &May::all())).await.unwrap().reply.run.unwrap();
    // One of another app was given something in secret.
    let vault = "app: vault\nparams: {key: {type: string, secret: true}}\npolicy: {environments: {dev: {confirm: never}}}\nstages: {work: {shell: [sleep, \"300\"]}, more: {needs: [work], acted: {}}}\n";
    bot.put_pipeline("vault", vault).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
    let params = [("key".to_owned(), json!("hunter2"))].into_iter().collect();
    let prepared = Prepared { app: "vault".to_owned(), params, unattended: true, ..Prepared::default() };
    let secret = ask(&bot, Ask::Deploy(Box::new(prepared))).await.unwrap().unwrap();
    let given = dir.path().join(format!("data/runs/{secret}/.given"));
    until("the secret to be kept", || given.exists()).await;
    until("the command", || alive(&pid)).await;
    bot.stop("").await;

    // This one does not: what is recorded is one unknown key to it.
    let bot = before(Bot::builder()).start().await.unwrap();
    let state = async |number: i64| bot.pipelines().run(number).await.unwrap().unwrap().0.state;
    for (number, ended) in [(runs, RunState::Failed), (waits, RunState::Cancelled), (asks, RunState::Cancelled)] {
        bot.pipelines().ended(number).await.unwrap();
        assert_eq!(state(number).await, ended, "run {number}");
    }
    until("the command to end", || !alive(&pid)).await;
    until("what was given in secret to be forgotten", || !given.exists()).await;
    let notices = async |number: i64| bot.pipelines().records().notices(number).await.unwrap();
    let events = bot.pipelines().records().events(runs).await.unwrap();
    assert!(events.iter().any(|row| row.data.contains("\"to\":\"failed\"")), "{events:#?}");
    assert_eq!(ended_so(&bot).await, 4);
    let told = ask(&bot, Ask::Retry(runs, None)).await.unwrap_err();
    assert!(told.contains("no environment") || told.contains("!again"), "{told}");
    assert!(notices(runs).await.is_empty(), "a program asked: nobody is told");
    is_told_once(&bot, asked).await;
    // With the file as the new version has it, the same is asked for anew; trying again says so.
    let new = text.replace("  more: {needs: [work], acted: {}}\n", "").replace("exec sleep 300", "true");
    bot.put_pipeline("shop", &new).await.unwrap();
    let told = ask(&bot, Ask::Retry(runs, None)).await.unwrap_err();
    assert!(told.contains("cannot read the pipeline that run 1 began with") && told.contains("!again 1"), "{told}");
    let number = ask(&bot, Ask::Again(runs)).await.unwrap().unwrap();
    let (run, stages) = bot.pipelines().ended(number).await.unwrap().unwrap();
    assert_eq!(run.state, RunState::Succeeded, "{stages:#?}");
    bot.stop("").await;
    // And it stays as it is.
    let bot = before(Bot::builder()).start().await.unwrap();
    let (run, _) = bot.pipelines().run(runs).await.unwrap().unwrap();
    assert_eq!(run.state, RunState::Failed);
    assert_eq!(ended_so(&bot).await, 4);
    bot.stop("").await;
}

/// A run that begins by itself, and its end; what stands in the incident log if it does not.
pub(crate) async fn comes_to_its_end(bot: &Started, number: i64) -> (Run, Vec<StageRun>) {
    for _ in 0..1500 {
        if let Some(found) = bot.pipelines().run(number).await.unwrap().filter(|(run, _)| run.state.ended()) {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("run {number} did not end: {:#?}", bot.pipelines().records().incidents(None, 0, 10).await.unwrap());
}

#[tokio::test]
async fn what_is_booked_leaves_out_what_has_nothing_to_do_as_it_was_shown() {
    let (origin, data) = (Origin::new(), tempfile::tempdir().unwrap());
    let folder = data.path().join("pipelines");
    let settings = Settings { folder: folder.clone(), ..Settings::default() };
    let acted = Acted::default();
    let start = async || {
        let bot = Bot::builder().data(data.path()).executor("acted", acted.clone()).pipelines(settings.clone());
        bot.start().await.unwrap()
    };
    let text = format!(
        "app: shop\nrepo: {}\nparams: {{ref: {{type: ref, default: main}}}}\npolicy: {{environments: {{dev: {{confirm: never, require_flag: \"-\", checks: [\"size(files) < 100\"]}}}}}}\nstages:\n  infra: {{when: \"changed('infra/**')\", acted: {{takes: 0s}}}}\n  rollout: {{acted: {{takes: 0s}}}}\n",
        origin.path()
    );
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("shop.yaml"), text).unwrap();
    let bot = start().await;
    let ana = Asker { handle: "ana".to_owned(), nick: "ana".to_owned(), ..Asker::program("ana") };
    let says = async |bot: &Started, word: &str, text: &str| {
        bot.pipelines().word(word, text, (&ana, &May::all())).await.unwrap().reply
    };
    let first = says(&bot, "!deploy!", "shop to dev the first time").await.run.unwrap();
    bot.pipelines().ended(first).await.unwrap();
    origin.commit("a", "two", "Sell a second thing");
    let day = (chrono::Utc::now() + chrono::Duration::days(1)).format("%Y-%m-%d 08:00").to_string();
    let reply = says(&bot, "!at", &format!("{day} deploy shop to dev")).await;
    assert!(reply.lines[0].starts_with("booked: shop"), "{reply:?}");
    bot.stop("").await;
    // The time has come.
    let runs = rusqlite::Connection::open(data.path().join("runs.db")).unwrap();
    runs.execute("UPDATE booking SET at = ?1", [chrono::Utc::now().timestamp_millis()]).unwrap();
    drop(runs);
    let bot = start().await;
    let (run, stages) = comes_to_its_end(&bot, first + 1).await;
    assert_eq!((run.state, run.commit_count), (RunState::Succeeded, 1), "{stages:#?}");
    let mut done = acted.done();
    done.sort();
    assert_eq!(done, ["infra#1", "rollout#1", "rollout#1"]);
    bot.stop("").await;
}

#[tokio::test]
async fn where_more_commits_go_out_than_an_environment_bears_at_once_the_plan_says_so() {
    let (origin, data) = (Origin::new(), tempfile::tempdir().unwrap());
    let settings = Settings { folder: "".into(), ..Settings::default() };
    let bot = Bot::builder().data(data.path()).executor("acted", Acted::default()).pipelines(settings);
    let bot = bot.start().await.unwrap();
    let place =
        |name: &str, most: usize| format!("{name}: {{confirm: always, require_flag: \"-\", max_commits: {most}}}");
    let text = format!(
        "app: shop\nrepo: {}\nparams: {{ref: {{type: ref, default: main}}}}\npolicy: {{environments: {{{}, {}}}}}\nstages: {{a: {{acted: {{takes: 0s}}}}}}\n",
        origin.path(),
        place("dev", 2),
        place("prod", 1)
    );
    bot.put_pipeline("shop", &text).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
    let at = "lab/#ops".to_owned();
    let ana = Asker { handle: "ana".to_owned(), nick: "ana".to_owned(), place: at, ..Asker::program("irc") };
    let says =
        async |word: &str, text: &str| bot.pipelines().word(word, text, (&ana, &May::all())).await.unwrap().reply;
    // What was asked, and what is shown of how much goes out.
    let (mut shown, mut number) = (Vec::new(), 0);
    for (commits, env) in [(0, "prod"), (1, "prod"), (2, "prod"), (0, "dev"), (2, "dev"), (3, "dev")] {
        for commit in 0..commits {
            origin.commit("a", &format!("{number} {commit}"), "Sell more");
        }
        let plan = says("!deploy", &format!("shop to {env}")).await.public[0].clone();
        let goes = plan.split_once(')').map(|(_, rest)| rest.to_owned()).unwrap_or_default();
        shown.push(goes.split_once(" Plan: ").unwrap_or_else(|| panic!("{plan}")).0.replace('\u{200b}', ""));
        number += 1;
        says("!yes", &number.to_string()).await;
        bot.pipelines().ended(number).await.unwrap();
    }
    let goes = |at: usize| shown[at].split_once("), ").unwrap_or_else(|| panic!("{shown:#?}")).1;
    assert!(shown[0].ends_with("is the first there.") && shown[3].ends_with("is the first there."), "{shown:#?}");
    assert_eq!(goes(1), "1 commit by Ana: Sell more.");
    assert_eq!(goes(2), "2 commits by Ana. More than 1 commit.");
    assert_eq!(goes(4), "2 commits by Ana.");
    assert_eq!(goes(5), "3 commits by Ana. More than 2 commits.");
    bot.stop("").await;
}
