//! Whole streams as files, with their sequences and consumers: what a backup is made of.
//!
//! The format is the server's (a compressed archive of its own files) and that of `nats stream backup`.

use std::io::{Read, Write};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::ensure::{PLACE, placed};
use crate::topology::{Placement, Topology};
use crate::{Bus, Error, ErrorKind};

/// How much comes in one message.
const PIECE_BYTES: usize = 128 * 1024;
/// How long the server may take for one piece.
const PIECE_WAIT: Duration = Duration::from_secs(30);
/// How long it may take to put a stream together from what it was given.
const RESTORE_WAIT: Duration = Duration::from_secs(600);

/// What the server says of a stream that it hands out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// How the stream was set up.
    pub config: Map<String, Value>,
    /// What was in it.
    pub state: Map<String, Value>,
    /// How many bytes were written.
    pub bytes: u64,
}

impl Topology {
    /// The names of all streams, those behind buckets among them.
    #[must_use]
    pub fn stream_names(&self) -> Vec<String> {
        let buckets = self.buckets.iter().map(|bucket| {
            let kind = if bucket.objects { "OBJ" } else { "KV" };
            format!("{kind}_{}", bucket.name)
        });
        self.streams.iter().map(|stream| stream.name.clone()).chain(buckets).collect()
    }
}

fn written(error: &std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::Full,
        _ => ErrorKind::Other,
    };
    Error::new(kind, error.to_string())
}

impl Bus {
    /// Whether there is a stream of that name.
    ///
    /// # Errors
    /// When the server does not say.
    pub async fn has_stream(&self, name: &str) -> Result<bool, Error> {
        match self.stream_info(name).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes a stream out as it is now.
    ///
    /// # Errors
    /// When there is no such stream, the server breaks off, or `to` takes no more.
    pub async fn snapshot(&self, stream: &str, to: &mut impl Write) -> Result<Snapshot, Error> {
        #[derive(Deserialize)]
        struct Begun {
            config: Map<String, Value>,
            state: Map<String, Value>,
        }
        let doing = |error: Error| error.of_reading().while_doing(format_args!("taking a snapshot of stream {stream}"));
        let inbox = self.shared.client.new_inbox();
        let mut pieces = self.subscribe_raw(&inbox).await?;
        self.round_trip().await?;
        let request = json!({ "deliver_subject": inbox, "chunk_size": PIECE_BYTES });
        let begun: Begun = self.api(&format!("STREAM.SNAPSHOT.{stream}"), Some(&request)).await.map_err(doing)?;
        let mut bytes = 0;
        loop {
            let piece = match tokio::time::timeout(PIECE_WAIT, pieces.next()).await {
                Ok(Some(piece)) => piece,
                Ok(None) => return Err(doing(Error::unavailable("the connection was lost"))),
                Err(_) => return Err(doing(Error::unavailable("the server sends nothing more"))),
            };
            if piece.payload.is_empty() {
                // The end, good or bad; a good one says nothing or 204.
                if let Some(status) = piece.status.filter(|status| status.as_u16() != 204) {
                    let why = piece.description.map_or_else(String::new, |why| format!(": {why}"));
                    return Err(doing(Error::other(format!("the server breaks off ({status}){why}"))));
                }
                break;
            }
            to.write_all(&piece.payload).map_err(|error| doing(written(&error)))?;
            bytes += piece.payload.len() as u64;
            // Pieces come as fast as they are taken.
            if let Some(reply) = piece.reply {
                let taken = self.shared.client.publish(reply, Bytes::new());
                if tokio::time::timeout(self.shared.timeout, taken).await.is_err() {
                    return Err(doing(Error::unavailable("the connection's buffer stays full")));
                }
            }
        }
        to.flush().map_err(|error| doing(written(&error)))?;
        Ok(Snapshot { config: begun.config, state: begun.state, bytes })
    }

    /// Makes a stream from what [`snapshot`](Self::snapshot) wrote, on so many servers, and on which ones: where it was
    /// does not count. It must not be there yet.
    ///
    /// # Errors
    /// When it is there, or the server cannot make it of that.
    pub async fn restore(
        &self,
        snapshot: &Snapshot,
        stream: &str,
        replicas: usize,
        placement: Option<&Placement>,
        from: &mut impl Read,
    ) -> Result<(), Error> {
        #[derive(Deserialize)]
        struct Begun {
            deliver_subject: String,
        }
        #[derive(Deserialize)]
        struct Done {}
        let doing = |error: Error| error.while_doing(format_args!("restoring stream {stream}"));
        let mut config = snapshot.config.clone();
        config.insert("num_replicas".into(), replicas.into());
        config.insert(PLACE.into(), placement.map_or(Value::Null, placed));
        let request = json!({ "config": config, "state": snapshot.state });
        let begun: Begun = self.api(&format!("STREAM.RESTORE.{stream}"), Some(&request)).await.map_err(doing)?;
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let filled = fill(from, &mut piece).map_err(|error| doing(written(&error)))?;
            let Some(bytes) = piece.get(..filled).filter(|bytes| !bytes.is_empty()) else { break };
            let payload = Bytes::copy_from_slice(bytes);
            let answer = self.shared.ask(begun.deliver_subject.clone().into(), None, payload, PIECE_WAIT).await;
            let answer = answer.map_err(doing)?;
            if !answer.payload.is_empty() {
                // It says no in the middle.
                crate::api::read_answer::<Done>(&answer.payload).map_err(doing)?;
            }
        }
        let end =
            self.shared.ask(begun.deliver_subject.into(), None, Bytes::new(), RESTORE_WAIT).await.map_err(doing)?;
        crate::api::read_answer::<Done>(&end.payload).map(|Done {}| ()).map_err(doing)
    }
}

/// Reads until the piece is full or there is no more.
fn fill(from: &mut impl Read, piece: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = piece.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
