//! `confirm: always`, way by way: whoever can be asked is asked, and who is nobody is not.

use masterchief::bot::{Bot, CHANNEL, Started, TestBot};
use masterchief::gateway;
use masterchief::pipelines::{RunState, Settings};
use masterchief::users::{FlagSet, User};
use serde_json::{Value, json};

use super::acted::Acted;
use super::deploys::state;

const SHOP: &str = "app: shop\ntriggers: [{webhook: {bind: github/push}}]\nparams: {environment: {type: choice, of: [prod], default: prod}}\npolicy: {environments: {prod: {confirm: always}}}\nstages: {rollout: {acted: {takes: 0s}}}\n";
const CI: &str = "the-token-of-the-ci-server";
const ANA: &str = "the-token-that-is-ana";
const RAJ: &str = "the-token-that-is-raj";

async fn site() -> (Started, tempfile::TempDir) {
    let tokens = json!({"ci": {"token": CI, "flags": "D"}, "anas": {"token": ANA, "flags": "D", "handle": "ana"}, "rajs": {"token": RAJ, "flags": "D", "handle": "raj"}});
    let settings: gateway::Settings =
        serde_json::from_value(json!({"listen": "127.0.0.1:0", "tokens": tokens})).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let bot = Bot::builder().executor("acted", Acted::default()).pipelines(Settings::default()).gateway(settings);
    let bot = bot.data(folder.path()).start().await.unwrap();
    let text = SHOP.replace("triggers: [{webhook: {bind: github/push}}]\n", "");
    bot.put_pipeline("shop", &text).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
    for handle in ["ana", "raj"] {
        let mut user = User::new(handle).unwrap();
        user.flags = FlagSet::parse("D").unwrap();
        bot.put_user(user).await.unwrap();
    }
    (bot, folder)
}

async fn post(bot: &Started, token: &str, path: &str, body: Value) -> (u16, Value) {
    let url = format!("http://{}/pipelines/{path}", bot.gateway_at().unwrap());
    let answer = reqwest::Client::new().post(url).bearer_auth(token).body(body.to_string()).send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn over_http_a_person_is_shown_the_plan_and_says_yes_and_a_program_is_not_asked() {
    let (bot, _folder) = site().await;
    let (status, told) = post(&bot, CI, "trigger", json!({"app": "shop", "ref": "v1"})).await;
    assert_eq!((status, &told["id"], &told["yes"]), (202, &json!(1), &Value::Null), "{told}");
    let (run, _) = bot.pipelines().ended(1).await.unwrap().unwrap();
    assert_eq!(run.state, RunState::Succeeded);

    let (status, told) = post(&bot, ANA, "trigger", json!({"app": "shop", "ref": "v2"})).await;
    assert_eq!(status, 202);
    assert_eq!((&told["state"], &told["yes"]), (&json!("awaiting_confirm"), &json!("/pipelines/2/yes")), "{told}");
    assert!(told["lines"][0].as_str().unwrap().starts_with("shop -> prod: v2 replaces v1."), "{told}");
    assert_eq!(post(&bot, CI, "2/yes", json!({})).await.0, 403, "a program says yes to nothing");
    let (status, told) = post(&bot, RAJ, "2/yes", json!({})).await;
    assert!(status == 403 && told["error"].as_str().unwrap().contains("only ana can say yes to run 2"), "{told}");
    let (status, told) = post(&bot, ANA, "2/yes", json!({})).await;
    assert_eq!((status, &told["yes"]), (202, &Value::Null), "{told}");
    let (run, _) = bot.pipelines().ended(2).await.unwrap().unwrap();
    assert_eq!(run.state, RunState::Succeeded);

    // Any word that asks for a run is the same.
    for (word, text) in [("words/deploy", "shop/v3 to prod"), ("words/again", "2")] {
        let (status, told) = post(&bot, ANA, word, json!({"text": text})).await;
        assert_eq!((status, &told["state"]), (202, &json!("awaiting_confirm")), "{word}: {told}");
    }
    bot.stop("").await;
}

#[tokio::test(start_paused = true)]
async fn a_script_says_by_itself_what_it_wants_and_a_trigger_has_nobody_to_ask() {
    let dir = tempfile::tempdir().unwrap();
    let lua = "bot.caps{ pipelines = {\"shop\"} }\nbot.bind(\"pub\", \"-|-\", \"!ship\", function(ev) return \"run \" .. pipeline.start(\"shop\", { ref = \"v1\" }) end)\n";
    std::fs::write(dir.path().join("ship.lua"), lua).unwrap();
    let bot = Bot::builder().executor("acted", Acted::default()).pipelines(Settings::default()).scripts(dir.path());
    let test = TestBot::start(bot).await.unwrap();
    test.started().put_pipeline("shop", SHOP).await.unwrap_or_else(|faults| panic!("{faults:#?}"));
    test.advance(std::time::Duration::from_secs(2)).await;
    test.user("ana").with_flags("+D").says(CHANNEL, "!ship").await;
    test.expect(CHANNEL, "run 1").await;
    let posted = json!({"kind": "webhook", "lane": "github", "key": "w1", "text": "{}", "fields": {"provider": "github", "event": "push", "route": "github", "repo": "acme/shop", "ref": "main", "delivery": "w1"}});
    test.started().happens(serde_json::from_value(posted).unwrap()).await.unwrap();
    test.advance(std::time::Duration::from_secs(10)).await;
    assert_eq!((state(&test, 1).await, state(&test, 2).await), (RunState::Succeeded, RunState::Succeeded));
    // In the channel she is asked.
    test.user("ana").says(CHANNEL, "!deploy shop/v2 to prod").await;
    test.expect(CHANNEL, "ana: say \"!yes 3\" within 2 min to start").await;
    test.stop().await;
}
