#![no_main]
//! Any bytes as a row of the journal.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], u8)| masterchief::journal::fuzz(input.0, u64::from(input.1)));
