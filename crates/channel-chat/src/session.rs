//! Who a visitor is: 256 random bits in a token that we sign.
//!
//! The token is `v1.<visitor>.<expires>.<mac>`; the MAC is HMAC-SHA256 over these and the account, so
//! a token of one account is worth nothing at another. It travels in frames, never in an address.

use std::time::Duration;

use adapter::contract::{SmolStr, Timestamp};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto};

/// A longer text is not looked at.
const TOKEN_BYTES_MAX: usize = 256;
/// Length of a visitor's id: 32 bytes in hexadecimal.
const VISITOR_CHARS: usize = 64;

/// Signs and checks the tokens of one account.
pub(crate) struct Sessions {
    sign: EncodingKey,
    check: DecodingKey,
    /// What a token is bound to.
    scope: String,
    life: Duration,
}

/// Why a visitor cannot be made up or told apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoRandomness;

impl Sessions {
    /// `scope` names the tenant and account.
    pub(crate) fn new(key: &str, scope: String, life: Duration) -> Self {
        let key = key.as_bytes();
        Self { sign: EncodingKey::from_secret(key), check: DecodingKey::from_secret(key), scope, life }
    }

    /// A token for the visitor that is good from now on for the whole life.
    pub(crate) fn issue(&self, visitor: &str, now: Timestamp) -> Option<String> {
        let expires = now.0 / 1000 + self.life.as_secs();
        let mac = crypto::sign(&self.message(visitor, expires), &self.sign, Algorithm::HS256).ok()?;
        Some(format!("v1.{visitor}.{expires}.{mac}"))
    }

    /// The visitor that a token names; `None` when it is forged, another account's or over.
    pub(crate) fn check(&self, token: &str, now: Timestamp) -> Option<SmolStr> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let mut parts = token.split('.');
        let (version, visitor, expires, mac) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let hex = visitor.len() == VISITOR_CHARS && visitor.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if version != "v1" || parts.next().is_some() || !hex {
            return None;
        }
        let expires: u64 = expires.parse().ok()?;
        // The comparison takes the same time whatever the MAC.
        let genuine = crypto::verify(mac, &self.message(visitor, expires), &self.check, Algorithm::HS256);
        (genuine == Ok(true) && now.0 / 1000 < expires).then(|| visitor.into())
    }

    fn message(&self, visitor: &str, expires: u64) -> Vec<u8> {
        format!("throughline chat session\0v1\0{}\0{visitor}\0{expires}", self.scope).into_bytes()
    }
}

/// A visitor who was not here before.
pub(crate) fn new_visitor() -> Result<SmolStr, NoRandomness> {
    let mut random = [0_u8; VISITOR_CHARS / 2];
    getrandom::fill(&mut random).map_err(|_| NoRandomness)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(1000);
    const NOW: Timestamp = Timestamp(1_000_000);

    fn sessions(scope: &str) -> Sessions {
        Sessions::new("key", scope.into(), LIFE)
    }

    #[test]
    fn a_token_names_its_visitor_until_it_ends() {
        let visitor = new_visitor().unwrap();
        let token = sessions("main/web").issue(&visitor, NOW).unwrap();
        assert_eq!(sessions("main/web").check(&token, NOW), Some(visitor.clone()));
        assert_eq!(sessions("main/web").check(&token, Timestamp(1_999_999)), Some(visitor));
        assert_eq!(sessions("main/web").check(&token, Timestamp(2_000_000)), None);
    }

    #[test]
    fn forged_foreign_and_broken_tokens_are_nobody() {
        let sessions_web = sessions("main/web");
        let visitor = new_visitor().unwrap();
        let token = sessions_web.issue(&visitor, NOW).unwrap();
        assert_eq!(sessions("main/shop").check(&token, NOW), None, "another account");
        assert_eq!(Sessions::new("other", "main/web".into(), LIFE).check(&token, NOW), None, "another key");
        let longer = token.replacen(".2000.", ".9000.", 1);
        assert_ne!(longer, token);
        assert_eq!(sessions_web.check(&longer, NOW), None, "a later end");
        let other = token.replacen(visitor.as_str(), &new_visitor().unwrap(), 1);
        assert_eq!(sessions_web.check(&other, NOW), None, "another visitor");
        for cut in 0..token.len() {
            assert_eq!(sessions_web.check(&token[..cut], NOW), None);
        }
        for bad in ["", "v1...", "v1.x.y.z.w", &format!("{token}.x"), &token.to_uppercase(), &"v".repeat(300)] {
            assert_eq!(sessions_web.check(bad, NOW), None, "{bad}");
        }
    }

    #[test]
    fn visitors_differ() {
        assert_ne!(new_visitor().unwrap(), new_visitor().unwrap());
    }
}
