#![no_main]
//! Any text as a calendar of freezes: it is read and asked, or refused.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| masterchief::pipelines::fuzz_calendar(text));
