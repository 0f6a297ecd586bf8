//! Files for providers that fetch what they are to send: an address of our own endpoint, signed and with an end.
//!
//! `<endpoint>/media/<until>.<key in the store>.<type>.<name>.<signature>`. Whoever has the address has the file, as
//! the provider and everybody whom it shows the message to; nobody can make one up, and it ends.

use std::sync::Arc;
use std::time::Duration;

use crate::failure::SendFailure;
use crate::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use crate::webhook::{Reply, Request, Verdict};
use crate::{Context, OpenError, verify};
use contract::envelope::Media;
use contract::{Timestamp, token};
use runtime::secret::SecretString;

/// What the path of a file begins with, behind the account.
const PREFIX: &str = "media/";
/// How long an address is good: customers open old messages too.
const LIFE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Largest file that is given out.
const BYTES_MAX: usize = 200 * 1024 * 1024;

/// Makes addresses and answers to them.
#[derive(Clone)]
pub struct Shelf {
    context: Arc<Context>,
    key: SecretString,
}

/// A file that is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    store_key: String,
    mime: String,
    name: String,
}

impl Shelf {
    /// The account's shelf, with a key that is made once.
    pub fn new(context: &Context) -> Result<Self, OpenError> {
        let key = context.secrets.get_or_create("media.key").map_err(|error| OpenError::new("media key", error))?;
        Ok(Self { context: Arc::new(context.clone()), key: SecretString::new(key) })
    }

    /// Where a provider finds a file.
    ///
    /// # Errors
    /// Permanent, when nobody outside could find it.
    pub fn address(&self, media: &Media, now: Timestamp) -> Result<String, SendFailure> {
        if !self.context.hooks.is_public() {
            let why = "the provider fetches files, and no public address is configured";
            return Err(SendFailure::permanent("no_public_address", why));
        }
        let store_key = media.store_key.as_deref();
        let store_key =
            store_key.ok_or_else(|| SendFailure::permanent("media_gone", "an attachment is not in the store"))?;
        let until = now.0.saturating_add(u64::try_from(LIFE.as_millis()).unwrap_or(u64::MAX));
        let name: String = media.name.as_deref().unwrap_or("file").chars().take(80).collect();
        let mime = media.mime.as_deref().unwrap_or("application/octet-stream");
        Ok(self.context.hooks.url(&format!("{PREFIX}{}", write(&self.key, until, store_key, mime, &name))))
    }

    /// The answer, when a request asks for a file.
    pub fn answer(&self, request: &Request) -> Option<Verdict> {
        let path = request.suffix.strip_prefix(PREFIX)?;
        if request.method != Method::GET && request.method != Method::HEAD {
            return Some(Verdict::refuse(StatusCode::METHOD_NOT_ALLOWED, "method"));
        }
        let Some(wanted) = read(&self.key, path, request.at) else {
            return Some(Verdict::refuse(StatusCode::NOT_FOUND, "no such file"));
        };
        let context = Arc::clone(&self.context);
        let answer = Box::pin(async move {
            match context.media.get(&wanted.store_key, BYTES_MAX).await {
                Ok(Some(bytes)) => {
                    let headers = headers(&wanted);
                    Reply { status: StatusCode::OK, content_type: None, body: bytes, headers }
                }
                Ok(None) => Reply::status(StatusCode::NOT_FOUND),
                Err(_) => Reply::status(StatusCode::SERVICE_UNAVAILABLE),
            }
        });
        Some(Verdict::Later { items: Vec::new(), answer })
    }
}

/// What is shown in place is a picture, a sound or a film; nothing that could be a page of ours.
fn headers(wanted: &Wanted) -> Vec<(HeaderName, HeaderValue)> {
    const SHOWN: [&str; 7] =
        ["image/jpeg", "image/png", "image/gif", "audio/mpeg", "audio/mp4", "audio/x-m4a", "video/mp4"];
    let shown = SHOWN.contains(&wanted.mime.as_str());
    let mime = if shown { wanted.mime.as_str() } else { "application/octet-stream" };
    let name: String = wanted
        .name
        .chars()
        .map(|char| if char.is_ascii_alphanumeric() || "._- ".contains(char) { char } else { '_' })
        .collect();
    let disposition = if shown { "inline".to_owned() } else { format!("attachment; filename=\"{name}\"") };
    let given = [
        (header::CONTENT_TYPE, HeaderValue::from_str(mime)),
        (header::CONTENT_DISPOSITION, HeaderValue::from_str(&disposition)),
        (header::X_CONTENT_TYPE_OPTIONS, Ok(HeaderValue::from_static("nosniff"))),
        (header::CACHE_CONTROL, Ok(HeaderValue::from_static("private, max-age=86400"))),
    ];
    given.into_iter().filter_map(|(name, value)| Some((name, value.ok()?))).collect()
}

fn write(key: &SecretString, until: u64, store_key: &str, mime: &str, name: &str) -> String {
    let [store_key, mime, name] = [store_key, mime, name].map(token::encode);
    let said = format!("{until}.{store_key}.{mime}.{name}");
    let signature = verify::sign(verify::Algorithm::Sha256, key, &[b"media.", said.as_bytes()], verify::Encoding::Hex);
    format!("{said}.{signature}")
}

fn read(key: &SecretString, path: &str, now: Timestamp) -> Option<Wanted> {
    let (said, signature) = path.rsplit_once('.')?;
    let parts: [&[u8]; 2] = [b"media.", said.as_bytes()];
    let keys = std::slice::from_ref(key);
    if !verify::hmac(verify::Algorithm::Sha256, keys, &parts, verify::Encoding::Hex, signature) {
        return None;
    }
    let mut fields = said.split('.');
    let until: u64 = fields.next()?.parse().ok()?;
    let mut text = || token::decode(fields.next()?);
    let wanted = Wanted { store_key: text()?, mime: text()?, name: text()? };
    (now.0 < until).then_some(wanted)
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shelf").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_good_for_one_file_and_a_time() {
        let key = SecretString::new("k".repeat(64));
        let path = write(&key, 1000, "main/social/U1/ab.c", "image/png", "ä/../b.png");
        assert!(!path.contains('/'), "{path}");
        let wanted =
            Wanted { store_key: "main/social/U1/ab.c".into(), mime: "image/png".into(), name: "ä/../b.png".into() };
        assert_eq!(read(&key, &path, Timestamp(999)), Some(wanted));
        assert_eq!(read(&key, &path, Timestamp(1000)), None);
        assert_eq!(read(&key, &path.replacen("1000", "9999", 1), Timestamp(999)), None);
        assert_eq!(read(&SecretString::new("x".repeat(64)), &path, Timestamp(999)), None);
        for bad in ["", ".", "1000", "1000.a.b.c.", "a.b.c.d.e"] {
            assert_eq!(read(&key, bad, Timestamp(0)), None, "{bad}");
        }
    }

    #[test]
    fn what_could_be_a_page_is_never_shown_in_place() {
        let of =
            |mime: &str| headers(&Wanted { store_key: "k".into(), mime: mime.into(), name: "a\"\r\n.html".into() });
        let html = of("text/html");
        assert_eq!(html[0].1, "application/octet-stream");
        assert_eq!(html[1].1, "attachment; filename=\"a___.html\"");
        assert_eq!(of("image/png")[0].1, "image/png");
    }
}
