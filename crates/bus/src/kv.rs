//! Key-value buckets, read by the leader and written by plain publishes.
//!
//! The client library's store reads any replica and loses the lifetime of a value that follows a
//! tombstone; a compare-and-set decides on what it read, and a lease must lapse, so both are done
//! here on the stream beneath.

use std::time::Duration;

use bytes::Bytes;

use crate::push::Begin;
use crate::{Bus, Error, ErrorKind, Expect, Publish, Stored};

/// A value in a bucket with its revision.
#[derive(Debug, Clone)]
pub struct KvEntry {
    /// Its key.
    pub key: String,
    /// Its bytes.
    pub value: Bytes,
    /// Its revision: the sequence in the bucket's stream.
    pub revision: u64,
}

/// A bucket. Cheap to clone.
#[derive(Clone)]
pub struct Kv {
    bus: Bus,
    stream: String,
    /// `$KV.<bucket>.`: the key follows.
    prefix: String,
    lapses: bool,
}

/// How long the tombstone of a deleted key stays in a bucket whose values lapse.
const TOMBSTONE_SECONDS: u64 = 3_600;

/// Says that the key has no value: deleted, purged or lapsed.
fn is_tombstone(stored: &Stored) -> bool {
    stored.headers.get("Nats-Marker-Reason").is_some()
        || matches!(stored.headers.get("KV-Operation"), Some("DEL" | "PURGE"))
}

impl Bus {
    /// A bucket declared in the topology.
    pub async fn bucket(&self, name: &str) -> Result<Kv, Error> {
        let stream = format!("KV_{name}");
        let info = self.stream_info(&stream).await?;
        let lapses = info.config.get("allow_msg_ttl").and_then(serde_json::Value::as_bool).unwrap_or(false);
        Ok(Kv { bus: self.clone(), stream, prefix: format!("$KV.{name}."), lapses })
    }
}

impl Kv {
    /// The value of a key, by the leader: what was written before is seen.
    pub async fn get(&self, key: &str) -> Result<Option<KvEntry>, Error> {
        let stored = self.newest(key).await?;
        Ok(stored.and_then(|stored| self.entry(stored)))
    }

    /// Puts a value, whatever was there; returns its revision.
    pub async fn put(&self, key: &str, value: Bytes) -> Result<u64, Error> {
        self.write(key, value, None, Vec::new()).await
    }

    /// Compare-and-set on the revision (0: must not exist). `ErrorKind::Fenced` when it differs.
    pub async fn update(&self, key: &str, value: Bytes, revision: u64) -> Result<u64, Error> {
        self.compare_and_set(key, value, revision, Vec::new()).await
    }

    /// Put that lapses by itself (whole seconds): published raw with Nats-TTL, see nats.md 0.8.
    /// The bucket must allow it in the topology.
    pub async fn put_for(&self, key: &str, value: Bytes, ttl: Duration) -> Result<u64, Error> {
        let ttl = self.lifetime(ttl)?;
        self.write(key, value, None, ttl).await
    }

    /// Both: compare-and-set of a value that lapses. How a lease is taken and renewed.
    pub async fn update_for(&self, key: &str, value: Bytes, revision: u64, ttl: Duration) -> Result<u64, Error> {
        let ttl = self.lifetime(ttl)?;
        self.compare_and_set(key, value, revision, ttl).await
    }

    /// Deletes a key; no error when there is none.
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        let mut headers = vec![("KV-Operation", "DEL".to_owned())];
        if self.lapses {
            headers.push(("Nats-TTL", format!("{TOMBSTONE_SECONDS}s")));
        }
        self.write(key, Bytes::new(), None, headers).await.map(|_| ())
    }

    /// Puts a value and overwrites the one before it in the store, so that nothing of what was once known of somebody
    /// stays behind. The bucket must keep two values of a key, or the older one goes before it can be overwritten.
    ///
    /// Nothing is written when what is there is as good: overwriting costs the server milliseconds. Returns whether it was
    /// written.
    pub async fn replace(&self, key: &str, value: Bytes, as_good: impl Fn(&[u8]) -> bool) -> Result<bool, Error> {
        let before = self.newest(key).await?;
        if before.as_ref().is_some_and(|before| !is_tombstone(before) && as_good(&before.payload)) {
            return Ok(false);
        }
        self.put(key, value).await?;
        if let Some(before) = before {
            match self.bus.erase(&self.stream, before.seq).await {
                Err(error) if error.kind != ErrorKind::Forbidden => return Err(error),
                _ => {}
            }
        }
        Ok(true)
    }

    /// Erases a key: its value is overwritten in the store, and no tombstone names it. A bucket that was made to refuse
    /// that gets a tombstone instead.
    pub async fn erase(&self, key: &str) -> Result<(), Error> {
        let subject = format!("{}{key}", self.prefix);
        match self.bus.erase_subject(&self.stream, &subject).await {
            Err(error) if error.kind == ErrorKind::Forbidden => self.delete(key).await,
            erased => erased.map(drop),
        }
    }

    /// All keys with a value, in the order of their last change.
    pub async fn keys(&self) -> Result<Vec<String>, Error> {
        let found = self.bus.scan(&self.stream, Some(&self.all()), Begin::LastPerSubject, true, None).await?;
        Ok(found.into_iter().filter_map(|stored| self.entry(stored)).map(|entry| entry.key).collect())
    }

    /// All values, in the order of their last change.
    pub async fn entries(&self) -> Result<Vec<KvEntry>, Error> {
        let found = self.bus.scan(&self.stream, Some(&self.all()), Begin::LastPerSubject, false, None).await?;
        Ok(found.into_iter().filter_map(|stored| self.entry(stored)).collect())
    }

    /// The values whose keys begin with some whole tokens (`a.b` finds `a.b.c`).
    pub async fn entries_below(&self, tokens: &str) -> Result<Vec<KvEntry>, Error> {
        let filter = format!("{}{tokens}.>", self.prefix);
        let found = self.bus.scan(&self.stream, Some(&filter), Begin::LastPerSubject, false, None).await?;
        Ok(found.into_iter().filter_map(|stored| self.entry(stored)).collect())
    }

    fn all(&self) -> String {
        format!("{}>", self.prefix)
    }

    fn entry(&self, stored: Stored) -> Option<KvEntry> {
        if is_tombstone(&stored) {
            return None;
        }
        let key = stored.subject.strip_prefix(&self.prefix)?.to_owned();
        Some(KvEntry { key, value: stored.payload, revision: stored.seq })
    }

    fn subject(&self, key: &str) -> Result<String, Error> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-/_=.".contains(&byte);
        if key.is_empty() || key.starts_with('.') || key.ends_with('.') || key.contains("..") || !key.bytes().all(legal)
        {
            return Err(Error::config(format!("key {key:?} is not legal")));
        }
        Ok(format!("{}{key}", self.prefix))
    }

    fn lifetime(&self, ttl: Duration) -> Result<Vec<(&'static str, String)>, Error> {
        if !self.lapses {
            return Err(Error::config(format!("bucket stream {} allows no lifetimes", self.stream)));
        }
        if ttl.as_secs() == 0 || ttl.subsec_nanos() != 0 {
            return Err(Error::config(format!("a lifetime must be whole seconds, not {ttl:?}")));
        }
        Ok(vec![("Nats-TTL", format!("{}s", ttl.as_secs()))])
    }

    async fn newest(&self, key: &str) -> Result<Option<Stored>, Error> {
        self.bus.last(&self.stream, &self.subject(key)?).await
    }

    async fn compare_and_set(
        &self,
        key: &str,
        value: Bytes,
        revision: u64,
        headers: Vec<(&'static str, String)>,
    ) -> Result<u64, Error> {
        let first = self.write(key, value.clone(), Some(revision), headers.clone()).await;
        let Err(Error { kind: ErrorKind::Fenced(_), .. }) = &first else { return first };
        if revision != 0 {
            return first;
        }
        // "Must not exist" also holds over a tombstone, and that has a revision of its own.
        match self.newest(key).await? {
            Some(stored) if is_tombstone(&stored) => self.write(key, value, Some(stored.seq), headers).await,
            _ => first,
        }
    }

    async fn write(
        &self,
        key: &str,
        payload: Bytes,
        revision: Option<u64>,
        headers: Vec<(&'static str, String)>,
    ) -> Result<u64, Error> {
        let subject = self.subject(key)?;
        let expect = revision.map(|seq| Expect { subject: subject.clone(), seq });
        let ack = self.bus.publish(Publish { subject, payload, headers, expect, ..Publish::default() }).await;
        ack.map(|ack| ack.seq).map_err(|error| error.while_doing(format_args!("writing key {key}")))
    }
}
