//! Who a request is from, when a proxy may stand between.

use std::net::IpAddr;

use super::settings::Network;
use crate::http::HeaderMap;

/// Most hops of a forwarding header that are looked at.
const HOPS_MAX: usize = 32;

/// The peer of the connection, unless it is a listed proxy: then the last one that no listed proxy is, by what the
/// proxies wrote. What stands before that may be anybody's invention and is not looked at.
pub(super) fn believed(connected: IpAddr, headers: &HeaderMap, proxies: &[Network]) -> IpAddr {
    let listed = |address: IpAddr| proxies.iter().any(|network| network.contains(address));
    let mut peer = connected.to_canonical();
    if !listed(peer) {
        return peer;
    }
    let lines: Vec<&str> = headers.get_all("x-forwarded-for").iter().filter_map(|line| line.to_str().ok()).collect();
    let hops = lines.iter().rev().flat_map(|line| line.rsplit(','));
    for hop in hops.take(HOPS_MAX) {
        let Ok(address) = hop.trim().parse::<IpAddr>() else { return peer };
        peer = address.to_canonical();
        if !listed(peer) {
            return peer;
        }
    }
    peer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HeaderValue;

    fn peer(connected: &str, forwarded: &[&'static str]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_static(line));
        }
        let proxies = [Network::parse("10.0.0.0/8").unwrap(), Network::parse("::1").unwrap()];
        believed(connected.parse().unwrap(), &headers, &proxies).to_string()
    }

    #[test]
    fn only_listed_proxies_are_believed() {
        assert_eq!(peer("192.0.2.1", &["198.51.100.9"]), "192.0.2.1");
        assert_eq!(peer("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(peer("10.0.0.1", &["198.51.100.9"]), "198.51.100.9");
        assert_eq!(peer("::ffff:10.0.0.1", &["198.51.100.9"]), "198.51.100.9");
        // What the customer wrote stands before what the proxies wrote.
        assert_eq!(peer("10.0.0.1", &["203.0.113.1, 198.51.100.9, 10.0.0.2"]), "198.51.100.9");
        assert_eq!(peer("10.0.0.1", &["203.0.113.1", "198.51.100.9"]), "198.51.100.9");
        assert_eq!(peer("10.0.0.1", &["nonsense, 10.0.0.2"]), "10.0.0.2");
    }
}
