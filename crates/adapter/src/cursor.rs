//! Small values that an account keeps on the bus: how far it has read, and what it remembers.
//!
//! Two buckets, one shape: `tl-cursors` keeps for ever, `tl-memory` forgets. Keys are
//! `<kind>.<tenant>.<account>.<name>`, so that an adapter's user may write only those of its kind.

use bus::{ErrorKind, Kv};
use contract::envelope::Account;
use contract::{TenantId, token};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest value, encoded.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;

/// The values of one account in one bucket. Cheap to clone.
#[derive(Clone)]
pub struct Cursors {
    bucket: Kv,
    prefix: String,
}

/// A value that was read, and where it stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held<T> {
    /// The value; `None`: there is none.
    pub value: Option<T>,
    /// Its revision, 0 for none: what a compare-and-set compares.
    pub revision: u64,
}

impl Cursors {
    pub(crate) fn new(bucket: Kv, tenant: &TenantId, account: &Account) -> Self {
        let prefix = [account.kind.as_str(), tenant.as_str(), account.id.as_str()].map(token::encode).join(".");
        Self { bucket, prefix }
    }

    fn key(&self, name: &str) -> String {
        format!("{}.{}", self.prefix, token::encode(name))
    }

    /// The value called `name`, as the bucket's leader has it.
    ///
    /// # Errors
    /// When the bus does not answer. A value that cannot be read (another version's, another hand's)
    /// counts as absent, with its revision, so that it can be replaced.
    pub async fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Held<T>, bus::Error> {
        let Some(entry) = self.bucket.get(&self.key(name)).await? else {
            return Ok(Held { value: None, revision: 0 });
        };
        let value = serde_json::from_slice(&entry.value);
        if let Err(error) = &value {
            tracing::warn!(name, %error, "a kept value cannot be read");
        }
        Ok(Held { value: value.ok(), revision: entry.revision })
    }

    /// Puts a value, whatever was there.
    ///
    /// # Errors
    /// When it is too large or the bus does not store it.
    pub async fn put<T: Serialize + Sync>(&self, name: &str, value: &T) -> Result<u64, bus::Error> {
        self.bucket.put(&self.key(name), encode(value)?).await
    }

    /// Puts a value if the one there still has this revision (0: if there is none).
    ///
    /// # Errors
    /// `ErrorKind::Fenced` when another process was faster; otherwise as [`put`](Self::put).
    pub async fn update<T: Serialize + Sync>(&self, name: &str, value: &T, revision: u64) -> Result<u64, bus::Error> {
        self.bucket.update(&self.key(name), encode(value)?, revision).await
    }
}

fn encode<T: Serialize>(value: &T) -> Result<bytes::Bytes, bus::Error> {
    let text =
        serde_json::to_vec(value).map_err(|error| bus::Error { kind: ErrorKind::Other, source: error.into() })?;
    if text.len() > VALUE_BYTES_MAX {
        let source = format!("{} bytes, at most {VALUE_BYTES_MAX} are kept", text.len()).into();
        return Err(bus::Error { kind: ErrorKind::TooLarge, source });
    }
    Ok(text.into())
}

impl std::fmt::Debug for Cursors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cursors").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
