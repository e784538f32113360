#![no_main]
//! Any bytes from a bot: lines, the login of both sides, messages, the net behind a link, frames of what MasterChiefs speak among
//! themselves and facts in them.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| masterchief::mesh::fuzz(bytes));
