//! Who a request is from, where a proxy stands in front of the gateway and says so.

use std::net::{IpAddr, SocketAddr};

use warp::http::HeaderMap;

/// In which proxies say whom they speak for: one address behind the other, each proxy's own word the last.
/// <https://developer.mozilla.org/docs/Web/HTTP/Headers/X-Forwarded-For>
const FORWARDED: &str = "x-forwarded-for";
/// In which they say by what they were asked: `https`, or `wss`.
/// <https://developer.mozilla.org/docs/Web/HTTP/Headers/X-Forwarded-Proto>
const BY: &str = "x-forwarded-proto";

/// Who comes, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visitor {
    /// From where.
    pub peer: SocketAddr,
    /// Whether nobody can read it on the way: by TLS to a proxy of ours on this machine.
    pub tls: bool,
}

/// Who comes, and whether others can read what they say.
pub(super) fn visitor(behind: &[IpAddr], at: Option<SocketAddr>, headers: &HeaderMap) -> Option<Visitor> {
    let peer = peer(behind, at, headers)?;
    let near = at.is_some_and(|at| is_among(behind, &at.ip()) && at.ip().to_canonical().is_loopback());
    let by = words(headers, BY).pop().unwrap_or_default();
    Some(Visitor { peer, tls: near && (by.eq_ignore_ascii_case("https") || by.eq_ignore_ascii_case("wss")) })
}

/// What stands in all lines of a header, between commas. Bytes that are no text spoil the word that they stand in, and no other: who comes
/// writes before the proxy does, and must not take the proxy's word away.
fn words(headers: &HeaderMap, name: &str) -> Vec<String> {
    let lines = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    lines.flat_map(|line| line.split(',').map(|word| word.trim().to_owned()).collect::<Vec<_>>()).collect()
}

fn is_among(behind: &[IpAddr], ip: &IpAddr) -> bool {
    behind.iter().any(|ours| ours.to_canonical() == ip.to_canonical())
}

/// Who asks: whoever connected, or whom they speak for if they are one of the proxies of ours. Of several hops the nearest that is none of
/// them counts; what stands before it anybody can write. A proxy that says nothing, or nothing that is an address, speaks for itself.
pub(super) fn peer(behind: &[IpAddr], at: Option<SocketAddr>, headers: &HeaderMap) -> Option<SocketAddr> {
    let at = at?;
    if !is_among(behind, &at.ip()) {
        return Some(at);
    }
    for hop in words(headers, FORWARDED).iter().rev() {
        let Some(found) = address(hop) else { return Some(at) };
        if !is_among(behind, &found.ip()) {
            return Some(found);
        }
    }
    Some(at)
}

/// An address, with a port or without: `192.0.2.7`, `192.0.2.7:4711`, `2001:db8::7`, `[2001:db8::7]:4711`.
fn address(text: &str) -> Option<SocketAddr> {
    let alone = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let alone = alone.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 0));
    alone.ok().or_else(|| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use warp::http::HeaderValue;

    use super::*;

    fn from(at: &str, lines: &[&str]) -> String {
        let behind = ["127.0.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        peer(&behind, Some(at.parse().unwrap()), &headers).unwrap().ip().to_string()
    }

    #[test]
    fn a_proxy_of_ours_speaks_for_others_and_nobody_else_does() {
        assert_eq!(from("127.0.0.1:1", &["203.0.113.7"]), "203.0.113.7");
        assert_eq!(from("192.0.2.1:1", &["203.0.113.7"]), "192.0.2.1", "anybody can write that");
        // The nearest that is not ours counts, over lines and hops.
        assert_eq!(from("127.0.0.1:1", &["10.9.9.9, 203.0.113.7, 2001:db8::1"]), "203.0.113.7");
        assert_eq!(from("127.0.0.1:1", &["10.9.9.9", "203.0.113.8:4711"]), "203.0.113.8");
        assert_eq!(from("[2001:db8::1]:1", &["[2001:db8::7]:4711"]), "2001:db8::7");
        assert_eq!(from("127.0.0.1:1", &["[2001:db8::7]"]), "2001:db8::7");
        assert_eq!(from("[::ffff:127.0.0.1]:1", &["203.0.113.7"]), "203.0.113.7");
        // What the visitor wrote takes nothing away of what the proxy wrote behind it.
        assert_eq!(from("127.0.0.1:1", &["schön, 203.0.113.7"]), "203.0.113.7");
        assert_eq!(from("127.0.0.1:1", &["schön", "203.0.113.7"]), "203.0.113.7");
        for nothing in
            [vec![], vec![""], vec!["unknown"], vec!["schön"], vec!["203.0.113.7, _hidden"], vec!["127.0.0.1"]]
        {
            assert_eq!(from("127.0.0.1:1", &nothing), "127.0.0.1", "{nothing:?}");
        }
        assert_eq!(peer(&[], None, &HeaderMap::new()), None);
    }

    #[test]
    fn that_nobody_can_read_along_is_believed_of_a_proxy_on_this_machine_alone() {
        let behind = ["127.0.0.1".parse().unwrap(), "192.0.2.1".parse().unwrap()];
        let tls = |at: &str, by: &'static str| {
            let headers = HeaderMap::from_iter([
                (BY.parse().unwrap(), HeaderValue::from_static(by)),
                (FORWARDED.parse().unwrap(), HeaderValue::from_static("203.0.113.7")),
            ]);
            visitor(&behind, Some(at.parse().unwrap()), &headers).unwrap().tls
        };
        assert!(tls("127.0.0.1:1", "https") && tls("127.0.0.1:1", "http, WSS"));
        assert!(!tls("127.0.0.1:1", "http") && !tls("127.0.0.1:1", "https, http") && !tls("127.0.0.1:1", ""));
        assert!(!tls("192.0.2.1:1", "https"), "from there on it can be read");
        assert!(!tls("203.0.113.9:1", "https"), "and anybody can write that");
    }
}
