//! Mail addresses as far as we compare them. Pure.

/// Longest address that is taken (RFC 5321, 4.5.3.1.3).
const BYTES_MAX: usize = 254;

/// An address, normalised: lower case, since no receiver that matters tells cases apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Mailbox {
    whole: String,
    at: usize,
}

impl Mailbox {
    /// Reads one address, with or without angle brackets; `None` when it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')).unwrap_or(text);
        let at = text.rfind('@')?;
        let (local, domain) = (text.get(..at)?, text.get(at + 1..)?);
        let plain = |c: char| !c.is_control() && !c.is_whitespace() && !"<>()[],;:\\\"@".contains(c);
        let sound = !local.is_empty()
            && !domain.is_empty()
            && text.len() <= BYTES_MAX
            && local.chars().all(plain)
            && domain.chars().all(plain)
            && !domain.starts_with(['.', '-'])
            && !domain.ends_with('.');
        if !sound {
            return None;
        }
        let local = local.to_lowercase();
        let at = local.len();
        Some(Self { whole: format!("{local}@{}", domain.to_lowercase()), at })
    }

    /// The whole of it.
    pub(crate) fn as_str(&self) -> &str {
        &self.whole
    }

    /// What stands before the @.
    pub(crate) fn local(&self) -> &str {
        self.whole.get(..self.at).unwrap_or_default()
    }

    /// What stands behind the @.
    pub(crate) fn domain(&self) -> &str {
        self.whole.get(self.at + 1..).unwrap_or_default()
    }

    /// What stands between + and @ when the rest is `base`.
    pub(crate) fn detail<'a>(&'a self, base: &Self) -> Option<&'a str> {
        if self.domain() != base.domain() {
            return None;
        }
        self.local().strip_prefix(base.local())?.strip_prefix('+')
    }
}

/// Which addresses are ours.
#[derive(Debug, Clone)]
pub(crate) struct Ours {
    /// The one that we write from.
    pub(crate) main: Mailbox,
    /// That one and the others.
    all: Vec<Mailbox>,
}

impl Ours {
    pub(crate) fn new(main: Mailbox, aliases: impl IntoIterator<Item = Mailbox>) -> Self {
        let all = std::iter::once(main.clone()).chain(aliases).collect();
        Self { main, all }
    }

    /// Whether an address is ours, with or without a detail.
    pub(crate) fn has(&self, address: &Mailbox) -> bool {
        self.all.iter().any(|ours| ours == address || address.detail(ours).is_some())
    }

    /// What stands between + and @ of one of ours.
    pub(crate) fn detail<'a>(&self, address: &'a Mailbox) -> Option<&'a str> {
        self.all.iter().find_map(|ours| address.detail(ours))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_compared_in_lower_case() {
        let address = Mailbox::parse(" <Ann.Lee+X@Example.COM> ").unwrap();
        assert_eq!((address.as_str(), address.local()), ("ann.lee+x@example.com", "ann.lee+x"));
        assert_eq!(address.domain(), "example.com");
        for bad in ["", "ann", "@x", "a@", "a b@x", "a@x,b@y", "\"a@b\"@x", "a@.x", "a\r\n@x"] {
            assert_eq!(Mailbox::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn ours_with_a_detail_are_ours() {
        let parse = |text| Mailbox::parse(text).unwrap();
        let ours = Ours::new(parse("support@shop.example"), [parse("help@shop.example")]);
        assert!(ours.has(&parse("help+x@shop.example")) && ours.has(&parse("support@shop.example")));
        assert!(!ours.has(&parse("supporter@shop.example")) && !ours.has(&parse("support+x@other.example")));
        assert_eq!(ours.detail(&parse("help+a-b@shop.example")), Some("a-b"));
    }
}
