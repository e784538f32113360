//! Records compressed: what services post shrinks to a fifth, and the disk is what the journal waits for.

use super::record::BadRecord;

/// Less is written as it is.
const LEAST: usize = 1024;
/// Nothing longer was ever written: a batch has 64 MiB at most.
const MOST: usize = 128 << 20;

/// A bigger buffer is not kept for the next records.
const KEPT: usize = 8 << 20;

/// Compresses into a buffer that is used again and again: fresh memory costs more than compressing.
#[derive(Default)]
pub(super) struct Packer {
    buffer: Vec<u8>,
}

impl Packer {
    /// The bytes compressed, if that is worth it.
    pub(super) fn pack(&mut self, records: &[u8]) -> Option<&[u8]> {
        if records.len() < LEAST {
            return None;
        }
        let most = lz4_flex::block::get_maximum_output_size(records.len());
        if self.buffer.len() < most {
            self.buffer.resize(most, 0);
        } else if self.buffer.len() > KEPT && most <= KEPT {
            self.buffer.truncate(KEPT);
            self.buffer.shrink_to_fit();
        }
        // It fails only if there is too little room.
        let length = lz4_flex::block::compress_into(records, &mut self.buffer).ok()?;
        if length < records.len() / 4 * 3 { self.buffer.get(..length) } else { None }
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
        let small = packer.pack(&text).unwrap().to_vec();
        assert!(small.len() * 5 < text.len());
        assert_eq!(unpacked(small.clone(), text.len()).unwrap(), text);
        assert!(packer.pack(b"short").is_none());
        let noise: Vec<u8> = (0..4096u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        assert!(packer.pack(&noise).is_none());
        // A big one leaves nothing behind that the next would show.
        assert!(packer.pack(&text.repeat(3000)).unwrap().len() < text.len() * 1000);
        assert_eq!(packer.pack(&text).unwrap(), small);
        assert_eq!(unpacked(noise.clone(), 0).unwrap(), noise);
        assert!(unpacked(small.clone(), text.len() - 1).is_err());
        assert!(unpacked(small, usize::MAX).is_err());
    }
}
