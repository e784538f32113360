//! Records compressed: what services post shrinks to a fifth, and where the disk is what the journal waits for, that is time won.
//! Where it is not, big rows are written as they are.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::record::BadRecord;

/// Less is written as it is.
const LEAST: usize = 1024;
/// Nothing longer was ever written: a batch has 64 MiB at most.
const MOST: usize = 128 << 20;

/// A bigger buffer is not kept for the next records.
const KEPT: usize = 8 << 20;
/// Rows with fewer bytes are always compressed: that takes no time, and what is kept takes less room.
const BIG: usize = 64 << 10;
/// Of big rows that are not worth it, each of so many is compressed all the same, to see whether they still are not.
const AGAIN: u32 = 64;
/// A commit of fewer bytes tells how long a disk takes to answer, not how much it takes.
const COMMIT: usize = 1 << 20;
/// How much the newest measure counts.
const NEWEST: f64 = 0.25;

/// Compresses into a buffer that is used again and again: fresh memory costs more than compressing.
#[derive(Default)]
pub(super) struct Packer {
    buffer: Vec<u8>,
    /// What compressing is worth, by stream.
    streams: HashMap<i64, Worth>,
    /// Bytes of rows since the last commit.
    written: usize,
    /// How long a commit takes, in nanoseconds a byte; nothing before the first big one.
    disk: Option<f64>,
}

/// What compressing the rows of a stream was worth lately.
#[derive(Default)]
struct Worth {
    /// Nanoseconds a byte, and the share of the bytes that was saved.
    measured: Option<(f64, f64)>,
    passed: u32,
}

fn mixed(known: Option<f64>, new: f64) -> f64 {
    known.map_or(new, |known| known + (new - known) * NEWEST)
}

impl Worth {
    fn learn(&mut self, took: Duration, bytes: usize, packed: usize) {
        let (cost, saved) = (took.as_nanos() as f64 / bytes as f64, 1.0 - packed as f64 / bytes as f64);
        let (known_cost, known_saved) = self.measured.unzip();
        self.measured = Some((mixed(known_cost, cost), mixed(known_saved, saved)));
    }

    /// Whether compressing takes longer than to write what it would save, and it is not time to look again.
    fn passes(&mut self, disk: Option<f64>) -> bool {
        let (Some((cost, saved)), Some(disk)) = (self.measured, disk) else { return false };
        if cost <= saved * disk {
            return false;
        }
        self.passed = (self.passed + 1) % AGAIN;
        self.passed != 0
    }
}

impl Packer {
    /// The bytes of a row of a stream compressed, if that is worth it.
    pub(super) fn pack(&mut self, stream: i64, records: &[u8]) -> Option<&[u8]> {
        let worth = self.streams.entry(stream).or_default();
        if records.len() < LEAST || (records.len() >= BIG && worth.passes(self.disk)) {
            self.written += records.len();
            return None;
        }
        let most = lz4_flex::block::get_maximum_output_size(records.len());
        if self.buffer.len() < most {
            self.buffer.resize(most, 0);
        } else if self.buffer.len() > KEPT && most <= KEPT {
            self.buffer.truncate(KEPT);
            self.buffer.shrink_to_fit();
        }
        let began = Instant::now();
        // It fails only if there is too little room.
        let length = lz4_flex::block::compress_into(records, &mut self.buffer).ok()?;
        if records.len() >= BIG {
            worth.learn(began.elapsed(), records.len(), length);
        }
        let packed = self.buffer.get(..length).filter(|_| length < records.len() / 4 * 3);
        self.written += packed.map_or(records.len(), <[u8]>::len);
        packed
    }

    /// What was written is durable, after so long.
    pub(super) fn committed(&mut self, took: Duration) {
        let bytes = std::mem::take(&mut self.written);
        if bytes >= COMMIT {
            self.disk = Some(mixed(self.disk, took.as_nanos() as f64 / bytes as f64));
        }
    }
}

/// The bytes as they were; `length` is how many, or 0 if they are not compressed.
pub(super) fn unpacked(records: Vec<u8>, length: usize) -> Result<Vec<u8>, BadRecord> {
    match length {
        0 => Ok(records),
        1..=MOST => {
            lz4_flex::block::decompress(&records, length).map_err(|fault| BadRecord(format!("compressed: {fault}")))
        }
        _ => Err(BadRecord(format!("{length} bytes are more than were ever written"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_worth_it_is_compressed_and_comes_back() {
        let text = "{\"ref\": \"refs/heads/main\", \"commits\": []}, ".repeat(100).into_bytes();
        let mut packer = Packer::default();
        let small = packer.pack(1, &text).unwrap().to_vec();
        assert!(small.len() * 5 < text.len());
        assert_eq!(unpacked(small.clone(), text.len()).unwrap(), text);
        assert!(packer.pack(1, b"short").is_none());
        let noise: Vec<u8> = (0..4096u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        assert!(packer.pack(1, &noise).is_none());
        // A big one leaves nothing behind that the next would show.
        assert!(packer.pack(1, &text.repeat(3000)).unwrap().len() < text.len() * 1000);
        assert_eq!(packer.pack(1, &text).unwrap(), small);
        assert_eq!(unpacked(noise.clone(), 0).unwrap(), noise);
        assert!(unpacked(small.clone(), text.len() - 1).is_err());
        assert!(unpacked(small, usize::MAX).is_err());
    }

    #[test]
    fn big_rows_are_written_as_they_are_where_the_disk_is_faster_than_compressing_them() {
        let text = "{\"ref\": \"refs/heads/main\", \"commits\": []}, ".repeat(3000);
        let text = text.as_bytes();
        let commit = |packer: &mut Packer, took: Duration| {
            packer.written = 2 * COMMIT;
            packer.committed(took);
        };
        let mut packer = Packer::default();
        assert!(packer.pack(1, text).is_some(), "nothing is known of the disk");
        // It takes no time at all.
        commit(&mut packer, Duration::ZERO);
        let packed = (0..2 * AGAIN).filter(|_| packer.pack(1, text).is_some()).count();
        assert_eq!(packed, 2, "now and then it is looked again");
        assert!(packer.pack(1, &text[..BIG / 2]).is_some(), "small ones are always compressed");
        assert!(packer.pack(2, text).is_some(), "another stream may be worth it");
        // And now it takes a second for a byte.
        (0..9).for_each(|_| commit(&mut packer, Duration::from_secs(2 * COMMIT as u64)));
        assert!((0..2 * AGAIN).all(|_| packer.pack(1, text).is_some()));
    }

    #[test]
    fn small_commits_tell_nothing_of_the_disk() {
        let mut packer = Packer { written: COMMIT - 1, ..Packer::default() };
        packer.committed(Duration::from_secs(1));
        assert!(packer.disk.is_none());
        packer.written = COMMIT;
        packer.committed(Duration::from_nanos(COMMIT as u64));
        assert_eq!(packer.disk, Some(1.0));
    }
}
