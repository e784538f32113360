//! Whatever strangers send to the ports of the partyline and of the mesh: what chance makes of their words is borne, as often as wanted.
//!
//! `MASTERCHIEF_FUZZ=10000000 cargo test --release --lib strangers -- --nocapture`; `MASTERCHIEF_SEED` repeats a run.

use std::time::Instant;

use super::bent;
use super::chance::{Dice, number, seed};

/// Lines of bots, one each.
const BOTS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/botnet.txt"));
/// Lines of those who type, of IRC clients, of browsers and of pages.
const CALLERS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/callers.txt"));
/// Cases where no number is asked for.
const CASES: u64 = if cfg!(debug_assertions) { 2_000 } else { 100_000 };

/// Feeds a few lines at a time, each bent or not, until there were so many cases.
fn feeds(corpus: &str, what: &str, mut to: impl FnMut(&[u8])) {
    let (cases, mut dice) = (number("MASTERCHIEF_FUZZ").unwrap_or(CASES), Dice::new(seed()));
    let corpus: Vec<&str> = corpus.lines().collect();
    let (begun, mut fed) = (Instant::now(), 0_u64);
    for _ in 0..cases {
        let mut bytes = Vec::new();
        for _ in 0..1 + dice.below(8) {
            bytes.extend(bent::line(&mut dice, &corpus));
            bytes.extend_from_slice(dice.of(&["\n", "\r\n", "\n", "\r", ""]).as_bytes());
        }
        fed += bytes.len() as u64;
        to(&bytes);
    }
    let took = begun.elapsed().as_secs_f64();
    println!("{what}: {cases} cases, {fed} bytes in {took:.1} s: {:.0} cases a second", cases as f64 / took);
}

#[test]
fn whatever_chance_makes_of_the_words_of_bots_is_borne_and_proves_nobody() {
    feeds(BOTS, "bots", crate::mesh::fuzz);
}

#[test]
fn whatever_chance_makes_of_the_words_of_callers_is_borne_and_lets_nobody_in() {
    feeds(CALLERS, "callers", crate::partyline::fuzz);
}
