//! The token that an application's private key signs (RS256), which its API for calls wants.

use adapter::OpenError;
use adapter::contract::Timestamp;
use adapter::runtime::secret::SecretString;
use adapter::verify::{Encoding, encode};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;

/// How long a token is good, in seconds: one request.
const LIFE_S: u64 = 300;

/// An application's key.
pub(crate) struct Signatory {
    application: String,
    key: RsaKeyPair,
    random: SystemRandom,
}

impl Signatory {
    /// Reads the key, as PKCS #8 or PKCS #1 in PEM.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn new(application: &str, pem: &SecretString) -> Result<Self, OpenError> {
        let unusable = || OpenError("private_key: is no RSA key in PEM".into());
        let der = PrivateKeyDer::from_pem_slice(pem.expose().as_bytes()).map_err(|_| unusable())?;
        let key = match &der {
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            _ => return Err(unusable()),
        };
        let key = key.map_err(|_| unusable())?;
        Ok(Self { application: application.to_owned(), key, random: SystemRandom::new() })
    }

    /// A token for now. `None`: there is no randomness.
    pub(crate) fn token(&self, now: Timestamp) -> Option<String> {
        let mut id = [0_u8; 16];
        self.random.fill(&mut id).ok()?;
        let issued = now.0 / 1000;
        let claims = json!({
            "application_id": self.application, "iat": issued, "exp": issued + LIFE_S, "jti": encode(Encoding::Hex, &id),
        });
        let written = |value: &serde_json::Value| encode(Encoding::Base64Url, value.to_string().as_bytes());
        let said = format!("{}.{}", written(&json!({ "alg": "RS256", "typ": "JWT" })), written(&claims));
        let mut signature = vec![0_u8; self.key.public().modulus_len()];
        self.key.sign(&RSA_PKCS1_SHA256, &self.random, said.as_bytes(), &mut signature).ok()?;
        Some(format!("{said}.{}", encode(Encoding::Base64Url, &signature)))
    }
}
