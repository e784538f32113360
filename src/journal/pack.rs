//! Records compressed: what services post shrinks to a fifth, and the disk is what the journal waits for.

use super::record::BadRecord;

/// Less is written as it is.
const LEAST: usize = 1024;
/// Nothing longer was ever written: a batch has 64 MiB at most.
const MOST: usize = 128 << 20;

/// The bytes compressed, if that is worth it.
pub(super) fn packed(records: &[u8]) -> Option<Vec<u8>> {
    if records.len() < LEAST {
        return None;
    }
    Some(lz4_flex::block::compress(records)).filter(|packed| packed.len() < records.len() / 4 * 3)
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
        let small = packed(&text).unwrap();
        assert!(small.len() * 5 < text.len());
        assert_eq!(unpacked(small.clone(), text.len()).unwrap(), text);
        assert!(packed(b"short").is_none());
        let noise: Vec<u8> = (0..4096u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        assert!(packed(&noise).is_none());
        assert_eq!(unpacked(noise.clone(), 0).unwrap(), noise);
        assert!(unpacked(small.clone(), text.len() - 1).is_err());
        assert!(unpacked(small, usize::MAX).is_err());
    }
}
