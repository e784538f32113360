//! The form of the pages that asks for a run: what it offers, the plan it shows, and the start of that plan and no other.

use serde_json::{Value, json};

use super::web::{ANA, CI, EYE, Page, RAJ, World, error, with};

impl World {
    async fn plan(&self, cookie: &str, wanted: &Value) -> Page {
        self.post(cookie, "/deploy/shop/plan", wanted.clone()).await
    }

    async fn start(&self, cookie: &str, wanted: &Value, plan: &Value) -> Page {
        self.post(cookie, "/deploy/shop", with(wanted, plan)).await
    }
}

#[tokio::test]
async fn a_form_offers_what_somebody_may_choose_and_nothing_else() {
    let world = World::new().await;
    let ana = world.login(ANA).await;
    let form = world.get(&ana, "/deploy/shop").await;
    for shown in [
        "<option value=\"dev\">",
        "<option value=\"careful\">",
        "<option value=\"prod\">",
        "type=\"password\" autocomplete=\"new-password\" name=\"param:db_password\"",
        "type=\"number\" step=\"1\" name=\"param:count\"",
        "type=\"checkbox\" name=\"param:fast\"",
        "<select name=\"param:colour\"",
        "Ships the &lt;b&gt;shop&lt;/b&gt;.",
        "id=\"start\" type=\"button\" disabled",
        "data-live=\"/r/events?app=shop\"",
    ] {
        assert!(form.text.contains(shown), "no {shown} in {}", form.text);
    }
    // Her token has N and she has not, and to leave stages out she needs S.
    assert!(!form.text.contains("night") && !form.text.contains("Leave out"), "{}", form.text);
    assert!(world.get(&world.login(CI).await, "/deploy/shop").await.text.contains("name=\"skip\" value=\"scan\""));
    let eye = world.login(EYE).await;
    assert_eq!(world.get(&eye, "/deploy/shop").await.status, 403);
    assert!(!world.get(&eye, "/deploy").await.text.contains("/deploy/shop"));
    assert_eq!(world.get(&ana, "/deploy/shoop").await.status, 404);
    world.bot.stop("").await;
}

#[tokio::test]
async fn a_plan_is_shown_first_and_only_that_plan_starts() {
    let world = World::new().await;
    let (ana, eye) = (world.login(ANA).await, world.login(EYE).await);
    let dev = json!({"environment": "dev", "params": {"count": "4", "fast": "true", "colour": "green"}});
    for (wanted, status) in [
        (json!({"environment": "night"}), 403),
        (json!({"environment": "moon"}), 404),
        (json!({"environment": "dev", "skip": ["scan"]}), 403),
        (json!({"environment": "dev", "params": {"count": "many"}}), 422),
        (json!({"environment": "dev", "params": {"cuont": "1"}}), 422),
        (json!({"environment": "dev", "reason": "past all rules"}), 422),
    ] {
        assert_eq!(world.plan(&ana, &wanted).await.status, status, "{wanted}");
    }
    assert_eq!(world.plan(&eye, &dev).await.status, 403);
    assert_eq!(world.start(&ana, &dev, &json!({"code": "", "key": ""})).await.status, 422, "without a plan");
    let shown = world.plan(&ana, &dev).await.json();
    assert!(shown["line"].as_str().unwrap().contains("Plan: test, scan, rollout"), "{shown}");
    assert!(shown["html"].as_str().unwrap().contains("after test, scan"), "{shown}");
    assert_eq!(world.get(&ana, "/r").await.text.matches("/r/1").count(), 0, "a plan is no run");
    // What was shown is not what would be done any more: another choice, or something else went live meanwhile.
    let other = world.start(&ana, &json!({"environment": "dev"}), &shown).await;
    assert!(other.status == 409 && error(&other).contains("not what was shown any more"), "{}", other.text);
    let first = world.begin(&ana, json!({"environment": "dev"})).await;
    let mut follower = world.follow(&ana, &format!("/r/{first}/events")).await;
    follower.until("head", "succeeded").await;
    assert_eq!(world.start(&ana, &dev, &shown).await.status, 409);
    let shown = world.plan(&ana, &dev).await.json();
    let begun = world.start(&ana, &dev, &shown).await;
    assert_eq!((begun.status, &begun.json()["page"]), (202, &json!("/r/2")), "{}", begun.text);
    assert_eq!(world.start(&ana, &dev, &shown).await.json()["id"], 2, "pressed twice, it is one run");
    let mut follower = world.follow(&ana, "/r/2/events").await;
    follower.until("head", "succeeded").await;
    assert!(follower.parts["head"].contains("colour=green") && follower.parts["head"].contains("count=4"));
    world.bot.stop("").await;
}

#[tokio::test]
async fn the_page_asks_for_a_yes_and_for_approvals_where_the_channel_does() {
    let world = World::new().await;
    let ana = world.login(ANA).await;
    // Where the channel asks for a yes, so does the page; a program's token is nobody who could say it.
    let careful = json!({"environment": "careful"});
    let ci = world.login(CI).await;
    let shown = world.plan(&ci, &careful).await.json();
    assert!(shown["code"].is_null() && shown["html"].as_str().unwrap().contains("no person stands behind"), "{shown}");
    let code = world.plan(&ana, &careful).await.json();
    assert!(code["confirm"] == true && code["html"].as_str().unwrap().contains("say yes to it once more"), "{code}");
    let forged = world.start(&ci, &careful, &code).await;
    assert!(forged.status == 403 && error(&forged).contains("no person stands behind"), "{}", forged.text);
    let waiting = world.start(&ana, &careful, &code).await.json();
    let number = waiting["id"].as_i64().unwrap();
    let mut follower = world.follow(&ana, &format!("/r/{number}/events")).await;
    follower.until("head", "awaiting confirm").await;
    assert!(follower.parts["words"].contains("Yes, start it"), "{:?}", follower.parts);
    let raj = world.login(RAJ).await;
    assert_eq!(world.post(&raj, &format!("/r/{number}/yes"), json!({})).await.status, 403);
    assert_eq!(world.post(&ana, &format!("/r/{number}/yes"), json!({})).await.status, 202);
    follower.until("head", "succeeded").await;

    // Who else has to agree, and what is left out, stand in the plan.
    let shown = world.plan(&ana, &json!({"environment": "prod"})).await.json();
    assert_eq!(shown["approvals"], "1 approval from raj, not ana");
    let skipping = json!({"environment": "dev", "skip": ["scan"]});
    let shown = world.plan(&ci, &skipping).await.json();
    assert!(shown["html"].as_str().unwrap().contains("left out"), "{shown}");
    let number = world.start(&ci, &skipping, &shown).await.json()["id"].as_i64().unwrap();
    let mut follower = world.follow(&ci, &format!("/r/{number}/events")).await;
    follower.until("head", "succeeded").await;
    assert!(follower.state("stage:scan") == "skipped" && follower.parts["head"].contains("<dt>Left out</dt><dd>scan"));
    world.bot.stop("").await;
}
