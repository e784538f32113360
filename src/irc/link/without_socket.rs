//! A connection as tests drive it that need no socket: bytes in, bytes out, and time when it is due.

use masterchief_contract::Backoff;

use super::Link;

impl Link<'_> {
    /// Takes bytes of the server, as they would come from the socket; `Err` where it would be left.
    pub(in crate::irc) fn hears(&mut self, bytes: &[u8], backoff: &mut Backoff) -> Result<(), String> {
        self.received(bytes, backoff)
    }

    /// What would be written now.
    pub(in crate::irc) fn says(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            self.fill();
            if self.out.is_empty() {
                return all;
            }
            all.append(&mut self.out);
            self.unwritten.clear();
        }
    }

    /// The connection breaks when the next line is about to leave; tells whether one was, and whether any of it stayed on its way.
    pub(in crate::irc) fn breaks(&mut self) -> (bool, bool) {
        self.fill();
        let was = !self.out.is_empty();
        self.keep_unwritten();
        (was, !self.out.is_empty())
    }

    /// Time has passed.
    pub(in crate::irc) fn later(&mut self) -> Result<(), String> {
        self.timer()
    }

    /// The first lines that a client says.
    pub(in crate::irc) fn begins(&mut self) {
        self.send_registration();
    }
}
