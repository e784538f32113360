//! The first address that answers. IPv6 and IPv4 in turn, a new one every quarter of a second: RFC 8305.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::{TcpSocket, TcpStream};

use super::DialFault;
use crate::irc::settings::ServerAddr;

/// How long one address may take to answer. All addresses of a name are tried.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a name may take to resolve.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the address before has the field to itself (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);
/// Addresses tried of one name.
const ADDRESSES_MAX: usize = 16;

/// A connection to the first address of this server that takes one.
pub(super) async fn connect(server: &ServerAddr, from: Option<IpAddr>) -> Result<TcpStream, DialFault> {
    let addrs = addresses(server, from).await?;
    first(server, &addrs, from).await.map(|(_, tcp)| tcp)
}

/// The addresses of this server, in the order they are tried.
pub(super) async fn addresses(server: &ServerAddr, from: Option<IpAddr>) -> Result<Vec<SocketAddr>, DialFault> {
    let resolve = |fault| DialFault::Resolve(server.host.clone(), fault);
    let lookup = tokio::net::lookup_host((server.host.clone(), server.port));
    let found =
        tokio::time::timeout(RESOLVE_TIMEOUT, lookup).await.map_err(|_| resolve(io::ErrorKind::TimedOut.into()))?;
    let addrs = in_turn(found.map_err(resolve)?, from);
    if addrs.is_empty() && from.is_some() {
        let reason = "it has no address of the family of `local_address`";
        return Err(resolve(io::Error::other(reason)));
    }
    Ok(addrs)
}

/// A connection to the first of these addresses that takes one, and which it is.
pub(super) async fn first(
    server: &ServerAddr,
    addrs: &[SocketAddr],
    from: Option<IpAddr>,
) -> Result<(SocketAddr, TcpStream), DialFault> {
    let one = |addr| async move { open(addr, from).await.map(|tcp| (addr, tcp)) };
    let won = race(addrs.to_vec(), one).await.map_err(|fault| DialFault::Connect(server.to_string(), fault))?;
    // A line should leave when it is written; if this cannot be set, it leaves a little later.
    let _ = won.1.set_nodelay(true);
    Ok(won)
}

/// The addresses in the order they are tried: the families in turn, IPv6 first; of one family only where we connect from it.
fn in_turn(addrs: impl Iterator<Item = SocketAddr>, from: Option<IpAddr>) -> Vec<SocketAddr> {
    let same_family = |addr: &SocketAddr| from.is_none_or(|from| from.is_ipv6() == addr.is_ipv6());
    let (six, four): (Vec<_>, Vec<_>) = addrs.filter(same_family).partition(|addr| addr.is_ipv6());
    let longest = six.len().max(four.len());
    let mut out: Vec<SocketAddr> =
        (0..longest).flat_map(|at| six.get(at).into_iter().chain(four.get(at)).copied()).collect();
    out.truncate(ADDRESSES_MAX);
    out
}

async fn open(addr: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let Some(from) = from else { return TcpStream::connect(addr).await };
    let socket = if addr.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
    socket.bind(SocketAddr::new(from, 0))?;
    socket.connect(addr).await
}

/// Begins with the first address; with the next when it failed or its head start is over. Whoever is there first wins, the others are
/// dropped.
async fn race<T, F: Future<Output = io::Result<T>>>(
    addrs: Vec<SocketAddr>,
    mut open: impl FnMut(SocketAddr) -> F,
) -> io::Result<T> {
    let mut running = FuturesUnordered::new();
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for addr in addrs {
        running.push(tokio::time::timeout(ADDRESS_TIMEOUT, open(addr)));
        let head_start = tokio::time::sleep(HEAD_START);
        tokio::pin!(head_start);
        let ended = tokio::select! {
            Some(ended) = running.next() => ended,
            () = &mut head_start => continue,
        };
        match ended {
            Ok(Ok(open)) => return Ok(open),
            Ok(Err(fault)) => last = fault,
            Err(_elapsed) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    while let Some(ended) = running.next().await {
        match ended {
            Ok(Ok(open)) => return Ok(open),
            Ok(Err(fault)) => last = fault,
            Err(_elapsed) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::time::Instant;

    use super::*;

    fn addrs(text: &[&str]) -> Vec<SocketAddr> {
        text.iter().map(|addr| addr.parse().unwrap()).collect()
    }

    #[test]
    fn the_families_take_turns_and_ours_alone_where_we_connect_from_it() {
        let all = addrs(&["1.1.1.1:1", "2.2.2.2:1", "3.3.3.3:1", "[::1]:1", "[::2]:1"]);
        let order = in_turn(all.clone().into_iter(), None);
        assert_eq!(order, addrs(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "3.3.3.3:1"]));
        let mine = in_turn(all.into_iter(), Some("127.0.0.1".parse().unwrap()));
        assert_eq!(mine, addrs(&["1.1.1.1:1", "2.2.2.2:1", "3.3.3.3:1"]));
    }

    /// Each address behaves as its port says: 1 never answers, 2 refuses at once, other ports answer after so many ms.
    async fn run(text: &[&str]) -> (io::Result<SocketAddr>, u64, Vec<u16>) {
        let begun = Mutex::new(Vec::new());
        let start = Instant::now();
        let won = race(addrs(text), |addr| {
            begun.lock().unwrap().push(addr.port());
            async move {
                match addr.port() {
                    1 => std::future::pending().await,
                    2 => Err(io::ErrorKind::ConnectionRefused.into()),
                    after => {
                        tokio::time::sleep(Duration::from_millis(after.into())).await;
                        Ok(addr)
                    }
                }
            }
        })
        .await;
        (won, start.elapsed().as_millis() as u64, begun.into_inner().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_is_silent_costs_a_quarter_of_a_second_and_one_that_refuses_nothing() {
        let (won, took, begun) = run(&["[::1]:1", "127.0.0.1:100"]).await;
        assert_eq!((won.unwrap().port(), took, begun), (100, 350, vec![1, 100]));
        let (won, took, begun) = run(&["[::1]:2", "127.0.0.1:100", "[::2]:50"]).await;
        assert_eq!((won.unwrap().port(), took, begun), (100, 100, vec![2, 100]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_first_address_still_wins_over_a_slower_second() {
        let (won, took, _) = run(&["[::1]:400", "127.0.0.1:900"]).await;
        assert_eq!((won.unwrap().port(), took), (400, 400));
    }

    #[tokio::test(start_paused = true)]
    async fn where_nobody_answers_it_ends_with_the_reason() {
        let (won, took, _) = run(&["[::1]:1", "127.0.0.1:2"]).await;
        assert_eq!((won.unwrap_err().kind(), took), (io::ErrorKind::TimedOut, 10_000));
        assert!(run(&[]).await.0.is_err());
    }
}
