//! A reader that gives up when a row has no end: what is held of one in memory is bounded by it.

use std::io::{self, Read};

/// Gives at most so many bytes between two calls of [`Limited::again`].
pub(super) struct Limited<R> {
    from: R,
    most: u64,
    left: u64,
}

/// What is said when there were more.
#[derive(Debug, thiserror::Error)]
#[error("it is longer than {0} bytes")]
struct TooLong(u64);

/// Whether reading stopped because of the limit.
pub(super) fn too_long(fault: &io::Error) -> bool {
    fault.get_ref().is_some_and(|fault| fault.is::<TooLong>())
}

impl<R> Limited<R> {
    pub(super) fn new(from: R, most: u64) -> Limited<R> {
        Limited { from, most, left: most }
    }

    /// Another row begins.
    pub(super) fn again(&mut self) {
        self.left = self.most;
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::other(TooLong(self.most)));
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
        let count = self.from.read(&mut into[..most])?;
        self.left -= count as u64;
        Ok(count)
    }
}
