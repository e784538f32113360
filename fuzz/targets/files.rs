#![no_main]
//! Any text as a file of each format.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| masterchief_bindings::file::fuzz(text));
