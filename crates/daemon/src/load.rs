//! `throughline bench load`: customers who write at a steady rate whatever becomes of it, agents who take and answer,
//! and how long each stage took, counted from when a message was due and not from when it could be sent.
//!
//! The customers come by channels of its own (`load-…`), whose adapter this program is, so that nothing goes out to
//! anybody. The agents are those of the policy.

mod report;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use adapter::Inbound;
use bus::{Bus, Consumer, Topology, permissions, topology};
use contract::command::AgentCommand;
use contract::envelope::{
    Account, AuthLevel, Envelope, EnvelopeKind, Identity, Part, Party, Receipt, ReceiptStatus, Role, Scope, SenderAuth,
    Thread, ThreadKind,
};
use contract::event::Presence;
use contract::feed::FeedItem;
use contract::outbound::OutCommand;
use contract::{
    AccountId, AgentId, ChannelKind, ConversationId, Encoding, Event, SmolStr, TenantId, Timestamp, subject, token,
};
use desk::tool::{Commander, News, Tool};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use self::report::{Report, Stages};
use crate::Failure;
use crate::output::{complain, say};
use crate::run::options;
use crate::settings::Loaded;

/// What each customer says first and what is answered; about as long as people write.
const TEXT: &str = "Good morning, my parcel has not come yet; could you have a look where it is, please?";
/// How long what is under way may take after the last message was due.
const TAIL: Duration = Duration::from_secs(30);
/// How often a long run tells how it goes.
const MINUTE: Duration = Duration::from_secs(60);
/// Commands of agents at once; more wait, as hands do.
const HANDS_MAX: usize = 512;
/// Acknowledgements of what was sent under way at once.
const ACKS_MAX: usize = 512;
/// Largest message of a feed that is read.
const ITEM_BYTES_MAX: usize = 1 << 20;

/// What to do.
#[derive(Debug, clap::Args)]
pub(crate) struct Load {
    /// Messages in a second, over all customers
    #[arg(long, value_name = "N", default_value_t = 100.0)]
    rate: f64,
    /// For how long
    #[arg(long, value_name = "S", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// How many customers there are; each has one conversation
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    customers: u32,
    /// How many of a hundred messages come from somebody new, and begin a conversation
    #[arg(long, value_name = "PERCENT", default_value_t = 5, value_parser = clap::value_parser!(u8).range(0..=100))]
    new: u8,
    /// The channels and their shares: NAME=SHARE,…; the policy knows them as load-NAME
    #[arg(long, value_name = "MIX", default_value = "chat=6,social=3,email=1")]
    mix: String,
    /// How many agents of the policy sign in [default: all]
    #[arg(long, value_name = "N")]
    agents: Option<usize>,
    /// The agents only take and read, and answer nothing
    #[arg(long)]
    silent: bool,
    /// Agents end conversations, after one to so many messages; whoever writes again begins another [default: never]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    turns: Option<u32>,
    /// Write the report as a page to a file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// One message on its way.
struct Sent {
    due: Instant,
    begins: bool,
    /// An agent has it.
    seen: bool,
}

/// What is known of all messages.
struct Book {
    sent: Mutex<HashMap<String, Sent>>,
    stages: Mutex<Stages>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The key of a message, as its text ends; answers repeat it.
fn key_of(text: &str) -> Option<&str> {
    text.rsplit_once(" #").map(|(_, key)| key)
}

fn text_of(content: &[Part]) -> &str {
    content
        .iter()
        .find_map(|part| if let Part::Text(text) = part { Some(text.body.as_str()) } else { None })
        .unwrap_or("")
}

impl Book {
    /// An agent has it.
    fn seen(&self, key: &str) {
        if let Some(sent) = lock(&self.sent).get_mut(key)
            // What was not answered comes again with whatever the customer begins next.
            && !std::mem::replace(&mut sent.seen, true)
        {
            lock(&self.stages).seen(sent.due.elapsed(), sent.begins);
        }
    }

    /// Its answer is where the channel sends it.
    fn answered(&self, key: &str) {
        if let Some(sent) = lock(&self.sent).remove(key) {
            lock(&self.stages).answered(sent.due.elapsed());
        }
    }
}

/// The channels with their shares.
fn mix(text: &str) -> Result<Vec<(ChannelKind, u32)>, Failure> {
    let wrong = || Failure::Other(format!("--mix {text:?}: NAME=SHARE,… is wanted, as in chat=6,email=1"));
    let entry = |entry: &str| {
        let (name, share) = entry.split_once('=')?;
        let kind = ChannelKind::new(format!("load-{}", name.trim())).ok()?;
        Some((kind, share.trim().parse::<u32>().ok().filter(|share| *share > 0)?))
    };
    let kinds: Option<Vec<_>> = text.split(',').map(entry).collect();
    kinds.filter(|kinds| !kinds.is_empty()).ok_or_else(wrong)
}

/// A customer's channel, spread evenly by share.
fn channel_of(kinds: &[(ChannelKind, u32)], customer: u64) -> usize {
    let all: u64 = kinds.iter().map(|(_, share)| u64::from(*share)).sum();
    // Neighbours take different channels.
    let mut at = customer.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32) % all.max(1);
    for (n, (_, share)) in kinds.iter().enumerate() {
        match at.checked_sub(u64::from(*share)) {
            Some(rest) => at = rest,
            None => return n,
        }
    }
    0
}

/// One run.
struct World {
    tenant: TenantId,
    /// Names this run, so that its customers are new.
    run: String,
    kinds: Vec<(ChannelKind, u32)>,
    doors: Vec<(Account, Inbound)>,
    book: Arc<Book>,
    bus: Bus,
}

/// Runs it.
pub(crate) async fn load(loaded: Loaded, plan: &Load, json: bool) -> Result<(), Failure> {
    if !(plan.rate > 0.0 && plan.rate <= 1_000_000.0) {
        return Err(Failure::Other("--rate must be more than 0".to_owned()));
    }
    let kinds = mix(&plan.mix)?;
    let bus = Bus::connect(options(&loaded, permissions::ROUTER, "load")?).await?;
    let tenant = loaded.tenant.clone();
    let account = AccountId::new("load")?;
    let doors = kinds
        .iter()
        .map(|(kind, _)| {
            let shards = loaded.settings.router.shards;
            let door = Inbound::over(bus.clone(), shards, tenant.clone(), kind.clone(), account.clone());
            (Account { kind: kind.clone(), id: account.clone(), address: None, provider: None }, door)
        })
        .collect();
    let book = Arc::new(Book { sent: Mutex::default(), stages: Mutex::new(Stages::new()?) });
    let world = World { tenant, run: format!("{:x}", runtime::clock::now()), kinds, doors, book, bus };
    let mut tasks = world.serve_channels().await?;
    tasks.extend(world.watch_assignments().await?);
    let names: Vec<AgentId> = loaded.policy.agents.keys().take(plan.agents.unwrap_or(usize::MAX)).cloned().collect();
    complain(&format!("{} agents sign in, and take what they are offered", names.len()));
    tasks.extend(world.sign_in(&names, plan).await?);
    let report = world.drive(plan).await;
    for task in tasks {
        task.abort();
    }
    for (kind, _) in &world.kinds {
        world.bus.forget_consumer(topology::OUT, &topology::out_consumer(kind.as_str())).await?;
    }
    let report = report?;
    if let Some(file) = &plan.html {
        std::fs::write(file, report.page()).map_err(|error| Failure::Other(format!("{}: {error}", file.display())))?;
    }
    say(&if json { serde_json::to_string_pretty(&report)? } else { report.text() });
    Ok(())
}

impl World {
    /// Is the adapter of the load's own channels: takes what is to be sent, and says that it was.
    async fn serve_channels(&self) -> Result<Vec<tokio::task::JoinHandle<()>>, Failure> {
        let consumers = self.kinds.iter().map(|(kind, _)| Consumer {
            stream: topology::OUT.into(),
            durable: topology::out_consumer(kind.as_str()),
            filter: Some(format!("{}.out.*.{}.*", subject::PREFIX, token::encode(kind.as_str()))),
            ack_wait: Duration::from_secs(30),
            ack_pending_max: 100_000,
            deliveries_max: 0,
        });
        let topology = Topology { consumers: consumers.collect(), ..Topology::default() };
        self.bus.ensure(&topology).await?;
        let mut tasks = Vec::new();
        for ((kind, _), (account, door)) in self.kinds.iter().zip(&self.doors) {
            let mut jobs = self.bus.work(topology::OUT, &topology::out_consumer(kind.as_str())).await?;
            let (book, door, account, tenant) =
                (Arc::clone(&self.book), door.clone(), account.clone(), self.tenant.clone());
            let acks = Arc::new(Semaphore::new(ACKS_MAX));
            tasks.push(tokio::spawn(async move {
                while let Some(job) = jobs.next().await {
                    if let Ok(command) = Encoding::MsgPack.decode::<OutCommand>(&job.payload, ITEM_BYTES_MAX) {
                        if let Some(key) = key_of(text_of(&command.content)) {
                            book.answered(key);
                        }
                        let receipt = receipt(&tenant, &account, &command);
                        // It is awaited by nobody here: a channel acknowledges and goes on.
                        drop(door.submit(&receipt));
                    }
                    // Each is a way to the bus and back: channels do not wait for one before they take the next.
                    let Ok(ack) = Arc::clone(&acks).acquire_owned().await else { return };
                    tokio::spawn(async move {
                        let _ = job.ack().await;
                        drop(ack);
                    });
                }
            }));
        }
        Ok(tasks)
    }

    /// Sees who is given what: the first message of a conversation comes with the assignment.
    async fn watch_assignments(&self) -> Result<Option<tokio::task::JoinHandle<()>>, Failure> {
        let every = subject::feed_all(&self.tenant, &AgentId::new("every")?);
        let all = every.replace(".every.>", ".*.conversation.assigned");
        let mut assigned = self.bus.subscribe(&all).await?;
        let book = Arc::clone(&self.book);
        Ok(Some(tokio::spawn(async move {
            while let Some(message) = assigned.next().await {
                let Ok(item) = Encoding::MsgPack.decode::<FeedItem>(&message.payload, ITEM_BYTES_MAX) else { continue };
                for record in item.context.iter().flat_map(|context| &context.messages) {
                    if let Event::MessageReceived { envelope, .. } = &*record.event
                        && let Some(key) = key_of(text_of(&envelope.content))
                    {
                        book.seen(key);
                    }
                }
            }
        })))
    }

    async fn sign_in(&self, names: &[AgentId], plan: &Load) -> Result<Vec<tokio::task::JoinHandle<()>>, Failure> {
        let hands = Arc::new(Semaphore::new(HANDS_MAX));
        let mut tasks = Vec::new();
        for name in names {
            let refused = |why: contract::command::Refusal| Failure::Other(format!("agent {name}: {why}"));
            let tool = Tool::open(self.bus.clone(), self.tenant.clone(), name.clone()).await.map_err(refused)?;
            let available = AgentCommand::PresenceSet { presence: Presence::Available, reason: None };
            tool.commander().command(&available).await.map_err(refused)?;
            let (book, hands) = (Arc::clone(&self.book), Arc::clone(&hands));
            tasks.push(tokio::spawn(work(tool, name.clone(), book, hands, plan.silent, plan.turns)));
        }
        Ok(tasks)
    }

    fn message(&self, customer: u64, key: &str) -> Option<(usize, Envelope)> {
        let channel = channel_of(&self.kinds, customer);
        let (account, _) = self.doors.get(channel)?;
        let name = format!("load-{}-{customer}", self.run);
        let auth = SenderAuth { level: AuthLevel::SignedWebhook, detail: None };
        let thread = Thread::new(name.as_str(), ThreadKind::Direct);
        let sender = customer_named(&name);
        let mut envelope =
            Envelope::new(self.tenant.clone(), account.clone(), thread, sender, auth, Timestamp(runtime::clock::now()));
        envelope.dedup_key = format!("{}/{key}", self.run).into();
        envelope.content = desk::tool::text(&format!("{TEXT} #{key}"));
        Some((channel, envelope))
    }

    /// Hands a message in; whether it was stored is noted when it is known.
    fn send(&self, customer: u64, key: String, due: Instant, begins: bool) {
        let Some((channel, envelope)) = self.message(customer, &key) else { return };
        let Some((_, door)) = self.doors.get(channel) else { return };
        lock(&self.book.sent).insert(key, Sent { due, begins, seen: false });
        let (book, ticket) = (Arc::clone(&self.book), door.submit(&envelope));
        tokio::spawn(async move {
            let stored = match ticket {
                Ok(ticket) => ticket.await.is_ok(),
                Err(_) => false,
            };
            lock(&book.stages).accepted(stored.then(|| due.elapsed()));
        });
    }

    /// Opens a conversation for each customer, then writes at the rate.
    async fn drive(&self, plan: &Load) -> Result<Report, Failure> {
        complain(&format!("{} customers begin", plan.customers));
        let opening = f64::max(plan.rate, 200.0);
        let began = Instant::now();
        for customer in 0..u64::from(plan.customers) {
            let due = began + Duration::from_secs_f64(customer as f64 / opening);
            tokio::time::sleep_until(due).await;
            self.send(customer, format!("open-{customer}"), due, true);
        }
        self.settle(u64::from(plan.customers)).await;
        let opened = lock(&self.book.stages).restart()?;
        if opened.seen < u64::from(plan.customers) {
            complain(&format!(
                "{} of {} conversations are with an agent; the rest waits for room",
                opened.seen, plan.customers
            ));
        }
        lock(&self.book.sent).clear();

        complain(&format!("{} messages a second for {} s", plan.rate, plan.seconds));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of messages")]
        let count = (plan.rate * plan.seconds as f64) as u64;
        let began = Instant::now();
        let mut minutes = 0;
        let mut newcomers = u64::from(plan.customers);
        for n in 0..count {
            let due = began + Duration::from_secs_f64(n as f64 / plan.rate);
            // Open loop: what is due is sent, whether or not the earlier ones are through.
            tokio::time::sleep_until(due).await;
            if began.elapsed() >= MINUTE * (minutes + 1) {
                minutes += 1;
                let minute = lock(&self.book.stages).minute();
                complain(&format!(
                    "minute {minutes}: {} with agents, p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
                    minute.seen, minute.p50_ms, minute.p99_ms, minute.max_ms
                ));
            }
            let begins = n % 100 < u64::from(plan.new);
            let customer = if begins { newcomers } else { n % u64::from(plan.customers) };
            newcomers += u64::from(begins);
            self.send(customer, format!("m-{n}"), due, begins);
        }
        let sending = began.elapsed();
        self.settle(count).await;
        let stages = lock(&self.book.stages).restart()?;
        Ok(Report::new(plan.rate, count, sending, began.elapsed(), &stages, !plan.silent))
    }

    /// Waits until every message was seen, or nothing comes any more.
    async fn settle(&self, count: u64) {
        let end = Instant::now() + TAIL;
        while Instant::now() < end {
            let seen = lock(&self.book.stages).seen;
            if seen >= count {
                // The answers to the last ones are under way.
                tokio::time::sleep(Duration::from_millis(500)).await;
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// One agent: takes, reads, answers.
async fn work(mut tool: Tool, name: AgentId, book: Arc<Book>, hands: Arc<Semaphore>, silent: bool, turns: Option<u32>) {
    let commander = tool.commander();
    let mut turn: HashMap<ConversationId, u32> = HashMap::new();
    // An agent whose feed is lost for good is gone, as everybody would see.
    while let Ok(news) = tool.next().await {
        let News::Fact(record) = news else { continue };
        match &*record.event {
            Event::OfferCreated { offer, agent, .. } if *agent == name => {
                do_it(&commander, &hands, vec![AgentCommand::OfferAccept { offer: *offer }]);
            }
            Event::MessageReceived { conversation, envelope, .. } => {
                let Some(key) = key_of(text_of(&envelope.content)) else { continue };
                book.seen(key);
                let mut commands = Vec::new();
                if !silent {
                    let content = desk::tool::text(&format!("Thank you, I will have a look. #{key}"));
                    let (conversation, reply_to, via, purpose) = (*conversation, None, None, None);
                    let answer = AgentCommand::MessageSend { conversation, content, reply_to, via, purpose };
                    commands.push(answer);
                }
                if let Some(turns) = turns {
                    // Of all lengths up to that: those that began together do not end together.
                    let shorter = u32::try_from(conversation.0 % u64::from(turns)).unwrap_or_default();
                    let count = turn.entry(*conversation).or_insert(shorter);
                    *count += 1;
                    if *count >= turns {
                        turn.remove(conversation);
                        let (conversation, disposition) = (*conversation, None);
                        commands.push(AgentCommand::ConversationClose { conversation, disposition });
                    }
                }
                do_it(&commander, &hands, commands);
            }
            _ => {}
        }
    }
}

/// One after the other.
fn do_it(commander: &Commander, hands: &Arc<Semaphore>, commands: Vec<AgentCommand>) {
    let (commander, hands) = (commander.clone(), Arc::clone(hands));
    tokio::spawn(async move {
        let Ok(_hand) = hands.acquire().await else { return };
        for command in commands {
            if let Err(refusal) = commander.command(&command).await {
                tracing::debug!(%refusal, "refused");
            }
        }
    });
}

fn customer_named(name: &str) -> Party {
    let identity = Identity {
        scheme: SmolStr::new_static("login"),
        value: name.into(),
        scope: Scope::Global,
        scope_id: None,
        raw: None,
        assurance: None,
    };
    Party::new(identity, Role::Customer)
}

fn receipt(tenant: &TenantId, account: &Account, command: &OutCommand) -> Envelope {
    let auth = SenderAuth { level: AuthLevel::SignedWebhook, detail: None };
    let sender = customer_named(&command.thread.key);
    let at = Timestamp(runtime::clock::now());
    let mut envelope = Envelope::new(tenant.clone(), account.clone(), command.thread.clone(), sender, auth, at);
    envelope.kind = EnvelopeKind::Receipt;
    envelope.dedup_key = format!("{}/sent", command.command_id).into();
    envelope.receipt = Some(Receipt {
        status: ReceiptStatus::Sent,
        command_id: Some(command.command_id.clone()),
        part: None,
        targets: Vec::new(),
        watermark: None,
        through_seq: None,
        code: None,
        reason: None,
        retryable: None,
        recipient: None,
        price: None,
    });
    envelope
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_is_shares_of_channels() {
        let kinds = mix("chat=6, social=3,email=1").unwrap();
        let names: Vec<&str> = kinds.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(names, ["load-chat", "load-social", "load-email"]);
        let mut counts = [0; 3];
        for customer in 0..10_000 {
            counts[channel_of(&kinds, customer)] += 1;
        }
        for (count, wanted) in counts.iter().zip([6_000_i32, 3_000, 1_000]) {
            assert!((count - wanted).abs() < 300, "{counts:?}");
        }
        for wrong in ["", "chat", "chat=0", "chat=x", "chat=1,,"] {
            assert!(mix(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_answer_names_what_it_answers() {
        assert_eq!(key_of("Thank you. #m-7"), Some("m-7"));
        assert_eq!(key_of("Thank you."), None);
    }
}
