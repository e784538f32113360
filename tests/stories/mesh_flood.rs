//! A flood of words in the mesh: the bots still call each other, share people, and nothing breaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use masterchief::bot::Bot;
use masterchief::contract::Event;
use masterchief::mesh::{Attribute, BOT, BotSettings};
use masterchief::users::User;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use super::mesh::Chief;
use super::mesh_chiefs::{called, caller, named};
use super::servers::free_port;

/// Words of one who floods.
const WORDS: u32 = 20_000;
/// The most that one of them takes on a link, with everything around it.
const BYTES: u64 = 300;
/// What a link is given of talk: a burst, then so many lines a second.
const TALK: (u64, u64) = (2000, 500);
/// Everything else that crosses a link here, one way: the login, calls, people, leases, pings.
const REST: u64 = 400_000;

/// A wire to a bot on which bytes are counted, to it and from it.
struct Counted {
    port: u16,
    to: Arc<AtomicU64>,
    from: Arc<AtomicU64>,
}

impl Counted {
    async fn wire(target: u16) -> Counted {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (to, from) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (there, back) = (Arc::clone(&to), Arc::clone(&from));
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(("127.0.0.1", target)).await else { return };
                let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
                tokio::spawn(count(near_read, far_write, Arc::clone(&there)));
                tokio::spawn(count(far_read, near_write, Arc::clone(&back)));
            }
        });
        Counted { port, to, from }
    }
}

async fn count(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, counted: Arc<AtomicU64>) {
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(read) = from.read(&mut bytes).await {
        counted.fetch_add(read as u64, Ordering::Relaxed);
        if read == 0 || to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_somebody_floods_bots_answer_each_other_and_no_link_is_lost() {
    let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().unwrap()).collect();
    let port = free_port();
    let share = |bot: BotSettings| BotSettings { share: Some("D".to_owned()), ..bot };
    let hub = named("Hub", Some(port), &[("One", share(caller())), ("Two", share(caller()))]);
    let hub = Chief::start(folders[0].path(), hub).await;
    let answers = Bot::builder().bind(BOT, "-|-", "echo", |ev: Event| async move { ev.text().to_owned() }).unwrap();
    let of_hub = |wire: &Counted| share(called(wire.port, Attribute::Hub));
    let (first, second) = (Counted::wire(port).await, Counted::wire(port).await);
    let mut two = Chief::of(answers, folders[2].path(), named("Two", None, &[("Hub", of_hub(&second))])).await;
    let one = Chief::start(folders[1].path(), named("One", None, &[("Hub", of_hub(&first))])).await;
    one.sees("Two").await;
    hub.sees("Two").await;
    one.joins(7, "mallory").await;
    let begun = Instant::now();
    let flood = async {
        for number in 0..WORDS {
            one.says(7, &format!("word {number} {}", "x".repeat(200))).await;
        }
    };
    let calls = async {
        let mut slowest = Duration::ZERO;
        for number in 0..20 {
            let begun = Instant::now();
            let answer = hub.mesh.call("Two", "echo", &format!("{number}"), Duration::from_secs(10)).await;
            assert_eq!(answer, Ok(number.to_string()));
            slowest = slowest.max(begun.elapsed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        slowest
    };
    let people = async {
        hub.bot.put_user(User::with_account("alice", "libera", "alice", "D").unwrap()).await.unwrap();
        let begun = Instant::now();
        while two.bot.book().get("alice").is_none() {
            assert!(begun.elapsed() < Duration::from_secs(20), "alice is not known at Two");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let ((), slowest, ()) = tokio::join!(flood, calls, people);
    assert!(slowest < Duration::from_secs(5), "a call took {slowest:?}");
    for (chief, links) in [(&hub, 2), (&one, 1), (&two, 1)] {
        let view = chief.mesh.view();
        assert_eq!(view.links.len(), links, "{}", chief.mesh.name());
    }
    // What was left out was counted; what came, came at most once each.
    let left_out: u64 =
        [&hub, &one].iter().flat_map(|chief| chief.mesh.view().links.clone()).map(|link| link.dropped).sum();
    two.hears("a word", |news| match news {
        masterchief::mesh::News::Said { text, .. } if text.starts_with("word") => Some(()),
        _ => None,
    })
    .await;
    assert!(left_out < u64::from(WORDS));
    // Each word crosses each link once at most, away from who says it, and no more of them than a link is given.
    let talk = (TALK.0 + TALK.1 * (begun.elapsed().as_secs() + 1)).min(u64::from(WORDS)) * BYTES + REST;
    let crossed = |bytes: &AtomicU64| bytes.load(Ordering::Relaxed);
    let (up, down) = (crossed(&first.to), crossed(&second.from));
    println!("{WORDS} words in {:?}: {up} bytes to the hub, {down} from it, {left_out} left out", begun.elapsed());
    assert!(up <= talk && down <= talk, "{up} and {down} bytes are more than {talk}");
    let back = (crossed(&first.from), crossed(&second.to));
    assert!(back.0 <= REST && back.1 <= REST, "{back:?} bytes came back against the flood");
    assert!(up > TALK.0 * 200, "only {up} bytes: nothing was told");
    for chief in [one, two, hub] {
        chief.bot.stop("").await;
    }
}
