//! How many sockets and messages an address or a visitor may have, and who the address is behind
//! proxies.

use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use adapter::limit::TokenBucket;
use dashmap::DashMap;
use tokio::time::Instant;

/// Somebody without a socket is forgotten after so long; until then the rates go on.
const FORGET_AFTER: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// An address, or all addresses with the same first bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address.parse::<IpAddr>().ok()?, Some(bits.parse::<u8>().ok()?)),
            None => (text.parse().ok()?, None),
        };
        let all = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(all);
        (bits <= all).then_some(Self { address, bits })
    }

    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                (ours.to_bits() ^ theirs.to_bits()).checked_shr(32 - u32::from(self.bits)).unwrap_or(0) == 0
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                (ours.to_bits() ^ theirs.to_bits()).checked_shr(128 - u32::from(self.bits)).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// The address of the page's browser: the peer's, or, where the peer is a trusted proxy, the last
/// address of `X-Forwarded-For` that is not one.
pub(crate) fn client(peer: IpAddr, forwarded: &[&str], proxies: &[Network]) -> IpAddr {
    let trusted = |address: IpAddr| proxies.iter().any(|proxy| proxy.contains(address));
    let mut client = peer.to_canonical();
    let hops = forwarded.iter().flat_map(|header| header.split(',')).map(str::trim).collect::<Vec<_>>();
    for hop in hops.into_iter().rev() {
        if !trusted(client) {
            break;
        }
        match hop.parse::<IpAddr>() {
            Ok(address) => client = address.to_canonical(),
            // What a proxy cannot spell is not believed any further.
            Err(_) => break,
        }
    }
    client
}

/// Counts by key, with a rate each. Keys are looked up, never listed.
#[derive(Debug)]
pub(crate) struct Quota<K: Eq + Hash> {
    max: usize,
    per_second: f64,
    burst: f64,
    forget_after: Duration,
    uses: DashMap<K, Use>,
}

#[derive(Debug)]
struct Use {
    open: usize,
    rate: Arc<Mutex<TokenBucket>>,
    left_at: Instant,
}

/// One of the places that a key has; gives it back when dropped.
#[derive(Debug)]
pub(crate) struct Place<K: Eq + Hash + Clone> {
    quota: Arc<Quota<K>>,
    key: K,
    rate: Arc<Mutex<TokenBucket>>,
}

impl<K: Eq + Hash + Clone> Quota<K> {
    /// At most `max` places for each key, and a rate of `per_second` after a `burst`.
    pub(crate) fn new(max: usize, per_second: f64, burst: f64) -> Self {
        Self { max, per_second, burst, forget_after: FORGET_AFTER, uses: DashMap::new() }
    }

    /// A rate of so many in an hour, for what needs no place for longer than a moment.
    pub(crate) fn hourly(most: u32) -> Self {
        let most = f64::from(most);
        // Somebody who has not been heard of for an hour has all of them again.
        Self { forget_after: HOUR, ..Self::new(usize::MAX, most / 3600.0, most) }
    }

    /// Takes one of what the rate allows, without a place.
    ///
    /// # Errors
    /// With the time until there is one.
    pub(crate) fn take(self: &Arc<Self>, key: K, now: Instant) -> Result<(), Duration> {
        self.enter(key, now).map_or(Ok(()), |place| place.take(now))
    }

    /// Takes a place, unless the key has all of its.
    pub(crate) fn enter(self: &Arc<Self>, key: K, now: Instant) -> Option<Place<K>> {
        let mut entry = self.uses.entry(key.clone()).or_insert_with(|| Use {
            open: 0,
            rate: Arc::new(Mutex::new(TokenBucket::new(self.per_second, self.burst, now))),
            left_at: now,
        });
        if entry.open >= self.max {
            return None;
        }
        entry.open += 1;
        Some(Place { quota: Arc::clone(self), key, rate: Arc::clone(&entry.rate) })
    }

    /// Forgets keys that have had no place for a while.
    pub(crate) fn sweep(&self, now: Instant) {
        self.uses.retain(|_, of| of.open > 0 || now.saturating_duration_since(of.left_at) < self.forget_after);
    }
}

impl<K: Eq + Hash + Clone> Place<K> {
    /// Takes one of what the rate allows.
    ///
    /// # Errors
    /// With the time until there is one.
    pub(crate) fn take(&self, now: Instant) -> Result<(), Duration> {
        self.rate.lock().unwrap_or_else(PoisonError::into_inner).take(now)
    }
}

impl<K: Eq + Hash + Clone> Drop for Place<K> {
    fn drop(&mut self) {
        if let Some(mut of) = self.quota.uses.get_mut(&self.key) {
            of.open = of.open.saturating_sub(1);
            of.left_at = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn networks_contain_what_they_should() {
        let ten = Network::parse("10.0.0.0/8").unwrap();
        assert!(ten.contains(ip("10.9.9.9")) && ten.contains(ip("::ffff:10.1.1.1")) && !ten.contains(ip("11.0.0.1")));
        assert!(Network::parse("0.0.0.0/0").unwrap().contains(ip("1.2.3.4")));
        assert!(Network::parse("fd00::/8").unwrap().contains(ip("fd12::1")));
        assert!(!Network::parse("fd00::/8").unwrap().contains(ip("10.0.0.1")));
        assert!(Network::parse("127.0.0.1").unwrap().contains(ip("127.0.0.1")));
        for bad in ["10.0.0.0/33", "ten", "10.0.0.0/", "/8"] {
            assert!(Network::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let proxies = [Network::parse("10.0.0.0/8").unwrap()];
        assert_eq!(client(ip("9.9.9.9"), &["1.1.1.1"], &proxies), ip("9.9.9.9"));
        assert_eq!(client(ip("10.0.0.1"), &["6.6.6.6, 1.1.1.1"], &proxies), ip("1.1.1.1"), "the left one is forged");
        assert_eq!(client(ip("10.0.0.1"), &["1.1.1.1", "10.0.0.7"], &proxies), ip("1.1.1.1"));
        assert_eq!(client(ip("10.0.0.1"), &["rubbish"], &proxies), ip("10.0.0.1"));
        assert_eq!(client(ip("10.0.0.1"), &[], &proxies), ip("10.0.0.1"));
    }

    #[test]
    fn an_hours_worth_is_not_forgotten_before_the_hour_is_over() {
        let now = Instant::now();
        let quota = Arc::new(Quota::hourly(2));
        assert!(quota.take("a", now).is_ok() && quota.take("a", now).is_ok());
        quota.sweep(now + Duration::from_secs(120));
        assert_eq!(quota.take("a", now), Err(Duration::from_secs(1800)));
        assert!(quota.take("b", now).is_ok());
        quota.sweep(now + Duration::from_secs(4000));
        assert!(quota.uses.is_empty());
    }

    #[test]
    fn places_are_given_back_and_rates_outlive_a_reconnect() {
        let now = Instant::now();
        let quota = Arc::new(Quota::new(2, 1.0, 2.0));
        let one = quota.enter("a", now).unwrap();
        let two = quota.enter("a", now).unwrap();
        assert!(quota.enter("a", now).is_none());
        assert!(quota.enter("b", now).is_some());
        assert!(one.take(now).is_ok() && two.take(now).is_ok() && one.take(now).is_err());
        drop((one, two));
        quota.sweep(now);
        assert_eq!(quota.enter("a", now).unwrap().take(now), Err(Duration::from_secs(1)));
        quota.sweep(now + Duration::from_secs(120));
        assert!(quota.uses.is_empty());
    }
}
