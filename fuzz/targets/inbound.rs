#![no_main]
//! Any bytes of a server, all the way: lines, login, batches, events, the picture of the network.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], u8)| masterchief::irc::inbound(input.0, usize::from(input.1)));
