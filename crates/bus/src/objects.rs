//! Object buckets: blobs in pieces, in the layout of ADR-20, so that `nats object` reads them.

use bytes::{Bytes, BytesMut};
use contract::base64::{self, Alphabet};
use futures_util::StreamExt;
use futures_util::stream::FuturesOrdered;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::push::Begin;
use crate::{Bus, Error, ErrorKind, Publish};

/// Bytes in a piece.
const PIECE_BYTES: usize = 128 * 1024;
/// Pieces on their way at once: 4 MiB.
const PIECES_IN_FLIGHT: usize = 32;

/// An object bucket. Cheap to clone.
#[derive(Clone)]
pub struct Objects {
    bus: Bus,
    bucket: String,
    stream: String,
}

/// What is known of an object.
#[derive(Debug, Serialize, Deserialize)]
struct Info {
    name: String,
    bucket: String,
    nuid: String,
    #[serde(default)]
    size: usize,
    #[serde(default)]
    chunks: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    deleted: bool,
}

/// A piece of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// How many bytes the whole object has.
    pub size: usize,
    /// Some of them.
    pub bytes: Bytes,
    /// From where the next ones come; `None`: these were the last.
    pub next: Option<String>,
}

/// Where the rest of an object begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    /// From which message of the stream on.
    seq: u64,
    /// How many bytes are before it.
    offset: usize,
}

impl Place {
    fn write(self, nuid: &str) -> String {
        format!("{nuid}.{}.{}", self.seq, self.offset)
    }

    /// `None`: it is none, or of another object.
    fn read(text: &str, nuid: &str) -> Option<Self> {
        let (seq, offset) = text.strip_prefix(nuid)?.strip_prefix('.')?.split_once('.')?;
        Some(Self { seq: seq.parse().ok()?, offset: offset.parse().ok()? })
    }
}

/// As large as the files get in which the server keeps a stream.
const BLOCK_BYTES: usize = 8 * 1024 * 1024;

impl Bus {
    /// An object bucket declared in the topology.
    pub async fn objects(&self, name: &str) -> Result<Objects, Error> {
        let stream = format!("OBJ_{name}");
        self.stream_info(&stream).await?;
        Ok(Objects { bus: self.clone(), bucket: name.to_owned(), stream })
    }
}

impl Objects {
    /// Stores an object under a name; replaces an older one only when all of it is stored.
    pub async fn put(&self, name: &str, bytes: Bytes) -> Result<(), Error> {
        let doing = |error: Error| error.while_doing(format_args!("storing object {name}"));
        let older = self.info(name).await.map_err(doing)?;
        let nuid = crate::connect::unique();
        let pieces = self.pieces(&nuid);
        let stored = self.put_pieces(&pieces, &bytes).await;
        let chunks = match stored {
            Ok(chunks) => chunks,
            Err(error) => {
                // Half an object is found by nobody; if this fails too it costs only room.
                let _ = self.bus.purge_subject(&self.stream, &pieces).await;
                return Err(doing(error));
            }
        };
        let digest = Some(format!("SHA-256={}", base64::encode(Alphabet::Url, &Sha256::digest(&bytes))));
        let bucket = self.bucket.clone();
        let info = Info { name: name.to_owned(), bucket, nuid, size: bytes.len(), chunks, digest, deleted: false };
        self.put_info(&info).await.map_err(doing)?;
        if let Some(older) = older {
            self.bus.purge_subject(&self.stream, &self.pieces(&older.nuid)).await.map_err(doing)?;
        }
        Ok(())
    }

    /// An object; `None`: there is none. `ErrorKind::TooLarge` when it has more than `bytes_max` bytes.
    pub async fn get(&self, name: &str, bytes_max: usize) -> Result<Option<Bytes>, Error> {
        let doing = |error: Error| error.while_doing(format_args!("reading object {name}"));
        // It may be replaced between the look at its description and the reading of its pieces.
        for _ in 0..3 {
            let Some(info) = self.info(name).await.map_err(doing)?.filter(|info| !info.deleted) else {
                return Ok(None);
            };
            if info.size > bytes_max {
                let text = format!("{} bytes, at most {bytes_max} are wanted", info.size);
                return Err(doing(Error::new(ErrorKind::TooLarge, text)));
            }
            let pieces = self.pieces(&info.nuid);
            let found = self.bus.scan(&self.stream, Some(&pieces), Begin::At(0), false, None).await.map_err(doing)?;
            let mut bytes = BytesMut::with_capacity(info.size);
            for piece in &found {
                bytes.extend_from_slice(&piece.payload);
            }
            let digest = format!("SHA-256={}", base64::encode(Alphabet::Url, &Sha256::digest(&bytes)));
            // Other writers pad their digests, or have none.
            let same = info.digest.is_none_or(|wanted| wanted.trim_end_matches('=') == digest.trim_end_matches('='));
            if bytes.len() == info.size && same {
                return Ok(Some(bytes.freeze()));
            }
        }
        Err(doing(Error::other("its pieces do not match its description")))
    }

    /// A piece of an object: from its beginning, or from where `after` says that one before ended. `None`: there is no
    /// such object, or not the one that `after` is of. Whether the whole is what it should be, whoever puts the pieces
    /// together must check.
    pub async fn piece(&self, name: &str, after: Option<&str>, bytes_max: usize) -> Result<Option<Piece>, Error> {
        let doing = |error: Error| error.while_doing(format_args!("reading a piece of an object"));
        let Some(info) = self.info(name).await.map_err(doing)?.filter(|info| !info.deleted) else { return Ok(None) };
        let begin = match after.map(|after| Place::read(after, &info.nuid)) {
            None => Place { seq: 0, offset: 0 },
            Some(Some(place)) => place,
            Some(None) => return Ok(None),
        };
        let subject = self.pieces(&info.nuid);
        let (mut bytes, mut place) = (BytesMut::new(), begin);
        while place.offset < info.size {
            let Some(stored) = self.bus.next_on(&self.stream, &subject, place.seq).await.map_err(doing)? else {
                return Ok(None);
            };
            if !bytes.is_empty() && bytes.len() + stored.payload.len() > bytes_max {
                break;
            }
            if stored.payload.len() > bytes_max {
                return Err(doing(Error::new(ErrorKind::TooLarge, "it was stored in larger pieces than are wanted")));
            }
            bytes.extend_from_slice(&stored.payload);
            place = Place { seq: stored.seq + 1, offset: place.offset + stored.payload.len() };
        }
        let next = (place.offset < info.size).then(|| place.write(&info.nuid));
        Ok(Some(Piece { size: info.size, bytes: bytes.freeze(), next }))
    }

    /// Deletes an object; no error when there is none.
    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        let doing = |error: Error| error.while_doing(format_args!("deleting object {name}"));
        let Some(mut info) = self.info(name).await.map_err(doing)?.filter(|info| !info.deleted) else { return Ok(()) };
        (info.size, info.chunks, info.deleted) = (0, 0, true);
        self.put_info(&info).await.map_err(doing)?;
        self.bus.purge_subject(&self.stream, &self.pieces(&info.nuid)).await.map_err(doing)
    }

    /// Erases an object: its bytes are overwritten in the store, and its name too. No error when there is none.
    pub async fn erase(&self, name: &str) -> Result<(), Error> {
        let doing = |error: Error| error.while_doing(format_args!("erasing an object"));
        let Some(info) = self.info(name).await.map_err(doing)? else { return Ok(()) };
        self.bus.erase_subject(&self.stream, &self.pieces(&info.nuid)).await.map_err(doing)?;
        let subject = format!("$O.{}.M.{}", self.bucket, base64::encode(Alphabet::Url, name.as_bytes()));
        self.bus.erase_subject(&self.stream, &subject).await.map_err(doing).map(drop)
    }

    /// Lets an object go: a small one is erased; one that is larger than a block of the store is deleted, since its blocks
    /// go with it.
    pub async fn let_go(&self, name: &str) -> Result<(), Error> {
        let doing = |error: Error| error.while_doing(format_args!("deleting object {name}"));
        match self.info(name).await.map_err(doing)? {
            Some(info) if info.size > BLOCK_BYTES => self.delete(name).await,
            _ => self.erase(name).await,
        }
    }

    /// The names of all objects.
    pub async fn list(&self) -> Result<Vec<String>, Error> {
        let filter = format!("$O.{}.M.>", self.bucket);
        let found = self.bus.scan(&self.stream, Some(&filter), Begin::LastPerSubject, false, None).await?;
        let infos = found.iter().filter_map(|stored| serde_json::from_slice::<Info>(&stored.payload).ok());
        Ok(infos.filter(|info| !info.deleted).map(|info| info.name).collect())
    }

    fn pieces(&self, nuid: &str) -> String {
        format!("$O.{}.C.{nuid}", self.bucket)
    }

    async fn info(&self, name: &str) -> Result<Option<Info>, Error> {
        let subject = format!("$O.{}.M.{}", self.bucket, base64::encode(Alphabet::Url, name.as_bytes()));
        let Some(stored) = self.bus.last(&self.stream, &subject).await? else { return Ok(None) };
        let info = serde_json::from_slice(&stored.payload);
        info.map(Some).map_err(|error| Error::other(format!("unreadable description: {error}")))
    }

    async fn put_info(&self, info: &Info) -> Result<(), Error> {
        let payload = serde_json::to_vec(info).map_err(|error| Error::other(error.to_string()))?;
        let publish = Publish {
            subject: format!("$O.{}.M.{}", self.bucket, base64::encode(Alphabet::Url, info.name.as_bytes())),
            payload: payload.into(),
            headers: vec![("Nats-Rollup", "sub".to_owned())],
            ..Publish::default()
        };
        self.bus.publish(publish).await.map(|_| ())
    }

    /// Several pieces are on their way at once; one connection keeps their order, and a piece that
    /// fails makes the whole fail.
    async fn put_pieces(&self, subject: &str, bytes: &Bytes) -> Result<usize, Error> {
        let mut in_flight = FuturesOrdered::new();
        let mut rest = bytes.clone();
        let mut count = 0;
        while !rest.is_empty() {
            let payload = rest.split_to(PIECE_BYTES.min(rest.len()));
            let publish = Publish { subject: subject.to_owned(), payload, ..Publish::default() };
            in_flight.push_back(self.bus.publish_start(publish).await?);
            count += 1;
            if in_flight.len() >= PIECES_IN_FLIGHT {
                in_flight.next().await.transpose()?;
            }
        }
        while in_flight.next().await.transpose()?.is_some() {}
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn a_place_is_of_one_object_alone() {
        let place = Place { seq: 17, offset: 131_072 };
        assert_eq!(Place::read(&place.write("abc"), "abc"), Some(place));
        for bad in ["", "abc", "abc.1", "abc.1.x", "abd.17.131072", "abc17.1", "abc.1.2.3"] {
            assert_eq!(Place::read(bad, "abc"), None, "{bad}");
        }
    }
}
