//! Signed requests by OAuth 1.0a (RFC 5849), for bodies that are not forms. Pure.

use adapter::runtime::secret::SecretString;
use adapter::verify::{self, Algorithm, Encoding};

use crate::query::encode;

/// Whose name a request is in.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    pub(super) consumer_key: SecretString,
    pub(super) consumer_secret: SecretString,
    pub(super) token: SecretString,
    pub(super) token_secret: SecretString,
}

/// The `Authorization` of a request. `parameters` are those of the query, decoded.
pub(super) fn header(
    keys: &Keys,
    method: &str,
    url: &str,
    parameters: &[(&str, &str)],
    nonce: &str,
    seconds: u64,
) -> String {
    let seconds = seconds.to_string();
    let own = [
        ("oauth_consumer_key", keys.consumer_key.expose()),
        ("oauth_nonce", nonce),
        ("oauth_signature_method", "HMAC-SHA1"),
        ("oauth_timestamp", seconds.as_str()),
        ("oauth_token", keys.token.expose()),
        ("oauth_version", "1.0"),
    ];
    let mut all: Vec<(String, String)> =
        own.iter().chain(parameters).map(|(name, value)| (encode(name), encode(value))).collect();
    all.sort();
    let all = all.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&");
    let base = format!("{method}&{}&{}", encode(url), encode(&all));
    let key = format!("{}&{}", encode(keys.consumer_secret.expose()), encode(keys.token_secret.expose()));
    let signature = verify::sign(Algorithm::Sha1, &SecretString::new(key), &[base.as_bytes()], Encoding::Base64);
    let own = own.iter().map(|(name, value)| format!("{name}=\"{}\"", encode(value)));
    let signature = format!("oauth_signature=\"{}\"", encode(&signature));
    format!("OAuth {}", own.chain([signature]).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_example_holds() {
        // From the platform's page on creating a signature.
        let keys = Keys {
            consumer_key: SecretString::new("xvz1evFS4wEEPTGEFPHBog"),
            consumer_secret: SecretString::new("kAcSOqF21Fu85e7zjz7ZN2U4ZRhfV3WpwPAoE3Z7kBw"),
            token: SecretString::new("370773112-GmHxMAgYyLbNEtIKZeRNFsMKPR9EyMZeS9weJAEb"),
            token_secret: SecretString::new("LswwdoUaIvS8ltyTt5jkRh4J50vUPVVHtR2YPi5kE"),
        };
        let parameters =
            [("include_entities", "true"), ("status", "Hello Ladies + Gentlemen, a signed OAuth request!")];
        let nonce = "kYjzVBB8Y0ZFabxSWbWovY3uYSQ2pTgmZeNu2VS4cg";
        let header = header(
            &keys,
            "POST",
            "https://api.twitter.com/1.1/statuses/update.json",
            &parameters,
            nonce,
            1_318_622_958,
        );
        assert!(header.contains("oauth_signature=\"hCtSmYh%2BiHYCEqBWrE7C7hYmtUk%3D\""), "{header}");
        assert!(!header.contains("kAcSOqF21Fu85e7zjz7ZN2U4ZRhfV3WpwPAoE3Z7kBw"));
    }
}
