use std::collections::VecDeque;

use contract::Timestamp;
use contract::envelope::{
    Account, Assurance, AuthLevel, EnvelopeKind, Identity, Part, Party, Role, Scope, SenderAuth, Thread,
};

use super::*;

/// A stream in memory that can be told to fail.
#[derive(Default, Clone)]
struct Memory {
    records: Arc<Mutex<Vec<Publish>>>,
    failures: Arc<Mutex<VecDeque<ErrorKind>>>,
    gate: Option<Arc<tokio::sync::Semaphore>>,
}

impl Store for Memory {
    fn store(&self, publish: Publish) -> BoxFuture<'_, Result<Ack, bus::Error>> {
        Box::pin(async move {
            if let Some(gate) = &self.gate {
                gate.acquire().await.unwrap().forget();
            }
            self.records.lock().unwrap().push(publish);
            if let Some(kind) = self.failures.lock().unwrap().pop_front() {
                return Err(bus::Error { kind, source: "on purpose".into() });
            }
            let seq = self.records.lock().unwrap().len() as u64;
            Ok(Ack { seq, duplicate: false })
        })
    }
}

fn inbound(store: &Memory) -> Inbound {
    let names = (TenantId::new("main").unwrap(), ChannelKind::new("chat").unwrap(), AccountId::new("web").unwrap());
    Inbound::new(store.clone(), 8, names.0, names.1, names.2)
}

fn envelope(thread: &str, key: &str) -> Envelope {
    let identity = Identity {
        scheme: "visitor".into(),
        value: thread.into(),
        scope: Scope::Account,
        scope_id: Some("web".into()),
        raw: None,
        assurance: Some(Assurance::Verified),
    };
    let party =
        Party { identity, aliases: vec![], display: None, username: None, role: Role::Customer, named_as: None };
    let thread = serde_json::from_value::<Thread>(serde_json::json!({ "key": thread })).unwrap();
    Envelope {
        v: contract::envelope::VERSION,
        kind: EnvelopeKind::Message,
        tenant: TenantId::new("main").unwrap(),
        account: Account {
            kind: ChannelKind::new("chat").unwrap(),
            id: AccountId::new("web").unwrap(),
            provider: None,
            address: None,
        },
        dedup_key: key.into(),
        external_id: None,
        external_ids: vec![],
        direction: Default::default(),
        thread,
        sender: party,
        recipients: vec![],
        sender_auth: SenderAuth { level: AuthLevel::Unverified, detail: None },
        sent_at: None,
        received_at: Timestamp(1),
        sent_at_raw: None,
        seq: None,
        content: vec![Part::text("hi")],
        language: None,
        tags: vec![],
        group: None,
        reply_to: None,
        forward: None,
        target: None,
        reaction: None,
        receipt: None,
        signal: None,
        referral: None,
        call: None,
        mail: None,
        window: None,
        raw_ref: None,
        adapter: None,
    }
}

#[tokio::test]
async fn a_single_envelope_is_the_bare_map() {
    let store = Memory::default();
    let sent = envelope("t", "k1");
    let accepted = inbound(&store).accept(&sent).await.unwrap();
    assert_eq!((accepted.seq, accepted.index), (1, 0));
    let record = store.records.lock().unwrap()[0].clone();
    assert_eq!(record.msg_id, Some(sent.msg_id()));
    assert_eq!(record.content_type, Some("application/msgpack"));
    assert_eq!(Encoding::MsgPack.decode::<Envelope>(&record.payload, 1 << 20).unwrap(), sent);
}

#[tokio::test(start_paused = true)]
async fn what_waits_goes_together_and_in_order() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let store = Memory { gate: Some(Arc::clone(&gate)), ..Memory::default() };
    let inbound = inbound(&store);
    let mut tickets = Vec::new();
    for n in 0..40 {
        tickets.push(inbound.submit(&envelope(&format!("t{}", n % 10), &format!("k{n}"))).unwrap());
    }
    gate.add_permits(100);
    for ticket in tickets {
        ticket.await.unwrap();
    }
    inbound.idle().await;
    let records = store.records.lock().unwrap().clone();
    // Four went alone; the rest of the lanes go together.
    assert!(records.len() <= 10, "{} records", records.len());
    let keys: Vec<String> = records
        .iter()
        .flat_map(|record| match Encoding::MsgPack.decode::<Vec<Envelope>>(&record.payload, 1 << 20) {
            Ok(several) => several,
            Err(_) => vec![Encoding::MsgPack.decode(&record.payload, 1 << 20).unwrap()],
        })
        .map(|envelope| envelope.dedup_key.to_string())
        .collect();
    assert_eq!(keys.len(), 40);
    for lane in 0..10 {
        let of_lane: Vec<usize> =
            keys.iter().map(|key| key[1..].parse::<usize>().unwrap()).filter(|n| n % 10 == lane).collect();
        assert!(of_lane.is_sorted(), "{of_lane:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_ambiguous_publish_is_repeated_with_the_same_id() {
    let store = Memory::default();
    store.failures.lock().unwrap().extend([ErrorKind::Ambiguous, ErrorKind::Unavailable, ErrorKind::Timeout]);
    inbound(&store).accept(&envelope("t", "k")).await.unwrap();
    let ids: Vec<_> = store.records.lock().unwrap().iter().map(|record| record.msg_id.clone()).collect();
    assert_eq!(ids.len(), 4);
    assert!(ids.iter().all(|id| *id == ids[0]));
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_stays_away_is_unavailable_also_for_what_waits_behind() {
    let store =
        Memory { failures: Arc::new(Mutex::new(vec![ErrorKind::Unavailable; 1000].into())), ..Memory::default() };
    let inbound = inbound(&store);
    let first = inbound.submit(&envelope("t", "k1")).unwrap();
    let behind = inbound.submit(&envelope("t", "k2")).unwrap();
    assert_eq!(first.await, Err(AcceptError::Unavailable));
    assert_eq!(behind.await, Err(AcceptError::Unavailable));
    inbound.idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_hangs_is_unavailable() {
    let store = Memory { gate: Some(Arc::new(tokio::sync::Semaphore::new(0))), ..Memory::default() };
    assert_eq!(inbound(&store).accept(&envelope("t", "k1")).await, Err(AcceptError::Unavailable));
}

#[tokio::test]
async fn refuses_what_is_full_invalid_foreign_or_too_large() {
    let store = Memory::default();
    store.failures.lock().unwrap().push_back(ErrorKind::Full);
    let inbound = inbound(&store);
    assert_eq!(inbound.accept(&envelope("t", "k")).await, Err(AcceptError::Full));

    let mut foreign = envelope("t", "k");
    foreign.account.id = AccountId::new("other").unwrap();
    assert_eq!(inbound.accept(&foreign).await, Err(AcceptError::Misaddressed));

    let mut empty = envelope("t", "k");
    empty.content.clear();
    assert!(matches!(inbound.accept(&empty).await, Err(AcceptError::Invalid(_))));

    let mut large = envelope("t", "k");
    large.content = (0..3).map(|_| Part::text("x".repeat(100 * 1024))).collect();
    assert!(matches!(inbound.accept(&large).await, Err(AcceptError::TooLarge { .. })));
}

#[tokio::test]
async fn refuses_when_too_much_waits() {
    let store = Memory { gate: Some(Arc::new(tokio::sync::Semaphore::new(0))), ..Memory::default() };
    let inbound = inbound(&store);
    let mut refused = 0;
    for n in 0..BOUNDS.waiting_max + 10 {
        if inbound.submit(&envelope("t", &n.to_string())).is_err() {
            refused += 1;
        }
        if n == 0 {
            // Whoever carries it begins.
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(refused, 9, "one is in flight, the rest waits");
}
