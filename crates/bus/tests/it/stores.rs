//! Key-value and object buckets.

use std::time::Duration;

use bytes::Bytes;
use throughline_bus::{ErrorKind, Kv, Topology, topology};

use crate::support::{World, soon};

/// Waits for a value to lapse; the server has no event for it that a client could await here.
async fn lapsed(bucket: &Kv, key: &str) {
    soon(async {
        while bucket.get(key).await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn values_are_compared_and_set() {
    let world = World::start().await;
    let bus = world.bus().await;
    bus.ensure(&Topology::throughline(1, 1, &[])).await.unwrap();
    let bucket = bus.bucket(topology::CUSTOMERS).await.unwrap();
    assert!(bucket.get("main.a").await.unwrap().is_none());
    let first = bucket.update("main.a", "1".into(), 0).await.unwrap();
    let error = bucket.update("main.a", "x".into(), 0).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Fenced(Some(first)));
    let second = bucket.update("main.a", "2".into(), first).await.unwrap();
    assert_eq!(bucket.update("main.a", "x".into(), first).await.unwrap_err().kind, ErrorKind::Fenced(Some(second)));
    let entry = bucket.get("main.a").await.unwrap().unwrap();
    assert_eq!((entry.key.as_str(), &entry.value[..], entry.revision), ("main.a", &b"2"[..], second));
    bucket.put("main.b", "b".into()).await.unwrap();
    bucket.put("other.c", "c".into()).await.unwrap();
    assert_eq!(bucket.keys().await.unwrap(), ["main.a", "main.b", "other.c"]);
    assert_eq!(bucket.entries_below("main").await.unwrap().len(), 2);

    bucket.delete("main.a").await.unwrap();
    assert!(bucket.get("main.a").await.unwrap().is_none());
    assert_eq!(bucket.keys().await.unwrap(), ["main.b", "other.c"]);
    // "Must not exist" holds over the tombstone.
    bucket.update("main.a", "3".into(), 0).await.unwrap();
    assert_eq!(bucket.entries().await.unwrap().len(), 3);

    assert_eq!(bucket.put("a b", Bytes::new()).await.unwrap_err().kind, ErrorKind::Config);
    let error = bucket.put_for("main.a", Bytes::new(), Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Config);
    assert_eq!(bus.bucket("tl-none").await.err().unwrap().kind, ErrorKind::NotFound);
    world.end().await;
}

#[tokio::test]
async fn a_lease_lapses_again_and_again() {
    let world = World::start().await;
    let bus = world.bus().await;
    bus.ensure(&Topology::throughline(1, 1, &[])).await.unwrap();
    let members = bus.bucket(topology::MEMBERS).await.unwrap();
    let second = Duration::from_secs(1);
    // Over nothing, over the marker of the lapse, and over a tombstone.
    members.put_for("router.a", "1".into(), second).await.unwrap();
    assert!(members.get("router.a").await.unwrap().is_some());
    lapsed(&members, "router.a").await;
    assert!(members.keys().await.unwrap().is_empty());
    members.put_for("router.a", "2".into(), second).await.unwrap();
    assert!(members.get("router.a").await.unwrap().is_some());
    lapsed(&members, "router.a").await;
    let revision = members.update_for("router.a", "3".into(), 0, second).await.unwrap();
    members.update_for("router.a", "4".into(), revision, second).await.unwrap();
    lapsed(&members, "router.a").await;
    members.delete("router.a").await.unwrap();
    members.put_for("router.a", "5".into(), second).await.unwrap();
    lapsed(&members, "router.a").await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_are_stored_whole() {
    let world = World::start().await;
    let bus = world.bus().await;
    bus.ensure(&Topology::throughline(1, 1, &[])).await.unwrap();
    let snapshots = bus.objects(topology::SNAPSHOTS).await.unwrap();
    assert!(snapshots.get("0/17", 1 << 20).await.unwrap().is_none());
    let bytes: Bytes = (0..5_000_000_u32).map(|number| number.to_le_bytes()[1]).collect::<Vec<_>>().into();
    snapshots.put("0/17", bytes.clone()).await.unwrap();
    snapshots.put("0/empty", Bytes::new()).await.unwrap();
    assert_eq!(snapshots.get("0/17", 10 << 20).await.unwrap().unwrap(), bytes);
    assert_eq!(snapshots.get("0/empty", 0).await.unwrap().unwrap(), Bytes::new());
    assert_eq!(snapshots.get("0/17", 1000).await.unwrap_err().kind, ErrorKind::TooLarge);
    let mut names = snapshots.list().await.unwrap();
    names.sort();
    assert_eq!(names, ["0/17", "0/empty"]);
    // Replaced: the older pieces are gone.
    snapshots.put("0/17", "small".into()).await.unwrap();
    assert_eq!(snapshots.get("0/17", 100).await.unwrap().unwrap(), Bytes::from("small"));
    let state = bus.stream_state("OBJ_tl-snapshots").await.unwrap();
    assert_eq!(state.messages, 3, "a piece and two descriptions");
    snapshots.delete("0/17").await.unwrap();
    snapshots.delete("0/17").await.unwrap();
    assert!(snapshots.get("0/17", 100).await.unwrap().is_none());
    assert_eq!(snapshots.list().await.unwrap(), ["0/empty"]);
    world.end().await;
}
