//! People of an Eggdrop against a book and a store in memory: who comes, who is left alone, and how much finds room.

use std::collections::BTreeSet;

use masterchief_contract::{Action, Future, Outlet, Refused};

use super::told::named;
use super::*;
use crate::dispatch::BindTable;
use crate::mesh::facts::Letters;
use crate::partyline::{Entry, Face, Modes};
use crate::users::FlagSet;

struct Nowhere;
impl Outlet for Nowhere {
    fn perform(&self, _: Action) -> Future<Result<(), Refused>> {
        Box::pin(std::future::ready(Err(Refused::new("nowhere"))))
    }
}

fn takes(room: Room) -> Takes {
    let (store, book, clock) = (Store::memory(), Book::new(), Clock::system());
    let party = Party::new("chief", book.clone(), BindTable::new(), Arc::new(Nowhere), clock.clone());
    let mut takes = Takes::new(store, book, clock, party, Arc::default());
    Arc::get_mut(&mut takes.inner).unwrap().room = room;
    takes
}

fn person(handle: &str, host: &str) -> EggPerson {
    let (handle, flags, hosts) = (handle.to_owned(), "f".to_owned(), vec![host.to_owned()]);
    EggPerson { handle, flags, hosts, certs: vec!["ab".repeat(32)], ..EggPerson::default() }
}

fn gift(people: Vec<EggPerson>) -> Gift {
    Gift { people, ..Gift::default() }
}

impl Takes {
    async fn gives(&self, gift: &Gift) -> Plan {
        let (bot, take) = ("HubBot".parse::<BotName>().unwrap(), Take { network: None, letters: letters() });
        self.people(&From { bot: &bot, take: &take, bots: BTreeSet::new() }, gift).await.unwrap()
    }

    /// Whether nothing more is taken from the bot for somebody who came with it.
    fn is_apart(&self, handle: &str) -> bool {
        self.inner.book.get(handle).unwrap().given_by.as_ref().unwrap().apart
    }

    async fn removes(&self, handle: &str) {
        assert!(self.inner.store.remove_user(handle).await.unwrap());
        self.inner.book.remove(handle);
    }
}

fn letters() -> Letters {
    Letters::parse("f").unwrap()
}

#[tokio::test]
async fn whom_pipelines_name_nobody_brings_and_nobody_changes() {
    let takes = takes(ROOM);
    let book = &takes.inner.book;
    takes.gives(&gift(vec![person("Carol", "*!c@one.example")])).await;
    book.name(&BTreeSet::from(["ana".to_owned(), "carol".to_owned()]));
    let plan = takes.gives(&gift(vec![person("Ana", "*!a@evil.example"), person("carol", "*!c@evil.example")])).await;
    assert!(plan.puts.is_empty() && plan.alone.len() == 2, "{:?}", plan.alone);
    assert!(plan.alone.iter().all(|(_, why)| why.contains("named by pipelines")), "{:?}", plan.alone);
    assert!(book.get("ana").is_none() && book.get("carol").unwrap().hosts == ["*!c@one.example"]);
}

#[tokio::test]
async fn however_fast_they_come_and_go_there_only_so_many_are_here() {
    let takes = takes(Room { people: 3, masks: 4, marks: 99 });
    for one in 0..10 {
        let handle = format!("a{one}");
        takes.gives(&gift(vec![person(&handle, &format!("*!{handle}@host.example"))])).await;
        takes.gives(&Gift { gone: vec![handle], ..Gift::default() }).await;
    }
    assert_eq!(read_users(&takes.inner.store).await.unwrap().len(), 3);
    let mut carol = person("a0", "*!x@host.example");
    carol.hosts.push("*!y@host.example".to_owned());
    let plan = takes.gives(&gift(vec![carol])).await;
    assert!(plan.alone.len() == 1 && plan.alone[0].1.contains("no room"), "{:?}", plan.alone);
}

#[tokio::test]
async fn what_people_are_known_by_beside_hostmasks_finds_only_so_much_room_too() {
    let takes = takes(Room { people: 3, masks: 4, marks: 5 });
    let mut carol = person("carol", "*!c@host.example");
    let channels = |count: usize| (0..count).map(|one| (format!("#lab{one}"), "f".to_owned())).collect();
    carol.channels = channels(4);
    assert_eq!(takes.gives(&gift(vec![carol.clone()])).await.puts.len(), 1);
    carol.channels = channels(5);
    let dave = EggPerson { certs: vec!["cd".repeat(32)], ..person("dave", "*!d@host.example") };
    for one in [carol, dave] {
        let plan = takes.gives(&gift(vec![one])).await;
        assert!(plan.puts.is_empty() && plan.alone[0].1.contains("no room"), "{:?}", plan.alone);
    }
}

#[tokio::test]
async fn who_was_written_down_was_seen_in_the_same_breath() {
    let takes = takes(ROOM);
    let dave = gift(vec![person("dave", "*!d@one.example")]);
    // Nothing is done after it that counts: the bot may die there.
    takes.gives(&dave).await;
    let trail = takes.inner.store.audit_recent(9).await.unwrap();
    assert!(trail.len() == 1 && trail[0].mask == "dave", "{trail:?}");
    takes.removes("dave").await;
    let plan = takes.gives(&dave).await;
    assert_eq!((plan.puts.len(), plan.alone[0].1.as_str()), (0, "was removed here, or has another handle here"));
    // Gone there and given anew in one breath, he is given anew.
    let plan = takes.gives(&Gift { gone: vec!["dave".to_owned()], ..dave.clone() }).await;
    assert_eq!(plan.puts.len(), 1);
    takes.removes("dave").await;
    assert_eq!(takes.gives(&dave).await.puts.len(), 0, "and that was seen");
}

#[tokio::test]
async fn who_is_renamed_there_is_renamed_here_with_all_that_is_known_of_her() {
    let takes = takes(ROOM);
    let book = &takes.inner.book;
    takes.gives(&gift(vec![person("carol", "*!c@one.example"), person("dave", "*!d@one.example")])).await;
    let dave = User { given_by: None, ..(*book.get("dave").unwrap()).clone() };
    takes.inner.store.put_user(&row_of(&dave)).await.unwrap();
    let as_new = |old: &str, new: &str, flags: &str| {
        let person = EggPerson { flags: flags.to_owned(), ..person(new, "*!x@two.example") };
        let (gone, renamed) = (vec![old.to_owned()], vec![(old.to_owned(), new.to_owned())]);
        Gift { gone, renamed, ..gift(vec![person]) }
    };
    let plan = takes.gives(&as_new("carol", "caroline", "fo")).await;
    let caroline = book.get("caroline").unwrap();
    assert!(book.get("carol").is_none() && caroline.certs.len() == 1, "{plan:?}");
    assert_eq!(caroline.hosts, ["*!c@one.example", "*!x@two.example"], "{plan:?}");
    let handles = |rows: Vec<crate::store::UserRow>| rows.into_iter().map(|row| row.handle).collect::<Vec<_>>();
    assert_eq!(handles(takes.inner.store.users().await.unwrap()).len(), 2, "no carol is left behind");
    assert!(takes.inner.store.audit_recent(1).await.unwrap()[0].detail.contains("who was carol, "));
    let told = takes.lines(&"HubBot".parse().unwrap(), &as_new("carol", "caroline", "f"), &plan, &[]);
    assert!(told.iter().all(|line| !line.contains(": carol;") && !line.ends_with(": carol")), "{told:?}");
    // Nothing of her is news a second time.
    assert!(takes.gives(&gift(vec![person("caroline", "*!x@two.example")])).await.puts.is_empty());

    // A handle of ours, one that pipelines name, one that was removed here: nobody gets it by a new name.
    book.name(&BTreeSet::from(["ana".to_owned()]));
    for (new, why) in [("dave", "is here already"), ("ana", "named by pipelines")] {
        let plan = takes.gives(&as_new("caroline", new, "f")).await;
        assert!(plan.moved.is_empty() && plan.alone[0].1.contains(why), "{plan:?}");
        assert!(takes.is_apart("caroline"), "she goes her own way here");
        let given_by = Some(Given::by("HubBot"));
        let caroline = User { given_by, ..(*book.get("caroline").unwrap()).clone() };
        takes.inner.store.put_user(&row_of(&caroline)).await.unwrap();
    }
    let (flags, given_by) = (FlagSet::parse("n").unwrap(), Some(Given::by("HubBot")));
    let caroline = User { flags, given_by, ..(*book.get("caroline").unwrap()).clone() };
    takes.inner.store.put_user(&row_of(&caroline)).await.unwrap();
    let plan = takes.gives(&as_new("caroline", "cleo", "f")).await;
    assert!(plan.apart[0].1.starts_with("is cleo there now and stays caroline here, who holds more"), "{plan:?}");
    assert!(book.get("caroline").is_some() && book.get("cleo").is_none(), "and nobody is there twice");
    assert_eq!(plan.alone[0].1, "is caroline here");
    // Neither is she later.
    assert!(takes.gives(&gift(vec![person("cleo", "*!c@three.example")])).await.puts.is_empty());
}

/// A gift in which these have other handles, each known by a hostmask of the new one.
fn renames(moves: &[(&str, &str)]) -> Gift {
    let people = moves.iter().map(|(_, new)| bare(new)).collect();
    let gone = moves.iter().map(|(old, _)| (*old).to_owned()).collect();
    let renamed = moves.iter().map(|(old, new)| ((*old).to_owned(), (*new).to_owned())).collect();
    Gift { gone, renamed, ..gift(people) }
}

/// Somebody with a hostmask of their own and no certificate.
fn bare(handle: &str) -> EggPerson {
    EggPerson { certs: Vec::new(), ..person(handle, &format!("*!{handle}@x.example")) }
}

fn entry(handle: &str) -> Entry {
    let (nick, handle, host) = (handle.to_owned(), handle.to_owned(), "x.example".to_owned());
    Entry { nick, handle, host, face: Face::Irc, icon: '-', modes: Modes::default() }
}

/// Who has which first hostmask.
fn firsts(takes: &Takes) -> Vec<String> {
    takes.inner.book.all().iter().map(|user| format!("{} {}", user.handle, user.hosts[0])).collect()
}

#[tokio::test]
async fn one_may_take_the_handle_that_another_leaves_with_what_waits_for_each_and_their_sessions() {
    let takes = takes(ROOM);
    let (store, party) = (&takes.inner.store, &takes.inner.party);
    takes.gives(&gift(vec![bare("carol"), bare("dave")])).await;
    let sessions = ["carol", "dave"].map(|handle| party.enter(entry(handle)));
    for handle in ["carol", "dave"] {
        store.put_note(handle, "alice", &format!("for {handle}"), Clock::system().now()).await.unwrap();
    }
    for moves in [[("carol", "cara"), ("dave", "carol")], [("carol", "dave"), ("cara", "carol")]] {
        takes.gives(&renames(&moves)).await;
    }
    // What was carol's is carol's again, and what was dave's is dave's: there and back, in either order.
    assert_eq!(firsts(&takes), ["carol *!carol@x.example", "dave *!dave@x.example"]);
    takes.gives(&renames(&[("carol", "dave"), ("dave", "carol")])).await;
    assert_eq!(firsts(&takes), ["carol *!dave@x.example", "dave *!carol@x.example"], "they change places");
    let handles = sessions.map(|seat| party.session(seat.idx, |session| session.handle.to_string()).unwrap());
    assert_eq!(handles, ["dave", "carol"]);
    for (handle, text) in [("carol", "for dave"), ("dave", "for carol")] {
        let notes = store.notes(handle).await.unwrap();
        assert!(notes.len() == 1 && notes[0].text == text, "{notes:?}");
    }
}

#[tokio::test]
async fn a_handle_of_one_who_finds_no_room_under_another_is_not_free() {
    let takes = takes(Room { people: 9, masks: 2, marks: 9 });
    takes.gives(&gift(vec![bare("carol"), bare("dave")])).await;
    // Carol would bring another mask, for which there is no room: she stays, and so does dave.
    let plan = takes.gives(&renames(&[("carol", "cara"), ("dave", "carol")])).await;
    assert!(plan.moved.is_empty() && plan.alone[0].1.contains("no room"), "{plan:?}");
    assert_eq!(firsts(&takes), ["carol *!carol@x.example", "dave *!dave@x.example"]);
    assert_eq!(takes.inner.store.users().await.unwrap().len(), 2);
}

#[tokio::test]
async fn who_was_removed_here_or_is_ours_is_so_under_another_handle_too() {
    let takes = takes(ROOM);
    takes.gives(&gift(vec![bare("carol"), bare("dave")])).await;
    takes.removes("carol").await;
    let dave = User { given_by: None, ..(*takes.inner.book.get("dave").unwrap()).clone() };
    takes.inner.store.put_user(&row_of(&dave)).await.unwrap();
    takes.inner.book.put(dave).unwrap();
    for moves in [[("carol", "cara"), ("dave", "dan")], [("cara", "carla"), ("dan", "danny")]] {
        let plan = takes.gives(&renames(&moves)).await;
        assert!(plan.puts.is_empty() && plan.alone.len() == 2, "{plan:?}");
        assert!(plan.alone.iter().all(|(_, why)| why.contains(" there, who is not taken over")), "{plan:?}");
    }
    assert!(takes.gives(&gift(vec![bare("carla"), bare("danny")])).await.puts.is_empty(), "nor later");
    assert_eq!(firsts(&takes), ["dave *!dave@x.example"]);
}

#[tokio::test]
async fn whose_handle_is_somebody_elses_there_gets_nothing_of_them() {
    // Dave's new handle is ours, so he keeps his here; then carol, who was removed here, takes the one he left there.
    let takes = takes(ROOM);
    takes.gives(&gift(vec![bare("carol"), bare("dave")])).await;
    let xenia = User::new("xenia").unwrap();
    takes.inner.store.put_user(&row_of(&xenia)).await.unwrap();
    takes.inner.book.put(xenia).unwrap();
    takes.removes("carol").await;
    let plan = takes.gives(&renames(&[("dave", "xenia")])).await;
    assert!(takes.is_apart("dave") && plan.moved.is_empty(), "{plan:?}");
    let plan = takes.gives(&renames(&[("carol", "dave")])).await;
    assert_eq!(plan.alone[0].1, "is here already", "{plan:?}");
    takes.gives(&gift(vec![person("dave", "*!carol@later.example")])).await;
    assert_eq!(takes.inner.book.get("dave").unwrap().hosts, ["*!dave@x.example"]);
    assert!(takes.inner.book.get("xenia").unwrap().hosts.is_empty() && takes.inner.book.get("carol").is_none());
}

#[tokio::test]
async fn who_changes_places_with_one_who_stays_or_takes_the_handle_of_one_who_went_is_not_mixed_up_with_them() {
    let takes = takes(ROOM);
    takes.gives(&gift(vec![bare("carol"), bare("dave"), bare("erin"), bare("frank")])).await;
    // Dave holds more here than is taken over.
    let dave = User { flags: FlagSet::parse("n").unwrap(), ..(*takes.inner.book.get("dave").unwrap()).clone() };
    takes.inner.store.put_user(&row_of(&dave)).await.unwrap();
    takes.inner.book.put(dave).unwrap();
    let mut places = renames(&[("carol", "dave"), ("dave", "carol")]);
    places.people[1].hosts.push("*!dave@other.example".to_owned());
    let plan = takes.gives(&places).await;
    assert!(plan.moved.is_empty() && takes.is_apart("carol") && takes.is_apart("dave"), "{plan:?}");
    // Frank went there, and stays here; erin is frank there now.
    let gone = vec!["frank".to_owned(), "erin".to_owned()];
    let went = Gift { gone, ..renames(&[("erin", "frank")]) };
    let plan = takes.gives(&Gift { people: vec![person("frank", "*!erin@other.example")], ..went }).await;
    assert!(plan.moved.is_empty() && takes.is_apart("erin") && takes.is_apart("frank"), "{plan:?}");
    let told = |handle: &str| {
        plan.apart.iter().filter(|(one, _)| one.handle == handle).map(|(_, why)| why.clone()).collect::<Vec<_>>()
    };
    assert_eq!(told("erin"), ["is frank there now and stays erin here"]);
    assert_eq!(told("frank"), ["is somebody else there now"]);
    let lines = takes.lines(&"HubBot".parse().unwrap(), &gift(Vec::new()), &plan, &[]).join("\n");
    assert!(lines.contains("nothing more is taken for these: erin is frank there now"), "{lines}");
    for user in read_users(&takes.inner.store).await.unwrap() {
        assert_eq!(user.hosts, [format!("*!{}@x.example", user.handle)], "each is who they were");
        assert_eq!(*takes.inner.book.get(&user.handle).unwrap(), user);
    }
    assert!(
        takes.inner.store.audit_recent(9).await.unwrap().iter().any(|row| row.detail.contains("nothing more of it"))
    );
}

#[tokio::test]
async fn who_could_not_have_a_handle_does_not_come_as_somebody_new_once_it_is_free() {
    let takes = takes(ROOM);
    takes.gives(&gift(vec![bare("carol"), bare("dave")])).await;
    takes.removes("dave").await;
    takes.inner.book.name(&BTreeSet::from(["cleo".to_owned(), "dan".to_owned()]));
    let plan = takes.gives(&renames(&[("carol", "cleo"), ("dave", "dan")])).await;
    assert!(takes.is_apart("carol") && plan.moved.is_empty(), "{plan:?}");
    takes.inner.book.name(&BTreeSet::new());
    let plan = takes.gives(&gift(vec![person("cleo", "*!c@new.example"), person("dan", "*!d@new.example")])).await;
    assert!(plan.puts.is_empty() && plan.alone.len() == 2, "{plan:?}");
    assert_eq!(firsts(&takes), ["carol *!carol@x.example"]);
    // There and back again is no other handle.
    takes.gives(&gift(vec![bare("erin")])).await;
    let plan = takes.gives(&renames(&[("erin", "Erin")])).await;
    assert!(plan.moved.is_empty() && plan.apart.is_empty() && !takes.is_apart("erin"), "{plan:?}");
}

#[tokio::test]
async fn handles_that_cannot_be_given_anew_do_not_count_among_those_of_an_hour() {
    let takes = takes(ROOM);
    let all: Vec<String> = (0..102).map(|one| format!("a{one}")).collect();
    takes.gives(&gift(all.iter().map(|handle| bare(handle)).collect())).await;
    let xenia = User::new("xenia").unwrap();
    takes.inner.store.put_user(&row_of(&xenia)).await.unwrap();
    let new: Vec<String> = (0..102).map(|one| if one < 2 { "xenia".to_owned() } else { format!("b{one}") }).collect();
    let moves: Vec<(&str, &str)> = all.iter().zip(&new).map(|(old, new)| (old.as_str(), new.as_str())).collect();
    let plan = takes.gives(&renames(&moves)).await;
    assert_eq!((plan.moved.len(), plan.apart.len()), (100, 2), "{:?}", plan.alone);
}

#[tokio::test]
async fn a_bot_gives_only_so_many_handles_anew_in_an_hour() {
    let takes = takes(ROOM);
    takes.gives(&gift(vec![bare("a0")])).await;
    for one in 0..100 {
        takes.gives(&renames(&[(&format!("a{one}"), &format!("a{}", one + 1))])).await;
    }
    let plan = takes.gives(&renames(&[("a100", "a101")])).await;
    assert!(plan.moved.is_empty() && plan.apart[0].1.contains("more than 100 handles anew"), "{plan:?}");
    assert!(takes.inner.book.get("a100").is_some() && takes.inner.book.all().len() == 1);
    takes.inner.renames.lock().unwrap().values_mut().for_each(|(since, _)| *since -= 3_600_000);
    takes.gives(&gift(vec![bare("b0")])).await;
    assert_eq!(takes.gives(&renames(&[("b0", "b1")])).await.moved.len(), 1, "an hour later there are more");
}

#[test]
fn what_others_wrote_is_told_in_short() {
    for many in [1, 2, 9, 10, 20] {
        let all: Vec<String> = (0..many).map(|_| "é".repeat(1 << 20)).collect();
        assert!(named(&all).chars().count() < 950, "{many}");
    }
    assert_eq!(named(&["carol".to_owned()]), "carol");
}

#[tokio::test]
async fn who_is_known_by_masks_alone_is_told_to_be_nobody_yet_and_each_line_is_short() {
    let takes = takes(ROOM);
    let mut carol = person("carol", "*!c@one.example");
    carol.certs.clear();
    let file = |people: Vec<EggPerson>| Gift { file: Some(0), ..gift(people) };
    let told = |gift: &Gift, plan: &Plan| takes.lines(&"HubBot".parse().unwrap(), gift, plan, &[]);
    let masks = file(vec![carol]);
    let plan = takes.gives(&masks).await;
    assert!(told(&masks, &plan).iter().any(|line| line.contains("users.hostmask_flags")), "{plan:?}");
    let certs = file(
        (0..20)
            .map(|one| person(&"é".repeat(5000 + one), "*!x@x.example"))
            .chain([person("dave", "*!d@d.example")])
            .collect(),
    );
    let plan = takes.gives(&certs).await;
    let lines = told(&certs, &plan);
    assert!(!lines.iter().any(|line| line.contains("users.hostmask_flags")), "{lines:?}");
    assert!(lines.len() > 2 && lines.iter().all(|line| line.chars().count() < 1000), "{lines:?}");
}

#[tokio::test]
async fn who_is_left_alone_is_told_once_and_with_each_file() {
    let takes = takes(ROOM);
    takes.inner.book.put(User::new("alice").unwrap()).unwrap();
    takes.inner.store.put_user(&row_of(&User::new("alice").unwrap())).await.unwrap();
    let bot = "HubBot".parse().unwrap();
    let mut told = Vec::new();
    for file in [None, None, Some(0), None] {
        for host in ["*!a@one.example", "*!a@two.example"] {
            let gift = Gift { file, ..gift(vec![person("alice", host)]) };
            let plan = takes.gives(&gift).await;
            told.push(takes.lines(&bot, &gift, &plan, &[]).iter().any(|line| line.contains("left alone: alice")));
        }
    }
    assert_eq!(told, [true, false, false, false, true, true, false, false]);
}

#[tokio::test]
async fn whom_nothing_is_given_any_more_gets_nothing() {
    let takes = takes(ROOM);
    let with = |host: &str| gift(vec![person("carol", host)]);
    takes.gives(&with("*!c@one.example")).await;
    let carol = takes.inner.book.get("carol").unwrap();
    assert_eq!(carol.given_by, Some(Given::by("HubBot")));
    let ours = User { given_by: None, ..User::clone(&carol) };
    takes.inner.store.put_user(&row_of(&ours)).await.unwrap();
    takes.inner.book.put(ours).unwrap();
    let plan = takes.gives(&with("*!c@two.example")).await;
    assert_eq!((plan.puts.len(), plan.alone[0].1.as_str()), (0, "is here already"));
}

#[test]
fn all_are_judged_at_once_and_by_halves_where_somebody_breaks_something() {
    let users: Vec<User> = (0..1000).map(|one| User::new(&format!("a{one}")).unwrap()).collect();
    let judged = |breaks: &dyn Fn(&[User]) -> bool| {
        let count = std::cell::Cell::new(0);
        let holds = |users: &[User]| {
            count.set(count.get() + 1);
            if breaks(users) { Err("no".to_owned()) } else { Ok(()) }
        };
        let refused = refused(&holds, &users);
        (refused.into_iter().map(|(handle, _)| handle).collect::<Vec<_>>(), count.get())
    };
    assert_eq!(judged(&|_| false), (Vec::new(), 1));
    let has = |users: &[User], handle: &str| users.iter().any(|user| user.handle == handle);
    let (refused, count) = judged(&|users: &[User]| has(users, "a700"));
    assert!(refused == ["a700"] && count < 30, "{refused:?} {count}");
    // Two who break it together only: one of the halves stays out.
    let (refused, _) = judged(&|users: &[User]| has(users, "a0") && has(users, "a999"));
    assert_eq!((refused.len(), refused.contains(&"a999".to_owned())), (500, true));
}
