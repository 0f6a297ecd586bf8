//! Forgetting a customer: what follows in the streams, buckets and objects once the journal says so.
//!
//! Everything is found by what `EVENTS` holds of the customer, and overwritten where it lies before its place is given
//! free. The journal keeps the fact until all of that is done, and so does it anew after a crash; then a checkpoint is
//! taken, and the records before it, which still hold what was said, are overwritten too.

use std::collections::BTreeSet;

use bus::{Bus, Publish, Stored, topology};
use contract::codec::CONTENT_TYPE;
use contract::envelope::{Envelope, Identity, Part};
use contract::event::decode_events;
use contract::outbound::OutCommand;
use contract::token::encode;
use contract::{ConversationId, CustomerId, Encoding, Event, SmolStr, TenantId, subject};
use futures_util::StreamExt;
use profile::stand_in;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tracing::{info, warn};

use crate::error::Error;
use crate::progress::Watch;

/// Messages that are overwritten at once.
const IN_FLIGHT_MAX: usize = 32;
/// A store's newest file is full at 8 MB at most: so many messages of so many bytes make it one of the older ones.
const FILLERS: usize = 10;
const FILLER_BYTES: usize = 900_000;
/// Shortest address by which a dead letter is taken for a customer's.
const ADDRESS_BYTES_MIN: usize = 5;

/// A customer to forget, with everybody merged into it.
#[derive(Debug, Clone)]
pub(crate) struct Erasure {
    pub(crate) tenant: TenantId,
    pub(crate) customers: Vec<CustomerId>,
    /// The journal record that says so.
    pub(crate) seq: u64,
    /// What it was known by, as far as that is still at hand.
    pub(crate) identities: Vec<Identity>,
}

/// What is stored of a customer besides its facts.
#[derive(Default)]
struct Traces {
    conversations: BTreeSet<ConversationId>,
    objects: BTreeSet<SmolStr>,
    identities: Vec<Identity>,
}

impl Traces {
    fn note(&mut self, event: &Event) {
        self.conversations.extend(event.conversation());
        match event {
            Event::CustomerIdentityLinked { identity, .. } => self.identities.push(identity.clone()),
            Event::MessageReceived { envelope, .. }
            | Event::MessageAmended { envelope, .. }
            | Event::CustomerSignalled { envelope, .. } => self.note_envelope(envelope),
            Event::MessageSent { content, .. } | Event::MessageNotified { content, .. } => self.note_parts(content),
            _ => {}
        }
    }

    fn note_envelope(&mut self, envelope: &Envelope) {
        self.note_parts(&envelope.content);
        self.objects.extend(envelope.raw_ref.as_ref().map(|raw| raw.store_key.clone()));
        self.objects.extend(envelope.mail.as_ref().and_then(|mail| mail.headers_ref.clone()));
        let recording = envelope.call.as_ref().and_then(|call| call.recording.as_ref());
        self.objects.extend(recording.and_then(|recording| recording.store_key.clone()));
        self.identities.push(envelope.sender.identity.clone());
        self.identities.extend(envelope.sender.aliases.iter().cloned());
    }

    fn note_parts(&mut self, parts: &[Part]) {
        let media = parts.iter().filter_map(|part| match part {
            Part::Media(media) => media.store_key.clone(),
            _ => None,
        });
        self.objects.extend(media);
    }
}

/// The key of an identity in its bucket.
pub(crate) fn identity_key(tenant: &TenantId, identity: &Identity) -> String {
    let scope = identity.scope_id.as_deref().unwrap_or("");
    [tenant.as_str(), &identity.scheme, identity.scope.as_str(), scope, &identity.value].map(encode).join(".")
}

/// Forgets a customer in everything but the journal and `IN`.
pub(crate) async fn erase(
    bus: Bus,
    erasure: Erasure,
    (mut outputs, mut readside): (Watch, Watch),
) -> Result<(), Error> {
    if !outputs.reached(erasure.seq).await || !readside.reached(erasure.seq).await {
        return Err(Error::new(crate::ErrorKind::Stopping, "the writers stopped"));
    }
    let Erasure { tenant, customers, identities, .. } = erasure;
    let mut traces = Traces { identities, ..Traces::default() };
    let mut facts = Vec::new();
    for customer in &customers {
        let found = bus.collect(topology::EVENTS, &subject::event_customer(&tenant, *customer), None).await?;
        for stored in found {
            let records = decode_events(&stored.payload, stored.headers.get(CONTENT_TYPE)).unwrap_or_default();
            records.iter().flatten().for_each(|record| traces.note(&record.event));
            facts.push(stored.seq);
        }
    }
    let objects = bus.objects(topology::MEDIA).await?;
    for key in &traces.objects {
        objects.erase(key).await?;
    }
    let buckets = [
        (topology::CONVERSATIONS, keys(&tenant, traces.conversations.iter())),
        (topology::CUSTOMERS, keys(&tenant, customers.iter())),
        (topology::IDENTITIES, traces.identities.iter().map(|identity| identity_key(&tenant, identity)).collect()),
    ];
    for (bucket, keys) in buckets {
        let bucket = bus.bucket(bucket).await?;
        for key in keys {
            bucket.erase(&key).await?;
        }
    }
    // Entries of the time when it was not in memory.
    let bucket = bus.bucket(topology::CUSTOMERS).await?;
    for one in keys(&tenant, customers.iter()) {
        for entry in bucket.entries_below(&one).await? {
            bucket.erase(&entry.key).await?;
        }
    }
    let commands = waiting(&bus, topology::OUT, |stored| is_for(stored, &customers)).await?;
    let fetches = waiting(&bus, topology::FETCH, |stored| is_from(stored, &tenant, &traces.identities)).await?;
    let names: Vec<&SmolStr> = traces
        .identities
        .iter()
        .flat_map(|identity| [Some(&identity.value), identity.raw.as_ref()])
        .flatten()
        .filter(|value| value.len() >= ADDRESS_BYTES_MIN)
        .collect();
    let dead = format!("{}.dead.{}.*", subject::PREFIX, encode(tenant.as_str()));
    let dead = bus.collect(topology::DEAD, &dead, None);
    let dead: Vec<u64> = dead
        .await?
        .into_iter()
        .filter(|stored| names.iter().any(|name| holds(&stored.payload, name.as_bytes())))
        .map(|stored| stored.seq)
        .collect();
    let counts = (facts.len(), traces.objects.len(), commands.len(), fetches.len(), dead.len());
    overwrite(&bus, topology::OUT, commands).await?;
    overwrite(&bus, topology::FETCH, fetches).await?;
    overwrite(&bus, topology::DEAD, dead).await?;
    // Last, since all the rest is found by it.
    overwrite(&bus, topology::EVENTS, facts).await?;
    info!(tenant = %tenant, facts = counts.0, attachments = counts.1, commands = counts.2, fetches = counts.3, dead = counts.4, "erased a customer");
    Ok(())
}

/// What waits in a work queue and is a customer's. It can be read by its workers alone, so each is asked for.
async fn waiting(bus: &Bus, stream: &str, is_theirs: impl Fn(&Stored) -> bool) -> Result<Vec<u64>, Error> {
    let state = bus.stream_state(stream).await?;
    let mut found = Vec::new();
    let mut reads = futures_util::stream::iter(state.first.max(1)..=state.last)
        .map(|seq| bus.get(stream, seq))
        .buffer_unordered(IN_FLIGHT_MAX);
    while let Some(stored) = reads.next().await {
        found.extend(stored?.filter(|stored| is_theirs(stored)).map(|stored| stored.seq));
    }
    Ok(found)
}

/// Whether a command to a channel is for one of these customers.
fn is_for(stored: &Stored, customers: &[CustomerId]) -> bool {
    decoded::<OutCommand>(stored).is_some_and(|command| customers.contains(&command.customer))
}

/// Whether what is still to be fetched is of a message of somebody who is known like this.
fn is_from(stored: &Stored, tenant: &TenantId, identities: &[Identity]) -> bool {
    /// What counts of a channel's own note of what it has to fetch.
    #[derive(Deserialize)]
    struct Fetch {
        tenant: TenantId,
        envelope: Envelope,
    }
    let Some(Fetch { tenant: of, envelope }) = decoded(stored) else { return false };
    // Somebody without any address is known by the thread.
    let sender = &envelope.sender;
    let alone = stand_in(&envelope);
    let mut known_by = [&sender.identity, &alone].into_iter().chain(&sender.aliases);
    of == *tenant && known_by.any(|own| identities.iter().any(|identity| is_same(identity, own)))
}

/// Whether two identities are one. A telephone number is spelled anew when it is taken in; how it came stays beside it.
fn is_same(held: &Identity, came: &Identity) -> bool {
    let value = held.value == came.value || held.raw.as_ref() == Some(&came.value);
    value && held.scheme == came.scheme && held.scope == came.scope && held.scope_id == came.scope_id
}

fn decoded<T: DeserializeOwned>(stored: &Stored) -> Option<T> {
    let encoding = Encoding::detect(stored.headers.get(CONTENT_TYPE), &stored.payload).ok()?;
    encoding.decode(&stored.payload, stored.payload.len()).ok()
}

fn keys<T: std::fmt::Display>(tenant: &TenantId, ids: impl Iterator<Item = T>) -> Vec<String> {
    ids.map(|id| format!("{}.{id}", encode(tenant.as_str()))).collect()
}

fn holds(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

async fn overwrite(bus: &Bus, stream: &str, messages: Vec<u64>) -> Result<(), Error> {
    let erased = futures_util::stream::iter(messages).map(|seq| bus.erase(stream, seq)).buffer_unordered(IN_FLIGHT_MAX);
    let erased: Vec<Result<(), bus::Error>> = erased.collect().await;
    erased.into_iter().collect::<Result<(), bus::Error>>().map_err(Error::from)
}

/// Takes out of a stream's newest file what was let go of in the ordinary course. A file is written anew without it once it
/// is not the newest any more and little of it is left, so it is filled up, and what filled it is let go of too.
async fn turn_over(bus: &Bus, stream: &str, subject: &str) -> Result<(), Error> {
    for _ in 0..FILLERS {
        let payload = vec![0; FILLER_BYTES].into();
        bus.publish(Publish { subject: subject.to_owned(), payload, ..Publish::default() }).await?;
    }
    bus.purge_subject(stream, subject).await?;
    Ok(())
}

/// Overwrites and deletes everything that a checkpoint made superfluous: journal, input, older snapshots. Whether all of
/// it is done: what is not, the next checkpoint does, or the next owner, who finds a journal that begins before its
/// checkpoint.
pub(crate) async fn overwrite_before(bus: &Bus, shard: u16, seq: u64, cursor: u64) -> bool {
    let overwritten = async {
        for (stream, below) in [(topology::in_stream(shard), cursor + 1), (topology::journal_stream(shard), seq)] {
            let first = bus.stream_state(&stream).await?.first;
            overwrite(bus, &stream, (first.max(1)..below).collect()).await?;
            bus.purge_below(&stream, below).await?;
        }
        // What earlier checkpoints let go of, commands that were carried out, and what was fetched. An `IN` of which all is decided has no file.
        let prefix = subject::PREFIX;
        turn_over(bus, &topology::journal_stream(shard), &format!("{prefix}.journal.{shard}.filler")).await?;
        turn_over(bus, topology::OUT, &format!("{prefix}.out.-.-.filler")).await?;
        turn_over(bus, topology::FETCH, &format!("{prefix}.fetch.-.-.filler")).await?;
        Ok::<(), Error>(())
    };
    match overwritten.await {
        // The snapshots before this one hold what was known then.
        Ok(()) => {
            crate::checkpoint::tidy(bus, shard, 1).await;
            info!(shard, seq, cursor, "overwrote what was before the checkpoint");
            true
        }
        Err(error) => {
            warn!(shard, %error, "what was before the checkpoint is not overwritten yet");
            false
        }
    }
}
