//! `throughline backup` and `restore`: every stream as of one moment, and back.
//!
//! Routing rests while the streams are copied, so that journal, facts and key-value side agree. What comes in meanwhile is
//! stored and waits. What adapters write without the router (cursors, ledger, attachments) is copied in such an order
//! that a restored bus does something again rather than lose it: where an adapter has read to before what it read, what is
//! to be sent before what was sent, what came in before the attachments it names.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bus::{Bus, Snapshot, Topology, permissions, topology};
use router::Held;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Failure;
use crate::output::{complain, say};
use crate::run::{options, start_server};
use crate::settings::{Loaded, Mode};

/// The version of the folder that is written here.
const VERSION: u16 = 1;
/// Says that a folder is whole; written last.
const MANIFEST: &str = "throughline-backup.json";
/// Names within a stream's folder, as `nats stream backup` has them.
const DATA: &str = "stream.tar.s2";
const DESCRIPTION: &str = "backup.json";
/// For how long shards are held at once, and how often that is renewed.
const HOLD: Duration = Duration::from_secs(45);
const RENEW: Duration = Duration::from_secs(10);
/// Largest description of a stream that is read.
const DESCRIPTION_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What a folder holds.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    v: u16,
    /// The program that wrote it.
    version: String,
    /// When, milliseconds since the epoch.
    at: u64,
    shards: u16,
    /// How far each shard was.
    held: Vec<Held>,
    streams: Vec<Copied>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Copied {
    name: String,
    bytes: u64,
    sha256: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Description {
    config: serde_json::Map<String, serde_json::Value>,
    state: serde_json::Map<String, serde_json::Value>,
}

/// In which order streams are copied; `None`: they need not be.
fn place(name: &str) -> Option<u8> {
    let bucket = name.strip_prefix("KV_").or_else(|| name.strip_prefix("OBJ_"));
    Some(match bucket {
        // They say who is there now.
        Some(topology::MEMBERS) => return None,
        Some(topology::CURSORS | topology::MEMORY) => 0,
        None if name == topology::FETCH => 1,
        None if name == topology::OUT => 2,
        Some(topology::LEDGER) => 3,
        None if name.starts_with("IN-") => 4,
        Some(topology::MEDIA) => 5,
        _ => 6,
    })
}

fn wanted(loaded: &Loaded) -> Vec<String> {
    let settings = &loaded.settings.router;
    let names = Topology::throughline(settings.shards, 1, &loaded.kinds()).stream_names();
    let mut placed: Vec<(u8, String)> = names.into_iter().filter_map(|name| Some((place(&name)?, name))).collect();
    placed.sort();
    placed.into_iter().map(|(_, name)| name).collect()
}

fn at(path: &Path, error: &impl std::fmt::Display) -> Failure {
    Failure::Other(format!("{}: {error}", path.display()))
}

fn make_folder(path: &Path) -> Result<(), Failure> {
    DirBuilder::new().mode(0o700).create(path).map_err(|error| at(path, &error))
}

fn create(path: &Path) -> Result<File, Failure> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.map_err(|error| at(path, &error))
}

/// Writes, and reckons what was written.
struct Hashing<T> {
    inner: T,
    sha: Sha256,
}

impl<T: Write> Write for Hashing<T> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.sha.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

fn hex(sha: Sha256) -> String {
    sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes everything to a folder.
pub(crate) async fn backup(loaded: Loaded, to: &Path, within: Duration) -> Result<(), Failure> {
    let bus = Bus::connect(options(&loaded, permissions::ROUTER, "backup")?).await?;
    make_folder(to)?;
    let began = Instant::now();
    let shards = loaded.settings.router.shards;
    let copy = async {
        let held = hold_all(&bus, shards).await?;
        let copying = async {
            let mut streams = Vec::new();
            for name in wanted(&loaded) {
                streams.push(copy(&bus, &name, to).await?);
            }
            Ok::<_, Failure>(streams)
        };
        let streams = tokio::select! {
            streams = copying => streams?,
            failure = keep_holding(&bus, shards, &held) => return Err(failure),
        };
        // A hold that lapsed, or a shard that changed hands, would show here.
        still_held(&bus, shards, &held).await?;
        Ok((held, streams))
    };
    let done = tokio::select! {
        done = tokio::time::timeout(within, copy) => {
            done.unwrap_or_else(|_| Err(Failure::Other(format!("not done within {} s; see --within", within.as_secs()))))
        }
        _ = tokio::signal::ctrl_c() => Err(Failure::Other("stopped".to_owned())),
    };
    for shard in 0..shards {
        if let Err(error) = router::release(&bus, shard).await {
            complain(&format!("shard {shard} goes on by itself in at most {} s: {error}", HOLD.as_secs()));
        }
    }
    let rested = began.elapsed();
    let (held, streams) = done.map_err(|failure| incomplete(failure, to))?;
    let bytes: u64 = streams.iter().map(|stream| stream.bytes).sum();
    let count = streams.len();
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let manifest = Manifest { v: VERSION, version, at: runtime::clock::now(), shards, held, streams };
    let path = to.join(MANIFEST);
    let mut file = create(&path)?;
    file.write_all(&serde_json::to_vec_pretty(&manifest)?).and_then(|()| file.sync_all()).map_err(|e| at(&path, &e))?;
    say(&format!(
        "{count} streams, {bytes} bytes in {}; routing rested for {:.1} s",
        to.display(),
        rested.as_secs_f64()
    ));
    Ok(())
}

fn incomplete(failure: Failure, to: &Path) -> Failure {
    match failure {
        Failure::Other(why) => {
            Failure::Other(format!("{why}; {} is not whole and cannot be restored: delete it", to.display()))
        }
        settings @ Failure::Settings(_) => settings,
    }
}

async fn hold_all(bus: &Bus, shards: u16) -> Result<Vec<Held>, Failure> {
    let mut held = Vec::new();
    for shard in 0..shards {
        held.push(router::hold(bus, shard, HOLD).await?);
    }
    Ok(held)
}

async fn still_held(bus: &Bus, shards: u16, held: &[Held]) -> Result<(), Failure> {
    let now = hold_all(bus, shards).await?;
    let moved = now.iter().zip(held).position(|(now, held)| (now.epoch, now.seq) != (held.epoch, held.seq));
    match moved {
        None => Ok(()),
        Some(shard) => Err(Failure::Other(format!("shard {shard} did not rest all the time; try again"))),
    }
}

/// Holds on until it fails.
async fn keep_holding(bus: &Bus, shards: u16, held: &[Held]) -> Failure {
    loop {
        tokio::time::sleep(RENEW).await;
        if let Err(failure) = still_held(bus, shards, held).await {
            return failure;
        }
    }
}

/// Writes one stream.
async fn copy(bus: &Bus, name: &str, to: &Path) -> Result<Copied, Failure> {
    let folder = to.join(name);
    make_folder(&folder)?;
    let path = folder.join(DATA);
    let mut file = Hashing { inner: BufWriter::new(create(&path)?), sha: Sha256::new() };
    let snapshot = bus.snapshot(name, &mut file).await?;
    let inner = file.inner.into_inner().map_err(|error| at(&path, &error))?;
    inner.sync_all().map_err(|error| at(&path, &error))?;
    let description = Description { config: snapshot.config, state: snapshot.state };
    let path = folder.join(DESCRIPTION);
    let mut described = create(&path)?;
    described.write_all(&serde_json::to_vec_pretty(&description)?).map_err(|error| at(&path, &error))?;
    complain(&format!("{name}: {} bytes", snapshot.bytes));
    Ok(Copied { name: name.to_owned(), bytes: snapshot.bytes, sha256: hex(file.sha) })
}

/// Puts a folder into an empty bus.
pub(crate) async fn restore(loaded: Loaded, from: &Path) -> Result<(), Failure> {
    let manifest = read_manifest(&loaded, from)?;
    for stream in &manifest.streams {
        check(from, stream)?;
    }
    let server = match loaded.settings.bus.mode {
        Mode::Embedded => Some(start_server(&loaded).await?),
        Mode::External => None,
    };
    let restored = restore_all(&loaded, from, &manifest).await;
    if let Some(server) = server {
        server.stop().await?;
    }
    restored?;
    say(&format!("{} streams restored from {}; start `throughline run`", manifest.streams.len(), from.display()));
    Ok(())
}

fn read_manifest(loaded: &Loaded, from: &Path) -> Result<Manifest, Failure> {
    let path = from.join(MANIFEST);
    let text = std::fs::read(&path).map_err(|error| {
        Failure::Other(format!("{}: {error}; a backup that was broken off has none", path.display()))
    })?;
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| at(&path, &error))?;
    if manifest.v != VERSION {
        return Err(at(&path, &format!("version {} is not known here", manifest.v)));
    }
    let shards = loaded.settings.router.shards;
    if manifest.shards != shards {
        let why = format!("is of {} shards, and router.shards is {shards}", manifest.shards);
        return Err(at(&path, &why));
    }
    Ok(manifest)
}

/// The file is what was written.
fn check(from: &Path, stream: &Copied) -> Result<(), Failure> {
    let path = data(from, stream)?;
    let mut file = File::open(&path).map_err(|error| at(&path, &error))?;
    let mut sha = Sha256::new();
    let mut piece = vec![0; 1 << 16];
    loop {
        let read = file.read(&mut piece).map_err(|error| at(&path, &error))?;
        if read == 0 {
            break;
        }
        sha.update(piece.get(..read).unwrap_or_default());
    }
    if hex(sha) == stream.sha256 { Ok(()) } else { Err(at(&path, &"is damaged: it is not what was written")) }
}

fn data(from: &Path, stream: &Copied) -> Result<PathBuf, Failure> {
    // A name is one folder, whatever the file says.
    if stream.name.is_empty() || stream.name.contains(['/', '\0']) || stream.name.starts_with('.') {
        return Err(at(from, &format!("{:?} is no name of a stream", stream.name)));
    }
    Ok(from.join(&stream.name).join(DATA))
}

async fn restore_all(loaded: &Loaded, from: &Path, manifest: &Manifest) -> Result<(), Failure> {
    let bus = Bus::connect(options(loaded, permissions::ROUTER, "restore")?).await?;
    let mut there = Vec::new();
    for stream in &manifest.streams {
        if bus.has_stream(&stream.name).await? {
            there.push(stream.name.as_str());
        }
    }
    if !there.is_empty() {
        let why = format!(
            "the bus holds something already ({}); a backup goes into an empty one: take another bus.data_dir or cluster",
            there.join(", ")
        );
        return Err(Failure::Other(why));
    }
    let shape = loaded.settings.shape();
    for stream in &manifest.streams {
        let path = from.join(&stream.name).join(DESCRIPTION);
        let file = File::open(&path).map_err(|error| at(&path, &error))?;
        let description: Description =
            serde_json::from_reader(BufReader::new(file).take(DESCRIPTION_BYTES_MAX)).map_err(|e| at(&path, &e))?;
        let snapshot = Snapshot { config: description.config, state: description.state, bytes: stream.bytes };
        let path = data(from, stream)?;
        let mut file = BufReader::new(File::open(&path).map_err(|error| at(&path, &error))?);
        bus.restore(&snapshot, &stream.name, shape.replicas, shape.placement.as_ref(), &mut file).await?;
        complain(&format!("{}: {} bytes", stream.name, stream.bytes));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_comes_before_what_is_named() {
        let names = Topology::throughline(2, 1, &["chat"]).stream_names();
        let mut placed: Vec<(u8, String)> = names.into_iter().filter_map(|name| Some((place(&name)?, name))).collect();
        placed.sort();
        let at = |name: &str| placed.iter().position(|(_, other)| other == name).unwrap_or_else(|| panic!("{name}"));
        assert!(at("KV_tl-cursors") < at("IN-0") && at("KV_tl-memory") < at("IN-1"));
        assert!(at("OUT") < at("KV_tl-ledger"));
        assert!(at("IN-1") < at("OBJ_tl-media"));
        assert!(!placed.iter().any(|(_, name)| name == "KV_tl-members"));
    }
}
