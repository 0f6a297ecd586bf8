//! Addresses of ours that carry something: signed, so that nobody can make one up.
//!
//! `<path>?<what is carried>&s=<signature>`. The signature is over the path and the pairs before it, decoded, so that a
//! provider may write them in another way. What a provider adds behind it is its own matter.

use std::fmt::Write as _;

use adapter::runtime::secret::SecretString;
use adapter::{Context, OpenError, verify};

use crate::query;

/// The parameter that holds the signature.
const SIGNATURE: &str = "s";

/// Signs and checks the addresses of one account. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Signer {
    key: SecretString,
}

/// What an address carries, as far as it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Carried<'a> {
    /// Nothing: it is an address that the provider's console was told.
    Nothing,
    /// This, which we signed: the query up to the signature.
    Signed(&'a str),
    /// Something that we did not sign.
    Forged,
}

impl Signer {
    /// With the account's key, which is made once.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub(crate) fn new(context: &Context) -> Result<Self, OpenError> {
        let key = context.secrets.get_or_create("address.key").map_err(|error| OpenError::new("address key", error))?;
        Ok(Self { key: SecretString::new(key) })
    }

    /// With a key of this run alone, whose addresses nobody is told.
    pub(crate) fn passing(key: &str) -> Self {
        Self { key: SecretString::new(key) }
    }

    /// Path and query with the signature. `target` has a query.
    pub(crate) fn sign(&self, target: &str) -> String {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let said = canonical(path, query).unwrap_or_default();
        let signature = verify::sign(verify::Algorithm::Sha256, &self.key, &[said.as_bytes()], verify::Encoding::Hex);
        format!("{path}?{query}&{SIGNATURE}={signature}")
    }

    /// What the query of a request carries, that came to `path` behind the account.
    pub(crate) fn read<'a>(&self, path: &str, query: Option<&'a str>) -> Carried<'a> {
        let Some(query) = query else { return Carried::Nothing };
        let mut before = 0;
        for pair in query.split('&') {
            if let Some((SIGNATURE, given)) = pair.split_once('=') {
                let carried = query.get(..before).unwrap_or_default();
                let carried = carried.strip_suffix('&').unwrap_or(carried);
                return if self.holds(path, carried, given) { Carried::Signed(carried) } else { Carried::Forged };
            }
            before += pair.len() + 1;
        }
        Carried::Nothing
    }

    fn holds(&self, path: &str, query: &str, given: &str) -> bool {
        let Some(said) = canonical(path, query) else { return false };
        let keys = std::slice::from_ref(&self.key);
        verify::hmac(verify::Algorithm::Sha256, keys, &[said.as_bytes()], verify::Encoding::Hex, given)
    }
}

/// What is signed: no two addresses with another meaning have the same.
fn canonical(path: &str, query: &str) -> Option<String> {
    let mut said = format!("address.{}.{path}", path.len());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (query::decode(name)?, query::decode(value)?);
        // Writing to a text does not fail.
        let _ = write!(said, ".{}.{name}.{}.{value}", name.len(), value.len());
    }
    Some(said)
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(signer: &Signer, target: &str) -> (String, String) {
        let whole = signer.sign(target);
        let (path, query) = whole.split_once('?').unwrap();
        (path.to_owned(), query.to_owned())
    }

    #[test]
    fn what_is_carried_is_believed_when_we_signed_it() {
        let signer = Signer::passing("k");
        let (path, query) = signed(&signer, "sms/status?c=main%2Fm17&p=0");
        assert_eq!(signer.read(&path, Some(&query)), Carried::Signed("c=main%2Fm17&p=0"));
        // Written in another way by the provider, and with something behind.
        let rewritten = format!("{}&bodySHA256=00", query.replace("%2F", "/"));
        assert_eq!(signer.read(&path, Some(&rewritten)), Carried::Signed("c=main/m17&p=0"));
        for forged in [query.replace("p=0", "p=1"), query.replace("&s=", "&x=1&s="), "s=".to_owned()] {
            assert_eq!(signer.read(&path, Some(&forged)), Carried::Forged, "{forged}");
        }
        assert_eq!(signer.read("sms/other", Some(&query)), Carried::Forged);
        assert_eq!(Signer::passing("other").read(&path, Some(&query)), Carried::Forged);
        assert_eq!(signer.read(&path, Some("c=main")), Carried::Nothing);
        assert_eq!(signer.read(&path, None), Carried::Nothing);
    }

    #[test]
    fn no_two_addresses_are_signed_alike() {
        let all = ["a?b=c", "a?b=c.", "a.?b=c", "a?b=&c=", "a?bc=", "a?b=c&d=e", "a?b=c.1.d.1.e", "a?d=e&b=c"];
        for (at, one) in all.iter().enumerate() {
            for other in &all[at + 1..] {
                let said = |target: &str| target.split_once('?').and_then(|(path, query)| canonical(path, query));
                assert_ne!(said(one), said(other), "{one} {other}");
            }
        }
    }
}
