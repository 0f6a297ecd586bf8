//! The loop of a shard's owner: take what has arrived, decide all of it, append one record, then do what
//! follows.

mod answering;
mod batch;
mod forgetting;
mod holding;
mod lag;
mod resting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bus::{Bus, Publish, Stored};
use bytes::Bytes;
use contract::answer::Counts;
use contract::command::{AdminCommand, AgentCommand, Done, Refusal, RefusalKind, Reply};
use contract::envelope::Identity;
use contract::feed::HEARTBEAT_MS;
use contract::journal::{Behind, Checkpoint, Entry, Position};
use contract::outbound::{Author, Live};
use contract::{AgentId, ConversationId, CustomerId, Event, EventRecord, SmolStr, TenantId, Timestamp, subject};
use engine::{Answer, CommandInput, Emitted, Liveness, Shadow, Step};
use runtime::trace;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{debug, error, info, warn};

use crate::classify::{self, Found};
use crate::commands::{Asked, ReplyTo, Request, addressed};
use crate::control::{Control, Controls};
use crate::erase::Erasure;
use crate::error::{Error, ErrorKind};
use crate::facts::Fact;
use crate::feeds::Feeds;
use crate::journal::Journal;
use crate::lookup::{self, LookedUp};
use crate::membership::Common;
use crate::metric::Metric;
use crate::outputs::{Batch, Dead, Job, Outputs};
use crate::pack::{Frame, pack};
use crate::readside::{Dirty, Origin, ReadSide};
use crate::recover::{Recovered, unsharded};
use crate::shard::Shard;
use crate::tenant::Tenant;
use crate::transcript::Transcripts;
use crate::{Options, audit};

/// How many tools are told at once how far their feeds are, and how soon the next ones: with 10,000 agents, telling all of
/// them at once holds up a shard for a quarter of a second.
const BEATS_MAX: usize = 256;
const BEATS_EVERY: Duration = Duration::from_millis(10);

/// How often some of the read side is written, while there is something to write.
const FLUSH_EVERY: Duration = Duration::from_millis(10);
/// How often it is looked at whether somebody is to be erased, or to leave memory, or a checkpoint is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often a running router checks the invariants it can see.
const CHECK_EVERY: Duration = Duration::from_secs(10);
/// What is counted in less time is counted each time.
const COUNTS_AT_ONCE: Duration = Duration::from_millis(1);
/// States larger than this many conversations are not checked while running.
const CHECK_CONVERSATIONS_MAX: usize = 20_000;
/// How long whoever leaves leads on, for its last checkpoint: the next owner then has little to read.
const LEAVING_MAX: Duration = Duration::from_secs(10);
/// How long nobody leads while what was decided last is written. The rest is the next owner's.
const OWED_MAX: Duration = Duration::from_millis(50);
/// The same when there is no other owner yet.
const OWED_ALONE_MAX: Duration = Duration::from_secs(2);
/// Conversations whose traces are remembered.
const TRACES_MAX: usize = 100_000;
/// Most questions about the past that are answered at once; more are told to come again.
const HISTORY_MAX: usize = 64;
/// Customers that are to be erased; an operator who names more is told to come again.
const ERASURES_MAX: usize = 10_000;

/// A shard, led.
pub(crate) struct Leader {
    bus: Bus,
    shard_no: u16,
    options: Options,
    /// What all routers understand of a journal.
    common: Common,
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
    history: Arc<Semaphore>,
    /// Conversations whose first message is about to be shown to a classifier, and until when it may answer.
    unclassified: BTreeMap<(TenantId, ConversationId), Timestamp>,
    /// Places for questions to classifiers.
    classifying: Arc<Semaphore>,
    /// Where classifiers' answers come in, and where from.
    found: (mpsc::Sender<Found>, mpsc::Receiver<Found>),
    /// Customers that are to be forgotten, and the one that is just being.
    erasures: VecDeque<Erasure>,
    erasing: Option<JoinHandle<Result<(), Error>>>,
    /// What the customers of this batch were known by, before they are forgotten.
    known_by: BTreeMap<(TenantId, CustomerId), Vec<Identity>>,
    /// The next checkpoint leaves nothing of what is before it.
    overwrite: bool,
    /// What is before the last one is being overwritten; no other checkpoint is taken meanwhile.
    overwriting: Option<JoinHandle<bool>>,
    /// Places for questions of who somebody is.
    looking_up: Arc<Semaphore>,
    /// Where lookups' answers come in, and where from.
    looked_up: (mpsc::Sender<LookedUp>, mpsc::Receiver<LookedUp>),
    /// When customers were asked for last.
    asked: lookup::Asked,
    /// Policies that run beside those in force.
    shadows: BTreeMap<TenantId, Shadow>,
    /// Customers who leave memory, or are not in it.
    resting: resting::Resting,
    /// Nothing is decided until then.
    held_until: Option<tokio::time::Instant>,
    /// The traces of the customers' newest messages, by conversation.
    traces: BTreeMap<(TenantId, ConversationId), String>,
    /// How much there was of what, when it was counted last and how long that took.
    counted: Mutex<BTreeMap<TenantId, (Instant, Duration, Counts)>>,
    /// How far behind we are.
    lag: lag::Lag,
    /// The agents whose tools are still to be told how far their feeds are.
    beating: Vec<(TenantId, AgentId)>,
    /// The process ends.
    stop: watch::Receiver<bool>,
}

/// How a leadership came to a good end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// The process ends.
    Stopped,
    /// Another process is to lead.
    Yielded,
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
    /// The trace that what is decided now is part of.
    trace: Option<String>,
    /// What is being decided; each ends when the batch is written.
    spans: Vec<trace::Span>,
}

/// A fact before it is in the journal.
struct DecidedFact {
    tenant: TenantId,
    at: Timestamp,
    emitted: Emitted,
    dead: Option<(Bytes, Option<String>)>,
    trace: Option<String>,
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
    MoreBeats,
    Flush,
    Look,
    Check,
    Checkpoint(Result<Result<Checkpoint, Error>, tokio::task::JoinError>),
    Found(Found),
    LookedUp(LookedUp),
    Erased(Result<Result<(), Error>, tokio::task::JoinError>),
    Overwritten(Result<bool, tokio::task::JoinError>),
    Rested(Result<Vec<resting::Ready>, tokio::task::JoinError>),
    Control(Control),
    GoOn,
    Leave(Left),
}

impl Wake {
    const fn name(&self) -> &'static str {
        match self {
            Self::Input(_) | Self::Request(_) => "batch",
            Self::Time => "time",
            Self::Beat | Self::MoreBeats => "beat",
            Self::Flush => "flush",
            Self::Look => "look",
            Self::Check => "check",
            Self::Checkpoint(_) => "checkpoint",
            Self::Found(_) | Self::LookedUp(_) => "found",
            Self::Erased(_) | Self::Overwritten(_) | Self::Rested(_) => "customers",
            Self::Control(_) | Self::GoOn | Self::Leave(_) => "control",
        }
    }
}

fn now() -> Timestamp {
    Timestamp(runtime::clock::now())
}

impl Leader {
    pub(crate) fn new(bus: Bus, shard_no: u16, options: Options, common: Common, recovered: Recovered) -> Self {
        let mut liveness: BTreeMap<TenantId, Liveness> = BTreeMap::new();
        // Whoever was connected gets the full silence again before it counts as gone.
        let at = now();
        for (tenant_id, tenant) in &recovered.shard.tenants {
            let heard = liveness.entry(tenant_id.clone()).or_default();
            for (agent, _) in tenant.engine.agents().filter(|(_, agent)| agent.connected) {
                heard.touch(agent, at);
            }
        }
        let mut leader = Self {
            bus,
            shard_no,
            options,
            common,
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
            history: Arc::new(Semaphore::new(HISTORY_MAX)),
            unclassified: BTreeMap::new(),
            classifying: Arc::new(Semaphore::new(classify::QUESTIONS_MAX)),
            found: mpsc::channel(classify::ANSWERS_MAX),
            overwrite: recovered.overwrite,
            overwriting: None,
            erasures: recovered.erasures,
            erasing: None,
            known_by: BTreeMap::new(),
            looking_up: Arc::new(Semaphore::new(lookup::QUESTIONS_MAX)),
            looked_up: mpsc::channel(lookup::ANSWERS_MAX),
            asked: lookup::Asked::default(),
            shadows: BTreeMap::new(),
            resting: resting::Resting::default(),
            held_until: None,
            traces: BTreeMap::new(),
            counted: Mutex::default(),
            lag: lag::Lag::default(),
            beating: Vec::new(),
            stop: watch::channel(false).1,
        };
        leader.note_stale(recovered.stale);
        leader
    }

    /// Leads until told to stop or to yield, or deposed. Whoever is told leads on until its last checkpoint is stored, so
    /// that the next owner has next to nothing to read; `has_heir` says whether one waits.
    pub(crate) async fn lead(
        mut self,
        requests: &mut mpsc::Receiver<Request>,
        controls: &mut Controls,
        mut stop: watch::Receiver<bool>,
        has_heir: impl Fn() -> bool,
    ) -> Result<Left, Error> {
        self.stop = stop.clone();
        let mut reader = self.bus.read(&format!("IN-{}", self.shard_no), self.shard.cursor + 1, None).await?;
        let mut beat = interval(Duration::from_millis(HEARTBEAT_MS));
        let mut look = interval(LOOK_EVERY);
        let mut next_flush = tokio::time::Instant::now();
        let mut check = interval(CHECK_EVERY);
        let mut next_beats = tokio::time::Instant::now();
        self.begin_beats();
        let mut leaving: Option<(Left, tokio::time::Instant)> = None;
        loop {
            if let Some((left, by)) = leaving
                && (self.checkpointing.is_none() || tokio::time::Instant::now() >= by)
            {
                self.let_go(if has_heir() { OWED_MAX } else { OWED_ALONE_MAX }).await;
                return Ok(left);
            }
            let due = self.next_deadline();
            let held = self.held_until;
            let flush = (held.is_none() && self.readside.owes(&self.dirty, self.seq)).then_some(next_flush);
            let beats = (!self.beating.is_empty()).then_some(next_beats);
            // In this order, for as long as more comes than can be decided: what is rare first, then what came. A batch
            // takes from both, inputs and requests.
            let wake = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop), if leaving.is_none() => Wake::Leave(Left::Stopped),
                () = until(leaving.map(|(_, by)| by)), if leaving.is_some() => continue,
                Some(control) = controls.recv() => Wake::Control(control),
                () = until(held), if held.is_some() => Wake::GoOn,
                () = sleep_until(due), if held.is_none() => Wake::Time,
                _ = beat.tick() => Wake::Beat,
                () = until(beats), if beats.is_some() => Wake::MoreBeats,
                _ = look.tick() => Wake::Look,
                _ = check.tick() => Wake::Check,
                () = until(flush), if flush.is_some() => Wake::Flush,
                done = finished(&mut self.checkpointing) => Wake::Checkpoint(done),
                done = finished(&mut self.erasing) => Wake::Erased(done),
                done = finished(&mut self.overwriting) => Wake::Overwritten(done),
                done = finished(&mut self.resting.round) => Wake::Rested(done),
                // We hold a sender ourselves, so that there is always a next one.
                Some(found) = self.found.1.recv(), if held.is_none() => Wake::Found(found),
                Some(found) = self.looked_up.1.recv(), if held.is_none() => Wake::LookedUp(found),
                stored = reader.next(), if held.is_none() => Wake::Input(stored),
                request = requests.recv() => Wake::Request(request),
            };
            let (turn, began) = (wake.name(), Instant::now());
            let led = match wake {
                Wake::Control(Control::Yield) if leaving.is_some() => Ok(()),
                Wake::Leave(_) | Wake::Control(Control::Yield) => {
                    let left = if let Wake::Leave(left) = wake { left } else { Left::Yielded };
                    leaving = Some((left, tokio::time::Instant::now() + LEAVING_MAX));
                    self.leave();
                    Ok(())
                }
                Wake::Control(Control::Ask(question, answer)) => match self.asked(&question).await {
                    Ok(said) => {
                        // Whoever no longer waits asks again.
                        let _ = answer.send(said);
                        Ok(())
                    }
                    Err(error) => Err(error),
                },
                Wake::GoOn => {
                    self.go_on();
                    Ok(())
                }
                Wake::Time => self.time_came().await,
                Wake::Input(Ok(stored)) => self.batch(Some(stored), None, &mut reader, requests).await,
                Wake::Input(Err(error)) => Err(error.into()),
                Wake::Request(Some(request)) if held.is_some() => {
                    let (to, _) = request.read();
                    let rests = Refusal::new(RefusalKind::Unavailable, "a backup is being taken; try again");
                    self.send(to.refused(rests)).await;
                    Ok(())
                }
                Wake::Request(Some(request)) => self.batch(None, Some(request), &mut reader, requests).await,
                // It is held by whoever waits for us.
                Wake::Request(None) => {
                    self.let_go(OWED_ALONE_MAX).await;
                    return Ok(Left::Stopped);
                }
                Wake::Beat => {
                    self.begin_beats();
                    Ok(())
                }
                Wake::MoreBeats => {
                    next_beats = tokio::time::Instant::now() + BEATS_EVERY;
                    self.beats().await;
                    Ok(())
                }
                Wake::Flush => {
                    next_flush = tokio::time::Instant::now() + FLUSH_EVERY;
                    self.flush(leaving.is_some());
                    Ok(())
                }
                Wake::Look => {
                    self.show_queues();
                    if !self.shard.tenants.is_empty() {
                        self.lag.look(&self.bus, self.shard_no, self.shard.cursor);
                    }
                    if held.is_some() || leaving.is_some() {
                        continue;
                    }
                    self.next_erasure();
                    self.next_rests();
                    self.maybe_checkpoint();
                    Ok(())
                }
                Wake::Check => {
                    self.check();
                    Ok(())
                }
                Wake::Checkpoint(done) => self.checkpointed(done).await,
                Wake::Found(found) => self.classified(found).await,
                Wake::LookedUp(found) => self.known(found).await,
                Wake::Erased(done) => {
                    self.erased(done);
                    Ok(())
                }
                Wake::Rested(done) => self.rested(done).await,
                Wake::Overwritten(done) => {
                    self.overwritten(done.unwrap_or(false));
                    Ok(())
                }
            };
            metrics::histogram!(Metric::TurnSeconds.name(), "turn" => turn).record(began.elapsed().as_secs_f64());
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

    /// A batch before anything is in it: the cursor stays where it is.
    fn nothing_decided(&self) -> Decided {
        Decided { cursor: self.shard.cursor, ..Decided::default() }
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

    /// Takes out of a command what must not be stored.
    fn redact(&self, input: &mut CommandInput) {
        let redactor = &self.options.redactor;
        let mut change = |text: &mut String| {
            redactor.redact_in(text);
        };
        let CommandInput::Agent { command, .. } = input else { return };
        match command {
            AgentCommand::MessageSend { content, .. } => contract::envelope::texts_mut(content, &mut change),
            AgentCommand::NoteAdd { text, .. } => change(text),
            AgentCommand::CustomerUpdate { change: profile, .. } => profile.promised.iter_mut().for_each(change),
            AgentCommand::ConversationTransfer { note: Some(note), .. }
            | AgentCommand::ConversationConsult { note: Some(note), .. }
            | AgentCommand::ConversationEscalate { note: Some(note), .. } => change(note),
            _ => {}
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
        // What is decided is carried out, so nothing is decided that would have to wait for too long.
        let over = matches!(&input, CommandInput::Admin { command: AdminCommand::CustomerErase { .. }, .. })
            && self.erasures.len() >= ERASURES_MAX;
        if let CommandInput::Admin { command: AdminCommand::CustomerErase { customer }, .. } = &input
            && !over
            && let Some(view) = tenant.profile.view(*customer)
        {
            let identities = view.identities.into_iter().map(|held| held.identity).collect();
            self.known_by.insert((tenant_id.clone(), *customer), identities);
        }
        let trail = self.common.understand(audit::LEVEL);
        let fact = trail.then(|| audit::commanded(&input, to.operator.clone())).flatten();
        let mut answer = if over {
            Answer::Refused(Refusal::new(RefusalKind::Unavailable, "too many customers are being erased; try again"))
        } else {
            tenant.command(now, input, new_secret)
        };
        if let Some(refused) = fact.and_then(|fact| audit::record(tenant, now, fact, &mut answer)) {
            decided.add(tenant_id, refused, None);
        }
        match answer {
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
        let named = |(id, tenant): (&TenantId, &Tenant)| (id.clone(), tenant.named_when_due(now));
        let named: Vec<(TenantId, BTreeSet<CustomerId>)> = self.shard.tenants.iter().map(named).collect();
        for (tenant_id, persons) in named {
            // Whoever cannot be recalled is told nothing by its thread; what is due is due.
            let _ = self.recall(&mut decided, &tenant_id, persons).await?;
        }
        for (tenant_id, tenant) in &mut self.shard.tenants {
            if let Some(step) = tenant.tick(now) {
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

    /// A program of the company's knows a customer.
    async fn known(&mut self, (tenant_id, customer, change): LookedUp) -> Result<(), Error> {
        let mut decided = self.nothing_decided();
        if let Some(tenant) = self.shard.tenants.get_mut(&tenant_id)
            && let Some(step) = tenant.looked_up(now(), customer, change)
        {
            decided.add(&tenant_id, step, None);
        }
        if decided.entries.is_empty() { Ok(()) } else { self.commit(decided).await }
    }

    /// A conversation has begun: whoever knows the customer is asked, unless that was done lately.
    fn look_up(&mut self, tenant_id: &TenantId, at: Timestamp, event: &Event) {
        let Event::ConversationOpened { customer, .. } = event else { return };
        let Some(tenant) = self.shard.tenants.get(tenant_id) else { return };
        let Some(lookup) = tenant.engine.policy().0.lookup.clone() else { return };
        let customer = tenant.profile.kin().root(*customer);
        // Before it is noted as asked for: it is asked with the next conversation.
        let Ok(place) = Arc::clone(&self.looking_up).try_acquire_owned() else { return lookup::count("busy") };
        if self.asked.due(tenant_id, customer, at, lookup.cache_ms)
            && let Some(view) = tenant.customer_view(customer)
        {
            let (bus, found) = (self.bus.clone(), self.looked_up.0.clone());
            lookup::ask(bus, place, found, tenant_id.clone(), view, lookup.budget_ms);
        }
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
                    let (bus, found, tenant) = (self.bus.clone(), self.found.0.clone(), tenant.clone());
                    let envelope = (**envelope).clone();
                    classify::ask(bus, &self.classifying, found, tenant, *conversation, envelope, until);
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
            self.dirty.note(seq, &fact.tenant, &fact.emitted, Origin::Decided);
            self.note_unclassified(&fact.tenant, &fact.emitted.event);
            self.compare(&fact.tenant, fact.at, &fact.emitted.event);
            self.look_up(&fact.tenant, fact.at, &fact.emitted.event);
            if let Event::CustomerErased { customers, .. } = &*fact.emitted.event {
                self.note_erasure(&fact.tenant, customers, seq);
            }
            let record = Arc::new(fact.emitted.record(&fact.tenant, fact.at, position));
            self.transcripts.keep(&record);
            let encoded = Bytes::from(contract::Encoding::MsgPack.encode(&*record).unwrap_or_default());
            let context = if fact.emitted.reach.feeds.is_empty() { None } else { self.context_for(&record) };
            for (agent, seq) in &fact.emitted.reach.feeds {
                // Only who gets it needs to know what went before.
                let context = context.as_ref().filter(|_| record.event.agent() == Some(agent));
                self.feeds.push(agent, *seq, &record, &encoded, context, fact.trace.as_deref()).await;
            }
            self.signal(&record, &fact.emitted).await;
            let command = self.shard.tenants.get(&fact.tenant).and_then(|tenant| {
                let command = tenant.engine.out_command(&fact.tenant, fact.at, &record.event, &fact.emitted.reach)?;
                Some(addressed(command, &tenant.profile))
            });
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
            let traced = self.traced(&record, fact.trace);
            jobs.extend(command.map(|command| Job::Command(Box::new(command), position, traced)));
            if !record.event.is_internal() {
                facts.push(Fact::new(&record, encoded));
            }
        }
        self.outputs.push(Batch { seq, facts, jobs }).await;
    }

    /// The trace that an answer is part of: the one that its command came with, else that of the customer's newest
    /// message in the conversation, so that the way from the webhook to the agent and back is one.
    fn traced(&mut self, record: &EventRecord, trace: Option<String>) -> Option<String> {
        let conversation = (record.tenant.clone(), record.conversation?);
        match &*record.event {
            Event::MessageReceived { .. } => {
                if self.traces.len() >= TRACES_MAX {
                    self.traces.clear();
                }
                if let Some(trace) = trace {
                    self.traces.insert(conversation, trace);
                }
                None
            }
            Event::ConversationClosed { .. } => self.traces.remove(&conversation),
            _ => trace.or_else(|| self.traces.get(&conversation).cloned()),
        }
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
    fn begin_beats(&mut self) {
        let connected = self.shard.tenants.iter().flat_map(|(tenant_id, tenant)| {
            let connected = tenant.engine.agents().filter(|(_, agent)| agent.connected);
            connected.map(|(id, _)| (tenant_id.clone(), id.clone()))
        });
        self.beating = connected.collect();
    }

    /// Tells some of them.
    async fn beats(&mut self) {
        let some = self.beating.split_off(self.beating.len().saturating_sub(BEATS_MAX));
        let heads = some.into_iter().filter_map(|(tenant_id, id)| {
            let head = self.shard.tenants.get(&tenant_id)?.engine.agent(&id)?.feed_seq;
            Some((tenant_id, id, head))
        });
        let heads: Vec<_> = heads.collect();
        self.feeds.beat(&heads, now()).await;
    }

    /// Writes some of the read side; with `all`, also what changed just now.
    fn flush(&mut self, all: bool) {
        if self.readside.owes(&self.dirty, self.seq) {
            self.readside.flush(&mut self.dirty, &self.shard, self.seq, all);
        }
    }

    /// How much there is of what. Among a million conversations that takes as long as deciding a thousand messages, so it
    /// is said again for as long as it would otherwise take more than a hundredth of the time.
    fn counts(&self, tenant_id: &TenantId, tenant: &Tenant) -> Counts {
        // No code that can panic runs under the lock.
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, took, counts)) = counted.get(tenant_id)
            && *took > COUNTS_AT_ONCE
            && at.elapsed() < *took * 100
        {
            return counts.clone();
        }
        let began = Instant::now();
        let counts = tenant.engine.counts();
        counted.insert(tenant_id.clone(), (Instant::now(), began.elapsed(), counts.clone()));
        counts
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
            let (resting, _) = tenant.profile.resting();
            for (place, count) in [("memory", tenant.profile.len() as u64), ("store", resting)] {
                let labels = [("tenant", tenant_id.to_string()), ("place", place.to_owned())];
                metrics::gauge!(Metric::Customers.name(), &labels).set(count as f64);
            }
            let counts = self.counts(tenant_id, tenant);
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
    }

    /// How much waits in the queues of the loop itself.
    fn depths(&self) -> [(Metric, usize); 6] {
        let taken = |places: &Semaphore, most: usize| most - places.available_permits();
        [
            (Metric::ClassificationsInFlight, taken(&self.classifying, classify::QUESTIONS_MAX)),
            (Metric::ClassificationsQueued, self.found.1.len()),
            (Metric::LookupsInFlight, taken(&self.looking_up, lookup::QUESTIONS_MAX)),
            (Metric::LookupsQueued, self.looked_up.1.len()),
            (Metric::HistoryInFlight, taken(&self.history, HISTORY_MAX)),
            (Metric::ErasuresQueued, self.erasures.len()),
        ]
    }

    /// Shows it.
    fn show_queues(&self) {
        for (metric, depth) in self.depths() {
            metric.show(self.shard_no, depth);
        }
    }

    /// Whoever leads next has the queues.
    fn show_none(&self) {
        let own = self.depths().map(|(metric, _)| metric);
        for metric in own.into_iter().chain([Metric::InputLag, Metric::InputBehind]) {
            metric.show(self.shard_no, 0);
        }
    }

    /// Takes a checkpoint when one is due.
    fn maybe_checkpoint(&mut self) {
        if !self.erasures.is_empty() || self.overwriting.is_some() {
            return;
        }
        let due = self.overwrite
            || self.records_since_checkpoint >= self.options.checkpoint_records
            || self.records_since_checkpoint > 0 && self.checkpointed.elapsed() >= self.options.checkpoint_every;
        if due && self.checkpointing.is_none() {
            self.start_checkpoint();
        }
    }

    fn start_checkpoint(&mut self) {
        let snapshot = match in_place(|| self.shard.snapshot(self.seq)) {
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
        if std::mem::take(&mut self.overwrite) {
            self.start_overwriting(&checkpoint).await?;
        } else {
            self.journal.purge_below(checkpoint.seq, now()).await?;
            self.bus.purge_below(&format!("IN-{}", self.shard_no), checkpoint.cursor + 1).await?;
            crate::checkpoint::tidy(&self.bus, self.shard_no, crate::checkpoint::KEEP).await;
        }
        metrics::counter!(Metric::Checkpoints.name()).increment(1);
        info!(shard = self.shard_no, seq = checkpoint.seq, cursor = checkpoint.cursor, "took a checkpoint");
        Ok(())
    }

    /// Begins to leave: a last checkpoint, while everything goes on.
    fn leave(&mut self) {
        self.go_on();
        self.stop_resting();
        self.flush(true);
        let may = self.erasures.is_empty() && self.erasing.is_none() && self.overwriting.is_none() && !self.overwrite;
        if may && self.checkpointing.is_none() && self.records_since_checkpoint > 0 {
            self.start_checkpoint();
        }
    }

    /// Nothing is decided any more: writes what was decided last, for a moment. What is not written then is written by the
    /// next owner, which finds it in the journal.
    async fn let_go(mut self, limit: Duration) {
        let began = Instant::now();
        if let Some(running) = self.checkpointing.take() {
            warn!(shard = self.shard_no, "the last checkpoint is not stored in time; the next owner reads the journal");
            running.abort();
        }
        let mut watch = self.outputs.watch();
        let owed = async {
            while self.readside.done() < self.seq {
                self.flush(true);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            watch.reached(self.seq).await
        };
        let all = tokio::time::timeout(limit, owed).await.unwrap_or(false);
        let ms = began.elapsed().as_millis();
        info!(shard = self.shard_no, seq = self.seq, all_written = all, ms, "let the shard go");
        self.abandon();
    }

    /// Lets go at once: somebody else leads, and does the rest.
    fn abandon(mut self) {
        self.stop_resting();
        self.show_none();
        if let Some(running) = self.erasing {
            running.abort();
        }
        if let Some(running) = self.overwriting {
            // The next owner finds what is left, and begins anew.
            running.abort();
        }
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
            trace: self.trace.clone(),
        }));
    }

    /// What is decided from now on is part of a trace.
    fn begin_trace(&mut self, parent: Option<&str>) {
        if parent.is_none() && !trace::is_on() {
            return;
        }
        let span = trace::start("decide", trace::Kind::Consumer, parent);
        self.trace = span.context();
        self.spans.push(span);
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

async fn until(time: Option<tokio::time::Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Does what takes long where it has to be done, and lets other threads take over what else this one would have to do.
fn in_place<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    if Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread) {
        tokio::task::block_in_place(work)
    } else {
        work()
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

/// 128 random bits, as letters and digits that can be read out.
fn new_secret() -> SmolStr {
    engine::spell(u128::from_str_radix(&new_id(), 16).unwrap_or_default())
}

/// Why a leadership ended, for the log.
pub(crate) fn is_deposed(error: &Error) -> bool {
    error.kind == ErrorKind::Deposed
}
