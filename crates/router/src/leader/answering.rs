//! Questions: answered from memory when it is there, otherwise outside the loop, from what the streams and
//! buckets hold.

use std::sync::Arc;
use std::time::Duration;

use bus::Bus;
use contract::answer::{AdminAnswer, Context, ConversationDetail, CustomerDetail, RecentConversation, ShardStatus};
use contract::command::{AdminCommand, AgentQuery, ChannelQuery, Done, Refusal, RefusalKind};
use contract::outbound::{Author, ShardLag, ThreadHistory, Way};
use contract::{AgentId, ConversationId, CustomerId, Event, EventRecord, Millis, TenantId};
use engine::{Shadow, ThreadKey};
use tracing::debug;

use super::{Leader, now};
use crate::commands::{Asked, ReplyTo, answer_now, conversation_view, thread_wait};
use crate::error::Error;
use crate::fit::{Continued, Fit, fits};
use crate::history::{Past, owned};
use crate::media::{self, Wanted};
use crate::progress::Watch;
use crate::tenant::Tenant;

/// How many of the newest messages go with an offer.
const CONTEXT_MESSAGES: usize = 10;
/// Most notes of a context.
const NOTES_MAX: usize = 20;
/// Most conversations of a context, open and ended.
const OPEN_MAX: usize = 10;
/// How long a question about a closed conversation waits for the key-value side: longer than a flush.
const READSIDE_WAIT: Duration = Duration::from_secs(4);

impl Leader {
    /// Answers a question. Errors are the journal's; what cannot be answered is refused.
    pub(super) async fn answer(&mut self, tenant_id: &TenantId, to: ReplyTo, question: Asked) -> Result<(), Error> {
        if let Asked::Agent(agent, _) = &question {
            self.hear(tenant_id, agent).await?;
        }
        let refused = match question {
            Asked::Change(_) => Ok(()),
            Asked::Agent(agent, query) => self.answer_agent(tenant_id, &to, agent, query).await,
            Asked::Channel(kind, account, ChannelQuery::ThreadHistory { thread, after, limit }) => {
                let key = ThreadKey { kind, account, key: thread };
                self.answer_thread(tenant_id, &to, key, after, limit).await
            }
            Asked::Channel(kind, account, ChannelQuery::ThreadWait { thread }) => {
                let key = ThreadKey { kind, account, key: thread };
                match self.tenant(tenant_id).map(|tenant| thread_wait(tenant, &key)) {
                    Ok(wait) => {
                        self.send(to.done(wait)).await;
                        Ok(())
                    }
                    Err(refusal) => Err(refusal),
                }
            }
            Asked::Channel(_, _, ChannelQuery::ShardLag {}) => {
                let behind = self.lag.behind(self.shard.cursor, std::time::Instant::now());
                let behind_ms = Millis(u64::try_from(behind.as_millis()).unwrap_or(u64::MAX));
                self.send(to.done(ShardLag { behind_ms })).await;
                Ok(())
            }
            Asked::Admin(question) => self.answer_admin(tenant_id, &to, question).await,
        };
        if let Err(refusal) = refused {
            self.send(to.refused(refusal)).await;
        }
        Ok(())
    }

    /// A question is a sign of life too; the first one after a silence is a fact.
    async fn hear(&mut self, tenant_id: &TenantId, agent: &AgentId) -> Result<(), Error> {
        let mut decided = self.nothing_decided();
        let at = now();
        if let Some(tenant) = self.shard.tenants.get_mut(tenant_id)
            && tenant.engine.agent(agent).is_some()
        {
            self.liveness.entry(tenant_id.clone()).or_default().touch(agent, at);
            decided.add(tenant_id, tenant.engine.agent_heard(at, agent), None);
        }
        if decided.entries.is_empty() { Ok(()) } else { self.commit(decided).await }
    }

    fn past(&self) -> Past {
        Past { bus: self.bus.clone(), stored: self.outputs.watch(), seq: self.seq }
    }

    fn tenant(&self, tenant_id: &TenantId) -> Result<&Tenant, Refusal> {
        let missing = || Refusal::new(RefusalKind::NotFound, format!("there is no tenant {:?}", tenant_id.as_str()));
        self.shard.tenants.get(tenant_id).ok_or_else(missing)
    }

    async fn answer_admin(
        &mut self,
        tenant_id: &TenantId,
        to: &ReplyTo,
        question: AdminCommand,
    ) -> Result<(), Refusal> {
        let tenant = self.tenant(tenant_id)?;
        match question {
            AdminCommand::ShadowStart { policy } => {
                let problems: Vec<String> = policy::check(&policy).problems.iter().map(ToString::to_string).collect();
                if !problems.is_empty() {
                    return Err(Refusal::new(RefusalKind::Invalid, problems.join("; ")));
                }
                let shadow = Shadow::new(now(), &tenant.engine, *policy);
                let report = Some(Box::new(shadow.report()));
                self.shadows.insert(tenant_id.clone(), shadow);
                self.send(to.done(AdminAnswer::Shadow(report))).await;
                return Ok(());
            }
            AdminCommand::ShadowShow { stop } => {
                let report = self.shadows.get(tenant_id).map(|shadow| Box::new(shadow.report()));
                if stop {
                    self.shadows.remove(tenant_id);
                }
                self.send(to.done(AdminAnswer::Shadow(report))).await;
                return Ok(());
            }
            _ => {}
        }
        if let Some(answer) = answer_now(tenant, &question, &self.status(), || self.counts(tenant_id, tenant)) {
            self.send(to.done(answer)).await;
            return Ok(());
        }
        let not_found = |what: String| Refusal::new(RefusalKind::NotFound, format!("there is no {what}"));
        let (wanted, past) = (tenant_id.clone(), self.past());
        match question {
            AdminCommand::ConversationShow { conversation } | AdminCommand::ConversationExplain { conversation } => {
                let kin = tenant.profile.kin().clone();
                let open = conversation_view(tenant, conversation);
                let explanation = tenant.engine.explain(conversation);
                if open.is_none() {
                    // One that was closed just now is in neither place until the next flush.
                    self.flush(true);
                }
                let (bus, written, seq) = (self.bus.clone(), self.readside.watch(), self.seq);
                self.spawn_answer(to.clone(), async move {
                    let view = match open {
                        Some(view) => Some(view),
                        None => closed_view(&bus, written, seq, &wanted, conversation).await?,
                    };
                    let view = view.ok_or_else(|| not_found(format!("conversation {conversation}")))?;
                    let members: Vec<CustomerId> = kin.members(view.customer).collect();
                    let facts = past.conversation(&wanted, &members, conversation).await?;
                    let detail = ConversationDetail { conversation: Some(view), explanation, facts };
                    Ok(AdminAnswer::Conversation(Box::new(detail)))
                })
            }
            AdminCommand::CustomerShow { customer } => {
                let gone = if tenant.profile.is_erased(customer) { " any more: it was erased" } else { "" };
                let view = tenant.customer_view(customer);
                let view = view.ok_or_else(|| not_found(format!("customer {customer}{gone}")))?;
                let members = tenant.members(customer);
                let open = tenant.engine.open_conversation(customer);
                let open = open.and_then(|id| conversation_view(tenant, id));
                self.spawn_answer(to.clone(), async move {
                    let facts = past.customer(&wanted, &members).await?;
                    Ok(AdminAnswer::Customer(Box::new(CustomerDetail { customer: view, open, facts })))
                })
            }
            _ => Err(Refusal::new(RefusalKind::Invalid, "is not a question")),
        }
    }

    async fn answer_agent(
        &mut self,
        tenant_id: &TenantId,
        to: &ReplyTo,
        agent: AgentId,
        query: AgentQuery,
    ) -> Result<(), Refusal> {
        if self.tenant(tenant_id)?.engine.agent(&agent).is_none() {
            let message = format!("there is no agent {:?} in the policy", agent.as_str());
            return Err(Refusal::new(RefusalKind::Forbidden, message));
        }
        match query {
            AgentQuery::FeedAck { .. } => {
                self.send(to.done(Done::default())).await;
                Ok(())
            }
            AgentQuery::FeedSync { since } => {
                let Some(tenant) = self.shard.tenants.get(tenant_id) else { return Ok(()) };
                let mut sync = self.feeds.sync(tenant_id, &agent, &tenant.engine, since, to.encoding);
                if !sync.items.is_empty() && !fits(&sync, to.encoding) {
                    sync = self.feeds.sync(tenant_id, &agent, &tenant.engine, None, to.encoding);
                }
                if let Some(snapshot) = &mut sync.snapshot {
                    let views = snapshot.conversations.iter_mut();
                    for view in views.chain(snapshot.offers.iter_mut().map(|offer| &mut offer.conversation)) {
                        view.customer_name = tenant.profile.display(view.customer);
                    }
                }
                self.send(to.done(sync)).await;
                Ok(())
            }
            AgentQuery::ConversationHistory { conversation, limit } => {
                let known = self.tenant(tenant_id)?.engine.conversation(conversation);
                let Some(known) = known.filter(|known| known.concerns(&agent)) else {
                    let message = format!("conversation {conversation} is not with you");
                    return Err(Refusal::new(RefusalKind::Gone, message));
                };
                let members: Vec<CustomerId> = self.tenant(tenant_id)?.profile.kin().members(known.customer).collect();
                let (tenant_id, past) = (tenant_id.clone(), self.past());
                let limit = limit.unwrap_or(50).min(100) as usize;
                self.spawn_answer(to.clone(), async move { past.messages(&tenant_id, &members, limit).await })
            }
            AgentQuery::MediaGet { conversation, store_key, after } => {
                let tenant = self.tenant(tenant_id)?;
                let known = tenant.engine.conversation(conversation).filter(|known| known.concerns(&agent));
                let Some(known) = known else {
                    let message = format!("conversation {conversation} is not with you");
                    return Err(Refusal::new(RefusalKind::Gone, message));
                };
                let members = tenant.profile.kin().members(known.customer).collect();
                let wanted = Wanted { tenant: tenant_id.clone(), members, store_key, after };
                let (bus, past) = (self.bus.clone(), self.past());
                self.spawn_answer(to.clone(), async move { media::piece(&bus, past, wanted).await })
            }
            AgentQuery::ConversationContext { conversation, messages } => {
                let tenant = self.tenant(tenant_id)?;
                let known = tenant.engine.conversation(conversation).filter(|known| known.concerns(&agent));
                let Some(known) = known else {
                    let message = format!("conversation {conversation} is not with you");
                    return Err(Refusal::new(RefusalKind::Gone, message));
                };
                let limit = messages.unwrap_or(20).min(100) as usize;
                let customer = tenant.profile.kin().root(known.customer);
                let missing = || Refusal::new(RefusalKind::NotFound, format!("there is no customer {customer}"));
                let mut context = context(tenant, customer).ok_or_else(missing)?;
                let members: Vec<CustomerId> = tenant.profile.kin().members(customer).collect();
                let (tenant_id, past) = (tenant_id.clone(), self.past());
                self.spawn_answer(to.clone(), async move {
                    let history = past.clone().messages(&tenant_id, &members, limit).await?;
                    context.messages = history.records;
                    context.more = history.more;
                    context.notes = past.notes(&tenant_id, &members, NOTES_MAX).await?;
                    Ok(context)
                })
            }
        }
    }

    async fn answer_thread(
        &mut self,
        tenant_id: &TenantId,
        to: &ReplyTo,
        key: ThreadKey,
        after: u64,
        limit: Option<u32>,
    ) -> Result<(), Refusal> {
        let limit = limit.unwrap_or(200).min(200) as usize;
        let tenant = self.tenant(tenant_id)?;
        let Some(thread) = tenant.engine.thread(&key) else {
            let ways = ways(tenant, &key);
            let empty = ThreadHistory { records: Vec::new(), head: 0, conversation: None, agent: None, ways };
            self.send(to.done(empty)).await;
            return Ok(());
        };
        let mut open = tenant.engine.open_conversations(thread.customer);
        let runs = |id: &ConversationId| tenant.engine.conversation(*id).is_some_and(|item| item.runs_on(&key));
        let newest = tenant.engine.open_conversation(thread.customer);
        let conversation = open.find(runs).or(newest);
        let holder = conversation.and_then(|id| tenant.engine.conversation(id)?.responsible().cloned());
        let agent =
            holder.map(|agent| Author { display: Some(tenant.engine.display_name(&agent)), agent: Some(agent) });
        let ways = ways(tenant, &key);
        let mut answer = ThreadHistory { records: Vec::new(), head: thread.seq, conversation, agent, ways };
        if after >= thread.seq {
            self.send(to.done(answer)).await;
            return Ok(());
        }
        if let Some(records) = self.transcripts.after(tenant_id, &key, after) {
            answer.records = owned(records);
            let message = if after > 0 { to.done(Continued(answer)) } else { to.done(answer) };
            self.send(message).await;
            return Ok(());
        }
        let members: Vec<CustomerId> = tenant.profile.kin().members(thread.customer).collect();
        let (tenant_id, past) = (tenant_id.clone(), self.past());
        if after > 0 {
            return self.spawn_answer(to.clone(), async move {
                answer.records = past.thread(&tenant_id, &members, &key, after, limit).await?;
                Ok(Continued(answer))
            });
        }
        self.spawn_answer(to.clone(), async move {
            answer.records = past.thread(&tenant_id, &members, &key, after, limit).await?;
            Ok(answer)
        })
    }

    /// Answers outside the loop, since the streams must be read for it.
    fn spawn_answer<T: Fit + Send + 'static>(
        &self,
        to: ReplyTo,
        answer: impl Future<Output = Result<T, Refusal>> + Send + 'static,
    ) -> Result<(), Refusal> {
        let Ok(permit) = Arc::clone(&self.history).try_acquire_owned() else {
            return Err(Refusal::new(RefusalKind::Unavailable, "too many questions about the past at once"));
        };
        let bus = self.bus.clone();
        tokio::spawn(async move {
            let message = match answer.await {
                Ok(answer) => to.done(answer),
                Err(refusal) => to.refused(refusal),
            };
            if let Some(message) = message
                && let Err(error) = bus.send(message).await
            {
                debug!(%error, "an answer was dropped");
            }
            drop(permit);
        });
        Ok(())
    }

    /// What an agent should know before the first word, from what is at hand: an offer and an assignment carry it.
    pub(super) fn context_for(&self, record: &EventRecord) -> Option<Context> {
        let (Event::OfferCreated { conversation, .. } | Event::ConversationAssigned { conversation, .. }) =
            &*record.event
        else {
            return None;
        };
        let tenant = self.shard.tenants.get(&record.tenant)?;
        let item = tenant.engine.conversation(*conversation)?;
        let mut context = context(tenant, tenant.profile.kin().root(item.customer))?;
        let past = tenant.engine.pasts_of(item.customer);
        let open = context.open.iter().filter_map(|view| tenant.engine.conversation(view.conversation));
        let threads: std::collections::BTreeSet<&engine::ThreadKey> = open
            .flat_map(|item| &item.threads)
            .chain(past.iter().flat_map(|past| &past.threads))
            .map(|key| &**key)
            .collect();
        context.messages = self.transcripts.newest(&record.tenant, threads.into_iter(), CONTEXT_MESSAGES);
        let open = context.open.iter().map(|view| view.conversation);
        context.notes = self.transcripts.notes(&record.tenant, open.chain(past.iter().map(|past| past.conversation)));
        // How many there were before is not known here.
        context.more = true;
        Some(context)
    }

    fn status(&self) -> ShardStatus {
        ShardStatus {
            shard: self.shard_no,
            epoch: self.journal.epoch,
            owner: self.options.instance.clone(),
            seq: self.seq,
            cursor: self.shard.cursor,
            outputs_done: self.outputs.done(),
            kv_done: self.readside.done(),
        }
    }
}

/// What is known of a person without reading any stream.
fn context(tenant: &Tenant, customer: CustomerId) -> Option<Context> {
    let open = tenant.engine.open_conversations(customer);
    let recent = tenant.engine.pasts_of(customer).into_iter().map(|past| RecentConversation {
        conversation: past.conversation,
        agent: past.agent.clone(),
        queue: past.queue.clone(),
        kind: past.kind.clone(),
        opened_at: past.opened_at,
        closed_at: past.closed_at,
    });
    Some(Context {
        customer: tenant.customer_view(customer)?,
        open: open.filter_map(|id| conversation_view(tenant, id)).take(OPEN_MAX).collect(),
        recent: recent.take(OPEN_MAX).collect(),
        messages: Vec::new(),
        notes: Vec::new(),
        more: false,
    })
}

/// A conversation that is no longer open, once the key-value side reflects the journal up to `seq`.
async fn closed_view(
    bus: &Bus,
    mut written: Watch,
    seq: u64,
    tenant: &TenantId,
    id: ConversationId,
) -> Result<Option<contract::feed::ConversationView>, Refusal> {
    if !tokio::time::timeout(READSIDE_WAIT, written.reached(seq)).await.unwrap_or(false) {
        return Err(Refusal::new(RefusalKind::Unavailable, "the key-value side is behind"));
    }
    let unavailable = |error: bus::Error| Refusal::new(RefusalKind::Unavailable, error.to_string());
    let bucket = bus.bucket("tl-conversations").await.map_err(unavailable)?;
    let key = format!("{}.{id}", contract::token::encode(tenant.as_str()));
    let entry = bucket.get(&key).await.map_err(unavailable)?;
    Ok(entry.and_then(|entry| serde_json::from_slice(&entry.value).ok()))
}

/// By what the customer of a thread may go on when it asks for it.
fn ways(tenant: &crate::tenant::Tenant, key: &ThreadKey) -> Vec<Way> {
    let (policy, _) = tenant.engine.policy();
    let elsewhere = policy.contact.switch_to.iter().filter(|way| way.kind != key.kind || way.account != key.account);
    elsewhere
        .map(|way| Way {
            kind: way.kind.clone(),
            account: way.account.clone(),
            name: way.name.clone(),
            asks_address: way.address.is_none(),
        })
        .collect()
}
