//! Logins: a JSON web token that the company's own site signed for its user.
//!
//! HS256 only. `sub` and `exp` are required; `nbf` is kept where it is there.

use std::collections::HashSet;

use adapter::contract::{SmolStr, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::Deserialize;

/// How far the site's clock and ours may differ.
const SKEW_S: f64 = 60.0;
/// Longest token.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// Longest `sub`.
const SUB_BYTES_MAX: usize = 256;
/// A shorter key can be guessed (RFC 7518, 3.2).
pub(crate) const KEY_BYTES_MIN: usize = 32;

/// Checks the logins of one account.
pub(crate) struct Logins {
    key: DecodingKey,
    validation: Validation,
}

/// Somebody the site vouches for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Login {
    /// The site's id of the person.
    pub(crate) sub: SmolStr,
    /// The name to show.
    pub(crate) name: Option<SmolStr>,
    /// The mail address.
    pub(crate) email: Option<SmolStr>,
    /// Whether the site has proven the mail address.
    pub(crate) email_verified: bool,
    /// When it ends, seconds since the epoch.
    pub(crate) expires: f64,
}

/// Why a login is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoginError {
    /// It is forged, malformed, or lacks something.
    Invalid,
    /// It is over.
    Expired,
}

#[derive(Deserialize)]
struct Claims {
    sub: SmolStr,
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(default)]
    name: Option<SmolStr>,
    #[serde(default)]
    email: Option<SmolStr>,
    #[serde(default)]
    email_verified: Option<bool>,
}

impl Logins {
    pub(crate) fn new(key: &str, audience: Option<&str>) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // Time is checked here, against the time we are given.
        validation.validate_exp = false;
        validation.validate_aud = audience.is_some();
        validation.required_spec_claims = HashSet::from(["exp".to_owned(), "sub".to_owned()]);
        if let Some(audience) = audience {
            validation.set_audience(&[audience]);
            validation.required_spec_claims.insert("aud".to_owned());
        }
        Self { key: DecodingKey::from_secret(key.as_bytes()), validation }
    }

    /// Who a token says somebody is.
    ///
    /// # Errors
    /// When it does not prove anything.
    pub(crate) fn check(&self, token: &str, now: Timestamp) -> Result<Login, LoginError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(LoginError::Invalid);
        }
        let claims = decode::<Claims>(token, &self.key, &self.validation).map_err(|_| LoginError::Invalid)?.claims;
        let sound = !claims.sub.is_empty() && claims.sub.len() <= SUB_BYTES_MAX && claims.exp.is_finite();
        if !sound || claims.nbf.is_some_and(|nbf| seconds(now) + SKEW_S < nbf) {
            return Err(LoginError::Invalid);
        }
        let login = Login {
            sub: claims.sub,
            name: claims.name,
            email: claims.email,
            email_verified: claims.email_verified == Some(true),
            expires: claims.exp,
        };
        if login.is_expired(now) { Err(LoginError::Expired) } else { Ok(login) }
    }
}

impl Login {
    /// Whether it is over.
    pub(crate) fn is_expired(&self, now: Timestamp) -> bool {
        seconds(now) >= self.expires + SKEW_S
    }

    /// For tests of what comes after.
    #[cfg(test)]
    pub(crate) fn of(sub: &str) -> Self {
        Self { sub: sub.into(), name: None, email: None, email_verified: false, expires: f64::MAX }
    }
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds fit a double for 285,000 years")]
fn seconds(now: Timestamp) -> f64 {
    now.0 as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value, json};

    use super::*;

    const KEY: &str = "0123456789abcdef0123456789abcdef";
    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn token_with(header: &Header, key: &str, claims: &Value) -> String {
        encode(header, claims, &EncodingKey::from_secret(key.as_bytes())).unwrap()
    }

    fn check(claims: &Value) -> Result<Login, LoginError> {
        Logins::new(KEY, None).check(&token_with(&Header::default(), KEY, claims), NOW)
    }

    #[test]
    fn a_good_token_names_the_person() {
        let login = check(&json!({
            "sub": "u-7", "exp": 1_000_060, "name": "Ada", "email": "ada@example.com", "email_verified": true, "aud": "x"
        }))
        .unwrap();
        assert_eq!((login.sub.as_str(), login.name.as_deref(), login.email_verified), ("u-7", Some("Ada"), true));
        assert!(!login.is_expired(NOW) && login.is_expired(Timestamp(1_000_120_000)));
    }

    #[test]
    fn time_has_a_skew_of_a_minute() {
        assert!(check(&json!({ "sub": "u", "exp": 999_941 })).is_ok());
        assert_eq!(check(&json!({ "sub": "u", "exp": 999_940 })), Err(LoginError::Expired));
        assert!(check(&json!({ "sub": "u", "exp": 2_000_000, "nbf": 1_000_059 })).is_ok());
        assert_eq!(check(&json!({ "sub": "u", "exp": 2_000_000, "nbf": 1_000_061 })), Err(LoginError::Invalid));
    }

    #[test]
    fn what_is_missing_or_malformed_is_refused() {
        for claims in [
            json!({ "sub": "u" }),
            json!({ "exp": 2_000_000 }),
            json!({ "sub": "", "exp": 2_000_000 }),
            json!({ "sub": "u", "exp": "2000000" }),
            json!({ "sub": "u", "exp": null }),
            json!({ "sub": "u".repeat(300), "exp": 2_000_000 }),
        ] {
            assert_eq!(check(&claims), Err(LoginError::Invalid), "{claims}");
        }
    }

    #[test]
    fn other_keys_and_algorithms_are_refused() {
        let claims = json!({ "sub": "u", "exp": 2_000_000 });
        let logins = Logins::new(KEY, None);
        assert_eq!(logins.check(&token_with(&Header::default(), "other", &claims), NOW), Err(LoginError::Invalid));
        for algorithm in [Algorithm::HS384, Algorithm::HS512] {
            let token = token_with(&Header::new(algorithm), KEY, &claims);
            assert_eq!(logins.check(&token, NOW), Err(LoginError::Invalid));
        }
        // {"alg":"none","typ":"JWT"}, in base64.
        let good = token_with(&Header::default(), KEY, &claims);
        let payload = good.split('.').nth(1).unwrap();
        for none in ["eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0", "eyJhbGciOiJOb25lIiwidHlwIjoiSldUIn0"] {
            for signature in ["", good.split('.').nth(2).unwrap()] {
                assert_eq!(logins.check(&format!("{none}.{payload}.{signature}"), NOW), Err(LoginError::Invalid));
            }
        }
        for bad in ["", "a.b.c", "..", &good[..good.len() - 1], &"x".repeat(10_000)] {
            assert_eq!(logins.check(bad, NOW), Err(LoginError::Invalid), "{bad}");
        }
    }

    #[test]
    fn the_audience_is_kept_when_there_is_one() {
        let logins = Logins::new(KEY, Some("chat"));
        let check = |claims| logins.check(&token_with(&Header::default(), KEY, &claims), NOW);
        assert!(check(json!({ "sub": "u", "exp": 2_000_000, "aud": "chat" })).is_ok());
        assert!(check(json!({ "sub": "u", "exp": 2_000_000, "aud": "shop" })).is_err());
        assert!(check(json!({ "sub": "u", "exp": 2_000_000 })).is_err());
    }
}
