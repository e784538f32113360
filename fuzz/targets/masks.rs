#![no_main]
//! Any mask, flags or schedule: good, or refused within itself, and never slow.

use libfuzzer_sys::fuzz_target;
use masterchief::contract::{CaseMap, wild_match};
use masterchief::users::{FlagMask, FlagSet, Section};
use masterchief_bindings::time::Schedule;

fuzz_target!(|input: (&str, &str)| {
    let (mask, text) = input;
    let _ = wild_match(mask, text, CaseMap::Rfc1459);
    match FlagMask::parse(mask) {
        Ok(flags) => assert_eq!(FlagMask::parse(&flags.to_string()), Ok(flags)),
        Err(fault) => assert!(fault.column <= mask.chars().count()),
    }
    let _ = FlagSet::parse(mask).map(|set| set.change(text, Section::Channel));
    for spec in masterchief::bot::kinds().all() {
        let _ = (spec.check)(mask);
    }
    let _ = Schedule::for_time(mask, Some(text));
});
