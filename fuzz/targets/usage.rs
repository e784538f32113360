#![no_main]
//! Any usage and any line that is typed.

use libfuzzer_sys::fuzz_target;
use masterchief::dispatch::Usage;

fuzz_target!(|input: (&str, &str)| {
    let (usage, line) = input;
    if let Ok(usage) = Usage::parse(usage) {
        let _ = usage.read(line);
    }
    let known = Usage::parse("<app> [env:staging|prod=staging] [--force] [--count=int=1] [note...]");
    let _ = known.expect("it is good").read(line);
});
