//! Between us and real Eggdrops a wire that forges lines: whatever is said on it, nobody falls, the right one refuses with the right
//! words, and the link comes back once the wire is honest.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use masterchief::mesh::{Attribute, BotSettings, Settings};
use masterchief::users::User;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use super::eggdrop::{Egg, Friend};
use super::mesh::{Chief, clear_hub, settings};
use super::servers::free_port;

const PATIENCE: Duration = Duration::from_secs(30);

/// Which way a line goes on a wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From who calls to who is called.
    Out,
    /// Back.
    Back,
}

/// What becomes of a line; nothing where it is lost.
type Rule = Box<dyn Fn(Way, &str) -> Option<String> + Send + Sync>;

/// A wire between two bots that link in clear, line by line.
pub(crate) struct Forger {
    pub(crate) port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    rule: Mutex<Rule>,
    seen: Mutex<Vec<(Way, String)>>,
    calls: Mutex<usize>,
    forged: broadcast::Sender<(Way, String)>,
}

impl Forger {
    pub(crate) async fn to(target: u16) -> Forger {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            rule: Mutex::new(Box::new(|_, line| Some(line.to_owned()))),
            seen: Mutex::default(),
            calls: Mutex::default(),
            forged: broadcast::Sender::new(64),
        });
        let all = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            loop {
                let (near, _) = listener.accept().await.unwrap();
                *all.calls.lock().unwrap() += 1;
                let all = Arc::clone(&all);
                tokio::spawn(async move {
                    let Ok(far) = TcpStream::connect(("127.0.0.1", target)).await else { return };
                    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                    tokio::select! {
                        () = carry(Way::Out, near_in, far_out, &all) => {}
                        () = carry(Way::Back, far_in, near_out, &all) => {}
                    }
                });
            }
        });
        Forger { port, shared, task }
    }

    /// From now on lines become this; what was seen is forgotten.
    pub(crate) fn forges(&self, rule: impl Fn(Way, &str) -> Option<String> + Send + Sync + 'static) {
        *self.shared.rule.lock().unwrap() = Box::new(rule);
        self.shared.seen.lock().unwrap().clear();
    }

    /// From now on it is honest.
    pub(crate) fn is_honest(&self) {
        self.forges(|_, line| Some(line.to_owned()));
    }

    /// Puts a line of its own on the wire.
    pub(crate) fn says(&self, way: Way, line: &str) {
        self.shared.forged.send((way, line.to_owned())).unwrap();
    }

    /// How often somebody has called through it.
    pub(crate) fn calls(&self) -> usize {
        *self.shared.calls.lock().unwrap()
    }

    /// Ready when a line with these words has gone this way.
    pub(crate) async fn sees(&self, way: Way, words: &str) {
        self.sees_one(way, words, |line| line.contains(words)).await;
    }

    /// The last line so far that went this way and begins so.
    pub(crate) fn said(&self, way: Way, begin: &str) -> Option<String> {
        let seen = self.shared.seen.lock().unwrap();
        seen.iter().rev().find(|(of, line)| *of == way && line.starts_with(begin)).map(|(_, line)| line.clone())
    }

    /// Ready when both have told each other all.
    pub(crate) async fn has_linked(&self) {
        for way in [Way::Out, Way::Back] {
            self.sees_one(way, "el", |line| line == "el").await;
        }
    }

    async fn sees_one(&self, way: Way, words: &str, is: impl Fn(&str) -> bool) {
        let end = tokio::time::Instant::now() + PATIENCE;
        let found = || self.shared.seen.lock().unwrap().iter().any(|(of, line)| *of == way && is(line));
        while !found() {
            let seen = self.shared.seen.lock().unwrap().clone();
            assert!(tokio::time::Instant::now() < end, "`{words}` is not said; said was {seen:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Forger {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Carries lines one way, with what is forged between them, until an end closes.
async fn carry(
    way: Way,
    from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    shared: &Shared,
) {
    let (mut from, mut forged) = (BufReader::new(from), shared.forged.subscribe());
    let mut bytes = Vec::new();
    loop {
        let line = tokio::select! {
            read = from.read_until(b'\n', &mut bytes) => match read {
                Ok(read) if read > 0 => {
                    // What is no text, as the probe of a telnet, is left as it is.
                    let line = std::mem::take(&mut bytes);
                    match String::from_utf8(line.clone()) {
                        Ok(text) => {
                            let text = text.trim_end_matches(['\r', '\n']).to_owned();
                            shared.seen.lock().unwrap().push((way, text.clone()));
                            // Without TLS, or there would be nothing to read.
                            let text = Some(text).filter(|text| text != "starttls");
                            let text = text.and_then(|text| (shared.rule.lock().unwrap())(way, &text));
                            text.map(|text| format!("{text}\n").into_bytes()).unwrap_or_default()
                        }
                        Err(_) => line,
                    }
                }
                _ => return,
            },
            Ok((of, line)) = forged.recv() => if of == way { format!("{line}\n").into_bytes() } else { continue },
        };
        if to.write_all(&line).await.is_err() {
            return;
        }
    }
}

/// Us, with an Eggdrop as our hub behind a wire.
async fn behind_a_wire(egg: &Egg, folder: &std::path::Path) -> (Chief, Forger) {
    let wire = Forger::to(egg.port).await;
    (Chief::start(folder, through(&wire, egg, &[])).await, wire)
}

/// An Eggdrop as our hub behind a wire.
fn through(wire: &Forger, egg: &Egg, attributes: &[Attribute]) -> Settings {
    let mut hub = clear_hub(egg);
    hub.addresses = vec![format!("127.0.0.1:{}", wire.port).parse().unwrap()];
    hub.attributes.extend(attributes);
    let mut known = settings("Chief");
    known.bots.insert(egg.name.clone(), hub);
    known
}

#[tokio::test]
async fn an_eggdrop_that_calls_is_refused_alike_where_handles_seem_to_differ() {
    let port = free_port();
    let wire = Forger::to(port).await;
    let egg = Egg::start("EggOne", &[Friend("Chief", wire.port)]).await;
    let folder = tempfile::tempdir().unwrap();
    let mut known = settings("Chief");
    known.listen = Some(([127, 0, 0, 1], port).into());
    known.bots.insert("EggOne".to_owned(), BotSettings { insecure: true, first_link: true, ..BotSettings::default() });
    let chief = Chief::start(folder.path(), known).await;
    wire.forges(|way, line| {
        let forged = way == Way::Out && line.starts_with("version ");
        Some(if forged { line.replacen(" 32 ", " 9 ", 1) } else { line.to_owned() })
    });
    let mut owner = egg.owner().await;
    owner.says(".link Chief").await;
    wire.sees(Way::Back, "version 1080499 9 ").await;
    wire.sees(Way::Out, "Non-matching handle length: mine 32, yours 9").await;
    assert!(!egg.log().contains("LABLINK Chief"));
    wire.is_honest();
    // What was agreed on before it failed does not keep it out: it is proven now, or learned anew.
    owner.says(".tcl setuser Chief PASS").await;
    chief.mesh.forget(&"EggOne".parse().unwrap()).await.unwrap();
    owner.says(".link Chief").await;
    owner.expect("Linked to Chief").await;
    chief.sees("EggOne").await;
    chief.bot.stop("").await;
}

#[tokio::test]
async fn an_eggdrop_that_we_call_refuses_us_where_handles_seem_to_differ_until_they_do_not() {
    let egg = Egg::start("EggOne", &[Friend("Chief", 1)]).await;
    let folder = tempfile::tempdir().unwrap();
    let wire = Forger::to(egg.port).await;
    // How long handles are is compiled into an Eggdrop: it is the wire that says they differ, and a real one that answers.
    wire.forges(|way, line| {
        let forged = way == Way::Back && line.starts_with("version ");
        Some(if forged { line.replacen(" 32 ", " 9 ", 1) } else { line.to_owned() })
    });
    let chief = Chief::start(folder.path(), through(&wire, &egg, &[])).await;
    // We say what it said, and it says what it thinks of that.
    wire.sees(Way::Out, "version 1080499 9 ").await;
    wire.sees(Way::Back, "Non-matching handle length: mine 32, yours 9").await;
    // For us it may be a link until that is read; for it there was none.
    assert!(!egg.log().contains("LABLINK Chief"));
    wire.is_honest();
    // It keeps the password that it makes before it refuses us; we do not. A call that was under way may make it once more.
    let mut owner = egg.owner().await;
    let end = tokio::time::Instant::now() + PATIENCE;
    while !egg.log().contains("LABLINK Chief") {
        assert!(tokio::time::Instant::now() < end, "it is not linked: {}", egg.log());
        owner.says(".tcl setuser Chief PASS").await;
        owner.expect("Tcl: ").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    chief.sees("EggOne").await;
    chief.bot.stop("").await;
}

#[tokio::test]
async fn an_imposter_is_sent_away_by_us_and_by_an_eggdrop() {
    let egg = Egg::start("EggOne", &[Friend("Chief", 1)]).await;
    let folder = tempfile::tempdir().unwrap();
    let wire = Forger::to(egg.port).await;
    wire.forges(|way, line| {
        let forged = way == Way::Back && line == "tb EggOne";
        Some(if forged { "tb Mallory" } else { line }.to_owned())
    });
    let chief = Chief::start(folder.path(), through(&wire, &egg, &[])).await;
    wire.sees(Way::Back, "tb EggOne").await;
    wire.sees(Way::Out, "bye imposter").await;
    wire.forges(|way, line| {
        let forged = way == Way::Out && line == "tb Chief";
        Some(if forged { "tb Mallory" } else { line }.to_owned())
    });
    wire.sees(Way::Out, "tb Chief").await;
    wire.sees(Way::Back, "bye imposter").await;
    wire.is_honest();
    // The link that was forged may still be seen: it is the next one that is meant.
    wire.has_linked().await;
    chief.sees("EggOne").await;
    chief.joins(7, "alice").await;
    let mut owner = egg.owner().await;
    chief.says(7, "it is really me").await;
    owner.expect("<alice@Chief> it is really me").await;
    chief.bot.stop("").await;
}

#[tokio::test]
async fn a_loop_or_a_bot_from_nowhere_ends_the_link_that_tells_of_it_and_it_is_made_again() {
    let egg = Egg::start("EggOne", &[Friend("Chief", 1)]).await;
    let folder = tempfile::tempdir().unwrap();
    let (chief, wire) = behind_a_wire(&egg, folder.path()).await;
    let up = async |calls: usize| {
        // Both have told all, so that what is forged is no part of that.
        wire.has_linked().await;
        chief.sees("EggOne").await;
        assert!(wire.calls() >= calls);
    };
    up(1).await;
    let forged = [
        (Way::Back, "n Chief EggOne !EHxU", Way::Out, "Loop (Chief)"),
        (Way::Back, "n Ghost Nobody -EHxU", Way::Out, "Bogus link notice from (Nobody -> Ghost)"),
        (Way::Out, "n EggOne Chief -EHxU", Way::Back, "Loop (EggOne)"),
        (Way::Out, "n Ghost Nobody -EHxU", Way::Back, "Bogus link notice from"),
    ];
    for (calls, (way, line, back, words)) in forged.into_iter().enumerate() {
        wire.is_honest();
        wire.says(way, line);
        wire.sees(back, words).await;
        wire.sees(back, "bye").await;
        up(calls + 2).await;
    }
    let names: Vec<String> = chief.mesh.view().bots.iter().map(|bot| bot.name.to_string()).collect();
    assert_eq!(names, ["EggOne"]);
    chief.bot.stop("").await;
}

#[tokio::test]
async fn isolated_by_us_scripts_pass_and_people_do_not_either_way() {
    let egg = Egg::start("EggOne", &[Friend("Chief", 1)]).await;
    let folder = tempfile::tempdir().unwrap();
    let wire = Forger::to(egg.port).await;
    let known = through(&wire, &egg, &[Attribute::Isolate]);
    let mut chief = Chief::start(folder.path(), known).await;
    chief.sees("EggOne").await;
    let mut owner = egg.owner().await;
    chief.joins(7, "alice").await;
    chief.says(7, "hello, egg").await;
    chief.mesh.broadcast("labcmd", "from us").await.unwrap();
    egg.logs("LABBOT Chief labcmd from us").await;
    assert!(!owner.hears(".whom *").await.contains("alice"));
    owner.says("hello, chief").await;
    owner.says(".tcl putallbots {back to you}").await;
    let heard = chief.hears("the script", |news| match news {
        masterchief::mesh::News::Script { code, args, .. } => Some(format!("script {code} {args}")),
        masterchief::mesh::News::Said { text, .. } => Some(format!("words {text}")),
        masterchief::mesh::News::Joined { member, .. } => Some(format!("person {}", member.nick)),
        _ => None,
    });
    assert_eq!(heard.await, "script back to you");
    // It is no more: the link is made anew, and both sides know who is there.
    chief.mesh.configure(through(&wire, &egg, &[])).await;
    let who = chief.hears("who is there", |news| match news {
        masterchief::mesh::News::Joined { member, .. } => Some(member.nick.to_string()),
        _ => None,
    });
    assert_eq!(who.await, "owner");
    chief.says(7, "hello again").await;
    owner.expect("<alice@Chief> hello again").await;
    // And rejected by us while it is linked, it is not any more.
    let calls = wire.calls();
    wire.is_honest();
    let mut rejected = through(&wire, &egg, &[]);
    rejected.bots.get_mut("EggOne").unwrap().attributes = BTreeSet::from([Attribute::Reject]);
    chief.mesh.configure(rejected).await;
    wire.sees(Way::Out, "bye rejected").await;
    egg.logs("LABDISC Chief").await;
    assert_eq!((chief.mesh.view().links.len(), wire.calls()), (0, calls));
    chief.bot.stop("").await;
}

#[tokio::test]
async fn people_of_both_survive_whatever_is_said_of_user_files() {
    let egg = Egg::start("EggOne", &[Friend("Chief", 1)]).await;
    let folder = tempfile::tempdir().unwrap();
    let (chief, wire) = behind_a_wire(&egg, folder.path()).await;
    let mut alice = User::with_account("alice", "libera", "alice", "of").unwrap();
    alice.change_channel_flags("libera/#lab", "+o").unwrap();
    chief.bot.put_user(alice.clone()).await.unwrap();
    let mut owner = egg.owner().await;
    wire.has_linked().await;
    // It shares a channel only, then everything, and offers each time it links.
    owner.says(".tcl channel add #lab {+shared}").await;
    for attributes in ["botattr Chief +s; botattr Chief |+s #lab", "botattr Chief +g"] {
        owner.says(&format!(".tcl {attributes}")).await;
        owner.expect("Tcl: ").await;
        wire.is_honest();
        owner.says(".unlink Chief").await;
        wire.has_linked().await;
        wire.sees(Way::Back, "s u?").await;
        wire.sees(Way::Out, "s un I take no user files.").await;
    }
    // As if it kept what it had not sent yet; whoever is told no offers the whole.
    wire.is_honest();
    wire.says(Way::Back, "s r?");
    wire.sees(Way::Out, "s rn I take no user files.").await;
    wire.sees(Way::Back, "s u?").await;
    wire.sees(Way::Out, "s un I take no user files.").await;
    // And as if we had taken it.
    let said = [
        "s uy exempts invites ",
        "s us 2130706433 1 566",
        "s r!",
        "s k alice",
        "s n mallory *!*@evil.example - n",
        "s a alice n",
        "s a alice - #lab",
        "s h alice eve",
        "s +h alice *!*@evil.example",
        "s c PASS alice secret12",
        "s +bc *!*@good.example +0 #lab - owner y",
        "s nc #other",
        "s +cr alice #lab",
        "s !",
        "s e enough",
        "pi",
    ];
    wire.is_honest();
    said.iter().for_each(|line| wire.says(Way::Back, line));
    wire.sees(Way::Out, "po").await;
    let all = chief.bot.book().all();
    assert_eq!((all.len(), &all[0].flags, &all[0].channels), (1, &alice.flags, &alice.channels));
    assert_eq!((&all[0].hosts, &all[0].accounts), (&alice.hosts, &alice.accounts));
    // What we say of it makes an Eggdrop lose nobody either.
    for line in ["s r?", "s un no", "s rn no", "s e no"] {
        wire.says(Way::Out, line);
    }
    owner.says(".match *").await;
    for handle in ["owner", "bob"] {
        owner.expect(handle).await;
    }
    chief.bot.stop("").await;
}
