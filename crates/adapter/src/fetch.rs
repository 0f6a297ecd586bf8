//! Downloads from addresses that a provider or a customer wrote: guarded, so that nobody can make us read what only we
//! can reach.
//!
//! A host is resolved by us, each address is looked at, and the connection goes to one that was looked at: there is no
//! moment at which the name could be given another meaning. Each redirect is a new address with the same questions.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use runtime::settings::Problem;
use serde::Deserialize;

use crate::channel::OpenError;
use crate::failure::SendFailure;
use crate::http::{self, CallError, ClientSettings, HeaderMap, StatusCode, header};

/// Most redirects that are followed.
const REDIRECTS_MAX: usize = 5;

/// How downloads are bounded: the section `[fetch]` of the settings.
#[derive(Debug, Clone, Deserialize)]
pub struct FetchSettings {
    /// Hosts that may be asked although their addresses are private, or by plain HTTP: `host` or `host:port`.
    pub hosts_allowed: Vec<String>,
    /// Largest download in bytes.
    pub bytes_max: usize,
    /// How long one download may take, in milliseconds.
    pub timeout_ms: u64,
}

impl Default for FetchSettings {
    fn default() -> Self {
        Self { hosts_allowed: Vec::new(), bytes_max: 32 * 1024 * 1024, timeout_ms: 30_000 }
    }
}

impl FetchSettings {
    /// Everything that is wrong with the values, by path.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut check = |path: &str, holds: bool, message: &str| {
            if !holds {
                problems.push(Problem::new(path, "", message));
            }
        };
        let plain = |host: &String| !host.is_empty() && !host.contains(['/', '@', ' ']);
        check("fetch.hosts_allowed", self.hosts_allowed.iter().all(plain), "must be host or host:port");
        check("fetch.bytes_max", (1024..=256 * 1024 * 1024).contains(&self.bytes_max), "must be 1024 to 268435456");
        check("fetch.timeout_ms", (100..=600_000).contains(&self.timeout_ms), "must be 100 to 600000");
        problems
    }
}

/// What was downloaded.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fetched {
    /// The bytes.
    pub bytes: Bytes,
    /// Their MIME type, as far as anybody says.
    pub mime: Option<String>,
    /// Their file name, as far as anybody says.
    pub name: Option<String>,
}

/// Downloads. Cheap to clone.
#[derive(Clone)]
pub struct Fetcher {
    inner: Arc<Inner>,
}

struct Inner {
    /// Connects to public addresses alone.
    guarded: reqwest::Client,
    /// Connects to whatever the allowed hosts are.
    trusting: reqwest::Client,
    hosts_allowed: Vec<String>,
    bytes_max: usize,
}

impl Fetcher {
    /// A fetcher with these bounds.
    ///
    /// # Errors
    /// When there are no certificates.
    pub fn new(settings: &FetchSettings) -> Result<Self, OpenError> {
        let client =
            ClientSettings { timeout: Duration::from_millis(settings.timeout_ms), ..ClientSettings::default() };
        let build = |builder: reqwest::ClientBuilder| {
            builder.build().map_err(|error| OpenError::new("HTTP client", http::without_url(error)))
        };
        Ok(Self {
            inner: Arc::new(Inner {
                guarded: build(http::builder(&client)?.dns_resolver(Arc::new(Guard)))?,
                trusting: build(http::builder(&client)?)?,
                hosts_allowed: settings.hosts_allowed.iter().map(|host| host.to_ascii_lowercase()).collect(),
                bytes_max: settings.bytes_max,
            }),
        })
    }

    /// Downloads what is at an address. The headers (an access token) go to the first host alone, not where it
    /// redirects to.
    ///
    /// # Errors
    /// Permanent: a forbidden or malformed address, an answer like 404, too many bytes. Retryable: everything that may
    /// be different later.
    pub async fn get(&self, url: &str, headers: HeaderMap) -> Result<Fetched, SendFailure> {
        let mut url = reqwest::Url::parse(url)
            .map_err(|_| SendFailure::permanent("fetch_address", "the address cannot be read"))?;
        let mut headers = Some(headers);
        for _ in 0..=REDIRECTS_MAX {
            let client = self.client_for(&url)?;
            let mut request = client.get(url.clone());
            if let Some(headers) = headers.take() {
                request = request.headers(headers);
            }
            let answer = request.send().await.map_err(|error| failed(&http::sort(error)))?;
            let status = answer.status();
            if status.is_redirection() {
                let to = answer.headers().get(header::LOCATION).and_then(|to| to.to_str().ok());
                url = to
                    .and_then(|to| url.join(to).ok())
                    .ok_or_else(|| SendFailure::permanent("fetch_redirect", "it redirects to nowhere"))?;
                continue;
            }
            if !status.is_success() {
                return Err(refused(status, answer.headers()));
            }
            let answer = http::read(answer, self.inner.bytes_max).await.map_err(|error| failed(&error))?;
            let text = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
            let mime = text(header::CONTENT_TYPE).and_then(|value| value.split(';').next());
            let mime = mime.map(|mime| mime.trim().to_ascii_lowercase()).filter(|mime| !mime.is_empty());
            let name = text(header::CONTENT_DISPOSITION).and_then(file_name);
            return Ok(Fetched { mime, name, bytes: answer.into_body() });
        }
        Err(SendFailure::permanent("fetch_redirect", "it redirects too often"))
    }

    /// Whether an address may be asked at all, and by whom.
    fn client_for(&self, url: &reqwest::Url) -> Result<&reqwest::Client, SendFailure> {
        let forbidden = |why: &str| SendFailure::permanent("fetch_forbidden", why);
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).trim_end_matches('.');
        if host.is_empty() || !url.username().is_empty() || url.password().is_some() {
            return Err(forbidden("the address names no host, or a user"));
        }
        let port = url.port_or_known_default().unwrap_or_default();
        let allowed = |entry: &String| *entry == host || *entry == format!("{host}:{port}");
        if matches!(url.scheme(), "http" | "https") && self.inner.hosts_allowed.iter().any(allowed) {
            return Ok(&self.inner.trusting);
        }
        if url.scheme() != "https" {
            return Err(forbidden("only https is fetched"));
        }
        // A host that is an address never comes to the resolver.
        if host.parse::<IpAddr>().is_ok_and(|address| !is_public(address)) {
            return Err(forbidden("the address is not a public one"));
        }
        Ok(&self.inner.guarded)
    }
}

fn failed(error: &CallError) -> SendFailure {
    match error {
        CallError::TooLarge => SendFailure::permanent("fetch_too_large", "it is too large"),
        CallError::NotSent(why) if why.contains(NOT_PUBLIC) => SendFailure::permanent("fetch_forbidden", NOT_PUBLIC),
        // A download can be repeated, whatever became of it.
        error => SendFailure::retryable("fetch_failed", error.to_string()),
    }
}

fn refused(status: StatusCode, headers: &HeaderMap) -> SendFailure {
    let (code, message) = (format!("http_{}", status.as_u16()), format!("the server answered {}", status.as_u16()));
    let after = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    match status.as_u16() {
        408 | 425 | 429 | 500.. => match after {
            Some(seconds) => SendFailure::retryable_after(Duration::from_secs(u64::min(seconds, 3600)), code, message),
            None => SendFailure::retryable(code, message),
        },
        _ => SendFailure::permanent(code, message),
    }
}

/// The plain `filename` of a Content-Disposition.
fn file_name(value: &str) -> Option<String> {
    let name = value.split(';').skip(1).find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        key.trim().eq_ignore_ascii_case("filename").then(|| value.trim().trim_matches('"').to_owned())
    })?;
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default().trim();
    let fits = !name.is_empty() && name.len() <= 255 && !name.chars().any(char::is_control);
    fits.then(|| name.to_owned())
}

const NOT_PUBLIC: &str = "the host has no public address";

/// Resolves names to public addresses alone.
struct Guard;

impl reqwest::dns::Resolve for Guard {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|address| is_public(address.ip())).collect();
            if public.is_empty() {
                return Err(NOT_PUBLIC.into());
            }
            Ok(Box::new(public.into_iter()) as reqwest::dns::Addrs)
        })
    }
}

/// Whether an address is one of the public internet: none of those that the IANA registries keep for something else.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !matches!(
        (a, b, c),
        // This network, loopback, private.
        (0 | 10 | 127, ..)
        | (172, 16..=31, _)
        | (192, 168, _)
        // Shared with customers of a provider, link-local (where clouds keep their metadata).
        | (100, 64..=127, _)
        | (169, 254, _)
        // Protocol assignments, documentation, 6to4 relays, benchmarks.
        | (192, 0, 0 | 2)
        | (192, 88, 99)
        | (198, 18 | 19, _)
        | (198, 51, 100)
        | (203, 0, 113)
        // Multicast, reserved, broadcast.
        | (224..=255, ..)
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match (a, b, c, d, e, f) {
        // Those that stand for an IPv4 address are what that is: NAT64 and 6to4. Mapped ones are not written in
        // addresses that mean well.
        (0x64, 0xff9b, 0, 0, 0, 0) => v4(g, h),
        (0x2002, ..) => v4(b, c),
        // Teredo, ORCHID, protocol assignments, documentation.
        (0x2001, 0..=0x1ff | 0xdb8, ..) | (0x3fff, 0..=0xfff, ..) => false,
        // Only this is given out.
        _ => a & 0xe000 == 0x2000,
    }
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher").field("bytes_max", &self.inner.bytes_max).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_public() {
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.8.8.8",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:8.8.8.8",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "100::1",
            "2001:db8::1",
            "2001::1",
            "2002:7f00:1::",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "3fff::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "8.8.8.8",
            "100.63.255.255",
            "172.32.0.1",
            "192.167.1.1",
            "2a00:1450::1",
            "2606:4700::1111",
            "64:ff9b::8.8.8.8",
            "2002:808:808::",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[tokio::test]
    async fn addresses_are_refused_before_anything_is_sent() {
        let fetcher = Fetcher::new(&FetchSettings::default()).unwrap();
        for url in [
            "http://example.com/a.jpg",
            "https://127.0.0.1/",
            "https://0x7f.1/",
            "https://2130706433/",
            "https://[::1]/",
            "https://[::ffff:169.254.169.254]/",
            "https://user@example.com/",
            "file:///etc/passwd",
            "https://localhost/",
            "gopher://example.com/",
            "https://169.254.169.254/latest/meta-data",
        ] {
            let failure = fetcher.get(url, HeaderMap::new()).await.unwrap_err();
            assert_eq!(failure.code, "fetch_forbidden", "{url}: {failure}");
        }
    }

    #[test]
    fn names_of_files_have_no_folder() {
        assert_eq!(file_name("attachment; filename=\"../a b.pdf\"").as_deref(), Some("a b.pdf"));
        assert_eq!(file_name("inline; x=1; FileName=c.png").as_deref(), Some("c.png"));
        assert_eq!(file_name("attachment"), None);
    }
}
