#![no_main]
//! Any text as a packet of StatsD.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| masterchief_bindings::metric::fuzz(text));
