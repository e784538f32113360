#![no_main]
//! Any bytes of a server, all the way: lines, login, batches, the picture of the network, events, and what they would call.

use libfuzzer_sys::fuzz_target;
use masterchief::bot::judged;
use masterchief::irc::{Inbound, Said, on_paused_time};

fuzz_target!(|input: (&[u8], u8)| {
    let mut said = Some(Said::Bytes(input.0.to_vec(), usize::from(input.1)));
    let mut judge = judged();
    on_paused_time(async { Inbound::new().connection(|| said.take(), &mut judge).await });
});
