#![no_main]
//! Any text as a pipeline: it is read, or every fault has a place and words.

use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use masterchief::executors::{Executors, Settings, executors};

static EXECUTORS: LazyLock<Executors> = LazyLock::new(|| executors(&Settings::default()));

fuzz_target!(|text: &str| {
    // What reads other files is left out: the fuzzer would name devices.
    if text.contains("${") || text.contains("calendar") {
        return;
    }
    if let Err(faults) = masterchief::pipelines::parse(Path::new("shop.yaml"), text, &EXECUTORS) {
        assert!(!faults.is_empty());
        for fault in faults {
            assert!(fault.spot.is_some() && !fault.message.is_empty(), "{fault:?}");
        }
    }
});
