//! The proof by kill -9: a bot reads from durable sources and is killed at random moments; then every event must have reached
//! its handler, and what was handled twice is counted: after each kill no more than one round of the bind.
//!
//! `cargo bench --bench kill -- KILLS EVENTS [log] [file] [database] [postgresql] [mariadb] [rest] [webhook] [redis]
//! [rabbitmq] [kafka] [abort] [midst]`; short counts where none are given. `rest` at most 40,000 events: 50,000 things are compared
//! at most. With `midst` a handler takes a millisecond, and each kill waits until its share of the events was handled.

#![allow(missing_docs)]
#![allow(clippy::disallowed_methods, reason = "threads of a load program may sleep")]

#[allow(clippy::unwrap_used, reason = "it is of the stories")]
#[path = "../../tests/stories/postgresql.rs"]
mod postgresql;
#[path = "../../tests/stories/servers.rs"]
mod servers;

mod outside;
mod proof;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use masterchief::journal::DeadState;

use outside::SOURCES;
use proof::{Plan, ROUND, TRIES};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    if words.first().is_some_and(|word| word == "child") {
        proof::child(&words[1], Path::new(&words[2]));
        return ExitCode::SUCCESS;
    }
    let number = |at: usize, usual: usize| words.get(at).and_then(|word| word.parse().ok()).unwrap_or(usual);
    let (kills, events) = (number(0, 5), number(1, 5_000));
    let has = |name: &str| words.iter().any(|word| word == name);
    let (in_the_midst, all) = (has("midst"), words.len() < 3);
    let call = if in_the_midst { Duration::from_millis(1) } else { Duration::ZERO };
    let asked = SOURCES.iter().filter(|source| all || has(source));
    let mut good = true;
    for source in asked {
        let plan = Plan { kills, events, call, in_the_midst, start };
        let count = proof::prove(source, &plan);
        println!(
            "{source}: {} kills over {events} events: {} handled once, {} twice or more, at most {} again after a kill, {} lost",
            count.kills, count.once, count.twice, count.again, count.missing
        );
        good &= count.missing == 0 && count.again <= ROUND;
    }
    if all || has("abort") {
        let aborted = proof::abort(start);
        println!(
            "abort: a handler that aborts the process for one of 20 events: {} others handled after {} starts, dead letters: {:?}",
            aborted.others,
            aborted.starts,
            aborted.letters.iter().map(|letter| (letter.attempts, &letter.reason)).collect::<Vec<_>>()
        );
        let dead = matches!(aborted.letters.as_slice(), [letter] if letter.state == DeadState::Dead && letter.attempts == TRIES);
        good &= aborted.others == 19 && dead;
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn start(source: &str, folder: &Path) -> Child {
    let me = std::env::current_exe().expect("this program has a path");
    let stderr = fs::File::create(folder.join("stderr")).expect("the folder is there");
    let child = Command::new(me).args(["child", source]).arg(folder).stdin(Stdio::null()).stderr(stderr).spawn();
    child.expect("this program can be started again")
}
