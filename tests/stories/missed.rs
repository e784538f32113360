//! What was said while the bot was away is asked for, and is no command.

use masterchief::contract::{Event, Kind};

use crate::ircv3::{CAPS, joined, telling, told};
use crate::wire::Wire;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_is_asked_for_and_told_to_those_who_want_it_and_is_no_command() {
    let wire = Wire::plain().await;
    let kinds = [(Kind::Hist, "*"), (Kind::Fail, "*"), (Kind::Pub, "!deploy"), (Kind::Pubm, "*")];
    let (started, mut line) = joined(telling(&kinds), &wire, CAPS, "CHATHISTORY=50").await;
    line.says(&["@time=2026-03-02T12:00:00.000Z;msgid=1 :alice!a@h PRIVMSG #ops :before"]).await;
    assert!(told(&mut line).await.starts_with("pubm #ops alice [] before"));
    drop(line);
    let mut line = wire.accepts().await;
    line.is_joined(CAPS, "CHATHISTORY=50").await;
    assert_eq!(line.hears("CHATHISTORY").await, "CHATHISTORY LATEST #ops timestamp=2026-03-02T12:00:00.000Z 50");
    line.says(&[
        ":s BATCH +h chathistory #ops",
        "@batch=h;time=2026-03-02T12:00:00.000Z;msgid=1 :alice!a@h PRIVMSG #ops :before",
        "@batch=h;time=2026-03-02T12:00:09.000Z;msgid=2 :alice!a@h PRIVMSG #ops :!deploy prod",
        ":s BATCH -h",
        "@time=2026-03-02T12:01:00.000Z;msgid=3 :alice!a@h PRIVMSG #ops :live",
    ])
    .await;
    assert_eq!(told(&mut line).await, "hist #ops alice [how=\"say\"] !deploy prod");
    assert_eq!(told(&mut line).await, "pubm #ops alice [] live");
    // Words of every sort are told of, and those of several lines as one message.
    line.says(&[
        ":s BATCH +h chathistory #ops",
        "@batch=h;msgid=4 :alice!a@h PRIVMSG #ops :\u{1}ACTION waves\u{1}",
        "@batch=h;msgid=5 :alice!a@h NOTICE #ops :look",
        "@batch=h;msgid=6 :alice!a@h BATCH +m draft/multiline #ops",
        "@batch=m :alice!a@h PRIVMSG #ops :!deploy",
        "@batch=m;draft/multiline-concat :alice!a@h PRIVMSG #ops : in parts",
        "@batch=h :alice!a@h BATCH -m",
        "@batch=h;msgid=7 :alice!a@h PRIVMSG chief :in private",
        ":s BATCH -h",
        ":s FAIL CHATHISTORY MESSAGE_ERROR #ops :Messages could not be retrieved",
    ])
    .await;
    for wanted in [
        "hist #ops alice [how=\"act\"] waves",
        "hist #ops alice [how=\"notice\"] look",
        "hist #ops alice [how=\"say\"] !deploy in parts",
        "hist - alice [how=\"say\"] in private",
        "fail -  [level=\"FAIL\" command=\"CHATHISTORY\" code=\"MESSAGE_ERROR\" context=\"#ops\"] Messages could not be retrieved",
    ] {
        assert_eq!(told(&mut line).await, wanted);
    }
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_is_asked_for_page_after_page_as_far_as_is_configured() {
    let wire = Wire::plain().await;
    let mut settings = wire.settings();
    settings.history = 3;
    let bot = telling(&[(Kind::Hist, "*")]).network("story", settings);
    let started = bot.start().await.unwrap();
    let mut line = wire.accepts().await;
    line.is_joined(CAPS, "CHATHISTORY=2").await;
    line.says(&["@time=2026-03-02T12:00:00.000Z;msgid=1 :alice!a@h PRIVMSG #ops :before"]).await;
    line.says(&["PING :heard"]).await;
    line.hears("PONG heard").await;
    drop(line);
    let mut line = wire.accepts().await;
    line.is_joined(CAPS, "CHATHISTORY=2").await;
    assert_eq!(line.hears("CHATHISTORY").await, "CHATHISTORY LATEST #ops timestamp=2026-03-02T12:00:00.000Z 2");
    line.says(&[
        ":s BATCH +h chathistory #ops",
        "@batch=h;time=2026-03-02T12:00:08.000Z;msgid=8 :alice!a@h PRIVMSG #ops :eight",
        "@batch=h;time=2026-03-02T12:00:09.000Z;msgid=9 :alice!a@h BATCH +m draft/multiline #ops",
        "@batch=m :alice!a@h PRIVMSG #ops :nine",
        "@batch=h :alice!a@h BATCH -m",
        ":s BATCH -h",
    ])
    .await;
    // The next page is asked for while what came is told.
    let mut heard = Vec::new();
    while heard.len() < 3 {
        let said = line.next().await.unwrap();
        if said.starts_with("PRIVMSG alice :") || said.starts_with("CHATHISTORY ") {
            heard.push(said);
        }
    }
    heard.sort();
    let wanted = [
        "CHATHISTORY BETWEEN #ops timestamp=2026-03-02T12:00:08.000Z timestamp=2026-03-02T12:00:00.000Z 1",
        "PRIVMSG alice :hist #ops alice [how=\"say\"] eight",
        "PRIVMSG alice :hist #ops alice [how=\"say\"] nine",
    ];
    assert_eq!(heard, wanted, "the page was full, and one more is wanted");
    line.says(&[
        ":s BATCH +i chathistory #ops",
        "@batch=i;time=2026-03-02T12:00:07.000Z;msgid=7 :alice!a@h PRIVMSG #ops :seven",
        ":s BATCH -i",
    ])
    .await;
    assert_eq!(told(&mut line).await, "hist #ops alice [how=\"say\"] seven");
    let (rest, _) = line.answers("enough").await;
    assert!(!rest.iter().any(|line| line.starts_with("CHATHISTORY")), "no more is wanted: {rest:?}");
    started.stop("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_that_was_down_asks_for_what_was_said_meanwhile_and_vouches_for_nobody_in_it() {
    let wire = Wire::plain().await;
    let folder = tempfile::tempdir().unwrap();
    let bot = || {
        let alice = masterchief::users::User::with_account("alice", "story", "alice", "D").unwrap();
        let bot = telling(&[(Kind::Hist, "#ops *")]);
        let guarded = bot.bind(Kind::Hist, "D|-", "*", |_: Event| async { "vouched" }).unwrap();
        (guarded.data(folder.path()), alice)
    };
    let (first, alice) = bot();
    let (started, mut line) = joined(first, &wire, CAPS, "CHATHISTORY=50").await;
    started.put_user(alice).await.unwrap();
    line.says(&["@time=2026-03-02T12:00:00.000Z;msgid=1 :alice!a@h PRIVMSG #ops :before"]).await;
    line.says(&["PING :heard"]).await;
    line.hears("PONG heard").await;
    started.stop("").await;
    drop(line);
    let (started, mut line) = joined(bot().0, &wire, CAPS, "CHATHISTORY=50").await;
    assert_eq!(line.hears("CHATHISTORY").await, "CHATHISTORY LATEST #ops timestamp=2026-03-02T12:00:00.000Z 50");
    line.says(&[
        ":s BATCH +h chathistory #ops",
        "@batch=h;account=alice;msgid=2 :alice!a@h PRIVMSG #ops :then",
        "@batch=h;account=alice;msgid=3 :alice!a@h PRIVMSG #ops :last",
        ":s BATCH -h",
    ])
    .await;
    // Who was vouched for then is not now.
    assert_eq!(line.hears("PRIVMSG").await, "PRIVMSG alice :hist #ops alice [how=\"say\"] then");
    assert_eq!(line.hears("PRIVMSG").await, "PRIVMSG alice :hist #ops alice [how=\"say\"] last");
    started.stop("").await;
}
