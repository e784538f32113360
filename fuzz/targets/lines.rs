#![no_main]
//! Any bytes as a log.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], usize)| masterchief_bindings::log::fuzz(input.0, input.1));
