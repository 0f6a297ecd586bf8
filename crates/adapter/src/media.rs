//! Attachments: their bytes go to the object store under what they are, never onto a stream.
//!
//! A key is `<tenant>/<kind>/<thread key>/<sha256>`: the same bytes in the same thread are stored once,
//! and what belongs to a thread can be erased with it.

use bus::{ErrorKind, Objects};
use bytes::Bytes;
use contract::envelope::{Media as Part, MediaStatus};
use contract::{ChannelKind, SmolStr, TenantId, token};
use sha2::Digest;

/// The object store as one account sees it. Cheap to clone.
#[derive(Clone)]
pub struct Media {
    objects: Objects,
    tenant: TenantId,
    kind: ChannelKind,
}

/// Why bytes were not stored or not read.
#[derive(Debug)]
pub enum MediaError {
    /// The bus does not answer: the same call may succeed later.
    Unavailable(bus::Error),
    /// The store refuses it: full, too large, forbidden.
    Refused(bus::Error),
    /// The key is not one of this tenant.
    Foreign,
}

impl Media {
    pub(crate) const fn new(objects: Objects, tenant: TenantId, kind: ChannelKind) -> Self {
        Self { objects, tenant, kind }
    }

    /// The key under which these bytes lie in the thread, and their SHA-256 in lower-case hexadecimal.
    #[must_use]
    pub fn key(&self, thread_key: &str, bytes: &[u8]) -> (SmolStr, SmolStr) {
        key(&self.tenant, &self.kind, thread_key, bytes)
    }

    /// Stores bytes; returns the part that stands for them in a message.
    ///
    /// # Errors
    /// When they are not stored. The part can still be sent, as [`unavailable`].
    pub async fn put(
        &self,
        thread_key: &str,
        bytes: Bytes,
        mime: Option<&str>,
        name: Option<&str>,
    ) -> Result<Part, MediaError> {
        let (store_key, sha256) = self.key(thread_key, &bytes);
        let size = bytes.len() as u64;
        self.objects.put(&store_key, bytes).await.map_err(sort)?;
        let part = part(mime, name, size);
        Ok(Part { store_key: Some(store_key), sha256: Some(sha256), status: Some(MediaStatus::Stored), ..part })
    }

    /// Stores bytes under a key that [`key`](Self::key) gave.
    pub(crate) async fn put_at(&self, store_key: &str, bytes: Bytes) -> Result<(), MediaError> {
        self.objects.put(store_key, bytes).await.map_err(sort)
    }

    /// Reads what a part of this tenant names; `None`: it is gone.
    ///
    /// # Errors
    /// When it is larger than `bytes_max`, another tenant's, or the bus does not answer.
    pub async fn get(&self, store_key: &str, bytes_max: usize) -> Result<Option<Bytes>, MediaError> {
        let mine = store_key.strip_prefix(token::encode(self.tenant.as_str()).as_str());
        if !mine.is_some_and(|rest| rest.starts_with('/')) {
            return Err(MediaError::Foreign);
        }
        self.objects.get(store_key, bytes_max).await.map_err(sort)
    }
}

/// A part whose bytes are not to be had, and why.
#[must_use]
pub fn unavailable(mime: Option<&str>, name: Option<&str>, bytes: u64, reason: &str) -> Part {
    let part = part(mime, name, bytes);
    Part { status: Some(MediaStatus::Unavailable), reason: Some(reason.into()), ..part }
}

fn part(mime: Option<&str>, name: Option<&str>, bytes: u64) -> Part {
    let kinds = ["image", "audio", "video"];
    let kind = mime.and_then(|mime| mime.split('/').next()).filter(|kind| kinds.contains(kind)).unwrap_or("file");
    Part {
        kind: kind.into(),
        mime: mime.map(SmolStr::from),
        name: name.map(SmolStr::from),
        bytes: Some(bytes),
        ..Part::default()
    }
}

fn key(tenant: &TenantId, kind: &ChannelKind, thread_key: &str, bytes: &[u8]) -> (SmolStr, SmolStr) {
    let sha256: String = sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let [tenant, kind, thread] = [tenant.as_str(), kind.as_str(), thread_key].map(token::encode);
    (format!("{tenant}/{kind}/{thread}/{sha256}").into(), sha256.into())
}

fn sort(error: bus::Error) -> MediaError {
    match error.kind {
        ErrorKind::Ambiguous | ErrorKind::Unavailable | ErrorKind::NoResponders | ErrorKind::Timeout => {
            MediaError::Unavailable(error)
        }
        _ => MediaError::Refused(error),
    }
}

impl std::fmt::Display for MediaError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unavailable(error) => write!(f, "the object store does not answer: {error}"),
            Self::Refused(error) => write!(f, "the object store refuses it: {error}"),
            Self::Foreign => f.write_str("the key is not one of this tenant"),
        }
    }
}

impl std::error::Error for MediaError {}

impl std::fmt::Debug for Media {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Media").field("tenant", &self.tenant).field("kind", &self.kind).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_tenant_kind_thread_and_content() {
        let (tenant, kind) = (TenantId::new("main").unwrap(), ChannelKind::new("email").unwrap());
        let (one, sha256) = key(&tenant, &kind, "a/b", b"x");
        assert_eq!(one, format!("main/email/a=2Fb/{sha256}"));
        assert_eq!(sha256.len(), 64);
        assert_ne!(one, key(&tenant, &kind, "a/b", b"y").0);
    }

    #[test]
    fn a_part_says_what_became_of_its_bytes() {
        let part = unavailable(Some("image/png"), Some("a.png"), 7, "too large");
        assert_eq!((part.kind.as_str(), part.bytes, part.reason.as_deref()), ("image", Some(7), Some("too large")));
        assert_eq!(unavailable(None, None, 0, "x").kind, "file");
    }
}
