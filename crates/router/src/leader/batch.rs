//! A batch: what has arrived is read, whoever it names and is not in memory is fetched, and then it is decided.

use std::collections::BTreeSet;
use std::time::Instant;

use bus::{Reader, Stored};
use bytes::Bytes;
use contract::codec::CONTENT_TYPE;
use contract::command::{Refusal, RefusalKind};
use contract::{CustomerId, Envelope, TenantId, subject};
use runtime::trace;
use tokio::sync::mpsc;
use tracing::error;

use super::{Decided, Leader, now};
use crate::commands::{Asked, ReplyTo, Request};
use crate::error::Error;
use crate::metric::Metric;

/// Most bytes of input in one batch, so that its record stays well under the bus's limit.
const BATCH_BYTES_MAX: usize = 300 * 1024;

/// What arrived.
enum Arrived {
    Input(Read),
    Request(TenantId, ReplyTo, Result<Asked, Refusal>, Option<String>),
}

/// An inbound record, read.
struct Read {
    stored: Stored,
    content_type: Option<String>,
    source: subject::Inbound,
    envelopes: Result<Vec<Result<Envelope, Refused>>, String>,
}

/// An envelope that cannot be taken: its bytes, and why.
struct Refused(Bytes, String);

/// Reads an inbound record. `None`: it came on a subject that is none.
fn read(stored: Stored) -> Option<Read> {
    let content_type = stored.headers.get(CONTENT_TYPE).map(str::to_owned);
    let Some(source) = subject::parse_inbound(&stored.subject) else {
        error!(subject = %stored.subject, "an input came on a subject that is none; the stream's subjects are wrong");
        return None;
    };
    let envelopes = contract::envelope::decode_record(&stored.payload, content_type.as_deref())
        .map(|envelopes| {
            let owned = envelopes.into_iter().map(|envelope| {
                envelope.map_err(|rejected| Refused(stored.payload.slice_ref(rejected.bytes), rejected.reason))
            });
            owned.collect()
        })
        .map_err(|error| error.to_string());
    Some(Read { stored, content_type, source, envelopes })
}

impl Leader {
    /// Decides what came and whatever else is there already, and appends it as one record.
    pub(super) async fn batch(
        &mut self,
        stored: Option<Stored>,
        request: Option<Request>,
        reader: &mut Reader,
        requests: &mut mpsc::Receiver<Request>,
    ) -> Result<(), Error> {
        let mut arrived = Vec::new();
        let mut decided = self.nothing_decided();
        let (mut count, mut bytes) = (0, 0);
        let (mut stored, mut request) = (stored, request);
        loop {
            // In turns, so that neither waits for all of the other.
            let input = stored.take().or_else(|| reader.try_next());
            let request = request.take().or_else(|| requests.try_recv().ok());
            if input.is_none() && request.is_none() {
                break;
            }
            if let Some(stored) = input {
                bytes += stored.payload.len();
                let seq = stored.seq;
                match read(stored) {
                    Some(read) => {
                        count += read.envelopes.as_ref().map_or(1, Vec::len);
                        arrived.push(Arrived::Input(read));
                    }
                    None => {
                        decided.cursor = seq;
                        count += 1;
                    }
                }
            }
            if let Some(request) = request {
                bytes += request.message.payload.len();
                count += 1;
                let tenant_id = request.tenant().clone();
                let trace = request.message.headers.get(trace::PARENT).map(str::to_owned);
                let (to, asked) = request.read();
                arrived.push(Arrived::Request(tenant_id, to, asked, trace));
            }
            if count >= self.options.batch_messages_max || bytes >= BATCH_BYTES_MAX {
                break;
            }
        }
        let named = self.named(&arrived);
        self.fetch(named).await?;
        let began = Instant::now();
        for one in arrived {
            match one {
                Arrived::Input(read) => self.take_in(&mut decided, read).await?,
                Arrived::Request(tenant_id, to, asked, trace) => {
                    // Only who sends one has it: the signs of life of tools are none.
                    decided.trace = None;
                    if trace.is_some() {
                        decided.begin_trace(trace.as_deref());
                    }
                    self.take_request(&mut decided, tenant_id, to, asked).await?;
                }
            }
            decided.trace = None;
        }
        self.fetched_is_over();
        metrics::histogram!(Metric::DecideSeconds.name()).record(began.elapsed().as_secs_f64());
        let questions = std::mem::take(&mut decided.questions);
        self.commit(decided).await?;
        for (tenant_id, to, question) in questions {
            self.answer(&tenant_id, to, question).await?;
        }
        Ok(())
    }

    /// Who is named by what arrived and not in memory, as far as it can be told before anything of it is decided.
    fn named(&mut self, arrived: &[Arrived]) -> BTreeSet<(TenantId, CustomerId)> {
        let mut named = BTreeSet::new();
        let at = now();
        for one in arrived {
            let (tenant_id, persons) = match one {
                Arrived::Input(Read { source, envelopes: Ok(envelopes), .. }) => {
                    let Some(tenant) = self.shard.tenants.get_mut(&source.tenant) else { continue };
                    let persons = envelopes.iter().flatten().flat_map(|envelope| tenant.named(at, envelope)).collect();
                    (&source.tenant, persons)
                }
                Arrived::Request(tenant_id, _, Ok(asked), _) => {
                    let Some(tenant) = self.shard.tenants.get_mut(tenant_id) else { continue };
                    (tenant_id, tenant.named_by(asked))
                }
                Arrived::Input(_) | Arrived::Request(..) => continue,
            };
            named.extend(persons.into_iter().map(|person| (tenant_id.clone(), person)));
        }
        named
    }

    /// Decides an inbound record.
    async fn take_in(&mut self, decided: &mut Decided, read: Read) -> Result<(), Error> {
        let Read { stored, content_type, source, envelopes } = read;
        decided.cursor = stored.seq;
        let now = now();
        let envelopes = match envelopes {
            Ok(envelopes) => envelopes,
            Err(reason) => {
                let dead = (stored.payload.clone(), content_type);
                self.reject(decided, now, &source.tenant, &stored, None, reason, dead);
                return Ok(());
            }
        };
        for (index, envelope) in envelopes.into_iter().enumerate() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            let envelope = match envelope {
                Ok(envelope) => envelope,
                Err(Refused(bytes, reason)) => {
                    let dead = (bytes, content_type.clone());
                    self.reject(decided, now, &source.tenant, &stored, Some(index), reason, dead);
                    continue;
                }
            };
            metrics::counter!(Metric::Inputs.name()).increment(1);
            let headers = &stored.headers;
            let parent = trace::nth(headers.get(trace::PARENT), headers.get(trace::PARENTS), index as usize);
            decided.begin_trace(parent);
            let strange = (envelope.tenant != source.tenant
                || envelope.account.kind != source.kind
                || envelope.account.id != source.account)
                .then(|| "the envelope's tenant or account is not the subject's".to_owned());
            let strange =
                strange.or_else(|| {
                    // One that only ever had letters rejected is known by name and has no policy either.
                    self.shard.tenants.get(&envelope.tenant).is_none_or(|tenant| tenant.engine.policy().1 == 0).then(
                        || format!("there is no tenant {:?}: no policy was applied for it", envelope.tenant.as_str()),
                    )
                });
            let strange = match strange {
                Some(reason) => Some(reason),
                None => self.recall_named(decided, &source.tenant, &envelope).await?,
            };
            if let Some(reason) = strange {
                // Written anew: what was one of several becomes a record of its own.
                let encoding = contract::Encoding::MsgPack;
                let bytes = encoding.encode(&envelope).unwrap_or_default();
                let dead = (bytes.into(), Some(encoding.content_type().to_owned()));
                self.reject(decided, now, &source.tenant, &stored, Some(index), reason, dead);
                continue;
            }
            let Some(tenant) = self.shard.tenants.get_mut(&source.tenant) else { continue };
            // Not every adapter has done it.
            let mut envelope = envelope;
            envelope.texts_mut(&mut |text| {
                self.options.redactor.redact_in(text);
            });
            match tenant.receive(now, envelope, super::new_secret) {
                Some(step) => decided.add(&source.tenant, step, None),
                None => metrics::counter!(Metric::Repeats.name()).increment(1),
            }
        }
        Ok(())
    }

    /// Whoever an envelope names is in memory. Else why it cannot be decided.
    async fn recall_named(
        &mut self,
        decided: &mut Decided,
        tenant_id: &TenantId,
        envelope: &Envelope,
    ) -> Result<Option<String>, Error> {
        let Some(tenant) = self.shard.tenants.get_mut(tenant_id) else { return Ok(None) };
        if tenant.engine.has_seen(envelope) {
            return Ok(None);
        }
        let named = tenant.named(now(), envelope);
        let recalled = self.recall(decided, tenant_id, named).await?;
        Ok(recalled.err().map(|refusal| refusal.message))
    }

    /// Decides a command, or notes a question.
    async fn take_request(
        &mut self,
        decided: &mut Decided,
        tenant_id: TenantId,
        to: ReplyTo,
        asked: Result<Asked, Refusal>,
    ) -> Result<(), Error> {
        let asked = match asked {
            Ok(asked) => asked,
            Err(refusal) => {
                decided.refuse(to, refusal);
                return Ok(());
            }
        };
        if let Some(tenant) = self.shard.tenants.get_mut(&tenant_id) {
            let named = tenant.named_by(&asked);
            if let Err(refusal) = self.recall(decided, &tenant_id, named).await? {
                decided.refuse(to, Refusal::new(RefusalKind::Unavailable, refusal.message));
                return Ok(());
            }
        }
        match asked {
            Asked::Change(mut input) => {
                self.redact(&mut input);
                self.change(decided, &tenant_id, to, input);
            }
            question => decided.questions.push((tenant_id, to, question)),
        }
        Ok(())
    }
}
