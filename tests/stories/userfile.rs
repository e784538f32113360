//! Whoever comes from an Eggdrop brings their people along: its own user file is read, what is here already stays as it is.

use std::path::Path;
use std::time::Duration;

use masterchief::bot::{Bot, TestBot};
use masterchief::users::{Given, User};
use serde_json::Value;

use super::commands::{complained, run, said};
use super::eggdrop::{Egg, Friend};
use super::mesh::{Chief, settings};

/// An Eggdrop with people, a channel, a bot and a ban, and the file it wrote of them.
async fn written() -> (Egg, String) {
    let egg = Egg::start("HubBot", &[Friend("LeafBot", 43_320)]).await;
    let mut owner = egg.owner().await;
    let words = [
        "channel add #lab",
        "adduser carol *!carol@*.example.org",
        "setuser carol HOSTS *!c@10.0.0.?",
        "setuser carol PASS secret12",
        "setuser carol COMMENT {of the night shift}",
        "chattr carol +of|+o #lab",
        "adduser dave",
        "chattr dave -hp|+v #lab",
        "setuser dave INFO {a greeting}",
        "botattr LeafBot +gl",
        "newban *!*@bad.example owner spam",
        "newchanban #lab *!*@worse.example owner spam",
        "save",
        "tell SAVED",
    ];
    for words in words {
        owner.says(&format!(".tcl {words}")).await;
    }
    egg.logs("SAVED").await;
    let end = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let text = std::fs::read_to_string(egg.userfile()).unwrap_or_default();
        if text.contains("worse.example") {
            return (egg, text);
        }
        assert!(tokio::time::Instant::now() < end, "it saves nothing: {text}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn users(folder: &Path, args: &[&str]) -> Value {
    let output = run(folder, &[&["users", "--config", "ops", "--json"], args].concat(), "");
    assert!(output.status.success(), "{args:?}: {}", complained(&output));
    serde_json::from_str(&said(&output)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_people_and_bots_of_a_real_eggdrop_come_along_and_nobody_is_overwritten() {
    let (egg, text) = written().await;
    let folder = tempfile::tempdir().unwrap();
    assert!(run(folder.path(), &["new", "ops"], "").status.success());
    let file = egg.userfile().display().to_string();
    users(folder.path(), &["add", "Bob", "--flags", "v", "--host", "*!bob@here.example"]);
    let import = ["import", &file, "--network", "libera", "--letters", "ofvpl"];

    // First it is only looked at.
    let tried = users(folder.path(), &[import.as_slice(), &["--dry-run"]].concat());
    assert_eq!(tried["dry_run"], true);
    assert_eq!(users(folder.path(), &["list"]).as_array().unwrap().len(), 1, "{text}");
    let taken = users(folder.path(), &import);
    let person = |handle: &str| {
        let all = taken["people"].as_array().unwrap();
        all.iter().find(|one| one["handle"] == handle).unwrap_or_else(|| panic!("{handle}: {taken:#}\n{text}")).clone()
    };
    let left = |handle: &str| person(handle)["not_taken"].to_string();
    assert!(left("owner").contains("the flags hjmntx") && left("owner").contains("the password"), "{taken:#}");
    assert!(left("carol").contains("the password"), "{taken:#}");
    assert_eq!(taken["alone"]["bob"], "is here already", "{taken:#}");
    assert_eq!((&taken["masks"], &taken["bots"][0]["name"]), (&Value::from(2), &Value::from("LeafBot")), "{text}");

    let show = |handle: &str| users(folder.path(), &["show", handle]);
    let carol = show("carol");
    assert_eq!((&carol["flags"], &carol["channels"]["libera/#lab"]), (&Value::from("flop"), &Value::from("lo")));
    assert_eq!(carol["hosts"], serde_json::json!(["*!c@10.0.0.?", "*!carol@*.example.org"]), "{text}");
    assert_eq!((&carol["comment"], &carol["password"]), (&Value::from("of the night shift"), &Value::from(false)));
    assert_eq!(
        (&show("owner")["flags"], &show("dave")["channels"]["libera/#lab"]),
        (&Value::from("lop"), &Value::from("v"))
    );
    let bob = show("bob");
    assert_eq!((&bob["flags"], &bob["hosts"]), (&Value::from("v"), &serde_json::json!(["*!bob@here.example"])));

    // A second time nothing is done: what was changed here meanwhile stays.
    users(folder.path(), &["chattr", "carol", "-o"]);
    let again = users(folder.path(), &import);
    assert_eq!(
        (again["people"].as_array().unwrap().len(), again["bots"].as_array().unwrap().len()),
        (0, 0),
        "{again:#}"
    );
    assert_eq!(show("carol")["flags"], "flp");
    let shown = run(folder.path(), &["users", "--config", "ops", "import", &file], "");
    assert!(said(&shown).contains("left alone: carol: is here already"), "{}", said(&shown));
    let none = run(folder.path(), &["users", "--config", "ops", "import", "ops/scripts/hello.lua"], "");
    assert!(complained(&none).contains("no user file of an Eggdrop"), "{}", complained(&none));

    // The bot is known at the next start: where it listens, and that it is a leaf; it is called by nobody yet.
    let chief = Chief::start(&folder.path().join("ops/data"), settings("Chief")).await;
    let view = chief.mesh.view();
    let leaf = view.records.iter().find(|record| record.name.as_str() == "LeafBot").unwrap();
    assert_eq!(leaf.settings.addresses[0].to_string(), "127.0.0.1:43320");
    assert!(leaf.settings.attrs().leaf && !leaf.settings.attrs().hub && leaf.password.is_none());
    chief.bot.stop("").await;
}

#[tokio::test(start_paused = true)]
async fn it_is_seen_with_which_bot_somebody_came_and_a_word_or_another_handle_makes_them_ours() {
    let test = TestBot::start(Bot::builder()).await.unwrap();
    test.user("mia").with_flags("+m");
    let bot = test.started();
    let given = || User { given_by: Some(Given::by("HubBot")), ..User::new("carol").unwrap() };
    bot.put_user(given()).await.unwrap();
    test.user("mia").says("chief", ".whois carol").await;
    test.expect("mia", "came with HubBot, which may add to it; .own carol ends that").await;
    test.user("mia").says("chief", ".own carol").await;
    test.expect("mia", "carol is ours now; HubBot adds nothing to it").await;
    assert_eq!(bot.book().get("carol").unwrap().given_by, None);
    test.user("mia").says("chief", ".own carol").await;
    test.expect("mia", "carol came with no bot").await;
    // HubBot knows her by this handle still; by another it knows nobody, or somebody else.
    bot.put_user(given()).await.unwrap();
    test.user("mia").says("chief", ".chhandle carol Carol").await;
    test.expect("mia", "carol is Carol now").await;
    assert_eq!(bot.book().get("carol").unwrap().given_by, Some(Given::by("HubBot")));
    test.user("mia").says("chief", ".chhandle Carol caroline").await;
    test.expect("mia", "Carol is caroline now").await;
    assert_eq!(bot.book().get("caroline").unwrap().given_by, None);
    test.stop().await;
}
