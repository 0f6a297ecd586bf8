//! The section `[webhook]` of the settings.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use runtime::settings::Problem;
use serde::Deserialize;

/// How the listener listens.
#[derive(Debug, Clone, Deserialize)]
pub struct Settings {
    /// Where.
    pub listen: SocketAddr,
    /// How providers reach it, without a slash at the end; absent: `http://` and the address it listens on.
    pub public_base_url: Option<String>,
    /// Proxies whose forwarding headers are believed: addresses or networks (`10.0.0.0/8`).
    pub trusted_proxies: Vec<String>,
    /// Largest body of a request.
    pub body_bytes_max: usize,
    /// How deep a JSON body may nest.
    pub depth_max: usize,
    /// How many requests a peer may make per second.
    pub peer_per_second_max: f64,
    /// How many at once after a pause.
    pub peer_burst_max: f64,
    /// Most connections at once.
    pub connections_max: usize,
    /// How long a request may take, from its first byte to the answer, in milliseconds.
    pub request_ms_max: u64,
    /// Whether originals are kept.
    pub keep_raw: bool,
    /// TLS.
    pub tls: Tls,
}

/// TLS of the listener; without a certificate it speaks plain HTTP, for a proxy before it.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Tls {
    /// The certificate chain, PEM.
    pub cert_file: Option<PathBuf>,
    /// Its key, PEM.
    pub key_file: Option<PathBuf>,
    /// Whose certificates clients may show; what they show is the request's `client_subject`.
    pub client_ca_file: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8094)),
            public_base_url: None,
            trusted_proxies: Vec::new(),
            body_bytes_max: 1024 * 1024,
            depth_max: 32,
            peer_per_second_max: 500.0,
            peer_burst_max: 1000.0,
            connections_max: 1024,
            request_ms_max: 15_000,
            keep_raw: true,
            tls: Tls::default(),
        }
    }
}

impl Settings {
    /// Everything that is wrong with the values, by path.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut check = |path: &str, holds: bool, message: &str| {
            if !holds {
                problems.push(Problem::new(path, "", message));
            }
        };
        let base = self.public_base_url.as_deref().is_none_or(|base| {
            let url = reqwest::Url::parse(base);
            let plain = url.is_ok_and(|url| {
                matches!(url.scheme(), "https" | "http")
                    && url.has_host()
                    && url.username().is_empty()
                    && url.query().is_none()
                    && url.fragment().is_none()
            });
            plain && !base.ends_with('/')
        });
        check("webhook.public_base_url", base, "must be https://host or https://host/path, without a slash at the end");
        let proxies = self.trusted_proxies.iter().all(|text| Network::parse(text).is_some());
        check("webhook.trusted_proxies", proxies, "must be addresses or networks like 10.0.0.0/8");
        let body = (1024..=64 * 1024 * 1024).contains(&self.body_bytes_max);
        check("webhook.body_bytes_max", body, "must be 1024 to 67108864");
        check("webhook.depth_max", (4..=100).contains(&self.depth_max), "must be 4 to 100");
        for (path, value) in
            [("webhook.peer_per_second_max", self.peer_per_second_max), ("webhook.peer_burst_max", self.peer_burst_max)]
        {
            check(path, (1.0..=1_000_000.0).contains(&value), "must be 1 to 1000000");
        }
        check("webhook.connections_max", (1..=65_536).contains(&self.connections_max), "must be 1 to 65536");
        check("webhook.request_ms_max", (100..=120_000).contains(&self.request_ms_max), "must be 100 to 120000");
        let pair = self.tls.cert_file.is_some() == self.tls.key_file.is_some();
        check("webhook.tls", pair, "cert_file and key_file are needed together");
        let client = self.tls.client_ca_file.is_none() || self.tls.cert_file.is_some();
        check("webhook.tls.client_ca_file", client, "needs cert_file and key_file too");
        problems
    }

    pub(crate) const fn request_time(&self) -> Duration {
        Duration::from_millis(self.request_ms_max)
    }
}

/// Addresses with the same beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    address: u128,
    bits: u32,
}

impl Network {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let (whole, skipped) = if address.is_ipv4() { (32, 96) } else { (128, 0) };
        let bits = bits.unwrap_or(whole);
        (bits <= whole).then(|| Self { address: number(address), bits: bits + skipped })
    }

    pub(crate) fn contains(self, address: IpAddr) -> bool {
        let differ = self.address ^ number(address);
        self.bits == 0 || differ >> (128 - self.bits) == 0
    }
}

/// IPv4 as its mapped form, so that both spellings of an address are one.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_ipv6_mapped()),
        IpAddr::V6(address) => u128::from(address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks() {
        let inside = |network: &str, address: &str| Network::parse(network).unwrap().contains(address.parse().unwrap());
        assert!(inside("10.0.0.0/8", "10.200.1.1") && !inside("10.0.0.0/8", "11.0.0.1"));
        assert!(inside("10.0.0.1", "::ffff:10.0.0.1") && inside("fd00::/8", "fd12::1") && !inside("::1", "::2"));
        assert!(inside("0.0.0.0/0", "1.2.3.4") && !inside("0.0.0.0/0", "fd00::1"));
        for bad in ["", "10.0.0.0/33", "host", "10.0.0.0/x"] {
            assert_eq!(Network::parse(bad), None);
        }
    }

    #[test]
    fn problems_have_their_paths() {
        assert!(Settings::default().validate().is_empty());
        let wrong = Settings {
            public_base_url: Some("https://user@example.com/".into()),
            trusted_proxies: vec!["proxy".into()],
            body_bytes_max: 0,
            tls: Tls { client_ca_file: Some("ca.pem".into()), ..Tls::default() },
            ..Settings::default()
        };
        let paths: Vec<_> = wrong.validate().into_iter().map(|problem| problem.path).collect();
        assert_eq!(
            paths,
            [
                "webhook.public_base_url",
                "webhook.trusted_proxies",
                "webhook.body_bytes_max",
                "webhook.tls.client_ca_file"
            ]
        );
    }
}
