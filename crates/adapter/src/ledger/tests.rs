use super::*;

/// A bucket in memory, shared by several "processes".
#[derive(Default, Clone)]
struct Map(Arc<Mutex<HashMap<String, (Bytes, u64)>>>);

impl Entries for Map {
    fn read<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<(Bytes, u64)>, bus::Error>> {
        Box::pin(async move { Ok(self.0.lock().unwrap().get(key).cloned()) })
    }

    fn write<'a>(&'a self, key: &'a str, value: Bytes, revision: u64) -> BoxFuture<'a, Result<u64, bus::Error>> {
        Box::pin(async move {
            let mut map = self.0.lock().unwrap();
            let actual = map.get(key).map_or(0, |(_, revision)| *revision);
            if actual != revision {
                return Err(bus::Error { kind: ErrorKind::Fenced(Some(actual)), source: "wrong revision".into() });
            }
            map.insert(key.to_owned(), (value, actual + 1));
            Ok(actual + 1)
        })
    }
}

fn ledger(map: &Map) -> Ledger {
    Ledger::new(ChannelKind::new("sms").unwrap(), map.clone())
}

#[tokio::test]
async fn a_retry_resumes_at_the_part_that_failed() {
    let map = Map::default();
    let id = SmolStr::from("main/m17");
    let mut first = ledger(&map).open(&id).await.unwrap();
    assert_eq!(first.begin(0).await.unwrap(), Begin::Fresh);
    first.sent(0, vec!["p0".into()]).await;
    assert_eq!(first.begin(1).await.unwrap(), Begin::Fresh);
    first.try_failed(Duration::ZERO).await;

    let mut again = ledger(&map).open(&id).await.unwrap();
    assert_eq!(again.begin(0).await.unwrap(), Begin::Sent { external_ids: vec!["p0".into()] });
    assert_eq!(again.begin(1).await.unwrap(), Begin::Fresh);
    again.sent(1, vec!["p1".into()]).await;
    assert_eq!(again.external_ids(), ["p0", "p1"]);
    assert_eq!(again.entry().tries, 1);
}

#[tokio::test]
async fn a_crash_between_begin_and_sent_is_an_interruption() {
    let map = Map::default();
    let id = SmolStr::from("main/m17");
    ledger(&map).open(&id).await.unwrap().begin(0).await.unwrap();
    assert_eq!(ledger(&map).open(&id).await.unwrap().begin(0).await.unwrap(), Begin::Interrupted);
}

#[tokio::test]
async fn two_processes_cannot_both_begin() {
    let map = Map::default();
    let id = SmolStr::from("main/m17");
    let (mut one, mut other) = (ledger(&map).open(&id).await.unwrap(), ledger(&map).open(&id).await.unwrap());
    assert_eq!(one.begin(0).await.unwrap(), Begin::Fresh);
    assert_eq!(other.begin(0).await.unwrap_err().code, "ledger");
}

#[tokio::test]
async fn a_finished_command_is_remembered() {
    let map = Map::default();
    let id = SmolStr::from("main/m17");
    let outcome = Outcome {
        status: ReceiptStatus::Sent,
        part: None,
        code: None,
        reason: None,
        external_ids: vec!["p0".into()],
        report: true,
    };
    let ledger_one = ledger(&map);
    ledger_one.open(&id).await.unwrap().finish(outcome.clone()).await;
    ledger_one.remember(&id, outcome.clone());
    assert_eq!(ledger_one.open(&id).await.unwrap().entry().outcome, Some(outcome.clone()));
    assert_eq!(ledger(&map).open(&id).await.unwrap().entry().outcome, Some(outcome));
}

#[tokio::test]
async fn an_unreadable_entry_is_an_unknown_outcome() {
    let map = Map::default();
    map.0.lock().unwrap().insert("sms.main=2Fm17".into(), (Bytes::from_static(b"{"), 3));
    let opened = ledger(&map).open(&"main/m17".into()).await.unwrap();
    assert_eq!(opened.entry().outcome.as_ref().unwrap().status, ReceiptStatus::Unknown);
}

/// A bucket that writes and does not say so, and may be silent when it is read, too.
#[derive(Default, Clone)]
struct Mumbling {
    map: Map,
    writes: Arc<Mutex<u32>>,
    reads: Arc<Mutex<u32>>,
}

impl Entries for Mumbling {
    fn read<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<(Bytes, u64)>, bus::Error>> {
        Box::pin(async move {
            if std::mem::take(&mut *self.reads.lock().unwrap()) > 0 {
                return Err(bus::Error { kind: ErrorKind::Unavailable, source: "away".into() });
            }
            self.map.read(key).await
        })
    }

    fn write<'a>(&'a self, key: &'a str, value: Bytes, revision: u64) -> BoxFuture<'a, Result<u64, bus::Error>> {
        Box::pin(async move {
            let written = self.map.write(key, value, revision).await?;
            if std::mem::take(&mut *self.writes.lock().unwrap()) > 0 {
                return Err(bus::Error { kind: ErrorKind::Ambiguous, source: "connection lost".into() });
            }
            Ok(written)
        })
    }
}

#[tokio::test]
async fn a_write_that_nobody_confirmed_is_looked_up() {
    let bucket = Mumbling::default();
    let ledger = Ledger::new(ChannelKind::new("sms").unwrap(), bucket.clone());
    let id = SmolStr::from("main/m17");
    let mut first = ledger.open(&id).await.unwrap();
    *bucket.writes.lock().unwrap() = 1;
    assert_eq!(first.begin(0).await.unwrap(), Begin::Fresh);
    *bucket.writes.lock().unwrap() = 1;
    first.sent(0, vec!["p0".into()]).await;
    assert_eq!(first.begin(1).await.unwrap(), Begin::Fresh);
    let sent = Begin::Sent { external_ids: vec!["p0".into()] };
    assert_eq!(ledger.open(&id).await.unwrap().begin(0).await.unwrap(), sent);
}

#[tokio::test]
async fn a_part_that_was_not_begun_for_all_we_know_is_not_called_interrupted() {
    let bucket = Mumbling::default();
    let ledger = Ledger::new(ChannelKind::new("sms").unwrap(), bucket.clone());
    let id = SmolStr::from("main/m17");
    let mut first = ledger.open(&id).await.unwrap();
    (*bucket.writes.lock().unwrap(), *bucket.reads.lock().unwrap()) = (1, 1);
    // It stands in the bucket, but the provider was never asked.
    assert_eq!(first.begin(0).await.unwrap_err().code, "ledger");
    first.try_failed(Duration::ZERO).await;
    assert_eq!(ledger.open(&id).await.unwrap().begin(0).await.unwrap(), Begin::Fresh);
}

#[tokio::test]
async fn the_time_of_the_next_try_is_kept() {
    let map = Map::default();
    let id = SmolStr::from("main/m17");
    let mut first = ledger(&map).open(&id).await.unwrap();
    first.begin(0).await.unwrap();
    first.try_failed(Duration::from_secs(60)).await;
    let again = ledger(&map).open(&id).await.unwrap();
    let wait = again.entry().not_before.unwrap().since(again.entry().updated_at);
    assert!((Millis(59_000)..=Millis(60_000)).contains(&wait), "{wait:?}");
}
