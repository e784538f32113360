//! Channels are held to what operators have set: bans, modes, who is op. All of it outlives the bot.

use std::time::Duration;

use masterchief::bot::{Bot, Builder, CHANNEL, Heard, NETWORK, TestBot};
use masterchief::partyline::{Entry, Face, Modes, Seat, Settings, What};
use masterchief::users::User;

use super::wire::Wire;

/// A bot with a partyline that people come to.
fn bot() -> Builder {
    let listens = Settings { listen: Some(([127, 0, 0, 1], 0).into()), ..Settings::default() };
    Bot::builder().partyline(listens)
}

/// In this time the bot has done what it does at once.
const SOON: Duration = Duration::from_millis(300);

/// Somebody on the partyline with all flags that this takes.
struct Olga(Seat);

impl Olga {
    fn sits(test: &TestBot) -> Olga {
        let started = test.started();
        let (nick, handle, host) = ("olga".to_owned(), "olga".to_owned(), "h".to_owned());
        Olga(started.party().enter(Entry { nick, handle, host, face: Face::Irc, icon: '*', modes: Modes::default() }))
    }

    /// Gives a command; gives its answer.
    async fn says(&mut self, test: &TestBot, command: &str) -> String {
        while self.0.news.try_recv().is_ok() {}
        test.started().party().command(self.0.idx, command).await.unwrap();
        let mut lines = Vec::new();
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            while let Ok(news) = self.0.news.try_recv() {
                if let What::Whisper { text, .. } = &news.what {
                    lines.push(text.clone());
                }
            }
            if !lines.is_empty() {
                break;
            }
        }
        lines.join("\n")
    }
}

async fn makes_olga(test: &TestBot) {
    let mut olga = User::new("olga").unwrap();
    olga.change_flags("n").unwrap();
    test.started().put_user(olga).await.unwrap();
}

/// The commands that the bot has sent since this was last asked.
async fn sent(test: &TestBot, from: &mut usize) -> Vec<String> {
    tokio::time::sleep(SOON).await;
    let heard = test.net().heard();
    let shown = |one: &Heard| format!("{} {} {}", one.command, one.target, one.text);
    let out = heard[*from..].iter().filter(|one| matches!(one.command.as_str(), "MODE" | "KICK")).map(shown).collect();
    *from = heard.len();
    out
}

async fn makes_op(test: &TestBot) {
    test.user("oper").joins(CHANNEL).await;
    test.net().from_person("oper", &format!("MODE {CHANNEL} +o chief")).await;
    tokio::time::sleep(SOON).await;
}

#[tokio::test]
async fn who_is_banned_is_thrown_out_when_they_come_and_also_after_a_restart() {
    // By the real clock: a paused one does not wait for a database.
    let folder = tempfile::tempdir().unwrap();
    let test = TestBot::start_in(folder.path(), bot()).await.unwrap();
    makes_olga(&test).await;
    makes_op(&test).await;
    let (mut olga, mut at) = (Olga::sits(&test), 0);
    sent(&test, &mut at).await;
    test.user("mallory").from_host("x.bad.example").joins(CHANNEL).await;
    tokio::time::sleep(SOON).await;
    let told = olga.says(&test, &format!("+ban *!*@*.bad.example {NETWORK}/{CHANNEL} %2h spam again")).await;
    assert!(told.contains("is banned test/#ops for 2h"), "{told}");
    assert_eq!(sent(&test, &mut at).await, ["MODE #ops *!*@*.bad.example", "KICK #ops banned: spam again"]);
    let told = olga.says(&test, "ban * #ops").await;
    assert!(told.contains("nearly everybody"), "{told}");
    drop(olga);
    test.stop().await;
    let test = TestBot::start_in(folder.path(), bot()).await.unwrap();
    let (mut olga, mut at) = (Olga::sits(&test), 0);
    // Without being op it can do nothing; as soon as it is, it does.
    test.user("mallory").from_host("y.bad.example").joins(CHANNEL).await;
    assert_eq!(sent(&test, &mut at).await, [""; 0]);
    makes_op(&test).await;
    assert_eq!(sent(&test, &mut at).await, ["MODE #ops *!*@*.bad.example", "KICK #ops banned: spam again"]);
    let listed = olga.says(&test, "bans").await;
    assert!(listed.contains("1. *!*@*.bad.example test/#ops for ") && listed.contains("by olga"), "{listed}");
    drop(olga);
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_ban_whose_time_is_over_is_lifted() {
    let test = TestBot::start(bot()).await.unwrap();
    makes_olga(&test).await;
    makes_op(&test).await;
    let (mut olga, mut at) = (Olga::sits(&test), 0);
    olga.says(&test, "+ban *!*@*.bad.example %2h spam").await;
    test.advance(Duration::from_secs(2 * 3600 - 60)).await;
    assert!(olga.says(&test, "bans").await.contains("*!*@*.bad.example everywhere for"));
    assert_eq!(sent(&test, &mut at).await, [""; 0], "nobody met it");
    test.advance(Duration::from_secs(180)).await;
    assert_eq!(olga.says(&test, "bans").await, "Nobody is banned.");
    assert_eq!(sent(&test, &mut at).await, ["MODE #ops *!*@*.bad.example"]);
    drop(olga);
    test.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_ban_that_sticks_is_set_again_and_friends_are_not_thrown_out() {
    let test = TestBot::start(bot()).await.unwrap();
    makes_olga(&test).await;
    makes_op(&test).await;
    let (mut olga, mut at) = (Olga::sits(&test), 0);
    test.user("fred").with_flags("f").joins(CHANNEL).await;
    sent(&test, &mut at).await;
    olga.says(&test, "+ban *!*@*.test").await;
    let done = sent(&test, &mut at).await;
    assert!(!done.is_empty() && done.iter().filter(|one| one.starts_with("KICK")).count() == 1, "oper alone: {done:?}");
    assert!(olga.says(&test, "stick 1").await.contains("sticks everywhere"));
    sent(&test, &mut at).await;
    test.net().from_person("oper", &format!("MODE {CHANNEL} -b *!*@*.test")).await;
    assert_eq!(sent(&test, &mut at).await, ["MODE #ops *!*@*.test"]);
    assert!(olga.says(&test, "unban *!*@*.test").await.contains("not banned any more everywhere"));
    assert_eq!(sent(&test, &mut at).await, ["MODE #ops *!*@*.test"]);
    drop(olga);
    test.stop().await;
}

#[tokio::test]
async fn a_channel_is_held_to_its_modes_and_to_who_is_op_and_is_joined_at_every_start() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestBot::start_in(folder.path(), bot()).await.unwrap();
    makes_olga(&test).await;
    let (mut olga, mut at) = (Olga::sits(&test), 0);
    assert!(olga.says(&test, "chanset #ops +magic").await.contains("no setting of a channel"));
    let told = olga.says(&test, "chanset #ops +autoop +bitch chanmode +nt ban-time 10").await;
    assert!(told.contains("+autoop, -autovoice, +bitch, chanmode +nt, ban-time 10"), "{told}");
    assert!(olga.says(&test, "+chan #New").await.contains("joined, now and at every start"));
    drop(olga);
    test.stop().await;
    let test = TestBot::start_in(folder.path(), bot()).await.unwrap();
    assert!(test.net().joined("#New", Duration::from_secs(60)).await);
    makes_op(&test).await;
    assert_eq!(sent(&test, &mut at).await, ["MODE #ops +nt"]);
    test.user("alice").with_flags("o").joins(CHANNEL).await;
    assert_eq!(sent(&test, &mut at).await, ["MODE #ops alice"]);
    test.user("bob").joins(CHANNEL).await;
    test.net().from_person("oper", &format!("MODE {CHANNEL} +o bob")).await;
    assert_eq!(sent(&test, &mut at).await, ["MODE #ops bob"], "taken away again");
    test.net().from_person("oper", &format!("MODE {CHANNEL} +t")).await;
    sent(&test, &mut at).await;
    test.net().from_person("oper", &format!("MODE {CHANNEL} -t")).await;
    assert_eq!(sent(&test, &mut at).await, ["MODE #ops +t"]);
    let mut olga = Olga::sits(&test);
    assert!(olga.says(&test, "-chan #New").await.contains("is left"));
    assert!(!olga.says(&test, "chaninfo #ops").await.contains("joined at every start"));
    drop(olga);
    test.stop().await;
}

#[tokio::test]
async fn who_is_kicked_and_banned_in_one_word_cannot_come_back_from_their_host() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestBot::start_in(folder.path(), bot()).await.unwrap();
    makes_olga(&test).await;
    let (mut olga, mut at) = (Olga::sits(&test), 0);
    test.user("mallory").from_host("x.bad.example").joins(CHANNEL).await;
    tokio::time::sleep(SOON).await;
    let told = olga.says(&test, "kickban #ops mallory spam").await;
    assert!(told.contains("the bot may not kick in test/#ops"), "{told}");
    makes_op(&test).await;
    sent(&test, &mut at).await;
    for (typed, answered) in
        [("kickban #ops nobody", "nobody is not in test/#ops"), ("kickban #ops chief", "that is this bot")]
    {
        let told = olga.says(&test, typed).await;
        assert!(told.contains(answered), "{told}");
    }
    assert_eq!(sent(&test, &mut at).await, [""; 0]);
    let told = olga.says(&test, "kickban #ops mallory %2h spam").await;
    assert!(
        told.contains("*!*@x.bad.example is banned test/#ops for 2h") && told.contains("mallory is thrown out"),
        "{told}"
    );
    assert_eq!(sent(&test, &mut at).await, ["MODE #ops *!*@x.bad.example", "KICK #ops banned: spam"]);
    test.user("other").from_host("x.bad.example").joins(CHANNEL).await;
    assert_eq!(sent(&test, &mut at).await, ["MODE #ops *!*@x.bad.example", "KICK #ops banned: spam"]);
    // The sign % is given and taken like the others.
    olga.says(&test, "halfop #ops oper").await;
    olga.says(&test, "dehalfop #ops oper").await;
    assert_eq!(sent(&test, &mut at).await, ["MODE #ops oper", "MODE #ops oper"]);
    drop(olga);
    test.stop().await;
}

#[tokio::test]
async fn no_ban_throws_out_who_is_exempt_and_both_lists_are_kept_and_set_when_the_bot_is_op() {
    let folder = tempfile::tempdir().unwrap();
    let test = TestBot::start_in(folder.path(), bot()).await.unwrap();
    makes_olga(&test).await;
    makes_op(&test).await;
    let (mut olga, mut at) = (Olga::sits(&test), 0);
    sent(&test, &mut at).await;
    let told = olga.says(&test, "exempts").await;
    assert_eq!(told, "Bans count for everybody.");
    let told = olga.says(&test, "+exempt *!*@good.bad.example #ops a friend").await;
    assert!(told.contains("No ban keeps *!*@good.bad.example out test/#ops"), "{told}");
    olga.says(&test, "+invite *!*@guests.example #ops").await;
    assert_eq!(sent(&test, &mut at).await, ["MODE #ops *!*@good.bad.example", "MODE #ops *!*@guests.example"]);
    test.user("gus").from_host("good.bad.example").joins(CHANNEL).await;
    test.user("mallory").from_host("evil.bad.example").joins(CHANNEL).await;
    tokio::time::sleep(SOON).await;
    olga.says(&test, "+ban *!*@*.bad.example #ops spam").await;
    assert_eq!(sent(&test, &mut at).await, ["MODE #ops *!*@*.bad.example", "KICK #ops banned: spam"]);
    // Also who comes later.
    test.user("gil").from_host("good.bad.example").joins(CHANNEL).await;
    assert_eq!(sent(&test, &mut at).await, [""; 0]);
    drop(olga);
    test.stop().await;
    let test = TestBot::start_in(folder.path(), bot()).await.unwrap();
    let (mut olga, mut at) = (Olga::sits(&test), 0);
    sent(&test, &mut at).await;
    makes_op(&test).await;
    // Both leave in one line, of which the last mask is seen here.
    let now = sent(&test, &mut at).await;
    let lists = ["MODE #ops *!*@good.bad.example", "MODE #ops *!*@guests.example"];
    assert!(now.iter().any(|line| lists.contains(&line.as_str())), "{now:?}");
    assert!(olga.says(&test, "exempts").await.contains("*!*@good.bad.example test/#ops by olga"));
    assert!(olga.says(&test, "invites").await.contains("*!*@guests.example test/#ops by olga"));
    olga.says(&test, "-exempt *!*@good.bad.example #ops").await;
    olga.says(&test, "-invite *!*@guests.example #ops").await;
    assert_eq!(sent(&test, &mut at).await, ["MODE #ops *!*@good.bad.example", "MODE #ops *!*@guests.example"]);
    test.user("gil").from_host("good.bad.example").joins(CHANNEL).await;
    assert_eq!(sent(&test, &mut at).await, ["MODE #ops *!*@*.bad.example", "KICK #ops banned: spam"]);
    drop(olga);
    test.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_server_has_no_list_for_who_is_exempt_it_is_not_asked_for_one_and_bans_go_by_it_all_the_same() {
    let wire = Wire::plain().await;
    let started = bot().network("story", wire.settings()).start().await.unwrap();
    let mut line = wire.accepts().await;
    line.is_joined("", "CHANMODES=be,k,l,imnpst").await;
    let mut olga = User::new("olga").unwrap();
    olga.change_flags("n").unwrap();
    started.put_user(olga).await.unwrap();
    let (nick, handle, host) = ("olga".to_owned(), "olga".to_owned(), "h".to_owned());
    let entry = Entry { nick, handle, host, face: Face::Irc, icon: '*', modes: Modes::default() };
    let mut seat = started.party().enter(entry);
    line.says(&[":oper!o@h MODE #ops +o chief"]).await;
    assert!(line.answers("seen").await.1);
    for command in
        ["+invite *!*@guests.example #ops", "+exempt *!*@good.bad.example #ops", "+ban *!*@*.bad.example #ops spam"]
    {
        started.party().command(seat.idx, command).await.unwrap();
    }
    assert_eq!(line.hears("MODE").await, "MODE #ops +e *!*@good.bad.example", "the first, as there is no list I");
    let mut told = String::new();
    while let Ok(news) = seat.news.try_recv() {
        if let What::Whisper { text, .. } = &news.what {
            told += text;
        }
    }
    assert!(told.contains("story has no list I") && !told.contains("no list e"), "{told}");
    line.says(&[":gus!g@good.bad.example JOIN #ops", ":mallory!m@evil.bad.example JOIN #ops"]).await;
    assert_eq!(line.hears("MODE").await, "MODE #ops +b *!*@*.bad.example");
    assert!(line.hears("KICK").await.starts_with("KICK #ops mallory "));
    started.stop("").await;
}
