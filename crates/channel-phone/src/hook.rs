//! What the listener asks: whose request it is, what its address carries, and whether it is about a text or a call.

use adapter::http::{HeaderValue, Method, StatusCode};
use adapter::runtime::secret::SecretString;
use adapter::serde_json::{Value, json};
use adapter::verify::{self as proof, Encoding};
use adapter::webhook::{Hook, Request, Siblings, Verdict};
use sha2::{Digest, Sha256};

use crate::serve::Shelf;
use crate::signer::{Carried, Signer};
use crate::twilio::verify::Said;
use crate::voice::{Link, Voice};
use crate::{sms, twilio, vonage};

/// What the addresses of calls begin with, behind the account.
const VOICE: &str = "voice";
/// What the addresses of texts begin with.
const SMS: &str = "sms";

/// What a provider's requests are checked against.
pub(crate) enum Keys {
    /// Twilio: auth tokens, and the account that it must be.
    Twilio { tokens: Vec<SecretString>, account_sid: String },
    /// Vonage.
    Vonage(vonage::verify::Keys),
}

/// The hook of one number.
pub(crate) struct Ear {
    pub(crate) keys: Keys,
    pub(crate) signer: Signer,
    pub(crate) voice: Voice,
    pub(crate) sms: sms::Ear,
    /// Absent when a request is only tried out.
    pub(crate) shelf: Option<Shelf>,
}

impl Hook for Ear {
    fn receive(&self, request: &Request, _: &Siblings) -> Verdict {
        if let Some(verdict) = self.shelf.as_ref().and_then(|shelf| shelf.answer(request)) {
            return verdict;
        }
        self.judge(request).unwrap_or_else(|refused| refused)
    }
}

fn unauthorized(why: &'static str) -> Verdict {
    Verdict::refuse(StatusCode::UNAUTHORIZED, why)
}

impl Ear {
    fn judge(&self, request: &Request) -> Result<Verdict, Verdict> {
        if request.method != Method::POST && request.method != Method::GET {
            return Err(Verdict::refuse(StatusCode::METHOD_NOT_ALLOWED, "method"));
        }
        let first = request.suffix.split('/').next().unwrap_or_default();
        match &self.keys {
            Keys::Twilio { tokens, account_sid } => {
                if request.method != Method::POST {
                    return Err(Verdict::refuse(StatusCode::METHOD_NOT_ALLOWED, "method"));
                }
                let said = twilio::verify::said(request, tokens).map_err(unauthorized)?;
                let Said::Form(form) = said else {
                    return Err(Verdict::refuse(StatusCode::BAD_REQUEST, "not a form"));
                };
                if !form.iter().any(|(name, value)| name == "AccountSid" && value == account_sid) {
                    return Err(Verdict::refuse(StatusCode::FORBIDDEN, "another account"));
                }
                match first {
                    VOICE => Ok(self.voice.form(request, &form, self.link(request)?.as_ref())),
                    SMS => Ok(self.sms.form(request, &form, self.carried(request)?)),
                    _ => Err(Verdict::refuse(StatusCode::NOT_FOUND, "no such address")),
                }
            }
            Keys::Vonage(keys) => {
                let said = vonage::verify::said(request, keys, first == SMS).map_err(unauthorized)?;
                match first {
                    VOICE => Ok(self.voice.event(request, &said, self.link(request)?.as_ref())),
                    SMS => Ok(self.sms.event(request, &said)),
                    _ => Err(Verdict::refuse(StatusCode::NOT_FOUND, "no such address")),
                }
            }
        }
    }

    /// What the address carries, which is ours when it carries anything.
    fn carried<'a>(&self, request: &'a Request) -> Result<Option<&'a str>, Verdict> {
        match self.signer.read(&request.suffix, request.query.as_deref()) {
            Carried::Nothing => Ok(None),
            Carried::Signed(query) => Ok(Some(query)),
            Carried::Forged => Err(Verdict::refuse(StatusCode::FORBIDDEN, "address")),
        }
    }

    fn link(&self, request: &Request) -> Result<Option<Link>, Verdict> {
        let unknown = || Verdict::refuse(StatusCode::NOT_FOUND, "no such step");
        let carried = self.carried(request)?;
        carried.map(|query| Link::read(&request.suffix, query).ok_or_else(unknown)).transpose()
    }
}

/// Stands for a secret when a request is tried out without it.
pub(crate) const MADE_UP: &str = "nobody's secret";

/// Puts Twilio's proof into a request, made with [`MADE_UP`].
pub(crate) fn prove_twilio(request: &mut Request) {
    let text = std::str::from_utf8(&request.body).unwrap_or_default();
    let fields = crate::query::pairs(text, usize::MAX).unwrap_or_default();
    let signature = twilio::verify::signature(&request.url, &fields, &SecretString::new(MADE_UP));
    if let Ok(signature) = HeaderValue::from_str(&signature) {
        request.headers.insert(twilio::verify::SIGNATURE, signature);
    }
}

/// Puts Vonage's proof into a request, made with [`MADE_UP`].
pub(crate) fn prove_vonage(request: &mut Request) {
    let written = match request.method {
        Method::GET => {
            let pairs = crate::query::pairs(request.query.as_deref().unwrap_or_default(), usize::MAX);
            vonage::verify::object_text(&pairs.unwrap_or_default()).into_bytes()
        }
        _ => request.body.to_vec(),
    };
    let hash = proof::encode(Encoding::Hex, &Sha256::digest(&written));
    let claims = json!({ "iat": request.at.0 / 1000, "payload_hash": hash });
    let token = format!("Bearer {}", token(&claims, &SecretString::new(MADE_UP)));
    if let Ok(token) = HeaderValue::from_str(&token) {
        request.headers.insert("authorization", token);
    }
}

/// A token as Vonage signs them.
pub(crate) fn token(claims: &Value, secret: &SecretString) -> String {
    let written = |value: &Value| proof::encode(Encoding::Base64Url, value.to_string().as_bytes());
    let said = format!("{}.{}", written(&json!({ "alg": "HS256", "typ": "JWT" })), written(claims));
    let signature = proof::sign(proof::Algorithm::Sha256, secret, &[said.as_bytes()], Encoding::Base64Url);
    format!("{said}.{signature}")
}

#[cfg(test)]
mod tests;
