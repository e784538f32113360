//! What lines do, told as the lines themselves.

use std::collections::BTreeMap;
use std::sync::Arc;

use masterchief_contract::Secret;
use proptest::prelude::*;

use super::*;
use crate::mesh::facts::Letters;
use crate::mesh::news::{Local, Question};
use crate::mesh::{Attribute, Word};
use crate::users::{Book, User};

/// Alice is a botmaster of ours, who holds letters up to t; nobody else is.
struct Alice;

impl Judge for Alice {
    fn is_botmaster(&self, handle: &str, trust: Trust) -> bool {
        let mut alice = User::new("alice").unwrap();
        alice.change_flags("t").unwrap();
        handle == "alice" && trust.covers(&Book::new(), &alice)
    }
}

pub(super) struct Told {
    pub(super) net: Net,
    pub(super) effects: Vec<Effect>,
    pub(super) now: i64,
}

pub(super) fn name(text: &str) -> BotName {
    text.parse().unwrap()
}

fn word(text: &str) -> Word {
    Word::new(text).unwrap()
}

/// Us, linked with these bots, numbered from 1, with these attributes.
pub(super) fn told(bots: &[(&str, &[Attribute])]) -> Told {
    let facts = Facts { about: "MasterChief v0 <net>".to_owned(), ..Facts::default() };
    let mut net = Net::new(name("Chief"), facts, Arc::new(Alice));
    let attrs = |list: &[Attribute]| Attrs::from(&list.iter().copied().collect());
    net.know(bots.iter().map(|(bot, list)| (name(bot), attrs(list))).collect());
    let mut told = Told { net, effects: Vec::new(), now: 1_000_000 };
    for (number, (bot, _)) in bots.iter().enumerate() {
        told.links(number as PeerId + 1, bot);
    }
    told.effects.clear();
    told
}

impl Told {
    pub(super) fn links(&mut self, id: PeerId, bot: &str) {
        let peer = Peer {
            bot: name(bot),
            version: 1_080_404,
            about: "eggdrop".to_owned(),
            encrypted: false,
            at: None,
            called: true,
            handlen: 32,
            may_rekey: false,
            since: 0,
        };
        let effects = self.net.up(id, peer, self.now);
        self.effects.extend(effects);
    }

    /// A link says these lines; what is done about them.
    pub(super) fn says(&mut self, id: PeerId, lines: &[&str]) -> &mut Told {
        self.effects.clear();
        for line in lines {
            let message = Message::parse(line).unwrap_or_else(|fault| panic!("{line}: {fault}"));
            let effects = self.net.take(id, message, self.now);
            self.effects.extend(effects);
        }
        self
    }

    /// What is sent over a link.
    pub(super) fn to(&self, id: PeerId) -> Vec<String> {
        let lines = self.effects.iter().filter_map(|effect| match effect {
            Effect::Send { to, line, .. } if *to == id => Some(line.to_string()),
            _ => None,
        });
        lines.collect()
    }

    fn news(&self) -> Vec<&News> {
        self.effects
            .iter()
            .filter_map(|effect| if let Effect::News(news) = effect { Some(news) } else { None })
            .collect()
    }

    fn closed(&self) -> Vec<PeerId> {
        let closed = self.effects.iter();
        closed.filter_map(|effect| if let Effect::Close { peer, .. } = effect { Some(*peer) } else { None }).collect()
    }

    fn names(&self) -> Vec<String> {
        self.net.book().bots().map(|bot| bot.name.to_string()).collect()
    }
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_new_link_is_told_all_and_the_others_are_told_of_it() {
    let mut net = told(&[("HubA", &[])]);
    net.says(1, &["tb HubA", "n Far HubA -EHxU", "j !HubA owner A *H o@h", "i HubA H B gone", "el"]);
    net.net
        .local(Local::Join { sock: 7, nick: word("alice"), chan: 0, icon: '*', host: "a@h".to_owned() }, net.now)
        .unwrap();
    net.effects.clear();
    net.now += 60_000;
    net.links(2, "HubB");
    assert_eq!(net.to(1), ["n HubB Chief !EHxU"]);
    let wanted = [
        "tb Chief",
        "n HubA Chief -EHxU",
        "n Far HubA -EHxU",
        "j !Chief alice A *H a@h",
        "i Chief H 8 ",
        "j HubA owner A *H o@h",
        "i HubA H 9 gone",
        "el",
    ];
    assert_eq!(net.to(2), wanted);
}

#[test]
fn chat_goes_on_to_all_others_and_never_back() {
    let mut net = told(&[("A", &[]), ("B", &[]), ("C", &[])]);
    net.says(1, &["el", "j A owner A *H o@h", "c owner@A A hi  there "]);
    assert_eq!(net.to(1), NOTHING);
    for id in [2, 3] {
        assert_eq!(net.to(id), ["j A owner A *H o@h", "c owner@A A hi  there "]);
    }
    assert!(matches!(net.news()[1], News::Said { text, act: false, .. } if text == "hi  there "));
    net.says(
        1,
        &["a owner@A A waves", "aw A H lunch", "nc A H boss", "j A boss C *H o@h", "pt A boss H bye", "ct A all"],
    );
    assert_eq!(net.to(2).len(), 6);
    assert!(matches!(net.news()[3], News::Moved { member, from: 0 } if member.chan == 2 && member.away.is_some()));
    assert_eq!(net.net.book().members().count(), 0);
}

#[test]
fn what_comes_from_the_wrong_side_is_dropped_and_told_once() {
    let mut net = told(&[("A", &[]), ("B", &[])]);
    net.says(2, &["el", "j B owner A *H o@h"]);
    let fakes = [
        "c owner@B A fake",
        "j B mallory A *I m@h",
        "pt B owner H x",
        "aw B H x",
        "nc B H mallory",
        "z B Chief cmd x",
        "zb B cmd",
        "p owner@B alice@Chief x",
        "i? 1:owner@B",
        "un B gone",
        "u B +EHxU",
        "c mallory@A A hi",
    ];
    for fake in fakes {
        net.now += 20_000;
        net.says(1, &[fake]);
        assert_eq!(net.to(2), NOTHING, "{fake}");
        assert_eq!(net.news().len(), 0, "{fake}");
        assert_eq!(net.to(1).len(), 1, "{fake}: {:?}", net.to(1));
    }
    net.says(1, &fakes);
    assert_eq!(net.to(1).len(), 0, "it was told a moment ago");
    assert_eq!(net.names(), ["A", "B"]);
}

#[test]
fn a_loop_a_bogus_uplink_an_imposter_and_a_leaf_that_brings_others_end_the_link() {
    let cases = [
        ("n B A -EHxU", "e Loop (B)"),
        ("n Chief A -EHxU", "e Loop (Chief)"),
        ("n New B -EHxU", "e Bogus link notice from (B -> New)"),
        ("n New Nobody -EHxU", "e Bogus link notice from (Nobody -> New)"),
    ];
    for (line, error) in cases {
        let mut net = told(&[("A", &[]), ("B", &[])]);
        net.says(1, &[line]);
        assert_eq!(net.to(1), [error, "bye Illegal link by leaf"]);
        assert_eq!(net.closed(), [1]);
        assert_eq!(net.names(), ["B"]);
        assert!(net.to(2)[0].starts_with("un A "));
    }
    let mut net = told(&[("A", &[Attribute::Leaf])]);
    net.says(1, &["tb a", "n New A -EHxU"]);
    assert_eq!(net.to(1)[0], "e You are supposed to be a leaf!");
    let mut net = told(&[("A", &[])]);
    net.says(1, &["tb B"]);
    assert_eq!((net.to(1), net.closed()), (vec!["bye imposter".to_owned()], vec![1]));
    // A second link with one that is there does not come up.
    let mut net = told(&[("A", &[])]);
    net.links(2, "a");
    assert_eq!((net.closed(), net.names()), (vec![2], vec!["A".to_owned()]));
}

#[test]
fn with_a_link_goes_what_is_behind_it() {
    let mut net = told(&[("A", &[]), ("B", &[])]);
    net.says(1, &["n Far A -EHxU", "j Far bob A -H b@h", "el"]);
    net.effects = net.net.down(1, "Ping timeout", net.now);
    assert_eq!(net.to(2), ["un A Ping timeout"]);
    let lost = |news: &&News| matches!(news, News::Lost { .. });
    assert_eq!(net.news().iter().filter(|news| lost(news)).count(), 2);
    assert!(matches!(net.news()[0], News::Left { member, .. } if member.nick == word("bob")));
    assert_eq!(net.names(), ["B"]);
}

#[test]
fn an_isolated_bot_has_scripts_and_notes_and_no_partyline() {
    let mut net = told(&[("A", &[Attribute::Isolate]), ("B", &[])]);
    net.says(2, &["el", "j B owner A *H o@h", "c owner@B A hi", "zb B cmd x"]);
    assert_eq!(net.to(1), ["zb B cmd x"]);
    net.says(1, &["j A bob A -H b@h", "ct A hi", "z A B cmd", "p 1:bob@A owner@B a note"]);
    assert_eq!(net.to(2), ["z A B cmd ", "p 1:bob@A owner@B a note"]);
    assert_eq!(net.news().len(), 0);
}

#[test]
fn a_rejected_bot_that_comes_behind_another_is_sent_away() {
    let mut net = told(&[("A", &[])]);
    net.net.know(BTreeMap::from([(name("Bad"), Attrs { reject: true, ..Attrs::default() })]));
    net.says(1, &["n Bad A -EHxU"]);
    assert_eq!(net.to(1), ["r Chief Bad "]);
}

#[test]
fn scripts_reach_us_and_pass_through() {
    let mut net = told(&[("A", &[]), ("B", &[])]);
    net.says(1, &["z A chief labcmd one two", "z A B labcmd three", "z A Nobody labcmd", "zb A all"]);
    assert_eq!(net.to(2), ["z A B labcmd three", "zb A all "]);
    let scripts: Vec<String> = net
        .news()
        .iter()
        .filter_map(|news| match news {
            News::Script { from, code, args } => Some(format!("{from} {code} {args}")),
            _ => None,
        })
        .collect();
    assert_eq!(scripts, ["A labcmd one two", "A all "]);
    let sent = net.net.zapf(&name("b"), word("cmd"), "x", net.now).unwrap();
    net.effects = sent;
    assert_eq!(net.to(2), ["z Chief b cmd x"]);
    assert!(matches!(net.net.zapf(&name("Nobody"), word("cmd"), "", 0), Err(SendFault::NoSuchBot(_))));
    assert!(matches!(net.net.zapf_broad(word("cmd"), &"x".repeat(400), 0), Err(SendFault::TooLong(404))));
}

#[test]
fn questions_are_answered_here_and_passed_on() {
    let mut net = told(&[("A", &[]), ("B", &[])]);
    net.says(1, &["w 7:owner@A Chief A", "w 7:owner@A B A", "i? 7:owner@A", "m !7:owner@A B"]);
    assert!(net.to(1).contains(&"p Chief 7:owner@A Bots connected:".to_owned()));
    assert!(net.to(1).contains(&"p Chief 7:owner@A MasterChief v0 <net> [UP 00:16]".to_owned()));
    assert_eq!(net.to(2), ["w 7:owner@A B A", "i? 7:owner@A", "m !7:owner@A B"]);
    net.says(1, &["t 7:owner@A B :990:A"]);
    assert_eq!(
        (net.to(1), net.to(2)),
        (vec!["td 7:owner@A :990:A:Chief".to_owned()], vec!["t 7:owner@A B :990:A:Chief".to_owned()])
    );
    net.net.ask(word("alice"), 7, Question::Trace(name("B")), 990_000).unwrap();
    net.says(2, &["td 7:owner@A :990:A:Chief:B", "td 7:alice@Chief :990:Chief:B"]);
    assert_eq!(net.to(1), ["td 7:owner@A :990:A:Chief:B"]);
    assert!(matches!(net.news()[0], News::Answer { text, .. } if text == "Trace result -> Chief:B (10 secs, 1 hops)"));
    // Another session, another moment, and no moment at all: nobody asked for that.
    net.says(
        2,
        &[
            "td 8:alice@Chief :990:your password, please",
            "td 7:alice@Chief :991:x",
            "td 7:alice@Chief x:y",
            "td alice@Chief :990:x",
        ],
    );
    assert_eq!(net.news(), Vec::<&News>::new());
}

#[test]
fn links_are_made_and_ended_only_for_those_who_may_by_the_word_of_those_who_are_trusted() {
    let begin = |trust: &[Attribute]| {
        let mut net = told(&[("A", trust), ("B", &[])]);
        let mut records: BTreeMap<BotName, Attrs> = net.net.records.clone();
        records.insert(name("Far"), Attrs::default());
        net.net.know(records);
        net.says(1, &["el", "j A alice A *H a@h", "j A bob A *I b@h"]);
        net
    };
    // Nobody on a bot that is not trusted, and nobody who is not known to be a botmaster.
    let mut net = begin(&[]);
    net.says(1, &["ul 7:alice@A Chief B now", "l 7:alice@A Chief Far", "r alice@A B x", "r A B "]);
    assert!(net.closed().is_empty() && !net.effects.iter().any(|effect| matches!(effect, Effect::Dial { .. })));
    let mut net = begin(&[Attribute::Trust]);
    net.says(1, &["ul 7:bob@A Chief B now", "l 7:bob@A Chief Far", "ul 7:nobody@A Chief B now", "r bob@A B x"]);
    assert!(net.closed().is_empty());
    net.says(1, &["l 7:alice@A Chief Far", "l 7:alice@A Chief B", "l 7:alice@A Chief Strange"]);
    let dials = net.effects.iter().filter(|effect| matches!(effect, Effect::Dial { .. }));
    assert_eq!(dials.count(), 1);
    assert_eq!(net.to(1).len(), 3);
    net.says(1, &["r alice@A carol@Chief be gone"]);
    assert!(matches!(net.news()[0], News::Boot { user, .. } if *user == word("carol")));
    net.says(1, &["ul 7:alice@A Chief B now"]);
    assert_eq!((net.closed(), net.to(2)), (vec![2], vec!["bye now".to_owned()]));
    // Trust does not reach through a bot that has none.
    let mut net = begin(&[]);
    let mut records = net.net.records.clone();
    records.insert(name("Far"), Attrs { trust: Trust::Everybody, ..Attrs::default() });
    net.net.know(records);
    net.says(1, &["n Far A -EHxU", "j Far alice A *H a@h", "ul 7:alice@Far Chief B x"]);
    assert!(net.closed().is_empty());
}

#[test]
fn the_word_of_a_bot_counts_of_those_only_who_hold_no_more_than_its_letters() {
    let begin = |letters: &str| {
        let mut net = told(&[("A", &[]), ("B", &[])]);
        let mut records = net.net.records.clone();
        let trust = Trust::Below(Letters::parse(letters).unwrap());
        records.insert(name("A"), Attrs { trust, ..Attrs::default() });
        records.insert(name("Far"), Attrs { trust: Trust::Everybody, ..Attrs::default() });
        net.net.know(records);
        net.says(1, &["el", "j A alice A *H a@h", "n Far A -EHxU", "j Far alice A *H a@h"]);
        net
    };
    let cuts = ["ul 7:alice@A Chief B x", "ul 7:alice@Far Chief B x", "r A B x", "r Far B x"];
    for cut in cuts {
        let mut net = begin("Dv");
        net.says(1, &[cut]);
        assert!(net.closed().is_empty(), "{cut}");
        let mut net = begin("Dt");
        net.says(1, &[cut]);
        assert_eq!(net.closed(), [2], "{cut}");
    }
    // What it says of others counts all the same where nobody's letters are meant: it is one of those between.
    assert!(begin("Dv").net.is_proven(&name("Far")));
}

#[test]
fn a_new_password_is_taken_once_and_only_where_none_was() {
    let mut net = told(&[("A", &[])]);
    net.says(1, &["h mallory"]);
    assert!(matches!(net.effects[..], [Effect::Warn { .. }]));
    net.net.peers.get_mut(&1).unwrap().peer.may_rekey = true;
    net.says(1, &["h first", "h second"]);
    assert!(matches!(&net.effects[0], Effect::Password { password, .. } if *password == Secret::new("first")));
    assert_eq!(net.effects.iter().filter(|effect| matches!(effect, Effect::Password { .. })).count(), 1);
}

#[test]
fn what_happens_here_is_told_to_all_and_what_is_local_stays() {
    let mut net = told(&[("A", &[]), ("B", &[Attribute::Isolate])]);
    let join = |chan| Local::Join { sock: 7, nick: word("alice"), chan, icon: '*', host: "a@h".to_owned() };
    let locals = [
        join(0),
        Local::Say { sock: 7, text: format!("{} end", "long ".repeat(100)), act: false },
        Local::Away { sock: 7, text: Some("lunch".to_owned()) },
        Local::Nick { sock: 7, nick: word("ally") },
        join(100_005),
        Local::Say { sock: 7, text: "secret".to_owned(), act: true },
        Local::Tell { chan: None, text: "all".to_owned() },
        Local::Part { sock: 7, reason: String::new() },
    ];
    net.effects.clear();
    for local in locals {
        let effects = net.net.local(local, net.now).unwrap();
        net.effects.extend(effects);
    }
    let lines = net.to(1);
    assert_eq!(lines.len(), 7, "{lines:#?}");
    assert!(lines.iter().all(|line| line.len() < 450 && !line.contains("secret")));
    assert_eq!(lines[5..], ["pt Chief ally H ", "ct Chief all"]);
    assert_eq!(net.to(2), NOTHING);
    assert_eq!(net.net.local(Local::Part { sock: 7, reason: String::new() }, 0), Err(SendFault::NoSuchSession(7)));
    let asked = net.net.ask(word("alice"), 7, Question::Who(name("A")), net.now).unwrap();
    net.effects = asked;
    assert_eq!(net.to(1), ["w 7:alice@Chief A A"]);
}

#[test]
fn handles_that_a_link_cannot_speak_of_keep_it_away() {
    let mut net = told(&[("A", &[])]);
    net.says(1, &["n AVeryLongName A -EHxU"]);
    let peer = Peer { handlen: 9, bot: name("Old"), ..net.net.peers[&1].peer.clone() };
    net.effects = net.net.up(2, peer.clone(), net.now);
    assert_eq!(net.closed(), [2]);
    let mut net = told(&[("A", &[])]);
    net.net.up(2, peer, net.now);
    net.says(1, &["n AVeryLongName A -EHxU"]);
    assert_eq!(
        (net.closed(), net.to(2)),
        (vec![1], vec!["un A AVeryLongName is longer than the handles of Old".to_owned()])
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever two peers say: nothing goes back where it came from unless it is an answer to it, the book stays a tree, and
    /// every bot hangs by its link.
    #[test]
    fn any_talk_leaves_the_net_whole(said in proptest::collection::vec(
        (1u64..3, "(n|un|u|j|pt|nc|aw|i|c|a|ct|p|z|zb|w|i\\?|t|td|l|ul|r|s) !?(A|B|F|G|Chief|1:alice@A|bob@B)( (A|B|F|G|Chief|[*]H|-B|1:x@Chief|bob|alice@G)){0,4}"), 0..80)) {
        let mut net = told(&[("A", &[Attribute::Trust]), ("B", &[])]);
        for (id, line) in said {
            let Ok(message) = Message::parse(&line) else { continue };
            let mark = message.to_string();
            let effects = net.net.take(id, message, net.now);
            for effect in &effects {
                if let Effect::Send { to, line, .. } = effect {
                    prop_assert!(!(*to == id && **line == *mark), "{mark} went back");
                }
            }
            let book = net.net.book();
            prop_assert_eq!(book.parents_first().len(), book.bots().count());
            for member in book.members() {
                prop_assert!(book.bot(&member.bot).is_some());
            }
        }
    }
}

#[test]
fn what_is_set_of_a_bot_counts_for_its_link_that_is_up() {
    let attrs = |of: fn(&mut Attrs)| {
        let mut attrs = Attrs::default();
        of(&mut attrs);
        BTreeMap::from([(name("A"), attrs)])
    };
    type Change = fn(&mut Attrs);
    let changes: [(Change, &str); 3] = [
        (|a| a.reject = true, "bye rejected"),
        (|a| a.leaf = true, "bye Illegal link by leaf"),
        (|a| a.isolate = true, "bye restructure"),
    ];
    for (change, bye) in changes {
        let mut net = told(&[("A", &[]), ("B", &[])]);
        net.says(1, &["n Far A -EHxU", "j Far bob A -H home"]);
        net.effects = net.net.know(attrs(change));
        assert_eq!(net.to(1).last().map(String::as_str), Some(bye));
        assert!(net.to(2).iter().any(|line| line.starts_with("un A ")), "{:?}", net.to(2));
        assert!(net.net.book().bot(&name("Far")).is_none() && net.net.book().bot(&name("B")).is_some());
        net.effects = net.net.know(attrs(change));
        assert_eq!(net.effects, []);
    }
    // A leaf that has brought nobody stays.
    let mut net = told(&[("A", &[])]);
    net.effects = net.net.know(attrs(|a| a.leaf = true));
    assert_eq!(net.effects, []);
}

#[test]
fn files_of_eggdrops_pass_through_us_and_here_are_none() {
    let mut net = told(&[("A", &[]), ("B", &[])]);
    net.says(1, &["fr 7:owner@A B:pub/x", "fr 7:owner@B A:pub/x"]);
    assert_eq!(net.to(2), ["fr 7:owner@A B:pub/x"]);
    net.says(2, &["fs B:pub/x 7:owner@A 1 2 3", "f! B:pub/y 7:owner@A gone", "f! A:pub/y 7:owner@A not by B"]);
    let lines: Vec<String> = net.to(1);
    assert_eq!(lines[..2], ["fs B:pub/x 7:owner@A 1 2 3", "f! B:pub/y 7:owner@A gone"]);
    net.says(1, &["fr 7:owner@A Chief:pub/x"]);
    assert_eq!(net.to(1), ["f! Chief:pub/x 7:owner@A I have no files."]);
}
