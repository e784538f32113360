//! The journal: everything that came from outside, durable before it is acknowledged, and how far each bind is with it.
//!
//! One file, `journal.db`: SQLite in WAL mode with `synchronous=FULL`, written by one thread that commits all that waits
//! at once. An event has a number; events of one read stand in one row. A bind has a cursor; only what did not go the
//! straight way (a retry, a crash, a call that is held) has a row of its own. Its dead letters hold the event whole.

mod append;
mod engine;
mod fixture;
mod gone;
mod handle;
mod maintain;
mod merge;
mod pack;
mod record;
mod rooms;
mod rows;
mod runner;
mod schema;
mod settings;
mod tail;
mod writer;

pub use fixture::Fixture;
pub use handle::{Journal, JournalError, open, peek};
pub use record::Chunk;
pub use rows::{
    Advance, Cursor, DeadRow, DeadState, DeliveryRow, EventRow, JournalStatus, LetGo, NewDead, Replay, RowState,
    ShareRow, StreamRow,
};
pub use runner::{Feed, FeedRow, FeedStatus, feed};
pub use settings::Settings;

/// Any bytes as a row of the journal, for the fuzzer: a file that is damaged is refused, and nothing panics.
#[cfg(fuzzing)]
pub fn fuzz(bytes: &[u8], count: u64) {
    let names = record::Names::new(masterchief_bindings::log::KINDS.iter());
    for lane in [None, Some("lane")] {
        let row = record::Row { kind: "log", lane, first: 1, count, shared: None, records: bytes };
        let _ = record::read_row(&names, &row);
    }
    let _ = record::read_alone(&names, "log", 1, bytes);
}
