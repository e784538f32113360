//! Short names for calls and faults, such as `7F3K`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Crockford's base 32: no letter that can be taken for a digit.
const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Four letters.
const SPAN: u32 = 1 << 20;
/// Odd, so that the sequence visits every name before it repeats.
const STRIDE: u32 = 0x9E37B;

/// Gives names in an order that looks random, so that two of them are not mistaken for each other.
#[derive(Debug)]
pub(crate) struct Names {
    next: AtomicU32,
}

impl Names {
    /// Begins anywhere.
    pub(crate) fn new() -> Names {
        let mut start = [0; 4];
        // Without randomness the names begin at the same place each time, which is harmless.
        let _ = getrandom::fill(&mut start);
        Names { next: AtomicU32::new(u32::from_le_bytes(start)) }
    }

    /// The next name: four letters, not repeated within 1,048,576.
    pub(crate) fn next(&self) -> Arc<str> {
        let n = self.next.fetch_add(STRIDE, Ordering::Relaxed) % SPAN;
        let letters = [15, 10, 5, 0].map(|shift| LETTERS[(n >> shift) as usize % LETTERS.len()]);
        // They are all ASCII.
        Arc::from(std::str::from_utf8(&letters).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_names_are_all_different() {
        let names = Names::new();
        let seen: std::collections::HashSet<Arc<str>> = (0..SPAN).map(|_| names.next()).collect();
        assert_eq!(seen.len() as u32, SPAN);
    }
}
