//! Which pages may open a socket. A browser tells the page's origin and no script can change it;
//! other programs need not tell one, and are held by the session and the limits alone.

/// The pages that may.
#[derive(Debug, Clone)]
pub(crate) struct Origins {
    exact: Vec<String>,
    any: bool,
    own: bool,
}

impl Origins {
    pub(crate) fn new(origins: &[String], own: bool) -> Self {
        Self {
            exact: origins.iter().filter_map(|text| parse(text)).collect(),
            any: origins.iter().any(|text| text == "*"),
            own,
        }
    }

    /// Whether a page of this `Origin` may; `host` is the request's `Host`.
    pub(crate) fn allow(&self, origin: Option<&str>, host: Option<&str>) -> bool {
        let Some(origin) = origin else { return true };
        if self.any {
            return true;
        }
        let Some(origin) = parse(origin) else { return false };
        if self.exact.contains(&origin) {
            return true;
        }
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        self.own && authority.is_some() && authority == host.map(str::to_ascii_lowercase).as_deref()
    }
}

/// `scheme://host[:port]` in its one spelling; `None` when it is anything else.
pub(crate) fn parse(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let (scheme, authority) = text.split_once("://")?;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']' | '_');
    if !matches!(scheme, "http" | "https") || authority.is_empty() || !authority.chars().all(legal) {
        return None;
    }
    let default_port = if scheme == "https" { ":443" } else { ":80" };
    let authority = authority.strip_suffix(default_port).unwrap_or(authority);
    Some(format!("{scheme}://{authority}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(list: &[&str], own: bool) -> Origins {
        Origins::new(&list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>(), own)
    }

    #[test]
    fn exact_origins_only() {
        let allowed = origins(&["https://www.Example.com:443"], false);
        assert!(allowed.allow(Some("https://www.example.com"), None));
        for bad in [
            "http://www.example.com",
            "https://www.example.com.evil.test",
            "https://evil.test",
            "https://www.example.com:8443",
            "null",
            "https://www.example.com/",
            "",
        ] {
            assert!(!allowed.allow(Some(bad), Some("evil.test")), "{bad}");
        }
    }

    #[test]
    fn the_own_origin_with_the_demo_page_only() {
        assert!(origins(&[], true).allow(Some("http://127.0.0.1:8081"), Some("127.0.0.1:8081")));
        assert!(!origins(&[], false).allow(Some("http://127.0.0.1:8081"), Some("127.0.0.1:8081")));
        assert!(!origins(&[], true).allow(Some("http://evil.test"), Some("127.0.0.1:8081")));
    }

    #[test]
    fn any_when_configured_and_programs_always() {
        assert!(origins(&["*"], false).allow(Some("https://anything.test"), None));
        assert!(origins(&[], false).allow(None, None));
    }
}
