//! The process itself is killed (SIGKILL) while events flow from a durable source: each is handled, and after a kill no more
//! than one round is handled again. `benches/kill` does the same more often, to more sources.

#[path = "../../benches/kill/outside.rs"]
mod outside;
#[allow(
    dead_code,
    clippy::disallowed_methods,
    reason = "it is of the load program, and has threads of its own, which may sleep"
)]
#[path = "../../benches/kill/proof.rs"]
mod proof;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use masterchief::journal::DeadState;

use proof::{Plan, TRIES};

/// Where a program that is started again finds what it is to read.
const SOURCE: &str = "source";
/// Events of a round, at most: it is to take 50 ms, a call takes one, and the next round may be twice as big. A lane is
/// handled beside the others.
const ROUND: usize = 128;

/// Starts this program again, with nothing but the test below.
fn start(source: &str, folder: &Path) -> Child {
    fs::write(folder.join(SOURCE), source).unwrap();
    let log = fs::File::create(folder.join("stderr")).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "killing::a_bot_that_is_started_to_be_killed", "--nocapture"]).current_dir(folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
}

/// It is no story of its own: only in a folder that says what to read it is that bot, until it is killed.
#[test]
fn a_bot_that_is_started_to_be_killed() {
    if let Ok(source) = fs::read_to_string(SOURCE) {
        proof::child(&source, &std::env::current_dir().unwrap());
    }
}

async fn survives(source: &'static str, lanes: usize) {
    let plan = Plan { kills: 5, events: 2000, call: Duration::from_millis(1), in_the_midst: true, start };
    let count = tokio::task::spawn_blocking(move || proof::prove(source, &plan)).await.unwrap();
    println!("{source}: {count:?}");
    assert_eq!((count.missing, count.kills, count.once + count.twice), (0, 5, 2000), "{count:?}");
    // On a busy machine calls are counted a little faster than they were.
    assert!(count.again <= (ROUND + ROUND / 4) * lanes, "{count:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_that_is_killed_again_and_again_handles_every_line_of_a_log() {
    survives("log", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_that_is_killed_again_and_again_handles_every_entry_of_a_redis_stream() {
    survives("redis", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_that_is_killed_again_and_again_handles_every_message_of_kafka() {
    survives("kafka", 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_that_is_killed_again_and_again_handles_every_row_of_postgresql() {
    survives("postgresql", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_that_is_killed_again_and_again_handles_every_document_of_mongodb() {
    survives("mongodb", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_whose_handler_aborts_the_process_is_a_dead_letter_after_its_last_try_and_the_others_are_handled() {
    let aborted = tokio::task::spawn_blocking(|| proof::abort(start)).await.unwrap();
    assert_eq!((aborted.others, aborted.starts), (19, TRIES as usize + 1), "{aborted:?}");
    let [letter] = aborted.letters.as_slice() else { panic!("{:?}", aborted.letters) };
    assert_eq!((letter.state, letter.attempts), (DeadState::Dead, TRIES), "{letter:?}");
    assert!(letter.reason.contains("the process died during the call"), "{letter:?}");
    assert_eq!(letter.event.as_ref().map(|event| event.text()), Some("abort"));
}
