//! Who may do what where is a table that is tried, and what breaks it is not taken.

use std::path::Path;

use masterchief::bot::{Bot, Builder, CHANNEL, NETWORK, PolicySettings, StartError, TestBot};
use masterchief::config::{self, Secrets};
use masterchief::contract::{Event, Kind};
use masterchief::pipelines::Settings;

use crate::acted::Acted;
use crate::commands::{complained, run, said};

const SHOP: &str = "app: shop\npolicy:\n  environments:\n    staging: {require_flag: d}\n    prod: {approvals: {count: 1, from: \"@payments\"}}\nstages:\n  test: {acted: {takes: 5s}, skip_flag: S}\n  rollout: {needs: [test], acted: {takes: 5s}}\n";

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// A bot with scripts and a table of a folder.
fn bot(folder: &Path) -> Builder {
    let networks = vec![NETWORK.to_owned()];
    Bot::builder()
        .executor("acted", Acted::default())
        .pipelines(Settings { folder: folder.join("config/pipelines"), ..Settings::default() })
        .scripts(&folder.join("scripts"))
        .policy(PolicySettings { file: Some(folder.join("config/policy.yaml")), networks })
}

fn row(who: &str, may: &str, words: &str) -> String {
    format!("  - {{who: {who}, in: \"{NETWORK}/{CHANNEL}\", {may}: \"{words}\"}}\n")
}

#[tokio::test(start_paused = true)]
async fn a_bot_that_would_let_the_wrong_people_do_things_does_not_start_and_says_which() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "scripts/x.lua", "bot.bind(\"pub\", \"D\", \"!x\", function() end)\n");
    write(dir.path(), "config/pipelines/shop.yaml", SHOP);
    let rows = [row("stranger", "may_not", "!x"), row("stranger", "may", "!help"), row("stranger", "may_not", "!y")];
    write(dir.path(), "config/policy.yaml", &format!("rows:\n{}", rows.concat()));
    let Err(StartError::Policy(broken)) = TestBot::start(bot(dir.path())).await else { panic!("it starts") };
    let told = broken.to_string();
    assert!(told.contains("policy.yaml:4:5: !y cannot be judged: nothing listens to !y there"), "{told}");
    assert!(told.contains("masterchief policy test") && broken.0.len() == 1, "{told}");
    let rows = [row("stranger", "may", "!x"), row("stranger", "may_not", "!help"), row("other/bob", "may", "!x")];
    write(dir.path(), "config/policy.yaml", &format!("rows:\n{}", rows.concat()));
    let Err(StartError::Policy(broken)) = TestBot::start(bot(dir.path())).await else { panic!("it starts") };
    assert!(broken.to_string().contains("policy.yaml:4:6: an account of other is nobody's on test"), "{broken}");
    write(dir.path(), "config/policy.yaml", &format!("rows:\n{}", rows[..2].concat()));
    let Err(StartError::Policy(broken)) = TestBot::start(bot(dir.path())).await else { panic!("it starts") };
    let told = broken.to_string();
    assert!(told.contains("a stranger may not !x in test/#ops, and should: it needs the flags D|-"), "{told}");
    assert!(told.contains("a stranger may !help in test/#ops, and should not"), "{told}");
    let rows = [
        row("stranger", "may_not", "!deploy shop to prod"),
        row("stranger", "may", "!who shop"),
        row("stranger", "may_not", "!approve shop/prod"),
    ];
    write(dir.path(), "config/policy.yaml", &format!("rows:\n{}", rows.concat()));
    TestBot::start(bot(dir.path())).await.unwrap().stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_running_bot_takes_nothing_that_breaks_it() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "scripts/x.lua", "bot.bind(\"pub\", \"D\", \"!x\", function() return \"guarded\" end)\n");
    write(dir.path(), "config/pipelines/shop.yaml", SHOP);
    let rows = [
        row("stranger", "may_not", "!x"),
        row("test/bob", "may_not", "!deploy shop to prod"),
        format!("  - {{who: test/bob, in: {NETWORK}, may_not: .chattr bob +o}}\n"),
    ];
    let table = format!("rows:\n{}", rows.concat());
    write(dir.path(), "config/policy.yaml", &table);
    let test = TestBot::start(bot(dir.path())).await.unwrap();
    test.user("bob").with_flags("+d");
    test.user("olga").with_flags("+nD").says("chief", ".chattr bob +D").await;
    let line = test.expect("olga", "the policy does not hold").await;
    assert!(line.contains("masterchief policy test"), "{line}");
    test.expect("olga", "policy.yaml:3:5: test/bob may !deploy shop to prod in test/#ops, and should not").await;
    assert_eq!(test.started().book().get("bob").unwrap().flags.to_string(), "d");
    // A script that is saved.
    write(dir.path(), "scripts/x.lua", "bot.bind(\"pub\", \"-|-\", \"!x\", function() return \"open\" end)\n");
    let report = test.started().reload_scripts().await;
    assert!(report.failed[0].to_string().contains("a stranger may !x"), "{report:?}");
    test.user("mallory").says(CHANNEL, "!x").await;
    test.expect("mallory", "!x needs the flags D").await;
    test.user("olga").says(CHANNEL, "!x").await;
    test.expect(CHANNEL, "guarded").await;
    // A script that binds while it runs, or takes the bind away that stands before another.
    let late = "bot.bind(\"pub\", \"D\", \"!x\", function() return \"guarded\" end)\nlocal over = bot.bind(\"pub\", \"D\", \"!y\", function() end)\n\
        bot.bind(\"pub\", \"D\", \"!late\", function() return tostring(select(2, pcall(bot.bind, \"pub\", \"-|-\", \"!x\", function() end))) end)\n\
        bot.bind(\"pub\", \"D\", \"!fine\", function() bot.bind(\"pub\", \"D\", \"!z\", function() return \"z\" end); over:unbind() return \"bound\" end)\n";
    write(dir.path(), "scripts/x.lua", late);
    let report = test.started().reload_scripts().await;
    assert!(report.failed.is_empty(), "{report:?}");
    test.user("olga").says(CHANNEL, "!late").await;
    test.expect(CHANNEL, "a stranger may !x").await;
    test.user("mallory").says(CHANNEL, "!x").await;
    test.user("olga").says(CHANNEL, "!fine").await;
    test.expect(CHANNEL, "bound").await;
    test.user("olga").says(CHANNEL, "!z").await;
    test.expect(CHANNEL, "z").await;
    // A configuration, and a table of another mind.
    let global = "networks: {test: {servers: [\"irc.test:6667\"], tls: false, channels: [\"#ops\"]}}\n";
    write(dir.path(), "config/global/config.yaml", &format!("{global}users: {{roles: {{lead: D}}}}\n"));
    let load = || config::load(Some(dir.path()), None, Secrets::Needed).unwrap();
    test.started().reconfigure(&load()).await.unwrap();
    let mut bob = masterchief::users::User::clone(&test.started().book().get("bob").unwrap());
    bob.roles.push("idle".to_owned());
    write(dir.path(), "config/global/config.yaml", &format!("{global}users: {{roles: {{idle: v}}}}\n"));
    test.started().reconfigure(&load()).await.unwrap();
    test.started().book().put(bob).unwrap();
    write(dir.path(), "config/global/config.yaml", &format!("{global}users: {{roles: {{idle: D}}}}\n"));
    let refused = test.started().reconfigure(&load()).await.unwrap_err().to_string();
    assert!(refused.contains("policy.yaml:3:5: test/bob may !deploy shop to prod"), "{refused}");
    write(dir.path(), "config/global/config.yaml", &format!("{global}users: {{roles: {{idle: v}}}}\n"));
    write(dir.path(), "config/policy.yaml", &format!("{table}{}", row("stranger", "may", "!x")));
    assert!(test.started().reconfigure(&load()).await.is_err());
    test.user("bob").says(CHANNEL, "!deploy shop to prod").await;
    test.expect(CHANNEL, "bob: you may deploy shop to staging, not to prod").await;
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pipelines_places_roles_and_elevations_are_judged_as_the_engine_does() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "config/pipelines/shop.yaml", SHOP);
    write(dir.path(), "scripts/none.lua", "");
    let in_ops = |who: &str, may: &str, words: &str| row(who, may, words);
    let rows = [
        in_ops("test/ana", "may", "!deploy shop/v1 to prod"),
        in_ops("test/ana", "may_not", "!deploy shop to prod --skip test"),
        in_ops("test/ana", "may_not", "!approve shop/prod"),
        in_ops("test/lee", "may", "!approve shop/prod"),
        in_ops("test/lee", "may_not", "!lock shop/prod 2h mine"),
        in_ops("test/kim", "may_not", "!deploy shop to prod"),
        in_ops("test/kim", "may", "!deploy shop to staging"),
        format!("  - {{who: test/kim, in: \"{NETWORK}/{CHANNEL}\", elevated: true, may: \"!rollback shop prod\"}}\n"),
        "  - {who: \"login:ana\", in: partyline, may: .who, may_not: [.die, .chattr kim +n]}\n".to_owned(),
        in_ops("\"host:ana!a@h\"", "may_not", "!deploy shop to prod"),
    ];
    write(dir.path(), "config/policy.yaml", "rows: []\n");
    let roles = std::collections::BTreeMap::from([("payments".to_owned(), "v".to_owned())]);
    let users = masterchief::users::Settings { roles, ..Default::default() };
    let test = TestBot::start(bot(dir.path()).users(users)).await.unwrap();
    test.user("ana").with_flags("+Dp");
    test.user("kim").with_flags("+d");
    test.user("lee").with_flags("+p");
    let book = test.started().book().clone();
    let change = |handle: &str, change: &dyn Fn(&mut masterchief::users::User)| {
        let mut user = masterchief::users::User::clone(&book.get(handle).unwrap());
        change(&mut user);
        book.put(user).unwrap();
    };
    change("lee", &|user| user.roles.push("payments".to_owned()));
    change("kim", &|user| user.change_sudo("+D").unwrap());
    change("ana", &|user| user.add_host("*!a@h").unwrap());
    write(dir.path(), "config/policy.yaml", &format!("rows:\n{}", rows.concat()));
    let global = "networks: {test: {servers: [\"irc.test:6667\"], tls: false, channels: [\"#ops\"]}}\nusers: {roles: {payments: v}}\n";
    write(dir.path(), "config/global/config.yaml", global);
    let config = config::load(Some(dir.path()), None, Secrets::Needed).unwrap();
    test.started().reconfigure(&config).await.unwrap();
    test.stop().await;
}

#[test]
fn it_is_tried_and_shown_from_the_command_line_and_a_bot_that_fails_it_does_not_run() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    write(folder, "config/global/config.yaml", "partyline: {nick: chief}\n");
    write(folder, "scripts/x.lua", "bot.bind(\"pub\", \"D\", \"!x\", function() end)\n");
    assert!(run(folder, &["users", "add", "alice", "--flags", "D"], "").status.success());
    let lent = run(folder, &["users", "sudo", "alice", "+n"], "");
    assert!(said(&lent).contains("alice may lend themselves +jlmnoptx"), "{}", said(&lent));
    let none = run(folder, &["policy", "test"], "");
    assert!(!none.status.success() && complained(&none).contains("write a table"), "{}", complained(&none));
    write(folder, "config/policy.yaml", "rows:\n  - {who: \"login:alice\", in: \"partyline/#ops\", may: \"!x\"}\n");
    let tried = run(folder, &["policy", "test"], "");
    assert!(said(&tried).contains("it holds: 1 sentence"), "{}{}", said(&tried), complained(&tried));
    write(folder, "other.yaml", "rows:\n  - {who: \"login:alice\", in: \"partyline/#ops\", may_not: \"!x\"}\n");
    let other = run(folder, &["policy", "test", "other.yaml"], "");
    assert_eq!(other.status.code(), Some(1));
    assert!(complained(&other).contains("other.yaml:2:5: login:alice may !x"), "{}", complained(&other));
    write(folder, "bad.yaml", "rows:\n  - {who: \"login:alice\", in: \"partyline/#ops\", mayy: \"!x\"}\n");
    let bad = run(folder, &["policy", "test", "bad.yaml"], "");
    assert_eq!(bad.status.code(), Some(2));
    assert!(complained(&bad).contains("bad.yaml:2:"), "{}", complained(&bad));
    let shown = said(&run(folder, &["policy", "show"], ""));
    assert!(shown.contains("holds  login:alice in partyline/#ops: may !x"), "{shown}");
    let of =
        |word: &str| shown.lines().find(|line| line.split_whitespace().nth(1) == Some(word)).unwrap_or("").to_owned();
    assert!(of("!x").ends_with("alice") && of("!reload").ends_with("n|-     alice (by !sudo)"), "{shown}");
    std::fs::rename(folder.join("other.yaml"), folder.join("config/policy.yaml")).unwrap();
    let checked = run(folder, &["check"], "");
    assert_eq!(checked.status.code(), Some(2), "{}", said(&checked));
    assert!(complained(&checked).contains("policy.yaml:2:5: login:alice may !x"), "{}", complained(&checked));
    let ran = run(folder, &["run", "--no-console"], "");
    assert_eq!(ran.status.code(), Some(1), "{}", said(&ran));
    assert!(complained(&ran).contains("policy.yaml:2:5: login:alice may !x"), "{}", complained(&ran));
}

#[tokio::test(start_paused = true)]
async fn people_are_changed_on_no_road_so_that_it_breaks() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "scripts/x.lua", "bot.bind(\"pub\", \"D\", \"!x\", function() end)\n");
    write(dir.path(), "config/policy.yaml", "rows: []\n");
    let test = TestBot::start(bot(dir.path())).await.unwrap();
    test.user("bob").with_flags("+D");
    test.user("olga").with_flags("+n").says("chief", ".chattr olga +m").await;
    test.expect("olga", "olga has the flags").await;
    write(dir.path(), "config/policy.yaml", &format!("rows:\n{}", row("test/bob", "may", "!x")));
    let global = "networks: {test: {servers: [\"irc.test:6667\"], tls: false, channels: [\"#ops\"]}}\n";
    write(dir.path(), "config/global/config.yaml", global);
    test.started().reconfigure(&config::load(Some(dir.path()), None, Secrets::Needed).unwrap()).await.unwrap();
    for words in [".-user bob", ".chattr bob -D"] {
        test.user("olga").says("chief", words).await;
        test.expect("olga", "the policy does not hold").await;
        test.expect("olga", "policy.yaml:2:5: test/bob may not !x in test/#ops, and should").await;
    }
    let bob = test.started().book().get("bob").unwrap();
    assert_eq!(bob.flags.to_string(), "D");
    let bare = masterchief::users::User::with_account("bob", NETWORK, "bob", "").unwrap();
    assert!(matches!(test.started().put_user(bare).await, Err(masterchief::bot::PutError::Policy(_))));
    test.user("olga").says("chief", ".chhandle bob robert").await;
    test.expect("olga", "bob is robert now").await;
    assert_eq!(test.started().book().get("robert").unwrap().flags.to_string(), "D");
    assert!(test.started().book().get("bob").is_none());
    test.stop().await;
}

#[test]
fn a_change_of_people_on_the_command_line_that_would_break_it_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    write(folder, "config/global/config.yaml", "partyline: {nick: chief}\n");
    write(folder, "scripts/x.lua", "bot.bind(\"pub\", \"D\", \"!x\", function() end)\n");
    assert!(run(folder, &["users", "add", "alice"], "").status.success());
    write(folder, "config/policy.yaml", "rows:\n  - {who: \"login:alice\", in: \"partyline/#ops\", may_not: \"!x\"}\n");
    let flags = || {
        let shown = said(&run(folder, &["users", "show", "alice"], ""));
        serde_json::from_str::<serde_json::Value>(&shown).unwrap()["flags"].as_str().unwrap().to_owned()
    };
    let before = flags();
    for (words, why) in [
        (&["users", "chattr", "alice", "+D"][..], "policy.yaml:2:5: login:alice may !x"),
        (&["users", "del", "alice"], "there is no record of alice"),
    ] {
        let refused = run(folder, words, "");
        assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
        assert!(complained(&refused).contains(why), "{}", complained(&refused));
    }
    assert_eq!(flags(), before);
    assert!(run(folder, &["users", "chattr", "alice", "+v"], "").status.success());
    // What is broken already is no reason to refuse what has nothing to do with it.
    write(folder, "config/policy.yaml", "rows:\n  - {who: \"login:alice\", in: \"partyline/#ops\", may: \"!x\"}\n");
    assert!(run(folder, &["users", "chattr", "alice", "-v"], "").status.success());
}

#[test]
fn the_example_is_a_table() {
    let text = include_str!("../../config/policy.example.yaml");
    let table = masterchief::bot::PolicyTable::parse(Path::new("policy.example.yaml"), text).unwrap();
    assert_eq!(table.rows.len(), 7);
    let told = text.replace("  # - {", "  - {");
    assert_eq!(masterchief::bot::PolicyTable::parse(Path::new("x"), &told).unwrap().rows.len(), 8, "the last one too");
}

/// What a handler would say is not asked here: only whether it would be called.
#[tokio::test(start_paused = true)]
async fn binds_of_programs_that_embed_the_bot_are_judged_too() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "config/policy.yaml", &format!("rows:\n{}", row("stranger", "may_not", "!rust")));
    std::fs::create_dir(dir.path().join("scripts")).unwrap();
    let with = |flags: &str| bot(dir.path()).bind(Kind::Pub, flags, "!rust", |_: Event| async { "done" }).unwrap();
    assert!(matches!(TestBot::start(with("-|-")).await, Err(StartError::Policy(_))));
    TestBot::start(with("o|o")).await.unwrap().stop().await;
}
