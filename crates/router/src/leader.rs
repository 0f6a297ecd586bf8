//! The loop of a shard's owner: take what has arrived, decide all of it, append one record, then do what
//! follows.

mod answering;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::{Bus, Publish, Reader, Stored};
use bytes::Bytes;
use contract::codec::CONTENT_TYPE;
use contract::command::{AdminCommand, Done, Refusal, RefusalKind, Reply};
use contract::feed::HEARTBEAT_MS;
use contract::journal::{Behind, Checkpoint, Entry, Position};
use contract::outbound::{Author, Live};
use contract::{AgentId, ConversationId, Event, EventRecord, SmolStr, TenantId, Timestamp, subject};
use engine::{Answer, CommandInput, Emitted, Liveness, Shadow, Step};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{debug, error, info, warn};

use crate::Options;
use crate::classify::{ANSWERS_MAX, Found};
use crate::commands::{Asked, ReplyTo, Request};
use crate::error::{Error, ErrorKind};
use crate::facts::Fact;
use crate::feeds::Feeds;
use crate::journal::Journal;
use crate::metric::Metric;
use crate::outputs::{Batch, Dead, Job, Outputs};
use crate::pack::{Frame, pack};
use crate::readside::{Dirty, ReadSide};
use crate::recover::{Recovered, unsharded};
use crate::shard::Shard;
use crate::transcript::Transcripts;

/// Most bytes of input in one batch, so that its record stays well under the bus's limit.
const BATCH_BYTES_MAX: usize = 300 * 1024;
/// How often the read side is written.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// How often a running router checks the invariants it can see.
const CHECK_EVERY: Duration = Duration::from_secs(10);
/// States larger than this many conversations are not checked while running.
const CHECK_CONVERSATIONS_MAX: usize = 20_000;
/// How long a drain waits for outputs and the last checkpoint.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// Most questions about the past that are answered at once; more are told to come again.
const HISTORY_MAX: usize = 64;

/// A shard, led.
pub(crate) struct Leader {
    bus: Bus,
    shard_no: u16,
    options: Options,
    journal: Journal,
    shard: Shard,
    feeds: Feeds,
    transcripts: Transcripts,
    dirty: Dirty,
    outputs: Outputs,
    readside: ReadSide,
    liveness: BTreeMap<TenantId, Liveness>,
    /// The newest record of the log.
    seq: u64,
    records_since_checkpoint: u64,
    checkpointed: Instant,
    checkpointing: Option<JoinHandle<Result<Checkpoint, Error>>>,
    history: Arc<tokio::sync::Semaphore>,
    /// Conversations whose first message is about to be shown to a classifier, and until when it may answer.
    unclassified: BTreeMap<(TenantId, ConversationId), Timestamp>,
    /// Where classifiers' answers come in, and where from.
    found: (mpsc::Sender<Found>, mpsc::Receiver<Found>),
    /// Policies that run beside those in force.
    shadows: BTreeMap<TenantId, Shadow>,
}

/// What a batch led to, before it is in the journal.
#[derive(Default)]
struct Decided {
    entries: Vec<Entry>,
    facts: VecDeque<DecidedFact>,
    replies: Vec<PendingReply>,
    /// Questions: answered from what the journal holds, so after it holds this.
    questions: Vec<(TenantId, ReplyTo, Asked)>,
    /// Everything in `IN` up to this sequence is decided.
    cursor: u64,
}

/// A fact before it is in the journal.
struct DecidedFact {
    tenant: TenantId,
    at: Timestamp,
    emitted: Emitted,
    dead: Option<(Bytes, Option<String>)>,
}

/// The answer to a command, to be given once the journal holds what it brought about.
struct PendingReply {
    to: ReplyTo,
    answer: Result<Done, Refusal>,
    /// Which of the batch's facts is its first.
    first_fact: Option<usize>,
}

/// What woke the loop.
enum Wake {
    Input(Result<Stored, bus::Error>),
    Request(Option<Request>),
    Time,
    Beat,
    Flush,
    Check,
    Checkpoint(Result<Result<Checkpoint, Error>, tokio::task::JoinError>),
    Found(Found),
    Stop,
}

fn now() -> Timestamp {
    Timestamp(runtime::clock::now())
}

impl Leader {
    pub(crate) fn new(bus: Bus, shard_no: u16, options: Options, recovered: Recovered) -> Self {
        let mut liveness: BTreeMap<TenantId, Liveness> = BTreeMap::new();
        // Whoever was connected gets the full silence again before it counts as gone.
        let at = now();
        for (tenant_id, tenant) in &recovered.shard.tenants {
            let heard = liveness.entry(tenant_id.clone()).or_default();
            for (agent, _) in tenant.engine.agents().filter(|(_, agent)| agent.connected) {
                heard.touch(agent, at);
            }
        }
        Self {
            bus,
            shard_no,
            options,
            journal: recovered.journal,
            shard: recovered.shard,
            feeds: recovered.feeds,
            transcripts: recovered.transcripts,
            dirty: recovered.dirty,
            outputs: recovered.outputs,
            readside: recovered.readside,
            liveness,
            seq: recovered.seq,
            records_since_checkpoint: 0,
            checkpointed: Instant::now(),
            checkpointing: None,
            history: Arc::new(tokio::sync::Semaphore::new(HISTORY_MAX)),
            unclassified: BTreeMap::new(),
            found: mpsc::channel(ANSWERS_MAX),
            shadows: BTreeMap::new(),
        }
    }

    /// Leads until told to stop or deposed. Gives the bus what is owed before it returns `Ok`.
    pub(crate) async fn lead(
        mut self,
        requests: &mut mpsc::Receiver<Request>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), Error> {
        let mut reader = self.bus.read(&format!("IN-{}", self.shard_no), self.shard.cursor + 1, None).await?;
        let mut beat = interval(Duration::from_millis(HEARTBEAT_MS));
        let mut flush = interval(FLUSH_EVERY);
        let mut check = interval(CHECK_EVERY);
        self.beat().await;
        loop {
            let due = self.next_deadline();
            let wake = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => Wake::Stop,
                () = sleep_until(due) => Wake::Time,
                stored = reader.next() => Wake::Input(stored),
                request = requests.recv() => Wake::Request(request),
                _ = beat.tick() => Wake::Beat,
                _ = flush.tick() => Wake::Flush,
                _ = check.tick() => Wake::Check,
                done = finished(&mut self.checkpointing) => Wake::Checkpoint(done),
                // We hold a sender ourselves, so that there is always a next one.
                Some(found) = self.found.1.recv() => Wake::Found(found),
            };
            let led = match wake {
                Wake::Stop => return self.drain().await,
                Wake::Time => self.time_came().await,
                Wake::Input(Ok(stored)) => self.batch(Some(stored), None, &mut reader, requests).await,
                Wake::Input(Err(error)) => Err(error.into()),
                Wake::Request(Some(request)) => self.batch(None, Some(request), &mut reader, requests).await,
                Wake::Request(None) => return self.drain().await,
                Wake::Beat => {
                    self.beat().await;
                    Ok(())
                }
                Wake::Flush => {
                    self.flush();
                    self.maybe_checkpoint();
                    Ok(())
                }
                Wake::Check => {
                    self.check();
                    Ok(())
                }
                Wake::Checkpoint(done) => self.checkpointed(done).await,
                Wake::Found(found) => self.classified(found).await,
            };
            if let Err(error) = led {
                self.abandon();
                return Err(error);
            }
        }
    }

    fn next_deadline(&self) -> Option<Timestamp> {
        let silences = self.liveness.iter().filter_map(|(tenant, liveness)| {
            let (policy, _) = self.shard.tenants.get(tenant)?.engine.policy();
            liveness.next_deadline(policy.timing.agent_silence_ms)
        });
        silences.chain(self.shard.next_deadline()).min()
    }

    // === Deciding ===

    /// Decides what came and whatever else is there already, and appends it as one record.
    async fn batch(
        &mut self,
        stored: Option<Stored>,
        request: Option<Request>,
        reader: &mut Reader,
        requests: &mut mpsc::Receiver<Request>,
    ) -> Result<(), Error> {
        let began = Instant::now();
        let mut decided = self.nothing_decided();
        let (mut count, mut bytes) = (0, 0);
        let (mut stored, mut request) = (stored, request);
        loop {
            if let Some(stored) = stored.take().or_else(|| reader.try_next()) {
                bytes += stored.payload.len();
                count += self.take_in(&mut decided, &stored);
            } else if let Some(request) = request.take().or_else(|| requests.try_recv().ok()) {
                bytes += request.message.payload.len();
                count += 1;
                self.take_request(&mut decided, request);
            } else {
                break;
            }
            if count >= self.options.batch_messages_max || bytes >= BATCH_BYTES_MAX {
                break;
            }
        }
        metrics::histogram!(Metric::DecideSeconds.name()).record(began.elapsed().as_secs_f64());
        let questions = std::mem::take(&mut decided.questions);
        self.commit(decided).await?;
        for (tenant_id, to, question) in questions {
            self.answer(&tenant_id, to, question).await?;
        }
        Ok(())
    }

    /// A batch before anything is in it: the cursor stays where it is.
    fn nothing_decided(&self) -> Decided {
        Decided { cursor: self.shard.cursor, ..Decided::default() }
    }

    /// Decides an inbound record. Returns how many envelopes it held.
    fn take_in(&mut self, decided: &mut Decided, stored: &Stored) -> usize {
        decided.cursor = stored.seq;
        let content_type = stored.headers.get(CONTENT_TYPE).map(str::to_owned);
        let Some(source) = subject::parse_inbound(&stored.subject) else {
            error!(subject = %stored.subject, "an input came on a subject that is none; the stream's subjects are wrong");
            return 1;
        };
        let now = now();
        let envelopes = match contract::envelope::decode_record(&stored.payload, content_type.as_deref()) {
            Ok(envelopes) => envelopes,
            Err(error) => {
                let dead = (stored.payload.clone(), content_type);
                self.reject(decided, now, &source.tenant, stored, None, error.to_string(), dead);
                return 1;
            }
        };
        let count = envelopes.len();
        for (index, envelope) in envelopes.into_iter().enumerate() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            let raw = |bytes: &[u8]| (stored.payload.slice_ref(bytes), content_type.clone());
            let envelope = match envelope {
                Ok(envelope) => envelope,
                Err(rejected) => {
                    let dead = raw(rejected.bytes);
                    self.reject(decided, now, &source.tenant, stored, Some(index), rejected.reason, dead);
                    continue;
                }
            };
            metrics::counter!(Metric::Inputs.name()).increment(1);
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
            if let Some(reason) = strange {
                // Written anew: what was one of several becomes a record of its own.
                let encoding = contract::Encoding::MsgPack;
                let bytes = encoding.encode(&envelope).unwrap_or_default();
                let dead = (bytes.into(), Some(encoding.content_type().to_owned()));
                self.reject(decided, now, &source.tenant, stored, Some(index), reason, dead);
                continue;
            }
            let Some(tenant) = self.shard.tenants.get_mut(&source.tenant) else { continue };
            match tenant.receive(now, envelope) {
                Some(step) => decided.add(&source.tenant, step, None),
                None => metrics::counter!(Metric::Repeats.name()).increment(1),
            }
        }
        count
    }

    #[expect(clippy::too_many_arguments, reason = "each says one thing of the same rejected input")]
    fn reject(
        &mut self,
        decided: &mut Decided,
        now: Timestamp,
        tenant_id: &TenantId,
        stored: &Stored,
        index: Option<u32>,
        reason: String,
        dead: (Bytes, Option<String>),
    ) {
        warn!(shard = self.shard_no, in_seq = stored.seq, subject = %stored.subject, reason, "an input goes to the dead letters");
        metrics::counter!(Metric::Rejected.name()).increment(1);
        let tenant = self.shard.tenants.entry(tenant_id.clone()).or_default();
        let step = tenant.engine.reject(now, stored.seq, index, stored.subject.clone(), reason);
        decided.add(tenant_id, step, Some(dead));
    }

    /// Decides a command, or notes a question.
    fn take_request(&mut self, decided: &mut Decided, request: Request) {
        let tenant_id = request.tenant().clone();
        match request.read() {
            (to, Err(refusal)) => decided.refuse(to, refusal),
            (to, Ok(Asked::Change(input))) => self.change(decided, &tenant_id, to, input),
            (to, Ok(question)) => decided.questions.push((tenant_id, to, question)),
        }
    }

    fn change(&mut self, decided: &mut Decided, tenant_id: &TenantId, to: ReplyTo, input: CommandInput) {
        let now = now();
        let is_policy = matches!(&input, CommandInput::Admin { command: AdminCommand::PolicyApply { .. }, .. });
        if is_policy {
            self.shard.tenants.entry(tenant_id.clone()).or_default();
        }
        let Some(tenant) = self.shard.tenants.get_mut(tenant_id) else {
            let message = format!("there is no tenant {:?}", tenant_id.as_str());
            return decided.refuse(to, Refusal::new(RefusalKind::NotFound, message));
        };
        if let CommandInput::Agent { agent, .. } = &input {
            let (agent, heard) = (agent.clone(), tenant.engine.agent_heard(now, agent));
            if tenant.engine.agent(&agent).is_some() {
                self.liveness.entry(tenant_id.clone()).or_default().touch(&agent, now);
            }
            decided.add(tenant_id, heard, None);
        }
        match tenant.engine.command(now, input) {
            Answer::Done(done, step) => {
                let first_fact = (!step.is_empty()).then_some(decided.facts.len());
                decided.add(tenant_id, step, None);
                decided.replies.push(PendingReply { to, answer: Ok(done), first_fact });
            }
            Answer::Repeated(done) => decided.replies.push(PendingReply { to, answer: Ok(done), first_fact: None }),
            Answer::Refused(refusal) => decided.refuse(to, refusal),
        }
    }

    /// Something is due.
    async fn time_came(&mut self) -> Result<(), Error> {
        let now = now();
        let mut decided = self.nothing_decided();
        for (tenant_id, tenant) in &mut self.shard.tenants {
            if let Some(step) = tenant.engine.tick(now) {
                decided.add(tenant_id, step, None);
            }
            let silence = tenant.engine.policy().0.timing.agent_silence_ms;
            let Some(liveness) = self.liveness.get_mut(tenant_id) else { continue };
            for agent in liveness.silent(now, silence) {
                liveness.forget(&agent);
                info!(shard = self.shard_no, agent.id = %agent, "an agent's tool fell silent");
                decided.add(tenant_id, tenant.engine.agent_silent(now, &agent), None);
            }
        }
        self.commit(decided).await
    }

    /// It was found out what a conversation is about, or that nobody can say.
    async fn classified(&mut self, (tenant_id, conversation, found): Found) -> Result<(), Error> {
        let mut decided = self.nothing_decided();
        if let Some(tenant) = self.shard.tenants.get_mut(&tenant_id)
            && let Some(step) = tenant.engine.classified(now(), conversation, found)
        {
            decided.add(&tenant_id, step, None);
        }
        if decided.entries.is_empty() { Ok(()) } else { self.commit(decided).await }
    }

    /// What the policy beside would have decided.
    fn compare(&mut self, tenant: &TenantId, at: Timestamp, event: &Event) {
        let Some(shadow) = self.shadows.get_mut(tenant) else { return };
        if let Some(same) = shadow.observe(at, event) {
            let outcome = if same { "same" } else { "other" };
            metrics::counter!(Metric::Shadow.name(), "outcome" => outcome).increment(1);
        }
    }

    /// A conversation of which it is to be found out what it is about: its first message follows.
    fn note_unclassified(&mut self, tenant: &TenantId, event: &Event) {
        match event {
            Event::ConversationClassifying { conversation, until } => {
                self.unclassified.insert((tenant.clone(), *conversation), *until);
            }
            Event::MessageReceived { conversation, envelope, .. } if !self.unclassified.is_empty() => {
                if let Some(until) = self.unclassified.remove(&(tenant.clone(), *conversation)) {
                    let (found, tenant) = (self.found.0.clone(), tenant.clone());
                    crate::classify::ask(self.bus.clone(), found, tenant, *conversation, (**envelope).clone(), until);
                }
            }
            _ => {}
        }
    }

    // === Writing ===

    /// Appends what was decided, and does what follows from it.
    async fn commit(&mut self, decided: Decided) -> Result<(), Error> {
        let Decided { entries, mut facts, replies, cursor, .. } = decided;
        if entries.is_empty() {
            // Nothing but repeats: the cursor goes into the next record.
            self.shard.cursor = cursor;
            self.reply(replies, &[]).await;
            return Ok(());
        }
        let behind = Behind { outputs: self.outputs.done(), kv: self.readside.done() };
        let frame = Frame { epoch: self.journal.epoch, behind, cursor_before: self.shard.cursor, cursor_after: cursor };
        let packed = pack(entries, &frame, new_id)?;
        let mut positions = Vec::with_capacity(facts.len());
        for one in packed {
            let began = Instant::now();
            let seq = self.journal.append(&one).await?;
            metrics::histogram!(Metric::AppendSeconds.name()).record(began.elapsed().as_secs_f64());
            metrics::counter!(Metric::Records.name()).increment(1);
            self.seq = seq;
            self.records_since_checkpoint += 1;
            self.shard.cursor = one.record.cursor;
            let count: usize = one.record.entries.iter().map(|entry| entry.events.len()).sum();
            metrics::counter!(Metric::Events.name()).increment(count as u64);
            let of_record: Vec<DecidedFact> = facts.drain(..count.min(facts.len())).collect();
            self.publish(seq, of_record, &mut positions).await;
        }
        self.reply(replies, &positions).await;
        Ok(())
    }

    /// What follows from a record: feeds and signals at once, streams behind.
    async fn publish(&mut self, seq: u64, decided: Vec<DecidedFact>, positions: &mut Vec<Position>) {
        let (mut facts, mut jobs) = (Vec::with_capacity(decided.len()), Vec::new());
        for (index, fact) in decided.into_iter().enumerate() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            let position = Position { shard: self.shard_no, seq, index };
            positions.push(position);
            self.dirty.note(&fact.tenant, &fact.emitted);
            self.note_unclassified(&fact.tenant, &fact.emitted.event);
            self.compare(&fact.tenant, fact.at, &fact.emitted.event);
            let record = Arc::new(fact.emitted.record(&fact.tenant, fact.at, position));
            self.transcripts.keep(&record);
            let encoded = Bytes::from(contract::Encoding::MsgPack.encode(&*record).unwrap_or_default());
            for (agent, seq) in &fact.emitted.reach.feeds {
                self.feeds.push(agent, *seq, &record, &encoded).await;
            }
            self.signal(&record, &fact.emitted).await;
            let engine = self.shard.tenants.get(&fact.tenant).map(|tenant| &tenant.engine);
            let command =
                engine.and_then(|engine| engine.out_command(&fact.tenant, fact.at, &record.event, &fact.emitted.reach));
            if let (Event::InputRejected { in_seq, index, subject, reason }, payload) = (&*record.event, fact.dead) {
                jobs.push(Job::Dead(Box::new(Dead {
                    tenant: fact.tenant.clone(),
                    position,
                    in_seq: *in_seq,
                    index: *index,
                    subject: unsharded(subject),
                    reason: reason.clone(),
                    at: fact.at,
                    payload,
                })));
            }
            jobs.extend(command.map(|command| Job::Command(Box::new(command), position)));
            facts.push(Fact::new(&record, encoded));
        }
        self.outputs.push(Batch { seq, facts, jobs }).await;
    }

    /// Tells channels, lossily, who is with a conversation.
    async fn signal(&self, record: &EventRecord, emitted: &Emitted) {
        let (what, agent) = match &*record.event {
            Event::ConversationAssigned { agent, .. } | Event::ConversationResumed { agent, .. } => {
                ("joined", Some(agent))
            }
            Event::ConversationEnqueued { from: Some(agent), .. } => ("left", Some(agent)),
            Event::ConversationClosed { by, .. } => ("closed", by.as_ref()),
            _ => return,
        };
        let Some(engine) = self.shard.tenants.get(&record.tenant).map(|tenant| &tenant.engine) else { return };
        let Some(conversation) = record.conversation else { return };
        let threads = match &emitted.reach.closed {
            Some(view) => view.threads.clone(),
            None => engine.conversation_view(conversation).map(|view| view.threads).unwrap_or_default(),
        };
        let live = Live {
            conversation,
            threads,
            author: Author { agent: agent.cloned(), display: agent.map(|agent| engine.display_name(agent)) },
            customer: false,
            what: SmolStr::new_static(what),
            at: record.at,
        };
        let publish = Publish {
            subject: subject::live(&record.tenant, conversation, "presence"),
            payload: contract::Encoding::Json.encode(&live).unwrap_or_default().into(),
            content_type: Some(contract::Encoding::Json.content_type()),
            ..Publish::default()
        };
        self.send(Some(publish)).await;
    }

    async fn reply(&self, replies: Vec<PendingReply>, positions: &[Position]) {
        for pending in replies {
            let outcome = if pending.answer.is_ok() { "done" } else { "refused" };
            metrics::counter!(Metric::Commands.name(), "outcome" => outcome).increment(1);
            let message = match pending.answer {
                Ok(done) => {
                    let position = pending.first_fact.and_then(|fact| positions.get(fact).copied());
                    let reply = Reply { position, ..Reply::done(pending.to.id.clone(), done) };
                    pending.to.message(reply)
                }
                Err(refusal) => pending.to.refused(refusal),
            };
            self.send(message).await;
        }
    }

    async fn send(&self, message: Option<Publish>) {
        if let Some(publish) = message
            && let Err(error) = self.bus.send(publish).await
        {
            debug!(%error, "a message was dropped; its receiver asks again");
        }
    }

    // === Housekeeping ===

    /// Beats the feeds of agents whose tools are there.
    async fn beat(&self) {
        let agents: Vec<(TenantId, AgentId, u64)> = self
            .shard
            .tenants
            .iter()
            .flat_map(|(tenant_id, tenant)| {
                let connected = tenant.engine.agents().filter(|(_, agent)| agent.connected);
                connected.map(|(id, agent)| (tenant_id.clone(), id.clone(), agent.feed_seq))
            })
            .collect();
        self.feeds.beat(&agents, now()).await;
    }

    fn flush(&mut self) {
        if !self.dirty.is_empty() || self.readside.done() < self.seq {
            self.readside.flush(&mut self.dirty, &self.shard, self.seq);
        }
    }

    /// Checks what a quiet state shows, and writes the gauges.
    fn check(&self) {
        #[expect(clippy::cast_precision_loss, reason = "gauges")]
        for (tenant_id, tenant) in &self.shard.tenants {
            let engine = &tenant.engine;
            if engine.conversations().take(CHECK_CONVERSATIONS_MAX + 1).count() <= CHECK_CONVERSATIONS_MAX {
                for violation in engine.violations() {
                    error!(tenant = %tenant_id, invariant = violation.invariant.name(), detail = violation.detail, "an invariant does not hold");
                    metrics::counter!(Metric::Violations.name(), "invariant" => violation.invariant.name())
                        .increment(1);
                }
            }
            let counts = engine.counts();
            for state in ["waiting", "offered", "active", "parked", "wrapping"] {
                let count = counts.conversations.get(state).copied().unwrap_or(0);
                let tenant = tenant_id.to_string();
                metrics::gauge!(Metric::Conversations.name(), "tenant" => tenant, "state" => state).set(count as f64);
            }
            for queue in engine.policy().0.queues.keys() {
                let count = counts.waiting.get(queue).copied().unwrap_or(0);
                let labels = [("tenant", tenant_id.to_string()), ("queue", queue.to_string())];
                metrics::gauge!(Metric::Waiting.name(), &labels).set(count as f64);
            }
            for presence in ["available", "busy", "away", "offline", "disconnected"] {
                let count = counts.agents.get(presence).copied().unwrap_or(0);
                let tenant = tenant_id.to_string();
                metrics::gauge!(Metric::Agents.name(), "tenant" => tenant, "presence" => presence).set(count as f64);
            }
        }
        if !self.shard.tenants.is_empty() {
            tokio::spawn(gauge_lag(self.bus.clone(), self.shard_no, self.shard.cursor));
        }
    }

    /// Takes a checkpoint when one is due.
    fn maybe_checkpoint(&mut self) {
        let due = self.records_since_checkpoint >= self.options.checkpoint_records
            || self.records_since_checkpoint > 0 && self.checkpointed.elapsed() >= self.options.checkpoint_every;
        if due && self.checkpointing.is_none() {
            self.start_checkpoint();
        }
    }

    fn start_checkpoint(&mut self) {
        let snapshot = match self.shard.snapshot(self.seq) {
            Ok(snapshot) => snapshot,
            Err(error) => return error!(shard = self.shard_no, %error, "no snapshot could be taken"),
        };
        self.records_since_checkpoint = 0;
        self.checkpointed = Instant::now();
        let store = crate::checkpoint::store(
            self.bus.clone(),
            self.shard_no,
            snapshot,
            self.seq,
            self.shard.cursor,
            now(),
            (self.outputs.watch(), self.readside.watch()),
        );
        self.checkpointing = Some(tokio::spawn(store));
    }

    /// A snapshot is stored and everything before it written: announce it, and forget what it replaces.
    async fn checkpointed(
        &mut self,
        done: Result<Result<Checkpoint, Error>, tokio::task::JoinError>,
    ) -> Result<(), Error> {
        self.checkpointing = None;
        let checkpoint = match done {
            Ok(Ok(checkpoint)) => checkpoint,
            Ok(Err(error)) => {
                warn!(shard = self.shard_no, %error, "a checkpoint could not be stored; trying again later");
                return Ok(());
            }
            Err(error) => {
                error!(shard = self.shard_no, %error, "taking a checkpoint failed");
                return Ok(());
            }
        };
        self.journal.announce(&checkpoint).await?;
        self.journal.purge_below(checkpoint.seq, now()).await?;
        self.bus.purge_below(&format!("IN-{}", self.shard_no), checkpoint.cursor + 1).await?;
        crate::checkpoint::tidy(&self.bus, self.shard_no).await;
        metrics::counter!(Metric::Checkpoints.name()).increment(1);
        info!(shard = self.shard_no, seq = checkpoint.seq, cursor = checkpoint.cursor, "took a checkpoint");
        Ok(())
    }

    /// Gives the bus what is owed: outputs, read side, a last checkpoint.
    async fn drain(mut self) -> Result<(), Error> {
        if let Some(running) = self.checkpointing.take() {
            running.abort();
        }
        let left = async {
            while self.readside.done() < self.seq {
                self.flush();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            if self.records_since_checkpoint > 0 {
                self.start_checkpoint();
                if let Some(running) = self.checkpointing.take() {
                    let done = running.await;
                    self.checkpointed(done).await?;
                }
            }
            Ok::<(), Error>(())
        };
        let drained = tokio::time::timeout(DRAIN_MAX, left).await;
        match &drained {
            Ok(Ok(())) => info!(shard = self.shard_no, seq = self.seq, "drained the shard"),
            Ok(Err(error)) => {
                warn!(shard = self.shard_no, %error, "the shard is not fully drained; the next owner does the rest");
            }
            Err(_) => warn!(shard = self.shard_no, "the shard is not drained in time; the next owner does the rest"),
        }
        self.readside.abandon();
        self.outputs.drain(Duration::from_secs(1)).await;
        Ok(())
    }

    /// Lets go at once: somebody else leads, and does the rest.
    fn abandon(self) {
        if let Some(running) = self.checkpointing {
            running.abort();
        }
        self.readside.abandon();
        self.outputs.abandon();
    }
}

impl Decided {
    fn add(&mut self, tenant: &TenantId, step: Step, dead: Option<(Bytes, Option<String>)>) {
        // A step without facts is still an input that was taken in, unless it was nothing at all.
        if step.is_empty() && matches!(step.cause, contract::journal::Cause::Notice | contract::journal::Cause::Timer) {
            return;
        }
        self.entries.push(step.entry(tenant));
        let at = step.at;
        self.facts.extend(step.emitted.into_iter().map(|emitted| DecidedFact {
            tenant: tenant.clone(),
            at,
            emitted,
            dead: dead.clone(),
        }));
    }

    fn refuse(&mut self, to: ReplyTo, refusal: Refusal) {
        self.replies.push(PendingReply { to, answer: Err(refusal), first_fact: None });
    }
}

fn interval(every: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    interval
}

/// Sleeps until a time on the wall clock; for ever without one.
async fn sleep_until(due: Option<Timestamp>) {
    match due {
        // Looked at again every minute, since the wall clock may be set.
        Some(due) => tokio::time::sleep(Duration::from_millis(due.since(now()).0.min(60_000))).await,
        None => std::future::pending().await,
    }
}

/// The end of a task, if there is one.
async fn finished<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, tokio::task::JoinError> {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

/// 128 random bits.
fn new_id() -> SmolStr {
    let mut bytes = [0; 16];
    // Without randomness two appends could be taken for each other: there is no going on.
    if getrandom::fill(&mut bytes).is_err() {
        error!("the operating system gives no randomness");
        std::process::abort();
    }
    SmolStr::from(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// Writes how much of the input is not decided yet.
async fn gauge_lag(bus: Bus, shard: u16, cursor: u64) {
    if let Ok(state) = bus.stream_state(&format!("IN-{shard}")).await {
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        let lag = state.last.saturating_sub(cursor) as f64;
        metrics::gauge!(Metric::InputLag.name(), "shard" => shard.to_string()).set(lag);
    }
}

/// Why a leadership ended, for the log.
pub(crate) fn is_deposed(error: &Error) -> bool {
    error.kind == ErrorKind::Deposed
}
