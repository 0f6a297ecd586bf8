//! Whether somebody who knows a secret wrote some bytes.
//!
//! Everything is compared in constant time, over the bytes as they came, and against every secret that
//! is configured: while a secret is changed there are two. Without a secret nothing is true.

use contract::base64::{self, Alphabet};
use hmac::{Hmac, Mac};
use runtime::secret::SecretString;
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Longest signature that is looked at, in bytes.
const GIVEN_BYTES_MAX: usize = 512;

/// The hash under the HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// SHA-1, where a provider has nothing better.
    Sha1,
    /// SHA-256.
    Sha256,
}

/// How a signature is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Hexadecimal, of either case.
    Hex,
    /// Base64 (RFC 4648 section 4), padded or not.
    Base64,
    /// Base64 for addresses (RFC 4648 section 5), padded or not.
    Base64Url,
}

/// Whether `given` is the HMAC of the parts, one after the other, under one of the secrets.
#[must_use]
pub fn hmac(algorithm: Algorithm, secrets: &[SecretString], parts: &[&[u8]], encoding: Encoding, given: &str) -> bool {
    hmac_by(algorithm, secrets, parts, encoding, given).is_some()
}

/// The same, and which of the secrets it was.
#[must_use]
pub fn hmac_by(
    algorithm: Algorithm,
    secrets: &[SecretString],
    parts: &[&[u8]],
    encoding: Encoding,
    given: &str,
) -> Option<usize> {
    let given = decode(encoding, given)?;
    let mut found = None;
    for (at, secret) in secrets.iter().enumerate() {
        let key = secret.expose().as_bytes();
        let holds = !key.is_empty()
            && match algorithm {
                Algorithm::Sha1 => holds::<Hmac<Sha1>>(key, parts, &given),
                Algorithm::Sha256 => holds::<Hmac<Sha256>>(key, parts, &given),
            };
        if holds && found.is_none() {
            found = Some(at);
        }
    }
    found
}

fn holds<M: Mac + hmac::digest::KeyInit>(key: &[u8], parts: &[&[u8]], given: &[u8]) -> bool {
    let Ok(mut mac) = <M as Mac>::new_from_slice(key) else { return false };
    for part in parts {
        mac.update(part);
    }
    mac.verify_slice(given).is_ok()
}

/// The HMAC of the parts, one after the other, written down: to sign what is ours, and for tests.
#[must_use]
pub fn sign(algorithm: Algorithm, secret: &SecretString, parts: &[&[u8]], encoding: Encoding) -> String {
    let key = secret.expose().as_bytes();
    let bytes = match algorithm {
        Algorithm::Sha1 => mac::<Hmac<Sha1>>(key, parts),
        Algorithm::Sha256 => mac::<Hmac<Sha256>>(key, parts),
    };
    encode(encoding, &bytes)
}

fn mac<M: Mac + hmac::digest::KeyInit>(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    // HMAC takes a key of any length.
    let Ok(mut mac) = <M as Mac>::new_from_slice(key) else { return Vec::new() };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().to_vec()
}

/// Whether `given` is one of the secrets: bearer tokens, verify tokens, passwords.
#[must_use]
pub fn token(secrets: &[SecretString], given: &str) -> bool {
    token_by(secrets, given).is_some()
}

/// The same, and which of the secrets it was.
#[must_use]
pub fn token_by(secrets: &[SecretString], given: &str) -> Option<usize> {
    // Hashes are compared, so that neither length nor common beginning shows.
    let given = Sha256::digest(given.as_bytes());
    let mut found = None;
    for (at, secret) in secrets.iter().enumerate() {
        let mut same = !secret.expose().is_empty();
        let mut differ = 0_u8;
        for (one, other) in Sha256::digest(secret.expose().as_bytes()).iter().zip(given.iter()) {
            differ |= one ^ other;
        }
        same &= std::hint::black_box(differ) == 0;
        if same && found.is_none() {
            found = Some(at);
        }
    }
    found
}

/// Names a secret without giving it away: accounts that trust the same secret have the same.
#[must_use]
pub fn fingerprint(secret: &SecretString) -> String {
    let bytes = mac::<Hmac<Sha256>>(secret.expose().as_bytes(), &[b"throughline: who may speak for an account"]);
    encode(Encoding::Hex, bytes.get(..16).unwrap_or_default())
}

/// Writes bytes down.
#[must_use]
pub fn encode(encoding: Encoding, bytes: &[u8]) -> String {
    match encoding {
        Encoding::Hex => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        Encoding::Base64 => base64::encode(Alphabet::Standard, bytes),
        Encoding::Base64Url => base64::encode(Alphabet::Url, bytes).trim_end_matches('=').to_owned(),
    }
}

/// Reads bytes that were written down; `None`: it is not written like that.
#[must_use]
pub fn decode(encoding: Encoding, text: &str) -> Option<Vec<u8>> {
    if text.len() > GIVEN_BYTES_MAX {
        return None;
    }
    match encoding {
        Encoding::Hex => {
            if !text.len().is_multiple_of(2) {
                return None;
            }
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            text.as_bytes()
                .chunks_exact(2)
                .map(|pair| match pair {
                    [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
                    _ => None,
                })
                .collect()
        }
        Encoding::Base64 => base64::decode(Alphabet::Standard, text),
        Encoding::Base64Url => base64::decode(Alphabet::Url, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(texts: &[&str]) -> Vec<SecretString> {
        texts.iter().map(|text| SecretString::new(*text)).collect()
    }

    #[test]
    fn vectors_of_the_rfcs() {
        // RFC 4231 case 2, RFC 2202 case 2.
        let (jefe, data) = (secrets(&["Jefe"]), b"what do ya want for nothing?".as_slice());
        let sha256 = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert!(hmac(Algorithm::Sha256, &jefe, &[data], Encoding::Hex, sha256));
        assert!(hmac(Algorithm::Sha256, &jefe, &[data], Encoding::Hex, &sha256.to_uppercase()));
        let (begin, end) = data.split_at(7);
        assert!(hmac(Algorithm::Sha256, &jefe, &[begin, end], Encoding::Hex, sha256));
        assert!(hmac(Algorithm::Sha1, &jefe, &[data], Encoding::Base64, "7/zfauXrL6LSdBbV8YTfnCWafHk="));
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")] {
            assert_eq!(encode(Encoding::Base64, plain.as_bytes()), coded);
            assert_eq!(decode(Encoding::Base64, coded).unwrap(), plain.as_bytes());
        }
        assert_eq!(encode(Encoding::Base64Url, &[0xfb, 0xff]), "-_8");
        assert_eq!(decode(Encoding::Base64Url, "-_8=").unwrap(), [0xfb, 0xff]);
        for bad in ["Z", "Zg=", "Zh==", "Z===", "Zm9v!", "Zg==Zg=="] {
            assert_eq!(decode(Encoding::Base64, bad), None, "{bad}");
        }
    }

    #[test]
    fn without_a_secret_nothing_is_true() {
        let empty = sign(Algorithm::Sha256, &SecretString::new(""), &[b"x"], Encoding::Hex);
        assert!(!hmac(Algorithm::Sha256, &[], &[b"x"], Encoding::Hex, &empty));
        assert!(!hmac(Algorithm::Sha256, &secrets(&[""]), &[b"x"], Encoding::Hex, &empty));
        assert!(!token(&[], "") && !token(&secrets(&[""]), ""));
    }

    #[test]
    fn each_of_two_secrets_counts_and_is_told_apart() {
        let both = secrets(&["old", "new"]);
        let signed = sign(Algorithm::Sha256, &SecretString::new("new"), &[b"body"], Encoding::Hex);
        assert_eq!(hmac_by(Algorithm::Sha256, &both, &[b"body"], Encoding::Hex, &signed), Some(1));
        assert_eq!(hmac_by(Algorithm::Sha256, &both, &[b"bodY"], Encoding::Hex, &signed), None);
        assert_eq!(hmac_by(Algorithm::Sha256, &both, &[b"body"], Encoding::Hex, &signed[..62]), None);
        assert_eq!((token_by(&both, "old"), token_by(&both, "ol")), (Some(0), None));
        assert_ne!(fingerprint(&SecretString::new("old")), fingerprint(&SecretString::new("new")));
    }
}
