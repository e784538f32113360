#![no_main]
//! Any bytes as whoever calls the partyline.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| masterchief::partyline::fuzz(bytes));
