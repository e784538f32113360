//! Datagrams that came and that the kernel had no room for: nobody else knows of them.

use std::fs;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// How often it is looked.
pub(crate) const LOOK: Duration = Duration::from_secs(5);

/// Where the kernel tells of its sockets.
const TABLES: [&str; 2] = ["/proc/net/udp", "/proc/net/udp6"];

/// What a socket had no room for.
pub(crate) struct Overflow {
    /// The number of the socket; nothing where the system does not tell.
    inode: Option<u64>,
    counted: u64,
}

impl Overflow {
    pub(crate) fn of(socket: &impl AsRawFd) -> Overflow {
        let mut overflow = Overflow { inode: inode(socket.as_raw_fd()), counted: 0 };
        overflow.more();
        overflow
    }

    /// How many there were since the last look.
    pub(crate) fn more(&mut self) -> u64 {
        let now = self.inode.and_then(|inode| TABLES.iter().find_map(|table| dropped(table, inode))).unwrap_or(0);
        let more = now.saturating_sub(self.counted);
        self.counted = now.max(self.counted);
        more
    }
}

fn inode(socket: RawFd) -> Option<u64> {
    fs::metadata(format!("/proc/self/fd/{socket}")).ok().map(|meta| meta.ino())
}

/// What one table says. Its columns: the inode is the tenth, what was dropped the last.
fn dropped(table: &str, inode: u64) -> Option<u64> {
    let text = fs::read_to_string(table).ok()?;
    let row =
        text.lines().skip(1).find(|row| row.split_whitespace().nth(9).and_then(|n| n.parse().ok()) == Some(inode))?;
    row.split_whitespace().last()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn what_the_kernel_has_no_room_for_is_counted_once() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut overflow = Overflow::of(&socket);
        assert_eq!(overflow.more(), 0);
        // Nobody reads.
        let from = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..20_000 {
            let _ = from.send_to(&[0; 1024], socket.local_addr().unwrap()).unwrap();
        }
        let mut kept = 0;
        socket.set_nonblocking(true).unwrap();
        while socket.recv(&mut [0; 1024]).is_ok() {
            kept += 1;
        }
        assert_eq!((overflow.more() + kept, overflow.more()), (20_000, 0), "{kept} were kept");
    }
}
